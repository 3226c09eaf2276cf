"""A span of a recording in a folder of its own: what came, what was made of it, what was said meanwhile.

    manifest.json        the span, where a replay begins, counts, and the sha-256 of every other file
    features.toml        the feature set
    raw-, frames-, candidate-, state-, metrics-, log-, runs.jsonl, recording.json, instruments.toml

The rest is a recording like the one it was taken from: `replay:FOLDER` plays it back, to the same frames.
Only files are read, so that it does not matter whether the service still runs. Leans on `recording`. Settings
and configuration hold no secret: there is no setting for one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

from featureplane import __version__
from featureplane.errors import EmptyStream, SettingError, StateError, UnreadableFile
from featureplane.features.catalog import registry
from featureplane.features.frame import HEADER_BYTES, read_head
from featureplane.market.instruments import load_instruments
from featureplane.market.sources.binance_plain import local_time
from featureplane.services.recording import (
    ABOUT,
    EXPORTED_FEATURES,
    INSTRUMENTS,
    RUNS,
    Beginning,
    beginning_line,
    beginnings,
    features_file,
    files_of,
    frame_files,
    is_reconnect,
    is_recording,
    json_lines,
    raw_files,
)
from featureplane.units import NANOS_PER_SECOND

__all__ = ["MANIFEST", "export", "instant_text", "read_instant", "read_manifest", "verify"]

MANIFEST: Final = "manifest.json"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO: Final = timedelta(microseconds=1)
_CHUNK_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = 1 << 20
_EDGE: Final = 4_096  # messages


def read_instant(text: str, option: str) -> int:
    """Nanoseconds since 1970 of a time with its zone; raises `SettingError` for one without, and for none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        hint = "a date and time with its zone, as 2024-08-08T23:55:00Z"
        raise SettingError(f"{option} {text}: no time", hint=hint) from None
    if moment.tzinfo is None:
        hint = f"say which: {text}Z is UTC, {text}+08:00 is Taipei"
        raise SettingError(f"{option} {text}: of which time zone?", hint=hint)
    return (moment - _EPOCH) // _MICRO * 1000


def instant_text(ns: int) -> str:
    """A time in UTC, with all its digits."""
    seconds, rest = divmod(ns, NANOS_PER_SECOND)
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


# -- taking it out


@dataclass(slots=True)
class _Edge:
    """Times of messages on both sides of a span's end: where the clock went back, they overlap."""

    before: deque[int | None] = field(default_factory=lambda: deque(maxlen=_EDGE))
    behind: set[int] = field(default_factory=set)

    def is_before(self, ns: int, to_ns: int) -> bool:
        """Whether what has this time was made by a message on the near side."""
        return ns in self.before if ns >= to_ns or ns in self.behind else True


@dataclass(frozen=True, slots=True)
class _Span:
    """What is taken of a recording, and between which times it has messages."""

    recording: Path
    begins: Beginning
    from_ns: int
    to_ns: int
    there: tuple[int, int]

    def messages(self, edge: _Edge | None = None) -> Iterator[tuple[int | None, bytes]]:
        """From where a replay begins to the end."""
        return _until(_messages(self.recording, self.begins), self.to_ns, edge)

    def frames(self, edge: _Edge) -> Iterator[bytes]:
        """What those messages made."""
        for ns, frame in _frames(frame_files(self.recording), *self.begins.frames):
            if not edge.is_before(ns, self.to_ns):
                return
            yield frame

    def candidates(self) -> Iterator[bytes]:
        """What was computed meanwhile beside the active set."""
        for ns, frame in _frames(files_of(self.recording, "candidate")):
            if self.begins.local_ts_ns <= ns < self.to_ns:
                yield frame

    @property
    def is_empty(self) -> bool:
        """Whether nothing was received in it."""
        return not any(ns is not None and self.from_ns <= ns for ns, _ in self.messages())


