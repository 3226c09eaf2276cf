"""Features of a recorded day: `lob_shared_v1` per message and on every row, `lob_shared_v2` beside.

Events lie in memory; what comes out is a table. The limit stores the same sixteen values and nothing
else; ours has masks, flags and times beside them, five more columns.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import featureplane as fp
from benchmarks.harness import Contestant, Goal, Job, Proof, checksum, timed
from benchmarks.peers import Peers
from benchmarks.recording import CACHE, Recording, columns_of
from featureplane.features import kernels as k
from featureplane.market.events import EventBatch
from featureplane.market.quality import Quality

__all__ = ["jobs"]

_FORGOTTEN = 256  # frames after which no mean remembers how a book began
_CUM = 12
_NEVER = 1_000_000_000


def _ours(name: str, events: EventBatch, feature_set_id: str, *, equal: bool) -> Contestant:
    fset = fp.feature_set(feature_set_id)
    run = timed(
        lambda: fp.compute(events, fset),
        events.rows,
        lambda table: checksum(columns_of(table)) if equal else "",
    )
    return Contestant(name, run, equal)


def _proofs(recording: Recording, peers: Peers) -> tuple[Proof, ...]:
    """What hftbacktest saw is what we saw, once it has forgotten its start and before we forget a day."""
    worker = peers.hftbacktest
    if worker is None or recording.events.instrument.tick != 1:
        return ()

    def holds() -> bool:
        path = CACHE / f"{recording.name}.hftbacktest-v1.npy"
        worker.ask("v1", 1, path)
        theirs = np.load(path)
        table = fp.compute(recording.events, fp.feature_set("lob_shared_v1"))
        ours = np.column_stack([column.view(np.int64) for column in columns_of(table)])
        flags = table.to_arrow()["quality_flags"].to_numpy()
        resets = np.flatnonzero(flags & Quality.STATE_RESET)
        stop = int(resets[resets > _FORGOTTEN][0]) if (resets > _FORGOTTEN).any() else len(ours)
        ours, theirs = ours[_FORGOTTEN:stop], theirs[_FORGOTTEN:stop]
        for values in (ours, theirs):
            values[:, _CUM] -= values[0, _CUM]
        return bool(stop > _FORGOTTEN and np.array_equal(ours, theirs))

    return (
        Proof(f"hftbacktest's sixteen values are ours from frame {_FORGOTTEN} to the daily reset", holds),
    )


def _unseen(recording: Recording, fset: fp.FeatureSet) -> Callable[[], object]:
    """Everything but frames: one in a billion is kept."""

    def work() -> object:
        return list(fp.FeatureEngine(fset, every=_NEVER).columns(recording.events))

    return work


def _columns(recording: Recording, fset: fp.FeatureSet) -> Callable[[], object]:
    """Frames as columns, not yet a table."""

    def work() -> object:
        return list(fp.FeatureEngine(fset).columns(recording.events))

    return work


def _shares(recording: Recording) -> Job:
    """Each contestant does what the one before does, and one thing more."""
    v1 = fp.feature_set("lob_shared_v1")
    alone = fp.FeatureSet("bench_best_bid_v1", schema_version=1, features={"best_bid": k.best_bid()})
    rows = recording.rows
    steps = {
        "guard, clock, book, one feature; no frames": _unseen(recording, alone),
        "the sixteen features; no frames": _unseen(recording, v1),
        "frames as columns": _columns(recording, v1),
        "a table with its report": lambda: fp.compute(recording.events, v1),
    }
    contestants = [Contestant(name, timed(work, rows), equal=False) for name, work in steps.items()]
    return Job(
        "shares",
        "Where the time of lob_shared_v1 goes, each with one thing more",
        "ns/row",
        tuple(contestants),
        baseline="guard, clock, book, one feature; no frames",
    )


def _composed(recording: Recording) -> Job:
    """The same kernels, put together by somebody else."""
    shipped = fp.feature_set("lob_shared_v1")
    features = {name: shipped.expression(name) for name in shipped.feature_ids}
    own = fp.FeatureSet("bench_own_v1", schema_version=1, features=features)
    run = timed(
        lambda: fp.compute(recording.events, own), recording.rows, lambda table: checksum(columns_of(table))
    )
    return Job(
        "composed",
        "A set of one's own, of the kernels of lob_shared_v1",
        "ns/row",
        (
            _ours("lob_shared_v1", recording.events, "lob_shared_v1", equal=True),
            Contestant("one's own", run),
        ),
        baseline="lob_shared_v1",
        goals=(Goal("one's own", 1.2, "lob_shared_v1"),),
    )


def jobs(recording: Recording, peers: Peers) -> tuple[Job, ...]:
    """Per message, then every row a message."""
    return (
        _shares(recording),
        Job(
            "v1",
            "Book and lob_shared_v1, a frame for each book message",
            "ns/row",
            (
                *peers.contestants(
                    ("limit", "limit", "v1", True),
                    ("hftbacktest", "hftbacktest", "v1", False),
                    ("hftbacktest, hash map", "hftbacktest", "map_v1", False),
                ),
                _ours("featureplane", recording.events, "lob_shared_v1", equal=True),
                _ours("featureplane, v2", recording.events, "lob_shared_v2", equal=False),
            ),
            baseline="limit",
            proofs=_proofs(recording, peers),
            goals=(
                Goal("limit", 0.1, "hftbacktest"),
                Goal("featureplane", 1.5, "limit"),
                Goal("featureplane", 0.125, "hftbacktest"),
            ),
            absent=peers.missing("limit", "hftbacktest"),
            note="v2 reads trades too and has four frames to one of v1's.",
        ),
        Job(
            "v1_rows",
            "lob_shared_v1, every row a message of its own",
            "ns/row",
            (
                *peers.contestants(
                    ("limit", "limit", "v1_rows_fresh", True),
                    ("limit, into memory written before", "limit", "v1_rows", True),
                ),
                _ours("featureplane", recording.every_row, "lob_shared_v1", equal=True),
                _ours("featureplane, v2", recording.every_row, "lob_shared_v2", equal=False),
            ),
            baseline="limit",
            goals=(Goal("featureplane", 1.8, "limit"),),
            absent=peers.missing("limit"),
            note="A caller keeps each table, so both write into memory that is new to them.",
        ),
        _composed(recording),
    )
