"""A working set of four times what the store may take: the limit holds, and what is asked for most is there.

Ten million rows in `make soak`, a share of them in every run of the tests.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

import featureplane as fp
from benchmarks.bench_store import DAY, made_day
from featureplane.features import kernels as k
from tests.caching import clairvoyant_hits, lru_hits, most_saved
from tests.soak import SCALE

ROWS, SYMBOLS, REQUESTS = 10_000_000, 60, 600
GROWS = ("group", "written", "recorded", "hot")  # steps at which there may be more than before
SETS = (
    fp.FeatureSet(
        "small", features={"mid": k.mid_x2(), "spread": k.spread(), "ema": k.ema(k.spread(), span=8)}
    ),
    fp.feature_set("lob_shared_v1"),
)
DATA = (".parquet", ".arrow", ".part")


@dataclass
class Asked:
    """What is asked for: a symbol and a set, as text."""

    names: list[str]
    trace: list[str] = field(default_factory=list)

    @classmethod
    def drawn(cls, symbols: list[str], count: int, seed: int) -> Asked:
        """Zipf over all that is stored, and now and then a pass over a quarter of it, each asked for once."""
        draw = random.Random(seed)
        made = cls([f"{symbol} {number}" for symbol in symbols for number in range(len(SETS))])
        draw.shuffle(made.names)
        weights = [1 / (rank + 1) for rank in range(len(made.names))]
        while len(made.trace) < count:
            if draw.random() < 0.004:
                first = draw.randrange(len(made.names))
                made.trace += (made.names * 2)[first : first + len(made.names) // 4]
            made.trace += draw.choices(made.names, weights)
        return made


class Watch:
    """How much there was at most, looked at all the time, and whenever a write has made it more."""

    def __init__(self, root: Path) -> None:
        self.root, self.most, self.looks = root, 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._always)

    def look(self, step: str = "") -> None:
        if step and step not in GROWS:
            return
        taken = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.endswith(DATA):
                    try:
                        taken += os.stat(os.path.join(folder, name)).st_size  # noqa: PTH116, PTH118 - often
                    except FileNotFoundError:
                        continue
        self.most, self.looks = max(self.most, taken), self.looks + 1

    def _always(self) -> None:
        while not self._stop.wait(0.02):
            self.look()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def made(folder: Path, rows: int, symbols: int) -> tuple[fp.Dataset, list[str]]:
    """Days of several sizes, so many rows of both sets together."""
    folder.mkdir()
    names = [f"S{number:03}" for number in range(symbols)]
    draw = random.Random(1)
    shares = [draw.uniform(0.4, 1.6) for _ in names]
    for number, (name, share) in enumerate(zip(names, shares, strict=True)):
        count = int(rows / len(SETS) * share / sum(shares)) + 1
        made_day(folder / f"{name}.fpcap", count, name, seed=number)
    return fp.Dataset(sorted(folder.glob("*.fpcap")), "capture"), names


def asked_for(store: fp.FeatureStore, name: str) -> fp.StoreEntry:
    symbol, number = name.split()
    return store.get_or_compute(symbol, *DAY, SETS[int(number)])


def stored_all(
    root: Path, data: fp.Dataset, names: list[str]
) -> tuple[dict[str, int], dict[str, float], int]:
    """The size and the cost of each, and the rows of all, in a store that has room for them."""
    sizes, seconds, rows = dict[str, int](), dict[str, float](), 0
    with fp.FeatureStore(root, data) as store:
        for name in names:
            (key,) = asked_for(store, name).keys.values()
            row = store._root.written.find(key)
            assert row is not None
            sizes[name], seconds[name], rows = row.bytes, row.seconds, rows + row.rows
        store.clear()
        assert store.stats()["days"] == 0
    return sizes, seconds, rows


@pytest.mark.parametrize(
    ("scale", "symbols", "hottest"),
    [
        pytest.param(0.01, 20, 1, id="small"),
        pytest.param(SCALE, SYMBOLS, 5, id="whole", marks=pytest.mark.soak),
    ],
)
def test_a_working_set_of_four_times_the_limit(
    scale: float, symbols: int, hottest: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    root = tmp_path / "root"
    data, about = made(tmp_path / "raw", round(ROWS * scale), symbols)
    asked = Asked.drawn(about, max(200, round(REQUESTS * scale)), seed=4)
    sizes, seconds, rows = stored_all(root, data, asked.names)
    whole = sum(sizes.values())
    limit = whole / 4 / (1 << 30)
    limits = {"max_cache_size_gb": limit, "hot_tier_gb": limit / 10}
    watch = Watch(root)
    results: Counter[str] = Counter()
    saved = 0.0
    with fp.FeatureStore(root, data, limits=limits, on_step=watch.look) as store, watch:
        room = store.stats()["bytes_max"]
        for place, name in enumerate(asked.trace):
            entry = asked_for(store, name)
            (result,) = entry.days.values()
            results[result] += 1
            saved += seconds[name] * (result == "hit")
            if place % 10 == 0:
                assert len(entry.table()) > 0  # now and then it goes into the hot tier, or would
            del entry
        kept = [store.explain(name.split()[0], *DAY, SETS[int(name.split()[1])])[0] for name in asked.names]
        counted = store.stats()
        assert store.fsck().clean
    count = len(asked.trace)
    lru, best = lru_hits(asked.trace, sizes, room), clairvoyant_hits(asked.trace, sizes, room)
    bound = most_saved(asked.trace, sizes, dict.fromkeys(sizes, 1.0), room)
    bound_s = most_saved(asked.trace, sizes, seconds, room)
    told = {"requests": count, "rows stored": rows, "bytes stored in all": whole}
    told |= {"looks at the limit": watch.looks, "% of the limit at most": round(100 * watch.most / room)}
    told |= {"% hits": round(100 * results["hit"] / count), "% hits of LRU": round(100 * lru / count)}
    told |= {"% hits of Belady": round(100 * best / count), "% hits at best": round(100 * bound / count)}
    told |= {"% of the seconds that can be saved": round(100 * saved / bound_s)}
    for name, value in told.items():
        record_property(name, value)
    print(told, dict(results), counted["removed"])  # noqa: T201 - for the page of a soak
    assert results["hit"] + results["miss"] == count
    assert watch.most <= room
    assert results["hit"] >= lru
    assert results["hit"] >= 0.7 * best
    assert all(one["stored"] for one in kept[:hottest]), "what is asked for most is there"
