"""The adapter walks beside the real hftbacktest: its traps, one test each, on rows made by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numba import njit

import featureplane as fp
from featureplane.errors import ExtraUnavailable, MalformedEvent, SettingError
from featureplane.execution.orders import OrderEvent, OrderIntent, TimeInForce
from featureplane.execution.orders import Side as OrderSide
from featureplane.features import kernels as k
from featureplane.market.events import EVENT_DTYPE, EventBatch, EventFlag, Kind, Side, SourceInfo
from featureplane.market.instruments import Instrument
from featureplane.market.sources.hftbacktest_rows import ROW_DTYPE
from featureplane.research.backtest.adapter import HftBacktestAdapter
from featureplane.research.backtest.assets import HftAsset
from featureplane.research.backtest.library import FOREVER_NS, HftMarket, library
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.events import LOBStatsEvent

hftbacktest = library()

Rows = npt.NDArray[Any]

EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
BOTH = EXCH | LOCAL
RESPONSES = True
DEPTH, TRADE, CLEAR, SNAPSHOT = 1, 2, 3, 4
ONE = Instrument(venue="test", symbol="X", price_exponent=1, qty_exponent=3, tick_size="0.1")
OTHER = Instrument(venue="test", symbol="Y", price_exponent=1, qty_exponent=3, tick_size="0.1")
SET = fp.FeatureSet(
    "adapter_test_v1",
    schema_version=1,
    features={"best_bid": k.best_bid(), "bid_qty": k.qty("bid"), "trades": k.trade_count()},
)
T = 1_700_000_000_000_000_000  # so that every time is one that may stand in an event


def rows_of(*rows: tuple[int, int, int, float, float]) -> Rows:
    """(ev, exch_ts, local_ts, px, qty), times in microseconds behind T."""
    out = np.zeros(len(rows), ROW_DTYPE)
    for i, (ev, exch, local, px, qty) in enumerate(rows):
        out[i] = (ev, T + exch * 1000, T + local * 1000, px, qty, 0, 0, 0.0)
    return out


def book(at: int, *, bid: float = 10.0, ask: float = 10.2) -> list[tuple[int, int, int, float, float]]:
    """A full book, received 5 us later."""
    return [
        (CLEAR | BOTH, at, at + 5, 0.0, 0.0),
        (SNAPSHOT | BUY | BOTH, at, at + 5, bid, 0.25),
        (SNAPSHOT | SELL | BOTH, at, at + 5, ask, 1.5),
    ]


def adapter_of(rows: Rows, **options: Any) -> HftBacktestAdapter:
    return HftBacktestAdapter(HftAsset.read(rows, "X", ONE), SET, **options)


def packed(adapter: HftBacktestAdapter) -> list[bytes]:
    return [frame.pack() for frame in adapter.frames()]


def replayed(asset: HftAsset) -> list[bytes]:
    return [frame.pack() for frame in fp.FeatureEngine(SET).replay(asset.batch)]


def test_two_messages_of_one_local_time_are_one_return_and_two_frames() -> None:
    rows = rows_of(
        *book(0),
        (DEPTH | BUY | BOTH, 20, 30, 10.1, 1.0),
        (DEPTH | BUY | BOTH, 25, 30, 10.1, 2.0),
        (DEPTH | BUY | BOTH, 40, 50, 10.1, 3.0),
    )
    adapter = adapter_of(rows)
    with adapter.walk() as walk:
        returns = []
        while not walk.ended:
            returns.append((walk.wait(), walk.now_ns - T))
    assert [(len(messages), now) for messages, now in returns] == [(1, 5_000), (2, 30_000), (1, 50_000)]
    assert [frame["bid_qty"] for frame in adapter.frames()] == [250, 1000, 2000, 3000]
    assert packed(adapter) == replayed(adapter.assets[0])


def test_the_last_message_comes_back_as_the_end_of_the_data() -> None:
    rows = rows_of(*book(0), (DEPTH | BUY | BOTH, 20, 30, 10.1, 1.0))
    hbt = hftbacktest.HashMapMarketDepthBacktest([plain(rows)])
    codes = [hbt.wait_next_feed(RESPONSES, FOREVER_NS) for _ in range(2)]
    assert codes == [2, 1]
    assert hbt.current_timestamp == T + 5_000  # the clock stays where it was
    hbt.close()
    with adapter_of(rows).walk() as walk:
        assert [len(walk.wait()), walk.ended] == [1, False]
        assert [len(walk.wait()), walk.ended, walk.now_ns] == [1, True, T + 30_000]


def plain(rows: Rows) -> Any:
    made = hftbacktest.BacktestAsset().data(rows.copy()).linear_asset(1.0).constant_order_latency(0, 0)
    made.risk_adverse_queue_model().no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0)
    return made.tick_size(0.1).lot_size(0.001)


def test_nothing_is_known_before_hftbacktest_has_begun() -> None:
    hbt = hftbacktest.HashMapMarketDepthBacktest([plain(rows_of(*book(0)))])
    assert hbt.current_timestamp == np.iinfo(np.int64).max  # whoever walks up to it has seen the future
    hbt.close()
    with adapter_of(rows_of(*book(0))).walk() as walk:
        assert walk.now_ns == 0


def test_rows_for_the_venue_alone_are_not_ours() -> None:
    rows = rows_of(
        *book(0),
        (DEPTH | BUY | EXCH, 20, 40, 10.1, 1.0),
        (TRADE | SELL | BOTH, 22, 30, 10.0, 0.125),
        (DEPTH | BUY | LOCAL, 20, 40, 10.1, 1.0),
    )
    adapter = adapter_of(rows)
    frames = [(frame["best_bid"], frame["trades"]) for frame in adapter.frames()]
    assert len(frames) == 3
    assert [bid for bid, _ in frames] == [100, 100, 101]
    assert adapter.assets[0].batch.dropped == {"not_local": 1}


def test_sizes_come_from_our_book_because_the_roi_depth_returns_prices() -> None:
    rows = rows_of(
        *book(0), (DEPTH | BUY | BOTH, 20, 30, 10.1, 0.375), (DEPTH | BUY | BOTH, 40, 50, 9.0, 1.0)
    )
    adapter = adapter_of(rows, market=HftMarket(roi=(5.0, 15.0)))
    with adapter.walk() as walk:
        walk.wait()
        walk.wait()
        depth = walk.hbt.depth(0)
        assert depth.best_bid_qty == depth.best_bid == pytest.approx(10.1)  # the trap
    assert [frame["bid_qty"] for frame in adapter.frames()] == [250, 375, 375]


def test_sizes_below_the_lot_are_levels_in_either_book() -> None:
    coarse = replace(ONE, lot_size="1")
    changes = [(DEPTH | BUY | BOTH, 20, 30, 10.1, 0.001), (DEPTH | BUY | BOTH, 40, 50, 9.0, 1.0)]
    rows = rows_of(*book(0), *changes)
    adapter = HftBacktestAdapter(HftAsset.read(rows, "X", coarse), SET)
    with adapter.walk() as walk:
        walk.wait()
        walk.wait()
        depth = walk.hbt.depth(0)
        assert (depth.best_bid_tick, depth.bid_qty_at_tick(101)) == (101, 0.001)
    assert [(frame["best_bid"], frame["bid_qty"]) for frame in adapter.frames()][1:] == [(101, 1)] * 2


@pytest.mark.parametrize("by_hftbacktest", [False, True])
def test_a_latency_offset_changes_no_array_and_no_frame(*, by_hftbacktest: bool) -> None:
    rows = rows_of(*book(0), (DEPTH | BUY | BOTH, 20, 30, 10.1, 1.0))
    before = rows.copy()
    market = HftMarket(latency_offset_ns=7_000)
    if by_hftbacktest:
        market = HftMarket(configure=lambda made, _: made.latency_offset(7_000))
    adapter = adapter_of(rows, market=market)
    expected = replayed(adapter.assets[0])
    for _ in range(2):
        assert packed(adapter) == expected
        with adapter.walk() as walk:
            assert [len(walk.wait()), walk.now_ns - T] == [1, 12_000]
        with adapter.numba() as (_, (features,)):
            assert (features.clock_ns - T).tolist() == [12_000, 37_000]
            assert (features.local_ts_ns - T).tolist() == [5_000, 30_000]
    assert (rows == before).all()
    with pytest.raises(SettingError, match="before it was sent"):
        packed(adapter_of(rows, market=HftMarket(latency_offset_ns=-6_000)))


def test_several_assets_stay_on_one_clock() -> None:
    first = HftAsset.read(rows_of(*book(0), (DEPTH | BUY | BOTH, 20, 30, 10.1, 1.0)), "X", ONE)
    later = rows_of(
        *book(10), (DEPTH | BUY | BOTH, 25, 30, 9.9, 2.0), (TRADE | BUY | BOTH, 60, 70, 10.2, 1.0)
    )
    shifted = HftAsset(HftAsset.read(later, "Y", OTHER).batch, _plus(later, 2_000), 2_000)
    adapter = HftBacktestAdapter([first, shifted], SET)
    with adapter.walk() as walk:
        seen = []
        while not walk.ended:
            ids = [walk.events.array["symbol_id"][start] for start, _ in walk.wait()]
            seen.append(("".join("X" if one == ONE.symbol_id else "Y" for one in ids), walk.now_ns - T))
    # Clocks are brought to the larger shift, of 2 us.
    assert seen == [("X", 7_000), ("Y", 17_000), ("XY", 32_000), ("Y", 72_000)]
    got = [(frame.symbol, frame.pack()) for frame in adapter.frames()]
    assert [data for symbol, data in got if symbol == "X"] == replayed(first)
    assert [data for symbol, data in got if symbol == "Y"] == replayed(shifted)


def _plus(rows: Rows, more_ns: int) -> Rows:
    out = rows.copy()
    out["local_ts"] += more_ns
    return out


def test_times_that_hftbacktest_cannot_take_are_refused_with_their_row() -> None:
    rows = rows_of(*book(0), (DEPTH | BUY | BOTH, 20, 30, 10.1, 1.0), (DEPTH | BUY | BOTH, 21, 29, 10.1, 1.0))
    with pytest.raises(MalformedEvent, match=r"local_ts \d+ behind") as caught:
        HftAsset.read(rows, "X", ONE)
    assert caught.value.line == 5


def test_a_clock_set_back_shows_nothing_too_early() -> None:
    last, recovery = int(EventFlag.LAST), int(EventFlag.RECOVERY)
    info = SourceInfo("test", sequenced=False, has_snapshots=True, local_time=True, trade_sides=True)
    told = [
        (Kind.SNAPSHOT_LEVEL, Side.BID, recovery, 100, 5, 0, 10),
        (Kind.SNAPSHOT_LEVEL, Side.ASK, recovery | last, 102, 5, 0, 10),
        (Kind.TRADE, Side.BID, last, 102, 1, 20, 90),
        (Kind.LEVEL, Side.BID, last, 101, 7, 30, 40),
        (Kind.LEVEL, Side.BID, last, 101, 8, 95, 99),
    ]
    rows = [(*e[:3], ONE.symbol_id, *e[3:5], 0, 0, 0, T + e[5], T + e[6]) for e in told]
    batch = EventBatch(np.array(rows, EVENT_DTYPE), (ONE,), info)
    only_book = fp.FeatureSet("adapter_held_v1", schema_version=1, features={"bid": k.best_bid()})
    adapter = HftBacktestAdapter(HftAsset.of(batch), only_book)
    with adapter.numba() as (_, (features,)):
        assert (features.clock_ns - T).tolist() == [10, 90, 99]
        assert (features.local_ts_ns - T).tolist() == [10, 40, 99]
    assert [frame["bid"] for frame in adapter.frames()] == [100, 101, 101]


def test_files_that_were_shifted_differently_get_one_shift(tmp_path: Path) -> None:
    first, second = rows_of(*book(0)), rows_of(*book(50), (DEPTH | BUY | BOTH, 60, 70, 10.1, 1.0))
    for name, rows, shift_ns in (("a", first, 0), ("b", second, 2_000)):
        np.savez(tmp_path / f"{name}.npz", data=_plus(rows, shift_ns), local_shift_ns=np.int64(shift_ns))
    asset = HftAsset.read([tmp_path / "a.npz", tmp_path / "b.npz"], "X", ONE)
    assert asset.shift_ns == 2_000
    adapter = HftBacktestAdapter(asset, SET)
    assert [frame.local_ts_ns - T for frame in adapter.frames()] == [5_000, 55_000, 70_000]
    with adapter.numba() as (_, (features,)):
        assert (features.clock_ns - T).tolist() == [7_000, 57_000, 72_000]


class Once(BaseStrategy):
    """Sends one order, and writes down when it hears of it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, int, int]] = []

    def on_lob_stats(self, event: LOBStatsEvent) -> None:
        if not self.told and not self.ctx.working:
            price, tif = event.best_bid, TimeInForce.POST_ONLY
            self.ctx.submit(
                OrderIntent(symbol=event.symbol, side=OrderSide.BUY, qty=100, price=price, tif=tif)
            )

    def on_order(self, event: OrderEvent) -> None:
        self.told.append((event.kind.value, event.ts_ns - T, self.ctx.now_ns - T))


