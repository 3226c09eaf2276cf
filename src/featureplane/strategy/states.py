"""How the strategies of a runner stand, and who hears what they do.

Leans on `strategy.desk`. Knows nothing of who runs them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from featureplane.execution.orders import OrderEvent
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.desk import Decision, Desk

__all__ = ["Listener", "StrategyState"]


class Listener:
    """Hears what strategies do; override what is needed. It has no say in anything."""

    def on_decision(self, decision: Decision) -> None:
        """A strategy asked for an order, or for the end of one."""

    def on_order_event(self, strategy: str, event: OrderEvent) -> None:
        """Something happened to an order of a strategy, before the strategy is told."""

    def on_stopped(self, state: StrategyState) -> None:
        """A strategy was stopped by an error."""


class StrategyState:
    """How a strategy stands: whether it runs, the error that stopped it, what it was late with.

    `exceptions` and `over_budget` count by handler.
    """

    def __init__(self, strategy: BaseStrategy, desk: Desk) -> None:
        self.strategy, self.desk = strategy, desk
        self.is_running = True
        self.error: Exception | None = None
        self.exceptions: Counter[str] = Counter()
        self.over_budget: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """The strategy's name."""
        return self.strategy.name

    def timed(self, name: str, budget_ns: int | None, timer: Callable[[], int]) -> Callable[[Any], None]:
        """A handler of the strategy; one that takes longer than its budget, if it has one, is counted."""
        call: Callable[[Any], None] = getattr(self.strategy, name)
        if budget_ns is None:
            return call

        def timed(event: Any) -> None:
            began = timer()
            try:
                call(event)
            finally:
                if timer() - began > budget_ns:
                    self.over_budget[name] += 1

        return timed

    def __repr__(self) -> str:
        stands = "running" if self.is_running else f"stopped by {self.error!r}" if self.error else "off"
        return f"<{self.name}: {stands}>"
