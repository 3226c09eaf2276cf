"""Messages: the events of one change of a market, which are applied together (rule 2.2).

`MessageReader` cuts an array of events into messages and refuses those that no rule accepts.

Leans on `market.events`. Knows nothing of sequences, books or features.
"""

from __future__ import annotations

import reprlib
import struct
from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from featureplane.errors import MalformedEvent, UnknownSymbol
from featureplane.market.events import EVENT_DTYPE, EventFlag, Kind, Side
from featureplane.units import MAGNITUDE_LIMIT, TIME_LIMIT_NS

__all__ = [
    "EVENT_BYTES",
    "Channel",
    "Event",
    "Message",
    "MessageReader",
    "check_array",
    "fault_of",
    "shape_of",
]

EVENT_BYTES: Final = 64

_CHUNK: Final = 4096
_FORMAT: Final = struct.Struct("<BBHIqqQQQqq")
_LAST: Final = int(EventFlag.LAST)
_RECOVERY: Final = int(EventFlag.RECOVERY)
_NOT_MARKET: Final = int(EventFlag.NOT_MARKET)
_FLAGS: Final = 0xFF
_KINDS: Final = frozenset(int(kind) for kind in Kind)
_SIDED: Final = frozenset({Kind.LEVEL, Kind.SNAPSHOT_LEVEL, Kind.QUOTE, Kind.ADD})
_TRADE: Final = int(Kind.TRADE)
_STATUS: Final = int(Kind.STATUS)


class Event(NamedTuple):
    """One event as Python integers, the fields of rule 2.1 in their order."""

    kind: int
    side: int
    flags: int
    symbol_id: int
    price: int
    qty: int
    order_id: int
    seq_last: int
    seq_prev: int
    source_ts_ns: int
    local_ts_ns: int

    def pack(self) -> bytes:
        """The 64 bytes of the event."""
        return _FORMAT.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> Event:
        """The event of 64 bytes."""
        return cls._make(_FORMAT.unpack(data))


class Channel(StrEnum):
    """What a message is about; sequences are counted for each apart (rule 2.4)."""

    BOOK = "book"
    TRADE = "trade"
    QUOTE = "quote"
    STATUS = "status"


_ALONE: Final = {_TRADE: Channel.TRADE, int(Kind.QUOTE): Channel.QUOTE, _STATUS: Channel.STATUS}


def _channel(kinds: Collection[int]) -> Channel:
    return _ALONE.get(next(iter(kinds)), Channel.BOOK) if len(kinds) == 1 else Channel.BOOK


class Message:
    """Events that are applied as one, without empty trades.

    `trades` are the market trades among them; `status` is the last trading status or None. A
    `snapshot` holds a full book; with `recovery` it restarts the book, with `clears` its clear
    events say what of the old book goes (reading 5). A `malformed` one holds what was read of it.
    """

    __slots__ = (
        "channel",
        "clears",
        "empty_trades",
        "events",
        "has_ids",
        "has_orders",
        "has_trades",
        "local_ts_ns",
        "malformed",
        "recovery",
        "seq_last",
        "seq_prev",
        "snapshot",
        "source_ts_ns",
        "status",
        "symbol_id",
        "trades",
    )

    def __init__(self, events: list[Event], *, malformed: bool = False) -> None:
        first = events[0]
        self.symbol_id = first.symbol_id
        self.seq_last, self.seq_prev = first.seq_last, first.seq_prev
        self.source_ts_ns, self.local_ts_ns = first.source_ts_ns, first.local_ts_ns
        self.has_ids = first.seq_last != 0 or first.seq_prev != 0
        self.malformed = malformed
        kinds = {event.kind for event in events}
        self.channel = _channel(kinds)
        self.trades: list[Event] = []
        self.empty_trades = 0
        self.status: int | None = None
        self.has_trades = False
        if _TRADE in kinds:
            kept = [event for event in events if event.kind != _TRADE or event.qty != 0]
            self.empty_trades = len(events) - len(kept)
            if kept and self.empty_trades and not malformed:
                kept[-1] = kept[-1]._replace(flags=kept[-1].flags | _LAST)
            events = kept
            trades = [event for event in events if event.kind == _TRADE]
            self.has_trades = bool(trades)
            self.trades = [event for event in trades if not event.flags & _NOT_MARKET]
        if _STATUS in kinds:
            self.status = [event.qty for event in events if event.kind == _STATUS][-1]
        self.events = events
        self.recovery = any(event.flags & _RECOVERY for event in events)
        self.snapshot = self.recovery or Kind.SNAPSHOT_LEVEL in kinds
        self.clears = Kind.CLEAR in kinds
        self.has_orders = max(kinds) >= Kind.ADD


