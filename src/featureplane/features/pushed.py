"""Frames of messages that are pushed one by one: room for their bytes, and views on it made once.

Leans on `features.frame`. Knows nothing of engines.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from featureplane.errors import SettingError
from featureplane.features.frame import FeatureFrame, FrameLayout, end_frame
from featureplane.market.events import EventBatch, EventFlag

__all__ = ["FrameRoom", "check_range"]

_FRAMES: Final = 16
"""Frames there is room for at the beginning; a message makes one at most."""


class FrameRoom:
    """Room for the frames of one push: `words`, eight bytes each, frame behind frame.

    WHY views made ahead: no object is made for a message or its frame then.
    """

    __slots__ = ("_alone", "_first_alone", "_layout", "_views", "runs", "words")

    runs: list[tuple[FeatureFrame, ...]]
    """The first 0, 1, 2 … frames in the room, one list for good; more are `seen`."""

    def __init__(self, layout: FrameLayout) -> None:
        self._layout = layout
        self.runs = []
        self.grow(_FRAMES)

    @property
    def frames(self) -> int:
        """Frames there is room for."""
        return len(self._views)

    def grow(self, frames: int) -> None:
        """Make new room; frames seen before keep the old."""
        self.words: npt.NDArray[np.uint64] = np.zeros(frames * (self._layout.size // 8), np.uint64)
        self._show(tuple(FeatureFrame.run(self.words, self._layout)))

    def _show(self, views: tuple[FeatureFrame, ...]) -> None:
        self._views = views
        self.runs[:] = [views[:count] for count in range(_FRAMES + 1)]
        self._alone = [_references(views, at) for at in range(len(views))]
        self._first_alone = sys.getrefcount(views[0])

    def retire(self, count: int) -> None:
        """End those of the first `count` frames that somebody outside still holds: reading one raises then.

        WHY counts of references: nothing is made for a frame that nobody kept, and that is most of them.
        """
        views = self._views
        if count == 1 and sys.getrefcount(views[0]) == self._first_alone:
            return  # as good as always
        held = [at for at in range(min(count, len(views))) if _references(views, at) > self._alone[at]]
        if held:
            fresh = list(FeatureFrame.run(self.words, self._layout))
            shown = list(views)
            for at in held:
                end_frame(views[at])
                shown[at] = fresh[at]
            seen = tuple(shown)
            del fresh, shown, views  # what is counted next is not to be counted here
            self._show(seen)

    def seen(self, count: int) -> tuple[FeatureFrame, ...]:
        """The first `count` frames in the room."""
        return self.runs[count] if count <= _FRAMES else self._views[:count]

    def put(self, packed: Sequence[bytes]) -> tuple[FeatureFrame, ...]:
        """Put frames into the room; they are what is seen then."""
        if len(packed) > self.frames:
            self.grow(len(packed))
        words = np.frombuffer(b"".join(packed), np.uint64)
        self.words[: len(words)] = words
        return self.seen(len(packed))


def _references(views: tuple[FeatureFrame, ...], at: int) -> int:
    return sys.getrefcount(views[at])


def check_range(events: EventBatch, start: int, stop: int) -> None:
    """Refuse, with `SettingError`, events `start` to `stop` unless they are whole messages."""
    if not 0 <= start <= stop <= len(events):
        raise SettingError(
            f"events {start} to {stop} of a batch of {len(events)}", hint="0 <= start <= stop <= len(events)"
        )
    flags = events.array["flags"]
    if any(at and not flags[at - 1] & EventFlag.LAST for at in (start, stop)):
        raise SettingError(
            f"events {start} to {stop} begin or end inside a message",
            hint="`events.message_ends` says where messages end",
        )
