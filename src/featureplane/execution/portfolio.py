"""Positions and what they earned, in exact integers.

One identity holds after every fill and at every mid (it is a property test):

    cash + position x mid  =  realised + unrealised - fees

Leans on `execution.money` and `execution.orders`. Knows nothing of limits or venues.
"""

from __future__ import annotations

from collections.abc import Iterable

from featureplane.errors import UnknownSymbol
from featureplane.execution.money import Worth
from featureplane.execution.orders import Side
from featureplane.market.instruments import Instrument
from featureplane.units import half_even_div

__all__ = ["Portfolio", "Position"]


class Position:
    """What is held of one instrument; changed by `Portfolio` alone.

    `qty` is signed, in units of event sizes; amounts are money. `cost` is what the open position
    cost, negative for a short one; `cash` what trading brought in, fees taken off.
    """

    __slots__ = ("_trip", "_worth", "cash", "cost", "fees", "mid_x2", "qty", "realised")

    def __init__(self, worth: Worth) -> None:
        self._worth = worth
        self._trip = 0  # realised less fees since the position was last flat
        self.qty = 0
        self.cost = 0
        self.cash = 0
        self.realised = 0
        self.fees = 0
        self.mid_x2: int | None = None

    @property
    def average_price(self) -> float | None:
        """Mean price of the open position, in units of event prices; None when flat."""
        return self._worth.price(self.cost, self.qty) if self.qty else None

    @property
    def value(self) -> int | None:
        """What the position is worth at the mid; 0 when flat, None without a mid."""
        if not self.qty:
            return 0
        return None if self.mid_x2 is None else self._worth.of_x2(self.mid_x2, self.qty)

    @property
    def unrealised(self) -> int | None:
        """What selling at the mid would realise; 0 when flat, None without a mid."""
        value = self.value
        return None if value is None else value - self.cost

    def fill(self, side: Side, qty: int, price: int, fee: int) -> int | None:
        """Take a fill; what the round trip earned that it ends (flat or turned), else None."""
        signed = side.sign * qty
        paid = self._worth.of(price, signed)
        self.cash -= paid + fee
        self.fees += fee
        self._trip -= fee
        closed = min(qty, abs(self.qty)) if signed * self.qty < 0 else 0
        if closed:
            # The cost of a part is rounded; what is left and what was realised add up all the same.
            cost = half_even_div(self.cost * closed, abs(self.qty))
            gain = -self._worth.of(price, side.sign * closed) - cost
            self.cost -= cost
            self.realised += gain
            self._trip += gain
        self.cost += self._worth.of(price, side.sign * (qty - closed))
        before, self.qty = self.qty, self.qty + signed
        if not closed or abs(before) > qty:
            return None
        ended, self._trip = self._trip, 0
        return ended


class Portfolio:
    """The positions of one account in one quote currency.

    >>> from featureplane.market.instruments import Instrument
    >>> from featureplane.execution.money import shown
    >>> coin = Instrument(venue="v", symbol="COIN", price_exponent=2, qty_exponent=0)
    >>> book = Portfolio([coin])
    >>> book.fill("COIN", Side.BUY, qty=3, price=100_00)  # ends no round trip: None
    >>> book.mark("COIN", 2 * 101_00)
    >>> shown(book.equity), book["COIN"].average_price
    (Decimal('3'), 10000.0)
    """

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._positions = {one.symbol: Position(Worth(one)) for one in instruments}

    def __getitem__(self, symbol: str) -> Position:
        try:
            return self._positions[symbol]
        except KeyError:
            raise UnknownSymbol(symbol, list(self._positions)) from None

    def fill(self, symbol: str, side: Side, qty: int, price: int, fee: int = 0) -> int | None:
        """Take a fill; what the round trip earned that it ends, fees taken off, else None."""
        return self[symbol].fill(side, qty, price, fee)

    def mark(self, symbol: str, mid_x2: int | None) -> None:
        """The mid in force, doubled; None: there is none, and what is held has no value."""
        self[symbol].mid_x2 = mid_x2

    @property
    def unmarked(self) -> str | None:
        """A symbol that is held and has no mid, or None."""
        return next((s for s, held in self._positions.items() if held.value is None), None)

    @property
    def equity(self) -> int | None:
        """Realised and unrealised less fees, since the start; None while something held has no mid."""
        total = 0
        for held in self._positions.values():
            value = held.value
            if value is None:
                return None
            total += held.cash + value
        return total

    @property
    def gross_value(self) -> int | None:
        """What all positions are worth without their signs; None while something held has no mid."""
        total = 0
        for held in self._positions.values():
            value = held.value
            if value is None:
                return None
            total += abs(value)
        return total
