"""The files of a recording while they are written: appended to, one after the other, in bounded room.

Leans on `recording` for their names. Raises what the system says; whoever records decides what that ends.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from featureplane.services.recording import SUFFIXES, Kind

__all__ = ["FILE_BYTES_MAX", "KEEP_BYTES", "RecordedFiles", "make_room"]

FILE_BYTES_MAX: Final = 256 << 20
"""A file that has become larger is followed by another one."""

KEEP_BYTES: Final = 64 << 30
"""When a file begins, the oldest go until no more than this is left."""


class RecordedFiles:
    """The files of one kind: whole pieces only. Another begins behind `bytes_max`, and with each day.

    When one begins, the oldest of the folder that nobody writes go until at most `keep_bytes` are left.
    """

    def __init__(
        self, folder: Path, kind: Kind, bytes_max: int = FILE_BYTES_MAX, keep_bytes: int = KEEP_BYTES
    ) -> None:
        self._folder, self._kind, self._bytes_max, self._keep_bytes = folder, kind, bytes_max, keep_bytes
        self._buffer = bytearray()
        self._file = -1
        self._name = ""
        self._written = 0
        self._day = ""
        self.begun = 0
        """Files begun so far."""

    def add(self, piece: bytes) -> None:
        """Take a piece that is to be found whole, or not at all; `flush` writes it."""
        self._buffer += piece

    def turn_to(self, day: str) -> None:
        """Write the files of that day from now on; days do not go back."""
        if day > self._day:
            self.close()
            self._day = day

    @property
    def is_full(self) -> bool:
        """Whether the next piece is to stand in another file."""
        return self._file >= 0 and self._written + len(self._buffer) >= self._bytes_max

    def place(self) -> tuple[str, int]:
        """The file in which the next piece is going to stand, and at which byte; raises `OSError`."""
        self.flush()
        if self.is_full:
            self._end_file()
        if self._file < 0:
            self._open()
        return self._name, self._written

    def flush(self) -> None:
        """Hand everything to the system; raises `OSError`, with whole pieces in the file."""
        if not self._buffer:
            return
        if self._file >= 0 and self._written >= self._bytes_max:
            self._end_file()
        if self._file < 0:
            self._open()
        self._write()

    def _write(self) -> None:
        left = memoryview(self._buffer)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            with suppress(OSError):  # it cannot be made worse
                os.ftruncate(self._file, self._written)
            raise
        finally:
            left.release()
        self._written += len(self._buffer)
        self._buffer.clear()

    def _open(self) -> None:
        make_room(self._folder, self._keep_bytes)
        taken = sorted(self._folder.glob(f"{self._kind}-{self._day}-*{SUFFIXES[self._kind]}"))
        number = int(taken[-1].stem.rpartition("-")[2]) + 1 if taken else 1
        self._name = f"{self._kind}-{self._day}-{number:06d}{SUFFIXES[self._kind]}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(self._folder / self._name, flags, 0o644)
        self._written = 0
        self.begun += 1

    def _end_file(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def abandon(self) -> None:
        """Leave what was not written."""
        self._buffer.clear()
        self._end_file()

    def close(self) -> None:
        """Write what is left, and end the file."""
        try:
            self.flush()
        finally:
            self._end_file()


def make_room(folder: Path, keep_bytes: int) -> list[str]:
    """Remove the files of a recording that were written to longest ago; which went.

    The last one of each kind stays: somebody may be writing it. Raises `OSError`.
    """
    found: list[tuple[int, str, int]] = []
    for kind, suffix in SUFFIXES.items():
        files = sorted(folder.glob(f"{kind}-*{suffix}"))
        facts = [(path.name, path.stat()) for path in files]
        found += [(facts_.st_mtime_ns, name, facts_.st_size) for name, facts_ in facts[:-1]]
        found += [(1 << 63, name, facts_.st_size) for name, facts_ in facts[-1:]]
    total, gone = sum(size for _, _, size in found), list[str]()
    for written_ns, name, size in sorted(found):
        if total <= keep_bytes or written_ns == 1 << 63:
            break
        (folder / name).unlink(missing_ok=True)
        total -= size
        gone.append(name)
    return gone
