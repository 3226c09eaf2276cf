"""Feature sets: which features there are, in which order, and everything derived about each.

A set is declared once, as expressions by name; backends, tables, stores, documents and releases
read the specs derived here (rule 1.5).

Leans on `plan` and `kernels`. Knows nothing of books, backends or frames.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import IntFlag
from functools import cached_property
from types import MappingProxyType
from typing import Final

from featureplane.errors import PlanError, UnknownFeature
from featureplane.features.kernels.expression import Expression
from featureplane.features.plan import Plan, compile_plan

__all__ = [
    "NO_FLAGS",
    "RESERVED_IDS",
    "Feature",
    "FeatureDifference",
    "FeatureFlags",
    "FeatureSet",
    "FeatureSpec",
]

_FEATURES_MAX: Final = 65_535
RESERVED_IDS: Final = frozenset(
    {
        "changed_mask",
        "grid_ts_ns",
        "local_ts_ns",
        "quality_flags",
        "seq",
        "source_seq",
        "source_ts_ns",
        "symbol",
        "warmup_ready_mask",
    }
)
"""Names of a table's own columns."""

_FEATURE_ID: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_WORD: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]"
_SET_ID: Final = re.compile(f"{_WORD}{{0,127}}(@{_WORD}{{0,63}})?", re.ASCII)  # @: a profile of a set
_TEXT_MAX: Final = 1_000


class FeatureFlags(IntFlag):
    """What a set's author says of a feature beyond its numbers (rule 1.5)."""

    PROMOTED = 1 << 0
    """Part of a shared set that is kept for strategies and models."""
    MODEL_SAFE = 1 << 1
    """Survives float32 and does not depend on where the data starts (rule 9)."""


NO_FLAGS: Final = FeatureFlags(0)
_ALL_FLAGS: Final = FeatureFlags.PROMOTED | FeatureFlags.MODEL_SAFE


@dataclass(frozen=True, slots=True)
class Feature:
    """An expression with a title, flags and a note; where none is needed the expression alone will do."""

    expression: Expression
    name: str = ""
    """A title for people; empty: the feature's id."""
    flags: FeatureFlags = NO_FLAGS
    note: str = ""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """Everything declared or derived about one feature (rule 1.5).

    Published value = value in `unit` x `scale`; `scale` is 0 for `u32` codes. `warmup_min_events`
    counts advances (rule 7.1), `warmup_min_ns` is the time that must be covered, 0 if none.
    """

    feature_id: str
    index: int
    name: str
    dtype: str
    unit: str
    scale: int
    source_kind: str
    kind: str
    warmup_min_events: int
    warmup_min_ns: int
    flags: FeatureFlags
    parity: str
    definition: str
    note: str


@dataclass(frozen=True, slots=True)
class FeatureDifference:
    """One way in which two sets differ: a field of a feature, before and after; None where absent."""

    feature_id: str
    field: str
    before: object
    after: object

    def __str__(self) -> str:
        if self.field == "feature":
            return f"`{self.feature_id}` {'added' if self.before is None else 'removed'}"
        return f"`{self.feature_id}`: {self.field} {self.before} -> {self.after}"


@dataclass(frozen=True, eq=False, repr=False)
class FeatureSet:
    """Features by id, in order; compiled when made, frozen from then on.

    `features` maps ids to expressions, or to `Feature` where a title, flags or a note belong to it.
    `set["ofi"]` is a feature's spec; iteration gives the ids in their order. Two sets are equal when
    id, schema version, specs and fingerprint are.

    Raises
    ------
    PlanError
        A bad id, a kernel used against its declaration, or a set too large; names the feature.

    >>> from featureplane.features import kernels as k
    >>> ofi = k.ofi(level=1)
    >>> my_set = FeatureSet("my_alpha_v1", features={"ofi": ofi, "ofi_1s": k.sum_over(ofi, seconds=1)})
    >>> my_set["ofi_1s"].warmup_min_events, my_set["ofi_1s"].warmup_min_ns
    (2, 1000000000)
    """

    feature_set_id: str
    schema_version: int = 1
    features: Mapping[str, Feature | Expression] = field(default_factory=dict)
    plan: Plan = field(init=False, repr=False)
    specs: tuple[FeatureSpec, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_header(self.feature_set_id, self.schema_version)
        declared = dict(_declared(self.features))
        if not 1 <= len(declared) <= _FEATURES_MAX:
            raise PlanError(f"a set of {len(declared)} features", f"1 to {_FEATURES_MAX}")
        plan = compile_plan([(feature_id, feature.expression) for feature_id, feature in declared.items()])
        object.__setattr__(self, "features", MappingProxyType(declared))
        object.__setattr__(self, "plan", plan)
        object.__setattr__(self, "specs", tuple(_specs(declared, plan)))

    @property
    def fingerprint(self) -> str:
        """sha-256 of the plan: the identity frames, stores and models carry (rule 9)."""
        return self.plan.fingerprint

    @cached_property
    def plan_json(self) -> str:
        """The canonical plan both backends run."""
        return self.plan.to_json(self.feature_set_id, self.schema_version)

    @cached_property
    def feature_ids(self) -> tuple[str, ...]:
        """The ids in their order, which is the order of values in a frame."""
        return tuple(spec.feature_id for spec in self.specs)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {feature_id: i for i, feature_id in enumerate(self.feature_ids)}

    def index(self, feature_id: str) -> int:
        """The feature's place in a frame; `UnknownFeature` names those there are."""
        try:
            return self._index[feature_id]
        except (KeyError, TypeError):
            raise UnknownFeature(feature_id, self.feature_ids) from None

    def expression(self, feature_id: str) -> Expression:
        """The feature's expression, to compose others from."""
        feature = self.features[self.feature_ids[self.index(feature_id)]]
        return feature.expression if isinstance(feature, Feature) else feature

    def diff(self, other: FeatureSet) -> tuple[FeatureDifference, ...]:
        """How `other` differs from this set, feature by feature; empty when nothing does.

        Order: this set's features, then those only `other` has.
        """
        found: list[FeatureDifference] = []
        for spec in self.specs:
            if spec.feature_id not in other:
                found.append(FeatureDifference(spec.feature_id, "feature", spec.index, None))
                continue
            twin = other[spec.feature_id]
            found += [
                FeatureDifference(spec.feature_id, f.name, getattr(spec, f.name), getattr(twin, f.name))
                for f in fields(spec)
                if getattr(spec, f.name) != getattr(twin, f.name)
            ]
        found += [
            FeatureDifference(s.feature_id, "feature", None, s.index)
            for s in other.specs
            if s.feature_id not in self
        ]
        return tuple(found)

    def __getitem__(self, feature_id: str) -> FeatureSpec:
        return self.specs[self.index(feature_id)]

    def __contains__(self, feature_id: object) -> bool:
        return feature_id in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self.feature_ids)

    def __repr__(self) -> str:
        return f"<FeatureSet {self.feature_set_id}, {len(self.specs)} features, {self.fingerprint[:16]}>"

    def __len__(self) -> int:
        return len(self.specs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FeatureSet):
            return NotImplemented
        return self.plan_json == other.plan_json and self.specs == other.specs

    def __hash__(self) -> int:
        return hash(self.plan_json)

    def __reduce__(self) -> tuple[type[FeatureSet], tuple[str, int, dict[str, Feature | Expression]]]:
        return FeatureSet, (self.feature_set_id, self.schema_version, dict(self.features))


