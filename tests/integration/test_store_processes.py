"""Many processes and threads that share a store: one computes, the others get what it computed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import featureplane as fp
from featureplane.clock import SYSTEM, SystemClock
from featureplane.research.store.leases import Leases, has_ended, this_process
from featureplane.research.store.manifest import Manifest
from tests import stored
from tests.contract import project
from tests.stored import SET, SYMBOL, at, whole

PROCESSES = 10
SECOND_NS = 1_000_000_000


class Shifted(SystemClock):
    """A wall clock that can be set."""

    shift_ns = 0

    def wall_ns(self) -> int:
        return super().wall_ns() + self.shift_ns


@pytest.fixture
def data(tmp_path: Path) -> fp.Dataset:
    return stored.dataset(tmp_path / "raw")


def lease_of_somebody(root: Path, key: str, holder: str = "elsewhere:1:1") -> None:
    """A lease that a process of another machine holds."""
    with fp.FeatureStore(root):
        pass
    now_ns = time.time_ns()
    manifest = sqlite3.connect(root / "manifest.sqlite")
    manifest.execute("UPDATE tokens SET last = 41")
    manifest.execute("INSERT INTO leases VALUES (?, ?, 41, ?, ?, 0)", (key, holder, now_ns, now_ns))
    manifest.commit()
    manifest.close()


@pytest.mark.usefixtures("data")
def test_of_many_processes_one_computes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    begin_ns = str(SYSTEM.wall_ns() + 8 * SECOND_NS)
    command = [sys.executable, "-m", "tests.store_worker", "ask", str(root), str(tmp_path / "raw"), begin_ns]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, cwd=project.ROOT, stdout=pipe, stderr=pipe, text=True)
        for _ in range(PROCESSES)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert all(process.returncode == 0 for process in processes), said
    answers = [json.loads(out) for out, _ in said]
    results = Counter(answer["result"] for answer in answers)
    assert results["miss"] == 1
    assert results["miss"] + results["coalesced"] + results["hit"] == PROCESSES
    assert len({answer["rows"] for answer in answers}) == 1


def test_of_many_threads_one_computes(data: fp.Dataset, tmp_path: Path) -> None:
    with fp.FeatureStore(tmp_path / "root", data) as store, ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda _: whole(store), range(16)))
        results = Counter(result for entry in entries for result in entry.days.values())
        assert results["miss"] == 2
        assert results.total() == 32
        assert len({len(entry.table()) for entry in entries}) == 1
        assert Counter(store.stats()["requests"]) == results


def test_who_waits_goes_on_when_the_lease_is_given_back(data: fp.Dataset, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with fp.FeatureStore(tmp_path / "other", data) as other, fp.FeatureStore(root, data) as store:
        key = other.explain(SYMBOL, at(0), at(1), SET)[0]["key"]
        lease_of_somebody(root, key)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.get_or_compute, SYMBOL, at(0), at(1), SET)
            time.sleep(0.2)
            assert not waiting.done()
            manifest = sqlite3.connect(root / "manifest.sqlite")
            manifest.execute("DELETE FROM leases")
            manifest.commit()
            manifest.close()
            assert waiting.result(30).days == {"2024-01-08": "miss"}  # given back without a result


def test_a_dead_holder_is_replaced_and_comes_back_too_late(data: fp.Dataset, tmp_path: Path) -> None:
    root, clock = tmp_path / "root", Shifted()
    with fp.FeatureStore(root, data, clock=clock) as store:
        key = store.explain(SYMBOL, at(0), at(1), SET)[0]["key"]
        lease_of_somebody(root, key)
        clock.shift_ns = 16 * SECOND_NS
        assert store.get_or_compute(SYMBOL, at(0), at(1), SET).days == {"2024-01-08": "miss"}
        token = store._root.manifest
        assert token is not None
        assert token.connection().execute("SELECT last FROM tokens").fetchone()[0] == 42


def test_who_lost_the_lease_publishes_nothing(data: fp.Dataset, tmp_path: Path) -> None:
    root = tmp_path / "root"

    def steal(step: str) -> None:
        if step == "written":
            manifest = sqlite3.connect(root / "manifest.sqlite")
            text = "UPDATE leases SET token = token + 1000, holder = 'elsewhere:1:1', renewed_ns = 0"
            manifest.execute(text)
            manifest.commit()
            manifest.close()

    seen: list[str] = []

    def reached(step: str) -> None:
        seen.append(step)
        if seen.count("written") == 1:
            steal(step)

    with fp.FeatureStore(root, data, on_step=reached) as store:
        assert store.get_or_compute(SYMBOL, at(0), at(1), SET).days == {"2024-01-08": "miss"}
    assert seen.count("written") == 2  # once for nothing, once under a lease of its own
    assert seen.count("renamed") == 1
    assert list(root.rglob("*.part")) == []


def test_who_waited_long_enough_computes_alone(data: fp.Dataset, tmp_path: Path) -> None:
    root = tmp_path / "root"

    class Hurried(SystemClock):
        """Waits for nothing, and says that it took long."""

        now_ns = 0

        def monotonic_ns(self) -> int:
            return self.now_ns

        def wait(self, ns: int, until: threading.Event) -> bool:
            self.now_ns += max(ns, SECOND_NS)
            return until.wait(0.001)

    clock = Hurried()
    with fp.FeatureStore(root, data, clock=clock) as store:
        lease_of_somebody(root, store.explain(SYMBOL, at(0), at(1), SET)[0]["key"])
        entry = store.get_or_compute(SYMBOL, at(0), at(1), SET)
        assert clock.now_ns > 60 * SECOND_NS
        assert len(entry.table()) > 100
        assert store.stats()["days"] == 0


def test_leases_are_renewed_while_their_holder_lives(tmp_path: Path) -> None:
    class Quick(Shifted):
        """Five seconds pass in a moment."""

        def wait(self, ns: int, until: threading.Event) -> bool:
            type(self).shift_ns += ns
            return until.wait(0.01)

    clock = Quick()
    manifest = Manifest(tmp_path)
    leases = Leases(manifest, clock)
    lease = leases.take("key")
    assert lease is not None
    with leases.held(lease):
        until = time.monotonic() + 20
        found = lease
        while found.renewed_ns - lease.renewed_ns <= 15 * SECOND_NS and time.monotonic() < until:
            time.sleep(0.01)
            found = leases.find("key") or lease
        assert found.renewed_ns - lease.renewed_ns > 15 * SECOND_NS
        assert not found.is_dead(clock.wall_ns())
        assert leases.take("key") is None
    assert leases.find("key") is None
    leases.close()
    manifest.close()


@pytest.mark.parametrize(
    ("holder", "ended"),
    [
        (this_process, False),
        (lambda: this_process().rsplit(":", 1)[0] + ":1", True),
        (lambda: "elsewhere:1:1", False),
        (lambda: "nobody", False),
    ],
)
def test_a_process_of_this_machine_is_seen_to_have_ended(holder: Callable[[], str], ended: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert has_ended(holder()) == ended


def test_who_closes_waits_for_a_renewal_that_waits(tmp_path: Path) -> None:
    """A connection that is closed while a thread is at work with it ends the process."""

    class Hasty(SystemClock):
        def wait(self, ns: int, until: threading.Event) -> bool:
            del ns
            return until.wait(0.01)

    asked = threading.Event()

    class Told(Manifest):
        @contextmanager
        def writing(self) -> Iterator[sqlite3.Connection]:
            if threading.current_thread().name == "store-leases":
                asked.set()
            with super().writing() as connection:
                asked.clear()
                yield connection

    manifest = Told(tmp_path)
    leases = Leases(manifest, Hasty())
    lease = leases.take("key")
    assert lease is not None
    with leases.held(lease):
        other = sqlite3.connect(tmp_path / "manifest.sqlite", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        assert asked.wait(30)  # from here on it is writing, or waits to
        threading.Timer(0.5, lambda: other.execute("COMMIT")).start()
        leases.close()
        assert not other.in_transaction
        assert "store-leases" not in {thread.name for thread in threading.enumerate()}
    other.close()
    manifest.close()
