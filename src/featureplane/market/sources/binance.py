"""Recordings of Binance's streams: `<local time> <json>` lines, plain or gzip.

Spot, USD-M and COIN-M; depth diffs, trades, aggregated trades, best quotes and snapshots. What a
line means is told in `binance_plain`, the reference of `normalize/binance`; here files are opened,
put in order and handed on, and instruments found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.errors import (
    EmptyStream,
    FileOrder,
    InputError,
    MalformedEvent,
    UnknownSymbol,
)
from featureplane.market.agreement import exponent_mismatch
from featureplane.market.decimals import decimal_text
from featureplane.market.events import EVENT_DTYPE, EventBatch, SourceFile, SourceInfo
from featureplane.market.instruments import Instrument, choose_instrument
from featureplane.market.sources import Request, Source
from featureplane.market.sources.binance_plain import LINE_BYTES_MAX, PlainReader, PlainScan, local_time
from featureplane.market.sources.files import (
    check_file_order,
    read_chunks,
    source_file,
    unpacked_start,
)

__all__ = ["SOURCES", "check_follows", "first_times"]

_VOLUME_EXPONENT: Final = 18
_VPIN_BUCKETS: Final = 50
_WITHOUT_LIMIT: Final = (1 << 63) - 1


class _Reader(Protocol):
    def begin(self, file: str) -> None: ...
    def feed(self, data: bytes, start: int, events_max: int) -> int: ...
    def end(self) -> None: ...
    def pending(self) -> int: ...
    def take(self) -> npt.NDArray[np.uint64]: ...
    def dropped(self) -> Sequence[tuple[str, int]]: ...
    def symbols(self) -> list[str]: ...
    def local_max(self) -> int: ...


class _Scan(Protocol):
    def begin(self, file: str) -> None: ...
    def feed(self, data: bytes) -> None: ...
    def end(self) -> None: ...
    def found(self) -> list[tuple[str, tuple[int, int], tuple[int, int], int]]: ...
    def local_max(self) -> int: ...


def _paths(request: Request) -> tuple[Path, ...]:
    return tuple(path for path in request.inputs if isinstance(path, Path))


def first_times(paths: Sequence[Path]) -> list[int | None]:
    """First local time of each file, None where it does not say; raises `FileOrder` unless they rise."""
    starts = []
    for path in paths:
        lines = unpacked_start(path).split(b"\n")
        read = local_time(next((line for line in lines if line.strip()), b""))
        starts.append(read[0] if read else None)
    check_file_order(paths, starts)
    return starts


def check_follows(paths: Sequence[Path], start: int | None, local_max: int) -> None:
    """Raise `FileOrder` for a file that begins before the one before it ended."""
    if start is not None and start < local_max:
        names = [str(path) for path in paths]
        raise FileOrder(names, names)


def _is_futures(request: Request) -> bool:
    return request.source != "binance-spot"


def infer(request: Request) -> tuple[Instrument, ...]:
    """The instruments of a recording, as a pass over all its files shows them (rule 1.1).

    Raises `EmptyStream` for one without messages, whatever symbol is asked for.
    """
    paths = _paths(request)
    starts = first_times(paths)
    arguments = (_is_futures(request), request.options.on_malformed == "drop", LINE_BYTES_MAX)
    rust = request.backend == "rust"
    scan: _Scan = native.module().BinanceScan(*arguments) if rust else PlainScan(*arguments)
    for path, start in zip(paths, starts, strict=True):
        check_follows(paths, start, scan.local_max())
        scan.begin(str(path))
        for chunk in read_chunks(path):
            scan.feed(chunk)
        scan.end()
    found = scan.found()
    if not found:
        where = ", ".join(str(path) for path in paths[:3])
        hint = "is this the right file, and the right source?"
        raise EmptyStream(f"messages of {request.source} in {where}", hint=hint)
    known = [symbol for symbol, *_ in found]
    if request.symbol is not None and request.symbol not in known:
        raise UnknownSymbol(request.symbol, known)
    return tuple(_instrument(request.source, *one) for one in found if request.symbol in (None, one[0]))


def _instrument(
    venue: str, symbol: str, price: tuple[int, int], qty: tuple[int, int], volume: int
) -> Instrument:
    (price_exponent, tick), (qty_exponent, lot) = price, qty
    bucket = max(lot, volume // 10 ** (_VOLUME_EXPONENT - qty_exponent) // _VPIN_BUCKETS)
    return Instrument(
        venue=venue,
        symbol=symbol,
        price_exponent=price_exponent,
        qty_exponent=qty_exponent,
        tick_size=decimal_text(tick, price_exponent) if tick else None,
        lot_size=decimal_text(lot, qty_exponent) if lot else None,
        vpin_bucket=decimal_text(bucket, qty_exponent) if bucket else None,
        inferred=True,
    )


def read(request: Request) -> Iterator[EventBatch]:
    """The events of one symbol; see `reading.read_events`."""
    instruments = request.instruments
    if instruments is None:
        instruments = infer(request)
    instrument = choose_instrument(instruments, request.symbol, request.source)
    return _Stream(request, instrument).batches()


class _Stream:
    """One pass over the files of a request."""

    def __init__(self, request: Request, instrument: Instrument) -> None:
        self._request = request
        self._paths = _paths(request)
        self._instrument = instrument
        self._files: tuple[SourceFile, ...] = tuple(source_file(path) for path in self._paths)
        self._told: dict[str, int] = {}
        arguments = (
            instrument.symbol,
            instrument.symbol_id,
            instrument.price_exponent,
            instrument.qty_exponent,
            _is_futures(request),
            request.options.on_malformed == "drop",
            LINE_BYTES_MAX,
        )
        rust = request.backend == "rust"
        self._reader: _Reader = native.module().BinanceReader(*arguments) if rust else PlainReader(*arguments)

    def batches(self) -> Iterator[EventBatch]:
        streamed = self._request.events_max is not None
        try:
            yield from self._full_batches(self._request.events_max or _WITHOUT_LIMIT)
        except InputError as error:
            if streamed and self._reader.pending():
                yield self._batch()  # WHY: what stands before an error is computed with (rule 10.1)
            mismatch = (
                exponent_mismatch(error, self._instrument) if isinstance(error, MalformedEvent) else None
            )
            if mismatch is not None:
                raise mismatch from None
            raise
        yield self._batch()

    def _full_batches(self, events_max: int) -> Iterator[EventBatch]:
        reader = self._reader
        starts = first_times(self._paths)
        for path, start in zip(self._paths, starts, strict=True):
            check_follows(self._paths, start, reader.local_max())
            reader.begin(str(path))
            for chunk in read_chunks(path):
                place = 0
                while place < len(chunk):
                    place = reader.feed(chunk, place, events_max)
                    if reader.pending() >= events_max:
                        yield self._batch()
            reader.end()
        self._check_symbol()

    def _check_symbol(self) -> None:
        wanted, seen = self._instrument.symbol, self._reader.symbols()
        if seen and wanted not in seen:
            raise UnknownSymbol(wanted, seen)

    def _batch(self) -> EventBatch:
        dropped = {}
        for reason, count in self._reader.dropped():
            if count > self._told.get(reason, 0):
                dropped[reason] = count - self._told.get(reason, 0)
                self._told[reason] = count
        return EventBatch(
            self._reader.take().view(EVENT_DTYPE),
            (self._instrument,),
            SOURCES[self._request.source].info,
            self._request.options,
            self._files,
            dropped,
            checked=True,
        )


def _source(name: str) -> Source:
    info = SourceInfo(name, sequenced=True, has_snapshots=True, local_time=True, trade_sides=True)
    return Source(info, read, infer, takes_messages=True)


SOURCES: Final = {name: _source(name) for name in ("binance-spot", "binance-usdm", "binance-coinm")}
