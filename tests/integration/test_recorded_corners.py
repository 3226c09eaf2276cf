"""The corners of the recordings that rule 10.6 names, one by one."""

from __future__ import annotations

import functools
import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featureplane.features import kernels as k
from featureplane.features.reference import ReferenceEngine
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EVENT_DTYPE, EventBatch, EventFlag, Kind, Side
from featureplane.market.quality import Quality
from featureplane.market.reading import read_events
from featureplane.research.compute import compute
from featureplane.research.tables import FeatureTable
from tests.shared_data import shared

pytestmark = pytest.mark.native

RECORDINGS = {
    "spot": ("binance-spot", "spot/ethusdt_20240808.gz", "spot/ethusdt_20240809.gz"),
    "usdm": ("binance-usdm", "usdm/btcusdt_20240808.gz"),
    "usdm 2023": ("binance-usdm", "usdm/btcusdt_20230404.dat.gz", "usdm/btcusdt_20230405.dat.gz"),
    "coinm": ("binance-coinm", "cm/ethusd_perp_20240808.gz", "cm/ethusd_perp_20240809.gz"),
}
BOOK = FeatureSet(
    "corner_book_v1",
    features={
        "bid": k.best_bid(),
        "ask": k.best_ask(),
        "bid_qty": k.qty("bid", 1),
        "ask_qty": k.qty("ask", 1),
        "bids": k.depth("bid", 400),
        "asks": k.depth("ask", 400),
    },
)
INSTRUMENTS = Path(__file__).parents[1] / "instruments"


@functools.cache
def recording(name: str) -> EventBatch:
    source, *files = RECORDINGS[name]
    return read_events([shared(f"binance_raw/{file}") for file in files], source)


@functools.cache
def books(name: str) -> FeatureTable:
    return compute(recording(name), BOOK)


def header(table: FeatureTable, name: str) -> npt.NDArray[Any]:
    return np.asarray(table.to_arrow()[name].to_numpy())


def values(table: FeatureTable) -> npt.NDArray[np.int64]:
    return np.stack([table.column(name)[0] for name in table.feature_set], axis=1)


def heads(events: EventBatch) -> npt.NDArray[Any]:
    """The first event of every message."""
    first: npt.NDArray[Any] = events.array[np.append(0, events.message_ends[:-1])]
    return first


def snapshot_place(events: EventBatch) -> int:
    """Which message is the snapshot."""
    return int(np.argmax(np.isin(heads(events)["kind"], [Kind.CLEAR, Kind.SNAPSHOT_LEVEL])))


@pytest.mark.parametrize(("name", "joined", "dropped"), [("usdm", 2, 4), ("coinm", 2, 22)])
def test_diffs_joined_from_before_the_snapshot_line(name: str, joined: int, dropped: int) -> None:
    messages, place = heads(recording(name)), snapshot_place(recording(name))
    snapshot, before = messages[place], messages[:place][messages[:place]["kind"] == Kind.LEVEL]
    kept = before[before["seq_last"] > snapshot["seq_last"]]
    assert (len(kept), len(before) - len(kept)) == (joined, dropped)
    first = {
        column: header(books(name), column)[0] for column in ("source_seq", "local_ts_ns", "source_ts_ns")
    }
    assert first == {
        "source_seq": kept["seq_last"][-1],
        "local_ts_ns": snapshot["local_ts_ns"],
        "source_ts_ns": max(snapshot["source_ts_ns"], before["source_ts_ns"].max()),
    }


def test_the_first_diff_begins_right_behind_the_snapshot() -> None:
    # U = lastUpdateId + 1: the exchange's `U <= lastUpdateId <= u` would wait for ever.
    messages, place = heads(recording("spot")), snapshot_place(recording("spot"))
    behind = messages[place:][messages[place:]["kind"] == Kind.LEVEL][0]
    assert behind["seq_prev"] == messages[place]["seq_last"] == 35346513512
    assert header(books("spot"), "source_seq")[:2].tolist() == [35346513512, behind["seq_last"]]
    assert not header(books("spot"), "quality_flags")[1:5].any()


def raw_diffs(name: str) -> Iterator[tuple[int, int]]:
    """`U` and `u` of the diffs as the exchange wrote them."""
    for file in RECORDINGS[name][1:]:
        with gzip.open(shared(f"binance_raw/{file}"), "rt", encoding="ascii") as lines:
            for line in lines:
                if "@depth" in line:
                    first, last = re.findall(r'"[Uu]":(\d+)', line)
                    yield int(first), int(last)


