"""Orders: the table of states, and what an order knows of itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import IllegalTransition, InvalidOrder, StateError
from featureplane.execution.orders import (
    FINAL,
    TABLE,
    EventKind,
    Order,
    OrderEvent,
    OrderIntent,
    OrderState,
    Side,
    TimeInForce,
    advance,
)


def intent(**fields: Any) -> OrderIntent:
    defaults: dict[str, Any] = {"symbol": "ABC", "side": Side.BUY, "qty": 10, "price": 100, "client_id": 1}
    return OrderIntent(**(defaults | fields))


def event(kind: EventKind, qty: int = 0, price: int = 0, **fields: Any) -> OrderEvent:
    defaults: dict[str, Any] = {
        "client_id": 1,
        "symbol": "ABC",
        "side": Side.BUY,
        "venue_ts_ns": 0,
        "ts_ns": 0,
    }
    return OrderEvent(kind=kind, qty=qty, price=price, **(defaults | fields))


@pytest.mark.parametrize(("state", "kind"), list(product(OrderState, EventKind)))
def test_a_pair_is_a_row_of_the_table_or_an_illegal_transition(state: OrderState, kind: EventKind) -> None:
    if (state, kind) in TABLE:
        assert advance(state, kind) is TABLE[state, kind]
    else:
        with pytest.raises(IllegalTransition) as raised:
            advance(state, kind)
        assert raised.value.allowed == tuple(k for s, k in TABLE if s is state)


def test_final_states_are_those_without_a_way_out_and_every_state_can_be_reached() -> None:
    ways = {state: {to for (at, _), to in TABLE.items() if at is state} - {state} for state in OrderState}
    assert {state for state, to in ways.items() if not to} == FINAL
    assert set().union(*ways.values()) | {OrderState.PENDING} == set(OrderState)


EVENTS = st.lists(
    st.builds(event, st.sampled_from(EventKind), st.integers(-1, 12), st.integers(90, 110)), max_size=30
)


@given(events=EVENTS, qty=st.integers(1, 12))
def test_no_events_lead_out_of_the_table_or_fill_too_much(events: list[OrderEvent], qty: int) -> None:
    order = Order(intent(qty=qty))
    fills: list[OrderEvent] = []
    for one in events:
        before = (order.state, order.filled, order.average_price)
        try:
            order.apply(one)
        except StateError:
            assert (order.state, order.filled, order.average_price) == before
            continue
        assert order.state is TABLE[before[0], one.kind]
        fills += [one] * one.is_fill
        if before[0] in FINAL:
            assert (order.state, order.filled, order.average_price) == before
        assert (order.filled == qty) == (order.state is OrderState.FILLED)
        assert order.leaves == (0 if order.state in FINAL else qty - order.filled)
    assert 0 <= order.filled == sum(one.qty for one in fills) <= qty
    value = sum(one.qty * one.price for one in fills)
    assert order.average_price == (value / order.filled if order.filled else None)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"client_id": 2}, id="another order"),
        pytest.param({"symbol": "XYZ"}, id="another symbol"),
        pytest.param({"side": Side.SELL}, id="the other side"),
    ],
)
def test_an_event_of_another_order_is_refused(wrong: dict[str, Any]) -> None:
    order = Order(intent())
    with pytest.raises(StateError, match="was told of"):
        order.apply(event(EventKind.ACCEPTED, **wrong))
    assert order.state is OrderState.PENDING


def test_a_fill_must_fit_what_is_left() -> None:
    order = Order(intent(qty=10))
    order.apply(event(EventKind.ACCEPTED))
    for kind, qty in (
        (EventKind.PARTIALLY_FILLED, 10),
        (EventKind.PARTIALLY_FILLED, 0),
        (EventKind.FILLED, 9),
        (EventKind.FILLED, 11),
    ):
        with pytest.raises(StateError, match="10 left"):
            order.apply(event(kind, qty, 100))
    assert (order.state, order.filled) == (OrderState.WORKING, 0)


def test_a_late_answer_to_a_cancel_changes_nothing() -> None:
    order = Order(intent(qty=10))
    for one in (
        event(EventKind.ACCEPTED),
        event(EventKind.CANCEL_REQUESTED),
        event(EventKind.FILLED, 10, 99),
        event(EventKind.CANCEL_REJECTED),
    ):
        order.apply(one)
    assert (order.state, order.filled, order.average_price) == (OrderState.FILLED, 10, 99.0)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"qty": 0}, "qty"),
        ({"qty": 1.0}, "qty"),
        ({"qty": True}, "qty"),
        ({"qty": 1 << 53}, "qty"),
        ({"price": float("nan")}, "price"),
        ({"price": -(1 << 53)}, "price"),
        ({"price": None}, "price"),
        ({"price": None, "tif": TimeInForce.POST_ONLY}, "price"),
        ({"side": 1}, "side"),
        ({"tif": "gtc"}, "tif"),
        ({"client_id": -1}, "client_id"),
    ],
)
def test_an_order_that_cannot_be_meant_is_refused(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidOrder) as raised:
        intent(**fields)
    assert raised.value.field == name


def test_sides_are_opposite_and_have_opposite_signs() -> None:
    assert [(side.opposite, side.sign) for side in Side] == [(Side.SELL, 1), (Side.BUY, -1)]


def test_a_numbered_order_is_the_same_but_for_number_and_trace() -> None:
    one = intent(side=Side.SELL, tif=TimeInForce.POST_ONLY, reduce_only=True, trace_id="m1")
    assert one.numbered(7, "m2") == replace(one, client_id=7, trace_id="m2")
    with pytest.raises(InvalidOrder):
        one.numbered(-1, "m2")
