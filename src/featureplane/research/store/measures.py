"""What a store measures of itself: its metrics, and the counts of this process.

Counts are kept under `<root>/metrics`, where `ledger` adds up those of all processes. Leans on `tally`,
`ledger`, `telemetry`. Knows nothing of keys and files.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from featureplane.clock import SYSTEM, Clock
from featureplane.research.store.ledger import BAD, FOLDER, GOOD, MINUTE, fold, note_minute
from featureplane.research.store.tally import Forks, Tally
from featureplane.telemetry import Metric, log_event
from featureplane.units import NANOS_PER_SECOND

__all__ = [
    "BAD_RESULTS",
    "CAUSES",
    "EDGES_S",
    "GOOD_RESULTS",
    "METRICS",
    "OTHER_SYMBOL",
    "REASONS",
    "RESULTS",
    "SYMBOLS_MAX",
    "TIMES",
    "Measures",
]

RESULTS: Final = ("hit", "miss", "coalesced", "corrupt", "warm", "open_day", "read_only")
"""What can come of a day of a request."""

GOOD_RESULTS: Final = ("hit", "coalesced")
BAD_RESULTS: Final = ("miss", "corrupt")
"""The objective is about these alone: warming, the running day and a root that takes nothing are neither."""

CAUSES: Final = ("new_symbol", "new_data", "new_features", "evicted", "corrupt")
REASONS: Final = ("evicted", "expired", "cleared", "hot")
TIMES: Final = ("request", "lookup", "read", "compute", "lock_wait")
TIERS: Final = ("parquet", "hot")

SYMBOLS_MAX: Final = 32
"""So many symbols have series of their own in a process, and twice as many in the sum; then `other`."""

OTHER_SYMBOL: Final = "other"
_SYMBOL_BYTES: Final = 24

_MICROS: Final = (2, 5, 10, 20, 100, 300, 1_000, 5_000, 34_000, 100_000, 500_000, 2_500_000, 10_000_000)
_EDGES_NS: Final = (*(one * 1_000 for one in _MICROS), 60 * NANOS_PER_SECOND, 600 * NANOS_PER_SECOND)
EDGES_S: Final = tuple(one / NANOS_PER_SECOND for one in _EDGES_NS)
"""Upper edges of the buckets of a time, in seconds: 2 µs to ten minutes."""

_TIME_NAMES: Final = {
    what: (tuple(f"{what}#{number}" for number in range(len(_EDGES_NS) + 1)), f"{what}#ns") for what in TIMES
}
_MINUTE_NS: Final = 60 * NANOS_PER_SECOND
_FILES: Final = 32
_log: Final = logging.getLogger("featureplane.store")


def _time(name: str, says: str) -> Metric:
    return Metric(f"featurestore_{name}_seconds", "histogram", says, edges=EDGES_S)


METRICS: Final = (
    Metric("featurestore_requests_total", "counter", "days of requests, by what came of them", ("result",)),
    Metric("featurestore_misses_total", "counter", "days that had to be computed, by why", ("cause",)),
    Metric(
        "featurestore_symbol_requests_total",
        "counter",
        "days of requests that the objective is about, by symbol; `other` beyond a bounded number",
        ("symbol", "result"),
    ),
    Metric(
        "featurestore_hit_ratio",
        "gauge",
        "(hit + coalesced) / (hit + coalesced + miss + corrupt) of the last five minutes; NaN without any",
    ),
    _time("request", "what a request takes until its entry is opened"),
    _time("lookup", "finding a day that is there, or that it is not"),
    _time("read", "reading a day that is not mapped"),
    _time("compute", "computing a day, and storing it"),
    _time("lock_wait", "waiting for another process that computes the same day"),
    Metric("featurestore_bytes", "gauge", "bytes stored, by tier", ("tier",)),
    Metric("featurestore_bytes_max", "gauge", "bytes that both tiers may take together"),
    Metric("featurestore_days", "gauge", "days stored, by tier", ("tier",)),
    Metric("featurestore_evictions_total", "counter", "files removed, by why", ("reason",)),
    Metric("featurestore_disk_used_ratio", "gauge", "how full the disk is that the store lies on"),
    Metric("featurestore_manifest_readable", "gauge", "1 while the manifest can be read"),
    Metric(
        "feature_consistency_frames_total",
        "counter",
        "frames computed again, by whether they had the same bytes: `equal`, `different`",
        ("result",),
    ),
    Metric("feature_consistency_ratio", "gauge", "equal frames / frames; NaN before any was computed again"),
)
"""Every metric of a store."""


class Measures:
    """The counts of this process for one root; safe for threads."""

    def __init__(self, root: Path, clock: Clock = SYSTEM) -> None:
        self.folder = root / FOLDER
        self._clock = clock
        self._tally = Tally(self.folder)
        self._symbols: set[str] = set()
        self._named: dict[tuple[str, str], tuple[str, ...]] = {}
        self._lock = threading.Lock()
        self._minute, self._forks = -1, Forks.seen

    def asked(self, symbol: str, result: str) -> None:
        """A day of a request has been answered."""
        minute = self._clock.wall_ns() // _MINUTE_NS
        if minute != self._minute or self._forks != Forks.seen:
            self._turn(minute)
        self._tally.add_each(*(self._named.get((symbol, result)) or self._names(symbol, result)))

    def missed(self, cause: str) -> None:
        """A day had to be computed for a request."""
        self._tally.add(f"misses|{cause}")

    def removed(self, reason: str) -> None:
        """A file was evicted."""
        self._keep()
        self._tally.add(f"evictions|{reason}")

    def compared(self, frames: int, equal: int) -> None:
        """Frames were computed again and held against what they were."""
        self._keep()
        self._tally.add("consistency|equal", equal)
        self._tally.add("consistency|different", frames - equal)

    def took(self, what: str, ns: int) -> None:
        """One of `TIMES` was measured."""
        buckets, total = _TIME_NAMES[what]
        self._tally.add_time(buckets[bisect_left(_EDGES_NS, ns)], total, ns)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Measure one of `TIMES`, however it ends."""
        began = self._clock.monotonic_ns()
        try:
            yield
        finally:
            self.took(what, self._clock.monotonic_ns() - began)

    def own(self) -> Counter[str]:
        """The counts of this process, by name."""
        return Counter({name: self._tally.get(name) for name in self._tally.names()})

    def close(self) -> None:
        """Leave the counts to the sum of all."""
        self._tally.close()
        self._minute = -1

    def _keep(self) -> None:
        if not self._tally.is_kept:
            with suppress(OSError):
                fold(self.folder, above=_FILES, clock=self._clock)
            self._tally.keep()

    def _turn(self, minute: int) -> None:
        """Another minute: the one before is written down, and a folder that took nothing is tried again."""
        with self._lock:
            if self._minute == minute and self._forks == Forks.seen:
                return
            self._forks = Forks.seen
            self._keep()
            tally = self._tally
            before, good, bad = tally.get(MINUTE), tally.get(GOOD), tally.get(BAD)
            if before != minute:
                try:
                    note_minute(self.folder, tally.name, before, good, bad)
                except OSError as error:
                    log_event(_log, logging.DEBUG, "a minute is not written down", error=str(error))
                tally.put(GOOD, 0)
                tally.put(BAD, 0)
                tally.put(MINUTE, minute)
            self._minute = minute

    def _names(self, symbol: str, result: str) -> tuple[str, ...]:
        """What counts where a day was answered so; kept for symbols that have series of their own."""
        names: tuple[str, ...] = (f"requests|{result}",)
        if result in GOOD_RESULTS or result in BAD_RESULTS:
            told = f"symbol|{self._bounded(symbol)}|{result}"
            names = *names, GOOD if result in GOOD_RESULTS else BAD, told
        if symbol in self._symbols:
            self._named[symbol, result] = names
        return names

    def _bounded(self, symbol: str) -> str:
        if symbol not in self._symbols:
            if len(self._symbols) >= SYMBOLS_MAX or len(symbol.encode()) > _SYMBOL_BYTES or "|" in symbol:
                return OTHER_SYMBOL
            self._symbols.add(symbol)
        return symbol
