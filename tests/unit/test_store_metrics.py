"""What a store counts of itself: true, kept by a process that dies, added up over all of them."""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

import featureplane as fp
from featureplane.cli.app import main
from featureplane.clock import ManualClock
from featureplane.research.store import measures as m
from featureplane.research.store.consistency import equal_rows
from featureplane.research.store.ledger import FOLDER, fold, merged, minutes_since
from featureplane.research.store.limits import StoreLimits
from featureplane.research.store.measures import Measures
from featureplane.research.store.objective import budget_of
from featureplane.research.store.tally import Tally, read_tally
from featureplane.services.store_numbers import StoreNumbers
from featureplane.telemetry import exposition
from tests import stored
from tests.stored import OTHER, SYMBOL, at, whole

MINUTE_NS = 60_000_000_000


def results(counts: Counter[str]) -> dict[str, int]:
    """Requests by result, those that there were."""
    return {one: counts[f"requests|{one}"] for one in m.RESULTS if counts[f"requests|{one}"]}


def samples(root: Path, clock: ManualClock | None = None) -> dict[tuple[str, ...], float]:
    """What Prometheus would read, by name and values of labels."""
    numbers = StoreNumbers(root, StoreLimits()) if clock is None else StoreNumbers(root, StoreLimits(), clock)
    text, _ = exposition(numbers.picture(), m.METRICS)
    return {
        (one.name, *one.labels.values()): one.value
        for family in parsed(text.decode())
        for one in family.samples
    }


def test_each_day_of_a_request_counts_once_by_what_came_of_it(tmp_path: Path) -> None:
    data = stored.dataset(tmp_path / "raw")
    with fp.FeatureStore(tmp_path / "root", data) as store:
        whole(store)
        whole(store).table()
        store.warm([SYMBOL], at(0), at(2), OTHER)
        store.warm([SYMBOL], at(0), at(2), OTHER)
        store.clear(SYMBOL)
        whole(store)
        counts = merged(tmp_path / "root" / FOLDER)
    assert results(counts) == {"hit": 2, "miss": 4, "warm": 4}
    assert {one: counts[f"misses|{one}"] for one in m.CAUSES if counts[f"misses|{one}"]} == {
        "new_symbol": 2,
        "evicted": 2,
    }
    assert counts["evictions|cleared"] == 4
    assert merged(tmp_path / "root" / FOLDER) == counts, "a store that is closed leaves its counts"


def test_every_series_is_there_at_zero_before_anybody_asked(tmp_path: Path) -> None:
    found = samples(tmp_path / "nothing")
    for metric, labels in (
        ("featurestore_requests_total", m.RESULTS),
        ("featurestore_misses_total", m.CAUSES),
        ("featurestore_evictions_total", m.REASONS),
        ("feature_consistency_frames_total", ("equal", "different")),
    ):
        assert [found[metric, one] for one in labels] == [0] * len(labels)
    assert math.isnan(found["featurestore_hit_ratio",])
    assert math.isnan(found["feature_consistency_ratio",])
    for name in m.TIMES:
        assert found[f"featurestore_{name}_seconds_count",] == 0
    named = {key[0].removesuffix("_count") for key in found}
    assert {one.name for one in m.METRICS} - named == {"featurestore_symbol_requests_total"}
    assert not (tmp_path / "nothing").exists(), "whoever looks makes nothing"


def test_times_are_in_seconds(tmp_path: Path) -> None:
    measures = Measures(tmp_path, ManualClock(MINUTE_NS))
    for ns in (2_000, 2_001, 34_000_000, 1_500_000_000_000):
        measures.took("request", ns)
    measures.asked("X", "hit")
    found = samples(tmp_path)
    assert found["featurestore_request_seconds_sum",] == pytest.approx(1500.034004001)
    for edge, below in (("2e-06", 1), ("5e-06", 2), ("0.034", 3), ("600.0", 3), ("+Inf", 4)):
        assert found["featurestore_request_seconds_bucket", edge] == below


