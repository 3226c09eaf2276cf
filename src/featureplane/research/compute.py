"""From recorded events to a table or a Parquet file; in bounded memory when files go to a file.

    files -> iter_events -> FeatureEngine -> Columns -> FeatureTable | ParquetSink

Leans on `market.reading`, `features.engine`, `research.tables`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar, overload

from featureplane.arguments import as_path
from featureplane.clock import SYSTEM, seconds_since
from featureplane.errors import EmptyStream, MissingSnapshot, SettingError, WrongArgument
from featureplane.features.availability import undefined_here
from featureplane.features.catalog import set_or_id
from featureplane.features.columns import Columns, LateColumns
from featureplane.features.engine import FeatureEngine
from featureplane.features.sampling import Emit, parse_every
from featureplane.features.spec import FeatureSet
from featureplane.market.agreement import check_declared
from featureplane.market.events import EventBatch, Kind
from featureplane.market.reading import EventsPaths, InstrumentsLike, iter_events
from featureplane.research.runs import RunReport
from featureplane.research.tables import FeatureTable, ParquetSink, table_schema
from featureplane.whole_file import check_ending, check_target

__all__ = ["compute"]

_CHUNK_EVENTS: Final = 1 << 14
_PIECE: Final = 1 << 12

Progress = Callable[[RunReport], None]
_Part = TypeVar("_Part", bound=Columns | LateColumns)


@overload
def compute(
    events: EventBatch | EventsPaths,
    fset: FeatureSet | str,
    *,
    backend: str = ...,
    every: int | str | None = ...,
    emit: Emit = ...,
    out: None = ...,
    source: str | None = ...,
    symbol: str | None = ...,
    instruments: InstrumentsLike | None = ...,
    on_gap: str | None = ...,
    on_malformed: str | None = ...,
    on_mismatch: str | None = ...,
    seed: str | None = ...,
    seed_after: int | None = ...,
    progress: Progress | None = ...,
) -> FeatureTable: ...
@overload
def compute(
    events: EventBatch | EventsPaths,
    fset: FeatureSet | str,
    *,
    backend: str = ...,
    every: int | str | None = ...,
    emit: Emit = ...,
    out: str | os.PathLike[str],
    source: str | None = ...,
    symbol: str | None = ...,
    instruments: InstrumentsLike | None = ...,
    on_gap: str | None = ...,
    on_malformed: str | None = ...,
    on_mismatch: str | None = ...,
    seed: str | None = ...,
    seed_after: int | None = ...,
    progress: Progress | None = ...,
) -> RunReport: ...
def compute(
    events: EventBatch | EventsPaths,
    fset: FeatureSet | str,
    *,
    backend: str = "auto",
    every: int | str | None = None,
    emit: Emit = "update",
    out: str | os.PathLike[str] | None = None,
    source: str | None = None,
    symbol: str | None = None,
    instruments: InstrumentsLike | None = None,
    on_gap: str | None = None,
    on_malformed: str | None = None,
    on_mismatch: str | None = None,
    seed: str | None = None,
    seed_after: int | None = None,
    progress: Progress | None = None,
) -> FeatureTable | RunReport:
    """Compute a feature set over recorded events.

    `events` is a batch, or the files `read_events` takes together with `source`, `symbol`,
    `instruments` and the five options of reading; those belong to files and are refused beside a
    batch, which carries its own. `fset` is a set or the id of a registered one. `emit="change"`
    leaves out frames in which nothing changed, `every=n` or `every="100ms"` samples (rules 5.5,
    5.6).

    Returns a `FeatureTable`, one row a frame; its `report` says what was read and dropped. With
    `out` the rows are streamed into that Parquet file, of files in bounded memory, and the report
    is returned; the file appears when it is whole, or not at all. A name that ends as another format does, as
    `.csv`, is refused.

    `progress` is called with the report so far after every 16,384 events.

    Raises
    ------
    EmptyStream
        No frame came out of the events.
    MissingSnapshot
        No frame, because no book could begin.
    InstrumentMismatch
        A price is off the tick that an instruments file declares.
    InputError, ContractError, SettingError
        As `read_events` and `FeatureEngine` do.

    See Also
    --------
    FeatureEngine.replay : the same frames one by one
    """
    fset = set_or_id(fset)
    reading: dict[str, Any] = {"source": source, "symbol": symbol, "instruments": instruments}
    reading |= {"on_gap": on_gap, "on_malformed": on_malformed, "on_mismatch": on_mismatch}
    reading |= {"seed": seed, "seed_after": seed_after}
    given = {name: value for name, value in reading.items() if value is not None}
    if out is not None:
        check_ending(as_path("out", out), ".parquet")
    if progress is not None and not callable(progress):
        raise WrongArgument("progress", progress, "a function that takes the report so far")
    if isinstance(events, EventBatch):
        if given:
            raise SettingError(f"{', '.join(given)} beside a batch", hint="they belong to `read_events`")
        small = out is not None or progress is not None
        batches = events.chunks(_CHUNK_EVENTS) if small else iter((events,))
    else:
        if source is None:
            raise SettingError("files without a source", hint='say what they are, like source="binance-spot"')
        if out is not None:
            check_target(out, events)
        batches = iter_events(events, backend=backend, events_max=_CHUNK_EVENTS, **given)
    run = _Run(fset, batches, emit=emit, every=every, backend=backend, progress=progress)
    return run.table() if out is None else run.parquet(Path(out))


class _Run:
    """One pass over the batches of a stream, reported as it goes."""

    def __init__(
        self,
        fset: FeatureSet,
        batches: Iterator[EventBatch],
        *,
        emit: Emit,
        every: int | str | None,
        backend: str,
        progress: Progress | None,
    ) -> None:
        self.fset = fset
        chosen = parse_every(every)
        self._grid = chosen is not None and chosen.period_ns is not None
        self._sampling = {"emit": emit, "every": "" if every is None else str(every)}
        self.report = RunReport(fset)
        self._progress = progress
        self._has_trades = "trade" not in fset.plan.reads  # then nobody asks
        self._has_snapshot = False
        self._began = SYSTEM.monotonic_ns()
        first = next(batches, None)
        if first is None:
            raise EmptyStream("events", hint="are these the right files for the source?")
        self._batches = chain((first,), batches)
        self._noted_last = first
        self._engine = FeatureEngine(fset, backend=backend, emit=emit, every=every)
        self._describe(first)

    def table(self) -> FeatureTable:
        """Everything in memory."""
        parts = list(self._columns(self._engine.columns if self._grid else self._engine.late_columns))
        self._end()
        return FeatureTable(self.fset, parts, self._symbols, report=self.report)

    def parquet(self, path: Path) -> RunReport:
        """Everything into one file."""
        with ParquetSink(path, table_schema(self.fset, grid=self._grid), self._symbols) as sink:
            for columns in self._columns(self._engine.columns):
                sink.write(columns)
                self.report.count()
            self._end()
            sink.metadata.update(self.report.metadata())
        self.report.out = path
        self.report.seconds = seconds_since(self._began)
        return self.report

    @property
    def _symbols(self) -> list[str]:
        return [one.symbol for one in self.report.instruments]

    def _describe(self, batch: EventBatch) -> None:
        report, options = self.report, batch.options
        report.instruments, report.source = batch.instruments, batch.source.name
        report.local_time = batch.source.local_time
        report.options = self._sampling | {
            "on_gap": options.on_gap,
            "on_malformed": options.on_malformed,
            "seed": options.seed,
            "seed_after": "" if options.seed_after is None else str(options.seed_after),
        }

    def _columns(self, of: Callable[[Iterator[EventBatch]], Iterator[_Part]]) -> Iterator[_Part]:
        for columns in of(self._noted()):
            self.report.add_frames(columns)
            if not self.report.frames:
                self._has_snapshot = self._has_snapshot or self._noted_last.has_snapshot
            if self._progress is not None:
                self._progress(self.report)
            yield columns

    def _noted(self) -> Iterator[EventBatch]:
        for batch in self._batches:
            check_declared(batch)
            self.report.add_events(batch)
            self._has_trades = self._has_trades or _has_trades(batch)
            self._noted_last = batch
            yield batch

    def _end(self) -> None:
        report = self.report
        report.add_counts(self._engine.counts)
        for one in report.instruments:
            never = undefined_here(self.fset, one, has_trades=self._has_trades)
            if never:
                report.undefined_here[one.symbol] = never
        report.seconds = seconds_since(self._began)
        if report.frames:
            return
        waits = "book" in self.fset.plan.reads and self._noted_last.options.seed == "snapshot"
        if waits and not self._has_snapshot:
            raise MissingSnapshot(", ".join(self._symbols), report.source)
        raise EmptyStream(
            f"frames of {self.fset.feature_set_id}",
            hint=f"{report.messages} messages were read; `featureplane data inspect` shows what they are",
        )


def _has_trades(batch: EventBatch) -> bool:
    """Whether a trade is among the events; looks no further than the first piece that has one."""
    kinds = batch.array["kind"]
    pieces = (kinds[at : at + _PIECE] for at in range(0, len(kinds), _PIECE))
    return any(bool((piece == Kind.TRADE).any()) for piece in pieces)
