"""`paper`: a venue made of market data, recorded or live.

Orders meet the book we hold, and wait in it by one of three fill models (`venues.fills`); they move
nothing: the market does not know of them. Everything follows from the messages and the calls, no
clock is read and nothing is drawn. One clock counts, that of receipt: an order sent at t meets the
market as we hold it at t + `entry_ns`. Leans on `venues.desk`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy.typing as npt

from featureplane import native
from featureplane.errors import StateError, UnknownSymbol
from featureplane.execution.approval import Approved
from featureplane.execution.orders import EventKind, OrderEvent, OrderIntent
from featureplane.execution.venue import open_once
from featureplane.execution.venues.desk import Desk, PaperOptions
from featureplane.execution.venues.market_view import MarketView
from featureplane.execution.venues.native_view import NativeView, NativeViews
from featureplane.market.events import EventBatch, EventFlag, StreamOptions
from featureplane.market.instruments import Instrument, check_ids
from featureplane.market.messages import Event, Message, MessageReader, check_array

__all__ = ["PaperOptions", "PaperVenue"]

_LAST: Final = int(EventFlag.LAST)
_ENDS: Final = frozenset({EventKind.REJECTED, EventKind.FILLED, EventKind.CANCELLED, EventKind.EXPIRED})


class PaperVenue:
    """An `OrderVenue` without an exchange.

    `stream` says how the market data are to be taken, as for an engine; `backend` who looks at them: in Rust
    a message that concerns no order costs next to nothing. An order is over for the venue before we are told
    so; its number is free once `poll` has told.
    """

    name = "paper"

    def __init__(
        self,
        instruments: Iterable[Instrument],
        options: PaperOptions | None = None,
        *,
        stream: StreamOptions | None = None,
        backend: str = "auto",
    ) -> None:
        given, stream = check_ids(instruments), stream or StreamOptions()
        self.options = options or PaperOptions()
        # WHY not all in Rust: sessions are hours of a time zone, `level_exit` looks at the last level.
        plain = self.options.level_exit or any(one.sessions for one in given)
        self._views = NativeViews(given, stream) if native.resolve(backend) == "rust" and not plain else None
        self._moved: set[int] = set()
        self._desks = {
            one.symbol_id: Desk(one, self.options, self._view(one, stream), self._tell, self._moved.add)
            for one in given
        }
        self._by_symbol = {one.symbol: self._desks[one.symbol_id] for one in given}
        self._reader = MessageReader(list(self._desks), on_malformed=stream.on_malformed)
        self._refuses = stream.on_malformed == "raise"
        self._intents = dict[int, OrderIntent]()
        self._now_ns = 0
        self._due: list[tuple[int, int, Callable[[int], None]]] = []
        self._told: list[tuple[int, int, OrderEvent]] = []
        self._count = 0
        self._turned: object = None

    def best(self, symbol: str) -> tuple[int | None, int | None]:
        """The best bid and ask in force; None where there is none or the book cannot be read."""
        return self._desk(symbol).best

    def send(self, approved: Approved[OrderIntent], now_ns: int) -> None:
        """Take an order the risk check approved; raises `StateError` for any other, or one sent twice."""
        intent = open_once(approved, self._intents)
        desk = self._desk(intent.symbol)
        self._pass_time(now_ns)
        self._intents[intent.client_id] = intent
        self._later(self.options.entry_ns, lambda at: self._arrive(desk, intent, at))

    def cancel(self, client_id: int, now_ns: int) -> None:
        """Ask for the end of an order; raises `StateError` for one we were told is over, or never sent."""
        intent = self._intents.get(client_id)
        if intent is None:
            raise StateError(f"order {client_id} is not working", hint="its last event has been told")
        self._pass_time(now_ns)
        self._tell(intent, EventKind.CANCEL_REQUESTED, self._now_ns, delay=False)
        desk = self._desk(intent.symbol)
        self._later(self.options.entry_ns, lambda at: desk.cancel(intent, at))

    def on_market(self, events: npt.NDArray[Any], *, checked: bool = False) -> None:
        """Take whole messages, of any of the instruments.

        `checked`: they are those of an `EventBatch`, and need not be looked at again, unless malformed
        ones were to be dropped later; that saves some 40 % of the time. Raises what reading them
        raises: `MalformedEvent`, `UnknownSymbol`, `SequenceGap`.
        """
        if self._views is not None:
            self._views.turn_to(check_array(events))
            self._turned = events
            self.on_message(events, 0, len(events))
            return
        for message in _cut(events) if checked and self._refuses else self._reader.read(events):
            self._pass_time(message.local_ts_ns)
            self._desks[message.symbol_id].on_message(message, self._now_ns)

    def on_message(self, events: EventBatch | npt.NDArray[Any], start: int, stop: int) -> bool:
        """Take messages of a batch where they stand, as `on_market` does; whether to `poll` then.

        There is something to poll for when orders were told of, or something is due.
        """
        views = self._views
        if views is None:
            array = events.array if isinstance(events, EventBatch) else events
            self.on_market(array[start:stop], checked=True)
            return True
        if events is not self._turned and isinstance(events, EventBatch):
            views.turn_to(events.array)
            self._turned = events
        while start < stop:
            now_ns = views.local_ts_ns[8 * start]
            if self._due:
                self._pass_time(now_ns)
            elif now_ns > self._now_ns:
                self._now_ns = now_ns
            if self._moved:
                self._follow(views)
            taken = views.take(start, stop)
            if taken is None:
                views.refuse(start)
            start += taken >> 1
            if taken & 1:
                symbol_id, step = views.step()
                self._desks[symbol_id].on_step(step, self._now_ns)
        return bool(self._told or self._due)

    def _follow(self, views: NativeViews) -> None:
        """Look where orders wait now."""
        for symbol_id in self._moved:
            views.wait(symbol_id, *self._desks[symbol_id].waits())
        self._moved.clear()

    def reconnect(self, symbol: str) -> None:
        """Market data come over another connection: no book until the next snapshot, orders wait on.

        Raises `UnknownSymbol`.
        """
        self._desk(symbol).reconnect()

    def poll(self, now_ns: int) -> list[OrderEvent]:
        """What has become known until now, in order; what comes at the very time of a message is later."""
        if self._due or now_ns > self._now_ns:
            self._pass_time(now_ns)
        out: list[OrderEvent] = []
        while self._told and self._told[0][0] <= self._now_ns:
            event = heapq.heappop(self._told)[2]
            if event.kind in _ENDS:
                del self._intents[event.client_id]
            out.append(event)
        return out

    def _view(self, instrument: Instrument, stream: StreamOptions) -> MarketView | NativeView:
        if self._views is None:
            return MarketView(instrument, stream)
        return self._views.view(instrument.symbol_id)

    # -- time

    def _pass_time(self, now_ns: int) -> None:
        """Do what was due before `now_ns`: at one time the market comes first."""
        while self._due and self._due[0][0] < now_ns:
            at, _, action = heapq.heappop(self._due)
            action(at)
        self._now_ns = max(self._now_ns, now_ns)

    def _later(self, delay_ns: int, action: Callable[[int], None]) -> None:
        if delay_ns:
            self._count += 1
            heapq.heappush(self._due, (self._now_ns + delay_ns, self._count, action))
        else:
            action(self._now_ns)

    def _arrive(self, desk: Desk, intent: OrderIntent, at_ns: int) -> None:
        order = desk.arrive(intent, at_ns)
        if order is not None and self.options.life_ns is not None:
            self._count += 1
            end_ns = at_ns + self.options.life_ns
            heapq.heappush(self._due, (end_ns, self._count, lambda at: desk.expire(order, at)))

    # -- what is told

    def _tell(
        self,
        intent: OrderIntent,
        kind: EventKind,
        at_ns: int,
        *,
        qty: int = 0,
        price: int = 0,
        fee: int = 0,
        is_maker: bool = False,
        reason: str = "",
        delay: bool = True,
    ) -> None:
        known_ns = at_ns + (self.options.response_ns if delay else 0)
        event = OrderEvent(
            kind=kind,
            client_id=intent.client_id,
            symbol=intent.symbol,
            side=intent.side,
            venue_ts_ns=at_ns,
            ts_ns=known_ns,
            qty=qty,
            price=price,
            fee=fee,
            is_maker=is_maker,
            reason=reason,
            trace_id=intent.trace_id,
        )
        self._count += 1
        heapq.heappush(self._told, (known_ns, self._count, event))

    def _desk(self, symbol: str) -> Desk:
        try:
            return self._by_symbol[symbol]
        except KeyError:
            raise UnknownSymbol(symbol, list(self._by_symbol)) from None


def _cut(events: npt.NDArray[Any]) -> Iterator[Message]:
    """The messages of events that hold the rules; they end with whole ones."""
    part: list[Event] = []
    for row in events.tolist():
        event = Event._make(row)
        part.append(event)
        if event.flags & _LAST:
            yield Message(part)
            part = []
