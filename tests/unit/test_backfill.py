"""A backfill: the same bytes from any number of workers in any order, each day once, and resumed."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import featureplane as fp
from featureplane.cli.app import main
from featureplane.cli.backfill import dates_of
from featureplane.research.backfill.run import Backfill, BackfillReport
from featureplane.research.backfill.tasks import Job, Outcome, perform
from featureplane.research.store.limits import StoreLimits
from tests import stored
from tests.contract import project
from tests.stored import OTHER, SET, SYMBOL, at

DAYS = 3
DATES = [date(2024, 1, 8 + n) for n in range(DAYS)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> fp.Dataset:
    return stored.dataset(tmp_path_factory.mktemp("raw"), DAYS)


def made(data: fp.Dataset, root: Path, **options: Any) -> Backfill:
    return Backfill(data, [SYMBOL], DATES, SET, root=root, **options)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("*/*/*/*.parquet")}


def in_turn(backfill: Backfill, *, backwards: bool = False) -> list[Outcome]:
    """Its tasks in this process, days in either order."""
    job = backfill._job
    looks, rolls, days = backfill.plan.turns
    return [perform(job, task) for task in (*looks, *rolls, *(days[::-1] if backwards else days))]


@pytest.fixture(scope="module")
def alone(
    data: fp.Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[BackfillReport, dict[str, bytes]]:
    """What one worker makes of it."""
    root = tmp_path_factory.mktemp("alone")
    return made(data, root, workers=1).run(), files(root)


def test_one_worker_stores_what_a_store_would(
    data: fp.Dataset, alone: tuple[BackfillReport, dict[str, bytes]], tmp_path: Path
) -> None:
    report, bytes_ = alone
    assert (report.computed, report.stored, report.complete) == (DAYS, 0, True)
    with fp.FeatureStore(tmp_path, data) as store:
        store.get_or_compute(SYMBOL, at(0), at(DAYS), SET)
    assert files(tmp_path) == bytes_
    assert report.bytes == sum(map(len, bytes_.values()))


@pytest.mark.parametrize("workers", [2, 7])
def test_bytes_do_not_depend_on_the_number_of_workers(
    workers: int, data: fp.Dataset, alone: tuple[BackfillReport, dict[str, bytes]], tmp_path: Path
) -> None:
    report = made(data, tmp_path, workers=workers).run()
    assert report.root_hash == alone[0].root_hash
    assert files(tmp_path) == alone[1]
    assert report.computed == DAYS


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nowhere", "127.0.0.1:x"])
def test_a_ray_cluster_that_is_not_there_is_said_at_once(
    address: str, data: fp.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))  # which is not asked
    with pytest.raises(fp.FeaturePlaneError, match="no Ray cluster"):
        made(data, tmp_path, engine="ray", cluster=address).run()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"engine": "slurm"}, "slurm"),
        ({"cluster": "tcp://127.0.0.1:1"}, "processes of this machine"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_engines_that_cannot_be_meant(
    options: dict[str, Any], says: str, data: fp.Dataset, tmp_path: Path
) -> None:
    with pytest.raises(fp.FeaturePlaneError, match=says) as caught:
        made(data, tmp_path, **options).run()
    assert caught.value.hint


@pytest.mark.parametrize(("engine", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_is_named(
    engine: str, package: str, data: fp.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(fp.FeaturePlaneError) as caught:
        made(data, tmp_path, engine=engine).run()
    assert "featureplane[distributed]" in str(caught.value.hint)


def test_a_worker_that_is_killed_is_no_riddle(data: fp.Dataset, tmp_path: Path) -> None:
    def kill(outcome: Outcome) -> None:
        del outcome
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(fp.FeaturePlaneError, match="ended from outside"):
        made(data, tmp_path, workers=2).run(kill)
    assert made(data, tmp_path, workers=1).run().complete


def test_bytes_do_not_depend_on_the_order(
    data: fp.Dataset, alone: tuple[BackfillReport, dict[str, bytes]], tmp_path: Path
) -> None:
    backfill = made(data, tmp_path)
    came = in_turn(backfill, backwards=True)
    assert backfill._report([one for one in came if one.key], 0, 0).root_hash == alone[0].root_hash
    assert files(tmp_path) == alone[1]


def test_the_root_hash_tells_other_bytes_days_and_sets_apart(
    data: fp.Dataset, alone: tuple[BackfillReport, dict[str, bytes]], tmp_path: Path
) -> None:
    fewer = Backfill(data, [SYMBOL], DATES[:2], SET, root=tmp_path, workers=1).run()
    level = made(data, tmp_path / "level", workers=1, limits=StoreLimits(compression_level=9)).run()
    other = Backfill(data, [SYMBOL], DATES, OTHER, root=tmp_path, workers=1).run()
    hashes = {alone[0].root_hash, fewer.root_hash, level.root_hash, other.root_hash}
    assert len(hashes) == 4
    assert None not in hashes


def test_it_goes_on_where_it_was(
    data: fp.Dataset, alone: tuple[BackfillReport, dict[str, bytes]], tmp_path: Path
) -> None:
    backfill = made(data, tmp_path)
    looks, rolls, days = backfill.plan.turns
    assert [perform(backfill._job, task).result for task in (*looks, *rolls, days[1])][-1] == "computed"
    again = made(data, tmp_path, workers=2)
    assert (again.plan.stored, again.plan.known) == (1, 1)
    report = again.run()
    assert (report.computed, report.stored, report.root_hash) == (DAYS - 1, 1, alone[0].root_hash)


def test_a_stored_day_that_is_damaged_is_made_again(
    data: fp.Dataset, alone: tuple[BackfillReport, dict[str, bytes]], tmp_path: Path
) -> None:
    made(data, tmp_path, workers=1).run()
    stored.flip(next(tmp_path.glob("*/*/*/*.parquet")), 700)
    report = made(data, tmp_path, workers=1).run()
    assert (report.computed, report.stored, report.root_hash) == (1, DAYS - 1, alone[0].root_hash)
    assert files(tmp_path) == alone[1]


def test_two_at_once_publish_each_day_once(
    data: fp.Dataset, alone: tuple[BackfillReport, dict[str, bytes]], tmp_path: Path
) -> None:
    reports: list[BackfillReport] = []
    both = [
        threading.Thread(target=lambda: reports.append(made(data, tmp_path, workers=2).run()))
        for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [one.root_hash for one in reports] == [alone[0].root_hash] * 2
    assert sum(one.computed for one in reports) == DAYS
    assert sum(one.stored for one in reports) == DAYS


def test_a_day_without_data_is_named_and_stops_no_other(data: fp.Dataset, tmp_path: Path) -> None:
    report = Backfill(data, [SYMBOL], [*DATES, date(2024, 1, 20)], SET, root=tmp_path, workers=1).run()
    assert (report.computed, report.root_hash) == (DAYS, None)
    assert [line for line in report.problems if "2024-01-20" in line] == list(report.problems)


def test_days_that_push_each_other_out_are_not_called_stored(data: fp.Dataset, tmp_path: Path) -> None:
    small = StoreLimits(max_cache_size_gb=0.0002, cleanup_threshold=0.15, hot_tier_gb=0.0)
    report = made(data, tmp_path / "small", workers=1, limits=small).run()
    assert not report.complete
    assert all("pushed out" in line for line in report.problems)
    tiny = StoreLimits(max_cache_size_gb=0.0001, cleanup_threshold=0.05, hot_tier_gb=0.0)
    hopeless = made(data, tmp_path / "small", limits=tiny)
    with pytest.raises(fp.FeaturePlaneError, match="the store keeps"):
        hopeless.run()


def test_a_root_that_cannot_be_written_is_said_with_its_reason(data: fp.Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    came = in_turn(made(data, tmp_path / "file" / "root"))
    told = [one.problem for one in came if one.task.kind == "day"]
    assert len(told) == DAYS
    assert all("cannot be written" in line and "Not a directory" in line for line in told)


def test_the_running_day_is_left_out(data: fp.Dataset, tmp_path: Path) -> None:
    clock = fp.clock.ManualClock(wall_ns=stored.MONDAY_NS + 2 * stored.DAY_NS + 5)
    plan = made(data, tmp_path, clock=clock).plan
    assert (len(plan.days), plan.open_days) == (2, 1)


def test_a_dataset_goes_to_another_process_as_it_was_declared(data: fp.Dataset) -> None:
    data.calendar(SYMBOL)
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own
    assert (again.files, again.options, again.instruments) == (data.files, data.options, data.instruments)
    assert again.calendar(SYMBOL).on(DATES[0]) == data.calendar(SYMBOL).on(DATES[0])


def test_a_job_is_whole_in_another_process(data: fp.Dataset, tmp_path: Path) -> None:
    job: Job = pickle.loads(pickle.dumps(made(data, tmp_path)._job))  # noqa: S301 - our own
    assert job.feature_set.fingerprint == SET.fingerprint


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    stored.dataset(tmp_path / "raw", DAYS)
    listed = "\n".join(
        f'[[file]]\npath = "raw/{SYMBOL}_{n}.fpcap"\nsymbol = "{SYMBOL}"\ndays = ["{on}"]'
        for n, on in enumerate(DATES)
    )
    path = tmp_path / "catalogue.toml"
    path.write_text(f'source = "capture"\n{listed}\n')
    return path


def test_at_the_shell(catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["backfill", "--data", str(catalogue), "--days", "2024-01-08..2024-01-10", "--workers", "2"]
    words += ["--root", str(tmp_path / "root")]
    assert main([*words, "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    raw = sum(path.stat().st_size for path in (tmp_path / "raw").iterdir())
    assert (plan["tasks"], plan["of_kind"]["day"], plan["raw_bytes"]) == (2 * DAYS + 1, DAYS, raw)
    assert plan["seconds_about"] > 0
    assert not (tmp_path / "root").exists()
    assert main([*words, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["report"]
    assert (first["computed"], first["problems"]) == (DAYS, [])
    assert main(words) == 0
    assert first["root_hash"] in capsys.readouterr().out
    assert main([*words, "--plan", "--json"]) == 0
    after = json.loads(capsys.readouterr().out)["plan"]
    assert (after["days_stored"], after["seconds_about"], after["estimated_from_days"]) == (DAYS, 0, DAYS)
    assert main([*words, "--days", "2024-01-20"]) == 1
    assert "2024-01-20" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["Monday", "2024-01-09..2024-01-08", "2024-01-08..", "0001-01-01..2024-01-01"]
)
def test_days_that_cannot_be_meant(text: str) -> None:
    if text.endswith(".."):
        assert dates_of([text]) == [DATES[0]]
        return
    with pytest.raises(fp.FeaturePlaneError, match="--days") as caught:
        dates_of([text])
    assert caught.value.hint


def alive_in_group(group: int) -> list[str]:
    """Processes of a group that have not ended; one that ended and was not asked about is none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            told = path.read_text()
        except OSError:
            continue
        state, _, its_group = told[told.rindex(")") + 2 :].split()[:3]
        if int(its_group) == group and state != "Z":
            found.append(told)
    return found


def until_true(said: Callable[[], bool], seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while not said() and time.monotonic() < until:
        time.sleep(0.01)
    return said()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_workers_end_with_it_and_it_goes_on(number: int, catalogue: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    words = ["backfill", "--data", str(catalogue), "--days", "2024-01-08..2024-01-10", "--root", str(root)]
    program = "import sys; from featureplane.cli import main; sys.exit(main())"
    began = subprocess.Popen(
        [sys.executable, "-c", program, *words, "--workers", "2"],
        cwd=project.ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert until_true((root / "manifest.sqlite").exists)
    os.kill(began.pid, number)
    _, err = began.communicate(timeout=60)
    assert began.returncode in (0, 128 + number, -number), err
    assert "Traceback" not in err
    assert until_true(lambda: not alive_in_group(began.pid), 10), alive_in_group(began.pid)
    with fp.FeatureStore(root) as store:
        store.fsck(repair=True)
        assert store.fsck().clean
    assert main([*words, "--workers", "1"]) == 0
