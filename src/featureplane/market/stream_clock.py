"""The clock of a symbol (rule 5.3) and how late its messages are (rule 3.10).

Knows nothing of messages, books or frames.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from featureplane.units import NANOS_PER_MS, NANOS_PER_SECOND

__all__ = ["StreamClock"]

_FAULT_NS: Final = 60 * NANOS_PER_SECOND
_FAULTS_BELIEVED: Final = 32
_DRIFT: Final = 20_000  # 50 parts in a million


class StreamClock:
    """The clock of a symbol (rule 5.3) and how late its messages are (rule 3.10).

    `now` is the largest source time of a step so far, None before the first. A message stamped more
    than a minute ahead of what our own clock allows is a fault: it moves nothing until 32 in a row say
    the same. `faults` counts those in a row.
    """

    __slots__ = (
        "counts",
        "faults",
        "local_before",
        "local_time",
        "now",
        "offset",
        "stale_ns",
        "synchronised",
    )

    def __init__(self, *, stale_ms: int = 1000, synchronised: bool = False, local_time: bool = True) -> None:
        self.stale_ns = stale_ms * NANOS_PER_MS
        self.synchronised = synchronised
        self.local_time = local_time
        self.now: int | None = None
        self.offset: int | None = None
        self.local_before = 0
        self.faults = 0
        self.counts: Counter[str] = Counter()

    def forget_offset(self) -> None:
        """A new connection or session: the next message is the first (rule 3.10)."""
        self.offset, self.local_before, self.faults = None, 0, 0

    def begin_offset(self, source_ts_ns: int, local_ts_ns: int) -> None:
        """A new session begins with this message."""
        self.forget_offset()
        if self.local_time:
            self._is_plausible(local_ts_ns - source_ts_ns, local_ts_ns)

    def step(self, source_ts_ns: int, local_ts_ns: int) -> int:
        """A message that is listened to has come; the clock."""
        plausible = not self.local_time or self._is_plausible(local_ts_ns - source_ts_ns, local_ts_ns)
        if not plausible:
            self.counts["clock_fault"] += 1
        if self.now is None or (plausible and source_ts_ns > self.now):
            self.now = source_ts_ns
        elif plausible and source_ts_ns < self.now:
            self.counts["clock_back"] += 1
        return self.now

    def _is_plausible(self, lat: int, local_ts_ns: int) -> bool:
        """Whether the lateness may be true; the offset follows it if so."""
        before = 0 if self.synchronised else self.offset
        if before is not None and lat < before - _FAULT_NS:
            self.faults += 1
            if self.faults < _FAULTS_BELIEVED:
                return False
            before = None  # a clock was set: this message is the first again
        else:
            self.faults = 0
        if not self.synchronised:
            drift = (local_ts_ns - self.local_before) // _DRIFT
            self.offset = lat if before is None else min(lat, before + drift)
            self.local_before = local_ts_ns
        return True

    def is_stale(self, source_ts_ns: int, local_ts_ns: int) -> bool:
        """Whether the message of this step is later than the limit allows."""
        if not self.local_time:
            return False
        offset = self.offset or 0
        return local_ts_ns - source_ts_ns - offset > self.stale_ns
