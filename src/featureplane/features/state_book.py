"""Books in saved states as snapshots, for who looks at the market beside an engine that goes on from them.

Leans on `engine_state` and `market.events`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featureplane.features.engine_state import load_symbol
from featureplane.features.symbol import SymbolRun
from featureplane.market.events import EVENT_DTYPE, EventFlag, Kind, Side

__all__ = ["book_snapshot"]


def book_snapshot(run: SymbolRun, state: bytes) -> npt.NDArray[np.void]:
    """The book of a state as one message that restarts a book; no event for one that is not whole.

    `run` is made for it, of the state's set, and holds the state behind this. Raises as `load_symbol`.
    """
    load_symbol(run, state)
    sides = ((Side.BID, run.book.bids), (Side.ASK, run.book.asks)) if run.guard.is_whole else ()
    levels = [(side, *level) for side, book in sides for level in book.levels()]
    events = np.zeros(len(levels), EVENT_DTYPE)
    if not levels:
        return events
    events["side"], events["price"], events["qty"] = zip(*levels, strict=True)
    events["kind"], events["flags"] = Kind.SNAPSHOT_LEVEL, EventFlag.RECOVERY
    events["flags"][-1] |= EventFlag.LAST
    events["symbol_id"], events["seq_last"] = run.instrument.symbol_id, run.guard.book.applied
    events["source_ts_ns"] = run.clock.now or 0
    events["local_ts_ns"] = run.clock.local_before or run.clock.now or 0
    return events
