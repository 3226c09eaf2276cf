"""Plans: a feature set compiled to a sorted list of kernel calls, each computed once.

The compiler checks types, ranges and units, and derives dtype, kind, unit, scale, warm-up and what
a feature reads (rules 1.5, 7.1, 8). The canonical JSON of a plan is what both backends run; its
sha-256 is the fingerprint that frames, stores and models carry (rule 9).

Leans on `kernels.declarations`. Knows nothing of books, backends or frames.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from featureplane.errors import PlanError
from featureplane.features.kernels.declarations import (
    KERNEL_ABI,
    KERNELS,
    AsInput,
    KernelDeclaration,
    ParamValue,
)
from featureplane.features.kernels.expression import Expression
from featureplane.features.parameters import checked_params
from featureplane.units import I64_MAX

__all__ = ["Plan", "PlanFeature", "PlanNode", "canonical_json", "compile_plan"]

_DEPTH_MAX: Final = 200
_SIZE_MAX: Final = 20_000
_CALLS_MAX: Final = 1 << 20
_NODES_MAX: Final = 65_535
_CELLS_MAX: Final = 1 << 24
"""Bound of all windows of one plan together, in remembered values a symbol (128 MiB)."""

_WINDOW_CELLS: Final = 3_000  # 1000 accumulators, three sums each


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One kernel call of a plan. The first five fields are its definition, the rest is derived.

    `inputs` are indices of earlier nodes. `reads` holds "book", "trade", both or neither (constants);
    `levels` is the deepest book level asked for, 0 if none.
    """

    kernel: str
    params: Mapping[str, ParamValue]
    inputs: tuple[int, ...]
    dtype: str
    kind: str
    unit: str
    scale: int
    warm_events: int
    warm_ns: int
    reads: frozenset[str]
    levels: int

    def definition(self) -> dict[str, object]:
        """The fields the fingerprint covers, as JSON values."""
        params = {name: list(v) if isinstance(v, tuple) else v for name, v in self.params.items()}
        return {
            "kernel": self.kernel,
            "params": params,
            "inputs": list(self.inputs),
            "dtype": self.dtype,
            "kind": self.kind,
        }


@dataclass(frozen=True, slots=True)
class PlanFeature:
    """One published value: which node it is."""

    feature_id: str
    node: int
    dtype: str
    scale: int

    def definition(self) -> dict[str, object]:
        """The fields the fingerprint covers, as JSON values."""
        return {"feature_id": self.feature_id, "node": self.node, "dtype": self.dtype, "scale": self.scale}


