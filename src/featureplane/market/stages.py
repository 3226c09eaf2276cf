"""How long the parts of one message take: what is measured now and then in a running service.

Knows nothing of what is done in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

__all__ = ["ASIDE", "CANDIDATE", "ENGINE_STAGES", "Stages"]

ASIDE: Final = "aside"
"""What is done for a shadow, which is no part of the message."""

CANDIDATE: Final = "candidate"
"""What a second set takes that is computed beside the active one."""

ENGINE_STAGES: Final = ("normalize", "guard", "book", "features", ASIDE)
"""Parts that an engine tells, in the order in which a message goes through them."""


class Stages:
    """Nanoseconds by stage of one message; a stage that it did not go through is not there.

    `lap` is for stages that follow each other, `add` for one that stands alone, `rest` for what is left.
    """

    __slots__ = ("_since", "spent", "timer")

    def __init__(self, timer: Callable[[], int]) -> None:
        self.timer = timer
        self.spent: dict[str, int] = {}
        self._since = 0

    def begin(self) -> None:
        """What the first lap is about begins now."""
        self._since = self.timer()

    def lap(self, stage: str) -> None:
        """What was done since the last lap, or since `begin`, was this stage."""
        now = self.timer()
        self.spent[stage] = self.spent.get(stage, 0) + now - self._since
        self._since = now

    def note(self, spent: Iterable[int | None]) -> None:
        """Laps that somebody else took, one of each of `ENGINE_STAGES`; None for one that was not there."""
        for stage, ns in zip(ENGINE_STAGES, spent, strict=True):
            if ns is not None:
                self.spent[stage] = self.spent.get(stage, 0) + ns

    def add(self, stage: str, began: int) -> None:
        """What began then, by `timer`, ends now."""
        self.spent[stage] = self.spent.get(stage, 0) + self.timer() - began

    def rest(self, stage: str, began: int) -> None:
        """As `add`, without what other stages took of it."""
        self.spent[stage] = max(0, self.timer() - began - sum(self.spent.values()))
