"""A store whose days lie on object storage: moto's server on loopback, which is an emulator."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane.cli.app import main
from featureplane.errors import SettingError, StoreError
from featureplane.research.backfill.run import Backfill
from featureplane.research.store.bucket import Bucket
from featureplane.research.store.places import place_of
from tests import buckets, stored
from tests.contract import project
from tests.integration.test_store_crashes import steps
from tests.prometheus import free_port
from tests.stored import OTHER, SET, SYMBOL, at, flip, whole
from tests.unit.test_backfill import DATES

ROOT = f"s3://{buckets.BUCKET}/a/store"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with buckets.object_storage() as address:
        yield address


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    stored.dataset(folder)
    return folder


@pytest.fixture
def data(raw: Path) -> fp.Dataset:
    return fp.Dataset(sorted(raw.glob("*.fpcap")), "capture")


@pytest.fixture(scope="module")
def local(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a store in a folder holds of the same days."""
    root = tmp_path_factory.mktemp("local")
    with fp.FeatureStore(root, fp.Dataset(sorted(raw.glob("*.fpcap")), "capture")) as store:
        whole(store)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("*/*/*/*.parquet")}


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """The objects of the store, none yet."""
    buckets.use(monkeypatch, server, tmp_path / "machine")
    found = Bucket(ROOT, server)
    for one in found.all():
        found.delete(one.path)
    return found


def days(bucket: Bucket) -> dict[str, bytes]:
    return {one.path: bucket.read(one.path).to_pybytes() for one in bucket.all() if one.path[0] != "."}


def spoil(bucket: Bucket, path: str, tmp_path: Path) -> None:
    """One byte of an object becomes another."""
    part = tmp_path / "part"
    part.write_bytes(bucket.read(path).to_pybytes())
    flip(part, 1_000, 0x20)
    bucket.put(path, part)


def results(entry: fp.StoreEntry) -> set[str]:
    return set(entry.days.values())


def test_days_are_stored_read_and_found_again(
    bucket: Bucket, data: fp.Dataset, local: dict[str, bytes]
) -> None:
    with fp.FeatureStore(ROOT, data, limits={"hot_tier_gb": 0.0}) as store:
        entry = whole(store)
        expected = entry.table()
        assert results(entry) == {"miss"}
        assert entry.to_polars().equals(whole(store).to_polars())
        assert days(bucket) == local
    with fp.FeatureStore(ROOT, data, limits={"hot_tier_gb": 0.0}) as store:
        again = whole(store)
        assert results(again) == {"hit"}
        assert again.table().equals(expected)
        assert again.table(["mid", "seq"]).equals(expected.select(["mid", "seq"]))
        part = store.get_or_compute(SYMBOL, at(0.5005), at(2), SET).table()
        assert 0 < len(part) < len(expected)
        assert again.scan().collect().equals(again.to_polars())
        told = store.stats()
        assert (told["root"], told["days"], told["bytes"]) == (ROOT, 2, sum(map(len, local.values())))
        assert store.fsck().clean
        told = store.verify(sets=[SET])
        assert (told["checked"], told["equal"], told["different"]) == (2, 2, [])
        assert store.rebuild_manifest() == 2


def test_what_is_read_twice_is_mapped_on_this_machine(bucket: Bucket, data: fp.Dataset) -> None:
    with fp.FeatureStore(ROOT, data) as store:
        assert store.warm([SYMBOL], at(0), at(2), SET) == {"warm": 2}
        assert len(list((store.root / ".hot").glob("*.arrow"))) == 2
        expected = whole(store).table()
        for path in days(bucket):
            bucket.delete(path)
        assert whole(store).table().equals(expected)
        assert sorted(path.name for path in store.root.glob("*/*/*/*.parquet")) == []


