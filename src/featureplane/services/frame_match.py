"""Frames that were emitted, held against those that are made now: each against its own, byte by byte.

Which one is its own say symbol, set and sequence number (`frame_key`), not the place: one that is missing, or
that nobody makes any more, moves no other. Leans on `shadow_compare` for how two differ. Knows no files.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, NoReturn

from featureplane.errors import StateError
from featureplane.features.frame import (
    HEADER_BYTES,
    FeatureFrame,
    FrameKey,
    FrameLayout,
    frame_key,
)
from featureplane.features.shadow_compare import Comparison
from featureplane.features.spec import FeatureSet

__all__ = ["Divergence", "FrameMatch", "Reconciliation"]

_MESSAGE_BYTES: Final = 400


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first message of whose frames one is another one now.

    `message` counts from 1 in the recording, `text` is how it begins; `differs` has by feature, or by
    `_changed`, `_ready`, `_flags`, `_frame`, what was emitted and what is computed now. A frame that nobody
    makes any more is named at the message behind whose frames it stands.
    """

    message: int
    text: str
    feature_set: str
    symbol: str
    seq: int
    local_ts_ns: int
    differs: dict[str, tuple[object, object]]


@dataclass(slots=True)
class Reconciliation:
    """What came of it. `frames` are those that were emitted or are computed now, or both.

    `cut_off` frames belong to the last message of a service, which was killed before it wrote them, or has
    not yet.
    """

    messages: int = 0
    frames: int = 0
    equal: int = 0
    cut_off: int = 0
    first: Divergence | None = None
    feature_sets: list[str] = field(default_factory=list)
    backend: str = ""

    @property
    def ratio(self) -> float:
        """Equal frames / frames; NaN without any."""
        return self.equal / self.frames if self.frames else math.nan


class _Waiting(NamedTuple):
    """A frame whose like has not come: at which message, its text, and the step in which it was read."""

    message: int
    text: bytes
    step: int
    frame: bytes


_Waits = dict[FrameKey, deque[_Waiting]]


class FrameMatch:
    """A subscriber that counts into `found`; between `begin` and `end` all frames are of one set.

    As many are read as are made, so that hardly one waits for its like; who still waits at `end` has none.
    """

    name = "reconcile"

    def __init__(self, found: Reconciliation) -> None:
        self.found = found
        self.error: Exception | None = None
        """What ended it: a service goes on without a subscriber that raises."""

        self._message = b""
        self._recorded: Iterator[bytes] = iter(())
        self._emitted: _Waits = {}
        self._made: _Waits = {}
        self._step = self._last = 0  # steps: now, and of the last recorded frame that had its like

    def begin(self, fset: FeatureSet, name: str, layout: FrameLayout, recorded: Iterator[bytes]) -> None:
        """These are the frames from here on, of that set, which the recording calls so."""
        self._layout, self._set_id, self._recorded = layout, name, recorded
        self._compare = Comparison(fset, fset, abs_tol=0.0, fresh=_no_states)

    def on_message(self, data: bytes, _local_ts_ns: int | None, _symbol: str | None) -> None:
        """A message is about to be taken."""
        self.found.messages += 1
        self._message = data

    def on_reconnect(self, _symbol: str | None, _reason: str) -> None:
        """Another connection: its frames say so themselves."""

    def on_frames(self, frames: Sequence[FeatureFrame]) -> None:
        """Frames were made of it."""
        try:
            for frame in frames:
                self._take(frame.pack())
        except Exception as error:
            self.error = error
            raise

    def finish(self) -> None:
        """Nothing more comes."""

    def end(self, *, of_service: bool, goes_on: bool = False) -> None:
        """No more frames until the next `begin`.

        `of_service`: a service ended here, perhaps in the midst. `goes_on`: or it still runs, and frames
        behind those that have their like are of later messages.
        """
        for was in () if goes_on else self._recorded:
            self._step += 1
            self._wait(self._emitted, self._made, was)
        emitted = {one.step: one for waits in self._emitted.values() for one in waits}
        if goes_on:
            emitted = {step: one for step, one in emitted.items() if step < self._last}
        made = [one for waits in self._made.values() for one in waits]
        self._emitted.clear()
        self._made.clear()
        if of_service and not emitted and all(one.message == self.found.messages for one in made):
            self.found.cut_off += len(made)
            return
        for one in sorted(made, key=lambda one: one.step):
            like = emitted.pop(one.step, None)
            self.found.frames += 1
            self._note(one, None if like is None else like.frame, one.frame)
        for one in sorted(emitted.values(), key=lambda one: one.step):
            self.found.frames += 1
            self._note(one, one.frame, None)

    def _take(self, now: bytes) -> None:
        was = next(self._recorded, None)
        self._step += 1
        if was == now:
            self.found.frames += 1
            self.found.equal += 1
            self._last = self._step
            return
        if was is not None:
            self._wait(self._emitted, self._made, was)
        self._wait(self._made, self._emitted, now)

    def _wait(self, mine: _Waits, others: _Waits, frame: bytes) -> None:
        """Let a frame meet its like, or wait for it."""
        key = frame_key(frame)
        here = _Waiting(self.found.messages, self._message, self._step, frame)
        waits = others.get(key)
        if waits is None:
            mine.setdefault(key, deque()).append(here)
            return
        there = waits.popleft()
        if not waits:
            del others[key]
        self.found.frames += 1
        self._last = max(self._last, (there if mine is self._made else here).step)
        if there.frame == frame:
            self.found.equal += 1
        elif mine is self._made:
            self._note(here, there.frame, frame)
        else:
            self._note(there, frame, there.frame)

    def _note(self, at: _Waiting, was: bytes | None, now: bytes | None) -> None:
        first = self.found.first
        if first is not None and first.message <= at.message:
            return
        if was is None or now is None:
            differs: dict[str, tuple[object, object]]
            differs = {"_frame": ("missing", "there") if was is None else ("there", "missing")}
        else:
            differs = self._differs(was, now)
        frame = FeatureFrame(now or was or bytes(HEADER_BYTES), self._layout)
        self.found.first = Divergence(
            at.message,
            at.text[:_MESSAGE_BYTES].decode("utf-8", "replace"),
            self._set_id,
            self._layout.symbols.get(frame.symbol_id, str(frame.symbol_id)),
            frame.seq,
            frame.local_ts_ns,
            differs,
        )

    def _differs(self, was: bytes, now: bytes) -> dict[str, tuple[object, object]]:
        other = {"_frame": ("there", "there, with other bytes")}
        try:
            found = self._compare.frames(was, now)
        except (ValueError, OverflowError):  # bytes that no frame has
            return dict(other)
        return dict(found or other)


def _no_states(_fset: FeatureSet) -> NoReturn:
    raise StateError("states are not compared here")
