"""A day that is opened again: as long as its file is the one it was, nobody looks anything up."""

from __future__ import annotations

from pathlib import Path

import pytest

import featureplane as fp
from featureplane.research.store.manifest import Manifest, Row
from tests import stored
from tests.stored import SET, SYMBOL, at

COLD = {"hot_tier_gb": 0.0}


@pytest.fixture
def data(tmp_path: Path) -> fp.Dataset:
    return stored.dataset(tmp_path / "raw")


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that were looked up in a manifest, by anybody."""
    seen: list[str] = []
    find = Manifest.find

    def noted(self: Manifest, key: str) -> Row | None:
        seen.append(key)
        return find(self, key)

    monkeypatch.setattr(Manifest, "find", noted)
    return seen


def day(store: fp.FeatureStore) -> fp.StoreEntry:
    return store.get_or_compute(SYMBOL, at(0), at(1), SET)


def came(store: fp.FeatureStore) -> str:
    return next(iter(day(store).days.values()))


def is_mapped(entry: fp.StoreEntry) -> bool:
    return entry._pieces[0].mapped is not None


def test_a_day_is_looked_up_once(data: fp.Dataset, tmp_path: Path, looked_up: list[str]) -> None:
    with fp.FeatureStore(tmp_path / "root", data, limits=COLD) as store:
        expected = day(store).table()
        assert came(store) == "hit"
        looked_up.clear()
        again = day(store)
        assert looked_up == []
        assert again.table().equals(expected)
        assert store.stats()["requests"]["hit"] == 2


@pytest.mark.parametrize("how", ["clear", "evict", "quarantine"])
def test_who_removes_a_day_is_seen(data: fp.Dataset, tmp_path: Path, how: str) -> None:
    root = tmp_path / "root"
    with fp.FeatureStore(root, data, limits=COLD) as store, fp.FeatureStore(root, data) as other:
        expected = day(store).table()
        assert [came(store), came(store)] == ["hit", "hit"]
        match how:
            case "clear":
                assert other.clear(SYMBOL) == 1
            case "evict":
                assert other._root.eviction.free(1) > 0
            case _:
                (path,) = root.glob("*/*/*/*.parquet")
                other._root.shelf.quarantine(str(path.relative_to(root)))
        assert came(store) == {"clear": "miss", "evict": "miss"}.get(how, "corrupt")
        assert came(store) == "hit"
        assert day(store).table().equals(expected)


def test_what_was_written_to_is_read_from_no_more(data: fp.Dataset, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with fp.FeatureStore(root, data, limits=COLD) as store:
        expected = day(store).table()
        assert [came(store), came(store)] == ["hit", "hit"]
        (path,) = root.glob("*/*/*/*.parquet")
        stored.flip(path, path.stat().st_size // 2)
        entry = day(store)
        assert entry.table().equals(expected)
        assert entry.days == {"2024-01-08": "corrupt"}


def test_what_another_process_put_into_the_hot_tier_is_read_from_there(
    data: fp.Dataset, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    with fp.FeatureStore(root, data) as store, fp.FeatureStore(root, data) as other:
        day(store)
        came(store)
        other.warm([SYMBOL], at(0), at(1), SET)
        entry = day(store)
        assert not is_mapped(entry)
        entry.table()
        assert is_mapped(entry)
        assert is_mapped(day(store))
