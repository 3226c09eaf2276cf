"""The store beside those who read the same file: a day of a million rows, a minute, a look-up, publishing.

The day is made up: one level changes a message, so that each of its rows is a frame of `lob_shared_v1`.
Polars, pyarrow, DuckDB and joblib read the Parquet file that the store wrote, or a pickle of the same table;
the limit of the hot tier is the same Arrow file, mapped by hand.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import featureplane as fp
from benchmarks.bench_clients import clients_job
from benchmarks.harness import Contestant, Goal, Job, Sample, now, timed
from benchmarks.peers import Peers
from benchmarks.recording import CACHE, Recording
from featureplane.market.events import EVENT_DTYPE, EventBatch, EventFlag, Kind, Side, SourceInfo
from featureplane.market.instruments import Instrument
from featureplane.market.sources.capture import write_capture
from featureplane.research.store.hot import hot_path

__all__ = ["DAY", "jobs", "made_day"]

ROWS, FEW_ROWS = 1_000_000, 2_000
LEVELS = 10
DAY_NS = 86_400_000_000_000
START_NS = 19_730 * DAY_NS  # 2024-01-08
DAY = "2024-01-08T00:00Z", "2024-01-09T00:00Z"
MINUTE = "2024-01-08T12:00Z", "2024-01-08T12:01Z"
SET = "lob_shared_v1"
_PUBLISHED = 20  # a run: how often a day is published, of which the p95 is told
_PER_MS, _PER_US = 1_000_000, 1_000
_SOURCE = SourceInfo("made", sequenced=True, has_snapshots=True, local_time=True, trade_sides=True)
_TEXT = "SELECT path, checksum, bytes FROM manifest WHERE key = ?"


def made_day(path: Path, rows: int, symbol: str = "DAY", seed: int = 1) -> None:
    """A day in a capture file: a snapshot, then so many changes of one level."""
    about = Instrument(venue="made", symbol=symbol, price_exponent=2, qty_exponent=0, tick_size="0.01")
    events = np.zeros(rows + 2 * LEVELS, EVENT_DTYPE)
    snapshot, changes = events[: 2 * LEVELS], events[2 * LEVELS :]
    draw = np.random.default_rng(seed)
    events["symbol_id"] = about.symbol_id
    below = np.arange(LEVELS)
    snapshot["kind"], snapshot["flags"], snapshot["qty"] = Kind.SNAPSHOT_LEVEL, EventFlag.RECOVERY, 100
    snapshot["side"] = np.repeat((Side.BID, Side.ASK), LEVELS)
    snapshot["price"] = np.concatenate([10_000 - below, 10_001 + below])
    snapshot["seq_last"], snapshot["source_ts_ns"] = 1, START_NS
    snapshot["flags"][-1] |= EventFlag.LAST
    side, depth = draw.integers(0, 2, rows), draw.integers(0, 6, rows)
    changes["kind"], changes["flags"], changes["side"] = Kind.LEVEL, EventFlag.LAST, side + 1
    changes["price"] = np.where(side == 0, 10_000 - depth, 10_001 + depth)
    changes["qty"] = draw.integers(1, 500, rows)
    changes["seq_last"] = np.arange(2, rows + 2)
    changes["seq_prev"] = changes["seq_last"] - 1
    changes["source_ts_ns"] = START_NS + np.sort(draw.integers(0, DAY_NS, rows))
    events["local_ts_ns"] = events["source_ts_ns"] + 2_000_000
    write_capture(path, EventBatch(events, (about,), _SOURCE))


class _Stored:
    """The day in two stores: one with a hot tier, one without."""

    def __init__(self, rows: int) -> None:
        folder = CACHE / f"store_{rows}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made_day(folder / "DAY.fpcap", rows)
        data = fp.Dataset(folder / "DAY.fpcap", "capture")
        self.hot = fp.FeatureStore(folder / "hot", data)
        self.hot.warm(["DAY"], *DAY, SET)
        self.cold = fp.FeatureStore(folder / "cold", data, limits={"hot_tier_gb": 0.0})
        self.key = self.cold.get_or_compute("DAY", *DAY, SET).keys["2024-01-08"]
        self.arrow = self.hot.root / hot_path(self.key)
        self.parquet = next(self.cold.root.glob("*/*/*/*.parquet"))
        self.names = list(fp.feature_set(SET).feature_ids)
        self.folder = folder
        self.manifest = sqlite3.connect(self.cold.root / "manifest.sqlite")

    def minute(self) -> None:
        self.hot.get_or_compute("DAY", *MINUTE, SET).table()

    def opened_minute(self) -> None:
        assert self.hot._fetcher is not None  # noqa: SLF001 - as a process that has not asked before
        self.hot._fetcher.forget()  # noqa: SLF001 - as above
        self.minute()


def _looked_at(table: pa.Table) -> int:
    """Every value of every column, so that no page of it was merely promised."""
    seen = 0
    for column in table.columns:
        for chunk in column.chunks:
            values = chunk.buffers()[1]
            assert values is not None
            words = np.frombuffer(memoryview(values), np.uint64, len(chunk), 8 * chunk.offset)
            seen ^= int(np.bitwise_xor.reduce(words))
    return seen


def _mapped(path: Path, names: list[str]) -> pa.Table:
    file = pa.ipc.open_file(pa.memory_map(str(path)))
    return file.read_all().select(names)


def _repeated(work: Callable[[], Any], times: int) -> Callable[[int], Sample]:
    def all_of_them() -> None:
        for _ in range(times):
            work()

    return timed(all_of_them, times * _PER_US)


def _optional(name: str, title: str, work: Callable[[Any], Any]) -> tuple[list[Contestant], list[str]]:
    """A peer that may not be installed, or why it cannot come."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return [], [f"{title}: not installed"]
    return [Contestant(title, timed(lambda: work(module), _PER_MS), equal=False)], []


