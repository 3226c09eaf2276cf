"""A runner with what a running service asks of it: how long stages take, and what can be relied on.

Leans on `strategy.versions`. Knows nothing of services.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from featureplane.features.frame import FeatureFrame
from featureplane.features.latest import LatestFrames
from featureplane.features.pipeline import Pipeline
from featureplane.market.events import EventBatch
from featureplane.market.instruments import choose_instrument
from featureplane.market.stages import Stages
from featureplane.strategy.market import DID_WORD, HEAD_WORDS, Did
from featureplane.strategy.versions import VersionedRunner

__all__ = ["DID_WORD", "WHOLE", "Seen", "ServiceRunner"]

WHOLE: Final = int(Did.WHOLE)
"""Stands in `Seen.head[DID_WORD]` behind a message that was read, where its book is whole."""


class Seen(Protocol):
    """What the last message did."""

    @property
    def head(self) -> Sequence[int] | memoryview[int]:
        """Words of `strategy.market`."""
        ...


class _Nothing:
    """Where engine and books are several calls it is not told; then anything may have happened."""

    head: Sequence[int] = (0,) * HEAD_WORDS


_NOTHING_SEEN: Final = _Nothing()


class ServiceRunner(VersionedRunner):
    """A runner that can be asked between two messages."""

    __slots__ = ()

    def push_timed(
        self, data: bytes, local_ts_ns: int | None = None, symbol: str | None = None
    ) -> tuple[tuple[FeatureFrame, ...], Mapping[str, int]]:
        """As `push`; and how long each stage took, in nanoseconds.

        `normalize`, `guard`, `book` and `features` are what the engine tells of its one call; `risk` and
        `order`: reviewing and sending orders; `dispatch`: everything else, handlers and the venue's market.
        What was done for a shadow, `aside`, or in a `candidate` is in none of these. A stage that the message
        did not go through is not there.
        """
        feed, stages = self._feed, Stages(self._timer)
        if feed is None:
            return self.push(data, local_ts_ns, symbol), {}
        feed.time(stages)
        self._exchange.stages = stages
        began = stages.timer()
        try:
            frames = self.push(data, local_ts_ns, symbol)
        finally:
            self._exchange.stages = None
            feed.time(None)
        stages.rest("dispatch", began)
        return frames, stages.spent

    def show_books(self, events: EventBatch) -> None:
        """Let books and venue begin where the stream does, which goes on from states; nobody is called."""
        start = 0
        self._turn_to(events)
        for stop in events.message_ends.tolist():
            self._did(start, stop)
            if self._follows is not None:
                self._follows(events, start, stop)
            start = stop
        self._events, self._most = None, 0  # WHY: what comes next stands elsewhere

    def is_whole(self, symbol: str) -> bool:
        """Whether the book of a symbol is known, and nothing of it is missing; raises `UnknownSymbol`."""
        return self._books.is_whole(choose_instrument(self.instruments, symbol).symbol_id)

    @property
    def seen(self) -> Seen:
        """Where it shows what the last message did; holds until another engine is used.

        WHY an object to be kept and looked at: a call for each message would be a tenth of it.
        """
        return self._room if self._joined else _NOTHING_SEEN

    @property
    def active(self) -> Pipeline | None:
        """What computes the active set; None without features."""
        return self._engine if isinstance(self._engine, Pipeline) else None

    @property
    def latest(self) -> LatestFrames | None:
        """The last frame of each symbol; None without features."""
        return self._latest