@dataclass(slots=True)
class _Out:
    """A folder that is being filled, and what its files are."""

    folder: Path
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self, name: str, pieces: Iterable[bytes]) -> int:
        """Write a file, whole; how many pieces there were."""
        count = size = 0
        told = hashlib.sha256()
        with (self.folder / name).open("wb") as stream:
            for piece in pieces:
                stream.write(piece)
                told.update(piece)
                size += len(piece)
                count += 1
            stream.flush()
            os.fsync(stream.fileno())
        self.files[name] = {"bytes": size, "sha256": told.hexdigest()}
        return count


def export(recording: Path, from_ns: int, to_ns: int, out: Path) -> dict[str, Any]:
    """Write the messages received from one time until before another into a folder; its manifest.

    The messages begin at the last place before the span where a replay can begin, with the state of that
    place. The folder appears when it is whole.

    Raises `SettingError` for a span that ends before it begins and for an `out` that is there,
    `UnreadableFile` for what is no recording, `EmptyStream` where nothing was received meanwhile,
    `StateError` where another feature set became the active one.
    """
    if not is_recording(recording):
        hint = "name the folder that `featureplane run --record` writes"
        raise UnreadableFile(str(recording), "no recording", "a recorded service", hint=hint)
    if to_ns <= from_ns:
        raise SettingError(f"from {instant_text(from_ns)} to {instant_text(to_ns)}", hint="from is before to")
    _check_out(out)
    there, begins = _times(recording), _beginning(recording, from_ns)
    span = None if there is None or begins is None else _Span(recording, begins, from_ns, to_ns, there)
    if span is None or span.is_empty:
        what = f"{recording} from {instant_text(from_ns)} until before {instant_text(to_ns)}"
        times = None if there is None else f"{instant_text(there[0])} to {instant_text(there[1])}"
        raise EmptyStream(what, hint=f"it has {'nothing' if times is None else f'messages from {times}'}")
    _check_one_set(span)
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        beside.chmod(0o755)
        manifest = _fill(_Out(beside), span, out)
        beside.rename(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return manifest


def _check_one_set(span: _Span) -> None:
    """Refuse a span in which another set became the active one: no run would give those frames."""
    now, began = span.begins.about, False
    for here in beginnings(span.recording):
        began = began or here.raw == span.begins.raw
        if began and here.about != now and here.local_ts_ns < span.to_ns:
            when = instant_text(here.local_ts_ns)
            what = (
                f"the feature set changed at {when}, from {now['feature_set']} to {here.about['feature_set']}"
            )
            raise StateError(what, hint="export until that time, or from it on")


def _check_out(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise SettingError(f"{out} is there", hint="name a folder that is not, or that is empty")


def _fill(out: _Out, span: _Span, place: Path) -> dict[str, Any]:
    """Write everything into a folder that is going to stand at `place`."""
    recording, begins, from_ns, to_ns = span.recording, span.begins, span.from_ns, span.to_ns
    day = begins.raw[0].split("-")[1]
    raw, frames = f"raw-{day}-000001.txt", f"frames-{day}-000001.bin"
    edge = _Edge()
    counts, last_ns = _write_messages(out, raw, span, edge)
    made = out.write(frames, span.frames(edge))
    if files_of(recording, "candidate"):
        out.write(f"candidate-{day}-000001.bin", span.candidates())
    here = Beginning(begins.local_ts_ns, (raw, 0), (frames, 0), begins.about, begins.states)
    out.write(f"state-{day}-000001.jsonl", [beginning_line(here)])
    metrics = out.write(f"metrics-{day}-000001.jsonl", _numbers(recording, from_ns, to_ns))
    log = out.write(f"log-{day}-000001.jsonl", _log_lines(recording, from_ns, to_ns))
    runs = _runs(recording, begins.local_ts_ns, to_ns)
    out.write(RUNS, map(_line, runs))
    out.write(ABOUT, [_line(dict(begins.about))])
    out.write(INSTRUMENTS, [(recording / INSTRUMENTS).read_bytes()])
    features = _features(recording, begins)
    if features is not None:
        out.write(EXPORTED_FEATURES, [features.read_bytes()])
    manifest = {
        "featureplane": __version__,
        "from": instant_text(from_ns),
        "to": instant_text(to_ns),
        "begins": instant_text(begins.local_ts_ns),
        "begins_with": "the state of each symbol" if begins.states else "the start of the service",
        "last_message": instant_text(last_ns),
        "recording": {"first": instant_text(span.there[0]), "last": instant_text(span.there[1])},
        "messages": counts["in it"],
        "messages_before": counts["before"],
        "frames": made,
        "metrics": metrics,
        "log": log,
        **begins.about,
        "replay": _command(place, out.folder, begins.about, has_file=features is not None),
        "files": dict(sorted(out.files.items())),
    }
    text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
    (out.folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _write_messages(out: _Out, name: str, span: _Span, edge: _Edge) -> tuple[Counter[str], int]:
    """Write them; how many stand before the span and in it, and the time of the last one."""
    counts: Counter[str] = Counter()
    last_ns = span.begins.local_ts_ns

    def counted() -> Iterator[bytes]:
        nonlocal last_ns
        for ns, line in span.messages(edge):
            last_ns = last_ns if ns is None else ns
            where = "before" if last_ns < span.from_ns else "in it"
            counts["no message" if is_reconnect(line) else where] += 1
            yield line

    out.write(name, counted())
    return counts, last_ns


def _features(recording: Path, begins: Beginning) -> Path | None:
    fingerprint = begins.about["fingerprint"]
    path = None if fingerprint is None else features_file(recording, fingerprint)
    return path if path is not None and path.exists() else None


def _command(place: Path, folder: Path, about: Mapping[str, Any], *, has_file: bool) -> str:
    """What plays it back, beside a service that runs here, and beside its rollout."""
    set_ = ["env", f"HFT_FEATURE_ROLLOUT_STATE_PATH={place}.rollout.json"]
    words = ["featureplane", "run", "--source", f"replay:{place}", "--control", "off"]
    symbols = [one.symbol for one in load_instruments(folder / INSTRUMENTS)]
    if len(symbols) > 1:
        words += ["--symbol", *symbols]
    name = about.get("feature_set")
    if name is None:
        return shlex.join([*set_, "HFT_FEATURE_ENGINE_ENABLED=0", *words])
    file = str(place / EXPORTED_FEATURES)
    shipped = name in registry and registry.get(name).fingerprint == about.get("fingerprint")
    return shlex.join([*set_, *words, "--features", name if shipped or not has_file else file])


# -- what there is


def _times(recording: Path) -> tuple[int, int] | None:
    """Times of the first and the last message of a recording."""
    first = last = None
    for path in raw_files(recording):
        with path.open("rb") as stream:
            times = (local_time(line) for line in stream)
            first = next((read[0] for read in times if read is not None), None)
        if first is not None:
            break
    for path in reversed(raw_files(recording)):
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = [local_time(line) for line in stream.readlines() if line.endswith(b"\n")]
        last = next((read[0] for read in reversed(lines) if read is not None), None)
        if last is not None:
            break
    return None if first is None or last is None else (first, last)


def _beginning(recording: Path, from_ns: int) -> Beginning | None:
    """The last place before a time where a replay can begin; the first one there is, where none is before."""
    chosen: Beginning | None = None
    for here in beginnings(recording):
        if chosen is None or here.local_ts_ns <= from_ns:
            chosen = here
    return chosen


def _messages(recording: Path, begins: Beginning) -> Iterator[tuple[int | None, bytes]]:
    """Whole lines from a place on, with their times."""
    name, at = begins.raw
    for path in raw_files(recording):
        if path.name < name:
            continue
        with path.open("rb") as stream:
            stream.seek(at if path.name == name else 0)
            for line in stream:
                if line.endswith(b"\n"):
                    read = local_time(line)
                    yield None if read is None else read[0], line


def _frames(paths: Iterable[Path], name: str = "", at: int = 0) -> Iterator[tuple[int, bytes]]:
    """Whole frames from a place on, with their times; raises `MalformedEvent` for what are none."""
    for path in paths:
        if path.name < name:
            continue
        with path.open("rb") as stream:
            stream.seek(at if path.name == name else 0)
            while len(head := stream.read(HEADER_BYTES)) == HEADER_BYTES:
                size, local_ts_ns = read_head(head)
                rest = stream.read(size - HEADER_BYTES)
                if len(rest) < size - HEADER_BYTES:
                    break
                yield local_ts_ns, head + rest


def _until(
    items: Iterable[tuple[int | None, bytes]], to_ns: int, edge: _Edge | None = None
) -> Iterator[tuple[int | None, bytes]]:
    """Those before a time. One that alone is behind it, as a broken line can seem to be, ends nothing."""
    held: list[tuple[int | None, bytes]] = []
    rest = iter(items)
    for ns, item in rest:
        late = ns is not None and ns >= to_ns
        if late and held:
            held.append((ns, item))
            break
        if late or (held and ns is None):
            held.append((ns, item))
            continue
        for one in (*held, (ns, item)):
            if edge is not None:
                edge.before.append(one[0])
            yield one
        held.clear()
    if edge is not None:
        edge.behind.update(ns for ns, _ in (*held, *islice(rest, _EDGE)) if ns is not None)


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def _numbers(recording: Path, from_ns: int, to_ns: int) -> Iterator[bytes]:
    """The numbers in a span, and the last ones before it, to which they are to be compared."""
    before: dict[str, Any] | None = None
    for said in json_lines(files_of(recording, "metrics")):
        ns = said.get("local_ts_ns")
        if ns is None or ns >= to_ns:
            continue
        if ns < from_ns:
            before = said
            continue
        if before is not None:
            yield _line(before)
            before = None
        yield _line(said)
    if before is not None:
        yield _line(before)


def _log_lines(recording: Path, from_ns: int, to_ns: int) -> Iterator[bytes]:
    """The log of a span; what was said before a first message belongs to that."""
    early: list[dict[str, Any]] = []
    for said in json_lines(files_of(recording, "log")):
        ns = said.get("local_ts_ns")
        if ns is None:
            early.append(said)
        elif from_ns <= ns < to_ns:
            yield from map(_line, (*early, said))
            early.clear()
        else:
            early.clear()


def _runs(recording: Path, begins_ns: int, to_ns: int) -> list[dict[str, Any]]:
    """The starts of what ran in a span: the last one before it, and those in it."""
    path = recording / RUNS
    found: list[dict[str, Any]] = []
    for said in json_lines([path] if path.exists() else []):
        ns = said.get("local_ts_ns") or 0
        if ns <= begins_ns:
            found = [said]
        elif ns < to_ns:
            found.append(said)
    return found


# -- looking at it again


def read_manifest(folder: Path) -> dict[str, Any]:
    """What an export says of itself; raises `UnreadableFile`."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UnreadableFile(str(path), str(error), "the manifest of an export") from None
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not all(isinstance(one, dict) for one in files.values()):
        raise UnreadableFile(str(path), "something else", "the manifest of an export")
    return dict(manifest)


def verify(folder: Path) -> list[str]:
    """What is not as it was when it was exported, a sentence each; raises `UnreadableFile`."""
    files = read_manifest(folder)["files"]
    there = {path.name for path in folder.iterdir()} - {MANIFEST}
    wrong = [f"{name}: not there" for name in files if name not in there]
    wrong += [f"{name}: was not exported" for name in sorted(there - set(files))]
    for name in sorted(there & set(files)):
        if (folder / name).stat().st_size != files[name].get("bytes"):
            wrong.append(f"{name}: another size")
        elif _digest(folder / name) != files[name].get("sha256"):
            wrong.append(f"{name}: other bytes")
    return wrong


def _digest(path: Path) -> str:
    told = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK_BYTES):
            told.update(piece)
    return told.hexdigest()
