"""Risk limits, each driven to its trip point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, Final

import pytest

from featureplane.errors import SettingError
from featureplane.execution.limits import CONDITIONS, LIMITS, RefusalCode, RiskLimits
from featureplane.execution.orders import EventKind, OrderIntent, OrderState, Side
from featureplane.execution.risk import Approved, Refused, RiskCheck
from tests.accounts import ASK, BID, MS, START, XYZ, Account, S, fill_twice, hold
from tests.orders import WIDE

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


@pytest.mark.parametrize("code", [spec.code for spec in LIMITS if spec.shrinks])
def test_an_order_that_only_reduces_is_not_held_back_by_what_it_mends(code: RefusalCode) -> None:
    trip = TRIPS[code]
    account = Account(**trip.limits)
    trip.before(account)
    trip.outside(account)
    if not account.check.portfolio["ABC"].qty:
        account.check.portfolio.fill("ABC", Side.BUY, 100, 100_00)
    assert isinstance(account.ask(Side.SELL, 1, ASK, reduce_only=True), Approved)


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


def test_a_refusal_says_its_numbers_as_people_write_them() -> None:
    answer = Account(order_qty_max="2.5").ask(qty=26)
    assert (answer.limit, answer.actual) == (Decimal("2.5"), Decimal("2.6"))
