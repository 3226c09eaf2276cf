"""Whether the book is the venue's: its touch against the best quotes the venue sent itself.

After a depth message that ends at id u, best bid and ask, price and size, must equal the best quote
with the largest id <= u in the whole recording: by id, not by arrival, so a quote that came later
counts too. Leans on `compute`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureplane.errors import EmptyStream
from featureplane.features import kernels as k
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch, Kind, Side
from featureplane.market.quality import Quality
from featureplane.research.compute import compute
from featureplane.research.tables import FeatureTable

__all__ = ["TOUCH", "QuoteCheck", "verify_quotes"]

TOUCH: Final = FeatureSet(
    "venue_touch_v1",
    features={
        "bid": k.best_bid(),
        "ask": k.best_ask(),
        "bid_qty": k.qty("bid", 1),
        "ask_qty": k.qty("ask", 1),
    },
)
"""What a best quote says, in its order."""


@dataclass(frozen=True, slots=True)
class QuoteCheck:
    """How the books of one symbol compare with the venue's quotes.

    `compared` books stand against a quote, `agree` of them equal it in all four numbers. `before`
    books came before the first quote. `first_difference` has the id, the book's numbers and the
    quote's: bid, ask, bid size, ask size.
    """

    symbol: str
    quotes: int
    compared: int
    agree: int
    before: int
    first_difference: tuple[int, tuple[int | None, ...], tuple[int, ...]] | None


def verify_quotes(events: EventBatch, *, backend: str = "auto") -> tuple[QuoteCheck, ...]:
    """Hold every book of a recording against the venue's own best quotes, by symbol.

    Raises
    ------
    EmptyStream
        The recording has no best quote, or no book to hold against one.
    """
    if not np.any(events.array["kind"] == Kind.QUOTE):
        raise EmptyStream("best quotes", hint="record the venue's best quotes beside its depth")
    table = compute(events, TOUCH, backend=backend)
    return tuple(
        _check(one.symbol, events.array[events.array["symbol_id"] == one.symbol_id], table)
        for one in events.instruments
    )


def _check(symbol: str, events: NDArray[Any], table: FeatureTable) -> QuoteCheck:
    quote_ids, quotes = _quotes(events)
    book_ids, books, missing = _books(symbol, table)
    nearest = np.searchsorted(quote_ids, book_ids, side="right") - 1
    known = nearest >= 0
    book_ids, books, missing, nearest = (a[known] for a in (book_ids, books, missing, nearest))
    if not len(book_ids):
        raise EmptyStream(f"books of {symbol} with a quote", hint="are depth and quotes of the same time?")
    same = (books == quotes[nearest]).all(axis=1) & ~missing.any(axis=1)
    first = None
    if not same.all():
        i = int(np.argmin(same))
        book = tuple(
            None if gone else int(x) for gone, x in zip(missing[i].tolist(), books[i].tolist(), strict=True)
        )
        first = (int(book_ids[i]), book, tuple(int(x) for x in quotes[nearest[i]].tolist()))
    before = int(np.count_nonzero(~known))
    return QuoteCheck(symbol, len(quote_ids), len(book_ids), int(np.count_nonzero(same)), before, first)


def _quotes(events: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Ids ascending and, for each, bid, ask, bid size, ask size; the last to come wins an id."""
    quotes = events[events["kind"] == Kind.QUOTE]
    bids, asks = (quotes[quotes["side"] == side] for side in (Side.BID, Side.ASK))
    order = np.argsort(bids["seq_last"], kind="stable")
    columns = [bids["price"], asks["price"], bids["qty"], asks["qty"]]
    return bids["seq_last"][order], np.stack([column[order] for column in columns], axis=1)


def _books(
    symbol: str, table: FeatureTable
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]:
    """The first frame of every book: its id, the touch, which of its numbers are undefined.

    Frames of a gap show no book and are left out.
    """
    arrow = table.to_arrow()
    rows = arrow.filter(pa.compute.equal(arrow["symbol"].cast(pa.string()), symbol))
    ids = rows["source_seq"].to_numpy()
    gap = rows["quality_flags"].to_numpy() & np.uint32(Quality.GAP_DETECTED | Quality.PARTIAL_FEATURES)
    shown = (ids != 0) & (gap != np.uint32(Quality.GAP_DETECTED | Quality.PARTIAL_FEATURES))
    _, first = np.unique(ids[shown], return_index=True)
    chosen = np.flatnonzero(shown)[first]
    columns = [rows[name].combine_chunks() for name in TOUCH]
    missing = np.stack([column.is_null().to_numpy(zero_copy_only=False) for column in columns], axis=1)
    values = np.stack([column.fill_null(0).to_numpy() for column in columns], axis=1)
    return ids[chosen], values[chosen], missing[chosen]
