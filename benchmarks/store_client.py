"""One of many clients of a store: opens the same day again and again, and says how long each time took.

python -m benchmarks.store_client HOW ROOT FILE SYMBOL START END SET SECONDS

`HOW` is `store`, or `hand` for what nobody gets around: looking at the raw file, a look-up, opening a file.
It says `ready`, waits for a line, and writes the nanoseconds of each request as they lie in memory.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import featureplane as fp

__all__ = ["main"]

_TEXT = "SELECT path, checksum, bytes FROM manifest"


def _by_store(root: str, file: str, asked: Sequence[str]) -> Callable[[], object]:
    symbol, start, end, fset = asked
    store = fp.FeatureStore(root, fp.Dataset(file, "capture"))
    return lambda: store.get_or_compute(symbol, start, end, fset)


def _by_hand(root: str, file: str) -> Callable[[], object]:
    manifest = sqlite3.connect(Path(root) / "manifest.sqlite")

    def opened() -> None:
        os.stat(file)  # noqa: PTH116 - as fast as it goes
        path, _, _ = manifest.execute(_TEXT).fetchone()
        os.close(os.open(f"{root}/{path}", os.O_RDONLY))

    return opened


def main(given: Sequence[str]) -> None:
    """Ask until the time is over."""
    how, root, file, *asked, seconds = given
    with suppress(OSError):  # whoever measures keeps to one core
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    ask = _by_hand(root, file) if how == "hand" else _by_store(root, file, asked)
    ask()
    print("ready", flush=True)
    sys.stdin.readline()
    took, now = array("q"), time.perf_counter_ns
    before = now()
    end = before + int(float(seconds) * 1e9)
    while before < end:
        ask()
        after = now()
        took.append(after - before)
        before = after
    sys.stdout.buffer.write(took.tobytes())


if __name__ == "__main__":
    main(sys.argv[1:])
