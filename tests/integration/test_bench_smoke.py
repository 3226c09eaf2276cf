"""Every benchmark still runs, tiny, and whoever has to compute the same does."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from benchmarks.harness import Contestant, Goal, Job, Sample, checksum, measure
from benchmarks.recording import canonical
from benchmarks.run import MODULES, main
from featureplane import native


@pytest.mark.skipif(not native.available(), reason="times the Rust backend, which is not built")
def test_a_smoke_run_measures_every_job(capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["--smoke", "--json"])
    answer = json.loads(capfd.readouterr().out)
    assert status == 0
    jobs = {job["job"]: job for job in answer["jobs"]}
    assert len(jobs) >= len(MODULES)
    for name, job in jobs.items():
        assert all(figure > 0 for turns in job["turns"].values() for figure in turns), name
        assert job["agree"] is not False, f"{name}: {job['checksums']}"
    if shutil.which("cargo"):
        assert jobs["book"]["agree"]
        assert jobs["v1"]["agree"]
        assert jobs["v1_rows"]["agree"]


@pytest.mark.skipif(not native.available(), reason="times the Rust backend, which is not built")
def test_a_job_that_is_not_there_is_refused_before_anything_is_installed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.peers._gather_outside", lambda *_: pytest.fail("a peer was asked for"))
    assert main(["--only", "boook"]) == 2
    told = capfd.readouterr().err
    assert "--only boook: found no such job" in told
    assert "did you mean book?" in told


def test_ratios_are_taken_turn_by_turn() -> None:
    figures = iter((1.0, 9.0, 2.0, 8.0, 20.0))  # the first is the run that does not count
    slow = iter((1.0, 18.0, 4.0, 16.0, 40.0))
    job = Job(
        "double",
        "twice as long, whatever the machine does",
        "ns",
        (
            Contestant("one", lambda _: Sample((next(figures) / 1e9,), 1, "a")),
            Contestant("two", lambda _: Sample((next(slow) / 1e9,), 1, "a")),
        ),
        baseline="one",
        goals=(Goal("two", 2.0, "one"), Goal("two", 1.9, "one"), Goal("three", 1.0)),
    )
    outcome = measure(job, turns=4, runs=1)
    assert outcome.ratio("two", "one").least == pytest.approx(2.0)
    assert outcome.ratio("two", "one").most == pytest.approx(2.0)
    assert [outcome.reached(goal) for goal in job.goals] == [True, False, None]
    assert outcome.agree


def test_a_checksum_sees_every_bit_and_every_place() -> None:
    column = np.arange(5, dtype=np.int64)
    sums = {
        checksum([column]),
        checksum([column[::-1].copy()]),
        checksum([column, column]),
        checksum([column.astype(np.float64)]),
        checksum([np.append(column[:-1], np.int64(5))]),
    }
    assert len(sums) == 5


def test_every_row_is_a_message_and_none_is_lost() -> None:
    recording = canonical(messages_max=500)
    rows = recording.every_row
    assert rows.messages < len(rows)  # the snapshot stays one
    snapshot = int(rows.message_ends[0])
    assert rows.messages == len(rows) - snapshot + 1
    assert rows.rows == len(rows)
    assert rows.rows <= recording.rows
