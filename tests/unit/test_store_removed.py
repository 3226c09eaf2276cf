"""Days that go while somebody asks for them: gone is not damaged, and what was stored anew stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import featureplane as fp
from tests import stored
from tests.stored import SET, SYMBOL, at, whole


@pytest.fixture
def data(tmp_path: Path) -> fp.Dataset:
    return stored.dataset(tmp_path / "raw")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def once(step: str, then: Callable[[], None]) -> Callable[[str], None]:
    """Do something when a step is reached for the first time."""
    seen: list[str] = []

    def reached(name: str) -> None:
        seen.append(name)
        if name == step and seen.count(name) == 1:
            then()

    return reached


def first(store: fp.FeatureStore) -> fp.StoreEntry:
    return store.get_or_compute(SYMBOL, at(0), at(1), SET)


@pytest.mark.parametrize("remove", [fp.FeatureStore.clear, fp.FeatureStore.evict])
def test_what_goes_under_a_reader_is_a_miss_and_not_damaged(
    data: fp.Dataset, root: Path, remove: Callable[[fp.FeatureStore], object]
) -> None:
    """Between a file's end and that of its row."""
    with fp.FeatureStore(root, data) as reader:
        expected = first(reader).table()
        entries: list[fp.StoreEntry] = []
        reached = once("removed", lambda: entries.append(first(reader)))
        limits = {"max_cache_size_gb": 0.0001, "cleanup_threshold": 0.01}
        with fp.FeatureStore(root, data, on_step=reached, limits=limits) as other:
            remove(other)
        assert [entry.days for entry in entries] == [{"2024-01-08": "miss"}]
        assert entries[0].table().equals(expected)
        counted = reader.stats()
        assert (counted["requests"]["corrupt"], counted["misses"]["evicted"]) == (0, 1)
        assert counted["days"] == 1  # stored anew, and nobody took that for the old one
        assert not (root / ".quarantine").exists()
        assert reader.fsck().clean


def test_a_reader_between_the_mark_and_the_removal_reads(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as reader:
        expected = first(reader).table()
        entries: list[fp.StoreEntry] = []
        with fp.FeatureStore(
            root, data, on_step=once("marked", lambda: entries.append(first(reader)))
        ) as other:
            assert other.clear() == 1
        assert [entry.days for entry in entries] == [{"2024-01-08": "hit"}]
        assert entries[0].scan().collect().to_arrow().num_rows == len(expected)  # it has no name any more
        assert entries[0].table().equals(expected)


def test_a_file_that_nobody_may_have_removed_is_lost(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        expected = first(store).table()
        next(root.glob("*/*/*/*.parquet")).unlink()
        assert first(store).days == {"2024-01-08": "corrupt"}
        assert first(store).table().equals(expected)


def test_a_day_stored_anew_is_not_removed_for_the_old_one(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store, fp.FeatureStore(root, data) as other:
        first(store)
        old = store._root.written.rows()[0]
        assert other.clear() == 1
        first(other)
        assert store._root.eviction.drop(old, "cleared") == 0
        store._root.discard(old)
        assert first(store).days == {"2024-01-08": "hit"}
        assert not (root / ".quarantine").exists()


def test_many_readers_of_one_damaged_file_put_it_aside_once(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store, fp.FeatureStore(root, data) as other:
        expected = first(store).table()
        stored.flip(next(root.glob("*/*/*/*.parquet")), 1_000)
        entries = [first(store), first(other)]
        assert all(entry.table().equals(expected) for entry in entries)
        assert len(list((root / ".quarantine").iterdir())) == 1
        assert first(store).days == {"2024-01-08": "hit"}


def test_a_day_just_computed_can_be_scanned(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        entry = whole(store)
        assert set(entry.days.values()) == {"miss"}
        assert len(entry.to_polars()) == len(entry.table())
