"""The text form of expressions: kernel calls by name, earlier features, numbers, + - * / and ( ).

Read through Python's own grammar and walked node by node; nothing is evaluated, and whatever is not
on the list is refused. Leans on `kernels`.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Final

from featureplane.errors import PlanError
from featureplane.features.kernels import constructors
from featureplane.features.kernels.expression import Expression
from featureplane.units import I64_MAX

__all__ = ["parse_expression", "signature_text"]

_TEXT_MAX: Final = 100_000
_CONSTRUCTORS: Final[dict[str, Callable[..., Expression]]] = {
    name: getattr(constructors, name) for name in constructors.__all__
}
_OPERATORS: Final[dict[type[ast.operator], Callable[[object, object], object]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_CONTENT: Final = "kernel calls, names of earlier features, numbers, + - * / and parentheses"


def parse_expression(feature_id: str, text: str, earlier: Mapping[str, Expression]) -> Expression:
    """The expression that `text` describes; `earlier` are the features it may name.

    Raises
    ------
    PlanError
        Text that is no expression, an unknown kernel or name, arguments a kernel does not take.

    >>> print(parse_expression("x", "ema(ofi(level=2), span=8) * 2", {}))
    ema(ofi(level=2), span=8) * 2
    """
    if len(text) > _TEXT_MAX:
        raise PlanError(f"{len(text)} characters", f"at most {_TEXT_MAX}", feature_id=feature_id)
    try:
        tree = ast.parse(text.strip(), mode="eval")
        value = _Reader(feature_id, earlier).read(tree.body)
    except (SyntaxError, ValueError) as error:
        raise PlanError(
            f"{_cut(text)} ({error})", f"an expression of {_CONTENT}", feature_id=feature_id
        ) from error
    except (RecursionError, MemoryError) as error:
        raise PlanError("an expression nested too deeply", "a flatter one", feature_id=feature_id) from error
    if not isinstance(value, Expression):
        raise PlanError(_cut(text), "something that reads the book or the trades", feature_id=feature_id)
    return value


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


class _Reader:
    """Turns syntax nodes into expressions and plain values, or refuses them."""

    def __init__(self, feature_id: str, earlier: Mapping[str, Expression]) -> None:
        self._feature_id = feature_id
        self._earlier = earlier

    def read(self, node: ast.expr) -> object:
        match node:
            case ast.Constant(value=int() | float() | str() | None as value):
                return value
            case ast.Name(id=name):
                return self._named(name)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
                return self._called(name, args, keywords)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._computed(node, type(op), self.read(left), self.read(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._negated(node, self.read(operand))
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return tuple(self.read(item) for item in items)
        raise self._refused(_cut(ast.unparse(node)), f"only {_CONTENT}")

    def _named(self, name: str) -> Expression:
        if name in self._earlier:
            return self._earlier[name]
        if name in _CONSTRUCTORS:
            raise self._refused(f"{name!r} without parentheses", f"{name}(...), or a feature defined above")
        hint = self._near(name, self._earlier)
        raise self._refused(f"name {name!r}", "a feature defined above this one", hint=hint)

    def _called(self, name: str, args: list[ast.expr], keywords: list[ast.keyword]) -> Expression:
        constructor = _CONSTRUCTORS.get(name)
        if constructor is None:
            expected = "a kernel of docs/reference/kernels.md"
            raise self._refused(
                f"kernel {name!r}",
                expected,
                hint=self._near(name, _CONSTRUCTORS) or "that page lists them all",
            )
        values = [self.read(arg) for arg in args]
        named = {k.arg: self.read(k.value) for k in keywords if k.arg is not None}
        if len(named) < len(keywords):
            raise self._refused(f"{name}(**...)", "arguments by place or by name")
        signature = inspect.signature(constructor)
        try:
            signature.bind(*values, **named)
        except TypeError as error:
            raise self._refused(f"{name}: {error}", f"{name}{signature_text(signature)}") from None
        return constructor(*values, **named)

    def _computed(self, node: ast.expr, op: type[ast.operator], left: object, right: object) -> object:
        operands = (int, float, Expression)
        if not all(isinstance(x, operands) and not isinstance(x, bool) for x in (left, right)):
            raise self._refused(_cut(ast.unparse(node)), "numbers and expressions around an operator")
        try:
            value = _OPERATORS[op](left, right)
        except (ZeroDivisionError, OverflowError) as error:
            raise self._refused(f"{_cut(ast.unparse(node))} ({error})", "a number") from None
        return self._bounded(node, value)

    def _negated(self, node: ast.expr, value: object) -> object:
        if not isinstance(value, int | float | Expression) or isinstance(value, bool):
            raise self._refused(_cut(ast.unparse(node)), "a number or an expression behind the sign")
        return self._bounded(node, -value)

    def _bounded(self, node: ast.expr, value: object) -> object:
        if isinstance(value, int) and abs(value) > I64_MAX:
            raise self._refused(_cut(ast.unparse(node)), f"a magnitude of at most {I64_MAX}")
        return value

    def _near(self, name: str, known: Mapping[str, object]) -> str | None:
        places = {one.lower(): one for one in list(known)[:2_000]}
        close = [places[one] for one in difflib.get_close_matches(name.lower(), places, n=3)]
        return f"did you mean {', '.join(close)}?" if close else None

    def _refused(self, found: str, expected: str, *, hint: str | None = None) -> PlanError:
        return PlanError(found, expected, feature_id=self._feature_id, hint=hint)


def signature_text(signature: inspect.Signature) -> str:
    """A constructor's parameters by name, without their types."""
    parameters = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(parameters))
