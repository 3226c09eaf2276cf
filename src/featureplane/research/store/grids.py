"""Frames chosen out of stored ones, as sampling chooses them while they are computed (rules 5.5, 5.6).

Nothing is computed again: a kept row has its own values, its flags and its changed mask are those of all
rows since the one kept before.

Leans on `research.tables`. Knows nothing of stores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featureplane.errors import SettingError
from featureplane.features.sampling import parse_every
from featureplane.features.spec import FeatureSet
from featureplane.research.tables import table_schema

__all__ = ["sampled"]


def sampled(table: pa.Table, fset: FeatureSet, every: int | str) -> pa.Table:
    """The rows that `every=n` or `every="100ms"` keeps of all frames of one symbol.

    `every=n` keeps rows whose `seq` is a multiple of n; it counts from 1 in each stored day. A period keeps
    the last row at or before each multiple of it, by the largest `local_ts_ns` so far, and adds
    `grid_ts_ns`; the open interval at the end gives none. What stood before the first row is not known.

    Raises `SettingError` for a text that is no period, and for None.
    """
    chosen = parse_every(every)
    if chosen is None:
        raise SettingError("every=None", hint="a number of frames, or a period such as '100ms' or '1s'")
    whole = table.combine_chunks()
    period_ns = chosen.period_ns
    if period_ns is None:
        kept = np.flatnonzero(_column(whole, "seq") % np.uint64(chosen.frames or 1) == 0)
        points = None
    else:
        local = _column(whole, "local_ts_ns")
        grid = -(-np.maximum.accumulate(local) // period_ns) * period_ns
        kept = np.flatnonzero(grid[1:] > grid[:-1])
        points = grid[kept]
    return _rows(whole, fset, kept, points)


def _rows(
    table: pa.Table, fset: FeatureSet, kept: npt.NDArray[np.int64], points: npt.NDArray[np.int64] | None
) -> pa.Table:
    schema = table_schema(fset, grid=points is not None)
    taken = table.take(kept)
    columns: dict[str, Any] = {name: taken.column(name) for name in table.column_names}
    if len(kept):
        starts = np.concatenate([[0], kept[:-1] + 1])
        behind = int(kept[-1]) + 1
        for name in ("quality_flags", "changed_mask"):
            bits = _bits(table.column(name).slice(0, behind))
            gathered = np.bitwise_or.reduceat(bits, starts, axis=0)
            columns[name] = _as_column(gathered, schema.field(name).type)
    if points is not None:
        columns["grid_ts_ns"] = pa.array(points, pa.int64())
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _column(table: pa.Table, name: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table.column(name).to_numpy()
    return values


def _bits(column: Any) -> npt.NDArray[Any]:
    """Flags or masks as unsigned integers; of wide sets, shape (rows, bytes)."""
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width
        return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, width)
    values: npt.NDArray[Any] = column.to_numpy()
    return values


def _as_column(bits: npt.NDArray[Any], stored: pa.DataType) -> Any:
    if bits.ndim > 1:
        return pa.array([row.tobytes() for row in bits], stored)
    return pa.array(bits, stored)
