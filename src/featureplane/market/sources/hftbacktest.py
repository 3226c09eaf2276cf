"""hftbacktest arrays: `.npz` (key `data`), `.npy`, arrays in memory, and Parquet.

Only rows for the local side are read (bit 30 of `ev`), in file order. A message is one trade, or
the longest run of book rows with equal `local_ts`, `exch_ts` and `ival`; a row of kind 3, or of
kind 4 after 1, begins a new one (rule 3.11). Prices and sizes are binary floats and are taken as
the decimals they were meant to be (rule 1.1). Rows without a local time (no such column, or 0)
have the venue's. Aggressors count as inferred where there is no local time at all, and on TAIFEX.

Twin of `normalize/hftbacktest.rs`; `PlainReader` is its oracle and stands in for it.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from featureplane import native
from featureplane.errors import MalformedEvent, UnreadableFile
from featureplane.market.events import EVENT_DTYPE, EventFlag, Kind, Side
from featureplane.units import MAGNITUDE_LIMIT

__all__ = ["ROW_DTYPE", "PlainReader", "RowConfig", "Rows", "infer_exponents", "read_rows"]

Array = npt.NDArray[np.void]

ROW_DTYPE: Final = np.dtype(
    [
        ("ev", "<u8"),
        ("exch_ts", "<i8"),
        ("local_ts", "<i8"),
        ("px", "<f8"),
        ("qty", "<f8"),
        ("order_id", "<u8"),
        ("ival", "<i8"),
        ("fval", "<f8"),
    ]
)
"""One row as hftbacktest lays it out, 64 bytes."""

_REQUIRED: Final = ("ev", "exch_ts", "px", "qty")
_CHUNK_ROWS: Final = 1 << 16
_EXPECTED: Final = "an hftbacktest array: `ev, exch_ts, local_ts, px, qty, order_id, ival, fval`"
_HINT: Final = "arrays of hftbacktest 1 (six columns of floats) must be converted with its own tools first"

_LOCAL, _BUY, _SELL, _KIND = 1 << 30, 1 << 29, 1 << 28, 0xFF
_DEPTH, _TRADE, _CLEAR, _SNAPSHOT, _BBO = 1, 2, 3, 4, 5
_I64_MIN: Final = -(1 << 63)
_EXPONENT_MAX: Final = 12
_MANTISSA_MAX: Final = 10**15
_NOISE_MAX: Final = 1e-6


class Rows:
    """Rows of one file or array, in chunks.

    `local_shift_ns` is what a converter of ours added to the local times; `local_time` whether there
    are any. Raises `UnreadableFile` for what is no such file, here or while it is read.
    """

    def __init__(self, source: str | Path | Array) -> None:
        self.name = "array" if isinstance(source, np.ndarray) else str(source)
        self.local_shift_ns = 0
        self.local_time = True
        self._source = source
        self._parquet = self.name.endswith((".parquet", ".pq"))
        if isinstance(source, np.ndarray):
            self._check_dtype(source.dtype, source.ndim)
        elif self._parquet:
            self._open_parquet()
        elif self.name.endswith(".npz"):
            self._open_npz()

    def chunks(self) -> Iterator[Array]:
        """Arrays of `ROW_DTYPE`, at most 65,536 rows each; may be asked for again."""
        if isinstance(self._source, np.ndarray):
            yield from _slices(self._source)
        elif self._parquet:
            yield from self._parquet_chunks()
        elif self.name.endswith(".npz"):
            yield from self._npz_chunks()
        else:
            yield from self._npy_chunks()

    def _unreadable(self, found: str, expected: str = _EXPECTED, hint: str | None = None) -> UnreadableFile:
        return UnreadableFile(self.name, found, expected, hint=hint)

    def _check_dtype(self, dtype: np.dtype[Any], ndim: int) -> None:
        if ndim != 1 or dtype.names != ROW_DTYPE.names or dtype.itemsize != ROW_DTYPE.itemsize:
            found = f"{ndim} dimensions of {dtype if dtype.names is None else ', '.join(dtype.names)}"
            raise self._unreadable(found[:120], hint=_HINT)
        for field in ROW_DTYPE.names or ():
            if dtype[field] != ROW_DTYPE[field]:
                raise self._unreadable(f"`{field}` as {dtype[field]}", f"`{field}` as {ROW_DTYPE[field]}")

    # -- NumPy files

    def _open_npz(self) -> None:
        with self._zip() as archive:
            names = archive.namelist()
            if "data.npy" not in names:
                raise self._unreadable(
                    f"an archive of {', '.join(names)[:100] or 'nothing'}", "the key `data`"
                )
            if "local_shift_ns.npy" in names:
                with archive.open("local_shift_ns.npy") as stream:
                    dtype, shape = self._header(stream)
                    shift = self._take(stream, 1, dtype)
                if shape not in ((), (1,)) or dtype.kind not in "iu" or len(shift) != 1:
                    raise self._unreadable("another `local_shift_ns`", "one integer")
                self.local_shift_ns = int(shift[0])

    def _npz_chunks(self) -> Iterator[Array]:
        with self._zip() as archive, archive.open("data.npy") as stream:
            yield from self._stream(stream)

    def _npy_chunks(self) -> Iterator[Array]:
        try:
            with Path(self.name).open("rb") as stream:
                yield from self._stream(stream)
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None

    def _zip(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.name)
        except zipfile.BadZipFile:
            raise self._unreadable("no zip archive", "an `.npz` file") from None
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None

    def _header(self, stream: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
        try:
            version = np.lib.format.read_magic(stream)
            read: dict[
                tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype[Any]]]
            ] = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = read[version](stream)
        except (ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
            raise self._unreadable(f"no NumPy header ({str(error)[:80]})", "an `.npy` array") from None
        if fortran and len(shape) > 1:
            raise self._unreadable("an array in Fortran order")
        return dtype, shape

    def _take(self, stream: IO[bytes], count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        wanted = count * dtype.itemsize
        parts: list[bytes] = []
        while wanted:
            try:
                part = stream.read(wanted)
            except (zlib.error, zipfile.BadZipFile, EOFError, OSError) as error:
                raise self._unreadable(f"damaged data ({error})", "an archive as it was written") from None
            if not part:
                raise self._unreadable(f"{wanted} bytes less than its header says", "the whole array")
            parts.append(part)
            wanted -= len(part)
        return np.frombuffer(b"".join(parts), dtype)

    def _stream(self, stream: IO[bytes]) -> Iterator[Array]:
        dtype, shape = self._header(stream)
        self._check_dtype(dtype, len(shape))
        left = shape[0]
        while left:
            rows = self._take(stream, min(left, _CHUNK_ROWS), dtype)
            left -= len(rows)
            yield rows

    # -- Parquet

    def _open_parquet(self) -> None:
        try:
            with pq.ParquetFile(self.name) as file:
                schema = file.schema_arrow
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)[:120], "a Parquet file") from None
        except pa.ArrowException as error:
            raise self._unreadable(f"no Parquet ({str(error)[:120]})", "a Parquet file") from None
        missing = [name for name in _REQUIRED if name not in schema.names]
        if missing:
            found = f"the columns {', '.join(schema.names)}"
            raise self._unreadable(found[:120], f"`{'`, `'.join(missing)}` among them")
        self.local_time = "local_ts" in schema.names
        shift = (schema.metadata or {}).get(b"local_shift_ns", b"0")
        if not shift.removeprefix(b"-").isdigit():
            raise self._unreadable(f"local_shift_ns {shift[:20]!r}", "an integer in the metadata")
        self.local_shift_ns = int(shift)

    def _parquet_chunks(self) -> Iterator[Array]:
        names = [name for name in ROW_DTYPE.names or () if name != "fval"]
        first = 0
        try:
            with pq.ParquetFile(self.name) as file:
                columns = [name for name in names if name in file.schema_arrow.names]
                for batch in file.iter_batches(batch_size=_CHUNK_ROWS, columns=columns):
                    yield self._from_batch(batch, first)
                    first += batch.num_rows
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)[:120], "a Parquet file") from None
        except pa.ArrowException as error:
            raise self._unreadable(f"damaged data ({str(error)[:120]})", "a Parquet file") from None

    def _from_batch(self, batch: pa.RecordBatch, first: int) -> Array:
        rows = np.zeros(batch.num_rows, ROW_DTYPE)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if column.null_count:
                row = first + 1 + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
                raise MalformedEvent(f"no `{name}`", "a value", file=self.name, line=row)
            rows[name] = column.cast(pa.from_numpy_dtype(ROW_DTYPE[name])).to_numpy(zero_copy_only=False)
        return rows


def _slices(rows: Array) -> Iterator[Array]:
    for first in range(0, len(rows), _CHUNK_ROWS):
        yield np.ascontiguousarray(rows[first : first + _CHUNK_ROWS])


# -- floats as the decimals they were meant to be


def on_grid(x: float, exponent: int) -> int | None:
    """`x` in units of 10^-exponent, or None if it is no multiple of one (rule 1.1)."""
    scale = 10.0**exponent
    product = x * scale
    if not math.isfinite(product) or abs(product) > 1 << 53:
        return None
    n = round(product)
    return n if abs(product - n) <= _NOISE_MAX or n / scale == x else None


def _exponent(x: float, least: int) -> int:
    """The least exponent from `least` on that fits: exact within 15 digits, else within the noise."""
    for e in range(least, _EXPONENT_MAX + 1):
        n = on_grid(x, e)
        if n is not None and abs(n) <= _MANTISSA_MAX and n / 10.0**e == x:
            return e
    near = (e for e in range(least, _EXPONENT_MAX + 1) if on_grid(x, e) is not None)
    return next(near, least)


def _plain_precision(rows: Array, price: int, qty: int) -> tuple[int, int]:
    for ev, _, _, px, size, *_ in rows.tolist():
        kind = ev & _KIND
        if not ev & _LOCAL or not _DEPTH <= kind <= _BBO:
            continue
        if kind != _CLEAR:
            price, qty = _exponent(px, price), _exponent(size, qty)
        elif ev & (_BUY | _SELL):
            price = _exponent(px, price)
    return price, qty


def infer_exponents(rows: Rows, backend: str = "auto", price: int = 0, qty: int = 0) -> tuple[int, int]:
    """The first pass: decimals of prices and sizes, at least those given.

    A value that no exponent fits is left for the reader to refuse, with its row.
    """
    rust = native.resolve(backend) == "rust"
    for chunk in rows.chunks():
        if rust:
            price, qty = native.module().hftbacktest_precision(chunk.view(np.uint64), price, qty)
        else:
            price, qty = _plain_precision(chunk, price, qty)
    return price, qty


# -- rows to events


def read_rows(
    rows: Rows,
    *,
    symbol_id: int,
    price_exponent: int,
    qty_exponent: int,
    side_inferred: bool = False,
    backend: str = "auto",
    dropped: Counter[str] | None = None,
) -> Iterator[Array]:
    """Events in chunks of whole messages; reasons of rows that became none are added to `dropped`.

    Raises `MalformedEvent` with the row, counted from 1, behind the events of all messages before.
    """
    config = RowConfig(
        symbol_id, price_exponent, qty_exponent, rows.local_shift_ns, rows.local_time, side_inferred
    )
    rust = native.resolve(backend) == "rust"
    reader = native.module().HftbacktestReader(*config) if rust else PlainReader(config)
    error = None
    for chunk in rows.chunks():
        events, error = reader.feed(chunk.view(np.uint64))
        yield events.view(EVENT_DTYPE)
        if error is not None:
            break
    else:
        yield reader.finish().view(EVENT_DTYPE)
    if dropped is not None:
        dropped.update({reason: count for reason, count in reader.dropped() if count})
    if error is not None:
        raise MalformedEvent(error.found, error.expected, file=rows.name, line=error.line) from None


class RowConfig(NamedTuple):
    """What must be known to read rows into events; the arguments of the native reader."""

    symbol_id: int
    price_exponent: int
    qty_exponent: int
    local_shift_ns: int
    local_time: bool
    side_inferred: bool


class PlainReader:
    """The reference: rows to events, one at a time. The interface is that of the native reader."""

    def __init__(self, config: RowConfig) -> None:
        self._config = config
        self._row = 0
        self._open: list[tuple[int, ...]] = []
        self._key: tuple[int, int, int] | None = None
        self._last_kind = 0
        self._counts = {"not_local": 0, "unknown_kind": 0, "empty_trade": 0}

    def feed(self, rows: npt.NDArray[np.uint64]) -> tuple[Array, MalformedEvent | None]:
        """The events of the messages that `rows` complete, and the error that ends the stream, if any."""
        done: list[tuple[int, ...]] = []
        for row in rows.view(ROW_DTYPE).tolist():
            self._row += 1
            try:
                self._take(row, done)
            except MalformedEvent as error:
                return np.array(done, EVENT_DTYPE), error
        return np.array(done, EVENT_DTYPE), None

    def finish(self) -> Array:
        """The events of the message left open."""
        done: list[tuple[int, ...]] = []
        self._close(done)
        return np.array(done, EVENT_DTYPE)

    def dropped(self) -> list[tuple[str, int]]:
        """Rows that became no event, by reason."""
        return list(self._counts.items())

    def _take(self, row: tuple[Any, ...], done: list[tuple[int, ...]]) -> None:
        ev, exch_ts, local_ts, _, qty, _, ival, _ = row
        kind = ev & _KIND
        if not ev & _LOCAL:
            self._counts["not_local"] += 1
        elif not _DEPTH <= kind <= _BBO:
            self._counts["unknown_kind"] += 1
        elif kind == _TRADE and qty == 0:
            self._counts["empty_trade"] += 1
        else:
            key = (local_ts, exch_ts, ival)
            if not self._continues(key, kind, ev):
                self._close(done)
            event = self._event(row, kind)
            if self._open and self._open[-1][7] != event[7]:
                raise self._malformed(f"order_id {row[5]}", "one order_id in the rows of one message")
            self._open.append(event)
            self._key, self._last_kind = key, kind
            if kind == _TRADE or (kind == _BBO and event[1] == Side.ASK):
                self._close(done)

    def _continues(self, key: tuple[int, int, int], kind: int, ev: int) -> bool:
        if not self._open or key != self._key:
            return False
        if self._last_kind == _BBO:
            return kind == _BBO and bool(ev & _SELL)
        return kind == _DEPTH or (kind == _SNAPSHOT and self._last_kind != _DEPTH)

    def _close(self, done: list[tuple[int, ...]]) -> None:
        if self._open:
            kind, side, flags, *rest = self._open[-1]
            self._open[-1] = (kind, side, flags | EventFlag.LAST, *rest)
            done += self._open
            self._open = []

    def _event(self, row: tuple[Any, ...], kind: int) -> tuple[int, ...]:
        ev, exch_ts, local_ts, px, qty, order_id, ival, _ = row
        side = self._side(ev, kind)
        flags, price, size = 0, 0, 0
        if kind == _TRADE and self._config.side_inferred and side:
            flags = int(EventFlag.SIDE_INFERRED)
        if kind in (_CLEAR, _SNAPSHOT):
            flags = int(EventFlag.RECOVERY)
        if kind == _CLEAR and side and math.isfinite(px):
            flags |= int(EventFlag.BOUND)
        has_ids = kind not in (_TRADE, _BBO) and ival != 0
        if has_ids and ival < 0:
            raise self._malformed(f"ival {ival}", "an id, or 0")
        if kind != _CLEAR or flags & EventFlag.BOUND:
            price = self._scaled("px", px, self._config.price_exponent)
        if kind != _CLEAR:
            size = self._scaled("qty", qty, self._config.qty_exponent)
            if size < 0:
                raise self._malformed(f"qty {qty!r}", "a size of at least 0")
        ids = (ival, order_id) if has_ids else (0, 0)
        local = self._local(exch_ts, local_ts)
        return (_KINDS[kind], side, flags, self._config.symbol_id, price, size, 0, *ids, exch_ts, local)

    def _side(self, ev: int, kind: int) -> int:
        sides = ev & (_BUY | _SELL)
        if sides == _BUY:
            return Side.BID
        if sides == _SELL:
            return Side.ASK
        if sides == 0 and kind in (_TRADE, _CLEAR):
            return Side.NONE
        raise self._malformed(f"ev {ev:#x}", "one of the bits 29 (buy) and 28 (sell)")

    def _local(self, exch_ts: int, local_ts: int) -> int:
        if not self._config.local_time or local_ts == 0:
            return exch_ts
        local = local_ts - self._config.local_shift_ns
        if not _I64_MIN <= local < -_I64_MIN:
            raise self._malformed(f"local_ts {local_ts}", "a time in nanoseconds")
        return local

    def _scaled(self, name: str, x: float, exponent: int) -> int:
        n = on_grid(x, exponent)
        if n is None or abs(n) >= MAGNITUDE_LIMIT:
            expected = f"a multiple of 10^-{exponent} below 2^53 such units in magnitude"
            raise self._malformed(f"{name} {x!r}", expected)
        return n

    def _malformed(self, found: str, expected: str) -> MalformedEvent:
        return MalformedEvent(found, expected, line=self._row)


_KINDS: Final = {
    _DEPTH: int(Kind.LEVEL),
    _TRADE: int(Kind.TRADE),
    _CLEAR: int(Kind.CLEAR),
    _SNAPSHOT: int(Kind.SNAPSHOT_LEVEL),
    _BBO: int(Kind.QUOTE),
}
