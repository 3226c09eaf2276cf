"""What a candidate has to show before it is promoted, and when a canary is called back.

`judge` is a pure function of criteria and evidence; silence is never consent: what is missing or no number
refuses as what is violated does. Criteria come from a TOML file with these names, or are these:

    frames_min = 100_000                # compared, without one mismatch on promoted features
    thirds_min = 2                      # of the session, each with `third_share_min` of `frames_min`
    third_share_min = 0.1
    session_minutes = 1_440             # from midnight UTC, for a venue without trading sessions
    flag_ratio_max = 2.0                # each flag's rate against the active version's,
    flag_slack_per_10000 = 1.0          # and so many frames in 10,000 more
    queue_p99_ratio_max = 1.10          # against the same session without the candidate, over all runs
    latency_p99_ratio_max = 1.10
    queue_p99_floor = 1                 # messages; a p99 below counts as this: nothing can be so much above 0
    samples_min = 2_000                 # of each of the two, on both sides
    baseline_messages = 50_000          # without the candidate, at the beginning of a run and of a session,
    baseline_minutes = 10               # and at least so long by the clock of the messages
    canary_frames_min = 10_000          # compared, that each strategy of the canary was handed

    [guard]                             # in canary, by the clock of the messages
    mismatches = 3
    mismatch_minutes = 5
    p99_ratio_max = 1.25
    p99_minutes = 5
    queue_p99_floor = 1

Leans on `evidence`. Knows nothing of services.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from featureplane.errors import SettingError, UnreadableFile
from featureplane.features.shadow_queue import OTHERS
from featureplane.release.evidence import FLAGS, THIRDS, Evidence, Run, Tail
from featureplane.release.reports import Report
from featureplane.release.rollout import Proof

__all__ = [
    "CRITERIA",
    "REPORTS",
    "Criteria",
    "GuardCriteria",
    "Verdict",
    "judge",
    "proof_of",
    "read_criteria",
]

_BYTES_MAX: Final = 1 << 20
_SLACK_FRAMES: Final = 10_000
REPORTS: Final = "ab_report"
CRITERIA: Final = (
    "shadow",
    "abs_tol",
    "mismatches",
    "frames",
    "thirds",
    "flags",
    "raw_queue_depth",
    "pipeline_latency_ns",
    "canary",
    REPORTS,
)
"""What is asked for, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardCriteria:
    """When a canary is rolled back by itself; see the head of this file."""

    mismatches: int = 3
    mismatch_minutes: int = 5
    p99_ratio_max: float = 1.25
    p99_minutes: int = 5
    queue_p99_floor: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What has to be shown; see the head of this file."""

    frames_min: int = 100_000
    thirds_min: int = 2
    third_share_min: float = 0.1
    session_minutes: int = 1_440
    flag_ratio_max: float = 2.0
    flag_slack_per_10000: float = 1.0
    queue_p99_ratio_max: float = 1.10
    latency_p99_ratio_max: float = 1.10
    queue_p99_floor: int = 1
    samples_min: int = 2_000
    baseline_messages: int = 50_000
    baseline_minutes: int = 10
    canary_frames_min: int = 10_000
    guard: GuardCriteria = field(default_factory=GuardCriteria)


_RANGES: Final[dict[str, tuple[float, float]]] = {
    "frames_min": (1, 10**12),
    "thirds_min": (1, THIRDS),
    "third_share_min": (0.0, 1.0),
    "session_minutes": (1, 1_440),
    "flag_ratio_max": (1.0, 1e6),
    "flag_slack_per_10000": (0.0, 10_000.0),
    "queue_p99_ratio_max": (1.0, 1e6),
    "latency_p99_ratio_max": (1.0, 1e6),
    "queue_p99_floor": (1, 10**6),
    "samples_min": (1, 10**9),
    "baseline_messages": (1, 10**9),
    "baseline_minutes": (0, 1_440),
    "canary_frames_min": (1, 10**12),
    "mismatches": (1, 10**6),
    "mismatch_minutes": (1, 1_440),
    "p99_ratio_max": (1.0, 1e6),
    "p99_minutes": (1, 1_440),
}


def read_criteria(path: Path) -> Criteria:
    """The criteria of a file; those by default where there is none.

    Raises `UnreadableFile` for a file that is no TOML, `SettingError` for a name that is none and a value out
    of range.
    """
    try:
        with path.open("rb") as file:
            table = tomllib.loads(file.read(_BYTES_MAX).decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Criteria()
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error), "criteria of a rollout") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnreadableFile(str(path), f"no TOML ({error})", "criteria of a rollout") from None
    guard = table.pop("guard", {})
    if not isinstance(guard, dict):
        raise SettingError(f"{path}: guard={guard!r}", hint="it takes a table: [guard]")
    known = Criteria()
    values = _checked(path, table, {one.name: getattr(known, one.name) for one in fields(Criteria)})
    watched = _checked(
        path, guard, {one.name: getattr(known.guard, one.name) for one in fields(GuardCriteria)}
    )
    return Criteria(**values, guard=GuardCriteria(**watched))


def _checked(path: Path, table: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known or name not in _RANGES:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f"{f'did you mean {near[0]}? ' if near else ''}there are: {', '.join(known)}"
            raise SettingError(f"{path}: unknown criterion {name!r}", hint=hint)
        least, most = _RANGES[name]
        is_whole = isinstance(known[name], int)
        fits = type(value) is int or (not is_whole and type(value) is float)
        if not fits or not least <= value <= most:
            what = "whole number" if is_whole else "number"
            hint = f"it takes a {what} from {least:,} to {most:,}"
            raise SettingError(f"{path}: {name}={value!r}", hint=hint)
        values[name] = value if is_whole else float(value)
    return values


@dataclass(frozen=True, slots=True)
class Verdict:
    """One criterion: whether it is reached, what was found, what is asked for."""

    name: str
    reached: bool
    found: str
    needed: str

    @property
    def missing(self) -> str:
        """What is not reached, in words."""
        return f"{self.name}: {self.found}, {self.needed} asked for"


def judge(
    criteria: Criteria,
    evidence: Evidence | None,
    reports: Iterable[Report] = (),
    strategies: Sequence[str] = (),
) -> tuple[Verdict, ...]:
    """Each criterion by itself. `strategies` consume the candidate: each of them has to have a report."""
    found = Evidence() if evidence is None else evidence
    queue_most, latency_most = criteria.queue_p99_ratio_max, criteria.latency_p99_ratio_max
    return (
        _shadow(found),
        _abs_tol(found),
        _mismatches(found),
        _frames(criteria, found),
        _thirds(criteria, found),
        _flags(criteria, found),
        _tails("raw_queue_depth", criteria, found, _Compared(_depth, queue_most, criteria.queue_p99_floor)),
        _tails("pipeline_latency_ns", criteria, found, _Compared(_latency, latency_most)),
        _canary(criteria, found, strategies),
        _reports(found, tuple(reports), strategies),
    )


def proof_of(evidence: Evidence | None, verdicts: Iterable[Verdict], **more: Any) -> Proof:
    """What `RolloutState.promote` asks for; `more` goes into the history too."""
    about = Evidence() if evidence is None else evidence
    all_of = tuple(verdicts)
    names = [one.name for one in all_of]
    missing = [one.missing for one in all_of if not one.reached]
    missing += [f"{name}: not judged" for name in CRITERIA if name not in names]
    summary = {one.name: one.found for one in all_of} | more
    return Proof(about.active, about.candidate, tuple(missing), summary)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0


def _counts(table: object, names: Iterable[str] | None = None) -> bool:
    """Whether a table has counts, under all these names."""
    if not isinstance(table, Mapping) or not all(_is_count(one) for one in table.values()):
        return False
    return names is None or all(name in table for name in names)


def _shadow(found: Evidence) -> Verdict:
    on = found.shadow is True
    said = "on" if on else "off" if found.shadow is False else "no data"
    return Verdict("shadow", on, said, "on all the time")


def _abs_tol(found: Evidence) -> Verdict:
    known = _is_number(found.abs_tol)
    said = f"{found.abs_tol:g}" if known else "no data"
    return Verdict("abs_tol", known and found.abs_tol == 0, said, "0")


def _mismatches(found: Evidence) -> Verdict:
    needed = "0 on at least one promoted feature"
    mismatches, compared = found.mismatches, found.compared
    if mismatches is None or not _counts(mismatches) or not _is_count(compared) or not compared:
        return Verdict("mismatches", reached=False, found="no data", needed=needed)
    if not found.features:
        return Verdict("mismatches", reached=False, found="no promoted feature is compared", needed=needed)
    unknown = [name for name in (*found.features, *OTHERS) if name not in mismatches]
    if unknown:
        said = f"no data of {', '.join(unknown)}"
        return Verdict("mismatches", reached=False, found=said, needed=needed)
    wrong = {name: count for name, count in mismatches.items() if count}
    if wrong:
        said = ", ".join(f"{name} {count:,}" for name, count in wrong.items())
        return Verdict("mismatches", reached=False, found=said, needed=needed)
    said = f"0 in {compared:,} frames on {len(found.features)} features (bound 3/n {3 / compared:.1e})"
    return Verdict("mismatches", reached=True, found=said, needed=needed)


def _frames(criteria: Criteria, found: Evidence) -> Verdict:
    needed = f"{criteria.frames_min:,} compared frames"
    if not _is_count(found.compared) or not found.compared:
        return Verdict("frames", reached=False, found="no data", needed=needed)
    enough = found.compared >= criteria.frames_min
    return Verdict("frames", enough, f"{found.compared:,}", needed)


def _thirds(criteria: Criteria, found: Evidence) -> Verdict:
    least = max(math.ceil(criteria.frames_min * criteria.third_share_min), 1)
    needed = f"{criteria.thirds_min} thirds of the session with {least:,} frames each"
    thirds = found.thirds
    if not isinstance(thirds, tuple) or len(thirds) != THIRDS or not all(_is_count(one) for one in thirds):
        return Verdict("thirds", reached=False, found="no data", needed=needed)
    covered = sum(one >= least for one in thirds)
    said = " / ".join(f"{one:,}" for one in thirds)
    return Verdict("thirds", covered >= criteria.thirds_min, said, needed)


def _flags(criteria: Criteria, found: Evidence) -> Verdict:
    needed = (
        f"each flag at most {criteria.flag_ratio_max:g} x the active version's rate and "
        f"{criteria.flag_slack_per_10000:g} in {_SLACK_FRAMES:,} frames"
    )
    active, candidate, frames = found.flags_active, found.flags_candidate, found.compared
    known = _counts(active, FLAGS) and _counts(candidate, FLAGS) and _is_count(frames)
    if not known or active is None or candidate is None or not frames:
        return Verdict("flags", reached=False, found="no data", needed=needed)
    slack = criteria.flag_slack_per_10000 * frames / _SLACK_FRAMES
    over = [
        f"{flag} {count:,} against {active.get(flag, 0):,}"
        for flag, count in candidate.items()
        if count > criteria.flag_ratio_max * active.get(flag, 0) + slack
    ]
    said = ", ".join(over) or f"none above in {frames:,} frames"
    return Verdict("flags", not over, said, needed)


def _depth(run: Run) -> tuple[Tail, Tail]:
    return run.depth_before, run.depth_with


def _latency(run: Run) -> tuple[Tail, Tail]:
    return run.latency_before, run.latency_with


@dataclass(frozen=True, slots=True)
class _Compared:
    """What of a run is compared, up to which ratio, and what is too small to be."""

    of: Callable[[Run], tuple[Tail, Tail]]
    most: float
    least: float = 0.0


def _tails(name: str, criteria: Criteria, found: Evidence, how: _Compared) -> Verdict:
    """The geometric mean over all runs with enough samples on both sides, and of one run at least.

    WHY over all: the p99 of a run alone scatters by more than a tenth (decision 0004); if each of them had to
    be below the limit, the more is measured of a healthy candidate the surer it would be refused.
    """
    most, least = how.most, how.least
    needed = f"p99 at most {most:g} x that without the candidate, of {criteria.samples_min:,} samples each"
    ratios, seen = list[float](), 0
    said = ""
    for before, with_ in map(how.of, found.runs):
        samples = (before.samples, with_.samples)
        if not all(_is_count(one) for one in samples):
            return Verdict(name, reached=False, found="no data", needed=needed)
        if min(samples) < criteria.samples_min:
            seen = max(seen, min(samples))
            continue
        if not _is_number(before.p99) or not _is_number(with_.p99):
            return Verdict(name, reached=False, found="no data", needed=needed)
        assert before.p99 is not None
        assert with_.p99 is not None
        ratio = _ratio(max(with_.p99, least), max(before.p99, least))
        if ratio >= max(ratios, default=0.0):
            said = f"{with_.p99:,.0f} against {before.p99:,.0f}"
        ratios.append(ratio)
    if not ratios:
        return Verdict(name, reached=False, found=f"no data ({seen:,} samples)", needed=needed)
    if len(ratios) == 1:
        return Verdict(name, ratios[0] <= most, said, needed)
    mean = _geometric_mean(ratios)
    return Verdict(name, mean <= most, f"{mean:.3g} x over {len(ratios)} runs, the most {said}", needed)


def _ratio(with_: float, before: float) -> float:
    """Infinite where nothing has become something."""
    if before > 0:
        return with_ / before
    return 1.0 if with_ == 0 else math.inf


def _geometric_mean(ratios: Sequence[float]) -> float:
    """0 where one of them is 0 and none infinite; infinite where one is."""
    if math.inf in ratios:
        return math.inf
    return 0.0 if 0.0 in ratios else math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


def _canary(criteria: Criteria, found: Evidence, strategies: Sequence[str]) -> Verdict:
    needed = f"{criteria.canary_frames_min:,} compared frames handed to each strategy of the canary"
    if not strategies:
        return Verdict("canary", reached=False, found="no strategy consumes it", needed=needed)
    counts = found.consumed if _counts(found.consumed) else {}
    said = ", ".join(f"{name} {counts.get(name, 0):,}" for name in strategies)
    enough = all(counts.get(name, 0) >= criteria.canary_frames_min for name in strategies)
    return Verdict("canary", enough, said, needed)


def _reports(found: Evidence, reports: tuple[Report, ...], strategies: Sequence[str]) -> Verdict:
    needed = "a report of each strategy that consumes the candidate, equal or signed"
    if not strategies:
        return Verdict(REPORTS, reached=False, found="no strategy consumes it", needed=needed)
    said, reached = [], True
    given: object = found.forms
    forms = given if isinstance(given, Mapping) else {}
    for name in strategies:
        mine = [one for one in reports if one.strategy == name]
        form = forms.get(name)
        verdicts = [one.against(found.candidate, form) for one in mine] or [(False, "none")]
        reached = reached and all(good for good, _ in verdicts)
        said += [f"{name}: {words}" for _, words in verdicts]
    return Verdict(REPORTS, reached, "; ".join(said), needed)
