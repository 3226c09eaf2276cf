"""From a prepared table of best prices and sizes to a table of features.

    table -> TouchRows -> FeatureEngine -> Columns -> FeatureTable

Leans on `research.touch_rows`, `features.engine`, `research.tables`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Final

from featureplane.clock import SYSTEM, seconds_since
from featureplane.errors import EmptyStream, PlanError
from featureplane.features.availability import undefined_here
from featureplane.features.catalog import set_or_id
from featureplane.features.columns import Columns, LateColumns
from featureplane.features.engine import FeatureEngine
from featureplane.features.kernels.declarations import KERNELS
from featureplane.features.plan import Plan, PlanNode
from featureplane.features.sampling import Emit
from featureplane.features.spec import FeatureSet
from featureplane.market.instruments import Instrument
from featureplane.market.quality import ResetCause
from featureplane.native import module, resolve
from featureplane.research.runs import RunReport
from featureplane.research.tables import FeatureTable
from featureplane.research.touch_columns import touch_columns
from featureplane.research.touch_rows import TABLE, TouchRows

__all__ = ["compute_touch"]

_PLAIN: Final = Instrument(
    venue="table", symbol="table", price_exponent=0, qty_exponent=0, reset_at="none", book_levels=1
)
_CLOCKED: Final = frozenset({"window", "half_life"})


def compute_touch(
    table: object,
    fset: FeatureSet | str,
    *,
    instrument: Instrument | None = None,
    backend: str = "auto",
    every: int | str | None = None,
    emit: Emit = "update",
) -> FeatureTable:
    """Compute a feature set over a prepared table: each row is a book of its best levels alone, and a step.

    `table` has the columns `best_bid`, `best_ask`, `bid_qty`, `ask_qty`, scaled integers, and if the
    set looks at the clock `source_ts_ns`, UTC nanoseconds or timestamps; others are passed over. It is
    an Arrow, Polars or pandas table, anything else that speaks Arrow's C stream interface, or a mapping of
    arrays. A size of 0, a null size or a null price: that side of the book is empty. A best bid that is not
    below the best ask: the book is invalid (rule 3.9). Each row is taken as a message that replaces the
    book, at its time, or at 0 without times.

    `instrument` gives ticks, sessions, the daily reset and whether a locked book is valid; without one
    nothing is ever reset. Sessions and resets need times. `backend`, `every` and `emit` are those of
    `compute`.

    Returns a `FeatureTable`, one row a row; see there. `source_seq` is 0, `local_ts_ns` is `source_ts_ns`.

    Raises
    ------
    PlanError
        A feature reads trades, levels behind the best, or the clock where there are no times.
    SettingError
        It is no such table; `sessions` without times.
    MalformedEvent
        A number or a time beyond rules 1.2 and 2.3, with its row.
    EmptyStream
        No rows, or none inside a session.

    See Also
    --------
    compute : the same over events
    """
    began = SYSTEM.monotonic_ns()
    fset = set_or_id(fset)
    rows = TouchRows.read(table)
    if not len(rows):
        raise EmptyStream("a table without rows")
    has_times = rows.source_ts_ns is not None
    _refuse_beyond(fset, has_times=has_times)
    used = _PLAIN if instrument is None else _as_table(instrument, has_times=has_times)
    report = RunReport(fset, (used,), TABLE.name, local_time=False)
    report.options = {"emit": emit, "every": "" if every is None else str(every)}
    never = undefined_here(fset, used, has_trades=False)
    report.undefined_here = {used.symbol: never} if never else {}
    report.add_table(len(rows))
    parts: list[Columns | LateColumns] = []
    if resolve(backend) == "rust" and every is None and emit == "update" and _never_resets(used):
        parts.append(_computed(rows, fset, used, report))
    else:
        rows.check()
        engine = FeatureEngine(fset, backend=backend, emit=emit, every=every)
        for part in engine.columns(rows.batches(used)):
            report.add_frames(part)
            parts.append(part)
        report.add_counts(engine.counts)
    report.seconds = seconds_since(began)
    if not report.frames:
        raise EmptyStream(f"frames of {fset.feature_set_id}", hint="is any row inside a session?")
    return FeatureTable(fset, parts, [used.symbol], report=report)


def _as_table(instrument: Instrument, *, has_times: bool) -> Instrument:
    """The instrument of a feed that shows the best levels alone."""
    if has_times:
        return replace(instrument, book_levels=1)
    return replace(instrument, book_levels=1, sessions=(), reset_at="none")


def _never_resets(instrument: Instrument) -> bool:
    return not instrument.sessions and instrument.daily_reset is None


def _computed(rows: TouchRows, fset: FeatureSet, instrument: Instrument, report: RunReport) -> LateColumns:
    """The rows as they are, without events in between."""
    computed = module().compute_touch(
        fset.plan_json,
        bytes.fromhex(fset.fingerprint)[:8],
        (rows.best_bid, rows.best_ask, rows.bid_qty, rows.ask_qty),
        rows.source_ts_ns,
        tick=instrument.tick,
        locked_valid=instrument.locked == "valid",
    )
    if computed is None:
        rows.check()
        raise AssertionError("both sides refuse the same rows")
    words, flagged, flags = computed
    report.add_flagged(len(rows), flags)
    report.resets[ResetCause.FIRST] = 1
    times = rows.source_ts_ns
    # Masks and numbers follow from the values; to write them takes longer than to compute those.
    return LateColumns(len(rows), lambda: touch_columns(fset, words, flagged, flags, times))


@lru_cache(maxsize=64)  # who computes one table after the other asks the same each time
def _refuse_beyond(fset: FeatureSet, *, has_times: bool) -> None:
    """Refuse a set that asks for more than a table of best levels has, naming its first such feature."""
    why = _beyond(fset.plan, has_times=has_times)
    for feature in fset.plan.features:
        if reason := why[feature.node]:
            times = not has_times and "clock" in reason
            raise PlanError(
                reason,
                "what the best levels alone can tell" + (", without times" if times else ""),
                feature_id=feature.feature_id,
                hint="give the table a column `source_ts_ns`"
                if times
                else "`fp.compute` takes events, which have the rest",
            )


def _beyond(plan: Plan, *, has_times: bool) -> list[str]:
    """What each node reads that is not there, itself or through an input; empty if nothing."""
    why: list[str] = []
    for node in plan.nodes:
        own = _own_reason(node, has_times=has_times)
        why.append(own or next((why[i] for i in node.inputs if why[i]), ""))
    return why


def _own_reason(node: PlanNode, *, has_times: bool) -> str:
    declared = KERNELS[node.kernel]
    if "T" in declared.marks:
        return f"`{node.kernel}`, which reads trades"
    if not node.inputs and node.levels > 1:
        return f"`{node.kernel}`, which reads {node.levels} levels"
    looks = "t" in declared.marks or any(param.kind in _CLOCKED for param in declared.all_params)
    if looks and not has_times:
        return f"`{node.kernel}`, which looks at the clock"
    return ""