@pytest.mark.parametrize("how", ["asked", "fsck", "rebuilt"])
def test_another_machine_finds_what_is_there(
    how: str, bucket: Bucket, data: fp.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fp.FeatureStore(ROOT, data) as store:
        expected = whole(store).table()
    before = days(bucket)
    monkeypatch.setenv("FEATURE_STORE_LOCAL_PATH", str(tmp_path / "another"))
    with fp.FeatureStore(ROOT, data) as store:
        assert store.stats()["days"] == 0
        if how == "fsck":
            assert len(store.fsck(repair=True).missing_rows) == 2
        elif how == "rebuilt":
            assert store.rebuild_manifest() == 2
    with fp.FeatureStore(ROOT, data) as store:
        entry = whole(store)
        assert results(entry) == {"hit"}
        assert entry.table().equals(expected)
        assert store.fsck().clean
    assert days(bucket) == before


def test_a_damaged_object_never_reaches_a_reader(bucket: Bucket, data: fp.Dataset, tmp_path: Path) -> None:
    with fp.FeatureStore(ROOT, data, limits={"hot_tier_gb": 0.0}) as store:
        expected, right = whole(store).table(), days(bucket)
        first, second = right
        spoil(bucket, first, tmp_path)
        bucket.delete(second)
        entry = whole(store)
        assert entry.table().equals(expected)
        assert results(entry) == {"corrupt"}
        assert days(bucket) == right
        assert len([one for one in bucket.all() if one.path.startswith(".quarantine/")]) == 1
        spoil(bucket, first, tmp_path)
        assert store.fsck().damaged == [first]
        assert store.fsck(repair=True).mended
        assert store.fsck().clean
        assert list(days(bucket)) == [second]
        assert whole(store).table().equals(expected)
        assert days(bucket) == right


def test_what_another_machine_stored_in_other_bytes_is_taken(
    bucket: Bucket, data: fp.Dataset, tmp_path: Path
) -> None:
    with fp.FeatureStore(ROOT, data) as store:
        expected = whole(store).table()
    first = next(iter(days(bucket)))
    with fp.FeatureStore(tmp_path / "level", data, limits={"compression_level": 19}) as other:
        whole(other)
        bucket.put(first, tmp_path / "level" / first)
    theirs = days(bucket)
    with fp.FeatureStore(ROOT, data) as store:
        assert whole(store).table().equals(expected)
        assert store.fsck().clean
    assert days(bucket) == theirs


@pytest.mark.parametrize("step", steps(objects=True))
def test_killed_at_a_step(
    step: str, bucket: Bucket, raw: Path, data: fp.Dataset, local: dict[str, bytes]
) -> None:
    command = [sys.executable, "-m", "tests.store_worker", "die_at", ROOT, str(raw), step, "1"]
    ended = subprocess.run(command, cwd=project.ROOT, capture_output=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(days(bucket)) == (step == "uploaded")
    with fp.FeatureStore(ROOT, data) as store:
        assert store.stats()["days"] == 0
        came = list(whole(store).days.values())
        assert came == ["hit" if step == "uploaded" else "miss", "miss"]
        store.fsck(repair=True)
        assert store.fsck().clean
    assert days(bucket) == local


def test_two_processes_compute_a_day_once(bucket: Bucket, raw: Path) -> None:
    begin = time.time_ns() + 2_000_000_000
    command = [sys.executable, "-m", "tests.store_worker", "ask", ROOT, str(raw), str(begin)]
    both = [subprocess.Popen(command, cwd=project.ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [json.loads(one.communicate(timeout=60)[0]) for one in both]
    assert sorted(one["result"] for one in told) in (["coalesced", "miss"], ["hit", "miss"])
    assert told[0]["rows"] == told[1]["rows"] > 100
    assert len(days(bucket)) == 1


def test_what_is_read_stays_and_the_rest_goes(bucket: Bucket, data: fp.Dataset) -> None:
    with fp.FeatureStore(ROOT, data, limits={"hot_tier_gb": 0.0}) as store:
        whole(store)
        entry = store.get_or_compute(SYMBOL, at(0), at(1), SET)
        assert store.clear() == 1
        assert len(days(bucket)) == 1
        assert len(entry.table()) > 100
        del entry
        assert store.clear() == 1
        assert days(bucket) == {}
        assert list((store.root / ".reading").iterdir()) == []
        assert store.explain(SYMBOL, at(0), at(1), SET)[0]["cause"] == "evicted"
    size = sum(map(len, days(bucket).values()))
    with fp.FeatureStore(ROOT, data, limits={"max_cache_size_gb": 0.0001, "hot_tier_gb": 0.0}) as small:
        for fset in (SET, OTHER):
            whole(small, fset=fset)
        size = sum(map(len, days(bucket).values()))
        assert 0 < size <= small._root.limits.bytes_max
        assert small.stats()["bytes"] == size


def test_storage_that_does_not_answer_any_more_damages_nothing(
    bucket: Bucket, data: fp.Dataset, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fp.FeatureStore(ROOT, data, limits={"hot_tier_gb": 0.0}) as store:
        expected = whole(store).table()
        entry = whole(store)
        shelf: Any = store._root.shelf
        nobody = f"http://127.0.0.1:{free_port()}"
        with monkeypatch.context() as patch:
            patch.setattr(shelf._bucket, "_fs", shelf._bucket._fs.__class__(**_to(nobody)))
            with caplog.at_level(logging.WARNING):
                assert entry.table().equals(expected)
            assert results(entry) == {"read_only"}
            assert whole(store).table().equals(expected)
            assert store.stats()["requests"]["corrupt"] == 0
            with pytest.raises(StoreError, match="s3://"):
                store.fsck(repair=True)
        assert "cannot be read now" in caplog.text
    with fp.FeatureStore(ROOT, data) as store:
        assert results(whole(store)) == {"hit"}
        assert store.fsck().clean
    assert len(days(bucket)) == 2


def test_storage_that_takes_nothing_is_computed_without(
    bucket: Bucket, data: fp.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fp.FeatureStore(ROOT, data) as store, buckets.refusing() as refusing:
        shelf: Any = store._root.shelf
        with monkeypatch.context() as patch:
            patch.setattr(shelf._bucket, "_fs", shelf._bucket._fs.__class__(**_to(refusing)))
            entry = whole(store)
            assert results(entry) == {"read_only"}
            assert len(entry.table()) > 100
        assert (days(bucket), store.stats()["days"]) == ({}, 0)
        assert list((store.root / ".parts").glob("*")) == []
        assert store._root.leases.all() == []


def _to(address: str) -> dict[str, Any]:
    return {"endpoint_override": address.removeprefix("http://"), "scheme": "http", "connect_timeout": 1}


def test_a_backfill_gives_the_same_root_hash(
    bucket: Bucket, data: fp.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on another machine, which finds one day there and computes the other."""

    def made(root: str | Path, **options: Any) -> Any:
        return Backfill(data, [SYMBOL], DATES[:2], SET, root=root, **options).run()

    here = made(tmp_path / "here", workers=1)
    there = made(ROOT, workers=2)
    assert (there.root_hash, there.computed) == (here.root_hash, 2)
    bucket.delete(next(iter(days(bucket))))
    monkeypatch.setenv("FEATURE_STORE_LOCAL_PATH", str(tmp_path / "another"))
    again = made(ROOT, workers=1)
    assert (again.root_hash, again.computed, again.stored) == (here.root_hash, 1, 1)
    assert len(days(bucket)) == 2


def test_at_the_shell(bucket: Bucket, data: fp.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    with fp.FeatureStore(ROOT, data) as store:
        whole(store)
    assert main(["store", "status", "--root", ROOT, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["root"], told["days"]) == (ROOT, 2)
    assert main(["store", "fsck", "--root", ROOT, "--rebuild-manifest", "--json"]) == 0
    assert main(["store", "status", "--root", f"s3://nobody/{bucket.url[5:]}", "--json"]) == 2
    assert "no bucket 'nobody'" in capsys.readouterr().err


# -- what is refused


def test_a_bucket_that_is_not_there(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    buckets.use(monkeypatch, server, tmp_path)
    with pytest.raises(StoreError, match="no bucket 'nobody'") as caught:
        fp.FeatureStore("s3://nobody/at/home")
    assert "FEATURE_STORE_ENDPOINT" in (caught.value.hint or "")


def test_credentials_that_do_not_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with buckets.refusing() as address:
        buckets.use(monkeypatch, address, tmp_path)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        with pytest.raises(StoreError, match="refused") as caught:
            fp.FeatureStore(ROOT)
    assert "AWS_ACCESS_KEY_ID" in (caught.value.hint or "")


def test_an_endpoint_where_nobody_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    buckets.use(monkeypatch, f"http://127.0.0.1:{free_port()}", tmp_path)
    with pytest.raises(StoreError, match="does not answer") as caught:
        fp.FeatureStore(ROOT)
    assert "FEATURE_STORE_ENDPOINT" in (caught.value.hint or "")


def test_an_endpoint_that_says_nothing_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("featureplane.research.store.bucket._ANSWER_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        buckets.use(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path)
        began = time.monotonic()
        with pytest.raises(StoreError, match="does not answer"):
            fp.FeatureStore(ROOT)
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "root", ["s3://", "s3://B", "s3:/one/slash", "s3://bucket//twice", "s3://bucket/../up", "gs://bucket/x"]
)
def test_roots_that_cannot_be_meant(root: str) -> None:
    with pytest.raises(SettingError) as caught:
        fp.FeatureStore(root)
    assert "s3://BUCKET/PREFIX" in (caught.value.hint or "")


def test_an_endpoint_that_cannot_be_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    buckets.use(monkeypatch, "127.0.0.1:9000", tmp_path)
    with pytest.raises(SettingError, match="FEATURE_STORE_ENDPOINT"):
        fp.FeatureStore(ROOT)


def test_each_root_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    buckets.use(monkeypatch, "http://127.0.0.1:9000", tmp_path)
    places = [place_of(root) for root in (ROOT, f"{ROOT}/", f"{ROOT}2", "s3://features")]
    assert places[0] == places[1]
    assert len({place.folder for place in places}) == 3
    assert {place.folder.parent for place in places} == {tmp_path}
    monkeypatch.setenv("FEATURE_STORE_ENDPOINT", "http://127.0.0.1:9001")
    assert place_of(ROOT).folder != places[0].folder
    monkeypatch.setenv("FEATURE_STORE_PATH", ROOT)
    assert place_of(None) == place_of(ROOT)
    assert place_of(tmp_path).folder == tmp_path
