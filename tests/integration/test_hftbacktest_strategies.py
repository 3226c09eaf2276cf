"""One strategy class in a replay and in hftbacktest: it sees the same, and its orders come back."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import islice
from typing import ClassVar

import numpy as np
import pytest

import featureplane as fp
from featureplane.errors import StateError
from featureplane.execution.limits import RiskLimits
from featureplane.execution.orders import OrderEvent, OrderIntent, Side, TimeInForce
from featureplane.execution.risk import RiskCheck
from featureplane.features.frame import FeatureUpdateEvent
from featureplane.market.events import EventBatch, Kind
from featureplane.research.backtest.adapter import HftBacktestAdapter, Walk
from featureplane.research.backtest.assets import HftAsset
from featureplane.research.backtest.library import HftMarket, Simulation
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.desk import Decision
from featureplane.strategy.events import BidAskEvent, GapEvent, LOBStatsEvent, TickEvent
from featureplane.strategy.examples import market_maker, ofi_taker
from featureplane.strategy.runner import Listener, StrategyRunner

EXAMPLES = (market_maker.FORMS, ofi_taker.FORMS)
LIMITS = RiskLimits(duplicate_order_ms=0, orders_per_second_max=1000, messages_per_second_max=1000)


class Watcher(BaseStrategy):
    """Writes down everything it is told of the market."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []

    def on_tick(self, event: TickEvent) -> None:
        self.told.append(event.as_tuple())

    def on_bid_ask(self, event: BidAskEvent) -> None:
        self.told.append(event.as_tuple())

    def on_lob_stats(self, event: LOBStatsEvent) -> None:
        self.told.append(event.as_tuple())

    def on_gap(self, event: GapEvent) -> None:
        self.told.append(("gap", event.as_tuple()))


class FeatureWatcher(Watcher):
    """And the frames."""

    required_features: ClassVar[str | None] = "lob_shared_v1"

    def on_features(self, frame: FeatureUpdateEvent) -> None:
        self.told.append(frame.pack())


class Joiner(BaseStrategy):
    """Joins the best bid with one order at a time, and takes the other side with what it got."""

    required_features: ClassVar[str | None] = "lob_shared_v1"

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[str] = []
        self.early = 0

    def on_features(self, frame: FeatureUpdateEvent) -> None:
        bid, ask = frame["best_bid"], frame["best_ask"]
        if not isinstance(bid, int) or not isinstance(ask, int):
            return
        held, symbol = self.ctx.position(frame.symbol), frame.symbol
        working = self.ctx.working
        if held and not working:
            self.ctx.submit(OrderIntent(symbol=symbol, side=Side.SELL, qty=held, price=bid, reduce_only=True))
        elif not working:
            self.ctx.submit(
                OrderIntent(symbol=symbol, side=Side.BUY, qty=1000, price=bid, tif=TimeInForce.POST_ONLY)
            )
        elif not held and frame.seq % 7 == 0:
            self.ctx.cancel(next(iter(working)))

    def on_fill(self, event: OrderEvent) -> None:
        self.kinds.append(event.kind.value)
        self.early += event.ts_ns > self.ctx.now_ns

    def on_order(self, event: OrderEvent) -> None:
        self.kinds.append(event.kind.value)
        self.early += event.ts_ns > self.ctx.now_ns


@cache
def sample() -> tuple[EventBatch, HftAsset]:
    batch = fp.sample_events()
    return batch, HftAsset.of(batch)


def read(batch: EventBatch) -> int:
    """Messages but for those of quotes."""
    return int((batch.array["kind"][batch.message_ends - 1] != Kind.QUOTE).sum())


def holed() -> EventBatch:
    """The sample with forty messages missing."""
    batch, _ = sample()
    parts = [batch.part(0, 2_000), batch.part(2_040, batch.messages)]
    array = np.concatenate([part.array for part in parts])
    return EventBatch(array, batch.instruments, batch.source, checked=True)


