"""How long the stages of one message take: what is measured now and then in a running service.

Knows nothing of strategies.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Stages"]


class Stages:
    """Nanoseconds by stage: `features`, `dispatch`, `risk`, `order`."""

    __slots__ = ("spent", "timer")

    def __init__(self, timer: Callable[[], int]) -> None:
        self.timer = timer
        self.spent: dict[str, int] = {}

    def add(self, stage: str, began: int) -> None:
        """What began then, by `timer`, ends now."""
        self.spent[stage] = self.spent.get(stage, 0) + self.timer() - began

    def rest(self, stage: str, began: int) -> None:
        """As `add`, without what other stages took of it."""
        self.spent[stage] = self.timer() - began - sum(self.spent.values())
