"""Sums over windows of time: `sum_over`, `std_over`, `trade_imbalance`.

Leans on `quanta`, where a window is defined. Twin: `kernels/window.rs`.
"""

from __future__ import annotations

import math
from typing import Final

from featureplane.features.kernels.cell import NO_VALUE, NOT_WARM, OVERFLOWN, Cell
from featureplane.features.kernels.quanta import Kind, Quanta
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.units import half_even_div

__all__ = ["SQUARE_LIMIT", "StdOver", "SumOver", "TradeImbalance"]

SQUARE_LIMIT: Final = 1 << 47
"""Inputs of this magnitude leave a kernel with a second moment undefined (rule 8)."""


class SumOver:
    """Sum of the inputs of the last `window_ns`.

        sum of x over the advances with clock >= e

    Unit: the input's. Exact, signed; an empty window sums to 0. At most 24 hours, a multiple of 1 ms.

    State      clock at which the watch began (optional i64); a count, then for each quantum that
               held an advance, of the window that ends with the newest advance: number (i64), sum
               (i128)
    Warm-up    until the window is covered
    Reset      forgets the window; the watch begins anew
    Undefined  not covered; a sum outside +-(2^63 - 1), until enough of it has left the window
    Source     rule 8; no paper needed
    Twin       `kernels/window.rs`, exact

    >>> flow = SumOver(window_ns=1_000_000, kind="flow")
    >>> flow.begin(0)
    >>> flow.update(5, 400_000)
    >>> flow.update(-2, 900_000)
    >>> flow.read(900_000).value is None
    True
    >>> flow.read(1_300_000).value, flow.read(1_400_000).value, flow.read(9_000_000).value
    (3, -2, 0)
    """

    __slots__ = ("_quanta",)

    def __init__(self, window_ns: int, kind: Kind) -> None:
        self._quanta = Quanta(window_ns, kind, ("i128",))

    def reset(self) -> None:
        """Forget everything."""
        self._quanta.reset()

    def begin(self, clock_ns: int) -> None:
        """A step begins."""
        self._quanta.watch.step(clock_ns)

    def update(self, x: int, clock_ns: int) -> None:
        """The input advanced."""
        self._quanta.watch.value(clock_ns)
        self._quanta.add(self._quanta.watch.index(clock_ns), x)

    def read(self, clock_ns: int) -> Cell:
        """The sum of the window that ends at `clock_ns`."""
        if not self._quanta.watch.covers(clock_ns):
            return NOT_WARM
        return Cell.of_int(self._quanta.total(0, clock_ns))

    def save(self, out: StateWriter) -> None:
        """Write the state."""
        self._quanta.watch.save(out)
        self._quanta.save(out)

    def load(self, state: StateReader) -> None:
        """Take the state back."""
        self._quanta.watch.load(state)
        self._quanta.load(state)


