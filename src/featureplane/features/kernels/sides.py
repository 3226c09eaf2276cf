"""What the kernels that are functions of the book now have in common.

Leans on `interface`. Twin: `kernels/book.rs`.
"""

from __future__ import annotations

from abc import abstractmethod

from featureplane.features.kernels.cell import LACKING, Cell, Why
from featureplane.features.kernels.interface import BookSide, BookView, SideName
from featureplane.features.kernels.state import StateReader, StateWriter

__all__ = ["OfOneLevel", "OfOneSide", "OfTheBook", "short", "side_of"]


def side_of(book: BookView, side: SideName) -> BookSide:
    """The bids or the asks."""
    return book.bids if side == "bid" else book.asks


def short(cell: Cell, levels: int, *sides: BookSide) -> Cell:
    """The cell, marked `SHORT` if one of `sides` has fewer levels than asked."""
    missing = any(len(side) < levels for side in sides)
    return Cell(cell.value, cell.why | Why.SHORT.value) if missing else cell


class OfTheBook:
    """A function of both sides: advances at every valid book that has both."""

    __slots__ = ()

    levels: int = 1

    def sees(self, book: BookView) -> bool:
        """Whether both sides are there."""
        return len(book.bids) > 0 and len(book.asks) > 0

    def reset(self) -> None:
        """Nothing to forget."""

    def save(self, out: StateWriter) -> None:
        """Nothing to save."""

    def load(self, state: StateReader) -> None:
        """Nothing to load."""


class OfOneSide(OfTheBook):
    """A function of one side: advances at every valid book that has it."""

    __slots__ = ("_side",)

    def __init__(self, side: SideName) -> None:
        self._side = side

    def sees(self, book: BookView) -> bool:
        """Whether the side is there."""
        return len(side_of(book, self._side)) > 0


class OfOneLevel(OfOneSide):
    """A number of level i of a side, level 1 the best; lacking where the side is shorter."""

    __slots__ = ("levels",)

    def __init__(self, side: SideName, level: int) -> None:
        super().__init__(side)
        self.levels = level

    @abstractmethod
    def of(self, side: BookSide) -> int:
        """The number, of a side that has the level."""

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """The number now."""
        side = side_of(book, self._side)
        return Cell.of_int(self.of(side)) if len(side) >= self.levels else LACKING
