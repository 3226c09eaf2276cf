"""The rollout of a feature set or profile: a state, and the transitions that a table allows.

    disabled -> shadow -> canary -> active        forwards by people, each step with a name and a reason
    any phase -> rollback                         back to what was good; by people, in canary by itself too

Everything is a pure function of the state: no clock, no file, no service. `rollout_file` keeps it.
Leans on `features.loading` to find a version again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from featureplane.errors import FeatureSetMismatch, IllegalTransition, SettingError, StateError
from featureplane.features.loading import resolve_feature_set
from featureplane.features.spec import FeatureSet

__all__ = [
    "AUTOMATIC",
    "TABLE",
    "Action",
    "Cause",
    "Phase",
    "Proof",
    "Request",
    "RolloutState",
    "Transition",
    "Version",
]

AUTOMATIC: Final = "featureplane"
"""Who rolled back where nobody did."""

_TEXT_MAX: Final = 1_000
_SHOWN: Final = 80
_NAMES_MAX: Final = 1_000


class Phase(StrEnum):
    """Where a rollout stands."""

    DISABLED = "disabled"  # switched off: no candidate anywhere
    SHADOW = "shadow"  # the candidate is compared, and nobody consumes it
    CANARY = "canary"  # listed strategies and symbols consume the candidate
    ACTIVE = "active"  # one version for all, and no candidate


class Action(StrEnum):
    """What can be asked of a rollout."""

    SHADOW = "shadow"  # a candidate, in the shadow
    CANARY = "canary"  # these strategies and symbols consume it
    PROMOTE = "promote"  # it becomes the active version
    ROLLBACK = "rollback"  # what is newest was bad
    DISABLE = "disable"  # switch off, and remember where
    ENABLE = "enable"  # go on where it was switched off, or name the first active version


class Cause(StrEnum):
    """Why something was rolled back."""

    DATA = "data"  # what came in was at fault
    KERNEL = "kernel"  # what was computed
    SCHEMA = "schema"  # features, types or order are not what consumers expect
    CONFIG = "config"  # parameters, settings or resources


TABLE: Final[Mapping[tuple[Phase, Action], frozenset[Phase]]] = MappingProxyType(
    {
        (Phase.DISABLED, Action.SHADOW): frozenset({Phase.SHADOW}),
        (Phase.DISABLED, Action.ROLLBACK): frozenset({Phase.ACTIVE, Phase.DISABLED}),
        (Phase.DISABLED, Action.ENABLE): frozenset({Phase.SHADOW, Phase.CANARY, Phase.ACTIVE}),
        (Phase.SHADOW, Action.SHADOW): frozenset({Phase.SHADOW}),
        (Phase.SHADOW, Action.CANARY): frozenset({Phase.CANARY}),
        (Phase.SHADOW, Action.ROLLBACK): frozenset({Phase.ACTIVE}),
        (Phase.SHADOW, Action.DISABLE): frozenset({Phase.DISABLED}),
        (Phase.CANARY, Action.SHADOW): frozenset({Phase.SHADOW}),
        (Phase.CANARY, Action.CANARY): frozenset({Phase.CANARY}),
        (Phase.CANARY, Action.PROMOTE): frozenset({Phase.ACTIVE}),
        (Phase.CANARY, Action.ROLLBACK): frozenset({Phase.ACTIVE}),
        (Phase.CANARY, Action.DISABLE): frozenset({Phase.DISABLED}),
        (Phase.ACTIVE, Action.SHADOW): frozenset({Phase.SHADOW}),
        (Phase.ACTIVE, Action.ROLLBACK): frozenset({Phase.ACTIVE, Phase.DISABLED}),
        (Phase.ACTIVE, Action.DISABLE): frozenset({Phase.DISABLED}),
    }
)
"""The phases that an action may lead to; what has no row is refused."""


@dataclass(frozen=True, slots=True)
class Version:
    """A feature set or a profile of one: what it is, and where it is found again.

    `fingerprint` is its identity. `profile` is the name behind the `@` of its id; `source` a shipped id, or a
    file.
    """

    feature_set_id: str
    fingerprint: str
    profile: str | None
    source: str

    @classmethod
    def of(cls, fset: FeatureSet, source: str) -> Version:
        """The version that a set is, loaded from `source`."""
        _, at, profile = fset.feature_set_id.partition("@")
        return cls(fset.feature_set_id, fset.fingerprint, profile if at else None, source)

    @classmethod
    def found(cls, source: str, *, allow_code: bool = False) -> tuple[Version, FeatureSet]:
        """What a name or a file stands for now; raises what `resolve_feature_set` does."""
        fset = resolve_feature_set(source, allow_code=allow_code)
        return cls.of(fset, source), fset

    def load(self, *, allow_code: bool = False) -> FeatureSet:
        """The set itself.

        Raises what `resolve_feature_set` does, and `FeatureSetMismatch` where its source holds another one by
        now.
        """
        fset = resolve_feature_set(self.source, allow_code=allow_code)
        if fset.fingerprint != self.fingerprint:
            raise FeatureSetMismatch(self.fingerprint, fset.fingerprint, f"{self.source} was changed since")
        return fset

    def __str__(self) -> str:
        return f"{self.feature_set_id} ({self.fingerprint[:12]})"


@dataclass(frozen=True, slots=True)
class Proof:
    """What was measured of a candidate beside an active version, judged.

    `missing` says in words what the criteria still ask for; a candidate is proven where nothing is missing.
    `summary` goes into the history.
    """

    active: str
    candidate: str
    missing: tuple[str, ...]
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of the history. `before` and `after` are phases; `at` is UTC, ISO 8601."""

    revision: int
    at: str
    action: Action
    before: Phase
    after: Phase
    by: str
    why: str
    version: str | None = None
    """The version it was about: the candidate, or the one that was rolled back."""
    cause: Cause | None = None
    active: str | None = None
    """The active version behind it."""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants a transition and why; all of it is asked for. `at` is UTC, ISO 8601."""

    by: str
    why: str
    at: str

    def __post_init__(self) -> None:
        """Refuse what says nothing."""
        for name, value in (("by", self.by), ("why", self.why)):
            if not value.strip() or len(value) > _TEXT_MAX or not value.isprintable():
                hint = f"one line of text, of at most {_TEXT_MAX} characters"
                raise SettingError(f"{name}={value[:_SHOWN]!r}", hint=hint)

    @classmethod
    def automatic(cls, why: str, at: str) -> Request:
        """What nobody asks for but the service itself; `why` may be any text, an exception's too."""
        plain = "".join(one if one.isprintable() else " " for one in why).strip()
        return cls(AUTOMATIC, plain[:_TEXT_MAX] or "no reason was given", at)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutState:
    """Where a rollout stands, and how it came there.

    `good` are versions that left `active` in good standing, in order; `bad` fingerprints that were rolled
    back: no rollback ever returns to one of them. `held` is the phase that was switched off. `began` is the
    revision at which the candidate came into the shadow: evidence of it counts from there.
    """

    revision: int = 0
    phase: Phase = Phase.DISABLED
    active: Version | None = None
    candidate: Version | None = None
    canary_symbols: tuple[str, ...] = ()
    canary_strategies: tuple[str, ...] = ()
    good: tuple[Version, ...] = ()
    bad: tuple[str, ...] = ()
    held: Phase | None = None
    began: int = 0
    history: tuple[Transition, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a state that cannot be: `StateError`."""
        if (why := _contradiction(self)) is not None:
            raise StateError(f"no state of a rollout: {why}")

    @property
    def has_candidate(self) -> bool:
        """Whether a candidate is computed now."""
        return self.phase in {Phase.SHADOW, Phase.CANARY}

    @property
    def since(self) -> str:
        """When the candidate came into the shadow, as the history has it; empty before the first did."""
        return self.history[self.began - 1].at if self.began else ""

    @property
    def forbidden(self) -> frozenset[str]:
        """Fingerprints that nobody may consume: those rolled back, but for one that was promoted again."""
        active = set() if self.active is None else {self.active.fingerprint}
        return frozenset({*self.bad} - active)

    def consumes_candidate(self, strategy: str, symbol: str) -> bool:
        """Whether a strategy is handed the candidate's frames of a symbol."""
        listed = not self.canary_symbols or symbol in self.canary_symbols
        return self.phase is Phase.CANARY and listed and strategy in self.canary_strategies

    def version_for(self, strategy: str, symbol: str) -> Version:
        """The version that a strategy consumes of a symbol; `StateError` where there is none."""
        version = self.candidate if self.consumes_candidate(strategy, symbol) else self.active
        if version is None:
            raise StateError("no version is active", hint="`featureplane rollout enable SET` names the first")
        return version

    # -- transitions

    def shadow(
        self, candidate: Version, request: Request, *, active: Version | None = None, again: bool = False
    ) -> RolloutState:
        """Begin with a candidate, or with another one.

        `active` is what it is compared with where none is active yet. A version that was rolled back begins
        again only if that is said, with `again`; it stays one that no rollback returns to.
        """
        self._check(Action.SHADOW)
        beside = self.active or active
        if beside is None:
            hint = "`featureplane rollout enable SET` names it; a running service says what it computes"
            raise StateError("there is no active version to compare a candidate with", hint=hint)
        if self.active is None:
            self._check_first(beside)
        if candidate.fingerprint == beside.fingerprint:
            raise StateError(f"{candidate} is the active version", hint="a candidate is another one")
        if candidate.fingerprint in self.bad and not again:
            hint = "--again, if what was wrong with it is put right"
            raise StateError(f"{candidate} was rolled back", hint=hint)
        changes = _ALONE | {"active": beside, "candidate": candidate, "began": self.revision + 1}
        return self._to(Action.SHADOW, Phase.SHADOW, request, changes, version=candidate)

    def canary(self, strategies: Sequence[str], symbols: Sequence[str], request: Request) -> RolloutState:
        """Let these strategies consume the candidate, of these symbols; of all where none is named."""
        self._check(Action.CANARY)
        if not strategies:
            raise SettingError("no strategy is named", hint="a canary is for listed strategies")
        for name in (*strategies, *symbols):
            if not name.isprintable() or len(name) > _TEXT_MAX:
                raise SettingError(f"name {name[:_SHOWN]!r}", hint="a name is one line of text")
        said = {"strategies": list(dict.fromkeys(strategies)), "symbols": list(dict.fromkeys(symbols))}
        changes = {f"canary_{name}": tuple(names) for name, names in said.items()}
        return self._to(Action.CANARY, Phase.CANARY, request, changes, version=self.candidate, evidence=said)

    def promote(self, proof: Proof, request: Request) -> RolloutState:
        """Make the candidate the active version; refused with all that is missing."""
        self._check(Action.PROMOTE)
        active, candidate = self.active, self.candidate
        assert active is not None
        assert candidate is not None
        if proof.missing:
            raise StateError(
                f"{candidate} is not proven: {'; '.join(proof.missing)}",
                hint="`featureplane rollout status` shows each criterion",
            )
        if (proof.active, proof.candidate) != (active.fingerprint, candidate.fingerprint):
            raise StateError("what was measured is about other versions", hint="measure this candidate")
        changes = _ALONE | {"active": candidate, "good": (*self.good, active)}
        return self._to(
            Action.PROMOTE, Phase.ACTIVE, request, changes, version=candidate, evidence=proof.summary
        )

    def rollback(
        self, request: Request, cause: Cause, evidence: Mapping[str, Any] | None = None
    ) -> RolloutState:
        """Declare the newest version bad: the candidate, else the active one.

        Without a candidate the last version in good standing becomes active, never one that was rolled back;
        where there is none nothing is active, and the rollout is `disabled`. What was switched off is rolled
        back as it is: to switch it on first would let it be consumed once more. `StateError` where nothing is
        active.
        """
        self._check(Action.ROLLBACK)
        version = self.candidate or self.active
        if version is None:
            raise StateError(
                "there is nothing to roll back: no version is active", hint="enable SET names one"
            )
        bad = tuple(dict.fromkeys((*self.bad, version.fingerprint)))
        phase, changes = Phase.ACTIVE, _ALONE | {"bad": bad}
        if self.candidate is None:
            good = [one for one in self.good if one.fingerprint not in bad]
            last = good.pop() if good else None
            phase = Phase.DISABLED if last is None else Phase.ACTIVE
            changes |= {"active": last, "good": tuple(good)}
        return self._to(
            Action.ROLLBACK, phase, request, changes, version=version, cause=cause, evidence=evidence
        )

    def disable(self, request: Request) -> RolloutState:
        """Switch off: everybody is on the active version, and no candidate is computed until `enable`."""
        changes = {"held": self.phase}
        return self._to(Action.DISABLE, Phase.DISABLED, request, changes, version=self.candidate)

    def enable(self, request: Request, *, active: Version | None = None) -> RolloutState:
        """Go on where it was switched off; where nothing is active, with `active` as the first version."""
        self._check(Action.ENABLE)
        if self.active is None:
            if active is None:
                raise StateError("no version is active", hint="name the first: enable SET")
            self._check_first(active)
            return self._to(Action.ENABLE, Phase.ACTIVE, request, {"active": active}, version=active)
        if active is not None and active.fingerprint != self.active.fingerprint:
            hint = f"{self.active} is active; another version is a candidate: `featureplane rollout shadow`"
            raise StateError("enable names a version only where none is active", hint=hint)
        phase = self.held or Phase.ACTIVE
        return self._to(Action.ENABLE, phase, request, {"held": None}, version=self.candidate)

    def _check_first(self, active: Version) -> None:
        if active.fingerprint in self.bad:
            raise StateError(f"{active} was rolled back", hint="begin with a version that was not")

    def _check(self, action: Action) -> frozenset[Phase]:
        try:
            return TABLE[self.phase, action]
        except KeyError:
            allowed = [one.value for phase, one in TABLE if phase is self.phase]
            raise IllegalTransition("rollout", self.phase, action, allowed) from None

    def _to(
        self,
        action: Action,
        phase: Phase,
        request: Request,
        changes: Mapping[str, Any],
        *,
        version: Version | None,
        cause: Cause | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> RolloutState:
        """The next state: what the table allows, with its line in the history."""
        allowed = self._check(action)
        assert phase in allowed, (self.phase, action, phase)
        active = changes.get("active", self.active)
        line = Transition(
            revision=self.revision + 1,
            at=request.at,
            action=action,
            before=self.phase,
            after=phase,
            by=request.by.strip(),
            why=request.why.strip(),
            version=None if version is None else str(version),
            cause=cause,
            active=None if active is None else str(active),
            evidence=dict(evidence or {}),
        )
        history = (*self.history, line)
        return replace(self, **{**changes, "phase": phase, "revision": line.revision, "history": history})


_ALONE: Final[dict[str, Any]] = {
    "candidate": None,
    "canary_symbols": (),
    "canary_strategies": (),
    "held": None,
}
"""Without a candidate."""


def _contradiction(state: RolloutState) -> str | None:
    """What two parts of a state say against each other."""
    phase, held, history = state.phase, state.held, state.history
    shown = held or phase
    is_candidate, is_active = state.candidate is not None, state.active is not None
    names = max(len(state.canary_strategies), len(state.canary_symbols))
    told = (
        (held is not None and (phase is not Phase.DISABLED or held is phase), f"{held} is held in {phase}"),
        (shown is Phase.DISABLED and is_active, "disabled, and where it was is not known"),
        (
            (shown in {Phase.SHADOW, Phase.CANARY}) != is_candidate,
            f"{shown} {_with(is_candidate)} a candidate",
        ),
        (shown is not Phase.DISABLED and not is_active, f"{shown} without an active version"),
        (
            (shown is Phase.CANARY) != bool(state.canary_strategies),
            f"{shown} with {len(state.canary_strategies)} canary strategies",
        ),
        (bool(state.canary_symbols) and not state.canary_strategies, "canary symbols without strategies"),
        (not 0 <= state.began <= state.revision, "a candidate from after the last step"),
        ([one.revision for one in history] != list(range(1, state.revision + 1)), "a history with gaps"),
        (bool(history) and history[-1].after is not phase, f"{phase} behind another transition"),
        (names > _NAMES_MAX, f"more than {_NAMES_MAX} names"),
    )
    return next((why for wrong, why in told if wrong), None)


def _with(there: bool) -> str:  # noqa: FBT001 - the word for it
    return "with" if there else "without"
