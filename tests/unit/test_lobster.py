"""LOBSTER files: the five steps of rule 3.11, against every row of recorded order-book files."""

from __future__ import annotations

import csv
import gzip
import io
import random
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featureplane import native
from featureplane.errors import (
    BookMismatch,
    FeaturePlaneError,
    FileOrder,
    InstrumentMismatch,
    MalformedEvent,
    UnknownSymbol,
    UnreadableFile,
)
from featureplane.market.events import EventFlag, Kind, Side
from featureplane.market.instruments import load_instruments
from featureplane.market.reading import iter_events, read_events
from featureplane.market.sources.batches import Counts
from featureplane.market.sources.lobster import Member, Pair, find_pairs, midnight_ns, read_pair
from tests.shared_data import shared

Array = npt.NDArray[np.void]

needs_native = pytest.mark.skipif(not native.available(), reason="no extension")
backends = pytest.mark.parametrize(
    "backend", [pytest.param("python"), pytest.param("rust", marks=[pytest.mark.native, needs_native])]
)

MESSAGES = """1.5,5,0,1,105,-1
1.6,1,11,5,101,1
1.7,4,12,3,110,-1
1.8,3,13,7,110,-1
1.9,7,0,0,-1,-1
2.0,2,14,4,101,1
"""
BOOKS = """110,10,100,5,111,20,99,9
110,10,101,5,111,20,100,5
110,7,101,5,111,20,100,5
111,20,101,5,112,8,100,5
111,20,101,5,112,8,100,5
111,20,101,1,112,8,100,5
"""
NAME = "TEST_2012-06-21_1_2_message_2.csv"


def write(folder: Path, messages: str | bytes = MESSAGES, books: str | bytes | None = BOOKS) -> Pair:
    def data(text: str | bytes) -> bytes:
        return text.encode() if isinstance(text, str) else text

    (folder / NAME).write_bytes(data(messages))
    if books is not None:
        (folder / NAME.replace("message", "orderbook")).write_bytes(data(books))
    return find_pairs((folder / NAME,))[0]


def read(pair: Pair, backend: str, **options: Any) -> tuple[Array, dict[str, int]]:
    counts = Counts()
    blocks = read_pair(pair, 7, backend=backend, counts=counts, **options)
    return np.concatenate(list(blocks)), counts.total()


def outcome(pair: Pair, backend: str, **options: Any) -> tuple[bytes, object]:
    """Everything a reader tells: events, and counts or the error behind them."""
    parts, counts = b"", Counts()
    try:
        for block in read_pair(pair, 7, backend=backend, counts=counts, **options):
            parts += block.tobytes()
    except FeaturePlaneError as error:
        return parts, (type(error), vars(error), counts.total())
    return parts, counts.total()


def told(events: Array) -> list[tuple[int, ...]]:
    return [event[:3] + event[4:6] for event in events.tolist()]


@backends
def test_rule_3_11_rows_become_messages(backend: str, tmp_path: Path) -> None:
    events, counts = read(write(tmp_path), backend)
    last, recovery = EventFlag.LAST, EventFlag.RECOVERY
    bid, ask = Side.BID, Side.ASK
    assert told(events) == [
        (Kind.CLEAR, bid, recovery, 0, 0),
        (Kind.CLEAR, ask, recovery, 0, 0),
        (Kind.SNAPSHOT_LEVEL, bid, recovery, 100, 5),
        (Kind.SNAPSHOT_LEVEL, bid, recovery, 99, 9),
        (Kind.SNAPSHOT_LEVEL, ask, recovery, 110, 10),
        (Kind.SNAPSHOT_LEVEL, ask, recovery, 111, 20),
        (Kind.TRADE, bid, EventFlag.HIDDEN | last, 105, 1),
        (Kind.LEVEL, bid, 0, 101, 5),
        (Kind.LEVEL, bid, EventFlag.CONCEALED | last, 99, 0),
        (Kind.TRADE, bid, 0, 110, 3),
        (Kind.LEVEL, ask, last, 110, 7),
        (Kind.LEVEL, ask, 0, 110, 0),
        (Kind.LEVEL, ask, EventFlag.REVEALED | last, 112, 8),
        (Kind.STATUS, Side.NONE, last, 0, 2),
        (Kind.LEVEL, bid, last, 101, 1),
    ]
    assert not counts
    assert events["order_id"][7] == 11
    assert events["source_ts_ns"][0] == midnight_ns(date(2012, 6, 21)) + 1_500_000_000
    assert (events["local_ts_ns"] == events["source_ts_ns"]).all()


