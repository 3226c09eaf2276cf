"""The process of a shadow: takes messages off the queue, steps once, compares, counts.

    python -m featureplane.features.shadow_worker   started by `features.shadow` and nobody else

What to compute comes on standard input; mismatches go out on standard output, a JSON object a line. It ends
when its input ends, which it does with the live process, and when the queue is closed and empty.

Leans on the two engines, `shadow_queue` and `shadow_compare`. Knows nothing of the live process.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import select
import signal
import sys
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from featureplane.clock import SYSTEM
from featureplane.features.native_engine import NativeEngine
from featureplane.features.reference import ReferenceEngine
from featureplane.features.shadow_compare import Comparison, Differences, in_order, transplanted
from featureplane.features.shadow_queue import Head, Queue, Record, names_of
from featureplane.features.spec import FeatureSet
from featureplane.features.symbol import SymbolRun
from featureplane.market.events import EVENT_DTYPE, SourceInfo, StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.quality import Quality

__all__ = ["ShadowJob", "main", "pack_job"]

_IDLE_S: Final = 0.001
_IDLE_S_MAX: Final = 0.02
_TELL_NS: Final = 200_000_000  # a mismatch is told at most as often
_FLAGS: Final = slice(12, 16)  # where a frame has them (rule 6)
_NICE: Final = 5  # the live process goes first


@dataclass(frozen=True, slots=True)
class ShadowJob:
    """What a shadow computes, and beside what."""

    live: FeatureSet
    shadow: FeatureSet
    backend: str
    instruments: tuple[Instrument, ...]
    source: SourceInfo
    options: StreamOptions
    abs_tol: float
    descriptor: int
    again: bool = False  # another process had the queue before


def pack_job(job: ShadowJob) -> bytes:
    """A job as one line of standard input."""
    return base64.b64encode(pickle.dumps(job)) + b"\n"


class _Shadow:
    """The engine, and what it was found to differ in."""

    def __init__(self, job: ShadowJob, queue: Queue) -> None:
        self._job, self._queue = job, queue
        self._stream = job.instruments, job.source, job.options
        self._names = {name: Head.COUNTS + at for at, name in enumerate(names_of(job.live))}
        self._flags_at = Head.COUNTS + len(self._names)
        self._symbols = {one.symbol_id: one for one in job.instruments}
        self._comparisons: dict[int, Comparison] = {}
        self._told_ns = 0
        self._untold: dict[str, Any] | None = None
        self._begin()
        if job.again:
            queue.add(Head.ROUND)

    def _begin(self) -> None:
        job = self._job
        if job.backend == "rust":
            self._engine: NativeEngine | ReferenceEngine = NativeEngine(
                job.shadow, *self._stream, execution="streaming"
            )
        else:
            self._engine = ReferenceEngine(job.shadow, *self._stream)
        self._told: set[int] = set()  # symbols whose state it has

    def take(self, record: Record) -> None:
        """One message: the engine takes it, and what it makes is compared."""
        queue = self._queue
        lost = record.sent - bool(record.frame) - queue.answered
        if lost > 0:  # taken out by a process that died before it said anything
            queue.add(Head.ERROR, lost)
        try:
            answer = self._step(record)
        except Exception as error:  # noqa: BLE001 - a shadow that raises is a finding, not an end
            self._begin()
            queue.add(Head.ROUND)
            queue.add(Head.ERROR, int(bool(record.frame)))
            self._untold = {"error": f"{type(error).__name__}: {error}", "until": record.until}
        else:
            queue.add(answer, int(bool(record.frame)))
        self.tell(at_once=False)

    def _step(self, record: Record) -> Head:
        """Head word to count the record under, if it has a frame."""
        engine, symbol_id = self._engine, record.symbol_id
        if record.before:
            engine.restore(symbol_id, self._state(record))
            self._told.add(symbol_id)
        stale = self._queue.read(Head.FULL) and record.round != self._queue.read(Head.ROUND)
        if stale or symbol_id not in self._told:
            return Head.PASSED
        frame: bytes | None = None
        for one, _ in engine.process(np.frombuffer(record.events, EVENT_DTYPE)):
            frame = one.pack()
        if not record.frame:
            return Head.MATCH
        comparison = self._comparison(symbol_id)
        found = comparison.frames(record.frame, frame)
        if found is None:
            return Head.PASSED
        self._count_flags(record.frame, frame)
        if record.after:
            found |= comparison.states(in_order(record.after, record.book), engine.snapshot(symbol_id), found)
        if not found:
            return Head.MATCH
        self._differs(record, frame, found)
        return Head.MISMATCH

    def _count_flags(self, live: bytes, shadow: bytes | None) -> None:
        """The flags of two frames that are compared; one that is not there has none."""
        for side, frame in enumerate((live, shadow or b"")):
            flags = int.from_bytes(frame[_FLAGS], "little")
            for at, flag in enumerate(Quality):
                if flags & flag:
                    self._queue.add(self._flags_at + side * len(Quality) + at)

    def _state(self, record: Record) -> bytes:
        job = self._job
        if job.live.fingerprint == job.shadow.fingerprint:
            return record.before
        live, shadow = self._fresh(job.live, record.symbol_id), self._fresh(job.shadow, record.symbol_id)
        return transplanted(record.before, live, shadow, (job.live.plan, job.shadow.plan))

    def _fresh(self, fset: FeatureSet, symbol_id: int) -> SymbolRun:
        return ReferenceEngine(fset, *self._stream).symbol(symbol_id)

    def _comparison(self, symbol_id: int) -> Comparison:
        known = self._comparisons.get(symbol_id)
        if known is None:
            job = self._job
            known = self._comparisons[symbol_id] = Comparison(
                job.live, job.shadow, abs_tol=job.abs_tol, fresh=lambda fset: self._fresh(fset, symbol_id)
            )
        return known

    def _differs(self, record: Record, frame: bytes | None, found: Differences) -> None:
        for name in found:
            self._queue.add(self._names[name])
        self._untold = {
            "symbol": self._symbols[record.symbol_id].symbol,
            "seq": int.from_bytes(record.frame[16:24], "little"),
            "until": record.until,
            "local_ts_ns": int.from_bytes(record.frame[32:40], "little", signed=True),
            "differs": {name: [str(left), str(right)] for name, (left, right) in found.items()},
            "live": record.frame.hex(),
            "shadow": "" if frame is None else frame.hex(),
        }

    def tell(self, *, at_once: bool = True) -> None:
        """Say what was found last, if it was not said; it is counted already."""
        now = SYSTEM.monotonic_ns()
        if self._untold is not None and (at_once or now - self._told_ns > _TELL_NS or not self._told_ns):
            sys.stdout.write(json.dumps(self._untold) + "\n")
            sys.stdout.flush()
            self._untold, self._told_ns = None, now

    def settle(self) -> None:
        """The queue is empty: what was sent and not answered was lost with another process."""
        if (lost := self._queue.read(Head.SENT) - self._queue.answered) > 0 and not self._queue.held:
            self._queue.add(Head.ERROR, lost)
        self.tell()


def main() -> int:
    """Work until the live side is gone, or has closed the queue and it is empty."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the live process, which ends this one
    os.nice(_NICE)
    job: ShadowJob = pickle.loads(base64.b64decode(sys.stdin.buffer.readline()))  # noqa: S301 - from our starter
    queue = Queue.attach(job.descriptor)
    shadow, idle_s = _Shadow(job, queue), _IDLE_S
    while True:
        record = queue.take()
        if record is not None:
            shadow.take(record)
            idle_s = _IDLE_S
            continue
        shadow.settle()
        if queue.read(Head.CLOSING) and not queue.held:
            return 0
        if select.select([sys.stdin], [], [], idle_s)[0]:
            return 0
        idle_s = min(1.5 * idle_s, _IDLE_S_MAX)


if __name__ == "__main__":
    sys.exit(main())
