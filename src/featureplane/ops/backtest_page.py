"""The page of a backtest: equity, inventory and fills under and on the order book.

Leans on `chart`, `thinning`, `report` and `research.backtest.result`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featureplane import __version__
from featureplane.execution.money import MONEY_EXPONENT
from featureplane.execution.orders import EventKind
from featureplane.features import kernels as k
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch
from featureplane.ops.backtest_numbers import Numbers
from featureplane.ops.chart import chart_of
from featureplane.ops.heatmap import Trades
from featureplane.ops.report import Chart, Figure, Panel, Report, Row, Section
from featureplane.ops.thinning import largest_trades, thinned_changes
from featureplane.research.backtest.result import BacktestResult
from featureplane.research.compute import compute
from featureplane.units import NANOS_PER_MS

__all__ = ["backtest_page"]

_CHANGES_MOST: Final = 130_000
_TRADES_MOST: Final = 20_000
_HOURS_12: Final = 12 * 3600
_FRAMES_MOST: Final = 5_000
_TOUCH: Final = {"best_bid": k.best_bid(), "best_ask": k.best_ask()}


def backtest_page(
    result: BacktestResult,
    events: EventBatch,
    numbers: Numbers,
    setting: Mapping[str, str],
    *,
    backend: str = "auto",
) -> Report:
    """A backtest of one symbol as a page; `setting` says how it was run, name by name.

    Raises `EmptyStream` where the recording has no frame with two best prices.
    """
    chart, step_ns = _chart(result, events, backend)
    return Report(
        heading=setting["strategy"].rpartition(":")[2],
        subheading=f"{events.instrument.symbol}, {_span(chart.frame_time_ns)}",
        chart=chart,
        figures=list(_figures(numbers)),
        sections=[
            Section("Money", list(_money(numbers))),
            Section("Orders", list(_orders(result, numbers))),
            Section("Markouts", list(_markouts(numbers)), _MARKOUT_REMARK),
            Section("Refused by the risk check", list(_refusals(result))),
            Section("Run with", list(_setting(setting))),
            Section("Recording", list(_recording(events)), _left_out(step_ns)),
        ],
        footer=f"Made by featureplane {__version__}. In a backtest our own orders move no price.",
        eyebrow="Featureplane backtest",
    )


_MARKOUT_REMARK: Final = (
    "How far the mid had moved our way so long after a fill, by the venue's clock; mean over fills, by size."
)


def _chart(result: BacktestResult, events: EventBatch, backend: str) -> tuple[Chart, int]:
    """The book and the account beside it; and the time in which changes of a level are one."""
    touch = FeatureSet("touch_of_page", features=_TOUCH)
    table = compute(events, touch, backend=backend)
    every = -(-len(table) // _FRAMES_MOST)
    if every > 1:
        table = compute(events, touch, backend=backend, every=every)
    instrument = events.instrument
    base, quote = instrument.symbol, "quote"
    whole = chart_of(events, table, (), base="", quote=quote)
    local_ns = np.maximum.accumulate(table.to_arrow()["local_ts_ns"].to_numpy())
    changes, step_ns = thinned_changes(whole.changes, _CHANGES_MOST)
    chart = replace(
        whole,
        changes=changes,
        trades=largest_trades(whole.trades, _TRADES_MOST),
        panels=_panels(result, local_ns, instrument.qty_exponent, base),
        shown=("equity", "inventory"),
        fills=_fills(result),
    )
    return chart, step_ns


def _panels(
    result: BacktestResult, local_ns: NDArray[np.int64], qty_exponent: int, symbol: str
) -> list[Panel]:
    """Equity and inventory at the times of frames: the last point that was known then."""
    times = np.array([point.local_ts_ns for point in result.equity], dtype=np.int64)
    at = np.searchsorted(np.maximum.accumulate(times), local_ns, side="right") - 1
    unit = 10.0**-MONEY_EXPONENT
    worth = np.array([np.nan if p.equity is None else p.equity * unit for p in result.equity])
    held = np.array([p.inventory[0] for p in result.equity]) * 10.0**-qty_exponent

    def drawn(name: str, values: NDArray[np.float64], unit: str, note: str) -> Panel:
        points = np.where(at < 0, 0.0, values[np.maximum(at, 0)]).astype(np.float32)
        return Panel(name, unit, points, note, signed=True)

    return [
        drawn("equity", worth, "quote currency", "realised and unrealised PnL less fees, at the mid"),
        drawn("inventory", held, f"of {symbol}", "signed position"),
    ]


def _fills(result: BacktestResult) -> Trades:
    order = sorted(result.fills, key=lambda fill: fill.ts_ns)
    return Trades(
        np.array([fill.ts_ns for fill in order], dtype=np.int64),
        np.array([fill.event.price for fill in order], dtype=np.int64),
        np.array([fill.event.qty for fill in order], dtype=np.int64),
        np.array([int(fill.event.side) for fill in order], dtype=np.uint8),
    )


def _figures(numbers: Numbers) -> Iterator[Figure]:
    pnl = numbers.pnl
    state = "" if not pnl else "good" if pnl > 0 else "bad"
    yield Figure("PnL", _signed(pnl), f"fees {numbers.fees:,.4f}", state)
    rate = "-" if numbers.fill_rate is None else f"{numbers.fill_rate:.1%}"
    yield Figure("Orders filled", rate, f"{numbers.fills:,} fills of {numbers.sent:,} orders")
    for horizon, value in numbers.markouts.items():
        yield Figure(f"Markout {horizon} ms", _signed(value), "in price")
    yield Figure("Inventory at the end", f"{numbers.inventory:+,g}", f"at most {numbers.inventory_most:,g}")


def _signed(value: float | None) -> str:
    return "no value" if value is None else f"{value:+,.{_places(value)}f}"


def _places(value: float) -> int:
    """Decimals to show: small accounts are told apart as well."""
    return 2 if abs(value) >= 1_000 else 4 if abs(value) >= 1 else 6


def _money(numbers: Numbers) -> Iterator[Row]:
    yield Row("PnL", _signed(numbers.pnl), "realised and unrealised less fees, at the last mid")
    yield Row("Fees", f"{numbers.fees:,.4f}")
    yield Row("Volume", f"{numbers.volume:,.2f}", "value of all fills")
    yield Row("Lowest equity", _signed(numbers.equity_low))
    yield Row("Highest equity", _signed(numbers.equity_high))


def _orders(result: BacktestResult, numbers: Numbers) -> Iterator[Row]:
    yield Row("Decisions", f"{numbers.decisions:,}", "orders and cancels asked for")
    yield Row("Orders sent", f"{numbers.sent:,}")
    yield Row("Fills", f"{numbers.fills:,}", f"{numbers.maker_fills:,} of them while waiting")
    counts = {kind: sum(event.kind is kind for _, event in result.orders) for kind in EventKind}
    for kind in (EventKind.CANCELLED, EventKind.EXPIRED, EventKind.REJECTED):
        yield Row(kind.value.capitalize(), f"{counts[kind]:,}")
    yield Row("Inventory at the end", f"{numbers.inventory:+,g}")
    yield Row("Largest inventory", f"{numbers.inventory_most:,g}", "long or short")


def _markouts(numbers: Numbers) -> Iterator[Row]:
    for horizon, value in numbers.markouts.items():
        yield Row(f"{horizon} ms", _signed(value))


def _refusals(result: BacktestResult) -> list[Row]:
    codes = sorted({one.outcome for one in result.decisions if one.outcome != "sent"})
    rows = [Row(code, f"{sum(one.outcome == code for one in result.decisions):,}") for code in codes]
    return rows or [Row("Nothing", "0")]


def _setting(setting: Mapping[str, str]) -> Iterator[Row]:
    for name, value in setting.items():
        place, _, last = value.rpartition(":")
        yield Row(name.replace("_", " ").capitalize(), last, place)


def _recording(events: EventBatch) -> Iterator[Row]:
    yield Row("Messages", f"{events.messages:,}")
    yield Row("Events", f"{len(events):,}")
    for file in events.files:
        yield Row("File", file.name, f"sha-256 {file.sha256}")


def _left_out(step_ns: int) -> str:
    if not step_ns:
        return ""
    return f"To keep this page small, the book is drawn in steps of {step_ns / NANOS_PER_MS:g} ms."


def _span(times: NDArray[np.int64]) -> str:
    first, last = (datetime.fromtimestamp(int(t) // 10**9, UTC) for t in (times.min(), times.max()))
    near = (last - first).total_seconds() < _HOURS_12
    until = f"{last:%H:%M:%S}" if near else f"{last:%-d %B %Y, %H:%M:%S}"
    return f"{first:%-d %B %Y, %H:%M:%S} to {until} UTC"
