"""Who is called for what a message did, and in which order.

`on_gap`, then the venue and what became of orders, then trades, book and frames; what handlers ask of the
venue is answered behind them. One strategy's exception is its own affair. Leans on `strategy.api`, `desk`,
`dispatch` and `market`. Knows nothing of where messages come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from typing import Any, ClassVar, Final

from featureplane.errors import FeaturePlaneError
from featureplane.execution.orders import OrderEvent
from featureplane.features.engine import FeatureEngine
from featureplane.features.frame import FeatureFrame, FrameLayout
from featureplane.features.pipeline import Pipeline
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.strategy.api import HANDLERS, BaseStrategy, check_features
from featureplane.strategy.desk import Desk
from featureplane.strategy.dispatch import EventRoom, has_gap, references
from featureplane.strategy.floor import Floor
from featureplane.strategy.market import Did, MarketBooks
from featureplane.strategy.onlookers import Onlookers
from featureplane.strategy.states import OWN, Listener, OwnError, StrategyState

__all__ = ["Calling"]

_BOOK: Final = int(Did.BOOK)
_TRADES: Final = int(Did.TRADES)
_GAP: Final = int(Did.GAP)
_LEVELS: Final = int(Did.LEVELS)
_TWO_SIDED: Final = int(Did.TWO_SIDED)
_WHOLE: Final = int(Did.WHOLE)
_MOVES: Final = _BOOK | _GAP
_SHOWN: Final = _LEVELS | _TWO_SIDED

_Handlers = list[tuple[StrategyState, Callable[[Any], None]]]


class Calling:
    """The part of a runner that calls strategies, for what books and engine have taken."""

    # WHY slots: an object of more than thirty attributes has a dictionary of its own, and looking anything up
    # there takes twice as long.
    __slots__ = (
        "__weakref__",
        "_array",
        "_books",
        "_budget_ns",
        "_checked",
        "_emits",
        "_engine",
        "_events",
        "_exchange",
        "_follows",
        "_handlers",
        "_heard",
        "_layout",
        "_listener",
        "_on_bid_ask",
        "_on_features",
        "_on_gap",
        "_on_stats",
        "_on_tick",
        "_onlookers",
        "_pending",
        "_retire",
        "_room",
        "_timer",
        "states",
    )

    TRADES_ALONE: ClassVar[bool] = True
    """A message that is a trade and nothing else need not be dispatched."""

    def __init__(
        self,
        books: MarketBooks,
        exchange: Floor,
        listener: Listener,
        *,
        budget_ns: int | None,
        timer: Callable[[], int],
        emit_features: bool,
    ) -> None:
        venue = exchange.venue
        self._books, self._room, self._exchange = books, EventRoom(books), exchange
        self._listener, self._emits = listener, emit_features
        self._budget_ns, self._timer = budget_ns, timer
        self._onlookers = Onlookers(books, venue)
        # WHY: a simulated venue that takes events where they stand needs no array made for them, and one that
        # takes none says of itself whether it has anything to tell.
        self._pending: Sized = getattr(venue, "pending", ())
        follows = None if venue is None or hasattr(venue, "pending") else self._show
        self._follows: Any = getattr(venue, "on_message", follows)
        self._events: EventBatch | None = None
        self._array: Any = None
        self._engine: FeatureEngine | Pipeline | None = None
        self._layout: FrameLayout | None = None
        self._checked: str | None = None  # the features that strategies were held against
        self._retire: Callable[[int], None] = self._end_frames
        self.states: Mapping[str, StrategyState] = {}
        self._handlers: dict[str, _Handlers] = {name: [] for name in HANDLERS}

    @property
    def _fset(self) -> FeatureSet | None:
        return None if self._engine is None else self._engine.fset

    def _subscribe(self) -> None:
        """Who is called for what; handlers that are not overridden are not."""
        running = [state for state in self.states.values() if state.is_running]
        for name in HANDLERS:
            self._handlers[name] = [
                (state, state.timed(name, self._budget_ns, self._timer))
                for state in running
                if getattr(type(state.strategy), name) is not getattr(BaseStrategy, name)
            ]
        handlers = self._handlers
        self._on_tick, self._on_bid_ask = handlers["on_tick"], handlers["on_bid_ask"]
        self._on_stats, self._on_gap = handlers["on_lob_stats"], handlers["on_gap"]
        self._on_features = handlers["on_features"] if self._emits else []
        self._heard = (_TRADES if self._on_tick else 0) | (_BOOK if self._on_bid_ask or self._on_stats else 0)
        sums = bool(self._on_stats) or self._exchange.risk is not None
        trades = bool(self._on_tick) and self.TRADES_ALONE
        self._books.watch(levels=bool(self._on_bid_ask), sums=sums, trades=trades)

    def _fail(self, state: StrategyState, handler: str, error: OwnError) -> None:
        """An exception left a handler: the strategy stops here, and the others go on."""
        state.exceptions[handler] += 1
        state.error, state.is_running = error, False
        state.desk.close()
        self._subscribe()
        self._listener.on_stopped(state)

    def _check_set(self, frame: FeatureFrame | None) -> None:
        """Stop who requires other features than those that come."""
        self._checked = None if frame is None else frame.fingerprint
        for state in [one for one in self.states.values() if one.is_running]:
            try:
                check_features(state.strategy, self._fset)
            except FeaturePlaneError as error:
                self._fail(state, "on_features", error)

    def _dispatch(self, bits: int, start: int, stop: int, frames: tuple[FeatureFrame, ...]) -> None:
        """Call everybody for a message that was taken."""
        exchange = self._exchange
        if frames or bits & _GAP or (bits & _BOOK and exchange.holds):
            self._before(bits, frames)
        follows = self._follows  # WHY not `_follow`: it would cost as much as asking a quiet venue
        if (self._pending if follows is None else follows(self._events, start, stop)) or exchange.asked:
            self._hear()
        if bits & self._heard:
            self._tell_market(bits)
        if frames:
            self._frame_events(frames)
        if exchange.asked:
            self._hear()

    def _one_trade(self, trade: list[Any]) -> None:
        """Deliver the trade that is the whole message at hand."""
        room = self._room
        event = room.tick
        event.symbol, event.ts, event.local_ts, event.price, event.qty, event.side = trade
        for state, call in self._on_tick:
            try:
                call(event)
            except OWN as error:
                self._fail(state, "on_tick", error)
        del event
        if references(room.tick) > room.tick_alone:
            room.end_tick()

    def _before(self, bits: int, frames: tuple[FeatureFrame, ...]) -> None:
        """What comes before the venue has the message: the touch in force, and a gap."""
        room = self._room
        if bits & _MOVES and self._exchange.holds:
            self._exchange.mark()
        gap = bool(frames) and (frames[0].has_gap or (len(frames) > 1 and has_gap(frames)))
        if gap and bits & _WHOLE and self._onlookers.broke_crossed(room.head[0]):
            bits &= ~_WHOLE
        if self._on_gap and (gap or bits & _GAP):
            self._deliver(self._on_gap, "on_gap", room.gap(is_whole=bits & _WHOLE != 0))
            room.end_gap()

    def _show(self, _events: EventBatch | None, start: int, stop: int) -> bool:
        """Let a venue have the message that takes arrays alone."""
        if self._exchange.venue is not None:
            self._exchange.venue.on_market(self._array[start:stop], checked=True)
        return True

    def hear(self, now_ns: int) -> None:
        """Between two messages, for venues that answer then: tell what became of orders until `now_ns`."""
        exchange = self._exchange
        exchange.tape.pass_time(now_ns)
        self._hear()
        if exchange.asked:
            self._hear()

    def _follow(self, start: int, stop: int) -> bool:
        """Let the venue have the message at hand; whether there may be something to be heard."""
        if self._follows is None:
            return bool(self._pending)
        asked: bool = self._follows(self._events, start, stop)
        return asked

    def _tell_market(self, bits: int) -> None:
        """Trades and book, of which somebody hears."""
        if bits & _TRADES and self._on_tick:
            self._room.ticks(self._on_tick, self._fail)
        if bits & _BOOK and bits & _SHOWN:
            self._book_events(bits)

    def _book_events(self, bits: int) -> None:
        room = self._room
        if self._on_bid_ask and bits & _LEVELS:
            self._deliver(self._on_bid_ask, "on_bid_ask", room.bid_ask())
            room.end_bid_ask()
        if self._on_stats and bits & _TWO_SIDED:
            self._deliver(self._on_stats, "on_lob_stats", room.stats())
            room.end_stats()

    def _frame_events(self, frames: tuple[FeatureFrame, ...]) -> None:
        if frames[0].layout is not self._layout:
            self._layout = frames[0].layout
            if self._layout.fingerprint != self._checked:
                self._check_set(frames[0])
        if not self._on_features:
            return
        count = len(frames)
        if count == 1:
            for state, call in self._on_features:
                try:
                    call(frames[0])  # WHY no name: nothing of ours is to hold the frame
                except OWN as error:
                    self._fail(state, "on_features", error)
        else:
            for at in range(count):
                self._deliver(self._on_features, "on_features", frames[at])
        self._retire(count)

    def _deliver(self, handlers: _Handlers, name: str, event: Any) -> None:
        for state, call in handlers:
            try:
                call(event)
            except OWN as error:
                self._fail(state, name, error)

    def _end_frames(self, _count: int) -> None:
        if self._engine is not None:
            self._engine.retire()

    # -- orders

    def _hear(self) -> None:
        """Ask the venue what became of orders, and tell whom it concerns."""
        for desk, event in self._exchange.answers():
            if desk is not None:
                desk.take(event)
                self._listener.on_order_event(desk.name, event)
                self._tell(desk, event)

    def _tell(self, desk: Desk, event: OrderEvent) -> None:
        name = "on_fill" if event.is_fill else "on_order"
        for state, call in self._handlers[name]:
            if state.desk is desk and state.is_running:
                try:
                    call(event)
                except OWN as error:
                    self._fail(state, name, error)
