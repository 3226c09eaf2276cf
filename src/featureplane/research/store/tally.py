"""Counts of one process in a small file that outlives it, whatever ends it.

    magic, then records of 64 bytes: length of the name, the count, the name

The file is mapped: a count is in it as soon as it is made, and `kill -9` loses none. Its process holds a lock
on it for as long as it lives. A name is there before its length is. Knows nothing of what is counted.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
import threading
from array import array
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["SUFFIX", "Forks", "Tally", "is_idle", "read_tally"]

SUFFIX: Final = ".counts"
_PART: Final = ".new"
_MAGIC: Final = b"fpcount1"
_RECORD: Final = 64
_NAME_BYTES: Final = 48
_SLOTS: Final = 383
_BYTES: Final = (_SLOTS + 1) * _RECORD
_WORDS: Final = _RECORD // 8


class Forks:
    """How often this process was forked from another; cheaper to look at than the number of a process."""

    seen = 0

    @classmethod
    def count(cls) -> None:
        """One more, said in the child."""
        cls.seen += 1


os.register_at_fork(after_in_child=Forks.count)


class Tally:
    """Counts by name; in memory alone while the folder cannot take a file.

    Threads may share one. A process that was forked begins a file of its own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._forks = Forks.seen
        self._places: dict[str, int] = {}
        self._words: memoryview | array[int] = array("q", bytes(_BYTES))
        self._map: mmap.mmap | None = None
        self.name = f"{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"

    @property
    def is_kept(self) -> bool:
        """Whether counts are in a file."""
        return self._map is not None and self._forks == Forks.seen

    def keep(self) -> bool:
        """Put the counts into a file of the folder, if they are in none and it takes one."""
        with self._lock:
            self._own()
            if self._map is None:
                with suppress(OSError):
                    self._attach()
            return self._map is not None

    def add(self, name: str, amount: int = 1) -> None:
        """Count; a name that has no room is left out."""
        with self._lock:
            self._own()
            place = self._places.get(name) or self._placed(name)
            if place:
                self._words[place] += amount

    def add_each(self, *names: str) -> None:
        """Count each of them once."""
        with self._lock:
            if self._forks != Forks.seen:
                self._begin()
            for name in names:
                place = self._places.get(name) or self._placed(name)
                if place:
                    self._words[place] += 1

    def add_time(self, bucket: str, total: str, ns: int) -> None:
        """Count a time in its bucket and in its sum."""
        with self._lock:
            if self._forks != Forks.seen:
                self._begin()
            places, words = self._places, self._words
            at = places.get(bucket) or self._placed(bucket)
            to = places.get(total) or self._placed(total)
            if at and to:
                words[at] += 1
                words[to] += ns

    def put(self, name: str, value: int) -> None:
        """Set a count."""
        with self._lock:
            self._own()
            place = self._places.get(name) or self._placed(name)
            if place:
                self._words[place] = value

    def get(self, name: str) -> int:
        """A count; 0 for one that was never made."""
        with self._lock:
            self._own()
            place = self._places.get(name)
            return self._words[place] if place else 0

    def names(self) -> list[str]:
        """What was counted."""
        return list(self._places)

    def _own(self) -> None:
        if self._forks != Forks.seen:
            self._begin()

    def _placed(self, name: str) -> int:
        data, number = name.encode(), len(self._places) + 1
        if len(data) > _NAME_BYTES or number > _SLOTS:
            return 0
        place = number * _WORDS + 1
        padded = data.ljust(_NAME_BYTES, b"\0")
        for at, word in enumerate(struct.unpack("<6q", padded)):
            self._words[place + 1 + at] = word
        self._words[place - 1] = len(data)
        self._places[name] = place
        return place

    def _attach(self) -> None:
        """WHY allocated: writing to a page of a mapped file that finds no room ends the process."""
        part = self._folder / f".{self.name}{_PART}"
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            with suppress(OSError):  # a file system without locks: its counts are never folded
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(descriptor, 0, _BYTES)
            mapped = mmap.mmap(descriptor, _BYTES)
            mapped[:] = memoryview(self._words).cast("B")
            mapped[: len(_MAGIC)] = _MAGIC
            part.rename(self._folder / self.name)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        finally:
            os.close(descriptor)  # the mapping holds the file, and its lock, by a descriptor of its own
        self._map, self._words = mapped, memoryview(mapped).cast("q")

    def close(self) -> None:
        """Let go of the file; what is counted from now on is counted in another one."""
        with self._lock:
            mapped, words = self._map, self._words
            self._begin()
            if mapped is not None and isinstance(words, memoryview):
                words.release()
                mapped.close()


def read_tally(data: bytes) -> Counter[str]:
    """The counts in the bytes of a file; raises `ValueError` for what is none."""
    if len(data) != _BYTES or not data.startswith(_MAGIC):
        raise ValueError("no file of counts")
    counts: Counter[str] = Counter()
    for at in range(_RECORD, _BYTES, _RECORD):
        length, value = struct.unpack_from("<2q", data, at)
        if not 0 <= length <= _NAME_BYTES:
            raise ValueError("a name of no length")
        if length:
            counts[data[at + 16 : at + 16 + length].decode()] += value
    return counts


def is_idle(descriptor: int) -> bool:
    """Whether no process counts in an open file any more."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
