"""Both readers of Binance recordings agree: on the recordings, on what is malformed, on whatever comes."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureplane import native
from featureplane.errors import InputError
from featureplane.market.sources.binance_plain import PlainScan
from tests import binance_lines as make
from tests.binance_lines import MALFORMED, Outcome, line
from tests.shared_data import shared

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


@needs_native
@pytest.mark.parametrize("drop", [False, True], ids=["raise", "drop"])
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_rule_10_1_both_readers_refuse_in_the_same_words(text: bytes, *, drop: bool) -> None:
    chunks = [line(make.diff()) + text + line(make.diff())]
    said_by_both(chunks, drop=drop)
    alone = Outcome(chunks, "python", drop=drop)
    assert (alone.error is None) == drop
    # What may have been of the book stands among the events as a hole, which the guard counts.
    assert not drop or "malformed" in alone.dropped or 0 in alone.events["kind"]


@needs_native
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_both_scans_refuse_in_the_same_words(text: bytes) -> None:
    fine = text.replace(b"61800.31", b"61800." + b"1" * 19)
    options: dict[str, Any] = {"futures": True, "drop_malformed": False, "line_bytes_max": 1 << 20}
    rust, python = (scanned(kind(**options), fine) for kind in (native.module().BinanceScan, PlainScan))
    assert isinstance(python, tuple)
    assert rust == python


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


@needs_native
@pytest.mark.parametrize(
    ("order", "places"),
    [("sab", (3, 3)), ("asb", (3, 1)), ("abs", (1, 1))],
    ids=["before any name", "behind one name", "behind two"],
)
def test_a_snapshot_without_a_name_counts_for_those_who_read_it(order: str, places: tuple[int, int]) -> None:
    depth = (
        b'{"stream":"x@depth","data":{"e":"depthUpdate","E":1,"T":1,"s":"%s","U":1,"u":2,"pu":0,'
        b'"b":[["1.0","0.5"]],"a":[]}}'
    )
    told = {
        "a": depth % b"AAA",
        "b": depth % b"BBB",
        "s": b'{"lastUpdateId":1,"bids":[["1.0","0.125"]],"asks":[]}',
    }
    text = b"".join(b"1723161254000000000 " + told[one] + b"\n" for one in order)
    found = [
        scanned(kind(futures=True, drop_malformed=False, line_bytes_max=1 << 20), text)
        for kind in (native.module().BinanceScan, PlainScan)
    ]
    assert found[0] == found[1]
    assert isinstance(found[0], list)
    assert [(symbol, qty[0]) for symbol, _, qty, _ in found[0]] == list(
        zip(("AAA", "BBB"), places, strict=True)
    )
