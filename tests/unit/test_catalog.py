"""The shipped sets and the registry (rule 9)."""

from __future__ import annotations

import pytest

from featureplane.errors import FeatureSetConflict, UnknownFeatureSet
from featureplane.features import kernels as k
from featureplane.features.catalog import FeatureRegistry, feature_set, registry
from featureplane.features.spec import FeatureSet

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
