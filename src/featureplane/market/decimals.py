"""Decimal text to integers, digit by digit, never through a binary float (rule 1.1).

Twin of `normalize/decimal.rs`; the two agree on every text, and on what is wrong with it.
"""

from __future__ import annotations

import re
from typing import Final

from featureplane.units import MAGNITUDE_LIMIT

__all__ = ["EXPONENT_MAX", "BadDecimal", "decimal_text", "scaled", "written"]

EXPONENT_MAX: Final = 18
"""Most decimals a price or a size may need."""

_GRAMMAR: Final = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")
_DIGITS_MAX: Final = 40  # beyond this a number without leading zeros is too large at any exponent


class BadDecimal(ValueError):
    """A text that cannot be a price or a size; `expected` says what could."""

    def __init__(self, expected: str) -> None:
        super().__init__(expected)
        self.expected = expected


def _parts(text: str, places_max: int, *, size: bool) -> tuple[str, str, str]:
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise BadDecimal("decimal text `-?digits[.digits]`")
    decimals = (match[3] or "").rstrip("0")
    if len(decimals) > places_max:
        raise BadDecimal(f"a {'size' if size else 'price'} of at most {places_max} significant decimals")
    return match[1], match[2].lstrip("0"), decimals


def _value(sign: str, digits: str, *, size: bool) -> int:
    digits = digits.lstrip("0")
    if size and sign and digits:
        raise BadDecimal("a size of at least 0")
    if len(digits) > _DIGITS_MAX or int(digits or "0") >= MAGNITUDE_LIMIT:
        raise BadDecimal("a magnitude below 2^53 at the instrument's precision")
    return int(f"{sign}{digits or '0'}")


def scaled(text: str, exponent: int, *, size: bool = False) -> int:
    """`text` in units of 10^-exponent; digits beyond the exponent must be zeros.

    Raises `BadDecimal` for anything but `-?digits[.digits]`, for excess digits, for a negative
    `size` and for magnitudes of 2^53 and above (rule 1.2).

    >>> scaled("61800.20", 2), scaled("-1.5000", 2)
    (6180020, -150)
    """
    sign, whole, decimals = _parts(text, exponent, size=size)
    return _value(sign, whole + decimals.ljust(exponent, "0"), size=size)


def written(text: str, *, size: bool = False) -> tuple[int, int]:
    """(mantissa, places) of `text` without trailing zeros: its value is mantissa x 10^-places.

    >>> written("2683.80000000")
    (26838, 1)
    """
    sign, whole, decimals = _parts(text, EXPONENT_MAX, size=size)
    return _value(sign, whole + decimals, size=size), len(decimals)


def decimal_text(value: int, exponent: int) -> str:
    """`value` x 10^-exponent as text, without trailing zeros behind the point.

    >>> decimal_text(-150, 2), decimal_text(26000, 1), decimal_text(1, 3)
    ('-1.5', '2600', '0.001')
    """
    digits = str(abs(value)).rjust(exponent + 1, "0")
    whole, decimals = digits[: len(digits) - exponent], digits[len(digits) - exponent :].rstrip("0")
    return f"{'-' if value < 0 else ''}{whole}{'.' if decimals else ''}{decimals}"
