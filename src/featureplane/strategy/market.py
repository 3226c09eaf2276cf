"""Guarded books of several symbols, a message at a time, and their best levels in one block of room.

What a message did is a word of bits; what the book looks like then stands in the room, 16 words and
then `levels` pairs of price and size a side. In Rust when it is installed, else in Python; the same
numbers. Leans on `book` and `market`. Knows nothing of strategies.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from enum import IntFlag
from typing import Any, Final, NoReturn, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.book.orders import OrderBook
from featureplane.errors import SettingError
from featureplane.features.pushed import check_range
from featureplane.market.events import EventBatch, EventFlag, Kind, Side, StreamOptions
from featureplane.market.instruments import Instrument, check_ids
from featureplane.market.messages import Event, Message, MessageReader
from featureplane.market.quality import Cause, Outcome, Quality, Reads, StreamGuard
from featureplane.units import I64_MAX, half_even_div

__all__ = [
    "DID_WORD",
    "EVENTS_WORD",
    "HEAD_WORDS",
    "MESSAGES_WORD",
    "STATS_LEVELS",
    "Did",
    "MarketBooks",
    "PlainBooks",
    "Tape",
    "Touch",
    "Trade",
]

HEAD_WORDS: Final = 16
"""Symbol id, venue's and local time, last id, bids and asks there; then what `LOBStatsEvent` has, then:"""

DID_WORD: Final = 13
"""What the message did."""

MESSAGES_WORD: Final = 14
"""Messages that were pushed: 1, or several of which none was taken, or 0."""

EVENTS_WORD: Final = 15
"""Their events."""

STATS_LEVELS: Final = 5
"""Levels of a side that depths are summed over."""

_SIDES: Final = tuple(Side)
_TRADE: Final = int(Kind.TRADE)
_NOT_MARKET: Final = int(EventFlag.NOT_MARKET)

Trade: TypeAlias = tuple[str, int, int, int, int, Side]
"""Symbol, the venue's and the local time, price, size and the aggressor's side."""

Touch: TypeAlias = tuple[str, int | None, int | None, int]
"""Symbol, best bid and ask, None where they cannot be known, and since when."""

_APPLIED: Final = frozenset({Outcome.APPLIED, Outcome.UNFINISHED})
_BREAKS: Final = frozenset({Outcome.BROKE, Outcome.UNFINISHED, Outcome.SPOILED})
_NO_TRADES: Final = frozenset({Outcome.IGNORED, Outcome.SPOILED, Outcome.STATUS})


class Did(IntFlag):
    """What a message did, and how the book stands behind it."""

    BOOK = 1  # the book was applied to
    TRADES = 2  # trades came that were not there before
    GAP = 4  # messages of the book are missing
    READABLE = 8  # the book is whole and not crossed
    TWO_SIDED = 16  # and has both sides
    WHOLE = 32
    LEVELS = 64  # it is readable, and its levels stand in the room


