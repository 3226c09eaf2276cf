"""The order book over time as the report draws it: who changed which level when.

A picture, not a book: no guard, no quality. It follows the levels of one symbol inside a price
window, with the times the kernels' clock would have (rule 5.3). Leans on `market.events`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featureplane.market.events import EventFlag, Kind

__all__ = ["BookChanges", "Trades", "book_changes", "market_trades"]

Events = NDArray[np.void]

_BOOK_KINDS: Final = (Kind.LEVEL, Kind.SNAPSHOT_LEVEL, Kind.CLEAR)


@dataclass(frozen=True, slots=True)
class BookChanges:
    """Level changes inside the window, by message.

    `time_ns` and `count` have one entry a message; `price` (integer, as in events), `side` (1 bid,
    2 ask) and `qty` one a change, in order. `restarts` are the messages that begin with a new book.
    """

    time_ns: NDArray[np.int64]
    count: NDArray[np.uint32]
    price: NDArray[np.int64]
    side: NDArray[np.uint8]
    qty: NDArray[np.int64]
    restarts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trades:
    """Market trades inside the window; `side` 1 bought, 2 sold, 0 unknown."""

    time_ns: NDArray[np.int64]
    price: NDArray[np.int64]
    qty: NDArray[np.int64]
    side: NDArray[np.uint8]


def book_changes(events: Events, low: int, high: int) -> BookChanges:
    """Changes of levels with `low` <= price <= `high`, of events of one symbol in arrival order."""
    message = _message_numbers(events)
    keep = np.isin(events["kind"], _BOOK_KINDS)
    recovery = keep & (events["flags"] & EventFlag.RECOVERY != 0)
    if recovery.any():
        keep &= _known_by_first_snapshot(events, message, recovery)
    clock = _clock(events, without=recovery)
    restarting = np.unique(message[recovery & keep])
    inside = keep & (events["kind"] != Kind.CLEAR) & (events["price"] >= low) & (events["price"] <= high)
    numbers, counts = np.unique(message[inside], return_counts=True)
    first = np.searchsorted(message, numbers)
    return BookChanges(
        time_ns=clock[first],
        count=counts.astype(np.uint32),
        price=events["price"][inside],
        side=events["side"][inside],
        qty=events["qty"][inside],
        restarts=tuple(int(i) for i in np.flatnonzero(np.isin(numbers, restarting))),
    )


def market_trades(events: Events, low: int, high: int) -> Trades:
    """Market trades with `low` <= price <= `high` (rule 2.5)."""
    keep = (events["kind"] == Kind.TRADE) & (events["flags"] & EventFlag.NOT_MARKET == 0)
    keep &= (events["qty"] > 0) & (events["price"] >= low) & (events["price"] <= high)
    clock = _clock(events, without=np.zeros(len(events), dtype=bool))
    return Trades(clock[keep], events["price"][keep], events["qty"][keep], events["side"][keep])


def _message_numbers(events: Events) -> NDArray[np.int64]:
    """0, 1, 2 .. for each message; the event after a `LAST` begins the next."""
    last = (events["flags"] & EventFlag.LAST != 0).astype(np.int64)
    return np.asarray(np.cumsum(last) - last, dtype=np.int64)


def _known_by_first_snapshot(
    events: Events, message: NDArray[np.int64], recovery: NDArray[Any]
) -> NDArray[Any]:
    """False for what the first snapshot already contains, and for all that stands before it."""
    first = int(np.flatnonzero(recovery)[0])
    snapshot = message == message[first]
    behind = np.arange(len(events)) > first
    newer = events["seq_last"] > events["seq_last"][first]
    unnumbered = events["seq_last"] == 0
    return np.asarray(snapshot | (behind & (newer | unnumbered)), dtype=bool)


def _clock(events: Events, *, without: NDArray[Any]) -> NDArray[np.int64]:
    """The largest source time so far; that of `without` (a snapshot's own) does not count."""
    times = np.where(without, np.iinfo(np.int64).min, events["source_ts_ns"])
    times = np.maximum.accumulate(times)
    first = int(np.argmax(times > np.iinfo(np.int64).min))
    times[:first] = times[first]
    return np.asarray(times, dtype=np.int64)
