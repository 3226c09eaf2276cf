"""Venue truth: the book is the venue's own, by its best quotes and by its book files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featureplane as fp
from featureplane.cli import main
from featureplane.errors import EmptyStream
from featureplane.market.events import EventBatch, Kind, Side
from featureplane.market.reading import read_events
from featureplane.market.sample import sample_events
from featureplane.research.verification import verify_book
from tests.shared_data import shared

SAMPLE = str(Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz")


def changed(events: EventBatch, index: int, **fields: int) -> EventBatch:
    """The batch with one event told otherwise."""
    array = events.array.copy()
    for name, value in fields.items():
        array[name][index] += value
    return replace(events, array=array, checked=True)


def test_every_book_of_the_sample_agrees_with_the_exchange() -> None:
    (check,) = verify_book(sample_events())
    assert (check.known, check.compared, check.agree) == (24_077, 3_433, 3_433)
    assert check.first_difference is None


def test_one_wrong_size_is_found_and_shown() -> None:
    events = sample_events()
    last = events.array["seq_last"][events.array["kind"] == Kind.LEVEL][-1]
    known = (events.array["kind"] == Kind.QUOTE) & (events.array["seq_last"] <= last)
    (check,) = verify_book(changed(events, int(np.flatnonzero(known)[-1]), qty=1))
    assert (check.compared, check.agree) == (3_433, 3_432)
    assert check.first_difference is not None
    book_id, book, quote = check.first_difference
    assert book_id == last
    assert [b == q for b, q in zip(book, quote, strict=True)] == [True, True, True, False]


def test_a_crossed_book_agrees_with_no_quote() -> None:
    events = sample_events()
    levels = events.array
    bids = np.flatnonzero((levels["kind"] == Kind.LEVEL) & (levels["side"] == Side.BID) & (levels["qty"] > 0))
    (check,) = verify_book(changed(events, int(bids[-2000]), price=1_000_000))
    assert check.agree < check.compared
    assert check.first_difference is not None
    assert None in check.first_difference[1]


def test_books_carried_on_behind_a_gap_are_compared() -> None:
    events = sample_events()
    diffs = np.flatnonzero(events.array["kind"] == Kind.LEVEL)
    missing = events.array["seq_last"] == events.array["seq_last"][diffs[len(diffs) // 2]]
    holed = replace(events, array=events.array[~missing | (events.array["kind"] == Kind.QUOTE)], checked=True)
    (waited,) = verify_book(holed)
    passed = replace(holed.options, on_gap="continue")
    (carried,) = verify_book(replace(holed, options=passed))
    assert waited.agree == waited.compared, "nothing is shown behind the gap"
    assert carried.compared > waited.compared + 100
    assert waited.agree < carried.agree < carried.compared, "wrong until the missing levels change again"


def test_without_anything_to_compare_with_there_is_no_verdict() -> None:
    events = sample_events()
    bare = replace(events, array=events.array[events.array["kind"] != Kind.QUOTE], checked=True)
    with pytest.raises(EmptyStream):
        verify_book(bare)


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        pytest.param("binance-usdm", ["binance_raw/usdm/btcusdt_20240808.gz"], id="USD-M 2024"),
        pytest.param(
            "binance-usdm",
            ["binance_raw/usdm/btcusdt_20230404.dat.gz", "binance_raw/usdm/btcusdt_20230405.dat.gz"],
            id="USD-M 2023",
        ),
        pytest.param(
            "binance-spot",
            ["binance_raw/spot/ethusdt_20240808.gz", "binance_raw/spot/ethusdt_20240809.gz"],
            id="spot",
        ),
        pytest.param(
            "binance-coinm",
            ["binance_raw/cm/ethusd_perp_20240808.gz", "binance_raw/cm/ethusd_perp_20240809.gz"],
            id="COIN-M",
        ),
    ],
)
@pytest.mark.native
def test_every_binance_recording_agrees(source: str, paths: list[str]) -> None:
    (check,) = verify_book(read_events([shared(path) for path in paths], source))
    assert check.compared > 0
    assert (check.agree, check.first_difference) == (check.compared, None)


def test_the_command_says_how_many_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", SAMPLE, "--source", "binance-spot", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["agree"] is True
    assert answer["symbols"][0]["compared"] == 3_433


def test_the_command_takes_lobster_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    path = shared("lobster/AAPL_2012-06-21_first999rows_message_10.csv.gz")
    assert main(["data", "verify", str(path), "--source", "lobster", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["symbols"][0]["agree"] == 999


def test_lobster_messages_alone_need_their_order_book_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared("lobster/AAPL_2012-06-21_first999rows_message_10.csv.gz")
    alone = tmp_path / path.name
    alone.write_bytes(path.read_bytes())
    assert main(["data", "verify", str(alone), "--source", "lobster"]) == 2
    assert "order-book file beside the message file" in capsys.readouterr().err