@pytest.mark.parametrize("with_gap", [False, True])
def test_a_strategy_sees_in_hftbacktest_what_it_sees_in_a_replay(*, with_gap: bool) -> None:
    batch = holed() if with_gap else sample()[0]
    fset = fp.feature_set("lob_shared_v1")
    replayed, tested = FeatureWatcher(), FeatureWatcher()
    StrategyRunner([replayed], batch.instruments, engine=fp.FeatureEngine(fset), stream=batch.options).run(
        batch
    )
    run = HftBacktestAdapter(HftAsset.of(batch), fset).run(tested)
    assert run.messages == read(batch)
    assert len(tested.told) > 2_000
    assert tested.told == replayed.told
    assert any(isinstance(one, tuple) and one[0] == "gap" for one in tested.told) is with_gap


def test_stats_only_gives_the_book_and_no_features() -> None:
    batch, asset = sample()
    replayed, tested = Watcher(), Watcher()
    StrategyRunner([replayed], batch.instruments, stream=batch.options).run(batch)
    adapter = HftBacktestAdapter(asset, feature_mode="stats_only")
    adapter.run(tested)
    assert len(tested.told) > 1_000
    assert tested.told == replayed.told
    with pytest.raises(StateError, match="no feature engine"):
        adapter.run(FeatureWatcher())


@pytest.mark.parametrize("latency_ms", [0, 25])
def test_orders_go_through_the_risk_check_and_hftbacktest_and_come_back(latency_ms: int) -> None:
    _, asset = sample()
    market = HftMarket(entry_ns=latency_ms * 10**6, response_ns=latency_ms * 10**6, taker_bps="4")
    adapter = HftBacktestAdapter(asset, "lob_shared_v1", market=market)
    risk, strategy = RiskCheck(adapter.instruments, LIMITS), Joiner()
    run = adapter.run(strategy, risk=risk)
    assert run.runner.states["Joiner"].error is None
    assert {"accepted", "filled", "cancelled"} <= set(strategy.kinds)
    assert strategy.early == 0
    assert not risk.working
    symbol = asset.instrument.symbol
    held = risk.portfolio[symbol]
    account = run.accounts[symbol]
    assert round(account.position * 10**asset.instrument.qty_exponent) == held.qty
    assert account.trades == strategy.kinds.count("filled") > 4
    assert account.balance - account.fee == pytest.approx(held.cash / 10**18)
    assert account.fee == pytest.approx(held.fees / 10**18)
    assert account.fee > 0
    again = adapter.run(Joiner(), risk=RiskCheck(adapter.instruments, LIMITS))
    assert again.accounts == run.accounts


class Starter(BaseStrategy):
    """Buys once of each symbol, and more of the second."""

    def on_lob_stats(self, event: LOBStatsEvent) -> None:
        bought = self.ctx.position(event.symbol) or any(
            order.intent.symbol == event.symbol for order in self.ctx.working.values()
        )
        if not bought:
            qty = 1000 * (1 + self.ctx.symbols.index(event.symbol))
            price, tif = event.best_ask, TimeInForce.IOC
            self.ctx.submit(OrderIntent(symbol=event.symbol, side=Side.BUY, qty=qty, price=price, tif=tif))


def test_orders_go_to_the_asset_they_are_for() -> None:
    batch, asset = sample()
    other = replace(batch.instrument, symbol="OTHER", symbol_id=7)
    array = batch.array.copy()
    array["symbol_id"] = 7
    second = HftAsset.of(replace(batch, array=array, instruments=(other,), checked=True))
    adapter = HftBacktestAdapter([asset, second], feature_mode="stats_only")
    run = adapter.run(Starter())
    assert run.messages == 2 * read(batch)
    unit = 10**asset.instrument.qty_exponent
    held = {symbol: round(account.position * unit) for symbol, account in run.accounts.items()}
    assert held == {asset.instrument.symbol: 1000, "OTHER": 2000}
    assert all(run.risk.portfolio[symbol].qty == qty for symbol, qty in held.items())


class Decisions(Listener):
    """What strategies decided, and what became of it."""

    def __init__(self) -> None:
        self.taken: list[Decision] = []
        self.events: list[tuple[str, OrderEvent]] = []

    def on_decision(self, decision: Decision) -> None:
        self.taken.append(decision)

    def on_order_event(self, strategy: str, event: OrderEvent) -> None:
        self.events.append((strategy, event))


