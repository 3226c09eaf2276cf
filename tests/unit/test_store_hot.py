"""Hot files: who looks for damage reads their bytes, and nobody goes on with one that was dropped."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import featureplane as fp
from featureplane.research.contents import identity_of
from tests import stored
from tests.stored import SET, SYMBOL, at, whole


@pytest.fixture
def data(tmp_path: Path) -> fp.Dataset:
    return stored.dataset(tmp_path / "raw", 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def rot(root: Path, place: float = 0.5) -> str:
    """Flip a bit of one hot file as a disk does: nothing of the file's identity tells; which key."""
    path = min((root / ".hot").glob("*.arrow"))
    stored.flip(path, int((path.stat().st_size - 1) * place))
    manifest = sqlite3.connect(root / "manifest.sqlite")
    with manifest:
        old = manifest.execute("SELECT hot_identity FROM manifest WHERE key = ?", (path.stem,)).fetchone()[0]
        told = ",".join([*map(str, identity_of(path.stat())), old.rpartition(",")[2]])
        manifest.execute("UPDATE manifest SET hot_identity = ? WHERE key = ?", (told, path.stem))
    manifest.close()
    return path.stem


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_fsck_reads_the_bytes_of_hot_files(data: fp.Dataset, root: Path, place: float) -> None:
    with fp.FeatureStore(root, data) as store:
        store.warm([SYMBOL], at(0), at(2), SET)
        assert store.fsck().clean
        key = rot(root, place)
        assert store.fsck().hot == [f".hot/{key}.arrow"]
        assert (root / ".hot" / f"{key}.arrow").exists()
        assert store.fsck(repair=True).hot == [f".hot/{key}.arrow"]
        assert not (root / ".hot" / f"{key}.arrow").exists()
        assert store.fsck().clean
        assert (store.stats()["hot_days"], store.stats()["days"]) == (1, 2)


def test_verify_reads_the_bytes_of_hot_files(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        store.warm([SYMBOL], at(0), at(2), "lob_shared_v1")
        key = rot(root)
        expected = {"checked": 2, "equal": 2, "different": [], "hot": [key], "left_out": 0}
        assert store.verify() == expected
        assert store.verify() == expected | {"hot": []}
        assert store.fsck().clean


def test_a_process_lets_go_of_a_hot_file_that_another_dropped(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store, fp.FeatureStore(root, data) as other:
        expected = whole(store).table()
        store.warm([SYMBOL], at(0), at(2), SET)
        assert whole(store).table().equals(expected)
        rotten = rot(root)
        before = whole(store)
        other.fsck(repair=True)
        after = whole(store)
        assert after.table().equals(expected)
        assert set(after.days.values()) == {"hit"}
        assert rotten in before.keys.values()
        assert not before.table().equals(expected)  # what is open stays what it was


def test_who_writes_into_a_mapped_file_reaches_no_later_request(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        expected = whole(store).table()
        store.warm([SYMBOL], at(0), at(2), SET)
        whole(store)
        for path in (root / ".hot").iterdir():
            stored.flip(path, path.stat().st_size // 2)
        after = whole(store)
        assert after.table().equals(expected)
        assert set(after.days.values()) == {"hit"}
