"""Both forms of each example take the same decisions, on the recordings and on a stream full of faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial

import pytest

import featureplane as fp
from featureplane.errors import SettingError
from featureplane.execution.limits import RiskLimits
from featureplane.market.events import EventBatch
from featureplane.market.synthetic import Faults
from featureplane.research.backtest.assets import HftAsset
from featureplane.research.backtest.comparison import InHftbacktest, compare_forms
from featureplane.research.backtest.replay import HORIZONS_MS, BacktestResult, replay_backtest
from featureplane.strategy.compatibility import Forms, LegacyFeatures
from featureplane.strategy.events import BidAskEvent
from featureplane.strategy.examples import market_maker, ofi_taker
from featureplane.strategy.runner import StrategyRunner
from tests.parity.streams import synthetic
from tests.parity.test_recordings import BINANCE, OTHERS, recording

pytestmark = pytest.mark.native

V1 = fp.feature_set("lob_shared_v1")
EXAMPLES = {"maker": market_maker.FORMS, "taker": ofi_taker.FORMS}
TAIFEX = [name for name in OTHERS if name.startswith("TAIFEX")]
HEAD = 20_000
GENEROUS = RiskLimits(
    order_value_max="1000000000",
    gross_value_max="1000000000",
    open_value_max="1000000000",
    price_collar_ppm_max=1_000_000,
    fat_finger_ticks_max=100_000,
)
"""A contract of TAIFEX costs more than our limits let pass, and an option's touch is wide."""


def result(
    events: EventBatch, form: str, examples: Mapping[str, Forms] = EXAMPLES, **how: object
) -> BacktestResult:
    """The examples in one form, in one account."""
    strategies = []
    for name, forms in examples.items():
        strategy = forms.make(form)
        assert strategy is not None
        strategy.name = name
        strategies.append(strategy)
    return replay_backtest(strategies, events, fset=V1 if form == "shared" else None, **how)  # type: ignore[arg-type] # options


def compare(events: EventBatch, examples: Mapping[str, Forms] = EXAMPLES, **how: object) -> BacktestResult:
    """Decisions, fills and money of the two forms; those of one of them."""
    legacy, shared_form = (result(events, form, examples, **how) for form in ("legacy", "shared"))
    states = (*legacy.states, *shared_form.states)
    assert [state.error for state in states] == [None] * (2 * len(examples))
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


@pytest.mark.parametrize("name", BINANCE)
def test_on_the_recordings(name: str) -> None:
    found = compare(recording(name))
    by_name = {name: sum(one.strategy == name for one in found.decisions) for name in EXAMPLES}
    assert by_name["maker"] > 700
    assert by_name["taker"] > 100
    assert len(found.fills) > 20


def eager() -> Forms:
    """The taker with less to wait for: five levels of an option are wide and still."""
    how = {"flow_ppm": 20_000, "lean_ppm": 50_000, "spread_ticks": 1_000}
    return Forms(
        legacy=partial(ofi_taker.LegacyOfiTaker, **how),  # type: ignore[arg-type] # options
        shared=partial(ofi_taker.SharedOfiTaker, **how),  # type: ignore[arg-type] # options
    )


@pytest.mark.parametrize("most", [HEAD, pytest.param(None, marks=pytest.mark.soak)], ids=["head", "whole"])
@pytest.mark.parametrize("name", TAIFEX)
def test_on_taifex_arrays_with_their_sessions(name: str, most: int | None) -> None:
    """Trial matches before the open, and breaks between sessions: no form decides anything there."""
    found = compare(recording(name).part(0, most or 10**9), {**EXAMPLES, "eager": eager()}, limits=GENEROUS)
    by_name = Counter(one.strategy for one in found.decisions)
    assert by_name["maker"] > 1_000
    assert by_name["eager"] > 10
    assert found.fills


@pytest.mark.parametrize("name", [*BINANCE, *TAIFEX])
@pytest.mark.parametrize("forms", EXAMPLES)
def test_in_hftbacktest(forms: str, name: str) -> None:
    events = recording(name).part(0, HEAD)
    chosen = eager() if forms == "taker" and name in TAIFEX else EXAMPLES[forms]
    found = compare_forms(chosen, InHftbacktest(HftAsset.of(events)), V1)
    assert found.divergence is None
    assert len(found.legacy.decisions) == len(found.shared.decisions) > 0


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
