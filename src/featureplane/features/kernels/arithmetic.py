"""Stateless kernels: functions of their inputs' values now.

They are evaluated whenever they are read, so they inherit the moment from their inputs (rule 5.4),
and are never called while an input is undefined. Integers stay exact; one float makes both
operands floats (rule 8). Leans on `cell` and `units`. Twin: `kernels/arithmetic.rs`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from featureplane.features.kernels.cell import NO_VALUE, OVERFLOWN, Cell
from featureplane.units import half_even_div

__all__ = ["Abs", "Add", "Bucket", "Clip", "Constant", "Div", "Fixed", "Mul", "RatioPpm", "Roll", "Sub"]

_FIXED_LIMIT: Final = float(1 << 53)


def _cell(x: float) -> Cell:
    return Cell.of_int(x) if isinstance(x, int) else Cell.of_float(x)


class Clip:
    """`x` held inside [lo, hi], bounds inclusive; type and unit of `x`.

    The bounds of an integer are integers; those of a float are taken as floats.

    State      none
    Warm-up    0
    Reset      nothing to forget
    Undefined  while x is
    Source     rule 8
    Twin       `kernels/arithmetic.rs`, exact

    >>> clip = Clip(lo=-2, hi=5)
    >>> [clip.value(x).value for x in (-3, -2, 4, 6)]
    [-2, -2, 4, 5]
    """

    __slots__ = ("_hi", "_lo")

    def __init__(self, lo: float, hi: float) -> None:
        if not lo <= hi:
            raise ValueError(f"clip: lo {lo} and hi {hi}, expected lo <= hi")
        self._lo = lo
        self._hi = hi

    def value(self, x: float) -> Cell:
        held = max(self._lo, min(x, self._hi))
        return _cell(held) if isinstance(x, int) else Cell.of_float(float(held))


class Abs:
    """|x|; type and unit of `x`. The range of rule 1.2 is symmetric, so there is no overflow.

    State      none
    Warm-up    0
    Reset      nothing to forget
    Undefined  while x is
    Source     rule 8
    Twin       `kernels/arithmetic.rs`, exact

    >>> Abs().value(-3).value
    3
    """

    __slots__ = ()

    def value(self, x: float) -> Cell:
        return _cell(-x if x < 0 else x)


class Add:
    """x + y: exact for two integers, else F(x) + F(y).

    State      none
    Warm-up    0
    Reset      nothing to forget
    Undefined  while x or y is; an integer result outside +-(2^63 - 1) (`OVERFLOW`);
               a float result that is not finite
    Source     rule 8
    Twin       `kernels/arithmetic.rs`, exact

    >>> Add().value(1, 2), Add().value(1, 0.5)
    (Cell(value=3, why=0), Cell(value=1.5, why=0))
    """

    __slots__ = ()

    def value(self, x: float, y: float) -> Cell:
        if isinstance(x, int) and isinstance(y, int):
            return Cell.of_int(x + y)
        return Cell.of_float(float(x) + float(y))


class Sub:
    """x - y: exact for two integers, else F(x) - F(y).

    State      none
    Warm-up    0
    Reset      nothing to forget
    Undefined  as `Add`
    Source     rule 8
    Twin       `kernels/arithmetic.rs`, exact

    >>> Sub().value(1, 2), Sub().value(0.5, 0.5)
    (Cell(value=-1, why=0), Cell(value=0.0, why=0))
    """

    __slots__ = ()

    def value(self, x: float, y: float) -> Cell:
        if isinstance(x, int) and isinstance(y, int):
            return Cell.of_int(x - y)
        return Cell.of_float(float(x) - float(y))


class Mul:
    """x y: exact for two integers, else F(x) F(y).

    State      none
    Warm-up    0
    Reset      nothing to forget
    Undefined  as `Add`
    Source     rule 8
    Twin       `kernels/arithmetic.rs`, exact

    >>> Mul().value(3, -2), Mul().value(1 << 62, 2).is_defined
    (Cell(value=-6, why=0), False)
    """

    __slots__ = ()

    def value(self, x: float, y: float) -> Cell:
        if isinstance(x, int) and isinstance(y, int):
            return Cell.of_int(x * y)
        return Cell.of_float(float(x) * float(y))


class Div:
    """F(x) / F(y), always a float: both are rounded first, then divided once (rule 1.4).

    State      none
    Warm-up    0
    Reset      nothing to forget
    Undefined  while x or y is; y = 0; a result that is not finite
    Source     rule 8
    Twin       `kernels/arithmetic.rs`, exact

    >>> Div().value(1, 4).value, Div().value(1, 0).value
    (0.25, None)
    """

    __slots__ = ()

    def value(self, x: float, y: float) -> Cell:
        return NO_VALUE if y == 0 else Cell.of_float(float(x) / float(y))


class RatioPpm:
    """R(x 10^6, y) of two integers: parts per million, halves to even.

    For y < 0 it is R(-x 10^6, -y), so that the divisor of R is positive.

    State      none
    Warm-up    0
    Reset      nothing to forget
    Undefined  while x or y is; y = 0; a result outside +-(2^63 - 1) (`OVERFLOW`)
    Source     rule 8
    Twin       `kernels/arithmetic.rs`, exact

    >>> [RatioPpm().value(x, y).value for x, y in ((1, 3), (1, -3), (5, 2_000_000), (1, 0))]
    [333333, -333333, 2, None]
    """

    __slots__ = ()

    def value(self, x: int, y: int) -> Cell:
        if y == 0:
            return NO_VALUE
        return Cell.of_int(half_even_div((-x if y < 0 else x) * 1_000_000, abs(y)))


class Fixed:
    """The integer nearest to F(x) F(k), halves to even: the way from floats to rolling kernels.

    State      none
    Warm-up    0
    Reset      nothing to forget
    Undefined  while x is; |F(x) F(k)| > 2^53 (`OVERFLOW`), where floats skip integers
    Source     rule 8
    Twin       `kernels/arithmetic.rs`, exact

    >>> [Fixed(k=10).value(x).value for x in (0.25, 0.35, -1.26, 1e300)]
    [2, 4, -13, None]
    """

    __slots__ = ("_k",)

    def __init__(self, k: float) -> None:
        if not math.isfinite(k) or k == 0:
            raise ValueError(f"fixed: factor {k}, expected a finite one other than 0")
        self._k = float(k)

    def value(self, x: float) -> Cell:
        product = float(x) * self._k
        return Cell.of_int(round(product)) if abs(product) <= _FIXED_LIMIT else OVERFLOWN


class Bucket:
    """How many of the ascending `edges` are <= F(x): 0 to len(edges). Unit: none, a code.

    Edges are floats and an integer x is compared as F(x), like in every mixed expression.

    State      none
    Warm-up    0
    Reset      nothing to forget
    Undefined  while x is
    Source     rule 8
    Twin       `kernels/arithmetic.rs`, exact

    >>> regime = Bucket(edges=(0.5, 1.5, 3.0))
    >>> [regime.value(x).value for x in (0.4, 0.5, 1, 3.5)]
    [0, 1, 1, 3]
    """

    __slots__ = ("_edges",)

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = tuple(float(edge) for edge in edges)
        if not all(math.isfinite(edge) for edge in self._edges) or list(self._edges) != sorted(self._edges):
            raise ValueError(f"bucket: edges {list(edges)}, expected finite ones, ascending")

    def value(self, x: float) -> Cell:
        return Cell.of_int(len([edge for edge in self._edges if edge <= float(x)]))


class Roll:
    """2.0 * sqrt(-c): Roll's spread from c, the autocovariance of price changes at lag 1.

    Unit: price, if c is of changes of scaled prices.

    State      none
    Warm-up    0
    Reset      nothing to forget
    Undefined  while c is; c >= 0: the model has no solution
    Source     Roll, "A Simple Implicit Measure of the Effective Bid-Ask Spread in an Efficient
               Market", J. Finance 39(4), 1984, pp. 1127-1139
    Twin       `kernels/arithmetic.rs`, exact

    >>> Roll().value(-0.25).value, Roll().value(0.0).value
    (1.0, None)
    """

    __slots__ = ()

    def value(self, c: float) -> Cell:
        return NO_VALUE if c >= 0.0 else Cell.of_float(2.0 * math.sqrt(-c))


class Constant:
    """The same value at any moment; an integer or a float as given.

    State      none
    Warm-up    0
    Reset      nothing to forget
    Undefined  never
    Source     rule 8
    Twin       `kernels/arithmetic.rs`, exact

    >>> Constant(value=2).value()
    Cell(value=2, why=0)
    """

    __slots__ = ("_cell",)

    def __init__(self, value: float) -> None:
        self._cell = _cell(value)
        if not self._cell.is_defined:
            raise ValueError(f"constant: {value}, expected an integer within +-(2^63 - 1) or a finite float")

    def value(self) -> Cell:
        return self._cell
