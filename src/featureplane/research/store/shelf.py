"""The files of a store: where they lie, how one is published, opened, and put aside when it is damaged.

    <root>/<set>/<symbol>/<day>/<key>.parquet       a day
    <root>/.hot/<key>.arrow                         the same, mapped
    <root>/.books/<chain>.book                      books between two files
    <root>/.quarantine/                             what was damaged

A day that somebody reads is locked, shared; what is to be removed is locked exclusively first.

Leans on `dayfile` and `manifest`. Knows nothing of keys' making.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from featureplane.errors import StoreError
from featureplane.research.contents import Identity, identity_of
from featureplane.research.store.dayfile import file_digest, groups_between, read_facts
from featureplane.research.store.manifest import Row

__all__ = [
    "BOOKS",
    "HOT",
    "QUARANTINE",
    "QUARANTINED_MAX",
    "READING",
    "VERIFY",
    "Damaged",
    "Gone",
    "OpenFile",
    "Shelf",
    "Unreachable",
    "sync_folder",
]

HOT: Final = ".hot"
BOOKS: Final = ".books"
QUARANTINE: Final = ".quarantine"
VERIFY: Final = ".verify"
READING: Final = ".reading"
PART: Final = ".part"
QUARANTINED_MAX: Final = 16
_OWN: Final = (HOT, BOOKS, QUARANTINE, VERIFY, READING, "metrics")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_+@=-][A-Za-z0-9_.+@=-]{0,99}")


class Damaged(Exception):
    """A file that is not what was published: gone, short, or of other bytes."""


class Gone(Damaged):
    """A file that is not there; whether somebody removed it as one may, the manifest tells."""


class Unreachable(Damaged, OSError):
    """Storage that does not answer or refuses: nothing is known of the file, and nothing is done to it."""


class OpenFile:
    """A published file, open and locked against removal until nobody refers to it.

    Without `locked` it may be removed; it can be read all the same.
    """

    def __init__(self, path: Path | str, *, locked: bool = True) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if locked:
            # WHY let it pass: without locks, or while somebody removes it, the open file stays readable.
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                locked = False
        self.locked = locked
        status = os.fstat(self.descriptor)
        self.identity: Identity = identity_of(status)
        self.links = status.st_nlink  # as it was opened

    @property
    def was_removed(self) -> bool:
        """Whether it has no name any more."""
        return not os.fstat(self.descriptor).st_nlink

    @property
    def has_name(self) -> bool:
        """Whether others can open it by its path, as long as this is referred to."""
        return self.locked and not self.was_removed

    def buffer(self) -> pa.Buffer:
        """Its bytes, mapped by Python: opened ten times as fast, for what no thread of Arrow reads."""
        if not self.identity[2]:
            return pa.py_buffer(b"")
        return pa.py_buffer(mmap.mmap(self.descriptor, self.identity[2], prot=mmap.PROT_READ))

    def mapped(self) -> pa.NativeFile:
        """Its bytes, mapped; they stay readable when the file is removed. Raises `OSError` for an empty one.

        WHY by Arrow: its threads may let go of the bytes when Python is ending, and must not ask it then.
        """
        return pa.memory_map(f"/dev/fd/{self.descriptor}")

    def digest(self) -> str:
        """The digest of its bytes, in hex; raises `OSError`."""
        return file_digest(self.descriptor)

    def sha256(self) -> str:
        """The sha-256 of its bytes, in hex; raises `OSError`."""
        with os.fdopen(self.descriptor, "rb", closefd=False) as stream:
            stream.seek(0)
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def let_go(self) -> None:
        """Keep nothing in memory that can be read again."""

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class Shelf:
    """The files below one root; `on_step` is told each step of publishing before the next begins.

    What is about days may lie elsewhere (`objects`); `local` are the files of this machine.
    """

    is_shared = False  # with other machines, which have manifests of their own

    def __init__(self, root: Path, on_step: Callable[[str], None] | None = None) -> None:
        self.root = root
        self._text = os.fspath(root)
        self.reached = on_step or _nothing
        self._sound: dict[str, Identity] = {}

    @property
    def local(self) -> Shelf:
        """Hot files, books, the manifest and what is being written."""
        return self

    # -- where

    def day_path(self, feature_set: str, symbol: str, day: str, key: str) -> Path:
        """Where a day is stored, relative to the root."""
        return Path(_folder(feature_set), _folder(symbol), day, f"{key}.parquet")

    def part_path(self, path: Path) -> Path:
        """A name for the same file until it is whole, beside it, for who holds the lease of its key."""
        folder = (self.root / path).parent
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".{path.name}.*{PART}"):  # by a holder of the lease who died
            left.unlink(missing_ok=True)
        return folder / f".{path.name}.{secrets.token_hex(6)}{PART}"

    # -- publishing

    def publish(self, part: Path, path: Path, fenced: Callable[[], None]) -> Identity:
        """Give a finished file its name for good; `fenced` raises where it must not have it."""
        self.reached("written")
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        self.reached("synced")
        fenced()
        part.replace(self.root / path)
        self.reached("renamed")
        sync_folder((self.root / path).parent)
        self.reached("folder_synced")
        return identity_of((self.root / path).stat())

    def named(self, opened: OpenFile, path: Path) -> None:
        """Tell a part that it was published."""
        opened.path = self.root / path

    # -- reading

    def open(self, row: Row) -> OpenFile:
        """A stored day; nothing of it is read yet. Raises `Damaged` where it cannot be the one."""
        opened = self.opened(row.path)
        if not opened.links:
            raise Gone("removed while it was opened")
        if opened.identity[2] != row.bytes:
            raise Damaged(f"{opened.identity[2]} bytes, {row.bytes} were published")
        return opened

    def opened(self, path: str) -> OpenFile:
        """A file; raises `Damaged` where it cannot be opened."""
        try:
            return OpenFile(f"{self._text}/{path}")
        except FileNotFoundError:
            raise Gone("no such file") from None
        except OSError as error:
            raise Damaged(error.strerror or str(error)) from None

    def days(self) -> Iterator[str]:
        """The paths of all days."""
        root = self.root
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            if folder.is_dir() and folder.name not in _OWN:
                yield from (str(path.relative_to(root)) for path in sorted(folder.glob("*/*/*.parquet")))

    def has(self, path: str) -> bool:
        """Whether there is a file."""
        return (self.root / path).exists()

    def check(self, row: Row, opened: OpenFile) -> None:
        """Raise `Damaged` unless the bytes are those that were published; read once a file and process."""
        now = identity_of(os.fstat(opened.descriptor))
        if self._sound.get(row.key) == now:
            return
        found = opened.digest()
        if found != row.checksum:
            raise Damaged(f"the bytes have digest {found[:16]}, {row.checksum[:16]} were published")
        self._sound[row.key] = now

    def vouch(self, row: Row, identity: Identity) -> None:
        """Take the bytes of a file as those that this process has just written."""
        self._sound[row.key] = identity

    @contextmanager
    def parquet(self, row: Row, opened: OpenFile) -> Iterator[pq.ParquetFile]:
        """The file to read from, checked; raises `Damaged` for what is wrong with it, now or while read."""
        self.check(row, opened)
        try:
            with pq.ParquetFile(opened.mapped()) as file:
                if read_facts(file) != row.facts:
                    raise Damaged("the footer tells of another day than the manifest")
                yield file
        except (pa.ArrowException, OSError, StoreError) as error:
            raise Damaged(str(error)) from None

    def read(self, row: Row, opened: OpenFile, start_ns: int, end_ns: int, columns: list[str]) -> pa.Table:
        """Rows with times in [start, end), those columns and the times; raises `Damaged`."""
        with self.parquet(row, opened) as file:
            if start_ns <= row.start_ts and end_ns >= row.end_ts:
                return file.read(columns=columns)
            groups = list(groups_between(file, start_ns, end_ns))
            return file.read_row_groups(groups, columns=columns)

    # -- removing

    def remove(self, path: str, may_go: Callable[[], bool] | None = None) -> bool:
        """Remove a file unless somebody reads it; whether it is not there any more.

        `may_go` is asked when nobody reads it and nobody can begin to.
        """
        try:
            descriptor = os.open(self.root / path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if may_go is not None and not may_go():
                return False
            if os.path.samestat(os.fstat(descriptor), (self.root / path).stat()):  # else it is a newer one
                (self.root / path).unlink()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def quarantine(self, path: str) -> None:
        """Put a damaged file where nobody reads it, to be looked at; what cannot be moved stays."""
        source = self.root / path
        target = self.root / QUARANTINE / f"{source.name}.{secrets.token_hex(4)}"
        with suppress(OSError):
            target.parent.mkdir(exist_ok=True)
            source.replace(target)
            sync_folder(source.parent)
            held = sorted(target.parent.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            for oldest in held[:-QUARANTINED_MAX]:
                oldest.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folder(name: str) -> str:
    """A name as that of a folder; different for any two names, also where case does not count."""
    if _PLAIN.fullmatch(name):
        return name
    return "".join(c if _PLAIN.fullmatch(c) else f"%{ord(c):06x}" for c in name)


def _nothing(step: str) -> None:
    del step