def test_the_ratio_is_of_five_minutes_and_knows_what_is_no_miss(tmp_path: Path) -> None:
    clock = ManualClock(MINUTE_NS * 1000)
    measures, numbers = Measures(tmp_path, clock), StoreNumbers(tmp_path, StoreLimits(), clock)

    def ratio(*came: str) -> Any:
        for one in came:
            measures.asked("X", one)
        return numbers.picture()["featurestore_hit_ratio"][()]

    assert math.isnan(ratio())
    clock.move(10 * 10**9)
    assert math.isnan(ratio("warm", "read_only", "open_day"))
    assert ratio("hit", "coalesced", "hit", "miss") == 0.75
    assert ratio("corrupt") == 0.6
    for _ in range(31):
        clock.move(10 * 10**9)
        numbers.watch()
    assert math.isnan(ratio()), "no traffic is no ratio"
    assert ratio("miss", "miss") == 0.0


def test_symbols_are_bounded(tmp_path: Path) -> None:
    measures = Measures(tmp_path)
    for number in range(m.SYMBOLS_MAX + 5):
        measures.asked(f"S{number}", "hit")
    measures.asked("a name that is longer than a label may be", "miss")
    counts = merged(tmp_path / FOLDER)
    assert counts["symbol|other|hit"] == 5
    assert counts["symbol|other|miss"] == 1
    assert counts["requests|hit"] == m.SYMBOLS_MAX + 5
    for process in range(3):
        other = Measures(tmp_path)
        for number in range(m.SYMBOLS_MAX):
            other.asked(f"P{process}-{number}", "hit")
    found = samples(tmp_path)
    shown = {key[1:]: value for key, value in found.items() if key[0] == "featurestore_symbol_requests_total"}
    assert len({symbol for _, symbol in shown}) == 2 * m.SYMBOLS_MAX + 1
    hits = sum(value for (result, _), value in shown.items() if result == "hit")
    assert hits == found["featurestore_requests_total", "hit"] == 4 * m.SYMBOLS_MAX + 5


