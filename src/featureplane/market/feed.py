"""From the bytes of a venue's message to its events: one call a message, and no features.

`features.pipeline` is the same with an engine behind it. Leans on `sources` and `native`. Knows nothing of
features, files, sockets or clocks: whoever receives a message says when that was.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.errors import InputError, MalformedEvent, SettingError, StateError, UnknownSymbol
from featureplane.market.agreement import exponent_mismatch
from featureplane.market.events import EVENT_DTYPE, EventBatch, SourceInfo, StreamOptions
from featureplane.market.instruments import Instrument, choose_instrument
from featureplane.market.reading import InstrumentsLike, request_for
from featureplane.market.sources import find_source, source_names
from featureplane.market.sources.binance_feed import Lane, PlainFeed
from featureplane.market.sources.binance_plain import LINE_BYTES_MAX
from featureplane.market.stages import Stages
from featureplane.units import TIME_LIMIT_NS

__all__ = [
    "FeedSettings",
    "MessageFeed",
    "NativeFeed",
    "ReferenceFeed",
    "ended",
    "lane_of",
    "no_time",
    "not_a_message",
    "refuse",
    "request_feed",
]

_EVENTS: Final = 4_096
"""Events of a message there is room for at the beginning: a snapshot of 1,000 levels a side, and more."""


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """What is fed, and how it is to be taken."""

    source: SourceInfo
    instruments: tuple[Instrument, ...]
    options: StreamOptions
    bytes_max: int = LINE_BYTES_MAX

    @property
    def lanes(self) -> list[Lane]:
        """The instruments as normalisers know them."""
        return [(one.symbol, one.symbol_id, one.price_exponent, one.qty_exponent) for one in self.instruments]

    @property
    def drops_malformed(self) -> bool:
        """Whether what cannot be read is counted, and no error."""
        return self.options.on_malformed == "drop"

    @property
    def futures(self) -> bool:
        """Whether diffs name the id before them (rule 3.2)."""
        return self.source.name != "binance-spot"

    def batch(self, events: npt.NDArray[Any]) -> EventBatch:
        """Events of a message that were read."""
        return EventBatch(events, self.instruments, self.source, self.options, checked=True)


class NativeFeed:
    """Messages read in Rust, into room that was made before; with an engine its frames are made too."""

    def __init__(self, settings: FeedSettings, engine: Any = None) -> None:
        self._settings = settings
        self._pipe = native.module().Pipeline(
            engine,
            settings.source.name,
            settings.lanes,
            futures=settings.futures,
            drop_malformed=settings.drops_malformed,
            bytes_max=settings.bytes_max,
        )
        self._make_room(_EVENTS)
        self.push = self._pipe.push
        """Takes a message, its time and the lane asked for; frames or their number, None for no time."""

    def take(self, data: bytes, local_ts_ns: int | None, lane: int | None = None) -> None:
        """Read one message."""
        if self.push(data, local_ts_ns, lane) is None:
            raise no_time(local_ts_ns)

    def time(self, stages: Stages | None) -> None:
        """Tell how long the parts of each push take, from now on; None: nobody."""
        pipe = self._pipe
        if stages is None:
            self.push = pipe.push
            return

        def push(data: bytes, local_ts_ns: int | None, lane: int | None) -> Any:
            told: tuple[Any, list[int | None]] | None = pipe.push_timed(data, local_ts_ns, lane)
            if told is None:
                return None
            stages.note(told[1])
            return told[0]

        self.push = push

    def bind_market(self, market: Any) -> None:
        """Let every push take its message to these books too, or to none."""
        self._pipe.bind_market(market)

    def _make_room(self, events: int) -> None:
        words = np.zeros(8 * events, np.uint64)
        self._pipe.bind_events(words)
        self.room = self._settings.batch(words.view(EVENT_DTYPE))

    @property
    def count(self) -> int:
        """Events of the last message; they are the first in `room`."""
        count: int = self._pipe.events
        if count > len(self.room):
            self._make_room(2 * count)
        return count

    @property
    def lane(self) -> Instrument:
        """The instrument that the last message was read as one of."""
        lane: int = self._pipe.lane
        return self._settings.instruments[lane]

    @property
    def unread(self) -> Sequence[tuple[str, int]]:
        """Messages that became no event, by reason."""
        dropped: Sequence[tuple[str, int]] = self._pipe.dropped()
        return dropped


class ReferenceFeed:
    """The reference: the plain reader."""

    def __init__(self, settings: FeedSettings) -> None:
        self._settings = settings
        self._reader = PlainFeed(
            settings.source.name,
            settings.lanes,
            futures=settings.futures,
            drop_malformed=settings.drops_malformed,
            bytes_max=settings.bytes_max,
        )
        self.room = settings.batch(np.zeros(0, EVENT_DTYPE))
        self._stages: Stages | None = None

    def time(self, stages: Stages | None) -> None:
        """See `NativeFeed.time`."""
        self._stages = stages

    def take(self, data: bytes, local_ts_ns: int | None, lane: int | None = None) -> None:
        """Read one message."""
        if not isinstance(data, bytes):
            raise TypeError("messages are bytes")
        local = None if local_ts_ns is None else operator.index(local_ts_ns)
        if local is not None and not 0 < local < TIME_LIMIT_NS:
            raise no_time(local)
        self.room = self._settings.batch(np.zeros(0, EVENT_DTYPE))
        if self._stages is not None:
            self._stages.begin()
        self.room = self._settings.batch(self._reader.read(data, local, lane).view(EVENT_DTYPE))
        if self._stages is not None:
            self._stages.lap("normalize")

    @property
    def count(self) -> int:
        """Events of the last message; they are those in `room`."""
        return len(self.room)

    @property
    def lane(self) -> Instrument:
        """The instrument that the last message was read as one of."""
        return self._settings.instruments[self._reader.lane]

    @property
    def unread(self) -> Sequence[tuple[str, int]]:
        """Messages that became no event, by reason."""
        return self._reader.dropped()


class MessageFeed:
    """The events of a venue's messages as they come: `Pipeline` without features, else the same.

    Arguments are those of `Pipeline` that do not concern features, and so are the errors.
    """

    def __init__(
        self,
        source: str,
        instruments: InstrumentsLike,
        symbols: str | Iterable[str] | None = None,
        *,
        backend: str = "auto",
        on_gap: str = "wait",
        on_malformed: str = "raise",
        seed: str = "snapshot",
        seed_after: int | None = None,
        live: bool = True,
    ) -> None:
        self.backend = native.resolve(backend)
        options = StreamOptions(on_gap, on_malformed, seed, seed_after)
        self._settings = request_feed(source, instruments, symbols, options, live=live)
        self._failed = False
        self._market: Any = None
        self._begin()

    def _begin(self) -> None:
        self._feed: NativeFeed | ReferenceFeed
        if self.backend == "rust":
            self._feed = NativeFeed(self._settings)
            self._feed.bind_market(self._market)
        else:
            self._feed = ReferenceFeed(self._settings)

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Those whose messages are read."""
        return self._settings.instruments

    @property
    def options(self) -> StreamOptions:
        """How the stream is taken."""
        return self._settings.options

    def push(self, data: bytes, local_ts_ns: int | None = None, symbol: str | None = None) -> tuple[()]:
        """Take one whole message; see `Pipeline.push`. There are no frames: `taken` has the events."""
        if self._failed:
            raise ended()
        lane = None if symbol is None else lane_of(symbol, self.instruments)
        try:
            self._feed.take(data, local_ts_ns, lane)
        except InputError as error:
            self._failed = True
            refuse(error, self._feed.lane)
        except (TypeError, OverflowError):
            raise not_a_message(data, local_ts_ns) from None
        return ()

    def time(self, stages: Stages | None) -> None:
        """See `Pipeline.time`."""
        self._feed.time(stages)

    @property
    def taken(self) -> tuple[EventBatch, int]:
        """See `Pipeline.taken`."""
        count = self._feed.count
        return self._feed.room, count

    def bind_market(self, market: Any) -> bool:
        """See `FeatureEngine.bind_market`."""
        if not isinstance(self._feed, NativeFeed):
            return False
        self._market = market
        self._feed.bind_market(market)
        return market is not None

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """What became no event, by reason, as `dropped`."""
        return {"dropped": Counter({reason: count for reason, count in self._feed.unread if count})}

    @property
    def unread(self) -> dict[str, int]:
        """See `Pipeline.unread`."""
        return dict(self._feed.unread)

    def finish(self) -> None:
        """End the stream; the next push begins another."""
        self._failed = False
        self._begin()


