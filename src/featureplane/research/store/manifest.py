"""The manifest: one SQLite file in WAL mode that says which days are stored, used and being computed.

Readers are never blocked, a crash leaves it whole, and all of it that matters can be made anew from the
footers of the files (`research.repair`). Each thread of each process has a connection of its own.

Knows nothing of what a day is computed from.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from featureplane.clock import SYSTEM
from featureplane.errors import StoreError
from featureplane.research.contents import Identity
from featureplane.research.store.dayfile import DayFacts
from featureplane.units import NANOS_PER_MS, NANOS_PER_SECOND

__all__ = ["LEASE_DEAD_NS", "MANIFEST_NAME", "Manifest", "Row", "UnreadableManifest"]

LEASE_DEAD_NS: Final = 15 * NANOS_PER_SECOND
"""Who has not renewed a lease for so long does not hold it any more."""

MANIFEST_NAME: Final = "manifest.sqlite"
_VERSION: Final = 2
_CHECK_BYTES: Final = 8
_BUSY_SECONDS: Final = 30.0
_SECONDS_LEAST: Final = 1e-3  # as in `note_uses`

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS manifest (
  key TEXT PRIMARY KEY, feature_set TEXT NOT NULL, fingerprint TEXT NOT NULL, symbol TEXT NOT NULL,
  day TEXT NOT NULL, start_ts INTEGER NOT NULL, end_ts INTEGER NOT NULL, rows INTEGER NOT NULL,
  parts TEXT NOT NULL, frames TEXT NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL,
  checksum TEXT NOT NULL, seconds REAL NOT NULL, created_ns INTEGER NOT NULL, accessed_ns INTEGER NOT NULL,
  uses INTEGER NOT NULL DEFAULT 0, pinned INTEGER NOT NULL DEFAULT 0, hot_bytes INTEGER NOT NULL DEFAULT 0,
  hot_identity TEXT NOT NULL DEFAULT '', priority REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS idx_symbol_timestamp ON manifest (symbol, start_ts, end_ts);
CREATE INDEX IF NOT EXISTS idx_priority ON manifest (priority, accessed_ns);
CREATE TABLE IF NOT EXISTS gone (
  key TEXT PRIMARY KEY, symbol TEXT NOT NULL, day TEXT NOT NULL, reason TEXT NOT NULL, at_ns INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS leases (
  key TEXT PRIMARY KEY, holder TEXT NOT NULL, token INTEGER NOT NULL, taken_ns INTEGER NOT NULL,
  renewed_ns INTEGER NOT NULL, reserved INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS tokens (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL);
INSERT OR IGNORE INTO tokens VALUES (1, 0);
CREATE TABLE IF NOT EXISTS aging (one INTEGER PRIMARY KEY CHECK (one = 1), level REAL NOT NULL);
INSERT OR IGNORE INTO aging VALUES (1, 0);
CREATE TABLE IF NOT EXISTS sums (
  one INTEGER PRIMARY KEY CHECK (one = 1), days INTEGER NOT NULL, bytes INTEGER NOT NULL,
  hot_days INTEGER NOT NULL, hot_bytes INTEGER NOT NULL
);
INSERT OR REPLACE INTO sums SELECT 1, count(*), ifnull(sum(bytes), 0), ifnull(sum(hot_bytes > 0), 0),
  ifnull(sum(hot_bytes), 0) FROM manifest;
CREATE TRIGGER IF NOT EXISTS sums_put AFTER INSERT ON manifest BEGIN
  UPDATE sums SET days = days + 1, bytes = bytes + NEW.bytes, hot_days = hot_days + (NEW.hot_bytes > 0),
    hot_bytes = hot_bytes + NEW.hot_bytes;
END;
CREATE TRIGGER IF NOT EXISTS sums_dropped AFTER DELETE ON manifest BEGIN
  UPDATE sums SET days = days - 1, bytes = bytes - OLD.bytes, hot_days = hot_days - (OLD.hot_bytes > 0),
    hot_bytes = hot_bytes - OLD.hot_bytes;
END;
CREATE TRIGGER IF NOT EXISTS sums_changed AFTER UPDATE OF bytes, hot_bytes ON manifest BEGIN
  UPDATE sums SET bytes = bytes + NEW.bytes - OLD.bytes,
    hot_days = hot_days + (NEW.hot_bytes > 0) - (OLD.hot_bytes > 0),
    hot_bytes = hot_bytes + NEW.hot_bytes - OLD.hot_bytes;
END;
CREATE TABLE IF NOT EXISTS contents (identity TEXT PRIMARY KEY, digest BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, body TEXT NOT NULL);
"""


