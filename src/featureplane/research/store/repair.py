"""What does not fit: rows without files, files without rows, damaged files; found, and mended.

The manifest can be made anew from the footers of the files. What a footer does not say begins again: when
a day was used, how often, and what computing it took.

Leans on `manifest`, `shelf`, `dayfile`.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from featureplane.clock import SYSTEM, Clock
from featureplane.errors import StoreError
from featureplane.research.store.books import BookCheckpoint
from featureplane.research.store.dayfile import NewerDay, frames_digest, read_facts
from featureplane.research.store.hot import check_hot, hot_path
from featureplane.research.store.leases import Leases
from featureplane.research.store.manifest import LEASE_DEAD_NS, MANIFEST_NAME, Manifest, Row
from featureplane.research.store.shelf import BOOKS, HOT, Damaged, Shelf, Unreachable

__all__ = ["FsckReport", "fsck", "is_damage", "opened_manifest", "rebuild", "row_of", "sweep"]

_SECONDS_A_ROW: Final = 1e-6  # until a day has been computed again
_PART: Final = ".part"
_OF_USE: Final = (
    "seconds",
    "created_ns",
    "accessed_ns",
    "uses",
    "pinned",
    "hot_bytes",
    "hot_identity",
    "priority",
)


@dataclass(slots=True)
class FsckReport:
    """What was looked at and what was wrong; `mended` says whether it is put right."""

    days: int = 0
    files: int = 0
    missing_files: list[str] = field(default_factory=list)  # rows without files
    missing_rows: list[str] = field(default_factory=list)  # files without rows
    damaged: list[str] = field(default_factory=list)  # bytes that are not those published
    torn: list[str] = field(default_factory=list)  # files that were being written when it ended
    hot: list[str] = field(default_factory=list)  # of other bytes than were written, or that no row knows
    leases: list[str] = field(default_factory=list)  # of the dead
    newer: list[str] = field(default_factory=list)  # of a newer version, left as they are; no problem
    mended: bool = False

    @property
    def clean(self) -> bool:
        """Whether nothing was wrong."""
        return not any(getattr(self, name) for name in PROBLEMS)


PROBLEMS: Final = ("missing_files", "missing_rows", "damaged", "torn", "hot", "leases")
"""What `FsckReport` lists."""


def opened_manifest(root: Path, shelf: Shelf, clock: Clock = SYSTEM, *, thorough: bool = False) -> Manifest:
    """The manifest of a root, made anew from the files where it is damaged.

    `thorough` looks at all of it: where damage has shown that opening it did not.
    """
    try:
        opened = Manifest(root)
        opened.counted()
        if opened.is_whole() if thorough else opened.has_its_tables():
            return opened
        opened.close()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    rebuild(root, shelf, clock, only_damaged=True)
    return Manifest(root)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the manifest is none, or is damaged; not that it is locked or full."""
    if isinstance(error, sqlite3.OperationalError):
        return str(error).startswith(("no such", "malformed", "Could not decode"))
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.IntegrityError)


def rebuild(root: Path, shelf: Shelf, clock: Clock = SYSTEM, *, only_damaged: bool = False) -> int:
    """Make the manifest anew from the footers of the files; how many days it has then.

    The old one is put into quarantine. `only_damaged`: not if another process has just done it.
    """
    with _alone(root):
        if only_damaged and (count := _whole(root)) is not None:
            return count
        used: dict[str, Row] = {}
        try:
            old = Manifest(root)
        except sqlite3.DatabaseError:
            pass  # then nothing is known of use
        else:
            with suppress(sqlite3.DatabaseError, ValueError):
                used = {row.key: row for row in old.rows()}
            old.close()
        for name in (MANIFEST_NAME, f"{MANIFEST_NAME}-wal", f"{MANIFEST_NAME}-shm"):
            if (root / name).exists():
                shelf.local.quarantine(name)
        manifest = Manifest(root)
        rows = list(_rows_there(shelf, clock))
        with manifest.writing() as connection:
            for row in rows:
                manifest.put(_as_used(row, used.get(row.key)), connection)
        manifest.close()
    return len(rows)


