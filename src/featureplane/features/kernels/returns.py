"""Returns of the mid over windows of time: `return_bps`, `realized_vol`.

Both count in 10^-9 of the price, which is 10^-5 bps (rule 8, scale 10^5). Leans on `quanta`.
Twin: `kernels/returns.rs`.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from featureplane.features.kernels.cell import NO_VALUE, NOT_WARM, OVERFLOWN, Cell
from featureplane.features.kernels.quanta import QUANTA, Coverage, Quanta, check_span
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.features.kernels.window import SQUARE_LIMIT
from featureplane.units import half_even_div

__all__ = ["RealizedVol", "ReturnBps"]


def _scaled_return(now: int, before: int) -> int:
    """R(10^9 (now - before), before), for before > 0."""
    return half_even_div(1_000_000_000 * (now - before), before)


class ReturnBps:
    """How far the mid has moved since `window_ns` ago.

        R(10^9 (m - m0), m0)

    m the mid now, m0 the last one with clock < e, however long before. Unit: bps, scale 10^5.

    State      a count, then number (i64) and last mid (i64) of each quantum in which the mid
               advanced, of the window that ends with the newest one, and of one quantum before
               it if there was one
    Warm-up    until there is such an m0
    Reset      forgets all mids
    Undefined  no m0; m0 <= 0; a return outside +-(2^63 - 1) (overflow)
    Source     rule 8
    Twin       `kernels/returns.rs`, exact

    >>> change = ReturnBps(window_ns=1_000_000)
    >>> change.update(2_000, 0)
    >>> change.update(2_001, 1_000_000)
    >>> change.read(998_999).value is None
    True
    >>> change.read(1_000_000).value       # 5 bps
    500000
    """

    __slots__ = ("_keys", "_mids", "_watch")

    def __init__(self, window_ns: int) -> None:
        self._watch = Coverage(window_ns, "state")
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._keys: list[int] = []
        self._mids: list[int] = []

    def update(self, mid_x2: int, clock_ns: int) -> None:
        """The mid advanced."""
        index = self._watch.index(clock_ns)
        if self._keys and self._keys[-1] == index:
            self._mids[-1] = mid_x2
            return
        # One more than the window that ends with this advance holds: its m0.
        old = max(0, bisect_left(self._keys, index - (QUANTA - 1)) - 1)
        del self._keys[:old], self._mids[:old]
        self._keys.append(index)
        self._mids.append(mid_x2)

    def read(self, clock_ns: int) -> Cell:
        """The return at `clock_ns`."""
        before = bisect_left(self._keys, self._watch.first(clock_ns))
        if before == 0:
            return NOT_WARM
        m, m0 = self._mids[-1], self._mids[before - 1]
        return Cell.of_int(_scaled_return(m, m0)) if m0 > 0 else NO_VALUE

    def save(self, out: StateWriter) -> None:
        """Write the state."""
        out.u64(len(self._keys))
        for key, mid in zip(self._keys, self._mids, strict=True):
            out.i64(key)
            out.i64(mid)

    def load(self, state: StateReader) -> None:
        """Take the state back."""
        self.reset()
        for _ in range(state.count()):
            self._keys.append(state.i64())
            self._mids.append(state.i64())
        check_span(self._keys, before=1)


class RealizedVol:
    """How much the mid has moved to and fro during the last `window_ns`.

        isqrt(sum of r^2)    r = R(10^9 (m_n - m_(n-1)), m_(n-1))

    over the advances with clock >= e; m_(n-1) may lie before e. Unit: bps, scale 10^5, not
    annualised. A covered window without advances has 0.

    State      the newest mid (optional i64); clock of the first one (optional i64); a count, then
               for each quantum that held a return, of the window that ends with the newest one:
               number (i64), sum of the squares of those below 2^47 in magnitude (i128), count of
               the others (i64)
    Warm-up    until the window is covered
    Reset      forgets the window and the newest mid
    Undefined  not covered; a return of magnitude 2^47 or more inside (overflow). After a mid <= 0
               the next advance has no return and counts for nothing
    Source     rule 8; realised variance of Andersen, Bollerslev 1998, from event to event
    Twin       `kernels/returns.rs`, exact

    >>> wobble = RealizedVol(window_ns=1_000_000)
    >>> for mid_x2, clock in ((1_000, 0), (1_003, 500_000), (1_003, 600_000)):
    ...     wobble.update(mid_x2, clock)
    >>> wobble.read(1_000_000).value      # 30 bps
    3000000
    >>> wobble.read(2_000_000).value
    0
    """

    __slots__ = ("_before", "_quanta")

    def __init__(self, window_ns: int) -> None:
        self._quanta = Quanta(window_ns, "state", ("i128", "i64"))
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._quanta.reset()
        self._before: int | None = None

    def update(self, mid_x2: int, clock_ns: int) -> None:
        """The mid advanced."""
        self._quanta.watch.value(clock_ns)
        before, self._before = self._before, mid_x2
        if before is None or before <= 0:
            return
        r = _scaled_return(mid_x2, before)
        items = (r * r, 0) if abs(r) < SQUARE_LIMIT else (0, 1)
        self._quanta.add(self._quanta.watch.index(clock_ns), *items)

    def read(self, clock_ns: int) -> Cell:
        """The volatility of the window that ends at `clock_ns`."""
        if not self._quanta.watch.covers(clock_ns):
            return NOT_WARM
        if self._quanta.total(1, clock_ns):
            return OVERFLOWN
        return Cell.of_int(math.isqrt(self._quanta.total(0, clock_ns)))

    def save(self, out: StateWriter) -> None:
        """Write the state."""
        out.option_i64(self._before)
        self._quanta.watch.save(out)
        self._quanta.save(out)

    def load(self, state: StateReader) -> None:
        """Take the state back."""
        self._before = state.option_i64()
        self._quanta.watch.load(state)
        self._quanta.load(state)
