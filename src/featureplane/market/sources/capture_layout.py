"""The bytes of a capture file around its events: header and index.

`docs/reference/capture-format.md` is the description, `tests/unit/test_capture.py` pins it.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, NamedTuple

from featureplane.errors import InputError, SettingError, UnreadableFile
from featureplane.market.events import EVENT_DTYPE, SourceFile, SourceInfo
from featureplane.market.instruments import Instrument, check_ids
from featureplane.market.sessions import Session

__all__ = [
    "COMPRESSIONS",
    "FRAME_EVENTS_MAX",
    "HEADER_BYTES",
    "SUFFIX",
    "CaptureHeader",
    "Frame",
    "pack_index",
    "read_index",
]

SUFFIX: Final = ".fpcap"
"""What names of captures end with; what they are, their first bytes say."""

MAGIC: Final = b"FPCAPT01"
HEADER_BYTES: Final = 4096
FRAME_EVENTS_MAX: Final = 1 << 14
VERSION: Final = 1
COMPRESSIONS: Final = ("none", "zstd")

_INDEX_MAGIC: Final = b"FPCIDX01"
_SKIPPABLE: Final = 0x184D2A5E  # zstd passes over a frame that begins with this
_SKIP: Final = struct.Struct("<II")  # _SKIPPABLE, bytes behind it
_ENTRY: Final = struct.Struct("<QIIII")  # offset, packed bytes, events, crc-32 of the packed bytes, 0
_FOOTER: Final = struct.Struct("<QQQ8s")  # offset of the index, frames, events, _INDEX_MAGIC
_PACKED_MAX: Final = FRAME_EVENTS_MAX * EVENT_DTYPE.itemsize * 2
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_EXPECTED: Final = "a header as `CaptureWriter` writes it"


class Frame(NamedTuple):
    """One zstd frame: where it lies, its packed size, its events, the crc-32 of its packed bytes."""

    offset: int
    packed: int
    events: int
    crc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureHeader:
    """What a capture file says about its events. Times are those of the first and last event."""

    source: SourceInfo
    instruments: tuple[Instrument, ...]
    compression: str = "none"  # or "zstd"
    files: tuple[SourceFile, ...] = ()  # where the events came from
    count: int | None = None  # None: the writer did not come to its end
    first_local_ts_ns: int | None = None
    last_local_ts_ns: int | None = None
    sha256: str | None = None  # of the events as they lie in a plain file, as hex

    def pack(self) -> bytes:
        """The 4,096 bytes; raises `SettingError` if they do not hold it all."""
        document = asdict(self) | {
            "instruments": [_told(instrument) for instrument in self.instruments],
            "version": VERSION,
        }
        text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        if len(MAGIC) + len(text) > HEADER_BYTES:
            what = f"{len(self.instruments)} instruments and {len(self.files)} files in one capture"
            raise SettingError(what, hint="the header holds 4,096 bytes of them; capture fewer at a time")
        return (MAGIC + text).ljust(HEADER_BYTES, b"\0")

    @classmethod
    def unpack(cls, data: bytes, file: str) -> CaptureHeader:
        """From the first 4,096 bytes of `file`; raises `UnreadableFile`."""
        if data[: len(MAGIC)] != MAGIC:
            raise UnreadableFile(file, f"the bytes {data[: len(MAGIC)]!r}", f"{MAGIC!r}, a capture file")
        if len(data) < HEADER_BYTES:
            raise UnreadableFile(file, f"{len(data)} bytes", f"a header of {HEADER_BYTES} bytes")
        try:
            document = json.loads(data[len(MAGIC) :].rstrip(b"\0"))
        except (ValueError, RecursionError) as error:
            raise UnreadableFile(file, f"no JSON ({error})", _EXPECTED) from None
        version = document.pop("version", None) if isinstance(document, dict) else None
        if version != VERSION:
            raise UnreadableFile(file, f"version {version!r}", f"version {VERSION}")
        try:
            return cls._checked(document)
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise UnreadableFile(file, str(error)[:200], _EXPECTED) from None

    @classmethod
    def _checked(cls, document: dict[str, Any]) -> CaptureHeader:
        names = {field.name for field in fields(cls)}
        if set(document) != names:
            raise ValueError(f"the keys {', '.join(map(str, document))}")
        numbers = {"count": 0, "first_local_ts_ns": -(1 << 63), "last_local_ts_ns": -(1 << 63)}
        for name, least in numbers.items():
            value = document[name]
            if value is not None and not (type(value) is int and least <= value < 1 << 63):
                raise ValueError(f"{name} {value!r}")
        digest = document["sha256"]
        if digest is not None and not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
            raise ValueError(f"sha256 {digest!r}")
        if document["compression"] not in COMPRESSIONS:
            raise ValueError(f"compression {document['compression']!r}")
        return cls(
            source=_source(document["source"]),
            instruments=check_ids(_instrument(one) for one in document["instruments"]),
            compression=document["compression"],
            files=tuple(SourceFile(**{name: str(one[name]) for name in one}) for one in document["files"]),
            sha256=digest,
            **{name: document[name] for name in numbers},
        )


def _told(instrument: Instrument) -> dict[str, Any]:
    """The fields that are not what they are by default; the header is small."""
    usual = {field.name: field.default for field in fields(Instrument)}
    told = {name: value for name, value in asdict(instrument).items() if value != usual[name]}
    told.pop("origin", None)
    return told


def _instrument(told: dict[str, Any]) -> Instrument:
    sessions = tuple(
        Session(one["state"], one["opens"], one["closes"], tuple(one["days"]))
        for one in told.get("sessions", ())
    )
    if type(told.get("inferred", False)) is not bool or "origin" in told:
        raise ValueError("an instrument with other fields")
    return Instrument(**(told | {"sessions": sessions}))


def _source(told: dict[str, Any]) -> SourceInfo:
    for field in fields(SourceInfo):
        if type(told[field.name]) is not (str if field.name == "name" else bool):
            raise ValueError(f"source {field.name} {told[field.name]!r}")
    return SourceInfo(**told)


def pack_index(frames: list[Frame], offset: int) -> bytes:
    """The index of `frames` as it stands at `offset`, behind the last of them: a frame zstd skips."""
    entries = b"".join(_ENTRY.pack(*frame, 0) for frame in frames)
    events = sum(frame.events for frame in frames)
    footer = _FOOTER.pack(offset, len(frames), events, _INDEX_MAGIC)
    return _SKIP.pack(_SKIPPABLE, len(entries) + len(footer)) + entries + footer


def index_offset(tail: bytes, file_bytes: int) -> int | None:
    """Where the index of a file begins that ends in `tail`; None if it has none, -1 if it cannot."""
    if len(tail) < _FOOTER.size:
        return None
    offset, frames, _, magic = _FOOTER.unpack(tail[-_FOOTER.size :])
    if magic != _INDEX_MAGIC:
        return None
    fits = offset >= HEADER_BYTES and offset + _SKIP.size + frames * _ENTRY.size + _FOOTER.size == file_bytes
    return int(offset) if fits else -1


def read_index(data: bytes, offset: int) -> list[Frame] | None:
    """The frames of the index `data` that begins at `offset`; None if they cannot be."""
    body = data[_SKIP.size : -_FOOTER.size]
    if _SKIP.unpack_from(data) != (_SKIPPABLE, len(data) - _SKIP.size):
        return None
    frames: list[Frame] = []
    at = HEADER_BYTES
    for *entry, spare in _ENTRY.iter_unpack(body):
        frame = Frame(*entry)
        if (
            spare
            or frame.offset != at
            or not 0 < frame.events <= FRAME_EVENTS_MAX
            or not 0 < frame.packed <= _PACKED_MAX
        ):
            return None
        at += frame.packed
        frames.append(frame)
    events = sum(frame.events for frame in frames)
    return frames if at == offset and events == _FOOTER.unpack(data[-_FOOTER.size :])[2] else None


FOOTER_BYTES: Final = _FOOTER.size
