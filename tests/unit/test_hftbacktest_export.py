"""Events as hftbacktest's rows: the same frames back, and rows that hftbacktest itself accepts."""

from __future__ import annotations

import importlib
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import featureplane as fp
from featureplane import native
from featureplane.errors import MalformedEvent, SettingError
from featureplane.features.engine import FeatureEngine
from featureplane.market.events import EVENT_DTYPE, EventBatch, EventFlag, Kind, Side, SourceInfo
from featureplane.market.hftbacktest_export import save_hftbacktest, to_hftbacktest
from featureplane.market.instruments import Instrument
from featureplane.market.reading import read_events
from featureplane.market.synthetic import Faults, SyntheticStream, synthetic_instruments
from tests.shared_data import shared

Array = npt.NDArray[np.void]

EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
INFO = SourceInfo("test", sequenced=True, has_snapshots=True, local_time=True, trade_sides=True)
ONE = Instrument(venue="test", symbol="X", symbol_id=7, price_exponent=1, qty_exponent=2)
RECORDINGS = {
    "usdm": ("binance-usdm", "usdm/btcusdt_20240808.gz"),
    "spot": ("binance-spot", "spot/ethusdt_20240808.gz"),
    "coinm": ("binance-coinm", "cm/ethusd_perp_20240808.gz"),
    "usdm 2023": ("binance-usdm", "usdm/btcusdt_20230404.dat.gz"),
}
CONTINUED = {
    "spot": "spot/ethusdt_20240809.gz",
    "coinm": "cm/ethusd_perp_20240809.gz",
    "usdm 2023": "usdm/btcusdt_20230405.dat.gz",
}
needs_native = pytest.mark.skipif(not native.available(), reason="no extension")


def batch_of(*events: tuple[int, ...]) -> EventBatch:
    """(kind, side, flags, price, qty, ids, source_ts, local_ts) of one instrument."""
    rows = [(*e[:3], 7, *e[3:5], 0, e[5], max(0, e[5] - 1), *e[6:]) for e in events]
    return EventBatch(np.array(rows, EVENT_DTYPE), (ONE,), INFO)


def whole(market: str) -> tuple[str, list[Path]]:
    """The source of a recording and all its files."""
    source, *names = RECORDINGS[market]
    names += [CONTINUED[market]] if market in CONTINUED else []
    return source, [shared(f"binance_raw/{name}") for name in names]


def frames(batch: EventBatch, fset: str, backend: str, most: int | None = None) -> list[bytes]:
    engine = FeatureEngine(fp.feature_set(fset), backend=backend)
    return [frame.pack() for frame in islice(engine.replay(batch), most)]


def there_and_back(batch: EventBatch, path: Path) -> EventBatch:
    save_hftbacktest(path / "rows.npz", batch)
    return read_events(path / "rows.npz", "hftbacktest", batch.instrument.symbol, batch.instrument)


def test_rule_3_11_the_joined_snapshot_is_one_full_book() -> None:
    last, recovery = int(EventFlag.LAST), int(EventFlag.RECOVERY)
    batch = batch_of(
        (Kind.LEVEL, Side.BID, last, 100, 5, 11, 1_000, 900),
        (Kind.LEVEL, Side.ASK, last, 102, 7, 12, 1_010, 901),
        (Kind.SNAPSHOT_LEVEL, Side.BID, recovery, 100, 1, 11, 1_000, 902),
        (Kind.SNAPSHOT_LEVEL, Side.ASK, recovery | last, 103, 1, 11, 1_000, 902),
        (Kind.TRADE, Side.ASK, last, 100, 2, 50, 1_020, 903),
        (Kind.QUOTE, Side.BID, last, 100, 2, 50, 1_020, 903),
        (Kind.LEVEL, Side.BID, last, 100, 0, 13, 1_015, 904),
    )
    array = to_hftbacktest(batch)
    assert array.local_shift_ns == 117
    told = [tuple(row)[:7] for row in array.rows.tolist()]
    assert told == [
        (3 | EXCH | LOCAL, 1_010, 1_019, 0.0, 0.0, 0, 12),
        (4 | BUY | EXCH | LOCAL, 1_010, 1_019, 10.0, 0.01, 0, 12),
        (4 | SELL | EXCH | LOCAL, 1_010, 1_019, 10.2, 0.07, 0, 12),
        (4 | SELL | EXCH | LOCAL, 1_010, 1_019, 10.3, 0.01, 0, 12),
        (1 | BUY | EXCH, 1_015, 1_021, 10.0, 0.0, 12, 13),
        (2 | SELL | EXCH | LOCAL, 1_020, 1_020, 10.0, 0.02, 0, 0),
        (1 | BUY | LOCAL, 1_015, 1_021, 10.0, 0.0, 12, 13),
    ]


@pytest.mark.parametrize("market", RECORDINGS)
@pytest.mark.parametrize("fset", ["lob_shared_v1", "lob_shared_v2"])
def test_rule_3_11_rows_of_a_recording_make_the_same_frames(market: str, fset: str, tmp_path: Path) -> None:
    source, name = RECORDINGS[market]
    batch = read_events(shared(f"binance_raw/{name}"), source).part(0, 12_000)
    back = there_and_back(batch, tmp_path)
    assert back.source.sequenced
    expected = frames(batch, fset, "auto")
    assert len(expected) > 100
    assert frames(back, fset, "auto") == expected


