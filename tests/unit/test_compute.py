"""From events to tables and files: the same rows whichever way they are taken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from featureplane.errors import (
    EmptyStream,
    FeaturePlaneError,
    MalformedEvent,
    MissingSnapshot,
    SettingError,
    UnknownFeatureSet,
)
from featureplane.features import kernels as k
from featureplane.features.engine import FeatureEngine
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch, Kind, SourceFile, SourceInfo
from featureplane.market.instruments import Instrument
from featureplane.market.synthetic import symbol_name, synthetic_events
from featureplane.research.compute import compute
from featureplane.research.runs import RunReport
from featureplane.research.tables import FeatureTable

SOURCE = SourceInfo("synthetic", sequenced=True, has_snapshots=True, local_time=True, trade_sides=True)
MINE = FeatureSet(
    "mine",
    features={
        "spread": k.spread(),
        "ofi_1s": k.sum_over(k.ofi(), seconds=1),
        "depth": k.depth("bid", 5) + k.depth("ask", 5),
        "trades": k.trade_count(),
        "vpin": k.vpin(5),
    },
)


ONLY_TRADES = FeatureSet("trades", features={"count": k.trade_count()})


def events(count: int = 3_000, symbols: int = 2) -> EventBatch:
    """Synthetic events with accidents."""
    instruments = tuple(
        Instrument(venue="synthetic", symbol=symbol_name(i), price_exponent=2, qty_exponent=0)
        for i in range(symbols)
    )
    array = synthetic_events(count, seed=5, symbols=symbols)
    return EventBatch(array, instruments, SOURCE, files=(SourceFile("made", "0" * 64),))


def without(batch: EventBatch, *kinds: Kind) -> EventBatch:
    """The batch without the messages that hold events of these kinds."""
    keep = np.ones(len(batch), bool)
    first = 0
    for behind in batch.message_ends:
        keep[first:behind] = not np.isin(batch.array["kind"][first:behind], kinds).any()
        first = behind
    return EventBatch(batch.array[keep], batch.instruments, batch.source, batch.options)


def test_a_table_holds_the_frames_of_replay() -> None:
    batch = events()
    table = compute(batch, MINE)
    frames = list(FeatureEngine(MINE).replay(batch))
    assert len(table) == len(frames) > 1_000
    rows = table.to_arrow().to_pylist()
    for row, frame in zip(rows, frames, strict=True):
        assert [row[i] for i in MINE] == list(frame.values)
        assert (row["symbol"], row["seq"], row["source_seq"]) == (frame.symbol, frame.seq, frame.source_seq)
        assert (row["source_ts_ns"], row["local_ts_ns"]) == (frame.source_ts_ns, frame.local_ts_ns)
        assert (row["quality_flags"], row["changed_mask"]) == (frame.flags, frame.changed)
        assert row["warmup_ready_mask"] == frame.ready


def test_the_report_counts_what_was_read_and_put_out() -> None:
    batch = events()
    table = compute(batch, MINE)
    report = table.report
    assert report is not None
    assert (report.events, report.rows, report.messages) == (len(batch), batch.rows, batch.messages)
    assert report.frames == len(table)
    flags = table.to_arrow().column("quality_flags").to_numpy()
    assert report.flags["STATE_RESET"] == int((flags >> 1 & 1).sum()) > 0
    assert report.undefined_here == {
        name: {"vpin": "the instrument has no `vpin_bucket`"} for name in table.symbols
    }
    assert report.dropped["duplicate"] > 0
    told = json.loads(json.dumps(report.to_json()))
    assert told["set"] == "mine"
    assert told["dropped"]["duplicate"] == report.dropped["duplicate"]
    assert told["resets"] == dict(sorted(report.resets.items()))
    assert report.resets["first"] == len(table.symbols)
    assert told["broken"] == {"gap": report.broken["gap"]}
    assert report.broken["gap"] > 0
    assert [one["symbol"] for one in told["instrument"]] == list(table.symbols)


def test_metadata_say_what_was_computed_from_what() -> None:
    table = compute(events(), MINE, emit="change", every=2)
    assert table.metadata["fingerprint"] == MINE.fingerprint
    assert json.loads(table.metadata["source_files"]) == [{"name": "made", "sha256": "0" * 64}]
    assert json.loads(table.metadata["options"])["every"] == "2"
    assert "vpin" in json.loads(table.metadata["undefined_here"])["SYN0"]
    assert table.metadata == compute(events(), MINE, emit="change", every=2).metadata


def test_a_file_holds_the_same_table(tmp_path: Path) -> None:
    batch = events()
    seen: list[int] = []
    report = compute(batch, MINE, out=tmp_path / "day.parquet", progress=lambda r: seen.append(r.events))
    assert isinstance(report, RunReport)
    assert report.out == tmp_path / "day.parquet"
    assert seen == [len(batch)]
    table = compute(batch, MINE)
    read = pq.read_table(tmp_path / "day.parquet")
    assert read.equals(table.to_arrow())
    assert read.schema.metadata == table.to_arrow().schema.metadata


def test_a_time_grid_adds_its_points() -> None:
    table = compute(events(), MINE, every="1s").to_arrow()
    points = table.column("grid_ts_ns").to_numpy()
    assert len(points) > 10
    assert not (points % 10**9).any()
    assert "grid_ts_ns" not in compute(events(), MINE, every=10).to_arrow().column_names


def test_a_set_can_be_named() -> None:
    assert compute(events(), "lob_shared_v1").feature_set.feature_set_id == "lob_shared_v1"
    with pytest.raises(UnknownFeatureSet):
        compute(events(), "lob_shared_v9")


def test_a_feed_without_trades_is_told() -> None:
    table = compute(without(events(), Kind.TRADE), MINE)
    assert table.report is not None
    assert table.report.undefined_here["SYN0"]["trades"] == "there are no trades"


@pytest.mark.parametrize(
    ("batch", "fset", "error"),
    [
        pytest.param(
            without(events(), Kind.CLEAR, Kind.SNAPSHOT_LEVEL), MINE, MissingSnapshot, id="no snapshot"
        ),
        pytest.param(without(events(), Kind.TRADE), ONLY_TRADES, EmptyStream, id="no trades"),
        pytest.param(
            EventBatch(events().array[:0], events().instruments, SOURCE), MINE, MissingSnapshot, id="none"
        ),
    ],
)
def test_a_run_without_frames_is_an_error(
    batch: EventBatch, fset: FeatureSet, error: type[FeaturePlaneError], tmp_path: Path
) -> None:
    only_book = FeatureSet("book", features={"spread": k.spread()}) if fset is MINE else fset
    with pytest.raises(error):
        compute(batch, only_book)
    with pytest.raises(error):
        compute(batch, only_book, out=tmp_path / "day.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"source": "binance-spot"},
        {"symbol": "X"},
        {"on_gap": "continue"},
        {"seed": "increments"},
        {"seed_after": 3},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_reading_are_refused_beside_a_batch(options: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(options))):
        compute(events(), MINE, **options)


@pytest.mark.parametrize("options", [{"emit": "all"}, {"every": 0}, {"every": "fast"}, {"backend": "c"}])
def test_words_that_are_no_choice_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(options))):
        compute(events(), MINE, **options)


def test_files_need_their_source() -> None:
    with pytest.raises(SettingError, match="without a source"):
        compute("day.gz", MINE)


LINES = Path(__file__).parents[2] / "src" / "featureplane" / "sample" / "ethusdt_20240808.gz"


def recording(folder: Path, lines: list[bytes]) -> Path:
    path = folder / "day.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    return path


def test_files_are_streamed_into_a_file(tmp_path: Path) -> None:
    lines = gzip.decompress(LINES.read_bytes()).splitlines()[:2_000]
    path = recording(tmp_path, lines)
    report = compute(path, MINE, source="binance-spot", symbol="ETHUSDT", out=tmp_path / "day.parquet")
    table = compute(path, MINE, source="binance-spot", symbol="ETHUSDT")
    assert isinstance(table, FeatureTable)
    assert report.frames == len(table) > 100
    assert report.files[0].name == path.name
    assert pq.read_table(tmp_path / "day.parquet").equals(table.to_arrow())


def test_a_line_that_cannot_be_read_leaves_no_file(tmp_path: Path) -> None:
    lines = gzip.decompress(LINES.read_bytes()).splitlines()[:2_000]
    path = recording(tmp_path, [*lines, b"{", *lines])
    with pytest.raises(MalformedEvent):
        compute(path, MINE, source="binance-spot", symbol="ETHUSDT", out=tmp_path / "day.parquet")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
