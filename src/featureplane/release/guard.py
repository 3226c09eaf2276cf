"""What calls a canary back by itself, by the clock of its messages.

The same messages give the same trip: nothing here asks for the time. Leans on `criteria` and `evidence`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from featureplane.release.criteria import GuardCriteria
from featureplane.release.evidence import Quantiles, Tail
from featureplane.release.rollout import Cause
from featureplane.units import NANOS_PER_SECOND

__all__ = ["MINUTE_NS", "SAMPLES_MIN", "CanaryGuard", "Trip"]

MINUTE_NS: Final = 60 * NANOS_PER_SECOND
SAMPLES_MIN: Final = 100
"""So many samples of a minute at least: of fewer the largest one would be the p99."""


@dataclass(frozen=True, slots=True)
class Trip:
    """Why a canary is called back: in words, and as one of the causes."""

    why: str
    cause: Cause
    at_ns: int


class _Above:
    """Whether the p99 of each minute has been above a limit for so many minutes.

    A minute goes on until it has enough samples to have a p99. One without a sample says nothing, however far
    the clock went: it neither adds to the minutes above nor ends them.
    """

    def __init__(self, name: str, before: Tail, criteria: GuardCriteria, least: float = 0.0) -> None:
        self.name = name
        self._limit = None if before.p99 is None else criteria.p99_ratio_max * max(before.p99, least)
        self._minutes = criteria.p99_minutes
        self._minute = Quantiles()
        self._began_ns = 0  # of the minute
        self._above = 0  # minutes in a row

    def add(self, at_ns: int, value: int) -> str | None:
        """Note one sample; what is wrong, in words."""
        if self._limit is None:
            return None
        why = None
        if at_ns - self._began_ns >= MINUTE_NS and self._minute.count >= SAMPLES_MIN:
            why = self._closed(self._limit)
        if not self._minute.count:
            self._began_ns = at_ns
        self._minute.add(value)
        return why

    def _closed(self, limit: float) -> str | None:
        p99 = self._minute.at(0.99)
        assert p99 is not None
        self._minute.clear()
        self._above = self._above + 1 if p99 > limit else 0
        if self._above < self._minutes:
            return None
        return f"p99 of {self.name} above {limit:,.0f} for {self._above} minutes, {p99:,} in the last"


class CanaryGuard:
    """Watches one canary. `depth` and `latency` are the tails of the same run without the candidate."""

    def __init__(self, criteria: GuardCriteria, depth: Tail, latency: Tail) -> None:
        self._criteria = criteria
        self._mismatches: deque[int] = deque(maxlen=criteria.mismatches)
        self._depth = _Above("raw_queue_depth", depth, criteria, criteria.queue_p99_floor)
        self._latency = _Above("pipeline_latency_ns", latency, criteria)
        self.trip: Trip | None = None
        """The first thing that called it back."""

    def mismatch(self, at_ns: int, names: str) -> None:
        """A frame of the candidate differs from the active one in these features."""
        self._mismatches.append(at_ns)
        most = self._criteria.mismatches
        long_ns = self._criteria.mismatch_minutes * MINUTE_NS
        if len(self._mismatches) == most and at_ns - self._mismatches[0] <= long_ns:
            why = f"{most} mismatches in {self._criteria.mismatch_minutes} minutes, the last in {names}"
            self._trips(why, Cause.KERNEL, at_ns)

    def divergence(self, at_ns: int, strategy: str, what: str) -> None:
        """The two forms of a strategy decided differently."""
        self._trips(f"legacy and shared form of {strategy} decided differently: {what}", Cause.KERNEL, at_ns)

    def timed(self, at_ns: int, depth: int, latency_ns: int) -> None:
        """A message that was timed, with the queue behind it."""
        for watch, value in ((self._depth, depth), (self._latency, latency_ns)):
            if (why := watch.add(at_ns, value)) is not None:
                self._trips(why, Cause.CONFIG, at_ns)

    def fails(self, at_ns: int, why: str) -> None:
        """The candidate cannot go on."""
        self._trips(why, Cause.KERNEL, at_ns)

    def _trips(self, why: str, cause: Cause, at_ns: int) -> None:
        if self.trip is None:
            self.trip = Trip(why, cause, at_ns)
