"""The one door to time: what asks a clock is handed one, so that a test or a replay can hand it another.

Nothing that a frame, a flag or a decision depends on comes from here: those follow from the times in the
messages. Leans on nothing.
"""

from __future__ import annotations

import threading
import time
from typing import Final, Protocol

__all__ = ["SYSTEM", "Clock", "ManualClock", "ReplayClock", "SystemClock", "cpu_ns", "seconds_since"]

_NANOS_PER_SECOND: Final = 1_000_000_000
_WAIT_NS_MAX: Final = 3600 * _NANOS_PER_SECOND


class Clock(Protocol):
    """Two readings and one way to wait; all in nanoseconds."""

    def wall_ns(self) -> int:
        """UTC since 1970; may go back when somebody sets it."""

    def monotonic_ns(self) -> int:
        """Since some moment; never goes back, and means nothing but differences."""

    def wait(self, ns: int, until: threading.Event) -> bool:
        """Let `ns` pass, or less if `until` is set meanwhile; whether it is set."""


class SystemClock:
    """That of the machine."""

    def wall_ns(self) -> int:
        """See `Clock`."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """See `Clock`."""
        return time.perf_counter_ns()

    def wait(self, ns: int, until: threading.Event) -> bool:
        """See `Clock`; an hour at most at once, because longer ones overflow in some libraries."""
        return until.wait(max(0, min(ns, _WAIT_NS_MAX)) / _NANOS_PER_SECOND)


SYSTEM: Final = SystemClock()
"""For who is handed no other."""


class ManualClock:
    """Stands still until it is moved; waiting moves it."""

    def __init__(self, wall_ns: int = 0, monotonic_ns: int = 0) -> None:
        self._wall_ns, self._monotonic_ns = wall_ns, monotonic_ns

    def wall_ns(self) -> int:
        """See `Clock`."""
        return self._wall_ns

    def monotonic_ns(self) -> int:
        """See `Clock`."""
        return self._monotonic_ns

    def move(self, ns: int) -> None:
        """Let time pass."""
        self._wall_ns += ns
        self._monotonic_ns += ns

    def wait(self, ns: int, until: threading.Event) -> bool:
        """See `Clock`: it has passed at once."""
        if not until.is_set():
            self.move(max(0, ns))
        return until.is_set()


class ReplayClock:
    """The time of a recording that began at `begins_ns`, and passes `speed` times as fast as ours.

    Waiting is in the time of the recording. It starts when it is made.
    """

    def __init__(self, begins_ns: int, speed: float = 1.0, under: Clock = SYSTEM) -> None:
        self._begins_ns, self._speed, self._under = begins_ns, speed, under
        self._started_ns = under.monotonic_ns()

    def wall_ns(self) -> int:
        """See `Clock`."""
        return self._begins_ns + self.monotonic_ns()

    def monotonic_ns(self) -> int:
        """See `Clock`: since the beginning of the recording."""
        return int((self._under.monotonic_ns() - self._started_ns) * self._speed)

    def wait(self, ns: int, until: threading.Event) -> bool:
        """See `Clock`."""
        return self._under.wait(int(max(0, ns) / self._speed), until)


def cpu_ns() -> int:
    """Processor time of this process so far."""
    return time.process_time_ns()


def seconds_since(began_ns: int, clock: Clock = SYSTEM) -> float:
    """Seconds between a reading of `monotonic_ns` and now."""
    return (clock.monotonic_ns() - began_ns) / _NANOS_PER_SECOND
