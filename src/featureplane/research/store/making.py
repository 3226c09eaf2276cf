"""A missing day, made once: computed under a lease, written, published; or computed and only handed over.

    lease -> compute -> part file -> fsync -> rename -> folder fsync -> manifest row -> lease given back

Leans on everything below it in the store. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from featureplane.clock import seconds_since
from featureplane.features.columns import Columns
from featureplane.research.datasets import Dataset
from featureplane.research.store.dayfile import DayFacts, DayWriter, day_batch, day_schema
from featureplane.research.store.dayrun import FrameClock, day_columns
from featureplane.research.store.hot import MappedDay
from featureplane.research.store.leases import Lease
from featureplane.research.store.manifest import Row
from featureplane.research.store.repair import row_of
from featureplane.research.store.resolving import Resolved, Resolver
from featureplane.research.store.root import Root
from featureplane.research.store.shelf import OpenFile

__all__ = ["FilesChanged", "Maker", "NoRoom"]


class NoRoom(Exception):
    """The store may not grow by as much as this day needs, and nothing more can go."""


class FilesChanged(Exception):
    """A raw file is another one than when the key was made."""


class Maker:
    """Computes and publishes the days of one store."""

    def __init__(self, data: Dataset, resolver: Resolver, root: Root) -> None:
        self._data, self._resolver, self._root = data, resolver, root
        self._clock, self._limits, self._shelf = root.clock, root.limits, root.shelf

    def in_memory(self, resolved: Resolved) -> MappedDay:
        """The day as a table that is stored nowhere; raises `FilesChanged`."""
        schema = day_schema(resolved.feature_set)
        names = (resolved.symbol,)
        batches = [day_batch(schema, columns, times, names) for columns, times in self._frames(resolved)]
        if not resolved.stands():
            raise FilesChanged
        table = pa.Table.from_batches(batches, schema=schema).combine_chunks()
        return MappedDay.of(resolved.key.key, table)

    def publish(self, resolved: Resolved, lease: Lease) -> tuple[Row, OpenFile]:
        """Compute a day into its file and publish it: its row, and the file, open.

        Raises `LeaseLost`, `NoRoom`, `FilesChanged`, and `OSError` where the root cannot take it; nothing of
        it is stored then.
        """
        began = self._clock.monotonic_ns()
        set_id = resolved.feature_set.feature_set_id
        path = self._shelf.day_path(set_id, resolved.symbol, str(resolved.day), resolved.key.key)
        part = self._shelf.part_path(path)
        self._shelf.reached("begun")
        try:
            written = self._write(part, resolved, lease)
            size = part.stat().st_size
            self._reserve(lease, size)
            opened = OpenFile(part)
            checksum = opened.digest()
            if not resolved.stands():
                raise FilesChanged
            identity = self._shelf.publish(part, path, lambda: self._check(lease))
            self._shelf.named(opened, path)
            now_ns = self._clock.wall_ns()
            row = Row.of(
                written,
                str(path),
                size=size,
                checksum=checksum,
                seconds=seconds_since(began, self._clock),
                created_ns=now_ns,
                now_ns=now_ns,
            )
            row = self._record(row, lease)
            self._shelf.vouch(row, identity)
        except FileNotFoundError:
            self._check(lease)  # whoever took it over has swept ours away
            raise
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        self._shelf.reached("recorded")
        self._root.make_room()
        return row, opened

    def adopt(self, resolved: Resolved, lease: Lease) -> Row | None:
        """The row of a day that is stored and has none here; None where there is no such day.

        Where nobody else stores, nobody looks. Raises `LeaseLost`, `NoRoom`, `Unreachable`.
        """
        shelf, fset = self._shelf, resolved.feature_set
        path = shelf.day_path(fset.feature_set_id, resolved.symbol, str(resolved.day), resolved.key.key)
        if not shelf.is_shared or not shelf.has(str(path)):
            return None
        row = row_of(shelf, str(path), self._clock)
        if row is None:
            return None  # what is published goes over it
        self._reserve(lease, row.bytes)
        return self._record(row, lease)

    def write_again(self, part: Path, resolved: Resolved) -> None:
        """Compute a day into a file that is not published; raises `FilesChanged`."""
        self._write(part, resolved, None)
        if not resolved.stands():
            raise FilesChanged

    def _write(self, part: Path, resolved: Resolved, lease: Lease | None) -> DayFacts:
        def about_to_write(size: int) -> None:
            if lease is not None:
                self._shelf.reached("group")
                self._reserve(lease, size)

        writer = DayWriter(
            part, resolved.feature_set, (resolved.symbol,), self._limits.compression_level, about_to_write
        )
        try:
            for columns, times in self._frames(resolved):
                writer.add(columns, times)
            return writer.end(_facts(resolved))
        except BaseException:
            with suppress(OSError, pa.ArrowException):
                writer.close()
            raise

    def _frames(self, resolved: Resolved) -> Iterator[tuple[Columns, Any]]:
        data = self._data
        clock = FrameClock(
            data.instrument(resolved.symbol), data.source_info(resolved.files.own[0]), resolved.day
        )
        start = self._resolver.start(resolved)
        events = self._resolver.events(resolved)
        fset, day = resolved.feature_set, resolved.day
        for columns in day_columns(events, fset, day, start, backend=data.backend):
            if len(columns):
                yield columns, clock.take(columns)

    def _reserve(self, lease: Lease, size: int) -> None:
        """Make sure that so many bytes may be stored; raises `NoRoom`, `LeaseLost`."""
        root, most = self._root, self._limits.bytes_max
        missing = root.leases.reserve(lease, size, most)
        if missing:
            root.flush()  # what was used counts
            root.eviction.free(missing)
            if root.leases.reserve(lease, size, most):
                raise NoRoom

    def _check(self, lease: Lease) -> None:
        self._root.leases.check(lease, self._root.written.connection())

    def _record(self, row: Row, lease: Lease) -> Row:
        manifest = self._root.written
        with manifest.writing() as connection:
            self._root.leases.check(lease, connection)
            told = row.aged(connection.execute("SELECT level FROM aging").fetchone()[0])
            manifest.put(told, connection)
            connection.execute("UPDATE leases SET reserved = 0 WHERE key = ?", (lease.key,))
        return told


def _facts(resolved: Resolved) -> dict[str, Any]:
    fset, day = resolved.feature_set, resolved.day
    return {
        "key": resolved.key.key,
        "feature_set": fset.feature_set_id,
        "fingerprint": fset.fingerprint,
        "symbol": resolved.symbol,
        "day": str(day),
        "start_ts": day.start_ns,
        "end_ts": day.end_ns,
        "parts": resolved.key.parts,
    }
