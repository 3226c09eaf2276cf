"""The hot tier: days as Arrow files without compression, mapped; opened and sliced without being read.

A hot file is a copy of a stored day and may be dropped at any time. It is used only while it is the very
file that was written: the manifest knows its identity, so one that anybody wrote to is left alone, and a
digest of its bytes, by which damage that no time of change tells is found when somebody looks for it.

Leans on `shelf` and `manifest`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featureplane.research.contents import Identity, identity_of
from featureplane.research.store.dayfile import CLOCK, file_digest
from featureplane.research.store.manifest import Row
from featureplane.research.store.shelf import HOT, Damaged, Gone, OpenFile, Shelf

__all__ = ["MappedDay", "check_hot", "hot_bytes", "hot_path", "open_hot", "publish_hot"]

_KEY: Final = b"featureplane.key"
_IN_ORDER: Final = pa.ipc.IpcReadOptions(use_threads=False)


@dataclass(frozen=True, slots=True)
class MappedDay:
    """A day whose columns can be sliced at once; `times` are those by which rows are asked for."""

    key: str
    table: pa.Table  # without the times
    times: npt.NDArray[np.int64]
    opened: OpenFile | None  # None: in memory alone

    @classmethod
    def of(cls, key: str, table: pa.Table, opened: OpenFile | None = None) -> MappedDay:
        """Over a table with its times, whose columns are in one piece each."""
        times: Any = table.column(CLOCK).to_numpy()
        return cls(key, table.drop_columns([CLOCK]), np.ascontiguousarray(times, np.int64), opened)

    @property
    def is_current(self) -> bool:
        """Whether its file is still there and nobody wrote to it since it was opened."""
        opened = self.opened
        return opened is None or identity_of(os.fstat(opened.descriptor)) == opened.identity

    def between(self, start_ns: int, end_ns: int) -> pa.Table:
        """The rows with times in [start, end), a view."""
        first = int(self.times.searchsorted(start_ns))
        return self.table.slice(first, int(self.times.searchsorted(end_ns)) - first)

    def with_times(self, columns: list[str]) -> pa.Table:
        """Columns of the whole day, its times among them where they are asked for."""
        times = pa.array(self.times, pa.int64())
        return self.table.append_column(pa.field(CLOCK, pa.int64(), nullable=False), times).select(columns)


def hot_path(key: str) -> Path:
    """Where a hot day lies, relative to the root."""
    return Path(HOT, f"{key}.arrow")


def _said(identity: Identity, digest: str) -> str:
    """Which file it is and what its bytes are, as the manifest has it."""
    return ",".join([*map(str, identity), digest])


def _with_key(table: pa.Table, key: str) -> pa.Table:
    own = {**(table.schema.metadata or {}), _KEY: key.encode()}
    return table.replace_schema_metadata(own).combine_chunks()


def hot_bytes(table: pa.Table, key: str) -> int:
    """How large the hot file of a day will be."""
    counted = pa.MockOutputStream()
    _write(counted, _with_key(table, key))
    return int(counted.size())


def publish_hot(shelf: Shelf, table: pa.Table, key: str, fenced: Callable[[], None]) -> tuple[int, str]:
    """Write the hot file of a day: what the manifest is to know as `hot_bytes` and `hot_identity`.

    `fenced` raises where it must not have its name.
    """
    path = hot_path(key)
    part = shelf.part_path(path)
    try:
        with pa.OSFile(str(part), "wb") as stream:
            _write(stream, _with_key(table, key))
        with part.open("rb") as written:
            digest = file_digest(written.fileno())
        identity = shelf.publish(part, path, fenced)
    finally:
        part.unlink(missing_ok=True)
    return identity[2], _said(identity, digest)


def _write(stream: Any, table: pa.Table) -> None:
    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(len(table), 1))


def open_hot(shelf: Shelf, row: Row) -> MappedDay:
    """Map a hot day; raises `Damaged` unless it is the file that was written for this key."""
    opened = _opened(shelf, row)
    try:
        file = pa.ipc.open_file(pa.BufferReader(opened.buffer()), options=_IN_ORDER)
        batches = [file.get_batch(number) for number in range(file.num_record_batches)]
        table = pa.Table.from_batches(batches, schema=file.schema)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(str(error)) from None
    if (table.schema.metadata or {}).get(_KEY) != row.key.encode() or len(table) != row.rows:
        raise Damaged("a hot file of another day")
    own = {name: value for name, value in table.schema.metadata.items() if name != _KEY}
    return MappedDay.of(row.key, table.replace_schema_metadata(own), opened)


def check_hot(shelf: Shelf, row: Row) -> None:
    """Raise `Damaged` unless every byte of a hot file is the one that was written; reads all of it."""
    opened = _opened(shelf, row)
    try:
        found = file_digest(opened.descriptor)
    except OSError as error:
        raise Damaged(error.strerror or str(error)) from None
    if _said(opened.identity, found) != row.hot_identity:
        raise Damaged("a hot file with other bytes than were written")


def _opened(shelf: Shelf, row: Row) -> OpenFile:
    try:
        opened = OpenFile(shelf.root / hot_path(row.key), locked=False)  # what is mapped stays readable
    except FileNotFoundError:
        raise Gone("no such file") from None
    except OSError as error:
        raise Damaged(error.strerror or str(error)) from None
    if _said(opened.identity, row.hot_identity.rpartition(",")[2]) != row.hot_identity:
        raise Damaged("a hot file that somebody wrote to")
    return opened
