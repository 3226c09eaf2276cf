"""The days of a store on object storage; everything else of it lies in a folder of this machine.

    <url>/<set>/<symbol>/<day>/<key>.parquet        a day
    <url>/.quarantine/                              what was damaged
    <folder>/.reading/<key>.lock                    held while a process of this machine reads a day

An object is published by one request and cannot be torn. It is read whole, into memory, and held against
its checksum each time: what is read twice comes from the hot tier. Leans on `shelf` and `bucket`.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from featureplane.research.contents import Identity, block_digest
from featureplane.research.store.bucket import Bucket
from featureplane.research.store.manifest import Row
from featureplane.research.store.shelf import (
    QUARANTINE,
    QUARANTINED_MAX,
    READING,
    Damaged,
    Gone,
    OpenFile,
    Shelf,
    Unreachable,
)

__all__ = ["ObjectShelf", "OpenObject"]

_PARTS: Final = ".parts"


class OpenObject(OpenFile):
    """A published object; read when somebody asks. Not removed by this machine while it is referred to."""

    def __init__(self, bucket: Bucket, path: str, lock: Path) -> None:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
        super().__init__(lock)  # WHY before it is looked at: nobody here removes it from now on
        found = bucket.find(path)
        if found is None:
            raise Gone("no such object")
        self._bucket, self._name = bucket, path
        self._bytes: pa.Buffer | None = None
        self.identity: Identity = 0, 0, found.size, found.mtime_ns, found.mtime_ns

    @property
    def has_name(self) -> bool:
        """Not one that others could open."""
        return False

    def buffer(self) -> pa.Buffer:
        """Its bytes, kept until `let_go`; raises `Gone`, `Unreachable`."""
        if self._bytes is None:
            try:
                self._bytes = self._bucket.read(self._name)
            except FileNotFoundError:
                raise Gone("no such object") from None
        return self._bytes

    def mapped(self) -> pa.NativeFile:
        """Its bytes, to be read."""
        return pa.BufferReader(self.buffer())

    def digest(self) -> str:
        """The digest of its bytes, in hex."""
        return block_digest(memoryview(self.buffer())).hex()

    def sha256(self) -> str:
        """The sha-256 of its bytes, in hex."""
        return hashlib.sha256(self.buffer()).hexdigest()

    def let_go(self) -> None:
        """Keep its bytes no more."""
        self._bytes = None


class ObjectShelf(Shelf):
    """Days below `url`; `root` is the folder of this machine, `local` what lies there."""

    is_shared = True

    def __init__(self, url: str, root: Path, endpoint: str, on_step: Callable[[str], None] | None) -> None:
        super().__init__(root, on_step)
        self._local = Shelf(root, on_step)
        self._bucket = Bucket(url, endpoint)

    @property
    def local(self) -> Shelf:
        """What lies in the folder."""
        return self._local

    def part_path(self, path: Path) -> Path:
        """In the folder, under a name of its own."""
        return self._local.part_path(Path(_PARTS, path.name))

    def publish(self, part: Path, path: Path, fenced: Callable[[], None]) -> Identity:
        """Put a finished file under its name; nobody sees it before all of it is there."""
        self.reached("written")
        fenced()
        self._bucket.put(str(path), part)
        self.reached("uploaded")
        found, size = self._bucket.find(str(path)), part.stat().st_size
        if found is None or found.size != size:
            raise Unreachable(f"{path}: {size} bytes were put, and are not there")
        return 0, 0, found.size, found.mtime_ns, found.mtime_ns

    def named(self, opened: OpenFile, path: Path) -> None:
        """The part stays readable and has no name."""
        del path
        opened.locked = False

    def opened(self, path: str) -> OpenFile:
        """An object, looked at and not read; raises `Gone`, `Unreachable`."""
        try:
            return OpenObject(self._bucket, path, self._lock(path))
        except Damaged:
            raise
        except OSError as error:
            raise Unreachable(f"{self.root}: {error}") from None

    def days(self) -> Iterator[str]:
        """The paths of all days; raises `Unreachable`."""
        for found in self._bucket.all():
            place = PurePosixPath(found.path)
            if place.suffix == ".parquet" and len(place.parts) == 4 and not found.path.startswith("."):
                yield found.path

    def has(self, path: str) -> bool:
        """Whether an object is there; raises `Unreachable`."""
        return self._bucket.find(path) is not None

    def check(self, row: Row, opened: OpenFile) -> None:
        """Raise `Damaged` unless the bytes are those that were published; read each time."""
        if opened.digest() != row.checksum:
            raise Damaged("an object with other bytes than were published")

    @contextmanager
    def parquet(self, row: Row, opened: OpenFile) -> Iterator[pq.ParquetFile]:
        """See `Shelf`; its bytes are not kept."""
        try:
            with super().parquet(row, opened) as file:
                yield file
        finally:
            opened.let_go()

    def remove(self, path: str, may_go: Callable[[], bool] | None = None) -> bool:
        """Remove an object unless a process of this machine reads it; whether it is not there any more."""
        lock = self._lock(path)
        gone = False

        def delete() -> bool:
            nonlocal gone
            if may_go is not None and not may_go():
                return False
            with suppress(Unreachable):
                self._bucket.delete(path)
                gone = True
            return gone

        with suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            lock.touch()
            self._local.remove(os.path.relpath(lock, self.root), delete)
        return gone

    def quarantine(self, path: str) -> None:
        """Put a damaged object where nobody reads it; what cannot be moved stays."""
        name = f"{PurePosixPath(path).name}.{secrets.token_hex(4)}"
        with suppress(OSError):
            self._bucket.move(path, f"{QUARANTINE}/{name}")
            held = sorted(self._bucket.all(QUARANTINE), key=lambda found: found.mtime_ns)
            for oldest in held[:-QUARANTINED_MAX]:
                self._bucket.delete(oldest.path)

    def _lock(self, path: str) -> Path:
        return self.root / READING / f"{PurePosixPath(path).stem}.lock"