def _check_header(feature_set_id: object, schema_version: object) -> None:
    if not isinstance(feature_set_id, str) or not _SET_ID.fullmatch(feature_set_id):
        raise PlanError(f"feature set id {feature_set_id!r}", "1 to 128 letters, digits, `_`, `.` or `-`")
    if (
        not isinstance(schema_version, int)
        or isinstance(schema_version, bool)
        or not 1 <= schema_version < 1 << 32
    ):
        raise PlanError(
            f"schema_version {schema_version!r} of {feature_set_id!r}", "an integer from 1 to 2^32 - 1"
        )


def _declared(features: object) -> Iterable[tuple[str, Feature]]:
    if not isinstance(features, Mapping):
        raise PlanError(f"features of type {type(features).__name__}", "a mapping of ids to expressions")
    folded: dict[str, str] = {}
    for feature_id, given in features.items():
        wrong = _wrong_id(feature_id)
        if wrong is not None:
            raise PlanError(f"feature id {feature_id!r}", wrong, feature_id=str(feature_id))
        if (twin := folded.setdefault(feature_id.lower(), feature_id)) != feature_id:
            expected = f"ids that differ from {twin!r} in more than case"
            raise PlanError(f"feature id {feature_id!r}", expected, feature_id=feature_id)
        yield feature_id, _checked_feature(feature_id, given)


def _wrong_id(feature_id: object) -> str | None:
    """What a feature id should be instead, or None for a good one."""
    if feature_id in RESERVED_IDS:
        return "another one; a table has a column of this name"
    if (
        isinstance(feature_id, str)
        and _FEATURE_ID.fullmatch(feature_id)
        and not keyword.iskeyword(feature_id)
    ):
        return None
    return "a name of ASCII letters, digits and `_`, at most 64 long, no Python keyword"


def _checked_feature(feature_id: str, given: object) -> Feature:
    if isinstance(given, Expression):
        return Feature(given)
    if not isinstance(given, Feature):
        raise PlanError(f"a {type(given).__name__}", "an expression or a Feature", feature_id=feature_id)
    expression: object = given.expression
    flags: object = given.flags
    texts: tuple[object, ...] = (given.name, given.note)
    if not isinstance(expression, Expression):
        raise PlanError(f"a Feature of {type(expression).__name__}", "an expression", feature_id=feature_id)
    if not isinstance(flags, int) or not 0 <= flags <= _ALL_FLAGS:
        raise PlanError(f"flags {flags!r}", "PROMOTED, MODEL_SAFE, both or none", feature_id=feature_id)
    if not all(isinstance(text, str) and len(text) <= _TEXT_MAX for text in texts):
        expected = f"text of at most {_TEXT_MAX} characters"
        raise PlanError("a name or note of another kind", expected, feature_id=feature_id)
    return Feature(expression, given.name, FeatureFlags(flags), given.note)


def _specs(declared: Mapping[str, Feature], plan: Plan) -> Iterator[FeatureSpec]:
    for index, ((feature_id, feature), published) in enumerate(
        zip(declared.items(), plan.features, strict=True)
    ):
        node = plan.nodes[published.node]
        yield FeatureSpec(
            feature_id=feature_id,
            index=index,
            name=feature.name or feature_id,
            dtype=node.dtype,
            unit=node.unit,
            scale=node.scale,
            source_kind="mixed" if len(node.reads) > 1 else next(iter(node.reads)),
            kind=node.kind,
            warmup_min_events=node.warm_events,
            warmup_min_ns=node.warm_ns,
            flags=feature.flags,
            parity="exact",
            definition=str(feature.expression),
            note=feature.note,
        )
