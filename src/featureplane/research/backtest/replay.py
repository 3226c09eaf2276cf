"""Strategies over recorded events, with the paper venue: what they decided, what they got, what it was worth.

The runner is that of a running service. Leans on `strategy` and `execution`. Prints and draws nothing.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from featureplane.errors import EmptyStream, SettingError
from featureplane.execution.limits import RiskLimits
from featureplane.execution.orders import OrderEvent
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperOptions, PaperVenue
from featureplane.features.engine import FeatureEngine
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.desk import Decision
from featureplane.strategy.events import GapEvent, LOBStatsEvent
from featureplane.strategy.runner import Listener, StrategyRunner, StrategyState
from featureplane.units import NANOS_PER_MS, NANOS_PER_SECOND

__all__ = ["HORIZONS_MS", "BacktestResult", "EquityPoint", "Fill", "replay_backtest"]

HORIZONS_MS: Final = (100, 500, 1000)
"""Markouts are taken so long after a fill, in the venue's time."""


class EquityPoint(NamedTuple):
    """What the account was worth, in money (10^-18 of the quote currency), and what it held.

    `equity` is None while something held has no mid; `inventory` has the signed position of each symbol.
    """

    local_ts_ns: int
    equity: int | None
    inventory: tuple[int, ...]


class Fill(NamedTuple):
    """One fill, and how the mid moved in our favour behind it, doubled, in units of event prices.

    `ts_ns` is the venue's time of the last message before the fill. `markouts_x2` belong to `HORIZONS_MS`;
    None where there was no mid, or the recording ends before.
    """

    strategy: str
    event: OrderEvent
    ts_ns: int
    mid_x2: int | None
    markouts_x2: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """What a backtest found. Money is in 10^-18 of the quote currency.

    `equity` has a point every `sample_ns` of the clock of receipt, and the last one; `cpu_ns` is the
    processor's time of the messages, venue and strategies together.
    """

    symbols: tuple[str, ...]
    messages: int
    cpu_ns: int
    decisions: tuple[Decision, ...]
    orders: tuple[tuple[str, OrderEvent], ...]
    fills: tuple[Fill, ...]
    equity: tuple[EquityPoint, ...]
    fees: int
    states: tuple[StrategyState, ...]

    @property
    def pnl(self) -> int | None:
        """Realised and unrealised less fees; None if something held has no mid at the end."""
        return self.equity[-1].equity

    @property
    def sent(self) -> int:
        """Orders that passed the risk check."""
        return sum(one.action == "submit" and one.outcome == "sent" for one in self.decisions)

    @property
    def refused(self) -> int:
        """Orders that did not."""
        return sum(one.action == "submit" and one.outcome != "sent" for one in self.decisions)

    @property
    def fill_rate(self) -> float | None:
        """Orders filled at least in part, of those sent; None without any."""
        filled = {fill.event.client_id for fill in self.fills}
        return float(len(filled)) / float(self.sent) if self.sent else None

    def markout(self, horizon_ms: int) -> float | None:
        """Mean markout in units of event prices, weighed by size; None without one.

        Raises `SettingError` for a horizon that is not one of `HORIZONS_MS`.
        """
        if horizon_ms not in HORIZONS_MS:
            raise SettingError(f"horizon_ms={horizon_ms!r}", hint=f"one of {HORIZONS_MS}")
        at = HORIZONS_MS.index(horizon_ms)
        known = [(fill.markouts_x2[at], fill.event.qty) for fill in self.fills]
        pairs = [(move, qty) for move, qty in known if move is not None]
        size = sum(qty for _, qty in pairs)
        return float(sum(move * qty for move, qty in pairs)) / float(2 * size) if size else None


class _Mids(BaseStrategy):
    """Notes every change of a mid, in the venue's time."""

    def on_start(self) -> None:
        self.times: dict[str, list[int]] = {symbol: [] for symbol in self.ctx.symbols}
        self.mids: dict[str, list[int | None]] = {symbol: [] for symbol in self.ctx.symbols}

    def _note(self, symbol: str, ts_ns: int, mid_x2: int | None) -> None:
        times, mids = self.times[symbol], self.mids[symbol]
        if not mids or mids[-1] != mid_x2:
            times.append(max(ts_ns, times[-1]) if times else ts_ns)
            mids.append(mid_x2)

    def on_lob_stats(self, event: LOBStatsEvent) -> None:
        self._note(event.symbol, event.ts, event.mid_price_x2)

    def on_gap(self, event: GapEvent) -> None:
        if not event.is_whole:
            self._note(event.symbol, event.ts, None)

    def at(self, symbol: str, ts_ns: int) -> int | None:
        """The mid in force then."""
        at = bisect_right(self.times[symbol], ts_ns)
        return self.mids[symbol][at - 1] if at else None


