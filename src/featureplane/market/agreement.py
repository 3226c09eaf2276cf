"""Whether events agree with the instruments they were read by.

Exponents are held by every reader: a price or size finer than declared is malformed (rule 1.1).
What readers leave alone is asked here: prices in the book must lie on the declared tick. Sizes may be
finer than the lot, because an order that was partly filled may be.

Leans on `market.events`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from featureplane.errors import InstrumentMismatch
from featureplane.market.decimals import decimal_text
from featureplane.market.events import EventBatch, Kind

__all__ = ["check_ticks"]

_BOOK_PRICES: Final = np.isin(
    np.arange(256), [Kind.LEVEL, Kind.SNAPSHOT_LEVEL, Kind.QUOTE, Kind.ADD, Kind.MODIFY]
)


def check_ticks(batch: EventBatch) -> None:
    """Raise `InstrumentMismatch` at the first price of book or quotes off its instrument's tick.

    Trades may print between ticks (hidden executions at the mid do) and are not asked.
    """
    for instrument in batch.instruments:
        if instrument.tick is None:
            continue
        asked = _BOOK_PRICES[batch.array["kind"]] & (batch.array["symbol_id"] == instrument.symbol_id)
        off = asked & (batch.array["price"] % instrument.tick != 0)
        if off.any():
            price = int(batch.array["price"][np.argmax(off)])
            file, line = instrument.place_of("tick_size")
            raise InstrumentMismatch(
                "tick_size",
                instrument.tick_size,
                f"the price {decimal_text(price, instrument.price_exponent)}",
                file=file,
                line=line,
            )
