"""Who calls strategies: one message at a time, from the engine's push to the orders.

Everything follows from the messages: no clock is read but to count handlers that take too long, and
that changes nothing. One strategy's exception is its own affair. Leans on `strategy.api`, `desk`,
`dispatch` and `market`. Knows no files, no services.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from featureplane.clock import SYSTEM
from featureplane.errors import FeaturePlaneError, InputError, SettingError, StateError, UnknownSymbol
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venue import OrderVenue
from featureplane.features.engine import FeatureEngine
from featureplane.features.frame import FeatureFrame
from featureplane.features.latest import LatestFrames
from featureplane.features.pipeline import Pipeline
from featureplane.market.events import EventBatch, StreamOptions
from featureplane.market.feed import MessageFeed
from featureplane.market.instruments import Instrument, check_ids
from featureplane.strategy.api import BaseStrategy, StrategyContext, check_features
from featureplane.strategy.calling import Calling
from featureplane.strategy.desk import Desk
from featureplane.strategy.floor import Floor
from featureplane.strategy.market import (
    DID_WORD,
    EVENTS_WORD,
    MESSAGES_WORD,
    STATS_LEVELS,
    MarketBooks,
)
from featureplane.strategy.states import OWN, Listener, StrategyState, check_given, start

__all__ = ["Listener", "StrategyRunner", "StrategyState"]

_Source = FeatureEngine | Pipeline | MessageFeed


class StrategyRunner(Calling):
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

    __slots__ = (
        "_backend",
        "_direct",
        "_feed",
        "_finished",
        "_joined",
        "_latest",
        "_most",
        "_push",
        "instruments",
    )

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
        books = MarketBooks(self.instruments, stream, levels=levels, backend=self._backend)
        told = None if listener is None else listener.on_decision
        super().__init__(
            books,
            Floor(self.instruments, risk, venue, told, books.tape),
            listener or Listener(),
            budget_ns=budget_ns,
            timer=timer,
            emit_features=emit_features,
        )
        self._finished = False
        self._push: Callable[[EventBatch, int, int], tuple[FeatureFrame, ...]] | None = None
        self._direct: Callable[[int, int], Any] | None = None  # the same, without a call of ours around it
        self._feed: Pipeline | MessageFeed | None = None
        self._latest: LatestFrames | None = None
        self._use(engine)
        for strategy in given:
            check_features(strategy, self._fset)
        self._checked = None if self._fset is None else self._fset.fingerprint
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

    # -- strategies come and go

    def _bound(self, strategy: BaseStrategy) -> StrategyState:
        desk = Desk(strategy.name, self._exchange)
        strategy.ctx = StrategyContext(self.instruments, self._latest, desk)
        return StrategyState(strategy, desk)

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
        self._direct, self._events = None, None
        # WHY: one call a message then, for engine and books.
        self._joined = source is not None and source.bind_market(self._books.native)

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
            self._books.tape.lose(one.symbol_id)
        if self._engine is not None and self._events is not None:
            for one in meant:
                self._engine.reconnect(one.symbol)  # WHY last: it raises where its stream has ended

    def run(self, events: EventBatch) -> None:
        """Take all messages of a batch, one after the other."""
        ends = events.message_ends.tolist()
        self.steps(events, zip([0, *ends[:-1]], ends, strict=True))

    def step(self, events: EventBatch, start: int, stop: int) -> None:
        """Take one message: events `start` to `stop` of a batch.

        Raises what engine and books raise for events they cannot use: `SettingError`, and as the stream's
        options ask `MalformedEvent`, `UnknownSymbol`, `SequenceGap`; no feature has a value then.
        """
        self.steps(events, ((start, stop),))

    def steps(self, events: EventBatch, spans: Iterable[tuple[int, int]]) -> None:
        """As `step`, one message after the other; `spans` is asked for each when the one before is over."""
        exchange, follows, pending = self._exchange, self._follows, self._pending
        for first, stop in spans:
            if events is not self._events:
                self._begin(events)
            try:
                direct = self._direct
                did: Any = self._plainly(first, stop) if direct is None else direct(first, stop)
                if type(did) is not list and (type(did) is not int or did < 0):
                    did = did if type(did) is tuple else self._detour(did, first, stop)
            except InputError:
                self._spoil()
                raise
            if type(did) is list:
                # WHY here: three messages in four are such.
                if (pending if follows is None else follows(events, first, stop)) or exchange.asked:
                    self._hear()
                self._one_trade(did)
                if exchange.asked:
                    self._hear()
            elif type(did) is int:
                self._dispatch(did, first, stop, ())
            else:
                self._dispatch(self._room.head[DID_WORD], first, stop, did)

    def _begin(self, events: EventBatch) -> None:
        if self._feed is not None:
            raise SettingError("events for a runner that reads bytes", hint="`push` takes them")
        self._turn_to(events)

    def _plainly(self, start: int, stop: int) -> tuple[FeatureFrame, ...] | int:
        """Take a message where books and engine are not one; the frames, or what it did to the books."""
        bits = self._did(start, stop)
        frames = () if self._push is None or self._events is None else self._push(self._events, start, stop)
        return frames or bits

    def _detour(self, did: int | None, start: int, stop: int) -> tuple[FeatureFrame, ...]:
        """The frames where the direct way shows none: too many, or an error that it does not raise."""
        engine, events = self._engine, self._events
        if not isinstance(engine, FeatureEngine) or events is None:
            self._books.refuse(start, stop)
        return engine.push(events, start, stop) if did is None else engine.pushed

    def _spoil(self) -> None:
        """The stream has ended with an error."""
        if self._direct is None:
            self._books.tape.take_back()
        if isinstance(self._engine, FeatureEngine):
            self._engine.fail()
            self._direct = partial(self._detour, None)  # WHY: from now on it says what has happened
        if self._latest is not None:
            self._latest.clear()

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
        engine = self._engine
        doors = engine.doors(events) if isinstance(engine, FeatureEngine) else None
        doors = doors if self._joined else None
        alone = self._books.push_bits if engine is None else None
        self._direct, self._retire = doors or (alone, self._end_frames)
        self._events, self._array = events, events.array

    def _did(self, start: int, stop: int) -> int:
        """What the message did to the books."""
        bits: int | None = self._books.push_bits(start, stop)
        if bits is None:
            self._books.refuse(start, stop)
        return bits

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
        self._direct, self._events = None, None
        self._finished = True

    @property
    def now_ns(self) -> int:
        """When the last message was received; does not go back."""
        return self._books.tape.now_ns

    @property
    def messages(self) -> int:
        """Messages taken."""
        return self._books.tape.messages
