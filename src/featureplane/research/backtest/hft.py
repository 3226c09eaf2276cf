"""Strategies over recorded events with hftbacktest as the market; the answer is `replay_backtest`'s.

Leans on `adapter` and `result`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from featureplane.clock import cpu_ns
from featureplane.errors import SettingError
from featureplane.execution.limits import RiskLimits
from featureplane.execution.risk import RiskCheck
from featureplane.research.backtest.adapter import HftBacktestAdapter
from featureplane.research.backtest.library import Simulation
from featureplane.research.backtest.result import BacktestResult, EquityPoint, Mids, Story, result_of
from featureplane.research.backtest.venue import compile_calls
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.events import LOBStatsEvent
from featureplane.strategy.market import STATS_LEVELS
from featureplane.units import NANOS_PER_SECOND

__all__ = ["hft_backtest"]

_OBSERVER: Final = "mids of the backtest"


def hft_backtest(
    strategies: Iterable[BaseStrategy],
    adapter: HftBacktestAdapter,
    *,
    limits: RiskLimits | None = None,
    levels: int = STATS_LEVELS,
    sample_ns: int = NANOS_PER_SECOND,
    progress: Callable[[int], None] | None = None,
) -> BacktestResult:
    """Run strategies in hftbacktest, message by message; the account of `replay_backtest`.

    Orders, queues and fills are hftbacktest's, positions and PnL ours. A point of equity is taken at the
    first book of two sides behind `sample_ns`, and `progress` called with their number now and then. What
    numba compiles is done before the time counts.

    Raises `SettingError` for a `sample_ns` that is none, and what `HftBacktestAdapter.run` raises; an
    exception of a strategy stops that strategy (`states`).
    """
    if type(sample_ns) is not int or sample_ns <= 0:
        raise SettingError(f"sample_ns={sample_ns!r}", hint="nanoseconds, an integer above 0")
    story, risk = Story(), RiskCheck(adapter.instruments, limits)
    observer = _Observer(risk, sample_ns, progress)
    with Simulation(adapter.assets, adapter.market) as never_run:
        compile_calls(never_run)
    began = cpu_ns()
    run = adapter.run((observer, *strategies), risk=risk, listener=story, levels=levels)
    spent_ns = cpu_ns() - began
    observer.note(run.runner.now_ns)
    return result_of(
        run.runner,
        story,
        observer,
        cpu_ns=spent_ns,
        equity=observer.points,
        source_ts_ns=lambda ts_ns: ts_ns,
        end_ns=max(int(one.batch.array["source_ts_ns"].max()) for one in adapter.assets),
    )


class _Observer(Mids):
    """Notes mids, and what the account is worth now and then."""

    def __init__(self, risk: RiskCheck, sample_ns: int, progress: Callable[[int], None] | None) -> None:
        super().__init__(_OBSERVER)
        self.points: list[EquityPoint] = []
        self._risk, self._sample_ns, self._progress = risk, sample_ns, progress
        self._due_ns = self._seen = 0

    def note(self, now_ns: int) -> None:
        """Take a point."""
        portfolio = self._risk.portfolio
        inventory = tuple(portfolio[symbol].qty for symbol in self.ctx.symbols)
        self.points.append(EquityPoint(now_ns, portfolio.equity, inventory))

    def on_lob_stats(self, event: LOBStatsEvent) -> None:
        super().on_lob_stats(event)
        self._pass(event.local_ts)

    def _pass(self, local_ts_ns: int) -> None:
        self._seen += 1
        if local_ts_ns < self._due_ns:
            return
        self.note(local_ts_ns)
        self._due_ns = local_ts_ns // self._sample_ns * self._sample_ns + self._sample_ns
        if self._progress is not None:
            self._progress(self._seen)
