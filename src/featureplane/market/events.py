"""Market events: one change of a market each, 64 bytes, the same bytes everywhere (rule 2.1).

`EVENT_DTYPE` is the NumPy view of those bytes; `EventBatch` is a run of events with what one
must know to read them. Leans on `market.instruments`. Knows nothing of books or features.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import numpy as np

__all__ = ["EVENT_DTYPE", "EventFlag", "Kind", "Side"]

EVENT_DTYPE: Final = np.dtype(
    [
        ("kind", "u1"),
        ("side", "u1"),
        ("flags", "<u2"),
        ("symbol_id", "<u4"),
        ("price", "<i8"),
        ("qty", "<i8"),
        ("order_id", "<u8"),
        ("seq_last", "<u8"),
        ("seq_prev", "<u8"),
        ("source_ts_ns", "<i8"),
        ("local_ts_ns", "<i8"),
    ]
)
"""Layout of one event; rule 2.1, pinned by `tests/unit/test_events.py`."""


class Kind(IntEnum):
    """What one event changes."""

    LEVEL = 1  # one price level; size 0 deletes it
    TRADE = 2
    CLEAR = 3  # the book, or with BOUND a part of it, is empty
    SNAPSHOT_LEVEL = 4  # one level of a full book
    QUOTE = 5  # one side of the venue's own best quote; never input to a book
    STATUS = 6  # qty 0 closed, 1 pre-open, 2 halted, 3 trading
    ADD = 10  # a new order
    CANCEL = 11  # size taken away from an order; 0 takes all
    MODIFY = 12  # new price and size of an order
    EXECUTE = 13  # size executed against an order


class Side(IntEnum):
    """Side of the book, or the aggressor of a trade."""

    NONE = 0
    BID = 1  # or buy aggressor
    ASK = 2  # or sell aggressor


class EventFlag(IntFlag):
    """What else is known about one event."""

    LAST = 1 << 0  # the last event of its message
    RECOVERY = 1 << 1  # this snapshot restarts the book
    REVEALED = 1 << 2  # came into view from beyond the feed's depth
    CONCEALED = 1 << 3  # left the feed's view
    HIDDEN = 1 << 4  # execution against a hidden order
    NOT_MARKET = 1 << 5  # not a market trade; read by no kernel
    SIDE_INFERRED = 1 << 6  # aggressor inferred by the source
    BOUND = 1 << 7  # a clear from the best level to `price`, inclusive
