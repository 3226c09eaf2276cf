"""Loading a captured day: mapped, mapped and looked at, unpacked."""

from __future__ import annotations

from pathlib import Path

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job, timed
from benchmarks.peers import Peers
from benchmarks.recording import CACHE, Recording
from featureplane.market.sources.capture import write_capture

__all__ = ["jobs"]


def _looked_at(path: Path) -> int:
    """Loads a capture and reads a field of every event, so that no page of it was merely promised."""
    return int(fp.read_events(path, source="capture").array["local_ts_ns"].max())


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """The canonical recording as a capture file, plain and packed."""
    plain, _ = recording.captures
    packed = CACHE / f"{recording.name}.zstd.fpcap"
    write_capture(packed, recording.events, compression="zstd")
    rows = recording.rows
    return (
        Job(
            "capture",
            "A capture file to events in memory",
            "ns/row",
            (
                *peers.contestants(
                    ("limit, mapped and looked at", "limit", "capture_map", False),
                    ("limit, read into new memory", "limit", "capture_read", False),
                    ("hftbacktest, npz", "hftbacktest", "npz", False),
                    ("hftbacktest, npy", "hftbacktest", "npy", False),
                ),
                Contestant("featureplane", timed(lambda: _looked_at(plain), rows), equal=False),
                Contestant(
                    "featureplane, mapped only",
                    timed(lambda: fp.read_events(plain, source="capture"), rows),
                    equal=False,
                ),
                Contestant("featureplane, zstd", timed(lambda: _looked_at(packed), rows), equal=False),
            ),
            baseline="limit, mapped and looked at",
            goals=(Goal("featureplane", 4.0),),
            absent=peers.missing("limit", "hftbacktest"),
            note="Per row, though the file holds the best quotes too: 82 bytes a row.",
        ),
    )
