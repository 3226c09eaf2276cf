"""One message in, one frame out, from Python: what a live engine pays for each.

Messages stand in the events in memory; no Python object is made for an event. `push` shows the frame in
its own room, `process` makes a new one; `pipeline` begins with the bytes of the venue's message instead,
reading included. The figures hold the clock's own cost, some 50 ns.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path
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

_DIGITS_NS: Final = 19  # of a local time in nanoseconds; others are in microseconds
_SAMPLE: Final = Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz"

Way = Callable[[Recording, fp.FeatureSet], list[int]]


def _pushed(recording: Recording, fset: fp.FeatureSet) -> list[int]:
    events, messages = recording.events, _messages(recording.events)
    engine, clock, times = fp.FeatureEngine(fset), time.perf_counter_ns, []
    for first, behind in messages:
        start = clock()
        for frame in engine.push(events, first, behind):
            frame["best_bid"]
        times.append(clock() - start)
    return times


def _processed(recording: Recording, fset: fp.FeatureSet) -> list[int]:
    events, messages = recording.events, _messages(recording.events)
    engine = NativeEngine(fset, events.instruments, events.source, events.options)
    arrays = [events.array[first:behind] for first, behind in messages]
    clock, times = time.perf_counter_ns, []
    for message in arrays:
        start = clock()
        for frame, _ in engine.process(message):
            frame["best_bid"]
        times.append(clock() - start)
    return times


def _piped(recording: Recording, fset: fp.FeatureSet) -> list[int]:
    """The same messages of the same recording, from their bytes."""
    events, taken, times = recording.events, 0, []
    pipeline = fp.Pipeline(fset, recording.source, events.instruments, live=False)
    clock = time.perf_counter_ns
    with gzip.open(recording.path or _SAMPLE) as stream:
        lines = [text.rstrip().partition(b" ") for text in stream]
    messages = [(data, int(local) * (1 if len(local) == _DIGITS_NS else 1000)) for local, _, data in lines]
    for data, local_ts_ns in messages:
        start = clock()
        for frame in pipeline.push(data, local_ts_ns):
            frame["best_bid"]
        spent = clock() - start
        count = len(pipeline.events)
        if count and events.array["kind"][taken] != Kind.QUOTE:
            times.append(spent)
        taken += count
        if taken >= len(events):
            break
    return times


def _messages(events: EventBatch) -> list[tuple[int, int]]:
    """Where the book and trade messages begin and end."""
    ends = events.message_ends
    starts = np.concatenate([[0], ends[:-1]])
    steps = events.array["kind"][starts] != Kind.QUOTE
    return list(zip(starts[steps].tolist(), ends[steps].tolist(), strict=True))


def _latencies(recording: Recording, feature_set_id: str, way: Way) -> npt.NDArray[np.int64]:
    """Nanoseconds of every book and trade message of the recording behind the first ones, in order."""
    times = way(recording, fp.feature_set(feature_set_id))
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
    ways: dict[str, Way] = {"featureplane": _pushed, "process": _processed, "pipeline": _piped}
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
