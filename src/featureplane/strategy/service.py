"""A runner with what a running service asks of it: how long stages take, and what can be relied on.

Leans on `strategy.versions`. Knows nothing of services.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from featureplane.features.frame import FeatureFrame
from featureplane.features.latest import LatestFrames
from featureplane.features.pipeline import Pipeline
from featureplane.market.events import EventBatch
from featureplane.market.instruments import choose_instrument
from featureplane.market.stages import Stages
from featureplane.strategy.market import DID_WORD, Did
from featureplane.strategy.versions import VersionedRunner

__all__ = ["ServiceRunner"]

_WHOLE: Final = int(Did.WHOLE)


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
    def may_be_unread(self) -> bool:
        """Whether the last message may have become nothing that can be used; False where it did not.

        One look where engine and books are one call: behind a message that was read the book is whole, or
        waits for a snapshot.
        """
        return not self._joined or not self._room.head[DID_WORD] & _WHOLE

    @property
    def active(self) -> Pipeline | None:
        """What computes the active set; None without features."""
        return self._engine if isinstance(self._engine, Pipeline) else None

    @property
    def latest(self) -> LatestFrames | None:
        """The last frame of each symbol; None without features."""
        return self._latest
