"""A recording held against itself: its messages are taken again, and the frames compared with those it has.

Leans on `recording` and on a service as it runs, without strategies. Changes nothing in the folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, NoReturn

from featureplane.errors import EmptyStream, SettingError, StateError
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperVenue
from featureplane.features.frame import FeatureFrame, FrameLayout
from featureplane.features.loading import load_feature_set
from featureplane.features.pipeline import Pipeline
from featureplane.features.shadow_compare import Comparison
from featureplane.features.spec import FeatureSet
from featureplane.market.instruments import load_instruments
from featureplane.services.marketdata import MarketDataService
from featureplane.services.recording import (
    INSTRUMENTS,
    features_file,
    frame_files,
    is_recording,
    read_about,
    read_frames,
)
from featureplane.services.replay_source import ReplaySource, parse_replay, recorded_states
from featureplane.services.story import Story
from featureplane.strategy.service import ServiceRunner

__all__ = ["Divergence", "Reconciliation", "reconcile"]

_MESSAGE_BYTES: Final = 400


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first message of whose frames one is another one now.

    `message` counts from 1 in the recording, `text` is how it begins; `differs` has by feature, or by
    `_changed`, `_ready`, `_flags`, `_frame`, what was emitted and what is computed now.
    """

    message: int
    text: str
    symbol: str
    seq: int
    local_ts_ns: int
    differs: dict[str, tuple[object, object]]


@dataclass(slots=True)
class Reconciliation:
    """What came of it. `frames` are those that were emitted or are computed now, at one place or another.

    `cut_off` frames belong to the last message, whose frames a service that was killed did not write.
    """

    messages: int = 0
    frames: int = 0
    equal: int = 0
    cut_off: int = 0
    first: Divergence | None = None
    feature_set: str = ""
    backend: str = ""

    @property
    def ratio(self) -> float:
        """Equal frames / frames; NaN without any."""
        return self.equal / self.frames if self.frames else math.nan


@dataclass(slots=True)
class _Held:
    """A subscriber that holds each frame against the next one of the recording."""

    recorded: Iterator[FeatureFrame]
    compare: Comparison
    layout: FrameLayout
    found: Reconciliation
    name: str = "reconcile"
    _message: bytes = b""
    _beyond: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    _lost: int = 0

    def on_message(self, data: bytes, _local_ts_ns: int | None, _symbol: str | None) -> None:
        """A message is about to be taken."""
        self.found.messages += 1
        self._message = data

    def on_reconnect(self, _symbol: str | None, _reason: str) -> None:
        """Another connection: its frames say so themselves."""

    def on_frames(self, frames: Sequence[FeatureFrame]) -> None:
        """Frames were made of it."""
        for frame in frames:
            now, before = frame.pack(), next(self.recorded, None)
            if before is None:
                self._lost += 1
                if not self._beyond:
                    self._beyond.append((self.found.messages, self._message, now))
                continue
            was = before.pack()
            self.found.frames += 1
            if was == now:
                self.found.equal += 1
            else:
                self._note(self.found.messages, self._message, was, now)

    def finish(self) -> None:
        """Frames that only one side has."""
        last = self.found.messages
        for number, message, now in self._beyond:
            if number == last:
                self.found.cut_off = self._lost
                continue
            self.found.frames += self._lost
            self._note(number, message, None, now)
        for before in self.recorded:
            self.found.frames += 1
            self._note(last, self._message, before.pack(), None)

    def _note(self, number: int, message: bytes, was: bytes | None, now: bytes | None) -> None:
        if self.found.first is not None:
            return
        frame = FeatureFrame.unpack(was or now or b"", self.layout)
        if was is None:
            differs: dict[str, tuple[object, object]] = {"_frame": ("missing", "there")}
        else:
            differs = self.compare.frames(was, now) or {"_frame": ("there", "there, with other bytes")}
        text = message[:_MESSAGE_BYTES].decode("utf-8", "replace")
        self.found.first = Divergence(number, text, frame.symbol, frame.seq, frame.local_ts_ns, differs)


def reconcile(folder: Path, *, backend: str = "auto", allow_code: bool = False) -> Reconciliation:
    """Take the messages of a recording again and compare the frames byte by byte with those it has.

    Frames are held against each other in their order. A recording in which another set became the active
    one is refused: `incident export` takes out a span of one set.

    Raises
    ------
    SettingError
        No recording, or one without features.
    EmptyStream
        Nothing was recorded.
    UnreadableFile, FeatureSetMismatch, MalformedEvent
        Files that are none, or frames of another set.
    """
    if not is_recording(folder):
        raise SettingError(f"{folder}: no recording", hint="a folder that `featureplane run --record` wrote")
    fset = _feature_set(folder, allow_code=allow_code)
    instruments = load_instruments(folder / INSTRUMENTS)
    layout = FrameLayout.of(fset, {one.symbol_id: one.symbol for one in instruments})
    files = frame_files(folder)
    if not list(islice(read_frames(files, layout), 1)):
        raise EmptyStream(f"frames in {folder}", hint="was anything received?")
    text = f"replay:{folder}"
    source: str = read_about(folder)["source"]
    feed = Pipeline(fset, source, instruments, backend=backend, live=False, on_malformed="drop")
    feed.go_on_from(recorded_states(text))
    runner = ServiceRunner(
        [],
        feed.instruments,
        engine=feed,
        venue=PaperVenue(feed.instruments, None, stream=feed.options),
        risk=RiskCheck(feed.instruments, None),
        listener=Story(),
        backend=backend,
    )
    found = Reconciliation(feature_set=fset.feature_set_id, backend=feed.backend)
    compare = Comparison(fset, fset, abs_tol=0.0, fresh=_no_states)
    held = _Held(read_frames(files, layout), compare, layout, found)
    service = MarketDataService(runner, feed, story=Story(), subscribers=[held])
    service.run(ReplaySource(parse_replay(text)[0], None, [one.symbol for one in instruments]))
    return found


def _feature_set(folder: Path, *, allow_code: bool) -> FeatureSet:
    about: dict[str, Any] = read_about(folder)
    fingerprint = about.get("fingerprint")
    if not isinstance(fingerprint, str):
        raise SettingError(f"{folder}: recorded without features", hint="there are no frames to compare")
    return load_feature_set(features_file(folder, fingerprint), allow_code=allow_code)


def _no_states(_fset: FeatureSet) -> NoReturn:
    raise StateError("states are not compared here")
