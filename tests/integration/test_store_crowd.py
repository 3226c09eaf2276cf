"""Thirty-two processes at once: one missing day is computed once, and days of their own do not queue up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from benchmarks.bench_store import made_day
from tests.contract import project
from tests.store_crowd import SETS

PROCESSES, ROWS = 32, 4_000


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for number in range(PROCESSES):
        made_day(folder / f"S{number:02}.fpcap", ROWS, f"S{number:02}", seed=number)
    return folder


def crowd(task: str, processes: int, root: Path, raw: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.store_crowd", task, str(processes), str(root), str(raw)]
    done = subprocess.run(command, cwd=project.ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == processes, done.stderr
    assert all(lines), done.stderr
    said: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return said


def test_of_32_processes_one_computes_a_missing_day(raw: Path, tmp_path: Path) -> None:
    results: Counter[str] = Counter()
    for told in crowd("one", PROCESSES, tmp_path, raw):
        results.update(told["results"])
    assert results["miss"] == 1
    assert results["miss"] + results["coalesced"] + results["hit"] == PROCESSES
    with fp.FeatureStore(tmp_path) as store:
        assert store.fsck().clean


def test_32_processes_on_days_of_their_own_do_not_queue_up(raw: Path, tmp_path: Path) -> None:
    """What is done one after the other is a small part of what a day takes, of one process and of 32."""
    shares = {}
    for processes in (1, 4, PROCESSES):
        root = tmp_path / str(processes)
        said = crowd("own", processes, root, raw)
        days = processes * len(SETS)
        assert sum((Counter(told["results"]) for told in said), Counter()) == {"miss": days}
        cpu, held, waited = (sum(told[name] for told in said) for name in ("cpu", "held", "waited"))
        took = max(told["ended"] for told in said) - min(told["begun"] for told in said)
        shares[processes] = cpu / days, held / days, waited / (took * processes), days / took
        with fp.FeatureStore(root) as store:
            assert store.stats()["days"] == days
            assert store.fsck().clean
            assert store.leases() == []
    for processes, (cpu, held, waited, rate) in shares.items():
        print(  # noqa: T201 - shown where it fails
            f"{processes} processes: {cpu * 1e3:.0f} ms of a processor and {held * 1e3:.1f} ms of a "
            f"transaction a day, {waited:.1%} of the time waited for it, {rate:.1f} days a second"
        )
    cpu, _, waited, _ = shares[PROCESSES]
    assert cpu < 3 * shares[1][0], "a day costs more where many are computed"
    assert waited < 0.5, "they wait for each other"  # on two busy cores, also for who holds it to be run
