"""What a shadow costs the live path, bytes of a message to a strategy that has read its frame.

`1 in 256`: the other backend, by state transfer. `1 in 1`: a candidate set in Rust, which sees every message
and is compared on every frame; the figure is what that adds to a message. `handed over in Python`: what a
live engine in Python spends to hand every message, with a frame, to a shadow in Rust; beside a message that
takes a hundred microseconds it could not be told from two runs.

The shadow's process stands still while the clock runs and works through the queue in between: it has a core
of its own where it matters, and here it would be measured with the live path. The first messages behind such
a pause are not timed: the caches hold what the shadow worked on.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Final

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job, Sample, now
from benchmarks.peers import Peers
from benchmarks.recording import Recording
from featureplane import native
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperVenue
from featureplane.features.shadow import Shadow
from featureplane.features.shadow_queue import Head, Queue, names_of, probe_of
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.runner import StrategyRunner

__all__ = ["jobs"]

_MESSAGES: Final = 30_000
_PART: Final = 5_000  # messages between two pauses
_WARM: Final = 500  # messages behind a pause whose time is not taken: others have had the caches meanwhile
_PAUSE_S: Final = 0.02
_WAIT_S: Final = 120.0
_ROOM: Final = 16 << 20
_HANDED: Final = 50_000  # events handed over in Python: less than the room takes
_DIGITS_NS: Final = 19  # of a local time in nanoseconds; others are in microseconds
_SAMPLE: Final = Path(fp.__file__).parent / "sample" / "ethusdt_20240808.gz"
_SETS: Final = {"v1": "lob_shared_v1", "v2": "lob_shared_v2"}
_OTHER: Final = {"v1": "lob_shared_v2", "v2": "lob_shared_v1"}

Message = tuple[bytes, int]


class _Reader(BaseStrategy):
    """Reads two values of every frame, and sums them up."""

    def __init__(self, feature_set_id: str) -> None:
        super().__init__()
        self.required_features = feature_set_id
        self._sum = 0

    def on_features(self, frame: fp.FeatureFrame) -> None:
        bid, flow = frame["best_bid"], frame["ofi_l1_raw"]
        if isinstance(bid, int) and isinstance(flow, int):
            self._sum = (self._sum * 31 + bid + flow) % (1 << 61)

    def told(self) -> bytes:
        """The sum so far."""
        return self._sum.to_bytes(8, "little")


def _messages(recording: Recording) -> list[Message]:
    with gzip.open(recording.path or _SAMPLE) as stream:
        lines = [text.rstrip().partition(b" ") for text, _ in zip(stream, range(_MESSAGES), strict=False)]
    return [(data, int(local) * (1 if len(local) == _DIGITS_NS else 1000)) for local, _, data in lines]


def _once(recording: Recording, version: str, shadow: Shadow | None) -> tuple[float, int, str]:
    """Seconds, messages, and a sum of the frames."""
    messages, digest = _messages(recording), hashlib.sha256()
    pipeline = fp.Pipeline(
        fp.feature_set(_SETS[version]), recording.source, recording.events.instruments, live=False
    )
    pipeline.watch(shadow)
    reader = _Reader(_SETS[version])
    here = pipeline.instruments
    runner = StrategyRunner([reader], here, engine=pipeline, venue=PaperVenue(here), risk=RiskCheck(here))
    push, spent, timed = runner.push, 0.0, 0
    push(*messages[0])  # queue and process begin with the stream
    while shadow is not None and not shadow.pids:
        time.sleep(_PAUSE_S)
    for first in range(1, len(messages), _PART):
        part = messages[first : first + _PART]
        _signal(shadow, signal.SIGSTOP)
        for data, local_ts_ns in part[:_WARM]:
            push(data, local_ts_ns)
        start = now()
        for data, local_ts_ns in part[_WARM:]:
            push(data, local_ts_ns)
        spent += now() - start
        timed += len(part[_WARM:])
        _signal(shadow, signal.SIGCONT)
        digest.update(reader.told())
        time.sleep(_PAUSE_S)
        if shadow is not None and not shadow.drain(_WAIT_S):
            raise RuntimeError("the shadow does not come along")
    return spent, timed, digest.hexdigest()[:16]


def _signal(shadow: Shadow | None, what: signal.Signals) -> None:
    for pid in () if shadow is None else shadow.pids:
        os.kill(pid, what)


def _shadowed(recording: Recording, version: str, *, every: int, candidate: bool) -> tuple[float, int, str]:
    other = fp.feature_set(_OTHER[version]) if candidate else None
    shadow = Shadow(other, sample_every=every, queue_bytes=_ROOM)
    try:
        found = _once(recording, version, shadow)
    finally:
        shadow.close(0.0)
    counts = shadow.counts
    if counts.mismatch or counts.error or not counts.match:
        raise RuntimeError(f"the shadow compared otherwise than expected: {counts}")
    return found


def _alone(recording: Recording, version: str, runs: int) -> Sample:
    found = [_once(recording, version, None) for _ in range(runs)]
    return Sample(tuple(seconds for seconds, _, _ in found), found[0][1], found[0][2])


def _sampled(recording: Recording, version: str, runs: int) -> Sample:
    found = [_shadowed(recording, version, every=256, candidate=False) for _ in range(runs)]
    return Sample(tuple(seconds for seconds, _, _ in found), found[0][1], found[0][2])


def _added(recording: Recording, version: str, runs: int) -> Sample:
    """What a candidate at 1 in 1 adds, of runs behind one another."""
    seconds, units, total = [], 1, ""
    for _ in range(runs):
        alone, _, _ = _once(recording, version, None)
        beside, units, total = _shadowed(recording, version, every=1, candidate=True)
        seconds.append(max(beside - alone, 1e-9))
    return Sample(tuple(seconds), units, total)


def _handed_over(recording: Recording, version: str, runs: int) -> Sample:
    """What `_process_watched` of the reference does for each message beside taking it."""
    batch, fset = recording.events.part(0, _HANDED), fp.feature_set(_SETS[version])
    events, symbol_id = batch.array, batch.instruments[0].symbol_id
    ends = [end for end in batch.message_ends.tolist() if end <= len(events)]
    frame = next(iter(fp.FeatureEngine(fset, "rust").replay(batch))).pack()
    seconds = []
    for _ in range(runs):
        queue = Queue.make(len(names_of(fset)), every=1, full=True, room_bytes=4 * _ROOM)
        probe = probe_of(queue, [symbol_id])
        before, start = 0, now()
        for seq, end in enumerate(ends):
            probe.wanted(symbol_id, seq)
            probe.taken(symbol_id, end, events[before:end].tobytes(), (b"", frame, b""))
            before = end
        seconds.append(now() - start)
        if queue.read(Head.SENT) != len(ends):
            raise RuntimeError("messages found no room in the queue")
        os.close(queue.descriptor)
    return Sample(tuple(seconds), len(ends), "")


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """Needs the extension: one for each set, whose frames are equal with a shadow and without."""
    del peers
    if not native.available():
        return ()
    return tuple(
        Job(
            f"shadow_{version}",
            f"A message to a strategy that reads {_SETS[version]}, beside a shadow",
            "ns/message",
            (
                Contestant("alone", partial(_alone, recording, version)),
                Contestant("1 in 256", partial(_sampled, recording, version)),
                Contestant("added at 1 in 1", partial(_added, recording, version)),
                Contestant(
                    "handed over in Python, 1 in 1", partial(_handed_over, recording, version), equal=False
                ),
            ),
            baseline="alone",
            goals=(
                Goal("1 in 256", 1.05, "alone"),
                Goal("added at 1 in 1", 2_000.0),
                Goal("handed over in Python, 1 in 1", 2_000.0),
            ),
            note="The shadow's own work is not in these figures: it has a process of its own.",
        )
        for version in _SETS
    )
