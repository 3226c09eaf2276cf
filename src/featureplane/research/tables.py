"""Tables: frames as Arrow, Polars, pandas or Parquet, undefined values null.

Buffers go from the engine into Arrow as they are; only packed frames (the reference) are copied.

Leans on `columns`, pyarrow. Knows nothing of engines or sources.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from featureplane.arguments import as_path
from featureplane.errors import EmptyStream, SettingError
from featureplane.features.columns import Columns, LateColumns
from featureplane.features.spec import FeatureSet
from featureplane.research.runs import RunReport
from featureplane.whole_file import WholeFile, check_ending

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["FeatureTable", "ParquetSink", "table_schema", "to_batch"]

_ROWS_A_GROUP: Final = 1 << 16
_PAGE_BYTES: Final = 1 << 16  # of one column, until it is compressed
_MASK_FEATURES: Final = 64
"""Up to so many features a mask is one unsigned integer; above, fixed-size binary."""

_ARROW: Final = {"i64": pa.int64(), "f64": pa.float64(), "u32": pa.uint32()}


def table_schema(
    fset: FeatureSet, metadata: Mapping[str, str] | None = None, *, grid: bool = False
) -> pa.Schema:
    """The columns of a table of this set; its metadata: set id, schema version, fingerprint, `metadata`.

    First `symbol`, `seq`, `source_seq`, `source_ts_ns`, `local_ts_ns`, `quality_flags`,
    `warmup_ready_mask`, `changed_mask` (and `grid_ts_ns` when sampled on a grid), then the features,
    whose fields carry their unit, scale and definition.
    """
    few = len(fset) <= _MASK_FEATURES
    mask = pa.uint64() if few else pa.binary(8 * -(-len(fset) // 64))
    own = [
        pa.field("symbol", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("seq", pa.uint64(), nullable=False),
        pa.field("source_seq", pa.uint64(), nullable=False),
        pa.field("source_ts_ns", pa.int64(), nullable=False),
        pa.field("local_ts_ns", pa.int64(), nullable=False),
        pa.field("quality_flags", pa.uint32(), nullable=False),
        pa.field("warmup_ready_mask", mask, nullable=False),
        pa.field("changed_mask", mask, nullable=False),
    ]
    if grid:
        own.append(pa.field("grid_ts_ns", pa.int64(), nullable=False))
    features = [
        pa.field(
            spec.feature_id,
            _ARROW[spec.dtype],
            metadata={"unit": spec.unit, "scale": str(spec.scale), "definition": spec.definition},
        )
        for spec in fset.specs
    ]
    said: dict[bytes | str, bytes | str] = dict(metadata.items()) if metadata else {}
    said |= {
        "feature_set_id": fset.feature_set_id,
        "schema_version": str(fset.schema_version),
        "fingerprint": fset.fingerprint,
    }
    return pa.schema(own + features, metadata=said)


def to_batch(schema: pa.Schema, columns: Columns, symbols: Sequence[str]) -> pa.RecordBatch:
    """One record batch over the buffers of `columns`, which stay alive as long as it does."""
    rows = len(columns)
    own: dict[str, npt.NDArray[Any]] = {
        "seq": columns.seq,
        "source_seq": columns.source_seq,
        "source_ts_ns": columns.source_ts_ns,
        "local_ts_ns": columns.local_ts_ns,
        "quality_flags": columns.quality_flags,
        "warmup_ready_mask": columns.ready,
        "changed_mask": columns.changed,
    }
    if columns.grid_ts_ns is not None:
        own["grid_ts_ns"] = columns.grid_ts_ns
    index = pa.array(columns.symbol_index, pa.int32())
    arrays: list[Any] = [pa.DictionaryArray.from_arrays(index, pa.array(list(symbols), pa.string()))]
    for name, buffer in own.items():
        arrays.append(_array(schema.field(name).type, rows, buffer, None))
    for offset, (buffer, bitmap) in enumerate(zip(columns.values, columns.validity, strict=True)):
        stored = schema.field(1 + len(own) + offset).type
        narrow = stored == pa.uint32()  # codes are stored in eight bytes
        array = _array(pa.int64() if narrow else stored, rows, buffer, bitmap)
        arrays.append(array.cast(stored) if narrow else array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(
    stored: pa.DataType, rows: int, buffer: npt.NDArray[Any], bitmap: npt.NDArray[np.uint8] | None
) -> Any:
    data: Any = buffer
    bits: Any = bitmap
    validity = None if bits is None else pa.py_buffer(bits)
    return pa.Array.from_buffers(stored, rows, [validity, pa.py_buffer(data)])


class FeatureTable:
    """One row a frame, one column a feature, in the order in which frames were put out.

    Columns as `table_schema` lists them; a feature is null where it is undefined, never 0. The
    object speaks Arrow's C stream interface, so whatever reads that can read it without a copy.

    `report` says what was read and dropped, where the table was computed here.
    """

    def __init__(
        self,
        fset: FeatureSet,
        parts: Iterable[Columns | LateColumns],
        symbols: Sequence[str],
        *,
        metadata: Mapping[str, str] | None = None,
        report: RunReport | None = None,
    ) -> None:
        self.feature_set = fset
        self.symbols = tuple(symbols)
        self.report = report
        self._given = [part for part in parts if len(part)]
        made = [part for part in self._given if isinstance(part, Columns)]
        for part in made:
            part.check(fset)
        self._grid = any(part.grid_ts_ns is not None for part in made)
        self._said = dict(metadata or {})
        self._table: pa.Table | None = None

    @classmethod
    def from_frames(
        cls,
        fset: FeatureSet,
        frames: npt.NDArray[np.uint8] | Sequence[bytes],
        symbols: Mapping[int, str],
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> FeatureTable:
        """A table of packed frames: bytes each, or an array of shape (rows, frame bytes).

        `symbols` names each symbol id. Raises `FeatureSetMismatch` for frames of another set.
        """
        if not len(frames):
            return cls(fset, [], tuple(symbols.values()), metadata=metadata)
        if isinstance(frames, np.ndarray):
            packed = frames
        else:
            packed = np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), -1)
        part = Columns.from_frames(fset, packed, tuple(symbols))
        return cls(fset, [part], tuple(symbols.values()), metadata=metadata)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, and what the table says of itself; see `table_schema`."""
        said = self._said if self.report is None else self.report.metadata() | self._said
        return table_schema(self.feature_set, said, grid=self._grid)

    @cached_property
    def _parts(self) -> list[Columns]:
        return [part if isinstance(part, Columns) else part.make() for part in self._given]

    @property
    def metadata(self) -> dict[str, str]:
        """What the schema says of the whole table."""
        return {key.decode(): value.decode() for key, value in self.schema.metadata.items()}

    def to_arrow(self) -> pa.Table:
        """The table in Arrow, over the engine's own buffers."""
        if self._table is None:
            batches = [to_batch(self.schema, part, self.symbols) for part in self._parts]
            self._table = pa.Table.from_batches(batches, schema=self.schema)
        return self._table

    def to_polars(self) -> pl.DataFrame:
        """The table in Polars; needs the `research` extra."""
        try:
            import polars as pl  # noqa: PLC0415 - optional
        except ImportError:
            raise _extra_missing("polars") from None
        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def to_pandas(self) -> pd.DataFrame:
        """The table in pandas, with Arrow's types, so that integers beside nulls stay integers.

        Needs the `research` extra.
        """
        try:
            import pandas as pd  # noqa: PLC0415 - optional
        except ImportError:
            raise _extra_missing("pandas") from None
        return self.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)

    def column(self, feature_id: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Values of one feature, `int64` or `float64`, and where they are defined; no Arrow in between."""
        i = self.feature_set.index(feature_id)
        empty = np.zeros(0, np.float64 if self.feature_set.specs[i].dtype == "f64" else np.int64)
        values = [part.values[i] for part in self._parts]
        defined = [part.ready[:, i // 64] >> np.uint64(i % 64) & np.uint64(1) for part in self._parts]
        return (
            np.concatenate([empty, *values]),
            np.concatenate([np.zeros(0, np.uint64), *defined]).astype(np.bool_),
        )

    def write_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the table; the file appears when it is whole, or not at all.

        Raises `SettingError` for a name that ends as another format does, as `.csv`.
        """
        check_ending(as_path("path", path), ".parquet")
        with ParquetSink(path, self.schema, self.symbols) as sink:
            for part in self._parts:
                sink.write(part)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        stream: object = self.to_arrow().__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]
        return stream

    def __len__(self) -> int:
        return sum(len(part) for part in self._given)

    def __repr__(self) -> str:
        return (
            f"FeatureTable({len(self)} rows of {self.feature_set.feature_set_id}, {', '.join(self.symbols)})"
        )


