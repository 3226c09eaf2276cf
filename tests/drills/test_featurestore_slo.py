"""Drill: the store's objective is missed, for causes that the page names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

import featureplane as fp
from featureplane.research.store.manifest import MANIFEST_NAME
from tests import stored
from tests.binance_render import Way, rendered
from tests.drills.page import Page
from tests.incidents import record
from tests.integration.test_service_web import get
from tests.integration.test_store_panels import serving
from tests.stored import SYMBOL, at, flip

SET = "lob_shared_v1"
DAYS = {"2024-08-08T00:00Z": at(0), "2024-08-09T00:00Z": at(2)}


@contextmanager
def scene(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
) -> Iterator[tuple[Page, Path, fp.Dataset]]:
    """The page, with a catalogue of two days and an exporter of the store that the environment names."""
    root, raw = tmp_path / "root", tmp_path / "raw"
    patch.setenv("FEATURE_STORE_PATH", str(root))
    data = stored.dataset(raw)
    root.mkdir()
    files = "".join(f'[[file]]\npath = "{path.name}"\n' for path in sorted(raw.glob("*.fpcap")))
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


def asked(data: fp.Dataset) -> pa.Table:
    """Somebody asks for both days."""
    with fp.FeatureStore(data=data) as store:
        return store.get_or_compute(SYMBOL, at(0), at(2), SET).table()


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
        page.run("store cleanup")
        page.run("store verify", **{"catalogue.toml": str(catalogue)})


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
        flip(paths[0], paths[0].stat().st_size // 3)
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
