"""One message in, one frame out, from Python: what a live engine pays for each.

Messages stand in the events in memory; no Python object is made for an event. `push` shows the frame in
its own room, `process` makes a new one. The figures hold the clock's own cost, some 50 ns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job, Sample
from benchmarks.peers import Peers
from benchmarks.recording import Recording
from featureplane import native
from featureplane.features.native_engine import NativeEngine
from featureplane.market.events import EventBatch, Kind

__all__ = ["jobs"]

_WARM: Final = 1_000  # messages before the first that counts
_NANOS: Final = 1_000_000_000

Way = Callable[[EventBatch, fp.FeatureSet, list[tuple[int, int]]], list[int]]


def _pushed(events: EventBatch, fset: fp.FeatureSet, messages: list[tuple[int, int]]) -> list[int]:
    engine, clock, times = fp.FeatureEngine(fset), time.perf_counter_ns, []
    for first, behind in messages:
        start = clock()
        for frame in engine.push(events, first, behind):
            frame["best_bid"]
        times.append(clock() - start)
    return times


def _processed(events: EventBatch, fset: fp.FeatureSet, messages: list[tuple[int, int]]) -> list[int]:
    engine = NativeEngine(fset, events.instruments, events.source, events.options)
    arrays = [events.array[first:behind] for first, behind in messages]
    clock, times = time.perf_counter_ns, []
    for message in arrays:
        start = clock()
        for frame, _ in engine.process(message):
            frame["best_bid"]
        times.append(clock() - start)
    return times


def _latencies(recording: Recording, feature_set_id: str, way: Way) -> npt.NDArray[np.int64]:
    """Nanoseconds of every book and trade message of the recording behind the first ones, in order."""
    events = recording.events
    ends = events.message_ends
    starts = np.concatenate([[0], ends[:-1]])
    steps = events.array["kind"][starts] != Kind.QUOTE
    messages = list(zip(starts[steps].tolist(), ends[steps].tolist(), strict=True))
    times = way(events, fp.feature_set(feature_set_id), messages)
    return np.array(times[min(_WARM, len(times) // 2) :], np.int64)


def _figure(
    recording: Recording, feature_set_id: str, way: Way, of: Callable[[npt.NDArray[np.int64]], float]
) -> Callable[[int], Sample]:
    def run(runs: int) -> Sample:
        return Sample(tuple(of(_latencies(recording, feature_set_id, way)) / _NANOS for _ in range(runs)), 1)

    return run


def _median(times: npt.NDArray[np.int64]) -> float:
    return float(np.percentile(times, 50))


def _p99(times: npt.NDArray[np.int64]) -> float:
    return float(np.percentile(times, 99))


def _mean(times: npt.NDArray[np.int64]) -> float:
    return float(times.mean())


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """Needs the extension."""
    del peers
    if not native.available():
        return ()
    figures = {"p50": _median, "mean": _mean, "p99": _p99}
    ways: dict[str, Way] = {"featureplane": _pushed, "process": _processed}
    return (
        Job(
            "streaming",
            "One message to one frame, from Python",
            "ns/message",
            tuple(
                Contestant(
                    f"{word}, {version}, {name}",
                    _figure(recording, f"lob_shared_{version}", way, of),
                    equal=False,
                )
                for word, way in ways.items()
                for version in ("v1", "v2")
                for name, of in figures.items()
            ),
            baseline="featureplane, v1, p50",
            goals=(Goal("featureplane, v1, p50", 1_000.0), Goal("featureplane, v1, mean", 1_000.0)),
            note="v1 makes a frame for one message in four, the others are trades it does not listen to.",
        ),
    )
