"""The candidate of a rollout in a running service: in the shadow's process, or beside the active set.

What it begins it ends, and gathers evidence of meanwhile. Leans on `engines` and `evidence`.
Knows no files and no reasons.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from featureplane.clock import SYSTEM
from featureplane.errors import FeaturePlaneError, StateError
from featureplane.features.frame import FeatureFrame
from featureplane.features.pipeline import Pipeline
from featureplane.features.shadow import Shadow, ShadowCounts
from featureplane.features.spec import FeatureSet
from featureplane.market.stages import ASIDE
from featureplane.release.criteria import GuardCriteria
from featureplane.release.evidence import Evidence
from featureplane.release.guard import CanaryGuard, Trip
from featureplane.release.rollout import Phase, RolloutState, Version
from featureplane.services.rollout.evidence import EvidenceKeeper, FrameComparison, promoted_in_both
from featureplane.units import NANOS_PER_SECOND

if TYPE_CHECKING:
    from featureplane.services.marketdata import MarketDataService

__all__ = ["RolloutCandidate"]

_STAGES: Final = ("candidate", "dispatch", "risk", "order")
_CLOSE_S: Final = 10.0
_TOLD_MAX: Final = 4


class _Onlooker:
    """A subscriber that hands the frames of both sets to their comparison, message by message."""

    name = "rollout"

    def __init__(self, comparison: FrameComparison) -> None:
        self.comparison = comparison
        self._candidate: Sequence[FeatureFrame] = ()

    def on_message(self, _data: bytes, _local_ts_ns: int | None, _symbol: str | None) -> None:
        """See `Subscriber`."""
        self._candidate = ()

    def on_reconnect(self, _symbol: str | None, _reason: str) -> None:
        """See `Subscriber`."""

    def on_candidate(self, frames: Sequence[FeatureFrame]) -> None:
        """See `Subscriber`."""
        self._candidate = frames

    def on_frames(self, frames: Sequence[FeatureFrame]) -> None:
        """See `Subscriber`."""
        self.comparison.take(frames, self._candidate)

    def finish(self) -> None:
        """See `Subscriber`."""


@dataclass(frozen=True, slots=True)
class _Shadowed:
    """Computed in a process of its own."""

    version: Version
    began: int
    shadow: Shadow


@dataclass(frozen=True, slots=True)
class _Beside:
    """Computed beside the active set `live`, and consumed by those listed: symbols, strategies."""

    version: Version
    began: int
    listed: tuple[tuple[str, ...], tuple[str, ...]]
    live: str
    onlooker: _Onlooker
    guard: CanaryGuard


class RolloutCandidate:
    """At most one candidate. `shadow_for` makes its shadow; None where shadows are switched off.

    `load` finds the set of a version. Every method is called between two messages.
    """

    def __init__(
        self,
        service: MarketDataService,
        keeper: EvidenceKeeper,
        guard: GuardCriteria,
        *,
        shadow_for: Callable[[FeatureSet], Shadow | None],
        load: Callable[[Version], FeatureSet],
        abs_tol: float,
        sample_every: int,
    ) -> None:
        self._service, self._keeper, self._criteria = service, keeper, guard
        self._shadow_for, self._load = shadow_for, load
        self._abs_tol, self._sample_every = abs_tol, sample_every
        self._own_shadow = service.shadow  # the other backend's
        self._running: _Shadowed | _Beside | None = None
        self._ended: list[Shadow] = []
        self._told: deque[Shadow] = deque(maxlen=_TOLD_MAX)  # with what they told of
        self._untold: Callable[[], None] | None = None
        self._told_ns = -NANOS_PER_SECOND
        self._teller: threading.Thread | None = None
        self._beside_before: dict[str, ShadowCounts] = {}  # those that stood beside it
        self._lost: str | None = None
        self._missed: int | None = None
        service.rollout.on_lost, service.rollout.on_divergence = self._was_lost, self._diverged

    @property
    def phase(self) -> Phase | None:
        """In which phase one is computed; None: none is."""
        match self._running:
            case None:
                return None
            case _Shadowed():
                return Phase.SHADOW
        return Phase.CANARY

    def bring(self, state: RolloutState) -> None:
        """Compute the candidate of a state, as its phase has it.

        Raises what refuses it: by name a strategy that does not accept it, `StateError` where shadows are
        switched off or no features are computed, what loading it raises. Then what was before goes on.
        """
        version, running = state.candidate, self._running
        if version is None or not state.has_candidate:
            self.leave()
            return
        is_same = running is not None and (running.version, running.began) == (version, state.began)
        if is_same and self.phase is state.phase:
            if isinstance(running, _Beside):
                self._list(running, state)
            return
        fset = self.check(version)
        if state.phase is Phase.SHADOW:
            self._shadow(state, version, fset)
        else:
            self._beside(state, version, fset)

    def check(self, version: Version) -> FeatureSet:
        """The set of a version that could be a candidate here; raises what would refuse any."""
        if self._service.fset is None:
            raise StateError("no features are computed here", hint="HFT_FEATURE_ENGINE_ENABLED=1")
        fset = self._load(version)
        self._shadow_of(fset)  # made and not begun
        return fset

    def miss(self, state: RolloutState) -> None:
        """Where shadows are switched off: keep in its evidence that it was not compared all the time."""
        version, live = state.candidate, self._service.fset
        if version is None or live is None or not state.has_candidate or self._missed == state.began:
            return
        try:
            fset = self._load(version)
            is_off = self._shadow_for(fset) is None
        except FeaturePlaneError:
            return
        if is_off:
            self._missed = state.began
            self._keeper.miss(self._about(state, fset))

    def _list(self, running: _Beside, state: RolloutState) -> None:
        listed = (state.canary_symbols, state.canary_strategies)
        if listed == running.listed:
            return  # WHY: who waits for a value would begin to wait anew
        self._service.rollout.set_canary(*listed)
        self._running = replace(running, listed=listed)

    def _shadow(self, state: RolloutState, version: Version, fset: FeatureSet) -> None:
        shadow = self._shadow_of(fset)
        shadow.sample_every = self._every
        self.leave()
        self._told.append(shadow)
        self._watch(shadow)
        self._running = _Shadowed(version, state.began, shadow)
        self._keeper.begin(self._about(state, fset), lambda: shadow.counts)

    def _shadow_of(self, fset: FeatureSet) -> Shadow:
        shadow = self._shadow_for(fset)
        if shadow is None:
            hint = "HFT_FEATURE_SHADOW_PARITY=1, and start the service again"
            raise StateError("shadows are switched off: nothing would be compared", hint=hint)
        return shadow

    def _beside(self, state: RolloutState, version: Version, fset: FeatureSet) -> None:
        """Strategies are asked first: one that refuses leaves everything as it is."""
        live = self._service.fset
        assert live is not None
        if isinstance(self._running, _Beside):
            self.leave()
        listed = (state.canary_symbols, state.canary_strategies)
        engines = self._service.rollout
        engines.begin_candidate(fset)
        try:
            engines.set_canary(*listed)
        except FeaturePlaneError:
            engines.withdraw()
            raise
        self.leave()
        self._lost, guard = None, CanaryGuard(self._criteria, *self._keeper.tails)
        shadow = self._shadow_of(fset)  # tells of mismatches alone: both sets are computed here
        self._told.append(shadow)
        comparison = FrameComparison(
            live,
            fset,
            every=self._every,
            abs_tol=self._abs_tol,
            differs=self._telling(guard),
            handed=self._handed,
            seen=self._noting(shadow, live),
        )
        onlooker = _Onlooker(comparison)
        self._service.subscribe(onlooker)
        self._running = _Beside(version, state.began, listed, live.feature_set_id, onlooker, guard)
        self._keeper.begin(self._about(state, fset), lambda: comparison.counts)

    def _telling(self, guard: CanaryGuard) -> Callable[[int, str], None]:
        def differs(at_ns: int, names: str) -> None:
            guard.mismatch(at_ns, names)
            if guard.trip is not None:
                self._service.look_soon()

        return differs

    def _noting(self, shadow: Shadow, live: FeatureSet) -> Callable[[dict[str, Any]], None]:
        feed = self._service.feed
        stream = feed.instruments, feed.taken[0].source, feed.options

        def noted(what: dict[str, Any]) -> None:
            self._untold = partial(shadow.note, live, feed.backend, stream, what)

        return noted

    def _tell(self, *, at_once: bool = False) -> None:
        """Tell of the last mismatch, in a thread of its own: a file is written, and messages do not wait."""
        now_ns = SYSTEM.monotonic_ns()
        if self._untold is not None and (at_once or now_ns - self._told_ns >= NANOS_PER_SECOND):
            self._told_ns, untold, self._untold, before = now_ns, self._untold, None, self._teller

            def work() -> None:
                if before is not None:
                    before.join()  # the last one told is the last one found
                untold()

            self._teller = threading.Thread(target=work, name="mismatch", daemon=True)
            self._teller.start()

    def last_mismatch(self, symbol: str | None) -> dict[str, Any] | None:
        """The last one that any shadow or canary of this run found, of a symbol or of all."""
        found = (one.last(symbol) for one in (self._own_shadow, *self._told) if one is not None)
        return max((one for one in found if one is not None), key=lambda one: str(one["at"]), default=None)

    def _handed(self, symbol: str) -> None:
        """A frame was compared: who consumed the candidate's."""
        runner = self._service.runner
        for name, one in runner.consuming:
            if one == symbol:
                self._keeper.consumed[name] += 1
                self._keeper.forms[name] = type(runner.states[name].strategy).__name__

    @property
    def _every(self) -> int:
        return self._sample_every if self._own_shadow is None else self._own_shadow.sample_every

    def _about(self, state: RolloutState, fset: FeatureSet) -> Evidence:
        live = self._service.fset
        assert live is not None
        return Evidence(
            active=live.fingerprint,
            candidate=fset.fingerprint,
            began=state.began,
            since=state.since,
            shadow=True,
            abs_tol=self._abs_tol,
            features=promoted_in_both(live, fset),
        )

    def is_beside(self, fingerprint: str) -> bool:
        """Whether this set is computed beside the active one."""
        return isinstance(self._running, _Beside) and self._running.version.fingerprint == fingerprint

    def leave(self) -> None:
        """Compute no candidate any more."""
        running = self._running
        if isinstance(running, _Beside):
            self._service.rollout.withdraw()
            self.handed_over()
        elif running is not None:
            self._ended.append(running.shadow)
            if self._own_shadow is not None:  # what was set while it ran holds on
                self._own_shadow.sample_every = running.shadow.sample_every
            self._watch(self._own_shadow)
            self._close()

    def handed_over(self) -> None:
        """It is not computed beside the active set any more; whoever ended that has done so."""
        running = self._running
        if isinstance(running, _Beside):
            _add(self._beside_before, running.live, running.onlooker.comparison.counts)
            self._service.unsubscribe(running.onlooker)
            self._close()

    def _watch(self, shadow: Shadow | None) -> None:
        service = self._service
        if isinstance(service.feed, Pipeline):
            service.feed.watch(shadow)
            service.shadow = shadow

    def _close(self) -> None:
        self._running = None
        self._tell(at_once=True)
        self._keeper.count(self._service.runner.now_ns)
        self._keeper.end()

    def finish(self) -> None:
        """Behind the last message: wait for what shadows still hold."""
        running, self._running = self._running, None
        if isinstance(running, _Shadowed):
            self._ended.append(running.shadow)
        elif running is not None:
            _add(self._beside_before, running.live, running.onlooker.comparison.counts)
            self._tell(at_once=True)
        for one in self._ended:
            one.close(_CLOSE_S)
        if self._teller is not None:
            self._teller.join(_CLOSE_S)

    # -- how it does

    @property
    def compared(self) -> Mapping[str, ShadowCounts]:
        """What came of all comparisons since the service began, whatever with, by the active set's id."""
        shadows = [] if self._own_shadow is None else [self._own_shadow]
        return self._by_set(shadows)

    @property
    def compared_with_candidates(self) -> int:
        """Frames of candidates of which both sides were seen, since the service began."""
        return sum(one.compared for one in self._by_set([]).values())

    def _by_set(self, shadows: list[Shadow]) -> dict[str, ShadowCounts]:
        """What candidates were compared with, and these shadows."""
        running, counts = self._running, dict(self._beside_before)
        shadows = [*shadows, *self._ended]
        if isinstance(running, _Shadowed):
            shadows.append(running.shadow)
        elif running is not None:
            _add(counts, running.live, running.onlooker.comparison.counts)
        for shadow in shadows:
            for live, more in shadow.counts_by_set.items():
                _add(counts, live, more)
        return counts

    @property
    def compared_every(self) -> int:
        """Every so manieth frame is compared with something now; 0: with nothing."""
        if isinstance(self._running, _Beside):
            return self._running.onlooker.comparison.every
        shadow = self._service.shadow
        return 0 if shadow is None else shadow.sample_every

    def timed(self, spent: Mapping[str, int], depth: int) -> None:
        """A message that was timed, and how many waited behind it.

        Beside the active set the latency is that of a strategy that consumes the candidate, as if that were
        the only set. What is done for a shadow or a silent form is in neither, as it is in no stage.
        """
        running = self._running
        if not isinstance(running, _Beside):
            self._keeper.timed(depth, sum(spent.values()) - spent.get(ASIDE, 0))
            return
        latency_ns = sum(spent.get(stage, 0) for stage in _STAGES)
        self._keeper.timed(depth, latency_ns)
        running.guard.timed(self._service.runner.now_ns, depth, latency_ns)
        if running.guard.trip is not None:
            self._service.look_soon()

    def _diverged(self, strategy: str, what: str) -> None:
        """The two forms of a strategy decided differently."""
        running = self._running
        self._keeper.divergences[strategy] += 1
        if isinstance(running, _Beside):
            running.guard.divergence(self._service.runner.now_ns, strategy, what)
            self._service.look_soon()

    def _was_lost(self, why: str) -> None:
        self._lost = why
        self._service.look_soon()

    def trip(self) -> Trip | None:
        """Why it is to be called back, if it is."""
        running = self._running
        if not isinstance(running, _Beside):
            return None
        running.onlooker.comparison.every = self._every
        self._tell()
        now_ns = self._service.runner.now_ns
        if self._lost is not None:
            running.guard.fails(now_ns, self._lost)
            self._lost = None
        elif running.onlooker not in self._service.subscribers:
            running.guard.fails(now_ns, "its frames could not be compared")
        return running.guard.trip


def _add(counts: dict[str, ShadowCounts], live: str, more: ShadowCounts) -> None:
    counts[live] = counts.get(live, ShadowCounts()) + more
