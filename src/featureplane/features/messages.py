"""Executions that begin with the bytes of a venue's message: normaliser, guard, book, engine.

Two with one interface, `NativeMessages` and `ReferenceMessages`; `features.pipeline` is their door.
Leans on `native_engine`, `reference` and the plain readers of `market.sources`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.errors import MalformedEvent, SettingError
from featureplane.features.frame import FeatureFrame
from featureplane.features.native_engine import NativeEngine, is_dated
from featureplane.features.reference import ReferenceEngine
from featureplane.features.sampling import Emit, Every
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EVENT_DTYPE, EventBatch, SourceInfo, StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.sources.binance_feed import Lane, PlainFeed
from featureplane.market.sources.binance_plain import LINE_BYTES_MAX, local_time
from featureplane.units import TIME_LIMIT_NS

__all__ = ["FeedSettings", "NativeMessages", "ReferenceMessages"]

_EVENTS: Final = 4_096
"""Events of a message there is room for at the beginning: a snapshot of 1,000 levels a side, and more."""


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """What is fed, and how it is to be taken."""

    source: SourceInfo
    instruments: tuple[Instrument, ...]
    options: StreamOptions
    emit: Emit = "update"
    every: Every | None = None
    bytes_max: int = LINE_BYTES_MAX

    @property
    def lanes(self) -> list[Lane]:
        """The instruments as normalisers know them."""
        return [(one.symbol, one.symbol_id, one.price_exponent, one.qty_exponent) for one in self.instruments]

    @property
    def futures(self) -> bool:
        """Whether diffs name the id before them (rule 3.2)."""
        return self.source.name != "binance-spot"

    def batch(self, events: npt.NDArray[Any]) -> EventBatch:
        """Events of a message that were read."""
        return EventBatch(events, self.instruments, self.source, self.options, checked=True)


class NativeMessages(NativeEngine):
    """Messages in Rust: one call each, into room for its events and its frames that was made before."""

    def __init__(self, fset: FeatureSet, feed: FeedSettings) -> None:
        super().__init__(fset, feed.instruments, feed.source, feed.options, emit=feed.emit, every=feed.every)
        self._feed = feed
        self._pipe: Any = None
        self._words = np.zeros(8 * _EVENTS, np.uint64)
        self.room = feed.batch(self._words.view(EVENT_DTYPE))

    def open(self, data: bytes, local_ts_ns: int | None) -> None:
        """Make ready to take messages, of which this is the first."""
        feed = self._feed
        begins_ns = _begins_ns(feed, data, local_ts_ns)
        engine = self._started(np.array([(begins_ns,)], np.dtype([("source_ts_ns", "<i8")])))
        engine.bind_room(self._room.words)
        self._pipe = native.module().Pipeline(
            engine,
            feed.source.name,
            feed.lanes,
            futures=feed.futures,
            drop_malformed=feed.options.on_malformed == "drop",
            bytes_max=feed.bytes_max,
        )
        self._pipe.bind_events(self._words)
        self._take = self._pipe.push

    def take(self, data: bytes, local_ts_ns: int | None, lane: int | None = None) -> tuple[FeatureFrame, ...]:
        """The frames of one message; `lane` is the instrument that was asked for."""
        count = self._take(data, local_ts_ns, lane)
        if count is None:
            raise _no_time(local_ts_ns)
        return self._room.seen(count) if count <= self._room.frames else self._grown(count)

    @property
    def count(self) -> int:
        """Events of the last message; they are the first in `room`."""
        count: int = 0 if self._pipe is None else self._pipe.events
        if count > len(self.room):
            self._words = np.zeros(16 * count, np.uint64)
            self._pipe.bind_events(self._words)
            self.room = self._feed.batch(self._words.view(EVENT_DTYPE))
        return count

    @property
    def lane(self) -> Instrument:
        """The instrument that the last message was read as one of."""
        return self._feed.instruments[0 if self._pipe is None else self._pipe.lane]

    @property
    def unread(self) -> Sequence[tuple[str, int]]:
        """Messages that became no event, by reason."""
        dropped: Sequence[tuple[str, int]] = () if self._pipe is None else self._pipe.dropped()
        return dropped


class ReferenceMessages(ReferenceEngine):
    """The reference: the plain reader before the reference engine."""

    def __init__(self, fset: FeatureSet, feed: FeedSettings) -> None:
        super().__init__(fset, feed.instruments, feed.source, feed.options, emit=feed.emit, every=feed.every)
        self._feed = feed
        self._reader_of_bytes = PlainFeed(
            feed.source.name,
            feed.lanes,
            futures=feed.futures,
            drop_malformed=feed.options.on_malformed == "drop",
            bytes_max=feed.bytes_max,
        )
        self.room = feed.batch(np.zeros(0, EVENT_DTYPE))

    def open(self, data: bytes, local_ts_ns: int | None) -> None:
        """Make ready to take messages, of which this is the first."""
        _begins_ns(self._feed, data, local_ts_ns)

    def take(self, data: bytes, local_ts_ns: int | None, lane: int | None = None) -> tuple[FeatureFrame, ...]:
        """The frames of one message; `lane` is the instrument that was asked for."""
        if not isinstance(data, bytes):
            raise TypeError("messages are bytes")
        local = None if local_ts_ns is None else operator.index(local_ts_ns)
        if local is not None and not 0 < local < TIME_LIMIT_NS:
            raise _no_time(local)
        self.room, self.pushed = self._feed.batch(np.zeros(0, EVENT_DTYPE)), ()
        words = self._reader_of_bytes.read(data, local, lane)
        self.room = self._feed.batch(words.view(EVENT_DTYPE))
        self.turn_to(self.room)
        return self.push(0, len(self.room))

    @property
    def count(self) -> int:
        """Events of the last message; they are those in `room`."""
        return len(self.room)

    @property
    def lane(self) -> Instrument:
        """The instrument that the last message was read as one of."""
        return self._feed.instruments[self._reader_of_bytes.lane]

    @property
    def unread(self) -> Sequence[tuple[str, int]]:
        """Messages that became no event, by reason."""
        return self._reader_of_bytes.dropped()


def _no_time(local_ts_ns: int | None) -> SettingError:
    return SettingError(
        f"local_ts_ns={local_ts_ns}",
        hint="the receive time in nanoseconds since 1970; None for a line that begins with its own",
    )


def _begins_ns(feed: FeedSettings, data: bytes, local_ts_ns: int | None) -> int:
    """When the first message came: hours and resets are written out from then on."""
    if local_ts_ns is not None:
        return operator.index(local_ts_ns)
    read = local_time(data)
    if read is None and any(is_dated(one) for one in feed.instruments):
        found = f"a first message without one of {feed.source.name}"
        raise MalformedEvent(found, "a local time, from which on hours and resets are known")
    return read[0] if read else 0
