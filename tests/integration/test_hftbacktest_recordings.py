"""What hftbacktest's clock lets us see of a recording is, frame by frame, what `replay` computes of it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import featureplane as fp
from featureplane import native
from featureplane.book.engine import LOBEngine
from featureplane.market.events import EventBatch
from featureplane.market.hftbacktest_export import save_hftbacktest
from featureplane.market.reading import read_events
from featureplane.research.backtest.adapter import HftBacktestAdapter
from featureplane.research.backtest.assets import HftAsset
from featureplane.research.backtest.library import library
from tests.shared_data import shared

BINANCE = {
    "usdm 2024": ("binance-usdm", "usdm/btcusdt_20240808.gz"),
    "usdm 2023": ("binance-usdm", "usdm/btcusdt_20230404.dat.gz", "usdm/btcusdt_20230405.dat.gz"),
    "spot": ("binance-spot", "spot/ethusdt_20240808.gz", "spot/ethusdt_20240809.gz"),
    "coinm": ("binance-coinm", "cm/ethusd_perp_20240808.gz", "cm/ethusd_perp_20240809.gz"),
}
TAIFEX = {
    "future": ("TMFD6_2026-04-08_replay_actual.parquet", "TMFD6"),
    "option": ("TXO35000Q6_2026-04-17_replay_actual.parquet", "TXO35000Q6"),
}
SETS = ("lob_shared_v1", "lob_shared_v2")
HEAD = 20_000
INSTRUMENTS = Path(__file__).parents[1] / "instruments"
needs_native = pytest.mark.skipif(not native.available(), reason="no extension")


@lru_cache(maxsize=1)
def recording(market: str, messages: int | None) -> tuple[EventBatch, HftAsset]:
    """Events of a recording or of its first messages, and the asset made of them."""
    source, *names = BINANCE[market]
    paths = [shared(f"binance_raw/{name}") for name in names[: None if messages is None else 1]]
    batch = read_events(paths, source)
    batch = batch if messages is None else batch.part(0, messages)
    return batch, HftAsset.of(batch)


def compared(asset: HftAsset, batch: EventBatch, fset: str) -> int:
    """How many frames the adapter showed; each is that of a replay."""
    adapter = HftBacktestAdapter(asset, fset)
    expected = fp.FeatureEngine(fp.feature_set(fset)).replay(batch)
    count = 0
    for ours, theirs in zip(adapter.frames(), expected, strict=True):
        assert ours.pack() == theirs.pack(), f"frame {theirs.seq}"
        count += 1
    return count


@pytest.mark.parametrize("fset", SETS)
def test_the_sample(fset: str, tmp_path: Path) -> None:
    batch = fp.sample_events()
    assert compared(HftAsset.of(batch), batch, fset) > 500
    save_hftbacktest(tmp_path / "rows.npz", batch)
    symbol = batch.instrument.symbol
    assert compared(HftAsset.read(tmp_path / "rows.npz", symbol, batch.instrument), batch, fset) > 500


@pytest.mark.native
@needs_native
@pytest.mark.parametrize("market", BINANCE)
@pytest.mark.parametrize("fset", SETS)
def test_heads_of_recordings(market: str, fset: str) -> None:
    batch, asset = recording(market, HEAD)
    assert compared(asset, batch, fset) > 1_000


@pytest.mark.native
@needs_native
@pytest.mark.parametrize("market", BINANCE)
def test_heads_of_recordings_as_arrays_in_a_file(market: str, tmp_path: Path) -> None:
    batch, _ = recording(market, HEAD)
    save_hftbacktest(tmp_path / "rows.npz", batch)
    asset = HftAsset.read(tmp_path / "rows.npz", batch.instrument.symbol, batch.instrument)
    for fset in SETS:
        assert compared(asset, batch, fset) > 1_000


@pytest.mark.soak
@pytest.mark.native
@needs_native
@pytest.mark.parametrize("market", BINANCE)
def test_whole_recordings(market: str, tmp_path: Path) -> None:
    batch, asset = recording(market, None)
    save_hftbacktest(tmp_path / "rows.npz", batch)
    read = HftAsset.read(tmp_path / "rows.npz", batch.instrument.symbol, batch.instrument)
    for fset in SETS:
        count = sum(1 for _ in fp.FeatureEngine(fp.feature_set(fset)).replay(batch))
        assert count > 6_000
        assert compared(asset, batch, fset) == count
        assert compared(read, batch, fset) == count


@pytest.mark.parametrize("level", [1, 5])
def test_lobster(level: int) -> None:
    path = shared(f"lobster/LOBSTER_SampleFile_AMZN_2012-06-21_{level}.zip")
    batch = read_events(path, "lobster").part(0, 3_000)
    assert compared(HftAsset.of(batch), batch, "lob_shared_v1") > 2_000


@pytest.mark.parametrize("fset", SETS)
def test_made_up_accidents_with_a_clock_that_is_set_back(fset: str) -> None:
    batch = read_events("synthetic:5:6000", "synthetic")
    asset = HftAsset.of(batch)
    assert not asset.is_ordered
    flags = {frame.quality_flags for frame in fp.FeatureEngine(fp.feature_set(fset)).replay(batch)}
    assert any(one & fp.Quality.GAP_DETECTED for one in flags)
    assert compared(asset, batch, fset) > 1_000


@pytest.mark.native
@needs_native
@pytest.mark.parametrize("which", TAIFEX)
def test_taifex_arrays_with_their_sessions(which: str) -> None:
    name, symbol = TAIFEX[which]
    path, instruments = shared(f"taifex/{name}"), INSTRUMENTS / "taifex.toml"
    asset = HftAsset.read(path, symbol, instruments)
    batch = read_events(path, "hftbacktest", symbol, instruments)
    for fset in SETS:
        frames = compared(asset, batch, fset)
        assert frames == sum(1 for _ in fp.FeatureEngine(fp.feature_set(fset)).replay(batch)) > 300


@pytest.mark.native
@needs_native
@pytest.mark.parametrize("market", ["usdm 2024", "spot"])
def test_our_touch_is_that_of_hftbacktests_depth_at_every_return(market: str) -> None:
    batch, asset = recording(market, HEAD)
    book = LOBEngine(asset.instrument)
    looked = 0
    with HftBacktestAdapter(asset, feature_mode="stats_only").walk() as walk:
        depth = walk.hbt.depth(0)
        while not walk.ended:
            for start, stop in walk.wait():
                message = batch.array[start:stop]
                assert message["local_ts_ns"][0] + asset.shift_ns <= walk.now_ns
                book.process_events(message)
            touch = book.get_l1_scaled()
            if touch.mid_x2 is not None:
                looked += 1
                assert (touch.bid, touch.ask) == _ticks(depth, asset)
    assert looked > 1_000


def _ticks(depth: Any, asset: HftAsset) -> tuple[int, int]:
    tick = asset.instrument.tick or 1
    return depth.best_bid_tick * tick, depth.best_ask_tick * tick


def test_the_real_library_takes_part() -> None:
    assert library().__version__.startswith("2.4.")
