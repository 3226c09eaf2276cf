"""Parity: one plan, all executions, the same bytes (rule 10).

The reference runs beside the Rust executions over the same events. Values, masks, flags, sequence,
grid points, errors for bad input and the state that is left must all be equal; the first that is
not is shown with the command that replays up to it.

Leans on `reference` and `native_engine`. Knows nothing of files or of the command line.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final

from featureplane import native
from featureplane.arguments import each, whole_number
from featureplane.errors import EmptyStream, FeaturePlaneError, ParityBreach, SettingError
from featureplane.features.catalog import set_or_id
from featureplane.features.frame import FeatureFrame
from featureplane.features.native_engine import Execution, NativeEngine
from featureplane.features.reference import ReferenceEngine
from featureplane.features.sampling import Emit, parse_every
from featureplane.features.spec import FeatureSet
from featureplane.market.agreement import check_declared
from featureplane.market.events import EventBatch

__all__ = ["EXECUTIONS", "Kept", "Mismatch", "ParityReport", "differences", "parity", "words_of"]

EXECUTIONS: Final[tuple[Execution, ...]] = ("streaming", "block")
"""The Rust executions the reference is compared with."""

_CHUNK_EVENTS: Final = 4096

Kept = tuple[FeatureFrame, int]
"""A frame and the grid point it stands for, or 0."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first place at which an execution differs from the reference.

    `event` counts the events up to and with the message, from 1. `differs` names what is unlike: fields
    of the frame and feature ids, each with both values.
    """

    execution: str
    event: int
    symbol: str
    seq: int | None
    differs: dict[str, tuple[object, object]]
    reference: str  # the frame's bytes as hex; empty if there is none
    other: str
    replay: str

    def breach(self) -> ParityBreach:
        """The mismatch as an exception."""
        name, (left, right) = next(iter(self.differs.items()))
        where = f"{self.execution}: {self.symbol}: event {self.event}: {name}"
        return ParityBreach(where, str(left), str(right), replay=self.replay)


@dataclass(slots=True)
class ParityReport:
    """What was compared, and what differed.

    `frames` are those of the reference; `mismatches` counts frames, summed over executions. With
    zero mismatches in n frames the true rate is below `rate_bound` = 3 / n, with 95 % confidence.
    """

    feature_set_id: str
    fingerprint: str
    executions: tuple[str, ...]
    features: int
    events: int = 0
    frames: int = 0
    mismatches: int = 0
    first_mismatch: Mismatch | None = None
    error: FeaturePlaneError | None = None  # bad input, refused alike by all executions
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def rate_bound(self) -> float:
        """Upper bound of the mismatch rate that zero mismatches prove (rule 10.4).

        1.0, which proves nothing, without frames and with a mismatch.
        """
        return min(1.0, 3.0 / self.frames) if self.agrees else 1.0

    @property
    def agrees(self) -> bool:
        """Whether something was compared and nothing differed."""
        return self.frames > 0 and self.mismatches == 0


def parity(
    events: EventBatch | Sequence[EventBatch],
    fset: FeatureSet | str,
    *,
    until: int | None = None,
    emit: Emit = "update",
    every: int | str | None = None,
    executions: tuple[Execution, ...] = EXECUTIONS,
    progress: Callable[[int], None] | None = None,
) -> ParityReport:
    """Compare the Rust executions with the reference over `events`, byte for byte.

    `until` stops after so many events. `progress` is told of the events compared so far.

    Raises
    ------
    BackendUnavailable
        The extension is not installed: comparing nothing would prove nothing.
    EmptyStream
        There were no frames to compare.
    SettingError
        `until` is not a number of events above 0.
    InstrumentMismatch
        A price is off the tick that an instruments file declares.
    """
    native.module()
    if until is not None:
        whole_number("until", until, "a number of events above 0", least=1)
    for name in each("executions", executions, str, "names of executions"):
        if name not in EXECUTIONS:
            raise SettingError(f"no execution {name!r}", hint=f"there are: {', '.join(EXECUTIONS)}")
    fset = set_or_id(fset)
    if isinstance(events, str | os.PathLike):
        raise SettingError(
            f"events={events!r}", hint="read the files first: `read_events(paths, source=...)`"
        )
    batches = list(EventBatch.each(events))
    if not batches:
        raise EmptyStream("a comparison without events", hint="give at least one batch")
    comparison = _Comparison(fset, batches[0], executions, emit=emit, every=every)
    for batch in _pieces(batches, until):
        check_declared(batch)
        if not comparison.take(batch):
            break
        if progress is not None:
            progress(comparison.report.events)
    comparison.end()
    if comparison.report.frames == 0 and comparison.report.mismatches == 0:
        is_cut = until is not None and until < sum(map(len, batches))
        raise _nothing_compared(comparison.report.events, is_cut=is_cut)
    return comparison.report


def _nothing_compared(events: int, *, is_cut: bool) -> EmptyStream:
    hint = (
        'a stream without a snapshot needs `--seed increments` (`seed="increments"`); '
        "`featureplane data inspect` says what is in it"
    )
    if is_cut:
        hint = f"the first {events} events make none; let `until` reach further"
    return EmptyStream("a comparison without frames", hint=hint)


def _pieces(batches: Sequence[EventBatch], until: int | None) -> Iterator[EventBatch]:
    left = until
    for batch in batches:
        for piece in batch.chunks(_CHUNK_EVENTS):
            if left is None:
                yield piece
                continue
            if left <= 0:
                return
            if len(piece) > left:
                whole = int((piece.message_ends <= left).sum())
                yield piece.part(0, max(whole, 1))
                return
            yield piece
            left -= len(piece)


class _Comparison:
    """The executions in lockstep, a piece at a time."""

    def __init__(
        self,
        fset: FeatureSet,
        first: EventBatch,
        executions: tuple[Execution, ...],
        *,
        emit: Emit,
        every: int | str | None,
    ) -> None:
        chosen = parse_every(every)
        stream = (fset, first.instruments, first.source, first.options)
        self.fset = fset
        self.batch = first
        self.reference = ReferenceEngine(*stream, emit=emit, every=chosen)
        self.others = {
            name: NativeEngine(*stream, emit=emit, every=chosen, execution=name) for name in executions
        }
        self.report = ParityReport(fset.feature_set_id, fset.fingerprint, executions, len(fset))

    def take(self, batch: EventBatch) -> bool:
        """Compare one piece; whether the stream can go on."""
        others = {name: _collected(engine, batch) for name, engine in self.others.items()}
        frames, places, error = self._reference(batch)
        self.report.frames += len(frames)
        for name, (made, other_error) in others.items():
            for place, (left, right) in enumerate(zip_longest(frames, made)):
                if not _same(left, right):
                    self._note(name, places[min(place, len(places) - 1)], left, right)
            if words_of(error) != words_of(other_error):
                self._note_words(name, {"error": (words_of(error), words_of(other_error))})
        self.report.error = error
        self.report.events = self.reference.events
        return error is None

    def end(self) -> None:
        """Compare what is left: counts and the state of every symbol."""
        self.reference.finish()
        counts = self.reference.counts
        self.report.dropped = dict(counts["dropped"])
        if self.report.error is not None:
            return
        for name, engine in self.others.items():
            if engine.counts != counts:
                self._note_words(name, {"counts": (counts, engine.counts)})
            for one in self.batch.instruments:
                left = self.reference.snapshot(one.symbol_id)
                right = engine.snapshot(one.symbol_id)
                if left != right:
                    at = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), -1)
                    words = f"{len(left)} bytes", f"{len(right)} bytes, first unlike at {at}"
                    self._note_words(name, {f"state of {one.symbol}": words})

    def _reference(self, batch: EventBatch) -> tuple[list[Kept], list[int], FeaturePlaneError | None]:
        frames: list[Kept] = []
        places: list[int] = []
        try:
            for kept in self.reference.process(batch.array):
                frames.append(kept)
                places.append(self.reference.events)
        except FeaturePlaneError as error:
            return frames, [*places, self.reference.events], error
        return frames, [*places, self.reference.events], None

    def _note(self, execution: str, event: int, left: Kept | None, right: Kept | None) -> None:
        self.report.mismatches += 1
        if self.report.first_mismatch is None:
            frame = (left or right or (None, 0))[0]
            self.report.first_mismatch = Mismatch(
                execution,
                event,
                frame.symbol if frame is not None else "",
                frame.seq if frame is not None else None,
                differences(self.fset, left, right),
                left[0].pack().hex() if left else "",
                right[0].pack().hex() if right else "",
                self._replay(event),
            )

    def _note_words(self, execution: str, differs: dict[str, tuple[object, object]]) -> None:
        self.report.mismatches += 1
        if self.report.first_mismatch is None:
            event = self.reference.events
            self.report.first_mismatch = Mismatch(
                execution, event, "", None, differs, "", "", self._replay(event)
            )

    def _replay(self, event: int) -> str:
        files = [one.name for one in self.batch.files] or ["PATH"]
        words = ["featureplane", "parity", *files, "--source", self.batch.source.name]
        if len(self.batch.instruments) == 1:
            words += ["--symbol", self.batch.instruments[0].symbol]
        return shlex.join([*words, "--features", self.fset.feature_set_id, "--until", str(event)])


def _collected(engine: NativeEngine, batch: EventBatch) -> tuple[list[Kept], FeaturePlaneError | None]:
    made: list[Kept] = []
    try:
        made.extend(engine.process(batch.array))
    except FeaturePlaneError as error:
        return made, error
    return made, None


def _same(left: Kept | None, right: Kept | None) -> bool:
    if left is None or right is None:
        return False
    return left[1] == right[1] and left[0].pack() == right[0].pack()


def words_of(error: FeaturePlaneError | None) -> dict[str, Any] | None:
    """Class and attributes of an error: what must be equal (rule 10.1)."""
    if error is None:
        return None
    told = {name: value for name, value in vars(error).items() if name != "__notes__"}  # the hint once more
    return {"class": type(error).__name__, **told}


def differences(fset: FeatureSet, left: Kept | None, right: Kept | None) -> dict[str, tuple[object, object]]:
    """Fields and features in which two frames differ, each with both values."""
    if left is None or right is None:
        return {"frame": ("there" if left else "missing", "there" if right else "missing")}
    (a, a_grid), (b, b_grid) = left, right
    names = (
        "symbol_id",
        "seq",
        "source_ts_ns",
        "local_ts_ns",
        "source_seq",
        "quality_flags",
        "warmup_ready_mask",
        "changed_mask",
    )
    pairs: dict[str, tuple[object, object]] = {name: (getattr(a, name), getattr(b, name)) for name in names}
    pairs["grid_ts_ns"] = (a_grid, b_grid)
    pairs |= {feature_id: (a[feature_id], b[feature_id]) for feature_id in fset}
    differs = {name: (x, y) for name, (x, y) in pairs.items() if repr(x) != repr(y)}
    return differs or {"bytes": (a.pack().hex(), b.pack().hex())}