def request_feed(
    source: str,
    instruments: InstrumentsLike,
    symbols: str | Iterable[str] | None,
    options: StreamOptions,
    *,
    live: bool,
) -> FeedSettings:
    """What is to be fed; raises `SettingError`, `UnknownSymbol`, and what `load_instruments` raises."""
    found = find_source(source)
    if not found.takes_messages:
        able = [name for name in source_names() if find_source(name).takes_messages]
        raise SettingError(
            f"{source} has no messages to push one by one", hint=f"choose one of {', '.join(able)}"
        )
    return FeedSettings(found.info, _chosen(instruments, symbols, source, live=live), options)


def _chosen(
    given: InstrumentsLike, symbols: str | Iterable[str] | None, source: str, *, live: bool
) -> tuple[Instrument, ...]:
    """The instruments meant, each by a name of its own."""
    instruments = request_for("none", source, instruments=given).instruments or ()
    if symbols is None:
        chosen = [one for one in instruments if one.venue == source] or list(instruments)
    else:
        names = [symbols] if isinstance(symbols, str) else list(symbols)
        chosen = [choose_instrument(instruments, name, source) for name in dict.fromkeys(names)]
    if not chosen:
        raise SettingError("a pipeline without instruments", hint="name at least one")
    twice = [name for name, count in Counter(one.symbol for one in chosen).items() if count > 1]
    if twice:
        raise SettingError(f"which {twice[0]} is meant is not clear", hint="one instrument a symbol")
    inferred = [one.symbol for one in chosen if one.inferred]
    if live and inferred:
        raise SettingError(
            f"{inferred[0]} is inferred from data, a live stream needs it declared (rule 1.1)",
            hint="`featureplane instruments infer` writes a file to check and give as `instruments`; "
            "`live=False` for recordings",
        )
    return tuple(chosen)