class MarketBooks:
    """The books of some symbols; `room` is written by every `push`.

    `native` are those of Rust, None in Python: an engine of theirs can take its messages to them, which is a
    `push` too. Raises `SettingError` for less than one level.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        options: StreamOptions | None = None,
        *,
        levels: int = STATS_LEVELS,
        backend: str = "auto",
    ) -> None:
        if type(levels) is not int or not 0 < levels <= 1000:
            raise SettingError(f"levels={levels!r}", hint="an integer of 1 to 1000")
        self.instruments = check_ids(instruments)
        self.levels = levels
        self.backend = native.resolve(backend)
        options = options or StreamOptions()
        self._books: Any
        if self.backend == "rust":
            self._books = native.module().MarketBooks(
                [
                    (sys.intern(one.symbol), one.symbol_id, one.tick or 1, one.locked == "valid")
                    for one in self.instruments
                ],
                levels,
                _SIDES,
                on_gap=options.on_gap,
                seed=options.seed,
                drop_malformed=options.on_malformed == "drop",
            )
        else:
            self._books = PlainBooks(self.instruments, options, levels)
        self.native = self._books if self.backend == "rust" else None
        self.tape: Tape = self._books
        self.trades: Callable[[], tuple[Trade, ...]] = self._books.trades
        """Those of the last message that were not there before, without empty ones."""
        self._events: EventBatch | None = None
        self.room: npt.NDArray[np.int64] = np.zeros(HEAD_WORDS + 4 * self.levels, np.int64)
        self._books.bind_room(self.room)

    def renew(self) -> None:
        """New room that shows the same: what looks at the old one keeps what it shows."""
        self.room = self.room.copy()
        self._books.bind_room(self.room)

    def turn_to(self, events: EventBatch) -> None:
        """Let `push` take from this batch."""
        self._events = events
        words = np.ascontiguousarray(events.array).view(np.uint64)
        self._books.bind_events(words if self.backend == "rust" else events)
        self.push_bits = self._books.push  # None instead of bits for what is no whole message

    def watch(self, *, levels: bool, sums: bool, trades: bool = False) -> None:
        """Write levels, and what `LOBStatsEvent` has, from the next message on, or leave them out.

        `trades`: an engine that takes its messages to `native` may tell of one that is a trade and nothing
        else by that trade, a list of what `trades` has.
        """
        self._books.watch(levels=levels, sums=sums, trades=trades)

    def reconnect(self, symbol_id: int) -> None:
        """The connection of a symbol may not go on where it was: no book until the next snapshot."""
        self._books.reconnect(symbol_id)

    def break_crossed(self, symbol_id: int) -> None:
        """The book of a symbol has been crossed for too long (rule 3.9): no book until the next snapshot."""
        self._books.break_crossed(symbol_id)

    def is_whole(self, symbol_id: int) -> bool:
        """Whether the book of a symbol is known, and nothing of it is missing."""
        whole: bool = self._books.is_whole(symbol_id)
        return whole

    def push(self, start: int, stop: int) -> Did:
        """Take one message, events `start` to `stop` of the batch.

        Raises `SettingError` for events that are not one whole message of a symbol that is here, and what
        reading them raises: `MalformedEvent`, `SequenceGap`.
        """
        bits = self.push_bits(start, stop)
        if bits is None:
            self.refuse(start, stop)
        return Did(bits)

    def refuse(self, start: int, stop: int) -> NoReturn:
        """Raise `SettingError` for events that were not taken."""
        if self._events is not None:
            check_range(self._events, start, stop)
        raise SettingError(
            f"events {start} to {stop} are not one message of a symbol that is here",
            hint=f"these are: {', '.join(one.symbol for one in self.instruments)}",
        )


class Tape(Protocol):
    """Messages that were taken, when, and the best prices behind them."""

    @property
    def messages(self) -> int:
        """How many there were."""

    @property
    def ts_ns(self) -> int:
        """The venue's time of the last one."""

    @property
    def local_ts_ns(self) -> int:
        """When it was received."""

    @property
    def now_ns(self) -> int:
        """The latest of those times, and of those that were told."""

    def pass_time(self, now_ns: int, /) -> None:
        """It is at least so late."""

    def touches(self) -> Sequence[Touch]:
        """Of each symbol whose book moved since this was asked last, in the order of the first moves."""

    def lose(self, symbol_id: int, /) -> None:
        """No best prices of a symbol are known until its book moves."""

    def take_back(self) -> None:
        """The last message does not count: whoever else had to take it could not."""


class _PlainBook:
    """One symbol."""

    def __init__(self, instrument: Instrument, options: StreamOptions) -> None:
        self.symbol = sys.intern(instrument.symbol)
        self.guard = StreamGuard(
            instrument.symbol, reads=Reads.BOOK, on_gap=options.on_gap, seed=options.seed
        )
        self.book = OrderBook()
        self.locked = instrument.locked == "valid"
        self.source_ts_ns = 0

    def take(self, message: Message) -> Did:
        guard = self.guard
        was_whole, gaps = guard.is_whole, guard.gaps["book"]
        admission = guard.admit(message)
        outcome, did = admission.outcome, Did(0)
        if outcome in _APPLIED:
            self.book.admit(admission)
            did |= Did.BOOK
        if outcome is Outcome.APPLIED:
            self.source_ts_ns = admission.source_ts_ns
        if message.trades and outcome not in _NO_TRADES:
            did |= Did.TRADES
        broke = outcome in _BREAKS and was_whole
        if broke or guard.gaps["book"] > gaps or guard.pending_flags & Quality.GAP_DETECTED:
            did |= Did.GAP
        guard.pending_flags = Quality(0)
        return did

    @property
    def is_readable(self) -> bool:
        return self.guard.is_whole and self.book.is_valid(locked=self.locked)