def check_array(events: object) -> npt.NDArray[Any]:
    """`events`, if it is a one-dimensional array of `EVENT_DTYPE`; else raises `MalformedEvent`."""
    if not isinstance(events, np.ndarray) or events.dtype != EVENT_DTYPE or events.ndim != 1:
        raise MalformedEvent(shape_of(events), "a one-dimensional array of EVENT_DTYPE")
    return events


def shape_of(value: object) -> str:
    """What somebody gave instead of events, in a few words."""
    if isinstance(value, np.ndarray):
        name = "EVENT_DTYPE" if value.dtype == EVENT_DTYPE else value.dtype.name
        return f"an array of {name}, shape {value.shape}"
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def fault_of(event: Event) -> tuple[str, str] | None:
    """What is wrong with one event, as (found, expected), or None (reading 1)."""
    return _fault_of_kind(event) or _fault_of_numbers(event) or _fault_of_head(event)


def _fault_of_kind(event: Event) -> tuple[str, str] | None:
    kind, side, flags = event[:3]
    if kind not in _KINDS:
        return f"kind {kind}", "kind 1 to 6 or 10 to 13"
    if flags & ~_FLAGS:
        return f"flags {flags:#06x}", "bits 0 to 7"
    needs_side = kind in _SIDED
    if side > Side.ASK or (needs_side and side == 0):
        return f"side {side} for kind {kind}", "side 1 or 2" if needs_side else "side 0 to 2"
    return None


def _fault_of_numbers(event: Event) -> tuple[str, str] | None:
    price, qty = event.price, event.qty
    if not -MAGNITUDE_LIMIT < price < MAGNITUDE_LIMIT:
        return f"price {price}", "a magnitude below 2^53"
    if event.kind == _STATUS and not 0 <= qty <= 3:
        return f"qty {qty}", "0 to 3"
    if not 0 <= qty < MAGNITUDE_LIMIT:
        return f"qty {qty}", "0 to 2^53 - 1"
    return None


def _fault_of_head(event: Event) -> tuple[str, str] | None:
    last, prev, source, local = event[7:]
    if prev > last:
        return f"ids ({prev}, {last}]", "ids in ascending order"
    if not 0 <= source < TIME_LIMIT_NS:
        return f"source_ts_ns {source}", "0 to 2^62 - 1"
    if not 0 <= local < TIME_LIMIT_NS:
        return f"local_ts_ns {local}", "0 to 2^62 - 1"
    return None


def _head(event: Event) -> tuple[int, ...]:
    return event.symbol_id, *event[7:]


class MessageReader:
    """Cuts a stream of events, given piece by piece, into messages.

    `symbol_ids` are those that may occur. With `on_malformed="drop"` a message that no rule accepts
    comes out marked `malformed`. `offset` is the number of bytes taken, `pending` whether the
    stream stands inside a message: one cut off by the end of the input is incomplete.

    Raises `UnknownSymbol`, and with `on_malformed="raise"` `MalformedEvent` with the byte offset.
    """

    def __init__(self, symbol_ids: Collection[int], *, on_malformed: str = "raise") -> None:
        self._symbol_ids = frozenset(symbol_ids)
        self._drops = on_malformed == "drop"
        self._events: list[Event] = []
        self._spoiled = False
        self.offset = 0

    @property
    def pending(self) -> bool:
        """Whether the last message taken has no `LAST` yet."""
        return bool(self._events)

    def read(self, events: npt.NDArray[Any]) -> Iterator[Message]:
        """The messages that end in `events`, an array of `EVENT_DTYPE`."""
        check_array(events)
        for start in range(0, len(events), _CHUNK):
            for row in events[start : start + _CHUNK].tolist():
                yield from self.take(Event._make(row))

    def take(self, event: Event) -> Iterator[Message]:
        """The messages that end before or with this event: none, one, or with a cut one two."""
        if event.symbol_id not in self._symbol_ids:
            raise UnknownSymbol(event.symbol_id)  # those who know names add them
        fault = fault_of(event)
        if self._events and _head(event) != _head(self._events[0]):
            sound = fault is None and not self._spoiled
            if self._drops and (sound or event.symbol_id != self._events[0].symbol_id):
                yield Message(self._events, malformed=True)
                self._events, self._spoiled = [], False
            elif sound:
                fault = "another message", "the rest of one that has no LAST"
        if fault is not None and not self._drops:
            raise MalformedEvent(*fault, offset=self.offset)
        self.offset += EVENT_BYTES
        self._spoiled = self._spoiled or fault is not None
        self._events.append(event)
        if event.flags & _LAST:
            message = Message(self._events, malformed=self._spoiled)
            self._events, self._spoiled = [], False
            yield message

    def finish(self) -> int:
        """End of the input: forget a message that has no `LAST`; the number of its events."""
        count = len(self._events)
        self._events, self._spoiled = [], False
        return count
