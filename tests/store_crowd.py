"""Many processes that ask one store at the same moment, forked from one that has imported everything.

python -m tests.store_crowd TASK PROCESSES ROOT RAW

`one`: all ask for the same day. `own`: each asks for days of its own. Prints one JSON object a process: what
came of its days, and seconds: of all, of its processor, and of write transactions, waited for and held.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sqlite3
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import featureplane as fp
from benchmarks.bench_store import DAY
from featureplane.research.store.manifest import Manifest
from tests.stored import OTHER, SET

SETS = (SET, OTHER)


class Timed(Manifest):
    """A manifest whose write transactions are timed."""

    waited = held = 0.0

    @contextmanager
    def timed(self) -> Iterator[sqlite3.Connection]:
        began = time.perf_counter()
        with _writing(self) as connection:
            taken = time.perf_counter()
            try:
                yield connection
            finally:
                Timed.waited += taken - began
                Timed.held += time.perf_counter() - taken


_writing = Manifest.writing


def asked(task: str, number: int, root: str, raw: str, begin: float) -> str:
    Manifest.writing = Timed.timed  # type: ignore[method-assign, assignment] # in this process alone
    files = sorted(Path(raw).glob("*.fpcap"))
    mine = files[:1] if task == "one" else files[number : number + 1]
    with fp.FeatureStore(root, fp.Dataset(mine, "capture")) as store:
        time.sleep(max(0.0, begin - time.monotonic()))
        cpu, wall = time.process_time(), time.monotonic()
        results: Counter[str] = Counter()
        for fset in SETS[:1] if task == "one" else SETS:
            results.update(store.get_or_compute(mine[0].stem, *DAY, fset).days.values())
        ended = time.monotonic()
        told = {"results": results, "begun": wall, "ended": ended, "cpu": time.process_time() - cpu}
        return json.dumps(told | {"waited": Timed.waited, "held": Timed.held})


def main(task: str, processes: str, root: str, raw: str) -> None:
    """Fork them, and print what each has to say."""
    begin = time.monotonic() + 2.0 + int(processes) / 8
    pipes = []
    faulthandler.enable()
    for number in range(int(processes)):
        reading, writing = os.pipe()
        if not os.fork():
            try:
                os.write(writing, asked(task, number, root, raw, begin).encode())
            except BaseException:  # noqa: BLE001 - told to whoever waits
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writing)
        pipes.append(reading)
    for pipe in pipes:
        with os.fdopen(pipe) as said:
            print(said.read())  # noqa: T201 - the answer
    for _ in pipes:
        _, status = os.wait()
        if status:
            print(f"a process ended with status {status}", file=sys.stderr)  # noqa: T201 - as above


if __name__ == "__main__":
    main(*sys.argv[1:])
