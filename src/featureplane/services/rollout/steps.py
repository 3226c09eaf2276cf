"""What can be asked of a rollout, and what there is to say of it: with a service running, or from its files.

Leans on `release` and `evidence`. Knows no running service.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from featureplane.errors import FeaturePlaneError, SettingError, UnreadableFile
from featureplane.features.spec import FeatureSet
from featureplane.release.criteria import Criteria, GuardCriteria, judge, proof_of, read_criteria
from featureplane.release.evidence import Evidence
from featureplane.release.reports import Report
from featureplane.release.rollout import (
    AUTOMATIC,
    Action,
    Cause,
    Phase,
    Request,
    RolloutState,
    Transition,
    Version,
)
from featureplane.release.rollout_file import RolloutFile
from featureplane.release.rollout_versions import KeptVersions
from featureplane.services.rollout.evidence import read_evidence
from featureplane.units import NANOS_PER_SECOND

__all__ = [
    "Asked",
    "RolloutPlace",
    "about_rollout",
    "change_files",
    "concerning",
    "figures",
    "found_version",
    "instant",
    "step_of",
    "versions_named",
]

_FILES: Final = (".toml", ".py")


@dataclass(frozen=True, slots=True)
class RolloutPlace:
    """Where a rollout is kept: its state, and beside it evidence and criteria."""

    state: Path

    @property
    def file(self) -> RolloutFile:
        """The state."""
        return RolloutFile(self.state)

    @property
    def evidence(self) -> Path:
        """What a service measured."""
        return self.state.with_suffix(".evidence.json")

    @property
    def versions(self) -> KeptVersions:
        """What its versions are."""
        return KeptVersions(self.state.with_suffix(".versions"))

    @property
    def criteria(self) -> Path:
        """What has to be shown, where it is not what is asked for by default."""
        return self.state.with_suffix(".criteria.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A change of a rollout as somebody asks for it.

    `version` is the id or file of a candidate, or of the first active version; `beside` of what a candidate
    is compared with where nothing is active.
    """

    action: str
    by: str = ""
    why: str = ""
    version: str | None = None
    beside: str | None = None
    strategies: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    cause: str | None = None
    again: bool = False
    reports: tuple[Report, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a table that `from_json` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, table: object) -> Asked:
        """From what `to_json` made; raises `SettingError` for anything else."""
        refused = SettingError("no change of a rollout", hint="`featureplane rollout` asks for them")
        texts = ("action", "by", "why", "version", "beside", "cause")
        if not isinstance(table, dict) or not table.keys() <= {one.name for one in dataclasses.fields(cls)}:
            raise refused
        if not all(isinstance(table.get(name, ""), str | None) for name in texts):
            raise refused
        lists = {name: table.get(name, []) for name in ("strategies", "symbols", "reports")}
        if not all(isinstance(one, list) for one in lists.values()) or not isinstance(
            table.get("again", False), bool
        ):
            raise refused
        if not all(isinstance(one, str) for name in ("strategies", "symbols") for one in lists[name]):
            raise refused
        try:
            reports = tuple(
                Report(**{**one, "decisions": tuple(one["decisions"])}) for one in lists["reports"]
            )
        except (TypeError, KeyError):
            raise refused from None
        plain = {name: table[name] for name in (*texts, "again") if name in table}
        return cls(
            **plain, strategies=tuple(lists["strategies"]), symbols=tuple(lists["symbols"]), reports=reports
        )


def found_version(source: str, *, allow_code: bool = False) -> tuple[Version, FeatureSet]:
    """The version that an id or a file stands for; a file is remembered by where it lies.

    Raises what `resolve_feature_set` does.
    """
    path = Path(source)
    return Version.found(str(path.absolute()) if path.suffix in _FILES else source, allow_code=allow_code)


def versions_named(asked: Asked, *, allow_code: bool) -> dict[str, tuple[Version, FeatureSet]]:
    """The versions that are named, by the word that names them; raises what `resolve_feature_set` does."""
    names = (asked.version, asked.beside)
    return {name: found_version(name, allow_code=allow_code) for name in names if name is not None}


def change_files(place: RolloutPlace, asked: Asked, at: str, *, allow_code: bool) -> dict[str, Any]:
    """Change a rollout of which no service runs, by its files alone; where it stands then.

    Raises what refuses it.
    """
    versions = versions_named(asked, allow_code=allow_code)
    named = {name: version for name, (version, _) in versions.items()}
    promotes = asked.action == Action.PROMOTE
    criteria = read_criteria(place.criteria) if promotes else Criteria()

    def evidence(state: RolloutState) -> Evidence | None:
        try:
            return concerning(state, read_evidence(place.evidence))
        except UnreadableFile:
            if promotes:
                raise
            return None  # WHY: a way back is not to depend on what was measured

    sets = {version.fingerprint: fset for version, fset in versions.values()}
    state = place.file.change(
        step_of(asked, at, named, criteria, evidence),
        lambda after: place.versions.keep(after, sets, allow_code=allow_code),
    )
    return about_rollout(place, state)


