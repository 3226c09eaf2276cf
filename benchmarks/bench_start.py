"""From `import featureplane` to the first frame, in a new process each time."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness import Contestant, Goal, Job, Sample
from benchmarks.peers import Peers
from benchmarks.recording import ROOT, Recording

__all__ = ["jobs"]

_PER_MS = 1_000_000  # nanoseconds

_CLOCKED = """
import os, time
now = time.process_time if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter
began = now()
{program}
print(now() - began)
"""
_PROGRAM = """
import featureplane as fp
engine = fp.FeatureEngine(fp.feature_set("lob_shared_v1"))
frame = next(iter(engine.replay(fp.sample_events())))
frame["best_bid"]
"""


def _timed(runs: int, program: str) -> Sample:
    seconds = []
    for _ in range(runs):
        command = [sys.executable, "-c", _CLOCKED.format(program=program)]
        said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        seconds.append(float(said.stdout))
    return Sample(tuple(seconds), _PER_MS)


def _ours(runs: int) -> Sample:
    return _timed(runs, _PROGRAM)


def _numpy(runs: int) -> Sample:
    return _timed(runs, "import numpy")


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """The embedded sample, whatever was recorded."""
    del recording, peers
    return (
        Job(
            "start",
            "import to first frame of the embedded sample",
            "ms",
            (
                Contestant("import numpy alone", _numpy, equal=False),
                Contestant("featureplane", _ours, equal=False),
            ),
            baseline="import numpy alone",
            goals=(Goal("featureplane", 500.0),),
        ),
    )
