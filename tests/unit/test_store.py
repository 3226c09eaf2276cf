"""The store's promises: what is computed once, what is refused, what never reaches a reader."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import featureplane as fp
from featureplane.clock import SystemClock
from featureplane.errors import (
    MissingDay,
    MissingSnapshot,
    SettingError,
    StoreError,
    UnknownFeature,
    UnknownFeatureSet,
    UnknownSymbol,
)
from featureplane.features import kernels as k
from featureplane.features.columns import Columns
from featureplane.market.events import Kind
from featureplane.market.sources.capture_layout import HEADER_BYTES
from featureplane.research.tables import FeatureTable, table_schema
from tests import stored
from tests.stored import DAY_NS, MONDAY_NS, OTHER, SET, SYMBOL, at, whole

UNLIKE = [
    "seq",
    "changed_mask",
]  # of a day alone: it counts from 1, and nothing stands before its first frame


class Standing(SystemClock):
    """A wall clock that stands."""

    def __init__(self, wall_ns: int) -> None:
        self.now_ns = wall_ns

    def wall_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def data(tmp_path: Path) -> fp.Dataset:
    return stored.dataset(tmp_path / "raw")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def files(root: Path) -> list[Path]:
    return sorted(root.glob("*/*/*/*.parquet"))


def lived_table(data: fp.Dataset, fset: fp.FeatureSet = SET) -> pa.Table:
    """All files as one stream."""
    events = chain.from_iterable(data.events(file, SYMBOL) for file in data.files)
    parts: list[Columns] = list(fp.FeatureEngine(fset).columns(events))
    return FeatureTable(fset, parts, (SYMBOL,)).to_arrow()


# -- what is computed


@pytest.mark.parametrize("fset", [SET, OTHER, stored.TRADES])
def test_days_computed_alone_are_the_days_that_were_lived(
    data: fp.Dataset, root: Path, fset: fp.FeatureSet
) -> None:
    with fp.FeatureStore(root, data) as store:
        alone = whole(store, fset=fset).table()
    lived = lived_table(data, fset)
    assert alone.schema == table_schema(fset)
    assert len(alone) == len(lived) > 100
    assert alone.drop_columns(UNLIKE).equals(lived.drop_columns(UNLIKE))
    seq = alone["seq"].to_numpy()
    second = int(np.flatnonzero(seq == 1)[1])
    assert (np.diff(seq)[np.arange(len(seq) - 1) != second - 1] == 1).all()
    unlike = alone["changed_mask"].to_numpy() != lived["changed_mask"].to_numpy()
    assert set(np.flatnonzero(unlike)) <= {second}


@pytest.mark.parametrize("shift", [-40, -1, 1, 40])
def test_files_need_not_end_with_the_day(tmp_path: Path, root: Path, shift: int) -> None:
    batch = stored.lived(3)
    cuts = [cut + shift for cut in stored.midnights(batch)]
    folder = tmp_path / "cut"
    folder.mkdir()
    other = fp.Dataset(stored.day_files(folder, batch, cuts), "capture")
    by_day = stored.dataset(tmp_path / "raw", 3)
    one, two = fp.FeatureStore(root, other), fp.FeatureStore(tmp_path / "two", by_day)
    assert whole(one, 3).table().equals(whole(two, 3).table())


def test_a_day_without_a_snapshot_starts_from_the_book_before_it(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        second = store.explain(SYMBOL, at(1), at(2), SET)[0]
        assert second["files"] == [data.files[1].path.name]
        assert second["rolled"] == [data.files[0].path.name]
        assert len(list((root / ".books").iterdir())) == 1
        key = second["key"]
    # Another size that stands at the end of the first day is another book, and so another second day.
    first = np.concatenate([batch.array for batch in data.events(data.files[0], SYMBOL)])
    last = int(np.flatnonzero((first["kind"] == Kind.LEVEL) & (first["qty"] > 0))[-1])
    stored.flip(data.files[0].path, HEADER_BYTES + 64 * last + 16)
    again = fp.Dataset([file.path for file in data.files], "capture")
    with fp.FeatureStore(root, again) as store:
        assert store.explain(SYMBOL, at(1), at(2), SET)[0]["key"] != key


def test_without_the_day_before_a_book_cannot_begin(data: fp.Dataset, root: Path) -> None:
    alone = fp.Dataset(data.files[1].path, "capture")
    with fp.FeatureStore(root, alone) as store, pytest.raises(MissingSnapshot):
        store.get_or_compute(SYMBOL, at(1), at(2), SET)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 2 * 86_400 * 10**3), min_size=1, max_size=4))
def test_ranges_beside_each_other_share_no_row_and_miss_none(
    data: fp.Dataset, root: Path, cuts: list[int]
) -> None:
    with fp.FeatureStore(root, data) as store:
        edges = sorted({0, 2 * 86_400 * 10**3, *cuts})
        instants = [datetime.fromtimestamp(MONDAY_NS / 1e9 + ms / 1e3, UTC) for ms in edges]
        parts = [store.get_or_compute(SYMBOL, one, two, SET).table() for one, two in pairwise(instants)]
        assert pa.concat_tables(parts).equals(whole(store).table())


def test_a_partly_covered_range_computes_only_what_is_missing(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        assert store.get_or_compute(SYMBOL, at(1), at(2), SET).days == {"2024-01-09": "miss"}
        assert whole(store).days == {"2024-01-08": "miss", "2024-01-09": "hit"}
        assert whole(store, fset=OTHER).days == {"2024-01-08": "miss", "2024-01-09": "miss"}
    with fp.FeatureStore(root, data) as store:
        assert set(whole(store).days.values()) == {"hit"}
        counted = store.stats()["requests"]
    assert counted == dict.fromkeys(counted, 0) | {"hit": 2}


def test_what_is_stored_does_not_depend_on_who_computes(data: fp.Dataset, root: Path, tmp_path: Path) -> None:
    python = fp.Dataset([file.path for file in data.files], "capture", backend="python")
    for folder, one in ((root, data), (tmp_path / "python", python)):
        with fp.FeatureStore(folder, one) as store:
            whole(store)
    found = [
        {path.name: path.read_bytes() for path in files(folder)} for folder in (root, tmp_path / "python")
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 2


# -- what is answered


def test_an_entry_is_read_when_it_is_asked(data: fp.Dataset, root: Path) -> None:
    fp.FeatureStore(root, data).get_or_compute(SYMBOL, at(0), at(2), SET)
    with fp.FeatureStore(root, data) as store:
        entry = whole(store)
        table = entry.table()
        for _ in range(3):  # from Parquet, then mapped
            again = whole(store)
            assert again.table().equals(table)
            assert again.table(["mid", "seq"]).equals(table.select(["mid", "seq"]))
            assert len(again) == len(table)
            assert again.to_polars().equals(entry.to_polars())
            assert again.scan().collect().equals(entry.to_polars())
            assert len(again.to_pandas()) == len(table)
            assert pa.table(again).equals(table)
        assert store.stats()["hot_days"] == 2
        with pytest.raises(UnknownFeature):
            entry.table(["nothing"])


def test_an_entry_outlives_its_file(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        expected = whole(store).table()
        entry = whole(store)
        assert store.clear() == 0  # it is being read
        for path in files(root):
            path.unlink()
        assert entry.table().equals(expected)
        del entry


def test_what_nobody_reads_can_be_cleared(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        whole(store)
        assert store.clear("OTHER") == 0
        assert store.clear(SYMBOL) == 2
        assert files(root) == []
        assert store.explain(SYMBOL, at(0), at(1), SET)[0]["cause"] == "evicted"


def test_why_a_day_is_missing(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        assert store.explain(SYMBOL, at(0), at(1), SET)[0]["cause"] == "new_symbol"
        whole(store)
        told = store.explain(SYMBOL, at(0), at(1), SET)[0]
        assert (told["stored"], told["tier"]) == (True, "parquet")
        assert store.explain(SYMBOL, at(0), at(1), OTHER)[0]["cause"] == "new_features"
        stored.flip(data.files[0].path, HEADER_BYTES + 64 * 20 + 8)
    again = fp.Dataset([file.path for file in data.files], "capture")
    with fp.FeatureStore(root, again) as store:
        told = store.explain(SYMBOL, at(0), at(1), SET)[0]
        assert (told["stored"], told["cause"], told["differs"]) == (False, "new_data", ["raw"])


def test_warming_fills_the_hot_tier(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        assert store.warm([SYMBOL], at(0), at(2), SET) == {"warm": 2}
        assert store.stats()["hot_days"] == 2
        assert store.stats()["requests"]["miss"] == 0
        assert set(whole(store).days.values()) == {"hit"}
    with fp.FeatureStore(root, data, limits={"hot_tier_gb": 0.0}) as cold:
        assert cold.warm([SYMBOL], at(0), at(2), OTHER) == {"warm": 2}
        assert cold.stats()["hot_days"] == 2  # of the other set


def test_the_running_day_is_computed_and_not_stored(data: fp.Dataset, root: Path) -> None:
    noon = Standing(MONDAY_NS + DAY_NS + DAY_NS // 2)
    with fp.FeatureStore(root, data, clock=noon) as store:
        entry = whole(store)
        assert entry.days == {"2024-01-08": "miss", "2024-01-09": "open_day"}
        assert len(files(root)) == 1
        assert entry.table().drop_columns(UNLIKE).equals(lived_table(data).drop_columns(UNLIKE))
        assert store.explain(SYMBOL, at(1), at(2), SET)[0]["cause"] == "open_day"


def test_verify_finds_what_was_stored_wrong(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        for set_id in ("lob_shared_v1", "lob_shared_v2"):
            store.get_or_compute(SYMBOL, at(0), at(2), set_id)
        assert store.verify() == {"checked": 4, "equal": 4, "different": [], "hot": [], "left_out": 0}
        one, two = (store.explain(SYMBOL, at(day), at(day + 1), "lob_shared_v1")[0] for day in (0, 1))
        shutil.copy(root / two["path"], root / one["path"])
        manifest = sqlite3.connect(root / "manifest.sqlite")
        text = "SELECT bytes, checksum FROM manifest WHERE key = ?"
        told = manifest.execute(text, (two["key"],)).fetchone()
        manifest.execute("UPDATE manifest SET bytes = ?, checksum = ? WHERE key = ?", (*told, one["key"]))
        manifest.commit()
        manifest.close()
        assert store.verify()["different"] == [one["path"]]
        assert store.explain(SYMBOL, at(0), at(1), "lob_shared_v1")[0]["cause"] == "corrupt"


def test_raw_files_that_change_are_other_data(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        before = whole(store)
        stored.flip(data.files[0].path, HEADER_BYTES + 64 * 20 + 8)
        after = whole(store)
        assert after.keys["2024-01-08"] != before.keys["2024-01-08"]
        assert after.days["2024-01-08"] == "miss"


def test_files_are_ordinary_parquet_with_everything_in_their_footer(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        entry = whole(store)
        path = root / store.explain(SYMBOL, at(0), at(1), SET)[0]["path"]
        assert path.parts[-4:] == ("stored_v1", SYMBOL, "2024-01-08", f"{entry.keys['2024-01-08']}.parquet")
        table = pq.read_table(path, page_checksum_verification=True)
        assert table.schema.names == [*table_schema(SET).names, "@clock_ns"]
        assert b"featureplane.store" in table.schema.metadata
        assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"


def test_a_set_of_many_features_is_stored(data: fp.Dataset, root: Path) -> None:
    """More than 64: masks are no integers then."""
    fset = fp.FeatureSet("wide", features={f"ema{n}": k.ema(k.spread(), span=n + 2) for n in range(70)})
    with fp.FeatureStore(root, data) as store:
        first = whole(store, fset=fset).table()
        assert first.schema == table_schema(fset)
        assert whole(store, fset=fset).table().equals(first)
        assert store.fsck().clean
        assert store.stats()["hot_days"] == 2


# -- what is refused


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("2024-01-08T00:00", at(1), "no time zone"),
        (datetime(2024, 1, 8), at(1), "no time zone"),  # noqa: DTZ001 - naive on purpose
        (at(1), at(0), "before start"),
        ("yesterday", at(1), "start='yesterday'"),
        (1, at(1), "start=1"),
    ],
)
def test_instants_that_cannot_be_meant(data: fp.Dataset, root: Path, start: Any, end: Any, says: str) -> None:
    with fp.FeatureStore(root, data) as store, pytest.raises(SettingError, match=says) as caught:
        store.get_or_compute(SYMBOL, start, end, SET)
    assert caught.value.hint


def test_instants_in_every_form(data: fp.Dataset, root: Path) -> None:
    start, end = pd.Timestamp(MONDAY_NS, tz="Asia/Tokyo"), pd.Timestamp(MONDAY_NS + DAY_NS - 1, tz="UTC")
    with fp.FeatureStore(root, data) as store:
        entry = store.get_or_compute(SYMBOL, start, end, SET)
        assert (entry.request.start_ns, entry.request.end_ns) == (MONDAY_NS, MONDAY_NS + DAY_NS - 1)
        nothing = store.get_or_compute(SYMBOL, start, start, SET)
        assert len(nothing) == len(nothing.to_polars()) == len(nothing.scan().collect()) == 0
        assert nothing.days == {}


def test_what_is_not_there_is_named(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        with pytest.raises(UnknownSymbol) as symbol:
            store.get_or_compute("NOBODY", at(0), at(1), SET)
        assert SYMBOL in (symbol.value.hint or "")
        with pytest.raises(UnknownFeatureSet):
            store.get_or_compute(SYMBOL, at(0), at(1), "nothing_v1")
        with pytest.raises(MissingDay, match="2024-01-10") as day:
            store.get_or_compute(SYMBOL, at(0), at(3), SET)
        assert day.value.hint
    with pytest.raises(SettingError, match="without data"):
        fp.FeatureStore(root).get_or_compute(SYMBOL, at(0), at(1), SET)


def test_a_newer_root_is_refused(data: fp.Dataset, root: Path) -> None:
    root.mkdir()
    newer = sqlite3.connect(root / "manifest.sqlite")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StoreError, match="format 99") as caught:
        fp.FeatureStore(root, data)
    assert "newer" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "limits",
    [{"hot_tier": 1}, {"compression_level": 99}, {"max_cache_size_gb": "50"}, {"retention_days": -1}],
)
def test_limits_that_are_none(root: Path, limits: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        fp.FeatureStore(root, limits=limits)
    assert caught.value.hint


def test_the_environment_says_where_and_how_long(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setenv("FEATURE_STORE_PATH", str(root))
    monkeypatch.setenv("FEATURE_CACHE_RETENTION_DAYS", "3")
    store = fp.FeatureStore()
    assert store.root == root
    assert store._root.limits.retention_days == 3
    store.close()
    monkeypatch.setenv("FEATURE_CACHE_RETENTION_DAYS", "three")
    with pytest.raises(SettingError, match="RETENTION_DAYS='three'"):
        fp.FeatureStore()