DYING = """
import os, signal, sys
from pathlib import Path
from featureplane.research.store.measures import Measures
from featureplane.research.store.objective import budget_of
measures = Measures(Path(sys.argv[1]))
for number in range(1000):
    measures.asked("X", "miss" if number % 10 == 0 else "hit")
if os.fork() == 0:
    measures.asked("X", "coalesced")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_loses_no_count(tmp_path: Path) -> None:
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], check=False, timeout=60)
        assert ended.returncode == -signal.SIGKILL
    folder = tmp_path / FOLDER
    wanted = {"hit": 1800, "miss": 200, "coalesced": 2}
    assert results(merged(folder)) == wanted
    own = Measures(tmp_path)
    own.asked("X", "hit")
    assert fold(folder) == 4, "and not that of a process that lives"
    assert results(merged(folder)) == wanted | {"hit": 1801}
    assert len(list(folder.glob("*.counts"))) == 1
    assert fold(folder) == 0
    minutes = minutes_since(folder, 0)
    assert [sum(one) for one in zip(*minutes.values(), strict=True)] == [1803, 200]


@pytest.mark.parametrize("step", ["before", "replaced", "removed"])
def test_a_fold_that_is_cut_off_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for _ in range(3):
        one = Measures(tmp_path)
        one.asked("X", "hit")
        one.close()
    folder = tmp_path / FOLDER

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if step == "before":
            patched.setattr(Path, "replace", cut)
        elif step == "replaced":
            patched.setattr(os, "fsync", lambda fd: cut() if stat.S_ISDIR(os.fstat(fd).st_mode) else None)
        else:
            patched.setattr(Path, "unlink", cut)
        with pytest.raises(KeyboardInterrupt):
            fold(folder)
    assert results(merged(folder)) == {"hit": 3}
    assert sum(good for good, _ in minutes_since(folder, 0).values()) == 3
    fold(folder)
    assert results(merged(folder)) == {"hit": 3}
    assert sum(good for good, _ in minutes_since(folder, 0).values()) == 3
    assert not list(folder.glob("*.counts"))


def test_what_is_no_file_of_counts_is_left_out(tmp_path: Path) -> None:
    measures = Measures(tmp_path)
    measures.asked("X", "hit")
    folder = tmp_path / FOLDER
    (folder / "1-torn.counts").write_bytes(b"fpcount1")
    (folder / "total.json").write_text("{", encoding="utf-8")
    assert results(merged(folder)) == {"hit": 1}
    with pytest.raises(ValueError, match="no file of counts"):
        read_tally(b"")


def test_a_folder_that_takes_nothing_is_counted_in_memory_until_it_does(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_bytes(b"in the way")
    clock = ManualClock(MINUTE_NS)
    measures = Measures(tmp_path, clock)
    measures.asked("X", "hit")
    assert measures.own()["requests|hit"] == 1
    (tmp_path / FOLDER).unlink()
    clock.move(MINUTE_NS)
    measures.asked("X", "hit")
    assert results(merged(tmp_path / FOLDER)) == {"hit": 2}


def test_more_names_than_there_is_room_for_are_left_out(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    assert tally.keep()
    for number in range(400):
        tally.add(f"n{number}")
    tally.add("n" * 100)
    (path,) = tmp_path.glob("*.counts")
    assert read_tally(path.read_bytes()) == Counter(f"n{number}" for number in range(383))


def test_verifying_tells_how_many_frames_are_equal(tmp_path: Path) -> None:
    data = stored.dataset(tmp_path / "raw")
    with fp.FeatureStore(tmp_path / "root", data) as store:
        rows = len(store.get_or_compute(SYMBOL, at(0), at(2), "lob_shared_v1"))
        assert store.verify(2)["equal"] == 2
    found = samples(tmp_path / "root")
    assert found["feature_consistency_frames_total", "equal"] == rows
    assert found["feature_consistency_ratio",] == 1.0


def test_rows_are_equal_by_their_bytes() -> None:
    nan, other_nan = float("nan"), -float("nan")
    one = pa.table({"x": [1.0, nan, None, 0.0, 5.0], "s": ["a", None, "c", "d", "e"]})
    assert equal_rows(one, one) == 5
    assert equal_rows(one, pa.table({"x": [1.0, nan, 0.0, -0.0, 5.0], "s": ["a", None, "c", "d", "f"]})) == 2
    assert equal_rows(one, one.slice(0, 3)) == 3
    assert equal_rows(one.slice(1, 1), pa.table({"x": [other_nan], "s": pa.array([None], pa.string())})) == 0


def test_it_is_served(tmp_path: Path) -> None:
    """The command, asked as Prometheus asks it."""
    Measures(tmp_path / "root").asked("X", "hit")
    words = [sys.executable, "-m", "featureplane", "store", "serve", "--root", str(tmp_path / "root")]
    words += ["--listen", "127.0.0.1:0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            address = json.loads("".join(serving.stdout.readline() for _ in range(3)))["listens"]
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
                text = answer.read().decode()
            assert 'featurestore_requests_total{result="hit"} 1.0' in text
            serving.send_signal(signal.SIGINT)
            assert serving.wait(30) == 0
        finally:
            serving.kill()


def test_budget_and_breach_are_of_minutes() -> None:
    minutes = {10: (100, 0), 11: (90, 10), 12: (100, 0), 30: (0, 5), 33: (1_000, 0), 99: (50, 0)}
    budget = budget_of(minutes, 10)
    assert (budget.minutes, budget.good, budget.bad) == (6, 1340, 15)
    assert budget.ratio == pytest.approx(1340 / 1355)
    assert budget.spent == pytest.approx(15 / (0.05 * 1355))
    # 10 to 15: at least 95 % with what is good around the bad minute; 15 sees 11 and 12, 190 of 200
    assert budget.breach_minutes == len({30, 31, 32})
    assert budget_of(minutes, 31).breach_minutes == len({31, 32})
    assert math.isnan(budget_of({}, 0).spent)


def test_the_budget_is_told_of_all_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for results in (["hit"] * 10, ["miss", "warm", "hit"]):
        one = Measures(tmp_path)
        for result in results:
            one.asked("X", result)
        one.close()
    fold(tmp_path / FOLDER)
    Measures(tmp_path).asked("X", "corrupt")
    assert main(["store", "slo", "--since", "1h", "--root", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["good"], told["bad"]) == (11, 2)
    assert told["spent"] == pytest.approx(2 / (0.05 * 13))
    assert main(["store", "slo", "--since", "yesterday", "--root", str(tmp_path)]) == 2
