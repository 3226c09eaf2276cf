"""What bytes there are: hashes of files, streamed, and remembered as long as the file is the same one.

`content_hash` is what keys are made of: a tree of sha-256, one leaf for each 64 KiB. `block_digest` is the
quick check of what the store itself wrote: it finds damage, not intent.

Knows nothing of stores, markets or days.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from featureplane.clock import SYSTEM, Clock
from featureplane.errors import UnreadableFile
from featureplane.units import NANOS_PER_SECOND

__all__ = [
    "LEAF_BYTES",
    "ContentMemory",
    "Identity",
    "block_digest",
    "content_hash",
    "hash_file",
    "identity_of",
    "leaf_hash",
    "root_hash",
]

LEAF_BYTES: Final = 1 << 16
_LEAF: Final = b"featureplane content leaf 1\0"
_ROOT: Final = b"featureplane content root 1\0"
_SETTLED_NS: Final = 2 * NANOS_PER_SECOND
"""A file changed less than this ago may change again without its times showing it."""
_BLOCK_WORDS: Final = 512  # 4 KiB

Identity = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of the last change of content and of the entry, in nanoseconds."""


def identity_of(status: os.stat_result) -> Identity:
    """What tells a file from another one, and from itself before it was written to.

    WHY the second time too: it cannot be set back by whoever restores the first.
    """
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def leaf_hash(data: bytes | bytearray | memoryview) -> bytes:
    """The hash of one piece of `LEAF_BYTES` bytes, the last one shorter."""
    digest = hashlib.sha256(_LEAF)
    digest.update(data)
    return digest.digest()


def root_hash(leaves: Iterable[bytes], size: int) -> bytes:
    """The hash of a content of `size` bytes from those of its pieces, 32 bytes."""
    digest = hashlib.sha256(_ROOT)
    digest.update(size.to_bytes(8, "little"))
    for leaf in leaves:
        digest.update(leaf)
    return digest.digest()


def content_hash(path: Path) -> tuple[bytes, Identity]:
    """The hash of every byte of a file, and which file it was; raises `UnreadableFile`.

    A file that changes meanwhile is read again.
    """
    try:
        while True:
            with path.open("rb", buffering=0) as stream:
                before = identity_of(os.fstat(stream.fileno()))
                leaves, size, room = [], 0, bytearray(LEAF_BYTES)
                view = memoryview(room)
                while count := _fill(stream, view):
                    leaves.append(leaf_hash(view[:count]))
                    size += count
                if identity_of(os.fstat(stream.fileno())) == before and size == before[2]:
                    return root_hash(leaves, size), before
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error), "a file that can be read") from None


class _Reads(Protocol):
    def readinto(self, room: memoryview, /) -> int | None: ...


def _fill(stream: _Reads, room: memoryview) -> int:
    """Bytes until the room is full or the file ends: a read may give less than is there."""
    count = 0
    while count < len(room):
        more = stream.readinto(room[count:])
        if not more:
            break
        count += more
    return count


class ContentMemory(Protocol):
    """Where hashes are kept between two processes."""

    def content(self, identity: Identity) -> bytes | None:
        """The hash of that file, if somebody told it."""

    def remember_content(self, identity: Identity, digest: bytes) -> None:
        """Keep a hash."""


def hash_file(path: Path, memory: ContentMemory, clock: Clock = SYSTEM) -> tuple[bytes, Identity]:
    """As `content_hash`, from memory where the file is the same one; raises `UnreadableFile`."""
    try:
        identity = identity_of(path.stat())
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error), "a file that can be read") from None
    known = memory.content(identity)
    if known is not None:
        return known, identity
    digest, identity = content_hash(path)
    if abs(clock.wall_ns() - max(identity[3], identity[4])) > _SETTLED_NS:
        memory.remember_content(identity, digest)
    return digest, identity


def block_digest(data: bytes | memoryview | npt.NDArray[Any]) -> bytes:
    """A digest at the speed of memory, 32 bytes: sha-256 over the sum of the words of each 4 KiB.

    A changed word changes it, as do blocks that are missing, torn or in another order; words that change
    places inside a block do not. Not for telling contents apart that somebody made alike.
    """
    flat: Any = data.view(np.uint8) if isinstance(data, np.ndarray) else data
    view = memoryview(flat).cast("B")
    whole = len(view) // (8 * _BLOCK_WORDS)
    words = np.frombuffer(view, np.uint64, whole * _BLOCK_WORDS).reshape(whole, _BLOCK_WORDS)
    digest = hashlib.sha256(len(view).to_bytes(8, "little"))
    digest.update(np.add.reduce(words, axis=1, dtype=np.uint64).tobytes())
    digest.update(view[whole * 8 * _BLOCK_WORDS :])
    return digest.digest()
