"""The manifest as a file of DuckDB, for people who ask what is stored in SQL beside their own tables.

A snapshot is of one moment, whole or not there, and never written to: the next one takes its name. Nothing
of the store reads it. DuckDB is optional.

Leans on `root`, `manifest`, `shelf`.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any, Final, get_type_hints

import pyarrow as pa

from featureplane.errors import SettingError, StoreError
from featureplane.research.store.leases import Lease, LeaseLost
from featureplane.research.store.manifest import Row
from featureplane.research.store.root import Root
from featureplane.units import NANOS_PER_MS

__all__ = ["SNAPSHOT_NAME", "publish_snapshot"]

SNAPSHOT_NAME: Final = "manifest.duckdb"
_LEASE: Final = "snapshot:"
_POLL_NS: Final = 20 * NANOS_PER_MS
_READ_ONLY: Final = 0o444
_TYPES: Final = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_SCHEMA: Final = pa.schema(
    [pa.field(name, _TYPES[told], nullable=False) for name, told in get_type_hints(Row).items()]
)


def publish_snapshot(root: Root) -> Path:
    """Write what the manifest knows now into `manifest.duckdb`; where it is.

    Tables `manifest`, as SQLite has it, and `snapshot`, one row with `taken_ns`, UTC. One process after the
    other: who finds another at it waits.

    Raises `SettingError` without DuckDB, `StoreError` for a root that cannot be written.
    """
    try:
        import duckdb  # noqa: PLC0415 - optional
    except ImportError:
        hint = f"{sys.executable} -m pip install duckdb"
        raise SettingError("duckdb is not installed", hint=hint) from None
    if root.read_only:
        raise StoreError(f"{root.path}: cannot be written", hint="take the snapshot where it can be")
    never = threading.Event()
    try:
        while (lease := root.leases.take(_LEASE)) is None:
            root.clock.wait(_POLL_NS, never)
        with root.leases.held(lease):
            return _published(root, lease)
    except (OSError, sqlite3.OperationalError, duckdb.Error) as error:
        raise StoreError(f"{root.path}: no snapshot of the manifest ({error})") from None
    except LeaseLost:
        raise StoreError(f"{root.path}: another process took the snapshot over") from None


def _published(root: Root, lease: Lease) -> Path:
    shelf, manifest = root.shelf.local, root.written
    path = Path(SNAPSHOT_NAME)
    part = shelf.part_path(path)
    log = part.with_name(f"{part.name}.wal")  # DuckDB's own, while it writes
    try:
        now_ns = root.clock.wall_ns()
        _write(part, manifest.rows(), now_ns)
        part.chmod(_READ_ONLY)
        shelf.publish(part, path, lambda: root.leases.check(lease, manifest.connection()))
    finally:
        part.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
    return shelf.root / path


def _write(part: Path, rows: list[Row], now_ns: int) -> None:
    import duckdb  # noqa: PLC0415 - optional

    columns: Any = zip(*rows, strict=True) if rows else [[]] * len(_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    with duckdb.connect(str(part)) as connection:
        connection.register("told", pa.Table.from_arrays(arrays, schema=_SCHEMA))
        connection.execute("CREATE TABLE manifest AS SELECT * FROM told")
        connection.execute("CREATE TABLE snapshot AS SELECT ?::BIGINT AS taken_ns", [now_ns])
