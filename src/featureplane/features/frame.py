"""Feature frames: what an engine hands on after one step, packed (rule 6, layout version 1).

A frame is its bytes: the same in process, in shared memory, in a stream entry and in a file.
`FrameLayout` knows where in them what stands; symbol names, ids and the like are looked up there,
not stored a frame.

Leans on `features.spec`. Knows nothing of engines, books or strategies.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from featureplane.arguments import expect
from featureplane.errors import (
    FeatureSetMismatch,
    MalformedEvent,
    NotReady,
    StateError,
    UnknownFeature,
    UnknownSymbol,
    WrongArgument,
)
from featureplane.features.spec import FeatureSet
from featureplane.market.quality import Quality
from featureplane.units import UNDEFINED_F64_BITS, UNDEFINED_I64

__all__ = [
    "FRAME_MARKER",
    "HEADER_BYTES",
    "FeatureFrame",
    "FeatureUpdateEvent",
    "FrameKey",
    "FrameLayout",
    "Value",
    "end_frame",
    "frame_key",
    "read_head",
]

FRAME_MARKER: Final = "feature_update_v1"
"""The name of this layout in text."""

HEADER_BYTES: Final = 64
_MAGIC: Final = b"FUV1"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<4sHHIIQqq8sIHHQ")
_FLAG_BITS: Final = int(~Quality(0))
_RAISE: Final = object()
_LAYOUT: Final = "`FrameLayout.of(fset, {symbol_id: symbol})` is the one of a set"

Buffer = bytes | bytearray | memoryview | npt.NDArray[Any]
Value = int | float | None
"""A feature's value; None while it has none."""


def read_head(data: bytes) -> tuple[int, int]:
    """The bytes and the local time of a frame, of any set, from its first `HEADER_BYTES`.

    Raises `MalformedEvent` for what is none.
    """
    if len(data) < HEADER_BYTES:
        raise MalformedEvent(f"{len(data)} bytes", f"a frame's head of {HEADER_BYTES} bytes", offset=0)
    head = _HEADER.unpack_from(data)
    magic, version, features, local_ts_ns, words = head[0], head[1], head[2], head[7], head[10]
    if magic != _MAGIC or version != _VERSION:
        raise MalformedEvent(f"magic {magic!r}, version {version}", "a frame", offset=0)
    return HEADER_BYTES + 16 * words + 8 * features, local_ts_ns


class FrameKey(NamedTuple):
    """Which frame of a stream one is: prefix of its set's fingerprint, symbol id, `seq`."""

    prefix: bytes
    symbol_id: int
    seq: int


def frame_key(data: bytes) -> FrameKey:
    """What `HEADER_BYTES` or more say they are, damaged ones too."""
    head = _HEADER.unpack_from(data)
    return FrameKey(head[8], head[3], head[5])


