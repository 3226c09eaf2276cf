"""Whether events agree with the instruments they were read by.

Exponents are held by every reader: a price or size finer than declared is malformed (rule 1.1);
where a file declares them `exponent_mismatch` says so. What readers leave alone is asked here:
prices in the book must lie on the declared tick, and no message sets more levels of a side than the
feed is said to show; `book.shown` asks the same of books. Sizes may be finer than the lot, because an
order that was partly filled may be.

Leans on `market.events`; Rust does the looking where it is installed.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from featureplane import native
from featureplane.errors import InstrumentMismatch, MalformedEvent
from featureplane.market.decimals import decimal_text
from featureplane.market.events import EventBatch, Kind, Side
from featureplane.market.instruments import Instrument
from featureplane.units import MAGNITUDE_LIMIT

__all__ = ["check_declared", "check_ticks", "exponent_mismatch", "levels_mismatch"]

_BOOK_PRICES: Final = np.isin(
    np.arange(256), [Kind.LEVEL, Kind.SNAPSHOT_LEVEL, Kind.QUOTE, Kind.ADD, Kind.MODIFY]
)

_LEVELS: Final = np.isin(np.arange(256), [Kind.LEVEL, Kind.SNAPSHOT_LEVEL])

_FINE_TEXT: Final = re.compile(r"a (price|size) of at most \d+ significant decimals")
_FINE_FLOAT: Final = re.compile(r"a multiple of 10\^-(\d+) ")
_FLOAT: Final = re.compile(r"(px|qty) (-?[0-9.e+-]+)")


def exponent_mismatch(error: MalformedEvent, instrument: Instrument) -> InstrumentMismatch | None:
    """What a reader refused as too fine, as the error of the file that declares the exponent.

    None where no file declares it, or where something else is wrong with the number.
    """
    if instrument.origin is None:
        return None
    if text := _FINE_TEXT.fullmatch(error.expected):
        is_price = text[1] == "price"
    elif (grid := _FINE_FLOAT.match(error.expected)) and (number := _FLOAT.fullmatch(error.found)):
        if abs(float(number[2])) * 10 ** int(grid[1]) >= MAGNITUDE_LIMIT:
            return None
        is_price = number[1] == "px"
    else:
        return None
    name = "price_exponent" if is_price else "qty_exponent"
    file, line = instrument.place_of(name)
    found = f"{error.found} at {error.file}:{error.line}"
    return InstrumentMismatch(name, getattr(instrument, name), found, file=file, line=line)


def check_declared(batch: EventBatch) -> None:
    """Raise `InstrumentMismatch` where ticks or levels are not those that an instruments file declares."""
    check_ticks(batch)
    for instrument in batch.instruments:
        if instrument.origin is not None and instrument.book_levels:
            _check_messages(batch, instrument)


def levels_mismatch(instrument: Instrument, found: str) -> InstrumentMismatch:
    """More levels than `book_levels` of an instrument's file, which makes features undefined (rule 7.3)."""
    file, line = instrument.place_of("book_levels")
    return InstrumentMismatch("book_levels", instrument.book_levels, found, file=file, line=line)


def _check_messages(batch: EventBatch, instrument: Instrument) -> None:
    """No message, a snapshot or a change, may leave more levels of a side set than are ever shown."""
    ours = batch.array["symbol_id"] == instrument.symbol_id
    at = np.flatnonzero(_LEVELS[batch.array["kind"]] & ours)
    for side, name in ((Side.BID, "bids"), (Side.ASK, "asks")):
        rows = at[batch.array["side"][at] == side]
        message = np.searchsorted(batch.message_ends, rows, side="right")
        begins = np.flatnonzero(np.diff(message, prepend=-1))
        ends = np.append(begins[1:], len(rows))
        for place in np.flatnonzero(ends - begins > instrument.book_levels).tolist():
            changes = batch.array[rows[begins[place] : ends[place]]]
            left = dict(zip(changes["price"].tolist(), changes["qty"].tolist(), strict=True))
            if (shown := sum(qty > 0 for qty in left.values())) > instrument.book_levels:
                raise levels_mismatch(instrument, f"{shown} {name} in one message")


def check_ticks(batch: EventBatch) -> None:
    """Raise `InstrumentMismatch` at the first price of book or quotes off a tick that a file declares.

    Trades may print between ticks (hidden executions at the mid do) and are not asked.
    """
    for instrument in batch.instruments:
        tick = instrument.tick or 1
        if instrument.origin is None or tick == 1:
            continue  # every price is a multiple of one unit
        off = _first_off(batch, instrument.symbol_id, tick)
        if off is not None:
            price = int(batch.array["price"][off])
            file, line = instrument.place_of("tick_size")
            raise InstrumentMismatch(
                "tick_size",
                instrument.tick_size,
                f"the price {decimal_text(price, instrument.price_exponent)}",
                file=file,
                line=line,
            )


def _first_off(batch: EventBatch, symbol_id: int, tick: int) -> int | None:
    if native.available():
        words = np.ascontiguousarray(batch.array).view(np.uint64)
        found: int | None = native.module().first_off_tick(words, symbol_id, tick)
        return found
    asked = _BOOK_PRICES[batch.array["kind"]] & (batch.array["symbol_id"] == symbol_id)
    off = asked & (batch.array["price"] % tick != 0)
    return int(np.argmax(off)) if off.any() else None
