"""Events made of what a message did: one object a kind, used again as long as nobody keeps it.

Whether somebody keeps it is asked of the count of references; who does gets `StateError` when it
reads what it kept. Leans on `strategy.events` and `strategy.market`. Knows no strategies.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from featureplane.features.frame import FeatureFrame
from featureplane.market.events import EventBatch, EventFlag
from featureplane.strategy.events import (
    BidAskEvent,
    GapEvent,
    LOBStatsEvent,
    MarketEvent,
    TickEvent,
    end_event,
)
from featureplane.strategy.market import HEAD_WORDS, MarketBooks
from featureplane.strategy.states import OWN

if TYPE_CHECKING:
    from featureplane.strategy.states import OwnError, StrategyState

__all__ = ["EventRoom", "has_gap", "references"]

_Listening: TypeAlias = "list[tuple[StrategyState, Callable[[Any], None]]]"
_Fail: TypeAlias = "Callable[[StrategyState, str, OwnError], None]"

_LAST: Final = int(EventFlag.LAST)

references = sys.getrefcount  # WHY: looked up once, it is asked for every trade


class EventRoom:
    """Makes the events of a message, on the room of its books."""

    def __init__(self, books: MarketBooks) -> None:
        self._books, self._trades = books, books.trades
        self.names = {one.symbol_id: sys.intern(one.symbol) for one in books.instruments}
        self.tick, self._gap = TickEvent(), GapEvent()
        self._bid_ask, self._stats = BidAskEvent(), LOBStatsEvent()
        self._alone = self._references(self._gap)
        self.tick_alone = references(self.tick)
        self._see()

    def _see(self) -> None:
        """Views on the books' room, made once."""
        books = self._books
        self.head: memoryview[int] = _words(books.room)[:HEAD_WORDS]
        middle = HEAD_WORDS + 2 * books.levels
        bids = books.room[HEAD_WORDS:middle].reshape(-1, 2)
        asks = books.room[middle:].reshape(-1, 2)
        bids.flags.writeable = asks.flags.writeable = False
        counts = range(books.levels + 1)
        self._bids = [bids[:count] for count in counts]
        self._asks = [asks[:count] for count in counts]
        del bids, asks
        self._base = books.room
        self._base_alone = sys.getrefcount(self._base)
        self._side_alone = self._side_references(self._bids, 0)

    def turn_to(self, events: EventBatch) -> None:
        """Read trades from this batch."""
        self._words: memoryview[int] = _words(np.ascontiguousarray(events.array).view(np.int64))

    def ends_message(self, at: int) -> bool:
        """Whether the event at that place is the last of its message."""
        return self._words[8 * at] >> 16 & _LAST != 0

    # -- events

    def gap(self, *, is_whole: bool) -> GapEvent:
        """The gap before the message at hand."""
        event, head = self._gap, self.head
        event.symbol, event.ts, event.local_ts = self.names[head[0]], head[1], head[2]
        event.seq, event.is_whole = head[3], is_whole
        return event

    def ticks(self, listening: _Listening, fail: _Fail) -> None:
        """Deliver the trades of the message at hand, one after the other, to whoever runs."""
        for trade in self._trades():
            event = self.tick
            event.symbol, event.ts, event.local_ts, event.price, event.qty, event.side = trade
            for state, call in listening:
                try:
                    call(event)
                except OWN as error:
                    fail(state, "on_tick", error)
                    listening = [one for one in listening if one[0].is_running]
            del event
            if references(self.tick) > self.tick_alone:
                self.end_tick()

    def bid_ask(self) -> BidAskEvent:
        """The book behind the message at hand."""
        event, head = self._bid_ask, self.head
        event.symbol, event.ts, event.local_ts = self.names[head[0]], head[1], head[2]
        event.seq, event.bids, event.asks = head[3], self._bids[head[4]], self._asks[head[5]]
        return event

    def stats(self) -> LOBStatsEvent:
        """Its touch and depths."""
        event, head = self._stats, self.head
        event.symbol, event.ts, event.local_ts, event.seq = self.names[head[0]], head[1], head[2], head[3]
        event.best_bid, event.best_ask, event.bid_depth, event.ask_depth = head[6], head[7], head[8], head[9]
        event.mid_price_x2, event.spread_scaled, event.imbalance_ppm = head[10], head[11], head[12]
        return event

    # -- their ends

    def end_tick(self) -> None:
        """Somebody kept a trade whose handlers have returned."""
        end_event(self.tick)
        self.tick = TickEvent()

    def end_gap(self) -> None:
        """The handlers of a gap have returned."""
        if self._references(self._gap) > self._alone:
            end_event(self._gap)
            self._gap = GapEvent()

    def end_stats(self) -> None:
        """The handlers of the statistics have returned."""
        if self._references(self._stats) > self._alone:
            end_event(self._stats)
            self._stats = LOBStatsEvent()

    def end_bid_ask(self) -> None:
        """The handlers of a book have returned; arrays that were kept stay as they are."""
        event, head = self._bid_ask, self.head
        bids, asks = head[4], head[5]
        del event.bids, event.asks
        del event
        if self._references(self._bid_ask) > self._alone:
            end_event(self._bid_ask)
            self._bid_ask = BidAskEvent()
        kept = (
            self._side_references(self._bids, bids) > self._side_alone
            or self._side_references(self._asks, asks) > self._side_alone
            or sys.getrefcount(self._base) > self._base_alone
        )
        if kept:
            self._books.renew()
            self._see()

    @staticmethod
    def _references(event: MarketEvent) -> int:
        return sys.getrefcount(event)

    @staticmethod
    def _side_references(views: list[npt.NDArray[Any]], at: int) -> int:
        return sys.getrefcount(views[at])


def _words(array: npt.NDArray[np.int64]) -> memoryview[int]:
    return memoryview(cast("bytes", array))


def has_gap(frames: tuple[FeatureFrame, ...]) -> bool:
    """Whether messages are missing before one of some frames, at least one."""
    return frames[0].has_gap or (len(frames) > 1 and any(frame.has_gap for frame in frames))