def test_what_became_of_an_order_is_told_between_messages_when_its_response_comes() -> None:
    rows = rows_of(*book(0), (DEPTH | BUY | BOTH, 100, 110, 10.0, 1.0))
    market = HftMarket(entry_ns=3_000, response_ns=4_000)
    adapter = HftBacktestAdapter(HftAsset.read(rows, "X", ONE), feature_mode="stats_only", market=market)
    strategy = Once()
    run = adapter.run(strategy)
    assert (run.returns, run.messages) == (3, 2)
    assert strategy.told == [("accepted", 12_000, 12_000)]
    assert not run.risk.working  # cancelled behind the last message


@njit
def _sum_of_sizes(hbt: Any, features: Any) -> tuple[int, int]:
    at, total = 0, 0
    while True:
        code = hbt.wait_next_feed(RESPONSES, FOREVER_NS)
        now = hbt.current_timestamp if code != 1 else 2**63 - 1
        while at < len(features.clock_ns) and features.clock_ns[at] <= now:
            total += features.values.bid_qty[at] * (at + 1)
            at += 1
        if code == 1:
            return at, total


def test_a_numba_strategy_reads_every_frame_beside_hftbacktest() -> None:
    rows = rows_of(*book(0), (DEPTH | BUY | BOTH, 20, 30, 10.1, 1.0), (DEPTH | BUY | BOTH, 25, 30, 10.1, 2.0))
    with adapter_of(rows).numba() as (hbt, (features,)):
        assert _sum_of_sizes(hbt, features) == (3, 250 + 2 * 1000 + 3 * 2000)