class _Story(Listener):
    """Keeps all that is told."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.orders: list[tuple[str, OrderEvent]] = []

    def on_decision(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def on_order_event(self, strategy: str, event: OrderEvent) -> None:
        self.orders.append((strategy, event))


class _Clock:
    """The venue's time behind a time of receipt: that of the last message received until then."""

    def __init__(self) -> None:
        self._parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []

    def add(self, events: EventBatch) -> None:
        ends = events.message_ends - 1
        self._parts.append((events.array["local_ts_ns"][ends], events.array["source_ts_ns"][ends]))

    def settle(self) -> None:
        self._local = np.maximum.accumulate(np.concatenate([local for local, _ in self._parts]))
        self._source = np.maximum.accumulate(np.concatenate([source for _, source in self._parts]))
        self.end_ns = int(self._source[-1])

    def source_ts_ns(self, local_ts_ns: int) -> int:
        at = int(np.searchsorted(self._local, local_ts_ns, side="right"))
        return int(self._source[max(at - 1, 0)])


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
) -> BacktestResult:
    """Run strategies over a recording, message by message, with a paper venue.

    `fset` are the features there are; None: none, for strategies in legacy form. One account holds all
    strategies. Working orders are cancelled behind the last message; what is held stays, at the last mid.

    Raises `EmptyStream` without events, what refuses a strategy or an option, and what the stream's options
    ask for; an exception of a strategy stops that strategy (`states`).
    """
    batches = iter([events] if isinstance(events, EventBatch) else events)
    first = next((one for one in batches if len(one)), None)
    if first is None:
        raise EmptyStream("a backtest without events", hint="give a batch that has some")
    if type(sample_ns) is not int or sample_ns <= 0:
        raise SettingError(f"sample_ns={sample_ns!r}", hint="nanoseconds, an integer above 0")
    story, mids, clock = _Story(), _Mids("mids of the backtest"), _Clock()
    risk = RiskCheck(first.instruments, limits)
    runner = StrategyRunner(
        (mids, *strategies),
        first.instruments,
        engine=None if fset is None else FeatureEngine(fset, backend),
        venue=PaperVenue(first.instruments, paper, stream=first.options),
        risk=risk,
        stream=first.options,
        levels=levels,
        listener=story,
        backend=backend,
    )
    equity: list[EquityPoint] = []
    began = time.process_time_ns()
    for batch in chain((first,), batches):
        clock.add(batch)
        _walk(runner, risk, batch, sample_ns, equity)
    runner.finish()
    cpu_ns = time.process_time_ns() - began
    equity.append(_point(runner, risk))
    clock.settle()
    fills = tuple(_fill(name, event, mids, clock) for name, event in story.orders if event.is_fill)
    return BacktestResult(
        symbols=tuple(one.symbol for one in first.instruments),
        messages=runner.messages,
        cpu_ns=cpu_ns,
        decisions=tuple(story.decisions),
        orders=tuple(story.orders),
        fills=fills,
        equity=tuple(equity),
        fees=sum(fill.event.fee for fill in fills),
        states=tuple(state for state in runner.states.values() if state.strategy is not mids),
    )


def _walk(
    runner: StrategyRunner, risk: RiskCheck, events: EventBatch, sample_ns: int, out: list[EquityPoint]
) -> None:
    start = 0
    due_ns = out[-1].local_ts_ns // sample_ns * sample_ns + sample_ns if out else 0
    for stop in events.message_ends.tolist():
        runner.step(events, start, stop)
        start = stop
        if runner.now_ns >= due_ns:
            out.append(_point(runner, risk))
            due_ns = runner.now_ns // sample_ns * sample_ns + sample_ns


def _point(runner: StrategyRunner, risk: RiskCheck) -> EquityPoint:
    inventory = tuple(risk.portfolio[one.symbol].qty for one in runner.instruments)
    return EquityPoint(runner.now_ns, risk.portfolio.equity, inventory)


def _fill(name: str, event: OrderEvent, mids: _Mids, clock: _Clock) -> Fill:
    ts_ns = clock.source_ts_ns(event.venue_ts_ns)
    mid_x2 = mids.at(event.symbol, ts_ns)
    moves: list[int | None] = []
    for horizon_ms in HORIZONS_MS:
        then_ns = ts_ns + horizon_ms * NANOS_PER_MS
        later_x2 = mids.at(event.symbol, then_ns) if then_ns <= clock.end_ns else None
        if mid_x2 is None or later_x2 is None:
            moves.append(None)
        else:
            moves.append(event.side.sign * (later_x2 - mid_x2))
    return Fill(name, event, ts_ns, mid_x2, tuple(moves))
