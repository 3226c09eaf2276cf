"""Drill: the store's objective is missed, for causes that the page names."""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import featureplane as fp
from featureplane.market.sources.capture_layout import HEADER_BYTES
from featureplane.research.store.manifest import MANIFEST_NAME
from tests import stored
from tests.binance_render import Way, rendered
from tests.drills.page import Page
from tests.incidents import record
from tests.integration.test_service_web import get
from tests.integration.test_store_panels import serving
from tests.prometheus import free_port
from tests.stored import SYMBOL, at, flip

SET = "lob_shared_v1"
WARM_ANEW = (
    "store warm BTCUSDT --data catalogue.toml --start 2024-08-08T00:00Z --end 2024-08-09T00:00Z --config"
)
DAYS = {"2024-08-08T00:00Z": at(0), "2024-08-09T00:00Z": at(2)}


@contextmanager
def scene(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    patch: pytest.MonkeyPatch,
    *,
    days: int = 2,
    events: int = 1_500,
) -> Iterator[tuple[Page, Path, fp.Dataset]]:
    """The page, with a catalogue of some days and an exporter of the store that the environment names."""
    root, raw = tmp_path / "root", tmp_path / "raw"
    patch.setenv("FEATURE_STORE_PATH", str(root))
    raw.mkdir()
    batch = stored.lived(days, events)
    data = fp.Dataset(stored.day_files(raw, batch, stored.midnights(batch)), "capture")
    root.mkdir()
    files = "".join(f'[[file]]\npath = "{file.path.name}"\n' for file in data.files)
    (raw / "catalogue.toml").write_text(f'source = "capture"\n{files}', encoding="utf-8")
    with serving(root) as address:
        _until_it_answers(f"http://{address}/metrics")
        yield Page("featurestore-slo", capsys, address=f"http://{address}"), raw / "catalogue.toml", data


def _until_it_answers(url: str) -> None:
    ends = time.monotonic() + 30
    while True:
        try:
            get(url)
        except OSError:
            assert time.monotonic() < ends
            time.sleep(0.05)
        else:
            return


def value(page: Page, series: str) -> float:
    """What the exporter says now."""
    _, body = get(f"{page.address}/metrics")
    found = [line for line in body.decode().splitlines() if line.startswith(f"{series} ")]
    assert len(found) == 1, series
    return float(found[0].rpartition(" ")[2])


def asked(data: fp.Dataset, start: int = 0, end: int = 2, **limits: Any) -> pa.Table:
    """Somebody asks for these days."""
    with fp.FeatureStore(data=data, limits=limits) as store:
        return store.get_or_compute(SYMBOL, at(start), at(end), SET).table()


def each_day(data: fp.Dataset, days: int, limits: dict[str, Any]) -> list[str]:
    """What comes of it when somebody asks for one day after the other."""
    with fp.FeatureStore(data=data, limits=limits) as store:
        entries = [store.get_or_compute(SYMBOL, at(day), at(day + 1), SET) for day in range(days)]
        return [result for entry in entries for result in entry.days.values()]


