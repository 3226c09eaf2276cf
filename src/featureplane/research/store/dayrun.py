"""The frames of one day, cut out of a stream exactly where the clock of rule 5.3 says.

A stream may begin before the day and go on behind it. Its frames before are computed and left out; what
comes behind is not read. `seq` counts from 1 in a day, and the first frame stands beside none.

Leans on `features` and `books`. Knows nothing of stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.errors import SettingError
from featureplane.features.columns import Columns
from featureplane.features.native_engine import NativeEngine
from featureplane.features.reference import ReferenceEngine
from featureplane.features.spec import FeatureSet
from featureplane.market.days import Day
from featureplane.market.events import EventBatch, SourceInfo
from featureplane.market.instruments import Instrument
from featureplane.market.stream_clock import StreamClock
from featureplane.research.store.books import BookCheckpoint, begun_anew, clock_of, reads_of, roll_set

__all__ = ["FrameClock", "day_columns", "roll_book"]

_JUMP_NS: Final = 60_000_000_000  # what rule 3.10 calls a fault is never less between two steps


def day_columns(
    batches: Iterable[EventBatch],
    fset: FeatureSet,
    day: Day,
    start: BookCheckpoint | None,
    *,
    backend: str = "auto",
) -> Iterator[Columns]:
    """The frames of a day, from the files that hold it in order; all of one symbol.

    `start` is the book that the first file continues, None where it begins anew. Raises what computing
    raises (`FeatureEngine.replay`).
    """
    run: _Run | None = None
    for batch in batches:
        if run is None:
            run = _Run(batch, fset, start, backend)
        yield from run.take(batch, day)
        if run.over:
            return


def roll_book(
    batches: Iterable[EventBatch], reads: str, start: BookCheckpoint | None, *, backend: str = "auto"
) -> BookCheckpoint | None:
    """The book behind these events; None where there was not one batch."""
    run: _Run | None = None
    for batch in batches:
        if run is None:
            run = _Run(batch, roll_set(reads), start, backend)
        run.compute(batch)
    return None if run is None else BookCheckpoint.of(run.state(), reads, len(run.fset))


class _Run:
    """One symbol of a stream under one plan, and where in the day it is."""

    def __init__(
        self, first: EventBatch, fset: FeatureSet, start: BookCheckpoint | None, backend: str
    ) -> None:
        self.fset = fset
        self._symbol_id = first.instrument.symbol_id
        self._source = first.source
        make = NativeEngine if native.resolve(backend) == "rust" else ReferenceEngine
        self._engine = make(fset, first.instruments, first.source, first.options)
        self._fresh = self.state()
        self._inside = False
        self.over = False
        if start is not None:
            if start.reads != reads_of(fset, first.source):
                raise SettingError(f"a book rolled by {start.reads} under a set that reads other channels")
            self._put(start.under(self._fresh, len(fset)))

    def state(self) -> bytes:
        """The state of the symbol now."""
        return self._engine.snapshot(self._symbol_id)

    def _put(self, state: bytes) -> None:
        self._engine.restore(self._symbol_id, state)

    def compute(self, batch: EventBatch) -> Columns:
        """The frames of some whole messages."""
        if batch.source != self._source:
            raise SettingError(
                f"files of {self._source.name} and {batch.source.name} in one stream",
                hint="name one source a dataset",
            )
        return self._engine.columns(batch.array)

    def take(self, batch: EventBatch, day: Day) -> Iterator[Columns]:
        """The frames of the day among those of the batch."""
        while len(batch):
            edge = day.end_ns if self._inside else day.start_ns
            before = b"" if _latest(batch) < edge else self.state()
            columns = self.compute(batch)
            if not before or self._is_before(edge):
                if self._inside:
                    yield columns
                return
            first = self._crossing(batch, before, edge)
            self._put(before)
            columns = self.compute(batch.part(0, first))
            if self._inside:
                self.over = True
                yield columns
                return
            self._inside = True
            self._put(begun_anew(self.state(), self._fresh, len(self.fset)))
            batch = batch.part(first, batch.messages)

    def _is_before(self, edge_ns: int) -> bool:
        clock = clock_of(self.state(), len(self.fset))
        return clock is None or clock < edge_ns

    def _crossing(self, batch: EventBatch, before: bytes, edge_ns: int) -> int:
        """The first message with which the clock reaches the edge; it does by the end of the batch."""
        low, high = 0, batch.messages - 1
        while low < high:
            middle = (low + high) // 2
            self._put(before)
            self.compute(batch.part(0, middle + 1))
            if self._is_before(edge_ns):
                low = middle + 1
            else:
                high = middle
        return low


def _latest(batch: EventBatch) -> int:
    return int(batch.array["source_ts_ns"].max())


class FrameClock:
    """The time by which frames of a day are asked for: the clock of rule 5.3 as far as frames show it.

    It never goes back, lies in the day, and keeps still over a clock fault (rule 3.10). Frames come in
    runs.
    """

    def __init__(self, instrument: Instrument, source: SourceInfo, day: Day) -> None:
        self._day = day
        self._clock = StreamClock(
            stale_ms=instrument.stale_ms,
            synchronised=instrument.clock == "synchronised",
            local_time=source.local_time,
        )
        self._one_by_one = False  # from the first fault on, as the engine does it
        self._before: tuple[int, int, int] | None = None  # clock, source and local time of the last frame

    def take(self, columns: Columns) -> npt.NDArray[np.int64]:
        """The times of a run of frames, ascending, int64 of shape (rows,)."""
        source, local = columns.source_ts_ns, columns.local_ts_ns
        rows = len(source)
        if not rows:
            return np.zeros(0, np.int64)
        clock_ns, *last = self._before or (self._day.start_ns, int(source[0]), int(local[0]))
        plain = 0
        if not self._one_by_one:
            late = np.diff(local - source, prepend=last[1] - last[0])
            jumps = np.flatnonzero(late < -_JUMP_NS)
            plain = int(jumps[0]) if len(jumps) else rows
        times = np.empty(rows, np.int64)
        np.maximum(np.maximum.accumulate(source[:plain]), clock_ns, out=times[:plain])
        if plain < rows:
            if not self._one_by_one:
                self._one_by_one = True
                if plain:
                    clock_ns, last = int(times[plain - 1]), [int(source[plain - 1]), int(local[plain - 1])]
                self._clock.step(*last)
                self._clock.now = clock_ns
            pairs = zip(source[plain:].tolist(), local[plain:].tolist(), strict=True)
            times[plain:] = [self._clock.step(*pair) for pair in pairs]
        self._before = int(times[-1]), int(source[-1]), int(local[-1])
        return np.clip(times, self._day.start_ns, self._day.end_ns - 1)
