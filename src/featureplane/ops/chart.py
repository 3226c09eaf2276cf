"""From events and their table to what the report draws.

Leans on `heatmap`, `report` and `research.tables`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureplane.errors import EmptyStream
from featureplane.features.spec import FeatureSpec
from featureplane.market.events import EventBatch
from featureplane.market.instruments import Instrument
from featureplane.market.quality import Quality
from featureplane.ops.heatmap import book_changes, market_trades
from featureplane.ops.report import Chart, Panel
from featureplane.research.tables import FeatureTable

__all__ = ["chart_of"]


def chart_of(
    events: EventBatch,
    table: FeatureTable,
    shown: Sequence[str],
    *,
    base: str,
    quote: str,
    absent: Mapping[str, str] | None = None,
) -> Chart:
    """The chart of a table with one symbol: its book around the touch, every feature, `shown` first.

    The set must have `best_bid` and `best_ask`. Feature values are drawn in their unit (a price in
    `quote`, a size in `base`), not as published. `absent` says why a feature has no value here.

    Raises
    ------
    EmptyStream
        No frame has both best prices.
    """
    instrument, arrow = events.instrument, table.to_arrow()
    bid, ask = (_floats(arrow, name) for name in ("best_bid", "best_ask"))
    if np.isnan(bid).all() or np.isnan(ask).all():
        raise EmptyStream("frames with a best bid and ask", hint="a chart needs both sides of a book")
    low, high = int(np.nanmin(bid)), int(np.nanmax(ask))
    air = max(3 * (high - low) // 4, 50)
    window = (low - air, high + air)
    return Chart(
        changes=book_changes(events.array, *window),
        trades=market_trades(events.array, *window),
        price_decimals=instrument.price_exponent,
        qty_decimals=instrument.qty_exponent,
        base=base,
        frame_time_ns=np.maximum.accumulate(arrow["source_ts_ns"].to_numpy()),
        frame_flags=arrow["quality_flags"].to_numpy(),
        frame_bid=bid,
        frame_ask=ask,
        panels=[
            _panel(spec, instrument, _floats(arrow, spec.feature_id), (base, quote), absent or {})
            for spec in table.feature_set.specs
        ],
        shown=shown,
        flag_names=[str(flag.name) for flag in Quality],
    )


def _panel(
    spec: FeatureSpec,
    instrument: Instrument,
    published: NDArray[np.float64],
    currencies: tuple[str, str],
    absent: Mapping[str, str],
) -> Panel:
    base, quote = currencies
    exponent = {"price": instrument.price_exponent, "qty": instrument.qty_exponent}.get(spec.unit, 0)
    unit = {"price": quote, "qty": base, "ppm": "%", "none": "", "count": ""}.get(spec.unit, spec.unit)
    if spec.definition.startswith("trade_intensity("):
        unit = "trades/s"
    hundred = 100.0 if unit == "%" else 1.0
    values = (published * hundred / float((spec.scale or 1) * 10**exponent)).astype(np.float32)
    signed = bool(np.any(values < 0))
    note = f"{spec.name}: {spec.definition}"
    return Panel(spec.feature_id, unit, values, note, signed, absent.get(spec.feature_id, ""))


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as floats, NaN where it is null."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)
