"""What a backtest found, and who notes it on the way; the same for every way to run one.

Leans on `strategy` and `execution`. Runs nothing.
"""

from __future__ import annotations

import logging
import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from featureplane.errors import SettingError
from featureplane.execution.orders import OrderEvent
from featureplane.market.events import EventBatch
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.desk import Decision
from featureplane.strategy.events import GapEvent, LOBStatsEvent
from featureplane.strategy.runner import Listener, StrategyRunner, StrategyState
from featureplane.units import NANOS_PER_MS

__all__ = [
    "HORIZONS_MS",
    "BacktestResult",
    "EquityPoint",
    "Fill",
    "Mids",
    "SourceClock",
    "Story",
    "fill_of",
    "result_of",
]

_log = logging.getLogger(__name__)

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
        """Mean markout a unit of size, against the mid, in units of event prices; None without one.

        Divided by `10 ** instrument.price_exponent` it is in price, as commands and pages say it.

        Raises `SettingError` for a horizon that is not one of `HORIZONS_MS`.
        """
        if horizon_ms not in HORIZONS_MS:
            raise SettingError(f"horizon_ms={horizon_ms!r}", hint=f"one of {HORIZONS_MS}")
        at = HORIZONS_MS.index(horizon_ms)
        known = [(fill.markouts_x2[at], fill.event.qty) for fill in self.fills]
        pairs = [(move, qty) for move, qty in known if move is not None]
        size = sum(qty for _, qty in pairs)
        return float(sum(move * qty for move, qty in pairs)) / float(2 * size) if size else None


class Mids(BaseStrategy):
    """A strategy that orders nothing and notes every change of a mid, in the venue's time."""

    def on_start(self) -> None:
        """Nothing noted yet."""
        self.times: dict[str, list[int]] = {symbol: [] for symbol in self.ctx.symbols}
        self.mids: dict[str, list[int | None]] = {symbol: [] for symbol in self.ctx.symbols}

    def _note(self, symbol: str, ts_ns: int, mid_x2: int | None) -> None:
        times, mids = self.times[symbol], self.mids[symbol]
        if not mids or mids[-1] != mid_x2:
            times.append(max(ts_ns, times[-1]) if times else ts_ns)
            mids.append(mid_x2)

    def on_lob_stats(self, event: LOBStatsEvent) -> None:
        """A mid."""
        self._note(event.symbol, event.ts, event.mid_price_x2)

    def on_gap(self, event: GapEvent) -> None:
        """No mid, until the book is known again."""
        if not event.is_whole:
            self._note(event.symbol, event.ts, None)

    def at(self, symbol: str, ts_ns: int) -> int | None:
        """The mid in force then."""
        at = bisect_right(self.times[symbol], ts_ns)
        return self.mids[symbol][at - 1] if at else None


class Story(Listener):
    """Keeps all that is told, and warns of a strategy that stops."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.orders: list[tuple[str, OrderEvent]] = []

    def on_decision(self, decision: Decision) -> None:
        """Keep it."""
        self.decisions.append(decision)

    def on_order_event(self, strategy: str, event: OrderEvent) -> None:
        """Keep it."""
        self.orders.append((strategy, event))

    def on_stopped(self, state: StrategyState) -> None:
        """Say which, why and where: its numbers end there."""
        error = state.error
        place = traceback.extract_tb(error.__traceback__)[-1:] if error is not None else []
        where = f" ({place[0].filename}:{place[0].lineno})" if place else ""
        why = f"{type(error).__name__}: {error}"
        _log.warning("%s was stopped by %s%s; its numbers are those until then", state.name, why, where)


class SourceClock:
    """The venue's time behind a time of receipt: that of the last message received until then."""

    def __init__(self) -> None:
        self._parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []

    def add(self, events: EventBatch) -> None:
        """Note the times of the next batch."""
        ends = events.message_ends - 1
        self._parts.append((events.array["local_ts_ns"][ends], events.array["source_ts_ns"][ends]))

    def settle(self) -> None:
        """No batch comes any more; times can be asked for."""
        self._local = np.maximum.accumulate(np.concatenate([local for local, _ in self._parts]))
        self._source = np.maximum.accumulate(np.concatenate([source for _, source in self._parts]))
        self.end_ns = int(self._source[-1])

    def source_ts_ns(self, local_ts_ns: int) -> int:
        """The venue's time behind that time of receipt."""
        at = int(np.searchsorted(self._local, local_ts_ns, side="right"))
        return int(self._source[max(at - 1, 0)])


def fill_of(name: str, event: OrderEvent, mids: Mids, ts_ns: int, end_ns: int) -> Fill:
    """A fill at `ts_ns` of the venue's time, with its markouts; the recording ends at `end_ns`."""
    mid_x2 = mids.at(event.symbol, ts_ns)
    moves: list[int | None] = []
    for horizon_ms in HORIZONS_MS:
        then_ns = ts_ns + horizon_ms * NANOS_PER_MS
        later_x2 = mids.at(event.symbol, then_ns) if then_ns <= end_ns else None
        if mid_x2 is None or later_x2 is None:
            moves.append(None)
        else:
            moves.append(event.side.sign * (later_x2 - mid_x2))
    return Fill(name, event, ts_ns, mid_x2, tuple(moves))


def result_of(
    runner: StrategyRunner,
    story: Story,
    mids: Mids,
    *,
    cpu_ns: int,
    equity: Iterable[EquityPoint],
    source_ts_ns: Callable[[int], int],
    end_ns: int,
) -> BacktestResult:
    """What came of a runner that has finished, `mids` being the first of its strategies.

    `source_ts_ns` is the venue's time of a fill's `venue_ts_ns`; the recording ends at `end_ns` of it.
    """
    fills = tuple(
        fill_of(name, event, mids, source_ts_ns(event.venue_ts_ns), end_ns)
        for name, event in story.orders
        if event.is_fill
    )
    return BacktestResult(
        symbols=tuple(one.symbol for one in runner.instruments),
        messages=runner.messages,
        cpu_ns=cpu_ns,
        decisions=tuple(story.decisions),
        orders=tuple(story.orders),
        fills=fills,
        equity=tuple(equity),
        fees=sum(fill.event.fee for fill in fills),
        states=tuple(state for state in runner.states.values() if state.strategy is not mids),
    )
