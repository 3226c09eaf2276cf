"""States of one feature set as states of another: what both compute goes on, the rest begins anew.

Book, guard, clock and `seq` go over whole, so that nobody waits for a snapshot. Leans on `shadow_compare`
and the reference. Knows nothing of streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from featureplane.features.reference import ReferenceEngine
from featureplane.features.shadow_compare import transplanted
from featureplane.features.spec import FeatureSet
from featureplane.features.symbol import SymbolRun
from featureplane.market.feed import FeedSettings

__all__ = ["Standing", "can_follow", "succeeding"]


class Standing(NamedTuple):
    """Where the stream of a set stands: when it began, and the state of each symbol by its id."""

    fset: FeatureSet
    begins_ns: int
    states: Mapping[int, bytes]


def can_follow(before: FeatureSet, after: FeatureSet) -> bool:
    """Whether states can go over: not where one of two sets reads the book, which the other does not keep."""
    return ("book" in before.plan.reads) is ("book" in after.plan.reads)


def succeeding(before: Standing, after: FeatureSet, stream: FeedSettings) -> dict[int, bytes]:
    """States by symbol id that `after` goes on from; none where none can go over."""
    if before.fset.fingerprint == after.fingerprint:
        return dict(before.states)
    if not can_follow(before.fset, after):
        return {}

    def fresh(fset: FeatureSet, symbol_id: int) -> SymbolRun:
        return ReferenceEngine(fset, stream.instruments, stream.source, stream.options).symbol(symbol_id)

    plans = before.fset.plan, after.plan
    return {
        symbol_id: transplanted(state, fresh(before.fset, symbol_id), fresh(after, symbol_id), plans)
        for symbol_id, state in before.states.items()
    }