@backends
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param("2,6,-1,9,105,-1", (Kind.TRADE, Side.BID, EventFlag.NOT_MARKET, 105, 9), id="cross"),
        pytest.param("2,7,0,0,0,-1", (Kind.STATUS, Side.NONE, 0, 0, 1), id="quoting resumes"),
        pytest.param("2,7,0,0,1,-1", (Kind.STATUS, Side.NONE, 0, 0, 3), id="trading resumes"),
        pytest.param(
            "2,5,0,4,105,1", (Kind.TRADE, Side.ASK, EventFlag.HIDDEN, 105, 4), id="hidden buy order"
        ),
    ],
)
def test_rule_3_11_types_that_change_no_level(
    backend: str, row: str, expected: tuple[int, ...], tmp_path: Path
) -> None:
    messages, books = MESSAGES.splitlines(), BOOKS.splitlines()
    pair = write(tmp_path, f"{messages[0]}\n{row}\n", f"{books[0]}\n{books[0]}\n")
    kind, side, flags, price, qty = expected
    assert told(read(pair, backend)[0])[-1] == (kind, side, flags | EventFlag.LAST, price, qty)


@backends
def test_rule_3_11_a_row_the_messages_do_not_explain_is_named(backend: str, tmp_path: Path) -> None:
    pair = write(tmp_path, books=BOOKS.replace("110,7,101", "110,8,101"))
    with pytest.raises(BookMismatch) as caught:
        read(pair, backend)
    error = caught.value
    assert (error.line, error.side, error.price, error.expected_size, error.got_size) == (3, "ask", 110, 8, 7)
    assert error.file is not None
    assert error.file.endswith(NAME)


@backends
def test_rule_3_11_adopt_takes_the_row_and_counts(backend: str, tmp_path: Path) -> None:
    pair = write(tmp_path, books=BOOKS.replace("110,7,101", "110,8,101"))
    events, counts = read(pair, backend, on_mismatch="adopt")
    assert counts == {"adopted": 2}  # the row behind does not follow from this one either
    assert told(events)[9:14] == [
        (Kind.TRADE, Side.BID, 0, 110, 3),
        (Kind.CLEAR, Side.BID, 0, 0, 0),
        (Kind.CLEAR, Side.ASK, 0, 0, 0),
        (Kind.SNAPSHOT_LEVEL, Side.BID, 0, 101, 5),
        (Kind.SNAPSHOT_LEVEL, Side.BID, 0, 100, 5),
    ]


@backends
def test_rule_3_11_messages_alone_change_known_levels(backend: str, tmp_path: Path) -> None:
    events, counts = read(write(tmp_path, books=None), backend)
    assert [(kind, price, qty) for kind, _, _, price, qty in told(events)] == [
        (Kind.TRADE, 105, 1),
        (Kind.LEVEL, 101, 5),
        (Kind.TRADE, 110, 3),
        (Kind.STATUS, 0, 2),
        (Kind.LEVEL, 101, 1),
    ]
    assert counts == {"unknown_level": 2}


@backends
def test_rule_1_1_digits_beyond_nanoseconds_are_cut_and_counted(backend: str, tmp_path: Path) -> None:
    events, counts = read(write(tmp_path, "1.9999999999,5,0,1,105,-1\n", None), backend)
    assert events["source_ts_ns"][0] % 10**10 == (midnight_ns(date(2012, 6, 21)) + 1_999_999_999) % 10**10
    assert counts == {"time_cut": 1}


