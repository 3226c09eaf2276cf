"""hftbacktest alone, and with our features beside it: what a strategy on every message costs.

The same array, the same library, one loop compiled by numba in either case. hftbacktest is at its best: its
book holds the touched region alone, no orders, no trades kept. Ours computes all frames within the time
that is measured. Arrays are built, and read into events, before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, Final

import numpy as np

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job, Proof, Sample, now
from benchmarks.peers import Peers
from benchmarks.recording import Recording
from featureplane.errors import ExtraUnavailable
from featureplane.market.events import Kind
from featureplane.research.backtest.adapter import HftBacktestAdapter
from featureplane.research.backtest.assets import HftAsset
from featureplane.research.backtest.columns import feature_rows
from featureplane.research.backtest.library import HftMarket, Simulation, library
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.events import BidAskEvent, FeatureUpdateEvent, LOBStatsEvent, TickEvent

__all__ = ["Day", "jobs"]

_TITLE: Final = "hftbacktest with features on every message"
_AROUND: Final = 0.01  # of the price, on either side of what was traded: levels enough, and no more


@cache
def _loops() -> tuple[Any, Any]:
    """Hftbacktest's bare loop, and one that asks four features at each return; compiled once."""
    from numba import njit  # noqa: PLC0415 - it comes with hftbacktest

    @njit
    def bare(hbt: Any) -> int:
        wakes = 0
        while hbt.wait_next_feed(False, 10**15) == 2:  # noqa: FBT003 - its own signature
            wakes += 1
        return wakes + 1

    @njit
    def strategy(hbt: Any, rows: Any) -> tuple[int, int]:
        at, wanted, frames = -1, 0, len(rows.clock_ns)
        clock, ready = rows.clock_ns, rows.ready
        imbalance, flow = rows.values.l1_imbalance_ppm, rows.values.ofi_l1_ema8
        spread, micro = rows.values.spread_scaled, rows.values.microprice_x2
        mid = rows.values.mid_price_x2
        while True:
            code = hbt.wait_next_feed(False, 10**15)  # noqa: FBT003 - its own signature
            until = hbt.current_timestamp if code == 2 else 2**63 - 1
            while at + 1 < frames and clock[at + 1] <= until:
                at += 1
            if at >= 0 and ready[at, 0] >> 13 & 1:
                buys = imbalance[at] > 200_000 and flow[at] > 0.0 and micro[at] >= mid[at]
                wanted += buys and spread[at] <= 10
            if code != 2:
                return at + 1, wanted

    return bare, strategy


class _OnStats(BaseStrategy):
    """Looks at the touch of every book message."""

    wanted = 0

    def on_lob_stats(self, event: LOBStatsEvent) -> None:
        self.wanted += event.imbalance_ppm > 200_000


class _OnFeatures(BaseStrategy):
    """Looks at a feature of every frame."""

    required_features: ClassVar[str | None] = "lob_shared_v1"
    wanted = 0

    def on_features(self, frame: FeatureUpdateEvent) -> None:
        self.wanted += frame.get_feature("l1_imbalance_ppm", default=0) > 200_000


class _OnEverything(_OnFeatures):
    """And at every trade and every book."""

    def on_tick(self, event: TickEvent) -> None:
        self.wanted += event.qty > 1_000

    def on_bid_ask(self, event: BidAskEvent) -> None:
        self.wanted += event.bids[0, 1] > event.asks[0, 1]


class Day:
    """The recording in hftbacktest."""

    def __init__(self, recording: Recording) -> None:
        self.events, self.rows = recording.events, recording.rows
        self.asset = HftAsset.of(recording.events)
        unit = 10.0**self.asset.instrument.price_exponent
        traded = self.events.array["price"][self.events.array["kind"] == Kind.TRADE] / unit
        roi = (float(traded.min()) * (1 - _AROUND), float(traded.max()) * (1 + _AROUND))
        self.market = HftMarket(roi=tuple(np.round(roi, 0).tolist()))

    def timed(self, work: Callable[[Simulation], object]) -> Callable[[int], Sample]:
        """Seconds of `work` on a fresh simulation; making that does not count."""

        def run(runs: int) -> Sample:
            seconds = []
            for _ in range(runs):
                with Simulation([self.asset], self.market) as simulation:
                    start = now()
                    work(simulation)
                    seconds.append(now() - start)
            return Sample(tuple(seconds), self.rows)

        return run


def _agrees(recording: Recording, asset: HftAsset) -> bool:
    """Whether what is timed is what a replay computes."""
    adapter = HftBacktestAdapter(asset, "lob_shared_v1")
    replay = fp.FeatureEngine(fp.feature_set("lob_shared_v1")).replay(recording.events)
    return all(a.pack() == b.pack() for a, b in zip(adapter.frames(), replay, strict=True))


def _jobs(recording: Recording) -> tuple[Job, ...]:
    day = Day(recording)
    bare, strategy = _loops()

    def numba(feature_set_id: str) -> Callable[[Simulation], object]:
        fset = fp.feature_set(feature_set_id)
        return lambda simulation: strategy(simulation.hbt, feature_rows(day.asset, fset))

    def python(adapter: HftBacktestAdapter, strategy: type[BaseStrategy]) -> Callable[[int], Sample]:
        def run(runs: int) -> Sample:
            seconds = []
            for _ in range(runs):
                start = now()
                adapter.run(strategy())
                seconds.append(now() - start)
            return Sample(tuple(seconds), day.rows)

        return run

    stats = HftBacktestAdapter(day.asset, feature_mode="stats_only", market=day.market)
    features = HftBacktestAdapter(day.asset, "lob_shared_v1", market=day.market)
    job = Job(
        "backtest",
        _TITLE,
        "ns/row",
        (
            Contestant("hftbacktest alone", day.timed(lambda simulation: bare(simulation.hbt)), equal=False),
            Contestant("lob_feature, numba", day.timed(numba("lob_shared_v1")), equal=False),
            Contestant("lob_feature, numba, v2", day.timed(numba("lob_shared_v2")), equal=False),
            Contestant("stats_only, Python", python(stats, _OnStats), equal=False),
            Contestant("lob_feature, Python", python(features, _OnFeatures), equal=False),
            Contestant("lob_feature, Python, every event", python(features, _OnEverything), equal=False),
        ),
        baseline="hftbacktest alone",
        proofs=(Proof("its frames are those of a replay", lambda: _agrees(recording, day.asset)),),
        goals=(Goal("lob_feature, numba", 1.25, "hftbacktest alone"),),
        note=f"hftbacktest {library().__version__}, {len(day.asset.rows):,} rows of its own for these rows; "
        "Python strategies have every message, simulation and runner are made within the time.",
    )
    return (job,)


def jobs(recording: Recording, _peers: Peers) -> tuple[Job, ...]:
    """One job; none where hftbacktest is not installed, which is said."""
    try:
        library()
    except ExtraUnavailable as error:
        absent = (f"hftbacktest: {error}",)
        return (
            Job("backtest", "hftbacktest with features on every message", "ns/row", (), "", absent=absent),
        )
    return _jobs(recording)
