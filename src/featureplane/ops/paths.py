"""The frames of one recording on every path they take to a strategy: the same bytes, or a difference.

    replay       files -> events -> engine
    hftbacktest  files -> rows -> hftbacktest's clock -> events -> engine
    service      files -> raw messages -> service -> runner -> a strategy's `on_features`

Where a source has no raw messages the service's runner takes its events, message by message. Leans on
`features`, `services` and `research.backtest`. Prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from featureplane.errors import EmptyStream, InputError, SettingError, StateError
from featureplane.features.engine import FeatureEngine
from featureplane.features.frame import FeatureFrame, FrameLayout
from featureplane.features.parity import Kept, differences, words_of
from featureplane.features.pipeline import Pipeline
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.market.reading import EventsPaths, read_events, request_for
from featureplane.market.sources import find_source
from featureplane.research.backtest.adapter import HftBacktestAdapter
from featureplane.research.backtest.assets import HftAsset
from featureplane.services.marketdata import MarketDataService
from featureplane.services.raw_queue import Item, RawQueue
from featureplane.services.replay_source import ReplaySource
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.service import ServiceRunner

__all__ = ["PATHS", "FramePath", "PathMismatch", "PathReport", "Recording", "compare_paths"]


class Recording:
    """What every path reads for itself, up to the same message; arguments are those of `read_events`.

    `until` is a number of events, of which whole messages are taken. Raises `SettingError` for one that is
    none, and what `read_events` raises.
    """

    def __init__(
        self,
        paths: EventsPaths,
        source: str,
        symbol: str | None = None,
        *,
        until: int | None = None,
        backend: str = "auto",
        **reading: Any,
    ) -> None:
        if until is not None and until < 1:
            raise SettingError(f"until={until}", hint="a number of events above 0")
        self._where = (paths, source, symbol)
        self._reading = reading
        self.backend = backend
        self.until = until

    @cached_property
    def events(self) -> EventBatch:
        """The events, read anew by whoever asks first."""
        return self._cut(read_events(*self._where, backend=self.backend, **self._reading))

    @property
    def has_messages(self) -> bool:
        """Whether the files hold raw messages of a venue."""
        return find_source(self._where[1]).takes_messages

    def feed(self) -> ReplaySource:
        """The raw messages, as a service gets them."""
        files = [one for one in request_for(*self._where).inputs if isinstance(one, Path)]
        return ReplaySource(files, None, [one.symbol for one in self.events.instruments])

    def pipeline(self, fset: FeatureSet) -> Pipeline:
        """A pipeline for the lines, which reads them as the events were read."""
        options = self.events.options
        return Pipeline(
            fset,
            self._where[1],
            self.events.instrument,
            backend=self.backend,
            on_gap=options.on_gap,
            on_malformed=options.on_malformed,
            seed=options.seed,
            seed_after=options.seed_after,
            live=False,
        )

    def asset(self) -> HftAsset:
        """The recording for hftbacktest: its own arrays as they are, rows of ours for every other source."""
        paths, source, symbol = self._where
        if source != "hftbacktest":
            return HftAsset.of(self.events)
        read = HftAsset.read(paths, symbol, backend=self.backend, **self._reading)
        return HftAsset(self._cut(read.batch), read.rows, read.shift_ns)

    def _cut(self, events: EventBatch) -> EventBatch:
        if self.until is None or self.until >= len(events):
            return events
        whole = int(np.searchsorted(events.message_ends, self.until, side="right"))
        return events.part(0, max(whole, 1))


class FramePath(Protocol):
    """One way frames go; they are given as bytes, in their order."""

    def __call__(self, recording: Recording, fset: FeatureSet) -> Iterator[bytes]:
        """Frames of the whole recording; raises what the data or a missing library raises."""


def _replayed(recording: Recording, fset: FeatureSet) -> Iterator[bytes]:
    for frame in FeatureEngine(fset, recording.backend).replay(recording.events):
        yield frame.pack()


def _in_hftbacktest(recording: Recording, fset: FeatureSet) -> Iterator[bytes]:
    adapter = HftBacktestAdapter(recording.asset(), fset, backend=recording.backend)
    for frame in adapter.frames():
        yield frame.pack()


class _Watcher(BaseStrategy):
    """A strategy that keeps what it is shown until somebody takes it."""

    def __init__(self) -> None:
        super().__init__("watcher")
        self._shown: list[bytes] = []

    @staticmethod
    def of(fset: FeatureSet) -> _Watcher:
        """One that requires a set."""
        made: type[_Watcher] = type("Watcher", (_Watcher,), {"required_features": fset.fingerprint})
        return made()

    def on_features(self, frame: FeatureFrame) -> None:
        self._shown.append(frame.pack())

    def take(self) -> list[bytes]:
        """What it was shown since it was last asked."""
        shown, self._shown = self._shown, []
        return shown


def _served(recording: Recording, fset: FeatureSet) -> Iterator[bytes]:
    if recording.has_messages:
        yield from _served_bytes(recording, fset)
        return
    events, watcher = recording.events, _Watcher.of(fset)
    engine = FeatureEngine(fset, recording.backend)
    runner = ServiceRunner([watcher], events.instruments, engine=engine, stream=events.options)
    start = 0
    for stop in events.message_ends.tolist():
        try:
            runner.step(events, start, stop)
        finally:
            yield from watcher.take()
        start = stop
    runner.finish()


class _UpTo:
    """A feed that ends with so many events of a pipeline."""

    waits = True

    def __init__(self, source: ReplaySource, pipeline: Pipeline, events: int) -> None:
        self._source, self._pipeline, self._left = source, pipeline, events

    def items(self) -> Iterator[Item]:
        """Those of the feed; each has been taken when the next is asked for."""
        for item in self._source.items():
            yield item
            self._left -= self._pipeline.taken[1]
            if self._left <= 0:
                return

    def run(self, queue: RawQueue) -> None:
        """Not a feed that does not wait."""
        raise StateError(f"the loop reads this feed, {queue!r} is not asked for")

    def stop(self) -> None:
        """Nothing more is wanted."""
        self._source.stop()


def _served_bytes(recording: Recording, fset: FeatureSet) -> Iterator[bytes]:
    events, watcher = recording.events, _Watcher.of(fset)
    if events.options.on_gap == "refuse":
        raise SettingError("on_gap='refuse' for a service", hint="a service goes on: `--on-gap wait`")
    pipeline = recording.pipeline(fset)
    service = MarketDataService(ServiceRunner([watcher], events.instruments, engine=pipeline), pipeline)
    service.run(_UpTo(recording.feed(), pipeline, len(events)))
    yield from watcher.take()


PATHS: Final[Mapping[str, FramePath]] = {
    "replay": _replayed,
    "hftbacktest": _in_hftbacktest,
    "service": _served,
}
"""Every path there is, by name."""


@dataclass(frozen=True, slots=True)
class PathMismatch:
    """The first frame that is unlike: the number of it, and what differs, each with both values."""

    path: str
    number: int
    symbol: str
    seq: int | None
    differs: dict[str, tuple[object, object]]


@dataclass(slots=True)
class PathReport:
    """What was compared: `frames` by path; all paths are held against the first."""

    feature_set_id: str
    fingerprint: str
    feature_ids: tuple[str, ...]
    events: int
    frames: dict[str, int]
    mismatches: int = 0
    first_mismatch: PathMismatch | None = None
    error: InputError | None = None  # bad input, refused alike on all paths
    against: str = field(default="")

    @property
    def features(self) -> int:
        """How many features a frame has."""
        return len(self.feature_ids)

    @property
    def compared(self) -> int:
        """Frames of the first path."""
        return self.frames[self.against]

    @property
    def rate_bound(self) -> float:
        """Upper bound of the mismatch rate that zero mismatches prove (rule 10.4).

        1.0, which proves nothing, without frames and with a mismatch.
        """
        return min(1.0, 3.0 / self.compared) if self.compared and not self.mismatches else 1.0


def compare_paths(
    recording: Recording,
    fset: FeatureSet,
    names: Sequence[str] = tuple(PATHS),
    *,
    paths: Mapping[str, FramePath] = PATHS,
    progress: Callable[[int], None] | None = None,
) -> PathReport:
    """Compare the frames of a recording on several paths, byte for byte, frame by frame.

    Nothing may differ: `docs/concepts/sources.md` lists what a feed lacks, and all paths read the same feed.
    `progress` is told now and then of the frames compared.

    Raises `SettingError` for names that are no paths or fewer than two, `ExtraUnavailable` where hftbacktest
    is not installed, and `EmptyStream` where there was no frame: a path that did not run agrees with nothing.
    """
    _check(names, paths)
    streams = {name: _Stream(paths[name](recording, fset)) for name in names}
    report = PathReport(
        fset.feature_set_id,
        fset.fingerprint,
        fset.feature_ids,
        len(recording.events),
        dict.fromkeys(names, 0),
        against=names[0],
    )
    layout = FrameLayout.of(fset, {one.symbol_id: one.symbol for one in recording.events.instruments})
    comparison = _Comparison(report, fset, layout)
    for number, frames in enumerate(zip_longest(*streams.values()), 1):
        comparison.take(number, dict(zip(names, frames, strict=True)))
        if progress is not None and number % 1_000 == 0:
            progress(number)
    comparison.end({name: stream.error for name, stream in streams.items()})
    if not any(report.frames.values()):
        hint = "`featureplane data inspect` says what is in it; without a snapshot use `--seed increments`"
        raise EmptyStream("frames on any path", hint=hint)
    return report


def _check(names: Sequence[str], paths: Iterable[str]) -> None:
    known = list(paths)
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SettingError(
                f"found path {name!r}, expected one that there is",
                hint=f"{hint}there are: {', '.join(known)}",
            )
    if len(set(names)) < len(names) or len(names) < 2:
        found = ", ".join(names) or "none"
        raise SettingError(f"paths: found {found}, expected two or more", hint="name two or more, each once")


class _Stream:
    """Frames up to the end or an error of the data, which is kept."""

    def __init__(self, frames: Iterator[bytes]) -> None:
        self._frames = frames
        self.error: InputError | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._frames
        except InputError as error:
            self.error = error


class _Comparison:
    """Holds frames against those of the first path."""

    def __init__(self, report: PathReport, fset: FeatureSet, layout: FrameLayout) -> None:
        self._report, self._fset, self._layout = report, fset, layout

    def take(self, number: int, frames: Mapping[str, bytes | None]) -> None:
        """The frames number `number` of all paths; None where there is none."""
        report = self._report
        expected = frames[report.against]
        for path, data in frames.items():
            if data is not None:
                report.frames[path] += 1
            if data != expected:
                left, right = self._kept(expected), self._kept(data)
                frame = (left or right or (None, 0))[0]
                symbol, seq = ("", None) if frame is None else (frame.symbol, frame.seq)
                self._note(PathMismatch(path, number, symbol, seq, differences(self._fset, left, right)))

    def end(self, errors: Mapping[str, InputError | None]) -> None:
        """Compare how the paths ended."""
        report = self._report
        expected = words_of(errors[report.against])
        for path, error in errors.items():
            if words_of(error) != expected:
                differs: dict[str, tuple[object, object]] = {"error": (expected, words_of(error))}
                self._note(PathMismatch(path, report.frames[path] + 1, "", None, differs))
        report.error = errors[report.against]

    def _note(self, mismatch: PathMismatch) -> None:
        self._report.mismatches += 1
        if self._report.first_mismatch is None:
            self._report.first_mismatch = mismatch

    def _kept(self, data: bytes | None) -> Kept | None:
        return None if data is None else (FeatureFrame(data, self._layout), 0)
