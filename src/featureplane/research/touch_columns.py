"""Columns of a prepared table's features: values as computed, and the rest, which follows from them.

Leans on `features.columns`. Knows nothing of engines or tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featureplane.features.columns import Columns
from featureplane.features.spec import FeatureSet
from featureplane.units import UNDEFINED_F64_BITS, UNDEFINED_I64

__all__ = ["touch_columns"]


def touch_columns(
    fset: FeatureSet,
    words: Sequence[npt.NDArray[np.uint64]],
    flagged: npt.NDArray[np.uint64],
    flags: npt.NDArray[np.uint32],
    source_ts_ns: npt.NDArray[np.int64] | None,
) -> Columns:
    """Frames of a table from its first row on, one a row.

    `words` has eight bytes a value, an array a feature, undefined ones as their sentinel; `flagged` are the
    rows that have flags, `flags` those. Without times they are 0.
    """
    rows = len(words[0])
    shape = (rows, -(-len(fset) // 64))
    ready, changed = np.zeros(shape, np.uint64), np.zeros(shape, np.uint64)
    values: list[npt.NDArray[Any]] = []
    validity: list[npt.NDArray[np.uint8] | None] = []
    for at, (column, spec) in enumerate(zip(words, fset.specs, strict=True)):
        is_float = spec.dtype == "f64"
        undefined = np.uint64(UNDEFINED_F64_BITS if is_float else UNDEFINED_I64 & (1 << 64) - 1)
        is_ready = column != undefined
        is_changed = np.concatenate([is_ready[:1], column[1:] != column[:-1]])
        for mask, bits in ((ready, is_ready), (changed, is_changed)):
            mask[:, at // 64] |= bits.astype(np.uint64) << np.uint64(at % 64)
        values.append(column.view(np.float64 if is_float else np.int64))
        validity.append(None if is_ready.all() else np.packbits(is_ready, bitorder="little"))
    quality_flags = np.zeros(rows, np.uint32)
    quality_flags[flagged] = flags
    times = np.zeros(rows, np.int64) if source_ts_ns is None else source_ts_ns
    columns = Columns(
        symbol_index=np.zeros(rows, np.int32),
        seq=np.arange(1, rows + 1, dtype=np.uint64),
        source_seq=np.zeros(rows, np.uint64),
        source_ts_ns=times,
        local_ts_ns=times,
        quality_flags=quality_flags,
        ready=ready,
        changed=changed,
        values=tuple(values),
        validity=tuple(validity),
    )
    columns.check(fset)
    return columns