_INHERITED: Final[list[sqlite3.Connection]] = []
"""Connections of the process that we were forked from: never used here, and never closed."""


class Row(NamedTuple):
    """A stored day as the manifest knows it, column by column; `path` is relative to the root.

    `seconds` is what computing it took, `uses` how often it was asked for since. `hot_bytes` is above 0
    while it lies in the hot tier too, in the file that `hot_identity` tells, with the digest of its bytes.
    What has the lowest `priority` is evicted first (`research.eviction`).
    """

    key: str
    feature_set: str
    fingerprint: str
    symbol: str
    day: str
    start_ts: int
    end_ts: int
    rows: int
    parts: str
    frames: str
    path: str
    bytes: int
    checksum: str
    seconds: float
    created_ns: int
    accessed_ns: int
    uses: int = 0
    pinned: int = 0
    hot_bytes: int = 0
    hot_identity: str = ""
    priority: float = 0.0

    @classmethod
    def of(
        cls,
        facts: DayFacts,
        path: str,
        *,
        size: int,
        checksum: str,
        seconds: float,
        created_ns: int,
        now_ns: int,
    ) -> Row:
        """The row of a day that is being stored."""
        f = facts
        day = f.key, f.feature_set, f.fingerprint, f.symbol, f.day, f.start_ts, f.end_ts, f.rows
        return cls(*day, ",".join(f.parts), f.frames, path, size, checksum, seconds, created_ns, now_ns)

    @property
    def facts(self) -> DayFacts:
        """What the footer of its file says."""
        return DayFacts(*self[:8], tuple(self.parts.split(",")), self.frames)

    def aged(self, level: float) -> Row:
        """The row with the priority it has when the level of eviction is this one."""
        worth = (self.uses + 1) * max(self.seconds, _SECONDS_LEAST) / max(self.bytes, 1)
        return self._replace(priority=level + worth)


_EVERYTHING: Final = tuple(
    f"SELECT * FROM {name}"  # noqa: S608 - constants
    for name in ("manifest", "gone", "leases", "tokens", "aging", "sums", "contents", "facts")
)
_BYTES_FOR_TEXT: Final = (
    "SELECT 1 FROM manifest WHERE typeof(parts) != 'text' OR typeof(path) != 'text' "
    "OR typeof(hot_identity) != 'text' LIMIT 1"
)
_COLUMNS: Final = ", ".join(Row._fields)
_FIND: Final = f"SELECT {_COLUMNS} FROM manifest WHERE key = ?"  # noqa: S608 - a constant


class UnreadableManifest(StoreError):
    """A manifest that is there and cannot be opened, not even for reading."""


class _Connection(sqlite3.Connection):
    """WHY: of a message about a damaged name Python says that it cannot be decoded, and not what it is."""

    def execute(self, *given: Any) -> sqlite3.Cursor:
        try:
            return super().execute(*given)
        except UnicodeDecodeError:
            raise sqlite3.DatabaseError("damaged names") from None

    def executescript(self, script: str, /) -> sqlite3.Cursor:
        try:
            return super().executescript(script)
        except UnicodeDecodeError:
            raise sqlite3.DatabaseError("damaged names") from None


