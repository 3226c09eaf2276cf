"""What goes when room is needed, and that there is never more than there may be."""

from __future__ import annotations

import os
import random
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest

import featureplane as fp
from featureplane.clock import ManualClock
from featureplane.features import kernels as k
from featureplane.features.spec import FeatureSet
from featureplane.research.store.dayfile import DayFacts
from featureplane.research.store.eviction import Eviction
from featureplane.research.store.manifest import Manifest, Row
from featureplane.research.store.shelf import Shelf
from tests import stored
from tests.stored import SET, SYMBOL, at

ROOM, SIZE = 40, 1_000


class Kept:
    """A store of days of one size, without the days: what is asked for and not there is put in."""

    def __init__(self, root: Path) -> None:
        self.clock = ManualClock(1)
        self.manifest, self.shelf = Manifest(root), Shelf(root)
        self.eviction = Eviction(self.manifest, self.shelf, self.clock)
        self.root = root

    def ask(self, key: str, seconds: float = 1.0) -> bool:
        """Whether it was there."""
        self.clock.move(1)
        now_ns = self.clock.wall_ns()
        if self.manifest.find(key) is not None:
            self.manifest.note_uses({key: (1, now_ns)})
            return True
        over = self.manifest.totals()[1] + SIZE - ROOM * SIZE
        if over > 0:
            assert self.eviction.free(over) >= over
        facts = DayFacts(key, "set", "print", "SYM", "day", 0, 1, 1, ("",) * 8, "")
        (self.root / key).touch()
        made = Row.of(facts, key, size=SIZE, checksum="", seconds=seconds, created_ns=now_ns, now_ns=now_ns)
        with self.manifest.writing() as connection:
            level = connection.execute("SELECT level FROM aging").fetchone()[0]
            self.manifest.put(made.aged(level), connection)
        return False


def trace(seed: int, count: int = 3_000) -> list[str]:
    """Zipf over 200 days, and now and then a pass over days that nobody asks for again."""
    draw = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(200)]
    asked: list[str] = []
    scans = 0
    while len(asked) < count:
        if draw.random() < 0.004:
            scans += 1
            asked += [f"scan{scans}-{n}" for n in range(ROOM)]
        asked.append(f"day{draw.choices(range(200), weights)[0]}")
    return asked


def lru(asked: list[str]) -> int:
    held: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for key in asked:
        hits += key in held
        held[key] = None
        held.move_to_end(key)
        if len(held) > ROOM:
            held.popitem(last=False)
    return hits


def best(asked: list[str]) -> int:
    """Belady's: what is asked for again last goes."""
    never = len(asked)
    following = [never] * len(asked)
    last: dict[str, int] = {}
    for place in range(len(asked) - 1, -1, -1):
        following[place] = last.get(asked[place], never)
        last[asked[place]] = place
    held: dict[str, int] = {}
    hits = 0
    for place, key in enumerate(asked):
        hits += key in held
        held[key] = following[place]
        if len(held) > ROOM:
            del held[max(held, key=held.__getitem__)]
    return hits


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_more_hits_than_the_least_recently_used(seed: int, tmp_path: Path) -> None:
    asked = trace(seed)
    kept = Kept(tmp_path)
    hits = sum(kept.ask(key) for key in asked)
    assert hits >= lru(asked)
    assert hits >= 0.75 * best(asked)
    there = [kept.manifest.find(f"day{rank}") is not None for rank in range(5)]
    assert all(there), "what is asked for most is there"
    kept.manifest.close()


