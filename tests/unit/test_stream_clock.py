"""The clock of a stream: never back, and what is stale by it (rules 3.10 and 5.3)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featureplane.market.stream_clock import StreamClock
from tests.streams import (
    MS,
)


def clock_with(*steps: tuple[float, float], **options: object) -> StreamClock:
    one = StreamClock(**options)  # type: ignore[arg-type] # one door for all options
    for source, local in steps:
        one.step(round(source * MS), round(local * MS))
    return one


def test_rule_5_3_the_clock_never_goes_back() -> None:
    one = clock_with((10, 10), (5, 11), (12, 12))
    assert one.now == 12 * MS
    assert one.counts == {"clock_back": 1}


def test_rule_3_10_a_wrong_local_clock_is_not_stale() -> None:
    one = clock_with((1000, -270), (2000, 730))
    assert one.offset == -1270 * MS
    assert not one.is_stale(2000 * MS, 730 * MS)
    assert one.is_stale(2000 * MS, 1731 * MS)
    assert not one.is_stale(2000 * MS, 1730 * MS)


def test_rule_3_10_the_offset_may_drift_by_50_ppm() -> None:
    one = clock_with((0, 0), (19_000, 20_000))
    assert one.offset == 1 * MS


def test_rule_3_10_synchronised_clocks_have_no_offset_and_sources_without_local_time_are_never_stale() -> (
    None
):
    assert clock_with((0, 5000), synchronised=True).is_stale(0, 5000 * MS)
    assert not clock_with((0, 0), local_time=False).is_stale(0, 5000 * MS)


def test_rule_3_10_a_fault_moves_nothing_until_32_in_a_row() -> None:
    one = clock_with((100, 100))
    for i in range(31):
        one.step(100_000 * MS, (101 + i) * MS)
    assert (one.now, one.offset, one.faults) == (100 * MS, 0, 31)
    one.step(100_000 * MS, 200 * MS)
    assert (one.now, one.offset) == (100_000 * MS, -99_800 * MS)
    one.step(100_001 * MS, 201 * MS)
    assert (one.now, one.faults) == (100_001 * MS, 0)


@given(st.lists(st.tuples(st.integers(0, 1 << 61), st.integers(0, 1 << 61)), min_size=1))
def test_rule_5_3_whatever_comes_the_clock_only_grows(steps: list[tuple[int, int]]) -> None:
    one = StreamClock()
    clocks = [one.step(*step) for step in steps]
    assert clocks == sorted(clocks)
    assert np.all(np.array(clocks) >= 0)