@pytest.mark.parametrize("name", ["usdm", "usdm 2023", "coinm"])
def test_a_snapshot_whose_id_lies_in_no_diff(name: str) -> None:
    events, table = recording(name), books(name)
    diffs = list(raw_diffs(name))
    at = next(i for i in range(200, len(diffs)) if diffs[i + 1][0] - diffs[i][1] > 2)
    snapshot_id = diffs[at][1] + 1
    assert not any(first <= snapshot_id <= last for first, last in diffs)
    # The book as it was after that diff, told as a snapshot with an id between it and the next.
    ends = events.message_ends
    (place,) = np.flatnonzero(
        (heads(events)["kind"] == Kind.LEVEL) & (heads(events)["seq_last"] == diffs[at][1])
    )
    later = events.array[ends[place] :]
    array = np.concatenate([as_snapshot(events.array[: ends[place]], snapshot_id), later])
    joined = compute(EventBatch(array, events.instruments, events.source), BOOK)
    (row,) = np.flatnonzero(header(table, "source_seq") == diffs[at][1])
    assert header(joined, "source_seq").tolist() == [
        snapshot_id,
        *header(table, "source_seq")[row + 1 :].tolist(),
    ]
    assert (values(joined) == values(table)[row:]).all()


def as_snapshot(events: npt.NDArray[Any], snapshot_id: int) -> npt.NDArray[Any]:
    """The book these events leave, as one snapshot message at the time of the last of them."""
    sides: dict[int, dict[int, int]] = {Side.BID: {}, Side.ASK: {}}
    book = events[np.isin(events["kind"], [Kind.LEVEL, Kind.SNAPSHOT_LEVEL])]
    begin = book["seq_last"][book["kind"] == Kind.SNAPSHOT_LEVEL][0]
    joined = book[(book["kind"] == Kind.SNAPSHOT_LEVEL) | (book["seq_last"] > begin)]
    # By id, as the diffs that stood before the snapshot line join it.
    for _, side, _, _, price, qty, *_ in joined[np.argsort(joined["seq_last"], kind="stable")].tolist():
        sides[side].pop(price, None)
        if qty:
            sides[side][price] = qty
    levels = [(side, price, qty) for side, held in sides.items() for price, qty in held.items()]
    out = np.zeros(len(levels), EVENT_DTYPE)
    out["side"], out["price"], out["qty"] = zip(*levels, strict=True)
    out["kind"], out["flags"], out["seq_last"] = Kind.SNAPSHOT_LEVEL, EventFlag.RECOVERY, snapshot_id
    for name in ("symbol_id", "source_ts_ns", "local_ts_ns"):
        out[name] = events[name][-1]
    out["flags"][-1] |= EventFlag.LAST
    return out


def test_best_quotes_that_arrive_after_their_diff() -> None:
    messages = heads(recording("usdm"))
    is_quote = messages["kind"] == Kind.QUOTE
    told = np.maximum.accumulate(np.where(messages["kind"] == Kind.LEVEL, messages["seq_last"], 0))
    late = is_quote & (messages["seq_last"] <= told)
    assert int(late.sum()) == 1_093
    # By arrival the quote before some diffs is another one than by id, and not the book's.
    events = recording("usdm").array
    quotes = events[events["kind"] == Kind.QUOTE]
    bids, asks = quotes[0::2], quotes[1::2]
    book_ids, book = header(books("usdm"), "source_seq"), values(books("usdm"))[:, :4]
    quote = np.stack([bids["price"], asks["price"], bids["qty"], asks["qty"]], axis=1)
    agree = {}
    for name, chosen in (("by id", slice(None)), ("by arrival", ~late[is_quote])):
        ids = bids["seq_last"][chosen]
        assert (np.diff(ids.astype(np.int64)) >= 0).all()
        nearest = np.searchsorted(ids, book_ids, side="right") - 1
        agree[name] = int((quote[chosen][nearest] == book).all(axis=1).sum())
    assert agree["by id"] == len(book)
    assert agree["by arrival"] < len(book)


def test_diffs_that_change_nothing_are_steps() -> None:
    events, place = recording("coinm"), snapshot_place(recording("coinm"))
    idle, diffs = 0, 0
    sides: dict[int, dict[int, int]] = {Side.BID: {}, Side.ASK: {}}
    changed = False
    for kind, side, flags, _, price, qty, *_ in events.array[events.message_ends[place - 1] :].tolist():
        if kind in {Kind.LEVEL, Kind.SNAPSHOT_LEVEL}:
            changed = changed or sides[side].get(price, 0) != qty
            sides[side][price] = qty
            if kind == Kind.LEVEL and flags & EventFlag.LAST:
                idle, diffs, changed = idle + (not changed), diffs + 1, False
    assert (idle, diffs) == (4_617, 39_131)
    assert round(100 * idle / diffs, 1) == 11.8
    assert len(books("coinm")) == diffs + 1
    # An idle diff changes no value, and is left out only by who asks for changes alone.
    assert (header(books("coinm"), "changed_mask") == 0).sum() >= idle
    kept = compute(events, BOOK, emit="change")
    assert len(kept) == int((header(books("coinm"), "changed_mask") != 0).sum()) + flags_alone(books("coinm"))


