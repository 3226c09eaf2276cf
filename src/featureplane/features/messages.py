"""Executions that begin with the bytes of a venue's message: normaliser, guard, book, engine.

Two with one interface, `NativeMessages` and `ReferenceMessages`; `features.pipeline` is their door.
Leans on `native_engine`, `reference` and `market.feed`.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from featureplane.errors import InputError, MalformedEvent
from featureplane.features.frame import FeatureFrame
from featureplane.features.native_engine import NativeEngine, is_dated
from featureplane.features.reference import ReferenceEngine
from featureplane.features.sampling import Emit, Every
from featureplane.features.spec import FeatureSet
from featureplane.market.feed import FeedSettings, NativeFeed, ReferenceFeed, no_time
from featureplane.market.sources.binance_plain import local_time
from featureplane.market.stages import Stages

__all__ = ["NativeMessages", "ReferenceMessages"]


class NativeMessages(NativeEngine):
    """Messages in Rust: one call each, into room for its events and its frames that was made before."""

    feed: NativeFeed
    """What has read the messages, once `open` was called."""

    begins_ns: int
    """When the stream began, 0 where that does not matter."""

    def __init__(
        self, fset: FeatureSet, settings: FeedSettings, *, emit: Emit = "update", every: Every | None = None
    ) -> None:
        super().__init__(
            fset, settings.instruments, settings.source, settings.options, emit=emit, every=every
        )
        self._settings = settings

    def open(self, data: bytes, local_ts_ns: int | None) -> None:
        """Make ready to take messages, of which this is the first."""
        begins_ns = self.begins_ns = _begins_ns(self._settings, data, local_ts_ns)
        engine = self._started(np.array([(begins_ns,)], np.dtype([("source_ts_ns", "<i8")])))
        self._bind_room(engine)
        self.feed = NativeFeed(self._settings, engine)
        self._take = self.feed.push

    def bind_market(self, market: Any) -> None:
        """See `NativeEngine.bind_market`."""
        self.feed.bind_market(market)

    def time(self, stages: Stages | None) -> None:
        """See `Pipeline.time`."""
        self.feed.time(stages)
        self._take = self.feed.push

    def take(self, data: bytes, local_ts_ns: int | None, lane: int | None = None) -> tuple[FeatureFrame, ...]:
        """The frames of one message; `lane` is the instrument that was asked for."""
        frames = self._take(data, local_ts_ns, lane)
        if frames is None:
            raise no_time(local_ts_ns)
        return self._seen(-frames) if isinstance(frames, int) else frames


class ReferenceMessages(ReferenceEngine):
    """The reference: the plain reader before the reference engine."""

    begins_ns: int
    """As there."""

    def __init__(
        self, fset: FeatureSet, settings: FeedSettings, *, emit: Emit = "update", every: Every | None = None
    ) -> None:
        super().__init__(
            fset, settings.instruments, settings.source, settings.options, emit=emit, every=every
        )
        self._settings = settings
        self.feed = ReferenceFeed(settings)

    def open(self, data: bytes, local_ts_ns: int | None) -> None:
        """Make ready to take messages, of which this is the first."""
        self.begins_ns = _begins_ns(self._settings, data, local_ts_ns)

    def time(self, stages: Stages | None) -> None:
        """See `Pipeline.time`."""
        self.feed.time(stages)
        self.tell(stages)

    def take(self, data: bytes, local_ts_ns: int | None, lane: int | None = None) -> tuple[FeatureFrame, ...]:
        """The frames of one message; `lane` is the instrument that was asked for."""
        feed = self.feed
        try:
            feed.take(data, local_ts_ns, lane)
        except InputError:
            self.pushed = ()
            raise
        self.turn_to(feed.room)
        return self.push(0, len(feed.room))


def _begins_ns(settings: FeedSettings, data: bytes, local_ts_ns: int | None) -> int:
    """When the first message came: hours and resets are written out from then on."""
    if local_ts_ns is not None:
        return operator.index(local_ts_ns)
    read = local_time(data)
    if read is None and any(is_dated(one) for one in settings.instruments):
        found = f"a first message without one of {settings.source.name}"
        raise MalformedEvent(found, "a local time, from which on hours and resets are known")
    return read[0] if read else 0
