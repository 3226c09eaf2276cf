"""hftbacktest's rows out of `.npz` (key `data`), `.npy`, Parquet and arrays in memory.

Knows how files hold rows, not what a row means.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from featureplane.errors import MalformedEvent, UnreadableFile

__all__ = ["ROW_DTYPE", "Rows"]

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
_READ_BYTES: Final = 1 << 16
_EXPECTED: Final = "an hftbacktest array: `ev, exch_ts, local_ts, px, qty, order_id, ival, fval`"
_HINT: Final = "arrays of hftbacktest 1 (six columns of floats) must be converted with its own tools first"


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
                    if shape not in {(), (1,)} or dtype.kind not in "iu":
                        raise self._unreadable("another `local_shift_ns`", "one integer")
                    self.local_shift_ns = int(self._take(stream, 1, dtype)[0])

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
        taken = np.empty(count, dtype)
        room = taken.view(np.uint8).data
        while room:
            try:
                # WHY in pieces: an archive makes as much again of what it is asked for.
                part = stream.read(min(len(room), _READ_BYTES))
            except (zlib.error, zipfile.BadZipFile, EOFError, OSError) as error:
                raise self._unreadable(f"damaged data ({error})", "an archive as it was written") from None
            if not part:
                raise self._unreadable(f"{len(room)} bytes less than its header says", "the whole array")
            room[: len(part)] = part
            room = room[len(part) :]
        return taken

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
            # Read ahead and by several threads, a file would need memory by the size of its row groups.
            with pq.ParquetFile(self.name, buffer_size=1 << 16, pre_buffer=False) as file:
                columns = [name for name in names if name in file.schema_arrow.names]
                for batch in file.iter_batches(_CHUNK_ROWS, columns=columns, use_threads=False):
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