def instant(wall_ns: int) -> str:
    """A moment as the history has it: UTC, to the millisecond."""
    moment = datetime.fromtimestamp(wall_ns // NANOS_PER_SECOND, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{wall_ns % NANOS_PER_SECOND // 1_000_000:03d}Z"


def step_of(
    asked: Asked,
    at: str,
    versions: Mapping[str, Version],
    criteria: Criteria,
    evidence: Callable[[RolloutState], Evidence | None],
    *,
    moment: Callable[[], Mapping[str, Any]] = dict,
) -> Callable[[RolloutState], RolloutState]:
    """The transition that is asked for; `versions` are those it names, by the word it names them with.

    `moment` says what a service knows of itself when a version is rolled back.

    Raises `SettingError` for an action or a cause that is none, and without a name and a reason.
    """
    if asked.by.strip().casefold() == AUTOMATIC:
        raise SettingError(
            f"--by {asked.by}", hint="that is who calls canaries back by itself; give your name"
        )
    request = Request(asked.by, asked.why, at)
    version = None if asked.version is None else versions[asked.version]
    beside = None if asked.beside is None else versions[asked.beside]
    match asked.action:
        case Action.SHADOW if version is not None:
            return lambda state: state.shadow(version, request, active=beside, again=asked.again)
        case Action.CANARY:
            return lambda state: state.canary(asked.strategies, asked.symbols, request)
        case Action.PROMOTE:
            return lambda state: state.promote(
                _proof(state, criteria, evidence(state), asked.reports), request
            )
        case Action.ROLLBACK:
            cause = _cause(asked.cause)
            return lambda state: state.rollback(
                request, cause, {**_when_promoted(state), **figures(evidence(state)), **moment()}
            )
        case Action.DISABLE:
            return lambda state: state.disable(request)
        case Action.ENABLE:
            return lambda state: state.enable(request, active=version)
    hint = f"choose one of {', '.join(Action)}; shadow names a candidate"
    raise SettingError(f"action {asked.action!r}", hint=hint)


def _cause(text: str | None) -> Cause:
    try:
        return Cause(text or "")
    except ValueError:
        hint = f"choose one of {', '.join(Cause)}"
        raise SettingError(f"--cause {text or ''}", hint=hint) from None


def _proof(
    state: RolloutState, criteria: Criteria, evidence: Evidence | None, reports: Sequence[Report]
) -> Any:
    verdicts = judge(criteria, evidence, reports, state.canary_strategies)
    other = _unlike(criteria, Criteria()) | _unlike(criteria.guard, GuardCriteria(), "guard.")
    attached = [one.to_json() for one in reports]
    return proof_of(evidence, verdicts, criteria_other_than_default=other, reports=attached)


def _unlike(
    given: Criteria | GuardCriteria, plain: Criteria | GuardCriteria, place: str = ""
) -> dict[str, Any]:
    """Criteria that are not as by default; who reads the history is to see it."""
    names = [one.name for one in dataclasses.fields(given) if one.name != "guard"]
    return {
        place + name: getattr(given, name) for name in names if getattr(given, name) != getattr(plain, name)
    }


def figures(evidence: Evidence | None) -> dict[str, Any]:
    """What was known at a rollback."""
    if evidence is None:
        return {}
    return {
        "compared": evidence.compared,
        "mismatches": dict(evidence.mismatches or {}),
        "divergences": dict(evidence.divergences),
    }


def _when_promoted(state: RolloutState) -> dict[str, Any]:
    """What an active version that is rolled back was promoted with; nothing of a candidate or a first one."""
    if state.candidate is not None:
        return {}
    steps = (one for one in reversed(state.history) if one.action is Action.PROMOTE)
    step = next((one for one in steps if one.version == str(state.active)), None)
    if step is None:
        return {}
    known = {name: step.evidence[name] for name in ("frames", "mismatches") if name in step.evidence}
    return {"promoted": {"revision": step.revision, **known}}


def concerning(state: RolloutState, evidence: Evidence | None) -> Evidence | None:
    """The evidence, if it is about this state's candidate."""
    active, candidate = state.active, state.candidate
    if evidence is None or active is None or candidate is None:
        return None
    about = Evidence(
        active=active.fingerprint, candidate=candidate.fingerprint, began=state.began, since=state.since
    )
    return evidence if evidence.concerns(about) else None


def about_rollout(
    place: RolloutPlace,
    state: RolloutState,
    evidence: Evidence | None = None,
    *,
    criteria: Criteria | None = None,
) -> dict[str, Any]:
    """Where a rollout stands, each criterion beside what it found, and how it came there.

    Without `evidence` and `criteria` those of the files; `refused` says what is wrong with them. Reports are
    asked for at the promotion alone: their criterion is never reached here.
    """
    wrong: list[str] = []
    if criteria is None:
        criteria = Criteria()
        try:
            criteria = read_criteria(place.criteria)
        except FeaturePlaneError as error:
            wrong.append(str(error))
        try:
            evidence = read_evidence(place.evidence)
        except FeaturePlaneError as error:
            wrong.append(str(error))
    found = concerning(state, evidence)
    judged = state.has_candidate or state.held in {Phase.SHADOW, Phase.CANARY}
    verdicts = judge(criteria, found, (), state.canary_strategies) if judged else ()
    return {
        "phase": state.phase.value,
        "revision": state.revision,
        "active": _version(state.active),
        "candidate": _version(state.candidate),
        "canary": {
            "strategies": list(state.canary_strategies),
            "symbols": list(state.canary_symbols),
        },
        "held": None if state.held is None else state.held.value,
        "good": [_version(one) for one in state.good],
        "bad": list(state.bad),
        "criteria": [dataclasses.asdict(one) for one in verdicts],
        "abs_tol": None if found is None else found.abs_tol,
        "evidence": None if found is None else found.to_json(),
        "history": [_line(one) for one in state.history],
        "state_path": str(place.state),
        "refused": wrong,
    }


def _version(version: Version | None) -> dict[str, Any] | None:
    return None if version is None else dataclasses.asdict(version)


def _line(line: Transition) -> dict[str, Any]:
    words = {"action": line.action.value, "before": line.before.value, "after": line.after.value}
    cause = None if line.cause is None else line.cause.value
    return dataclasses.asdict(line) | words | {"cause": cause}
