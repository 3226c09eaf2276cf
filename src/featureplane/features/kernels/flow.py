"""What changed between two books: order flow, and how long the touch has stood.

Each compares a book with the last one that had what it needs. Leans on `cell`, `interface`,
`state`, `units`. Twin: `kernels/flow.rs`.
"""

from __future__ import annotations

from typing import NamedTuple

from featureplane.features.kernels.cell import NOT_WARM, Cell
from featureplane.features.kernels.interface import BookView
from featureplane.features.kernels.sides import short
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.units import NANOS_PER_MS

__all__ = ["DeepFlow", "Ofi", "OfiMulti", "TobSurvivalMs"]


class _Pair(NamedTuple):
    """One level of both sides."""

    bid: int
    bid_qty: int
    ask: int
    ask_qty: int


def _pair(book: BookView, i: int) -> _Pair:
    return _Pair(book.bids.price(i), book.bids.qty(i), book.asks.price(i), book.asks.qty(i))


def _imbalance(before: _Pair, now: _Pair) -> int:
    bid_added = now.bid_qty if now.bid >= before.bid else 0
    bid_taken = before.bid_qty if now.bid <= before.bid else 0
    ask_added = now.ask_qty if now.ask <= before.ask else 0
    ask_taken = before.ask_qty if now.ask >= before.ask else 0
    return (bid_added - bid_taken) - (ask_added - ask_taken)


class OfiMulti:
    """Order-flow imbalance of the levels 1..n, added up.

        ofi(1) + .. + ofi(n)

    Unit: qty, signed, exact. Compares with the last book that had all n levels.

    State      0, or 1 and price, size of bid and ask of each level (i64), best first
    Warm-up    2 books; the first has nothing to be compared with
    Reset      forgets the book before
    Undefined  before warm-up; one of the levels absent, book invalid; overflow
    Source     Cont, Cucuringu, Zhang, "Cross-Impact of Order Flow Imbalance in Equity Markets",
               Quantitative Finance 23(10), 2023; the plain sum, not their first component
    Twin       `kernels/flow.rs`, exact
    """

    __slots__ = ("_before", "levels")

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self.reset()

    def reset(self) -> None:
        """Forget the book before."""
        self._before: list[_Pair] = []

    def _compared(self) -> range:
        return range(1, self.levels + 1)

    def sees(self, book: BookView) -> bool:
        """Whether every level is there on both sides."""
        return min(len(book.bids), len(book.asks)) >= self.levels

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """The flow since the book before."""
        before, self._before = self._before, [_pair(book, i) for i in self._compared()]
        if not before:
            return NOT_WARM
        total = 0
        for was, now in zip(before, self._before, strict=True):
            total += _imbalance(was, now)
        return Cell.of_int(total)

    def save(self, out: StateWriter) -> None:
        """Write the book before."""
        out.flag(bool(self._before))
        for pair in self._before:
            for word in pair:
                out.i64(word)

    def load(self, state: StateReader) -> None:
        """Take the book before."""
        self.reset()
        if state.flag():
            self._before = [_Pair(*(state.i64() for _ in range(4))) for _ in self._compared()]


class Ofi(OfiMulti):
    """Order-flow imbalance at level k.

    Each side contributes what was added minus what was taken away:

        e =   p' [b' >= b]  -  p [b' <= b]  -  s' [a' <= a]  +  s [a' >= a]

    b, p the bid's price and size, a, s the ask's, primed now and unprimed before. Positive is net
    buying interest. Unit: qty, signed, exact.

    State      0, or 1 and price, size of bid and ask (i64)
    Warm-up    2 books; the first has nothing to be compared with
    Reset      forgets the touch before
    Undefined  before warm-up; level k absent, book invalid
    Source     Cont, Kukanov, Stoikov, "The Price Impact of Order Book Events", J. Financial
               Econometrics 12(1), 2014, pp. 47-88
    Twin       `kernels/flow.rs`, exact
    """

    __slots__ = ()

    def __init__(self, level: int) -> None:
        super().__init__(level)

    def _compared(self) -> range:
        return range(self.levels, self.levels + 1)


