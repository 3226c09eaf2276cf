"""One HTML page about one replay, that opens anywhere without a network.

The page holds its own style, script and data (typed arrays in base64): the order book as a heat
map, features under it on the same axis, and tables of what was read, dropped and measured.

Leans on `heatmap`. What the figures and tables say is the caller's.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featureplane.errors import EmptyStream
from featureplane.ops.heatmap import BookChanges, Trades
from featureplane.whole_file import WholeFile

__all__ = ["Chart", "Figure", "Panel", "Report", "Row", "Section"]

_SCRIPTS: Final = ("data.js", "view.js", "canvas.js", "heatmap.js", "panels.js", "pointer.js")
_FILL_LEGEND: Final = (
    '<span><i class="fill buy"></i>we bought</span>\n      <span><i class="fill sell"></i>we sold</span>'
)
_TYPES: Final = {"float32": "f32", "float64": "f64", "uint8": "u8", "uint32": "u32", "int32": "i32"}


_NO_FILLS: Final = Trades(
    np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the large numbers at the top. `state` is good, bad or empty."""

    label: str
    value: str
    note: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    label: str
    value: str
    note: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One table, with a remark under it."""

    title: str
    rows: Sequence[Row]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One feature that can be drawn: values in `unit`, NaN where undefined."""

    feature_id: str
    unit: str
    values: NDArray[np.float32]
    note: str = ""
    signed: bool = False
    absent: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn. Prices are integers x 10^-`price_decimals`, sizes integers x 10^-`qty_decimals`.

    `frame_*` have one entry a frame: time, quality flags, best prices (NaN where undefined).
    `panels` are all features one can choose from, `shown` those drawn at first. `fills` are of orders of
    ours, drawn over the trades; None: the page knows of no orders.
    """

    changes: BookChanges
    trades: Trades
    price_decimals: int
    qty_decimals: int
    base: str
    frame_time_ns: NDArray[np.int64]
    frame_flags: NDArray[np.uint32]
    frame_bid: NDArray[np.float64]
    frame_ask: NDArray[np.float64]
    panels: Sequence[Panel]
    shown: Sequence[str]
    flag_names: Sequence[str]
    fills: Trades | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The page: words, numbers and the chart."""

    heading: str
    subheading: str
    chart: Chart
    figures: Sequence[Figure] = ()
    sections: Sequence[Section] = ()
    footer: str = ""
    eyebrow: str = "Featureplane replay"

    def to_html(self) -> str:
        """The whole page as text."""
        page = resources.files("featureplane.ops") / "page"
        facts, arrays = _packed(self.chart)
        script = "\n".join((page / name).read_text(encoding="utf-8") for name in _SCRIPTS)
        return Template((page / "page.html").read_text(encoding="utf-8")).substitute(
            title=html.escape(self.heading),
            eyebrow=html.escape(self.eyebrow),
            heading=html.escape(self.heading),
            subheading=html.escape(self.subheading),
            style=(page / "style.css").read_text(encoding="utf-8"),
            legend=_FILL_LEGEND if self.chart.fills is not None else "",
            figures="\n".join(_figure(figure) for figure in self.figures),
            tables="\n".join(_section(section) for section in self.sections),
            footer=html.escape(self.footer),
            report=_json_in_html(facts),
            arrays="\n".join(_array(name, values) for name, values in arrays.items()),
            script=script,
        )

    def write(self, path: Path) -> int:
        """Write the page and return its size in bytes; nothing partial is left at `path`."""
        text = self.to_html().encode()
        with WholeFile(path) as file:
            file.part.write_bytes(text)
        return len(text)