class FrameLayout:
    """Where in the frames of one feature set what stands.

    `symbols` maps ids to names. `size` is the number of bytes of a frame, `dtype` those bytes as one
    NumPy record: the fields of rule 6, `values` with a field a feature. `places` has the word of a
    frame in which each feature stands, with a minus where that word is a float.
    """

    __slots__ = (
        "__dict__",
        "dtypes",
        "feature_ids",
        "feature_set_id",
        "fingerprint",
        "mask_words",
        "places",
        "prefix",
        "schema_version",
        "size",
        "symbols",
        "values_at",
    )

    def __init__(
        self,
        feature_set_id: str,
        schema_version: int,
        fingerprint: str,
        features: Sequence[tuple[str, str]],
        symbols: Mapping[int, str],
    ) -> None:
        self.feature_set_id = feature_set_id
        self.schema_version = schema_version
        self.fingerprint = fingerprint
        self.prefix = bytes.fromhex(fingerprint)[:8]
        self.feature_ids = tuple(feature_id for feature_id, _ in features)
        self.dtypes = tuple(dtype for _, dtype in features)
        self.symbols = dict(symbols)
        self.mask_words = -(-len(features) // 64)
        self.values_at = HEADER_BYTES + 16 * self.mask_words
        self.size = self.values_at + 8 * len(features)
        first = self.values_at // 8
        self.places = {
            feature_id: -(first + i) if dtype == "f64" else first + i
            for i, (feature_id, dtype) in enumerate(features)
        }

    @classmethod
    def of(cls, fset: FeatureSet, symbols: Mapping[int, str]) -> FrameLayout:
        """The layout of the frames of `fset`."""
        features = [(spec.feature_id, spec.dtype) for spec in fset.specs]
        return cls(fset.feature_set_id, fset.schema_version, fset.fingerprint, features, symbols)

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """The bytes of a frame as one NumPy record."""
        values = [
            (i, "<f8" if d == "f64" else "<i8") for i, d in zip(self.feature_ids, self.dtypes, strict=True)
        ]
        return np.dtype(
            [
                ("magic", "S4"),
                ("layout_version", "<u2"),
                ("features", "<u2"),
                ("symbol_id", "<u4"),
                ("quality_flags", "<u4"),
                ("seq", "<u8"),
                ("source_ts_ns", "<i8"),
                ("local_ts_ns", "<i8"),
                ("fingerprint", "V8"),
                ("schema_version", "<u4"),
                ("mask_words", "<u2"),
                ("header_bytes", "<u2"),
                ("source_seq", "<u8"),
                ("changed_mask", "<u8", (self.mask_words,)),
                ("warmup_ready_mask", "<u8", (self.mask_words,)),
                ("values", values),
            ]
        )

    @cached_property
    def undefined(self) -> bytes:
        """The values of a frame in which none is defined."""
        return b"".join(
            struct.pack("<Q", UNDEFINED_F64_BITS) if dtype == "f64" else struct.pack("<q", UNDEFINED_I64)
            for dtype in self.dtypes
        )

    def pack(
        self,
        *,
        symbol_id: int,
        flags: int,
        seq: int,
        source_ts_ns: int,
        local_ts_ns: int,
        source_seq: int,
        changed: int,
        ready: int,
        values: bytes,
    ) -> bytes:
        """The bytes of a frame; `values` are its eight bytes a feature, masks are integers."""
        header = _HEADER.pack(
            _MAGIC,
            _VERSION,
            len(self.feature_ids),
            symbol_id,
            flags,
            seq,
            source_ts_ns,
            local_ts_ns,
            self.prefix,
            self.schema_version,
            self.mask_words,
            HEADER_BYTES,
            source_seq,
        )
        mask_bytes = 8 * self.mask_words
        masks = changed.to_bytes(mask_bytes, "little") + ready.to_bytes(mask_bytes, "little")
        return header + masks + values

    def check(self, data: memoryview) -> None:
        """Refuse bytes that are no frame of this layout.

        Raises `FeatureSetMismatch` for a frame of another set, `MalformedEvent` for anything else.
        """
        if len(data) < HEADER_BYTES:
            raise MalformedEvent(f"{len(data)} bytes", f"a frame of {self.size} bytes", offset=0)
        magic, version, count, *_, prefix, schema, words, header_bytes, _ = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != _VERSION or header_bytes != HEADER_BYTES:
            raise MalformedEvent(
                f"magic {magic!r}, version {version}, header of {header_bytes} bytes",
                f"magic {_MAGIC!r}, version {_VERSION}, header of {HEADER_BYTES} bytes",
                offset=0,
            )
        if prefix != self.prefix:
            raise FeatureSetMismatch(self.prefix.hex(), prefix.hex())
        if (count, words, schema) != (len(self.feature_ids), self.mask_words, self.schema_version):
            raise MalformedEvent(
                f"{count} features, {words} mask words, schema {schema}",
                f"{len(self.feature_ids)}, {self.mask_words}, {self.schema_version}",
                offset=6,
            )
        if len(data) != self.size:
            raise MalformedEvent(f"{len(data)} bytes", f"a frame of {self.size} bytes", offset=HEADER_BYTES)
        self._check_values(data)

    def _check_values(self, data: memoryview) -> None:
        """Reserved and spare bits are 0, ready means defined, floats are canonical."""
        frame = FeatureFrame(data, self)
        if frame.view["quality_flags"] & ~np.uint32(_FLAG_BITS):
            raise MalformedEvent("flags beyond bit 5", "reserved bits of 0", offset=12)
        features = (1 << len(self.feature_ids)) - 1
        if (frame.changed | frame.ready) & ~features:
            raise MalformedEvent("mask bits beyond the last feature", "spare bits of 0", offset=HEADER_BYTES)
        for i, (feature_id, value) in enumerate(zip(self.feature_ids, frame.values, strict=True)):
            offset = self.values_at + 8 * i
            if bool(frame.ready >> i & 1) is (value is None):
                raise MalformedEvent(f"{feature_id} = {value}", "its ready bit to say so", offset=offset)
            word = int.from_bytes(data[offset : offset + 8], "little")
            wrong = self.dtypes[i] == "f64" and word != UNDEFINED_F64_BITS and not _is_canonical(value)
            if wrong or (self.dtypes[i] == "u32" and value is not None and not 0 <= value < 1 << 32):
                raise MalformedEvent(f"{feature_id} = {value}", f"a value of {self.dtypes[i]}", offset=offset)


def _is_canonical(value: Value) -> bool:
    """Whether a float may stand in a frame: finite, and no -0.0."""
    return value is not None and math.isfinite(value) and str(value) != "-0.0"


class FeatureFrame:
    """One step's features of one symbol; a read-only view on its bytes.

    `frame["spread"]` is the value, None while there is none; `get_feature` raises then. Two frames are equal
    when their bytes are. Frames of `replay` have bytes of their own and stay what they are as long as they
    are held; those of `push` are written over by the next push, `copy` keeps one.
    """

    __slots__ = ("_floats", "_words", "layout")

    def __init__(self, data: Buffer, layout: FrameLayout) -> None:
        view = memoryview(cast("bytes", data)).toreadonly()
        self._words = view.cast("B").cast("q")
        self._floats: memoryview[float] | None = None  # made when one is read: a cast costs as much as a read
        self.layout = layout

    @classmethod
    def run(cls, data: Buffer, layout: FrameLayout) -> Iterator[FeatureFrame]:
        """The frames packed one behind the other in `data`, views, not checked."""
        words = memoryview(cast("bytes", data)).toreadonly().cast("B").cast("q")
        width = layout.size // 8
        for at in range(0, len(words), width):
            frame = cls.__new__(cls)
            frame._words, frame._floats = words[at : at + width], None  # noqa: SLF001 - its own class
            frame.layout = layout
            yield frame

    @classmethod
    def unpack(cls, data: Buffer, layout: FrameLayout) -> FeatureFrame:
        """The frame in `data`, a view, checked.

        Raises `FeatureSetMismatch` for a frame of another set, `MalformedEvent` for anything else.
        """
        try:
            layout.check(memoryview(cast("bytes", data)).cast("B"))
        except (AttributeError, TypeError):  # asked behind it, so that asking costs a good frame nothing
            expect("layout", layout, FrameLayout, "a `FrameLayout`", hint=_LAYOUT)
            hint = "give what `pack` gave, or a contiguous view on it"
            raise WrongArgument("data", data, "the bytes of a frame", hint=hint) from None
        return cls(data, layout)

    def pack(self) -> bytes:
        """The bytes of the frame."""
        return self._words.tobytes()

    def copy(self) -> FeatureFrame:
        """The frame on bytes of its own, which nothing writes over."""
        return FeatureFrame(self.pack(), self.layout)

    def __getitem__(self, feature_id: str) -> Value:
        try:
            at = self.layout.places[feature_id]
        except (KeyError, TypeError):
            raise UnknownFeature(feature_id, self.layout.feature_ids) from None
        if at > 0:
            word = self._words[at]
            return None if word == UNDEFINED_I64 else word
        floats = self._floats
        if floats is None:
            floats = self._floats = self._words.cast("B").cast("d")
        value = floats[-at]
        return None if value != value else value  # noqa: PLR0124 - the one NaN a frame may hold

    def get_feature(self, feature_id: str, default: Any = _RAISE) -> Any:
        """The value of a feature; while it has none `default`, or `NotReady` if none is given."""
        value = self[feature_id]
        if value is not None:
            return value
        if default is _RAISE:
            raise NotReady(self.symbol, feature_id, f"not in the ready mask of frame {self.seq}")
        return default

    @property
    def values(self) -> tuple[Value, ...]:
        """All values in the order of the set, None where there is none."""
        return tuple(self[feature_id] for feature_id in self.layout.feature_ids)

    @property
    def view(self) -> np.void:
        """The bytes as one read-only NumPy record (`FrameLayout.dtype`); undefined values as stored."""
        record: npt.NDArray[np.void] = np.frombuffer(self._words, self.layout.dtype)
        return cast("np.void", record[0])

    @property
    def seq(self) -> int:
        """Number of this frame among those computed for the symbol, from 1."""
        return self._words[2]

    @property
    def source_ts_ns(self) -> int:
        """When the venue says the message happened."""
        return self._words[3]

    @property
    def local_ts_ns(self) -> int:
        """When the message was received."""
        return self._words[4]

    @property
    def source_seq(self) -> int:
        """The last id of the book applied, 0 if none."""
        return self._unsigned(7, 8)

    @property
    def symbol_id(self) -> int:
        """The instrument's number."""
        return self._words[1] & 0xFFFF_FFFF

    @property
    def flags(self) -> Quality:
        """What happened to the input of this frame."""
        return Quality(self._unsigned(1, 2) >> 32)

    @property
    def has_gap(self) -> bool:
        """Whether messages are missing before it: `Quality.GAP_DETECTED` in `flags`."""
        return self._words[1] >> 32 & 1 == 1

    @property
    def changed(self) -> int:
        """Bit i: feature i differs from the frame computed before."""
        return self._unsigned(8, 8 + self.layout.mask_words)

    @property
    def ready(self) -> int:
        """Bit i: feature i has a value."""
        return self._unsigned(8 + self.layout.mask_words, 8 + 2 * self.layout.mask_words)

    quality_flags = flags
    changed_mask = changed
    warmup_ready_mask = ready

    def _unsigned(self, first: int, last: int) -> int:
        return int.from_bytes(self._words[first : max(last, first + 1)].tobytes(), "little")

    @property
    def symbol(self) -> str:
        """The instrument's name; `UnknownSymbol` if the layout does not know its number."""
        try:
            return self.layout.symbols[self._words[1] & 0xFFFF_FFFF]
        except KeyError:
            raise UnknownSymbol(self.symbol_id, tuple(self.layout.symbols.values())) from None

    @property
    def feature_set_id(self) -> str:
        """The id of the set."""
        return self.layout.feature_set_id

    @property
    def feature_ids(self) -> tuple[str, ...]:
        """The ids of the features, in their order."""
        return self.layout.feature_ids

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the set, 64 hexadecimal digits; the frame holds the first eight bytes."""
        return self.layout.fingerprint

    @property
    def schema_version(self) -> int:
        """The version of the set's schema."""
        return self.layout.schema_version

    @property
    def marker(self) -> str:
        """The name of the layout in text."""
        return FRAME_MARKER

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FeatureFrame):
            return NotImplemented
        return self._words.tobytes() == other._words.tobytes()

    def __hash__(self) -> int:
        return hash(self.pack())

    def __len__(self) -> int:
        return len(self.layout.feature_ids)

    def __reduce__(self) -> tuple[type[FeatureFrame], tuple[bytes, FrameLayout]]:
        return FeatureFrame, (self.pack(), self.layout)

    def __repr__(self) -> str:
        flags = "|".join(flag.name or "" for flag in self.flags) or "well"
        values = ", ".join(f"{i}={v}" for i, v in zip(self.feature_ids, self.values, strict=True))
        return f"<FeatureFrame {self.symbol} {self.seq} {flags}: {values}>"


class _EndedFrame(FeatureFrame):
    """A frame that somebody held longer than it stood."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise StateError(
            "a frame is read behind the handler it was given to", hint="keep `frame.copy()`, or the values"
        )

    def __repr__(self) -> str:
        return "<FeatureFrame that has ended>"


def end_frame(frame: FeatureFrame) -> None:
    """Let whoever still holds this frame get `StateError` when it is read."""
    frame.__class__ = _EndedFrame


FeatureUpdateEvent = FeatureFrame
"""The name strategies know a frame by."""