def lane_of(symbol: str, instruments: Sequence[Instrument]) -> int:
    """Which instrument that is, from 0; raises `UnknownSymbol`."""
    names = [one.symbol for one in instruments]
    if symbol not in names:
        raise UnknownSymbol(symbol, names)
    return names.index(symbol)


def refuse(error: InputError, lane: Instrument) -> NoReturn:
    """Raise the error, or `InstrumentMismatch` where that is what it comes of."""
    if isinstance(error, MalformedEvent):
        mismatch = exponent_mismatch(error, lane)
        if mismatch is not None:
            raise mismatch from None
    raise error


def not_a_message(data: object, local_ts_ns: object) -> SettingError:
    """What is raised for anything but bytes and a time."""
    return SettingError(
        f"a message of {type(data).__name__}, received at {local_ts_ns!r}",
        hint="`bytes`, as the venue sent them, and nanoseconds since 1970",
    )


def no_time(local_ts_ns: int | None) -> SettingError:
    """What is raised for a time no event may have."""
    return SettingError(
        f"local_ts_ns={local_ts_ns}",
        hint="the receive time in nanoseconds since 1970; None for a line that begins with its own",
    )


def ended() -> StateError:
    """What is raised behind an error."""
    return StateError(
        "the stream has ended with an error",
        hint='`finish()` lets another begin; with on_malformed="drop" it goes on by itself',
    )
