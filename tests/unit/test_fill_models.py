"""Fill models: what a trade, a change of a level and the other side do to a waiting order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureplane.execution.orders import Side
from featureplane.execution.venues.fills import FILL_MODELS
from featureplane.market.events import EventFlag, Kind
from featureplane.market.messages import Event
from featureplane.market.synthetic import Faults, synthetic_events, synthetic_instruments
from tests.orders import Trader
from tests.streams import Change, ask, bid, buy, clear, message, order, sell, snapshot, status

MODELS = tuple(FILL_MODELS)
BOOK = snapshot(bid(100, 50), bid(99, 70), ask(102, 40), ask(103, 60))
HIDDEN = int(EventFlag.HIDDEN)


def waiting(fill: str, *messages: list[Event], qty: int = 10, **options: Any) -> int:
    """How much of a buy at 100 behind 50 the messages fill."""
    trader = Trader(fill=fill, **options)
    trader.see(BOOK)
    number = trader.send(Side.BUY, qty, 100)
    trader.see(*messages)
    return trader.orders[number].filled


def named(price: int, qty: int, order_id: int, flags: int = 0) -> Change:
    return Change(Kind.LEVEL, 1, price, qty, flags, order_id)


CASES = {
    "a trade at the price": ([message(sell(100, 5), at=1)], (10, 0, 0)),
    "the queue and more": ([message(sell(100, 54), at=1)], (10, 4, 0)),
    "trades that add up to the queue and the order": (
        [message(sell(100, 30), at=1), message(sell(100, 30), at=2)],
        (10, 10, 0),
    ),
    "a hidden trade at the price": ([message(sell(100, 90, HIDDEN), at=1)], (10, 0, 0)),
    "a trade by a buyer at the price": ([message(buy(100, 90), at=1)], (10, 0, 0)),
    "a trade of unknown side": ([message(Change(Kind.TRADE, 0, 100, 54), at=1)], (10, 4, 0)),
    "a trade that was no market trade": (
        [message(sell(99, 90, int(EventFlag.NOT_MARKET)), at=1)],
        (0, 0, 0),
    ),
    "a trade one deeper": ([message(sell(99, 1), at=1)], (10, 10, 10)),
    "a hidden trade one deeper": ([message(buy(99, 1, HIDDEN), at=1)], (10, 10, 10)),
    "a trade one better": ([message(sell(101, 90), at=1)], (0, 0, 0)),
    "an ask at the price": ([message(bid(100, 0), ask(100, 1), at=1)], (10, 10, 10)),
    "an ask through the price": ([message(bid(100, 0), bid(99, 0), ask(99, 1), at=1)], (10, 10, 10)),
    "an ask one above": ([message(ask(101, 9), at=1)], (0, 0, 0)),
    "a crossed book says nothing": ([message(ask(100, 1), at=1)], (0, 0, 0)),
    "the queue cancels to the last, then a trade": (
        [message(bid(100, 3), at=1), message(sell(100, 5), at=2)],
        (10, 2, 0),
    ),
    "the level goes altogether, then a trade": (
        [message(bid(100, 0), at=1), message(sell(100, 5), at=2)],
        (10, 5, 0),
    ),
    "others join behind, and nobody goes": (
        [message(bid(100, 90), at=1), message(bid(100, 60), at=2), message(sell(100, 52), at=3)],
        (10, 2, 0),
    ),
    "a cancel by number from behind": (
        [message(named(100, 80, 7), at=1), message(named(100, 50, 7), at=2), message(sell(100, 52), at=3)],
        (10, 2, 0),
    ),
    "a cancel by number from ahead": (
        [message(named(100, 80, 7), at=1), message(named(100, 60, 3), at=2), message(sell(100, 35), at=3)],
        (10, 5, 0),
    ),
    "a trade with its level, and a cancel of another level": (
        [message(sell(100, 45), named(100, 5, 3), named(99, 60, 4), at=1), message(sell(100, 9), at=2)],
        (10, 4, 0),
    ),
    "a level out of view and back": (
        [
            message(Change(Kind.LEVEL, 1, 100, 0, int(EventFlag.CONCEALED)), at=1),
            message(Change(Kind.LEVEL, 1, 100, 45, int(EventFlag.REVEALED)), at=2),
            message(sell(100, 47), at=3),
        ],
        (10, 2, 0),
    ),
    "the level told before its trade": (
        [message(bid(100, 46), at=2), message(sell(100, 4), at=1), message(sell(100, 47), at=3)],
        (10, 1, 0),
    ),
    "the level told after its trade": (
        [message(sell(100, 4), at=1), message(bid(100, 46), at=2), message(sell(100, 47), at=3)],
        (10, 1, 0),
    ),
    "a trade told late, whose fall came from behind": (
        [
            message(bid(100, 60), at=1),
            message(bid(100, 56), at=3),
            message(sell(100, 4), at=2),
            message(sell(100, 47), at=4),
        ],
        (10, 1, 0),
    ),
    "a snapshot with less in it": (
        [snapshot(bid(100, 20), ask(102, 40), at=1), message(sell(100, 21), at=2)],
        (10, 1, 0),
    ),
    "a cleared book told anew": (
        [message(clear(), bid(100, 20), ask(102, 40), at=1), message(sell(100, 21), at=2)],
        (10, 1, 0),
    ),
    "halted trading fills nothing": (
        [status(2, at=1), message(sell(99, 50), at=2), message(bid(100, 0), ask(100, 1), at=3)],
        (0, 0, 0),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fill", MODELS)
def test_what_fills_a_buy_of_ten_at_100_behind_fifty(fill: str, case: str) -> None:
    messages, expected = CASES[case]
    assert waiting(fill, *messages) == dict(zip(("touch", "queue", "through"), expected, strict=True))[fill]


def mirrored(events: list[Event]) -> list[Event]:
    """The same with the sides exchanged and prices mirrored at 101."""
    return [
        e._replace(side=3 - e.side if e.side else 0, price=202 - e.price if e.price else 0) for e in events
    ]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fill", MODELS)
def test_a_sell_is_a_buy_in_the_mirror(fill: str, case: str) -> None:
    trader = Trader(fill=fill)
    trader.see(mirrored(BOOK))
    number = trader.send(Side.SELL, 10, 102)
    trader.see(*[mirrored(one) for one in CASES[case][0]])
    assert trader.orders[number].filled == waiting(fill, *CASES[case][0])


L3 = message(
    clear(),
    order(Kind.ADD, 1, 1, 100, 30),
    order(Kind.ADD, 2, 1, 100, 20),
    order(Kind.ADD, 3, 2, 102, 40),
)


@pytest.mark.parametrize(
    ("changes", "filled"),
    [
        pytest.param([order(Kind.CANCEL, 1, 1, 100, 0)], 10, id="one ahead goes"),
        pytest.param([order(Kind.CANCEL, 1, 1, 100, 12)], 7, id="one ahead shrinks"),
        pytest.param([order(Kind.MODIFY, 1, 1, 100, 25)], 0, id="one ahead is made smaller and stays"),
        pytest.param([order(Kind.MODIFY, 1, 1, 100, 31)], 10, id="one ahead grows and goes behind"),
        pytest.param([order(Kind.MODIFY, 1, 1, 99, 30)], 10, id="one ahead moves away"),
        pytest.param([order(Kind.ADD, 4, 1, 100, 9), order(Kind.CANCEL, 4, 1, 100, 0)], 0, id="one behind"),
        pytest.param([sell(100, 12), order(Kind.EXECUTE, 1, 1, 100, 12)], 7, id="one ahead is executed"),
    ],
)
def test_orders_by_number_say_who_was_ahead(changes: list[Change], filled: int) -> None:
    """Behind fifty, then a trade of 45 against our side."""
    trader = Trader(fill="queue")
    trader.see(L3)
    number = trader.send(Side.BUY, 10, 100)
    for at, change in enumerate([changes] if changes[0].kind == Kind.TRADE else [[c] for c in changes], 1):
        trader.see(message(*change, at=at))
    trader.see(message(sell(100, 45), at=9))
    assert trader.orders[number].filled == filled


def test_orders_of_ours_share_a_trade_unless_they_are_apart() -> None:
    for own_orders, expected in (("share", [30, 10]), ("apart", [30, 30])):
        trader = Trader(fill="queue", own_orders=own_orders)
        trader.see(BOOK)
        numbers = [trader.send(Side.BUY, 30, 100) for _ in range(2)]
        trader.see(message(sell(100, 90), at=1))
        assert trader.filled(*numbers) == expected


@pytest.mark.parametrize("order_level", [False, True])
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    wanted=st.dictionaries(st.integers(0, 200), st.integers(-3, 3), max_size=12),
)
def test_touch_fills_no_later_than_queue_and_queue_no_later_than_through(
    *, order_level: bool, seed: int, wanted: dict[int, int]
) -> None:
    """Over markets with every accident; one stream, three venues, the same orders."""
    for filled in side_by_side(seed, wanted, order_level=order_level):
        assert all(a >= b >= c for a, b, c in zip(*filled.values(), strict=True))


def side_by_side(seed: int, wanted: dict[int, int], *, order_level: bool) -> Iterator[dict[str, list[int]]]:
    """What each model has filled of each order, after every message."""
    about = synthetic_instruments()[0]
    array = synthetic_events(400, seed=seed, faults=Faults(), order_level=order_level)
    traders = {fill: Trader(about=about, fill=fill, own_orders="apart") for fill in MODELS}
    ends = [0, *(i + 1 for i, flags in enumerate(array["flags"].tolist()) if flags & EventFlag.LAST)]
    now = 0
    for i, (first, behind) in enumerate(pairwise(ends)):
        now = max(now, int(array["local_ts_ns"][first]))
        for trader in traders.values():
            trader.venue.on_market(array[first:behind])
            trader.hear(now_ns=now)
            low, high = trader.venue.best(about.symbol)
            if i in wanted and low is not None and high is not None:
                side = Side.BUY if i % 2 else Side.SELL
                trader.send(side, 50, (low if i % 2 else high) + wanted[i], now_ns=now)
        yield {fill: [order.filled for order in trader.orders.values()] for fill, trader in traders.items()}


def test_the_models_differ_where_they_are_compared() -> None:
    """The property above would hold of models that never fill anything."""
    wanted = dict.fromkeys(range(5, 200, 5), 0)
    *_, last = side_by_side(4, wanted, order_level=False)
    totals = [sum(filled) for filled in last.values()]
    assert totals == sorted(set(totals), reverse=True)
    assert totals[-1] > 0
