"""Many processes that open the same stored day in a closed loop: how long one waits, how many are served.

A request takes microseconds, and a processor is handed on after milliseconds: with more clients than cores
one request in so many waits until all other clients have had their turn. So the p99 tells whether requests
are short enough that fewer than one in a hundred is cut in two.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Contestant, Goal, Job, Sample

__all__ = ["clients_job"]

CLIENTS, SECONDS = 32, 1.0
P99_US, REQUESTS_A_SECOND = 34_000.0, 1_450
_PER_US = 1_000
_HOW = {"hand": "by hand", "store": "featureplane"}


class _Clients:
    """Runs them; the rate is that of the run whose p99 was told last."""

    def __init__(self, how: str, asked: list[str], clients: int, seconds: float) -> None:
        self._command = [sys.executable, "-m", "benchmarks.store_client", how, *asked, str(seconds)]
        self._clients, self._seconds = clients, seconds
        self._rates: list[float] = []

    def p99(self, runs: int) -> Sample:
        taken = [self._taken() for _ in range(runs)]
        self._rates = [self._seconds / len(one) for one in taken]
        return Sample(tuple(float(np.percentile(one, 99)) / 1e9 for one in taken), _PER_US)

    def each(self, runs: int) -> Sample:
        if not self._rates:
            self.p99(runs)
        return Sample(tuple(self._rates), _PER_US)

    def _taken(self) -> npt.NDArray[np.int64]:
        """The nanoseconds of every request of all of them."""
        pipe, root = subprocess.PIPE, Path(__file__).resolve().parents[1]
        clients = [
            subprocess.Popen(self._command, cwd=root, stdin=pipe, stdout=pipe) for _ in range(self._clients)
        ]
        for one in clients:
            assert one.stdout is not None
            if one.stdout.readline() != b"ready\n":
                raise RuntimeError(" ".join(self._command))
        for one in clients:
            assert one.stdin is not None
            one.stdin.write(b"\n")
            one.stdin.flush()
        return np.concatenate([np.frombuffer(one.communicate()[0], np.int64) for one in clients])


def clients_job(root: Path, file: Path, asked: tuple[str, str, str, str], *, small: bool) -> Job:
    """The job; `asked` are symbol, start, end and set."""
    many, seconds = (2, 0.05) if small else (CLIENTS, SECONDS)
    contestants = []
    for how, name in _HOW.items():
        clients = _Clients(how, [str(root), str(file), *asked], many, seconds)
        contestants += [
            Contestant(f"{name}, p99", clients.p99, equal=False),
            Contestant(f"{name}, a request served", clients.each, equal=False),
        ]
    ours = _HOW["store"]
    return Job(
        "store_clients",
        f"{many} processes that open the same stored day in a closed loop, on all cores",
        "us",
        tuple(contestants),
        baseline=f"{_HOW['hand']}, p99",
        goals=(
            Goal(f"{ours}, p99", P99_US),
            Goal(f"{ours}, a request served", 1e6 / REQUESTS_A_SECOND),
        ),
        note="A request served: the time in which all of them together have one answered. "
        "By hand: a look at the raw file, a look-up in the manifest, the file opened.",
    )
