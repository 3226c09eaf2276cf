"""The bounded queue between a live engine and its shadow: room that two processes look at.

One writes and never waits: what finds no room is counted and left out. One reads, in a process of its own.
Counts stand in the same room, each word written by one side alone, so that they are exact whoever dies.
`crates/featureplane-py/src/shadow.rs` writes the same records.

Leans on nothing of features. Knows nothing of engines.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import threading
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.errors import SettingError
from featureplane.market.quality import Quality

__all__ = [
    "FLAG_WORDS",
    "NOTHING",
    "OTHERS",
    "QUEUE_BYTES",
    "Head",
    "PlainProbe",
    "Probe",
    "Queue",
    "Record",
    "Wanted",
    "names_of",
    "probe_of",
]

QUEUE_BYTES: Final = 8 << 20
"""Room for records: twenty states of a book of 10,000 levels and what belongs to them."""

_MAGIC: Final = int.from_bytes(b"FPSHADW1", "little")
_RECORD: Final = struct.Struct("<10Q")
_WORDS: Final = 32
_PAGE: Final = 4096
_SLACK: Final = 1 << 16
_WORD: Final = (1 << 64) - 1


OTHERS: Final = ("_changed", "_ready", "_flags", "_frame", "_state")
"""Masks and flags; a frame that is there on one side only, or of another time; state of no one feature."""


FLAG_WORDS: Final = 2 * len(Quality)
"""Words behind those of names: compared frames with each quality flag, live ones, then the shadow's."""


def names_of(feature_ids: Iterable[str]) -> tuple[str, ...]:
    """What a mismatch is counted under: the features, then what belongs to none of them."""
    return (*feature_ids, *OTHERS)


class Head(IntEnum):
    """Words of the head. The live side writes 1 to 15, the shadow 16 and those behind it."""

    HEAD_BYTES = 1
    ROOM_BYTES = 2
    FULL = 3  # every message is sent, not only those whose frame is compared
    EVERY = 4
    CLOSING = 5  # nothing more will come
    WRITTEN = 8  # bytes ever
    DUE = 9  # frames that were to be compared
    SENT = 10  # those of them in the queue, ever
    SKIPPED = 11  # those that found no room
    TAKEN = 16  # bytes ever
    ROUND = 17  # beginnings of the shadow: each wants every symbol's state again
    MATCH = 18
    MISMATCH = 19
    ERROR = 20  # frames that the shadow lost because it raised or died
    PASSED = 21  # frames it did not compare because it was waiting for a state
    COUNTS = 32  # mismatches by name, a word each; behind them `FLAG_WORDS`


class Record(NamedTuple):
    """A message, and what a second engine needs to take it and compare; empty where it is not there.

    `until` counts the events of the stream up to and with the message. `sent` counts the frames to be
    compared that were ever put into the queue, with this one. `round` is the beginning of the shadow that
    `before` was sent for. `book` is where in `after` the book stands if its levels are in no order, or 0.
    """

    symbol_id: int
    until: int
    sent: int
    round: int
    before: bytes
    events: bytes
    frame: bytes
    after: bytes
    book: int = 0


class Wanted(NamedTuple):
    """What a shadow wants of a message to come: the frame of this `seq`, 0: none, and what goes with it."""

    frame: int
    before: bool
    after: bool
    message: bool  # whether or not it makes the frame


NOTHING: Final = Wanted(0, before=False, after=False, message=False)


