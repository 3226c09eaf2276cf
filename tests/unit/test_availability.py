"""Features that a feed can never define (rules 7.3, 10.3)."""

from __future__ import annotations

from typing import Any

import pytest

from featureplane.features import kernels as k
from featureplane.features.availability import undefined_here
from featureplane.features.catalog import feature_set
from featureplane.features.spec import FeatureSet
from featureplane.market.instruments import Instrument


def instrument(**fields: Any) -> Instrument:
    known: dict[str, Any] = {"venue": "test", "symbol": "XYZ", "price_exponent": 2, "qty_exponent": 0}
    return Instrument(**known | {"tick_size": "0.01", "vpin_bucket": "100"} | fields)


def test_a_full_feed_defines_everything() -> None:
    assert undefined_here(feature_set("lob_shared_v2"), instrument()) == {}


@pytest.mark.parametrize(
    ("levels", "never"),
    [
        pytest.param(10, [], id="ten levels"),
        pytest.param(5, ["depth_imbalance10_ppm"], id="five levels"),
        pytest.param(
            1,
            [
                "bid_depth", "ask_depth", "depth_imbalance_ppm", "depth_imbalance_ema8_ppm", "ofi_multi5",
                "imbalance_mean5s_ppm", "depth_imbalance10_ppm", "book_slope5", "vwap5_diff_x2", "deep_flow5",
                "liquidity_regime",
            ],
            id="the touch alone",
        ),
    ],
)  # fmt: skip
def test_levels_beyond_the_feed_are_never_defined(levels: int, never: list[str]) -> None:
    """Rule 7.3."""
    found = undefined_here(feature_set("lob_shared_v2"), instrument(book_levels=levels))
    assert list(found) == never
    assert all(f"the feed has {levels}" in reason for reason in found.values())


def test_what_the_instrument_does_not_say_is_never_defined() -> None:
    found = undefined_here(feature_set("lob_shared_v2"), instrument(tick_size=None, vpin_bucket=None))
    assert found == {
        "vpin50_ppm": "the instrument has no `vpin_bucket`",
        "mid_rel": "the instrument has no `tick_size`",
        "microprice_rel": "the instrument has no `tick_size`",
    }
    own_bucket = FeatureSet("s", features={"vpin": k.vpin(50, bucket=10)})
    assert undefined_here(own_bucket, instrument(vpin_bucket=None)) == {}


def test_without_trades_whatever_waits_for_one_is_never_defined() -> None:
    found = undefined_here(feature_set("lob_shared_v2"), instrument(), has_trades=False)
    assert list(found) == [
        "roll_spread256", "kyle_lambda256", "signed_qty_1s", "signed_qty_5s", "trade_imbalance_5s_ppm",
        "vpin50_ppm", "ms_since_trade",
    ]  # fmt: skip
    assert set(found.values()) == {"there are no trades"}
