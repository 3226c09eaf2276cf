"""Integers with a unit, and the few exact operations all kernels share (rule 1).

The only module `features.kernels` may import. Twin: `crates/featureplane-core/src/units.rs`.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = [
    "EXP2_COEFFICIENTS",
    "I64_MAX",
    "MAGNITUDE_LIMIT",
    "NANOS_PER_MICRO",
    "NANOS_PER_MS",
    "NANOS_PER_SECOND",
    "TIME_LIMIT_NS",
    "UNDEFINED_F64_BITS",
    "UNDEFINED_I64",
    "exp2_neg",
    "half_even_div",
    "in_i64",
    "ratio",
]

I64_MAX: Final = (1 << 63) - 1
"""Largest magnitude an integer result may have; -2^63 means undefined (rule 1.2)."""

MAGNITUDE_LIMIT: Final = 1 << 53
"""Prices and sizes lie strictly below this magnitude (rule 1.2)."""

TIME_LIMIT_NS: Final = 1 << 62
"""Times of events lie from 0 to below this, so that no difference of two leaves 64 bits."""

NANOS_PER_MICRO: Final = 1_000
NANOS_PER_MS: Final = 1_000_000
NANOS_PER_SECOND: Final = 1_000_000_000

UNDEFINED_I64: Final = -(1 << 63)
"""What an integer feature without value holds in a packed frame."""

UNDEFINED_F64_BITS: Final = 0x7FF8_0000_0000_0000
"""What a float feature without value holds in a packed frame, as bits."""


def in_i64(n: int) -> bool:
    """Whether `n` is a defined integer result: |n| <= 2^63 - 1 (rule 1.2)."""
    return -I64_MAX <= n <= I64_MAX


def half_even_div(n: int, d: int) -> int:
    """R(n, d) of rule 1.3: n / d rounded to the nearest integer, halves to the even one.

    Exact for any size and sign of `n`; `d` must be positive.

    >>> [half_even_div(n, 2) for n in (-3, -1, 1, 3, 5)]
    [-2, 0, 0, 2, 2]
    """
    if d <= 0:
        raise ValueError(f"half_even_div: divisor {d}, expected a positive one")
    q, r = divmod(n, d)
    return q + 1 if 2 * r > d or (2 * r == d and q & 1) else q


def ratio(n: int, d: int) -> float | None:
    """F(n) / F(d) of rule 1.4: both to the nearest `f64` first, then divided; None if d is 0."""
    if d == 0:
        return None
    return float(n) / float(d) + 0.0


EXP2_COEFFICIENTS: Final = (
    float.fromhex("0x1.0000000000000p+0"),
    float.fromhex("-0x1.62e42fefa39efp-1"),
    float.fromhex("0x1.ebfbdff82c58fp-3"),
    float.fromhex("-0x1.c6b08d704a0c0p-5"),
    float.fromhex("0x1.3b2ab6fba4e77p-7"),
    float.fromhex("-0x1.5d87fe78a6731p-10"),
    float.fromhex("0x1.430912f86c787p-13"),
    float.fromhex("-0x1.ffcbfc588b0c7p-17"),
    float.fromhex("0x1.62c0223a5c824p-20"),
    float.fromhex("-0x1.b5253d395e7c4p-24"),
    float.fromhex("0x1.e4cf5158b8ecap-28"),
    float.fromhex("-0x1.e8cac7351bb25p-32"),
    float.fromhex("0x1.c3bd650fc2986p-36"),
    float.fromhex("-0x1.816193166d0f9p-40"),
    float.fromhex("0x1.314964d5878a9p-44"),
    float.fromhex("-0x1.c36e843b04022p-49"),
    float.fromhex("0x1.38e89ae79f8b4p-53"),
    float.fromhex("-0x1.98444b41c25a8p-58"),
)
"""c_0 .. c_17 of rule 1.4: the nearest `f64` to (-ln 2)^k / k!."""


def exp2_neg(dt: int, half_life: int) -> float:
    """2^(-dt / half_life) by the polynomial of rule 1.4; no function of libm is called.

    `dt` >= 0 and `half_life` > 0 in the same unit. 0.0 beyond 1000 half-lives.
    """
    n, r = divmod(dt, half_life)
    if n > 1000:
        return 0.0
    x = float(r) / float(half_life)
    p = EXP2_COEFFICIENTS[17]
    for c in reversed(EXP2_COEFFICIENTS[:17]):
        p = p * x + c
    return math.ldexp(p, -n)  # exact scaling by a power of two
