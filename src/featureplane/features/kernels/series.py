"""Kernels over the last advances of one input, counted and not timed.

Each keeps the values it needs and looks through all of them when read. Leans on `cell`, `state`
and `units`. Twin: `kernels/series.rs`.
"""

from __future__ import annotations

import math
from typing import Final

from featureplane.features.kernels.cell import NOT_WARM, OVERFLOWN, Cell
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.units import in_i64

__all__ = ["Autocov", "Diff", "Lag", "Max", "Min"]

_MOMENT_LIMIT: Final = 1 << 47
"""Second moments take values below this magnitude (rule 8)."""


class _LastValues:
    """The last `most` values of an input of type `dtype`.

    State: count, then the values as words of their type, oldest first.
    """

    __slots__ = ("_dtype", "_most", "_values")

    def __init__(self, most: int, dtype: str) -> None:
        if dtype not in {"i64", "f64"}:
            raise ValueError(f"input of type {dtype}, expected i64 or f64")
        self._most = most
        self._dtype = dtype
        self.reset()

    def reset(self) -> None:
        self._values: list[float] = []

    def update(self, x: float, clock_ns: int = 0) -> None:
        self._values.append(x)
        del self._values[: -self._most]

    @property
    def _is_full(self) -> bool:
        return len(self._values) == self._most

    def save(self, out: StateWriter) -> None:
        out.u64(len(self._values))
        for x in self._values:
            if isinstance(x, int):
                out.i64(x)
            else:
                out.f64(x)

    def load(self, state: StateReader) -> None:
        values = [state.f64() if self._dtype == "f64" else state.i64() for _ in range(state.count())]
        if len(values) > self._most:
            raise ValueError(f"{len(values)} saved values, expected at most {self._most}")
        if not all(in_i64(x) if isinstance(x, int) else math.isfinite(x) for x in values):
            raise ValueError("a saved value is undefined")
        self._values = values


def _cell(x: float) -> Cell:
    return Cell.of_int(x) if isinstance(x, int) else Cell.of_float(x)


class Lag(_LastValues):
    """x_(N-n): the value n advances ago; type and unit of `x`.

    State      the last n + 1 values: count, words of their type, oldest first
    Warm-up    n + 1
    Reset      forgets the values
    Undefined  before warm-up
    Source     rule 8
    Twin       `kernels/series.rs`, exact

    >>> lag = Lag(n=1)
    >>> for x in (5, 7):
    ...     lag.update(x)
    >>> lag.read(0).value
    5
    """

    __slots__ = ()

    def __init__(self, n: int, dtype: str = "i64") -> None:
        if n < 1:
            raise ValueError(f"lag: {n} advances, expected 1 or more")
        super().__init__(n + 1, dtype)

    def read(self, clock_ns: int) -> Cell:
        return _cell(self._values[0]) if self._is_full else NOT_WARM


class Diff(_LastValues):
    """x_N - x_(N-1): the change at the last advance. A flow; type and unit of `x`.

    State      the last 2 values: count, words of their type, oldest first
    Warm-up    2
    Reset      forgets the values
    Undefined  before warm-up; an integer result outside +-(2^63 - 1) (`OVERFLOW`); a float result
               that is not finite
    Source     rule 8
    Twin       `kernels/series.rs`, exact

    >>> change = Diff()
    >>> for x in (5, 3):
    ...     change.update(x)
    >>> change.read(0).value
    -2
    """

    __slots__ = ()

    def __init__(self, dtype: str = "i64") -> None:
        super().__init__(2, dtype)

    def read(self, clock_ns: int) -> Cell:
        return _cell(self._values[1] - self._values[0]) if self._is_full else NOT_WARM


class Min(_LastValues):
    """The least of the last n values; type and unit of `x`.

    State      the last n values: count, words of their type, oldest first
    Warm-up    n
    Reset      forgets the values
    Undefined  before warm-up
    Source     rule 8
    Twin       `kernels/series.rs`, exact; a monotonic queue, where this looks at all n

    >>> least = Min(n=2)
    >>> for x in (5, 3, 4):
    ...     least.update(x)
    >>> least.read(0).value
    3
    """

    __slots__ = ()

    def __init__(self, n: int, dtype: str = "i64") -> None:
        if n < 1:
            raise ValueError(f"min: {n} advances, expected 1 or more")
        super().__init__(n, dtype)

    def read(self, clock_ns: int) -> Cell:
        return _cell(min(self._values)) if self._is_full else NOT_WARM


class Max(_LastValues):
    """The greatest of the last n values; type and unit of `x`.

    State      the last n values: count, words of their type, oldest first
    Warm-up    n
    Reset      forgets the values
    Undefined  before warm-up
    Source     rule 8
    Twin       `kernels/series.rs`, exact; a monotonic queue, where this looks at all n

    >>> greatest = Max(n=2, dtype="f64")
    >>> for x in (5.0, 3.0, 4.0):
    ...     greatest.update(x)
    >>> greatest.read(0).value
    4.0
    """

    __slots__ = ()

    def __init__(self, n: int, dtype: str = "i64") -> None:
        if n < 1:
            raise ValueError(f"max: {n} advances, expected 1 or more")
        super().__init__(n, dtype)

    def read(self, clock_ns: int) -> Cell:
        return _cell(max(self._values)) if self._is_full else NOT_WARM


class Autocov(_LastValues):
    """Autocovariance at lag k over the last n values x_1 .. x_n, in the square of x's unit.

    With the mean of all n taken off both factors and divided by n, in integers until the end:

        F(n^2 P - n S1 (A + B) + (n - k) S1^2) / F(n^3)

    P = sum of x_i x_(i-k), A = sum of x without the k oldest, B without the k newest, S1 = sum of x.

    State      the last n values: count, words (`i64`), oldest first
    Warm-up    n
    Reset      forgets the values
    Undefined  before warm-up; a value with |x| >= 2^47 among the n (`OVERFLOW`)
    Source     rule 8; Box, Jenkins, "Time Series Analysis", 1970, the estimator c_k
    Twin       `kernels/series.rs`, exact; running sums, where this adds up all n

    >>> bounce = Autocov(lag=1, n=4)
    >>> for x in (1, -1, 1, -1):
    ...     bounce.update(x)
    >>> bounce.read(0).value
    -0.75
    """

    __slots__ = ("_lag", "_n")

    def __init__(self, lag: int, n: int) -> None:
        if not 0 <= lag < n <= 1024:
            raise ValueError(f"autocov: lag {lag} of {n} advances, expected 0 <= lag < n <= 1024")
        super().__init__(n, "i64")
        self._lag = lag
        self._n = n

    def read(self, clock_ns: int) -> Cell:
        if not self._is_full:
            return NOT_WARM
        n, k = self._n, self._lag
        x = [int(value) for value in self._values]
        if any(abs(value) >= _MOMENT_LIMIT for value in x):
            return OVERFLOWN
        s1 = products = a = b = 0
        for i in range(n):
            s1 += x[i]
            if i >= k:
                products += x[i] * x[i - k]
                a += x[i]
                b += x[i - k]
        above = n * n * products - n * s1 * (a + b) + (n - k) * s1 * s1
        return Cell.of_float(float(above) / float(n * n * n))
