"""Kernels over the last n advances, against the rule worked out from all inputs so far (rule 8)."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.features.kernels.cell import NOT_WARM, OVERFLOWN, Cell
from featureplane.features.kernels.series import Autocov, Diff, Lag, Max, Min
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.units import I64_MAX

integers = st.integers(-I64_MAX, I64_MAX)
floats = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)
moments = st.integers(-3, 3) | st.integers(-(1 << 49), 1 << 49)
lengths = st.integers(1, 6)

Series = Lag | Diff | Min | Max | Autocov


def read_all(kernel: Series, values: Sequence[float]) -> list[Cell]:
    cells = [kernel.read(0)]
    for clock_ns, x in enumerate(values):
        kernel.update(x, clock_ns)
        cells.append(kernel.read(clock_ns))
    return cells


def windows(values: Sequence[float], n: int, of: Callable[[Sequence[float]], Cell]) -> list[Cell]:
    return [of(values[end - n : end]) if end >= n else NOT_WARM for end in range(len(values) + 1)]


@given(values=st.lists(integers) | st.lists(floats), n=lengths)
def test_rule_8_lag_is_the_value_n_advances_ago(values: list[float], n: int) -> None:
    assert read_all(Lag(n), values) == windows(values, n + 1, lambda w: Cell(w[0], 0))


@given(values=st.lists(integers))
def test_rule_8_diff_of_integers_is_exact(values: list[int]) -> None:
    def change(window: Sequence[float]) -> Cell:
        exact = int(window[1]) - int(window[0])
        return Cell(exact, 0) if abs(exact) <= I64_MAX else OVERFLOWN

    assert read_all(Diff(), values) == windows(values, 2, change)


@given(values=st.lists(floats))
def test_rule_8_diff_of_floats_is_one_subtraction(values: list[float]) -> None:
    expected = windows(values, 2, lambda w: Cell.of_float(w[1] - w[0]))
    assert read_all(Diff("f64"), values) == expected


@given(values=st.lists(integers) | st.lists(floats) | st.lists(st.integers(-2, 2)), n=lengths)
def test_rule_8_min_and_max_of_the_last_n(values: list[float], n: int) -> None:
    assert read_all(Min(n), values) == windows(values, n, lambda w: Cell(min(w), 0))
    assert read_all(Max(n), values) == windows(values, n, lambda w: Cell(max(w), 0))


@given(values=st.lists(moments), lag=st.integers(0, 4), more=st.integers(1, 4))
def test_rule_8_autocov_is_the_estimator_with_one_mean(values: list[int], lag: int, more: int) -> None:
    n = lag + more

    def autocov(window: Sequence[float]) -> Cell:
        if any(abs(x) >= 1 << 47 for x in window):
            return OVERFLOWN
        mean = Fraction(0)
        for x in window:
            mean += Fraction(x) / n
        total = Fraction(0)
        for i in range(lag, n):
            total += (Fraction(window[i]) - mean) * (Fraction(window[i - lag]) - mean)
        # The rule's numerator is the exact sum times n^3; F of it, then one division.
        return Cell.of_float(float(total * n**2) / float(n**3))

    assert read_all(Autocov(lag, n), values) == windows(values, n, autocov)


KERNELS: list[tuple[str, Callable[[], Series], int]] = [
    ("lag", lambda: Lag(3), 4),
    ("diff", Diff, 2),
    ("min", lambda: Min(3), 3),
    ("max", lambda: Max(3), 3),
    ("autocov", lambda: Autocov(1, 5), 5),
]


@pytest.mark.parametrize(("build", "held"), [k[1:] for k in KERNELS], ids=[k[0] for k in KERNELS])
@given(before=st.lists(moments, max_size=9), after=st.lists(moments, max_size=9))
def test_rule_8_snapshot_is_the_window_and_restore_continues(
    build: Callable[[], Series], held: int, before: list[int], after: list[int]
) -> None:
    kernel, twin = build(), build()
    read_all(kernel, before)
    out = StateWriter()
    kernel.save(out)
    window = before[-held:]
    assert out.bytes() == struct.pack(f"<Q{len(window)}q", len(window), *window)
    state = StateReader(out.bytes())
    twin.load(state)
    state.finish()
    assert read_all(twin, after) == read_all(kernel, after)


@pytest.mark.parametrize("build", [k[1] for k in KERNELS], ids=[k[0] for k in KERNELS])
def test_rule_8_reset_returns_to_the_initial_conditions(build: Callable[[], Series]) -> None:
    kernel = build()
    fresh = read_all(kernel, range(20))
    kernel.reset()
    assert read_all(kernel, range(20)) == fresh


def test_saved_floats_keep_their_bits() -> None:
    lag, twin = Lag(1, "f64"), Lag(1, "f64")
    read_all(lag, [0.1, 5e-324])
    out = StateWriter()
    lag.save(out)
    assert out.bytes() == struct.pack("<Qdd", 2, 0.1, 5e-324)
    twin.load(StateReader(out.bytes()))
    assert twin.read(0) == Cell(0.1, 0)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (Lag(1), struct.pack("<Qq", 1, -(1 << 63))),
        (Lag(1, "f64"), struct.pack("<Qd", 1, math.nan)),
        (Lag(1), struct.pack("<Qqqq", 3, 0, 0, 0)),
        (Lag(1), struct.pack("<Qq", 2, 0)),
        (Lag(1), b""),
    ],
)
def test_a_state_no_kernel_has_is_refused(kernel: Lag, words: bytes) -> None:
    with pytest.raises(ValueError, match=r"state|saved"):
        kernel.load(StateReader(words))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Lag(0),
        lambda: Min(0),
        lambda: Max(0),
        lambda: Autocov(2, 2),
        lambda: Autocov(-1, 2),
        lambda: Autocov(1, 1025),
        lambda: Diff("u8"),
    ],
)
def test_parameters_without_meaning_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        build()
