"""What one worker of a backfill does: the same function on every engine.

    look  a file of a symbol     what it holds, remembered in the manifest
    roll  a symbol               its books between files, kept in `.books`
    day   a symbol's day         its frames, computed under a lease and published once

Leans on the store below its door. Knows nothing of plans, pools and clusters.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal, TypeAlias

from featureplane.clock import SYSTEM, seconds_since
from featureplane.errors import FeaturePlaneError
from featureplane.features.spec import FeatureSet
from featureplane.market.days import Day
from featureplane.research.catalogue import DataFile
from featureplane.research.datasets import Dataset
from featureplane.research.store.fetching import Fetcher
from featureplane.research.store.limits import StoreLimits
from featureplane.research.store.places import Place
from featureplane.research.store.root import Root
from featureplane.research.store.shelf import Damaged

__all__ = ["Job", "Outcome", "Result", "Task", "perform"]

Result: TypeAlias = Literal["done", "computed", "stored", "not_stored", "failed"]
"""`computed` here and now, `stored` before or by somebody else; `done` for what is no day."""

_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Job:
    """What all tasks of a backfill share; `name` tells it from others in the same worker."""

    name: str
    place: Place
    data: Dataset
    feature_set: FeatureSet
    limits: StoreLimits


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work; `raw_bytes` is about what it reads."""

    kind: Literal["look", "roll", "day"]
    symbol: str
    raw_bytes: int
    file: DataFile | None = None
    days: tuple[date, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task; of a stored day its key and the sha-256 of its file, in hex."""

    task: Task
    result: Result
    key: str = ""
    digest: str = ""
    bytes: int = 0
    seconds: float = 0.0
    problem: str = ""
    hint: str | None = None


def perform(job: Job, task: Task) -> Outcome:
    """Do one task; what is wrong with its data is said in the outcome and stops no other task."""
    began = SYSTEM.monotonic_ns()
    try:
        return _worker(job).do(task, began)
    except FeaturePlaneError as error:
        return Outcome(task, "failed", seconds=seconds_since(began), problem=str(error), hint=error.hint)


class _Worker:
    """A store as the tasks of one job have it in one process."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.root = Root(job.place, job.limits)
        self.fetcher = Fetcher(job.data, self.root)

    def do(self, task: Task, began_ns: int) -> Outcome:
        if task.kind == "day":
            return self._day(task, began_ns)
        if task.kind == "look":
            assert task.file is not None
            self.fetcher.resolver.look(task.file, task.symbol)
        else:
            self._roll(task)
        return Outcome(task, "done", seconds=seconds_since(began_ns))

    def _roll(self, task: Task) -> None:
        """In the order of time: each day's key needs the book that the day before ends with."""
        for on in task.days:
            day = self.job.data.calendar(task.symbol).on(on)
            if day is not None:
                with suppress(FeaturePlaneError):  # the day itself will say so
                    self.fetcher.resolver.resolve(task.symbol, day, self.job.feature_set)

    def _day(self, task: Task, began_ns: int) -> Outcome:
        day = self.job.data.calendar(task.symbol).on(task.days[0])
        assert day is not None  # of the plan
        for _ in range(_TRIES):
            found = self._stored(task, day, began_ns)
            if found is not None:
                return found
        return Outcome(
            task,
            "failed",
            seconds=seconds_since(began_ns),
            problem=f"{task.symbol}: {day} is damaged whenever it is read again",
            hint="look at the disk",
        )

    def _stored(self, task: Task, day: Day, began_ns: int) -> Outcome | None:
        """The day in the store, every byte read; None where it is damaged, and then it is put aside."""
        piece = self.fetcher.piece(task.symbol, day, self.job.feature_set, warming=True)
        self.fetcher.forget()
        row = self.root.find(piece.key)
        if row is None or piece.result == "read_only":
            lost = f"the store cannot be written ({self.root.lost})"
            why = lost if self.root.read_only else "the store has no room for it"
            return Outcome(
                task,
                "not_stored",
                seconds=seconds_since(began_ns),
                problem=f"{task.symbol}: {day} was computed and not stored: {why}",
            )
        try:
            opened = self.root.shelf.open(row)
            self.root.shelf.check(row, opened)
            digest = opened.sha256()
        except Damaged as error:
            self.root.discard(row, error)
            return None
        result: Result = "computed" if piece.result in ("warm", "corrupt") else "stored"
        return Outcome(task, result, row.key, digest, row.bytes, seconds_since(began_ns))


_workers: Final[dict[str, _Worker]] = {}
_making: Final = threading.Lock()


def _worker(job: Job) -> _Worker:
    """That of this process: a root is opened once, not for each task."""
    with _making:
        known = _workers.get(job.name)
        if known is None:
            for ended in [_workers.pop(name) for name in list(_workers)]:
                ended.root.flush()
            known = _workers[job.name] = _Worker(job)
        return known
