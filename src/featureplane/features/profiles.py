"""Profiles: the features of a set with other parameters, under a name and a fingerprint of their own.

    slow = profile_of(LOB_SHARED_V2, "slow", {"ofi_l1_ema8": {"span": 16}})     # lob_shared_v2@slow

A profile has the same features in the same order, of the same types, units and scales: who reads the set by
its id can read the profile. As a file:

    base = "lob_shared_v2"
    profile = "slow"

    [parameters]
    ofi_l1_ema8 = { span = 16 }
    ofi_l1_1s = { seconds = 2 }

Leans on `spec`. Knows nothing of files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from featureplane.errors import PlanError
from featureplane.features.kernels.declarations import KERNELS, Param
from featureplane.features.kernels.expression import Expression, duration_ns
from featureplane.features.spec import Feature, FeatureSet

__all__ = ["AT", "base_id", "is_profile_of", "profile_of"]

AT: Final = "@"
"""What stands between the id of a set and the name of a profile of it."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_TIMES: Final = ("seconds", "ms", "ns")
_SHAPE: Final = ("feature_id", "dtype", "unit", "scale", "kind", "source_kind")


def profile_of(base: FeatureSet, name: str, parameters: Mapping[str, Mapping[str, Any]]) -> FeatureSet:
    """The set with these parameters, by feature, as its definition writes them; all others stay.

    Where several kernels of a feature take a parameter it is said which: `{"ema.span": 16}`. Raises
    `PlanError`, with the feature, for a name that is none, a feature or parameter that is not there or not
    unique, a value that the kernel does not take, and for a profile that changes nothing, or what readers
    rely on.
    """
    if AT in base.feature_set_id:
        raise PlanError(f"base {base.feature_set_id!r}, a profile", "a feature set")
    if not _NAME.fullmatch(str(name)):
        raise PlanError(f"profile {name!r}", "a name of at most 64 letters, digits, `_`, `.` or `-`")
    features = {one: _whole(feature) for one, feature in base.features.items()}
    for feature_id, given in parameters.items():
        if feature_id not in features:
            raise PlanError(f"no feature {feature_id!r} in {base.feature_set_id}", "one that it has")
        if not isinstance(given, Mapping):
            raise PlanError(f"{given!r}", "parameters by name, as { span = 16 }", feature_id=feature_id)
        feature = features[feature_id]
        expression = feature.expression
        for keyword, value in given.items():
            expression = _changed(feature_id, expression, keyword, value)
        features[feature_id] = replace(feature, expression=expression)
    made = FeatureSet(f"{base.feature_set_id}{AT}{name}", base.schema_version, features)
    _check_shape(base, made)
    if made.fingerprint == base.fingerprint:
        raise PlanError(f"profile {name!r}, which changes nothing", "a parameter of another value")
    return made


def base_id(feature_set_id: str) -> str:
    """The id of the set that a profile is of; any other id is its own."""
    return feature_set_id.partition(AT)[0]


def is_profile_of(fset: FeatureSet, base: FeatureSet) -> bool:
    """Whether one set is a profile of another by its id, and has what readers of that rely on."""
    id_, at, name = fset.feature_set_id.partition(AT)
    named = bool(at and name) and id_ == base.feature_set_id
    return named and fset.schema_version == base.schema_version and _difference(base, fset) is None


def _difference(base: FeatureSet, made: FeatureSet) -> tuple[str, str, object, object] | None:
    """The first thing that readers rely on and that differs: feature, field, before, after."""
    if base.feature_ids != made.feature_ids:
        return base.feature_ids[0], "features", len(base), len(made)
    for old, new in zip(base.specs, made.specs, strict=True):
        for field in _SHAPE:
            if (before := getattr(old, field)) != (after := getattr(new, field)):
                return old.feature_id, field, before, after
    return None


def _check_shape(base: FeatureSet, made: FeatureSet) -> None:
    if (found := _difference(base, made)) is not None:
        feature_id, field, before, after = found
        raise PlanError(f"{field} {after}", f"{before}, as readers of the set expect", feature_id=feature_id)


def _whole(feature: Feature | Expression) -> Feature:
    return feature if isinstance(feature, Feature) else Feature(feature)


@dataclass(frozen=True, slots=True)
class _Place:
    """A parameter of a kernel call somewhere in an expression, and the unit that a time is given in."""

    call: Expression
    param: Param
    unit: str | None

    @property
    def keyword(self) -> str:
        if self.unit is None:
            return self.param.keyword
        return f"half_life_{self.unit}" if self.param.kind == "half_life" else self.unit


def _places(expression: Expression) -> Iterator[_Place]:
    """Every parameter that can be given, under each keyword it can be given by."""
    for param in KERNELS[expression.kernel].params if expression.kernel in KERNELS else ():
        timed = param.kind in {"window", "half_life"}
        for unit in _TIMES if timed else (None,):
            yield _Place(expression, param, unit)
    for one in expression.inputs:
        yield from _places(one)


def _changed(feature_id: str, expression: Expression, keyword: str, value: Any) -> Expression:
    """The expression with one parameter of one of its calls set anew."""
    kernel, dot, name = keyword.rpartition(".")
    places = list(_places(expression))
    meant = [one for one in places if one.keyword == name and (not dot or one.call.kernel == kernel)]
    calls = {one.call for one in meant}
    if len(calls) != 1:
        known = ", ".join(dict.fromkeys(f"{one.call.kernel}.{one.keyword}" for one in places)) or "none"
        found = f"parameter {keyword!r}, " + ("of several calls" if calls else "which it does not have")
        raise PlanError(found, f"one of: {known}", feature_id=feature_id)
    place = meant[0]
    if place.unit is not None:
        times = {unit: value if unit == place.unit else None for unit in _TIMES}
        value = duration_ns(**times)
    if isinstance(value, list):
        value = tuple(value)
    given = tuple(sorted({**dict(place.call.params), place.param.name: value}.items()))
    return _exchanged(expression, place.call, replace(place.call, params=given))


def _exchanged(expression: Expression, old: Expression, new: Expression) -> Expression:
    if expression == old:
        return new
    inputs = tuple(_exchanged(one, old, new) for one in expression.inputs)
    return expression if inputs == expression.inputs else replace(expression, inputs=inputs)
