"""Both forms of each example take the same decisions, on the recordings and on a stream full of faults."""

from __future__ import annotations

from pathlib import Path

import pytest

import featureplane as fp
from featureplane.errors import SettingError
from featureplane.market.events import EventBatch
from featureplane.market.synthetic import Faults
from featureplane.research.backtest.replay import HORIZONS_MS, BacktestResult, replay_backtest
from featureplane.strategy.compatibility import LegacyFeatures
from featureplane.strategy.events import BidAskEvent
from featureplane.strategy.examples import market_maker, ofi_taker
from featureplane.strategy.runner import StrategyRunner
from tests.parity.streams import synthetic
from tests.shared_data import shared

pytestmark = pytest.mark.native

V1 = fp.feature_set("lob_shared_v1")
INSTRUMENTS = Path(__file__).parents[1] / "instruments" / "binance.toml"
EXAMPLES = {"maker": market_maker.FORMS, "taker": ofi_taker.FORMS}
RECORDINGS = {
    "binance_raw/spot/ethusdt_20240808.gz": ("binance-spot", "ETHUSDT"),
    "binance_raw/usdm/btcusdt_20240808.gz": ("binance-usdm", "BTCUSDT"),
    "binance_raw/cm/ethusd_perp_20240808.gz": ("binance-coinm", "ETHUSD_PERP"),
}


def result(events: EventBatch, form: str, **how: object) -> BacktestResult:
    """Both examples in one form, in one account."""
    strategies = []
    for name, forms in EXAMPLES.items():
        strategy = forms.make(form)
        assert strategy is not None
        strategy.name = name
        strategies.append(strategy)
    return replay_backtest(strategies, events, fset=V1 if form == "shared" else None, **how)  # type: ignore[arg-type] # options


def compare(events: EventBatch) -> BacktestResult:
    """Decisions, fills and money of the two forms; those of one of them."""
    legacy, shared_form = result(events, "legacy"), result(events, "shared")
    assert [state.error for state in (*legacy.states, *shared_form.states)] == [None] * 4
    assert len(legacy.decisions) == len(shared_form.decisions)
    for mine, other in zip(legacy.decisions, shared_form.decisions, strict=True):
        assert mine == other
    assert legacy.fills == shared_form.fills
    assert legacy.equity == shared_form.equity
    return shared_form


def test_on_the_sample() -> None:
    found = compare(fp.sample_events())
    by_name = {name: sum(one.strategy == name for one in found.decisions) for name in EXAMPLES}
    assert by_name["maker"] > 500
    assert by_name["taker"] > 100
    assert found.fills


@pytest.mark.parametrize("name", RECORDINGS)
def test_on_the_recordings(name: str) -> None:
    source, symbol = RECORDINGS[name]
    found = compare(fp.read_events(shared(name), source, symbol, INSTRUMENTS))
    assert {one.strategy for one in found.decisions} == set(EXAMPLES)
    assert len(found.decisions) > 100


@pytest.mark.parametrize("seed", range(3))
def test_beside_faults(seed: int) -> None:
    """Gaps, duplicates and late messages; the quotes are gone while the book is not known."""
    found = compare(synthetic(4_000, seed=seed, faults=Faults()))
    assert found.decisions


def test_what_a_legacy_form_computes_is_what_frames_say() -> None:
    events = fp.sample_events()
    names = ("best_bid", "best_ask", "bid_depth", "ask_depth", "microprice_x2")
    averages = ("depth_imbalance_ema8_ppm", "ofi_l1_ema8", "spread_ema8_scaled")
    compared = 0

    class Both(market_maker.SharedMarketMaker):
        def on_start(self) -> None:
            self.mine = LegacyFeatures(self.ctx.instrument(self.ctx.symbols[0]))
            self.ready = False

        def on_bid_ask(self, event: BidAskEvent) -> None:
            self.ready = self.mine.take(event)

        def on_features(self, frame: fp.FeatureFrame) -> None:
            nonlocal compared
            assert self.ready is (frame["ofi_l1_ema8"] is not None)
            if self.ready:
                for name in names + averages:
                    assert getattr(self.mine, name) == frame[name], name
                compared += 1

    run = StrategyRunner([Both()], events.instruments, engine=fp.FeatureEngine(V1))
    run.run(events)
    assert run.states["Both"].error is None
    assert compared > 3_000


def test_a_form_is_chosen_by_name() -> None:
    assert isinstance(market_maker.FORMS.make("legacy"), market_maker.LegacyMarketMaker)
    assert isinstance(ofi_taker.FORMS.make("shared"), ofi_taker.SharedOfiTaker)
    assert ofi_taker.FORMS.make("off") is None
    with pytest.raises(SettingError, match="form"):
        ofi_taker.FORMS.make("both")


def test_forms_are_switched_while_running() -> None:
    events = fp.sample_events()
    half = events.messages // 2
    strategy = market_maker.FORMS.make("legacy")
    assert strategy is not None
    strategy.name = "maker"
    run = StrategyRunner([strategy], events.instruments, engine=fp.FeatureEngine(V1))
    calls: list[str] = []
    for form, part in (("legacy", events.part(0, half)), ("shared", events.part(half, 2 * half))):
        fresh = market_maker.FORMS.make(form)
        assert isinstance(fresh, market_maker.MarketMaker)
        fresh.decide = lambda *_, form=form: calls.append(form)  # type: ignore[method-assign] # listens
        run.switch("maker", fresh)
        run.run(part)
    assert set(calls) == {"legacy", "shared"}
    run.switch("maker", None)
    assert not run.states["maker"].is_running


def test_horizons_are_those_of_the_house() -> None:
    assert HORIZONS_MS == (100, 500, 1000)
