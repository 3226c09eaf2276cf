"""Nine features of the touch over a prepared table, against what people use for tables."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job, checksum, timed
from benchmarks.peers import Peers
from benchmarks.recording import CACHE, Recording, columns_of
from featureplane.features import kernels as k

__all__ = ["NINE", "jobs"]

_COLUMNS = ("best_bid", "best_ask", "l1_bid_qty", "l1_ask_qty")
_NAMES = ("best_bid", "best_ask", "bid_qty", "ask_qty")
_LIBRARIES = ("numba", "numpy", "pandas", "polars")

_OFI: Final = k.ofi(1)
NINE: Final = fp.FeatureSet(
    "bench_touch_v1",
    schema_version=1,
    features={
        "mid_x2": k.mid_x2(),
        "spread": k.spread(),
        "microprice_x2": k.microprice_x2(),
        "imbalance_ppm": k.imbalance_ppm(1),
        "ofi": _OFI,
        "ofi_cum": k.cumsum(_OFI),
        "ofi_ema8": k.ema(_OFI, span=8),
        "spread_ema8": k.ema(k.spread(), span=8),
        "imbalance_ema8": k.ema(k.imbalance_ppm(1), span=8),
    },
)


def _touch(recording: Recording) -> Path:
    """The touch after every row of the recording, valid books only: four columns in a file."""
    table = fp.compute(recording.every_row, fp.feature_set("lob_shared_v1"))
    _, valid = table.column("spread_scaled")
    path = CACHE / f"{recording.name}.touch.npy"
    np.save(path, np.column_stack([table.column(name)[0][valid] for name in _COLUMNS]))
    return path


def _ours(path: Path) -> Contestant:
    table = dict(zip(_NAMES, (np.ascontiguousarray(column) for column in np.load(path).T), strict=True))
    run = timed(
        lambda: fp.compute_touch(table, NINE),
        len(table["best_bid"]),
        lambda computed: checksum(columns_of(computed)),
    )
    return Contestant("featureplane", run)


def _libraries(peers: Peers, path: Path) -> tuple[Contestant, ...]:
    worker = peers.start("benchmarks.peer_tables", str(path))
    if worker is None:
        return ()
    return tuple(worker.contestant(name, name, equal=name == "numba") for name in _LIBRARIES)


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """A row here is a row of the table."""
    path = _touch(recording)
    return (
        Job(
            "table",
            "Nine touch features over a prepared table",
            "ns/row",
            (*peers.contestants(("limit", "limit", "table", True)), _ours(path), *_libraries(peers, path)),
            baseline="limit",
            goals=(Goal("featureplane", 5.0),),
            absent=peers.missing("limit", "tables"),
            note="numba is a loop somebody had to write, compiled for this CPU; NumPy's means are pandas'. "
            "All write into memory written before; our masks and numbers of rows are made when asked for.",
        ),
    )
