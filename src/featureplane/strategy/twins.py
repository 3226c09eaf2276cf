"""The legacy form of a strategy beside its shared form: it sees the same, decides, and reaches nobody.

Behind every message it is played all that the shared form saw of it, in the same order: gap, what became of
orders, trades, book, and what became of orders then. Orders are the shared form's; the silent form's are held
against them one by one, and share their numbers and their fate. Where they part the comparison ends: from
there on the silent form would see fills of orders that it does not have.

A silent form that begins beside one that runs already does not know what that knows. It is *in step* once
both have decided alike for long, and it asked for everything that works; nothing is held against it before.

Leans on `strategy.agreement`, `desk` and `dispatch`. Knows nothing of feature sets.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace
from typing import Any, Final

from featureplane.errors import StateError
from featureplane.execution.orders import Order, OrderEvent, OrderIntent
from featureplane.market.instruments import Instrument
from featureplane.strategy.agreement import Difference, first_difference
from featureplane.strategy.api import HANDLERS, BaseStrategy, StrategyContext, check_features
from featureplane.strategy.desk import Decision, Desk, Exchange
from featureplane.strategy.dispatch import EventRoom
from featureplane.strategy.market import Did
from featureplane.strategy.states import OWN, OwnError, StrategyState, start

__all__ = ["STEP_BOOKS", "SilentDesk", "Twin"]

STEP_BOOKS: Final = 500
"""Book messages of every symbol over which both forms must have decided alike to be in step.

An average that began later has the bits of one that began earlier by then: what an average over eight has
of its beginning is below the last place after 160.
"""

_BOOK: Final = int(Did.BOOK)
_TRADES: Final = int(Did.TRADES)
_LEVELS: Final = int(Did.LEVELS)
_TWO_SIDED: Final = int(Did.TWO_SIDED)


class SilentDesk(Desk):
    """Orders that reach nobody: those of another desk, if they are the same, with their numbers.

    `told` are the decisions of that desk at the message at hand. `agreed` counts those that were the same.
    """

    def __init__(self, real: Desk, exchange: Exchange, *, in_step: bool) -> None:
        super().__init__(real.name, exchange)
        self._real, self.in_step = real, in_step
        self.told: deque[Decision] = deque()
        self.agreed = 0
        self.difference: Difference | None = None
        self.disagreed = False  # at the message at hand, before both are in step
        self._asked = set[int]()
        self._sync()

    def submit(self, intent: OrderIntent) -> int:
        """See `Desk.submit`."""
        if not self.is_open:
            raise StateError(f"{self.name} has been stopped", hint="it sends no more orders")
        real = self._same("submit", intent)
        if real is None:
            return 0
        if real.outcome != "sent":
            self.refused += 1
            return 0
        self._asked.add(real.order_id)
        self._working[real.order_id] = Order(replace(intent, client_id=real.order_id))
        return real.order_id

    def cancel(self, order_id: int) -> bool:
        """See `Desk.cancel`."""
        order = self._working.get(order_id)
        if order is None:
            if not 0 < order_id <= self._exchange.last_id:
                raise StateError(f"order {order_id} is not one of {self.name}")
            return False
        if order_id in self._ending or order_id in (self._exchange.late or ()):
            return False
        if self._same("cancel", order.intent) is None:
            return False
        self._ending.add(order_id)
        return True

    def close(self) -> None:
        """Decide nothing more."""
        self.is_open = False

    def _forget(self, order_id: int) -> None:
        del self._working[order_id]
        self._asked.discard(order_id)

    def _same(self, action: str, intent: OrderIntent) -> Decision | None:
        """The decision of the other desk that this is too."""
        if self.difference is not None:
            return None
        for real in self.told if not self.in_step else tuple(self.told)[:1]:
            if real == self._as_told(action, intent, real):
                self.told.remove(real)
                self.agreed += 1
                return real
        if not self.in_step:
            self.disagreed = True
            return None
        real_next = self.told[0] if self.told else None
        mine = self._as_told(action, intent, real_next)
        self.difference = first_difference([mine], [] if real_next is None else [real_next], self.agreed)
        return None

    def _as_told(self, action: str, intent: OrderIntent, real: Decision | None) -> Decision:
        """What was decided here, with the number and the outcome that the other desk's decision had."""
        if real is None or action == "cancel":
            return self._decision(action, intent, "sent")
        return self._decision(action, replace(intent, client_id=real.order_id), real.outcome)

    def end_message(self) -> None:
        """The message was played."""
        if self.in_step:
            if self.told and self.difference is None:
                self.difference = first_difference([], [self.told[0]], self.agreed)
            return
        self.disagreed |= bool(self.told)
        self.told.clear()
        self._sync()

    @property
    def knows_all(self) -> bool:
        """Whether everything that works was asked for here too."""
        return self._working.keys() <= self._asked

    def _sync(self) -> None:
        """Take over what the other desk has."""
        real = self._real
        self._positions.clear()
        self._positions.update(real.positions)
        self._working.clear()
        self._working.update({number: copy(order) for number, order in real.working.items()})
        self._ending = set(real.ending)
        self._asked &= self._working.keys()


