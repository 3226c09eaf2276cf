"""The door to computing features: events in, frames out, whichever backend computes.

Leans on `reference` and `native`. Knows nothing of tables, files or sources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from featureplane import native
from featureplane.errors import EmptyStream, InputError, SettingError, StateError
from featureplane.features.columns import Columns
from featureplane.features.frame import FeatureFrame
from featureplane.features.native_engine import NativeEngine
from featureplane.features.reference import ReferenceEngine
from featureplane.features.sampling import Emit, parse_every
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch

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
        fset: FeatureSet,
        backend: str = "auto",
        emit: Emit = "update",
        every: int | str | None = None,
    ) -> None:
        if emit not in {"update", "change"}:
            raise SettingError(f"emit={emit!r}", hint="choose one of update, change")
        self.fset = fset
        self.backend = native.resolve(backend)
        self._emit: Emit = emit
        self._every = parse_every(every)
        self._dropped: Counter[str] = Counter()
        self._pushing: Execution | None = None  # the stream that is pushed
        self._events: EventBatch | None = None  # the batch it is pushed from
        self._failed = False

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
            self._events, self._failed = None, True
            raise

    @property
    def pushed(self) -> tuple[FeatureFrame, ...]:
        """The frames of the last push, as long as they stand; also of one that raised an error."""
        return () if self._pushing is None else self._pushing.pushed

    def finish(self) -> None:
        """End the stream that was pushed; the next push begins another."""
        if self._pushing is not None:
            self._pushing.finish()
            self._dropped = self._pushing.dropped
        self._pushing, self._events, self._failed = None, None, False

    @property
    def dropped(self) -> Counter[str]:
        """What the guard left out, by reason: of the stream being pushed, else of the last one that ended."""
        return self._dropped if self._pushing is None else self._pushing.dropped

    def columns(self, events: EventBatch | Iterable[EventBatch]) -> Iterator[Columns]:
        """The same frames as columns, a run for each batch; raises what `replay` raises."""
        for engine, batch in self._taken(events):
            yield engine.columns(batch.array)

    def _taken(self, events: EventBatch | Iterable[EventBatch]) -> Iterator[tuple[Execution, EventBatch]]:
        batches = iter([events] if isinstance(events, EventBatch) else events)
        first = next(batches, None)
        if first is None:
            raise EmptyStream("a stream without batches", hint="give at least one batch")
        engine = self._begun(first)
        for batch in chain((first,), batches):
            yield engine, batch
        engine.finish()
        self._dropped = engine.dropped

    def _begun(self, first: EventBatch) -> Execution:
        make = NativeEngine if self.backend == "rust" else ReferenceEngine
        return make(
            self.fset, first.instruments, first.source, first.options, emit=self._emit, every=self._every
        )

    def _turn_to(self, events: EventBatch) -> Execution:
        if self._failed:
            raise StateError(
                "the stream that was pushed has ended with an error",
                hint='`finish()` lets another begin; one read with on_malformed="drop" goes on by itself',
            )
        pushing = self._pushing or self._begun(events)
        pushing.turn_to(events)
        self._pushing, self._events = pushing, events
        return pushing