def _day(stored: _Stored) -> Job:
    def ours() -> int:
        return _looked_at(stored.hot.get_or_compute("DAY", *DAY, SET).table(stored.names))

    by_hand = partial(_mapped, stored.arrow, stored.names)
    return Job(
        "store_day",
        "A stored day of 16 features from the hot tier, every value looked at",
        "ms",
        (
            Contestant("mapped Arrow file", timed(lambda: _looked_at(by_hand()), _PER_MS), equal=False),
            Contestant("featureplane", timed(ours, _PER_MS), equal=False),
        ),
        baseline="mapped Arrow file",
        goals=(Goal("featureplane", 1.5, "mapped Arrow file"),),
    )


def _from_parquet(stored: _Stored) -> Job:
    path, names = stored.parquet, stored.names
    pickle, by_polars = stored.folder / "day.joblib", stored.folder / "polars.parquet"

    def asked() -> fp.StoreEntry:
        return stored.cold.get_or_compute("DAY", *DAY, SET)

    def load(joblib: Any) -> Any:
        if not pickle.exists():
            joblib.dump(pq.read_table(path, columns=names), pickle)
        return joblib.load(pickle)

    def read_own(polars: Any) -> Any:
        if not by_polars.exists():
            polars.from_arrow(pq.read_table(path, columns=names)).write_parquet(by_polars)
        return polars.read_parquet(by_polars)

    text = f"SELECT {', '.join(names)} FROM '{path}'"  # noqa: S608 - our own file
    peers, absent = list[Contestant](), list[str]()
    for name, title, work in (
        ("polars", "polars", lambda module: module.read_parquet(path, columns=names)),
        ("polars", "polars, a file that it wrote", read_own),
        ("duckdb", "DuckDB", lambda module: module.sql(text).to_arrow_table()),
        ("joblib", "joblib, the table as a pickle", load),
    ):
        there, why = _optional(name, title, work)
        peers += there
        absent += why
    in_polars = any(one.name == "polars" for one in peers)
    ours = [Contestant("featureplane, table", timed(lambda: asked().table(names), _PER_MS), equal=False)]
    if in_polars:
        work = timed(lambda: asked().to_polars(names), _PER_MS)
        ours.append(Contestant("featureplane, to_polars", work, equal=False))
    others = [
        *peers,
        Contestant("pyarrow", timed(lambda: pq.read_table(path, columns=names), _PER_MS), equal=False),
    ]
    baseline = "polars" if in_polars else "pyarrow"
    return Job(
        "store_parquet",
        "The same from Parquet",
        "ms",
        _taking_turns(others, ours),
        baseline=baseline,
        goals=tuple(Goal(one.name, 1.0, baseline) for one in ours),
        absent=tuple(absent),
    )


