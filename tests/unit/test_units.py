"""The exact operations of rule 1 against rational and decimal arithmetic."""

from __future__ import annotations

import struct
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featureplane.units import EXP2_COEFFICIENTS, I64_MAX, exp2_neg, half_even_div, in_i64, ratio

wide = st.integers(-(1 << 126), 1 << 126)


@given(n=wide, d=st.integers(1, 1 << 70))
def test_rule_1_3_is_the_nearest_integer(n: int, d: int) -> None:
    assert half_even_div(n, d) == round(Fraction(n, d))


@given(q=wide, d=st.integers(1, 1 << 60), off=st.integers(-1, 1))
@example(q=0, d=1, off=0)
@example(q=-1, d=1, off=0)
def test_rule_1_3_halves_go_to_the_even_neighbour(q: int, d: int, off: int) -> None:
    n = (2 * q + 1) * d + off
    assert half_even_div(n, 2 * d) == round(Fraction(n, 2 * d))


@pytest.mark.parametrize("d", [0, -1])
def test_rule_1_3_takes_positive_divisors_only(d: int) -> None:
    with pytest.raises(ValueError, match=f"divisor {d}"):
        half_even_div(1, d)


def test_rule_1_2_the_range_is_symmetric() -> None:
    assert [in_i64(n) for n in (-(1 << 63), -I64_MAX, I64_MAX, 1 << 63)] == [False, True, True, False]


@given(n=wide, d=wide)
@example(n=(1 << 53) + 1, d=1)
@example(n=0, d=-1)
def test_rule_1_4_a_ratio_is_three_roundings(n: int, d: int) -> None:
    value = ratio(n, d)
    if d == 0:
        assert value is None
    else:
        assert value == float(n) / float(d)
        assert struct.pack("<d", value) != struct.pack("<d", -0.0)


def test_rule_1_4_coefficients_are_the_nearest_floats() -> None:
    with localcontext() as context:
        context.prec = 60
        term = Decimal(1)
        for k, coefficient in enumerate(EXP2_COEFFICIENTS):
            assert coefficient == float(term), k
            term *= -Decimal(2).ln() / (k + 1)


@given(dt=st.integers(0, 10**13), h=st.integers(1, 10**12))
def test_rule_1_4_decay_is_two_to_the_minus_t(dt: int, h: int) -> None:
    value = exp2_neg(dt, h)
    if dt // h > 1000:
        assert value == 0.0
        return
    with localcontext() as context:
        context.prec = 60
        exact = (-Decimal(2).ln() * dt / h).exp()
        # Seen: 1.7 units of 2^-52, just below whole half-lives. The bits are pinned below.
        assert abs(Decimal(value) - exact) <= exact * Decimal(2) ** -50
    assert 0.0 < value <= 1.0
    assert exp2_neg(dt + h, h) in {value / 2, 0.0}


def test_rule_1_4_decay_is_pinned_to_the_last_bit() -> None:
    digest = 0xCBF29CE484222325
    for dt in range(3 * 4096):
        (bits,) = struct.unpack("<Q", struct.pack("<d", exp2_neg(dt, 4096)))
        digest = (digest ^ bits) * 0x100000001B3 % 2**64
    assert f"{digest:016x}" == "d8d6226ea08411b8"  # `units.rs` has the same
