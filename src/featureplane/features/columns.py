"""Frames as columns: NumPy buffers, one a field of rule 6 and one a feature.

Leans on `features.frame`. Knows nothing of Arrow, files or engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featureplane.errors import FeatureSetMismatch, PlanError, UnknownSymbol
from featureplane.features.frame import FrameLayout
from featureplane.features.spec import FeatureSet

__all__ = ["Columns", "LateColumns"]


@dataclass(frozen=True, slots=True)
class Columns:
    """A run of frames, one row each, in the order in which they were put out.

    `values` has one array of 8-byte words a feature, `int64` or `float64` as its dtype says (`int64`
    for `u32`), undefined ones as their sentinel. `validity` has beside it a bitmap in Arrow's bit
    order, or None where every row is defined. Masks have shape (rows, words). `grid_ts_ns` is there
    when frames were sampled on a time grid. `symbol_index` counts along the engine's symbols.
    """

    symbol_index: npt.NDArray[np.int32]
    seq: npt.NDArray[np.uint64]
    source_seq: npt.NDArray[np.uint64]
    source_ts_ns: npt.NDArray[np.int64]
    local_ts_ns: npt.NDArray[np.int64]
    quality_flags: npt.NDArray[np.uint32]
    ready: npt.NDArray[np.uint64]
    changed: npt.NDArray[np.uint64]
    values: tuple[npt.NDArray[Any], ...]
    validity: tuple[npt.NDArray[np.uint8] | None, ...]
    grid_ts_ns: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.seq)

    @classmethod
    def from_native(cls, fset: FeatureSet, given: Mapping[str, Any], *, grid: bool = False) -> Columns:
        """Columns over the words the Rust engine hands over with the places where they begin; no copy.

        `grid` says whether frames were sampled on a time grid; otherwise its column means nothing. It
        and `symbol` are None where all of it is 0.
        """
        masks, rows = -(-len(fset) // 64), given["rows"]
        words: npt.NDArray[np.uint64] = given["words"]
        signed, floats = words.view(np.int64), words.view(np.float64)
        heads, values = given["heads"], given["values"]
        seq, source_seq, source_ts_ns, local_ts_ns, ready, changed, flags = heads
        symbol, grid_ts_ns = given["symbol"], given["grid_ts_ns"]
        if grid and grid_ts_ns is None:
            grid_ts_ns = np.zeros(rows, np.int64)
        columns = cls(
            symbol_index=np.zeros(rows, np.int32) if symbol is None else symbol.view(np.int32),
            seq=words[seq : seq + rows],
            source_seq=words[source_seq : source_seq + rows],
            source_ts_ns=signed[source_ts_ns : source_ts_ns + rows],
            local_ts_ns=signed[local_ts_ns : local_ts_ns + rows],
            quality_flags=words[flags:].view(np.uint32)[:rows],
            ready=words[ready : ready + masks * rows].reshape(-1, masks),
            changed=words[changed : changed + masks * rows].reshape(-1, masks),
            values=tuple(
                [
                    floats[at : at + rows] if spec.dtype == "f64" else signed[at : at + rows]
                    for at, spec in zip(values, fset.specs, strict=True)
                ]
            ),
            validity=tuple(given["validity"]),
            grid_ts_ns=grid_ts_ns if grid else None,
        )
        columns.check(fset)
        return columns

    @classmethod
    def from_frames(
        cls,
        fset: FeatureSet,
        frames: npt.NDArray[np.uint8],
        symbol_ids: tuple[int, ...],
        grid_ts_ns: npt.NDArray[np.int64] | None = None,
    ) -> Columns:
        """Columns from packed frames, shape (rows, frame bytes); values are copied out.

        Raises
        ------
        FeatureSetMismatch
            A frame of another layout, version or fingerprint.
        UnknownSymbol
            A frame of a symbol that is not among `symbol_ids`.
        """
        layout = FrameLayout.of(fset, {})
        if frames.ndim != 2 or frames.shape[1] != layout.size:
            found = f"frames of {frames.shape[-1]} bytes"
            raise FeatureSetMismatch(fset.fingerprint, found, f"the size, {layout.size} bytes for this set")
        rows = np.ascontiguousarray(frames).view(layout.dtype)[:, 0]
        _check_frames(layout, rows)
        ready = np.ascontiguousarray(rows["warmup_ready_mask"])
        bits = np.unpackbits(ready.view(np.uint8), axis=1, bitorder="little")[:, : len(fset)]
        return cls(
            symbol_index=_symbol_index(rows["symbol_id"], symbol_ids),
            seq=rows["seq"].copy(),
            source_seq=rows["source_seq"].copy(),
            source_ts_ns=rows["source_ts_ns"].copy(),
            local_ts_ns=rows["local_ts_ns"].copy(),
            quality_flags=rows["quality_flags"].copy(),
            ready=ready,
            changed=np.ascontiguousarray(rows["changed_mask"]),
            values=tuple(rows["values"][feature_id].copy() for feature_id in fset),
            validity=tuple(_bitmap(column) for column in np.ascontiguousarray(bits.T)),
            grid_ts_ns=grid_ts_ns,
        )

    def check(self, fset: FeatureSet) -> None:
        """Refuse buffers whose lengths disagree: Arrow would read beyond them."""
        rows, words = len(self), -(-len(fset) // 64)
        of_rows: list[npt.NDArray[Any]] = [
            self.symbol_index,
            self.source_seq,
            self.source_ts_ns,
            self.local_ts_ns,
        ]
        of_rows += [self.quality_flags, *self.values]
        if self.grid_ts_ns is not None:
            of_rows.append(self.grid_ts_ns)
        masks = [self.ready, self.changed]
        bitmaps: list[npt.NDArray[Any]] = [bitmap for bitmap in self.validity if bitmap is not None]
        agree = (
            {column.shape for column in of_rows} == {(rows,)}
            and {mask.shape for mask in masks} == {(rows, words)}
            and all(bitmap.nbytes * 8 >= rows for bitmap in bitmaps)
            and len(self.values) == len(self.validity) == len(fset)
            and {part.flags.c_contiguous for part in [*of_rows, *masks, *bitmaps]} == {True}
        )
        if not agree:
            raise PlanError("columns of unlike lengths", f"{rows} rows, {len(fset)} features, contiguous")


@dataclass(frozen=True, slots=True)
class LateColumns:
    """Columns that are made when somebody asks for them; how many rows they have is known before."""

    rows: int
    make: Callable[[], Columns]

    def __len__(self) -> int:
        return self.rows


def _stored(dtype: str) -> str:
    return "<f8" if dtype == "f64" else "<i8"


def _bitmap(defined: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    return None if defined.all() else np.packbits(defined, bitorder="little")


def _symbol_index(ids: npt.NDArray[np.uint32], symbol_ids: tuple[int, ...]) -> npt.NDArray[np.int32]:
    index = np.full(len(ids), -1, np.int32)
    for place, symbol_id in enumerate(symbol_ids):
        index[ids == symbol_id] = place
    if (index < 0).any():
        raise UnknownSymbol(int(ids[index < 0][0]), symbol_ids)
    return index


def _check_frames(layout: FrameLayout, rows: npt.NDArray[Any]) -> None:
    expected = {
        "magic": b"FUV1",
        "layout_version": 1,
        "features": len(layout.feature_ids),
        "schema_version": layout.schema_version,
        "mask_words": layout.mask_words,
        "header_bytes": 64,
    }
    for name, value in expected.items():
        wrong = rows[name][rows[name] != value]
        if len(wrong):
            raise FeatureSetMismatch(
                layout.fingerprint, f"frames with {name} {wrong[0]}", f"{name}: {value} here"
            )
    prints = {bytes(p) for p in np.unique(rows["fingerprint"].copy().view("<u8")).view("V8")}
    if prints - {layout.prefix}:
        raise FeatureSetMismatch(layout.prefix.hex(), ", ".join(sorted(p.hex() for p in prints)))
