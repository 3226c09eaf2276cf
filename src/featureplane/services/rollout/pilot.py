"""Steers a running service by the state of its rollout, and calls a canary back.

Everything happens between two messages. Where nothing can be done the active version goes on, and it is
said why. Leans on `candidate`, `steps` and `release`. Knows no sockets.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from featureplane.clock import SYSTEM, Clock
from featureplane.errors import FeaturePlaneError, StateError
from featureplane.features.shadow import Shadow, ShadowCounts
from featureplane.features.spec import FeatureSet
from featureplane.release.criteria import REPORTS, Criteria, judge
from featureplane.release.evidence import Evidence
from featureplane.release.guard import Trip
from featureplane.release.rollout import (
    Action,
    Cause,
    Phase,
    Request,
    RolloutState,
    Version,
)
from featureplane.services.rollout.candidate import RolloutCandidate
from featureplane.services.rollout.evidence import EvidenceKeeper, SessionThirds, read_evidence
from featureplane.services.rollout.steps import (
    Asked,
    RolloutPlace,
    about_rollout,
    concerning,
    figures,
    instant,
    step_of,
)
from featureplane.strategy.api import required_by
from featureplane.telemetry import log_event
from featureplane.units import NANOS_PER_SECOND

if TYPE_CHECKING:
    from featureplane.services.marketdata import MarketDataService

__all__ = ["RolloutPilot"]

_FOLLOW_NS: Final = NANOS_PER_SECOND
_SAVE_NS: Final = 4 * NANOS_PER_SECOND  # looked at each second: at most five are lost
_PATIENCE_S: Final = 60.0
_OURS: Final = " what the service computes"  # no id and no file is called so

_log = logging.getLogger("featureplane.rollout")


@dataclass(frozen=True, slots=True)
class _CalledBack:
    """A rollback that happened here and is not written yet."""

    request: Request
    cause: Cause
    evidence: Mapping[str, Any]
    began: int


class RolloutPilot:
    """Follows the state at `place` in a service.

    `computed`: the version that the service began with, where it is known. `shadow_for` makes the shadow of a
    candidate; None where shadows are switched off. `allow_code`: versions may come from Python files.
    """

    def __init__(
        self,
        service: MarketDataService,
        place: RolloutPlace,
        state: RolloutState,
        criteria: Criteria,
        *,
        shadow_for: Callable[[FeatureSet], Shadow | None],
        computed: Version | None = None,
        abs_tol: float = 0.0,
        sample_every: int = 256,
        allow_code: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        self.place, self.state, self.criteria = place, state, criteria
        self._service, self._file, self._computed = service, place.file, computed
        self.allow_code, self._clock = allow_code, clock
        thirds = SessionThirds(service.runner.instruments[0], criteria.session_minutes)
        self.keeper = EvidenceKeeper(place.evidence, criteria, thirds)
        self._sets: dict[str, FeatureSet] = {}
        self._candidate = RolloutCandidate(
            service,
            self.keeper,
            criteria.guard,
            shadow_for=shadow_for,
            load=self._loaded,
            abs_tol=abs_tol,
            sample_every=sample_every,
        )
        self.timed = self._candidate.timed
        self._messages = 0
        self._stamp = self._file.stamp()
        self._followed_ns = self._saved_ns = clock.monotonic_ns()
        self._called_back: _CalledBack | None = None
        self._ended = threading.Event()
        self._is_faulty = False
        self._left: tuple[int, Evidence | None] | None = None
        self.trouble: str | None = None
        """Why the service is not where the state says, if it is not."""

        self.frozen = self._file.blocked()
        """Why the state could not be read or written when it had to be."""

    # -- from the loop

    def start(self) -> None:
        """Before the first message."""
        if self.state.history:
            self._say("the service follows its rollout")
            with suppress(FeaturePlaneError):  # the file may be readable and nothing more
                self._keep(self.state)
        self._try(self.state)
        threading.Thread(target=self._look_each_second, name="rollout", daemon=True).start()

    def _look_each_second(self) -> None:
        """Also where messages are few; what a replay does at the same message is left to `look`."""
        while not SYSTEM.wait(NANOS_PER_SECOND, self._ended):
            try:
                self._service.ask(lambda: self._guarded(self._tend), _PATIENCE_S)
            except TimeoutError:
                continue
            except StateError:
                return  # the service has ended

    def look(self) -> None:
        """Between two messages, every thousand or so: follow the state, gather, guard.

        Raises nothing: with a fault of its own the active version goes on alone.
        """
        self._guarded(self._look)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the service goes on whatever it is
            self.trouble = f"{type(error).__name__}: {error}"
            _log.exception("the rollout has a fault of its own; everybody is on the active version")
            with suppress(Exception):
                self._candidate.leave()
            self._is_faulty = True

    def _look(self) -> None:
        now_ns = self._service.runner.now_ns
        self._gather()
        if self._candidate.phase is not None:
            trip = self._candidate.trip()
            if trip is not None:
                self._call_back(trip)
            elif self.keeper.outlived(now_ns):
                self._candidate.leave()  # until this session's baseline is measured; see `_waits`
                self.keeper.pass_by(0, now_ns)
                self._say("a session began; its baseline is measured without the candidate")
        self._tend()
        if self._waits() and self.trouble is None:
            self._try(self.state)

    def _tend(self) -> None:
        """What is done by the clock."""
        mono_ns = self._clock.monotonic_ns()
        if mono_ns - self._followed_ns >= _FOLLOW_NS:
            self._followed_ns = mono_ns
            self._write_back()
            self._follow()
            if (self._waits() and self.trouble is not None) or self.astray is not None:
                self._try(self.state)
        if mono_ns - self._saved_ns >= _SAVE_NS:
            self._saved_ns = mono_ns
            if self._candidate.phase is not None:
                self.keeper.count(self._service.runner.now_ns)
            self.keeper.save()

    def _gather(self) -> None:
        """Count what came since the last time."""
        now_ns = self._service.runner.now_ns
        more, self._messages = self._service.messages - self._messages, self._service.messages
        self.keeper.settle()
        if self._candidate.phase is None:
            self.keeper.pass_by(more, now_ns)
        else:
            self.keeper.count(now_ns)

    @property
    def _known(self) -> Evidence | None:
        """What is known of a candidate; while it waits for the baseline what earlier runs left of it.

        To be seen alone: nothing is promoted by it before this run measures the candidate too.
        """
        waits = self.state.has_candidate and self.trouble is None and self._candidate.phase is None
        if not waits or concerning(self.state, self.keeper.evidence) is not None:
            return self.keeper.evidence
        if self._left is None or self._left[0] != self.state.began:
            try:
                self._left = self.state.began, read_evidence(self.place.evidence)
            except FeaturePlaneError:
                self._left = self.state.began, None
        return self._left[1]

    def _waits(self) -> bool:
        """Whether a candidate is to begin, and can."""
        wanted = self.state.has_candidate and self._candidate.phase is None and self._called_back is None
        return wanted and self.keeper.has_baseline and not self._is_faulty

    @property
    def compared(self) -> Mapping[str, ShadowCounts]:
        """See `RolloutCandidate.compared`."""
        return self._candidate.compared

    @property
    def compared_with_candidates(self) -> int:
        """See `RolloutCandidate.compared_with_candidates`."""
        return self._candidate.compared_with_candidates

    def known_sets(self) -> dict[str, FeatureSet | None]:
        """Sets that are or may become the active one by themselves or a step, by id; with those loaded."""
        state = self.state
        versions = (state.active, state.candidate, *state.good)
        return {one.feature_set_id: self._sets.get(one.fingerprint) for one in versions if one is not None}

    @property
    def candidate(self) -> RolloutCandidate:
        """What is computed of the state's candidate."""
        return self._candidate

    @property
    def astray(self) -> str | None:
        """Why another version is computed than the active one, if it is."""
        fset, active = self._service.fset, self.state.active
        if fset is None or active is None or fset.fingerprint == active.fingerprint:
            return None
        return f"{active} is active and cannot be computed: {self.trouble}"

    def finish(self) -> None:
        """Behind the last `look`: what the shadow still holds is compared, and the evidence is written."""
        self._ended.set()
        try:
            self._write_back()
            self._candidate.finish()
            self.keeper.count(self._service.runner.now_ns)
            self.keeper.close()
        except Exception:  # noqa: BLE001 - as above
            _log.exception("the rollout has a fault of its own at the end")

    # -- what is asked

    def change(self, asked: Asked, versions: Mapping[str, tuple[Version, FeatureSet]]) -> dict[str, Any]:
        """Do what is asked, state and service together or neither; where the rollout stands then.

        `versions` are those that are named, by the word that names them. Raises what refuses it.
        """
        self._write_back()
        if self._called_back is not None:
            hint = "the canary was called back, and that cannot be written yet; make room and ask again"
            raise StateError(f"the rollout is frozen: {self.frozen}", hint=hint)
        self._sets |= {version.fingerprint: fset for version, fset in versions.values()}
        named = {name: version for name, (version, _) in versions.items()}
        asked = self._with_ours(asked, named)
        at = instant(self._clock.wall_ns())
        step = step_of(asked, at, named, self.criteria, self._evidence, moment=self._moment)
        before = self.state
        try:
            self.state = self._file.change(lambda state: step(self._gone_on(state)), self._bring_asked)
        except FeaturePlaneError:
            self._try(before)
            raise
        self._stamp, self.frozen, self.trouble = self._file.stamp(), None, None
        self._is_faulty = False
        self._say("the rollout was changed")
        return self.about()

    def _moment(self) -> dict[str, Any]:
        """What is known at a rollback that somebody asks for; of an active version its comparisons."""
        runner, fset = self._service.runner, self._service.fset
        here: dict[str, Any] = {"message": runner.messages, "local_ts_ns": runner.now_ns}
        if fset is None or self.state.candidate is not None:
            return here
        counts = self.compared.get(fset.feature_set_id, ShadowCounts())
        return {"compared": counts.compared, "mismatches": dict(counts.by_name), **here}

    def _bring_asked(self, after: RolloutState) -> None:
        self._keep(after)
        self._bring(after, asked=True)

    def _keep(self, state: RolloutState) -> None:
        """So that there is a way back, whatever becomes of the files that versions came from."""
        fset = self._service.fset
        ours = {} if fset is None else {fset.fingerprint: fset}
        self.place.versions.keep(state, self._sets | ours, allow_code=self.allow_code)

    def _with_ours(self, asked: Asked, named: dict[str, Version]) -> Asked:
        """What this service computes is meant where a first active version is needed and none is named."""
        if self.state.active is not None or self._computed is None:
            return asked
        named[_OURS] = self._computed
        if asked.action == Action.SHADOW and asked.beside is None:
            return replace(asked, beside=_OURS)
        if asked.action == Action.ENABLE and asked.version is None:
            return replace(asked, version=_OURS)
        return asked

    def about(self) -> dict[str, Any]:
        """Where the rollout stands, and what this service does of it."""
        self._gather()
        answer = about_rollout(self.place, self.state, self._known, criteria=self.criteria)
        phase = self._candidate.phase
        here = {
            **self._service.rollout.about(),
            "compared_in": None if phase is None else phase.value,
            "baseline": self.keeper.baseline,
            "baseline_measured": self.keeper.has_baseline,
            "evidence_elsewhere": self.keeper.is_elsewhere,
            "trouble": self.trouble,
            "frozen": self.frozen or self.astray,
        }
        return answer | {"service": here}

    def reached(self) -> dict[str, bool]:
        """Which criteria a candidate has reached, but for reports, that are asked for at its promotion."""
        found = concerning(self.state, self._known) if self.state.has_candidate else None
        verdicts = judge(self.criteria, found, (), self.state.canary_strategies)
        return {one.name: one.reached for one in verdicts if one.name != REPORTS}

    def _evidence(self, state: RolloutState) -> Evidence | None:
        if self._candidate.phase is not None:
            self.keeper.count(self._service.runner.now_ns)
        return concerning(state, self.keeper.evidence)

    # -- service and state

    def _try(self, state: RolloutState) -> None:
        """Bring the service to a state; where that cannot be the active version goes on, and why is said."""
        try:
            self._bring(state)
        except (FeaturePlaneError, OSError) as error:
            if self.trouble != str(error):
                self.trouble = str(error)
                log_event(_log, logging.ERROR, "the service cannot follow its rollout", error=str(error))
            self._candidate.leave()
            self._candidate.miss(state)
            if self._service.fset is not None and self._service.fset.fingerprint in state.forbidden:
                _leave_features(self._service)
        else:
            self.trouble = None

    def _bring(self, state: RolloutState, *, asked: bool = False) -> None:
        """Let the service compute what a state says; raises what refuses it.

        `asked`: somebody waits for the answer, and is told what cannot be yet.
        """
        self._bring_active(state)
        done = self._called_back
        if done is not None and done.began == state.began:
            self._candidate.leave()
            return
        waits = self._candidate.phase is None and not self.keeper.has_baseline
        if waits and state.has_candidate and state.candidate is not None:
            self._candidate.check(state.candidate)
            if asked and state.phase is Phase.CANARY:
                raise StateError("the baseline is still being measured", hint=self._until_baseline())
            return
        self._candidate.bring(state)

    def _bring_active(self, state: RolloutState) -> None:
        service = self._service
        if service.fset is None:
            return
        if state.active is None:
            if service.fset.fingerprint in state.bad:
                self._candidate.leave()
                _leave_features(service)
            return
        if service.fset.fingerprint == state.active.fingerprint:
            return
        if self._candidate.is_beside(state.active.fingerprint):
            service.rollout.promote()
            self._candidate.handed_over()
        else:
            fset = self._loaded(state.active)
            self._candidate.leave()
            service.rollout.activate(fset)
        self.keeper.forget_baseline()

    def _loaded(self, version: Version) -> FeatureSet:
        known = self._sets.get(version.fingerprint)
        if known is None:
            known = self.place.versions.load(version, allow_code=self.allow_code)
            self._sets[version.fingerprint] = known
        return known

    def _follow(self) -> None:
        """Somebody may have changed the file: another service, or a command that did not find this one."""
        stamp = self._file.stamp()
        if stamp == self._stamp:
            return
        try:
            state = self._gone_on(self._file.read())
        except FeaturePlaneError as error:
            if self.frozen is None:
                log_event(_log, logging.ERROR, "the rollout is frozen", error=str(error), hint=error.hint)
            self.frozen, self._stamp = str(error), None  # what is put back is read again
            return
        self._stamp, self.frozen = stamp, None
        if state != self.state:
            self.state = state
            self._try(state)
            self._say("the rollout was changed by others")

    def _gone_on(self, state: RolloutState) -> RolloutState:
        """A state that goes on from what is known here; `StateError` for one that has forgotten it."""
        known = self.state
        if (known.revision and not state.revision) or not set(known.bad) <= set(state.bad):
            why = f"the rollout is frozen: its state {self.place.state} was removed or begun anew"
            hint = f"put revision {known.revision} back; a service that starts without it begins anew"
            raise StateError(why, hint=hint)
        return state

    # -- calling back

    def _call_back(self, trip: Trip) -> None:
        """Everybody is on the active version from here on, also where that cannot be written."""
        evidence = {
            **figures(self.keeper.evidence),
            "message": self._service.runner.messages,
            "local_ts_ns": trip.at_ns,
        }
        self._candidate.leave()
        log_event(_log, logging.ERROR, "the canary was called back", why=trip.why, cause=trip.cause.value)
        request = Request.automatic(trip.why, instant(self._clock.wall_ns()))
        self._called_back = _CalledBack(request, trip.cause, evidence, self.state.began)
        self._write_back()

    def _write_back(self) -> None:
        """Write a rollback that happened; tried again until it can be."""
        done = self._called_back
        if done is None:
            return

        def step(found: RolloutState) -> RolloutState:
            state = self._gone_on(found)
            if state.candidate is None or state.began != done.began:
                return state  # somebody else has ended it, and not only switched it off
            return state.rollback(done.request, done.cause, done.evidence)

        try:
            self.state = self._file.change(step)
        except FeaturePlaneError as error:
            if self.frozen is None:
                log_event(_log, logging.ERROR, "the rollback cannot be written yet", error=str(error))
            self.frozen = str(error)
            return
        self._called_back, self.frozen, self._stamp = None, None, self._file.stamp()
        self._try(self.state)
        self._say("the rollout was rolled back")

    def _until_baseline(self) -> str:
        has = self.keeper.baseline
        return (
            f"{has['messages']:,} of {has['messages_min']:,} messages and {has['samples']:,} of "
            f"{has['samples_min']:,} timed ones without a candidate have come, in {has['minutes']} of "
            f"{has['minutes_min']} minutes"
        )

    def _say(self, what: str) -> None:
        log_event(
            _log,
            logging.WARNING,
            what,
            trace=f"m{self._service.runner.messages}",
            phase=self.state.phase.value,
            active=str(self.state.active),
            candidate=str(self.state.candidate),
            revision=self.state.revision,
        )


def _leave_features(service: MarketDataService) -> None:
    """Nothing that is computed may be consumed: strategies go on in legacy form, or not at all."""
    for name, state in list(service.runner.states.items()):
        if not state.is_running or not required_by(state.strategy):
            continue
        try:
            service.set_form(name, "legacy")
        except Exception as error:  # noqa: BLE001 - whatever its start raises: it reads nothing then
            log_event(_log, logging.WARNING, "it has no legacy form", strategy=name, error=repr(error))
            service.set_form(name, "off")
