"""Rows of a prepared table of best prices and sizes: read from what holds them, checked, made events.

Leans on `market.events`, pyarrow. Knows nothing of features or engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featureplane.errors import MalformedEvent, SettingError
from featureplane.market.events import (
    EVENT_DTYPE,
    EventBatch,
    EventFlag,
    Kind,
    Side,
    SourceInfo,
    StreamOptions,
)
from featureplane.market.instruments import Instrument
from featureplane.units import MAGNITUDE_LIMIT, TIME_LIMIT_NS

__all__ = ["TABLE", "TouchRows"]

TABLE: Final = SourceInfo("table", sequenced=False, has_snapshots=False, local_time=False, trade_sides=True)
"""What a prepared table has and lacks: every row is a whole book, and there is nothing else."""

_PRICES: Final = ("best_bid", "best_ask")
_SIZES: Final = ("bid_qty", "ask_qty")
_TIME: Final = "source_ts_ns"
_ROWS_A_BATCH: Final = 1 << 15

Column = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TouchRows:
    """Best prices and sizes, scaled integers, one book a row; a size of 0 says that the side is empty.

    `source_ts_ns` is None where the table has no times.
    """

    best_bid: Column
    best_ask: Column
    bid_qty: Column
    ask_qty: Column
    source_ts_ns: Column | None

    def __len__(self) -> int:
        return len(self.best_bid)

    @classmethod
    def read(cls, table: object) -> TouchRows:
        """The rows of an Arrow table, whatever speaks Arrow's C stream interface, or a mapping of arrays.

        Columns are taken as they are where they are `int64` in one piece. Where a price or a size
        is null the side is empty.

        Raises
        ------
        SettingError
            It is no table, or a column is missing, of another type or another length.
        MalformedEvent
            A number of more than 64 bits, or a time that is null. What rules 1.2 and 2.3 refuse besides is
            found by `check`, or by whoever goes through the rows.
        """
        columns = _columns(table)
        missing = [name for name in (*_PRICES, *_SIZES) if name not in columns]
        if missing:
            raise SettingError(
                f"no column {', '.join(missing)}", hint=f"the table has: {', '.join(columns) or 'none'}"
            )
        prices, sizes = (
            {name: _integers(name, columns[name]) for name in names} for names in (_PRICES, _SIZES)
        )
        times = _integers(_TIME, columns[_TIME]) if _TIME in columns else None
        held = {}
        for price, size in zip(_PRICES, _SIZES, strict=True):
            held[price], held[size] = _side(prices[price], sizes[size])
        if times is not None and times[1] is not None:
            row = int(np.flatnonzero(times[1])[0])
            raise MalformedEvent(f"{_TIME} null in row {row}", "a time in every row, or no such column")
        rows = cls(**held, source_ts_ns=None if times is None else times[0])
        for name, column in rows._named():
            if len(column) != len(rows):
                raise SettingError(
                    f"{len(column)} rows in {name}, {len(rows)} in best_bid",
                    hint="give columns of one length",
                )
        return rows

    def _named(self) -> list[tuple[str, Column]]:
        names = (*_PRICES, *_SIZES, *([] if self.source_ts_ns is None else [_TIME]))
        return [(name, getattr(self, name)) for name in names]

    def check(self) -> None:
        """Refuse numbers no event may hold.

        Raises `MalformedEvent` for one beyond rule 1.2 or a time beyond rule 2.3; names the column and the
        row, from 0.
        """
        for name, column in self._named():
            least = 1 - MAGNITUDE_LIMIT if name in _PRICES else 0
            most = TIME_LIMIT_NS - 1 if name == _TIME else MAGNITUDE_LIMIT - 1
            if not (least <= column.min() and column.max() <= most):
                row = int(np.flatnonzero((column < least) | (column > most))[0])
                raise MalformedEvent(f"{name} {column[row]} in row {row}", f"{least} to {most}")

    def batches(self, instrument: Instrument) -> Iterator[EventBatch]:
        """The rows as a stream: each a message that replaces the book."""
        for start in range(0, len(self), _ROWS_A_BATCH):
            events = self._events(slice(start, start + _ROWS_A_BATCH), instrument.symbol_id)
            yield EventBatch(events, (instrument,), TABLE, StreamOptions(), checked=True)

    def _events(self, rows: slice, symbol_id: int) -> npt.NDArray[Any]:
        sides = [
            (Side.BID, self.best_bid[rows], self.bid_qty[rows]),
            (Side.ASK, self.best_ask[rows], self.ask_qty[rows]),
        ]
        there = [size > 0 for _, _, size in sides]
        counts = np.maximum(there[0].astype(np.int64) + there[1], 1)
        ends = np.cumsum(counts)
        events = np.zeros(int(ends[-1]), EVENT_DTYPE)
        events["kind"] = Kind.CLEAR  # of both sides, where neither is there
        events["symbol_id"] = symbol_id
        events["flags"][ends - 1] = EventFlag.LAST
        if self.source_ts_ns is not None:
            events["source_ts_ns"] = events["local_ts_ns"] = np.repeat(self.source_ts_ns[rows], counts)
        for (side, prices, sizes), has, at in zip(sides, there, (ends - counts, ends - 1), strict=True):
            place = at[has]
            events["kind"][place] = Kind.SNAPSHOT_LEVEL
            events["side"][place] = side
            events["price"][place] = prices[has]
            events["qty"][place] = sizes[has]
        return events


def _columns(table: object) -> dict[str, Any]:
    """The columns of a table that are asked for here and those beside them, by name."""
    if isinstance(table, Mapping):
        return {str(name): column for name, column in table.items()}
    if not isinstance(table, (pa.Table, pa.RecordBatch)):
        if not hasattr(table, "__arrow_c_stream__"):
            raise SettingError(
                f"a table that is {type(table).__name__}",
                hint="give an Arrow, Polars or pandas table, or a mapping of int64 arrays",
            )
        table = pa.table(table)
    return {name: table.column(name) for name in table.column_names}


def _integers(name: str, column: Any) -> tuple[Column, npt.NDArray[np.bool_] | None]:
    """A column as `int64`, and where it is null, if anywhere."""
    if not isinstance(column, (pa.Array, pa.ChunkedArray)):
        array = np.asarray(column)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise _no_integers(name, f"{array.ndim} dimensions of {array.dtype}")
        if array.dtype == np.uint64 and len(array) and array.max() > np.uint64(MAGNITUDE_LIMIT):
            array = np.minimum(array, np.uint64(MAGNITUDE_LIMIT))  # refused by its row
        return np.ascontiguousarray(array, np.int64), None
    is_time = name == _TIME and pa.types.is_timestamp(column.type)
    if not is_time and not pa.types.is_integer(column.type):
        raise _no_integers(name, str(column.type))
    null = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    try:
        whole = column.cast(pa.timestamp("ns", column.type.tz)) if is_time else column
        plain: Any = whole.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise MalformedEvent(f"{name}: {error}", "numbers of 64 bits with a sign") from None
    filled = plain.fill_null(0) if null is not None else plain
    return np.ascontiguousarray(filled.to_numpy()), null


def _no_integers(name: str, found: str) -> SettingError:
    return SettingError(
        f"{name}: {found}", hint="prices and sizes are scaled integers; multiply by 10^exponent and round"
    )


def _side(
    price: tuple[Column, npt.NDArray[np.bool_] | None], size: tuple[Column, npt.NDArray[np.bool_] | None]
) -> tuple[Column, Column]:
    prices, sizes = price[0], size[0]
    for null in (price[1], size[1]):
        if null is not None and len(null) == len(sizes):
            sizes = np.where(null, 0, sizes)
    return prices, sizes
