"""A runner that computes two feature sets of one stream and hands each strategy the one it consumes.

The active set is everybody's. A candidate is computed beside it from the same messages; listed strategies
consume it of listed symbols, from the message on behind which all they need of it has had a value. Books,
venue and orders are one. Everything changes between two messages, and nothing that a candidate does can stop
the active set. Without a candidate a message takes the way of `StrategyRunner`. Leans on
`strategy.accompanied` and `features.view`. Knows nothing of phases, files or services.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Final, cast

from featureplane.errors import FeaturePlaneError, StateError, UnknownStrategy, UnknownSymbol
from featureplane.features.frame import FeatureFrame
from featureplane.features.latest import LatestFrames
from featureplane.features.pipeline import Pipeline
from featureplane.features.spec import FeatureSet
from featureplane.features.view import FeatureView
from featureplane.strategy.accompanied import AccompaniedRunner
from featureplane.strategy.api import BaseStrategy, StrategyContext, check_features, required_by
from featureplane.strategy.candidate import BothFeeds, Candidate, Warming
from featureplane.strategy.desk import Desk
from featureplane.strategy.dispatch import has_gap
from featureplane.strategy.market import Did
from featureplane.strategy.states import OWN, StrategyState

__all__ = ["Consumer", "VersionedRunner"]

_GAP: Final = int(Did.GAP)
_WHOLE: Final = int(Did.WHOLE)
_MOVES: Final = int(Did.BOOK | Did.GAP)

Consumer = tuple[str, str]
"""A strategy's name and a symbol."""