@backends
def test_a_level_that_is_not_there_is_no_level(backend: str, tmp_path: Path) -> None:
    books = "9999999999,0,100,5,9999999999,0,-9999999999,0\n" * 2
    events, _ = read(write(tmp_path, "1,5,0,1,105,-1\n1,5,0,1,105,-1\n", books), backend)
    assert events["kind"].tolist() == [Kind.CLEAR, Kind.CLEAR, Kind.SNAPSHOT_LEVEL, Kind.TRADE, Kind.TRADE]


@backends
def test_rule_2_2_a_last_row_cut_off_is_dropped_and_counted(backend: str, tmp_path: Path) -> None:
    _, counts = read(write(tmp_path, books=BOOKS.removesuffix(",100,5\n")), backend)
    assert counts == {"incomplete": 1}
    whole, _ = read(write(tmp_path), backend)
    without_end, counts = read(write(tmp_path, MESSAGES.rstrip(), BOOKS.rstrip()), backend)
    assert without_end.tobytes() == whole.tobytes()
    assert not counts


@backends
def test_rule_10_1_dropping_a_malformed_row_restarts_the_book(backend: str, tmp_path: Path) -> None:
    pair = write(tmp_path, MESSAGES.replace("1.7,4", "1.7,9"))
    with pytest.raises(MalformedEvent) as caught:
        read(pair, backend)
    assert (caught.value.line, caught.value.found, caught.value.expected) == (3, "type `9`", "1 to 7")
    events, _ = read(pair, backend, on_malformed="drop")
    assert (events["kind"][9], events["flags"][9]) == (0, EventFlag.LAST)
    assert events["local_ts_ns"][9] == midnight_ns(date(2012, 6, 21)) + 1_600_000_000
    assert (events["kind"][10], events["flags"][10]) == (Kind.CLEAR, EventFlag.RECOVERY)


SPOILED = [
    pytest.param(MESSAGES.replace("1.7,4,12", "1.7,4"), BOOKS, (3, "6 fields"), id="a field less"),
    pytest.param(MESSAGES.replace("1.7", "-1.7"), BOOKS, (3, "seconds"), id="negative time"),
    pytest.param(MESSAGES.replace("1.7", "99999.7"), BOOKS, (3, "seconds"), id="time beyond the day"),
    pytest.param(MESSAGES.replace("110,-1", "110,0"), BOOKS, (3, "1 or -1"), id="no direction"),
    pytest.param(MESSAGES.replace("3,110", "3,11e1"), BOOKS, (3, "integer"), id="price as a float"),
    pytest.param(MESSAGES.replace("3,110", "3,9007199254740992"), BOOKS, (3, "2^53"), id="price of 2^53"),
    pytest.param(MESSAGES.replace("1.7", "\u0661.7"), BOOKS, (3, "seconds"), id="other digits"),
    pytest.param(MESSAGES.encode("utf-16"), BOOKS, (1, "seconds"), id="utf-16"),
    pytest.param(MESSAGES, BOOKS.replace("110,7", "110,-7"), (3, "0 to 2^53"), id="negative size"),
    pytest.param(MESSAGES, BOOKS.replace("110,7,", "110,7,1,"), (3, "8 fields"), id="a field more"),
    pytest.param(MESSAGES, BOOKS.replace("110,7,101,5,111", "112,7,101,5,111"), (3, "in order"), id="order"),
    pytest.param(MESSAGES, BOOKS.partition("\n")[2], (2, "order-book file"), id="files shifted"),
    pytest.param(MESSAGES, "1,2,3\n" * 6, (1, "4 fields a level"), id="another kind of file"),
    pytest.param(MESSAGES, BOOKS + BOOKS, (7, "as many rows"), id="more rows in the order-book file"),
    pytest.param("x" * (1 << 21) + "\n" + MESSAGES, BOOKS, (1, "LOBSTER"), id="a line of megabytes"),
    pytest.param(MESSAGES, "", (1, "as many rows"), id="empty order-book file"),
]


