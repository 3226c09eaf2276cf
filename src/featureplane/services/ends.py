"""Both ends of the loop: where messages come from, and who hears of them and of what they make.

Leans on `raw_queue` and `features.frame`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from featureplane.features.frame import FeatureFrame
from featureplane.services.raw_queue import Item, RawQueue

__all__ = ["Feed", "Subscriber"]


class Feed(Protocol):
    """Where raw messages come from. `waits`: the loop itself reads `items`, else `run` puts them."""

    @property
    def waits(self) -> bool:
        """Whether the next message waits until it is asked for."""

    def items(self) -> Iterator[Item]:
        """Messages and reconnects, in order."""

    def run(self, queue: RawQueue) -> None:
        """Put messages until there are no more, or `stop`; in a thread of its own."""

    def stop(self) -> None:
        """Put nothing more."""


class Subscriber(Protocol):
    """Hears every message before it is taken, and its frames behind it. Frames stand until it returns.

    One that has a method `on_candidate` is told by it, before that, what the message made of a candidate; one
    that has `on_set`, between two messages, which feature set is the active one from now on.
    """

    name: str

    def on_message(self, data: bytes, local_ts_ns: int | None, symbol: str | None) -> None:
        """A message came."""

    def on_reconnect(self, symbol: str | None, reason: str) -> None:
        """What comes next comes over another connection."""

    def on_frames(self, frames: Sequence[FeatureFrame]) -> None:
        """What the last message made."""

    def finish(self) -> None:
        """Nothing more comes."""
