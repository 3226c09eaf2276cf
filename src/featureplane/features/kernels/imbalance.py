"""Sizes at the levels of a book, and which side has more of them.

Functions of the book now, as in `price`. Leans on `cell`, `sides`, `units`. Twin:
`kernels/imbalance.rs`.
"""

from __future__ import annotations

from featureplane.features.kernels.cell import Cell
from featureplane.features.kernels.interface import BookSide, BookView, SideName
from featureplane.features.kernels.sides import OfOneLevel, OfOneSide, OfTheBook, short, side_of
from featureplane.units import half_even_div

__all__ = ["Depth", "ImbalancePpm", "Qty"]


class Qty(OfOneLevel):
    """Size of level i of a side, level 1 the best.

    State      none
    Warm-up    1 book with the side
    Reset      cold until the next one
    Undefined  side or level absent, book invalid
    Source     rule 8
    Twin       `kernels/imbalance.rs`, exact
    """

    __slots__ = ()

    def of(self, side: BookSide) -> int:
        """The size now."""
        return side.qty(self.levels)


class Depth(OfOneSide):
    """Sum of the sizes of the levels 1..n of a side that exist.

    State      none
    Warm-up    1 book with the side
    Reset      cold until the next one
    Undefined  side empty, book invalid; short if the side has fewer than n levels
    Source     rule 8
    Twin       `kernels/imbalance.rs`, exact
    """

    __slots__ = ("levels",)

    def __init__(self, side: SideName, levels: int) -> None:
        super().__init__(side)
        self.levels = levels

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """The sum now."""
        side = side_of(book, self._side)
        return short(Cell.of_int(side.depth(self.levels)), self.levels, side)


class ImbalancePpm(OfTheBook):
    """Which side has more size on its best n levels, from -1,000,000 (asks) to 1,000,000 (bids).

        R((P - S) 10^6, P + S)

    P and S the depths of n levels of bids and asks. Unit: ppm.

    State      none
    Warm-up    1 book with both sides
    Reset      cold until the next one
    Undefined  a side empty, book invalid; short if a side has fewer than n levels
    Source     rule 8
    Twin       `kernels/imbalance.rs`, exact
    """

    __slots__ = ("levels",)

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """The imbalance now."""
        p, s = book.bids.depth(self.levels), book.asks.depth(self.levels)
        cell = Cell.of_int(half_even_div((p - s) * 1_000_000, p + s))
        return short(cell, self.levels, book.bids, book.asks)
