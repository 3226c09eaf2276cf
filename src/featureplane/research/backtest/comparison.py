"""The two forms of a strategy over one recording, decision by decision.

Leans on `replay` and `strategy.compatibility`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, NamedTuple

from featureplane.errors import EmptyStream, SettingError
from featureplane.execution.venues.paper import PaperOptions
from featureplane.features.engine import FeatureEngine
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.research.backtest.replay import replay_backtest
from featureplane.research.backtest.result import BacktestResult
from featureplane.strategy.compatibility import Forms
from featureplane.strategy.desk import Decision

__all__ = ["Comparison", "Divergence", "compare_forms"]

_NAME: Final = "compared"


class Divergence(NamedTuple):
    """The first decision that differs, from 0; None where a form took no further one.

    `features` are the values of the symbol's last frame at that message, None for what has no value.
    """

    number: int
    legacy: Decision | None
    shared: Decision | None
    features: dict[str, int | float | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both forms did; they agree if `divergence` is None."""

    legacy: BacktestResult
    shared: BacktestResult
    divergence: Divergence | None


def compare_forms(
    forms: Forms,
    events: EventBatch,
    fset: FeatureSet,
    *,
    paper: PaperOptions | None = None,
    backend: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Run the legacy form without features and the shared form with `fset`, and compare all they decided.

    Raises `EmptyStream` where neither decided anything, `SettingError` for forms that cannot be made or one
    that an error of its own stopped, and what `replay_backtest` raises.
    """

    def run(form: str, features: FeatureSet | None) -> BacktestResult:
        strategy = forms.make(form)
        if strategy is None:
            raise SettingError(f"no {form} form")
        strategy.name = _NAME
        result = replay_backtest(
            [strategy], events, fset=features, paper=paper, backend=backend, progress=progress
        )
        if error := result.states[0].error:
            raise SettingError(
                f"the {form} form was stopped: {type(error).__name__}: {error}",
                hint="both forms have to run to the end to be compared",
            )
        return result

    legacy, shared = run("legacy", None), run("shared", fset)
    if not legacy.decisions and not shared.decisions:
        raise EmptyStream("decisions of either form", hint="give a recording in which they decide something")
    return Comparison(legacy, shared, _divergence(legacy, shared, events, fset, backend))


def _divergence(
    legacy: BacktestResult, shared: BacktestResult, events: EventBatch, fset: FeatureSet, backend: str
) -> Divergence | None:
    for number, (mine, other) in enumerate(zip_longest(legacy.decisions, shared.decisions)):
        if mine != other:
            first = min((one for one in (mine, other) if one is not None), key=lambda one: one.message)
            return Divergence(number, mine, other, _features_at(first, events, fset, backend))
    return None


def _features_at(
    decision: Decision, events: EventBatch, fset: FeatureSet, backend: str
) -> dict[str, int | float | None]:
    """Values of the symbol's last frame behind the decision's message."""
    engine, start, last = FeatureEngine(fset, backend), 0, None
    for stop in events.message_ends[: decision.message].tolist():
        for frame in engine.push(events, start, stop):
            if frame.symbol == decision.symbol:
                last = frame.copy()
        start = stop
    return {spec.feature_id: None if last is None else last[spec.feature_id] for spec in fset.specs}