def _packed(chart: Chart) -> tuple[dict[str, object], dict[str, NDArray[Any]]]:
    """What the script reads: facts as JSON, columns as typed arrays in ticks and milliseconds."""
    changes, trades, fills = chart.changes, chart.trades, chart.fills or _NO_FILLS
    prices = np.concatenate([changes.price, trades.price, fills.price])
    if not len(prices):
        raise EmptyStream("the chart", hint="no level and no trade stands in its price window")
    times = np.concatenate([changes.time_ns, trades.time_ns, fills.time_ns, chart.frame_time_ns])
    start, end, low = int(times.min()), int(times.max()), int(prices.min())
    tick = math.gcd(*np.unique(prices).tolist()) or 1

    def milliseconds(times: NDArray[np.int64]) -> NDArray[np.float64]:
        return (times - start) / 1e6

    def ticks(price: NDArray[Any]) -> NDArray[Any]:
        return (price - low) / tick

    facts = {
        "start_ms": start / 1e6,
        "end_ms": end / 1e6,
        "restarts": list(changes.restarts),
        "ticks": int(ticks(prices.max())),
        "price_low": low // tick,
        "tick": tick * 10.0**-chart.price_decimals,
        "price_decimals": max(0, chart.price_decimals - _trailing_zeros(tick)),
        "base": chart.base,
        **_features(chart),
        **_flags(chart),
    }
    qty_unit = 10.0**-chart.qty_decimals
    arrays: dict[str, NDArray[Any]] = {
        "book-time": milliseconds(changes.time_ns),
        "book-count": changes.count,
        "book-key": (ticks(changes.price) * 2 + (changes.side - 1)).astype(np.uint32),
        "book-qty": (changes.qty * qty_unit).astype(np.float32),
        "trade-time": milliseconds(trades.time_ns),
        "trade-price": ticks(trades.price).astype(np.float32),
        "trade-qty": (trades.qty * qty_unit).astype(np.float32),
        "trade-side": trades.side.astype(np.uint8),
        "fill-time": milliseconds(fills.time_ns),
        "fill-price": ticks(fills.price).astype(np.float32),
        "fill-qty": (fills.qty * qty_unit).astype(np.float32),
        "fill-side": fills.side.astype(np.uint8),
        "frame-time": milliseconds(chart.frame_time_ns),
        "frame-flags": chart.frame_flags.astype(np.uint32),
        "frame-bid": ticks(chart.frame_bid).astype(np.float32),
        "frame-ask": ticks(chart.frame_ask).astype(np.float32),
        "frame-values": np.concatenate([p.values for p in chart.panels]).astype(np.float32),
    }
    return facts, arrays


def _features(chart: Chart) -> dict[str, object]:
    names = [panel.feature_id for panel in chart.panels]
    return {
        "features": [
            {"id": p.feature_id, "unit": p.unit, "note": p.note, "signed": p.signed, "absent": p.absent}
            for p in chart.panels
        ],
        "shown": [names.index(name) for name in chart.shown],
    }


def _flags(chart: Chart) -> dict[str, object]:
    counts = [int(np.count_nonzero(chart.frame_flags >> bit & 1)) for bit in range(len(chart.flag_names))]
    return {
        "flag_names": list(chart.flag_names),
        "flags": [
            [bit, name, count]
            for bit, (name, count) in enumerate(zip(chart.flag_names, counts, strict=True))
            if count
        ],
    }


def _trailing_zeros(n: int) -> int:
    text = str(n)
    return len(text) - len(text.rstrip("0"))


def _array(name: str, values: NDArray[Any]) -> str:
    text = base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
    return (
        f'<script type="text/plain" id="array-{name}" data-type="{_TYPES[values.dtype.name]}">{text}</script>'
    )


def _json_in_html(facts: Mapping[str, object]) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(facts, allow_nan=False).replace("<", "\\u003c")


def _figure(figure: Figure) -> str:
    note = f" <small>{html.escape(figure.note)}</small>" if figure.note else ""
    return (
        f'    <div class="{figure.state}"><dt>{html.escape(figure.label)}</dt>'
        f"<dd>{html.escape(figure.value)}{note}</dd></div>"
    )


def _section(section: Section) -> str:
    rows = "\n".join(
        f'      <tr class="{row.state}"><th scope="row">{html.escape(row.label)}'
        + (f"<small>{html.escape(row.note)}</small>" if row.note else "")
        + f"</th><td>{html.escape(row.value)}</td></tr>"
        for row in section.rows
    )
    remark = f"<p>{html.escape(section.remark)}</p>" if section.remark else ""
    title = html.escape(section.title)
    return f"    <section><h2>{title}</h2>\n      <table>\n{rows}\n      </table>{remark}</section>"
