"""One stored day: a Parquet file whose footer says everything about it.

Columns are those of a table (`research.tables`) and, last, `@clock_ns`: the time by which rows are asked
for. Row groups of 65,536; pages carry their checksums. The same frames give the same bytes.

Leans on `tables` and pyarrow. Knows nothing of manifests, keys' making or processes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from featureplane.errors import StoreError
from featureplane.features.columns import Columns
from featureplane.features.spec import FeatureSet
from featureplane.research.contents import block_digest
from featureplane.research.store.keys import FORMAT_VERSION
from featureplane.research.store.layout import ROWS_A_GROUP, layout_for
from featureplane.research.tables import table_schema, to_batch

__all__ = [
    "CLOCK",
    "ROWS_A_GROUP",
    "DayFacts",
    "DayWriter",
    "NewerDay",
    "day_batch",
    "day_schema",
    "file_digest",
    "frames_digest",
    "groups_between",
    "read_facts",
]

CLOCK: Final = "@clock_ns"
"""The column of times by which rows are asked for; no feature can be called so."""

_FACTS: Final = "featureplane.store"


class NewerDay(StoreError):
    """A day that a newer version wrote; it is nothing to this one, and not damaged."""


@dataclass(frozen=True, slots=True)
class DayFacts:
    """What is known of a stored day; the manifest's row and the file's footer say the same.

    `parts` are the hashes a key is made of (`keys.PARTS`), `frames` the digest of what is in the columns. A
    file of an older `format` stays what it is: its key says so, and no request makes that key any more.
    """

    key: str
    feature_set: str
    fingerprint: str
    symbol: str
    day: str
    start_ts: int
    end_ts: int
    rows: int
    parts: tuple[str, ...]
    frames: str
    format: int = field(default=FORMAT_VERSION, compare=False)

    def to_json(self) -> str:
        """For the footer."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> DayFacts:
        """From a footer; raises `StoreError` for one of another kind, `NewerDay` for a newer version's."""
        try:
            told = json.loads(text)
            version = int(told["format"])
            if version > FORMAT_VERSION:
                raise NewerDay(
                    f"a day in format {version}, this is format {FORMAT_VERSION}",
                    hint="a newer featureplane wrote it; use that one, or another root",
                )
            return cls(**{**told, "parts": tuple(told["parts"])})
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"a footer that cannot be read ({error})") from None


def day_schema(fset: FeatureSet) -> pa.Schema:
    """The columns of a stored day."""
    return table_schema(fset).append(pa.field(CLOCK, pa.int64(), nullable=False))


def day_batch(
    schema: pa.Schema, columns: Columns, times: npt.NDArray[np.int64], symbols: tuple[str, ...]
) -> pa.RecordBatch:
    """Some frames and their times, over the engine's own buffers."""
    plain = to_batch(schema.remove(len(schema) - 1), columns, symbols)
    return pa.RecordBatch.from_arrays([*plain.columns, pa.array(times, pa.int64())], schema=schema)


