"""Orders through the real hftbacktest: what it made of them comes back as events of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pytest

from featureplane.errors import SettingError, StateError, UnknownSymbol
from featureplane.execution.approval import Approved
from featureplane.execution.limits import RiskLimits
from featureplane.execution.money import money
from featureplane.execution.orders import EventKind, OrderEvent, OrderIntent, OrderState, Side, TimeInForce
from featureplane.execution.risk import RiskCheck
from featureplane.market.instruments import Instrument
from featureplane.market.sources.hftbacktest_rows import ROW_DTYPE
from featureplane.research.backtest.adapter import Walk
from featureplane.research.backtest.assets import HftAsset, joined
from featureplane.research.backtest.library import HftMarket, Simulation
from featureplane.research.backtest.venue import HftVenue

EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
BOTH: Final = EXCH | LOCAL
DEPTH, TRADE, CLEAR, SNAPSHOT = 1, 2, 3, 4
T: Final = 1_700_000_000_000_000_000
COIN = Instrument(
    venue="test", symbol="COIN", price_exponent=2, qty_exponent=3, tick_size="0.1", lot_size="0.005"
)
Row = tuple[int, int, float, float]

BOOK: Final[list[Row]] = [
    (CLEAR | BOTH, 0, 0.0, 0.0),
    (SNAPSHOT | BUY | BOTH, 0, 100.0, 1.0),
    (SNAPSHOT | BUY | BOTH, 0, 99.9, 2.0),
    (SNAPSHOT | SELL | BOTH, 0, 100.2, 0.5),
    (SNAPSHOT | SELL | BOTH, 0, 100.3, 0.25),
    (SNAPSHOT | SELL | BOTH, 0, 100.5, 4.0),
]
QUIET: Final[list[Row]] = [(DEPTH | BUY | BOTH, at, 90.0, 1.0 + at) for at in range(10, 100, 10)]


class Desk:
    """A risk check and hftbacktest behind it, driven return by return."""

    def __init__(self, walk: Walk, venue: HftVenue, shift_ns: int) -> None:
        self.walk, self.venue = walk, venue
        self.risk = RiskCheck([COIN], RiskLimits(order_value_max="1000000", price_collar_ppm_max=900_000))
        self.shift_ns = shift_ns
        self.events: list[OrderEvent] = []
        self.number = 0

    @property
    def now_ns(self) -> int:
        return self.walk.now_ns - self.shift_ns

    def step(self) -> list[OrderEvent]:
        self.walk.wait()
        self.venue.is_over = self.walk.ended
        self.risk.on_market("COIN", 100_00, 100_20, self.now_ns)
        return self.poll()

    def poll(self) -> list[OrderEvent]:
        told = self.venue.poll(self.now_ns)
        for event in told:
            self.risk.on_event(event)
        self.events += told
        return told

    def until_end(self) -> list[str]:
        while not self.walk.ended:
            self.step()
        return [event.kind.value for event in self.events]

    def send(self, side: Side, qty: int, price: int | None, tif: TimeInForce = TimeInForce.GTC) -> int:
        self.number += 1
        intent = OrderIntent(
            symbol="COIN", side=side, qty=qty, price=price, tif=tif, client_id=self.number, trace_id="m1"
        )
        answer = self.risk.review(intent, self.now_ns)
        assert isinstance(answer, Approved), answer
        self.venue.send(answer, self.now_ns)
        return self.number


@contextmanager
def desk_on(rows: list[Row], latency_ns: int = 3_000, shift_ns: int = 0, **market: Any) -> Iterator[Desk]:
    """(ev, microseconds behind T, px, qty); received 1 us later, shown `shift_ns` later still."""
    array = np.zeros(len(rows), ROW_DTYPE)
    for i, (ev, at, px, qty) in enumerate(rows):
        array[i] = (ev, T + at * 1000, T + at * 1000 + 1000, px, qty, 0, 0, 0.0)
    asset = HftAsset.read(array, "COIN", COIN)
    if shift_ns:
        moved = array.copy()
        moved["local_ts"] += shift_ns
        asset = HftAsset(asset.batch, moved, shift_ns)
    options = HftMarket(entry_ns=latency_ns, response_ns=latency_ns, **market)
    with Simulation([asset], options) as simulation:
        walk = Walk(joined([asset], simulation.offsets_ns), simulation)
        desk = Desk(walk, HftVenue([asset.instrument], simulation), shift_ns)
        desk.step()
        yield desk
        if not options.partial_fills:  # which hftbacktest 2.4 leaves out of its own account
            assert round(simulation.hbt.position(0) * 1000) == desk.risk.portfolio["COIN"].qty


@pytest.mark.parametrize("shift_ns", [0, 5_000])
def test_a_waiting_order_is_filled_by_a_trade_and_comes_back_through_the_risk_check(shift_ns: int) -> None:
    trade = (TRADE | SELL | BOTH, 55, 99.9, 5.0)
    with desk_on(sorted([*BOOK, *QUIET, trade], key=lambda row: row[1]), shift_ns=shift_ns) as desk:
        number = desk.send(Side.BUY, 250, 100_00, TimeInForce.POST_ONLY)
        order = desk.risk.working[number]
        states = [order.state]
        assert desk.until_end() == ["accepted", "filled"]
        accepted, filled = desk.events
        assert [*states, order.state] == [OrderState.PENDING, OrderState.FILLED]
        assert (filled.qty, filled.price, filled.is_maker, filled.trace_id) == (250, 100_00, True, "m1")
        assert accepted.venue_ts_ns + 3_000 == accepted.ts_ns + shift_ns
        assert accepted.ts_ns == T + 1_000 + 6_000
        assert filled.venue_ts_ns == T + 55_000
        assert filled.ts_ns == filled.venue_ts_ns + 3_000 - shift_ns
        assert desk.risk.portfolio["COIN"].qty == 250


def test_taking_several_levels_costs_the_worst_of_them() -> None:
    with desk_on([*BOOK, *QUIET], partial_fills=True, taker_bps="5") as desk:
        desk.send(Side.BUY, 1000, 100_50, TimeInForce.IOC)
        assert desk.until_end() == ["accepted", "filled"]
        filled = desk.events[-1]
        assert (filled.qty, filled.price, filled.is_maker) == (1000, 100_50, False)
        assert filled.fee == money("100.5") * 5 // 10_000


def test_partial_fills_come_one_by_one() -> None:
    trades = [(TRADE | SELL | BOTH, 45, 100.1, 0.04), (TRADE | SELL | BOTH, 65, 100.1, 0.06)]
    rows = sorted([*BOOK, *QUIET, *trades], key=lambda row: row[1])
    with desk_on(rows, partial_fills=True, maker_bps="-1") as desk:
        number = desk.send(Side.BUY, 100, 100_10)
        order = desk.risk.working[number]
        assert desk.until_end() == ["accepted", "partially_filled", "filled"]
        assert [(event.qty, event.price) for event in desk.events[1:]] == [(40, 100_10), (60, 100_10)]
        assert all(event.is_maker and event.fee < 0 for event in desk.events[1:])
        assert order.state is OrderState.FILLED


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    ("fill", "trades", "filled_at"),
    [
        pytest.param("touch", [(45, 100.0, 0.001)], 45, id="touch, a small trade at the price"),
        pytest.param("queue", [(45, 100.0, 0.001), (65, 100.0, 1.5)], 65, id="queue, what stood before it"),
        pytest.param("through", [(45, 100.0, 50.0), (65, 99.9, 0.001)], 65, id="through, a trade beyond"),
        pytest.param("through", [(45, 100.0, 50.0)], None, id="through, trades at the price alone"),
        pytest.param("touch", [(45, 100.1, 50.0)], None, id="touch, a trade that does not reach it"),
        pytest.param("touch", [(45, 99.9, 0.001)], 45, id="touch, a trade beyond"),
        pytest.param("queue", [(45, 99.9, 0.001)], 45, id="queue, a trade beyond"),
    ],
)
def test_what_a_trade_does_to_a_waiting_order(
    fill: str,
    trades: list[tuple[int, float, float]],
    filled_at: int | None,
    partial: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    more = [(TRADE | SELL | BOTH, *trade) for trade in trades]
    rows = sorted([*BOOK, *QUIET, *more], key=lambda row: row[1])
    with desk_on(rows, fill=fill, partial_fills=partial) as desk:
        desk.send(Side.BUY, 250, 100_00, TimeInForce.POST_ONLY)
        kinds = desk.until_end()
        assert kinds == ["accepted"] + ["filled"] * (filled_at is not None)
        if filled_at is not None:
            assert desk.events[-1].venue_ts_ns == T + filled_at * 1000
            assert (desk.events[-1].qty, desk.events[-1].price) == (250, 100_00)


@pytest.mark.parametrize("fill", ["touch", "through"])
def test_we_see_trades_as_they_were_whatever_the_fill(fill: str) -> None:
    trades = [(TRADE | SELL | BOTH, 45, 100.0, 0.25), (TRADE | BUY | BOTH, 65, 100.2, 0.5)]
    rows = sorted([*BOOK, *QUIET, *trades], key=lambda row: row[1])
    seen = []
    with desk_on(rows, fill=fill, configure=lambda made, _: made.last_trades_capacity(10)) as desk:
        while not desk.walk.ended:
            desk.step()
        seen = [(row["px"], row["qty"]) for row in desk.walk.hbt.last_trades(0)]
    assert seen == [(100.0, 0.25), (100.2, 0.5)]


@pytest.mark.parametrize("options", [{"fill": "magic"}, {"fill": "touch", "queue": "log_prob"}])
def test_fills_that_hftbacktest_does_not_have_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(SettingError):
        HftMarket(**options)  # type: ignore[arg-type] # refused here


@pytest.mark.parametrize(
    ("side", "price", "tif", "kinds"),
    [
        (Side.BUY, 100_20, TimeInForce.POST_ONLY, ["rejected"]),
        (Side.SELL, 100_10, TimeInForce.IOC, ["accepted", "expired"]),
        (Side.BUY, None, TimeInForce.IOC, ["accepted", "filled"]),
        (Side.SELL, 100_00, TimeInForce.GTC, ["accepted", "filled"]),
    ],
)
def test_orders_that_end_at_once(side: Side, price: int | None, tif: TimeInForce, kinds: list[str]) -> None:
    with desk_on([*BOOK, *QUIET]) as desk:
        desk.send(side, 100, price, tif)
        assert desk.until_end() == kinds
        if "filled" in kinds:
            assert desk.events[-1].price == (100_20 if side is Side.BUY else 100_00)
            assert not desk.events[-1].is_maker


def test_a_cancel_waits_for_the_answer_to_its_order() -> None:
    with desk_on([*BOOK, *QUIET]) as desk:
        number = desk.send(Side.BUY, 100, 99_00)
        desk.venue.cancel(number, desk.now_ns)
        desk.venue.cancel(number, desk.now_ns)  # asked for once
        assert desk.until_end() == ["cancel_requested", "accepted", "cancelled"]
        with pytest.raises(StateError, match="not working"):
            desk.venue.cancel(number, desk.now_ns)


def test_a_cancel_that_comes_too_late_is_answered_behind_the_fill() -> None:
    trade = (TRADE | SELL | BOTH, 22, 99.0, 5.0)
    with desk_on(sorted([*BOOK, *QUIET, trade], key=lambda row: row[1]), latency_ns=5_000) as desk:
        number = desk.send(Side.BUY, 100, 99_90)
        while not any(event.kind is EventKind.ACCEPTED for event in desk.poll() + desk.events):
            desk.step()
        while desk.now_ns < T + 21_000:
            desk.step()
        desk.venue.cancel(number, desk.now_ns)
        assert desk.until_end() == ["accepted", "cancel_requested", "filled", "cancel_rejected"]


def test_a_cancel_that_the_end_of_the_data_overtakes_is_carried_out_there() -> None:
    with desk_on([*BOOK, *QUIET], latency_ns=40_000) as desk:
        number = desk.send(Side.BUY, 100, 99_00)
        while desk.now_ns < T + 75_000:
            desk.step()
        desk.venue.cancel(number, desk.now_ns)
        assert desk.until_end() == ["accepted", "cancel_requested", "cancelled"]
        assert not desk.risk.working


def test_what_hftbacktest_would_bend_is_rejected() -> None:
    with desk_on([*BOOK, *QUIET]) as desk:
        desk.send(Side.BUY, 100, 99_95)
        desk.send(Side.BUY, 101, 99_90)
        assert [(e.kind.value, e.reason) for e in desk.poll()] == [
            ("rejected", "off_tick"),
            ("rejected", "off_lot"),
        ]
        working = desk.send(Side.BUY, 100, 99_00)
        desk.until_end()
        desk.send(Side.BUY, 100, 99_90)
        assert [event.reason for event in desk.poll()] == ["end_of_data"]
        desk.venue.cancel(working, desk.now_ns)
        assert [event.kind.value for event in desk.poll()] == ["cancel_requested", "cancelled"]
        assert not desk.risk.working


def test_an_order_that_never_left_is_rejected() -> None:
    def technical(made: Any, _: Instrument) -> None:
        made.constant_order_latency(-4_000, 0)

    with desk_on([*BOOK, *QUIET], configure=technical) as desk:
        desk.send(Side.BUY, 100, 99_90)
        desk.until_end()
        assert [(e.kind.value, e.reason) for e in desk.events] == [("rejected", "not_sent")]


def test_only_approved_orders_are_taken_and_only_once() -> None:
    intent = OrderIntent(symbol="COIN", side=Side.BUY, qty=100, price=99_90, client_id=9)
    cases: list[Callable[[Desk], None]] = [
        lambda desk: desk.venue.send(intent, desk.now_ns),  # type: ignore[arg-type] # refused here
        lambda desk: desk.venue.cancel(7, desk.now_ns),
    ]
    with desk_on([*BOOK, *QUIET]) as desk:
        for case in cases:
            with pytest.raises(StateError):
                case(desk)
        answer = desk.risk.review(intent, desk.now_ns)
        assert isinstance(answer, Approved)
        desk.venue.send(answer, desk.now_ns)
        with pytest.raises(StateError, match="sent before"):
            desk.venue.send(answer, desk.now_ns)
        other = Instrument(venue="test", symbol="OTHER", price_exponent=2, qty_exponent=3)
        check = RiskCheck([other], RiskLimits(price_collar_ppm_max=900_000))
        check.on_market("OTHER", 100_00, 100_20, desk.now_ns)
        stranger = OrderIntent(symbol="OTHER", side=Side.BUY, qty=1, price=100_00, client_id=10)
        unknown = check.review(stranger, desk.now_ns)
        assert isinstance(unknown, Approved)
        with pytest.raises(UnknownSymbol):
            desk.venue.send(unknown, desk.now_ns)


def test_many_orders_are_forgotten_when_they_are_over() -> None:
    with desk_on([*BOOK, *QUIET]) as desk:
        for _ in range(3):
            desk.send(Side.BUY, 100, 100_20, TimeInForce.IOC)
            desk.step()
            desk.step()
            desk.risk._executions.clear()
        desk.until_end()
        assert sum(event.is_fill for event in desk.events) == 3
        assert len(desk.walk.hbt.orders(0)) == 0
