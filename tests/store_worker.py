"""A process that works on a store: killed at a step, or one of many that want the same.

python -m tests.store_worker TASK ROOT RAW ...
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import featureplane as fp
from featureplane.clock import SYSTEM
from tests.stored import OTHER, SET, SYMBOL, at, whole


def opened(
    root: str, raw: str, on_step: Callable[[str], None] | None = None, limits: dict[str, float] | None = None
) -> fp.FeatureStore:
    files = sorted(Path(raw).glob("*.fpcap"))
    return fp.FeatureStore(root, fp.Dataset(files, "capture"), limits=limits, on_step=on_step)


def die_at(root: str, raw: str, step: str, number: str) -> None:
    """Everything that writes, and no further than to the nth time of a step."""
    seen = 0

    def reached(name: str) -> None:
        nonlocal seen
        seen += name == step
        if seen == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    store = opened(root, raw, reached)
    whole(store)
    store.warm([SYMBOL], at(0), at(2), SET)
    store.clear(SYMBOL)
    whole(store, fset=OTHER)


def ask(root: str, raw: str, begin_ns: str) -> None:
    """Wait for the moment, ask for one day, and tell what came of it."""
    store = opened(root, raw)
    while SYSTEM.wall_ns() < int(begin_ns):
        pass
    entry = store.get_or_compute(SYMBOL, at(0), at(1), SET)
    rows = len(entry.table())
    print(json.dumps({"result": next(iter(entry.days.values())), "rows": rows}))  # noqa: T201 - as above
    store.close()


if __name__ == "__main__":
    tasks: dict[str, Callable[..., None]] = {"die_at": die_at, "ask": ask}
    tasks[sys.argv[1]](*sys.argv[2:])