@pytest.mark.parametrize("latency_ms", [0, 15])
def test_both_forms_of_the_examples_decide_alike_in_hftbacktest(latency_ms: int) -> None:
    _, asset = sample()
    market = HftMarket(entry_ns=latency_ms * 10**6, response_ns=latency_ms * 10**6, maker_bps="-0.5")
    found = {}
    for form, mode in (("legacy", "stats_only"), ("shared", "lob_feature")):
        fset = "lob_shared_v1" if mode == "lob_feature" else None
        adapter = HftBacktestAdapter(asset, fset, feature_mode=mode, market=market)  # type: ignore[arg-type] # one of both
        strategies = [strategy for forms in EXAMPLES if (strategy := forms.make(form)) is not None]
        for strategy, name in zip(strategies, ("maker", "taker"), strict=True):
            strategy.name = name
        story = Decisions()
        run = adapter.run(strategies, listener=story, risk=RiskCheck(adapter.instruments, LIMITS))
        assert [state.error for state in run.runner.states.values()] == [None, None]
        found[form] = (story.taken, story.events, run.accounts)
    legacy, shared_form = found["legacy"], found["shared"]
    assert legacy == shared_form
    assert {decision.strategy for decision in legacy[0]} == {"maker", "taker"}
    assert sum(event.is_fill for _, event in legacy[1]) > 10


class Patient(Joiner):
    """Joins only now and then, so that nobody has an order for long."""

    def on_features(self, frame: FeatureUpdateEvent) -> None:
        if frame.seq % 50 == 0:
            super().on_features(frame)
        elif frame.seq % 50 == 30:
            for number in list(self.ctx.working):
                self.ctx.cancel(number)


@pytest.mark.parametrize("latency_ms", [0, 15])
@pytest.mark.parametrize("fill", ["queue", "touch"])
@pytest.mark.parametrize("which", ["examples", "patient"])
def test_an_hftbacktest_that_is_let_behind_while_nobody_has_an_order_makes_the_same(
    which: str, fill: str, latency_ms: int
) -> None:
    _, asset = sample()
    found, returns = [], []
    for configure in (None, lambda *_: None):  # with the latter it is asked for each of its returns
        way_ns = latency_ms * 10**6
        market = HftMarket(fill=fill, entry_ns=way_ns, response_ns=way_ns, configure=configure)
        adapter = HftBacktestAdapter(asset, "lob_shared_v1", market=market)
        story = Decisions()
        strategies: list[BaseStrategy] = [Patient()]
        if which == "examples":
            strategies = [one for forms in EXAMPLES if (one := forms.make("shared")) is not None]
        run = adapter.run(strategies, listener=story, risk=RiskCheck(adapter.instruments, LIMITS))
        assert [state.error for state in run.runner.states.values()] == [None] * len(strategies)
        found.append((story.taken, story.events, run.accounts, run.risk.portfolio.equity, run.messages))
        returns.append(run.returns)
    assert found[0] == found[1]
    assert len(found[0][0]) > 50
    assert sum(event.is_fill for _, event in found[0][1]) >= 10


def test_a_clock_that_somebody_moved_is_noticed() -> None:
    _, asset = sample()
    adapter = HftBacktestAdapter(asset, feature_mode="stats_only")
    with Simulation([asset], HftMarket()) as simulation:
        stream = adapter._stream([5])
        walk = Walk(stream, simulation, ((), ()))
        for _ in islice(walk.lag(), 100):
            pass
        walk.catch_up()
        simulation.hbt.elapse(10**12)
        for _ in islice(walk.lag(), 3):
            pass
        with pytest.raises(StateError, match="its rows say"):
            walk.catch_up()


def test_the_risk_check_stands_before_hftbacktest() -> None:
    _, asset = sample()
    adapter = HftBacktestAdapter(asset, "lob_shared_v1")
    strategy = Joiner()
    run = adapter.run(strategy, risk=RiskCheck(adapter.instruments, RiskLimits(order_qty_max="0")))
    assert strategy.kinds == []
    assert run.accounts[asset.instrument.symbol].trades == 0
    assert run.runner.states["Joiner"].desk.refused > 100
