"""Tables: their columns, null where undefined, the same bits as the frames (rule 6)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import EmptyStream, FeatureSetMismatch, PlanError, SettingError, UnknownSymbol
from featureplane.features import kernels as k
from featureplane.features.columns import Columns
from featureplane.features.frame import FrameLayout
from featureplane.features.spec import FeatureSet
from featureplane.research.runs import RunReport
from featureplane.research.tables import FeatureTable, ParquetSink, table_schema
from featureplane.units import UNDEFINED_F64_BITS, UNDEFINED_I64

SMALL = FeatureSet(
    "small",
    schema_version=7,
    features={"spread": k.spread(), "ema": k.ema(k.spread(), 2), "code": k.spread_regime()},
)
WIDE = FeatureSet("wide", features={f"q{i}": k.qty("bid", i) for i in range(1, 71)})
NAMES = {11: "ETHUSDT", 22: "BTCUSDT"}
OWN = ["symbol", "seq", "source_seq", "source_ts_ns", "local_ts_ns", "quality_flags", "warmup_ready_mask"]
OWN += ["changed_mask"]


def packed(
    fset: FeatureSet, rows: list[list[int | float | None]], symbol_id: int = 11
) -> npt.NDArray[np.uint8]:
    """Frames of these values; sequence and times count the rows."""
    layout = FrameLayout.of(fset, NAMES)
    frames = b"".join(
        layout.pack(
            symbol_id=symbol_id,
            flags=n % 64,
            seq=n + 1,
            source_ts_ns=n,
            local_ts_ns=n + 5,
            source_seq=n + 100,
            changed=0,
            ready=sum(1 << i for i, value in enumerate(row) if value is not None),
            values=b"".join(word(value, spec.dtype) for value, spec in zip(row, fset.specs, strict=True)),
        )
        for n, row in enumerate(rows)
    )
    return np.frombuffer(bytearray(frames), np.uint8).reshape(len(rows), layout.size)


def word(value: float | None, dtype: str) -> bytes:
    """The eight bytes of one value."""
    if dtype == "f64":
        return struct.pack("<Q", UNDEFINED_F64_BITS) if value is None else struct.pack("<d", value)
    return struct.pack("<q", UNDEFINED_I64 if value is None else value)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


ROWS: list[list[int | float | None]] = [
    [None, None, None],
    [3, None, None],
    [-(2**63) + 1, 0.1, 2],
    [2**53 + 1, -1.5, None],
]


def test_columns_are_those_of_the_contract() -> None:
    table = FeatureTable.from_frames(SMALL, packed(SMALL, ROWS), NAMES).to_arrow()
    assert table.column_names == [*OWN, "spread", "ema", "code"]
    assert [str(t) for t in table.schema.types[1:]] == [
        "uint64", "uint64", "int64", "int64", "uint32", "uint64", "uint64", "int64", "double", "uint32",
    ]  # fmt: skip
    table.validate(full=True)


def test_undefined_is_null_and_everything_else_keeps_its_bits() -> None:
    table = FeatureTable.from_frames(SMALL, packed(SMALL, ROWS), NAMES).to_arrow()
    assert table.column("spread").to_pylist() == [None, 3, -(2**63) + 1, 2**53 + 1]
    assert table.column("ema").to_pylist() == [None, None, 0.1, -1.5]
    assert table.column("code").to_pylist() == [None, None, 2, None]
    assert table.column("symbol").to_pylist() == ["ETHUSDT"] * 4
    assert table.column("seq").to_pylist() == [1, 2, 3, 4]
    assert table.column("warmup_ready_mask").to_pylist() == [0, 1, 7, 3]


def test_a_list_of_frames_is_the_same_table() -> None:
    frames = packed(SMALL, ROWS)
    one = FeatureTable.from_frames(SMALL, frames, NAMES).to_arrow()
    assert FeatureTable.from_frames(SMALL, [row.tobytes() for row in frames], NAMES).to_arrow().equals(one)


def test_masks_of_wide_sets_are_fixed_size_binary() -> None:
    frames = packed(WIDE, [[None] * 70, [1] * 69 + [None]])
    table = FeatureTable.from_frames(WIDE, frames, NAMES).to_arrow()
    mask = table.column("warmup_ready_mask")
    assert mask.type == pa.binary(16)
    assert mask.to_pylist() == [bytes(16), ((1 << 69) - 1).to_bytes(16, "little")]
    assert table.column("q70").null_count == 2


def test_the_schema_says_what_the_numbers_are() -> None:
    table = FeatureTable.from_frames(SMALL, packed(SMALL, ROWS), NAMES, metadata={"source": "synthetic"})
    assert table.metadata == {
        "feature_set_id": "small",
        "schema_version": "7",
        "fingerprint": SMALL.fingerprint,
        "source": "synthetic",
    }
    field = table.to_arrow().schema.field("ema")
    assert field.metadata == {b"unit": b"price", b"scale": b"1", b"definition": b"ema(spread(), span=2)"}


HEADS = ("seq", "source_seq", "source_ts_ns", "local_ts_ns", "ready", "changed", "quality_flags")


def native(fset: FeatureSet, frames: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """The same frames as the Rust engine hands them over."""
    columns = Columns.from_frames(fset, frames, tuple(NAMES))
    flags = np.zeros(-(-len(frames) // 2), np.uint64)
    flags.view(np.uint32)[: len(frames)] = columns.quality_flags
    heads = [np.ascontiguousarray(getattr(columns, name)).reshape(-1) for name in HEADS[:-1]]
    parts = [part.view(np.uint64) for part in (*heads, flags, *columns.values)]
    begins = [0, *np.cumsum([len(part) for part in parts]).tolist()]
    return {
        "words": np.concatenate(parts),
        "rows": len(frames),
        "heads": begins[: len(HEADS)],
        "values": begins[len(HEADS) : -1],
        "validity": list(columns.validity),
        "symbol": columns.symbol_index.view(np.uint32),
        "grid_ts_ns": np.arange(len(frames)),
    }


def test_engine_buffers_reach_arrow_without_a_copy() -> None:
    given = native(SMALL, packed(SMALL, ROWS))
    table = FeatureTable(SMALL, [Columns.from_native(SMALL, given)], ["ETHUSDT", "BTCUSDT"]).to_arrow()
    begins = {"seq": given["heads"][0], "spread": given["values"][0], "ema": given["values"][1]}
    for name, begin in begins.items():
        chunk: Any = table.column(name).chunk(0)
        arrow = chunk.buffers()[1]
        assert arrow is not None
        assert arrow.address == given["words"][begin:].__array_interface__["data"][0], name
    assert table.equals(FeatureTable.from_frames(SMALL, packed(SMALL, ROWS), NAMES).to_arrow())


def test_a_grid_adds_its_column() -> None:
    part = Columns.from_native(SMALL, native(SMALL, packed(SMALL, ROWS)), grid=True)
    table = FeatureTable(SMALL, [part], ["ETHUSDT", "BTCUSDT"]).to_arrow()
    assert table.column_names[:9] == [*OWN, "grid_ts_ns"]
    assert table.column("grid_ts_ns").to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["grid_ts_ns", "symbol", "values", "validity"])
def test_buffers_of_unlike_lengths_are_refused(name: str) -> None:
    given = native(SMALL, packed(SMALL, ROWS))
    column = given[name]
    cut = {
        "values": lambda: [len(given["words"]) - 1, *column[1:]],
        "validity": lambda: [column[0][:0], *column[1:]],
    }
    given[name] = cut[name]() if name in cut else column[:-1]
    with pytest.raises(PlanError, match="unlike lengths"):
        Columns.from_native(SMALL, given, grid=True)


@pytest.mark.parametrize("place", range(len(HEADS)), ids=HEADS)
def test_a_column_that_ends_behind_all_words_is_refused(place: int) -> None:
    given = native(SMALL, packed(SMALL, ROWS))
    given["heads"][place] = len(given["words"]) - 1
    with pytest.raises(PlanError, match="unlike lengths"):
        Columns.from_native(SMALL, given, grid=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("magic", 1),
        ("layout_version", 2),
        ("features", 4),
        ("schema_version", 1),
        ("fingerprint", np.void(bytes(8))),
    ],
)
def test_frames_of_another_set_are_refused(field: str, value: Any) -> None:
    frames = packed(SMALL, ROWS)
    frames.view(FrameLayout.of(SMALL, NAMES).dtype)[field][2] = value
    with pytest.raises(FeatureSetMismatch):
        FeatureTable.from_frames(SMALL, frames, NAMES)


def test_frames_of_another_size_or_symbol_are_refused() -> None:
    with pytest.raises(FeatureSetMismatch, match="bytes"):
        FeatureTable.from_frames(SMALL, packed(WIDE, [[1] * 70]), NAMES)
    with pytest.raises(UnknownSymbol, match="33"):
        FeatureTable.from_frames(SMALL, packed(SMALL, ROWS, symbol_id=33), NAMES)


def test_pandas_keeps_integers_beside_nulls() -> None:
    frame = FeatureTable.from_frames(SMALL, packed(SMALL, ROWS), NAMES).to_pandas()
    assert frame["spread"][3] == 2**53 + 1
    assert frame["spread"][0] is pd.NA
    assert str(frame["ema"].dtype) == "double[pyarrow]"


def test_polars_and_every_reader_of_arrow_streams_see_the_same() -> None:
    table = FeatureTable.from_frames(SMALL, packed(SMALL, ROWS), NAMES)
    frame = table.to_polars()
    assert frame["spread"].to_list() == [None, 3, -(2**63) + 1, 2**53 + 1]
    assert frame.equals(pl.DataFrame(table))
    assert pa.table(table).equals(table.to_arrow())


def test_one_column_can_be_had_as_numpy() -> None:
    table = FeatureTable.from_frames(SMALL, packed(SMALL, ROWS), NAMES)
    values, defined = table.column("spread")
    assert values.dtype == np.int64
    assert defined.tolist() == [False, True, True, True]
    assert values[defined].tolist() == [3, -(2**63) + 1, 2**53 + 1]
    assert FeatureTable.from_frames(SMALL, [], NAMES).column("ema")[0].dtype == np.float64


def test_parquet_holds_the_same_table(tmp_path: Path) -> None:
    table = FeatureTable.from_frames(SMALL, packed(SMALL, ROWS), NAMES, metadata={"source": "synthetic"})
    table.write_parquet(tmp_path / "t.parquet")
    read = pq.read_table(tmp_path / "t.parquet")
    assert read.equals(table.to_arrow())
    assert read.schema.metadata == table.to_arrow().schema.metadata
    assert pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(0).column(1).compression == "ZSTD"
    assert names(tmp_path) == ["t.parquet"]


def test_many_parts_stream_into_one_file(tmp_path: Path) -> None:
    part = Columns.from_frames(SMALL, packed(SMALL, ROWS), tuple(NAMES))
    with ParquetSink(tmp_path / "t.parquet", table_schema(SMALL), list(NAMES.values())) as sink:
        for _ in range(5):
            sink.write(part)
        sink.metadata["dropped"] = "{}"
    read = pq.read_table(tmp_path / "t.parquet")
    assert read.num_rows == sink.rows == 20
    assert read.schema.metadata == {**(table_schema(SMALL).metadata or {}), b"dropped": b"{}"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_file_leaves_what_was_there(error: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("before")
    part = Columns.from_frames(SMALL, packed(SMALL, ROWS), tuple(NAMES))

    def interrupted() -> None:
        with ParquetSink(tmp_path / "t.parquet", table_schema(SMALL), ["a", "b"]) as sink:
            sink.write(part)
            raise error

    with pytest.raises(error):
        interrupted()
    assert names(tmp_path) == ["t.parquet"]
    assert (tmp_path / "t.parquet").read_text() == "before"


def test_a_file_of_nothing_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(EmptyStream):
        FeatureTable.from_frames(SMALL, [], NAMES).write_parquet(tmp_path / "t.parquet")
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be written"):
        FeatureTable.from_frames(SMALL, packed(SMALL, ROWS), NAMES).write_parquet(
            tmp_path / "no" / "t.parquet"
        )


values = st.one_of(st.none(), st.integers(-(2**63) + 1, 2**63 - 1))
floats = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
codes = st.one_of(st.none(), st.integers(0, 2**32 - 1))


@given(st.lists(st.tuples(values, floats, codes), max_size=40))
def test_any_values_survive_the_way_into_arrow(
    rows: list[tuple[int | None, float | None, int | None]],
) -> None:
    table = FeatureTable.from_frames(SMALL, packed(SMALL, [list(row) for row in rows]), NAMES).to_arrow()
    table.validate(full=True)
    for i, name in enumerate(SMALL):
        assert table.column(name).to_pylist() == [row[i] for row in rows]


def test_the_page_on_tables_names_every_column_and_what_the_schema_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "tables.md").read_text(encoding="utf-8")
    schema = table_schema(SMALL, RunReport(SMALL).metadata(), grid=True)
    said = [key.decode() for key in schema.metadata or {}]
    assert [name for name in (*schema.names[:9], *said) if f"`{name}`" not in page] == []