@backends
@pytest.mark.parametrize(("messages", "books", "where"), SPOILED)
def test_malformed_rows_are_named(
    backend: str, messages: str | bytes, books: str, where: tuple[int, str], tmp_path: Path
) -> None:
    with pytest.raises(MalformedEvent) as caught:
        read(write(tmp_path, messages, books), backend)
    line, expected = where
    assert caught.value.line == line
    assert expected in caught.value.expected
    assert len(str(caught.value)) < 600
    assert caught.value.hint


# -- files


def spoiled_files(folder: Path) -> Iterator[tuple[Path, str]]:
    whole = gzip.compress(MESSAGES.encode())
    for name, data, found in (
        (NAME + ".gz", whole[:-9], "its end at byte"),
        ("other.csv", b"1,2", "another name"),
        (NAME.replace("message", "orderbook"), b"1,2", "no message file"),
        ("package.zip", b"hello", "no zip"),
        ("package.7z", b"hello", "a .7z archive"),
        (NAME.replace("06-21", "06-31"), b"", "the date"),
    ):
        path = folder / name
        path.write_bytes(data)
        yield path, found
        path.unlink()
    with zipfile.ZipFile(folder / "empty.zip", "w") as package:
        package.writestr("readme.txt", "hello")
    yield folder / "empty.zip", "no message or order-book file"
    with zipfile.ZipFile(folder / "flipped.zip", "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(NAME, MESSAGES * 50)
    flipped = bytearray((folder / "flipped.zip").read_bytes())
    flipped[len(NAME) + 60] ^= 0xFF
    (folder / "flipped.zip").write_bytes(flipped)
    yield folder / "flipped.zip", "damaged"
    yield folder / "absent" / NAME, "No such file"


def test_what_is_no_such_file_gets_a_named_error(tmp_path: Path) -> None:
    for path, found in spoiled_files(tmp_path):
        with pytest.raises(UnreadableFile) as caught:
            read(find_pairs((path,))[0], "python")
        assert found in caught.value.found, path.name
        assert path.name in caught.value.path


def test_depth_and_name_must_agree(tmp_path: Path) -> None:
    pair = write(tmp_path)
    wrong = Pair(pair.messages, pair.book, pair.symbol, pair.day, 3)
    with pytest.raises(UnreadableFile, match="2 levels a side"):
        read(wrong, "python")


@pytest.mark.parametrize("form", ["both", "package", "packed"])
def test_a_pair_is_found_in_every_form(form: str, tmp_path: Path) -> None:
    expected = read(write(tmp_path), "python")[0].tobytes()
    message, book = tmp_path / NAME, tmp_path / NAME.replace("message", "orderbook")
    if form == "both":
        paths: tuple[Path, ...] = (book, message)
    elif form == "package":
        with zipfile.ZipFile(tmp_path / "any.zip", "w") as package:
            package.write(message, message.name)
            package.write(book, book.name)
        paths = (tmp_path / "any.zip",)
    else:
        for path in (message, book):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
        paths = (message.with_name(NAME + ".gz"),)
    (pair,) = find_pairs(paths)
    assert (pair.symbol, pair.day, pair.levels) == ("TEST", date(2012, 6, 21), 2)
    assert read(pair, "python")[0].tobytes() == expected


# -- as a source


def test_a_pair_is_a_stream_of_its_symbol(tmp_path: Path) -> None:
    write(tmp_path)
    batch = read_events(tmp_path / NAME, "lobster")
    instrument = batch.instrument
    assert (instrument.symbol, instrument.price_exponent, instrument.qty_exponent) == ("TEST", 4, 0)
    assert (instrument.book_levels, instrument.inferred) == (2, True)
    assert [file.name for file in batch.files] == [NAME, NAME.replace("message", "orderbook")]
    parts = list(iter_events(tmp_path / NAME, "lobster", events_max=4))
    assert [len(part) for part in parts] == [7, 4, 4, 0]
    with pytest.raises(UnknownSymbol) as caught:
        read_events(tmp_path / NAME, "lobster", "OTHER")
    assert caught.value.known == ("TEST",)


def test_what_stands_before_an_error_is_handed_over(tmp_path: Path) -> None:
    write(tmp_path, MESSAGES.replace("2.0,2", "2.0,9"))
    with pytest.raises(MalformedEvent):  # the first pass reads it all
        iter_events(tmp_path / NAME, "lobster")
    one = replace(read_events(shared_head(tmp_path), "lobster").instrument, inferred=False)
    parts = iter_events(tmp_path / NAME, "lobster", instruments=one)
    assert len(next(parts)) == 14
    with pytest.raises(MalformedEvent) as caught:
        next(parts)
    assert caught.value.line == 6


def shared_head(folder: Path) -> Path:
    """A pair of the same symbol without a fault."""
    (folder / "sound").mkdir()
    write(folder / "sound")
    return folder / "sound" / NAME


def test_rule_3_1_days_are_read_in_order(tmp_path: Path) -> None:
    write(tmp_path)
    days = [tmp_path / NAME, tmp_path / NAME.replace("06-21", "06-22")]
    for name in (NAME, NAME.replace("message", "orderbook")):
        (tmp_path / name.replace("06-21", "06-22")).write_bytes((tmp_path / name).read_bytes())
    batch = read_events(days, "lobster")
    assert len(batch) == 30
    assert (np.diff(batch.array["source_ts_ns"]) >= 0).all()
    with pytest.raises(FileOrder) as caught:
        read_events(days[::-1], "lobster")
    assert caught.value.right == tuple(map(str, days))


def test_instruments_that_the_format_contradicts_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    text = '[[instrument]]\nvenue = "nasdaq"\nsymbol = "TEST"\nprice_exponent = 2\nqty_exponent = 0\n'
    (tmp_path / "i.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InstrumentMismatch) as caught:
        read_events(tmp_path / NAME, "lobster", instruments=tmp_path / "i.toml")
    assert (caught.value.field, caught.value.declared, caught.value.found) == ("price_exponent", 2, 4)
    assert caught.value.line == 4


@pytest.mark.parametrize("levels", [1, 5, 10, 50])
def test_the_instruments_files_fit_the_recordings(levels: int) -> None:
    instruments = load_instruments(Path(__file__).parents[1] / "instruments" / f"lobster_level{levels}.toml")
    names = [*FILES.values(), ALONE] if levels != 50 else [ALONE]
    for one in instruments:
        name = next(name for name in names if f"{one.symbol}_" in name and levels == recorded(name).levels)
        batch = read_events(shared(f"lobster/{name}"), "lobster", instruments=instruments)
        assert batch.instrument == one


# -- recorded files

FILES = {
    "AAPL 1": "LOBSTER_SampleFile_AAPL_2012-06-21_1.zip",
    "AMZN 1": "LOBSTER_SampleFile_AMZN_2012-06-21_1.zip",
    "AMZN 5": "LOBSTER_SampleFile_AMZN_2012-06-21_5.zip",
    "AAPL 10": "AAPL_2012-06-21_first999rows_message_10.csv.gz",
}
ALONE = "AAPL_2012-06-21_34200000_37800000_message_50.csv.gz"
rows_max = pytest.mark.parametrize(
    "rows_max", [pytest.param(20_000, id="head"), pytest.param(None, id="whole", marks=pytest.mark.soak)]
)


def recorded(name: str) -> Pair:
    return find_pairs((shared(f"lobster/{name}"),))[0]


def rows_of(member: Member | None) -> Iterator[list[int]]:
    assert member is not None
    text = io.TextIOWrapper(io.BytesIO(b"".join(member.chunks())), "ascii", newline="")
    return ([int(field) for field in row] for row in csv.reader(text))


def types_of(member: Member) -> Iterator[int]:
    text = io.TextIOWrapper(io.BytesIO(b"".join(member.chunks())), "ascii", newline="")
    return (int(row[1]) for row in csv.reader(text))


def books_of(events: Iterator[Array], levels: int) -> Iterator[list[int]]:
    """After each message the best levels, as a row of an order-book file."""
    sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for event in (event for block in events for event in block.tolist()):
        kind, side, flags, _, price, qty = event[:6]
        book = sides[side - 1]
        if kind == Kind.CLEAR:
            book.clear()
        elif kind in (Kind.LEVEL, Kind.SNAPSHOT_LEVEL):
            book.pop(price, None)
            if qty:
                book[price] = qty
        if flags & EventFlag.LAST:
            bids, asks = sorted(sides[0], reverse=True)[:levels], sorted(sides[1])[:levels]
            best = zip(asks, bids, strict=True)
            yield [x for ask, bid in best for x in (ask, sides[1][ask], bid, sides[0][bid])]


@rows_max
@pytest.mark.parametrize("name", FILES)
def test_rule_3_11_the_messages_explain_every_row_of_the_book_file(name: str, rows_max: int | None) -> None:
    pair = recorded(FILES[name])
    blocks = read_pair(pair, 7)
    rows = 0
    for built, row in zip(islice(books_of(blocks, pair.levels), rows_max), rows_of(pair.book), strict=False):
        assert built == row, f"row {rows + 1}"
        rows += 1
    assert rows == min(rows_max or 10**9, sum(1 for _ in rows_of(pair.book)))


@rows_max
@pytest.mark.parametrize(("deep", "flat", "rows"), [("AMZN 5", "AMZN 1", 57_515), ("AAPL 10", "AAPL 1", 546)])
def test_levels_project_onto_fewer(deep: str, flat: str, rows: int, rows_max: int | None) -> None:
    pair = recorded(FILES[deep])
    expected = list(islice(rows_of(recorded(FILES[flat]).book), rows))
    blocks = read_pair(pair, 7)
    kept: list[list[int]] = []
    before: list[int] = []
    for row, kind in zip(islice(books_of(blocks, 1), rows_max), types_of(pair.messages), strict=False):
        if row != before or kind == 5:
            kept.append(row)
        before = row
    assert len(kept) == rows or rows_max is not None
    assert kept == expected[: len(kept)]
    assert len(kept) > 500


@pytest.mark.native
@needs_native
@pytest.mark.parametrize("name", [*FILES.values(), ALONE])
def test_both_readers_give_the_same_events_of_recorded_files(name: str) -> None:
    pair = recorded(name)
    fast, plain = (islice(read_pair(pair, 7, backend=backend), 25) for backend in ("rust", "python"))
    events = 0
    for one, other in zip(fast, plain, strict=True):
        assert one.tobytes() == other.tobytes()
        events += len(one)
    assert events > 500


@pytest.mark.native
@needs_native
@pytest.mark.parametrize(
    "options", [{}, {"on_malformed": "drop"}, {"on_mismatch": "adopt", "on_malformed": "drop"}]
)
def test_both_readers_agree_on_spoiled_files(options: dict[str, str], tmp_path: Path) -> None:
    chance = random.Random(11)
    texts = [MESSAGES.encode() * 3, BOOKS.encode() * 3]
    for _ in range(400):
        spoiled = [bytearray(text) for text in texts]
        for _ in range(chance.randint(1, 4)):
            text = chance.choice(spoiled)
            place = chance.randrange(len(text))
            how = chance.randrange(3)
            if how == 0:
                text[place] = chance.choice(b"0123456789,.-\n\r x\xff")
            elif how == 1:
                del text[place : place + chance.randrange(1, 30)]
            else:
                text[place:place] = chance.choice([b",", b"-", b"\n", b"999999999999999999999", b"\xe2\x82"])
        pair = write(tmp_path, bytes(spoiled[0]), bytes(spoiled[1]))
        assert outcome(pair, "rust", **options) == outcome(pair, "python", **options), spoiled