def _rows_there(shelf: Shelf, clock: Clock) -> Iterator[Row]:
    """The rows of all files that are whole and that this version can read."""
    for path in shelf.days():
        with suppress(NewerDay):
            row = row_of(shelf, path, clock)
            if row is not None:
                yield row


def _whole(root: Path) -> int | None:
    """How many days the manifest has; None for a damaged one."""
    try:
        manifest = Manifest(root)
    except sqlite3.DatabaseError:
        return None
    try:
        return manifest.counted()[0] if manifest.is_whole() else None
    except sqlite3.DatabaseError:
        return None
    finally:
        manifest.close()


def fsck(manifest: Manifest, shelf: Shelf, *, repair: bool = False, clock: Clock = SYSTEM) -> FsckReport:
    """Hold rows and files against each other and every file against its checksum; mend it if asked to.

    A damaged file goes into quarantine with its row, and is computed anew when it is asked for.
    """
    report = FsckReport()
    root = shelf.root
    known: dict[str, Row] = {}
    for row in manifest.rows():
        report.days += 1
        known[row.path] = row
        _check_row(report, manifest, shelf, row, repair=repair, clock=clock)
    for path in shelf.days():
        report.files += 1
        if path not in known and manifest.rows("path = ?", (path,)) == []:
            _check_stray(report, manifest, shelf, path, repair=repair, clock=clock)
    _check_parts(report, manifest, root, clock, repair=repair)
    _check_hot(report, manifest, shelf, repair=repair)
    _check_books(report, shelf, repair=repair)
    _check_leases(report, manifest, clock, repair=repair)
    report.mended = repair
    return report


def _check_row(
    report: FsckReport, manifest: Manifest, shelf: Shelf, row: Row, *, repair: bool, clock: Clock
) -> None:
    try:
        opened = shelf.open(row)
        with pq.ParquetFile(opened.mapped()) as file:
            as_told = read_facts(file) == row.facts and frames_digest(file) == row.frames
        sound = as_told and opened.digest() == row.checksum
    except NewerDay:
        report.newer.append(row.path)
        return
    except Unreachable:
        raise
    except (Damaged, StoreError, pa.ArrowException, OSError):
        sound = False
    if not sound:
        there = shelf.has(row.path)
        (report.damaged if there else report.missing_files).append(row.path)
        if repair:
            shelf.local.remove(str(hot_path(row.key)))
            shelf.quarantine(row.path)
            with manifest.writing() as connection:
                manifest.drop(row, "corrupt" if there else "evicted", clock.wall_ns(), connection)


def _check_stray(
    report: FsckReport, manifest: Manifest, shelf: Shelf, path: str, *, repair: bool, clock: Clock
) -> None:
    """Give a file its row if it is whole, else put it aside."""
    try:
        row = row_of(shelf, path, clock)
    except NewerDay:
        report.newer.append(path)
        return
    report.missing_rows.append(path)
    if not repair:
        return
    if row is None:
        shelf.quarantine(path)
        return
    with manifest.writing() as connection:
        manifest.put(row, connection)


def row_of(shelf: Shelf, path: str, clock: Clock) -> Row | None:
    """The row of a file by its footer; None for one that is damaged or lies in the wrong place.

    Raises `NewerDay`, `Unreachable`.
    """
    try:
        opened = shelf.opened(path)
        with pq.ParquetFile(opened.mapped()) as file:
            facts = read_facts(file)
            if frames_digest(file) != facts.frames:
                return None
        if shelf.day_path(facts.feature_set, facts.symbol, facts.day, facts.key) != Path(path):
            return None
        checksum = opened.digest()
    except (NewerDay, Unreachable):
        raise
    except (Damaged, StoreError, pa.ArrowException, OSError):
        return None
    seconds = facts.rows * _SECONDS_A_ROW
    size, now_ns = opened.identity[2], clock.wall_ns()
    row = Row.of(
        facts,
        path,
        size=size,
        checksum=checksum,
        seconds=seconds,
        created_ns=opened.identity[3],
        now_ns=now_ns,
    )
    return row.aged(0.0)