@dataclass(frozen=True)
class Plan:
    """Nodes in the order in which they run, and the features read from them."""

    nodes: tuple[PlanNode, ...]
    features: tuple[PlanFeature, ...]

    def definition(self) -> dict[str, object]:
        """What the fingerprint covers: kernel ABI, nodes, features."""
        return {
            "abi": KERNEL_ABI,
            "nodes": [node.definition() for node in self.nodes],
            "features": [feature.definition() for feature in self.features],
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha-256 of the canonical JSON of the definition, 64 hexadecimal digits."""
        return hashlib.sha256(canonical_json(self.definition()).encode("ascii")).hexdigest()

    @cached_property
    def reads(self) -> frozenset[str]:
        """The channels some kernel of the plan reads: "book", "trade"."""
        return frozenset().union(*(node.reads for node in self.nodes))

    def to_json(self, feature_set_id: str, schema_version: int) -> str:
        """The plan as both backends take it, canonical."""
        header = {"feature_set_id": feature_set_id, "schema_version": schema_version}
        return canonical_json(header | self.definition())


def canonical_json(value: object) -> str:
    """Sorted keys, no spaces, ASCII; equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def compile_plan(features: Sequence[tuple[str, Expression]]) -> Plan:
    """Sort the kernel calls of `features`, depth first and each equal call once.

    Raises
    ------
    PlanError
        A type, range, unit or size that rule 8 does not allow; the message names the feature.
    """
    compiler = _Compiler()
    published = []
    for feature_id, expression in features:
        index = compiler.add_feature(feature_id, expression)
        node = compiler.nodes[index]
        published.append(PlanFeature(feature_id, index, node.dtype, node.scale))
    return Plan(tuple(compiler.nodes), tuple(published))


class _Compiler:
    """Nodes collected so far; equal calls are found by their canonical text."""

    def __init__(self) -> None:
        self.nodes: list[PlanNode] = []
        self._by_definition: dict[str, int] = {}
        self._by_expression: dict[Expression, int] = {}
        self._cells = 0
        self._calls = 0
        self._feature = ""

    def add_feature(self, feature_id: str, expression: Expression) -> int:
        self._feature = feature_id
        if expression.depth > _DEPTH_MAX or expression.size > _SIZE_MAX:
            raise self._refused(
                f"an expression of {expression.size} calls, {expression.depth} deep",
                f"at most {_SIZE_MAX} calls, {_DEPTH_MAX} deep",
            )
        self._calls += expression.size
        if self._calls > _CALLS_MAX:
            raise self._refused(
                f"{self._calls} calls in the set so far", f"at most {_CALLS_MAX}, written out"
            )
        index = self._node(expression)
        if not self.nodes[index].reads:
            raise self._refused(f"the constant {expression}", "something that reads the book or the trades")
        return index

    def _node(self, expression: Expression) -> int:
        if (known := self._by_expression.get(expression)) is not None:
            return known
        declaration = KERNELS.get(expression.kernel)
        if declaration is None:
            raise self._refused(f"kernel {expression.kernel!r}", "a kernel of docs/reference/kernels.md")
        inputs = tuple(self._node(x) for x in expression.inputs)
        node = self._derive(declaration, expression, inputs)
        key = canonical_json(node.definition())
        index = self._by_definition.get(key)
        if index is None:
            index = len(self.nodes)
            self._keep(node)
            self._by_definition[key] = index
        self._by_expression[expression] = index
        return index

    def _keep(self, node: PlanNode) -> None:
        n = node.params.get("n")
        if "window_ns" in node.params:
            self._cells += _WINDOW_CELLS
        elif isinstance(n, int) and node.kernel != "ema":
            self._cells += n
        if len(self.nodes) >= _NODES_MAX or self._cells > _CELLS_MAX:
            raise self._refused(
                f"a set of {len(self.nodes) + 1} kernels that remember {self._cells} values a symbol",
                f"at most {_NODES_MAX} kernels and {_CELLS_MAX} values",
            )
        self.nodes.append(node)

    def _derive(
        self, declaration: KernelDeclaration, expression: Expression, inputs: tuple[int, ...]
    ) -> PlanNode:
        sources = [self.nodes[i] for i in inputs]
        self._check_inputs(declaration, sources)
        params = checked_params(
            declaration, dict(expression.params), sources[0].dtype if sources else "", self._feature
        )
        dtype = _dtype(declaration, sources, params)
        unit, scale = self._unit(declaration, sources, params)
        if dtype != "u32" and scale == 0:
            scale = 1  # a code that was computed with is a number
        kind = declaration.kind
        if kind == AsInput:
            kind = "flow" if any(s.kind == "flow" for s in sources) else "state"
        own = "trade" if "T" in declaration.marks else "book" if "B" in declaration.marks else None
        reads = frozenset().union(*(s.reads for s in sources)) | ({own} if own and not sources else set())
        levels = params.get("levels", params.get("level", 1 if own == "book" and not sources else 0))
        return PlanNode(
            declaration.name,
            params,
            inputs,
            dtype,
            kind,
            unit,
            scale,
            _warm_events(declaration, sources, params),
            _warm_ns(declaration, sources, params),
            reads,
            max([levels if isinstance(levels, int) else 0, *(s.levels for s in sources)]),
        )

    def _check_inputs(self, declaration: KernelDeclaration, sources: Sequence[PlanNode]) -> None:
        name = declaration.name
        if len(sources) != len(declaration.inputs):
            raise self._refused(f"{name} of {len(sources)} inputs", f"{len(declaration.inputs)}")
        for wanted, source in zip(declaration.inputs, sources, strict=True):
            if wanted == "integer" and source.dtype == "f64":
                raise self._refused(
                    f"{name} over a float, {source.kernel}",
                    "an integer input",
                    hint="put it through fixed(x, scale) first; rolling sums of floats drift",
                )
            if wanted not in {"integer", "number"} and not self._matches(wanted, source):
                raise self._refused(f"{name} over {source.kernel}", f"{wanted} as its input")
        if sources and all(not s.reads for s in sources):
            raise self._refused(f"{name} of constants alone", "an input that reads the book or the trades")

    def _matches(self, wanted: str, source: PlanNode) -> bool:
        outer, _, inner = wanted.partition("(")
        if source.kernel not in outer.split("|"):
            return False
        return not inner or self._matches(inner.removesuffix(")"), self.nodes[source.inputs[0]])

    def _unit(
        self, declaration: KernelDeclaration, sources: Sequence[PlanNode], params: Mapping[str, ParamValue]
    ) -> tuple[str, int]:
        unit, scale = declaration.unit, declaration.scale
        match unit:
            case "same":
                return self._common(declaration.name, sources[0], sources[1])
            case "product" | "quotient":
                return _scaled(sources[0], sources[1], either=unit == "product")
            case "as input":
                unit = sources[0].unit
        if isinstance(scale, int):
            return unit, scale
        k = params.get("k", 1)
        times = (
            sources[0].scale
            if scale == AsInput
            else (sources[0].scale or 1) * (k if isinstance(k, int) else 1)
        )
        if times > I64_MAX:
            raise self._refused(f"{declaration.name} to a scale of {times}", f"a scale of at most {I64_MAX}")
        return unit, times

    def _common(self, name: str, x: PlanNode, y: PlanNode) -> tuple[str, int]:
        """Unit and scale of a sum; a constant takes those of the other side."""
        if not x.reads or not y.reads:
            other = y if not x.reads else x
            return other.unit, other.scale
        if x.scale != y.scale:
            raise self._refused(
                f"{name} of {x.kernel} (scale {x.scale}) and {y.kernel} (scale {y.scale})",
                "equal scales",
                hint="multiply the smaller one first, or use the `_x2` form of both",
            )
        return x.unit if x.unit == y.unit else "none", x.scale

    def _refused(self, found: str, expected: str, *, hint: str | None = None) -> PlanError:
        return PlanError(found, expected, feature_id=self._feature, hint=hint)


def _scaled(x: PlanNode, y: PlanNode, *, either: bool) -> tuple[str, int]:
    """Unit and scale of x times or over y: a pure number leaves them, everything else makes a new number."""
    if y.unit == "none" and y.scale in {0, 1}:
        return x.unit, x.scale
    if either and x.unit == "none" and x.scale in {0, 1}:
        return y.unit, y.scale
    return "none", 1


def _dtype(
    declaration: KernelDeclaration, sources: Sequence[PlanNode], params: Mapping[str, ParamValue]
) -> str:
    match declaration.dtype:
        case "as input":
            return sources[0].dtype
        case "signed" | "mixed":
            return "f64" if any(s.dtype == "f64" for s in sources) else "i64"
        case "literal":
            return "f64" if isinstance(params["value"], float) else "i64"
        case fixed:
            return fixed


def _warm_events(
    declaration: KernelDeclaration, sources: Sequence[PlanNode], params: Mapping[str, ParamValue]
) -> int:
    """Rule 7.1: warm(input) + n - 1, the slowest of several inputs; stateless kernels pass theirs on."""
    name, plus = declaration.warm
    n = params[name] if name is not None else 0
    own = plus + (n if isinstance(n, int) else 0)
    before = max((s.warm_events for s in sources), default=0)
    if declaration.stateless or not sources:
        return max(before, own)
    return max(before, 1) + own - 1


def _warm_ns(
    declaration: KernelDeclaration, sources: Sequence[PlanNode], params: Mapping[str, ParamValue]
) -> int:
    """Time that must be covered before the first value, 0 if none.

    A window over a state begins with the state's first value, so windows behind one another add
    up; a window over a flow begins with the first step after the reset, so the longer one counts
    (rule 8, "Time windows"). A half-life asks for three of it from the first value on.
    """
    before = max((s.warm_ns for s in sources), default=0)
    if declaration.span is None:
        return before
    name, factor = declaration.span
    length = params[name]
    own = factor * (length if isinstance(length, int) else 0)
    after_input = name == "half_life_ns" or any(s.kind == "state" for s in sources)
    return before + own if after_input else max(before, own)
