"""The book alone: replay a recording and look at the touch and five levels after each message.

Ours goes the whole way: guard, sequences, clock, flags, masks, and a table of six columns.
"""

from __future__ import annotations

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job, checksum, timed
from benchmarks.peers import Peers
from benchmarks.recording import Recording, columns_of
from featureplane.features import kernels as k

__all__ = ["jobs"]


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """Per message."""
    touch = fp.FeatureSet(
        "bench_touch_v1",
        schema_version=1,
        features={
            "best_bid": k.best_bid(),
            "best_ask": k.best_ask(),
            "l1_bid_qty": k.qty("bid", 1),
            "l1_ask_qty": k.qty("ask", 1),
            "bid_depth": k.depth("bid", 5),
            "ask_depth": k.depth("ask", 5),
        },
    )
    ours = Contestant(
        "featureplane",
        timed(
            lambda: fp.compute(recording.events, touch),
            recording.rows,
            lambda table: checksum(columns_of(table)),
        ),
    )
    return (
        Job(
            "book",
            "Book alone, read after each message",
            "ns/row",
            (
                *peers.contestants(
                    ("limit", "limit", "book", True),
                    ("hftbacktest, bare replay", "hftbacktest", "bare", False),
                    ("hftbacktest, touch read", "hftbacktest", "book", False),
                    ("hftbacktest, hash map, bare", "hftbacktest", "map_bare", False),
                ),
                ours,
            ),
            baseline="limit",
            goals=(Goal("featureplane", 1.5, "limit"),),
            absent=peers.missing("limit", "hftbacktest"),
            note="hftbacktest keeps two books, the exchange's and ours; there is no way to run one.",
        ),
    )