class StdOver:
    """Standard deviation of the inputs of the last `window_ns`, each advance counted once.

        sqrt(F(N S2 - S1^2)) / F(N)

    over the N advances with clock >= e, S1 their sum, S2 the sum of their squares. Unit: the
    input's. The difference under the root is exact, however many advances there are.

    State      clock at which the watch began (optional i64); a count, then for each quantum that
               held an advance, of the window that ends with the newest one: number (i64), and of
               the inputs below 2^47 in magnitude count (i64), sum (i128), sum of squares (i128),
               then the count of the others (i64)
    Warm-up    until the window is covered
    Reset      forgets the window; the watch begins anew
    Undefined  not covered; less than two advances inside; an input of magnitude 2^47 or more inside
               (overflow)
    Source     rule 8; the population's deviation, not the sample's
    Twin       `kernels/window.rs`, exact

    >>> wobble = StdOver(window_ns=1_000_000, kind="flow")
    >>> wobble.begin(0)
    >>> for x, clock in ((7, 500_000), (1, 1_200_000), (5, 1_300_000)):
    ...     wobble.update(x, clock)
    >>> wobble.read(1_600_000).value
    2.0
    """

    __slots__ = ("_quanta",)

    def __init__(self, window_ns: int, kind: Kind) -> None:
        self._quanta = Quanta(window_ns, kind, ("i64", "i128", "i128", "i64"))

    def reset(self) -> None:
        """Forget everything."""
        self._quanta.reset()

    def begin(self, clock_ns: int) -> None:
        """A step begins."""
        self._quanta.watch.step(clock_ns)

    def update(self, x: int, clock_ns: int) -> None:
        """The input advanced."""
        self._quanta.watch.value(clock_ns)
        items = (1, x, x * x, 0) if abs(x) < SQUARE_LIMIT else (0, 0, 0, 1)
        self._quanta.add(self._quanta.watch.index(clock_ns), *items)

    def read(self, clock_ns: int) -> Cell:
        """The deviation in the window that ends at `clock_ns`."""
        if not self._quanta.watch.covers(clock_ns):
            return NOT_WARM
        n, s1, s2, beyond = (self._quanta.total(column, clock_ns) for column in range(4))
        if beyond:
            return OVERFLOWN
        if n < 2:
            return NO_VALUE
        return Cell.of_float(math.sqrt(float(n * s2 - s1 * s1)) / float(n))

    def save(self, out: StateWriter) -> None:
        """Write the state."""
        self._quanta.watch.save(out)
        self._quanta.save(out)

    def load(self, state: StateReader) -> None:
        """Take the state back."""
        self._quanta.watch.load(state)
        self._quanta.load(state)


class TradeImbalance:
    """Which side traded more during the last `window_ns`, as a share of all that was traded.

        R(10^6 sum of signed, sum of q)

    over the signed trades with clock >= e; the input is `signed_qty`, q its magnitude. Unit: ppm, from
    -1,000,000 (all sells) to 1,000,000 (all buys).

    State      clock at which the watch began (optional i64); a count, then for each quantum that
               held a signed trade, of the window that ends with the newest one: number (i64), sum
               of signed sizes (i128), sum of sizes (i128)
    Warm-up    until the window is covered
    Reset      forgets the window; the watch begins anew
    Undefined  not covered; no signed trade inside
    Source     rule 8; the volume imbalance of VPIN (Easley, Lopez de Prado, O'Hara 2012) over time
    Twin       `kernels/window.rs`, exact

    >>> pressure = TradeImbalance(window_ns=1_000_000)
    >>> pressure.begin(0)
    >>> pressure.update(3, 500_000)
    >>> pressure.update(-1, 600_000)
    >>> pressure.read(1_100_000).value
    500000
    """

    __slots__ = ("_quanta",)

    def __init__(self, window_ns: int) -> None:
        self._quanta = Quanta(window_ns, "flow", ("i128", "i128"))

    def reset(self) -> None:
        """Forget everything."""
        self._quanta.reset()

    def begin(self, clock_ns: int) -> None:
        """A step begins."""
        self._quanta.watch.step(clock_ns)

    def update(self, signed_qty: int, clock_ns: int) -> None:
        """A signed trade."""
        self._quanta.add(self._quanta.watch.index(clock_ns), signed_qty, abs(signed_qty))

    def read(self, clock_ns: int) -> Cell:
        """The imbalance in the window that ends at `clock_ns`."""
        if not self._quanta.watch.covers(clock_ns):
            return NOT_WARM
        signed, size = self._quanta.total(0, clock_ns), self._quanta.total(1, clock_ns)
        return Cell.of_int(half_even_div(1_000_000 * signed, size)) if size else NO_VALUE

    def save(self, out: StateWriter) -> None:
        """Write the state."""
        self._quanta.watch.save(out)
        self._quanta.save(out)

    def load(self, state: StateReader) -> None:
        """Take the state back."""
        self._quanta.watch.load(state)
        self._quanta.load(state)
