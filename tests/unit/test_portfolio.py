"""Positions: every fill accounted for, to the last unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import SettingError, UnknownSymbol
from featureplane.execution.money import MONEY_EXPONENT, Worth, amount, money, shown
from featureplane.execution.orders import Side
from featureplane.execution.portfolio import Portfolio
from tests.streams import instrument

COIN = instrument(symbol="COIN", price_exponent=2, qty_exponent=3)
SHARE = instrument(symbol="SHARE", price_exponent=4, qty_exponent=0, symbol_id=8)
UNIT = 10**MONEY_EXPONENT

FILLS = st.lists(
    st.tuples(
        st.sampled_from(["COIN", "SHARE"]),
        st.sampled_from(Side),
        st.integers(1, 50),
        st.integers(-500, 10_000),
        st.integers(-(10**15), 10**15),
    ),
    max_size=40,
)
MIDS = st.integers(-(10**6), 10**6)


@given(fills=FILLS, mids=st.tuples(MIDS, MIDS))
def test_cash_and_position_at_the_mid_are_what_was_earned(
    fills: list[tuple[str, Side, int, int, int]], mids: tuple[int, int]
) -> None:
    """The identity, with cash and positions summed up here from the fills alone."""
    book = Portfolio([COIN, SHARE])
    factor = {"COIN": 10**13, "SHARE": 10**14}
    cash, held = {"COIN": 0, "SHARE": 0}, {"COIN": 0, "SHARE": 0}
    for symbol, side, qty, price, fee in fills:
        book.fill(symbol, side, qty, price, fee)
        cash[symbol] -= side.sign * qty * price * factor[symbol] + fee
        held[symbol] += side.sign * qty
    total = 0
    for symbol, mid_x2 in zip(held, mids, strict=True):
        book.mark(symbol, mid_x2)
        position = book[symbol]
        value = held[symbol] * mid_x2 * factor[symbol] // 2
        assert (position.qty, position.cash, position.value) == (held[symbol], cash[symbol], value)
        assert position.unrealised is not None
        assert cash[symbol] + value == position.realised + position.unrealised - position.fees
        assert (position.cost == 0) or position.qty
        total += cash[symbol] + value
    assert book.equity == total


@given(fills=FILLS)
def test_round_trips_add_up_to_what_was_realised(fills: list[tuple[str, Side, int, int, int]]) -> None:
    book = Portfolio([COIN, SHARE])
    trips = [ended for fill in fills if (ended := book.fill(*fill)) is not None]
    for symbol in ("COIN", "SHARE"):
        if left := book[symbol].qty:  # close what is open, so that the last trip ends
            side = Side.SELL if left > 0 else Side.BUY
            ended = book.fill(symbol, side, abs(left), 100)
            assert ended is not None
            trips.append(ended)
        # A fee paid on a fill that opens a position belongs to its trip; none is left over when flat.
        assert book[symbol].cost == 0
    assert sum(trips) == sum(book[s].realised - book[s].fees for s in ("COIN", "SHARE"))


def test_a_position_is_bought_reduced_turned_and_closed() -> None:
    book = Portfolio([SHARE])
    position = book["SHARE"]
    assert book.fill("SHARE", Side.BUY, 10, 20_0000) is None
    assert book.fill("SHARE", Side.BUY, 10, 30_0000, fee=UNIT) is None
    assert (position.qty, position.average_price, position.realised) == (20, 25_0000.0, 0)
    assert book.fill("SHARE", Side.SELL, 5, 27_0000) is None
    assert (position.qty, position.average_price, position.realised) == (15, 25_0000.0, 10 * UNIT)
    assert book.fill("SHARE", Side.SELL, 25, 24_0000) == (10 - 15 - 1) * UNIT
    assert (position.qty, position.average_price, position.realised) == (-10, 24_0000.0, -5 * UNIT)
    assert book.fill("SHARE", Side.BUY, 10, 20_0000) == 40 * UNIT
    assert (position.qty, position.average_price, position.cost) == (0, None, 0)


def test_what_is_held_without_a_mid_has_no_value() -> None:
    book = Portfolio([COIN, SHARE])
    assert (book.equity, book.gross_value, book.unmarked) == (0, 0, None)
    book.fill("SHARE", Side.SELL, 1, 5_0000)
    assert (book.equity, book.gross_value, book.unmarked) == (None, None, "SHARE")
    book.mark("SHARE", 2 * 4_0000)
    assert (book.equity, book.gross_value) == (UNIT, 4 * UNIT)
    book.mark("SHARE", None)
    assert book["SHARE"].unrealised is None


def test_a_symbol_nobody_declared_is_unknown() -> None:
    with pytest.raises(UnknownSymbol):
        Portfolio([COIN])["SHARE"]


def test_half_of_the_smallest_product_must_be_money() -> None:
    finest = Worth(instrument(price_exponent=9, qty_exponent=8))
    assert (finest.of(1, 1), finest.of_x2(1, 1)) == (10, 5)
    with pytest.raises(SettingError, match="18 decimals"):
        Worth(instrument(price_exponent=9, qty_exponent=9))


@pytest.mark.parametrize("text", ["", "1e3", " 1", "1.", ".5", "+1", "٣", "0.0000000000000000001", "nan", 5])
def test_what_is_no_amount_is_refused(text: object) -> None:
    assert amount(text, MONEY_EXPONENT) is None
    with pytest.raises(SettingError):
        money(text)  # type: ignore[arg-type]  # a number is what people try first


@given(value=st.integers(-(10**30), 10**30), exponent=st.integers(0, MONEY_EXPONENT))
def test_an_amount_is_read_back_as_it_is_shown(value: int, exponent: int) -> None:
    assert amount(f"{shown(value, exponent):f}", exponent) == value