class DayWriter:
    """Writes one day to a file of any name; nothing is published here.

    `about_to_write` is told how large the file will be before each row group, and the footer, is written to
    it: they are made in memory. `end` gives what the footer says. On an error the caller closes the writer
    and removes the file.
    """

    def __init__(
        self,
        path: Path,
        fset: FeatureSet,
        symbols: tuple[str, ...],
        level: int,
        about_to_write: Callable[[int], None],
    ) -> None:
        self._schema = day_schema(fset)
        self._symbols = symbols
        self._about_to_write = about_to_write
        self._waiting: list[pa.RecordBatch] = []
        self._rows_waiting = 0
        self._digest = hashlib.sha256()
        self.rows = 0
        self._stream = path.open("wb")
        self._made = _Made()
        self._level = level
        self._writer: pq.ParquetWriter | None = None

    def add(self, columns: Columns, times: npt.NDArray[np.int64]) -> None:
        """Take some frames and their times."""
        if not len(columns):
            return
        self._waiting.append(day_batch(self._schema, columns, times, self._symbols))
        self._rows_waiting += len(columns)
        self.rows += len(columns)
        while self._rows_waiting >= ROWS_A_GROUP:
            self._flush(ROWS_A_GROUP)

    def _flush(self, rows: int) -> None:
        """Write a row group of exactly so many rows: files do not depend on how frames came in."""
        table = pa.Table.from_batches(self._waiting, schema=self._schema)
        group = table.slice(0, rows)
        _digest_rows(self._digest, group)
        self._begun(group).write_table(group, row_group_size=ROWS_A_GROUP)
        self._put()
        self._waiting = table.slice(rows).to_batches()
        self._rows_waiting -= rows
        pa.default_memory_pool().release_unused()

    def _begun(self, group: pa.Table) -> pq.ParquetWriter:
        """The writer, which is made when the first row group shows how columns are best written."""
        if self._writer is None:
            sink, told = pa.PythonFile(self._made, "w"), layout_for(group, changing=CLOCK)
            self._writer = pq.ParquetWriter(
                sink, self._schema, compression_level=self._level, store_schema=False, **told
            )
        return self._writer

    def _put(self) -> None:
        """Write what is made to the file; its size is known by now, which the rows did not tell."""
        self._about_to_write(self._made.size)
        for piece in self._made.taken():
            self._stream.write(piece)
        self._stream.flush()

    def end(self, facts: dict[str, Any]) -> DayFacts:
        """Write what is left, and the footer."""
        if self._rows_waiting:
            self._flush(self._rows_waiting)
        told = DayFacts(**facts, rows=self.rows, frames=self._digest.hexdigest())
        said = {key.decode(): value.decode() for key, value in (self._schema.metadata or {}).items()}
        said[_FACTS] = told.to_json()
        arrow = base64.b64encode(self._schema.with_metadata(said).serialize().to_pybytes())
        writer = self._begun(self._schema.empty_table())
        writer.add_key_value_metadata(said | {"ARROW:schema": arrow.decode("ascii")})
        writer.close()
        self._put()
        self.close()
        return told

    def close(self) -> None:
        """Let go of the file, finished or not."""
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._stream.close()


class _Made(io.RawIOBase):
    """Bytes that are not in the file yet; `size` counts those that are, too."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self.size += len(piece)
        return len(piece)

    def taken(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces


def _digest_rows(digest: Any, table: pa.Table) -> None:
    """Add some rows: each column's values, 0 where they are null, and where they are."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        whole: Any = column.combine_chunks()
        if pa.types.is_dictionary(whole.type):
            whole = whole.indices  # one symbol a day, which the facts name
        valid = b""
        if whole.null_count:
            valid = np.packbits(whole.is_valid().to_numpy(zero_copy_only=False)).tobytes()
        filled = whole.fill_null(0) if whole.null_count else whole
        if pa.types.is_fixed_size_binary(filled.type):
            values: Any = np.frombuffer(b"".join(filled.to_pylist()), np.uint8)
        else:
            values = np.ascontiguousarray(filled.to_numpy(zero_copy_only=False))
        digest.update(name.encode() + b"\0" + block_digest(values) + hashlib.sha256(valid).digest())


def frames_digest(file: pq.ParquetFile) -> str:
    """The digest of what is in the columns of a stored day, read from the file."""
    digest = hashlib.sha256()
    for number in range(file.num_row_groups):
        _digest_rows(digest, file.read_row_group(number))
    return digest.hexdigest()


def read_facts(file: pq.ParquetFile) -> DayFacts:
    """What the footer says; raises `StoreError` for a file of another kind."""
    said = file.schema_arrow.metadata or {}
    text = said.get(_FACTS.encode())
    if text is None:
        raise StoreError("a Parquet file that no store wrote")
    return DayFacts.from_json(text.decode("utf-8", "replace"))


def file_digest(descriptor: int) -> str:
    """The digest of the bytes of an open file, in hex; that of nothing for an empty one."""
    size = os.fstat(descriptor).st_size
    if not size:
        return block_digest(b"").hex()
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as mapped:
        view = memoryview(mapped)
        try:
            return block_digest(view).hex()
        finally:
            view.release()


def groups_between(file: pq.ParquetFile, start_ns: int, end_ns: int) -> Iterator[int]:
    """The row groups that may hold rows of [start, end), by the statistics of their times."""
    place = file.schema_arrow.get_field_index(CLOCK)
    for number in range(file.num_row_groups):
        known: Any = file.metadata.row_group(number).column(place).statistics
        if known is None or not known.has_min_max or (known.min < end_ns and known.max >= start_ns):
            yield number
