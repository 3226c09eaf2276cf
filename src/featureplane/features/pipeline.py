"""From the bytes of a venue's message to frames: one call a message.

    raw message -> normaliser -> guard -> book -> engine -> frames

Leans on `messages` and `market`. Knows nothing of files, sockets or clocks: whoever receives a message says
when that was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from featureplane import native
from featureplane.errors import FeatureSetMismatch, InputError, SettingError, StateError, UnknownSymbol
from featureplane.features.catalog import set_or_id
from featureplane.features.counts import COUNTS
from featureplane.features.frame import FeatureFrame
from featureplane.features.latest import LatestFrames
from featureplane.features.messages import NativeMessages, ReferenceMessages
from featureplane.features.reference import ReferenceEngine
from featureplane.features.sampling import Emit, parse_every
from featureplane.features.spec import FeatureSet
from featureplane.features.state_book import book_snapshot
from featureplane.features.succession import Standing, succeeding
from featureplane.market.events import EVENT_DTYPE, EventBatch, StreamOptions
from featureplane.market.feed import ended, lane_of, not_a_message, refuse, request_feed
from featureplane.market.instruments import Instrument
from featureplane.market.reading import InstrumentsLike
from featureplane.market.stages import Stages

if TYPE_CHECKING:  # who has no shadow does not wait for what starts one
    from featureplane.features.shadow import Shadow
    from featureplane.features.shadow_queue import Queue

__all__ = ["Pipeline"]

_Execution = NativeMessages | ReferenceMessages


class Pipeline:
    """Frames of a feature set from a venue's messages as they come, of one instrument or several.

    `source` is `binance-spot`, `binance-usdm` or `binance-coinm`; `instruments` a file or instruments,
    `symbols` those of them that are wanted (None: all of the source's venue). A live stream cannot be looked
    through beforehand, so its instruments must be declared (rule 1.1); `live=False`, for recordings, takes
    inferred ones. `backend`, `emit` and `every` are those of `FeatureEngine`; the options from `on_gap` to
    `seed_after` those of `read_events`, and frames are the same bytes as from
    `FeatureEngine.replay(read_events(...))` over the same lines.

    Messages of other symbols and streams are counted. A snapshot that names no symbol, as Binance spot
    answers, is used where there is one instrument, or `push` is told whose it is; else it is counted as
    `unnamed_snapshot`.

    Raises `BackendUnavailable`, `SettingError`, `UnknownSymbol`, and what `load_instruments` raises.
    """

    def __init__(
        self,
        fset: FeatureSet | str,
        source: str,
        instruments: InstrumentsLike,
        symbols: str | Iterable[str] | None = None,
        *,
        backend: str = "auto",
        emit: Emit = "update",
        every: int | str | None = None,
        on_gap: str = "wait",
        on_malformed: str = "raise",
        seed: str = "snapshot",
        seed_after: int | None = None,
        live: bool = True,
    ) -> None:
        if emit not in {"update", "change"}:
            raise SettingError(f"emit={emit!r}", hint="choose one of update, change")
        options = StreamOptions(on_gap, on_malformed, seed, seed_after)
        self.fset = fset = set_or_id(fset)
        self.backend = native.resolve(backend)
        self._emit: Emit = emit
        self._every = parse_every(every)
        self._how: dict[str, Any] = {"emit": emit, "every": every, "on_gap": on_gap, "seed": seed}
        self._how |= {"on_malformed": on_malformed, "seed_after": seed_after}
        self._feed = request_feed(source, instruments, symbols, options, live=live)
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTS}
        self._running: _Execution | None = None
        self._open: _Execution | None = None  # the same, until it fails
        self._latest: LatestFrames | None = None
        self._market: Any = None
        self._shadow: Shadow | None = None
        self._states: dict[int, bytes] = {}  # that the next stream goes on from
        self._stages: Stages | None = None

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Those whose messages are read."""
        return self._feed.instruments

    @property
    def options(self) -> StreamOptions:
        """How the stream is taken."""
        return self._feed.options

    def push(
        self, data: bytes, local_ts_ns: int | None = None, symbol: str | None = None
    ) -> tuple[FeatureFrame, ...]:
        """Take one whole message; the frames it makes, mostly one or none.

        `data` is the text as the venue sent it and `local_ts_ns` when it was received, nanoseconds since
        1970; or, without that, a line of a recording, which begins with its local time. An end of line
        does no harm. `symbol` is what was asked for, where `data` is the answer to a request and names none.
        One call into Rust, and no new object: frames and `events` stand in room that the
        next push writes over; `FeatureFrame.copy` keeps one.

        Raises
        ------
        MalformedEvent
            With `on_malformed="raise"` (the default) for what no rule can read; `file` is the source and
            `line` the number of the message, from 1. With `"drop"` it is counted, and breaks the book if
            it may have been of the book (rule 10.1).
        InstrumentMismatch
            A price or size finer than the instruments file declares.
        SequenceGap
            With `on_gap="refuse"`.
        UnknownSymbol
            For a `symbol` that is not here; nothing was taken.
        SettingError
            No bytes, or no time; nothing was taken.
        StateError
            The stream has ended with an error; `finish` lets another begin.
        """
        lane = None if symbol is None else lane_of(symbol, self.instruments)
        running = self._open or self._begun(data, local_ts_ns)
        try:
            return running.take(data, local_ts_ns, lane)
        except InputError as error:
            self._fail(running, error)
        except (TypeError, OverflowError):
            raise not_a_message(data, local_ts_ns) from None

    @property
    def events(self) -> EventBatch:
        """The events of the last message, for who reads more than frames; they stand until the next push.

        None of them where the message was not one of a book, trade or quote of these instruments.
        """
        room, count = self.taken
        return room if count == len(room) else self._feed.batch(room.array[:count])

    @property
    def taken(self) -> tuple[EventBatch, int]:
        """The room that events stand in and how many of it, from the first on, are the last message's.

        In Rust the same batch each time, until a message needs more room: who looks at every message binds it
        once.
        """
        if self._running is None:
            return self._feed.batch(np.zeros(0, EVENT_DTYPE)), 0
        feed = self._running.feed
        count = feed.count
        return feed.room, count

    @property
    def has_begun(self) -> bool:
        """Whether a stream is being taken, or has ended with an error."""
        return self._running is not None

    @property
    def pushed(self) -> tuple[FeatureFrame, ...]:
        """The frames of the last push, as long as they stand."""
        return () if self._running is None else self._running.pushed

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Exact counts of the stream, or of the last one that ended, as `FeatureEngine.counts` has them.

        `dropped` also has what the reader left out: `other_symbol`, `other_stream`, `unnamed_snapshot`, and
        trades and quotes that are `malformed`.
        """
        running = self._running
        if running is None:
            return self._counts
        tables = running.counts
        tables["dropped"].update({reason: count for reason, count in running.feed.unread if count})
        return tables

    @property
    def unread(self) -> dict[str, int]:
        """What the reader left out of this stream so far, by reason; costs less than `counts`."""
        return {} if self._running is None else dict(self._running.feed.unread)

    def follow(self, latest: LatestFrames | None) -> None:
        """Let `latest` have the last frame of each symbol from now on; see `FeatureEngine.follow`."""
        if latest is not None:
            if latest.layout.fingerprint != self.fset.fingerprint:
                raise FeatureSetMismatch(self.fset.fingerprint, latest.layout.fingerprint)
            latest.clear()
        self._latest = latest
        if self._running is not None:
            self._running.follow(latest)

    def watch(self, shadow: Shadow | None) -> None:
        """Compare the stream with a shadow from its next message on, or no more; None: with none.

        Raises as `FeatureEngine.watch`, but a stream that has begun may be watched too.
        """
        if shadow is not None:
            shadow.backend_beside(self.backend)
        if self._shadow is not None:
            self._shadow.end()
        self._shadow = shadow
        if self._running is not None:
            self._running.watch(None if shadow is None else self._begin_shadow(shadow))

    def _begin_shadow(self, shadow: Shadow) -> Queue | None:
        stream = self._feed.instruments, self._feed.source, self._feed.options
        return shadow.begin(self.fset, self.backend, stream)

    def successor(self, fset: FeatureSet) -> Pipeline:
        """A pipeline of another set that goes on, from the next message on, where this one stands.

        Source, instruments, backend and options are the same. Book, guard, clock and `seq` go over, and so
        does all that both sets compute alike; other kernels begin without a value, which is no reset (rule
        3.6): flags tell of the input, masks of what is not known yet. Where one of the sets reads no book,
        and before the first message, everything begins anew. Nothing is changed here. Raises `StateError`
        for a stream that has ended with an error.
        """
        name = self._feed.source.name
        made = Pipeline(fset, name, self.instruments, backend=self.backend, live=False, **self._how)
        if self._running is not None:
            live = self._taken()
            states = {one.symbol_id: live.snapshot(one.symbol_id) for one in self.instruments}
            made.begin_at(Standing(self.fset, live.begins_ns, states))
        elif self._states:
            states = succeeding(Standing(self.fset, 0, self._states), fset, self._feed)
            about = {one.symbol_id: one.symbol for one in self.instruments}
            made.go_on_from({about[symbol_id]: state for symbol_id, state in states.items()})
        return made

    def begin_at(self, before: Standing) -> None:
        """Begin a stream where that of this set, or of another, stands; before the first message."""
        running = self._made()
        running.open(b"", before.begins_ns or None)
        for symbol_id, state in succeeding(before, self.fset, self._feed).items():
            running.restore(symbol_id, state)
        self._running = self._open = running

    def time(self, stages: Stages | None) -> None:
        """Tell how long the parts of each push take, `ENGINE_STAGES`, from now on; None: nobody."""
        self._stages = stages
        if self._running is not None:
            self._running.time(stages)

    def bind_market(self, market: Any) -> bool:
        """See `FeatureEngine.bind_market`; of a push that is several messages the books take none."""
        if self.backend != "rust":
            return False
        self._market = market
        if isinstance(self._running, NativeMessages):
            self._running.bind_market(market)
        return market is not None

    def retire(self) -> None:
        """End the frames of the last push: whoever still holds one and reads it gets `StateError`."""
        if self._running is not None:
            self._running.retire()

    def reset(self, symbol: str | int | None = None) -> None:
        """Reset all kernels of a symbol, or of all, at its next step; see `FeatureEngine.reset`."""
        running = self._taken()
        for symbol_id in self._meant(symbol):
            running.reset(symbol_id)

    def reconnect(self, symbol: str | int | None = None) -> None:
        """Tell that the connection of a symbol, or of all, is another one; see `FeatureEngine.reconnect`."""
        running = self._taken()
        for symbol_id in self._meant(symbol):
            running.reconnect(symbol_id)
            if self._latest is not None:
                self._latest.clear(self._latest.layout.symbols[symbol_id])

    def save(self) -> dict[str, bytes] | None:
        """The state of each symbol between two messages (`docs/reference/engine-state.md`).

        Empty where no stream is being taken; None where one has ended with an error.
        """
        running = self._open
        if running is None:
            return {} if self._running is None else None
        return {one.symbol: running.snapshot(one.symbol_id) for one in self.instruments}

    def go_on_from(self, states: Mapping[str, bytes]) -> None:
        """Let the next stream go on from what `save` gave, instead of beginning anew.

        Raises `StateError` where a stream is being taken, `UnknownSymbol`, and what restoring raises:
        `FeatureSetMismatch` for states of another set, `MalformedEvent` for what are none.
        """
        if self._running is not None:
            raise StateError("a state for a stream that has begun", hint="`finish` ends it")
        tried = self._made()
        for symbol, state in states.items():
            tried.restore(self._meant(symbol)[0], state)
        self._states = {self._meant(symbol)[0]: state for symbol, state in states.items()}

    @property
    def standing_books(self) -> EventBatch:
        """The whole books that the next stream goes on from, a snapshot each, for who looks at the market."""
        runs = ReferenceEngine(self.fset, self._feed.instruments, self._feed.source, self._feed.options)
        books = [book_snapshot(runs.symbol(symbol_id), state) for symbol_id, state in self._states.items()]
        return self._feed.batch(np.concatenate([np.zeros(0, EVENT_DTYPE), *books]))

    def finish(self) -> None:
        """End the stream; the next push begins another."""
        if self._running is not None:
            self._running.finish()
            self._counts = self.counts
        if self._shadow is not None:
            self._shadow.end()
        self._running = self._open = None

    def _made(self) -> _Execution:
        make = NativeMessages if self.backend == "rust" else ReferenceMessages
        return make(self.fset, self._feed, emit=self._emit, every=self._every)

    def _begun(self, data: bytes, local_ts_ns: int | None) -> _Execution:
        if self._running is not None:
            raise ended()
        running = self._made()
        try:
            running.open(data, local_ts_ns)
        except (AttributeError, TypeError, OverflowError):
            raise not_a_message(data, local_ts_ns) from None
        for symbol_id, state in self._states.items():
            running.restore(symbol_id, state)
        self._states = {}
        if self._latest is not None:
            self._latest.clear()
            running.follow(self._latest)
        if self._market is not None and isinstance(running, NativeMessages):
            running.bind_market(self._market)
        if self._shadow is not None:
            running.watch(self._begin_shadow(self._shadow))
        if self._stages is not None:
            running.time(self._stages)
        self._running = self._open = running
        return running

    def _fail(self, running: _Execution, error: InputError) -> NoReturn:
        """End the stream with an error."""
        self._open = None
        if self._shadow is not None:
            self._shadow.end()
        if self._latest is not None:
            self._latest.clear()
        refuse(error, running.feed.lane)

    def _taken(self) -> _Execution:
        if self._running is None:
            raise StateError("no stream is being taken", hint="`push` begins one")
        if self._open is None:
            raise ended()
        return self._open

    def _meant(self, symbol: str | int | None) -> list[int]:
        meant = [one.symbol_id for one in self.instruments if symbol in {None, one.symbol_id, one.symbol}]
        if not meant:
            raise UnknownSymbol(symbol, [one.symbol for one in self.instruments])
        return meant
