"""What was measured of a candidate beside the active version: counts that add up over runs of a service.

Whatever is not known is None and proves nothing. Leans on nothing but words of its own; `criteria` judges.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

__all__ = ["FLAGS", "RUNS_MAX", "THIRDS", "Evidence", "Quantiles", "Run", "Tail"]

FLAGS: Final = ("gap", "state_reset", "stale_input", "out_of_order", "partial", "crossed")
"""Quality flags whose rates are compared."""

THIRDS: Final = 3
RUNS_MAX: Final = 32
_EXACT_BITS: Final = 8  # integers below 2^8 are kept as they are, others by their first 8 bits
_MOST: Final = 1 << 53
_BUCKETS: Final = 54 - _EXACT_BITS + 2 << _EXACT_BITS - 1


class Quantiles:
    """Quantiles of integers from 0, in bounded room: exact below 256, within 1/128 above.

    What is below 0 counts as 0, what is above 2^53 as that. Noting one costs no more than keeping it: they
    are counted a thousand at a time.
    """

    __slots__ = ("_counted", "_counts", "_new", "add")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._counts, self._counted = np.zeros(_BUCKETS, np.int64), 0
        self._new: deque[int] = deque()
        self.add: Callable[[int], None] = self._new.append
        """Note one."""

    def settle(self) -> None:
        """Count what was noted; from time to time, so that it does not pile up."""
        if not self._new:
            return
        values = np.array([min(max(one, 0), _MOST) for one in self._new], np.int64)
        self._new.clear()
        self._counted += len(values)
        cut = np.maximum(np.frexp(values.astype(np.float64))[1].astype(np.int64) - _EXACT_BITS, 0)
        places = (cut << _EXACT_BITS - 1) + (values >> cut)
        self._counts += np.bincount(places, minlength=_BUCKETS)

    @property
    def count(self) -> int:
        """How many were noted."""
        return self._counted + len(self._new)

    def at(self, share: float) -> int | None:
        """The least value that so large a share of all does not exceed; None of nothing."""
        self.settle()
        if not self._counted:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), share * self._counted))
        cut = max((place >> _EXACT_BITS - 1) - 1, 0)
        return place - (cut << _EXACT_BITS - 1) << cut


@dataclass(frozen=True, slots=True)
class Tail:
    """The 99th percentile of something, and of how many samples."""

    p99: float | None = None
    samples: int = 0

    @classmethod
    def of(cls, quantiles: Quantiles) -> Tail:
        """That of what was noted."""
        return cls(quantiles.at(0.99), quantiles.count)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a service: without the candidate first, then with it."""

    depth_before: Tail = Tail()
    depth_with: Tail = Tail()
    latency_before: Tail = Tail()
    latency_with: Tail = Tail()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a candidate since the transition `began`, at `since`, brought it into the shadow.

    `compared` and `mismatches` count frames, the latter by promoted feature and by what belongs to no one
    feature (`_ready`, `_flags`, ...); a name that is not there is not known to be 0. `thirds` are compared
    frames by third of the session. `flags_active` and `flags_candidate` count frames with a quality flag
    among the same `compared` ones. `features` are the promoted features that are compared. `consumed` counts,
    by strategy, the compared frames of the candidate that it was handed in canary; `forms` has its class.
    """

    active: str = ""
    candidate: str = ""
    began: int = 0
    since: str = ""
    shadow: bool | None = None
    abs_tol: float | None = None
    features: tuple[str, ...] = ()
    compared: int | None = None
    mismatches: Mapping[str, int] | None = None
    thirds: tuple[int, ...] | None = None
    flags_active: Mapping[str, int] | None = None
    flags_candidate: Mapping[str, int] | None = None
    divergences: Mapping[str, int] = field(default_factory=dict)
    consumed: Mapping[str, int] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()

    def concerns(self, other: Evidence) -> bool:
        """Whether both are about the same candidate, beside the same version, since the same time."""
        return self._about == other._about

    @property
    def _about(self) -> tuple[str, str, int, str]:
        return self.active, self.candidate, self.began, self.since

    def __add__(self, later: Evidence) -> Evidence:
        """Both together; what is not known of either is not known of both."""
        off = None in {self.shadow, later.shadow}
        tolerances = (self.abs_tol, later.abs_tol)
        return replace(
            later,
            shadow=None if off else bool(self.shadow and later.shadow),
            abs_tol=None if None in tolerances else max(one for one in tolerances if one is not None),
            features=tuple(one for one in later.features if one in self.features),
            compared=None
            if self.compared is None or later.compared is None
            else self.compared + later.compared,
            mismatches=_sum_known(self.mismatches, later.mismatches),
            thirds=None
            if self.thirds is None or later.thirds is None
            else tuple(a + b for a, b in zip(self.thirds, later.thirds, strict=True)),
            flags_active=_sum(self.flags_active, later.flags_active),
            flags_candidate=_sum(self.flags_candidate, later.flags_candidate),
            divergences=_sum(self.divergences, later.divergences) or {},
            consumed=_sum(self.consumed, later.consumed) or {},
            forms={**self.forms, **later.forms},
            runs=(*self.runs, *later.runs)[-RUNS_MAX:],
        )

    def to_json(self) -> dict[str, Any]:
        """As a table that `from_json` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> Evidence:
        """From what `to_json` made; raises `TypeError` or `ValueError` for anything else."""
        if not isinstance(table, dict):
            raise TypeError("no table")
        given = dict(table)
        _check_kinds(given)
        runs = tuple(
            Run(**{name: Tail(**tail) for name, tail in one.items()}) for one in given.pop("runs", ())
        )
        thirds = given.pop("thirds", None)
        features = tuple(given.pop("features", ()))
        if thirds is not None and len(thirds) != THIRDS:
            raise ValueError("no thirds")
        return cls(**given, runs=runs, features=features, thirds=None if thirds is None else tuple(thirds))