def flags_alone(table: FeatureTable) -> int:
    """Frames of which nothing but the flags differs from the one before."""
    flags = header(table, "quality_flags")
    return int(((header(table, "changed_mask")[1:] == 0) & (np.diff(flags.astype(np.int64)) != 0)).sum())


def test_a_size_of_five_decimals() -> None:
    events = recording("spot")
    assert (events.instrument.qty_exponent, events.instrument.tick_size) == (5, "0.01")
    finer = events.array[events.array["qty"] % 10 != 0]
    told = [f"{qty / 10**5:.8f}" for qty in finer["qty"].tolist()]
    assert len(finer) == 3
    text = "".join(
        gzip.decompress(shared(f"binance_raw/{file}").read_bytes()).decode()
        for file in RECORDINGS["spot"][1:]
    )
    assert sorted(told) == sorted(re.findall(r'"(\d+\.\d{4}[1-9]000)"', text))


def test_two_messages_with_one_local_time() -> None:
    same = np.flatnonzero(np.diff(header(books("usdm 2023"), "local_ts_ns")) == 0)
    assert len(same) == 1
    first, second = (header(books("usdm 2023"), "source_seq")[same[0] + i] for i in (0, 1))
    assert first < second
    assert header(books("usdm 2023"), "seq")[same[0] + 1] == header(books("usdm 2023"), "seq")[same[0]] + 1


def test_the_stall_of_2023_is_stale() -> None:
    local, source = (
        header(books("usdm 2023"), f"{name}_ts_ns").astype(np.int64) for name in ("local", "source")
    )
    stale = header(books("usdm 2023"), "quality_flags") & np.uint32(Quality.STALE_INPUT) != 0
    late = local - source
    least = np.minimum.accumulate(late)
    # Between the two limits lies what the offset may have drifted, 50 ppm of the time since the least.
    assert 3.0 < (late - least).max() / 1e9 < 3.1
    assert stale[late - least > 1_002_000_000].all()
    assert not stale[late - least <= 1_000_000_000].any()
    assert int(stale.sum()) == 56
    assert np.diff(np.flatnonzero(stale)).max() == 1


def test_trial_matches_before_the_open_are_read_by_nobody() -> None:
    path = shared("taifex/TMFD6_2026-04-08_replay_actual.parquet")
    events = read_events(path, "hftbacktest", "TMFD6", INSTRUMENTS / "taifex.toml")
    opens_ns = 1_775_609_100 * 10**9  # 08:45 in Taipei
    before = events.array[events.array["source_ts_ns"] < opens_ns]
    trials = before[before["kind"] == Kind.TRADE]
    assert len(trials) > 0
    fset = FeatureSet(
        "trials_v1", features={"bid": k.best_bid(), "count": k.trade_count(), "last": k.trade_price()}
    )
    table = compute(events, fset)
    assert header(table, "source_ts_ns")[0] >= opens_ns
    assert header(table, "quality_flags")[0] & np.uint32(Quality.STATE_RESET)
    count, defined = table.column("count")
    assert count[defined][0] == 1
    # Told before the open, read by nobody, counted.
    engine = ReferenceEngine(fset, events.instruments, events.source, events.options)
    assert not list(engine.process(before))
    assert engine.symbol(events.instrument.symbol_id).unread_trades == len(trials)


@pytest.mark.parametrize("symbol", ["AAPL", "AMZN"])
def test_hidden_executions_touch_no_level(symbol: str) -> None:
    events = read_events(shared(f"lobster/LOBSTER_SampleFile_{symbol}_2012-06-21_1.zip"), "lobster")
    hidden = events.array[events.array["flags"] & EventFlag.HIDDEN != 0]
    assert len(hidden) == {"AAPL": 11_332, "AMZN": 2_445}[symbol]
    assert (hidden["kind"] == Kind.TRADE).all()
    assert not hidden["order_id"].any()
    fset = FeatureSet(
        "hidden_v1",
        features={
            "bid": k.best_bid(),
            "bid_qty": k.qty("bid", 1),
            "ask": k.best_ask(),
            "ask_qty": k.qty("ask", 1),
            "last": k.trade_price(),
            "count": k.trade_count(),
            "last_seen": k.trade_price(hidden=False),
            "seen": k.trade_count(hidden=False),
        },
    )
    table = compute(events, fset)
    bid, bid_qty, ask, ask_qty, last, _, last_seen, _ = (table.column(name)[0] for name in fset)
    told, seen = (np.where(*table.column(name)[::-1], 0) for name in ("count", "seen"))
    rows = np.flatnonzero((np.diff(told, prepend=0) == 1) & (np.diff(seen, prepend=0) == 0))
    assert (last[rows] == hidden["price"]).all()
    later = rows[rows > 0]
    for standing in (bid, bid_qty, ask, ask_qty, last_seen):
        assert (standing[later] == standing[later - 1]).all()
    assert ((bid[rows] < last[rows]) & (last[rows] < ask[rows])).any()
