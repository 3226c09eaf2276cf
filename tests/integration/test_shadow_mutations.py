"""A kernel changed in one line is found by the shadow, named, and shown again by what it prints."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane import native, settings
from featureplane.features.shadow import Shadow, ShadowMode
from featureplane.market.sources.capture import write_capture
from featureplane.market.synthetic import Faults
from scripts.mutations import ROOT, Mutation, mirror, open_workshop, read_list
from tests.parity.streams import V1, synthetic
from tests.shadow import closing, frames, mutated

pytestmark = pytest.mark.skipif(not native.available(), reason="a shadow on the other backend needs both")

CAUGHT = {
    "one coefficient": ("ofi_l1_ema8", 30_000),
    "floor instead of half-even": ("microprice_x2", 30_000),
    "a reset line": ("ofi_l1_cum", 100_000),
}
"""Mutations of either language, a feature that each is found by, and within how many events at 1/256."""

MODES = pytest.mark.parametrize("how", [("sample", 256), ("full", 1)], ids=str)


def _mutation(what: str, end: str) -> Mutation:
    return next(one for one in read_list() if one.what == what and one.file.endswith(end))


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of 100,000 events in which now and then one is missing."""
    path = tmp_path_factory.mktemp("market") / "market.fpcap"
    write_capture(path, synthetic(100_000, seed=17, faults=Faults(gap_book=150_000, gap_trades=0)))
    return path


@MODES
@pytest.mark.parametrize("what", CAUGHT)
def test_a_mutated_kernel_is_found_and_named(
    what: str, how: tuple[ShadowMode, int], market: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    package = mutated(_mutation(what, ".py"), tmp_path)
    _is_found(market, package, ("rust", *how), CAUGHT[what], caplog)


@pytest.mark.soak
@MODES
@pytest.mark.parametrize("what", CAUGHT)
def test_a_mutated_kernel_in_rust_is_found_and_named(
    what: str, how: tuple[ShadowMode, int], market: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    package = _built(_mutation(what, ".rs"), tmp_path)
    _is_found(market, package, ("python", *how), CAUGHT[what], caplog)


def _built(mutation: Mutation, place: Path) -> Path:
    """Where a copy of the package stands whose extension was built with one line changed."""
    with open_workshop() as workshop:
        mirror(ROOT, workshop.tree)
        workshop.build()
        with workshop.changed(mutation):
            _copy(workshop.tree / "src" / "featureplane", place / "featureplane")
    return place


def _copy(source: Path, place: Path) -> None:
    shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__", "sample"))


def _is_found(
    market: Path,
    package: Path,
    how: tuple[str, ShadowMode, int],
    expected: tuple[str, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (live, mode, every), (feature_id, within) = how, expected
    events = fp.read_events(market, "capture", "SYN0")
    ends, found = events.message_ends, list[int]()
    last = package / "last.json"
    shadow = Shadow(mode=mode, sample_every=every, last_path=last, package=package)

    def look(at: int, _: fp.FeatureEngine) -> None:
        if not found and shadow.counts.by_name.get(feature_id):
            found.append(int(ends[at]))

    with closing(shadow), caplog.at_level(logging.WARNING, "featureplane.shadow"):
        frames(events, V1, live, shadow, drain_every=20, between=look)
        shadow.close()
        counts, told = shadow.counts, shadow.last("SYN0")
    assert found
    assert found[0] <= within
    assert counts.error == counts.skipped == 0
    assert told is not None
    assert told == json.loads(last.read_text(encoding="utf-8"))["SYN0"]
    assert {told["live"][:8], told["shadow"][:8]} == {b"FUV1".hex()}
    assert any(feature_id in record.getMessage() for record in caplog.records)
    _shows_it_again(told, market, package, set(counts.by_name))


def _shows_it_again(told: dict[str, Any], market: Path, package: Path, named: set[str]) -> None:
    """The printed commands, run where both backends stand as they did: they part, in what was named."""
    parity, trace = told["replay"]
    words = f"{market} --source capture --symbol SYN0 --features lob_shared_v1"
    assert parity == f"featureplane parity {words} --until {told['until']}"
    assert trace.startswith(f"featureplane features trace {words} --at {told['seq']} --feature ")
    done = _run([*shlex.split(parity), "--json"], market, package)
    assert done.returncode == 1
    first = json.loads(done.stdout)["first_mismatch"]
    assert first["symbol"] == told["symbol"]
    assert set() < set(first["differs"]) & set(V1) <= named
    done = _run(shlex.split(trace), market, package)
    assert done.returncode in {0, 1}  # it looks at the reference and blocks, not at single steps
    assert str(told["seq"]) in done.stdout + done.stderr


def _run(words: list[str], market: Path, package: Path) -> subprocess.CompletedProcess[str]:
    assert words[0] == "featureplane"
    return subprocess.run(
        [sys.executable, "-P", "-m", *words],
        cwd=market.parent,
        env=settings.inherited(PYTHONPATH=str(package)),
        capture_output=True,
        text=True,
        check=False,
    )