def test_what_is_dear_stays_and_what_is_pinned(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.ask("pinned", seconds=0.001)
    kept.manifest.connection().execute("UPDATE manifest SET pinned = 1")
    kept.ask("dear", seconds=1_000.0)
    for number in range(3 * ROOM):
        kept.ask(f"cheap{number}")
    assert kept.ask("pinned")
    assert kept.ask("dear")
    for number in range(4_000 * ROOM // 40):
        kept.ask(f"later{number}", seconds=20.0)
    assert not kept.ask("dear"), "nothing stays for good because it was once dear"
    kept.manifest.close()


def test_what_nobody_used_for_long_expires(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.ask("old")
    kept.clock.move(5 * stored.DAY_NS)
    kept.ask("new")
    assert kept.eviction.expire(4) == SIZE
    assert kept.eviction.removed == {"expired": 1}
    assert kept.manifest.why_gone("old") == "expired"
    kept.manifest.close()


def sets() -> list[FeatureSet]:
    features = {f"ema{span}": k.ema(k.spread(), span=span) for span in range(2, 40)}
    return [
        FeatureSet(f"wide_{n}", features={**features, "own": k.ema(k.mid_x2(), span=n + 2)}) for n in range(4)
    ]


def used_bytes(root: Path) -> int:
    """Bytes of days, mapped days, and what is being written."""
    return sum(size for path, size in sizes(root) if path.endswith((".parquet", ".arrow", ".part")))


def sizes(root: Path) -> Iterator[tuple[str, int]]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - many times a second
            try:
                yield path, os.stat(path).st_size  # noqa: PTH116 - as above
            except OSError:
                continue


def test_there_is_never_more_than_there_may_be(tmp_path: Path) -> None:
    """A working set some four times as large as the limit, looked at all the time."""
    days, fsets, root = 6, sets(), tmp_path / "root"
    data = stored.dataset(tmp_path / "raw", days)
    limits = {"max_cache_size_gb": 0.0007, "hot_tier_gb": 0.0002, "cleanup_threshold": 0.8}
    limit = int(limits["max_cache_size_gb"] * (1 << 30))
    most, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.is_set():
            most = max(most, used_bytes(root))

    watching = threading.Thread(target=watch)
    draw = random.Random(1)
    asked: list[tuple[int, int]] = [(day, n) for n in range(4) for day in range(days)]
    asked += [(0, draw.randrange(2)) for _ in range(20)]
    asked += [(draw.randrange(days), draw.randrange(4)) for _ in range(30)]
    with fp.FeatureStore(root, data, limits=limits) as store:
        watching.start()
        total = 0
        try:
            for place, (day, number) in enumerate(asked):
                entry = store.get_or_compute(SYMBOL, at(day), at(day + 1), fsets[number])
                assert len(entry.table()) > 100
                if place < days * 4:
                    told = store.explain(SYMBOL, at(day), at(day + 1), fsets[number])[0]
                    assert told["stored"], told
                    total += told["bytes"]
                del entry
        finally:
            stop.set()
            watching.join()
        assert total > 3 * limit
        assert most <= limit
        assert most > limit // 2
        counted = store.stats()
        assert counted["removed"]["evicted"] > 10
        assert counted["requests"]["hit"] > 15
        assert store.fsck().clean


def test_a_day_larger_than_the_limit_is_computed_and_not_stored(tmp_path: Path) -> None:
    data = stored.dataset(tmp_path / "raw")
    averages = {f"ema{span}": k.ema(k.mid_x2(), span=span) for span in range(2, 80)}
    large = FeatureSet("large", features=averages)
    with fp.FeatureStore(tmp_path / "root", data, limits={"max_cache_size_gb": 0.0001}) as store:
        entry = store.get_or_compute(SYMBOL, at(0), at(2), large)
        assert set(entry.days.values()) == {"miss"}
        assert len(entry.table()) > 100
        assert store.stats()["days"] == 0
        assert list((tmp_path / "root").rglob("*.part")) == []


def test_evicting_goes_down_to_the_threshold(tmp_path: Path) -> None:
    data = stored.dataset(tmp_path / "raw")
    with fp.FeatureStore(tmp_path / "root", data) as store:
        store.warm([SYMBOL], at(0), at(2), SET)
        stats = store.stats()
    limit = (stats["bytes"] + stats["hot_bytes"]) / (1 << 30)
    limits = {"max_cache_size_gb": limit, "cleanup_threshold": 0.5, "retention_days": 36_500}
    with fp.FeatureStore(tmp_path / "root", data, limits=limits) as store:
        assert store.pin(SYMBOL, at(0), at(1)) == 1
        store.evict()
        after = store.stats()
        assert after["hot_bytes"] < stats["hot_bytes"]
        assert after["bytes"] + after["hot_bytes"] <= (stats["bytes"] + stats["hot_bytes"]) / 2
        assert store.explain(SYMBOL, at(0), at(1), SET)[0]["pinned"]


def test_evicting_takes_back_what_the_dead_left(tmp_path: Path) -> None:
    """And nothing of who is alive and slow."""
    root = tmp_path / "root"
    with fp.FeatureStore(root, stored.dataset(tmp_path / "raw")) as store:
        store.warm([SYMBOL], at(0), at(2), SET)
        lease = store._root.leases.take("slow")
        assert lease is not None
        day = next(root.glob("*/*/*/*.parquet")).parent
        left = [
            day / ".dead.parquet.aa.part",
            root / ".hot" / ".dead.arrow.aa.part",
            root / ".hot" / "dead.arrow",
        ]
        slow = day / ".slow.parquet.aa.part"
        for path in (*left, slow):
            path.write_bytes(b"begun")
            os.utime(path, ns=(1, 1))
        with store._root.leases.held(lease):
            store.evict()
            assert store.fsck().torn == []
            assert [path.exists() for path in (*left, slow)] == [False, False, False, True]
        assert store.fsck().torn == [str(slow.relative_to(root))]
        store.evict()
        assert not slow.exists()
        assert store.stats()["hot_days"] == len(list((root / ".hot").glob("*.arrow"))) == 2
