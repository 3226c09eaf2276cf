"""Strategies over recorded events, with the paper venue: what they decided, what they got, what it was worth.

The runner is that of a running service. Leans on `strategy` and `execution`. Prints and draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from featureplane.clock import cpu_ns
from featureplane.errors import EmptyStream, SettingError
from featureplane.execution.limits import RiskLimits
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperOptions, PaperVenue
from featureplane.features.engine import FeatureEngine
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.research.backtest.result import (
    HORIZONS_MS,
    BacktestResult,
    EquityPoint,
    Fill,
    Mids,
    SourceClock,
    Story,
    result_of,
)
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.runner import StrategyRunner
from featureplane.units import NANOS_PER_SECOND

__all__ = ["HORIZONS_MS", "BacktestResult", "EquityPoint", "Fill", "replay_backtest"]


def replay_backtest(
    strategies: Iterable[BaseStrategy],
    events: EventBatch | Iterable[EventBatch],
    *,
    fset: FeatureSet | None = None,
    paper: PaperOptions | None = None,
    limits: RiskLimits | None = None,
    levels: int = 5,
    sample_ns: int = NANOS_PER_SECOND,
    backend: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> BacktestResult:
    """Run strategies over a recording, message by message, with a paper venue.

    `fset` are the features there are; None: none, for strategies in legacy form. One account holds all
    strategies. Working orders are cancelled behind the last message; what is held stays, at the last mid.
    `progress` is called with the number of messages so far, now and then.

    Raises `EmptyStream` without events, what refuses a strategy or an option, and what the stream's options
    ask for; an exception of a strategy stops that strategy (`states`).
    """
    if type(sample_ns) is not int or sample_ns <= 0:
        raise SettingError(f"sample_ns={sample_ns!r}", hint="nanoseconds, an integer above 0")
    first, batches = _begun(events)
    story, mids, clock = Story(), Mids("mids of the backtest"), SourceClock()
    risk = RiskCheck(first.instruments, limits)
    runner = StrategyRunner(
        (mids, *strategies),
        first.instruments,
        engine=None if fset is None else FeatureEngine(fset, backend),
        venue=PaperVenue(first.instruments, paper, stream=first.options, backend=backend),
        risk=risk,
        stream=first.options,
        levels=levels,
        listener=story,
        backend=backend,
    )
    account = _Account(runner, risk, sample_ns, progress)
    began = cpu_ns()
    for batch in batches:
        clock.add(batch)
        account.walk(batch)
    runner.finish()
    spent_ns = cpu_ns() - began
    account.note()
    clock.settle()
    venues, end_ns, points = clock.source_ts_ns, clock.end_ns, account.points
    return result_of(runner, story, mids, cpu_ns=spent_ns, equity=points, source_ts_ns=venues, end_ns=end_ns)


def _begun(events: EventBatch | Iterable[EventBatch]) -> tuple[EventBatch, Iterable[EventBatch]]:
    """The first batch that has events, and all from that on."""
    batches = iter([events] if isinstance(events, EventBatch) else events)
    first = next((one for one in batches if len(one)), None)
    if first is None:
        raise EmptyStream("a backtest without events", hint="give a batch that has some")
    return first, chain((first,), batches)


class _Account:
    """Walks a runner over batches, and notes now and then what the account is worth."""

    def __init__(
        self,
        runner: StrategyRunner,
        risk: RiskCheck,
        sample_ns: int,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._runner, self._risk = runner, risk
        self._sample_ns, self._progress = sample_ns, progress
        self._due_ns = 0
        self.points: list[EquityPoint] = []

    def walk(self, events: EventBatch) -> None:
        runner, start = self._runner, 0
        for stop in events.message_ends.tolist():
            runner.step(events, start, stop)
            start = stop
            if runner.now_ns >= self._due_ns:
                self.note()
                self._due_ns = runner.now_ns // self._sample_ns * self._sample_ns + self._sample_ns
                if self._progress is not None:
                    self._progress(runner.messages)

    def note(self) -> None:
        runner, portfolio = self._runner, self._risk.portfolio
        inventory = tuple(portfolio[one.symbol].qty for one in runner.instruments)
        self.points.append(EquityPoint(runner.now_ns, portfolio.equity, inventory))
