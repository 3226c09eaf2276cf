"""Sets and streams for comparing executions."""

from __future__ import annotations

from typing import Any

from featureplane.features import kernels as k
from featureplane.features.catalog import feature_set
from featureplane.features.parity import ParityReport
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch, SourceInfo, StreamOptions
from featureplane.market.synthetic import Faults, synthetic_events, synthetic_instruments
from tests.soak import compared

V1 = feature_set("lob_shared_v1")
V2 = feature_set("lob_shared_v2")

ODD = FeatureSet(
    "odd_v1",
    schema_version=1,
    features={
        "mid_ema": k.ema_time(k.mid_x2(), half_life_seconds=1),
        "two_channels": k.sum_over(k.ofi(), seconds=1) + k.signed_qty(),
        "two_prices": k.mid_x2() * k.trade_price(),
        "spread_mean5": k.mean(k.spread(), window=5),
        "spread_std5": k.std(k.spread(), window=5),
        "mid_min7": k.min(k.mid_x2(), window=7),
        "trade_max7": k.max(k.trade_price(), window=7),
        "mid_lag3": k.lag(k.mid_x2(), 3),
        "move_clipped": k.clip(k.diff(k.mid_x2()), -2, 2),
        "spread_std1s": k.std_over(k.spread(), seconds=1),
        "bid3": k.level_price("bid", 3),
        "ask_qty2": k.qty("ask", 2),
        "imbalance_ema4": k.ema(k.trade_imbalance(seconds=5), span=4),
        "visible_trades": k.trade_count(hidden=False),
        "volume": k.cumsum(k.signed_qty()),
        "trade_mean1s": k.mean_over(k.trade_price(), seconds=1),
        "spread_mean_ema3": k.ema(k.mean_over(k.spread(), seconds=1), span=3),
        "thousandths": k.fixed(k.ema(k.spread(), span=3), 1000),
        "bid_depth20": k.depth("bid", 20),
        "ofi2_size": k.abs(k.ofi(level=2)),
        "vpin3": k.vpin(3, bucket=5000),
        "kyle5": k.kyle_lambda(window=5),
        "mid_average": (k.best_bid() + k.best_ask()) / k.constant(2),
    },
)
"""Every shape of node that the shipped sets lack: two channels, floats in windows, chains on windows."""

TRADES = FeatureSet(
    "trades_v1",
    schema_version=1,
    features={
        "signed": k.signed_qty(),
        "intensity": k.trade_intensity(half_life_seconds=5),
        "count": k.trade_count(),
        "signed_1s": k.sum_over(k.signed_qty(), seconds=1),
        "roll8": k.roll_spread(window=8),
    },
)
"""Reads no book, and so never waits for one."""

SETS = (V1, V2, ODD, TRADES)

SYNTHETIC = SourceInfo("synthetic", sequenced=True, has_snapshots=True, local_time=True, trade_sides=True)


def synthetic(
    count: int,
    seed: int,
    *,
    symbols: int = 1,
    order_level: bool = False,
    faults: bool | Faults = True,
    source: SourceInfo = SYNTHETIC,
    options: StreamOptions | None = None,
    **instrument: Any,
) -> EventBatch:
    """A stream with faults; words left over are fields of its instruments."""
    import dataclasses  # noqa: PLC0415 - used here alone

    events = synthetic_events(count, seed=seed, symbols=symbols, faults=faults, order_level=order_level)
    instruments = tuple(dataclasses.replace(one, **instrument) for one in synthetic_instruments(symbols))
    return EventBatch(events, instruments, source, options or StreamOptions())


def assert_agrees(report: ParityReport) -> None:
    """Frames were compared and all of them are equal; says what was not."""
    mismatch = report.first_mismatch
    compared.update(events=report.events, frames=report.frames)
    assert mismatch is None, f"{report.mismatches} of {report.frames}: {mismatch}"
    assert report.frames > 0
