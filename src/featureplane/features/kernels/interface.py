"""What the engine asks of a kernel, and what a kernel may ask of the book.

A kernel class takes the parameters of its plan node by name, and from the instrument only what
`binding.py` hands it by name too. It sees integers, floats and clocks, never events or frames.

Leans on `cell` and `state`.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

from featureplane.features.kernels.cell import Cell
from featureplane.features.kernels.state import StateReader, StateWriter

__all__ = [
    "Begins",
    "BookKernel",
    "BookSide",
    "BookView",
    "Settles",
    "SideName",
    "StatefulKernel",
    "StatelessKernel",
]

SideName = Literal["bid", "ask"]


class StatefulKernel(Protocol):
    """A kernel with a memory.

    `read` knows nothing of the inputs' being defined now; the engine adds that (rule 7.2). It must
    be right for any clock at or after the last `update`, `settle` or `begin`, and change nothing.
    """

    def reset(self) -> None:
        """Return to the initial conditions of rule 8."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take one advance: `update(x, .., clock_ns)`, one value an input, all of them defined.

        Kernels of trades get a `TradeTick` instead and say whether they advanced.
        """

    def read(self, clock_ns: int) -> Cell:
        """The value at this clock; `UNDEFINED | COLD` while not warm."""

    def save(self, out: StateWriter) -> None:
        """Write the state, canonically."""

    def load(self, state: StateReader) -> None:
        """Take the state written by `save`, of a kernel with the same parameters."""


@runtime_checkable
class Begins(Protocol):
    """A stateful kernel that measures from the first step after its reset (windows, intensity)."""

    def begin(self, clock_ns: int) -> None:
        """Told at each step, before its ticks; the first one after a reset is the one that counts."""


@runtime_checkable
class Settles(Protocol):
    """A stateful kernel that integrates its input over time (rule 5.4, `mean_over`)."""

    def settle(self, x: Cell, clock_ns: int) -> None:
        """Told once at the end of each step what the input is, defined or not, before it is read."""


class StatelessKernel(Protocol):
    """A function of its inputs, all of them defined."""

    def value(self, *args: Any) -> Cell:
        """The cell for these input values."""


class BookSide(Protocol):
    """One side of a price-level book, best level first, i from 1."""

    def __len__(self) -> int: ...

    def price(self, i: int) -> int:
        """Price of level i; i <= len."""

    def qty(self, i: int) -> int:
        """Size of level i; i <= len."""

    def depth(self, n: int) -> int:
        """Sum of the sizes of levels 1..n that exist."""


class BookView(Protocol):
    """A valid book as kernels see it."""

    @property
    def bids(self) -> BookSide:
        """Highest price first."""

    @property
    def asks(self) -> BookSide:
        """Lowest price first."""


class BookKernel(Protocol):
    """A kernel of the book, told of every valid book that has what it needs (mark B).

    What `look` gives stands until the next book. Coldness of those that compare books is in the
    cell: `look` gives `NOT_WARM` as long as there is nothing to compare with.
    """

    @property
    def levels(self) -> int:
        """The deepest level it looks at; a feed with fewer (rule 7.3) never has it."""

    def sees(self, book: BookView) -> bool:
        """Whether the kernel advances at this book: its side or sides, or the levels it compares."""

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """Advance at a book that it `sees`."""

    def reset(self) -> None:
        """Return to the initial conditions of rule 8."""

    def save(self, out: StateWriter) -> None:
        """Write the state, canonically; nothing for a function of the book now."""

    def load(self, state: StateReader) -> None:
        """Take the state written by `save`."""
