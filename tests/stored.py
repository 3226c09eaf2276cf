"""Days of synthetic data in capture files, and stores over them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import featureplane as fp
from featureplane.features import kernels as k
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch, EventFlag, SourceInfo
from featureplane.market.instruments import Instrument
from featureplane.market.sources.capture import write_capture
from featureplane.market.synthetic import synthetic_events, synthetic_instruments

DAY_NS = 86_400_000_000_000
MONDAY_NS = 1_704_672_000_000_000_000
"""2024-01-08 00:00 UTC."""

SYMBOL = synthetic_instruments()[0].symbol
SOURCE = SourceInfo("synthetic", sequenced=True, has_snapshots=True, local_time=True, trade_sides=True)
SET = FeatureSet(
    "stored_v1",
    features={
        "mid": k.mid_x2(),
        "spread_ema": k.ema(k.spread(), span=8),
        "ofi_1s": k.sum_over(k.ofi(level=1), seconds=1),
        "trades": k.trade_count(),
    },
)
TRADES = FeatureSet("stored_trades", features={"trades": k.trade_count(), "bought": k.cumsum(k.signed_qty())})
OTHER = FeatureSet("stored_v2", features={"mid": k.mid_x2(), "spread_ema": k.ema(k.spread(), span=9)})


def at(day: float) -> str:
    """An instant so many days after the Monday, as text with a time zone."""
    stamp = np.datetime64(MONDAY_NS + round(day * 86_400) * 1_000_000_000, "ns")
    return f"{stamp.astype('datetime64[s]')}+00:00"


def lived(days: int, events: int = 1_500, seed: int = 3, instrument: Instrument | None = None) -> EventBatch:
    """One stream over several days: a few minutes around each midnight behind the first."""
    array = synthetic_events(events * days, seed=seed, faults=False)
    ends = np.flatnonzero(array["flags"] & EventFlag.LAST) + 1
    cuts = [int(ends[np.searchsorted(ends, events * n)]) if n else 0 for n in range(days)]
    shifts = np.zeros(len(array), np.int64)
    for n, cut in enumerate(cuts):
        begins = MONDAY_NS + (n * DAY_NS if n else DAY_NS // 2)
        shifts[cut:] = begins - int(array["source_ts_ns"][cut])
    array["source_ts_ns"] += shifts
    array["local_ts_ns"] = np.maximum.accumulate(array["local_ts_ns"] + shifts)
    about = instrument or synthetic_instruments()[0]
    return EventBatch(array, (about,), SOURCE)


def day_files(folder: Path, batch: EventBatch, cuts: list[int]) -> list[Path]:
    """The stream in files: each from one message to another."""
    bounds = [0, *cuts, batch.messages]
    paths = []
    for number, (start, stop) in enumerate(pairwise(bounds)):
        paths.append(folder / f"{SYMBOL}_{number}.fpcap")
        write_capture(paths[-1], batch.part(start, stop))
    return paths


def midnights(batch: EventBatch) -> list[int]:
    """The first message of each day behind the first."""
    ends = batch.message_ends
    times = batch.array["source_ts_ns"][ends - 1]
    days = (times - MONDAY_NS) // DAY_NS
    found: list[int] = (np.flatnonzero(np.diff(np.maximum.accumulate(days)) > 0) + 1).tolist()
    return found


def dataset(folder: Path, days: int = 2, **options: Any) -> fp.Dataset:
    """A dataset of so many days, one file each."""
    batch = lived(days)
    folder.mkdir(parents=True, exist_ok=True)
    return fp.Dataset(day_files(folder, batch, midnights(batch)), "capture", **options)


def whole(store: fp.FeatureStore, days: int = 2, fset: FeatureSet = SET) -> fp.StoreEntry:
    """The entry of so many days."""
    return store.get_or_compute(SYMBOL, at(0), at(days), fset)


def flip(path: Path, place: int, mask: int = 1) -> None:
    """Change bits of one byte of a file."""
    with path.open("r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ mask]))
