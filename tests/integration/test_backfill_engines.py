"""A backfill on real clusters of Dask and Ray, local and running ones: the bytes that one process gives."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane.research.backfill.run import Backfill, BackfillReport
from featureplane.research.backfill.tasks import Outcome
from tests import stored
from tests.stored import SET, SYMBOL
from tests.unit.test_backfill import DATES, DAYS, files

PACKAGES = {"dask": "distributed", "ray": "ray"}
LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> fp.Dataset:
    return stored.dataset(tmp_path_factory.mktemp("raw"), DAYS)


@pytest.fixture(scope="module")
def alone(
    data: fp.Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[BackfillReport, dict[str, bytes]]:
    """What one process makes of it."""
    root = tmp_path_factory.mktemp("alone")
    return backfilled(data, root, workers=1), files(root)


def backfilled(
    data: fp.Dataset, root: Path, tell: Callable[[Outcome], None] | None = None, **options: Any
) -> BackfillReport:
    report = Backfill(data, [SYMBOL], DATES, SET, root=root, **options).run(tell)
    assert report.problems == ()
    return report


@pytest.fixture(params=sorted(PACKAGES))
def engine(request: pytest.FixtureRequest) -> str:
    """An engine that is installed, which in CI both are. It is not imported: that is the backfill's part."""
    name: str = request.param
    if importlib.util.find_spec(PACKAGES[name]) is None:
        assert not os.environ.get("CI"), f"{PACKAGES[name]} has to be there in CI"
        pytest.skip("the extra `distributed` is not installed")
    return name


@contextmanager
def running(engine: str, workers: int) -> Iterator[str]:
    """The address of a cluster that somebody else has started."""
    if engine == "dask":
        library: Any = importlib.import_module("distributed")
        with library.LocalCluster(
            n_workers=workers, threads_per_worker=1, host=LOOPBACK, dashboard_address=f"{LOOPBACK}:0"
        ) as cluster:
            yield cluster.scheduler_address
        return
    head = {"num_cpus": workers, "include_dashboard": False}
    cluster = importlib.import_module("ray.cluster_utils").Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def children(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from children(int(child))


def listening(pid: int) -> set[str]:
    """The addresses at which a process and those below it listen, without ports."""
    found = dict[str, str]()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            told = line.split()
            if told[3] == "0A":
                found[told[9]] = _address(told[1].partition(":")[0])
    held = set[str]()
    for one in children(pid):
        with suppress(OSError):
            for descriptor in Path(f"/proc/{one}/fd").iterdir():
                with suppress(OSError):
                    held.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    return {address for inode, address in found.items() if inode in held}


def _address(text: str) -> str:
    """An address as the kernel shows it: words of the machine's own order."""
    words = [int(text[place : place + 8], 16) for place in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, packed).removeprefix("::ffff:")


def test_who_listens_is_seen() -> None:
    with socket.create_server((LOOPBACK, 0)):
        assert LOOPBACK in listening(os.getpid())
        with socket.create_server(("", 0)):
            assert "0.0.0.0" in listening(os.getpid())  # noqa: S104 - on purpose


def test_bytes_do_not_depend_on_the_engine(
    engine: str, data: fp.Dataset, alone: tuple[BackfillReport, dict[str, bytes]], tmp_path: Path
) -> None:
    seen = set[str]()

    def look(outcome: Outcome) -> None:
        del outcome
        seen.update(listening(os.getpid()))

    report = backfilled(data, tmp_path / "local", look, workers=2, engine=engine)
    assert (report.root_hash, report.computed) == (alone[0].root_hash, DAYS)
    assert seen == {LOOPBACK}
    with running(engine, 3) as address:
        report = backfilled(data, tmp_path / "running", engine=engine, cluster=address)
        again = backfilled(data, tmp_path / "running", engine=engine, cluster=address)
    assert (report.root_hash, report.computed) == (alone[0].root_hash, DAYS)
    assert (again.root_hash, again.stored) == (alone[0].root_hash, DAYS)
    assert files(tmp_path / "running") == files(tmp_path / "local") == alone[1]


def test_roots_of_several_machines_make_the_root_of_one(
    data: fp.Dataset, alone: tuple[BackfillReport, dict[str, bytes]], tmp_path: Path
) -> None:
    """Each fills a root of its own; files are copied into one folder, which has no manifest yet."""
    merged = tmp_path / "merged"
    for number, dates in enumerate((DATES[:1], DATES[1:])):
        machine = tmp_path / f"machine{number}"
        Backfill(data, [SYMBOL], dates, SET, root=machine, workers=number + 1).run()
        for name, bytes_ in files(machine).items():
            (merged / name).parent.mkdir(parents=True, exist_ok=True)
            (merged / name).write_bytes(bytes_)
    with fp.FeatureStore(merged, data) as store:
        assert store.rebuild_manifest() == DAYS
        assert store.fsck().clean
    report = backfilled(data, merged, workers=1)
    assert (report.root_hash, report.computed, report.stored) == (alone[0].root_hash, 0, DAYS)
    assert files(merged) == alone[1]
