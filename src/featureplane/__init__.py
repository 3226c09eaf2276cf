"""Order-book features, bit for bit the same in research, backtest and live.

    market     what the venue said                 bytes       -> events
    book       what the market looks like now      events      -> levels
    features   what that means                     levels      -> frames
    research   the same features, over history     recordings  -> tables, files

Names are imported when they are first used, so that `import featureplane` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from featureplane.book.engine import LOBEngine
    from featureplane.errors import FeaturePlaneError
    from featureplane.features.catalog import FeatureRegistry, feature_set, registry
    from featureplane.features.engine import FeatureEngine
    from featureplane.features.frame import FeatureFrame, FeatureUpdateEvent
    from featureplane.features.loading import load_feature_set
    from featureplane.features.parity import ParityReport, parity
    from featureplane.features.pipeline import Pipeline
    from featureplane.features.spec import Feature, FeatureFlags, FeatureSet, FeatureSpec
    from featureplane.market.events import EventBatch
    from featureplane.market.instruments import Instrument, load_instruments, save_instruments
    from featureplane.market.quality import Quality
    from featureplane.market.reading import iter_events, read_events
    from featureplane.market.sample import sample_events
    from featureplane.research.backtest.adapter import HftBacktestAdapter
    from featureplane.research.backtest.assets import HftAsset
    from featureplane.research.backtest.library import HftMarket
    from featureplane.research.compute import compute
    from featureplane.research.datasets import Dataset
    from featureplane.research.runs import RunReport
    from featureplane.research.store.entry import StoreEntry
    from featureplane.research.store.feature_store import FeatureStore
    from featureplane.research.store.limits import StoreLimits
    from featureplane.research.tables import FeatureTable
    from featureplane.research.touch import compute_touch

__all__ = [
    "Dataset",
    "EventBatch",
    "Feature",
    "FeatureEngine",
    "FeatureFlags",
    "FeatureFrame",
    "FeaturePlaneError",
    "FeatureRegistry",
    "FeatureSet",
    "FeatureSpec",
    "FeatureStore",
    "FeatureTable",
    "FeatureUpdateEvent",
    "HftAsset",
    "HftBacktestAdapter",
    "HftMarket",
    "Instrument",
    "LOBEngine",
    "ParityReport",
    "Pipeline",
    "Quality",
    "RunReport",
    "StoreEntry",
    "StoreLimits",
    "__version__",
    "compute",
    "compute_touch",
    "feature_set",
    "iter_events",
    "load_feature_set",
    "load_instruments",
    "parity",
    "read_events",
    "registry",
    "sample_events",
    "save_instruments",
]

__version__ = "0.1.0"

_HOMES: Final = {
    "book.engine": ("LOBEngine",),
    "errors": ("FeaturePlaneError",),
    "features.catalog": ("FeatureRegistry", "feature_set", "registry"),
    "features.engine": ("FeatureEngine",),
    "features.frame": ("FeatureFrame", "FeatureUpdateEvent"),
    "features.loading": ("load_feature_set",),
    "features.parity": ("ParityReport", "parity"),
    "features.pipeline": ("Pipeline",),
    "features.spec": ("Feature", "FeatureFlags", "FeatureSet", "FeatureSpec"),
    "market.events": ("EventBatch",),
    "market.instruments": ("Instrument", "load_instruments", "save_instruments"),
    "market.quality": ("Quality",),
    "market.reading": ("iter_events", "read_events"),
    "market.sample": ("sample_events",),
    "research.backtest.adapter": ("HftBacktestAdapter",),
    "research.backtest.assets": ("HftAsset",),
    "research.backtest.library": ("HftMarket",),
    "research.compute": ("compute",),
    "research.datasets": ("Dataset",),
    "research.store.entry": ("StoreEntry",),
    "research.store.limits": ("StoreLimits",),
    "research.runs": ("RunReport",),
    "research.store.feature_store": ("FeatureStore",),
    "research.tables": ("FeatureTable",),
    "research.touch": ("compute_touch",),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
