"""The frames of a recording as arrays, for strategies that numba compiles.

What a recording's frames are is known ahead; when they may be looked at is not up to the strategy.
So each frame has the time of hftbacktest's clock from which it is known. Leans on `features`.
"""

from __future__ import annotations

from collections import namedtuple
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from featureplane.features.engine import FeatureEngine
from featureplane.features.spec import FeatureSet
from featureplane.research.backtest.assets import HftAsset

__all__ = ["FeatureRows", "feature_rows"]


class FeatureRows(NamedTuple):
    """One row a frame, in order, as arrays that numba takes.

    A frame is known when hftbacktest's `current_timestamp` has reached its `clock_ns`, and not before.
    `values` has one array a feature, by its id, `int64` or `float64`; what has no value is `INT64_MIN` or
    NaN there, and its bit of `ready` is 0. `ready` has shape (rows, words), bit i % 64 of word i // 64 is
    feature i.
    """

    clock_ns: npt.NDArray[np.int64]
    seq: npt.NDArray[np.uint64]
    source_ts_ns: npt.NDArray[np.int64]
    local_ts_ns: npt.NDArray[np.int64]
    quality_flags: npt.NDArray[np.uint32]
    ready: npt.NDArray[np.uint64]
    values: Any


def feature_rows(asset: HftAsset, fset: FeatureSet, *, backend: str = "auto") -> FeatureRows:
    """The frames of an asset, all at once; `clock_ns` as if no offset were added to its times."""
    (columns,) = FeatureEngine(fset, backend=backend).columns(asset.batch)
    if asset.is_ordered:
        clock_ns = columns.local_ts_ns + np.int64(asset.shift_ns)
    else:
        clock_ns = _clock_by_message(asset, fset, backend)
    return FeatureRows(
        clock_ns=clock_ns,
        seq=columns.seq,
        source_ts_ns=columns.source_ts_ns,
        local_ts_ns=columns.local_ts_ns,
        quality_flags=columns.quality_flags,
        ready=columns.ready,
        values=_values_type(fset.feature_ids)(*columns.values),
    )


def _clock_by_message(asset: HftAsset, fset: FeatureSet, backend: str) -> npt.NDArray[np.int64]:
    """Where our clock was set back a frame's own time does not say when hftbacktest shows its message."""
    engine = FeatureEngine(fset, backend=backend)
    clock: list[int] = []
    start = 0
    for stop, at_ns in zip(asset.ends.tolist(), asset.clock_ns.tolist(), strict=True):
        clock += [at_ns] * len(engine.push(asset.batch, start, stop))
        start = stop
    return np.array(clock, np.int64)


@lru_cache(maxsize=64)
def _values_type(feature_ids: tuple[str, ...]) -> Any:
    """One type for one set: numba compiles for types. Ids that Python keeps to itself go by `_` and place."""
    # Untyped: the fields are known at run time.
    return namedtuple("Values", feature_ids, rename=True)  # noqa: PYI024 - its fields are known at run time only
