"""One stream's shadow: its queue, its process, and a thread that looks after both.

A process that dies is started again, later each time; one that stops taking is ended first. Nothing here
is ever waited for by the live side.

Leans on `shadow_queue` and `shadow_worker`. Knows nothing of engines.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from featureplane import settings
from featureplane.clock import SYSTEM, Clock
from featureplane.features.shadow_queue import Head, Queue, names_of
from featureplane.features.shadow_worker import ShadowJob, pack_job
from featureplane.market.quality import Quality
from featureplane.units import NANOS_PER_SECOND

__all__ = ["ShadowCounts", "ShadowProcess"]

_LOOK_S: Final = 0.25
_STALL_NS: Final = 30 * NANOS_PER_SECOND
_BACK_OFF_NS: Final = NANOS_PER_SECOND // 10
_BACK_OFF_NS_MAX: Final = 30 * NANOS_PER_SECOND
_LINE_MAX: Final = 1 << 24

_log = logging.getLogger("featureplane.shadow")


@dataclass(frozen=True, slots=True)
class ShadowCounts:
    """What became of the frames that were to be compared; exact.

    `due` = `match` + `mismatch` + `skipped` + `error` - `died` + those still in the queue. `skipped` found no
    room in the queue, the shadow without the state before them, or a candidate that makes no frame of the
    message. `error` are frames that the shadow lost because it raised or died, and one for each death.
    `by_name` counts mismatches by feature, and by `_changed`, `_ready`, `_flags`, `_frame`, `_state`; a frame
    may count under several. `live_flags` and `shadow_flags` count, of the frames that were compared, those
    with each quality flag.
    """

    due: int = 0
    match: int = 0
    mismatch: int = 0
    skipped: int = 0
    error: int = 0
    died: int = 0
    by_name: Mapping[str, int] = field(default_factory=dict)
    live_flags: Mapping[str, int] = field(default_factory=dict, compare=False)
    shadow_flags: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def compared(self) -> int:
        """Frames of which both sides were seen."""
        return self.match + self.mismatch

    @property
    def outstanding(self) -> int:
        """Frames of which nothing is known yet."""
        return self.due + self.died - self.match - self.mismatch - self.skipped - self.error

    def __add__(self, other: ShadowCounts) -> ShadowCounts:
        tables = (
            (self.by_name, other.by_name),
            (self.live_flags, other.live_flags),
            (self.shadow_flags, other.shadow_flags),
        )
        return ShadowCounts(
            self.due + other.due,
            self.match + other.match,
            self.mismatch + other.mismatch,
            self.skipped + other.skipped,
            self.error + other.error,
            self.died + other.died,
            *({name: a.get(name, 0) + b.get(name, 0) for name in {**a, **b}} for a, b in tables),
        )


class ShadowProcess:
    """Runs a job beside a live stream. `told` gets what the process says, in a thread of ours.

    `package` is the directory that the process imports `featureplane` from.
    """

    def __init__(
        self,
        job: ShadowJob,
        queue: Queue,
        told: Callable[[dict[str, Any]], None],
        *,
        package: Path,
        clock: Clock = SYSTEM,
    ) -> None:
        self.queue: Queue | None = queue
        self.pid: int | None = None
        self.job, self._told, self._package, self._clock = job, told, package, clock
        self._names = names_of(job.live)
        self._died = 0
        self._last = ShadowCounts()
        self._ended = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="shadow", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> ShadowCounts:
        """As they stand now, or were at the end."""
        queue = self.queue
        return self._last if queue is None else self._counted(queue)

    def _counted(self, queue: Queue) -> ShadowCounts:
        word = queue.read
        counted = {name: word(Head.COUNTS + at) for at, name in enumerate(self._names)}
        first = Head.COUNTS + len(self._names)
        live, shadow = (
            {str(flag.name): word(first + side * len(Quality) + at) for at, flag in enumerate(Quality)}
            for side in (0, 1)
        )
        return ShadowCounts(
            due=word(Head.DUE),
            match=word(Head.MATCH),
            mismatch=word(Head.MISMATCH),
            skipped=word(Head.SKIPPED) + word(Head.PASSED),
            error=word(Head.ERROR) + self._died,
            died=self._died,
            by_name={name: count for name, count in counted.items() if count},
            live_flags=live,
            shadow_flags=shadow,
        )

    def close(self) -> None:
        """Nothing more will come; the process ends when it has taken everything."""
        if self.queue is not None:
            self.queue.write(Head.CLOSING, 1)

    def stop(self, timeout_s: float) -> None:
        """Close, wait so long for the rest to be compared, then end it."""
        self.close()
        self._ended.wait(timeout_s)
        self._stopping.set()
        self._thread.join()

    # -- the thread

    def _look_after(self) -> None:
        back_off_ns = _BACK_OFF_NS
        try:
            while not self._stopping.is_set():
                began_ns = self._clock.monotonic_ns()
                ended = self._run_once()
                if ended == 0 and self._is_done():
                    break
                if self._stopping.is_set():
                    break
                self._died += 1
                _log.warning("the shadow's process ended with status %s; it starts again", ended)
                if self._clock.monotonic_ns() - began_ns > _BACK_OFF_NS_MAX:
                    back_off_ns = _BACK_OFF_NS
                self._clock.wait(back_off_ns, self._stopping)
                back_off_ns = min(2 * back_off_ns, _BACK_OFF_NS_MAX)
                self.job = replace(self.job, again=True)
        finally:
            queue, self.pid = self.queue, None
            if queue is not None:
                self._last = self._counted(queue)
                self.queue = None
                os.close(queue.descriptor)
            self._ended.set()

    def _is_done(self) -> bool:
        queue = self.queue
        return queue is None or bool(queue.read(Head.CLOSING) and not queue.held)

    def _run_once(self) -> int | None:
        """One life of the process; its status, None where it could not be started."""
        command = [sys.executable, "-P", "-m", "featureplane.features.shadow_worker"]
        path = os.pathsep.join([str(self._package), *filter(None, sys.path)])
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=settings.inherited(PYTHONPATH=path),
                pass_fds=(self.job.descriptor,),
            )
        except OSError as error:
            _log.warning("the shadow's process does not start: %s", error)
            return None
        # WHY around all: what a process that died did not read is written again when its input is closed.
        with contextlib.suppress(BrokenPipeError), process:
            self.pid = process.pid
            try:
                _stream(process.stdin).write(pack_job(self.job))
                _stream(process.stdin).flush()
                self._listen(process)
            finally:
                if process.poll() is None:
                    process.kill()
                self.pid = None
        return process.returncode

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Hand on what the process says until it says no more, stalls, or is to stop."""
        output = _stream(process.stdout)
        rest, seen = b"", (-1, self._clock.monotonic_ns())
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while not self._stopping.is_set():
                if selector.select(_LOOK_S):
                    data = os.read(output.fileno(), 1 << 16)
                    if not data:
                        process.wait()
                        return
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        self._hear(line)
                    rest = rest[-_LINE_MAX:]
                seen = self._progress(seen)
                if self._clock.monotonic_ns() - seen[1] > _STALL_NS:
                    _log.warning("the shadow's process has stopped taking; it is ended")
                    return

    def _progress(self, seen: tuple[int, int]) -> tuple[int, int]:
        """How far it had come, and when it was last seen to come further or to have nothing to do."""
        queue = self.queue
        taken = 0 if queue is None else queue.read(Head.TAKEN)
        if queue is not None and taken == seen[0] and queue.held:
            return seen
        return taken, self._clock.monotonic_ns()

    def _hear(self, line: bytes) -> None:
        try:
            what = json.loads(line)
        except ValueError:
            _log.warning("the shadow said %r", line[:200])
            return
        self._told(what)


def _stream(stream: Any) -> Any:
    """A stream that was asked for and is there."""
    if stream is None:
        raise AssertionError("a process without the stream that was asked for")
    return stream
