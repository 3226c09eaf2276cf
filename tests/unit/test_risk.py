"""The risk check: references, numbers, what lets go again, approvals."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureplane.errors import InvalidOrder, SettingError, StateError, UnknownSymbol
from featureplane.execution.approval import _approve
from featureplane.execution.limits import RefusalCode
from featureplane.execution.money import MONEY_EXPONENT
from featureplane.execution.orders import EventKind, OrderIntent, Side
from featureplane.execution.risk import Approved, Refused, RiskCheck
from featureplane.units import UNDEFINED_I64
from tests.accounts import ABC, ASK, BID, MS, START, XYZ, Account, S, fill_twice, hold
from tests.contract import project
from tests.orders import WIDE

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