_NONE: Final = type(None)
_PLAIN: Final[Mapping[str, tuple[type, ...]]] = {
    **dict.fromkeys(("active", "candidate", "since"), (str,)),
    "began": (int,),
    "shadow": (bool, _NONE),
    "abs_tol": (int, float, _NONE),
    "compared": (int, _NONE),
}
_TABLES: Final[Mapping[str, type]] = {
    **dict.fromkeys(("mismatches", "flags_active", "flags_candidate", "divergences", "consumed"), int),
    "forms": str,
}
_MAY_BE_UNKNOWN: Final = frozenset({"mismatches", "flags_active", "flags_candidate", "thirds"})


def _check_kinds(given: Mapping[str, Any]) -> None:
    """WHY before anything is added up: what no run could have written says nothing of any run."""
    for name, value in given.items():
        if value is None and name in _MAY_BE_UNKNOWN:
            continue
        is_fit = True
        if name in _PLAIN:
            is_fit = type(value) in _PLAIN[name]
        elif name in _TABLES:
            is_fit = isinstance(value, dict) and {type(one) for one in value.values()} <= {_TABLES[name]}
        elif name in {"features", "thirds"}:
            kind = str if name == "features" else int
            is_fit = isinstance(value, list) and {type(one) for one in value} <= {kind}
        if not is_fit:
            raise TypeError(f"{name} is {str(value)[:40]!r}")


def _sum(left: Mapping[str, int] | None, right: Mapping[str, int] | None) -> dict[str, int] | None:
    if left is None or right is None:
        return None
    return {name: left.get(name, 0) + right.get(name, 0) for name in {**left, **right}}


def _sum_known(left: Mapping[str, int] | None, right: Mapping[str, int] | None) -> dict[str, int] | None:
    """A name that only one of them has is left out where that has 0: it is not known to be 0 in both."""
    total = _sum(left, right)
    if total is None or left is None or right is None:
        return None
    return {name: count for name, count in total.items() if count or (name in left and name in right)}
