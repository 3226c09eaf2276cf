"""Averages that weigh by time or by recency: `mean_over`, `relative_ticks`, `ema`, `ema_time`.

Leans on `quanta` and `units`. Twin: `kernels/averages.rs`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from featureplane.features.kernels.cell import NO_VALUE, NOT_WARM, Cell
from featureplane.features.kernels.quanta import QUANTA, Kind, Quanta
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.units import exp2_neg, half_even_div, in_i64

__all__ = ["Ema", "EmaTime", "MeanOver", "RelativeTicks"]


class MeanOver:
    """Mean of an integer input over the last `window_ns`, weighed by how long each value stood.

        F(I) / F(V)

    I the integral of the input over [e, c] in ns, V the ns in it with the input defined. A value
    counts from the end of the step that brought it to the end of the next; while the input is
    undefined the time does not count. Unit: the input's.

    State      clock at which the watch began (optional i64); 0 before the first step, else 1 and
               the clock of the last step (i64), the value held since (optional i64), a count, then
               for each quantum with V > 0, of the window that ends with the last step: number
               (i64), its part of I (i128), its part of V (u64)
    Warm-up    until the window is covered
    Reset      forgets the window and the value held; the watch begins anew
    Undefined  not covered; V = 0. That the input is undefined now is the engine's to say
    Source     rule 8; the time-weighted average price of execution desks, of any input
    Twin       `kernels/averages.rs`, exact

    >>> mean = MeanOver(window_ns=1_000_000, kind="state")
    >>> mean.settle(Cell.of_int(100), 0)
    >>> mean.settle(Cell.of_int(200), 750_000)
    >>> mean.settle(Cell.undefined(), 1_500_000)
    >>> mean.integral(1_500_000)            # from 501,000 on: 249,000 ns at 100, 750,000 at 200
    (174900000, 999000)
    >>> mean.read(1_999_000).value          # the time since 1,500,000 does not count
    200.0
    """

    __slots__ = ("_held", "_last", "_quanta")

    def __init__(self, window_ns: int, kind: Kind) -> None:
        self._quanta = Quanta(window_ns, kind, ("i128", "u64"))
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._quanta.reset()
        self._last: int | None = None
        self._held: int | None = None

    def begin(self, clock_ns: int) -> None:
        """A step begins."""
        self._quanta.watch.step(clock_ns)

    def settle(self, x: Cell, clock_ns: int) -> None:
        """The step at `clock_ns` ends with the input as given; it is held until the next step."""
        watch = self._quanta.watch
        self._quanta.forget(watch.first(clock_ns))
        start, held = self._held_from(clock_ns)
        while start < clock_ns:
            index = watch.index(start)
            end = min((index + 1) * watch.quantum_ns, clock_ns)
            self._quanta.add(index, held * (end - start), end - start)
            start = end
        self._last = clock_ns
        self._held = None
        if x.value is not None:
            watch.value(clock_ns)
            self._held = int(x.value)

    def _held_from(self, clock_ns: int) -> tuple[int, int]:
        """Since when, inside the window that ends at `clock_ns`, which value is held."""
        if self._last is None or self._held is None:
            return clock_ns, 0
        watch = self._quanta.watch
        return max(self._last, watch.first(clock_ns) * watch.quantum_ns), self._held

    def integral(self, clock_ns: int) -> tuple[int, int]:
        """I and V of the window that ends at `clock_ns`."""
        start, held = self._held_from(clock_ns)
        defined_ns = clock_ns - start
        return (
            self._quanta.total(0, clock_ns) + held * defined_ns,
            self._quanta.total(1, clock_ns) + defined_ns,
        )

    def read(self, clock_ns: int) -> Cell:
        """The mean over the window that ends at `clock_ns`."""
        if not self._quanta.watch.covers(clock_ns):
            return NOT_WARM
        integral, defined_ns = self.integral(clock_ns)
        return Cell.of_float(float(integral) / float(defined_ns)) if defined_ns else NO_VALUE

    def save(self, out: StateWriter) -> None:
        """Write the state."""
        self._quanta.watch.save(out)
        out.flag(self._last is not None)
        if self._last is not None:
            out.i64(self._last)
            out.option_i64(self._held)
            self._quanta.save(out)

    def load(self, state: StateReader) -> None:
        """Take the state back."""
        self.reset()
        self._quanta.watch.load(state)
        if not state.flag():
            return
        last, held = state.i64(), state.option_i64()
        if held is not None and not in_i64(held):
            raise ValueError("state holds a value that is undefined")
        self._quanta.load(state)
        newest = self._quanta.watch.index(last)
        if not all(newest - QUANTA < key <= newest for key in self._quanta.keys):
            raise ValueError(f"state has quanta outside the window that ends at {last}")
        self._last, self._held = last, held


class RelativeTicks:
    """How far a doubled price lies above its own time-weighted mean, in thousandths of a tick.

        R(1000 (x V - I), 2 tick V)

    I and V as of `MeanOver.integral` of a doubled price; `tick` as a scaled price. Does not depend on
    where prices or data start, and survives a float32.

    State      none
    Warm-up    the mean's
    Reset      nothing to forget
    Undefined  no mean; no tick (never warm); a result outside +-(2^63 - 1) (overflow)
    Source     rule 9, `mid_rel` and `microprice_rel`
    Twin       `kernels/averages.rs`, exact

    >>> RelativeTicks(tick=10).value(2_015, 2_000 * 7, 7)     # 7.5 units above, or 0.75 ticks
    Cell(value=750, why=0)
    """

    __slots__ = ("_tick",)

    def __init__(self, tick: int | None) -> None:
        self._tick = tick

    def value(self, x: int, integral: int, defined_ns: int) -> Cell:
        """The distance of `x` from the mean I / V."""
        if self._tick is None:
            return NOT_WARM
        if defined_ns == 0:
            return NO_VALUE
        return Cell.of_int(half_even_div(1000 * (x * defined_ns - integral), 2 * self._tick * defined_ns))


class Ema:
    """Exponential mean over about `n` advances.

        p = F(x_1), then p = p + alpha * (F(x) - p)     alpha = 2.0 / (F(n) + 1.0)

    Unit: the input's, which may be an integer or a float.

    State      number of advances, at most n (u64); p (f64, 0.0 before the first; once it is not
               finite it never is again, and 0x7ff8000000000000 stands for it)
    Warm-up    n advances
    Reset      forgets p; the next input is a first one again
    Undefined  before warm-up; p not finite
    Source     Brown 1959, exponential smoothing; span and alpha as in common use
    Twin       `kernels/averages.rs`, exact

    >>> ema = Ema(n=3)
    >>> for x in (8, 4, 4):
    ...     ema.update(x, 0)
    >>> ema.read(0).value
    5.0
    """

    __slots__ = ("_alpha", "_count", "_n", "_p")

    def __init__(self, n: int) -> None:
        self._n = n
        self._alpha = 2.0 / (float(n) + 1.0)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._count = 0
        self._p = 0.0

    def update(self, x: float, clock_ns: int) -> None:
        """The input advanced."""
        # PARITY: p + alpha * (x - p), not (1 - alpha) * p + alpha * x; the last bit differs.
        self._p = float(x) if self._count == 0 else self._p + self._alpha * (float(x) - self._p)
        self._count = min(self._count + 1, self._n)

    def read(self, clock_ns: int) -> Cell:
        """The mean."""
        return Cell.of_float(self._p) if self._count == self._n else NOT_WARM

    def save(self, out: StateWriter) -> None:
        """Write the state."""
        out.u64(self._count)
        out.f64(_canonical(self._p))

    def load(self, state: StateReader) -> None:
        """Take the state back."""
        self._count, self._p = state.u64(), state.f64()
        if self._count > self._n:
            raise ValueError(f"state has {self._count} advances, expected at most {self._n}")


def _canonical(p: float) -> float:
    return p if math.isfinite(p) else math.nan


class _Decaying(NamedTuple):
    first: int
    last: int
    held: float
    p: float


class EmaTime:
    """Exponential mean by time with a half-life, of the value held between advances.

        p = F(x_1), then d = exp2_neg(c_n - c_(n-1), h), p = F(x_(n-1)) + d * (p - F(x_(n-1)))

    At each advance p moves towards the value that *stood* since the one before, never towards the
    new one, which has stood for no time yet. Unit: the input's, which may be an integer or a float.

    State      0 before the first advance, else 1, c_1 and c_n (i64), F(x_n) and p (f64; not finite:
               as of `Ema`)
    Warm-up    c_n - c_1 >= 3 half-lives
    Reset      forgets everything; the next input is a first one again
    Undefined  before warm-up; p not finite
    Source     rule 8; Eckner 2012, "Algorithms for unevenly spaced time series", EMA_last
    Twin       `kernels/averages.rs`, exact

    >>> ema = EmaTime(half_life_ns=10)
    >>> for x, clock in ((100, 0), (0, 10), (5, 20), (5, 30)):
    ...     ema.update(x, clock)
    >>> ema.read(30).value      # 100 until 10, then 0 for one half-life, then 5 for one
    27.5
    """

    __slots__ = ("_half_life_ns", "_known")

    def __init__(self, half_life_ns: int) -> None:
        self._half_life_ns = half_life_ns
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._known: _Decaying | None = None

    def update(self, x: float, clock_ns: int) -> None:
        """The input advanced."""
        if self._known is None:
            self._known = _Decaying(clock_ns, clock_ns, float(x), float(x))
            return
        first, last, held, p = self._known
        d = exp2_neg(clock_ns - last, self._half_life_ns)
        # PARITY: held + d * (p - held), in this order.
        self._known = _Decaying(first, clock_ns, float(x), held + d * (p - held))

    def read(self, clock_ns: int) -> Cell:
        """The mean as of the last advance."""
        if self._known is None or self._known.last - self._known.first < 3 * self._half_life_ns:
            return NOT_WARM
        return Cell.of_float(self._known.p)

    def save(self, out: StateWriter) -> None:
        """Write the state."""
        out.flag(self._known is not None)
        if self._known is not None:
            out.i64(self._known.first)
            out.i64(self._known.last)
            out.f64(self._known.held)
            out.f64(_canonical(self._known.p))

    def load(self, state: StateReader) -> None:
        """Take the state back."""
        self._known = _Decaying(state.i64(), state.i64(), state.f64(), state.f64()) if state.flag() else None
