"""Kernels over the last n advances, or all of them: `mean`, `std`, `zscore`, `cumsum`.

Each keeps its inputs and adds them up at every reading. Leans on `units`. Twin: `kernels/rolling.rs`.
"""

from __future__ import annotations

import math
from collections import deque

from featureplane.features.kernels.cell import NO_VALUE, NOT_WARM, OVERFLOWN, Cell
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.features.kernels.window import SQUARE_LIMIT
from featureplane.units import in_i64

__all__ = ["CumSum", "Mean", "Std", "ZScore"]


class _LastInputs:
    """The last n inputs, integers. State: a count, then the inputs (i64), oldest first."""

    __slots__ = ("_inputs", "_n")

    def __init__(self, n: int) -> None:
        if n < 1:
            raise ValueError(f"a window of {n} advances, expected at least 1")
        self._n = n
        self._inputs: deque[int] = deque(maxlen=n)

    def reset(self) -> None:
        """Forget everything."""
        self._inputs.clear()

    def update(self, x: int, clock_ns: int) -> None:
        """The input advanced."""
        self._inputs.append(x)

    def save(self, out: StateWriter) -> None:
        """Write the state."""
        out.sequence_i64(self._inputs)

    def load(self, state: StateReader) -> None:
        """Take the state back."""
        inputs = state.sequence_i64()
        if len(inputs) > self._n or not all(in_i64(x) for x in inputs):
            raise ValueError(f"state has {len(inputs)} inputs, expected at most {self._n}, all defined")
        self._inputs = deque(inputs, maxlen=self._n)

    def _cold(self) -> bool:
        return len(self._inputs) < self._n

    def _overflown(self) -> bool:
        """Whether an input is too large to be squared."""
        return any(abs(x) >= SQUARE_LIMIT for x in self._inputs)

    def _sum(self) -> int:
        s1 = 0
        for x in self._inputs:
            s1 += x
        return s1

    def _scatter(self) -> float:
        """F(n S2 - S1^2)."""
        s1 = s2 = 0
        for x in self._inputs:
            s1 += x
            s2 += x * x
        return float(self._n * s2 - s1 * s1)


class Mean(_LastInputs):
    """Mean of the last `n` inputs.

        F(S1) / F(n)

    Unit: the input's.

    State      the last n inputs: a count, then words (i64), oldest first
    Warm-up    n advances
    Reset      forgets the inputs
    Undefined  before warm-up
    Source     rule 8
    Twin       `kernels/rolling.rs`, exact

    >>> mean = Mean(n=2)
    >>> for x in (100, 3, 4):
    ...     mean.update(x, 0)
    >>> mean.read(0).value
    3.5
    """

    __slots__ = ()

    def read(self, clock_ns: int) -> Cell:
        """The mean."""
        return NOT_WARM if self._cold() else Cell.of_float(float(self._sum()) / float(self._n))


class Std(_LastInputs):
    """Standard deviation of the last `n` inputs, n <= 65,536.

        sqrt(F(n S2 - S1^2)) / F(n)

    Unit: the input's. The difference under the root is exact.

    State      the last n inputs: a count, then words (i64), oldest first
    Warm-up    n advances
    Reset      forgets the inputs
    Undefined  before warm-up; an input of magnitude 2^47 or more among the n (overflow)
    Source     rule 8; the population's deviation, not the sample's
    Twin       `kernels/rolling.rs`, exact

    >>> std = Std(n=2)
    >>> for x in (100, 3, 4):
    ...     std.update(x, 0)
    >>> std.read(0).value
    0.5
    """

    __slots__ = ()

    def read(self, clock_ns: int) -> Cell:
        """The deviation."""
        if self._cold():
            return NOT_WARM
        if self._overflown():
            return OVERFLOWN
        return Cell.of_float(math.sqrt(self._scatter()) / float(self._n))


class ZScore(_LastInputs):
    """By how many standard deviations the newest of the last `n` inputs lies above their mean.

        F(n x - S1) / sqrt(F(n S2 - S1^2))        n <= 65,536, x among the n

    Unit: none.

    State      the last n inputs: a count, then words (i64), oldest first
    Warm-up    n advances
    Reset      forgets the inputs
    Undefined  before warm-up; all inputs equal; an input of magnitude 2^47 or more among the n
               (overflow)
    Source     rule 8
    Twin       `kernels/rolling.rs`, exact

    >>> score = ZScore(n=2)
    >>> for x in (100, 3, 4):
    ...     score.update(x, 0)
    >>> score.read(0).value
    1.0
    """

    __slots__ = ()

    def read(self, clock_ns: int) -> Cell:
        """The score of the newest input."""
        if self._cold():
            return NOT_WARM
        if self._overflown():
            return OVERFLOWN
        scatter = self._scatter()
        if scatter == 0.0:
            return NO_VALUE
        return Cell.of_float(float(self._n * self._inputs[-1] - self._sum()) / math.sqrt(scatter))


class CumSum:
    """Sum of all inputs since the reset.

    Unit: the input's. Exact, signed.

    State      0 before the first advance, 1, or 2 once the sum has left its range (u64); the sum
               (i64), 0 in the first and the last case
    Warm-up    1 advance
    Reset      to the empty sum
    Undefined  before warm-up; from the advance on that took the sum outside +-(2^63 - 1), until
               reset (overflow)
    Source     rules 1.2 and 8
    Twin       `kernels/rolling.rs`, exact

    >>> total = CumSum()
    >>> for x in (5, -7):
    ...     total.update(x, 0)
    >>> total.read(0).value
    -2
    """

    __slots__ = ("_lost", "_sum")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._sum: int | None = None
        self._lost = False

    def update(self, x: int, clock_ns: int) -> None:
        """The input advanced."""
        if not self._lost:
            self._sum = (self._sum or 0) + x
            self._lost = not in_i64(self._sum)

    def read(self, clock_ns: int) -> Cell:
        """The sum."""
        if self._lost:
            return OVERFLOWN
        return NOT_WARM if self._sum is None else Cell.of_int(self._sum)

    def save(self, out: StateWriter) -> None:
        """Write the state."""
        out.u64(2 if self._lost else 0 if self._sum is None else 1)
        out.i64(0 if self._lost or self._sum is None else self._sum)

    def load(self, state: StateReader) -> None:
        """Take the state back."""
        phase, total = state.u64(), state.i64()
        if phase > 2 or (phase != 1 and total):
            raise ValueError(f"state has phase {phase} with {total}, expected a saved sum")
        self._lost = phase == 2
        self._sum = total if phase == 1 else None
