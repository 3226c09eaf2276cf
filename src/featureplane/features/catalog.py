"""The sets everyone knows, and the registry that keeps an id from meaning two things (rule 9).

Leans on `spec` and `kernels`. A shipped set never changes; `tests/golden/feature_sets` pins them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from featureplane.arguments import expect
from featureplane.errors import FeatureSetConflict, UnknownFeatureSet, WrongArgument
from featureplane.features import kernels as k
from featureplane.features.spec import Feature, FeatureFlags, FeatureSet

__all__ = ["LOB_SHARED_V1", "LOB_SHARED_V2", "FeatureRegistry", "feature_set", "registry", "set_or_id"]

_SHARED: Final = FeatureFlags.PROMOTED
_COMPOSE: Final = '`feature_set("lob_shared_v1")` is one that is there; `FeatureSet(...)` makes another'
_MODEL: Final = FeatureFlags.PROMOTED | FeatureFlags.MODEL_SAFE


class FeatureRegistry:
    """Feature sets by id. An id is defined once; saying the same again changes nothing."""

    def __init__(self, *sets: FeatureSet) -> None:
        self._sets: dict[str, FeatureSet] = {}
        for fset in sets:
            self.register(fset)

    def register(self, fset: FeatureSet) -> FeatureSet:
        """Keep `fset` and return the one registered under its id.

        Raises
        ------
        FeatureSetConflict
            The id is taken by a set that differs; names the first feature that does.
        """
        expect("fset", fset, FeatureSet, "a `FeatureSet`", hint=_COMPOSE)
        self._sets.setdefault(fset.feature_set_id, fset)
        return self.check(fset)

    def check(self, fset: FeatureSet) -> FeatureSet:
        """The registered set of the same id, or `fset` where there is none: nothing is registered.

        Raises `FeatureSetConflict` as `register` does.
        """
        known = self._sets.get(fset.feature_set_id, fset)
        if known is not fset and known != fset:
            first = next(iter(known.diff(fset)), None)
            what = str(first) if first else f"schema version {known.schema_version} -> {fset.schema_version}"
            raise FeatureSetConflict(fset.feature_set_id, what)
        return known

    def get(self, feature_set_id: str) -> FeatureSet:
        """The set of that id; `UnknownFeatureSet` lists those there are."""
        expect("feature_set_id", feature_set_id, str, "a feature set's id", hint=_COMPOSE)
        try:
            return self._sets[feature_set_id]
        except KeyError:
            raise UnknownFeatureSet(feature_set_id, sorted(self._sets)) from None

    def __contains__(self, feature_set_id: object) -> bool:
        return feature_set_id in self._sets

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._sets))

    def __len__(self) -> int:
        return len(self._sets)


def _lob_shared_v1() -> dict[str, Feature]:
    """The sixteen features of rule 9, in their order."""
    ofi, imbalance = k.ofi(level=1), k.imbalance_ppm(levels=5)
    return {
        "best_bid": Feature(k.best_bid(), "best bid price", _SHARED),
        "best_ask": Feature(k.best_ask(), "best ask price", _SHARED),
        "mid_price_x2": Feature(k.mid_x2(), "twice the mid price", _SHARED, "bid + ask, exact"),
        "spread_scaled": Feature(k.spread(), "spread", _MODEL, "ask - bid"),
        "bid_depth": Feature(k.depth("bid", 5), "size on the best 5 bid levels", _MODEL),
        "ask_depth": Feature(k.depth("ask", 5), "size on the best 5 ask levels", _MODEL),
        "depth_imbalance_ppm": Feature(
            imbalance, "imbalance over 5 levels", _MODEL, "(B - A) / (B + A) of bid_depth and ask_depth"
        ),
        "microprice_x2": Feature(
            k.microprice_x2(),
            "twice the microprice",
            _SHARED,
            "the size-weighted mid, not Stoikov's estimator of 2018",
        ),
        "l1_bid_qty": Feature(k.qty("bid", 1), "size at the best bid", _MODEL),
        "l1_ask_qty": Feature(k.qty("ask", 1), "size at the best ask", _MODEL),
        "l1_imbalance_ppm": Feature(k.imbalance_ppm(levels=1), "imbalance at the touch", _MODEL),
        "ofi_l1_raw": Feature(ofi, "order-flow imbalance at the touch", _MODEL, "> 0 is net buying interest"),
        "ofi_l1_cum": Feature(
            k.cumsum(ofi), "order-flow imbalance since reset", _SHARED, "depends on where data starts"
        ),
        "ofi_l1_ema8": Feature(k.ema(ofi, span=8), "order-flow imbalance, EMA over 8 books", _MODEL),
        "spread_ema8_scaled": Feature(k.ema(k.spread(), span=8), "spread, EMA over 8 books", _MODEL),
        "depth_imbalance_ema8_ppm": Feature(
            k.ema(imbalance, span=8), "imbalance over 5 levels, EMA over 8 books", _MODEL
        ),
    }


def _lob_shared_v2() -> dict[str, Feature]:
    """The promoted set: v1, then flow, shape, return, volatility, trade and regime features."""
    ofi, spread, mid = k.ofi(level=1), k.spread(), k.mid_x2()
    imbalance, signed = k.imbalance_ppm(levels=5), k.signed_qty()

    def model(expression: k.Expression, name: str, note: str = "") -> Feature:
        return Feature(expression, name, _MODEL, note)

    return _lob_shared_v1() | {
        "ofi_multi5": model(k.ofi_multi(5), "order-flow imbalance over 5 levels"),
        "ofi_l1_1s": model(k.sum_over(ofi, seconds=1), "order-flow imbalance at the touch, last second"),
        "ofi_l1_5s": model(k.sum_over(ofi, seconds=5), "order-flow imbalance at the touch, last 5 s"),
        "ofi_l1_30s": model(k.sum_over(ofi, seconds=30), "order-flow imbalance at the touch, last 30 s"),
        "imbalance_mean5s_ppm": model(
            k.mean_over(imbalance, seconds=5), "imbalance over 5 levels, mean of 5 s"
        ),
        "spread_mean30s": model(k.mean_over(spread, seconds=30), "spread, mean of 30 s"),
        "spread_mean300s": model(k.mean_over(spread, seconds=300), "spread, mean of 300 s"),
        "spread_z256": model(k.zscore(spread, window=256), "spread, z-score over 256 books"),
        "ofi_l1_z256": model(k.zscore(ofi, window=256), "order-flow imbalance, z-score over 256 books"),
        "depth_imbalance10_ppm": model(k.imbalance_ppm(levels=10), "imbalance over 10 levels"),
        "book_slope5": model(k.book_slope(levels=5), "size per unit of price over 5 levels"),
        "vwap5_diff_x2": model(k.vwap_x2(levels=5) - mid, "twice the 5-level VWAP's distance from the mid"),
        "tob_survival_ms": model(k.tob_survival_ms(), "age of the touch"),
        "deep_flow5": model(k.deep_flow(levels=5), "net size added behind an unmoved touch, 5 levels"),
        "return_1s_bps": model(k.return_bps(seconds=1), "mid return of 1 s", "in 10^-5 bps"),
        "return_10s_bps": model(k.return_bps(seconds=10), "mid return of 10 s", "in 10^-5 bps"),
        "realized_vol_30s": model(k.realized_vol(seconds=30), "realised volatility of 30 s", "in 10^-5 bps"),
        "mid_autocov_1_40": model(k.autocov(k.diff(mid), lag=1, window=40), "autocovariance of mid changes"),
        "roll_spread256": model(k.roll_spread(256), "Roll's effective spread over 256 trades"),
        "kyle_lambda256": model(k.kyle_lambda(256), "price impact per size over 256 messages with trades"),
        "signed_qty_1s": model(k.sum_over(signed, seconds=1), "signed traded size of 1 s"),
        "signed_qty_5s": model(k.sum_over(signed, seconds=5), "signed traded size of 5 s"),
        "trade_imbalance_5s_ppm": model(k.trade_imbalance(seconds=5), "signed over total traded size of 5 s"),
        "vpin50_ppm": model(k.vpin(buckets=50), "VPIN over 50 buckets", "bucket size from the instrument"),
        "trade_intensity_5s": model(
            k.trade_intensity(half_life_seconds=5), "trades per second, half-life 5 s"
        ),
        "ms_since_trade": model(k.ms_since_trade(), "age of the last trade"),
        "spread_regime": model(k.spread_regime(), "spread regime", "0 tight, 1 usual, 2 wide, 3 very wide"),
        "volatility_regime": model(
            k.volatility_regime(), "volatility regime", "0 calm, 1 usual, 2 lively, 3 wild"
        ),
        "liquidity_regime": model(k.liquidity_regime(), "liquidity regime", "0 thin, 1 usual, 2 deep"),
        "mid_rel": model(k.mid_rel(seconds=300), "mid against its 300 s mean", "in thousandths of a tick"),
        "microprice_rel": model(
            k.microprice_rel(seconds=300),
            "microprice against the mid's 300 s mean",
            "in thousandths of a tick",
        ),
    }


LOB_SHARED_V1: Final = FeatureSet("lob_shared_v1", schema_version=1, features=_lob_shared_v1())
"""The shared set of the specification."""

LOB_SHARED_V2: Final = FeatureSet("lob_shared_v2", schema_version=2, features=_lob_shared_v2())
"""The promoted set: v1 and the features strategies and models asked for."""

registry: Final = FeatureRegistry(LOB_SHARED_V1, LOB_SHARED_V2)
"""The process's sets. Registering is explicit: making a `FeatureSet` does not."""


def feature_set(feature_set_id: str) -> FeatureSet:
    """The registered set of that id; `UnknownFeatureSet` lists those there are."""
    return registry.get(feature_set_id)


def set_or_id(fset: FeatureSet | str, argument: str = "fset") -> FeatureSet:
    """What functions take where they ask for a set: one, or the id of one that is registered.

    Raises `WrongArgument` for anything else, `UnknownFeatureSet` for an id that is none, and
    `FeatureSetConflict` for a set with the id of a registered one that differs.
    """
    if isinstance(fset, str):
        return registry.get(fset)
    if not isinstance(fset, FeatureSet):
        raise WrongArgument(argument, fset, "a `FeatureSet` or the id of one", hint=_COMPOSE)
    registry.check(fset)
    return fset
