"""What a simulated venue sees of one instrument: its book, its trades, and what changed.

The guard and the book are those of everything else: while the book is not known to be the
venue's, nothing is filled from it. Leans on `book` and `market`. Knows no orders of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from featureplane.book.orders import OrderBook
from featureplane.market.events import EventFlag, Kind, StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.messages import Event, Message
from featureplane.market.quality import Admission, Outcome, Reads, StreamGuard
from featureplane.market.schedule import Schedule

__all__ = ["Change", "MarketView", "Step"]

_STATUS_TRADING: Final = 3
_APPLIED: Final = frozenset({Outcome.APPLIED, Outcome.UNFINISHED})
_UNREAD: Final = frozenset({Outcome.IGNORED, Outcome.SPOILED})
_LEVEL: Final = int(Kind.LEVEL)
_ADD: Final = int(Kind.ADD)
_EXECUTE: Final = int(Kind.EXECUTE)
_CONCEALED: Final = int(EventFlag.CONCEALED)


class Change(NamedTuple):
    """One change of a level: `before` and `after` are its sizes, `order_id` whose doing it was, or 0."""

    side: int
    price: int
    before: int
    after: int
    order_id: int
    executed: bool = False  # the order was filled, not taken away
    concealed: bool = False  # the level went out of the feed's view; it may well be there


class Step(NamedTuple):
    """What one message did; `resynced` instead of changes where a book was replaced or mended."""

    source_ts_ns: int
    trades: list[Event]
    changes: list[Change]
    resynced: bool


class MarketView:
    """The market of one instrument, message by message."""

    __slots__ = ("_clock_ns", "_guard", "_locked", "_open", "_schedule", "_status", "book")

    def __init__(self, instrument: Instrument, options: StreamOptions) -> None:
        self.book = OrderBook()
        self._guard = StreamGuard(
            instrument.symbol,
            reads=Reads.BOOK | Reads.TRADES,
            on_gap=options.on_gap,
            seed=options.seed,
            seed_after=options.seed_after,
        )
        self._locked = instrument.locked == "valid"
        self._schedule = Schedule(instrument)
        self._status = _STATUS_TRADING
        self._open = not self._schedule.has_sessions
        self._clock_ns = 0

    @property
    def is_trading(self) -> bool:
        """Whether status and session both say so (rule 3.12)."""
        return self._status == _STATUS_TRADING and self._open

    @property
    def is_readable(self) -> bool:
        """Whether the book is whole and not crossed."""
        return self._guard.is_whole and self.book.is_valid(locked=self._locked)

    def best(self, side: int) -> int | None:
        """The best price of a side; None without one, or while the book cannot be read."""
        levels = self.book.side(side)
        return levels.price(1) if len(levels) and self.is_readable else None

    def size_at(self, side: int, price: int) -> int:
        """The size of a level, 0 if it is not there."""
        return self.book.side(side).size_at(price)

    def walk(self, side: int) -> Iterator[tuple[int, int]]:
        """Price and size of the levels of a side, best first."""
        levels = self.book.side(side)
        for i in range(1, len(levels) + 1):
            yield levels.price(i), levels.qty(i)

    def worst(self, side: int) -> int | None:
        """The last price of a side, None without one."""
        levels = self.book.side(side)
        return levels.price(len(levels)) if len(levels) else None

    def reconnect(self) -> None:
        """A connection without proof that it continues the one before: wait for a snapshot."""
        self._guard.reconnect()
        self.book.clear()

    def take(self, message: Message, *, detailed: bool) -> Step | None:
        """Apply the next message; None if it says nothing new.

        Changes are told with `detailed` alone: who has no orders has no use for them.
        """
        admission = self._guard.admit(message)
        if admission.outcome in _UNREAD:
            return None
        self._clock_ns = max(self._clock_ns, admission.source_ts_ns)
        if message.status is not None:
            self._status = message.status
        if self._schedule.has_sessions:
            self._open = self._schedule.is_open(self._clock_ns)
        changes: list[Change] = []
        resynced = False
        if admission.outcome in _APPLIED:
            if detailed and not admission.begins and _is_plain(admission):
                for event in admission.messages[0].events:
                    self._change(event, changes)
            else:
                self.book.admit(admission)
                resynced = True
        return Step(admission.source_ts_ns, message.trades, changes, resynced)

    def _change(self, event: Event, out: list[Change]) -> None:
        if event.kind == _LEVEL:
            levels = self.book.side(event.side)
            before = levels.size_at(event.price)
            levels.set(event.price, event.qty)
            concealed = bool(event.flags & _CONCEALED)
            out.append(
                Change(event.side, event.price, before, event.qty, event.order_id, concealed=concealed)
            )
        elif event.kind >= _ADD:
            self._order_change(event, out)

    def _order_change(self, event: Event, out: list[Change]) -> None:
        """An order-level event; one that grows or moves leaves its place in the queue."""
        orders, number = self.book.orders, event.order_id
        held = orders.get(number)
        before = self.book.side(held.side).size_at(held.price) if held else 0
        self.book.apply(event)
        now = orders.get(number)
        keeps = held and now and now.price == held.price and now.qty <= held.qty
        if held:
            gone = held.qty - (now.qty if now and keeps else 0)
            executed = event.kind == _EXECUTE
            out.append(Change(held.side, held.price, before, before - gone, number, executed=executed))
        if now and not keeps:
            after = self.book.side(now.side).size_at(now.price)
            out.append(Change(now.side, now.price, after - now.qty, after, number))


def _is_plain(admission: Admission) -> bool:
    """One message that changes levels, and replaces none."""
    if len(admission.messages) != 1:
        return False
    message = admission.messages[0]
    return not message.snapshot and not message.clears