class PlainBooks:
    """The reference."""

    def __init__(self, instruments: Iterable[Instrument], options: StreamOptions, levels: int) -> None:
        self._books = {one.symbol_id: _PlainBook(one, options) for one in instruments}
        self._reader = MessageReader(list(self._books), on_malformed=options.on_malformed)
        self._levels = levels
        self._told: tuple[Trade, ...] = ()
        self.messages = self.ts_ns = self.local_ts_ns = self.now_ns = 0
        self._touches: dict[int, Touch] = {}
        self._before: tuple[Any, ...] = ({}, 0, 0, 0, 0)
        self.watch(levels=True, sums=True)

    def watch(self, *, levels: bool, sums: bool, trades: bool = False) -> None:  # noqa: ARG002 - of engines
        """See `MarketBooks.watch`."""
        self._shows_levels, self._shows_sums = levels, sums

    def bind_events(self, events: EventBatch) -> None:
        """Let `push` take from this batch."""
        self._events = events

    def bind_room(self, room: npt.NDArray[np.int64]) -> None:
        """Let `push` write here."""
        self._room = room

    def reconnect(self, symbol_id: int) -> None:
        """See `MarketBooks.reconnect`."""
        book = self._books[symbol_id]
        book.guard.reconnect()
        book.book.clear()

    def break_crossed(self, symbol_id: int) -> None:
        """See `MarketBooks.break_crossed`."""
        self._books[symbol_id].guard.break_book(Cause.CROSSED)

    def is_whole(self, symbol_id: int) -> bool:
        """See `MarketBooks.is_whole`."""
        return self._books[symbol_id].guard.is_whole

    def push(self, start: int, stop: int, /) -> int | None:
        """Take one message; see `MarketBooks.push`."""
        tape = self.messages, self.ts_ns, self.local_ts_ns, self.now_ns
        self._told, self._before = (), (dict(self._touches), *tape)
        check_range(self._events, start, stop)
        part = self._events.array[start:stop]
        if np.count_nonzero(part["flags"] & EventFlag.LAST) != 1:
            return None
        book = self._books.get(int(part["symbol_id"][0]))
        if book is None:
            return None
        did, book.source_ts_ns = Did(0), int(part[0]["source_ts_ns"])
        for message in self._reader.read(part):
            did |= book.take(message)
        did |= self._show(book, part[0])
        self._room[DID_WORD:HEAD_WORDS] = did, 1, stop - start
        self.messages += 1
        self.ts_ns, self.local_ts_ns = times = int(self._room[1]), int(self._room[2])
        self.pass_time(self.local_ts_ns)
        if did & (Did.BOOK | Did.GAP):
            bid, ask = self._room[6:8].tolist() if did & Did.TWO_SIDED else (None, None)
            self._touches[int(self._room[0])] = (book.symbol, bid, ask, self.now_ns)
        if did & Did.TRADES:
            events = map(Event._make, part.tolist())
            trades = [one for one in events if one.kind == _TRADE and one.qty and not one.flags & _NOT_MARKET]
            self._told = tuple((book.symbol, *times, one.price, one.qty, _SIDES[one.side]) for one in trades)
        return int(did)

    def trades(self) -> tuple[Trade, ...]:
        """See `MarketBooks.trades`."""
        return self._told

    def pass_time(self, now_ns: int, /) -> None:
        """See `Tape.pass_time`."""
        self.now_ns = max(self.now_ns, now_ns)

    def touches(self) -> Sequence[Touch]:
        """See `Tape.touches`."""
        told, self._touches = list(self._touches.values()), {}
        return told

    def lose(self, symbol_id: int, /) -> None:
        """See `Tape.lose`."""
        self._touches[symbol_id] = (self._books[symbol_id].symbol, None, None, self.now_ns)

    def take_back(self) -> None:
        """See `Tape.take_back`."""
        self._touches, self.messages, self.ts_ns, self.local_ts_ns, self.now_ns = self._before

    def _show(self, book: _PlainBook, head: Any) -> Did:
        room, levels = self._room, self._levels
        room[:] = 0
        room[:2] = head["symbol_id"], book.source_ts_ns
        room[2:4] = head["local_ts_ns"], book.guard.book.applied
        stands = Did.WHOLE if book.guard.is_whole else Did(0)
        watched = self._shows_levels or self._shows_sums
        if not watched or not book.is_readable:
            return stands
        stands |= Did.READABLE
        bids, asks = book.book.bids.levels(), book.book.asks.levels()
        if self._shows_levels:
            stands |= Did.LEVELS
            for side, (count_at, values) in enumerate(((4, bids), (5, asks))):
                first = HEAD_WORDS + 2 * levels * side
                room[count_at] = min(len(values), levels)
                for i, (price, qty) in enumerate(values[:levels]):
                    room[first + 2 * i], room[first + 2 * i + 1] = price, qty
        return stands | self._sums(bids, asks) if self._shows_sums else stands

    def _sums(self, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> Did:
        if not bids or not asks:
            return Did(0)
        below = sum(qty for _, qty in bids[:STATS_LEVELS])
        above = sum(qty for _, qty in asks[:STATS_LEVELS])
        if max(below, above) > I64_MAX:
            return Did(0)
        bid, ask = bids[0][0], asks[0][0]
        ppm = half_even_div((below - above) * 1_000_000, below + above)
        self._room[6:13] = bid, ask, below, above, bid + ask, ask - bid, ppm
        return Did.TWO_SIDED