def _taking_turns(others: list[Contestant], ours: list[Contestant]) -> tuple[Contestant, ...]:
    """One of theirs, one of ours: who comes behind a reader of the same library finds its memory warm."""
    both = chain.from_iterable(zip_longest(others, ours))
    return tuple(one for one in both if one is not None)


def _quick(stored: _Stored, times: int) -> tuple[Job, ...]:
    manifest = stored.cold._root.written  # noqa: SLF001 - the look-up alone
    plain = stored.manifest

    def select() -> Any:
        return plain.execute(_TEXT, (stored.key,)).fetchone()

    lookup = Job(
        "store_lookup",
        "One look-up in the manifest",
        "us",
        (
            Contestant("sqlite3, three columns", _repeated(select, times), equal=False),
            Contestant("featureplane", _repeated(lambda: manifest.find(stored.key), times), equal=False),
        ),
        baseline="sqlite3, three columns",
        goals=(Goal("featureplane", 10.0),),
    )
    minute = Job(
        "store_minute",
        "One minute of a stored day",
        "us",
        (
            Contestant("featureplane, mapped before", _repeated(stored.minute, times), equal=False),
            Contestant("featureplane, mapped now", _repeated(stored.opened_minute, times), equal=False),
        ),
        baseline="featureplane, mapped before",
        goals=(Goal("featureplane, mapped before", 20.0), Goal("featureplane, mapped now", 300.0)),
    )
    return lookup, minute


def _publishing(stored: _Stored) -> Job:
    folder = stored.folder
    payload = os.urandom(1 << 15)
    steps: dict[str, float] = {}

    def bare(runs: int) -> Sample:
        seconds = []
        for number in range(_PUBLISHED * runs):
            part = folder / "bare.part"
            part.write_bytes(payload)
            began = now()
            _sync(part)
            part.replace(folder / f"bare{number}")
            _sync(folder)
            seconds.append(now() - began)
        return _p95(seconds)

    few = folder / "FEW.fpcap"
    made_day(few, FEW_ROWS // 4)
    small = fp.FeatureStore(
        folder / "published",
        fp.Dataset(few, "capture"),
        on_step=lambda step: steps.__setitem__(step, now()),
    )

    def ours(runs: int) -> Sample:
        seconds = []
        for _ in range(_PUBLISHED * runs):
            small.clear()
            small.get_or_compute("DAY", *DAY, SET)
            seconds.append(steps["recorded"] - steps["written"])
        return _p95(seconds)

    return Job(
        "store_publish",
        "Publishing a written day, p95: flushed, renamed, folder flushed, in the manifest",
        "ms",
        (
            Contestant("the same by hand, without a manifest", bare, equal=False),
            Contestant("featureplane", ours, equal=False),
        ),
        baseline="the same by hand, without a manifest",
        goals=(Goal("featureplane", 5.0),),
        note="What the disk takes to flush is nearly all of it.",
    )


def _p95(seconds: list[float]) -> Sample:
    return Sample((float(np.percentile(seconds, 95)),), _PER_MS)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """A day of its own; small where the recording is."""
    del peers
    small = recording.rows < 100_000
    stored = _Stored(FEW_ROWS if small else ROWS)
    return (
        _day(stored),
        _from_parquet(stored),
        *_quick(stored, 10 if small else 300),
        _publishing(stored),
        clients_job(stored.cold.root, stored.folder / "DAY.fpcap", ("DAY", *DAY, SET), small=small),
    )
