"""A runner with what a running service asks of it: how long stages take, and what can be relied on.

Leans on `strategy.versions`. Knows nothing of services.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featureplane.features.frame import FeatureFrame
from featureplane.features.latest import LatestFrames
from featureplane.features.pipeline import Pipeline
from featureplane.market.events import EventBatch
from featureplane.market.feed import MessageFeed
from featureplane.market.instruments import choose_instrument
from featureplane.strategy.candidate import BothFeeds
from featureplane.strategy.stages import Stages
from featureplane.strategy.versions import VersionedRunner

__all__ = ["ServiceRunner"]


class ServiceRunner(VersionedRunner):
    """A runner that can be asked between two messages."""

    def push_timed(
        self, data: bytes, local_ts_ns: int | None = None, symbol: str | None = None
    ) -> tuple[tuple[FeatureFrame, ...], Mapping[str, int]]:
        """As `push`; and how long each stage took, in nanoseconds.

        `features`: reading, guard, book and features, which are one call; `risk` and `order`: reviewing and
        sending orders; `dispatch`: everything else, handlers and the venue's market; `candidate`: what a
        candidate takes, which is none of the others.
        """
        feed: Any = self._feed
        stages = Stages(self._timer)
        if feed is None:
            return self.push(data, local_ts_ns, symbol), {}
        timed: Any = _TimedFeed(feed, stages)
        if isinstance(feed, BothFeeds):
            timed = feed.timed(_TimedFeed(feed.active, stages), stages)
        self._feed, self._exchange.stages = timed, stages  # it stands in for one message
        began = stages.timer()
        try:
            frames = self.push(data, local_ts_ns, symbol)
        finally:
            self._exchange.stages = None
            if self._feed is timed:  # not where a candidate was lost meanwhile
                self._feed = feed
        stages.rest("dispatch", began)
        return frames, stages.spent

    def is_whole(self, symbol: str) -> bool:
        """Whether the book of a symbol is known, and nothing of it is missing; raises `UnknownSymbol`."""
        return self._books.is_whole(choose_instrument(self.instruments, symbol).symbol_id)

    @property
    def active(self) -> Pipeline | None:
        """What computes the active set; None without features."""
        return self._engine if isinstance(self._engine, Pipeline) else None

    @property
    def latest(self) -> LatestFrames | None:
        """The last frame of each symbol; None without features."""
        return self._latest


class _TimedFeed:
    """A feed whose reading is timed."""

    def __init__(self, feed: Pipeline | MessageFeed, stages: Stages) -> None:
        self._feed, self._stages = feed, stages

    def push(self, data: bytes, local_ts_ns: int | None, symbol: str | None) -> tuple[FeatureFrame, ...]:
        """See `Pipeline.push`."""
        began = self._stages.timer()
        frames = self._feed.push(data, local_ts_ns, symbol)
        self._stages.add("features", began)
        return frames

    @property
    def taken(self) -> tuple[EventBatch, int]:
        """See `Pipeline.taken`."""
        return self._feed.taken
