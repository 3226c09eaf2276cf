"""Which features of a set can never be defined on a feed, and why (rules 7.3, 10.3).

Leans on `spec` and `market.instruments`. Knows nothing of engines.
"""

from __future__ import annotations

from functools import lru_cache

from featureplane.features.plan import Plan, PlanNode
from featureplane.features.spec import FeatureSet
from featureplane.market.instruments import Instrument

__all__ = ["undefined_here"]


def undefined_here(fset: FeatureSet, instrument: Instrument, *, has_trades: bool = True) -> dict[str, str]:
    """Features that this instrument's feed can never define, each with the reason.

    Levels beyond the feed's `book_levels`; `vpin` without a bucket size; ticks without a tick size;
    and, with `has_trades=False`, whatever waits for a trade. Order: the set's. A feature that is
    merely not warm yet is not among them.
    """
    return dict(_undefined_here(fset, instrument, has_trades=has_trades))


@lru_cache(maxsize=64)  # who computes one day after the other asks the same each time
def _undefined_here(
    fset: FeatureSet, instrument: Instrument, *, has_trades: bool
) -> tuple[tuple[str, str], ...]:
    why = _reasons(fset.plan, instrument, has_trades=has_trades)
    return tuple([(f.feature_id, why[f.node]) for f in fset.plan.features if why[f.node]])


def _reasons(plan: Plan, instrument: Instrument, *, has_trades: bool) -> list[str]:
    why: list[str] = []
    for node in plan.nodes:
        own = _own_reason(node, instrument, has_trades=has_trades)
        why.append(own or next((why[i] for i in node.inputs if why[i]), ""))
    return why


def _own_reason(node: PlanNode, instrument: Instrument, *, has_trades: bool) -> str:
    levels = instrument.book_levels
    if not node.inputs and levels and node.levels > levels:
        return f"asks for book level {node.levels}, the feed has {levels}"
    match node.kernel:
        case "signed_qty" | "trade_price" | "trade_count" | "ms_since_trade" if not has_trades:
            return "there are no trades"
        case "vpin" if node.params["bucket"] is None and instrument.vpin_bucket is None:
            return "the instrument has no `vpin_bucket`"
        case "relative_ticks" if instrument.tick is None:
            return "the instrument has no `tick_size`"
    return ""
