"""A backtest's account: equity, inventory, markouts, by hand."""

from __future__ import annotations

import pytest

import featureplane as fp
from featureplane.errors import EmptyStream, SettingError
from featureplane.execution.money import money
from featureplane.execution.orders import OrderIntent, Side, TimeInForce
from featureplane.execution.venues.paper import PaperOptions
from featureplane.market.events import EventBatch
from featureplane.research.backtest.replay import replay_backtest
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.events import LOBStatsEvent
from tests.orders import WIDE
from tests.streams import as_array, ask, bid, instrument, message, snapshot, source

MS = 1_000_000


class Once(BaseStrategy):
    """Buys 3 at market at the first book, sells them at the fourth."""

    def __init__(self) -> None:
        super().__init__()
        self.books = 0

    def on_lob_stats(self, event: LOBStatsEvent) -> None:
        self.books += 1
        if self.books in {1, 4}:
            side = Side.BUY if self.books == 1 else Side.SELL
            self.ctx.submit(OrderIntent(symbol=event.symbol, side=side, qty=3, tif=TimeInForce.IOC))


def batch() -> EventBatch:
    """A mid that goes 100, 102, 104, 103, each 400 ms, two cents of spread; received 7 ms later."""
    messages = [snapshot(bid(99, 9), ask(101, 9), last=1, at=0, local=7)]
    steps = ((101, 103), (103, 105), (102, 104))
    before = (99, 101)
    for i, (low, high) in enumerate(steps, 1):
        gone = (bid(before[0], 0), ask(before[1], 0))
        messages.append(
            message(*gone, bid(low, 9), ask(high, 9), ids=(i, i + 1), at=400 * i, local=400 * i + 7)
        )
        before = (low, high)
    return EventBatch(as_array(messages), (instrument(),), source())


def test_equity_inventory_and_markouts() -> None:
    events = batch()
    found = replay_backtest([Once()], events, limits=WIDE, sample_ns=400 * MS)
    assert [(fill.event.side, fill.event.price, fill.event.qty) for fill in found.fills] == [
        (Side.BUY, 101, 3),
        (Side.SELL, 102, 3),
    ]
    assert [fill.mid_x2 for fill in found.fills] == [200, 206]
    assert found.fills[0].markouts_x2 == (0, 4, 8)
    assert found.fills[1].markouts_x2 == (None, None, None), "the recording ends"
    assert found.markout(500) == 2.0
    assert [point.inventory for point in found.equity] == [(3,), (3,), (3,), (0,), (0,)]
    cents = [None if p.equity is None else p.equity // money("0.01") for p in found.equity]
    assert cents == [-3, 3, 9, 3, 3]
    assert found.pnl == money("0.03")
    assert (found.sent, found.refused, found.fill_rate, found.messages) == (2, 0, 1.0, 4)
    assert found.states[0].error is None


def test_fees_are_paid() -> None:
    free = replay_backtest([Once()], batch(), limits=WIDE)
    paid = replay_backtest([Once()], batch(), limits=WIDE, paper=PaperOptions(taker_bps="10"))
    assert free.pnl is not None
    assert paid.pnl is not None
    assert paid.fees == free.pnl - paid.pnl > 0


def test_batches_in_a_row_are_one_backtest() -> None:
    events = fp.sample_events().part(0, 3_000)
    whole = replay_backtest([Once()], events, limits=WIDE)
    parts = replay_backtest([Once()], events.chunks(500), limits=WIDE)
    assert whole.fills == parts.fills
    assert whole.equity == parts.equity
    assert whole.messages == parts.messages == 3_000


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(EmptyStream):
        replay_backtest([Once()], [])
    with pytest.raises(SettingError, match="sample_ns"):
        replay_backtest([Once()], batch(), sample_ns=0)
    found = replay_backtest([Once()], batch(), limits=WIDE)
    with pytest.raises(SettingError, match="horizon_ms"):
        found.markout(7)
    assert replay_backtest([], batch()).markout(100) is None
    assert replay_backtest([], batch()).fill_rate is None


class Misspelt(BaseStrategy):
    """Asks an event for what it has not."""

    def on_lob_stats(self, event: LOBStatsEvent) -> None:
        assert event.best_bit  # type: ignore[attr-defined]  # what is to go wrong


def test_a_strategy_that_stops_is_warned_of_by_name_error_and_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replay_backtest([Misspelt()], batch())
    assert len(caplog.messages) == 1
    for part in ("Misspelt was stopped by AttributeError", "best_bit", "test_replay_backtest.py:"):
        assert part in caplog.messages[0]
