"""Our own format: normalised events on disk, mapped into memory as they lie, or packed with zstd.

`docs/reference/capture-format.md` describes it byte by byte. The events of a plain file are a view
of the mapped file, never a copy; whoever computes with them judges them (rules 1.2, 2.2).

Leans on `sources.capture_layout`. Knows nothing of the sources the events came from.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featureplane.errors import (
    FileOrder,
    InstrumentMismatch,
    SettingError,
    StateError,
    UnknownSymbol,
    UnreadableFile,
)
from featureplane.market.events import EVENT_DTYPE, EventBatch, EventFlag, SourceFile, SourceInfo
from featureplane.market.instruments import Instrument, check_ids, choose_instrument
from featureplane.market.sources import Request, Source
from featureplane.market.sources.batches import Counts, batches
from featureplane.market.sources.capture_layout import (
    COMPRESSIONS,
    FOOTER_BYTES,
    FRAME_EVENTS_MAX,
    HEADER_BYTES,
    CaptureHeader,
    Frame,
    index_offset,
    pack_index,
    read_index,
)
from featureplane.market.sources.files import check_file_order, source_file
from featureplane.whole_file import WholeFile

__all__ = ["SOURCES", "CaptureFile", "CaptureWriter", "write_capture"]

Array = npt.NDArray[Any]

_EVENT_BYTES: Final = EVENT_DTYPE.itemsize
_LEVEL: Final = 3  # of zstd
_PIECE_BYTES: Final = 1 << 20
_BLOCK_EVENTS: Final = 1 << 14


class CaptureFile:
    """A capture file, open for reading.

    `header` is what it says about itself. `incomplete` is 1 once it is known that the file was cut
    off: then its last whole message is the last. Raises `UnreadableFile`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.incomplete = 0
        try:
            with self.path.open("rb") as stream:
                self.header = CaptureHeader.unpack(stream.read(HEADER_BYTES), str(path))
                self._bytes = stream.seek(0, os.SEEK_END)
        except OSError as error:
            raise self._unreadable(error.strerror or str(error), "a capture file") from None

    def dropped(self) -> list[tuple[str, int]]:
        """What was left out so far, by reason."""
        return [("incomplete", self.incomplete)]

    def source_file(self) -> SourceFile:
        """Name and hash: of the events as the header gives it; of the bytes where it does not, or cannot."""
        said = self.header.sha256
        if said is None or self._is_cut():
            return source_file(self.path)
        return SourceFile(self.path.name, said, str(self.path.absolute()))

    def _is_cut(self) -> bool:
        """Whether the file ends before what its header speaks of."""
        if self.header.compression == "none":
            return self._bytes < HEADER_BYTES + (self.header.count or 0) * _EVENT_BYTES
        with self.path.open("rb") as stream:
            return self._frames(stream) is None

    def array(self) -> Array:
        """Every event, read-only: of a plain file a view of its mapping, else unpacked."""
        if self.header.compression == "none":
            return self._mapped()
        blocks = list(self.blocks())
        return np.concatenate(blocks) if blocks else np.zeros(0, EVENT_DTYPE)

    def blocks(self) -> Iterator[Array]:
        """Every event in blocks of whole messages, some megabytes each; nothing is mapped."""
        if self.header.compression == "none":
            yield from self._plain_blocks()
            return
        rest = b""
        for piece in self._unpacked():
            data = rest + piece if rest else piece
            events = np.frombuffer(data, EVENT_DTYPE, len(data) // _EVENT_BYTES)
            whole = _whole(events)
            rest = data[whole * _EVENT_BYTES :]
            if whole:
                yield events[:whole]
        if rest:
            self.incomplete = 1

    def _unreadable(self, found: str, expected: str) -> UnreadableFile:
        return UnreadableFile(str(self.path), found, expected)

    def _mapped(self) -> Array:
        count = self._count()
        if count == 0:
            return np.zeros(0, EVENT_DTYPE)
        try:
            mapped = np.memmap(self.path, EVENT_DTYPE, "r", HEADER_BYTES, count).view(np.ndarray)
        except (OSError, ValueError) as error:
            raise self._unreadable(str(error), "a capture file as it was opened") from None
        whole = _whole(mapped)
        if whole < count:
            self.incomplete = 1
        return mapped[:whole]

    def _count(self) -> int:
        """Whole events of a plain file; sets `incomplete` if it was cut off."""
        count, rest = divmod(self._bytes - HEADER_BYTES, _EVENT_BYTES)
        said = self.header.count
        if said is not None and (count > said or (count == said and rest)):
            extra = self._bytes - HEADER_BYTES - said * _EVENT_BYTES
            expected = f"{said} events, as its header says"
            raise self._unreadable(f"{extra} bytes behind {said} events", expected)
        self.incomplete = int(rest > 0 or (said is not None and count < said))
        return count

    def _plain_blocks(self) -> Iterator[Array]:
        left = self._count()
        at, most = HEADER_BYTES, _BLOCK_EVENTS
        with self.path.open("rb") as stream:
            while left:
                stream.seek(at)
                events = np.fromfile(stream, EVENT_DTYPE, min(left, most))
                whole = _whole(events)
                if whole:
                    yield events[:whole]
                    at += whole * _EVENT_BYTES
                    left -= whole
                elif len(events) < min(left, most):
                    raise self._unreadable(f"{left} events less than it had", "a file that stays as it is")
                elif len(events) == left:
                    self.incomplete = 1
                    return
                else:
                    most *= 2  # a message longer than the block

    # -- packed files

    def _unpacked(self) -> Iterator[bytes]:
        with self.path.open("rb") as stream:
            frames = self._frames(stream)
            if frames is None:
                yield from self._salvaged(stream)
                return
            codec = pa.Codec("zstd")
            for number, frame in enumerate(frames):
                stream.seek(frame.offset)
                packed = stream.read(frame.packed)
                if zlib.crc32(packed) != frame.crc:
                    raise self._damaged(number, frame, "another checksum")
                try:
                    yield codec.decompress(packed, frame.events * _EVENT_BYTES, asbytes=True)
                except (OSError, pa.ArrowException) as error:
                    raise self._damaged(number, frame, str(error)) from None

    def _damaged(self, number: int, frame: Frame, found: str) -> UnreadableFile:
        return self._unreadable(
            f"frame {number} at byte {frame.offset}: {found}", "the frame its index names"
        )

    def _frames(self, stream: IO[bytes]) -> list[Frame] | None:
        """The frames by the index, or None where the file ends before one."""
        stream.seek(max(HEADER_BYTES, self._bytes - FOOTER_BYTES))
        offset = index_offset(stream.read(FOOTER_BYTES), self._bytes)
        if offset is None:
            return None
        frames = None
        if offset >= 0:
            stream.seek(offset)
            frames = read_index(stream.read(), offset)
        if frames is None:
            raise self._unreadable("a damaged index", "frames one behind the other, and their events")
        said, found = self.header.count, sum(frame.events for frame in frames)
        if said is not None and found != said:
            raise self._unreadable(f"{found} events", f"{said}, as its header says")
        return frames

    def _salvaged(self, stream: IO[bytes]) -> Iterator[bytes]:
        """What can be unpacked of a file that was cut off."""
        stream.seek(HEADER_BYTES)
        found = 0
        try:
            with pa.CompressedInputStream(pa.PythonFile(cast("io.IOBase", stream), "r"), "zstd") as unpacked:
                while piece := unpacked.read(_PIECE_BYTES):
                    found += len(piece)
                    yield piece
        except (OSError, pa.ArrowException):
            self.incomplete = 1
        said = self.header.count
        if said is None:
            return
        if found >= said * _EVENT_BYTES:
            raise self._unreadable("a damaged index", "the index at its end")
        self.incomplete = 1


def _whole(events: Array) -> int:
    """Number of events up to the last `LAST`."""
    behind = len(events)
    while behind:
        first = max(0, behind - 4096)
        last = np.flatnonzero(events["flags"][first:behind] & EventFlag.LAST)
        if len(last):
            return first + int(last[-1]) + 1
        behind = first
    return 0


class CaptureWriter:
    """Writes a capture file as events come.

    The file appears at `path` when the writer is closed, whole; until then, and for good if an
    exception ends its `with` block, there is nothing (what stood there before stays). `files` are
    those the events came from. Raises `SettingError` if it cannot be written there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        instruments: tuple[Instrument, ...],
        source: SourceInfo,
        *,
        files: tuple[SourceFile, ...] = (),
        compression: str = "none",
    ) -> None:
        if compression not in COMPRESSIONS:
            hint = f"choose one of {', '.join(COMPRESSIONS)}"
            raise SettingError(f"compression={compression!r}", hint=hint)
        self.header = CaptureHeader(
            source=source, instruments=check_ids(instruments), compression=compression, files=files, count=0
        )
        self._ids = np.array([one.symbol_id for one in self.header.instruments], np.uint32)
        self._codec = pa.Codec("zstd", compression_level=_LEVEL) if compression == "zstd" else None
        self._frames: list[Frame] = []
        self._pending: list[Array] = []
        self._digest = hashlib.sha256()
        header = self.header.pack()
        self._file = WholeFile(path)
        self.path = self._file.path
        self._stream: IO[bytes] | None = self._file.part.open("wb")
        self._stream.write(header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, events: EventBatch | Array) -> None:
        """Append events: a batch, or an `EVENT_DTYPE` array of the instruments given at the start."""
        array = events.array if isinstance(events, EventBatch) else events
        if self._stream is None:
            raise StateError("the capture is closed", hint="open another `CaptureWriter`")
        if array.dtype != EVENT_DTYPE or array.ndim != 1:
            raise SettingError(
                f"events of {array.dtype}", hint="give an `EventBatch` or an array of EVENT_DTYPE"
            )
        if not len(array):
            return
        strangers = ~np.isin(array["symbol_id"], self._ids)
        if strangers.any():
            known = [one.symbol for one in self.header.instruments]
            raise UnknownSymbol(int(array["symbol_id"][np.argmax(strangers)]), known)
        first = self.header.first_local_ts_ns
        self.header = replace(
            self.header,
            count=(self.header.count or 0) + len(array),
            first_local_ts_ns=int(array["local_ts_ns"][0]) if first is None else first,
            last_local_ts_ns=int(array["local_ts_ns"][-1]),
        )
        array = array.copy()  # in one piece, and the caller may fill his anew
        self._digest.update(array.data)
        if self._codec is None:
            self._stream.write(array.data)
            return
        self._pending.append(array)
        if sum(map(len, self._pending)) >= FRAME_EVENTS_MAX:
            self._pack(FRAME_EVENTS_MAX)

    def close(self) -> None:
        """Complete the file and put it in its place; more than once does nothing."""
        if self._stream is None:
            return
        try:
            if self._codec is not None:
                self._pack(1)
                self._stream.write(pack_index(self._frames, self._stream.tell()))
            self.header = replace(self.header, sha256=self._digest.hexdigest())
            self._stream.seek(0)
            self._stream.write(self.header.pack())
            self._stream.close()
            self._file.publish()
        except BaseException:
            self.discard()
            raise
        self._stream = None

    def discard(self) -> None:
        """Forget everything; nothing is left behind."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            self._file.discard()

    def _pack(self, least: int) -> None:
        """Packs what is pending into frames while there are `least` events; frames end with a message."""
        assert self._codec is not None
        assert self._stream is not None
        events = np.concatenate(self._pending) if self._pending else np.zeros(0, EVENT_DTYPE)
        while len(events) >= least:
            count = _whole(events[:FRAME_EVENTS_MAX]) or min(FRAME_EVENTS_MAX, len(events))
            packed = self._codec.compress(events[:count].tobytes(), asbytes=True)
            self._frames.append(Frame(self._stream.tell(), len(packed), count, zlib.crc32(packed)))
            self._stream.write(packed)
            events = events[count:]
        self._pending = [events] if len(events) else []


def write_capture(
    path: str | os.PathLike[str], batch: EventBatch, *, compression: str = "none"
) -> CaptureHeader:
    """Write one batch as a capture file; see `CaptureWriter`."""
    writer = CaptureWriter(path, batch.instruments, batch.source, files=batch.files, compression=compression)
    with writer:
        writer.write(batch)
    return writer.header


# -- the source


def infer(request: Request) -> tuple[Instrument, ...]:
    """The instruments that the files' headers name."""
    return _instruments(_open(request), request)


def read(request: Request) -> Iterator[EventBatch]:
    """The events of the files; see `reading.read_events`. One plain file as a whole is not copied."""
    files = _open(request)
    instruments = _instruments(files, request)
    infos = list(dict.fromkeys(file.header.source for file in files))
    if len(infos) > 1:
        names = ", ".join(info.name for info in infos)
        raise SettingError(f"captures of {names} in one stream", hint="read them one by one")
    counts = Counts()
    template = EventBatch(
        np.zeros(0, EVENT_DTYPE),
        instruments,
        infos[0],
        request.options,
        tuple(file.source_file() for file in files),
        checked=True,
    )
    return batches(_events(files, instruments, request, counts), template, request.events_max, counts)


def _open(request: Request) -> list[CaptureFile]:
    files = [CaptureFile(path) for path in request.inputs if isinstance(path, Path)]
    check_file_order([file.path for file in files], [file.header.first_local_ts_ns for file in files])
    for before, after in itertools.pairwise(file.header for file in files):
        first, last = after.first_local_ts_ns, before.last_local_ts_ns
        if first is not None and last is not None and first < last:
            names = [str(file.path) for file in files]
            raise FileOrder(names, names)
    return files


def _instruments(files: list[CaptureFile], request: Request) -> tuple[Instrument, ...]:
    """Those of the headers, in the form the caller gave them; all, or the one asked for."""
    found: dict[int, Instrument] = {}
    for one in (one for file in files for one in file.header.instruments):
        _check_same(found.setdefault(one.symbol_id, one), one)
    for one in request.instruments or ():
        if one.symbol_id in found:
            _check_same(one, found[one.symbol_id])
            found[one.symbol_id] = one
    known = list(found.values())
    if request.symbol is None:
        return tuple(known)
    return (choose_instrument(known, request.symbol),)


def _check_same(declared: Instrument, found: Instrument) -> None:
    for name in ("symbol", "price_exponent", "qty_exponent"):
        if getattr(declared, name) != getattr(found, name):
            file, line = declared.place_of(name)
            raise InstrumentMismatch(
                name, getattr(declared, name), getattr(found, name), file=file, line=line
            )


def _events(
    files: list[CaptureFile], instruments: tuple[Instrument, ...], request: Request, counts: Counts
) -> Iterator[Array]:
    ids = np.array([one.symbol_id for one in instruments], np.uint32)
    for file in files:
        counts.follow(file.dropped)
        everything = {one.symbol_id for one in file.header.instruments} <= set(ids.tolist())
        for block in [file.array()] if request.events_max is None else file.blocks():
            yield block if everything else block[np.isin(block["symbol_id"], ids)]


SOURCES: Final = {
    "capture": Source(
        SourceInfo("capture", sequenced=True, has_snapshots=True, local_time=True, trade_sides=True),
        read,
        infer,
    )
}
