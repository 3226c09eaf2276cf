"""Prices: the touch, what lies between and behind it.

Prices are in the instrument's units, `_x2` doubled so that a mid is an integer. All are functions
of the book now; the engine asks them only of a valid book that has the sides they need, and keeps
them cold until then. Leans on `cell`, `sides`, `units`. Twin: `kernels/price.rs`.
"""

from __future__ import annotations

from featureplane.features.kernels.cell import LACKING, NO_VALUE, Cell
from featureplane.features.kernels.interface import BookSide, BookView
from featureplane.features.kernels.sides import OfOneLevel, OfTheBook, short
from featureplane.units import half_even_div, ratio

__all__ = ["BestAsk", "BestBid", "BookSlope", "LevelPrice", "MicropriceX2", "MidX2", "Spread", "VwapX2"]


class LevelPrice(OfOneLevel):
    """Price of level i of a side, level 1 the best.

    State      none
    Warm-up    1 book with the side
    Reset      cold until the next one
    Undefined  side or level absent, book invalid
    Source     rule 8
    Twin       `kernels/price.rs`, exact
    """

    __slots__ = ()

    def of(self, side: BookSide) -> int:
        """The price now."""
        return side.price(self.levels)


class BestBid(LevelPrice):
    """The best bid price: `level_price("bid", 1)`."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("bid", 1)


class BestAsk(LevelPrice):
    """The best ask price: `level_price("ask", 1)`."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("ask", 1)


class MidX2(OfTheBook):
    """Twice the mid: b_1 + a_1.

    State      none
    Warm-up    1 book with both sides
    Reset      cold until the next one
    Undefined  a side empty, book invalid
    Source     rule 8
    Twin       `kernels/price.rs`, exact
    """

    __slots__ = ()

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """The sum now."""
        return Cell.of_int(book.bids.price(1) + book.asks.price(1))


class Spread(OfTheBook):
    """a_1 - b_1, above 0; 0 where a locked book is valid.

    State      none
    Warm-up    1 book with both sides
    Reset      cold until the next one
    Undefined  a side empty, book invalid
    Source     rule 8
    Twin       `kernels/price.rs`, exact
    """

    __slots__ = ()

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """The difference now."""
        return Cell.of_int(book.asks.price(1) - book.bids.price(1))


class MicropriceX2(OfTheBook):
    """Twice the size-weighted mid at the touch.

        R(2 (a_1 p_1 + b_1 s_1), p_1 + s_1)

    A large bid pulls it towards the ask.

    State      none
    Warm-up    1 book with both sides
    Reset      cold until the next one
    Undefined  a side empty, book invalid
    Source     the word as in Gatheral, Oomen, "Zero-intelligence realized variance estimation",
               Finance and Stochastics 14, 2010; not Stoikov's estimator of 2018
    Twin       `kernels/price.rs`, exact
    """

    __slots__ = ()

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """The weighted mid now."""
        b, p = book.bids.price(1), book.bids.qty(1)
        a, s = book.asks.price(1), book.asks.qty(1)
        return Cell.of_int(half_even_div(2 * (a * p + b * s), p + s))


class VwapX2(OfTheBook):
    """Twice the mean price of the best n levels of both sides, weighted by their sizes.

        R(2 sum (b_i p_i + a_i s_i), sum (p_i + s_i))

    over the levels 1..n that exist.

    State      none
    Warm-up    1 book with both sides
    Reset      cold until the next one
    Undefined  a side empty, book invalid; short if a side has fewer than n levels
    Source     rule 8
    Twin       `kernels/price.rs`, exact
    """

    __slots__ = ("levels",)

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """The weighted price now."""
        value = size = 0
        for side in (book.bids, book.asks):
            for i in range(1, min(self.levels, len(side)) + 1):
                value += side.price(i) * side.qty(i)
                size += side.qty(i)
        return short(Cell.of_int(half_even_div(2 * value, size)), self.levels, book.bids, book.asks)


class BookSlope(OfTheBook):
    """Size per unit of price between the mid and level n, the mean of the two sides.

        F(P) / F(m - 2 b_n) + F(S) / F(2 a_n - m)

    P and S the depths of n levels, m = b_1 + a_1. The halves of price and mean cancel.

    State      none
    Warm-up    1 book with both sides
    Reset      cold until the next one
    Undefined  level n absent on a side, book invalid; a distance of 0 (n = 1 in a locked book)
    Source     rule 8
    Twin       `kernels/price.rs`, exact
    """

    __slots__ = ("levels",)

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """The slope now."""
        n, bids, asks = self.levels, book.bids, book.asks
        if len(bids) < n or len(asks) < n:
            return LACKING
        m = bids.price(1) + asks.price(1)
        below = ratio(bids.depth(n), m - 2 * bids.price(n))
        above = ratio(asks.depth(n), 2 * asks.price(n) - m)
        return NO_VALUE if below is None or above is None else Cell.of_float(below + above)
