"""Who calls strategies: one message at a time, from the engine's push to the orders.

Everything follows from the messages: no clock is read but to count handlers that take too long, and
that changes nothing. One strategy's exception is its own affair. Leans on `strategy.api`, `desk`,
`dispatch` and `market`. Knows no files, no services.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from featureplane.clock import SYSTEM
from featureplane.errors import FeaturePlaneError, InputError, SettingError, StateError, UnknownSymbol
from featureplane.execution.orders import OrderEvent
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venue import OrderVenue
from featureplane.features.engine import FeatureEngine
from featureplane.features.frame import FeatureFrame, FrameLayout
from featureplane.features.latest import LatestFrames
from featureplane.features.pipeline import Pipeline
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch, StreamOptions
from featureplane.market.feed import MessageFeed
from featureplane.market.instruments import Instrument, check_ids
from featureplane.strategy.api import HANDLERS, BaseStrategy, StrategyContext, check_features
from featureplane.strategy.desk import Desk
from featureplane.strategy.dispatch import EventRoom, has_gap
from featureplane.strategy.floor import Floor
from featureplane.strategy.market import (
    DID_WORD,
    EVENTS_WORD,
    MESSAGES_WORD,
    STATS_LEVELS,
    Did,
    MarketBooks,
)
from featureplane.strategy.onlookers import Onlookers
from featureplane.strategy.states import OWN, Listener, OwnError, StrategyState, check_given, start

__all__ = ["Listener", "StrategyRunner", "StrategyState"]

_BOOK: Final = int(Did.BOOK)
_TRADES: Final = int(Did.TRADES)
_GAP: Final = int(Did.GAP)
_LEVELS: Final = int(Did.LEVELS)
_TWO_SIDED: Final = int(Did.TWO_SIDED)
_WHOLE: Final = int(Did.WHOLE)
_MOVES: Final = _BOOK | _GAP
_SHOWN: Final = _LEVELS | _TWO_SIDED

_Handlers = list[tuple[StrategyState, Callable[[Any], None]]]
_Source = FeatureEngine | Pipeline | MessageFeed


class StrategyRunner:
    """Runs strategies over messages.

    `engine` computes the features; without one there are no frames, and strategies that require some are
    refused. A `FeatureEngine`, or None, is for events: `step` and `run`. A `Pipeline` is for the bytes of a
    venue's messages, or a `MessageFeed` where there are no features: `push`; its options are the runner's.
    `venue` and `risk` take orders; without them `submit` raises. `stream` says how the market data are to
    be taken, as for an engine; `levels` is how many a `BidAskEvent` has a side. A handler that takes longer
    than `budget_ns` is counted in its state. `emit_features=False`: no `on_features`, values are only
    pulled. One runner, one stream, one thread.

    Raises `FeatureSetMismatch`, `UnknownFeatureSet`, `StateError` or `SettingError` for a strategy that
    cannot run here, `StateError` for what its `on_start` raises too: nothing has run then.
    """

    def __init__(
        self,
        strategies: Iterable[BaseStrategy],
        instruments: Iterable[Instrument],
        *,
        engine: _Source | None = None,
        venue: OrderVenue | None = None,
        risk: RiskCheck | None = None,
        stream: StreamOptions | None = None,
        levels: int = STATS_LEVELS,
        budget_ns: int | None = None,
        emit_features: bool = True,
        listener: Listener | None = None,
        backend: str = "auto",
        timer: Callable[[], int] = SYSTEM.monotonic_ns,
    ) -> None:
        given = tuple(strategies)
        check_given(given, budget_ns)
        if (venue is None) is not (risk is None):
            raise SettingError("a venue without a risk check, or the other way", hint="give both or none")
        self.instruments = check_ids(instruments)
        stream = self._options(engine, stream)
        self._backend = backend if engine is None else engine.backend
        self._books = MarketBooks(self.instruments, stream, levels=levels, backend=self._backend)
        self._room = EventRoom(self._books)
        self._listener, self._emits = listener or Listener(), emit_features
        self._budget_ns, self._timer = budget_ns, timer
        told = None if listener is None else listener.on_decision
        self._exchange = Floor(self.instruments, risk, venue, told)
        self._onlookers = Onlookers(self._books, venue)
        # WHY: a simulated venue that takes events where they stand needs no array made for them.
        self._follows: Any = None if venue is None else getattr(venue, "on_message", self._show)
        self._events: EventBatch | None = None
        self._finished = False
        self._engine: FeatureEngine | Pipeline | None = None
        self._push: Callable[[EventBatch, int, int], tuple[FeatureFrame, ...]] | None = None
        self._feed: Pipeline | MessageFeed | None = None
        self._latest: LatestFrames | None = None
        self._layout: FrameLayout | None = None
        self.states: Mapping[str, StrategyState] = {}
        self._handlers: dict[str, _Handlers] = {name: [] for name in HANDLERS}
        self._use(engine)
        for strategy in given:
            check_features(strategy, self._fset)
        self._checked = self._fset and self._fset.fingerprint  # what strategies were held against
        self.states = {one.name: self._bound(one) for one in given}
        for state in self.states.values():
            start(state.strategy)
        self._subscribe()

    def _options(self, source: _Source | None, stream: StreamOptions | None) -> StreamOptions | None:
        if source is None or isinstance(source, FeatureEngine):
            return stream
        if [one.symbol_id for one in source.instruments] != [one.symbol_id for one in self.instruments]:
            raise SettingError("the feed has other instruments than the runner", hint="give both the same")
        if stream not in {None, source.options}:
            raise SettingError(f"{stream} for a feed of {source.options}", hint="the feed's need no telling")
        return source.options

    @property
    def _fset(self) -> FeatureSet | None:
        return None if self._engine is None else self._engine.fset

    # -- strategies come and go

    def _bound(self, strategy: BaseStrategy) -> StrategyState:
        desk = Desk(strategy.name, self._exchange)
        strategy.ctx = StrategyContext(self.instruments, self._latest, desk)
        return StrategyState(strategy, desk)

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
        self._books.watch(levels=bool(self._on_bid_ask), sums=sums)

    def switch(self, name: str, strategy: BaseStrategy | None) -> None:
        """Put another strategy, or none, in the place of the one of that name, between two messages.

        Working orders of the old one are cancelled, its positions go over to the new one, which gets its
        name. Raises `SettingError` for a name that is not here, and what refuses a strategy at the start:
        the old one goes on then.
        """
        old = self.states.get(name)
        if old is None:
            raise SettingError(f"no strategy {name!r}", hint=f"there are: {', '.join(self.states) or 'none'}")
        fresh = None
        if strategy is not None:
            check_features(strategy, self._fset)
            strategy.name = name
            fresh = self._bound(strategy)
            fresh.desk.take_over(old.desk)
            start(strategy)
        if old.is_running:
            self._end(old)
        if fresh is not None:
            self.states = {**self.states, name: fresh}
        self._subscribe()
        self._hear()

    def _end(self, state: StrategyState) -> None:
        try:
            state.strategy.on_stop()
        except OWN as error:
            self._fail(state, "on_stop", error)
        state.is_running = False
        state.desk.close()

    def _fail(self, state: StrategyState, handler: str, error: OwnError) -> None:
        """An exception left a handler: the strategy stops here, and the others go on."""
        state.exceptions[handler] += 1
        state.error, state.is_running = error, False
        state.desk.close()
        self._subscribe()
        self._listener.on_stopped(state)

    def use_engine(self, engine: _Source | None) -> None:
        """Compute with another engine from the next message on.

        Values of the old one are gone at once. Strategies that require another set are stopped, with
        `FeatureSetMismatch`, at the first frame of the new one; at once where there are no features any more.
        """
        self._options(engine, None)
        self._use(engine)
        for state in self.states.values():
            state.strategy.ctx.use(self._latest)
        if self._engine is None:
            self._check_set(None)

    def _use(self, source: _Source | None) -> None:
        old = self._engine or self._feed
        if old is not None:
            old.bind_market(None)
        if self._engine is not None:
            self._engine.follow(None)
        if self._latest is not None:
            self._latest.clear()
        engine = None if isinstance(source, MessageFeed) else source
        if engine is None:
            self._latest = None
        elif self._latest is None or self._latest.layout.fingerprint != engine.fset.fingerprint:
            self._latest = LatestFrames(engine.fset, self.instruments, engine.backend)
        if engine is not None:
            engine.follow(self._latest)
        self._engine = engine
        self._onlookers.use(engine)
        self._feed = None if isinstance(source, FeatureEngine) else source
        self._most = 0  # events of a message there is room for
        self._push = source.push if isinstance(source, FeatureEngine) else None
        self._events = None
        # WHY: one call a message then, for engine and books.
        self._joined = source is not None and source.bind_market(self._books.native)

    def _check_set(self, frame: FeatureFrame | None) -> None:
        """Stop who requires other features than those that come."""
        self._checked = None if frame is None else frame.fingerprint
        for state in [one for one in self.states.values() if one.is_running]:
            try:
                check_features(state.strategy, self._fset)
            except FeaturePlaneError as error:
                self._fail(state, "on_features", error)

    # -- messages

    def reconnect(self, symbol: str | None = None) -> None:
        """The connection of a symbol, or of all, is another one and may not go on where it was.

        Nothing of it is ready, and its orders have no reference, until its book is known again; its next
        message begins with `on_gap`. Raises `UnknownSymbol`.
        """
        meant = [one for one in self.instruments if symbol in {None, one.symbol}]
        if not meant:
            raise UnknownSymbol(symbol, [one.symbol for one in self.instruments])
        self._most = 0
        for one in meant:
            self._onlookers.reconnect(one)
            self._exchange.lose(one.symbol)
        if self._engine is not None and self._events is not None:
            for one in meant:
                self._engine.reconnect(one.symbol)  # WHY last: it raises where its stream has ended

    def run(self, events: EventBatch) -> None:
        """Take all messages of a batch, one after the other."""
        start = 0
        for stop in events.message_ends.tolist():
            self.step(events, start, stop)
            start = stop

    def step(self, events: EventBatch, start: int, stop: int) -> None:
        """Take one message: events `start` to `stop` of a batch.

        Raises what engine and books raise for events they cannot use: `SettingError`, and as the stream's
        options ask `MalformedEvent`, `UnknownSymbol`, `SequenceGap`; no feature has a value then.
        """
        if events is not self._events:
            if self._feed is not None:
                raise SettingError("events for a runner that reads bytes", hint="`push` takes them")
            self._turn_to(events)
        try:
            if self._joined and self._push is not None:
                frames = self._push(events, start, stop)
                bits = self._room.head[DID_WORD]
            else:
                bits = self._did(start, stop)
                frames = () if self._push is None else self._push(events, start, stop)
        except InputError:
            self._forget()
            raise
        self._dispatch(bits, start, stop, frames)

    def push(
        self, data: bytes, local_ts_ns: int | None = None, symbol: str | None = None
    ) -> tuple[FeatureFrame, ...]:
        """Take one raw message of the venue; its frames, which strategies have seen already.

        Arguments, and what is raised, are those of `Pipeline.push`; no feature has a value behind an error.
        Strategies are called as `step` calls them for the message's events. A message that becomes none, as
        that of another symbol or the answer to a subscription, calls nobody. Raises `SettingError` for a
        runner without `Pipeline` or `MessageFeed`.
        """
        feed = self._feed
        if feed is None:
            raise SettingError("bytes for a runner of events", hint="give it a Pipeline or MessageFeed")
        try:
            frames = feed.push(data, local_ts_ns, symbol)
        except FeaturePlaneError:
            self._most = 0  # whoever begins another stream has other room
            raise
        if not self._joined:
            self._read(feed, frames)
            return frames
        head = self._room.head
        count = head[EVENTS_WORD]
        if count > self._most:
            self._see(feed)
        if head[MESSAGES_WORD] == 1:
            self._dispatch(head[DID_WORD], 0, count, frames)
        elif count:
            self._lost(count, frames)
        return frames

    def _see(self, feed: Pipeline | MessageFeed) -> int:
        """Look at the events of the last message; how many there are."""
        events, count = feed.taken
        if events is not self._events:
            self._turn_to(events)
        self._most = len(events)
        return count

    def _read(self, feed: Pipeline | MessageFeed, frames: tuple[FeatureFrame, ...]) -> None:
        """A message that the books have not taken yet."""
        count = self._see(feed)
        if count == 1 or (count and not self._room.ends_message(0)):
            self._dispatch(self._did(0, count), 0, count, frames)
        elif count:
            self._lost(count, frames)

    def _lost(self, count: int, frames: tuple[FeatureFrame, ...]) -> None:
        """What may have been a message of any symbol is one of each."""
        ids = self._array["symbol_id"][:count].tolist()
        # WHY copies: the frames in the room end with the first of these messages.
        own = {frame.symbol_id: (frame.copy(),) for frame in frames}
        for at, symbol_id in enumerate(ids):
            self._dispatch(self._did(at, at + 1), at, at + 1, own.get(symbol_id, ()))

    def _turn_to(self, events: EventBatch) -> None:
        self._books.turn_to(events)
        self._room.turn_to(events)
        self._events, self._array = events, events.array

    def _did(self, start: int, stop: int) -> int:
        """What the message did to the books."""
        bits: int | None = self._books.push_bits(start, stop)
        if bits is None:
            self._books.refuse(start, stop)
        return bits

    def _forget(self) -> None:
        if self._latest is not None:
            self._latest.clear()

    def _dispatch(self, bits: int, start: int, stop: int, frames: tuple[FeatureFrame, ...]) -> None:
        """Call everybody for a message that was taken."""
        exchange, head = self._exchange, self._room.head
        exchange.message += 1
        exchange.ts_ns = head[1]
        exchange.local_ts_ns = local_ts_ns = head[2]
        if local_ts_ns > exchange.now_ns:  # noqa: PLR1730 - the call would cost more than all of this
            exchange.now_ns = local_ts_ns
        if frames or bits & _MOVES:
            self._before(bits, frames)
        if self._follows is not None and (self._follows(self._events, start, stop) or exchange.asked):
            self._hear()
        if frames or bits & self._heard:
            self._tell_all(bits, start, stop, frames)
        if exchange.asked:
            self._hear()

    def _before(self, bits: int, frames: tuple[FeatureFrame, ...]) -> None:
        """What comes before the venue has the message: the touch in force, and a gap."""
        room = self._room
        if self._exchange.risk is not None and bits & _MOVES:
            bid, ask = (room.head[6], room.head[7]) if bits & _TWO_SIDED else (None, None)
            self._exchange.note(room.names[room.head[0]], bid, ask)
        gap = bool(frames) and has_gap(frames)
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

    def _tell_all(self, bits: int, start: int, stop: int, frames: tuple[FeatureFrame, ...]) -> None:
        if bits & _TRADES and self._on_tick:
            self._room.ticks(start, stop, self._on_tick, self._fail)
        if bits & _BOOK and bits & _SHOWN:
            self._book_events(bits)
        if frames:
            self._frame_events(frames)

    def hear(self, now_ns: int) -> None:
        """Between two messages, for venues that answer then: tell what became of orders until `now_ns`."""
        exchange = self._exchange
        exchange.now_ns = max(exchange.now_ns, now_ns)
        self._hear()
        if exchange.asked:
            self._hear()

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
        engine = self._engine
        if engine is None or not self._on_features:
            return
        for state, call in self._on_features if len(frames) == 1 else ():
            try:
                call(frames[0])  # WHY no name: nothing of ours is to hold the frame
            except OWN as error:
                self._fail(state, "on_features", error)
        for at in range(len(frames)) if len(frames) > 1 else ():
            self._deliver(self._on_features, "on_features", frames[at])
        engine.retire()

    def _deliver(self, handlers: _Handlers, name: str, event: Any) -> None:
        for state, call in handlers:
            try:
                call(event)
            except OWN as error:
                self._fail(state, name, error)

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

    def finish(self) -> None:
        """End the stream: `on_stop`, working orders cancelled, the engine ended; `StateError` if twice."""
        if self._finished:
            raise StateError("this runner has finished", hint="a stream has one runner; make another")
        for state in self.states.values():
            if state.is_running:
                self._end(state)
        self._hear()
        source = self._engine or self._feed
        if source is not None:
            source.finish()
        self._subscribe()
        self._finished = True

    @property
    def now_ns(self) -> int:
        """When the last message was received; does not go back."""
        return self._exchange.now_ns

    @property
    def messages(self) -> int:
        """Messages taken."""
        return self._exchange.message
