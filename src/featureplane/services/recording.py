"""A recording on disk: what its files are called, what is in them, and how they are read again.

    recording.json       the source, and the feature set with its fingerprint
    instruments.toml     the instruments
    raw-DAY-NUMBER.txt   messages as they came, a line each: what `featureplane replay` reads
    frames-DAY-NUMBER.bin   frames, packed one behind the other (rule 6)

Files of one kind continue each other in the order of their names. They are only ever appended to, so what
a crash can leave is a last line, or a last frame, that is not whole; readers leave it out. Leans on
`features.frame` and `market`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from featureplane.errors import UnreadableFile
from featureplane.features.frame import FeatureFrame, FrameLayout

__all__ = [
    "ABOUT",
    "INSTRUMENTS",
    "Kind",
    "frame_files",
    "is_recording",
    "raw_files",
    "read_about",
    "read_frames",
    "reconnect_line",
    "reconnected",
]

ABOUT: Final = "recording.json"
INSTRUMENTS: Final = "instruments.toml"

Kind = Literal["raw", "frames"]
SUFFIXES: Final[Mapping[Kind, str]] = {"raw": ".txt", "frames": ".bin"}

_CHUNK_FRAMES: Final = 1024


def is_recording(folder: Path) -> bool:
    """Whether a recording stands in that folder."""
    return (folder / ABOUT).is_file()


def raw_files(folder: Path) -> list[Path]:
    """The files of messages, in order."""
    return _files(folder, "raw")


def frame_files(folder: Path) -> list[Path]:
    """The files of frames, in order."""
    return _files(folder, "frames")


def _files(folder: Path, kind: Kind) -> list[Path]:
    return sorted(folder.glob(f"{kind}-*{SUFFIXES[kind]}"))


def read_about(folder: Path) -> dict[str, Any]:
    """What the recording says of itself; raises `UnreadableFile`."""
    path = folder / ABOUT
    try:
        about = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UnreadableFile(str(path), str(error), "what a recording says of itself") from None
    if not isinstance(about, dict):
        raise UnreadableFile(str(path), type(about).__name__, "one JSON object")
    return about


def read_frames(paths: Iterable[Path], layout: FrameLayout) -> Iterator[FeatureFrame]:
    """The frames in files, in order, on bytes of their own; one cut off by the end of its file is left out.

    Raises `UnreadableFile`, `FeatureSetMismatch` for frames of another set, `MalformedEvent` for what is
    none.
    """
    size = layout.size
    for path in paths:
        try:
            with path.open("rb") as stream:
                while data := stream.read(size * _CHUNK_FRAMES):
                    for at in range(0, len(data) - size + 1, size):
                        yield FeatureFrame.unpack(data[at : at + size], layout)
        except OSError as error:
            raise UnreadableFile(str(path), error.strerror or str(error), "frames") from None


def reconnect_line(local_ts_ns: int, symbol: str | None, reason: str) -> bytes:
    """What stands between messages where a connection was another one: readers take it for another stream."""
    said = json.dumps({"e": "reconnect", "s": symbol, "reason": reason}, separators=(",", ":"))
    return b"%019d %s" % (local_ts_ns, said.encode())


def reconnected(line: bytes) -> tuple[str | None, str]:
    """Whose connection such a line is about, None: all; and why it is another one."""
    try:
        said = json.loads(line[20:])
    except ValueError:
        said = None
    symbol, reason = (said.get("s"), said.get("reason")) if isinstance(said, dict) else (None, None)
    return symbol if isinstance(symbol, str) else None, "queue" if reason == "queue" else "feed"