class Twin:
    """The silent legacy form of a strategy that runs. Raises what refuses a strategy at the start."""

    def __init__(
        self,
        real: StrategyState,
        legacy: BaseStrategy,
        instruments: Iterable[Instrument],
        exchange: Exchange,
        *,
        in_step: bool,
    ) -> None:
        check_features(legacy, None)
        given = tuple(instruments)
        legacy.name = real.name
        self.real, self.desk = real, SilentDesk(real.desk, exchange, in_step=in_step)
        legacy.ctx = StrategyContext(given, None, self.desk)
        self.state = StrategyState(legacy, self.desk)
        start(legacy)
        self._calls: dict[str, Callable[[Any], None]] = {
            name: getattr(legacy, name)
            for name in HANDLERS
            if getattr(type(legacy), name) is not getattr(BaseStrategy, name)
        }
        self.gap: bool | None = None
        """Whether the book is whole behind the gap at hand; None: there is none."""

        self._events: list[OrderEvent] = []
        self._before = 0
        self._calm = Counter({one.symbol: 0 for one in given})

    def hears(self, handler: str) -> bool:
        """Whether it is called for that."""
        return handler in self._calls

    @property
    def in_step(self) -> bool:
        """Whether its decisions are held against those of the shared form."""
        return self.desk.in_step

    @property
    def why_over(self) -> str | None:
        """Why it cannot be compared any further; None while it can."""
        error, difference = self.state.error, self.desk.difference
        if error is not None:
            return f"the legacy form raised {type(error).__name__}: {error}"
        return None if difference is None else str(difference)

    def hear(self, event: OrderEvent) -> None:
        """Something happened to an order of the shared form."""
        self._events.append(event)

    def mark(self) -> None:
        """What happens to orders from now on was heard behind the market."""
        self._before = len(self._events)

    def follow(self, room: EventRoom, bits: int) -> None:
        """Play it the message at hand as the shared form saw it."""
        events, self._events = self._events, []
        try:
            self._play(room, bits, events)
        except OWN as error:
            self._fail(self.state, "", error)
        self.gap, self._before = None, 0
        self.desk.end_message()
        if not self.in_step:
            self._look(room.names[room.head[0]], bits)

    def _play(self, room: EventRoom, bits: int, events: list[OrderEvent]) -> None:
        calls = self._calls
        if self.gap is not None and "on_gap" in calls:
            calls["on_gap"](room.gap(is_whole=self.gap))
            room.end_gap()
        for event in events[: self._before]:
            self._take(event)
        if bits & _TRADES and "on_tick" in calls:
            room.ticks([(self.state, calls["on_tick"])], self._fail)
        if bits & _BOOK and bits & _LEVELS and "on_bid_ask" in calls:
            calls["on_bid_ask"](room.bid_ask())
            room.end_bid_ask()
        if bits & _BOOK and bits & _TWO_SIDED and "on_lob_stats" in calls:
            calls["on_lob_stats"](room.stats())
            room.end_stats()
        for event in events[self._before :]:
            self._take(event)

    def _take(self, event: OrderEvent) -> None:
        self.desk.take(event)
        call = self._calls.get("on_fill" if event.is_fill else "on_order")
        if call is not None and self.state.is_running:
            call(event)

    def _fail(self, state: StrategyState, _handler: str, error: OwnError) -> None:
        state.error, state.is_running = error, False
        self.desk.close()

    def _look(self, symbol: str, bits: int) -> None:
        """Whether both are in step now."""
        desk, calm = self.desk, self._calm
        if desk.disagreed:
            desk.disagreed = False
            for name in calm:
                calm[name] = 0
        elif bits & _BOOK:
            calm[symbol] += 1
            desk.in_step = desk.knows_all and min(calm.values()) >= STEP_BOOKS
