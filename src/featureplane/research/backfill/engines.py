"""Where the tasks of a backfill run: processes of this machine, or a cluster.

Each engine takes tasks and gives outcomes in whatever order they come; a few are under way for each worker,
so that millions of tasks need no more memory than hundreds.

Leans on `backfill_tasks`. Knows nothing of what tasks mean.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from featureplane.errors import ExtraUnavailable, SettingError, StoreError
from featureplane.research.backfill.tasks import Job, Outcome, Task, perform
from featureplane.settings import keep_ray_here

__all__ = ["ENGINES", "Run", "engine"]

Run: TypeAlias = Callable[[Iterable[Task]], Iterator[Outcome]]
_WAITING_EACH: Final = 4  # of a worker: one at work, the next ones at hand
_RETRIES: Final = 3
_CONNECT_S: Final = 10.0


@contextmanager
def processes(job: Job, workers: int) -> Iterator[Run]:
    """A pool of processes of this machine; what is under way is given up when it is left early.

    WHY spawned: a fork would inherit threads' locks and open manifests.
    """
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (job,))

    def run(tasks: Iterable[Task]) -> Iterator[Outcome]:
        try:
            yield from _as_done(lambda task: pool.submit(_do, task), _wait, tasks, workers)
        except BrokenProcessPool:
            raise StoreError(
                "a worker of the backfill was ended from outside",
                hint="what is stored stays; run it again, with fewer workers if memory ran out",
            ) from None

    done = False
    try:
        yield run
        done = True
    finally:
        if not done:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()  # a day that is half done is nowhere to be seen
        pool.shutdown(wait=True, cancel_futures=True)


_job: Job | None = None


def _begin(job: Job) -> None:
    """In a new process: keep the job, end at Ctrl-C without a word, and end when nobody asks any more."""
    global _job  # noqa: PLW0603 - one process, one job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """WHY: a pool's processes wait for work for ever when the one that made them is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(task: Task) -> Outcome:
    assert _job is not None
    return perform(_job, task)


@contextmanager
def dask(job: Job, workers: int, cluster: str | None = None) -> Iterator[Run]:
    """A running cluster of Dask, or a local one of so many processes; all workers must see root and files."""
    distributed: Any = _imported("distributed")
    with _client(distributed, workers, cluster) as client:
        shared = client.scatter(job, broadcast=True)
        threads = sum(client.nthreads().values())

        def submit(task: Task) -> Any:
            return client.submit(perform, shared, task, pure=False, retries=_RETRIES)

        def first(waiting: set[Any]) -> tuple[set[Any], set[Any]]:
            found = distributed.wait(waiting, return_when="FIRST_COMPLETED")
            return set(found.done), set(found.not_done)

        yield lambda tasks: _as_done(submit, first, tasks, threads)


@contextmanager
def ray(job: Job, workers: int, cluster: str | None = None) -> Iterator[Run]:
    """A running cluster of Ray, or a local one with so many workers; all workers must see root and files.

    A local one listens on loopback alone, unless Ray was imported before.
    """
    if cluster is None:
        keep_ray_here()
    library: Any = _imported("ray")
    local = {"num_cpus": workers, "include_dashboard": False} if cluster is None else {"address": cluster}
    if cluster is not None and cluster != "auto":
        _answers(cluster)
    try:
        library.init(**local, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError) as error:
        raise _no_ray(cluster, error) from None
    try:
        shared = library.put(job)
        remote = library.remote(perform).options(max_retries=_RETRIES)
        cores = int(library.cluster_resources().get("CPU", workers))

        def first(waiting: set[Any]) -> tuple[set[Any], set[Any]]:
            done, rest = library.wait(list(waiting), num_returns=1)
            return set(done), set(rest)

        yield lambda tasks: _as_done(
            lambda task: remote.remote(shared, task), first, tasks, cores, library.get
        )
    finally:
        library.shutdown()


def _answers(cluster: str) -> None:
    """Raise unless somebody listens there. WHY: Ray keeps asking for more than a minute."""
    try:
        address = urlsplit(cluster if "//" in cluster else f"//{cluster}")
        with socket.create_connection((address.hostname or "", address.port or 0), _CONNECT_S):
            pass
    except (OSError, ValueError) as error:
        raise _no_ray(cluster, error) from None


def _no_ray(cluster: str | None, error: Exception) -> SettingError:
    return SettingError(f"no Ray cluster at {cluster}: {error}", hint="an address such as 127.0.0.1:6379")


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExtraUnavailable(name, "distributed", str(error)) from None


@contextmanager
def _client(distributed: Any, workers: int, cluster: str | None) -> Iterator[Any]:
    if cluster is not None:
        try:
            client = distributed.Client(cluster, timeout=10)
        except (OSError, ValueError) as error:
            raise SettingError(
                f"no Dask scheduler at {cluster}: {error}", hint="an address such as tcp://127.0.0.1:8786"
            ) from None
        with client:
            yield client
        return
    local = distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=30,
    )
    with local, distributed.Client(local) as client:
        yield client


def _result(future: Any) -> Outcome:
    found: Outcome = future.result()
    return found


def _as_done(
    submit: Callable[[Task], Any],
    first: Callable[[set[Any]], tuple[set[Any], set[Any]]],
    tasks: Iterable[Task],
    workers: int,
    result: Callable[[Any], Outcome] = _result,
) -> Iterator[Outcome]:
    waiting: set[Any] = set()
    for task in tasks:
        waiting.add(submit(task))
        while len(waiting) >= workers * _WAITING_EACH:
            done, waiting = first(waiting)
            yield from map(result, done)
    while waiting:
        done, waiting = first(waiting)
        yield from map(result, done)


def _wait(waiting: set[Any]) -> tuple[set[Any], set[Any]]:
    found = wait(waiting, return_when=FIRST_COMPLETED)
    return found.done, found.not_done


ENGINES: Final = ("process", "dask", "ray")


def engine(name: str, job: Job, workers: int, cluster: str | None = None) -> AbstractContextManager[Run]:
    """The engine of that name; raises `SettingError`, `ExtraUnavailable`."""
    if name not in ENGINES:
        raise SettingError(f"engine={name!r}", hint=f"one of {', '.join(ENGINES)}")
    if name == "dask":
        return dask(job, workers, cluster)
    if name == "ray":
        return ray(job, workers, cluster)
    if cluster is not None:
        raise SettingError("a cluster for processes of this machine", hint="give it with `engine='dask'`")
    return processes(job, workers)
