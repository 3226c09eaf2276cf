"""Clocks: ours, one that stands still, and that of a recording."""

from __future__ import annotations

import threading

from featureplane.clock import SYSTEM, ManualClock, ReplayClock, cpu_ns, seconds_since

SECOND = 1_000_000_000


def test_our_clock_goes_on_and_stops_waiting_when_it_is_told_to() -> None:
    began, event = SYSTEM.monotonic_ns(), threading.Event()
    assert not SYSTEM.wait(2_000_000, event)
    assert SYSTEM.monotonic_ns() - began >= 2_000_000
    event.set()
    assert SYSTEM.wait(1 << 62, event)
    assert 0 < seconds_since(began) < 60
    assert SYSTEM.wall_ns() > 1_700_000_000 * SECOND
    assert cpu_ns() > 0


def test_a_clock_that_stands_still_moves_by_waiting_alone() -> None:
    clock, event = ManualClock(5 * SECOND), threading.Event()
    assert (clock.wall_ns(), clock.monotonic_ns()) == (5 * SECOND, 0)
    assert not clock.wait(7, event)
    assert not clock.wait(-1, event)
    assert (clock.wall_ns(), clock.monotonic_ns()) == (5 * SECOND + 7, 7)
    event.set()
    assert clock.wait(9, event)
    assert clock.monotonic_ns() == 7
    clock.move(SECOND)
    assert seconds_since(7, clock) == 1.0


def test_a_recording_passes_as_fast_as_asked() -> None:
    under, event = ManualClock(monotonic_ns=100), threading.Event()
    clock = ReplayClock(50 * SECOND, 4.0, under)
    assert clock.wall_ns() == 50 * SECOND
    under.move(SECOND)
    assert clock.wall_ns() == 54 * SECOND
    assert clock.monotonic_ns() == 4 * SECOND
    clock.wait(8 * SECOND, event)
    assert under.monotonic_ns() == 100 + 3 * SECOND
    assert clock.monotonic_ns() == 12 * SECOND
