"""Binance recordings: what a line becomes, and what is refused."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from featureplane import native
from featureplane.errors import MalformedEvent, UnreadableFile
from featureplane.market.events import EventFlag, Kind, Side
from featureplane.market.sources.binance_plain import PlainReader
from tests import binance_lines as make
from tests.binance_lines import LOCAL, MALFORMED, Outcome, backends, events, line, read

# -- what a line becomes


@backends
def test_rule_3_2_a_futures_diff_covers_the_ids_behind_pu(backend: str) -> None:
    found = events(line(make.envelope(make.diff())), backend)
    assert found[["kind", "side", "price", "qty"]].tolist() == [
        (Kind.LEVEL, Side.BID, 587102, 14),
        (Kind.LEVEL, Side.BID, 587101, 0),
        (Kind.LEVEL, Side.ASK, 614965, 1010),
    ]
    assert found["flags"].tolist() == [0, 0, EventFlag.LAST]
    assert set(found[["seq_prev", "seq_last"]].tolist()) == {(9, 12)}
    assert set(found["symbol_id"].tolist()) == {7}


@backends
def test_rule_3_2_a_spot_diff_covers_the_ids_from_its_first(backend: str) -> None:
    found = events(line(make.envelope(make.spot_diff())), backend, futures=False)
    assert set(found[["seq_prev", "seq_last"]].tolist()) == {(9, 12)}


@backends
def test_rule_2_3_transaction_time_goes_before_event_time(backend: str) -> None:
    text = line(make.diff()) + line(make.diff(T=...))
    assert sorted(set(events(text, backend)["source_ts_ns"].tolist())) == [
        1723161256298_000_000,
        1723161256299_000_000,
    ]


@backends
@pytest.mark.parametrize(
    ("local", "nanos"),
    [
        pytest.param("1680652700423575", 1680652700423575_000, id="microseconds"),
        pytest.param("1723161255030314667", 1723161255030314667, id="nanoseconds"),
    ],
)
def test_rule_2_3_local_time_has_16_or_19_digits(backend: str, local: str, nanos: int) -> None:
    assert events(line(make.trade(), local), backend)["local_ts_ns"].tolist() == [nanos]


@backends
@pytest.mark.parametrize(("maker", "side"), [(True, Side.ASK), (False, Side.BID)])
def test_rule_2_5_a_buyer_who_made_the_price_means_a_seller_aggressed(
    backend: str, *, maker: bool, side: Side
) -> None:
    (trade,) = events(line(make.trade(m=maker)), backend)
    assert (trade["kind"], trade["side"], trade["price"], trade["qty"]) == (Kind.TRADE, side, 618003, 6)
    assert (trade["seq_prev"], trade["seq_last"]) == (76, 77)


@backends
@pytest.mark.parametrize(
    ("kind", "flag"), [("MARKET", 0), ("INSURANCE_FUND", EventFlag.NOT_MARKET), (..., 0)]
)
def test_rule_2_5_trades_of_another_kind_are_not_market_trades(backend: str, kind: Any, flag: int) -> None:
    (trade,) = events(line(make.trade(X=kind)), backend)
    assert trade["flags"] == EventFlag.LAST | flag


@backends
def test_rule_2_5_an_aggregated_trade_covers_all_its_trades(backend: str) -> None:
    (trade,) = events(line(make.aggregate()), backend)
    assert (trade["kind"], trade["seq_prev"], trade["seq_last"]) == (Kind.TRADE, 69, 77)


@backends
def test_rule_2_1_a_quote_is_two_events_bid_then_ask(backend: str) -> None:
    found = events(line(make.envelope(make.quote())), backend)
    assert found[["kind", "side", "price", "qty", "seq_last"]].tolist() == [
        (Kind.QUOTE, Side.BID, 618002, 2507, 12),
        (Kind.QUOTE, Side.ASK, 618003, 2510, 12),
    ]


@backends
def test_a_spot_quote_has_no_type_and_no_time(backend: str) -> None:
    found = events(line(make.envelope(make.quote(e=..., E=..., T=...))), backend, futures=False)
    assert found["source_ts_ns"].tolist() == [0, 0]
    assert found["local_ts_ns"].tolist() == [LOCAL, LOCAL]


@backends
def test_rule_3_7_a_snapshot_clears_both_sides_and_fills_them(backend: str) -> None:
    found = events(line(make.snapshot()), backend)
    assert found[["kind", "side", "price"]].tolist() == [
        (Kind.CLEAR, Side.BID, 0),
        (Kind.CLEAR, Side.ASK, 0),
        (Kind.SNAPSHOT_LEVEL, Side.BID, 618002),
        (Kind.SNAPSHOT_LEVEL, Side.BID, 618001),
        (Kind.SNAPSHOT_LEVEL, Side.ASK, 618003),
    ]
    assert set(found[["seq_prev", "seq_last"]].tolist()) == {(0, 11)}
    assert all(found["flags"] & EventFlag.RECOVERY)


@backends
def test_an_empty_snapshot_still_says_that_the_book_is_empty(backend: str) -> None:
    found = events(line(make.snapshot(bids=[], asks=[], E=..., T=...)), backend)
    assert found[["kind", "flags", "source_ts_ns"]].tolist() == [
        (Kind.CLEAR, EventFlag.RECOVERY, 0),
        (Kind.CLEAR, EventFlag.RECOVERY | EventFlag.LAST, 0),
    ]


@backends
def test_a_diff_without_levels_keeps_its_ids_and_its_step(backend: str) -> None:
    (only,) = events(line(make.diff(b=[], a=[])), backend)
    assert (only["kind"], only["price"], only["qty"], only["seq_last"]) == (Kind.LEVEL, 0, 0, 12)


@backends
def test_a_partial_book_of_another_stream_restarts_nothing(backend: str) -> None:
    outcome = read(line(make.envelope(make.snapshot())), backend)
    assert (len(outcome.events), outcome.dropped) == (0, {"other_stream": 1})


@backends
def test_other_streams_and_answers_are_counted(backend: str) -> None:
    text = b"".join(
        line(message)
        for message in (
            make.envelope({"e": "markPriceUpdate", "s": make.SYMBOL, "p": "1"}),
            make.envelope([{"e": "24hrTicker"}]),
            {"result": None, "id": 1},
            make.trade(e=5),
        )
    )
    assert read(text, backend).dropped == {"other_stream": 4}


@backends
def test_lines_of_other_symbols_are_skipped_and_remembered(backend: str) -> None:
    text = line(make.snapshot()) + line(make.trade(s="ETHUSDT", p="1.23456789")) + line(make.trade())
    outcome = read(text + line(make.snapshot()) + line(make.snapshot(symbol=make.SYMBOL)), backend)
    assert outcome.error is None
    assert outcome.symbols == [make.SYMBOL, "ETHUSDT"]
    assert outcome.dropped == {"other_symbol": 1, "unnamed_snapshot": 1}
    assert int((outcome.events["flags"] & EventFlag.LAST).sum()) == 3


@backends
def test_keys_may_stand_in_any_order_and_more_than_we_know(backend: str) -> None:
    message = {"future": {"of": ["the", {"venue": 1.5e3}]}, **dict(reversed(make.diff().items()))}
    spaced = f"{LOCAL} {json.dumps({'data': message, 'stream': 'x'})}\r\n".encode()
    assert events(spaced, backend).tobytes() == events(line(make.diff()), backend).tobytes()


@backends
def test_rule_1_2_an_empty_trade_keeps_its_ids_for_the_guard_to_drop(backend: str) -> None:
    (trade,) = events(line(make.trade(q="0", p="0", X="NA")), backend)
    assert (trade["qty"], trade["seq_prev"], trade["seq_last"]) == (0, 76, 77)


# -- what is refused


@backends
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_no_rule_accepts_is_refused_with_its_line(backend: str, text: bytes) -> None:
    outcome = read(line(make.diff()) + b"\n" + text + line(make.diff()), backend)
    assert isinstance(outcome.error, MalformedEvent)
    assert (outcome.error.file, outcome.error.line) == ("some file", 3)
    assert len(outcome.events) == 3


@backends
@pytest.mark.parametrize(
    "text",
    [b"1723161255030314667 \x1b[2J\x9b\n", line(make.trade(p="\x1b[2J\x7f\u0085"))],
    ids=["JSON", "price"],
)
def test_an_error_cannot_steer_the_terminal(backend: str, text: bytes) -> None:
    error = read(text, backend).error
    assert isinstance(error, MalformedEvent)
    assert error.found.replace("\ufffd", "").isprintable()


@backends
def test_a_spot_recording_with_futures_diffs_is_refused(backend: str) -> None:
    error = read(line(make.diff()), backend, futures=False).error
    assert isinstance(error, MalformedEvent)
    assert "spot" in error.expected


@backends
def test_rule_10_1_a_dropped_book_message_leaves_an_event_that_breaks_the_book(backend: str) -> None:
    text = line(make.diff()) + line(make.diff(u=None), LOCAL + 1) + line(make.trade())
    outcome = read(text, backend, drop=True)
    mark = outcome.events[3]
    assert (mark["kind"], mark["flags"], mark["symbol_id"]) == (0, EventFlag.LAST, 7)
    assert (mark["source_ts_ns"], mark["local_ts_ns"]) == (1723161256298_000_000, LOCAL + 1)
    assert outcome.dropped == {}, "the guard counts it"


@backends
def test_rule_10_1_a_dropped_trade_is_only_counted(backend: str) -> None:
    outcome = read(line(make.trade(p="x")) + line(make.quote(b="x")), backend, drop=True)
    assert (len(outcome.events), outcome.dropped) == (0, {"malformed": 2})


@backends
@pytest.mark.parametrize("cut", range(1, len(line(make.diff())) - 1, 7))
def test_rule_2_2_a_last_line_cut_off_is_dropped(backend: str, cut: int) -> None:
    outcome = read(line(make.diff()) + line(make.diff())[:cut], backend)
    assert outcome.error is None
    assert (len(outcome.events), outcome.dropped) == (3, {"incomplete": 1})


@backends
def test_a_last_line_without_end_that_is_whole_is_read(backend: str) -> None:
    outcome = read(line(make.diff()) + line(make.diff())[:-1], backend)
    assert (len(outcome.events), outcome.dropped) == (6, {})


@backends
def test_a_line_without_end_is_refused_before_it_fills_the_memory(backend: str) -> None:
    text = [line(make.diff()), *[b"x" * 512] * 8, b"\n", line(make.diff())]
    outcome = Outcome(text, backend, line_bytes_max=1024)
    assert isinstance(outcome.error, MalformedEvent)
    assert outcome.error.line == 2
    dropped = Outcome(text, backend, line_bytes_max=1024, drop=True)
    assert dropped.events["kind"].tolist() == [1, 1, 1, 0, 1, 1, 1]


@backends
def test_damaged_packing_is_named(backend: str) -> None:
    packed = gzip.compress(line(make.diff()) * 100)
    for damaged in (packed[:-1], packed[:30], packed + b"x", packed[:40] + b"\x55\xaa" + packed[42:]):
        error = read(damaged, backend).error
        assert isinstance(error, UnreadableFile)
        assert error.path == "some file"
    assert read(packed + packed + bytes(20), backend).error is None


@backends
def test_a_few_packed_bytes_cannot_fill_the_memory(backend: str) -> None:
    packed = gzip.compress(line(make.diff()) * 20_000)
    outcome = Outcome([packed], backend, events_max=1000)
    assert len(outcome.events) == 60_000
    kind = native.module().BinanceReader if backend == "rust" else PlainReader
    reader = kind(make.SYMBOL, 7, 1, 3, futures=True, drop_malformed=False, line_bytes_max=1 << 20)
    reader.begin("bomb")
    reader.feed(packed, 0, 1000)
    assert 1000 <= reader.pending() < 10_000
