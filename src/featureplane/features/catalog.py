"""The sets everyone knows, and the registry that keeps an id from meaning two things (rule 9).

Leans on `spec` and `kernels`. A shipped set never changes; `tests/golden/feature_sets` pins them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from featureplane.errors import FeatureSetConflict, UnknownFeatureSet
from featureplane.features import kernels as k
from featureplane.features.spec import Feature, FeatureFlags, FeatureSet

__all__ = ["LOB_SHARED_V1", "FeatureRegistry", "feature_set", "registry"]

_SHARED: Final = FeatureFlags.PROMOTED
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
        known = self._sets.setdefault(fset.feature_set_id, fset)
        if known is not fset and known != fset:
            first = next(iter(known.diff(fset)), None)
            what = str(first) if first else f"schema version {known.schema_version} -> {fset.schema_version}"
            raise FeatureSetConflict(fset.feature_set_id, what)
        return known

    def get(self, feature_set_id: str) -> FeatureSet:
        """The set of that id; `UnknownFeatureSet` lists those there are."""
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


LOB_SHARED_V1: Final = FeatureSet("lob_shared_v1", schema_version=1, features=_lob_shared_v1())
"""The shared set of the specification."""

registry: Final = FeatureRegistry(LOB_SHARED_V1)
"""The process's sets. Registering is explicit: making a `FeatureSet` does not."""


def feature_set(feature_set_id: str) -> FeatureSet:
    """The registered set of that id; `UnknownFeatureSet` lists those there are."""
    return registry.get(feature_set_id)
