"""What calls a canary back by itself, minute by minute of its messages."""

from __future__ import annotations

import pytest

from featureplane.release.criteria import Criteria, GuardCriteria
from featureplane.release.evidence import Tail
from featureplane.release.guard import MINUTE_NS, CanaryGuard
from tests.unit.test_criteria import REPORT, RUN, refused, with_run


def guard(depth: Tail = RUN.depth_before, latency: Tail = RUN.latency_before) -> CanaryGuard:
    return CanaryGuard(Criteria().guard, depth, latency)


def test_three_mismatches_in_five_minutes_call_it_back() -> None:
    watch = guard()
    for at in (0, MINUTE_NS, 6 * MINUTE_NS, 7 * MINUTE_NS):
        watch.mismatch(at, "ofi")
        assert watch.trip is None
    watch.mismatch(11 * MINUTE_NS, "ofi")
    assert watch.trip is not None
    assert watch.trip.why == "3 mismatches in 5 minutes, the last in ofi"


def test_one_divergence_calls_it_back() -> None:
    watch = guard()
    watch.divergence(5, "mm", "buy against sell")
    watch.divergence(6, "taker", "later")
    assert watch.trip is not None
    assert "of mm decided differently: buy against sell" in watch.trip.why


@pytest.mark.parametrize("name", ["raw_queue_depth", "pipeline_latency_ns"])
def test_a_tail_above_its_limit_for_five_minutes_calls_it_back(name: str) -> None:
    watch = guard()
    depth, latency = (4, 0) if name == "raw_queue_depth" else (0, 12_600)
    tripped = None
    for half in range(840):
        watch.timed(half * MINUTE_NS // 120, depth, latency)
        if watch.trip is not None:
            tripped = half
            break
    assert tripped == 600
    assert watch.trip is not None
    assert watch.trip.why.startswith(f"p99 of {name} above")


def test_a_minute_below_begins_the_time_anew() -> None:
    watch = guard()
    for half in range(2_400):
        calm = 240 <= half // 2 < 300 or 540 <= half // 2 < 600 or half // 2 >= 840
        watch.timed(half * MINUTE_NS // 120, 0, 12_500 if calm else 12_600)
    assert watch.trip is None


@pytest.mark.parametrize("step_ns", [20 * MINUTE_NS, 10**18], ids=["silence", "a clock that was set"])
def test_time_without_samples_is_no_time_above(step_ns: int) -> None:
    watch, at_ns = guard(), 0
    for _ in range(3):  # each a minute above and a little
        for _ in range(130):
            at_ns += MINUTE_NS // 120
            watch.timed(at_ns, 0, 12_600)
        at_ns += step_ns
    watch.timed(at_ns, 0, 12_600)
    assert watch.trip is None


def test_where_samples_are_few_the_greatest_is_no_p99() -> None:
    watch = guard()
    for at in range(3_000):  # forty a minute, one in 101 of them slow
        watch.timed(at * MINUTE_NS // 40, 0, 12_600 if at % 101 == 0 else 10_000)
    assert watch.trip is None
    for at in range(3_000, 3_700):
        watch.timed(at * MINUTE_NS // 40, 0, 12_600)
    assert watch.trip is not None


def test_a_queue_that_was_empty_may_hold_one_message() -> None:
    watch = guard(depth=Tail(0, 5_000))
    for depth in (1, 2):
        assert watch.trip is None
        for half in range(840):
            watch.timed((depth * 840 + half) * MINUTE_NS // 120, depth, 0)
    assert watch.trip is not None
    for depth, wrong in ((0, set()), (1, set()), (2, {"raw_queue_depth"})):
        run = with_run(depth_before=Tail(0, 5_000), depth_with=Tail(depth, 5_000))
        assert refused(run, REPORT) == wrong


def test_below_its_floor_a_queue_is_not_compared() -> None:
    asked = Criteria(queue_p99_floor=100, guard=GuardCriteria(queue_p99_floor=100))
    watch = CanaryGuard(asked.guard, Tail(30, 5_000), RUN.latency_before)
    for half in range(1_680):
        watch.timed(half * MINUTE_NS // 120, 125 if half < 840 else 126, 0)
        assert watch.trip is None or half > 840
    assert watch.trip is not None
    for depth, wrong in ((110, set()), (111, {"raw_queue_depth"})):
        run = with_run(depth_before=Tail(30, 5_000), depth_with=Tail(depth, 5_000))
        assert refused(run, REPORT, criteria=asked) == wrong


def test_nothing_to_compare_with_trips_nothing() -> None:
    watch = guard(Tail(), Tail())
    for minute in range(20):
        watch.timed(minute * MINUTE_NS, 10**6, 10**9)
    assert watch.trip is None
