"""Whether the book is the venue's: against the best quotes the venue sent itself, or its book file.

After a depth message that ends at id u, best bid and ask, price and size, must equal the best quote
with the largest id <= u in the whole recording: by id, not by arrival, so a quote that came later
counts too. LOBSTER's order-book files are held against the messages, row by row, while they are read
(rule 3.11); a batch that came from a pair has passed. Leans on `compute`.
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

__all__ = ["TOUCH", "BookCheck", "verify_book"]

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
class BookCheck:
    """How the books of one symbol compare with what the venue says of them.

    `compared` books stand against best quotes or rows of a book file (`against`, `known` of them),
    `agree` of them equal it. `before` books came before the first quote. `first_difference` has
    the id, the book's numbers and the quote's: bid, ask, bid size, ask size.
    """

    symbol: str
    against: str
    known: int
    compared: int
    agree: int
    before: int = 0
    first_difference: tuple[int, tuple[int | None, ...], tuple[int, ...]] | None = None


def verify_book(events: EventBatch, *, backend: str = "auto") -> tuple[BookCheck, ...]:
    """Hold every book of a recording against what the venue says of it, by symbol.

    Raises
    ------
    EmptyStream
        The recording has no best quote and no order-book file, or no book to hold against it.
    """
    if events.source.name == "lobster" and events.has_snapshot:
        rows = events.messages
        return (BookCheck(events.instrument.symbol, "order-book file", rows, rows, rows),)
    if not np.any(events.array["kind"] == Kind.QUOTE):
        hint = "record the venue's best quotes beside its depth"
        if events.source.name == "lobster":
            hint = "name the order-book file beside the message file, or put it in the same folder"
        raise EmptyStream("best quotes or an order-book file", hint=hint)
    table = compute(events, TOUCH, backend=backend)
    return tuple(
        _check(one.symbol, events.array[events.array["symbol_id"] == one.symbol_id], table)
        for one in events.instruments
    )


def _check(symbol: str, events: NDArray[Any], table: FeatureTable) -> BookCheck:
    quote_ids, quotes = _quotes(events)
    book_ids, books, missing = _books(symbol, table)
    nearest = np.searchsorted(quote_ids, book_ids, side="right") - 1
    known = nearest >= 0
    book_ids, books, missing, nearest = book_ids[known], books[known], missing[known], nearest[known]
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
    agree = int(np.count_nonzero(same))
    return BookCheck(symbol, "best quotes", len(quote_ids), len(book_ids), agree, before, first)


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

    Frames of a gap show no book and are left out. A book carried on behind a gap that was passed over
    has the same flags on every frame, but shows something.
    """
    arrow = table.to_arrow()
    mine = np.asarray(arrow["symbol"].cast(pa.string()).to_numpy()) == symbol
    ids, flags = (np.asarray(arrow[name].to_numpy()) for name in ("source_seq", "quality_flags"))
    columns = [arrow[name].combine_chunks() for name in TOUCH]
    missing = np.stack([np.asarray(c.is_null().to_numpy(zero_copy_only=False)) for c in columns], axis=1)
    gap = np.uint32(Quality.GAP_DETECTED | Quality.PARTIAL_FEATURES)
    told = np.uint32(gap | Quality.CROSSED_BOOK)
    no_book = missing.all(axis=1) & (flags & told == gap)
    shown = np.flatnonzero(mine & (ids != 0) & ~no_book)
    _, first = np.unique(ids[shown], return_index=True)
    chosen = shown[first]
    values = np.stack([np.asarray(c.fill_null(0).to_numpy(), dtype=np.int64) for c in columns], axis=1)
    return ids[chosen], values[chosen], missing[chosen]