class Manifest:
    """The manifest of a root; made if it is not there, unless `read_only`.

    Raises `StoreError` for one that a newer version wrote, and `sqlite3.DatabaseError` for one that is
    damaged, whenever that shows.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.path = root / MANIFEST_NAME
        self.read_only = read_only
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []
        self._pid = os.getpid()
        self.connection()

    def connection(self) -> sqlite3.Connection:
        """That of this thread of this process: one that was inherited by a fork is not used."""
        local, pid = self._local, os.getpid()
        if getattr(local, "pid", None) != pid:
            if pid != self._pid:
                _INHERITED.extend(self._open)
                self._open, self._pid = [], pid
            local.connection, local.pid = self._connected(), pid
        found: sqlite3.Connection = local.connection
        return found

    def _connected(self) -> sqlite3.Connection:
        options: dict[str, Any] = {
            "factory": _Connection,
            "timeout": _BUSY_SECONDS,
            "isolation_level": None,
            "cached_statements": 256,
            "check_same_thread": False,  # closed by whoever closes the store
        }
        made: sqlite3.Connection
        made = self._reading(options) if self.read_only else sqlite3.connect(self.path, **options)
        version = made.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            made.close()
            raise StoreError(
                f"{self.path.parent}: a root in format {version}, this is format {_VERSION}",
                hint="a newer featureplane wrote it; use that one, or another root",
            )
        if self.read_only and not version:  # a full disk took the name of the file alone
            made.close()
            raise UnreadableManifest(f"{self.path}: nothing is in it")
        if not self.read_only:
            _write_ahead(made)
            made.execute("PRAGMA synchronous = NORMAL")
            if version < _VERSION:
                made.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
        with self._lock:
            self._open.append(made)
        return made

    def _reading(self, options: dict[str, Any]) -> sqlite3.Connection:
        """WHY the second way: a WAL needs a file beside it, which a read-only folder cannot take."""
        for ending in ("mode=ro", "mode=ro&immutable=1"):
            uri = f"{self.path.absolute().as_uri()}?{ending}"
            made: sqlite3.Connection = sqlite3.connect(uri, uri=True, **options)
            try:
                made.execute("PRAGMA user_version").fetchone()
            except sqlite3.OperationalError:
                made.close()
            else:
                return made
        raise UnreadableManifest(f"{self.path}: cannot be opened for reading")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that writes; all of it happens or nothing does."""
        connection = self.connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")  # may fail: on a full disk
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close_here(self) -> None:
        """Close the connection of this thread; others may be at work with theirs."""
        local = self._local
        if getattr(local, "pid", None) == os.getpid():
            with self._lock:
                self._open = [one for one in self._open if one is not local.connection]
            local.connection.close()
            del local.connection, local.pid

    def close(self) -> None:
        """Close the connections of this process, whose threads are at work with none."""
        with self._lock:
            opened, self._open = self._open, []
        for connection in opened:
            connection.close()
        self._local = threading.local()

    # -- days

    def find(self, key: str) -> Row | None:
        """The stored day of that key."""
        told = self.connection().execute(_FIND, (key,)).fetchone()
        if told is None:
            return None
        row = Row._make(told)
        if not row.parts.__class__ is row.path.__class__ is row.hot_identity.__class__ is str:
            raise sqlite3.DatabaseError("text that is stored as bytes")
        return row

    def rows(
        self,
        where: str = "",
        values: Iterable[Any] = (),
        *,
        order: str = "symbol, start_ts, feature_set, key",
        most: int = -1,
    ) -> list[Row]:
        """All stored days, or those of a condition; both texts are ours, never a user's."""
        condition = f" WHERE {where}" if where else ""
        text = f"SELECT {_COLUMNS} FROM manifest{condition} ORDER BY {order} LIMIT {most}"  # noqa: S608 - see above
        return [Row._make(told) for told in self.connection().execute(text, tuple(values))]

    def put(self, row: Row, connection: sqlite3.Connection) -> None:
        """Write a row, in the place of one of the same key."""
        marks = ", ".join("?" * len(row))
        text = f"INSERT INTO manifest ({_COLUMNS}) VALUES ({marks})"  # noqa: S608 - a constant
        connection.execute("DELETE FROM manifest WHERE key = ?", (row.key,))  # REPLACE tells no trigger
        connection.execute(text, row)
        connection.execute("DELETE FROM gone WHERE key = ?", (row.key,))

    def is_current(self, row: Row, connection: sqlite3.Connection) -> bool:
        """Whether a day still stands there as it was read: not gone, and not stored anew."""
        text = "SELECT 1 FROM manifest WHERE key = ? AND created_ns = ?"
        return connection.execute(text, (row.key, row.created_ns)).fetchone() is not None

    def mark_gone(self, row: Row, reason: str, now_ns: int, connection: sqlite3.Connection) -> None:
        """Say why a day goes, before its file does: who finds the file gone does not take it for lost."""
        told = (row.key, row.symbol, row.day, reason, now_ns)
        connection.execute("INSERT OR REPLACE INTO gone VALUES (?, ?, ?, ?, ?)", told)

    def drop(self, row: Row, reason: str, now_ns: int, connection: sqlite3.Connection) -> None:
        """Forget a stored day, and remember why; not if it was stored anew meanwhile."""
        if self.is_current(row, connection):
            connection.execute("DELETE FROM manifest WHERE key = ?", (row.key,))
            self.mark_gone(row, reason, now_ns, connection)

    def forget_hot(self, row: Row, connection: sqlite3.Connection) -> None:
        """Let a day lie in the hot tier no more, unless it got another file there meanwhile."""
        text = "UPDATE manifest SET hot_bytes = 0, hot_identity = '' WHERE key = ? AND hot_identity = ?"
        connection.execute(text, (row.key, row.hot_identity))

    def why_gone(self, key: str) -> str | None:
        """Why a day that was stored is not any more: `evicted`, `corrupt`, `cleared`."""
        told = self.connection().execute("SELECT reason FROM gone WHERE key = ?", (key,)).fetchone()
        return None if told is None else str(told[0])

    def totals(self) -> tuple[int, int, int, int]:
        """Days stored, their bytes, days in the hot tier, and the bytes there; kept along, not added up."""
        if self.read_only:
            return self.counted()
        text = "SELECT days, bytes, hot_days, hot_bytes FROM sums"
        days, size, hot_days, hot = self.connection().execute(text).fetchone()
        return int(days), int(size), int(hot_days), int(hot)

    def is_whole(self) -> bool:
        """Whether its tables and indexes are sound and say the same; SQLite reads every page of them."""
        try:
            told = self.connection().execute("PRAGMA integrity_check(1)").fetchone()
            for text in _EVERYTHING:  # text that is none is sound to SQLite
                for _ in self.connection().execute(text):
                    pass
            if self.connection().execute(_BYTES_FOR_TEXT).fetchone() is not None:
                return False
        except sqlite3.DatabaseError:
            return False
        return bool(told[0] == "ok") and self.has_its_tables()

    def has_its_tables(self) -> bool:
        """Whether tables, indexes and triggers are called, and made, as they are to be."""
        try:
            return _schema(self.connection()) >= _own_schema()
        except sqlite3.DatabaseError:
            return False

    def counted(self) -> tuple[int, int, int, int]:
        """As `totals`, from every row; raises `sqlite3.DatabaseError` where one cannot be read."""
        text = (
            "SELECT count(*), ifnull(sum(bytes), 0), ifnull(sum(hot_bytes > 0), 0), ifnull(sum(hot_bytes), 0)"
        )
        told = self.connection().execute(f"{text} FROM manifest").fetchone()
        return int(told[0]), int(told[1]), int(told[2]), int(told[3])

    def summary(self) -> list[dict[str, Any]]:
        """Days, bytes and days pinned by set and symbol, in their order."""
        sums = "count(*), sum(bytes), sum(hot_bytes), sum(pinned), min(day), max(day)"
        text = f"SELECT feature_set, symbol, {sums} FROM manifest GROUP BY 1, 2 ORDER BY 1, 2"  # noqa: S608 - a constant
        names = ("set", "symbol", "days", "bytes", "hot_bytes", "pinned", "first", "last")
        return [dict(zip(names, told, strict=True)) for told in self.connection().execute(text)]

    def taken_bytes(self, now_ns: int, connection: sqlite3.Connection) -> int:
        """Bytes stored, in both tiers, and bytes promised to whoever is writing and alive."""
        stored = connection.execute("SELECT bytes + hot_bytes FROM sums").fetchone()[0]
        text = "SELECT ifnull(sum(reserved), 0) FROM leases WHERE abs(? - renewed_ns) <= ?"
        return int(stored) + int(connection.execute(text, (now_ns, LEASE_DEAD_NS)).fetchone()[0])

    def note_uses(self, uses: dict[str, tuple[int, int]]) -> None:
        """Count uses, by key: how many, and when the last was."""
        told = [(count, at_ns, key) for key, (count, at_ns) in uses.items()]
        text = (
            "UPDATE manifest SET uses = uses + ?, accessed_ns = max(accessed_ns, ?), priority = "
            "(SELECT level FROM aging) + (uses + 1) * max(seconds, 1e-3) / max(bytes, 1) WHERE key = ?"
        )
        with self.writing() as connection:
            connection.executemany(text, told)

    # -- what was found out about raw files (`datasets.Memory`)

    def content(self, identity: Identity) -> bytes | None:
        """The content hash of a raw file."""
        text = "SELECT digest FROM contents WHERE identity = ?"
        told = self.connection().execute(text, (_said(identity),)).fetchone()
        if told is None or not isinstance(told[0], bytes):
            return None
        digest = told[0][_CHECK_BYTES:]
        return digest if told[0] == _checked(_said(identity), digest) else None

    def remember_content(self, identity: Identity, digest: bytes) -> None:
        """Keep the content hash of a raw file."""
        told = (_said(identity), _checked(_said(identity), digest))
        self.connection().execute("INSERT OR REPLACE INTO contents VALUES (?, ?)", told)

    def facts(self, key: str) -> str | None:
        """What was found in a raw file."""
        told = self.connection().execute("SELECT body FROM facts WHERE key = ?", (key,)).fetchone()
        if told is None:
            return None
        check, _, body = str(told[0]).partition(" ")
        return body if check == _checked(key, body.encode())[:_CHECK_BYTES].hex() else None

    def remember_facts(self, key: str, facts: str) -> None:
        """Keep what was found in a raw file."""
        check = _checked(key, facts.encode())[:_CHECK_BYTES].hex()
        told = key, f"{check} {facts}"
        self.connection().execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", told)


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    text = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    return {(str(kind), str(name), str(sql)) for kind, name, sql in connection.execute(text)}


@functools.cache
def _own_schema() -> set[tuple[str, str, str]]:
    fresh = sqlite3.connect(":memory:")
    try:
        fresh.executescript(_TABLES)
        return _schema(fresh)
    finally:
        fresh.close()


def _checked(key: str, value: bytes) -> bytes:
    """A value behind a check of it and of what it stands under: no page of SQLite has a checksum."""
    return hashlib.sha256(f"{key}\0".encode() + value).digest()[:_CHECK_BYTES] + value


def _said(identity: Identity) -> str:
    return ",".join(map(str, identity))


def _write_ahead(connection: sqlite3.Connection) -> None:
    """WHY again and again: SQLite waits for nobody here, and others may open a new root now, too."""
    ends_ns = SYSTEM.monotonic_ns() + int(_BUSY_SECONDS * NANOS_PER_SECOND)
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or SYSTEM.monotonic_ns() > ends_ns:
                raise
            SYSTEM.wait(5 * NANOS_PER_MS, threading.Event())
        else:
            return
