"""Stateless kernels against the exact rational result (rules 1 and 8)."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featureplane.features.kernels.arithmetic import (
    Abs,
    Add,
    Bucket,
    Clip,
    Constant,
    Div,
    Fixed,
    Mul,
    RatioPpm,
    Roll,
    Sub,
)
from featureplane.features.kernels.cell import NO_VALUE, OVERFLOWN, Cell
from featureplane.units import I64_MAX

integers = st.integers(-I64_MAX, I64_MAX)
floats = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)
numbers = integers | floats


def exact(n: int) -> Cell:
    return Cell(n, 0) if abs(n) <= I64_MAX else OVERFLOWN


def finite(x: float) -> Cell:
    return Cell(x + 0.0, 0) if math.isfinite(x) else NO_VALUE


@given(x=integers, y=integers)
@example(x=I64_MAX, y=1)
@example(x=-I64_MAX, y=-1)
def test_rule_1_2_integers_are_exact_or_overflow(x: int, y: int) -> None:
    assert Add().value(x, y) == exact(x + y)
    assert Sub().value(x, y) == exact(x - y)
    assert Mul().value(x, y) == exact(x * y)


@given(x=floats, y=numbers)
@example(x=1.7e308, y=1.7e308)
@example(x=1.0, y=(1 << 53) + 1)
def test_rule_8_one_float_makes_both_floats(x: float, y: float) -> None:
    for a, b in ((x, y), (y, x)):
        assert Add().value(a, b) == finite(float(a) + float(b))
        assert Sub().value(a, b) == finite(float(a) - float(b))
        assert Mul().value(a, b) == finite(float(a) * float(b))


@given(x=floats)
def test_rule_1_4_no_negative_zero_is_published(x: float) -> None:
    for cell in (Sub().value(x, x), Mul().value(x, -0.0), Div().value(0, -3), Abs().value(-0.0)):
        if cell.value is not None:
            assert math.copysign(1.0, cell.value) == 1.0 or cell.value != 0.0


@given(x=integers, y=integers)
def test_rule_1_4_a_ratio_rounds_both_sides_first(x: int, y: int) -> None:
    expected = NO_VALUE if y == 0 else finite(float(x) / float(y))
    assert Div().value(x, y) == expected
    # Python's int / int rounds once; where both sides are exact the two agree.
    if y != 0 and abs(x) < 1 << 53 and abs(y) < 1 << 53:
        assert Div().value(x, y).value == x / y + 0.0


@given(x=integers, y=integers)
@example(x=5, y=2_000_000)
@example(x=5, y=-2_000_000)
@example(x=I64_MAX, y=1)
def test_rule_8_ratio_ppm_is_half_even(x: int, y: int) -> None:
    expected = NO_VALUE if y == 0 else exact(round(Fraction(x * 10**6, y)))
    assert RatioPpm().value(x, y) == expected


@given(x=integers, bounds=st.tuples(integers, integers).map(sorted))
def test_rule_8_clip_includes_its_bounds(x: int, bounds: list[int]) -> None:
    lo, hi = bounds
    assert Clip(lo, hi).value(x).value == sorted([lo, x, hi])[1]
    inside = Clip(lo, hi).value(float(x)).value
    assert isinstance(inside, float)
    assert float(lo) <= inside <= float(hi)


@given(x=numbers)
def test_rule_8_abs_keeps_the_type(x: float) -> None:
    cell = Abs().value(x)
    assert cell.value == abs(x)
    assert type(cell.value) is type(x)


@given(x=numbers, k=st.sampled_from([1, 10, 1_000, 10**9]))
@example(x=0.5, k=1)
@example(x=2.5, k=1)
@example(x=float(1 << 53), k=1)
@example(x=float((1 << 53) + 2), k=1)
@example(x=1.7e308, k=10**9)
def test_rule_8_fixed_rounds_half_even_and_ends_at_2_53(x: float, k: int) -> None:
    product = float(x) * float(k)
    if math.isfinite(product) and abs(product) <= 1 << 53:
        assert Fixed(k).value(x) == Cell(round(Fraction(product)), 0)
    else:
        assert Fixed(k).value(x) == OVERFLOWN


@given(x=numbers, edges=st.lists(floats, max_size=8).map(sorted))
@example(x=(1 << 53) + 1, edges=[float(1 << 53), float((1 << 53) + 2)])
def test_rule_8_bucket_counts_edges_at_or_below(x: float, edges: list[float]) -> None:
    expected = 0
    for edge in edges:
        expected += edge <= float(x)
    assert Bucket(edges).value(x) == Cell(expected, 0)


@given(c=floats)
def test_rule_8_roll_needs_a_negative_autocovariance(c: float) -> None:
    assert Roll().value(c) == (finite(2.0 * math.sqrt(-c)) if c < 0.0 else NO_VALUE)


@given(x=numbers)
def test_a_constant_is_what_it_was_given(x: float) -> None:
    cell = Constant(x).value()
    assert cell == Cell(x, 0)
    assert type(cell.value) is type(x)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Clip(2, 1),
        lambda: Clip(math.nan, 1.0),
        lambda: Fixed(0),
        lambda: Fixed(math.inf),
        lambda: Bucket([2.0, 1.0]),
        lambda: Bucket([math.nan]),
        lambda: Constant(math.nan),
        lambda: Constant(1 << 63),
    ],
)
def test_parameters_without_meaning_are_refused(build: object) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match="expected"):
        build()
