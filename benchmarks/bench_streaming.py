"""One message in, one frame out, from Python: what a live engine pays for each.

Each message is a slice of the events in memory; no Python object is made for an event. The figures hold
the clock's own cost, some 50 ns.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job, Sample
from benchmarks.peers import Peers
from benchmarks.recording import Recording
from featureplane import native
from featureplane.features.native_engine import NativeEngine
from featureplane.market.events import Kind

__all__ = ["jobs"]

_WARM = 1_000  # messages before the first that counts
_NANOS = 1_000_000_000


def _latencies(recording: Recording, feature_set_id: str) -> npt.NDArray[np.int64]:
    """Nanoseconds of every book and trade message of the recording, in order."""
    events = recording.events
    array = np.array(events.array)
    ends = events.message_ends
    starts = np.concatenate([[0], ends[:-1]])
    steps = array["kind"][starts] != Kind.QUOTE
    messages = [array[start:end] for start, end in zip(starts[steps], ends[steps], strict=True)]
    engine = NativeEngine(fp.feature_set(feature_set_id), events.instruments, events.source, events.options)
    for _ in engine.process(array[: ends[0]]):
        pass
    clock = time.perf_counter_ns
    times = []
    for message in messages[1:]:
        start = clock()
        for frame, _ in engine.process(message):
            frame["best_bid"]
        times.append(clock() - start)
    return np.array(times[min(_WARM, len(times) // 2) :], np.int64)


def _figure(
    recording: Recording, feature_set_id: str, of: Callable[[npt.NDArray[np.int64]], float]
) -> Callable[[int], Sample]:
    def run(runs: int) -> Sample:
        return Sample(tuple(of(_latencies(recording, feature_set_id)) / _NANOS for _ in range(runs)), 1)

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
    return (
        Job(
            "streaming",
            "One message to one frame, from Python",
            "ns/message",
            tuple(
                Contestant(
                    f"featureplane, {version}, {name}",
                    _figure(recording, f"lob_shared_{version}", of),
                    equal=False,
                )
                for version in ("v1", "v2")
                for name, of in figures.items()
            ),
            baseline="featureplane, v1, p50",
            goals=(Goal("featureplane, v1, mean", 1_000.0),),
            note="v1 makes a frame for one message in four, the others are trades it does not listen to.",
        ),
    )
