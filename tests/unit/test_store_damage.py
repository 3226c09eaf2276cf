"""What goes wrong under the store: a full disk, files torn, flipped or gone, a manifest that is damaged."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import warnings
from pathlib import Path
from unittest.mock import Mock

import pytest

import featureplane as fp
from featureplane.clock import SystemClock
from tests import stored
from tests.stored import OTHER, SET, SYMBOL, at, whole


@pytest.fixture
def data(tmp_path: Path) -> fp.Dataset:
    return stored.dataset(tmp_path / "raw")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def files(root: Path) -> list[Path]:
    return sorted(root.glob("*/*/*/*.parquet"))


def test_a_root_that_cannot_be_written_computes_and_says_so_once(
    data: fp.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    with caplog.at_level(logging.WARNING), fp.FeatureStore(in_the_way / "root", data) as store:
        assert store.read_only
        for _ in range(2):
            assert set(whole(store).days.values()) == {"read_only"}
        assert len(whole(store).table()) > 100
        assert store.stats()["requests"]["read_only"] == 6
        assert store.explain(SYMBOL, at(0), at(1), SET)[0]["cause"] == "read_only"
        assert store.fsck().clean
    assert len(caplog.records) == 1


def test_a_full_disk_computes_and_stores_nothing(
    data: fp.Dataset, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Mock(side_effect=OSError(28, "No space left on device"))
    with fp.FeatureStore(root, data) as store:
        monkeypatch.setattr(os, "fsync", full)
        assert set(whole(store).days.values()) == {"read_only"}
        assert len(whole(store).table()) > 100
    assert files(root) == []
    assert list(root.rglob("*.part")) == []


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.6, 0.9, 0.97, 0.9999])
def test_a_flipped_bit_in_a_file_never_reaches_a_reader(
    data: fp.Dataset, root: Path, part: float, caplog: pytest.LogCaptureFixture
) -> None:
    with fp.FeatureStore(root, data) as store:
        expected = whole(store).table()
        for path in files(root):
            stored.flip(path, int(part * path.stat().st_size), 0x20)
        entry = whole(store)
        assert entry.table().equals(expected)
        assert set(entry.days.values()) == {"corrupt"}
        assert store.stats()["requests"]["corrupt"] == 2
        assert len(list((root / ".quarantine").iterdir())) == 2
        assert whole(store).table().equals(expected)
        assert store.fsck().clean
    assert "damaged" in caplog.text


def test_a_flipped_bit_in_a_mapped_file_never_reaches_a_reader(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        expected = whole(store).table()
        store.warm([SYMBOL], at(0), at(2), SET)
    for path in (root / ".hot").iterdir():
        stored.flip(path, path.stat().st_size // 2)
    with fp.FeatureStore(root, data) as store:
        assert whole(store).table().equals(expected)


@pytest.mark.parametrize("size", [0, 100])
def test_a_torn_file_never_reaches_a_reader(data: fp.Dataset, root: Path, size: int) -> None:
    with fp.FeatureStore(root, data) as store:
        expected = whole(store).table()
        for path in files(root):
            os.truncate(path, size)
        entry = whole(store)
        assert set(entry.days.values()) == {"corrupt"}
        assert entry.table().equals(expected)


def test_a_file_that_is_gone_is_computed_again(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        expected = whole(store).table()
        for path in files(root):
            path.unlink()
        assert whole(store).table().equals(expected)
        assert len(files(root)) == 2


@pytest.mark.parametrize("place", [0, 20, 100, 5_000, 9_000])
def test_a_damaged_manifest_is_made_anew(data: fp.Dataset, root: Path, place: int) -> None:
    with fp.FeatureStore(root, data) as store:
        expected = whole(store).table()
    manifest = root / "manifest.sqlite"
    with manifest.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"\xa5" * 64)
    with fp.FeatureStore(root, data) as store:
        assert whole(store).table().equals(expected)
        store.fsck(repair=True)
        assert store.fsck().clean
        assert set(whole(store).days.values()) == {"hit"}


@pytest.mark.parametrize("drop_table", [False, True])
def test_a_manifest_that_is_damaged_while_it_is_open(
    data: fp.Dataset, root: Path, *, drop_table: bool
) -> None:
    with fp.FeatureStore(root, data) as store:
        expected = whole(store).table()
        manifest = root / "manifest.sqlite"
        if drop_table:
            with contextlib.closing(sqlite3.connect(manifest)) as other:
                other.execute("DROP TABLE manifest")
        else:
            with contextlib.closing(sqlite3.connect(manifest)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with manifest.open("r+b") as stream:
                for page in range(manifest.stat().st_size // 4096):
                    stream.seek(4096 * page + 100 * (page == 0))
                    stream.write(b"\xa5" * 64)
        store._root.used("nothing")  # a write makes it read its pages again
        store._root.flush()
        assert store._fetcher is not None
        store._fetcher.forget()
        assert whole(store).table().equals(expected)
        assert set(whole(store).days.values()) == {"hit"}
        assert store.fsck().clean


def test_the_manifest_can_be_made_anew_from_the_files(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        whole(store)
        before = store.explain(SYMBOL, at(0), at(1), SET)
    for path in root.glob("manifest.sqlite*"):
        path.unlink()
    with fp.FeatureStore(root, data) as store:
        assert store.stats()["days"] == 0
        assert not store.fsck().clean
        assert store.rebuild_manifest() == 2
        assert store.fsck().clean
        assert set(whole(store).days.values()) == {"hit"}
        after = store.explain(SYMBOL, at(0), at(1), SET)
    same = ("key", "rows", "bytes", "path")
    assert [after[0][name] for name in same] == [before[0][name] for name in same]


def test_fsck_finds_and_mends(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        store.warm([SYMBOL], at(0), at(2), SET)
        whole(store, fset=OTHER)
        ours = sorted((root / "stored_v1").glob("*/*/*.parquet"))
        others = sorted((root / "stored_v2").glob("*/*/*.parquet"))
        stored.flip(ours[0], 1_000)
        ours[1].unlink()
        stray = root / ".hot" / "stray.arrow"
        stray.write_bytes(b"")
        part = others[0].with_name(f".{others[0].name}.aa.part")
        part.write_bytes(b"torn")
        os.utime(part, ns=(1, 1))
        manifest = sqlite3.connect(root / "manifest.sqlite")
        manifest.execute("DELETE FROM manifest WHERE path LIKE 'stored_v2/%' AND day = '2024-01-08'")
        manifest.execute("INSERT INTO leases VALUES ('gone', 'nobody:1', 7, 1, 1, 0)")
        manifest.commit()
        manifest.close()
        found = store.fsck()
        assert [len(getattr(found, name)) for name in ("damaged", "missing_files", "missing_rows")] == [
            1,
            1,
            1,
        ]
        assert [len(getattr(found, name)) for name in ("torn", "hot", "leases")] == [1, 1, 1]
        assert not found.mended
        store.fsck(repair=True)
        assert store.fsck().clean
        assert store.stats()["days"] == 2
        assert set(whole(store, fset=OTHER).days.values()) == {"hit"}


def test_a_full_disk_is_tried_again_after_a_while(
    data: fp.Dataset, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Skipping(SystemClock):
        """A clock that can be moved."""

        skipped_ns = 0

        def monotonic_ns(self) -> int:
            return super().monotonic_ns() + self.skipped_ns

    clock = Skipping()
    with fp.FeatureStore(root, data, clock=clock) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
            assert set(whole(store).days.values()) == {"read_only"}
        assert store.read_only
        clock.skipped_ns = 61_000_000_000
        assert set(whole(store).days.values()) == {"miss"}


def test_a_fork_has_a_connection_of_its_own(data: fp.Dataset, root: Path) -> None:
    with fp.FeatureStore(root, data) as store:
        whole(store)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are threads, which the child does not use
            child = os.fork()
        if not child:
            os._exit(0 if set(whole(store).days.values()) == {"hit"} else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert set(whole(store).days.values()) == {"hit"}
        assert store.fsck().clean
