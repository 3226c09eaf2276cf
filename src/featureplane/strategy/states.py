"""How the strategies of a runner stand, and who hears what they do.

Leans on `strategy.desk`. Knows nothing of who runs them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from featureplane.errors import FeaturePlaneError, SettingError, StateError
from featureplane.execution.orders import OrderEvent
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.desk import Decision, Desk

__all__ = ["OWN", "Listener", "OwnError", "StrategyState", "check_given", "start"]

OWN: Final = (Exception, SystemExit)
"""What leaves a handler and is the strategy's own affair; Ctrl-C is not."""

OwnError = Exception | SystemExit


def check_given(strategies: Iterable[BaseStrategy], budget_ns: int | None) -> None:
    """Raise `SettingError` for two strategies of one name, and for a budget that is no time."""
    names = Counter(one.name for one in strategies)
    if repeated := [name for name, count in names.items() if count > 1]:
        raise SettingError(f"two strategies named {repeated[0]!r}", hint="give one of them another name=")
    if budget_ns is not None and (type(budget_ns) is not int or budget_ns < 0):
        raise SettingError(f"budget_ns={budget_ns!r}", hint="nanoseconds, an integer from 0, or None")


def start(strategy: BaseStrategy) -> None:
    """Call its `on_start`; raises `StateError` for whatever that raises, our own errors as they are."""
    try:
        strategy.on_start()
    except FeaturePlaneError:
        raise
    except OWN as error:
        why = f"{strategy.name} cannot start: {type(error).__name__}: {error}"
        raise StateError(why, hint="its `on_start` raised that; --debug shows where") from error


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
        self.error: OwnError | None = None
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
