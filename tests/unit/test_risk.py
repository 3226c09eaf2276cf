"""Risk limits, each driven to its trip point."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureplane.errors import InvalidOrder, SettingError, StateError, UnknownSymbol
from featureplane.execution.approval import _approve
from featureplane.execution.limits import CONDITIONS, LIMITS, RefusalCode, RiskLimits
from featureplane.execution.money import MONEY_EXPONENT
from featureplane.execution.orders import EventKind, OrderEvent, OrderIntent, OrderState, Side, TimeInForce
from featureplane.execution.risk import Approved, Refused, RiskCheck
from featureplane.units import NANOS_PER_MS, NANOS_PER_SECOND, UNDEFINED_I64
from tests.contract import project
from tests.orders import WIDE
from tests.streams import instrument

S: Final = NANOS_PER_SECOND
MS: Final = NANOS_PER_MS
START: Final = 1_700_000_000 * S
ABC: Final = instrument(symbol="ABC", price_exponent=2, qty_exponent=1, tick_size="0.05")
XYZ: Final = instrument(symbol="XYZ", price_exponent=0, qty_exponent=0, symbol_id=8)
BID, ASK = 99_95, 100_05  # mid 100.00


class Account:
    """A risk check with a clock, and a venue that does as it is told."""

    def __init__(self, **limits: Any) -> None:
        self.check = RiskCheck([ABC, XYZ], replace(WIDE, **limits))
        self.now_ns = START
        self.number = 0
        self.market(BID, ASK)

    def market(self, bid: float | None, ask: float | None, symbol: str = "ABC") -> None:
        self.check.on_market(symbol, bid, ask, self.now_ns)

    def ask(self, side: Side = Side.BUY, qty: int = 10, price: int | None = BID, **fields: Any) -> Any:
        self.number += 1
        defaults: dict[str, Any] = {"symbol": "ABC", "client_id": self.number}
        if price is None:
            defaults["tif"] = TimeInForce.IOC
        intent = OrderIntent(side=side, qty=qty, price=price, **(defaults | fields))
        return self.check.review(intent, self.now_ns)

    def tell(self, intent: OrderIntent, kind: EventKind, qty: int = 0, price: int = 0, fee: int = 0) -> None:
        self.check.on_event(
            OrderEvent(
                kind=kind,
                client_id=intent.client_id,
                symbol=intent.symbol,
                side=intent.side,
                venue_ts_ns=self.now_ns,
                ts_ns=self.now_ns,
                qty=qty,
                price=price,
                fee=fee,
            )
        )

    def work(self, side: Side = Side.BUY, qty: int = 10, price: int = BID, **fields: Any) -> OrderIntent:
        answer = self.ask(side, qty, price, **fields)
        assert isinstance(answer, Approved), answer
        intent: OrderIntent = answer.item
        self.tell(intent, EventKind.ACCEPTED)
        return intent

    def trade(self, side: Side, qty: int, price: int, fee: int = 0) -> None:
        intent = self.work(side, qty, BID if side is Side.BUY else ASK)
        self.tell(intent, EventKind.FILLED, qty, price, fee)

    def lose(self, dollars: int) -> None:
        """One round trip of one unit of ABC that loses so much."""
        self.trade(Side.BUY, 10, BID)
        self.trade(Side.SELL, 10, BID - 100 * dollars)


Drive = Callable[[Account], Any]


@dataclass(frozen=True)
class Trip:
    """A limit, an order just inside and one just outside, and what the refusal says."""

    limits: dict[str, Any]
    inside: Drive
    outside: Drive
    limit: str
    actual: str
    before: Callable[[Account], object] = lambda _account: None


def later(ns: int, drive: Drive) -> Drive:
    def wait(account: Account) -> Any:
        account.now_ns += ns
        return drive(account)

    return wait


def at_work(account: Account) -> None:
    account.work(Side.BUY, 20, BID)
    account.work(Side.SELL, 30, ASK)


def held_and_at_work(account: Account) -> None:
    account.trade(Side.BUY, 100, 100_00)
    at_work(account)


def fall(dollars: int) -> Drive:
    """The mid of what is held (one unit of XYZ) falls by so much, then an order in ABC."""

    def drive(account: Account) -> Any:
        account.market(1000 - 1 - dollars, 1000 + 1 - dollars, "XYZ")
        return account.ask()

    return drive


def hold(account: Account) -> None:
    account.market(999, 1001, "XYZ")
    intent = account.work(Side.BUY, 1, 1000, symbol="XYZ")
    account.tell(intent, EventKind.FILLED, 1, 1000)


def hold_and_lose(account: Account) -> None:
    hold(account)
    account.lose(10)


def hold_and_gain(account: Account) -> None:
    hold(account)
    account.market(1099, 1101, "XYZ")


def lose_twice(account: Account) -> None:
    account.lose(1)
    account.lose(1)


def lose_and_ask(account: Account) -> Any:
    account.lose(1)
    return account.ask()


def many(count: int) -> Callable[[Account], None]:
    def drive(account: Account) -> None:
        for _ in range(count):
            account.work()

    return drive


def one_of_each(account: Account) -> None:
    account.tell(account.work(), EventKind.CANCEL_REQUESTED)


def fill_twice(account: Account) -> None:
    account.trade(Side.BUY, 10, BID)
    account.now_ns += 1
    account.trade(Side.BUY, 10, BID)
    account.now_ns += 5 * S - 2


def again(account: Account) -> Any:
    account.market(BID, ASK)
    return account.ask(qty=10)


TRIPS: Final = {
    RefusalCode.STALE_REFERENCE: Trip(
        {"reference_age_ms_max": 250},
        later(250 * MS, Account.ask),
        later(250 * MS + 1, Account.ask),
        "250",
        "250.000001",
    ),
    RefusalCode.REDUCE_ONLY: Trip(
        {},
        lambda a: a.ask(Side.SELL, 70, ASK, reduce_only=True),
        lambda a: a.ask(Side.SELL, 71, ASK, reduce_only=True),
        "7",
        "7.1",
        before=held_and_at_work,
    ),
    RefusalCode.ORDER_QTY: Trip(
        {"order_qty_max": "2.5"}, lambda a: a.ask(qty=25), lambda a: a.ask(qty=26), "2.5", "2.6"
    ),
    RefusalCode.ORDER_VALUE: Trip(
        {"order_value_max": "1000"},
        lambda a: a.ask(qty=100, price=100_00),
        lambda a: a.ask(qty=100, price=100_01),
        "1000",
        "1000.1",
    ),
    RefusalCode.PRICE_COLLAR: Trip(
        {"price_collar_ppm_max": 20_000},
        lambda a: a.ask(price=98_00),
        lambda a: a.ask(price=97_99),
        "20000",
        "20100",
    ),
    RefusalCode.FAT_FINGER: Trip(
        {"fat_finger_ticks_max": 3},
        lambda a: a.ask(Side.SELL, price=BID - 3 * 5),
        lambda a: a.ask(Side.SELL, price=BID - 3 * 5 - 1),
        "3",
        "4",
    ),
    RefusalCode.POSITION: Trip(
        {"position_max": "15"},
        lambda a: a.ask(qty=30),
        lambda a: a.ask(qty=31),
        "15",
        "15.1",
        before=held_and_at_work,
    ),
    RefusalCode.GROSS_VALUE: Trip(
        {"gross_value_max": "1600.05"},
        lambda a: a.ask(qty=10, price=100_00),
        lambda a: a.ask(qty=10, price=100_01),
        "1600.05",
        "1600.06",
        before=held_and_at_work,
    ),
    RefusalCode.OPEN_VALUE: Trip(
        {"open_value_max": "600.05"},
        lambda a: a.ask(qty=10, price=100_00),
        lambda a: a.ask(qty=10, price=100_01),
        "600.05",
        "600.06",
        before=at_work,
    ),
    RefusalCode.ORDER_RATE: Trip(
        {"orders_per_second_max": 3},
        later(S, Account.ask),
        later(S - 1, Account.ask),
        "3",
        "4",
        before=many(3),
    ),
    RefusalCode.MESSAGE_RATE: Trip(
        {"messages_per_second_max": 2},
        later(S, Account.ask),
        later(S - 1, Account.ask),
        "2",
        "3",
        before=one_of_each,
    ),
    RefusalCode.REPEATED_EXECUTION: Trip(
        {"repeated_execution_max": 2, "repeated_execution_ms": 5000},
        later(1, again),
        again,
        "2",
        "3",
        before=fill_twice,
    ),
    RefusalCode.DUPLICATE_ORDER: Trip(
        {"duplicate_order_ms": 20},
        later(20 * MS, again),
        later(20 * MS - 1, again),
        "20",
        "19.999999",
        before=many(1),
    ),
    RefusalCode.SELF_TRADE: Trip(
        {"self_trades_max": 0},
        lambda a: a.ask(price=ASK - 5),
        lambda a: a.ask(price=ASK),
        "0",
        "1",
        before=at_work,
    ),
    RefusalCode.DAILY_LOSS: Trip(
        {"daily_loss_max": "40"}, fall(30), fall(31), "40", "41", before=hold_and_lose
    ),
    RefusalCode.DRAWDOWN: Trip(
        {"drawdown_max": "40"},
        fall(-60),
        fall(-59),
        "40",
        "41",
        before=hold_and_gain,
    ),
    RefusalCode.LOSS_STREAK: Trip(
        {"loss_streak_max": 2},
        Account.ask,
        lose_and_ask,
        "2",
        "3",
        before=lose_twice,
    ),
}


@pytest.mark.parametrize("code", TRIPS)
def test_just_inside_a_limit_passes(code: RefusalCode) -> None:
    trip = TRIPS[code]
    account = Account(**trip.limits)
    trip.before(account)
    answer = trip.inside(account)
    assert isinstance(answer, Approved), answer
    assert account.check.working[account.number].state is OrderState.PENDING


@pytest.mark.parametrize("code", TRIPS)
def test_just_outside_a_limit_is_refused_with_code_limit_and_actual(code: RefusalCode) -> None:
    trip = TRIPS[code]
    account = Account(**trip.limits)
    trip.before(account)
    answer = trip.outside(account)
    assert isinstance(answer, Refused), answer
    assert (answer.code, str(answer.limit), str(answer.actual)) == (code, trip.limit, trip.actual)
    assert answer.item.client_id == account.number
    assert account.number not in account.check.working


def test_every_limit_and_every_code_has_its_trip_point() -> None:
    assert set(TRIPS) | set(CONDITIONS) == set(RefusalCode) == {s.code for s in LIMITS} | set(CONDITIONS)
    assert {s.name for s in LIMITS} == {f.name for f in fields(RiskLimits)}


def test_questions_are_asked_in_the_order_of_the_codes() -> None:
    asked = [code for code, _ in RiskCheck._QUESTIONS]
    assert asked == [code for code in RefusalCode if code in asked]
    assert set(RefusalCode) - set(asked) == {RefusalCode.DUPLICATE_ID, RefusalCode.NO_REFERENCE}


# -- the reference


@pytest.mark.parametrize(
    ("bid", "ask"),
    [
        pytest.param(None, ASK, id="no bid"),
        pytest.param(BID, None, id="no ask"),
        pytest.param(float("nan"), ASK, id="a bid that is no number"),
        pytest.param(BID, float("inf"), id="an infinite ask"),
        pytest.param(-float("inf"), ASK, id="an infinite bid"),
        pytest.param(UNDEFINED_I64, ASK, id="the undefined value of a frame"),
        pytest.param(BID + 0.5, ASK, id="half a unit"),
        pytest.param(ASK, BID, id="crossed"),
        pytest.param(BID, BID, id="locked"),
    ],
)
def test_without_a_sound_reference_every_order_is_refused(bid: float | None, ask: float | None) -> None:
    account = Account()
    account.trade(Side.BUY, 20, BID)
    account.market(bid, ask)
    for answer in (account.ask(), account.ask(price=None), account.ask(Side.SELL, reduce_only=True)):
        assert isinstance(answer, Refused)
        assert (answer.code, answer.limit, answer.actual) == (RefusalCode.NO_REFERENCE, None, None)


def test_before_the_first_reference_every_order_is_refused() -> None:
    account = Account()
    assert account.ask(symbol="XYZ").code is RefusalCode.NO_REFERENCE


def test_something_held_without_a_mid_refuses_orders_in_everything() -> None:
    account = Account()
    hold(account)
    account.market(None, None, "XYZ")
    assert account.ask(symbol="ABC").code is RefusalCode.NO_REFERENCE


def test_a_reference_from_the_future_is_as_stale_as_one_from_the_past() -> None:
    account = Account(reference_age_ms_max=250)
    account.now_ns -= 250 * MS + 1
    assert account.ask().code is RefusalCode.STALE_REFERENCE


def test_a_locked_reference_will_do_where_the_instrument_says_so() -> None:
    check = RiskCheck([replace(ABC, locked="valid")], WIDE)
    check.on_market("ABC", BID, BID, START)
    intent = OrderIntent(symbol="ABC", side=Side.BUY, qty=1, price=BID, client_id=1)
    assert isinstance(check.review(intent, START), Approved)


# -- numbers, symbols


def test_a_number_is_used_once_and_rises() -> None:
    account = Account()
    account.work(client_id=5)
    for number in (5, 4):
        answer = account.ask(client_id=number)
        assert (answer.code, answer.limit, answer.actual) == (RefusalCode.DUPLICATE_ID, 6, number)
    assert isinstance(account.ask(client_id=6), Approved)


def test_an_order_without_a_number_or_of_a_strange_symbol_is_an_error() -> None:
    account = Account()
    with pytest.raises(InvalidOrder, match="client_id"):
        account.ask(client_id=0)
    with pytest.raises(UnknownSymbol):
        account.ask(symbol="NOBODY")
    with pytest.raises(UnknownSymbol):
        RiskCheck([ABC], by_symbol={"NOBODY": WIDE})


def test_limits_of_a_symbol_go_before_those_of_the_account() -> None:
    check = RiskCheck([ABC, XYZ], WIDE, by_symbol={"ABC": replace(WIDE, order_qty_max="1")})
    for number, (symbol, passes) in enumerate((("ABC", False), ("XYZ", True)), 1):
        check.on_market(symbol, BID, ASK, START)
        intent = OrderIntent(symbol=symbol, side=Side.BUY, qty=11, price=BID, client_id=number)
        assert isinstance(check.review(intent, START), Approved) is passes


# -- what lets go again


@pytest.mark.parametrize("code", [spec.code for spec in LIMITS if spec.shrinks])
def test_an_order_that_only_reduces_is_not_held_back_by_what_it_mends(code: RefusalCode) -> None:
    trip = TRIPS[code]
    account = Account(**trip.limits)
    trip.before(account)
    trip.outside(account)
    if not account.check.portfolio["ABC"].qty:
        account.check.portfolio.fill("ABC", Side.BUY, 100, 100_00)
    assert isinstance(account.ask(Side.SELL, 1, ASK, reduce_only=True), Approved)


def test_a_loss_streak_ends_with_a_gain_or_with_a_person_and_a_reason() -> None:
    account = Account(loss_streak_max=0)
    account.lose(1)
    assert account.ask().code is RefusalCode.LOSS_STREAK
    for by, why in (("", "a reason"), ("somebody", " ")):
        with pytest.raises(SettingError):
            account.check.lift_loss_streak(by=by, why=why)
    account.check.lift_loss_streak(by="somebody", why="the feed was wrong")
    account.trade(Side.BUY, 10, BID)
    account.trade(Side.SELL, 10, BID + 1, fee=10**MONEY_EXPONENT)  # a gain that the fee eats
    assert account.check.loss_streak == 1
    account.check.lift_loss_streak(by="somebody", why="fees")
    account.trade(Side.BUY, 10, BID)
    account.trade(Side.SELL, 10, BID + 1)
    assert account.check.loss_streak == 0
    account.trade(Side.BUY, 10, BID)
    account.trade(Side.SELL, 10, BID)
    assert account.check.loss_streak == 0  # nothing lost is no loss


def test_a_day_begins_without_the_loss_of_the_one_before() -> None:
    account = Account(daily_loss_max="5")
    account.lose(6)
    assert account.ask().code is RefusalCode.DAILY_LOSS
    account.now_ns = (account.now_ns // (86_400 * S) + 1) * 86_400 * S - 1
    account.market(BID, ASK)
    assert account.ask().code is RefusalCode.DAILY_LOSS
    account.now_ns += 1
    assert isinstance(account.ask(), Approved)
    account.market(BID, ASK)
    account.lose(4)
    assert isinstance(account.ask(), Approved)
    account.lose(2)
    assert str(account.ask().actual) == "6"


def test_a_peak_is_forgotten_when_its_time_is_over() -> None:
    account = Account(drawdown_max="5", drawdown_s=60)
    account.now_ns = (START // (60 * S) + 1) * 60 * S
    account.market(BID, ASK)
    account.lose(6)
    account.now_ns += 60 * S - 1
    account.market(BID, ASK)
    assert account.ask().code is RefusalCode.DRAWDOWN
    account.now_ns += 1 * S
    account.market(BID, ASK)
    assert isinstance(account.ask(), Approved)


def test_an_order_counts_until_it_is_over_and_no_longer() -> None:
    account = Account(open_value_max="1000")
    intent = account.work(qty=100, price=BID)
    assert account.ask().code is RefusalCode.OPEN_VALUE
    account.tell(intent, EventKind.PARTIALLY_FILLED, 90, BID)
    assert isinstance(account.ask(qty=20), Approved)
    account.tell(intent, EventKind.CANCEL_REQUESTED)
    account.tell(intent, EventKind.CANCELLED)
    account.tell(intent, EventKind.CANCEL_REJECTED)  # late, and of no account
    with pytest.raises(StateError, match="not working"):
        account.tell(intent, EventKind.FILLED, 10, BID)
    assert account.check.portfolio["ABC"].qty == 90


# -- approvals


def test_an_approval_cannot_be_forged() -> None:
    approved = Account().ask()
    assert isinstance(approved, Approved)
    item = approved.open()
    larger = replace(item, qty=10**6)
    forgeries: tuple[Callable[[], object], ...] = (
        lambda: Approved(larger, None),
        lambda: Approved(larger, object()),
        lambda: replace(approved, item=larger),
        lambda: Approved(larger, approved._seal),
    )
    for forge in forgeries:
        with pytest.raises(StateError, match="no risk check"):
            forge()
    blank = object.__new__(Approved)
    with pytest.raises(StateError):
        blank.open()
    object.__setattr__(blank, "item", larger)
    object.__setattr__(blank, "_seal", approved._seal)
    with pytest.raises(StateError):
        blank.open()
    subclass = type("Approved", (Approved,), {})
    with pytest.raises(StateError):
        subclass(item, approved._seal)
    assert copy.copy(approved).open() is item
    assert copy.deepcopy(approved).open() == item


def test_only_the_risk_check_approves() -> None:
    users = [
        project.dotted(path)
        for path in project.modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and any(a.name == _approve.__name__ for a in node.names)
    ]
    assert users == ["featureplane.execution.risk"]


# -- properties

ORDERS = st.tuples(
    st.sampled_from(Side),
    st.integers(1, 60),
    st.integers(95_00, 105_00),
    st.booleans(),
    st.integers(0, S // 2),
)


@settings(deadline=None)
@given(orders=st.lists(ORDERS, max_size=25))
def test_a_refusal_changes_nothing_and_an_approval_keeps_the_position_in_bounds(
    orders: list[tuple[Side, int, int, bool, int]],
) -> None:
    account = Account(
        order_qty_max="5",
        position_max="8",
        price_collar_ppm_max=30_000,
        open_value_max="1500",
        orders_per_second_max=4,
        daily_loss_max="20",
        duplicate_order_ms=1000,
        self_trades_max=0,
        reference_age_ms_max=600,
    )
    for i, (side, qty, price, reduce_only, ns) in enumerate(orders):
        account.now_ns += ns
        if i % 3:
            account.market(BID, ASK)
        before = pickle.dumps(vars(account.check))
        answer = account.ask(side, qty, price, reduce_only=reduce_only)
        if isinstance(answer, Refused):
            assert pickle.dumps(vars(account.check)) == before
            continue
        account.tell(answer.item, EventKind.ACCEPTED)
        if i % 2:
            account.tell(answer.item, EventKind.FILLED, qty, price)
        position = account.check.portfolio["ABC"].qty
        assert abs(position) <= 80


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("order_qty_max", 5),
        ("order_qty_max", "-1"),
        ("daily_loss_max", "much"),
        ("orders_per_second_max", 0),
        ("price_collar_ppm_max", 1.5),
        ("loss_streak_max", True),
        ("drawdown_s", 0),
    ],
)
def test_what_is_no_limit_is_refused(name: str, value: object) -> None:
    wrong: dict[str, Any] = {name: value}
    with pytest.raises(SettingError, match=name):
        RiskLimits(**wrong)


def test_a_limit_finer_than_the_instrument_passes_what_is_below_it() -> None:
    check = RiskCheck([XYZ], replace(WIDE, order_qty_max="2.5"))
    check.on_market("XYZ", 99, 101, START)
    answers = [
        check.review(OrderIntent(symbol="XYZ", side=Side.BUY, qty=qty, price=99, client_id=qty), START)
        for qty in (2, 3)
    ]
    assert isinstance(answers[0], Approved)
    assert isinstance(answers[1], Refused)
    assert answers[1].limit == 2


def test_fills_of_another_size_are_no_repetition() -> None:
    account = Account(repeated_execution_max=2)
    fill_twice(account)
    account.market(BID, ASK)
    assert account.ask(qty=10).code is RefusalCode.REPEATED_EXECUTION
    assert isinstance(account.ask(qty=11), Approved)
    assert isinstance(account.ask(Side.SELL, qty=10, price=ASK), Approved)


def test_an_order_filled_in_parts_is_one_execution() -> None:
    account = Account(repeated_execution_max=2)
    intent = account.work(qty=10)
    for qty in (1, 2, 3):
        account.tell(intent, EventKind.PARTIALLY_FILLED, qty, BID)
    assert isinstance(account.ask(qty=10), Approved)


def test_an_order_that_is_over_has_no_duplicate() -> None:
    account = Account(duplicate_order_ms=20)
    intent = account.work()
    assert account.ask().code is RefusalCode.DUPLICATE_ORDER
    assert isinstance(account.ask(price=BID - 5), Approved)
    account.tell(intent, EventKind.FILLED, 10, BID)
    assert isinstance(account.ask(), Approved)


def test_the_table_of_executions_stays_small() -> None:
    account = Account(repeated_execution_ms=1)
    for qty in range(1, 3000):
        account.now_ns += MS
        account.market(BID, ASK)
        account.tell(account.work(qty=qty), EventKind.FILLED, qty, BID)
    assert len(account.check._executions) <= 1025


def test_a_refusal_says_its_numbers_as_people_write_them() -> None:
    answer = Account(order_qty_max="2.5").ask(qty=26)
    assert (answer.limit, answer.actual) == (Decimal("2.5"), Decimal("2.6"))
