"""What is written for the same frames may change; then old files are left alone, neither hit nor damaged."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import featureplane as fp
from featureplane.errors import StoreError
from featureplane.research.store import dayfile, keys
from featureplane.research.store.dayfile import CLOCK, DayFacts
from featureplane.research.store.layout import ROWS_A_GROUP, layout_for
from tests import stored
from tests.stored import SYMBOL, at

SET_ID = "lob_shared_v1"

KNOWN = {3: "fd76d5ef9c536395"}
"""The digest of how days are written in each format, of formats that were written in one way."""


def day(store: fp.FeatureStore) -> fp.StoreEntry:
    return store.get_or_compute(SYMBOL, at(0), at(1), SET_ID)


def an_older_version_wrote(monkeypatch: pytest.MonkeyPatch, root: Path, data: fp.Dataset) -> Path:
    """A root with a day of format 1, written in another way, under a key of its own."""

    def told(facts: DayFacts) -> dict[str, Any]:
        return asdict(facts) | {"format": 1}

    with monkeypatch.context() as patch:
        patch.setattr(keys, "FORMAT_VERSION", 1)
        plain = {"compression": "zstd", "use_dictionary": False, "column_encoding": {CLOCK: "PLAIN"}}
        patch.setattr(dayfile, "layout_for", lambda *_, **__: plain)
        patch.setattr(dayfile, "asdict", told)
        with fp.FeatureStore(root, data) as store:
            day(store)
    (path,) = root.glob("*/*/*/*.parquet")
    return path


def changing(percent: int, rows: int = 1_000) -> npt.NDArray[np.int64]:
    """Values that differ from those before in so many rows of a hundred."""
    return np.cumsum(np.arange(rows) % 100 < percent)


def how(group: pa.Table) -> dict[str, Any]:
    """How a day would be written that begins so; what the version of pyarrow decides left out."""
    told = layout_for(group, changing=CLOCK)
    told.pop("max_rows_per_page", None)
    return told


def test_with_the_layout_the_version_rises() -> None:
    columns: dict[str, Any] = {"symbol": ["A"] * 1_000, "changed_mask": changing(100), CLOCK: changing(1)}
    for percent in range(101):
        columns |= {
            f"i{percent}": changing(percent),
            f"f{percent}": changing(percent).astype(float),
        }
    said = json.dumps([how(pa.table(columns)), ROWS_A_GROUP], sort_keys=True)
    assert {keys.FORMAT_VERSION: hashlib.sha256(said.encode()).hexdigest()[:16]}.items() <= KNOWN.items()


def test_columns_are_written_by_how_often_they_change() -> None:
    seldom, often = changing(20), changing(70)
    missing = pa.array(np.arange(1_000), mask=np.arange(1_000) % 100 > 0)
    columns: dict[str, Any] = {
        "whole": often,
        "seldom": seldom,
        "unsigned": often.astype(np.uint64),
        "code": often.astype(np.uint32),
        "fraction": often.astype(float),
        "seldom_fraction": often.astype(float) // 2,
        "warmup_ready_mask": often,
        "missing": missing,
        CLOCK: seldom,
    }
    group = pa.table(columns)
    whole = "DELTA_BINARY_PACKED"
    assert how(group)["column_encoding"] == {
        "whole": whole,
        "unsigned": whole,
        "code": whole,
        "fraction": "BYTE_STREAM_SPLIT",
        CLOCK: whole,
    }
    assert how(group)["use_dictionary"] == ["warmup_ready_mask"]
    assert how(group.slice(0, 0))["column_encoding"] == {CLOCK: whole}


def test_days_of_an_older_format_are_neither_hit_nor_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = stored.dataset(tmp_path / "raw")
    old = an_older_version_wrote(monkeypatch, tmp_path / "root", data)
    bytes_ = old.read_bytes()
    with fp.FeatureStore(tmp_path / "root", data) as store:
        told = store.explain(SYMBOL, at(0), at(1), SET_ID)[0]
        assert (told["stored"], told["cause"], told["differs"]) == (False, "new_data", ["format"])
        assert store.fsck(repair=True).clean
        assert store.verify() == {"checked": 0, "equal": 0, "different": [], "hot": [], "left_out": 1}
        assert set(day(store).days.values()) == {"miss"}
        assert set(day(store).days.values()) == {"hit"}
        assert len(set((tmp_path / "root").glob("*/*/*/*.parquet")) - {old}) == 1
        assert store.verify()["equal"] == 1
        assert store.rebuild_manifest() == 2
    with fp.FeatureStore(tmp_path / "root", data) as store:
        assert store.fsck().clean
        assert store.stats()["requests"]["corrupt"] == 0
        assert old.read_bytes() == bytes_
        assert store.clear(SYMBOL) == 2


def test_the_bytes_of_an_older_format_are_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else the test above would say nothing."""
    data = stored.dataset(tmp_path / "raw")
    old = an_older_version_wrote(monkeypatch, tmp_path / "old", data)
    with fp.FeatureStore(tmp_path / "new", data) as store:
        day(store)
    (new,) = (tmp_path / "new").glob("*/*/*/*.parquet")
    assert new.name != old.name
    assert new.stat().st_size != old.stat().st_size


@pytest.mark.parametrize("version", [keys.FORMAT_VERSION + 1, "two", None])
def test_a_footer_of_a_newer_format_or_of_none_is_refused(version: Any) -> None:
    facts = DayFacts("k", "s", "f", "A", "2024-01-08", 0, 1, 1, (), "")
    assert DayFacts.from_json(facts.to_json()) == facts
    with pytest.raises(StoreError):
        DayFacts.from_json(json.dumps(asdict(facts) | {"format": version}))


@pytest.mark.parametrize("known", [True, False])
def test_days_of_a_newer_format_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, known: bool
) -> None:
    data, root = stored.dataset(tmp_path / "raw"), tmp_path / "root"
    version = keys.FORMAT_VERSION
    with monkeypatch.context() as patch:
        patch.setattr(keys, "FORMAT_VERSION", version + 1)
        patch.setattr(dayfile, "FORMAT_VERSION", version + 1)
        patch.setattr(dayfile, "asdict", lambda facts: asdict(facts) | {"format": version + 1})
        with fp.FeatureStore(root, data) as store:
            day(store)
    (newer,) = root.glob("*/*/*/*.parquet")
    bytes_ = newer.read_bytes()
    if not known:
        for path in root.glob("manifest.sqlite*"):
            path.unlink()
    with fp.FeatureStore(root, data) as store:
        assert set(day(store).days.values()) == {"miss"}
        for repair in (False, True, False):
            report = store.fsck(repair=repair)
            assert report.clean
            assert report.newer == [str(newer.relative_to(root))]
        assert store.rebuild_manifest() == 1
    assert newer.read_bytes() == bytes_