class VersionedRunner(AccompaniedRunner):
    """A `StrategyRunner` with one feature set or two.

    `on_lost` is called when a candidate was ended by an error of its own, behind the end of it: everybody
    consumes the active set then.
    """

    TRADES_ALONE = False  # WHY: whoever looks on sees every message dispatched

    candidate: Candidate | None = None
    on_lost: Callable[[Candidate], None] | None = None
    wanted: frozenset[Consumer] = frozenset()
    """Who is to consume the candidate."""

    consuming: frozenset[Consumer] = frozenset()
    """Who does."""

    _warming: Mapping[Consumer, Warming] = {}

    # -- versions come and go

    def begin_candidate(self, fset: FeatureSet) -> None:
        """Compute this set too from the next message on; nobody consumes it yet.

        It goes on from the active set's state: the book, and what both compute alike; what is its own begins
        without a value. Raises `StateError` while there is a candidate, for the active set itself, and where
        there are no features or no messages but events.
        """
        active = self._active()
        if self.candidate is not None:
            there = self.candidate.fset.feature_set_id
            raise StateError(f"there is a candidate, {there}", hint="withdraw it first")
        if fset.fingerprint == active.fset.fingerprint:
            raise StateError(f"{fset.feature_set_id} is the active set", hint="a candidate is another one")
        candidate = Candidate(active.successor(fset), self._frames_for(fset))
        self.candidate = candidate
        self._feed = cast("Pipeline", BothFeeds(active, candidate, self._lose))
        self._watch()

    def set_canary(
        self,
        symbols: Collection[str],
        strategies: Collection[str],
        legacy: Mapping[str, BaseStrategy] | None = None,
    ) -> None:
        """Let these strategies consume the candidate of these symbols, of all if none is named.

        Who does and is not named consumes the active set again at once. `legacy` are forms that run silently
        beside these strategies from now on; such a strategy consumes the candidate only once both are in
        step. Raises `UnknownStrategy`, `UnknownSymbol`, and `StateError`, by name, for a strategy that reads
        no features, does not run, or does not accept the candidate, and where there is none; nothing is
        changed then.
        """
        candidate = self._candidate()
        known = [one.symbol for one in self.instruments]
        for symbol in symbols:
            if symbol not in known:
                raise UnknownSymbol(symbol, known)
        meant = [one for one in known if not symbols or one in symbols]
        for name in strategies:
            if name not in self.states:
                raise UnknownStrategy(name, "this service", list(self.states))
            self._check_accepts(self.states[name], candidate.fset)
        self._accompany(legacy or {}, kept=strategies)
        self._route(frozenset((name, symbol) for name in strategies for symbol in meant))

    def compare(self, legacy: Mapping[str, BaseStrategy]) -> None:
        """Let these forms run silently beside the strategies of their names.

        Raises `UnknownStrategy`, `StateError` for one that does not run or reads no features.
        """
        for name in legacy:
            if name not in self.states:
                raise UnknownStrategy(name, "this service", list(self.states))
            self._check_reads(self.states[name])
        self._accompany(legacy, kept=self.twins)

    def withdraw(self) -> FeatureSet | None:
        """Everybody consumes the active set from the next message on; the candidate there was, if any."""
        candidate = self.candidate
        if candidate is None:
            return None
        self._route(frozenset())
        self.candidate = None
        self._feed = self._active()
        self._accompany({}, kept=())
        candidate.pipeline.follow(None)
        return candidate.fset

    def promote(self) -> FeatureSet:
        """The candidate is the active set from the next message on; the set that was.

        Raises `StateError` without a candidate, and by name for a strategy that does not accept it.
        """
        candidate = self._candidate()
        self._check_all_accept(candidate.fset)
        before = self._active().fset
        self._release()
        self._adopt(candidate.pipeline, candidate.latest)
        return before

    def activate(self, fset: FeatureSet) -> FeatureSet:
        """Make a set the active one, from the next message on; the set that was.

        A candidate that is another set is withdrawn. What a set computes that was not computed before begins
        without a value, for everybody. Raises as `promote`.
        """
        active, candidate = self._active(), self.candidate
        if candidate is not None and candidate.fset.fingerprint == fset.fingerprint:
            return self.promote()
        if fset.fingerprint == active.fset.fingerprint:
            self.withdraw()
            return active.fset
        self._check_all_accept(fset)
        after = active.successor(fset)
        self.withdraw()
        latest = self._frames_for(fset)
        after.follow(latest)
        self._adopt(after, latest)
        return active.fset

    def waits_for(self) -> dict[Consumer, str]:
        """Who is to consume the candidate and does not yet, and what has to come first."""
        return {one: self._reason(one) for one in sorted(self.wanted - self.consuming)}

    def _reason(self, consumer: Consumer) -> str:
        warming, twin = self._warming.get(consumer), self.twins.get(consumer[0])
        if warming is None:
            return "it does not run in its shared form, or its legacy form raised"
        if warming.missing:
            return f"no value yet: {', '.join(warming.missing)}"
        return "its next frame" if twin is None or twin.in_step else "its legacy form is not in step yet"

    def _active(self) -> Pipeline:
        if not isinstance(self._engine, Pipeline):
            raise StateError("there is no feature set here that messages go to", hint="name one: --features")
        return self._engine

    def _candidate(self) -> Candidate:
        if self.candidate is None:
            raise StateError("there is no candidate", hint="begin one first")
        return self.candidate

    def _frames_for(self, fset: FeatureSet) -> LatestFrames:
        """Where the frames of a set are kept: the same place each time, handles look there."""
        stores: dict[str, LatestFrames] = self.__dict__.setdefault("_stores", {})
        if self._latest is not None:
            stores.setdefault(self._latest.layout.fingerprint, self._latest)
        if fset.fingerprint not in stores:
            stores[fset.fingerprint] = LatestFrames(fset, self.instruments, self._backend)
        return stores[fset.fingerprint]

    def _adopt(self, pipeline: Pipeline, latest: LatestFrames) -> None:
        old, left = self._active(), self._latest
        old.bind_market(None)
        old.follow(None)
        old.finish()
        self._engine, self._latest, self._feed = pipeline, latest, pipeline
        self._onlookers.use(pipeline)
        self._joined = pipeline.bind_market(self._books.native)
        self._layout, self._checked = None, pipeline.fset.fingerprint
        self._most, self._events = 0, None
        if pipeline.has_begun:
            self._see(pipeline)
        for state in self.states.values():
            self._view_of(state).turn(latest)
        if left is not None:
            left.clear()

    def _release(self) -> None:
        """There is no candidate any more, and nobody is turned away from it."""
        self.candidate = None
        self.wanted = self.consuming = frozenset()
        self._warming = {}
        self._accompany({}, kept=())

    def _watch(self) -> None:
        """Let messages go the longer way while there is somebody to look at them, and only then."""
        super()._watch()
        if self.candidate is None and not self.twins:
            self.__dict__.pop("_dispatch", None)
        else:
            self.__dict__["_dispatch"] = self._dispatch_both

    def _parted(self, name: str) -> None:
        self._warming = {one: what for one, what in self._warming.items() if one[0] != name}

    def _lose(self, error: BaseException) -> None:
        """The candidate raised: it is gone before anybody sees what it made of this message."""
        candidate = self._candidate()
        candidate.error = error
        self.withdraw()
        if self.on_lost is not None:
            self.on_lost(candidate)

    # -- who consumes what

    def _route(self, wanted: frozenset[Consumer]) -> None:
        candidate, active = self._candidate(), self._latest
        self.wanted = wanted
        for name, symbol in self.consuming - wanted:
            if active is not None:
                self._view_of(self.states[name]).turn(active, symbol)
        self.consuming &= wanted
        self._await(wanted - self.consuming)
        if not candidate.pipeline.has_begun:  # both begin with the next message, and with nothing
            for one in tuple(self._warming):
                self._hand_over(one)

    def _await(self, consumers: Collection[Consumer]) -> None:
        candidate, warming = self._candidate(), dict[Consumer, Warming]()
        about = {one.symbol: one for one in self.instruments}
        for name, symbol in consumers:
            state = self.states[name]
            if state.is_running and required_by(state.strategy):
                held = self._view_of(state).held(symbol)
                warming[name, symbol] = Warming(candidate, about[symbol], held)
        self._warming = warming

    def _hand_over(self, consumer: Consumer) -> None:
        name, symbol = consumer
        self._view_of(self.states[name]).turn(self._candidate().latest, symbol)
        self.consuming |= {consumer}
        self._warming = {one: what for one, what in self._warming.items() if one != consumer}

    def _view_of(self, state: StrategyState) -> FeatureView:
        shown = state.strategy.ctx.shown
        assert isinstance(shown, FeatureView)  # whoever runs beside an engine has one
        return shown

    def _check_accepts(self, state: StrategyState, fset: FeatureSet) -> None:
        """Raise `StateError`, with its name, for a strategy that cannot consume this set."""
        name = state.name
        self._check_reads(state)
        try:
            check_features(state.strategy, fset)
        except FeaturePlaneError as error:
            why = f"{name} does not accept {fset.feature_set_id}: {error}"
            raise StateError(why, hint=error.hint) from error
        for one in self.instruments:
            gone = sorted(self._view_of(state).held(one.symbol) - set(fset.feature_ids))
            if gone:
                why = f"{name} reads {gone[0]}, which {fset.feature_set_id} does not have"
                raise StateError(why, hint="a set that has all features it holds handles to")

    def _check_reads(self, state: StrategyState) -> None:
        if not state.is_running:
            hint = "`featureplane strategy list` says what does"
            raise StateError(f"{state.name} does not run", hint=hint)
        if not required_by(state.strategy):
            hint = "name strategies in their shared form"
            raise StateError(f"{state.name} reads no features, as it runs now", hint=hint)

    def _check_all_accept(self, fset: FeatureSet) -> None:
        for state in self.states.values():
            if state.is_running and required_by(state.strategy):
                self._check_accepts(state, fset)

    # -- what the runner does otherwise

    def _bound(self, strategy: BaseStrategy) -> StrategyState:
        if self._latest is None:
            return super()._bound(strategy)
        desk = Desk(strategy.name, self._exchange)
        view = FeatureView(self.instruments, self._latest.backend)
        view.turn(self._latest)
        strategy.ctx = StrategyContext(self.instruments, view, desk)
        return StrategyState(strategy, desk)

    def switch(self, name: str, strategy: BaseStrategy | None) -> None:
        """See `StrategyRunner.switch`; one that is to consume the candidate has to accept it too."""
        candidate, concerned = self.candidate, {one for one in self.wanted if one[0] == name}
        if candidate is not None and concerned and strategy is not None and required_by(strategy):
            check_features(strategy, candidate.fset)
        super().switch(name, strategy)
        if candidate is not None and concerned:
            self.consuming -= concerned
            self._await(self.wanted - self.consuming)

    def use_engine(self, engine: Any) -> None:
        """See `StrategyRunner.use_engine`; silent forms end. Raises `StateError` beside a candidate."""
        if self.candidate is not None:
            raise StateError("there is a candidate", hint="withdraw it first")
        self._accompany({}, kept=())
        views = {name: state.strategy.ctx.shown for name, state in self.states.items()}
        super().use_engine(engine)
        latest = self._latest
        for name, state in self.states.items():
            if latest is not None:
                shown = views[name]
                view = (
                    shown if isinstance(shown, FeatureView) else FeatureView(self.instruments, latest.backend)
                )
                view.turn(latest)
                state.strategy.ctx.use(view)

    def reconnect(self, symbol: str | None = None) -> None:
        """See `StrategyRunner.reconnect`."""
        candidate = self.candidate
        try:
            super().reconnect(symbol)
        finally:
            if candidate is not None:
                with suppress(StateError):  # its stream has not begun, or has ended
                    candidate.pipeline.reconnect(symbol)

    def begin_anew(self) -> None:
        """End the stream; the next message begins another, for both sets."""
        source = self._engine or self._feed
        if source is not None:
            source.finish()
        if self.candidate is not None:
            self.candidate.pipeline.finish()

    def finish(self) -> None:
        """See `StrategyRunner.finish`."""
        super().finish()
        if self.candidate is not None:
            self.candidate.pipeline.finish()

    # -- messages, while there is a candidate

    def _dispatch_both(self, bits: int, start: int, stop: int, frames: tuple[FeatureFrame, ...]) -> None:
        """As `_dispatch`; each strategy is handed the frames of the set it consumes."""
        exchange = self._exchange
        others = () if self.candidate is None else self.candidate.frames_of(self._room.head[0])
        if frames or others or bits & _GAP or (bits & _MOVES and exchange.holds):
            self._before_both(bits, frames, others)
        if self._follow(start, stop) or exchange.asked:
            self._hear()
        for twin in self.twins.values():
            twin.mark()
        if bits & self._heard:
            self._tell_market(bits)
        if frames or others:
            self._frames_of_both(frames, others)
        if exchange.asked:
            self._hear()
        if self.twins:
            self._follow_twins(bits)
        if self._warming:
            self._look_who_is_ready(bits, others)

    def _before_both(
        self, bits: int, frames: tuple[FeatureFrame, ...], others: tuple[FeatureFrame, ...]
    ) -> None:
        """As `_before`; a gap is told to whom it concerns."""
        room = self._room
        symbol = room.names[room.head[0]]
        if bits & _MOVES and self._exchange.holds:
            self._exchange.mark()
        whole = there_whole = bits & _WHOLE != 0
        gap, gap_there = bool(frames) and has_gap(frames), bool(others) and has_gap(others)
        if gap and whole:
            whole = not self._onlookers.broke_crossed(room.head[0])
        if gap_there and there_whole:
            there_whole = not self._candidate().broke_crossed()
        for name, twin in self.twins.items():
            there = (name, symbol) in self.consuming
            if bits & _GAP or (gap_there if there else gap):
                twin.gap = there_whole if there else whole
        for state, call in self._on_gap:
            there = (state.name, symbol) in self.consuming
            if bits & _GAP or (gap_there if there else gap):
                event = room.gap(is_whole=there_whole if there else whole)
                self._deliver([(state, call)], "on_gap", event)
                del event
        room.end_gap()

    def _frames_of_both(self, frames: tuple[FeatureFrame, ...], others: tuple[FeatureFrame, ...]) -> None:
        symbol = self._room.names[self._room.head[0]]
        candidate = self.candidate
        if candidate is not None and any(one == symbol for _, one in self.consuming):
            candidate.handed += len(others)
        for state, call in self._on_features:
            theirs = others if (state.name, symbol) in self.consuming else frames
            for at in range(len(theirs)):
                try:
                    call(theirs[at])
                except OWN as error:
                    self._fail(state, "on_features", error)
                    break
        self._retire(len(frames))
        if candidate is not None:
            candidate.pipeline.retire()

    def _look_who_is_ready(self, bits: int, others: tuple[FeatureFrame, ...]) -> None:
        symbol = self._room.names[self._room.head[0]]
        for consumer, warming in tuple(self._warming.items()):
            if consumer[1] == symbol and warming.see(others, is_whole=bits & _WHOLE != 0):
                twin = self.twins.get(consumer[0])
                if twin is None or twin.in_step:
                    self._hand_over(consumer)

    def _lost(self, count: int, frames: tuple[FeatureFrame, ...]) -> None:
        if self.candidate is None:
            super()._lost(count, frames)
            return
        self.candidate.keep()
        super()._lost(count, frames)
        self.candidate.release()
