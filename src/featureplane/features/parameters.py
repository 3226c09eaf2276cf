"""Kernel parameters: their types and ranges, and the one form they have in a plan.

Leans on `kernels.declarations`; used by `plan` alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType

from featureplane.errors import PlanError
from featureplane.features.kernels.declarations import KernelDeclaration, Param, ParamValue
from featureplane.units import I64_MAX, NANOS_PER_MS

__all__ = ["checked_params"]


def checked_params(
    declaration: KernelDeclaration, given: Mapping[str, ParamValue], dtype: str, feature_id: str
) -> Mapping[str, ParamValue]:
    """`given` with defaults filled in, checked against the declaration; read-only.

    `dtype` is the first input's: bounds of `clip` have its type, edges of `bucket` are floats, so
    that 1 and 1.0 are one definition there.

    Raises
    ------
    PlanError
        A parameter of another type, outside its range, missing, or not of this kernel.
    """
    refused = _Refusal(feature_id, declaration.name)
    known = {param.name for param in declaration.params}
    for name in given:
        if name not in known:
            raise refused(f"parameter {name!r}", f"one of {', '.join(sorted(known)) or 'none'}")
    params = {param.name: _checked(param, given.get(param.name, param.default), dtype, refused)
              for param in declaration.params}  # fmt: skip
    _check_together(params, refused)
    return MappingProxyType(params)


class _Refusal:
    def __init__(self, feature_id: str, kernel: str) -> None:
        self._feature_id = feature_id
        self._kernel = kernel

    def __call__(self, found: str, expected: str, *, hint: str | None = None) -> PlanError:
        return PlanError(f"{self._kernel} with {found}", expected, feature_id=self._feature_id, hint=hint)


def _checked(param: Param, value: ParamValue, dtype: str, refused: _Refusal) -> ParamValue:
    match param.kind:
        case "bool":
            if not isinstance(value, bool):
                raise refused(f"{param.keyword}={value!r}", "True or False")
            return value
        case "side":
            if value not in {"bid", "ask"}:
                raise refused(f"{param.keyword}={value!r}", "'bid' or 'ask'")
            return value
        case "number":
            return _number(param.keyword, value, dtype, refused)
        case "edges":
            if not isinstance(value, tuple) or not 1 <= len(value) <= param.high:
                raise refused(f"{param.keyword}={value!r}", f"1 to {param.high} ascending numbers")
            return tuple(_number(param.keyword, edge, "f64", refused) for edge in value)
        case "optional_int" if value is None:
            return None
        case "window" | "half_life" if not isinstance(value, int) or isinstance(value, bool):
            prefix = "half_life_" if param.kind == "half_life" else ""
            found = (
                "no duration, or several"
                if value is None or value == "required"
                else f"a duration of {value!r} ns"
            )
            raise refused(
                found, f"exactly one of {prefix}seconds=, {prefix}ms=, {prefix}ns=, a whole number of ns"
            )
    return _integer(param, value, refused)


def _integer(param: Param, value: ParamValue, refused: _Refusal) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not param.low <= value <= param.high:
        shown = f"{param.keyword}={value!r}" if value != "required" else f"no {param.keyword}"
        raise refused(shown, f"an integer from {param.low} to {param.high}")
    if param.kind == "window" and value % NANOS_PER_MS:
        raise refused(f"a window of {value} ns", "a multiple of 1 ms")
    return value


def _number(keyword: str, value: object, dtype: str, refused: _Refusal) -> int | float:
    """An integer beside integers, a float beside floats; a constant (no `dtype`) as it is written."""
    shown = f"{keyword}={value!r}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(shown, "a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise refused(shown, "a finite number")
    if isinstance(value, int) and not -I64_MAX <= value <= I64_MAX:
        raise refused(shown, f"a magnitude of at most {I64_MAX}")
    if dtype in {"i64", "u32"} and isinstance(value, float):
        raise refused(shown, "an integer, as the input is one")
    if dtype != "f64" and isinstance(value, int):
        return value
    if float(value) != value:
        raise refused(shown, "a number that a 64-bit float holds exactly")
    return float(value) + 0.0


def _check_together(params: Mapping[str, ParamValue], refused: _Refusal) -> None:
    match params:
        case {"lag": int(lag), "n": int(n)} if lag >= n:
            raise refused(f"lag={lag} in a window of {n}", "a lag shorter than the window")
        case {"lo": int() | float() as lo, "hi": int() | float() as hi} if lo > hi:
            raise refused(f"lo={lo} above hi={hi}", "lo <= hi")
        case {"edges": tuple(edges)} if any(a >= b for a, b in pairwise(edges)):
            raise refused(f"edges={edges}", "strictly ascending edges")
