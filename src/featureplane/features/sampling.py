"""Which of the computed frames are put out (rules 5.5 and 5.6, readings 42 and 43).

Nothing here changes a value, a `seq` or a state. Leans on nothing but the words for a choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from featureplane.errors import SettingError
from featureplane.units import NANOS_PER_MS, NANOS_PER_SECOND

__all__ = ["ComputedFrame", "Emit", "Every", "Sampler", "parse_every"]

Emit = Literal["update", "change"]

_PERIOD: Final = re.compile(r"([1-9][0-9]{0,17})(ns|us|ms|s|min|h)")
_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": NANOS_PER_MS,
    "s": NANOS_PER_SECOND,
    "min": 60 * NANOS_PER_SECOND,
    "h": 3600 * NANOS_PER_SECOND,
}


@dataclass(frozen=True, slots=True)
class Every:
    """Every so many frames, or the last frame at or before each multiple of a period."""

    frames: int | None = None
    period_ns: int | None = None


def parse_every(every: int | str | None) -> Every | None:
    """From a number of frames or a text such as `100ms`; None for all frames.

    >>> parse_every("100ms")
    Every(frames=None, period_ns=100000000)
    """
    if every is None:
        return None
    if isinstance(every, int) and not isinstance(every, bool) and every > 0:
        return Every(frames=every)
    match = _PERIOD.fullmatch(every) if isinstance(every, str) else None
    if match is None:
        raise SettingError(f"every={every!r}", hint="a number of frames, or a period such as '100ms' or '1s'")
    return Every(period_ns=int(match[1]) * _UNITS[match[2]])


@dataclass(frozen=True, slots=True)
class ComputedFrame:
    """One computed frame before it is packed; masks are integers, `values` eight bytes a feature.

    `grid_ts_ns` is the grid point a sampled frame stands for, 0 otherwise.
    """

    symbol_id: int
    flags: int
    seq: int
    source_ts_ns: int
    local_ts_ns: int
    source_seq: int
    changed: int
    ready: int
    values: bytes
    grid_ts_ns: int = 0


class Sampler:
    """Chooses among the frames of one symbol, in the order in which they are computed."""

    def __init__(self, emit: Emit = "update", every: Every | None = None, *, local_time: bool = True) -> None:
        if emit not in {"update", "change"}:
            raise SettingError(f"emit={emit!r}", hint="choose one of update, change")
        self._emits_all = emit == "update"
        self._every = every
        self._local_time = local_time
        self._flags_before: int | None = None
        self._flags = 0  # of the frames since the last kept one
        self._changed = 0
        self._held: ComputedFrame | None = None  # the last of the open interval
        self._time_ns: int | None = None

    def take(self, frame: ComputedFrame) -> Iterator[ComputedFrame]:
        """The frames that are put out now that this one has been computed."""
        put_out = self._emits_all or frame.changed != 0 or frame.flags != self._flags_before
        self._flags_before = frame.flags
        if self._every is None:
            if put_out:
                yield frame
            return
        if self._every.period_ns is not None:
            yield from self._close(frame, self._every.period_ns)
        self._flags |= frame.flags
        self._changed |= frame.changed
        if not put_out:
            return
        if self._every.period_ns is not None:
            self._hold(frame, self._every.period_ns)
        elif self._every.frames is not None and frame.seq % self._every.frames == 0:
            yield replace(frame, flags=self._flags, changed=self._changed)
            self._flags = self._changed = 0

    def _close(self, frame: ComputedFrame, period_ns: int) -> Iterator[ComputedFrame]:
        """A frame of a later grid point shows that the held one was the last of its own."""
        time_ns = frame.local_ts_ns if self._local_time else frame.source_ts_ns
        self._time_ns = time_ns if self._time_ns is None else max(self._time_ns, time_ns)
        if self._held is not None and self._held.grid_ts_ns < _grid_point(self._time_ns, period_ns):
            yield self._held
            self._held = None

    def _hold(self, frame: ComputedFrame, period_ns: int) -> None:
        if self._held is not None:
            self._flags |= self._held.flags
            self._changed |= self._held.changed
        grid_ts_ns = _grid_point(self._time_ns or 0, period_ns)
        self._held = replace(frame, flags=self._flags, changed=self._changed, grid_ts_ns=grid_ts_ns)
        self._flags = self._changed = 0


def _grid_point(time_ns: int, period_ns: int) -> int:
    """The first multiple of the period at or after a time."""
    return -(-time_ns // period_ns) * period_ns