class DeepFlow:
    """Size added behind a touch whose prices stand: bids' minus asks'.

        (P_2..n - before) - (S_2..n - before)    if b_1 and a_1 are as before
        0                                        else

    P, S the sizes of levels 2..n, absent ones 0. Unit: qty, signed, exact.

    State      0, or 1 and the two prices (i64) and the two sums (i128)
    Warm-up    2 books with both sides
    Reset      forgets the book before
    Undefined  before warm-up; a side empty, book invalid; short if a side has fewer than n levels
    Source     rule 8
    Twin       `kernels/flow.rs`, exact
    """

    __slots__ = ("_before", "levels")

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self.reset()

    def reset(self) -> None:
        """Forget the book before."""
        self._before: tuple[int, int, int, int] | None = None

    def sees(self, book: BookView) -> bool:
        """Whether both sides are there."""
        return len(book.bids) > 0 and len(book.asks) > 0

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """The flow since the book before."""
        n, bids, asks = self.levels, book.bids, book.asks
        bids_behind = bids.depth(n) - bids.qty(1)
        asks_behind = asks.depth(n) - asks.qty(1)
        before, self._before = self._before, (bids.price(1), asks.price(1), bids_behind, asks_behind)
        if before is None:
            return NOT_WARM
        stands = before[:2] == self._before[:2]
        flow = (bids_behind - before[2]) - (asks_behind - before[3]) if stands else 0
        return short(Cell.of_int(flow), n, bids, asks)

    def save(self, out: StateWriter) -> None:
        """Write what is compared."""
        out.flag(self._before is not None)
        if self._before is not None:
            bid, ask, bids_behind, asks_behind = self._before
            out.i64(bid)
            out.i64(ask)
            out.i128(bids_behind)
            out.i128(asks_behind)

    def load(self, state: StateReader) -> None:
        """Take what is compared."""
        self._before = (state.i64(), state.i64(), state.i128(), state.i128()) if state.flag() else None


class TobSurvivalMs:
    """How long the prices of the touch have stood, in whole milliseconds.

        (c - c0) div 10^6

    c0 the clock of the last book whose b_1 or a_1 differs from the book before it.

    State      0, or 1 and the two prices (i64); clock of the last change (optional i64)
    Warm-up    until a change is seen
    Reset      forgets touch and change
    Undefined  before warm-up; a side empty, book invalid
    Source     rule 8
    Twin       `kernels/flow.rs`, exact
    """

    __slots__ = ("_changed_ns", "_touch")

    levels = 1

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget touch and change."""
        self._touch: tuple[int, int] | None = None
        self._changed_ns: int | None = None

    def sees(self, book: BookView) -> bool:
        """Whether both sides are there."""
        return len(book.bids) > 0 and len(book.asks) > 0

    def look(self, book: BookView, clock_ns: int) -> Cell:
        """The age of the touch at this book."""
        now = book.bids.price(1), book.asks.price(1)
        if self._touch is not None and now != self._touch:
            self._changed_ns = clock_ns
        self._touch = now
        return self.read(clock_ns)

    def read(self, clock_ns: int) -> Cell:
        """The age of the touch at a later clock."""
        if self._changed_ns is None:
            return NOT_WARM
        return Cell.of_int((clock_ns - self._changed_ns) // NANOS_PER_MS)

    def save(self, out: StateWriter) -> None:
        """Write touch and change."""
        out.flag(self._touch is not None)
        if self._touch is not None:
            for price in self._touch:
                out.i64(price)
        out.option_i64(self._changed_ns)

    def load(self, state: StateReader) -> None:
        """Take touch and change."""
        self._touch = (state.i64(), state.i64()) if state.flag() else None
        self._changed_ns = state.option_i64()
