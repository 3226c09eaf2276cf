"""How everything here is measured: contestants in turn, ratios within a run, checksums of what was computed.

A *contestant* does one job a number of times and says how long each took. Those of a job run in
turn, A B C A B C, on one core; a ratio is taken inside each turn and only then summarised, so that a
slow moment of the machine hits both sides of it. What a contestant computed is summed up outside
the clock, and sums that have to agree are compared.

Knows nothing of particular jobs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

__all__ = [
    "Contestant",
    "Goal",
    "Job",
    "Outcome",
    "Sample",
    "Spread",
    "Worker",
    "checksum",
    "measure",
    "timed",
]

_M: Final = 0x9E37_79B9_7F4A_7C15
_2_64: Final = 1 << 64


now: Final = time.process_time if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter
"""Seconds: the wall's, or with BENCH_CLOCK=cpu, on a machine that others use, our processor time."""


def checksum(columns: Sequence[npt.NDArray[Any]]) -> str:
    """A number for a table of 8-byte columns, as 16 hex digits; `limit/README.md` defines it.

    >>> checksum([np.array([1, 2], np.int64)])
    '9e3779b97f4a7c17'
    """
    table = 0
    for column in columns:
        powers: npt.NDArray[np.uint64] = np.full(len(column), _M, np.uint64)
        powers[:1] = 1
        powers = np.multiply.accumulate(powers)[::-1]
        of_column = int((column.view(np.uint64) * powers).sum(dtype=np.uint64))
        table = (table * _M + of_column) % _2_64
    return f"{table:016x}"


@dataclass(frozen=True, slots=True)
class Sample:
    """Some runs of one contestant: seconds of each, what to divide by, and a sum of what came out."""

    seconds: tuple[float, ...]
    units: int
    checksum: str = ""

    @property
    def middle(self) -> float:
        """Nanoseconds a unit, the median of these runs."""
        return statistics.median(self.seconds) * 1e9 / self.units


@dataclass(frozen=True, slots=True)
class Contestant:
    """Someone who can do a job: `run(runs)` does it that often. `equal`: the checksum has to agree."""

    name: str
    run: Callable[[int], Sample]
    equal: bool = True


@dataclass(frozen=True, slots=True)
class Goal:
    """What must hold: `who` at most `times` as long as `than`, or, without `than`, at most `times` units."""

    who: str
    times: float
    than: str | None = None

    def __str__(self) -> str:
        if self.than is None:
            return f"{self.who} <= {self.times:g}"
        if self.times < 1:
            return f"{self.who} {1 / self.times:g} x faster than {self.than}"
        return f"{self.who} <= {self.times:g} x {self.than}"


@dataclass(frozen=True, slots=True)
class Proof:
    """A comparison that a checksum cannot make; looked at once, outside of all clocks."""

    claim: str
    holds: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Job:
    """One row of results: who runs, against whom ratios are taken, what must hold."""

    name: str
    title: str
    unit: str
    contestants: tuple[Contestant, ...]
    baseline: str
    goals: tuple[Goal, ...] = ()
    proofs: tuple[Proof, ...] = ()
    absent: tuple[str, ...] = ()  # who could not come, and why
    note: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """Least, middle and most of some figures."""

    least: float
    middle: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Self:
        """Of at least one figure."""
        return cls(min(figures), statistics.median(figures), max(figures))

    def __format__(self, spec: str) -> str:
        return f"{self.middle:{spec}} ({self.least:{spec}} to {self.most:{spec}})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured of one job, by contestant; `turns` holds nanoseconds a unit, turn by turn."""

    job: Job
    turns: dict[str, list[float]]
    checksums: dict[str, str] = field(default_factory=dict)
    proofs: dict[str, bool] = field(default_factory=dict)

    def time(self, who: str) -> Spread:
        """Nanoseconds a unit."""
        return Spread.of(self.turns[who])

    def ratio(self, who: str, than: str) -> Spread:
        """How many times as long as another one, turn by turn."""
        return Spread.of(
            [ours / theirs for ours, theirs in zip(self.turns[who], self.turns[than], strict=True)]
        )

    def reached(self, goal: Goal) -> bool | None:
        """Whether a goal holds; None if someone it names did not run."""
        if goal.who not in self.turns or (goal.than is not None and goal.than not in self.turns):
            return None
        measured = self.time(goal.who) if goal.than is None else self.ratio(goal.who, goal.than)
        return measured.middle <= goal.times

    @property
    def agree(self) -> bool | None:
        """Whether all that had to compute the same did; None if there was nobody to compare with."""
        sums = [
            self.checksums[one.name]
            for one in self.job.contestants
            if one.equal and one.name in self.checksums
        ]
        return len(set(sums)) == 1 if len(sums) > 1 else None


def measure(job: Job, *, turns: int, runs: int) -> Outcome:
    """Lets the contestants of a job run in turn, after one run each that does not count."""
    outcome = Outcome(job, {one.name: [] for one in job.contestants})
    for one in job.contestants:
        one.run(1)
    for _ in range(turns):
        for one in job.contestants:
            sample = one.run(runs)
            outcome.turns[one.name].append(sample.middle)
            outcome.checksums[one.name] = sample.checksum
    for proof in job.proofs:
        outcome.proofs[proof.claim] = proof.holds()
    return outcome


def timed(
    work: Callable[[], Any], units: int, total: Callable[[Any], str] | None = None
) -> Callable[[int], Sample]:
    """`run` of a contestant in this process; `total` sums up what the last run returned."""

    def run(runs: int) -> Sample:
        seconds = []
        last = None
        for _ in range(runs):
            del last
            start = now()
            last = work()
            seconds.append(now() - start)
        return Sample(tuple(seconds), units, total(last) if total else "")

    return run


class Worker:
    """A program that waits for `job runs [dump]` lines and answers each with one JSON object."""

    def __init__(self, command: Sequence[str | os.PathLike[str]]) -> None:
        self._command = command
        root = Path(__file__).resolve().parents[1]  # where `python -m benchmarks.…` works
        self._process = subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def ask(self, job: str, runs: int, dump: Path | None = None) -> dict[str, Any]:
        """Sends one request and waits for the answer; raises `RuntimeError` if there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{job} {runs} {dump or ''}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            raise RuntimeError(f"{self._command[0]} {job}: {answer['error']}")
        return answer

    def contestant(self, name: str, job: str, *, equal: bool = True) -> Contestant:
        """One of its jobs."""

        def run(runs: int) -> Sample:
            answer = self.ask(job, runs)
            return Sample(tuple(answer["seconds"]), answer["units"], answer["checksum"])

        return Contestant(name, run, equal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
