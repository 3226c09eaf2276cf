"""Runs every benchmark in one go, everybody in turn, and writes down what came out.

    python -m benchmarks.run             writes benchmarks/RESULTS.md
    python -m benchmarks.run --json      one JSON object on standard output, nothing written
    python -m benchmarks.run --smoke     a short recording, once: does everything still run?

`BENCH_CLOCK=cpu` counts processor time instead of the wall's, for a machine that others use.

Exit status: 0 measured, 1 two that had to compute the same did not, 2 something could not run. A goal
that is missed is told, and is no error: it may be the machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

from rich.console import Console

from benchmarks import results
from benchmarks.harness import Job, Outcome, measure
from benchmarks.peers import Peers, gather
from benchmarks.recording import Recording, canonical
from featureplane.errors import SettingError

__all__ = ["main"]

MODULES = (
    "parse",
    "capture",
    "book",
    "features",
    "table",
    "streaming",
    "pull",
    "shadow",
    "step",
    "backtest",
    "nautilus",
    "start",
    "store",
)
SMOKE_MESSAGES = 2_000


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object and write no file")
    parser.add_argument(
        "--smoke", action="store_true", help="a short recording, one run, no peers from outside"
    )
    parser.add_argument("--only", metavar="JOB", action="append", help="this job; may be repeated")
    parser.add_argument("--turns", type=int, default=7, help="how often everybody has a turn  [default: 7]")
    parser.add_argument("--runs", type=int, default=3, help="runs in a turn  [default: 3]")
    return parser.parse_args(given)


@contextmanager
def _one_core() -> Iterator[None]:
    """Keeps this process, and those it starts, on one core: the last one, the least used for chores."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def jobs(recording: Recording, peers: Peers) -> list[Job]:
    """All jobs, in the order in which data move."""
    found: list[Job] = []
    for name in MODULES:
        found += importlib.import_module(f"benchmarks.bench_{name}").jobs(recording, peers)
    return found


def _check_names(asked: Sequence[str], recording: Recording) -> None:
    """Refuse the name of no job, before a peer is installed for it."""
    with gather(recording, outside=False) as nobody:
        names = [job.name for job in jobs(recording, nobody)]
    for name in asked:
        if name not in names:
            near = [f"did you mean {one}?" for one in get_close_matches(name, names, 1)]
            hint = " ".join([*near, f"the jobs are {', '.join(names)}"])
            raise SettingError(f"--only {name}: found no such job", hint=hint)


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print, write; see the module."""
    options = _arguments(given)
    turns, runs = (1, 1) if options.smoke else (options.turns, options.runs)
    console = Console(stderr=options.json)
    recording = canonical(messages_max=SMOKE_MESSAGES if options.smoke else None)
    try:
        _check_names(options.only or (), recording)
    except SettingError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    with _one_core(), gather(recording, outside=not options.smoke) as peers:
        for job in jobs(recording, peers):
            if options.only and job.name not in options.only:
                continue
            outcome = measure(job, turns=turns, runs=runs)
            outcomes.append(outcome)
            results.show(console, outcome)
    summary = results.Summary.of(recording, outcomes, turns=turns, runs=runs)
    if options.json:
        print(json.dumps(summary.as_json()))
    elif not options.smoke and not options.only:
        summary.write()
        console.print(f"written: {results.PATH}")
    return summary.status


if __name__ == "__main__":
    sys.exit(main())
