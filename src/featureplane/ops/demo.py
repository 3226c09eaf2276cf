"""The demo: the embedded sample from bytes to a report, checked and timed on the way.

What it does is what a user would do with a recording of their own. Leans on everything below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np

from featureplane import native
from featureplane.clock import SYSTEM, seconds_since
from featureplane.features.catalog import feature_set
from featureplane.features.parity import ParityReport, parity
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.market.sample import sample_events
from featureplane.ops.limit import limit_ns_per_row
from featureplane.research.compute import compute
from featureplane.research.tables import FeatureTable
from featureplane.research.verification import BookCheck, verify_book
from featureplane.units import NANOS_PER_SECOND

__all__ = ["BASE", "QUOTE", "SET", "TIMED_SET", "Demo", "run_demo"]

SET: Final = "lob_shared_v2"
TIMED_SET: Final = "lob_shared_v1"
"""The set the limit program computes."""

BASE, QUOTE = "ETH", "USDT"
_REFERENCE_SECONDS: Final = 60
_PARITY_EVENTS: Final = 60_000
_RUNS: Final = 15

T = TypeVar("T")


@dataclass(slots=True)
class Demo:
    """What was read, computed, checked and timed.

    `seconds` is by step. `ns_per_row` has the best of several runs of a warmed-up table: "set" for
    `SET`, "timed" for `TIMED_SET`, "limit" for the hand-written program where it is built.
    """

    events: EventBatch
    table: FeatureTable
    book: BookCheck
    parity: ParityReport | None
    backend: str
    whole: bool
    seconds: dict[str, float] = field(default_factory=dict)
    ns_per_row: dict[str, float] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether every book is the exchange's and every compared frame the same."""
        return self.book.agree == self.book.compared and (self.parity is None or self.parity.agrees)

    def to_json(self) -> dict[str, Any]:
        """The numbers of the demo, as `featureplane demo --json` prints them."""
        report, parity = self.table.report, self.parity
        assert report is not None
        return report.to_json() | {
            "backend": self.backend,
            "whole_sample": self.whole,
            "best_quotes": {"compared": self.book.compared, "agree": self.book.agree},
            "parity": None
            if parity is None
            else {
                "events": parity.events,
                "frames": parity.frames,
                "mismatches": parity.mismatches,
                "rate_bound": parity.rate_bound,
            },
            "seconds_by_step": {name: round(seconds, 6) for name, seconds in self.seconds.items()},
            "ns_per_row": {name: round(ns, 3) for name, ns in self.ns_per_row.items()},
        }


def run_demo(*, backend: str = "auto", tell: Callable[[str], None] = lambda _: None) -> Demo:
    """Replay the sample, check it, time it. Without the extension: its first 60 s, on the reference.

    `tell` is told of each step as it begins.
    """
    backend = native.resolve(backend)
    seconds: dict[str, float] = {}

    def timed(step: str, work: Callable[[], T]) -> T:
        tell(step)
        began = SYSTEM.monotonic_ns()
        result = work()
        seconds[step] = seconds_since(began)
        return result

    def read() -> EventBatch:
        events = sample_events(backend=backend)
        return events if backend == "rust" else _first_seconds(events, _REFERENCE_SECONDS)

    events = timed("read", read)
    table = timed("compute", lambda: compute(events, SET, backend=backend))
    (book,) = timed("check against best quotes", lambda: verify_book(events, backend=backend))
    compared = None
    if backend == "rust":
        compared = timed("compare Python and Rust", lambda: parity(events, SET, until=_PARITY_EVENTS))
    demo = Demo(events, table, book, compared, backend, whole=backend == "rust", seconds=seconds)
    if backend == "rust":
        timed("time against the limit", lambda: _time(demo))
    return demo


def _first_seconds(events: EventBatch, seconds: int) -> EventBatch:
    """Whole messages of the first seconds by our own clock."""
    times = events.array["local_ts_ns"][events.message_ends - 1]
    return events.part(0, int(np.searchsorted(times, times[0] + seconds * NANOS_PER_SECOND)))


def _time(demo: Demo) -> None:
    """Best of several runs, per row; the limit beside it where it is built."""
    for name, set_id in (("timed", TIMED_SET), ("set", SET)):
        best = min(_seconds(demo.events, feature_set(set_id)) for _ in range(_RUNS))
        demo.ns_per_row[name] = best / demo.events.rows * 1e9
    limit = limit_ns_per_row(demo.events, _RUNS)
    if limit is not None:
        demo.ns_per_row["limit"] = limit


def _seconds(events: EventBatch, fset: FeatureSet) -> float:
    began = SYSTEM.monotonic_ns()
    compute(events, fset, backend="rust")
    return seconds_since(began)
