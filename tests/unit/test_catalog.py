"""The shipped sets and the registry (rule 9)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import featureplane as fp
from featureplane import native
from featureplane.errors import FeatureSetConflict, UnknownFeatureSet
from featureplane.features import kernels as k
from featureplane.features.catalog import FeatureRegistry, feature_set, registry
from featureplane.features.pipeline import Pipeline
from featureplane.features.spec import FeatureFlags, FeatureSet
from featureplane.research.backtest.replay import replay_backtest
from featureplane.research.store.requests import request_for
from featureplane.strategy.examples.market_maker import SharedMarketMaker
from scripts.golden import golden_texts

RULE_9_V1 = """
best_bid i64 price 1
best_ask i64 price 1
mid_price_x2 i64 price 1
spread_scaled i64 price 1
bid_depth i64 qty 1
ask_depth i64 qty 1
depth_imbalance_ppm i64 ppm 1
microprice_x2 i64 price 1
l1_bid_qty i64 qty 1
l1_ask_qty i64 qty 1
l1_imbalance_ppm i64 ppm 1
ofi_l1_raw i64 qty 2
ofi_l1_cum i64 qty 2
ofi_l1_ema8 f64 qty 9
spread_ema8_scaled f64 price 8
depth_imbalance_ema8_ppm f64 ppm 8
"""


def test_lob_shared_v1_is_the_table_of_rule_9() -> None:
    fset = feature_set("lob_shared_v1")
    rows = [f"{s.feature_id} {s.dtype} {s.unit} {s.warmup_min_events}" for s in fset.specs]
    assert rows == RULE_9_V1.split("\n")[1:-1]
    assert fset.schema_version == 1


def test_the_registry_accepts_the_same_definition_again() -> None:
    mine = FeatureSet("mine", features={"a": k.spread(), "b": k.ofi()})
    held = FeatureRegistry(mine)
    assert held.register(FeatureSet("mine", features={"a": k.spread(), "b": k.ofi()})) is mine
    assert held.get("mine") is mine


@pytest.mark.parametrize(
    ("second", "words"),
    [
        pytest.param(
            FeatureSet("mine", features={"a": k.spread(), "b": k.ofi(2)}), "`b`: definition", id="kernel"
        ),
        pytest.param(FeatureSet("mine", features={"a": k.spread()}), "`b` removed", id="a feature less"),
        pytest.param(
            FeatureSet("mine", schema_version=2, features={"a": k.spread(), "b": k.ofi()}), "version", id="v2"
        ),
    ],
)
def test_the_registry_refuses_a_second_definition(second: FeatureSet, words: str) -> None:
    held = FeatureRegistry(FeatureSet("mine", features={"a": k.spread(), "b": k.ofi()}))
    with pytest.raises(FeatureSetConflict, match="'mine'") as raised:
        held.register(second)
    assert words in raised.value.first


def test_an_unknown_set_names_those_there_are() -> None:
    with pytest.raises(UnknownFeatureSet) as raised:
        feature_set("lob_shared")
    assert "lob_shared_v1" in str(raised.value.hint)
    assert "lob_shared_v1" in registry
    assert list(registry) == sorted(registry)


# Rule 9's list of what follows v1's sixteen, by id and in order, with the types of rule 8.
RULE_9_V2 = """
ofi_multi5 i64 qty 2 0
ofi_l1_1s i64 qty 2 1
ofi_l1_5s i64 qty 2 5
ofi_l1_30s i64 qty 2 30
imbalance_mean5s_ppm f64 ppm 1 5
spread_mean30s f64 price 1 30
spread_mean300s f64 price 1 300
spread_z256 f64 none 256 0
ofi_l1_z256 f64 none 257 0
depth_imbalance10_ppm i64 ppm 1 0
book_slope5 f64 none 1 0
vwap5_diff_x2 i64 price 1 0
tob_survival_ms i64 ms 2 0
deep_flow5 i64 qty 2 0
return_1s_bps i64 bps 1 1
return_10s_bps i64 bps 1 10
realized_vol_30s i64 bps 1 30
mid_autocov_1_40 f64 none 41 0
roll_spread256 f64 price 257 0
kyle_lambda256 f64 none 256 0
signed_qty_1s i64 qty 1 1
signed_qty_5s i64 qty 1 5
trade_imbalance_5s_ppm i64 ppm 1 5
vpin50_ppm i64 ppm 50 0
trade_intensity_5s f64 none 0 15
ms_since_trade i64 ms 1 0
spread_regime u32 none 1 300
volatility_regime u32 none 1 330
liquidity_regime u32 none 1 300
mid_rel i64 none 1 300
microprice_rel i64 none 1 300
"""


def test_lob_shared_v2_is_v1_and_the_list_of_rule_9() -> None:
    v1, v2 = feature_set("lob_shared_v1"), feature_set("lob_shared_v2")
    assert (len(v2), v2.schema_version) == (47, 2)
    assert v2.specs[:16] == v1.specs
    rows = [
        f"{s.feature_id} {s.dtype} {s.unit} {s.warmup_min_events} {s.warmup_min_ns // 10**9}"
        for s in v2.specs[16:]
    ]
    assert rows == RULE_9_V2.split("\n")[1:-1]


def test_model_safe_features_are_no_price_levels_and_no_running_sums() -> None:
    """Rule 9: what float32 cannot tell apart, or depends on where the data starts, is not model-safe."""
    v2 = feature_set("lob_shared_v2")
    unsafe = [s.feature_id for s in v2.specs if FeatureFlags.MODEL_SAFE not in s.flags]
    assert unsafe == ["best_bid", "best_ask", "mid_price_x2", "microprice_x2", "ofi_l1_cum"]
    assert all(FeatureFlags.PROMOTED in s.flags for s in v2.specs)


@pytest.mark.parametrize("path", golden_texts(), ids=lambda path: path.stem)
def test_a_shipped_set_is_as_it_was_pinned(path: Path) -> None:
    pinned = path.read_text(encoding="utf-8") if path.exists() else ""
    assert pinned == golden_texts()[path], "a set changed; if that is meant: python -m scripts.golden"
    json.loads(pinned)


def test_a_set_that_takes_a_shipped_id_with_another_definition_comes_in_nowhere() -> None:
    taken = FeatureSet("lob_shared_v1", features={"x": k.spread()})
    events = fp.sample_events().part(0, 100)
    ways: list[Callable[[], object]] = [
        lambda: fp.compute(events, taken),
        lambda: fp.FeatureEngine(taken),
        lambda: Pipeline(taken, "binance-spot", events.instruments),
        lambda: replay_backtest([SharedMarketMaker()], events, fset=taken),
        lambda: request_for("ETHUSDT", "2024-08-08T00:00:00Z", "2024-08-09T00:00:00Z", taken),
    ]
    if native.available():
        ways.append(lambda: fp.parity(events, taken))
    for way in ways:
        with pytest.raises(FeatureSetConflict, match="lob_shared_v1"):
            way()


def test_a_set_that_says_what_the_shipped_one_says_comes_in() -> None:
    shipped = feature_set("lob_shared_v1")
    same = FeatureSet("lob_shared_v1", 1, dict(shipped.features))
    assert same is not shipped
    assert len(fp.compute(fp.sample_events().part(0, 2000), same))
    assert fp.FeatureEngine("lob_shared_v1").fset is shipped
