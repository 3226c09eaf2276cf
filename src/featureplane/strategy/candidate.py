"""A feature set computed beside the active one, and who waits to consume it.

Leans on `features.pipeline`. Knows no strategies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from featureplane.features.availability import undefined_here
from featureplane.features.frame import FeatureFrame
from featureplane.features.latest import LatestFrames
from featureplane.features.pipeline import Pipeline
from featureplane.market.events import EventBatch
from featureplane.market.instruments import Instrument
from featureplane.market.stages import CANDIDATE, Stages

__all__ = ["BothFeeds", "Candidate", "Warming"]


class Candidate:
    """A set that is computed from the messages of another one's pipeline.

    `made` counts its frames, `handed` those that somebody consumed; `error` is what ended it.
    """

    def __init__(self, pipeline: Pipeline, latest: LatestFrames) -> None:
        self.fset, self.pipeline, self.latest = pipeline.fset, pipeline, latest
        pipeline.follow(latest)
        self.frames: tuple[FeatureFrame, ...] = ()
        self.made = self.handed = 0
        self.error: BaseException | None = None
        self._crossed = 0
        self._kept: dict[int, tuple[FeatureFrame, ...]] | None = None

    def take(self, data: bytes, local_ts_ns: int | None, symbol: str | None) -> None:
        """Take a message that the active set has taken."""
        self.frames = ()
        self.frames = frames = self.pipeline.push(data, local_ts_ns, symbol)
        self.made += len(frames)

    def frames_of(self, symbol_id: int) -> tuple[FeatureFrame, ...]:
        """What the message at hand made of a symbol."""
        if self._kept is not None:
            return self._kept.get(symbol_id, ())
        return self.frames if self.frames and self.frames[0].symbol_id == symbol_id else ()

    def keep(self) -> None:
        """Copy what the message at hand made: it is one of several symbols, handed out one by one."""
        self._kept = {frame.symbol_id: (frame.copy(),) for frame in self.frames}

    def release(self) -> None:
        """The message at hand was handed out."""
        self._kept = None

    def broke_crossed(self) -> bool:
        """Whether a book of its was broken since this was asked last, as it stood crossed (rule 3.9).

        It may be sooner or later than that of the active set: messages that are steps of one are not of the
        other. Books and venue follow the active set.
        """
        before, self._crossed = self._crossed, self.pipeline.counts["broken"]["crossed"]
        return self._crossed not in {0, before}

    @property
    def rises(self) -> Counter[str]:
        """Frames on which a flag rose, by its name."""
        return self.pipeline.counts["flags"]


class Warming:
    """What a consumer waits for: features, of one symbol, that have not had a value yet."""

    def __init__(self, candidate: Candidate, instrument: Instrument, held: Collection[str]) -> None:
        fset = candidate.fset
        never = undefined_here(fset, instrument)
        wanted = [spec for spec in fset.specs if not held or spec.feature_id in held]
        self._names = {spec.index: spec.feature_id for spec in wanted if spec.feature_id not in never}
        self._needed = sum(1 << index for index in self._names)
        self._seen = 0

    def see(self, frames: tuple[FeatureFrame, ...], *, is_whole: bool) -> bool:
        """Look at what the candidate made of a message; whether all that is needed has had a value."""
        if not is_whole:
            self._seen = 0
            return False
        for frame in frames:
            self._seen |= frame.ready
        return bool(frames) and not self._needed & ~self._seen

    @property
    def missing(self) -> tuple[str, ...]:
        """What has not had a value yet."""
        return tuple(name for index, name in self._names.items() if not self._seen >> index & 1)


class BothFeeds:
    """The active feed and the candidate behind it: each message goes to both, errors are the active one's.

    `lost` is told what the candidate raised.
    """

    def __init__(
        self,
        active: Any,
        candidate: Candidate,
        lost: Callable[[BaseException], None],
    ) -> None:
        self.active, self._candidate, self._lost = active, candidate, lost
        self._stages: Stages | None = None

    def push(
        self, data: bytes, local_ts_ns: int | None = None, symbol: str | None = None
    ) -> tuple[FeatureFrame, ...]:
        """The frames of the active set; see `Pipeline.push`."""
        frames: tuple[FeatureFrame, ...] = self.active.push(data, local_ts_ns, symbol)
        stages = self._stages
        began = 0 if stages is None else stages.timer()
        try:
            self._candidate.take(data, local_ts_ns, symbol)
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            self._lost(error)  # WHY whatever it is, a panic in Rust among it: nobody but it ends by that
        if stages is not None:
            stages.add(CANDIDATE, began)
        return frames

    def time(self, stages: Stages | None) -> None:
        """See `Pipeline.time`; and how long the candidate takes."""
        self._stages = stages
        self.active.time(stages)

    @property
    def taken(self) -> tuple[EventBatch, int]:
        """See `Pipeline.taken`."""
        taken: tuple[EventBatch, int] = self.active.taken
        return taken
