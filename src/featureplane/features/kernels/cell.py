"""Cells: what a kernel has to say at one moment, a value or the reasons why there is none.

Leans on `units`. Twin: `Cell` in `crates/featureplane-core/src/kernels/mod.rs`, the same bits.
"""

from __future__ import annotations

import math
import struct
from enum import IntFlag
from typing import Final, NamedTuple

from featureplane.units import I64_MAX, UNDEFINED_F64_BITS, UNDEFINED_I64

__all__ = ["LACKING", "NOT_WARM", "NO_VALUE", "OVERFLOWN", "Cell", "Why", "published", "stateless"]


class Why(IntFlag):
    """Why a cell has no value, or not the whole of one; 0 is a value without reserve."""

    UNDEFINED = 1  # no value; alone: a crossed book, or no solution
    COLD = 2  # some kernel in it is not warm yet
    LACK = 4  # the book lacks a side or level it needs
    OVERFLOW = 8  # an integer beyond the range of rule 1.2
    SHORT = 16  # has a value, but a depth in it sums fewer levels than asked


_UNDEFINED: Final = int(Why.UNDEFINED)
_COLD: Final = int(Why.COLD)
_SHORT: Final = int(Why.SHORT)
_INHERITED: Final = int(Why.COLD | Why.LACK | Why.OVERFLOW)


class Cell(NamedTuple):
    """A value (an integer, a float, or None) and the bits of `Why`, as a plain int.

    Defined iff `value is not None` iff the bit `UNDEFINED` is not set.

    >>> Cell.of_int(1 << 63).why == Why.UNDEFINED | Why.OVERFLOW
    True
    >>> Cell.of_float(-0.0)
    Cell(value=0.0, why=0)
    """

    value: int | float | None
    why: int

    @classmethod
    def of_int(cls, n: int) -> Cell:
        """The integer `n`; undefined by overflow outside +-(2^63 - 1)."""
        return cls(n, 0) if -I64_MAX <= n <= I64_MAX else OVERFLOWN

    @classmethod
    def of_float(cls, x: float) -> Cell:
        """The float `x + 0.0` (no -0.0); undefined if it is not finite."""
        return cls(x + 0.0, 0) if math.isfinite(x) else NO_VALUE

    @classmethod
    def undefined(cls, why: int = 0) -> Cell:
        """No value, for the reasons `why`; none of them means no solution or a crossed book."""
        return cls(None, int(why) | _UNDEFINED)

    @property
    def is_defined(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    def bits(self, dtype: str) -> bytes:
        """The eight bytes of this cell in a frame (rule 6); `dtype` is `i64`, `f64` or `u32`."""
        if dtype == "f64":
            return (
                struct.pack("<Q", UNDEFINED_F64_BITS) if self.value is None else struct.pack("<d", self.value)
            )
        return struct.pack("<q", UNDEFINED_I64 if self.value is None else self.value)


NO_VALUE: Final = Cell(None, int(Why.UNDEFINED))
"""No solution, or a crossed book."""

NOT_WARM: Final = Cell(None, int(Why.UNDEFINED | Why.COLD))
"""A kernel that has not seen enough since its reset."""

LACKING: Final = Cell(None, int(Why.UNDEFINED | Why.LACK))
"""The book has not the side or level that is asked for."""

OVERFLOWN: Final = Cell(None, int(Why.UNDEFINED | Why.OVERFLOW))
"""An integer beyond the range of rule 1.2."""


def published(own: Cell, inputs: tuple[Cell, ...]) -> Cell:
    """What a stateful kernel shows: its `own` cell, as far as its `inputs` have a value now.

    An undefined input makes it undefined and hands on why; of the kernel's own reasons only
    `COLD` is kept then. `SHORT` is handed on in any case.
    """
    why = 0
    missing = False
    for cell in inputs:
        why |= cell.why
        missing = missing or cell.value is None
    if missing:
        return Cell(None, _UNDEFINED | (why & (_INHERITED | _SHORT)) | (own.why & _COLD))
    return Cell(own.value, own.why | _SHORT) if why & _SHORT else own


def stateless(own: Cell, inputs: tuple[Cell, ...]) -> Cell:
    """What a stateless kernel shows when all its `inputs` have a value: `own`, and their `SHORT`."""
    for cell in inputs:
        if cell.why & _SHORT:
            return Cell(own.value, own.why | _SHORT)
    return own