@pytest.mark.soak
@pytest.mark.native
@needs_native
@pytest.mark.parametrize("market", RECORDINGS)
def test_rule_3_11_rows_of_whole_recordings_make_the_same_frames(market: str, tmp_path: Path) -> None:
    source, paths = whole(market)
    batch = read_events(paths, source)
    back = there_and_back(batch, tmp_path)
    assert len(back) > len(batch) // 4
    for fset in ("lob_shared_v1", "lob_shared_v2"):
        assert frames(back, fset, "rust") == frames(batch, fset, "rust")


@pytest.mark.parametrize("clear", [0, 2_000])
def test_rule_3_11_made_up_books_make_the_same_frames(clear: int, tmp_path: Path) -> None:
    faults = replace(Faults.none(), clear=clear, empty_side=2 * clear, snapshot_plain=clear)
    events = np.concatenate(list(SyntheticStream(seed=4, faults=faults).blocks(30_000)))
    events["local_ts_ns"] = np.maximum.accumulate(events["local_ts_ns"])
    batch = EventBatch(events, synthetic_instruments(1), INFO)
    expected = frames(batch, "lob_shared_v1", "auto")
    assert frames(there_and_back(batch, tmp_path), "lob_shared_v1", "auto") == expected


def test_both_clocks_ascend_in_the_rows() -> None:
    source, name = RECORDINGS["usdm"]
    batch = read_events(shared(f"binance_raw/{name}"), source).part(0, 12_000)
    rows = to_hftbacktest(batch).rows
    venue, ours = (rows[rows["ev"] & bit != 0] for bit in (EXCH, LOCAL))
    assert (np.diff(venue["exch_ts"]) >= 0).all()
    assert (np.diff(ours["local_ts"]) >= 0).all()
    assert (rows["local_ts"] >= rows["exch_ts"]).all()
    assert sorted(venue.tolist()) != venue.tolist()
    assert len(venue) == len(ours) < len(rows)


def test_what_rows_cannot_hold_is_refused(tmp_path: Path) -> None:
    orders = SyntheticStream(order_level=True).blocks(100)
    batch = EventBatch(np.concatenate(list(orders)), synthetic_instruments(1), INFO)
    with pytest.raises(SettingError, match="orders"):
        to_hftbacktest(batch)
    last = int(EventFlag.LAST)
    trades = [(Kind.TRADE, Side.BID, last, 1, 1, n, 5, 9 - n) for n in (1, 2)]
    with pytest.raises(MalformedEvent, match="local time 7 behind 8"):
        to_hftbacktest(batch_of(*trades))
    with pytest.raises(SettingError, match="cannot be written"):
        save_hftbacktest(tmp_path / "no" / "x.npz", batch_of(trades[0]))
    assert list(tmp_path.iterdir()) == []


# -- hftbacktest's own tools


def touches(batch: EventBatch) -> dict[tuple[int, int], tuple[object, ...]]:
    """Best prices and sizes after all book messages of one pair of times."""
    names = ("best_bid", "best_ask", "l1_bid_qty", "l1_ask_qty")
    return {
        (frame.source_ts_ns, frame.local_ts_ns): tuple(
            frame.get_feature(name, default=None) for name in names
        )
        for frame in FeatureEngine(fp.feature_set("lob_shared_v1")).replay(batch)
    }


@pytest.mark.native
@needs_native
@pytest.mark.parametrize("market", ["usdm", "coinm"])
def test_rows_of_hftbacktests_converter_have_the_same_touch(market: str, tmp_path: Path) -> None:
    tools = importlib.import_module("hftbacktest.data.utils.binancefutures")
    source, paths = whole(market)
    raw = read_events(paths, source)
    arrays = []
    for path in paths:
        rows = tools.convert(str(path), combined_stream=True)
        first = read_events(path, source, instruments=raw.instrument, seed="increments").array[0]
        arrays.append(tmp_path / f"{path.name}.npz")
        shift = int(rows["local_ts"][rows["ev"] & LOCAL != 0][0]) - int(first["local_ts_ns"])
        np.savez(arrays[-1], data=rows, local_shift_ns=np.int64(shift))
    converted = read_events(arrays, "hftbacktest", raw.instrument.symbol, raw.instrument)
    assert not converted.source.sequenced
    expected, got = touches(raw), touches(converted)
    assert len(expected) > 6_000
    _, *after = expected
    assert {times: got.get(times) for times in after} == {times: expected[times] for times in after}


@pytest.mark.parametrize("market", ["usdm", "spot"])
def test_hftbacktest_accepts_our_rows(market: str) -> None:
    tools = importlib.import_module("hftbacktest.data.validation")
    types = importlib.import_module("hftbacktest.types")
    source, name = RECORDINGS[market]
    rows = to_hftbacktest(read_events(shared(f"binance_raw/{name}"), source).part(0, 12_000)).rows
    assert rows.dtype == types.event_dtype
    tools.validate_event_order(rows)
