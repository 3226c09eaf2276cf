"""Expressions: a kernel bound to its parameters and inputs, composed by + - * / and by one another.

An expression is only a description; it computes nothing and refuses nothing. A `FeatureSet`
compiles it, and there types, ranges and units are checked, with the feature's name in the message.

Leans on `declarations`. Knows nothing of books, plans or backends.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from featureplane.features.kernels.declarations import KERNELS, ParamValue
from featureplane.units import NANOS_PER_MS, NANOS_PER_SECOND

__all__ = ["Expression", "Number", "Operand", "duration_ns", "expression"]

Number = int | float
_INFIX: Final = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_UNITS_OF_TIME: Final = (("seconds", NANOS_PER_SECOND), ("ms", NANOS_PER_MS), ("ns", 1))


@dataclass(frozen=True, slots=True)
class Expression:
    """One kernel call: its name, its parameters sorted by name, its inputs.

    Immutable and hashable; two expressions are equal when they are written alike. Operators give
    new expressions: `a + b`, `a - b`, `a * b`, `a / b` (always `f64`), `-a`, `abs(a)`; a number on
    either side becomes a constant. `str()` gives text that the set loader reads back.

    >>> from featureplane.features import kernels as k
    >>> print(k.ema(k.best_ask() - k.best_bid(), span=8) * 2)
    ema(best_ask() - best_bid(), span=8) * 2
    """

    kernel: str = field(compare=False)
    params: tuple[tuple[str, ParamValue], ...] = field(default=(), compare=False)
    inputs: tuple[Expression, ...] = field(default=(), compare=False)
    identity: bytes = field(default=b"", init=False, repr=False)
    """Digest of the whole expression; `1`, `1.0` and `True`, equal to Python, differ here."""
    depth: int = field(default=1, init=False, compare=False, repr=False)
    """Longest chain of calls below and with this one."""
    size: int = field(default=1, init=False, compare=False, repr=False)
    """Calls in the expression written out as a tree, shared ones counted each time."""

    def __post_init__(self) -> None:
        digest = hashlib.sha256(repr((self.kernel, self.params)).encode("utf-8", "backslashreplace"))
        for x in self.inputs:
            digest.update(x.identity)
        object.__setattr__(self, "identity", digest.digest())
        object.__setattr__(self, "depth", 1 + max((x.depth for x in self.inputs), default=0))
        object.__setattr__(self, "size", 1 + sum(x.size for x in self.inputs))

    def __add__(self, other: Operand) -> Expression:
        return _binary("add", self, other)

    def __radd__(self, other: Operand) -> Expression:
        return _binary("add", other, self)

    def __sub__(self, other: Operand) -> Expression:
        return _binary("sub", self, other)

    def __rsub__(self, other: Operand) -> Expression:
        return _binary("sub", other, self)

    def __mul__(self, other: Operand) -> Expression:
        return _binary("mul", self, other)

    def __rmul__(self, other: Operand) -> Expression:
        return _binary("mul", other, self)

    def __truediv__(self, other: Operand) -> Expression:
        return _binary("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expression:
        return _binary("div", other, self)

    def __neg__(self) -> Expression:
        return _binary("mul", self, -1)

    def __abs__(self) -> Expression:
        return Expression("abs", inputs=(self,))

    def __str__(self) -> str:
        return self.text({})

    def text(self, names: dict[Expression, str]) -> str:
        """The expression as the set loader reads it; what `names` holds is written by its name."""
        if (name := names.get(self)) is not None:
            return name
        if self.kernel == "constant":
            value = dict(self.params).get("value")
            return repr(value)
        if self.kernel in _INFIX:
            left, right = (x.operand_text(names) for x in self.inputs)
            return f"{left} {_INFIX[self.kernel]} {right}"
        declaration = KERNELS[self.kernel]
        arguments = [] if declaration.implied else [x.text(names) for x in self.inputs]
        given = dict(self.params)
        if declaration.implied:
            given |= {k: v for k, v in self.inputs[0].params if k == "hidden"}
        for param in declaration.all_params:
            value = given.get(param.name)
            if value == param.default and type(value) is type(param.default):
                continue
            if param.kind in {"window", "half_life"} and type(value) is int:
                unit, divisor = next(pair for pair in _UNITS_OF_TIME if value % pair[1] == 0)
                prefix = "half_life_" if param.kind == "half_life" else ""
                arguments.append(f"{prefix}{unit}={value // divisor}")
            else:
                arguments.append(f"{param.keyword}={_literal(value)}")
        return f"{self.kernel}({', '.join(arguments)})"

    def operand_text(self, names: dict[Expression, str]) -> str:
        """`text`, in parentheses where an operator stands outermost."""
        text = self.text(names)
        return f"({text})" if self.kernel in _INFIX and self not in names else text


Operand = Expression | Number


def expression(x: object) -> Expression:
    """`x` itself, or a number as a constant; anything else becomes a constant the compiler refuses."""
    if isinstance(x, Expression):
        return x
    return Expression("constant", (("value", x),))  # type: ignore[arg-type]  # refused with its feature's name


def _binary(kernel: str, left: object, right: object) -> Expression:
    return Expression(kernel, inputs=(expression(left), expression(right)))


def _literal(value: ParamValue) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def duration_ns(seconds: Number | None, ms: Number | None, ns: int | None) -> ParamValue:
    """Nanoseconds from exactly one of the three; None otherwise, which the compiler refuses.

    A decimal like `seconds=0.1` means what it says, not its nearest binary; one that is no whole
    number of nanoseconds stays a float, which the compiler refuses too.
    """
    given = [
        (x, unit) for x, (_, unit) in zip((seconds, ms, ns), _UNITS_OF_TIME, strict=True) if x is not None
    ]
    if len(given) != 1:
        return None
    value, unit = given[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    exact = Decimal(repr(value)) * unit
    if not exact.is_finite() or exact != exact.to_integral_value():
        return float(exact)
    return int(exact)