def _as_used(row: Row, old: Row | None) -> Row:
    """A row with what an older manifest knew of its use."""
    if old is None or old.checksum != row.checksum:
        return row
    kept = {name: getattr(old, name) for name in _OF_USE}
    if any(type(value) is not type(getattr(row, name)) for name, value in kept.items()):
        return row  # a damaged row
    return row._replace(**kept)


def sweep(manifest: Manifest, root: Path, clock: Clock = SYSTEM) -> None:
    """Remove what those who ended while they wrote left: parts of files, and hot files that no row knows."""
    _check_parts(FsckReport(), manifest, root, clock, repair=True)
    held = _being_made(manifest, clock)
    for path in (root / HOT).glob("*.arrow"):
        row = manifest.find(path.stem)
        if path.stem not in held and (row is None or not row.hot_bytes):
            with suppress(OSError):
                path.unlink()


def _being_made(manifest: Manifest, clock: Clock) -> set[str]:
    """The keys for which somebody alive holds a lease."""
    now_ns = clock.wall_ns()
    leases = Leases(manifest, clock).all()
    return {lease.key.rpartition(":")[2] for lease in leases if not lease.is_dead(now_ns)}


def _check_parts(report: FsckReport, manifest: Manifest, root: Path, clock: Clock, *, repair: bool) -> None:
    """Files that nobody can be writing any more: no lease lives as long without being renewed."""
    held = _being_made(manifest, clock)
    for path in sorted(chain(root.rglob(f".*{_PART}"), root.glob(f".*{_PART}.wal"))):
        with suppress(OSError):
            if path.name.split(".")[1] in held:  # a row group may take longer than that
                continue
            if abs(clock.wall_ns() - path.stat().st_mtime_ns) > LEASE_DEAD_NS and not _is_locked(path):
                report.torn.append(str(path.relative_to(root)))
                if repair:
                    path.unlink(missing_ok=True)


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _check_hot(report: FsckReport, manifest: Manifest, shelf: Shelf, *, repair: bool) -> None:
    """Hold each hot file against its digest; one that is none is dropped, its day is in Parquet too."""
    told = {row.key for row in manifest.rows("hot_bytes > 0")}
    for key in sorted(told | {path.stem for path in (shelf.root / HOT).glob("*.arrow")}):
        name, row = str(hot_path(key)), manifest.find(key)
        try:
            if row is not None and row.hot_bytes:
                check_hot(shelf, row)
                continue
        except Damaged:
            pass  # told below
        report.hot.append(name)
        if repair:
            shelf.local.remove(name)
            if row is not None:
                manifest.forget_hot(row, manifest.connection())


def _check_books(report: FsckReport, shelf: Shelf, *, repair: bool) -> None:
    for path in sorted((shelf.root / BOOKS).glob("*.book")):
        try:
            BookCheckpoint.load(path)
        except (StoreError, OSError):
            report.damaged.append(str(path.relative_to(shelf.root)))
            if repair:
                shelf.local.quarantine(str(path.relative_to(shelf.root)))


def _check_leases(report: FsckReport, manifest: Manifest, clock: Clock, *, repair: bool) -> None:
    now_ns = clock.wall_ns()
    for lease in Leases(manifest, clock).all():
        if lease.is_dead(now_ns):
            report.leases.append(lease.key)
            if repair:
                gone = "DELETE FROM leases WHERE key = ? AND token = ?"
                manifest.connection().execute(gone, (lease.key, lease.token))


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """While no other process makes this root's manifest anew."""
    descriptor = os.open(root / ".rebuild", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
