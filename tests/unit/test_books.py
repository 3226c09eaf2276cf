"""Books: levels, orders, and the engine that keeps them whole."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane import native
from featureplane.book.engine import LOBEngine
from featureplane.book.levels import LevelBook, LevelSide
from featureplane.book.orders import OrderBook
from featureplane.errors import BackendUnavailable, MalformedEvent, SettingError, UnknownSymbol
from featureplane.market.events import EVENT_DTYPE, EventBatch, EventFlag, Kind, Side, SourceInfo
from featureplane.market.messages import Event
from featureplane.market.quality import BookState
from featureplane.market.synthetic import Faults, synthetic_events, synthetic_instruments
from tests.streams import (
    START_NS,
    Change,
    as_array,
    ask,
    bid,
    buy,
    clear,
    instrument,
    message,
    order,
    snapshot,
)

MADE_UP = SourceInfo("made up", sequenced=True, has_snapshots=True, local_time=True, trade_sides=True)
LEVELS = st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 3)), max_size=60)


BACKENDS = ("python", "rust") if native.available() else ("python",)


def apply(book: LevelBook, *changes: Change) -> None:
    for event in message(*changes):
        book.apply(event)


def touch_after(*messages: list[Event], **about: Any) -> tuple[Any, ...]:
    books = [LOBEngine(instrument(**about), backend=name) for name in BACKENDS]
    for event in as_array(messages):
        for book in books:
            book.process_event(event)
    touch, *others = [book.get_l1_scaled() for book in books]
    assert all(other == touch for other in others)
    return touch


@pytest.mark.parametrize("side", [Side.BID, Side.ASK])
@given(changes=LEVELS)
def test_any_walk_equals_a_sorted_dictionary(side: Side, changes: list[tuple[int, int]]) -> None:
    levels, plain = LevelSide(side), dict[int, int]()
    for price, qty in changes:
        levels.set(price, qty)
        plain.pop(price, None)
        if qty:
            plain[price] = qty
    expected = sorted(plain.items(), reverse=side is Side.BID)
    assert levels.levels() == expected
    assert len(levels) == len(expected)
    assert [(levels.price(i), levels.qty(i)) for i in range(1, len(levels) + 1)] == expected
    assert levels.depth(3) == sum(qty for _, qty in expected[:3])


@given(changes=LEVELS, bound=st.integers(-20, 20))
def test_a_bounded_clear_takes_the_best_levels_to_its_price(
    changes: list[tuple[int, int]], bound: int
) -> None:
    book = LevelBook()
    for price, qty in changes:
        apply(book, bid(price, qty), ask(price, qty))
    bids = [level for level in book.bids.levels() if level[0] < bound]
    asks = [level for level in book.asks.levels() if level[0] > bound]
    apply(book, clear(Side.BID, EventFlag.BOUND, bound))
    assert book.bids.levels() == bids
    apply(book, clear(Side.ASK, EventFlag.BOUND, bound))
    assert book.asks.levels() == asks


def test_a_delete_of_a_level_that_never_was_changes_nothing() -> None:
    book = LevelBook()
    apply(book, bid(100, 5), bid(99, 0))
    assert book.bids.levels() == [(100, 5)]


def test_a_clear_without_side_empties_both() -> None:
    book = LevelBook()
    apply(book, bid(100, 5), ask(101, 5), clear())
    assert (len(book.bids), len(book.asks)) == (0, 0)


@pytest.mark.parametrize(
    ("best_bid", "best_ask", "valid", "valid_if_locked"),
    [(100, 101, True, True), (100, 100, False, True), (101, 100, False, False), (100, None, True, True)],
)
def test_rule_3_9_validity(
    best_bid: int, best_ask: int | None, *, valid: bool, valid_if_locked: bool
) -> None:
    book = LevelBook()
    apply(book, bid(best_bid, 1), *([ask(best_ask, 1)] if best_ask else []))
    assert (book.is_valid(), book.is_valid(locked=True)) == (valid, valid_if_locked)


# -- orders


def test_rule_2_1_orders_add_up_to_levels() -> None:
    book = OrderBook()
    apply(
        book,
        order(Kind.ADD, 1, Side.BID, 100, 5),
        order(Kind.ADD, 2, Side.BID, 100, 7),
        order(Kind.ADD, 3, Side.BID, 99, 1),
        order(Kind.EXECUTE, 1, Side.BID, 100, 2),
        order(Kind.CANCEL, 2, Side.BID, 100, 3),
        order(Kind.MODIFY, 3, Side.BID, 101, 9),
    )
    assert book.bids.levels() == [(101, 9), (100, 7)]
    apply(book, order(Kind.CANCEL, 3, Side.BID, 101, 0), order(Kind.ADD, 2, Side.BID, 98, 4))
    assert book.bids.levels() == [(100, 3), (98, 4)]


def test_reading_7_an_order_nobody_knows_is_counted() -> None:
    book = OrderBook()
    apply(book, order(Kind.CANCEL, 77, Side.BID, 100, 1), order(Kind.MODIFY, 78, Side.BID, 100, 1))
    assert (book.unknown, len(book.bids)) == (2, 0)


def test_reading_7_a_size_beyond_what_is_left_takes_all() -> None:
    book = OrderBook()
    apply(book, order(Kind.ADD, 1, Side.ASK, 100, 5), order(Kind.EXECUTE, 1, Side.ASK, 100, 9))
    assert (book.asks.levels(), book.orders) == ([], {})


def test_a_clear_takes_the_orders_with_their_levels() -> None:
    book = OrderBook()
    apply(
        book,
        order(Kind.ADD, 1, Side.BID, 100, 5),
        order(Kind.ADD, 2, Side.BID, 99, 5),
        order(Kind.ADD, 3, Side.ASK, 101, 5),
        clear(Side.BID, EventFlag.BOUND, 100),
    )
    assert sorted(book.orders) == [2, 3]


ORDERS = st.lists(
    st.tuples(
        st.sampled_from([Kind.ADD, Kind.CANCEL, Kind.MODIFY, Kind.EXECUTE]),
        st.integers(1, 6),
        st.sampled_from([Side.BID, Side.ASK]),
        st.integers(95, 105),
        st.integers(0, 4),
    )
)


@given(ORDERS)
def test_levels_are_always_the_sum_of_their_orders(changes: list[tuple[Kind, int, Side, int, int]]) -> None:
    book = OrderBook()
    for change in changes:
        apply(book, order(*change))
    sums: dict[tuple[int, int], int] = {}
    for one in book.orders.values():
        assert one.qty > 0
        sums[one.side, one.price] = sums.get((one.side, one.price), 0) + one.qty
    levels = {(Side.BID, p): q for p, q in book.bids.levels()} | {
        (Side.ASK, p): q for p, q in book.asks.levels()
    }
    assert levels == sums


# -- the engine


def test_the_touch_is_that_of_the_last_whole_message() -> None:
    book = LOBEngine(instrument())
    full = snapshot(bid(99, 3), ask(102, 4), last=5, at=1)
    for event in as_array([full]):
        book.process_event(event)
    assert book.get_l1_scaled() == (START_NS + 1_000_000, 99, 102, 201, 3, 3, 4)
    for event in message(bid(100, 1), ask(102, 9), ids=(5, 6), at=2)[:1]:
        book.process_event(event)
    assert book.get_l1_scaled().bid == 99


def test_rule_3_4_a_book_that_waits_has_no_touch() -> None:
    assert touch_after(message(bid(99, 3), ask(101, 4), ids=(1, 2))) == (None,) * 7


def test_rule_3_5_a_broken_book_has_no_touch_until_it_is_whole_again() -> None:
    book = LOBEngine(instrument())
    stream = [
        snapshot(bid(99, 3), ask(101, 4), last=5),
        message(bid(98, 3), ids=(8, 9)),
        message(bid(100, 3), ids=(5, 8)),
    ]
    touches = []
    for one in stream:
        for event in one:
            book.process_event(tuple(event))
        touches.append((book.state, book.get_l1_scaled().bid))
    assert touches == [(BookState.WHOLE, 99), (BookState.BROKEN, None), (BookState.WHOLE, 100)]


def test_rule_3_9_a_crossed_book_has_no_touch() -> None:
    crossed = snapshot(bid(101, 3), ask(101, 4), last=5, at=1)
    assert touch_after(crossed) == (START_NS + 1_000_000, None, None, None, None, None, None)
    assert touch_after(crossed, locked="valid")[1:5] == (101, 101, 202, 0)


def test_one_side_is_told_alone() -> None:
    assert touch_after(snapshot(bid(99, 3), last=5))[1:] == (99, None, None, None, 3, None)


def test_rule_3_7_messages_before_the_snapshot_join_it() -> None:
    waiting = message(bid(100, 7), ids=(4, 6))
    assert touch_after(waiting, snapshot(bid(99, 3), ask(101, 4), last=5))[1:3] == (100, 101)


def test_trades_and_quotes_leave_the_book_alone() -> None:
    quote = message(Change(Kind.QUOTE, Side.BID, 100, 1), Change(Kind.QUOTE, Side.ASK, 101, 1))
    touch = touch_after(snapshot(bid(99, 3), ask(102, 4), last=5), quote, message(buy(102, 4)))
    assert touch[1:3] == (99, 102)


def test_what_no_rule_accepts_is_refused() -> None:
    book = LOBEngine(instrument())
    with pytest.raises(MalformedEvent):
        book.process_event(message(bid(99, -1))[0])
    with pytest.raises(UnknownSymbol):
        book.process_event(message(bid(99, 1), symbol_id=8)[0])
    with pytest.raises(SettingError):
        LOBEngine(instrument(), backend="fortran")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "wrong",
    [as_array([message(bid(99, 1))]), 5, "x", bytes(64), (1, 2), (0.5,) * 11, (1 << 70,) * 11, None],
    ids=reprlib.repr,
)
@pytest.mark.parametrize("on_malformed", ["raise", "drop"])
def test_what_is_no_event_is_refused_alike(wrong: Any, backend: str, on_malformed: str) -> None:
    book = LOBEngine(instrument(), backend=backend, on_malformed=on_malformed)
    with pytest.raises(MalformedEvent, match="EVENT_DTYPE"):
        book.process_event(wrong)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrong", [np.zeros(8), np.zeros(8, np.uint64), [1], 5], ids=repr)
def test_what_are_no_events_is_refused_alike(wrong: Any, backend: str) -> None:
    with pytest.raises(MalformedEvent, match="EVENT_DTYPE"):
        LOBEngine(instrument(), backend=backend).process_events(wrong)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", 9), ("qty", -1), ("price", 1 << 60), ("symbol_id", 8), ("local_ts_ns", -1)],
)
def test_rule_10_1_a_book_and_a_batch_refuse_an_event_with_the_same_words(
    backend: str, field: str, value: int
) -> None:
    one = instrument()
    events = as_array([message(bid(99, 1), bid(98, 1))])
    events[field][1] = value
    said = []

    def one_by_one() -> None:
        book = LOBEngine(one, backend=backend)
        for event in events:
            book.process_event(event)

    refusals: list[Callable[[], object]] = [
        lambda: EventBatch(events, (one,), MADE_UP),
        lambda: LOBEngine(one, backend=backend).process_events(events),
        one_by_one,
    ]
    for refuse in refusals:
        with pytest.raises((MalformedEvent, UnknownSymbol)) as refused:
            refuse()
        said.append((type(refused.value), str(refused.value), vars(refused.value)))
    assert said[0] == said[1] == said[2]


@pytest.mark.parametrize("wrong", [np.zeros(8), np.zeros((2, 4), EVENT_DTYPE), [1], None], ids=reprlib.repr)
def test_a_book_and_a_batch_refuse_what_are_no_events_with_the_same_words(wrong: Any) -> None:
    with pytest.raises(MalformedEvent) as by_batch:
        EventBatch(wrong, (instrument(),), MADE_UP)
    with pytest.raises(MalformedEvent) as by_book:
        LOBEngine(instrument()).process_events(wrong)
    assert str(by_batch.value) == str(by_book.value)


def test_rust_without_the_extension_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featureplane.native._native", None)
    with pytest.raises(BackendUnavailable):
        LOBEngine(instrument(), backend="rust")


@pytest.mark.native
@pytest.mark.parametrize(
    "options", [{}, {"seed": "increments"}, {"on_gap": "continue"}, {"on_malformed": "drop"}], ids=str
)
def test_both_backends_keep_the_same_book(options: dict[str, str]) -> None:
    corrupt = Faults(corrupt=5_000) if "on_malformed" in options else True
    events = synthetic_events(6_000, seed=5, faults=corrupt, order_level=True)
    books = [LOBEngine(synthetic_instruments(1)[0], backend=name, **options) for name in ("python", "rust")]
    for part in np.array_split(events, 60):
        for book in books:
            book.process_events(part)
        left, right = books
        assert left.get_l1_scaled() == right.get_l1_scaled()
        assert (left.state, left.levels()) == (right.state, right.levels())
