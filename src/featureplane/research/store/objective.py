"""How much of a store's error budget is spent, and for how many minutes its objective was not met.

Leans on the minutes that `ledger` keeps, of all processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from featureplane.research.store.ledger import FOLDER, Minutes, minutes_since
from featureplane.units import NANOS_PER_SECOND

__all__ = ["OBJECTIVE", "Budget", "budget_of", "budget_since"]

OBJECTIVE: Final = 0.95
"""So many of the requested days are to be there."""

_WINDOW: Final = 5
_MINUTE_NS: Final = 60 * NANOS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Budget:
    """What came of requests since a time: `good` (hit, coalesced) and `bad` (miss, corrupt) days.

    `allowed` of them may be bad; `spent` is the part of that which is (above 1: more than there was; NaN
    without requests). `breach_minutes` are those in which the ratio of five minutes was below the objective;
    without requests there is no ratio. `minutes` had requests.
    """

    objective: float
    minutes: int
    good: int
    bad: int
    ratio: float
    allowed: float
    spent: float
    breach_minutes: int


def budget_since(root: Path, since_ns: int) -> Budget:
    """The budget of a root from the minute on in which that time lies."""
    first = since_ns // _MINUTE_NS
    return budget_of(minutes_since(root / FOLDER, first - _WINDOW + 1), first)


def budget_of(minutes: Minutes, first: int) -> Budget:
    """The budget of these minutes, from that one on; those before are only seen in its five minutes."""
    meant = {minute: counts for minute, counts in minutes.items() if minute >= first}
    good, bad = (sum(counts[which] for counts in meant.values()) for which in (0, 1))
    allowed = (1 - OBJECTIVE) * (good + bad)
    seen = {minute + later for minute in minutes for later in range(_WINDOW)}
    last = max(minutes, default=first)
    breached = sum(_is_breach(minutes, minute) for minute in seen if first <= minute <= last)
    return Budget(
        OBJECTIVE,
        len(meant),
        good,
        bad,
        good / (good + bad) if good + bad else math.nan,
        allowed,
        bad / allowed if good + bad else math.nan,
        breached,
    )


def _is_breach(minutes: Minutes, minute: int) -> bool:
    window = [minutes.get(minute - before, (0, 0)) for before in range(_WINDOW)]
    good, bad = (sum(one[which] for one in window) for which in (0, 1))
    return good < OBJECTIVE * (good + bad)
