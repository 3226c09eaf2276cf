"""What readers of files share: bytes in chunks, hashes, the order of files.

An `OSError` becomes `UnreadableFile` here. Knows nothing of formats.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from featureplane.errors import FileOrder, UnreadableFile
from featureplane.market.events import SourceFile

__all__ = ["CHUNK_BYTES", "check_file_order", "read_chunks", "source_file", "unpacked_start"]

CHUNK_BYTES: Final = 1 << 20
"""How much of a file is in memory at once."""

_START_BYTES: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b"


def read_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time; raises `UnreadableFile`."""
    try:
        with path.open("rb", buffering=0) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except IsADirectoryError:
        hint = "name the files in it; an empty name is this folder"
        raise UnreadableFile(str(path), "a folder", "a file that can be read", hint=hint) from None
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error), "a file that can be read") from None


def source_file(path: Path) -> SourceFile:
    """Name and sha-256 of a file; raises `UnreadableFile`."""
    digest = hashlib.sha256()
    for chunk in read_chunks(path):
        digest.update(chunk)
    return SourceFile(path.name, digest.hexdigest(), str(path.absolute()))


def unpacked_start(path: Path) -> bytes:
    """The first 64 KiB of a file, unpacked if it is gzip; less if it is damaged.

    For looking ahead only: what is wrong with the file is said when it is read.
    """
    start = next(read_chunks(path), b"")
    if not start.startswith(_GZIP):
        return start[:_START_BYTES]
    try:
        return zlib.decompressobj(wbits=31).decompress(start, _START_BYTES)
    except zlib.error:
        return b""


def check_file_order(paths: Sequence[Path], starts: Sequence[int | None]) -> None:
    """Refuse files whose first local times (None: unknown) do not ascend; raises `FileOrder` (rule 3.1)."""
    known = [(start, str(path)) for start, path in zip(starts, paths, strict=True) if start is not None]
    right = sorted(known, key=lambda item: item[0])
    if known != right:
        raise FileOrder([str(path) for path in paths], [path for _, path in right])