class Queue:
    """The room. `make` begins one, `attach` opens that of a descriptor handed on."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        # WHY there at once: a page that is first touched costs the live side as much as it is to write it.
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        self._mapped = mmap.mmap(descriptor, size, flags=flags)
        self.words: npt.NDArray[np.uint64] = np.frombuffer(self._mapped, np.uint64)
        self._view = memoryview(self._mapped)
        self._of = self._view.cast("Q")
        self._barrier = threading.Lock()

    @classmethod
    def make(cls, names: int, *, every: int, full: bool, room_bytes: int = QUEUE_BYTES) -> Queue:
        """A new queue with counts for so many names, and for flags.

        Raises `OSError` where there is no memory for all of it: found out now, not when it is written.
        """
        head_bytes = -(-8 * (_WORDS + names + FLAG_WORDS) // _PAGE) * _PAGE
        size = head_bytes + room_bytes
        descriptor = _memory()
        try:
            os.truncate(descriptor, size)
            if sys.platform == "linux":
                os.posix_fallocate(descriptor, 0, size)
            queue = cls(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        for word, value in (
            (Head.HEAD_BYTES, head_bytes),
            (Head.ROOM_BYTES, room_bytes),
            (Head.FULL, int(full)),
            (Head.EVERY, every),
            (Head.ROUND, 1),
        ):
            queue.write(word, value)
        queue.write(0, _MAGIC)
        return queue

    @classmethod
    def attach(cls, descriptor: int) -> Queue:
        """The queue that a descriptor is of; raises `SettingError` for anything else."""
        queue = cls(descriptor, os.fstat(descriptor).st_size)
        if queue.read(0) != _MAGIC:
            raise SettingError("a descriptor that is no queue", hint="the live side hands it on")
        return queue

    def read(self, at: int) -> int:
        """A word of the head."""
        return self._of[at]

    def write(self, at: int, value: int) -> None:
        """A word of the head; one of the side that writes it."""
        self._of[at] = value & _WORD

    def add(self, at: int, more: int = 1) -> None:
        """More to a word of the head."""
        self._of[at] = (self._of[at] + more) & _WORD

    @property
    def held(self) -> int:
        """Bytes that were written and not taken."""
        return (self.read(Head.WRITTEN) - self.read(Head.TAKEN)) & _WORD

    @property
    def free(self) -> int:
        """Bytes there is room for."""
        return self.read(Head.ROOM_BYTES) - self.held

    @property
    def answered(self) -> int:
        """Frames that were sent and of which the shadow has said something."""
        return sum(self.read(word) for word in (Head.MATCH, Head.MISMATCH, Head.ERROR, Head.PASSED))

    def put(self, record: Record) -> bool:
        """Put a record behind the last one; False, and nothing done, where there is no room."""
        parts = (record.before, record.events, record.frame, record.after)
        size = _RECORD.size + sum(map(len, parts))
        if size > self.free:
            return False
        head = (
            size,
            record.symbol_id,
            record.until,
            record.sent,
            record.round,
            *map(len, parts),
            record.book,
        )
        at = self.read(Head.WRITTEN)
        for part in (_RECORD.pack(*head), *parts):
            at = self._copied(at, part)
        self._order()
        self.write(Head.WRITTEN, at)
        self.write(
            Head.SENT, record.sent
        )  # behind it: whoever sees this sees the record, or that it was taken
        return True

    def take(self) -> Record | None:
        """Take the first record out, as bytes of its own; None if there is none."""
        if not self.held:
            return None
        self._order()
        at = self.read(Head.TAKEN)
        size, symbol_id, until, sent, round_, *lengths, book = _RECORD.unpack(self._bytes(at, _RECORD.size))
        place, parts = at + _RECORD.size, []
        for length in lengths:
            parts.append(self._bytes(place, length))
            place += length
        self._order()
        self.write(Head.TAKEN, at + size)
        before, events, frame, after = parts
        return Record(symbol_id, until, sent, round_, before, events, frame, after, book)

    def _copied(self, at: int, data: bytes) -> int:
        first, room = self.read(Head.HEAD_BYTES), self.read(Head.ROOM_BYTES)
        place = at % room
        fits = min(len(data), room - place)
        self._view[first + place : first + place + fits] = data[:fits]
        self._view[first : first + len(data) - fits] = data[fits:]
        return at + len(data)

    def _bytes(self, at: int, size: int) -> bytes:
        first, room = self.read(Head.HEAD_BYTES), self.read(Head.ROOM_BYTES)
        place = at % room
        fits = min(size, room - place)
        start = bytes(self._view[first + place : first + place + fits])
        return start if fits == size else start + bytes(self._view[first : first + size - fits])

    def _order(self) -> None:
        """What was written before is seen before what is written next, on any processor: a lock's doing."""
        with self._barrier:
            pass


def _memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("featureplane-shadow")
    import tempfile  # noqa: PLC0415 - where there is no other way, and every start passes here

    descriptor, path = tempfile.mkstemp()
    Path(path).unlink()
    return descriptor


class Probe(Protocol):
    """The live end of a queue."""

    def wanted(self, symbol_id: int, seq: int, /) -> tuple[int, bool, bool, bool]:
        """See `PlainProbe`; so for the others."""

    def taken(self, symbol_id: int, until: int, events: bytes, states: tuple[bytes, bytes, bytes], /) -> None:
        """See `wanted`."""

    def changed(self, symbol_id: int, /) -> None:
        """See `wanted`."""


def probe_of(queue: Queue, symbols: Iterable[int]) -> Probe:
    """The live end for an engine in Python with these symbols; in Rust where that is installed."""
    if not native.available():
        return PlainProbe(queue)
    probe: Probe = native.module().ShadowProbe(queue.words, list(symbols))
    return probe


class PlainProbe:
    """The live end for the reference; twin of `shadow.rs`.

    Around every message: `wanted` before it, `taken` behind it. States are saved by the caller, who is told
    which are needed.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._full = bool(queue.read(Head.FULL))
        self._rounds: dict[int, int] = {}
        self._state_bytes = 0
        self._lagging = False

    def wanted(self, symbol_id: int, seq: int, /) -> Wanted:
        """What is wanted of the next message of a symbol that has computed `seq` frames."""
        every = max(self._queue.read(Head.EVERY), 1)
        frame = seq + 1 if (seq + 1) % every == 0 else 0
        if not self._full and not frame:
            return NOTHING
        told = self._full and self._rounds.get(symbol_id, 0) == self._queue.read(Head.ROUND)
        if self._lagging or not told:
            half = self._queue.read(Head.ROOM_BYTES) // 2
            enough = min(2 * self._state_bytes + _SLACK, half)
            self._lagging = self._queue.free < (half if self._lagging else enough)
        states = not self._lagging and not told
        return Wanted(frame, states, states and not self._full, self._full)

    def taken(self, symbol_id: int, until: int, events: bytes, states: tuple[bytes, bytes, bytes], /) -> None:
        """A message that made the frame wanted, or is wanted itself; `states`: before, frame, after."""
        before, frame, after = states
        due, queue = int(bool(frame)), self._queue
        queue.add(Head.DUE, due)
        self._state_bytes = max(self._state_bytes, len(before), len(after))
        round_ = queue.read(Head.ROUND) if self._full else 0
        sent = queue.read(Head.SENT) + due
        record = Record(symbol_id, until, sent, round_, before, events, frame, after)
        if self._lagging or not queue.put(record):
            self._skip(symbol_id, due)
        else:
            self._rounds[symbol_id] = round_

    def changed(self, symbol_id: int, /) -> None:
        """Something else than a message changed a symbol's state: the shadow needs it again."""
        self._rounds[symbol_id] = 0

    def _skip(self, symbol_id: int, due: int) -> None:
        self._queue.add(Head.SKIPPED, due)
        self._lagging = True
        self._rounds[symbol_id] = 0
