"""A thousand kills under load: nothing readable is wrong, nothing stays stuck, and the disk does not fill.

All of them in `make soak`; twenty in every run of the tests.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import featureplane as fp
from tests import stored
from tests.soak import share
from tests.store_nursery import DAYS, IDLE, LIMITS, Nursery, Right, nursery, right_of
from tests.stored import OTHER, SET, SYMBOL, at

AT_ONCE, KILLS, LOOK_EVERY = 3, 1_000, 50
LIMIT = int(LIMITS["max_cache_size_gb"] * (1 << 30))
DATA = (".parquet", ".arrow", ".part")


class Ground:
    """A store that is being worked on, and what is known of it."""

    def __init__(self, tmp_path: Path) -> None:
        self.root, self.raw = tmp_path / "root", tmp_path / "raw"
        self.data = stored.dataset(self.raw, DAYS)
        with fp.FeatureStore(tmp_path / "right", self.data) as store:
            self.right: Right = right_of(store)
        self.most, self.most_files = 0, 0
        self.at: Counter[str] = Counter()

    def look(self, store: fp.FeatureStore, draw: random.Random) -> None:
        """What a reader gets who is never killed, and how much there is."""
        day, fset = draw.randrange(DAYS), draw.choice([SET, OTHER])
        got = store.get_or_compute(SYMBOL, at(day), at(day + 1), fset)
        assert got.table().equals(self.right[fset.feature_set_id, day])
        sizes = []
        for folder, _, names in os.walk(self.root):
            for name in names:
                try:
                    sizes.append((name.endswith(DATA), os.stat(os.path.join(folder, name)).st_size))  # noqa: PTH116, PTH118 - often
                except FileNotFoundError:
                    continue
        self.most = max(self.most, sum(size for is_data, size in sizes if is_data))
        self.most_files = max(self.most_files, len(sizes))

    def check(self) -> None:
        """Nobody is alive: all is right at once, and what is not clean can be made so."""
        with fp.FeatureStore(self.root, self.data, limits=LIMITS) as store:
            began = time.monotonic()
            assert all(table.equals(self.right[place]) for place, table in right_of(store).items())
            assert time.monotonic() - began < 12, "a lease of somebody dead was waited for"
            store.fsck(repair=True)
            report = store.fsck()
            assert report.clean, report
            assert store.leases() == []
            assert all(table.equals(self.right[place]) for place, table in right_of(store).items())


def _kill(ground: Ground, workers: Nursery, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    alive: list[int] = []
    with fp.FeatureStore(ground.root, ground.data, limits=LIMITS) as reader:
        for number in range(kills):
            while len(alive) < AT_ONCE:
                alive.append(workers.fork(draw.randrange(1 << 30)))
            chosen = alive.pop(draw.randrange(AT_ONCE))
            if draw.random() < 0.9:  # else it may be opening the store
                workers.wait_for(chosen)
            ground.look(reader, draw)
            time.sleep(draw.uniform(0, 0.05))
            ground.at[workers.kill(chosen)] += 1
            assert workers.wrong() == []
            if number % LOOK_EVERY == LOOK_EVERY - 1 or number == kills - 1:
                for pid in alive:
                    workers.kill(pid)
                alive.clear()
                ground.check()


@pytest.mark.parametrize(
    "kills",
    [pytest.param(20, id="few"), pytest.param(share(KILLS), id="thousand", marks=pytest.mark.soak)],
)
def test_killed_at_any_moment_under_load(
    kills: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    ground, seed = Ground(tmp_path), int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")  # noqa: T201 - shown where it fails
    with nursery(ground.root, ground.raw, ground.right, tmp_path / "scratch") as workers:
        _kill(ground, workers, kills, seed)
    record_property("kills", kills)
    record_property("kills between two steps", ground.at[IDLE])
    print(f"{kills} kills, at {dict(ground.at.most_common())}")  # noqa: T201 - for the page of a soak
    print(f"at most {ground.most:,} bytes of {LIMIT:,}, {ground.most_files} files")  # noqa: T201 - likewise
    assert ground.at.total() == kills
    assert ground.most < 2 * LIMIT  # what the dead left: of each key a part and a file without a row, at most
    assert ground.most_files < 150
