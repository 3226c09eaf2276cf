"""Binance recordings: what a line becomes, what is refused, and that both readers agree."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureplane import native
from featureplane.errors import InputError, MalformedEvent, UnreadableFile
from featureplane.market.events import EVENT_DTYPE, EventFlag, Kind, Side
from featureplane.market.sources.binance_plain import PlainReader, PlainScan
from tests import binance_lines as make
from tests.binance_lines import LOCAL, line
from tests.shared_data import shared

BACKENDS = [
    pytest.param("python", id="python"),
    pytest.param("rust", id="rust", marks=pytest.mark.skipif(not native.available(), reason="no extension")),
]
backends = pytest.mark.parametrize("backend", BACKENDS)
needs_native = pytest.mark.native

RECORDINGS: Final = {
    "usdm/btcusdt_20240808.gz": (True, "BTCUSDT", 1, 3),
    "usdm/btcusdt_20230404.dat.gz": (True, "BTCUSDT", 1, 3),
    "usdm/btcusdt_20230405.dat.gz": (True, "BTCUSDT", 1, 3),
    "spot/ethusdt_20240808.gz": (False, "ETHUSDT", 2, 5),
    "spot/ethusdt_20240809.gz": (False, "ETHUSDT", 2, 5),
    "cm/ethusd_perp_20240808.gz": (True, "ETHUSD_PERP", 2, 0),
    "cm/ethusd_perp_20240809.gz": (True, "ETHUSD_PERP", 2, 0),
}

Array = npt.NDArray[np.void]


class Outcome:
    """All a reader has to say about one text."""

    def __init__(
        self,
        chunks: Sequence[bytes],
        backend: str,
        *,
        futures: bool = True,
        symbol: str = make.SYMBOL,
        exponents: tuple[int, int] = (1, 3),
        drop: bool = False,
        line_bytes_max: int = 1 << 20,
        events_max: int = 1 << 60,
    ) -> None:
        kind = native.module().BinanceReader if backend == "rust" else PlainReader
        reader = kind(symbol, 7, *exponents, futures, drop, line_bytes_max)
        self.error: InputError | None = None
        parts = []
        reader.begin("some file")
        try:
            for chunk in chunks:
                place = 0
                while place < len(chunk):
                    place = reader.feed(chunk, place, events_max)
                    if reader.pending() >= events_max:
                        parts.append(reader.take())
            reader.end()
        except InputError as error:
            self.error = error
        parts.append(reader.take())
        self.events: Array = np.concatenate(parts).view(EVENT_DTYPE)
        self.dropped = {reason: count for reason, count in reader.dropped() if count}
        self.symbols = reader.symbols()
        self.local_max = reader.local_max()

    def said(self) -> tuple[object, ...]:
        error = None if self.error is None else (type(self.error), str(self.error), vars(self.error))
        return self.events.tobytes(), error, self.dropped, self.symbols, self.local_max


def read(text: bytes, backend: str, **options: Any) -> Outcome:
    return Outcome([text], backend, **options)


def events(text: bytes, backend: str, **options: Any) -> Array:
    outcome = read(text, backend, **options)
    assert outcome.error is None
    return outcome.events


def scanned(scan: Any, text: bytes) -> object:
    """What a scan finds in a text, or its error as (class, words)."""
    scan.begin("some file")
    try:
        scan.feed(text)
        scan.end()
    except InputError as error:
        return type(error), str(error)
    return [(row[0], tuple(row[1]), tuple(row[2]), row[3]) for row in scan.found()]


def said_by_both(chunks: Sequence[bytes], **options: Any) -> tuple[object, ...]:
    python, rust = (Outcome(chunks, backend, **options).said() for backend in ("python", "rust"))
    assert rust == python
    return rust


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

MALFORMED: Final = {
    "no time": b'{"e":"trade"}\n',
    "time of 18 digits": line(make.trade(), 172316125503031466),
    "time beyond 64 bits": line(make.trade(), 9999999999999999999),
    "no JSON": b"1723161255030314667 what\n",
    "no object": line([make.trade()]),
    "JSON and more": line(make.trade())[:-1] + b" x\n",
    "not UTF-8": b'1723161255030314667 {"e":"tr\xffade"}\n',
    "half a surrogate pair": b'1723161255030314667 {"e":"\\ud800"}\n',
    "NaN": b'1723161255030314667 {"e":NaN}\n',
    "a number beyond floats": b'1723161255030314667 {"x":1e999}\n',
    "nested too deeply": b"1723161255030314667 " + b'{"x":' * 17 + b"1" + b"}" * 17 + b"\n",
    "nested far too deeply": b"1723161255030314667 " + b'{"x":' * 9999 + b"1" + b"}" * 9999 + b"\n",
    "too many decimals": line(make.trade(p="61800.31")),
    "exponent": line(make.trade(p="6e4")),
    "price as number": line(make.trade(p=61800.3)),
    "size below 0": line(make.trade(q="-0.001")),
    "price of 2^53": line(make.trade(p="900719925474099.2")),
    "no symbol": line(make.trade(s=...)),
    "symbol as number": line(make.trade(s=5)),
    "trade id 0": line(make.trade(t=0)),
    "trade id as text": line(make.trade(t="77")),
    "trade id below 0": line(make.trade(t=-1)),
    "trade id beyond 64 bits": line(make.trade(t=1 << 64)),
    "no time of the venue": line(make.trade(E=..., T=...)),
    "time beyond nanoseconds": line(make.trade(T=1 << 62)),
    "time as text": line(make.trade(T="1723161256320")),
    "no maker": line(make.trade(m=...)),
    "maker as number": line(make.trade(m=1)),
    "kind null": line(make.trade(X=None)),
    "ids backwards": line(make.diff(U=13)),
    "pu beyond u": line(make.diff(pu=13)),
    "no pu": line(make.diff(pu=...)),
    "no bids": line(make.diff(b=...)),
    "bids as text": line(make.diff(b="61800.30")),
    "a level of three": line(make.diff(b=[["1.0", "1.000", []]])),
    "a level of one": line(make.diff(a=[["1.0", "1.0"], ["1.0"]])),
    "a level as object": line(make.diff(a=[{"p": "1.0"}])),
    "a level null": line(make.diff(a=[None])),
    "a size as number": line(make.diff(a=[["1.0", 1.5]])),
    "a size as list": line(make.diff(a=[["1.0", [[]]]])),
    "a size below 0": line(make.diff(a=[["1.0", "-1"]])),
    "aggregate backwards": line(make.aggregate(f=78)),
    "quote without id": line(make.quote(u=None)),
    "quote without size": line(make.quote(A=[])),
    "snapshot id 0": line(make.snapshot(lastUpdateId=0)),
    "snapshot symbol null": line(make.snapshot(symbol=None)),
    "asks as object": line(make.snapshot(asks={})),
}


@backends
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_no_rule_accepts_is_refused_with_its_line(backend: str, text: bytes) -> None:
    outcome = read(line(make.diff()) + b"\n" + text + line(make.diff()), backend)
    assert isinstance(outcome.error, MalformedEvent)
    assert (outcome.error.file, outcome.error.line) == ("some file", 3)
    assert len(outcome.events) == 3


@needs_native
@pytest.mark.parametrize("drop", [False, True], ids=["raise", "drop"])
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_rule_10_1_both_readers_refuse_in_the_same_words(text: bytes, *, drop: bool) -> None:
    said_by_both([line(make.diff()) + text + line(make.diff())], drop=drop)


@needs_native
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_both_scans_refuse_in_the_same_words(text: bytes) -> None:
    fine = text.replace(b"61800.31", b"61800." + b"1" * 19)
    options: dict[str, Any] = {"futures": True, "drop_malformed": False, "line_bytes_max": 1 << 20}
    rust, python = (scanned(kind(**options), fine) for kind in (native.module().BinanceScan, PlainScan))
    assert isinstance(python, tuple)
    assert rust == python


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


# -- that both readers agree

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 30)
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(
        ["1.0", "0.001", "-1", "61800.25", "MARKET", make.SYMBOL, "trade", "depthUpdate", "é\n\\"]
    )
    | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("eEsuUbaBAtTpqmX"), inner, max_size=3)
        | st.lists(st.tuples(inner, inner), max_size=3)
    ),
    max_leaves=6,
)
MESSAGES = st.sampled_from(
    [make.diff(), make.spot_diff(), make.trade(), make.aggregate(), make.quote(), make.snapshot()]
)
CHANGES = st.dictionaries(
    st.sampled_from(
        [*make.diff(), *make.trade(), *make.aggregate(), *make.snapshot(), "B", "A", "data", "symbol"]
    ),
    VALUES | st.just(...),
    max_size=3,
)


NUMBERS = st.sampled_from(
    [
        "0",
        "007",
        "-3",
        "-0",
        "1e5",
        "1E+9",
        "5e-07",
        "1.0",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999",
        "1e400",
        "-1e400",
        "1e+400",
        "0x1",
        "1_0",
        "1.",
        ".5",
        "12345678.901",
        "+1",
        "-",
    ]
)
SOUND = b"".join(
    line(message)
    for message in (
        *(make.envelope(one) for one in (make.diff(), make.trade(x=5e-7), make.quote(), make.aggregate())),
        make.spot_diff(),
        make.trade(b=5, a=6, M=True),
        make.snapshot(),
    )
)
"""Behind these a line of the same form is read without the library: that must not show."""


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """One line, sound, of other values, or with other bytes in it."""
    message = {key: value for key, value in (draw(MESSAGES) | draw(CHANGES)).items() if value is not ...}
    text = line(make.envelope(message) if draw(st.booleans()) else message)
    how = draw(st.integers(0, 2))
    if how == 0:
        return text
    if how == 1:
        numbers = list(re.finditer(rb"-?[0-9.]+(e-07)?", text))
        place = draw(st.sampled_from(numbers))
        return text[: place.start()] + draw(NUMBERS).encode() + text[place.end() :]
    at = draw(st.integers(0, len(text) - 1))
    there = draw(
        st.binary(max_size=3) | st.sampled_from([b"]", b'"', b"{", b"\\u12", b"0", b".", b"-", b"\\"])
    )
    return text[:at] + there + text[at + draw(st.integers(0, 2)) :]


@needs_native
@settings(max_examples=600, deadline=None)
@given(
    texts=st.lists(lines(), min_size=1, max_size=3),
    drop=st.booleans(),
    futures=st.booleans(),
    sound=st.booleans(),
)
def test_rule_10_1_both_readers_agree_on_whatever_comes(
    texts: list[bytes], *, drop: bool, futures: bool, sound: bool
) -> None:
    said_by_both([SOUND * sound + b"".join(texts)], drop=drop, futures=futures)
    options: dict[str, Any] = {"futures": futures, "drop_malformed": True, "line_bytes_max": 1 << 20}
    rust, python = (
        scanned(kind(**options), b"".join(texts)) for kind in (native.module().BinanceScan, PlainScan)
    )
    assert rust == python


@needs_native
@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_both_readers_agree_on_bytes_that_are_nothing(data: bytes) -> None:
    for drop in (False, True):
        said_by_both([data], drop=drop)
        said_by_both([b"\x1f\x8b" + data], drop=drop)


@needs_native
@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 2000), max_size=6), packed=st.booleans())
def test_chunks_cut_anywhere_give_the_same_events(cuts: list[int], *, packed: bool) -> None:
    text = b"".join(map(line, [make.snapshot(), make.diff(), make.trade(), {"x": 1}, make.quote()]))
    whole = said_by_both([text])
    data = gzip.compress(text[:900]) + gzip.compress(text[900:]) if packed else text
    places = sorted({min(cut, len(data)) for cut in cuts})
    chunks = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    assert said_by_both(chunks) == whole
    assert said_by_both(chunks, events_max=1)[0] == whole[0]


@needs_native
@pytest.mark.parametrize("name", RECORDINGS)
def test_rule_10_1_both_readers_agree_on_the_first_20000_lines_of(name: str) -> None:
    futures, symbol, *exponents = RECORDINGS[name]
    with gzip.open(shared(f"binance_raw/{name}")) as stream:
        text = b"".join(islice(stream, 20_000))
    options: dict[str, Any] = {"futures": futures, "symbol": symbol, "exponents": tuple(exponents)}
    said = said_by_both([text], **options)
    assert said[1] is None
    pieces = [text[place : place + 4093] for place in range(0, len(text), 4093)]
    assert Outcome(pieces, "rust", **options).said() == said
    assert Outcome([zlib.compress(text, wbits=31)], "rust", **options).said() == said


@needs_native
@pytest.mark.soak
@pytest.mark.parametrize("name", RECORDINGS)
def test_rule_10_1_both_readers_agree_on_all_of(name: str) -> None:
    futures, symbol, *exponents = RECORDINGS[name]
    said = said_by_both(
        [Path(shared(f"binance_raw/{name}")).read_bytes()],
        futures=futures,
        symbol=symbol,
        exponents=tuple(exponents),
    )
    assert said[1] is None
