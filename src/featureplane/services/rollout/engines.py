"""Two versions of a feature set in one running service: what changes them, and what is counted of each.

Every method is to be called between two messages (`MarketDataService.ask`) and counts from the next one on.
Who may call them, and when, is not decided here. Leans on `strategy.versions`. Knows no phases, files or
sockets.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from featureplane.features.spec import FeatureSet
from featureplane.services.numbers import NO_SET, UNREAD
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.candidate import Candidate
from featureplane.strategy.twins import Twin
from featureplane.telemetry import log_event

if TYPE_CHECKING:
    from featureplane.services.marketdata import MarketDataService

__all__ = ["RolloutEngines", "VersionFigures"]

_UNREADABLE: Final = "malformed"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """What a version made since the candidate beside it, or it itself as the candidate, began.

    `rises` counts frames on which a quality flag rose, by the flag's name (rule 4).
    """

    feature_set_id: str
    fingerprint: str
    frames: int
    rises: Mapping[str, int]


class RolloutEngines:
    """The versions that a service computes.

    Behind the message at which it happened, `on_lost` is told why an error of its own ended a candidate
    (everybody consumes the active version then, that message included), and `on_divergence` which strategy's
    two forms parted, and how. Both may change the versions.
    """

    def __init__(self, service: MarketDataService) -> None:
        self._service, self._runner = service, service.runner
        self._runner.on_lost, self._runner.on_parted = self._lost, self._parted
        self.on_lost: Callable[[str], None] | None = None
        self.on_divergence: Callable[[str, str], None] | None = None
        self.lost = 0
        """Candidates that an error ended."""

        self.divergences: Counter[str] = Counter()
        """By strategy, how often its two forms parted."""

        self.first_divergence: dict[str, dict[str, Any]] = {}
        """By strategy, the first time, with its message."""

        self._news: list[Callable[[], None]] = []

        self._frames_before, self._rises_before = 0, Counter[str]()
        self._past: dict[str, Counter[str]] = {}
        self._totals_before: Counter[str] = Counter()
        self._counts_before: dict[str, Counter[str]] = {}

    # -- what changes

    def begin_candidate(self, fset: FeatureSet) -> None:
        """Compute a set beside the active one from the next message on, consumed by nobody.

        Its book is the live one, and what both sets compute alike goes on; what it alone computes has no
        value until it is warm. Raises `StateError` where there is a candidate, or no feature set, and for
        the active set itself.
        """
        self._runner.begin_candidate(fset)
        self._frames_before = self._service.frames
        self._rises_before = Counter(self._service.feed.counts.get("flags"))
        self._service.follow_candidate()
        self._say("a candidate is computed beside the active set")

    def set_canary(self, symbols: Collection[str], strategies: Collection[str]) -> None:
        """Let these strategies consume the candidate of these symbols, of all if none is named.

        Each does from the message on behind which all that it needs of it has had a value: the features it
        has handles to, else all that its feed can define. Who is not named any more consumes the active set
        at once. Raises `UnknownStrategy`, `UnknownSymbol`, `StateError` by name for a strategy that does not
        accept the candidate, reads no features or does not run; nothing is changed then.
        """
        self._runner.set_canary(symbols, strategies, self._legacy_of(strategies))
        self._say("who consumes the candidate has changed")

    def compare(self, strategies: Collection[str]) -> None:
        """Run the legacy forms of these strategies silently beside them, as those of a canary are.

        Begun with the service a silent form is in step at once; later it has to get there first. Strategies
        without a legacy form are passed over. Raises `UnknownStrategy`, and `StateError` by name for one that
        does not run in its shared form.
        """
        self._runner.compare(self._legacy_of(strategies))
        self._service.follow_candidate()

    def switched(self, name: str, form: str) -> None:
        """A strategy runs in another form; one that is to consume the candidate is accompanied again."""
        if form == "shared" and any(one == name for one, _ in self._runner.wanted):
            self.compare([name])

    def withdraw(self) -> FeatureSet | None:
        """Let everybody consume the active set at once, and compute the candidate no more; the set it was."""
        self._leave()
        fset = self._runner.withdraw()
        self._service.follow_candidate()
        if fset is not None:
            self._say("the candidate was withdrawn", was=fset.feature_set_id)
        return fset

    def promote(self) -> FeatureSet:
        """Make the candidate the active set, everybody's; the set that was.

        Raises `StateError` without a candidate, and by name for a strategy that does not accept it.
        """
        return self._exchange(self._runner.promote)

    def activate(self, fset: FeatureSet) -> FeatureSet:
        """Make a set the active one at once, whatever is computed now; the set that was.

        A candidate that is another one is withdrawn. What was not computed before has no value until it is
        warm. Raises as `promote`.
        """
        return self._exchange(lambda: self._runner.activate(fset))

    def _exchange(self, work: Callable[[], FeatureSet]) -> FeatureSet:
        service, candidate = self._service, self._runner.candidate
        counts, totals = self.counts, self._totals()
        made = None if candidate is None else (candidate.fset.feature_set_id, self._made(candidate))
        before = work()
        if made is not None and self._runner.candidate is None:
            self._past.setdefault(made[0], Counter()).update(made[1])
        service.adopt()
        if service.fset is not None and service.fset.fingerprint != before.fingerprint:
            self._past.setdefault(before.feature_set_id, Counter()).update(totals - self._totals_before)
            self._totals_before = totals
            fresh = service.feed.counts
            self._counts_before = {name: Counter(table) for name, table in counts.items()}
            for name, table in self._counts_before.items():
                table.subtract(fresh.get(name, Counter()))
        self._say("another set is the active one", was=before.feature_set_id)
        return before

    def _leave(self) -> None:
        candidate = self._runner.candidate
        if candidate is not None:
            self._past.setdefault(candidate.fset.feature_set_id, Counter()).update(self._made(candidate))

    def _lost(self, candidate: Candidate) -> None:
        self.lost += 1
        set_id, error = candidate.fset.feature_set_id, candidate.error
        self._past.setdefault(set_id, Counter()).update(self._made(candidate))
        self._service.follow_candidate()
        why = f"{set_id} raised {type(error).__name__}: {error}"
        log_event(
            _log,
            logging.ERROR,
            "the candidate was ended by an error of its own; everybody consumes the active set",
            trace=f"m{self._runner.messages + 1}",
            candidate=set_id,
            error=repr(error),
        )
        self._news.append(lambda: self.on_lost and self.on_lost(why))

    def _parted(self, twin: Twin, why: str) -> None:
        name, message = twin.real.name, self._runner.messages
        self.divergences[name] += 1
        about = {"message": message, "agreed": twin.desk.agreed, "what": why}
        self.first_divergence.setdefault(name, about)
        log_event(
            _log,
            logging.ERROR,
            "the legacy form of a strategy decided otherwise than its shared form; they are compared no more",
            trace=f"m{message}",
            strategy=name,
            agreed=twin.desk.agreed,
            what=why,
        )
        self._news.append(lambda: self.on_divergence and self.on_divergence(name, why))

    def tell(self) -> None:
        """Tell what the last message brought; between two messages."""
        while self._news:
            self._news.pop(0)()

    def _legacy_of(self, strategies: Collection[str]) -> dict[str, BaseStrategy]:
        made = {
            name: self._service.legacy_form(name) for name in strategies if name not in self._runner.twins
        }
        return {name: form for name, form in made.items() if form is not None}

    def _say(self, what: str, **more: object) -> None:
        log_event(_log, logging.WARNING, what, trace=f"m{self._runner.messages}", **self.about(), **more)

    # -- what there is to say

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """What the active set's pipeline counts, gone on with from set to set."""
        tables = dict(self._service.feed.counts)
        for name, before in self._counts_before.items():
            tables[name] = Counter(tables.get(name))
            tables[name].update(before)
        return {name: +table for name, table in tables.items()}

    def figures(self) -> tuple[VersionFigures, VersionFigures] | None:
        """What active set and candidate made since the candidate began; None without one."""
        candidate, fset = self._runner.candidate, self._service.fset
        if candidate is None or fset is None:
            return None
        rises = Counter(self._service.feed.counts.get("flags"))
        rises.subtract(self._rises_before)
        frames = self._service.frames - self._frames_before
        other = candidate.fset
        return (
            VersionFigures(fset.feature_set_id, fset.fingerprint, frames, dict(+rises)),
            VersionFigures(other.feature_set_id, other.fingerprint, candidate.made, dict(candidate.rises)),
        )

    def updates(self) -> dict[str, Counter[str]]:
        """Frames and refused messages of every set that was or is computed, by result."""
        every = {name: Counter(table) for name, table in self._past.items()}
        fset, candidate = self._service.fset, self._runner.candidate
        name = NO_SET if fset is None else fset.feature_set_id
        every.setdefault(name, Counter()).update(self._totals() - self._totals_before)
        if candidate is not None:
            every.setdefault(candidate.fset.feature_set_id, Counter()).update(self._made(candidate))
        return every

    def _totals(self) -> Counter[str]:
        dropped = self.counts["dropped"]
        by_guard = sum(n for reason, n in dropped.items() if reason not in {_UNREADABLE, *UNREAD})
        result = "emitted" if self._service.emits else "updated"
        unusable = dropped[_UNREADABLE] + self._service.errors
        return Counter({result: self._service.frames, "dropped": by_guard, "error": unusable})

    def _made(self, candidate: Candidate) -> Counter[str]:
        handed = candidate.handed if self._service.emits else 0
        return Counter({"emitted": handed, "updated": candidate.made - handed})

    def about(self) -> dict[str, Any]:
        """Both versions, and who consumes the candidate or waits for what of it."""
        runner, fset = self._runner, self._service.fset
        candidate = runner.candidate
        return {
            "active": _named(fset),
            "candidate": _named(None if candidate is None else candidate.fset),
            "consuming": [f"{name} {symbol}" for name, symbol in sorted(runner.consuming)],
            "waiting": {f"{name} {symbol}": what for (name, symbol), what in runner.waits_for().items()},
            "compared": {name: _compared(twin) for name, twin in runner.twins.items()},
            "divergences": dict(self.divergences),
            "first_divergence": dict(self.first_divergence),
        }


def _compared(twin: Twin) -> dict[str, object]:
    return {"in_step": twin.in_step, "agreed": twin.desk.agreed}


def _named(fset: FeatureSet | None) -> dict[str, str] | None:
    return None if fset is None else {"feature_set": fset.feature_set_id, "fingerprint": fset.fingerprint}
