"""The door to computing features: events in, frames out, whichever backend computes.

Leans on `reference` and `native`. Knows nothing of tables, files or sources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from featureplane import native
from featureplane.errors import EmptyStream, SettingError
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

    `dropped` counts, after a replay, what the guard left out, by reason.
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
        self.dropped: Counter[str] = Counter()

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

    def columns(self, events: EventBatch | Iterable[EventBatch]) -> Iterator[Columns]:
        """The same frames as columns, a run for each batch; raises what `replay` raises."""
        for engine, batch in self._taken(events):
            yield engine.columns(batch.array)

    def _taken(self, events: EventBatch | Iterable[EventBatch]) -> Iterator[tuple[Execution, EventBatch]]:
        batches = iter([events] if isinstance(events, EventBatch) else events)
        first = next(batches, None)
        if first is None:
            raise EmptyStream("a stream without batches", hint="give at least one batch")
        make = NativeEngine if self.backend == "rust" else ReferenceEngine
        engine = make(
            self.fset, first.instruments, first.source, first.options, emit=self._emit, every=self._every
        )
        for batch in chain((first,), batches):
            yield engine, batch
        engine.finish()
        self.dropped = engine.dropped
