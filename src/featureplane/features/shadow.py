"""A second engine in the shadow of the live one: the same messages, compared value by value, mask by mask.

    engine.watch(Shadow())                          the other backend, every 256th frame of a symbol
    engine.watch(Shadow(candidate=my_set_v2))       another set, on the features that both have

The shadow computes in a process of its own and is never waited for: what it cannot take is left out and
counted. Nothing that it does, or that is done to it, changes a live byte.

Leans on `shadow_process`. Knows nothing of services or metrics.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import featureplane
from featureplane import native
from featureplane.clock import SYSTEM
from featureplane.errors import SettingError
from featureplane.features.frame import FeatureFrame, FrameLayout, Value
from featureplane.features.shadow_compare import left_out
from featureplane.features.shadow_process import ShadowCounts, ShadowProcess
from featureplane.features.shadow_queue import QUEUE_BYTES, Head, Queue, names_of
from featureplane.features.shadow_worker import ShadowJob
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch, SourceInfo, StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.sources.capture_layout import SUFFIX
from featureplane.settings import Settings
from featureplane.units import NANOS_PER_MS, NANOS_PER_SECOND
from featureplane.whole_file import WholeFile

__all__ = ["Shadow", "ShadowCounts", "ShadowMode"]

ShadowMode = Literal["sample", "full"]
"""`sample`: the state before a message is handed over with it; `full`: every message is."""

_ROOT: Final = Path(featureplane.__file__).resolve().parents[1]
_MASKS: Final = "_"
_STOP_S: Final = 10.0

_log = logging.getLogger("featureplane.shadow")


def _id_of(fset: FeatureSet) -> str:
    return fset.feature_set_id


class Shadow:
    """Compares with the stream of one engine; `FeatureEngine.watch` and `Pipeline.watch` begin it.

    Without `candidate` it is the same set on the other backend. By default it is given the live state before
    every `sample_every`th computed frame of a symbol, steps once, and both frame and state must be equal;
    with `mode="full"` it takes every message, and after it lost some goes on from a live state. A `candidate`
    takes every message, and features that both sets define alike are compared (`left_out` names the others).

    `warn_every`: at most one line is logged for so many mismatches. `abs_tol`: by how much values of `f64`
    features may differ. `last_path`: where the last mismatch of each symbol is written. `recording`: the
    files that hold the messages of a pipeline, for the command that replays to a mismatch; `reading` are more
    words of it, and `named` says how it names a set, by its id or a file that has it. `queue_bytes`: room for
    what the shadow has not taken yet. `package`: where its process imports `featureplane` from.

    Raises `SettingError` for a value that is none, `BackendUnavailable` for Rust where it is not installed.
    """

    def __init__(
        self,
        candidate: FeatureSet | None = None,
        *,
        backend: str = "auto",
        mode: ShadowMode = "sample",
        sample_every: int = 256,
        warn_every: int = 100,
        abs_tol: float = 0.0,
        last_path: Path | None = None,
        recording: Sequence[str] = (),
        reading: Sequence[str] = (),
        named: Callable[[FeatureSet], str] = _id_of,
        queue_bytes: int = QUEUE_BYTES,
        package: Path = _ROOT,
    ) -> None:
        if mode not in {"sample", "full"}:
            raise SettingError(f"mode={mode!r}", hint="choose one of sample, full")
        self.candidate, self.mode = candidate, mode
        self.abs_tol = Settings(
            shadow_backend=backend,
            shadow_sample_every=sample_every,
            shadow_warn_every=warn_every,
            shadow_abs_tol=abs_tol,
        ).shadow_abs_tol
        self._backend = backend
        self._sample_every, self._warn_every = sample_every, warn_every
        self._last_path, self._recording = last_path, tuple(recording)
        self._reading, self._named = tuple(reading), named
        self._queue_bytes, self._package = queue_bytes, package
        self._lock = threading.Lock()
        self._processes: list[ShadowProcess] = []
        self._past: dict[str, ShadowCounts] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._warned = 0

    @classmethod
    def of(cls, settings: Settings, candidate: FeatureSet | None = None, **more: Any) -> Shadow | None:
        """The shadow that settings ask for; None where it is off. `more` is for the constructor."""
        if not settings.shadow_parity:
            return None
        return cls(
            candidate,
            backend=settings.shadow_backend,
            sample_every=settings.shadow_sample_every,
            warn_every=settings.shadow_warn_every,
            abs_tol=settings.shadow_abs_tol,
            **more,
        )

    def backend_beside(self, live: str) -> str:
        """What the shadow computes with beside a live backend.

        Raises `SettingError` for the same set on the same backend: nothing would be compared.
        """
        other = "python" if live == "rust" else "rust"
        if self.candidate is not None:
            return native.resolve(live if self._backend == "auto" else self._backend)
        chosen = native.resolve(other if self._backend == "auto" else self._backend)
        if chosen == live:
            raise SettingError(
                f"a shadow on {chosen} beside {live}", hint=f"choose {other}, or a candidate set"
            )
        return chosen

    def left_out(self, live: FeatureSet) -> dict[str, str]:
        """Features of the live set that are not compared, and why."""
        return {} if self.candidate is None else left_out(live, self.candidate)

    def begin(
        self,
        live: FeatureSet,
        backend: str,
        stream: tuple[tuple[Instrument, ...], SourceInfo, StreamOptions],
        files: EventBatch | None = None,
    ) -> Queue | None:
        """The queue of a live stream that begins; None, and one line logged, if there is no room for one."""
        self.end()
        full = self.candidate is not None or self.mode == "full"
        try:
            queue = Queue.make(
                len(names_of(live)), every=self._sample_every, full=full, room_bytes=self._queue_bytes
            )
        except OSError as error:
            _log.warning("no shadow: there is no room for its queue: %s", error)
            return None
        job = ShadowJob(
            live,
            self.candidate or live,
            self.backend_beside(backend),
            *stream,
            self.abs_tol,
            queue.descriptor,
        )
        names = tuple(one.path or one.name for one in files.files) if files is not None else self._recording

        def told(what: dict[str, Any]) -> None:
            self._hear(job, names, what)

        with self._lock:
            self._processes.append(ShadowProcess(job, queue, told, package=self._package))
        return queue

    def end(self) -> None:
        """The live stream has ended; what it left in the queue is compared."""
        with self._lock:
            for one in self._processes:
                one.close()

    def close(self, timeout_s: float = _STOP_S) -> None:
        """End: wait so long for what is in the queue, then let the process go."""
        with self._lock:
            processes = list(self._processes)
        for one in processes:
            one.stop(timeout_s)

    def drain(self, timeout_s: float = _STOP_S) -> bool:
        """Wait until everything sent is compared; whether it is. For replays and tests."""
        until_ns = SYSTEM.monotonic_ns() + int(timeout_s * NANOS_PER_SECOND)
        never = threading.Event()
        while self.counts.outstanding or self._held:
            if SYSTEM.monotonic_ns() > until_ns:
                return False
            SYSTEM.wait(NANOS_PER_MS, never)
        return True

    @property
    def _held(self) -> int:
        with self._lock:
            queues = [one.queue for one in self._processes]
        return sum(queue.held for queue in queues if queue is not None)

    @property
    def counts(self) -> ShadowCounts:
        """Exact counts of all streams so far."""
        return sum(self.counts_by_set.values(), ShadowCounts())

    @property
    def counts_by_set(self) -> Mapping[str, ShadowCounts]:
        """The same by the id of the live set, also where answers come when another one is live."""
        with self._lock:
            for one in [one for one in self._processes if one.queue is None]:
                _count(self._past, one)
                self._processes.remove(one)
            counts = dict(self._past)
            for one in self._processes:
                _count(counts, one)
            return counts

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that run now."""
        with self._lock:
            found = [one.pid for one in self._processes]
        return tuple(pid for pid in found if pid is not None)

    @property
    def sample_every(self) -> int:
        """Every so manieth computed frame of a symbol is compared; may be set while it runs."""
        return self._sample_every

    @sample_every.setter
    def sample_every(self, every: int) -> None:
        Settings(shadow_sample_every=every)
        with self._lock:
            self._sample_every = every
            for one in self._processes:
                if (queue := one.queue) is not None:
                    queue.write(Head.EVERY, every)

    def last(self, symbol: str | None = None) -> dict[str, Any] | None:
        """The last mismatch, of a symbol or of all; None if there was none.

        `at` is when it was found, UTC, `pid` the process that computes live. `differs` has both sides by
        name, `live` and `shadow` the frames as hexadecimal digits, `live_values` and `shadow_values` what
        they say, `replay` the commands that lead there.
        """
        with self._lock:
            if symbol is not None:
                return self._last.get(symbol)
            return next(reversed(self._last.values()), None)

    def note(
        self,
        live: FeatureSet,
        backend: str,
        stream: tuple[tuple[Instrument, ...], SourceInfo, StreamOptions],
        what: dict[str, Any],
    ) -> None:
        """A mismatch that was found where one process computes both: told, shown and written as its own.

        `what` has `symbol`, `seq`, `differs`, and both frames, `live` and `shadow`, as hexadecimal digits.
        """
        self._hear(ShadowJob(live, self.candidate or live, backend, *stream, self.abs_tol, -1), None, what)

    def about(self, live: FeatureSet) -> dict[str, Any]:
        """What is compared, and what came of it."""
        counts = self.counts
        return {
            "feature_set": live.feature_set_id,
            "candidate": None if self.candidate is None else self.candidate.feature_set_id,
            "mode": "full" if self.candidate is not None else self.mode,
            "sample_every": self.sample_every,
            "abs_tol": self.abs_tol,
            "compared": counts.compared,
            "match": counts.match,
            "mismatch": counts.mismatch,
            "skipped": counts.skipped,
            "error": counts.error,
            "died": counts.died,
            "by_name": dict(counts.by_name),
            "left_out": self.left_out(live),
        }

    # -- what the process says

    def _hear(self, job: ShadowJob, files: tuple[str, ...] | None, what: dict[str, Any]) -> None:
        if "error" in what:
            _log.warning("the shadow raised at event %s: %s", what["until"], what["error"])
            return
        words = "candidate" if self.candidate is not None else "backend"
        found = {
            "at": _now(),
            "pid": os.getpid(),
            "feature_set": job.live.feature_set_id,
            "shadow_set": job.shadow.feature_set_id,
            words: job.backend,
            **what,
            "live_values": _values(job.live, what["live"]),
            "shadow_values": _values(job.shadow, what["shadow"]),
            "replay": _replay(
                job, self._recording if files is None else files, what, self._reading, self._named
            ),
        }
        with self._lock:
            self._last.pop(what["symbol"], None)
            self._last[what["symbol"]] = found
            kept = dict(self._last)
        if self._last_path is not None:
            _write(self._last_path, kept)
        self._warn(found)

    def _warn(self, found: Mapping[str, Any]) -> None:
        counts = self.counts
        lines = -(-counts.mismatch // self._warn_every)
        if lines > self._warned:
            self._warned = lines
            _log.warning(
                "%d of %d frames differ in the shadow, the last is %s %d in %s: %s",
                counts.mismatch,
                counts.compared,
                found["symbol"],
                found["seq"],
                ", ".join(found["differs"]),
                found["replay"][0],
            )


def _now() -> str:
    return f"{datetime.fromtimestamp(SYSTEM.wall_ns() // NANOS_PER_SECOND, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _count(counts: dict[str, ShadowCounts], one: ShadowProcess) -> None:
    set_id = one.job.live.feature_set_id
    counts[set_id] = counts.get(set_id, ShadowCounts()) + one.counts


def _replay(
    job: ShadowJob,
    files: tuple[str, ...],
    what: Mapping[str, Any],
    more: Sequence[str],
    named: Callable[[FeatureSet], str],
) -> list[str]:
    """Commands that lead to a mismatch: where the frame comes from, and where the executions part."""
    options, plain = job.options, StreamOptions()
    # What was captured keeps the name of its source, and is read as a capture.
    captured = bool(files) and all(name.endswith(SUFFIX) for name in files)
    source = "capture" if captured else job.source.name
    reading = ["--source", source, "--symbol", what["symbol"], *more]
    for name in ("on_gap", "on_malformed", "seed", "seed_after"):
        if (value := getattr(options, name)) != getattr(plain, name):
            reading += [f"--{name.replace('_', '-')}", str(value)]
    paths = list(files) or ["PATH"]
    features = [name for name in what["differs"] if not name.startswith(_MASKS)] or [job.live.feature_ids[0]]
    place = ["--at", str(what["seq"]), "--feature", features[0]]
    sets = dict.fromkeys(map(named, (job.live, job.shadow)))
    trace = [["features", "trace", *paths, *reading, "--features", one, *place] for one in sets]
    parity = [
        "parity",
        *paths,
        *reading,
        "--features",
        named(job.shadow),
        "--until",
        str(what.get("until")),
    ]
    first = [parity] if len(sets) == 1 and len(job.instruments) == 1 else []
    return [shlex.join(["featureplane", *words]) for words in (*first, *trace)]


def _values(fset: FeatureSet, packed: str) -> dict[str, Value]:
    """The values of a frame by feature; none of a frame that is not there."""
    if not packed:
        return {}
    frame = FeatureFrame(bytes.fromhex(packed), FrameLayout.of(fset, {}))
    return dict(zip(frame.feature_ids, frame.values, strict=True))


def _write(path: Path, what: Mapping[str, Any]) -> None:
    """Whole or not at all; one that cannot be written is told of and changes nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with WholeFile(path) as file:
            file.part.write_text(json.dumps(what, indent=1), encoding="utf-8")
    except (OSError, SettingError) as error:
        _log.warning("the last mismatch could not be written: %s", error)
