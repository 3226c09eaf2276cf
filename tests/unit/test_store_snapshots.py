"""The manifest for people who query with DuckDB: of one moment, whole, readable while the store writes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import duckdb
import pytest

import featureplane as fp
from featureplane.errors import SettingError, StoreError
from featureplane.research.store.manifest import Row
from tests import stored
from tests.stored import OTHER, SET, SYMBOL, TRADES, at, whole

READER = """
import json, sys, pathlib
import duckdb
path, stop = sys.argv[1], pathlib.Path(sys.argv[2])
seen, bad, last = [], [], False
print("ready", flush=True)
while not last:
    last = stop.exists()
    with duckdb.connect(path, read_only=True) as one:
        counts = "SELECT count(*), count(DISTINCT key), sum(bytes) FROM manifest"
        days, keys, size = one.execute(counts).fetchone()
        taken = one.execute("SELECT taken_ns FROM snapshot").fetchall()
        if days != keys or len(taken) != 1 or (days and not size):
            bad.append([days, keys, size, len(taken)])
    seen.append([taken[0][0], days])
print(json.dumps({"seen": seen, "bad": bad}))
"""


@pytest.fixture
def data(tmp_path: Path) -> fp.Dataset:
    return stored.dataset(tmp_path / "raw", 4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def rows(path: Path, query: str = "SELECT * FROM manifest ORDER BY key") -> list[tuple[object, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_a_snapshot_has_what_the_manifest_has(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        empty = store.snapshot()
        assert rows(empty) == []
        whole(store)
        store.warm([SYMBOL], at(0), at(1), SET)
        assert store.snapshot() == empty == root / "manifest.duckdb"
        assert store._root.manifest is not None
        told = [tuple(row) for row in store._root.manifest.rows(order="key")]
    assert rows(empty) == told
    assert len(told) == 2
    names = [str(name) for (name,) in rows(empty, "SELECT name FROM pragma_table_info('manifest')")]
    assert names == list(Row._fields)
    assert sorted(path.name for path in root.glob("*duckdb*")) == ["manifest.duckdb"]
    assert not list(root.glob(".manifest.duckdb*"))
    assert not empty.stat().st_mode & 0o222


def test_it_can_be_queried_while_the_store_writes(data: fp.Dataset, root: Path, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    with fp.FeatureStore(root, data) as store:
        path = store.snapshot()
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(path), str(stop)], stdout=subprocess.PIPE, text=True
        )
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for fset in (SET, OTHER, TRADES):
            for day in range(4):
                store.get_or_compute(SYMBOL, at(day), at(day + 1), fset)
                store.snapshot()
        stop.touch()
        told = json.loads(reader.communicate(timeout=60)[0])
    assert reader.returncode == 0
    assert told["bad"] == []
    assert told["seen"] == sorted(told["seen"])
    assert told["seen"][-1][1] == 12
    assert len({days for _, days in told["seen"]}) > 1


def test_the_queries_of_the_page(data: fp.Dataset, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "concepts" / "store.md"
    (block,) = re.findall(r"```sql\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    attach, sums, taken, _ = block.split(";")
    before = datetime.now(UTC)
    with fp.FeatureStore(root, data) as store:
        whole(store)
        size = store.stats()["bytes"]
        store.snapshot()
    monkeypatch.chdir(root)
    with duckdb.connect() as connection:
        connection.execute(attach)
        assert connection.execute(sums).fetchall() == [(SYMBOL, 2, size)]
        (utc,) = connection.execute(taken).fetchall()[0]
    taken_at = utc.replace(tzinfo=UTC)
    assert before - timedelta(milliseconds=1) <= taken_at <= datetime.now(UTC)


def test_who_has_a_snapshot_open_keeps_it(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        path = store.snapshot()
        with duckdb.connect(str(path), read_only=True) as opened:
            whole(store)
            store.snapshot()
            assert opened.execute("SELECT count(*) FROM manifest").fetchall() == [(0,)]
        assert rows(path, "SELECT count(*) FROM manifest") == [(2,)]


def test_what_a_dead_process_left_is_swept(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        left = [root / f".manifest.duckdb.aa.part{ending}" for ending in ("", ".wal")]
        for path in left:
            path.write_bytes(b"torn")
            os.utime(path, ns=(1, 1))
        assert store.fsck(repair=True).torn == [path.name for path in left]
        assert not any(path.exists() for path in left)
        store.snapshot()
        assert store.fsck().clean


def test_a_snapshot_that_cannot_be_taken(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        with patch.dict(sys.modules, {"duckdb": None}), pytest.raises(SettingError, match="duckdb"):
            store.snapshot()
        before = store.snapshot().read_bytes()
        with (
            patch.object(Path, "replace", side_effect=OSError(28, "No space left on device")),
            pytest.raises(StoreError, match="No space left"),
        ):
            store.snapshot()
        assert (root / "manifest.duckdb").read_bytes() == before
        assert not list(root.glob(".manifest.duckdb*"))
        assert store.leases() == []
        store._root.lose(OSError("gone"))
        with pytest.raises(StoreError, match="cannot be written"):
            store.snapshot()
