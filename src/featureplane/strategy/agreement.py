"""When two forms of a strategy decide alike: decision by decision, everything in it equal.

Leans on `strategy.desk`. Knows nothing of who runs them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

from featureplane.strategy.desk import Decision

__all__ = ["Difference", "first_difference"]


class Difference(NamedTuple):
    """The first decision that differs, from 0; None where a form took no further one."""

    number: int
    legacy: Decision | None
    shared: Decision | None

    @property
    def first(self) -> Decision:
        """The earlier of the two."""
        return min((one for one in self[1:] if isinstance(one, Decision)), key=lambda one: one.message)

    def __str__(self) -> str:
        return f"decision {self.number}: legacy {_said(self.legacy)}, shared {_said(self.shared)}"


def first_difference(
    legacy: Iterable[Decision], shared: Iterable[Decision], start: int = 0
) -> Difference | None:
    """Where the decisions of two forms part, counted from `start`; None if they do not."""
    for number, (mine, other) in enumerate(zip_longest(legacy, shared), start):
        if mine != other:
            return Difference(number, mine, other)
    return None


def _said(decision: Decision | None) -> str:
    if decision is None:
        return "nothing"
    what = f"{decision.action} {'buy' if decision.side == 1 else 'sell'} {decision.qty} {decision.symbol}"
    at = "" if decision.price is None else f" at {decision.price}"
    return f"{what}{at} ({decision.tif}, m{decision.message})"
