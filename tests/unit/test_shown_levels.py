"""How many levels a feed shows, held against `book_levels` of an instruments file (rule 7.3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from featureplane import native
from featureplane.book.shown import ShownLevels
from featureplane.errors import InstrumentMismatch
from featureplane.market.agreement import check_declared
from featureplane.market.events import EventBatch
from featureplane.market.instruments import load_instruments, save_instruments
from featureplane.market.messages import Event
from tests.streams import as_array, ask, bid, clear, instrument, message, snapshot, source

BACKENDS = ("python", "rust") if native.available() else ("python",)
START = snapshot(bid(100, 1), bid(99, 1), ask(101, 1), last=10)
DEEPER = message(bid(98, 1), ids=(10, 11))
DEEPEST = message(bid(97, 1), ids=(11, 12))


def batch(folder: Path, levels: int, *messages: list[Event]) -> EventBatch:
    """These messages of an instrument whose file says so many levels; the line of that is 12."""
    path = folder / "instruments.toml"
    save_instruments(path, [instrument(book_levels=levels)])
    return EventBatch(as_array(messages), load_instruments(path), source())


@pytest.mark.parametrize("backend", BACKENDS)
def test_rule_7_3_a_book_deeper_than_its_feed_is_said_to_be_is_refused(backend: str, tmp_path: Path) -> None:
    ShownLevels(backend).take(batch(tmp_path, 4, START, DEEPER, DEEPEST))
    ShownLevels(backend).take(batch(tmp_path, 0, START, DEEPER, DEEPEST))
    deep = batch(tmp_path, 3, START, DEEPER, DEEPEST)
    check_declared(deep)  # no message alone says so
    with pytest.raises(InstrumentMismatch, match="4 bids in a book") as caught:
        ShownLevels(backend).take(deep)
    file = tmp_path / "instruments.toml"
    line = 1 + file.read_text().splitlines().index("book_levels = 3")
    assert (caught.value.file, caught.value.line) == (str(file), line)
    assert (caught.value.field, caught.value.declared) == ("book_levels", 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_book_goes_on_from_batch_to_batch(backend: str, tmp_path: Path) -> None:
    shown = ShownLevels(backend)
    shown.take(batch(tmp_path, 3, START, DEEPER))
    with pytest.raises(InstrumentMismatch):
        shown.take(batch(tmp_path, 3, DEEPEST))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_book_that_is_not_whole_is_not_asked(backend: str, tmp_path: Path) -> None:
    behind_a_hole = message(bid(96, 1), ids=(13, 14))
    ShownLevels(backend).take(batch(tmp_path, 3, START, DEEPER, behind_a_hole))
    ShownLevels(backend).take(batch(tmp_path, 1, DEEPER, DEEPEST))


@pytest.mark.parametrize("side", [bid, ask])
def test_rule_7_3_what_one_message_leaves_set_is_counted(side: type, tmp_path: Path) -> None:
    prices = range(90, 100)
    wide = message(*[side(price, 1) for price in prices])
    check_declared(batch(tmp_path, 10, START, wide))
    with pytest.raises(InstrumentMismatch, match=r"10 (bids|asks) in one message"):
        check_declared(batch(tmp_path, 9, START, wide))
    moved = message(*[side(price, 1) for price in prices], *[side(price, 0) for price in prices[2:]])
    twice = message(*[side(99, qty) for qty in range(1, 20)], clear())
    check_declared(batch(tmp_path, 2, START, moved, twice))


def test_levels_nobody_declared_in_a_file_are_not_held_against_data() -> None:
    events = EventBatch(as_array([START, DEEPER]), (instrument(book_levels=1),), source())
    check_declared(events)
    ShownLevels().take(events)
