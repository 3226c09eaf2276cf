"""From `import featureplane` to the first frame, in a new process each time."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.harness import Contestant, Goal, Job, Sample
from benchmarks.peers import Peers
from benchmarks.recording import ROOT, Recording

__all__ = ["jobs"]

_PER_MS = 1_000_000  # nanoseconds

_PROGRAM = """
import time
began = time.perf_counter()
import featureplane as fp
engine = fp.FeatureEngine(fp.feature_set("lob_shared_v1"))
frame = next(iter(engine.replay(fp.sample_events())))
frame["best_bid"]
print(time.perf_counter() - began)
"""


def _run(runs: int) -> Sample:
    seconds = []
    for _ in range(runs):
        said = subprocess.run(
            [sys.executable, "-c", _PROGRAM], cwd=ROOT, check=True, capture_output=True, text=True
        )
        seconds.append(float(said.stdout))
    return Sample(tuple(seconds), _PER_MS)


def _bare(runs: int) -> Sample:
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import numpy"], cwd=ROOT, check=True)
        seconds.append(time.perf_counter() - start)
    return Sample(tuple(seconds), _PER_MS)


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """The embedded sample, whatever was recorded."""
    del recording, peers
    return (
        Job(
            "start",
            "import to first frame of the embedded sample",
            "ms",
            (
                Contestant("python -c 'import numpy'", _bare, equal=False),
                Contestant("featureplane", _run, equal=False),
            ),
            baseline="python -c 'import numpy'",
            goals=(Goal("featureplane", 500.0),),
        ),
    )