class ParquetSink:
    """Frames streamed into one Parquet file, zstd, in row groups of 65,536.

    Written beside the target under another name and renamed when all is there; an error, also
    Ctrl-C, leaves nothing behind and an old file as it was.
    """

    def __init__(self, path: str | os.PathLike[str], schema: pa.Schema, symbols: Sequence[str]) -> None:
        self._target = path
        self._schema = schema
        self._symbols = symbols
        self._waiting: list[pa.RecordBatch] = []
        self._rows_waiting = 0
        self.rows = 0
        self.metadata: dict[str, str] = {}
        """What is to be said of the whole file besides the schema's own; may change until the end."""

    def __enter__(self) -> Self:
        self._file = WholeFile(self._target)
        try:
            few_values: Any = ["symbol", "quality_flags"]
            self._writer = pq.ParquetWriter(
                self._file.part,
                self._schema,
                compression="zstd",
                use_dictionary=few_values,
                data_page_size=_PAGE_BYTES,
                store_schema=False,
            )
        except BaseException:
            self._file.discard()
            raise
        return self

    def write(self, columns: Columns) -> None:
        """Take some frames; they are written when a row group is full."""
        if not len(columns):
            return
        self.rows += len(columns)
        self._rows_waiting += len(columns)
        self._waiting.append(to_batch(self._schema, columns, self._symbols))
        if self._rows_waiting >= _ROWS_A_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=_ROWS_A_GROUP)
            self._waiting, self._rows_waiting = [], 0
            # What it gave back in between would be kept, and the peak creep up with the length of a stream.
            pa.default_memory_pool().release_unused()

    def _describe(self) -> None:
        """Write the schema, at the end: a part of what it says is known only then."""
        said = {key.decode(): value.decode() for key, value in (self._schema.metadata or {}).items()}
        said |= self.metadata
        schema = self._schema.with_metadata(said)
        arrow = base64.b64encode(schema.serialize().to_pybytes())
        self._writer.add_key_value_metadata(said | {"ARROW:schema": arrow.decode("ascii")})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
                if not self.rows:
                    raise EmptyStream(
                        "frames", hint="nothing was written; `data inspect` shows what is there"
                    )
                self._describe()
            self._writer.close()
            if kind is None:
                self._file.publish()
        finally:
            self._file.discard()


def _extra_missing(package: str) -> SettingError:
    return SettingError(f"{package} is not installed", hint=f"{sys.executable} -m pip install {package}")
