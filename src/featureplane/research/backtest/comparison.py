"""The two forms of a strategy over one recording, decision by decision.

Leans on `replay`, `hft` and `strategy.compatibility`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from featureplane.errors import EmptyStream, SettingError
from featureplane.execution.venues.paper import PaperOptions
from featureplane.features.engine import FeatureEngine
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.research.backtest.adapter import HftBacktestAdapter
from featureplane.research.backtest.assets import HftAsset
from featureplane.research.backtest.hft import hft_backtest
from featureplane.research.backtest.library import HftMarket
from featureplane.research.backtest.replay import replay_backtest
from featureplane.research.backtest.result import BacktestResult
from featureplane.strategy.agreement import first_difference
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.compatibility import Forms
from featureplane.strategy.desk import Decision

__all__ = ["Comparison", "Divergence", "Exchanged", "InHftbacktest", "Replayed", "compare_forms"]

_NAME: Final = "compared"

Progress = Callable[[int], None]


class Exchanged(Protocol):
    """A recording and who plays its market: the same for both forms."""

    def run(
        self, strategy: BaseStrategy, fset: FeatureSet | None, progress: Progress | None
    ) -> BacktestResult:
        """Run one strategy from the beginning to the end, without features if `fset` is None."""

    def messages(self) -> Iterator[npt.NDArray[Any]]:
        """The messages in the order in which decisions number them, from 1, as events."""

    def batch(self) -> EventBatch:
        """What the messages are part of."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay with the paper venue."""

    events: EventBatch
    paper: PaperOptions | None = None
    backend: str = "auto"

    def run(
        self, strategy: BaseStrategy, fset: FeatureSet | None, progress: Progress | None
    ) -> BacktestResult:
        """As `replay_backtest`."""
        return replay_backtest(
            [strategy], self.events, fset=fset, paper=self.paper, backend=self.backend, progress=progress
        )

    def messages(self) -> Iterator[npt.NDArray[Any]]:
        """All messages."""
        start = 0
        for stop in self.events.message_ends.tolist():
            yield self.events.array[start:stop]
            start = stop

    def batch(self) -> EventBatch:
        """The events."""
        return self.events


@dataclass(frozen=True, slots=True)
class InHftbacktest:
    """Hftbacktest: the legacy form runs in `stats_only`, the shared form in `lob_feature`."""

    asset: HftAsset
    market: HftMarket | None = None
    backend: str = "auto"

    def run(
        self, strategy: BaseStrategy, fset: FeatureSet | None, progress: Progress | None
    ) -> BacktestResult:
        """As `hft_backtest`."""
        return hft_backtest([strategy], self._adapter(fset), progress=progress)

    def _adapter(self, fset: FeatureSet | None) -> HftBacktestAdapter:
        return HftBacktestAdapter(
            self.asset,
            fset,
            feature_mode="stats_only" if fset is None else "lob_feature",
            market=self.market,
            backend=self.backend,
        )

    def messages(self) -> Iterator[npt.NDArray[Any]]:
        """All messages but those of quotes, as hftbacktest's clock shows them."""
        with self._adapter(None).walk() as walk:
            while not walk.ended:
                for start, stop in walk.wait():
                    yield walk.events.array[start:stop]

    def batch(self) -> EventBatch:
        """The events of the asset."""
        return self.asset.batch


class Divergence(NamedTuple):
    """The first decision that differs, from 0; None where a form took no further one.

    `events` are the message at which it was taken, and `features` the values of the symbol's last frame
    at that message, None for what has no value.
    """

    number: int
    legacy: Decision | None
    shared: Decision | None
    events: npt.NDArray[Any]
    features: dict[str, int | float | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both forms did; they agree if `divergence` is None."""

    legacy: BacktestResult
    shared: BacktestResult
    divergence: Divergence | None


def compare_forms(
    forms: Forms, market: Exchanged, fset: FeatureSet, *, progress: Progress | None = None
) -> Comparison:
    """Run the legacy form without features and the shared form with `fset`, and compare all they decided.

    Raises `EmptyStream` where neither decided anything, `SettingError` for forms that cannot be made or one
    that an error of its own stopped, and what the backtest raises.
    """

    def run(form: str, features: FeatureSet | None) -> BacktestResult:
        strategy = forms.make(form)
        if strategy is None:
            raise SettingError(f"no {form} form")
        strategy.name = _NAME
        result = market.run(strategy, features, progress)
        if error := result.states[0].error:
            raise SettingError(
                f"the {form} form was stopped: {type(error).__name__}: {error}",
                hint="both forms have to run to the end to be compared",
            )
        return result

    legacy, shared = run("legacy", None), run("shared", fset)
    if not legacy.decisions and not shared.decisions:
        raise EmptyStream("decisions of either form", hint="give a recording in which they decide something")
    return Comparison(legacy, shared, _divergence(legacy, shared, market, fset))


def _divergence(
    legacy: BacktestResult, shared: BacktestResult, market: Exchanged, fset: FeatureSet
) -> Divergence | None:
    found = first_difference(legacy.decisions, shared.decisions)
    if found is None:
        return None
    messages = list(islice(market.messages(), found.first.message))
    features = _features_behind(messages, found.first.symbol, market.batch(), fset)
    return Divergence(*found, messages[-1].copy(), features)


def _features_behind(
    messages: list[npt.NDArray[Any]], symbol: str, batch: EventBatch, fset: FeatureSet
) -> dict[str, int | float | None]:
    """Values of the symbol's last frame behind these messages."""
    seen = EventBatch(np.concatenate(messages), batch.instruments, batch.source, batch.options, checked=True)
    last = None
    for frame in FeatureEngine(fset).replay(seen):
        if frame.symbol == symbol:
            last = frame
    return {spec.feature_id: None if last is None else last[spec.feature_id] for spec in fset.specs}
