"""A recording on disk: what its files are called, what is in them, and how they are read again.

    recording.json       the source, and the feature set it began with, with its fingerprint
    instruments.toml     the instruments
    features-PREFIX.toml    a feature set whose frames are here; its fingerprint begins so
    raw-DAY-NUMBER.txt   messages as they came, a line each: what `featureplane replay` reads
    frames-DAY-NUMBER.bin   frames, packed one behind the other (rule 6)
    candidate-DAY-NUMBER.bin  frames of the sets that were computed beside the active one
    state-DAY-NUMBER.jsonl  places where a replay can begin, with the state of each symbol there
    metrics-DAY-NUMBER.jsonl  all numbers, every ten seconds of the messages' time
    log-DAY-NUMBER.jsonl    lines of the log; days are those of its own times
    runs.jsonl              each start: version, configuration, settings

Files of one kind continue each other in the order of their names. They are only ever appended to, so what
a crash can leave is a last line, or a last frame, that is not whole; readers leave it out. Leans on
`features.frame` and `market`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

from featureplane.errors import FeatureSetMismatch, UnreadableFile
from featureplane.features.frame import HEADER_BYTES, FeatureFrame, FrameLayout, read_head
from featureplane.market.sources.binance_plain import local_time

__all__ = [
    "ABOUT",
    "EXPORTED_FEATURES",
    "INSTRUMENTS",
    "RUNS",
    "START",
    "SUFFIXES",
    "Beginning",
    "Kind",
    "beginning_line",
    "beginnings",
    "features_file",
    "files_of",
    "frame_files",
    "is_reconnect",
    "is_recording",
    "json_lines",
    "raw_files",
    "read_about",
    "read_any_frames",
    "read_beginnings",
    "read_frames",
    "reconnect_line",
    "reconnected",
]

ABOUT: Final = "recording.json"
INSTRUMENTS: Final = "instruments.toml"

EXPORTED_FEATURES: Final = "features.toml"
"""The one set of an exported span."""

RUNS: Final = "runs.jsonl"

START: Final = "start"
"""The reason of a reconnect where another service began: nothing before it is remembered."""

Kind = Literal["raw", "frames", "candidate", "state", "metrics", "log"]
SUFFIXES: Final[Mapping[Kind, str]] = {
    "raw": ".txt",
    "frames": ".bin",
    "candidate": ".bin",
    "state": ".jsonl",
    "metrics": ".jsonl",
    "log": ".jsonl",
}

_REASONS: Final = ("queue", START)
_CHUNK_FRAMES: Final = 1024
_PREFIX_AT: Final = 40  # of a frame: the first bytes of its set's fingerprint (rule 6)


def is_recording(folder: Path) -> bool:
    """Whether a recording stands in that folder."""
    return (folder / ABOUT).is_file()


def raw_files(folder: Path) -> list[Path]:
    """The files of messages, in order."""
    return files_of(folder, "raw")


def frame_files(folder: Path) -> list[Path]:
    """The files of frames, in order."""
    return files_of(folder, "frames")


def files_of(folder: Path, kind: Kind) -> list[Path]:
    """The files of a kind, in order."""
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


def features_file(folder: Path, fingerprint: str) -> Path:
    """Where a feature set is described whose frames are in a recording."""
    return folder / f"features-{fingerprint[:16]}.toml"


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


def read_any_frames(paths: Iterable[Path], layouts: Iterable[FrameLayout]) -> Iterator[FeatureFrame]:
    """Frames of several sets, one behind the other, as `read_frames` has them of one.

    Raises what that raises; `FeatureSetMismatch` for frames of a set that is not among `layouts`.
    """
    known = {layout.prefix: layout for layout in layouts}
    for path in paths:
        try:
            with path.open("rb") as stream:
                while len(head := stream.read(HEADER_BYTES)) == HEADER_BYTES:
                    rest = stream.read(read_head(head)[0] - HEADER_BYTES)
                    prefix = head[_PREFIX_AT : _PREFIX_AT + 8]
                    if prefix not in known:
                        raise FeatureSetMismatch(" or ".join(one.hex() for one in known), prefix.hex())
                    if len(head) + len(rest) == known[prefix].size:
                        yield FeatureFrame.unpack(head + rest, known[prefix])
        except OSError as error:
            raise UnreadableFile(str(path), error.strerror or str(error), "frames") from None


@dataclass(frozen=True, slots=True)
class Beginning:
    """A place between two messages where a replay can begin: file and byte of what comes next.

    `about` is what `recording.json` would say there. `states` has the state of each symbol; none of them: a
    stream begins here.
    """

    local_ts_ns: int
    raw: tuple[str, int]
    frames: tuple[str, int]
    about: Mapping[str, Any]
    states: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def beginning_line(here: Beginning) -> bytes:
    """A line of a file of states."""
    states = {symbol: base64.b64encode(state).decode() for symbol, state in here.states.items()}
    place = {"local_ts_ns": here.local_ts_ns, "raw": here.raw, "frames": here.frames}
    return json.dumps({**place, **here.about, "states": states}, separators=(",", ":")).encode() + b"\n"


def read_beginnings(folder: Path) -> Iterator[Beginning]:
    """The places where a replay of that folder can begin, in order; raises `UnreadableFile`."""
    for said in json_lines(files_of(folder, "state")):
        try:
            raw, frames = (tuple(said[name]) for name in ("raw", "frames"))
            states = {name: base64.b64decode(text) for name, text in said["states"].items()}
            about = {name: said[name] for name in ("source", "feature_set", "fingerprint")}
            yield Beginning(int(said["local_ts_ns"]), raw, frames, about, states)
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise UnreadableFile(str(folder), repr(error), "a state as the recorder writes it") from None


def beginnings(folder: Path) -> Iterator[Beginning]:
    """Where a replay of what is still there can begin, in order: its very beginning, and places with states.

    The oldest files may be gone. Raises `UnreadableFile`.
    """
    raws, frames = raw_files(folder), frame_files(folder)
    if not raws:
        return
    raw_names, frame_names = {path.name for path in raws}, {path.name for path in frames}
    known = (one for one in read_beginnings(folder) if one.raw[0] in raw_names)
    head = next(known, None)
    with raws[0].open("rb") as stream:
        read = next((found for found in map(local_time, stream) if found is not None), None)
    began = read is not None and _is_whole(raws, frames, head)
    if read is not None and began:
        first = frames[0].name if frames else f"frames-{raws[0].stem.partition('-')[2]}.bin"
        yield Beginning(read[0], (raws[0].name, 0), (first, 0), read_about(folder))
    for here in chain(() if head is None else (head,), known):
        if here.frames[0] in frame_names:
            began = True
            yield here
    if read is not None and not began and not frames:
        yield Beginning(read[0], (raws[0].name, 0), ("", 0), read_about(folder))


def _is_whole(raws: Sequence[Path], frames: Sequence[Path], head: Beginning | None) -> bool:
    """Whether no file is gone: what a service takes first needs no state before it.

    Numbers begin anew with each day, so that those of the first files alone do not say it.
    """
    if any(not paths[0].stem.endswith("-000001") for paths in (raws, frames) if paths):
        return False
    if head is None:
        return True
    return head.raw != (raws[0].name, 0) and not (frames and head.frames[0] < frames[0].name)


def json_lines(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The objects in files of one object a line; a last line cut off by the end of its file is left out.

    Raises `UnreadableFile` for any other line that is none.
    """
    for path in paths:
        try:
            with path.open("rb") as stream:
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    said = json.loads(line)
                    if not isinstance(said, dict):
                        raise UnreadableFile(str(path), type(said).__name__, "one JSON object a line")
                    yield said
        except (OSError, ValueError) as error:
            raise UnreadableFile(str(path), str(error), "one JSON object a line") from None


def reconnect_line(local_ts_ns: int, symbol: str | None, reason: str) -> bytes:
    """What stands between messages where a connection was another one: readers take it for another stream."""
    said = json.dumps({"e": "reconnect", "s": symbol, "reason": reason}, separators=(",", ":"))
    return b"%019d %s" % (local_ts_ns, said.encode())


def is_reconnect(line: bytes) -> bool:
    """Whether a line is about the connection, and no message."""
    return line.startswith(b'{"e":"reconnect"', 20)


def reconnected(line: bytes) -> tuple[str | None, str]:
    """Whose connection such a line is about, None: all; and why it is another one."""
    try:
        said = json.loads(line[20:])
    except ValueError:
        said = None
    symbol, reason = (said.get("s"), said.get("reason")) if isinstance(said, dict) else (None, None)
    return symbol if isinstance(symbol, str) else None, reason if reason in _REASONS else "feed"