class Settings:
    """The configuration of the page, which somebody changes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "store.toml"

    def write(self, **limits: float) -> dict[str, Any]:
        """These are the limits from now on."""
        lines = "".join(f"{name} = {value!r}\n" for name, value in limits.items())
        self.path.write_text(f"[feature_store]\n{lines}", encoding="utf-8")
        found: dict[str, Any] = tomllib.loads(self.path.read_text(encoding="utf-8"))["feature_store"]
        return found


def test_misses_are_explained_and_warming_ends_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(tmp_path, capsys, monkeypatch) as (page, catalogue, data):
        names = {"BTCUSDT": SYMBOL, "catalogue.toml": str(catalogue), **DAYS}
        # The symptom: a day is computed while somebody waits.
        assert "new_symbol" in page.look("store explain", **names)
        asked(data)
        _, shown = page.curl("/metrics")
        assert 'featurestore_misses_total{cause="new_symbol"} 2.0' in shown
        page.look("store slo --since 6h")
        # Another set is asked for from now on: what the page says, and its effect.
        page.run("store warm", "--features", "lob_shared_v2", **names)
        page.run("store pin", **({"BTCUSDT": SYMBOL} | DAYS))
        before = value(page, 'featurestore_requests_total{result="miss"}')
        with fp.FeatureStore(data=data) as store:
            store.get_or_compute(SYMBOL, at(0), at(2), "lob_shared_v2").table()
        assert value(page, 'featurestore_requests_total{result="miss"}') == before
        assert value(page, 'featurestore_requests_total{result="hit"}') == 2
        # The recovery.
        assert "no" not in page.run("store explain", **names).split()
        assert page.ask("store status --leases")["leases"] == []
        page.run("store verify", **{"catalogue.toml": str(catalogue)})


def test_data_that_changed_are_named_and_warmed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(tmp_path, capsys, monkeypatch) as (page, catalogue, data):
        names = {"BTCUSDT": SYMBOL, "catalogue.toml": str(catalogue), **DAYS}
        asked(data)
        flip(data.files[0].path, HEADER_BYTES + 64 * 20 + 8)  # somebody sends the day again
        again = fp.Dataset(catalogue)
        log = logging.FileHandler(tmp_path / "research.log")
        logger = logging.getLogger("featureplane.store")
        before = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(log)
        try:
            asked(again)
        finally:
            logger.setLevel(before)
            logger.removeHandler(log)
            log.close()
        # The symptom, in the metrics and in the log of who asked.
        assert value(page, 'featurestore_misses_total{cause="new_data"}') >= 1
        command = "grep -E 'Cache MISS|Cache key .* invalidated|get_or_compute' research.log"
        assert command in page.commands
        found = subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, text=True, check=True)
        kinds = [line.split(" ")[1] for line in found.stdout.splitlines()]
        assert {"MISS", "key"} <= set(kinds)
        assert "(raw)" in found.stdout
        assert ": new_data" in found.stdout
        assert f"get_or_compute {SYMBOL} 2024-01-08 to 2024-01-09 {SET}: " in found.stdout
        # It changes once more, and this time it is warmed before anybody asks.
        flip(data.files[0].path, HEADER_BYTES + 64 * 20 + 8, 2)
        told = page.look("store explain", **names)
        assert "new_data" in told
        assert "raw" in told
        page.run("store warm", **names)
        missed = value(page, 'featurestore_requests_total{result="miss"}')
        asked(fp.Dataset(catalogue))
        assert value(page, 'featurestore_requests_total{result="miss"}') == missed
        page.run("store explain", **names)


def test_a_full_disk_is_seen_and_cleaned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(tmp_path, capsys, monkeypatch, events=8_000) as (page, _, data):
        root, settings = tmp_path / "root", Settings(tmp_path)
        asked(data)
        holds = page.ask("store status")["bytes"]
        fsync, room = os.fsync, sum(one.stat().st_size for one in root.rglob("*.parquet"))

        def full(file: int) -> None:
            """A disk on which no more Parquet has room than there is."""
            if sum(one.stat().st_size for one in root.rglob("*.parquet*")) >= room:
                raise OSError(28, "No space left on device")
            fsync(file)

        monkeypatch.setattr(os, "fsync", full)
        with fp.FeatureStore(data=data) as store:
            entry = store.get_or_compute(SYMBOL, at(0), at(2), "lob_shared_v2")
            assert entry.days == dict.fromkeys(entry.days, "read_only")
            assert len(entry.table()) > 100
        # The symptom.
        _, shown = page.curl("/metrics")
        assert 'featurestore_requests_total{result="read_only"} 2.0' in shown
        ratio = next(line for line in shown.splitlines() if line.startswith("featurestore_disk_used_ratio "))
        assert 0 < float(ratio.rpartition(" ")[2]) <= 1
        # What the page says, and its effect: half of what there is may stay.
        settings.write(max_cache_size_gb=holds / (1 << 30), cleanup_threshold=0.5)
        config = {"store.toml": str(settings.path)}
        assert page.ask("store status --config", **config)["bytes"] == holds
        assert page.ask("store cleanup", **config)["removed"] >= 1
        assert page.ask("store status --config", **config)["bytes"] <= holds / 2
        with fp.FeatureStore(data=data) as store:
            entry = store.get_or_compute(SYMBOL, at(0), at(1), SET)
            assert set(entry.days.values()) <= {"hit", "miss"}, "it is stored again"


def test_a_hot_tier_that_is_too_small_is_seen_and_filled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(tmp_path, capsys, monkeypatch) as (page, catalogue, data):
        settings = Settings(tmp_path)
        names = {"BTCUSDT": SYMBOL, "catalogue.toml": str(catalogue), **DAYS}
        config = {"store.toml": str(settings.path)}
        with fp.FeatureStore(data=data) as store:
            store.warm(SYMBOL, at(0), at(2), SET)
            both = store.stats()["hot_bytes"]
        limits = settings.write(hot_tier_gb=0.6 * both / (1 << 30))
        page.run("store cleanup", **config)
        for _ in range(3):
            asked(data, **limits)
        # The symptom: one day has no room where it would be mapped, and is read each time.
        told = page.ask("store status --config", **config)
        assert both / 3 < told["hot_bytes"] <= told["limits"]["hot_tier_gb"] * (1 << 30) < both
        assert "parquet" in page.run("store explain", **names)
        _, shown = page.curl("/metrics")
        assert f'featurestore_bytes{{tier="hot"}} {float(told["hot_bytes"])}' in shown
        assert value(page, "featurestore_read_seconds_count") >= 3
        assert value(page, 'featurestore_evictions_total{reason="hot"}') >= 3
        # What the page says, and its effect.
        settings.write(hot_tier_gb=2.0)
        page.run(
            WARM_ANEW,
            **names,
            **config,
        )
        assert "parquet" not in page.run("store explain", **names)
        before = value(page, "featurestore_read_seconds_count")
        asked(data)
        assert value(page, "featurestore_read_seconds_count") == before
        # It is the machine that has no memory: the other way round.
        settings.write(hot_tier_gb=0.0)
        page.run("store cleanup", **config)
        assert page.ask("store status --config", **config)["hot_bytes"] == 0


def test_what_is_used_does_not_fit_and_is_pinned_until_it_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    days, last = 20, 4
    with scene(tmp_path, capsys, monkeypatch, days=days, events=3_000) as (page, catalogue, data):
        settings = Settings(tmp_path)
        span = {"BTCUSDT": SYMBOL, "2024-08-08T00:00Z": at(0), "2024-08-09T00:00Z": at(days)}
        names, config = {**span, "catalogue.toml": str(catalogue)}, {"store.toml": str(settings.path)}
        each_day(data, days, {})
        holds = page.ask("store status")["bytes"]
        limits = settings.write(max_cache_size_gb=0.7 * holds / (1 << 30), hot_tier_gb=0.0)
        page.run("store cleanup", **config)
        # The symptom: days push each other out.
        assert each_day(data, days, limits).count("miss") > days / 3
        page.curl("/metrics")
        assert value(page, 'featurestore_misses_total{cause="evicted"}') > days / 3
        assert "evicted" in page.look("store explain", **names)
        told = page.ask("store status --config", **config)
        assert 0.5 < told["bytes"] / (told["limits"]["max_cache_size_gb"] * (1 << 30)) <= 1
        # What must stay is pinned.
        asked(data, start=days - last, end=days, **limits)
        page.run("store pin", **{**span, "2024-08-08T00:00Z": at(days - last)})
        told = page.look("store explain", "--json", **names)
        pinned = [number for number, day in enumerate(json.loads(told)["days"]) if day.get("pinned")]
        assert pinned
        for _ in range(3):
            came = each_day(data, days, limits)
            assert "miss" in came
            assert {came[number] for number in pinned} == {"hit"}
        # With room for all there is no miss any more.
        limits = settings.write(max_cache_size_gb=1.0)
        page.run(WARM_ANEW, **names, **config)
        assert each_day(data, days, limits) == ["hit"] * days
        page.run("store explain", **names)


def test_who_is_blind_sees_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURE_STORE_PATH", str(tmp_path / "root"))
    page, address = Page("featurestore-slo", capsys), f"127.0.0.1:{free_port()}"
    begins = "store serve"
    command = next(one for one in page.commands if one.startswith(f"featureplane {begins}"))
    words = shlex.split(command.replace("127.0.0.1:8000", address))[1:]
    running = subprocess.Popen(
        [sys.executable, "-m", "featureplane", *words, "--json"], stdout=subprocess.PIPE
    )
    try:
        _until_it_answers(f"http://{address}/healthz")
        status, body = get(f"http://{address}/healthz")
        assert (status, json.loads(body)) == (200, {"manifest": "readable"})
        page.address = f"http://{address}"
        _, shown = page.curl("/metrics")
        assert 'featurestore_requests_total{result="hit"} 0.0' in shown, "every series is there, at 0"
    finally:
        running.terminate()
        running.communicate(timeout=60)


def test_a_damaged_day_is_found_healed_and_never_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(tmp_path, capsys, monkeypatch) as (page, _, data):
        right = asked(data)
        paths = sorted((tmp_path / "root").glob(f"{SET}/**/*.parquet"))
        assert len(paths) == 2
        for path in paths:
            flip(path, path.stat().st_size // 3)
        # The symptom: the table is right all the same, and it is counted.
        assert asked(data) == right
        assert value(page, 'featurestore_requests_total{result="corrupt"}') == 2
        page.curl("/metrics")
        flip(paths[0], paths[0].stat().st_size // 3)
        assert str(paths[0].relative_to(tmp_path / "root")) in page.look("store fsck")
        # What the page says, and its effect.
        page.look("store fsck --repair")
        assert page.ask("store fsck --repair")["clean"] is True
        assert asked(data) == right


def test_a_manifest_that_cannot_be_read_is_made_anew_from_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(tmp_path, capsys, monkeypatch) as (page, _, data):
        asked(data)
        assert value(page, "featurestore_manifest_readable") == 1
        for path in (tmp_path / "root").glob(f"{MANIFEST_NAME}*"):
            path.write_bytes(b"no database" * 100)
        assert value(page, "featurestore_manifest_readable") == 0
        page.run("store fsck --rebuild-manifest")
        assert value(page, "featurestore_manifest_readable") == 1
        hits = value(page, 'featurestore_requests_total{result="hit"}')
        asked(data)
        assert value(page, 'featurestore_requests_total{result="hit"}') == hits + 2


def test_frames_that_were_emitted_are_computed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "record"
    record(folder, Way(1, 2).items(rendered(3_000, 1, 2)))
    page = Page("featurestore-slo", capsys)
    found = page.ask("reconcile var/record", **{"var/record": str(folder)})
    assert found["equal"] == found["frames"] > 100
