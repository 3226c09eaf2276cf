"""The demo's page: which numbers stand where, and what is said beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np

from featureplane import __version__
from featureplane.market.events import Kind
from featureplane.ops.chart import chart_of
from featureplane.ops.demo import BASE, QUOTE, SET, TIMED_SET, Demo
from featureplane.ops.report import Figure, Report, Row, Section
from featureplane.research.runs import RunReport

__all__ = ["demo_page"]

_SHOWN: Final = (
    "imbalance_mean5s_ppm",
    "ofi_l1_5s",
    "signed_qty_5s",
    "realized_vol_30s",
    "trade_intensity_5s",
    "spread_mean30s",
)
_REASONS: Final = {
    "before_snapshot": "their changes are in the snapshot already",
    "duplicate": "all their ids had come before",
    "late": "they came behind a gap that was passed over",
    "empty_trade": "trades of size 0",
    "incomplete": "cut off by the end of the input",
    "redundant": "snapshots older than the book",
    "snapshot_too_old": "snapshots that do not reach what came since",
    "buffer_overflow": "too many came while there was no book",
    "malformed": "no rule accepts them",
}
_FLAGS: Final = {
    "GAP_DETECTED": "ids are missing before this frame",
    "STATE_RESET": "first frame after a reset: the start, and midnight",
    "STALE_INPUT": "the input came later than the limit allows",
    "OUT_OF_ORDER_INPUT": "a message came after one that followed it",
    "PARTIAL_FEATURES": "a warm feature has no value because the book lacks what it needs",
    "CROSSED_BOOK": "the best bid is not below the best ask",
}


def demo_page(demo: Demo) -> Report:
    """Everything the demo found out, as one page."""
    report = demo.table.report
    assert report is not None
    absent = report.undefined_here.get(demo.events.instrument.symbol, {})
    return Report(
        heading="ETHUSDT",
        subheading=f"Binance spot, {_span(demo)}",
        chart=chart_of(demo.events, demo.table, _SHOWN, base=BASE, quote=QUOTE, absent=absent),
        figures=list(_figures(demo)),
        sections=[
            Section("Read", list(_read(demo))),
            Section("Dropped", list(_dropped(report))),
            Section("Frames by quality flag", [Row(n, f"{c:,}", _FLAGS[n]) for n, c in report.flags.items()]),
            Section("Checked", list(_checked(demo)), _bound(demo)),
            Section("Time", list(_time(demo)), _remark(demo)),
            Section("Made of", list(_made_of(demo, report))),
        ],
        footer="Market data: Binance's public feed, recorded by nkaz001, MIT licence. "
        f"Made by featureplane {__version__}.",
    )


def _span(demo: Demo) -> str:
    times = demo.table.to_arrow()["source_ts_ns"].to_numpy()
    first, last = (datetime.fromtimestamp(int(t) // 10**9, UTC) for t in (times.min(), times.max()))
    return f"{first:%-d %B %Y, %H:%M:%S} to {last:%H:%M:%S} UTC"


def _figures(demo: Demo) -> Iterator[Figure]:
    book, parity = demo.book, demo.parity
    yield Figure("Events read", f"{len(demo.events):,}")
    yield Figure("Frames", f"{len(demo.table):,}", f"of {len(demo.table.feature_set)} features")
    agrees = "good" if book.agree == book.compared else "bad"
    yield Figure(
        "The exchange's own best quotes", f"{book.agree:,} of {book.compared:,}", "books agree", agrees
    )
    if parity is None:
        yield Figure("Python against Rust", "not compared", "Rust takes no part in this run")
    else:
        state = "good" if parity.agrees else "bad"
        value = f"{parity.mismatches:,} of {parity.frames:,}"
        yield Figure(
            "Python against Rust", value, f"frames of the first {parity.events:,} events differ", state
        )
    if "timed" in demo.ns_per_row:
        limit = demo.ns_per_row.get("limit")
        note = f"a row of {TIMED_SET}" + (f"; {limit:.1f} ns in a program written by hand" if limit else "")
        yield Figure("Speed", f"{demo.ns_per_row['timed']:.1f} ns", note)


def _read(demo: Demo) -> Iterator[Row]:
    events = demo.events.array
    heads = events[np.concatenate(([0], demo.events.message_ends[:-1]))]
    kinds = np.bincount(heads["kind"], minlength=16)
    rest = int(kinds[[Kind.LEVEL, Kind.CLEAR, Kind.SNAPSHOT_LEVEL]].sum())
    yield Row("Depth messages", f"{rest:,}", "one of them the snapshot")
    yield Row("Trades", f"{int(kinds[Kind.TRADE]):,}")
    yield Row("Best quotes", f"{int(kinds[Kind.QUOTE]):,}", "held against the book, read by no kernel")
    yield Row("Rows", f"{demo.events.rows:,}", "level changes and trades")
    if not demo.whole:
        yield Row("Left for the Rust backend", "the rest", "these are the first 60 seconds of 346")


def _dropped(report: RunReport) -> Sequence[Row]:
    rows = [
        Row(reason, f"{count:,}", _REASONS.get(reason, ""))
        for reason, count in sorted(report.dropped.items())
    ]
    return rows or [Row("Nothing", "0")]


def _checked(demo: Demo) -> Iterator[Row]:
    book, parity = demo.book, demo.parity
    state = "good" if book.agree == book.compared else "bad"
    note = "best bid and ask, price and size, after every depth message, by id"
    yield Row("Books that equal the exchange's quote", f"{book.agree:,} of {book.compared:,}", note, state)
    if parity is not None:
        note = f"reference, streaming and block execution over {parity.events:,} events"
        state = "good" if parity.agrees else "bad"
        yield Row("Frames that differ", f"{parity.mismatches:,} of {parity.frames:,}", note, state)


def _bound(demo: Demo) -> str:
    if demo.parity is None or not demo.parity.agrees:
        return ""
    return (
        f"None in {demo.parity.frames:,} bounds the rate of differing frames by {demo.parity.rate_bound:.1e}."
    )


def _time(demo: Demo) -> Iterator[Row]:
    rows = demo.events.rows
    for step, note in (("read", "compressed JSON lines to events"), ("compute", f"{SET}, table included")):
        seconds = demo.seconds[step]
        yield Row(
            f"{step.capitalize()}, first run",
            f"{seconds:.3f} s",
            f"{note}; {seconds / rows * 1e9:,.0f} ns a row",
        )
    for name, set_id in (("set", SET), ("timed", TIMED_SET)):
        if name in demo.ns_per_row:
            yield Row(set_id, f"{demo.ns_per_row[name]:.1f} ns a row", "best of 15 runs, table included")
    if "limit" in demo.ns_per_row:
        limit = demo.ns_per_row["limit"]
        yield Row(
            "The limit", f"{limit:.1f} ns a row", f"a program written by hand for {TIMED_SET} and this file"
        )
        yield Row(f"{TIMED_SET} against the limit", f"{demo.ns_per_row['timed'] / limit:.2f} times")


def _remark(demo: Demo) -> str:
    if demo.backend == "python":
        return "By the Python reference; with a Rust toolchain (rustup.rs) the same bits come faster."
    if "limit" not in demo.ns_per_row:
        return "The limit program is not built here; `make demo` in a checkout builds it."
    return "Measured while this page was made, on this machine, one core."


def _made_of(demo: Demo, report: RunReport) -> Iterator[Row]:
    yield Row("Feature set", SET, f"fingerprint {demo.table.feature_set.fingerprint}")
    for file in report.files:
        yield Row("Recording", file.name, f"sha-256 {file.sha256}")
    one = demo.events.instrument
    yield Row(
        "Instrument", one.symbol, f"prices in 10^-{one.price_exponent}, sizes in 10^-{one.qty_exponent}"
    )
    yield Row("Backend", {"rust": "Rust", "python": "Python reference"}[demo.backend])
