"""How the columns of a stored day are written: by how often each changes, as its first row group shows it.

    changes seldom             as it is: zstd finds what repeats
    whole numbers that change  differences, packed into as few bits as they need
    fractions that change      first bytes with first bytes, so that zstd finds what repeats in them
    few values                 by number

With any change here `FORMAT_VERSION` rises: the bytes are part of the key. Knows nothing of sets and days.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["ROWS_A_GROUP", "layout_for"]

ROWS_A_GROUP: Final = 1 << 16

_PAGE_BYTES: Final = 1 << 20
_FEW_VALUES: Final = ("symbol", "quality_flags", "warmup_ready_mask", "changed_mask")
_WHOLE_CHANGES: Final = 1 / 4
_FRACTION_CHANGES: Final = 2 / 3
"""In so many rows a column has to change before another way makes it smaller and its reading faster."""

# WHY asked for: a page a column and group is read a tenth faster; older pyarrow knows no other way.
_ONE_PAGE: Final[dict[str, Any]] = (
    {"max_rows_per_page": ROWS_A_GROUP}
    if "max_rows_per_page" in inspect.signature(pq.ParquetWriter).parameters
    else {}
)


def layout_for(group: pa.Table, *, changing: str) -> dict[str, Any]:
    """What `pq.ParquetWriter` is to be told for a day whose first row group is this one.

    `changing` is a column of whole numbers that goes by differences, whatever the group shows.
    """
    encodings = {changing: "DELTA_BINARY_PACKED"}
    for name, column in zip(group.column_names, group.columns, strict=True):
        if name in _FEW_VALUES or name == changing:
            continue
        if pa.types.is_integer(column.type) and _changes(column) >= _WHOLE_CHANGES:
            encodings[name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_floating(column.type) and _changes(column) >= _FRACTION_CHANGES:
            encodings[name] = "BYTE_STREAM_SPLIT"
    return {
        "compression": "zstd",
        "use_dictionary": [name for name in group.column_names if name in _FEW_VALUES],
        "data_page_size": _PAGE_BYTES,
        "column_encoding": encodings,
        "write_page_checksum": True,
        **_ONE_PAGE,
    }


def _changes(column: Any) -> float:
    """In which part of the rows a column has another value than in the one before; 0 without rows."""
    whole = column.combine_chunks()
    values = (whole.fill_null(0) if whole.null_count else whole).to_numpy(zero_copy_only=False)
    return float(np.count_nonzero(values[1:] != values[:-1]) / max(len(values), 1))
