"""A Python handler for every message: our backtest in hftbacktest beside nautilus_trader's engine.

Both have the same rows, and a handler is called for each message: it counts, asks whether the best bid is
larger than the best ask, and for a trade whether it is large. Ours reads that from the frame, so sixteen
features are computed as well, on a whole book, and hftbacktest keeps clock and orders. What all handlers saw,
and the last touch, has to be the same. Data are made before the clock runs; our simulation and runner within.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

import numpy as np

from benchmarks.bench_backtest import Day
from benchmarks.harness import Contestant, Goal, Job, Sample, now
from benchmarks.peers import Peers
from benchmarks.recording import CACHE, Recording
from featureplane.errors import ExtraUnavailable
from featureplane.features.frame import FeatureUpdateEvent
from featureplane.research.backtest.adapter import HftBacktestAdapter
from featureplane.research.backtest.assets import HftAsset
from featureplane.research.backtest.library import library
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.events import BidAskEvent, TickEvent

__all__ = ["jobs"]

_TITLE: Final = "a Python handler for every message"
_PEER: Final = "nautilus_trader"
_OURS: Final = "lob_feature"
_LARGE: Final = 1_000  # units of size, as `peer_nautilus` has it


class _Counting(BaseStrategy):
    """What every handler here sums up."""

    def __init__(self) -> None:
        super().__init__()
        self.books = self.trades = self.wanted = 0
        self.touch: tuple[object, object] = (None, None)

    def on_tick(self, event: TickEvent) -> None:
        self.trades += 1
        self.wanted += event.qty > _LARGE

    def total(self) -> str:
        """In the words of `peer_nautilus`."""
        bid, ask = self.touch
        return f"{self.books} books, {self.trades} trades, {self.wanted} wanted, {bid} {ask}"


class _OnFeatures(_Counting):
    """Reads features by handle when a frame comes, as `peer_nautilus` asks a book it has looked up once."""

    required_features: ClassVar[str | None] = "lob_shared_v1"

    def on_start(self) -> None:
        self.bid, self.ask = self.ctx.handle("l1_bid_qty"), self.ctx.handle("l1_ask_qty")

    def on_features(self, _frame: FeatureUpdateEvent) -> None:
        self.books += 1
        self.wanted += self.bid.value > self.ask.value

    def on_stop(self) -> None:
        symbol = self.ctx.symbols[0]
        self.touch = tuple(self.ctx.get_feature(symbol, name) for name in ("best_bid", "best_ask"))


class _OnBooks(_Counting):
    """Reads books; needs no features."""

    def on_bid_ask(self, event: BidAskEvent) -> None:
        self.books += 1
        bids, asks = event.bids, event.asks
        self.wanted += bool(bids[0, 1] > asks[0, 1])
        self.touch = bids[0, 0], asks[0, 0]


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """One job; who cannot come is named in it."""
    try:
        library()
    except ExtraUnavailable as error:
        return (Job("nautilus", _TITLE, "ns/row", (), "", absent=(f"hftbacktest: {error}",)),)
    day = Day(recording)
    features = HftBacktestAdapter(day.asset, "lob_shared_v1", market=day.market)
    stats = HftBacktestAdapter(day.asset, feature_mode="stats_only", market=day.market)
    ours = (
        Contestant(_OURS, _timed(features, _OnFeatures, recording.rows)),
        Contestant("stats_only", _timed(stats, _OnBooks, recording.rows)),
    )
    theirs, note = _peer(recording, peers, day.asset)
    return (
        Job(
            "nautilus",
            _TITLE,
            "ns/row",
            (*theirs, *ours),
            baseline=_PEER if theirs else _OURS,
            goals=(Goal(_OURS, 0.2, _PEER),),
            absent=peers.missing(_PEER),
            note=note,
        ),
    )


def _timed(adapter: HftBacktestAdapter, strategy: type[_Counting], rows: int) -> Callable[[int], Sample]:
    def run(runs: int) -> Sample:
        seconds, total = [], ""
        for _ in range(runs):
            handlers = strategy()
            start = now()
            adapter.run(handlers)
            seconds.append(now() - start)
            total = handlers.total()
        return Sample(tuple(seconds), rows, total)

    return run


def _peer(recording: Recording, peers: Peers, asset: HftAsset) -> tuple[tuple[Contestant, ...], str]:
    """The peer with the same rows, and which version it is; nobody where it could not come."""
    if peers.nautilus is None:
        return (), ""
    CACHE.mkdir(parents=True, exist_ok=True)
    rows = CACHE / f"{recording.name}.nautilus.npy"
    np.save(rows, asset.rows)
    about = asset.instrument
    exponents = [
        f"--price-exponent={about.price_exponent}",
        f"--qty-exponent={about.qty_exponent}",
        f"--units={recording.rows}",
    ]
    worker = peers.start_with(peers.nautilus, "benchmarks.peer_nautilus", str(rows), *exponents)
    version = worker.ask("run", 1)["version"]
    return (
        worker.contestant(_PEER, "run"),
    ), f"nautilus_trader {version}, hftbacktest {library().__version__}"
