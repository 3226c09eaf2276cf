"""Processes that work on a store, forked from one that has imported everything: a thousand of them are cheap.

python -m tests.store_nursery ROOT RAW RIGHT OUT

Each line on standard input is the seed of a process to fork; its number is the answer. What a process is at
is in `OUT/<pid>.step`, and what it got that is not right, or raised, in `OUT/<pid>.wrong`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

import featureplane as fp
from tests.contract import project
from tests.store_worker import opened
from tests.stored import OTHER, SET, SYMBOL, at

DAYS = 2
LIMITS = {"max_cache_size_gb": 0.00012, "hot_tier_gb": 0.00006}
"""So small that not all that is asked for has room."""

IDLE, OPENING = "between two steps", "opening"

Right = dict[tuple[str, int], pa.Table]
"""What every reader must get, by set and day."""


def right_of(store: fp.FeatureStore) -> Right:
    return {
        (fset.feature_set_id, day): store.get_or_compute(SYMBOL, at(day), at(day + 1), fset).table()
        for fset in (SET, OTHER)
        for day in range(DAYS)
    }


def keep(right: Right, folder: Path) -> None:
    for (name, day), table in right.items():
        with pa.ipc.new_file(str(folder / f"{name}.{day}.arrow"), table.schema) as writer:
            writer.write_table(table)


def _kept(folder: Path) -> Right:
    found: Right = {}
    for path in folder.glob("*.arrow"):
        name, day, _ = path.name.rsplit(".", 2)
        found[name, int(day)] = pa.ipc.open_file(str(path)).read_all()
    return found


def _work(root: str, raw: str, seed: int, right: Right, out: Path) -> None:
    """Ask, warm, clear, evict and mend in any order until somebody ends it."""
    draw = random.Random(seed)
    step = os.open(out / f"{os.getpid()}.step", os.O_WRONLY | os.O_CREAT)

    def at_step(name: str) -> None:
        os.pwrite(step, name.encode().ljust(32), 0)

    store = opened(root, raw, at_step, LIMITS)
    while True:
        at_step(IDLE)
        day, fset = draw.randrange(DAYS), draw.choice([SET, OTHER])
        match draw.randrange(20):
            case 0 | 1:
                store.clear(SYMBOL)
            case 2:
                store.evict()
            case 3:
                store.fsck(repair=True)
            case 4 | 5:
                store.warm([SYMBOL], at(day), at(day + 1), fset)
            case _:
                got = store.get_or_compute(SYMBOL, at(day), at(day + 1), fset)
                table = got.table()
                if not table.equals(right[fset.feature_set_id, day]):
                    raise AssertionError(f"wrong rows of {got}")


def _forked(root: str, raw: str, seed: int, right: Right, out: Path) -> int:
    child = os.fork()
    if child:
        return child
    try:
        _work(root, raw, seed, right, out)
    except BaseException:  # noqa: BLE001 - told to whoever forked us
        (out / f"{os.getpid()}.wrong").write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        os._exit(1)


class Nursery:
    """Forks processes on a store, and kills them."""

    def __init__(self, root: Path, raw: Path, right: Path, out: Path) -> None:
        command = [sys.executable, "-m", "tests.store_nursery", *map(str, (root, raw, right, out))]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=project.ROOT, stdin=pipe, stdout=pipe, text=True)
        self._out = out

    def fork(self, seed: int) -> int:
        """The number of a new process."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{seed}\n")
        stdin.flush()
        return int(stdout.readline())

    def at(self, pid: int) -> str:
        """What a process is at."""
        try:
            return (self._out / f"{pid}.step").read_text(encoding="ascii").strip() or OPENING
        except FileNotFoundError:
            return OPENING

    def wait_for(self, pid: int) -> None:
        """Until a process has opened the store."""
        until = time.monotonic() + 30
        while self.at(pid) == OPENING:
            assert time.monotonic() < until, "a process that does not begin"
            time.sleep(0.002)

    def kill(self, pid: int) -> str:
        """End a process at once; what it was at."""
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 30
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < until, "a process that does not end"
            time.sleep(0.002)
        return self.at(pid)

    def wrong(self) -> list[str]:
        """What any of them got that was not right, or raised."""
        return [path.read_text(encoding="utf-8") for path in sorted(self._out.glob("*.wrong"))]

    def close(self) -> None:
        """No more of them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


@contextmanager
def nursery(root: Path, raw: Path, right: Right, scratch: Path) -> Iterator[Nursery]:
    """A nursery whose processes hold what they read against `right`."""
    tables, out = scratch / "right", scratch / "out"
    for folder in (tables, out):
        folder.mkdir(parents=True)
    keep(right, tables)
    made = Nursery(root, raw, tables, out)
    try:
        yield made
    finally:
        made.close()


def main(root: str, raw: str, right: str, out: str) -> None:
    """Fork as long as somebody asks."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who is killed
    kept = _kept(Path(right))
    for line in sys.stdin:
        print(_forked(root, raw, int(line), kept, Path(out)), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
