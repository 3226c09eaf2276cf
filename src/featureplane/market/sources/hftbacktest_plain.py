"""hftbacktest rows to events, the plain way: the oracle of `normalize/hftbacktest`, and its stand-in.

Rule 3.11 for rows, rule 1.1 for floats.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from featureplane.errors import MalformedEvent
from featureplane.market.events import EVENT_DTYPE, EventFlag, Kind, Side
from featureplane.market.sources.hftbacktest_rows import ROW_DTYPE
from featureplane.units import MAGNITUDE_LIMIT, TIME_LIMIT_NS

__all__ = ["PlainReader", "RowConfig", "on_grid", "plain_precision"]

Array = npt.NDArray[np.void]

_LOCAL, _BUY, _SELL, _KIND = 1 << 30, 1 << 29, 1 << 28, 0xFF
_DEPTH, _TRADE, _CLEAR, _SNAPSHOT, _BBO = 1, 2, 3, 4, 5
_TIME: Final = "nanoseconds since 1970, from 0 to 2^62 - 1"
_EXPONENT_MAX: Final = 12
_MANTISSA_MAX: Final = 10**15
_NOISE_MAX: Final = 1e-6


def on_grid(x: float, exponent: int) -> int | None:
    """`x` in units of 10^-exponent, or None if it is no multiple of one (rule 1.1)."""
    scale = 10.0**exponent
    product = x * scale
    if not math.isfinite(product) or abs(product) > 1 << 53:
        return None
    n = round(product)
    return n if abs(product - n) <= _NOISE_MAX or n / scale == x else None


def _exponent(x: float, least: int) -> int:
    """The least exponent from `least` on that fits: exact within 15 digits, else within the noise."""
    for e in range(least, _EXPONENT_MAX + 1):
        n = on_grid(x, e)
        if n is not None and abs(n) <= _MANTISSA_MAX and n / 10.0**e == x:
            return e
    near = (e for e in range(least, _EXPONENT_MAX + 1) if on_grid(x, e) is not None)
    return next(near, least)


def plain_precision(rows: Array, price: int, qty: int) -> tuple[int, int]:
    """Decimals of prices and sizes: the larger of those given and those `rows` need."""
    for ev, _, _, px, size, *_ in rows.tolist():
        kind = ev & _KIND
        if not ev & _LOCAL or not _DEPTH <= kind <= _BBO:
            continue
        if kind != _CLEAR:
            price, qty = _exponent(px, price), _exponent(size, qty)
        elif ev & (_BUY | _SELL):
            price = _exponent(px, price)
    return price, qty


class RowConfig(NamedTuple):
    """What must be known to read rows into events; the arguments of the native reader."""

    symbol_id: int
    price_exponent: int
    qty_exponent: int
    local_shift_ns: int
    local_time: bool
    side_inferred: bool
    drop_malformed: bool


class PlainReader:
    """The reference: rows to events, one at a time. The interface is that of the native reader."""

    def __init__(self, config: RowConfig) -> None:
        self._config = config
        self._row = 0
        self._open: list[tuple[int, ...]] = []
        self._key: tuple[int, int, int] | None = None
        self._last_kind = 0
        self._lost = False  # the message that `_key` and `_last_kind` tell of is passed over
        self._counts = {"not_local": 0, "unknown_kind": 0, "empty_trade": 0, "malformed": 0}

    def feed(self, rows: npt.NDArray[np.uint64]) -> tuple[Array, MalformedEvent | None]:
        """The events of the messages that `rows` complete, and the error that ends the stream, if any."""
        done: list[tuple[int, ...]] = []
        for row in rows.view(ROW_DTYPE).tolist():
            self._row += 1
            try:
                self._take(row, done)
            except MalformedEvent as error:
                if not self._config.drop_malformed:
                    return np.array(done, EVENT_DTYPE), error
                self._lose(row, done)
        return np.array(done, EVENT_DTYPE), None

    def finish(self) -> Array:
        """The events of the message left open."""
        done: list[tuple[int, ...]] = []
        self._close(done)
        return np.array(done, EVENT_DTYPE)

    def dropped(self) -> list[tuple[str, int]]:
        """Rows that became no event, by reason."""
        return list(self._counts.items())

    def _take(self, row: tuple[Any, ...], done: list[tuple[int, ...]]) -> None:
        ev, exch_ts, local_ts, _, qty, _, ival, _ = row
        kind = ev & _KIND
        if not ev & _LOCAL:
            self._counts["not_local"] += 1
        elif not _DEPTH <= kind <= _BBO:
            self._counts["unknown_kind"] += 1
        elif kind == _TRADE and qty == 0:
            self._counts["empty_trade"] += 1
        else:
            key = (local_ts, exch_ts, ival)
            if not self._continues(key, kind, ev):
                self._close(done)
                self._lost = False
            elif self._lost:
                self._last_kind = kind
                return
            event = self._event(row, kind)
            if self._open and self._open[-1][7] != event[7]:
                raise self._malformed(f"order_id {row[5]}", "one order_id in the rows of one message")
            self._open.append(event)
            self._key, self._last_kind = key, kind
            if kind == _TRADE or (kind == _BBO and event[1] == Side.ASK):
                self._close(done)

    def _continues(self, key: tuple[int, int, int], kind: int, ev: int) -> bool:
        if not (self._open or self._lost) or key != self._key:
            return False
        if self._last_kind == _BBO:
            return kind == _BBO and bool(ev & _SELL)
        return kind == _DEPTH or (kind == _SNAPSHOT and self._last_kind != _DEPTH)

    def _lose(self, row: tuple[Any, ...], done: list[tuple[int, ...]]) -> None:
        """Leaves out the message of a malformed row; of a book message a mark stays that breaks the book."""
        ev, exch_ts, local_ts, *_, ival, _ = row
        kind = ev & _KIND
        self._open = []
        self._lost = kind not in (_TRADE, _BBO)
        if not self._lost:
            self._counts["malformed"] += 1
            return
        self._key, self._last_kind = (local_ts, exch_ts, ival), kind
        source = exch_ts if 0 <= exch_ts < TIME_LIMIT_NS else 0
        try:
            local = self._local(exch_ts, local_ts)
        except MalformedEvent:
            local = source
        done.append((0, 0, int(EventFlag.LAST), self._config.symbol_id, *(0,) * 5, source, local))

    def _close(self, done: list[tuple[int, ...]]) -> None:
        if self._open:
            kind, side, flags, *rest = self._open[-1]
            self._open[-1] = (kind, side, flags | EventFlag.LAST, *rest)
            done += self._open
            self._open = []

    def _event(self, row: tuple[Any, ...], kind: int) -> tuple[int, ...]:
        ev, exch_ts, local_ts, px, qty, order_id, ival, _ = row
        side = self._side(ev, kind)
        flags, price, size = 0, 0, 0
        if kind == _TRADE and self._config.side_inferred and side:
            flags = int(EventFlag.SIDE_INFERRED)
        if kind in (_CLEAR, _SNAPSHOT):
            flags = int(EventFlag.RECOVERY)
        if kind == _CLEAR and side and math.isfinite(px):
            flags |= int(EventFlag.BOUND)
        has_ids = kind not in (_TRADE, _BBO) and ival != 0
        if has_ids and ival < 0:
            raise self._malformed(f"ival {ival}", "an id, or 0")
        if has_ids and order_id > ival:
            raise self._malformed(f"order_id {order_id}", f"an id of at most {ival}")
        if kind != _CLEAR or flags & EventFlag.BOUND:
            price = self._scaled("px", px, self._config.price_exponent)
        if kind != _CLEAR:
            size = self._scaled("qty", qty, self._config.qty_exponent)
            if size < 0:
                raise self._malformed(f"qty {qty!r}", "a size of at least 0")
        ids = (ival, order_id) if has_ids else (0, 0)
        times = self._source(exch_ts), self._local(exch_ts, local_ts)
        return (_KINDS[kind], side, flags, self._config.symbol_id, price, size, 0, *ids, *times)

    def _side(self, ev: int, kind: int) -> int:
        sides = ev & (_BUY | _SELL)
        if sides == _BUY:
            return Side.BID
        if sides == _SELL:
            return Side.ASK
        if sides == 0 and kind in (_TRADE, _CLEAR):
            return Side.NONE
        raise self._malformed(f"ev {ev:#x}", "one of the bits 29 (buy) and 28 (sell)")

    def _local(self, exch_ts: int, local_ts: int) -> int:
        if not self._config.local_time or local_ts == 0:
            return self._source(exch_ts)
        local = local_ts - self._config.local_shift_ns
        if not 0 <= local < TIME_LIMIT_NS:
            raise self._malformed(f"local_ts {local_ts}", _TIME)
        return local

    def _source(self, exch_ts: int) -> int:
        if not 0 <= exch_ts < TIME_LIMIT_NS:
            raise self._malformed(f"exch_ts {exch_ts}", _TIME)
        return exch_ts

    def _scaled(self, name: str, x: float, exponent: int) -> int:
        n = on_grid(x, exponent)
        if n is None or abs(n) >= MAGNITUDE_LIMIT:
            expected = f"a multiple of 10^-{exponent} below 2^53 such units in magnitude"
            raise self._malformed(f"{name} {x!r}", expected)
        return n

    def _malformed(self, found: str, expected: str) -> MalformedEvent:
        return MalformedEvent(found, expected, line=self._row)


_KINDS: Final = {
    _DEPTH: int(Kind.LEVEL),
    _TRADE: int(Kind.TRADE),
    _CLEAR: int(Kind.CLEAR),
    _SNAPSHOT: int(Kind.SNAPSHOT_LEVEL),
    _BBO: int(Kind.QUOTE),
}
