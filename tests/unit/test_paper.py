"""The paper venue: what orders meet when they come, when it is known, what it costs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureplane.errors import MalformedEvent, SequenceGap, SettingError, StateError, UnknownSymbol
from featureplane.execution.approval import Approved
from featureplane.execution.money import MONEY_EXPONENT
from featureplane.execution.orders import EventKind, OrderIntent, OrderState, Side, TimeInForce
from featureplane.execution.venue import OrderVenue
from featureplane.execution.venues.paper import PaperOptions, PaperVenue
from featureplane.market.events import EventFlag
from featureplane.market.instruments import Instrument
from featureplane.market.synthetic import Faults, synthetic_events, synthetic_instruments
from tests.orders import ACCEPTED, Trader, approve
from tests.streams import MS, START_NS, as_array, ask, bid, instrument, message, sell, snapshot, status

BOOK = snapshot(bid(100, 50), bid(99, 70), ask(102, 40), ask(103, 60), ask(105, 10))
UNIT = 10**MONEY_EXPONENT
BUY, SELL = Side.BUY, Side.SELL
POST, IOC = TimeInForce.POST_ONLY, TimeInForce.IOC


def trader(**options: Any) -> Trader:
    made = Trader(**options)
    made.see(BOOK)
    return made


# -- what orders meet


@pytest.mark.parametrize(
    ("sent", "story"),
    [
        pytest.param(
            (BUY, 70, None, {}),
            [("partially_filled", 40, 102), ("filled", 30, 103)],
            id="a market buy walks the asks",
        ),
        pytest.param(
            (BUY, 120, None, {}),
            [
                ("partially_filled", 40, 102),
                ("partially_filled", 60, 103),
                ("partially_filled", 10, 105),
                ("ioc", 0, 0),
            ],
            id="a market buy for more than there is",
        ),
        pytest.param((SELL, 50, None, {}), [("filled", 50, 100)], id="a market sell takes the bid"),
        pytest.param(
            (BUY, 70, 102, {"tif": IOC}),
            [("partially_filled", 40, 102), ("ioc", 0, 0)],
            id="an IOC takes what its price allows",
        ),
        pytest.param((BUY, 70, 101, {"tif": IOC}), [("ioc", 0, 0)], id="an IOC that reaches nothing"),
        pytest.param(
            (SELL, 70, 99, {}),
            [("partially_filled", 50, 100), ("filled", 20, 99)],
            id="a sell that takes two levels",
        ),
        pytest.param((BUY, 70, 102, {}), [("partially_filled", 40, 102)], id="what is left waits"),
        pytest.param((BUY, 70, 101, {"tif": POST}), [], id="post-only inside the spread waits"),
    ],
)
def test_an_order_meets_the_visible_levels(
    sent: tuple[Side, int, int | None, dict[str, Any]], story: list[tuple[str, int, int]]
) -> None:
    made = trader()
    side, qty, price, fields = sent
    assert made.story(made.send(side, qty, price, **fields)) == [ACCEPTED, *story]


@pytest.mark.parametrize(
    ("about", "sent", "reason"),
    [
        pytest.param({}, (BUY, 1, 102, {"tif": POST}), "would_cross", id="post-only at the ask"),
        pytest.param({}, (SELL, 1, 99, {"tif": POST}), "would_cross", id="post-only through the bid"),
        pytest.param({"tick_size": "0.05"}, (BUY, 1, 99, {}), "off_tick", id="off the ticks"),
        pytest.param({"lot_size": "5"}, (BUY, 6, 99, {}), "off_lot", id="off the lots"),
        pytest.param({}, (BUY, 1, 99, {"reduce_only": True}), "reduce_only", id="nothing to reduce"),
    ],
)
def test_what_a_venue_would_not_have_is_rejected(
    about: dict[str, Any], sent: tuple[Side, int, int, dict[str, Any]], reason: str
) -> None:
    made = trader(about=instrument(**about))
    side, qty, price, fields = sent
    number = made.send(side, qty, price, **fields)
    assert made.story(number) == [(reason, 0, 0)]
    assert made.orders[number].state is OrderState.REJECTED


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        pytest.param([], "no_book", id="before the first snapshot"),
        pytest.param([message(bid(99, 1), ask(101, 1))], "no_book", id="levels without a snapshot"),
        pytest.param([BOOK, message(ask(100, 1), at=1)], "no_book", id="a crossed book"),
        pytest.param(
            [snapshot(bid(99, 1), ask(101, 1), last=5), message(bid(99, 2), ids=(7, 8), at=1)],
            "no_book",
            id="a gap",
        ),
        pytest.param([BOOK, status(2, at=1)], "not_trading", id="halted"),
    ],
)
def test_nothing_is_accepted_without_a_market_to_meet(messages: list[Any], reason: str) -> None:
    made = Trader()
    if messages:
        made.see(*messages)
    assert made.story(made.send(BUY, 1, at=2)) == [(reason, 0, 0)]


def test_what_was_taken_is_gone_until_the_level_is_told_anew() -> None:
    made = trader()
    made.send(BUY, 30)
    assert made.story(made.send(BUY, 30))[1:] == [("partially_filled", 10, 102), ("filled", 20, 103)]
    made.see(message(bid(99, 71), at=1))
    assert made.story(made.send(BUY, 1, at=1))[1:] == [("filled", 1, 103)]
    made.see(message(ask(102, 5), at=2))
    assert made.story(made.send(BUY, 6, at=2))[1:] == [("partially_filled", 5, 102), ("filled", 1, 103)]
    made.see(snapshot(bid(100, 50), ask(102, 40), at=3))
    assert made.story(made.send(BUY, 40, at=3))[1:] == [("filled", 40, 102)]


def test_an_order_that_took_a_level_waits_before_it_and_not_in_it() -> None:
    made = trader(fill="through")
    number = made.send(BUY, 70, 102)
    made.see(message(bid(99, 71), at=1))
    assert made.filled(number) == [40]
    made.see(message(ask(102, 3), at=2))
    assert made.story(number)[-1] == ("filled", 30, 102)


def test_reduce_only_never_turns_a_position() -> None:
    made = trader()
    made.send(BUY, 30)
    waits = made.send(SELL, 30, 102, reduce_only=True)
    assert made.story(made.send(SELL, 40, reduce_only=True)) == [
        ACCEPTED,
        ("partially_filled", 30, 100),
        ("reduce_only", 0, 0),
    ]
    made.see(message(bid(103, 5), ask(102, 0), ask(103, 0), at=1))
    assert made.story(waits) == [ACCEPTED, ("reduce_only", 0, 0)]


# -- time


def test_an_order_meets_the_market_after_its_way_and_is_known_after_the_way_back() -> None:
    made = trader(entry_ns=5 * MS, response_ns=3 * MS)
    number = made.send(BUY, 40, 102, at=1)
    assert made.story(number) == []
    made.see(message(ask(102, 25), at=6))  # at its very time: the market comes first
    made.see(message(ask(102, 40), at=7))
    assert made.story(number) == []
    assert [event.kind for event in made.hear(9)] == [EventKind.ACCEPTED, EventKind.PARTIALLY_FILLED]
    made.hear(10)
    assert made.story(number) == [ACCEPTED, ("partially_filled", 25, 102), ("filled", 15, 102)]
    assert made.times(number) == [(6, 9), (6, 9), (7, 10)]


def test_a_fill_can_overtake_a_cancel() -> None:
    made = trader(fill="touch", entry_ns=5 * MS, response_ns=5 * MS)
    number = made.send(BUY, 10, 100)
    made.hear(11)
    made.cancel(number, at=12)
    assert made.orders[number].state is OrderState.CANCELLING
    made.see(message(sell(100, 1), at=16))
    made.hear(30)
    assert made.story(number)[1:] == [
        ("cancel_requested", 0, 0),
        ("filled", 10, 100),
        ("not_working", 0, 0),
    ]
    assert made.times(number)[1:] == [(12, 12), (16, 21), (17, 22)]
    assert made.orders[number].state is OrderState.FILLED


def test_a_cancel_ends_an_order_and_frees_its_number() -> None:
    made = trader()
    number = made.send(BUY, 10, 100)
    made.cancel(number, at=1)
    assert made.story(number) == [ACCEPTED, ("cancel_requested", 0, 0), ("cancelled", 0, 0)]
    with pytest.raises(StateError, match="not working"):
        made.cancel(number, at=2)
    made.see(message(sell(99, 90), at=3))
    assert made.filled(number) == [0]


def test_a_life_ends_behind_the_last_message_of_its_time() -> None:
    for at, expected in ((60, ("filled", 10, 100)), (60.001, ("life", 0, 0))):
        made = trader(fill="touch", life_ns=60 * MS)
        number = made.send(BUY, 10, 100)
        made.see(message(sell(100, 1), at=at))
        assert made.story(number)[-1] == expected
    assert made.times(number)[-1] == (60, 60)


def test_level_exit_takes_away_what_no_visible_level_is_behind() -> None:
    made = trader(level_exit=True)
    numbers = [made.send(BUY, 10, 99), made.send(BUY, 10, 98), made.send(SELL, 10, 105)]
    made.see(message(bid(101, 1), at=1))
    assert [made.story(number)[-1][0] for number in numbers] == ["accepted", "level_exit", "accepted"]
    made.see(message(ask(105, 0), bid(99, 0), at=2))
    assert [made.story(number)[-1][0] for number in numbers] == ["level_exit"] * 3


# -- money


def test_takers_and_makers_pay_what_the_options_say() -> None:
    made = trader(fill="touch", taker_bps="4.5", maker_bps="-0.25")
    made.send(BUY, 50)  # 40 at 1.02, 10 at 1.03
    made.send(SELL, 20, 103)
    made.see(message(bid(103, 9), ask(102, 0), ask(103, 0), at=1))
    fees = [(event.fee, event.is_maker) for event in made.events if event.is_fill]
    assert fees == [
        (UNIT * 4080 * 45 // 10_000_000, False),
        (UNIT * 1030 * 45 // 10_000_000, False),
        (-UNIT * 2060 * 25 // 100_000_000, True),
    ]


# -- the door


def test_the_paper_venue_is_an_order_venue() -> None:
    venue: OrderVenue = PaperVenue([instrument()])
    assert venue.name == "paper"


def test_a_venue_takes_nothing_that_was_not_approved() -> None:
    made = trader()
    intent = OrderIntent(symbol="ABC", side=BUY, qty=1, price=100, client_id=1)

    class Lookalike:
        item = intent

        def open(self) -> OrderIntent:
            return self.item

    forged = object.__new__(Approved)
    object.__setattr__(forged, "item", intent)
    for wrong in (intent, Lookalike(), None, forged):
        send: Callable[[Any, int], None] = made.venue.send
        with pytest.raises(StateError, match=r"risk check|was sent"):
            send(wrong, START_NS)
    assert made.venue.poll(START_NS + MS) == []


def test_an_approval_is_good_for_one_order() -> None:
    made = trader()
    approved = approve(made.instrument, OrderIntent(symbol="ABC", side=BUY, qty=1, price=100, client_id=1))
    made.venue.send(approved, START_NS)
    with pytest.raises(StateError, match="sent before"):
        made.venue.send(approved, START_NS)


def test_an_instrument_the_venue_does_not_have_is_unknown() -> None:
    other = instrument(symbol="XYZ", symbol_id=9)
    made = trader()
    with pytest.raises(UnknownSymbol):
        made.venue.send(approve(other, OrderIntent(symbol="XYZ", side=BUY, qty=1, price=100, client_id=1)), 0)
    with pytest.raises(UnknownSymbol):
        made.venue.best("XYZ")


def test_behind_a_reconnect_orders_wait_for_a_snapshot_and_new_ones_are_rejected() -> None:
    made = trader()
    number = made.send(BUY, 10, 100)
    made.venue.reconnect("ABC")
    assert made.venue.best("ABC") == (None, None)
    assert made.story(made.send(BUY, 10, 100)) == [("no_book", 0, 0)]
    made.see(message(ask(99, 5), at=1))
    assert made.filled(number) == [0]
    made.see(snapshot(bid(100, 20), ask(102, 40), at=2), message(sell(100, 23), at=3))
    assert made.filled(number) == [3]


def test_market_data_are_taken_as_the_stream_options_say() -> None:
    broken = [snapshot(bid(99, 1), ask(101, 1), last=5), message(bid(99, 2), ids=(7, 8), at=1)]
    with pytest.raises(SequenceGap):
        Trader(stream={"on_gap": "refuse"}).see(*broken)
    made = Trader(stream={"on_gap": "continue"})
    made.see(*broken)
    assert made.venue.best("ABC") == (99, 101)
    bad = as_array([message(bid(99, 1))])
    bad["kind"] = 9
    with pytest.raises(MalformedEvent):
        made.venue.on_market(bad)


def test_a_message_to_be_dropped_is_looked_at_even_if_it_was_checked() -> None:
    made = Trader(stream={"on_malformed": "drop"})
    made.see(BOOK)
    bad = as_array([message(bid(101, 1), at=1)])
    bad["kind"] = 0
    made.venue.on_market(bad, checked=True)
    assert made.venue.best("ABC") == (None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fill", "fifo"),
        ("own_orders", "alone"),
        ("entry_ns", -1),
        ("entry_ns", None),
        ("response_ns", 1.5),
        ("life_ns", -1),
        ("maker_bps", 2),
        ("taker_bps", "0.00001"),
    ],
)
def test_what_is_no_option_is_refused(name: str, value: object) -> None:
    wrong: dict[str, Any] = {name: value}
    with pytest.raises(SettingError, match=name):
        PaperOptions(**wrong)


# -- properties


SEEDS = st.integers(0, 10_000)
FILLS = st.sampled_from(["touch", "queue", "through"])


def cuts(array: npt.NDArray[Any]) -> list[int]:
    return [0, *(np.flatnonzero(array["flags"] & EventFlag.LAST) + 1).tolist()]


def play(seed: int, fill: str, wanted: dict[int, tuple[int, int]], *, poll_often: bool) -> Trader:
    """Orders over a synthetic market with every accident."""
    about: Instrument = synthetic_instruments()[0]
    array = synthetic_events(400, seed=seed, faults=Faults())
    made = Trader(
        about=about, fill=fill, entry_ns=7 * MS, response_ns=3 * MS, life_ns=900 * MS, taker_bps="1"
    )
    ends, now = cuts(array), 0
    for i, (first, behind) in enumerate(pairwise(ends)):
        made.venue.on_market(array[first:behind], checked=not poll_often)
        now = max(now, int(array["local_ts_ns"][first]))
        if i in wanted:
            kind, offset = wanted[i]
            low, high = made.venue.best(about.symbol)
            side = BUY if kind % 2 else SELL
            if low is not None and high is not None:
                if kind < 2:
                    made.send(side, 700, now_ns=now)
                else:
                    tif = (TimeInForce.GTC, IOC, POST)[kind // 2 - 1]
                    made.send(side, 700, (low if kind % 2 else high) + offset, now_ns=now, tif=tif)
        if poll_often:
            made.hear(now_ns=now)
    made.hear(now_ns=now + 10**10)
    return made


@settings(max_examples=20, deadline=None)
@given(
    seed=SEEDS,
    fill=FILLS,
    wanted=st.dictionaries(
        st.integers(0, 250), st.tuples(st.integers(0, 7), st.integers(-3, 3)), max_size=12
    ),
)
def test_the_same_orders_have_the_same_fate_however_often_one_asks(
    seed: int, fill: str, wanted: dict[int, tuple[int, int]]
) -> None:
    """Every event fits the table (`Trader.hear` applies it), and none moves for being asked for.

    Nor for being checked: the run that asks once is told that its events were.
    """
    often = play(seed, fill, wanted, poll_often=True).events
    assert [event.ts_ns for event in often] == sorted(event.ts_ns for event in often)
    assert sorted(map(repr, play(seed, fill, wanted, poll_often=False).events)) == sorted(map(repr, often))


@settings(max_examples=20, deadline=None)
@given(
    seed=SEEDS,
    fill=FILLS,
    offset=st.integers(-2, 4),
)
def test_no_fill_is_worse_than_the_limit_and_none_is_too_much(seed: int, fill: str, offset: int) -> None:
    made = play(seed, fill, {i: (2 + i % 6, offset) for i in range(20, 250, 7)}, poll_often=True)
    for event in made.events:
        order = made.orders[event.client_id]
        assert order.filled <= order.intent.qty
        if event.is_fill and order.intent.price is not None:
            beyond = (event.price - order.intent.price) * event.side.sign
            assert beyond == 0 if event.is_maker else beyond <= 0
