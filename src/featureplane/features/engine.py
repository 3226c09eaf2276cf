"""The door to computing features: events in, frames out, whichever backend computes.

Leans on `reference` and `native`. Knows nothing of tables, files or sources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from featureplane import native
from featureplane.arguments import expect, whole_number
from featureplane.errors import (
    EmptyStream,
    FeatureSetMismatch,
    InputError,
    SettingError,
    StateError,
    UnknownSymbol,
)
from featureplane.features.catalog import set_or_id
from featureplane.features.columns import Columns, LateColumns
from featureplane.features.counts import COUNTS
from featureplane.features.frame import FeatureFrame
from featureplane.features.latest import LatestFrames
from featureplane.features.native_engine import Doors, NativeEngine
from featureplane.features.reference import ReferenceEngine
from featureplane.features.sampling import Emit, parse_every
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch

if TYPE_CHECKING:  # who has no shadow does not wait for what starts one
    from featureplane.features.shadow import Shadow

__all__ = ["FeatureEngine"]

Execution = NativeEngine | ReferenceEngine


class FeatureEngine:
    """Computes the frames of a feature set.

    `backend` is `auto` (Rust when installed, else Python with one line saying so), `rust` or
    `python`; the frames are the same bytes. `emit` is `update` for every frame, `change` for those
    in which a value or a flag changed; `every` keeps one in so many, or the last at or before
    each multiple of a period such as `100ms` (rules 5.5, 5.6).

    Raises `BackendUnavailable` for `rust` where it is not installed, `SettingError` for words that
    are no choice.

    `replay` takes a stream from its beginning to its end and hands out frames to keep; `push` takes it
    message by message, as it comes, and shows frames that stand until the next push.
    """

    def __init__(
        self,
        fset: FeatureSet | str,
        backend: str = "auto",
        emit: Emit = "update",
        every: int | str | None = None,
    ) -> None:
        if emit not in {"update", "change"}:
            raise SettingError(f"emit={emit!r}", hint="choose one of update, change")
        self.fset = fset = set_or_id(fset)
        self.backend = native.resolve(backend)
        self._emit: Emit = emit
        self._every = parse_every(every)
        self._counts: dict[str, Counter[str]] = {}  # of the last stream that ended
        self._replaying: Execution | None = None  # the stream that is replayed
        self._asked: list[Callable[[], None]] = []  # of it, before its next batch
        self._pushing: Execution | None = None  # the stream that is pushed
        self._events: EventBatch | None = None  # the batch it is pushed from
        self._failed = False
        self._latest: LatestFrames | None = None
        self._market: Any = None
        self._shadow: Shadow | None = None

    def replay(self, events: EventBatch | Iterable[EventBatch]) -> Iterator[FeatureFrame]:
        """The frames of a stream from its beginning, in the order of the messages that make them.

        Several batches are one stream, cut between events anywhere. Each frame is a view on bytes
        of its own and stays what it is as long as it is held.

        Raises
        ------
        EmptyStream
            No batch was given.
        MalformedEvent, UnknownSymbol, SequenceGap
            As the stream's options ask for; the frames before have come out then.
        """
        for engine, batch in self._taken(events):
            for frame, _ in engine.process(batch.array):
                yield frame

    def push(self, events: EventBatch, start: int = 0, stop: int | None = None) -> tuple[FeatureFrame, ...]:
        """Take events `start` to `stop` of a batch, whole messages; the frames they make, mostly one or none.

        One call into Rust a push, and no new object: frames are views on room that the next push
        writes over. What is to be kept is copied with `FeatureFrame.copy`. All pushes are one stream,
        whichever batches they take from, computed event by event; `finish` ends it. The first batch says
        what instruments, source and options the stream has. Batches may stand in memory that is
        written between two pushes, such as a ring: events are checked when they are taken.

        Raises
        ------
        SettingError
            The events are not there, or begin or end inside a message; nothing was taken.
        MalformedEvent, UnknownSymbol, SequenceGap
            As the stream's options ask for. `pushed` has the frames of the messages before; the stream
            has ended.
        StateError
            The stream has ended so.
        """
        pushing = self._pushing
        if pushing is None or events is not self._events:
            pushing = self._turn_to(events)
        try:
            return pushing.push(start, len(events) if stop is None else stop)
        except InputError:
            self.fail()
            raise
        except TypeError:
            whole_number("start", start, "the number of an event", least=0)
            behind = len(events) if stop is None else stop
            whole_number("stop", behind, "the number of an event", least=0)
            raise

    def fail(self) -> None:
        """End the stream with an error; for who pushes through `doors`."""
        self._events, self._failed = None, True
        if self._shadow is not None:
            self._shadow.end()
        if self._latest is not None:
            self._latest.clear()

    def doors(self, events: EventBatch) -> Doors | None:
        """`push` and `retire` for one message of this batch after the other, without a call of ours around.

        None where Python computes; books have to be bound. The first, given where the message begins and
        ends, gives its frames; where there are none, the bits of what it did to the books; a negative
        number for more frames than anybody thought of, which `pushed` shows; None if it is no message, and
        `push` says why. Behind an `InputError` of it the caller calls `fail`. The second is told how many
        frames there are. Both are good until the stream ends or somebody pushes from another batch.
        """
        pushing = self._pushing
        if pushing is None or events is not self._events:
            pushing = self._turn_to(events)
        return pushing.doors if isinstance(pushing, NativeEngine) else None

    def follow(self, latest: LatestFrames | None) -> None:
        """Let `latest` have the last frame of each symbol pushed from now on; None: nobody.

        What was there is forgotten, here, when another stream begins and when one ends with an error.
        Raises `FeatureSetMismatch` for one of another set.
        """
        if latest is not None:
            if latest.layout.fingerprint != self.fset.fingerprint:
                raise FeatureSetMismatch(self.fset.fingerprint, latest.layout.fingerprint)
            latest.clear()
        self._latest = latest
        if self._pushing is not None:
            self._pushing.follow(latest)

    def watch(self, shadow: Shadow | None) -> None:
        """Compare the stream that is pushed with a shadow from its beginning, or no more; None: with none.

        Raises `StateError` for a stream that has begun already, `SettingError` for a shadow that computes the
        same set with the same backend, `BackendUnavailable` for one in Rust where that is not installed.
        """
        if shadow is not None:
            if self._pushing is not None:
                raise StateError(
                    "a shadow of a stream that has begun", hint="`watch` before the first `push`"
                )
            shadow.backend_beside(self.backend)
        if self._shadow is not None:
            self._shadow.end()
        self._shadow = shadow
        if self._pushing is not None:
            self._pushing.watch(None)

    def bind_market(self, market: Any) -> bool:
        """Take the message of every push to these books of Rust too, `MarketBooks.native`, in the same call.

        A push is then of one message. None: to no books. Whether it is done: not where Python computes.
        """
        if self.backend != "rust":
            return False
        self._market = market
        if isinstance(self._pushing, NativeEngine):
            self._pushing.bind_market(market)
        return market is not None

    def retire(self) -> None:
        """End the frames of the last push: whoever still holds one and reads it gets `StateError`."""
        if self._pushing is not None:
            self._pushing.retire()

    @property
    def pushed(self) -> tuple[FeatureFrame, ...]:
        """The frames of the last push, as long as they stand; also of one that raised an error."""
        return () if self._pushing is None else self._pushing.pushed

    def finish(self) -> None:
        """End the stream that was pushed; the next push begins another."""
        if self._pushing is not None:
            self._pushing.finish()
            self._counts = self._pushing.counts
        if self._shadow is not None:
            self._shadow.end()
        self._pushing, self._events, self._failed = None, None, False

    @property
    def dropped(self) -> Counter[str]:
        """What the guard left out, by reason: of the stream being pushed, else of the last one that ended."""
        return self.counts["dropped"]

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Exact counts by name, of the same stream as `dropped`, all its symbols together.

        `dropped`: messages and empty trades not used, by reason. `gaps`: holes in the ids, by channel.
        `broken`: books that broke, by cause (`gap`, `crossed`, `malformed`, `queue`; rule 3.9).
        `resets`: steps at which kernels were reset, by cause (`first`, `recovery`, `trading`, `daily`,
        `gap`, `reconnect`, `explicit`, `restored`; rule 3.6); causes that meet at one step count there
        once each. `flags`: frames computed on which a quality flag stands that did not stand on the
        symbol's frame before (rule 4), put out or not. `steps`: `back` and `clock_fault` of the clock
        (rules 5.3, 3.10), and each `unread_trade` outside trading. Both backends count alike; what did
        not happen is not listed. A restored state brings no counts with it.
        """
        if self._pushing is not None:
            return self._pushing.counts
        if not self._counts:
            self._counts = {name: Counter() for name in COUNTS}
        return self._counts

    def reset(self, symbol: str | int | None = None) -> None:
        """Reset all kernels of a symbol, by name or id, or of all symbols, at its next step (rule 3.6).

        Book, guard and clock stay. The frame of that step carries `STATE_RESET`, and what is ready in it
        contains nothing older. Concerns the stream that is pushed, from the next push on; else the one
        that `replay` or `columns` takes, from its next batch on, in both backends.

        Raises
        ------
        UnknownSymbol
            The stream does not have the symbol.
        StateError
            No stream is being taken; one begins with everything reset.
        """
        for engine, symbol_id in self._meant(symbol):
            self._ask(partial(engine.reset, symbol_id))

    def reconnect(self, symbol: str | int | None = None) -> None:
        """Tell that a symbol's connection, or that of all, is another one and may not go on where it was.

        All ids are forgotten, the book and what is buffered for it emptied, the book waits for a snapshot
        (with `seed="increments"` it grows from the next message), and so does every frame of a set that
        reads it. Lateness is measured anew (rule 3.10), the clock and `seq` go on. All kernels are reset
        at the next step, trades too; the next frame carries `STATE_RESET`, and `GAP_DETECTED` if the set
        reads a book that was begun before. When it counts, and what it raises, is as in `reset`.
        """
        for engine, symbol_id in self._meant(symbol):
            self._ask(partial(engine.reconnect, symbol_id))
            if self._latest is not None and engine is self._pushing:
                self._latest.clear(self._latest.layout.symbols[symbol_id])

    def _meant(self, symbol: str | int | None) -> list[tuple[Execution, int]]:
        """The stream that is taken, and those of its symbols."""
        if self._failed:
            raise _ended()
        engine = self._pushing or self._replaying
        if engine is None:
            raise StateError("no stream is being taken", hint="`push`, `replay` or `columns` begins one")
        known = {one.symbol_id: one.symbol for one in engine.instruments}
        meant = [(engine, one) for one, name in known.items() if symbol in {None, one, name}]
        if not meant:
            raise UnknownSymbol(symbol, list(known.values()))
        return meant

    def _ask(self, call: Callable[[], None]) -> None:
        if self._pushing is not None:
            call()
        else:
            self._asked.append(call)

    def columns(self, events: EventBatch | Iterable[EventBatch]) -> Iterator[Columns]:
        """The same frames as columns, a run for each batch; raises what `replay` raises."""
        for engine, batch in self._taken(events):
            yield engine.columns(batch.array)

    def late_columns(self, events: EventBatch | Iterable[EventBatch]) -> Iterator[Columns | LateColumns]:
        """The same for whoever looks at them later, or not at all: some wait until then to be taken apart."""
        for engine, batch in self._taken(events):
            if isinstance(engine, NativeEngine):
                yield engine.late_columns(batch.array)
            else:
                yield engine.columns(batch.array)

    def _taken(self, events: EventBatch | Iterable[EventBatch]) -> Iterator[tuple[Execution, EventBatch]]:
        batches = EventBatch.each(events)
        first = next(batches, None)
        if first is None:
            raise EmptyStream("a stream without batches", hint="give at least one batch")
        engine, asked = self._begun(first), list[Callable[[], None]]()
        self._replaying, self._asked = engine, asked
        try:
            for batch in chain((first,), batches):
                for call in asked:
                    call()
                asked.clear()
                yield engine, batch
        finally:
            if self._replaying is engine:
                self._replaying = None
        engine.finish()
        self._counts = engine.counts

    def _begun(self, first: EventBatch) -> Execution:
        make = NativeEngine if self.backend == "rust" else ReferenceEngine
        return make(
            self.fset, first.instruments, first.source, first.options, emit=self._emit, every=self._every
        )

    def _turn_to(self, events: EventBatch) -> Execution:
        if self._failed:
            raise _ended()
        expect("events", events, EventBatch, "an `EventBatch`", hint="`read_events` makes one")
        pushing = self._pushing or self._begun(events)
        pushing.turn_to(events)
        if self._pushing is None and self._latest is not None:
            self._latest.clear()
            pushing.follow(self._latest)
        if self._pushing is None and self._shadow is not None:
            stream = events.instruments, events.source, events.options
            pushing.watch(self._shadow.begin(self.fset, self.backend, stream, events))
        if self._market is not None and isinstance(pushing, NativeEngine):
            pushing.bind_market(self._market)
        self._pushing, self._events = pushing, events
        return pushing


def _ended() -> StateError:
    return StateError(
        "the stream that was pushed has ended with an error",
        hint='`finish()` lets another begin; one read with on_malformed="drop" goes on by itself',
    )