def test_what_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asset = HftAsset.read(rows_of(*book(0)), "X", ONE)
    with pytest.raises(SettingError, match="feature_mode='features'"):
        HftBacktestAdapter(asset, SET, feature_mode="features")  # type: ignore[arg-type] # refused here
    with pytest.raises(SettingError, match="stats_only"):
        HftBacktestAdapter(asset, SET, feature_mode="stats_only")
    with pytest.raises(SettingError, match="lob_feature"):
        HftBacktestAdapter(asset)
    with pytest.raises(SettingError, match="no features"):
        next(HftBacktestAdapter(asset, feature_mode="stats_only").frames())
    with pytest.raises(SettingError, match="no assets"):
        HftBacktestAdapter([], SET)
    cases: tuple[dict[str, Any], ...] = (
        {"queue": "none"},
        {"entry_ns": -1},
        {"maker_bps": "x"},
        {"roi": (2.0, 1.0)},
    )
    for wrong in cases:
        with pytest.raises(SettingError, match=next(iter(wrong))):
            HftMarket(**wrong)
    monkeypatch.setitem(sys.modules, "hftbacktest", None)
    with pytest.raises(ExtraUnavailable, match="hftbacktest") as caught:
        library()
    assert caught.value.hint is not None
    assert "featureplane[backtest]" in caught.value.hint
