"""hftbacktest arrays: `.npz` (key `data`), `.npy`, arrays in memory, and Parquet.

Only rows for the local side are read (bit 30 of `ev`), in file order. A message is one trade, or
the longest run of book rows with equal `local_ts`, `exch_ts` and `ival`; a row of kind 3, or of
kind 4 after 1, begins a new one (rule 3.11). Prices and sizes are binary floats and are taken as
the decimals they were meant to be (rule 1.1). Rows without a local time (no such column, or 0)
have the venue's. Aggressors count as inferred where there is no local time at all, and on TAIFEX.

A file does not say what it holds: without `symbol` and instruments its name up to the first `_` or
`.` is the symbol, of the venue `hftbacktest`. Ids stand in arrays of our own converter only; others
show no gaps (rule 3.11).

Leans on `sources.hftbacktest_rows` for files and `sources.hftbacktest_plain`, or its twin, for rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.errors import FileOrder, MalformedEvent
from featureplane.market.agreement import exponent_mismatch
from featureplane.market.events import EVENT_DTYPE, EventBatch, SourceFile, SourceInfo
from featureplane.market.instruments import Instrument, choose_instrument
from featureplane.market.sources import Request, Source
from featureplane.market.sources.batches import Counts, Grid, batches
from featureplane.market.sources.files import check_file_order, source_file
from featureplane.market.sources.hftbacktest_plain import PlainReader, RowConfig, plain_precision
from featureplane.market.sources.hftbacktest_rows import ROW_DTYPE, Rows

__all__ = ["SOURCES", "infer_exponents", "read_rows"]

Array = npt.NDArray[Any]

_LOCAL: Final = 1 << 30
_BOOK_KINDS: Final = (1, 3, 4)
_VENUE: Final = "hftbacktest"
_INFERRED_SIDES: Final = "taifex"  # the venue whose feed does not tell aggressors (rule 2.5)


def infer_exponents(rows: Rows, backend: str = "auto", price: int = 0, qty: int = 0) -> tuple[int, int]:
    """The first pass: decimals of prices and sizes, at least those given.

    A value that no exponent fits is left for the reader to refuse, with its row.
    """
    rust = native.resolve(backend) == "rust"
    for chunk in rows.chunks():
        if rust:
            price, qty = native.module().hftbacktest_precision(chunk.view(np.uint64), price, qty)
        else:
            price, qty = plain_precision(chunk, price, qty)
    return price, qty


def read_rows(
    rows: Rows,
    instrument: Instrument,
    *,
    drop_malformed: bool = False,
    backend: str = "auto",
    counts: Counts | None = None,
) -> Iterator[Array]:
    """Events in chunks of whole messages; `counts` gets the reasons of rows that became none.

    Raises `MalformedEvent` with the row, counted from 1, behind the events of all messages before;
    `InstrumentMismatch` where a file declares exponents that are too small.
    """
    config = RowConfig(
        instrument.symbol_id,
        instrument.price_exponent,
        instrument.qty_exponent,
        rows.local_shift_ns,
        rows.local_time,
        side_inferred=not rows.local_time or instrument.venue.lower() == _INFERRED_SIDES,
        drop_malformed=drop_malformed,
    )
    rust = native.resolve(backend) == "rust"
    reader = native.module().HftbacktestReader(*config) if rust else PlainReader(config)
    counts = counts or Counts()
    counts.follow(reader.dropped)
    error = None
    for chunk in rows.chunks():
        events, error = reader.feed(chunk.view(np.uint64))
        yield events.view(EVENT_DTYPE)
        if error is not None:
            error = MalformedEvent(error.found, error.expected, file=rows.name, line=error.line)
            raise exponent_mismatch(error, instrument) or error
    yield reader.finish().view(EVENT_DTYPE)


def _rows(request: Request) -> list[Rows]:
    """The files of a request, in order by their first local times."""
    rows = [Rows(source) for source in request.inputs]
    starts = [_first_time(one) for one in rows]
    check_file_order([Path(one.name) for one in rows], starts)
    return rows


def _first_time(rows: Rows) -> int | None:
    chunk = next(rows.chunks(), np.zeros(0, ROW_DTYPE))
    local = chunk[(chunk["ev"] & _LOCAL) != 0]
    if not len(local):
        return None
    return int(local["local_ts"][0]) - rows.local_shift_ns if rows.local_time else int(local["exch_ts"][0])


def _has_ids(rows: Rows) -> bool:
    chunk = next(rows.chunks(), np.zeros(0, ROW_DTYPE))
    book = ((chunk["ev"] & _LOCAL) != 0) & np.isin(chunk["ev"] & 0xFF, _BOOK_KINDS)
    return bool((chunk["ival"][book] != 0).any())


def _symbol(request: Request) -> str:
    first = request.inputs[0]
    if request.symbol is not None:
        return request.symbol
    return (
        "array"
        if isinstance(first, np.ndarray)
        else first.name.partition(".")[0].partition("_")[0] or "array"
    )


def infer(request: Request) -> tuple[Instrument, ...]:
    """The instrument as two passes over all rows show it: first its exponents, then the rest."""
    price, qty = 0, 0
    files = _rows(request)
    for rows in files:
        price, qty = infer_exponents(rows, request.backend, price, qty)
    draft = Instrument(venue=_VENUE, symbol=_symbol(request), price_exponent=price, qty_exponent=qty)
    grid = Grid()
    for rows in files:
        for events in read_rows(
            rows, draft, drop_malformed=request.options.on_malformed == "drop", backend=request.backend
        ):
            grid.feed(events)
    return (grid.instrument(draft),)


def read(request: Request) -> Iterator[EventBatch]:
    """The events of the files; see `reading.read_events`."""
    files = _rows(request)
    instrument = choose_instrument(request.instruments or infer(request), request.symbol)
    sequenced = any(_has_ids(rows) for rows in files)
    info = replace(
        SOURCES[_VENUE].info,
        sequenced=sequenced,
        has_snapshots=sequenced,
        local_time=all(rows.local_time for rows in files),
    )
    counts = Counts()
    template = EventBatch(
        np.zeros(0, EVENT_DTYPE),
        (instrument,),
        info,
        request.options,
        tuple(_source_file(source) for source in request.inputs),
        checked=True,
    )
    return batches(_events(files, instrument, request, counts), template, request.events_max, counts)


def _source_file(source: Path | Array) -> SourceFile:
    if isinstance(source, Path):
        return source_file(source)
    return SourceFile("array", hashlib.sha256(source.tobytes()).hexdigest())


def _events(files: list[Rows], instrument: Instrument, request: Request, counts: Counts) -> Iterator[Array]:
    drop = request.options.on_malformed == "drop"
    ended: int | None = None
    for rows in files:
        first = _first_time(rows)
        if first is not None and ended is not None and first < ended:
            names = [one.name for one in files]
            raise FileOrder(names, names)
        for events in read_rows(
            rows, instrument, drop_malformed=drop, backend=request.backend, counts=counts
        ):
            if len(events):
                ended = int(events["local_ts_ns"][-1])
            yield events


SOURCES: Final = {
    _VENUE: Source(
        SourceInfo(_VENUE, sequenced=False, has_snapshots=False, local_time=True, trade_sides=True),
        read,
        infer,
        takes_arrays=True,
    )
}
