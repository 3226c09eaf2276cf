"""The peer: hftbacktest 2.4.4 with a strategy compiled by numba, timed beside us.

Runs in an environment of its own (`harness.peer_python` makes it), because it wants another NumPy
than we do. Speaks the protocol of `benchmarks/limit`: one line `job runs [dump]` in, one JSON object out.

The recording is converted once by its own converter and kept under `var/bench`. Where there is a
choice, the faster one is taken: the region of interest is narrow, trades are not kept, the loop asks
for nothing but the next feed, and the times of book messages are handed to it ready-made.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hftbacktest import (
    DEPTH_EVENT,
    DEPTH_SNAPSHOT_EVENT,
    LOCAL_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
    ROIVectorMarketDepthBacktest,
)
from hftbacktest.data.utils import binancefutures
from numba import njit

from benchmarks.harness import now

TICK_SIZE = 0.1
LOT_SIZE = 0.001
QTY_SCALE = 1000.0  # 1 / LOT_SIZE
ROI_PRICES = (61_000.0, 62_500.0)  # what the touch of this recording visits, with room for five levels
DEPTH = 5
FOREVER_NS = 10**15
NO_ORDERS = False
FEED = 2  # what `wait_next_feed` says when there was one
MASK = 0xFF


@njit
def bare(hbt: Any) -> int:
    """Replays and reads nothing; returns the number of wake-ups."""
    wakes = 0
    while hbt.wait_next_feed(NO_ORDERS, FOREVER_NS) == FEED:
        wakes += 1
    return wakes


@njit
def touches(hbt: Any) -> int:
    """Replays and reads the touch at each wake-up; returns a sum of what it saw."""
    depth = hbt.depth(0)
    seen = 0
    while hbt.wait_next_feed(NO_ORDERS, FOREVER_NS) == FEED:
        seen += depth.best_bid_tick ^ depth.best_ask_tick
    return seen


@njit
def roi_side(sizes: Any, start: int, step: int) -> tuple[int, int]:
    """Size of the best level and of the best five, in lots, from an array of sizes by tick."""
    best, total, levels, at = 0, 0, 0, start
    while levels < DEPTH and 0 <= at < len(sizes):
        if sizes[at] > 0.0:
            lots = int(sizes[at] * QTY_SCALE + 0.5)
            if levels == 0:
                best = lots
            total += lots
            levels += 1
        at += step
    return best, total


@njit
def map_bid(depth: Any, start: int) -> tuple[int, int]:
    """As `roi_side`, one call a tick."""
    best, total, levels, at = 0, 0, 0, start
    while levels < DEPTH:
        size = depth.bid_qty_at_tick(at)
        if size > 0.0:
            lots = int(size * QTY_SCALE + 0.5)
            if levels == 0:
                best = lots
            total += lots
            levels += 1
        at -= 1
    return best, total


@njit
def map_ask(depth: Any, start: int) -> tuple[int, int]:
    """As `roi_side`, one call a tick."""
    best, total, levels, at = 0, 0, 0, start
    while levels < DEPTH:
        size = depth.ask_qty_at_tick(at)
        if size > 0.0:
            lots = int(size * QTY_SCALE + 0.5)
            if levels == 0:
                best = lots
            total += lots
            levels += 1
        at += 1
    return best, total


@njit
def values(now: Any, before: Any, sink: Any, frame: int) -> None:
    """The sixteen values of `lob_shared_v1` from bid, ask, sizes and five-level depths."""
    bid, ask, bid_qty, ask_qty, bid_depth, ask_depth = now
    out, floats, means = sink
    out[frame, 0] = bid
    out[frame, 1] = ask
    out[frame, 2] = bid + ask
    out[frame, 3] = ask - bid
    out[frame, 4] = bid_depth
    out[frame, 5] = ask_depth
    out[frame, 6] = np.rint((bid_depth - ask_depth) * 1e6 / (bid_depth + ask_depth))
    out[frame, 7] = 2 * bid + int(np.rint(2.0 * (ask - bid) * bid_qty / (bid_qty + ask_qty)))
    out[frame, 8] = bid_qty
    out[frame, 9] = ask_qty
    out[frame, 10] = np.rint((bid_qty - ask_qty) * 1e6 / (bid_qty + ask_qty))
    alpha = 2.0 / 9.0
    if frame > 0:
        flow = 0
        if bid >= before[0]:
            flow += bid_qty
        if bid <= before[0]:
            flow -= before[2]
        if ask <= before[1]:
            flow -= ask_qty
        if ask >= before[1]:
            flow += before[3]
        out[frame, 11] = flow
        out[frame, 12] = out[frame - 1, 12] + flow
        means[0] = flow if frame == 1 else means[0] + alpha * (flow - means[0])
        means[1] += alpha * ((ask - bid) - means[1])
        means[2] += alpha * (out[frame, 6] - means[2])
    else:
        out[frame, 11] = 0
        out[frame, 12] = 0
        means[1] = ask - bid
        means[2] = out[frame, 6]
    floats[frame, 0] = means[0]
    floats[frame, 1] = means[1]
    floats[frame, 2] = means[2]


@njit
def features_roi(hbt: Any, book_times: Any, sink: Any) -> int:
    """Sixteen values at each book message, sizes read from the arrays of the book.

    The last message comes back as the end of the data; it is a book message if one is still owed.
    """
    depth = hbt.depth(0)
    bids, asks, low = depth.bid_depth, depth.ask_depth, depth.roi_lb_tick
    before = (0, 0, 0, 0, 0, 0)
    frame = 0
    while frame < len(book_times):
        fed = hbt.wait_next_feed(NO_ORDERS, FOREVER_NS) == FEED
        if not fed or hbt.current_timestamp == book_times[frame]:
            bid, ask = depth.best_bid_tick, depth.best_ask_tick
            bid_qty, bid_depth = roi_side(bids, bid - low, -1)
            ask_qty, ask_depth = roi_side(asks, ask - low, 1)
            now = (bid, ask, bid_qty, ask_qty, bid_depth, ask_depth)
            values(now, before, sink, frame)
            before = now
            frame += 1
        if not fed:
            break
    return frame


@njit
def features_map(hbt: Any, book_times: Any, sink: Any) -> int:
    """Sixteen values at each book message, sizes asked for tick by tick."""
    depth = hbt.depth(0)
    before = (0, 0, 0, 0, 0, 0)
    frame = 0
    while frame < len(book_times):
        fed = hbt.wait_next_feed(NO_ORDERS, FOREVER_NS) == FEED
        if not fed or hbt.current_timestamp == book_times[frame]:
            bid, ask = depth.best_bid_tick, depth.best_ask_tick
            bid_qty, bid_depth = map_bid(depth, bid)
            ask_qty, ask_depth = map_ask(depth, ask)
            now = (bid, ask, bid_qty, ask_qty, bid_depth, ask_depth)
            values(now, before, sink, frame)
            before = now
            frame += 1
        if not fed:
            break
    return frame


class Peer:
    """One converted recording and the jobs on it."""

    def __init__(self, recording: Path, cache: Path, rows: int) -> None:
        self.recording = recording
        self.rows = rows
        self.cached = self._converted(cache)
        self.data = np.load(self.cached)["data"]
        np.save(self.cached.with_suffix(".npy"), self.data)
        local = self.data[self.data["ev"] & LOCAL_EVENT != 0]
        kind = local["ev"] & MASK
        snapshot = np.flatnonzero(kind == DEPTH_SNAPSHOT_EVENT)[0]
        book = (kind == DEPTH_EVENT) | (kind == DEPTH_SNAPSHOT_EVENT)
        book[:snapshot] = False
        self.book_times = np.unique(local["local_ts"][book])
        self.out = np.zeros((len(self.book_times), 16), np.int64)
        self.floats = np.zeros((len(self.book_times), 3))
        self.jobs: dict[str, Callable[[], tuple[float, int]]] = {
            "bare": lambda: self._replay(ROIVectorMarketDepthBacktest, bare),
            "book": lambda: self._replay(ROIVectorMarketDepthBacktest, touches),
            "v1": lambda: self._features(ROIVectorMarketDepthBacktest, features_roi),
            "map_bare": lambda: self._replay(HashMapMarketDepthBacktest, bare),
            "map_v1": lambda: self._features(HashMapMarketDepthBacktest, features_map),
            "npz": lambda: self._load(self.cached),
            "npy": lambda: self._load(self.cached.with_suffix(".npy")),
            "convert": self._convert,
            "unpack": self._unpack,
        }

    def _converted(self, cache: Path) -> Path:
        path = cache / f"{self.recording.name}.hftbacktest.npz"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with contextlib.redirect_stdout(io.StringIO()):
                binancefutures.convert(str(self.recording), str(path), buffer_size=2_000_000)
        return path

    def _asset(self) -> Any:
        asset = BacktestAsset().data(self.data).linear_asset(1.0).constant_order_latency(0, 0)
        asset = asset.risk_adverse_queue_model().no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0)
        asset = asset.tick_size(TICK_SIZE).lot_size(LOT_SIZE)
        return asset.roi_lb(ROI_PRICES[0]).roi_ub(ROI_PRICES[1])

    def _replay(self, build: Any, loop: Any) -> tuple[float, int]:
        hbt = build([self._asset()])
        start = now()
        seen = loop(hbt)
        seconds = now() - start
        hbt.close()
        return seconds, int(seen)

    def _features(self, build: Any, loop: Any) -> tuple[float, int]:
        hbt = build([self._asset()])
        sink = (self.out, self.floats, np.zeros(3))
        start = now()
        frames = loop(hbt, self.book_times, sink)
        seconds = now() - start
        hbt.close()
        return seconds, int(frames)

    def _convert(self) -> tuple[float, int]:
        start = now()
        with contextlib.redirect_stdout(io.StringIO()):
            rows = len(binancefutures.convert(str(self.recording), buffer_size=2_000_000))
        return now() - start, rows

    def _load(self, path: Path) -> tuple[float, int]:
        start = now()
        loaded = np.load(path)
        data = loaded["data"] if path.suffix == ".npz" else loaded
        seen = int(data["local_ts"].max())
        return now() - start, seen

    def _unpack(self) -> tuple[float, int]:
        start = now()
        lines = 0
        with gzip.open(self.recording, "r") as file:
            while file.readline():
                lines += 1
        return now() - start, lines

    def run(self, job: str, runs: int, dump: str | None) -> dict[str, Any]:
        """Answer of one request."""
        work = self.jobs.get(job)
        if work is None:
            return {"job": job, "error": f"no such job; there are {', '.join(self.jobs)}"}
        outcomes = [work() for _ in range(runs)]
        if dump:
            np.save(dump, np.column_stack([self.out[:, :13], self.floats.view(np.int64)]))
        seconds = [seconds for seconds, _ in outcomes]
        return {"job": job, "units": self.rows, "frames": outcomes[-1][1], "checksum": "", "seconds": seconds}


def main() -> int:
    """Serve requests until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path, help="Binance USD-M recording, gzip")
    parser.add_argument("cache", type=Path, help="where the converted recording is kept")
    parser.add_argument("--rows", type=int, required=True, help="book and trade events, the unit")
    args = parser.parse_args()
    peer = Peer(args.recording, args.cache, args.rows)
    for line in sys.stdin:
        job, runs, *dump = line.split()
        sys.stdout.write(json.dumps(peer.run(job, int(runs), dump[0] if dump else None)) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
