"""Nine features of the touch over a prepared table, against what people use for tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job
from benchmarks.peers import Peers
from benchmarks.recording import CACHE, Recording

__all__ = ["jobs"]

_COLUMNS = ("best_bid", "best_ask", "l1_bid_qty", "l1_ask_qty")
_LIBRARIES = ("numba", "numpy", "pandas", "polars")


def _touch(recording: Recording) -> Path:
    """The touch after every row of the recording, valid books only: four columns in a file."""
    table = fp.compute(recording.every_row, fp.feature_set("lob_shared_v1"))
    _, valid = table.column("spread_scaled")
    path = CACHE / f"{recording.name}.touch.npy"
    np.save(path, np.column_stack([table.column(name)[0][valid] for name in _COLUMNS]))
    return path


def _libraries(peers: Peers, path: Path) -> tuple[Contestant, ...]:
    worker = peers.start("benchmarks.peer_tables", str(path))
    if worker is None:
        return ()
    return tuple(worker.contestant(name, name, equal=name == "numba") for name in _LIBRARIES)


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """A row here is a row of the table."""
    return (
        Job(
            "table",
            "Nine touch features over a prepared table",
            "ns/row",
            (*peers.contestants(("limit", "limit", "table", True)), *_libraries(peers, _touch(recording))),
            baseline="limit",
            goals=(Goal("featureplane", 5.0),),
            absent=peers.missing("limit", "tables"),
            note="numba is a loop somebody had to write, compiled for this CPU; NumPy's means are pandas'.",
        ),
    )
