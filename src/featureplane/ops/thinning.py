"""Long recordings on a page of bounded size: what is left out of the picture, and what is not.

Leans on `heatmap`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureplane.ops.heatmap import BookChanges, Trades

__all__ = ["largest_trades", "thinned_changes"]


def thinned_changes(changes: BookChanges, most: int) -> tuple[BookChanges, int]:
    """At most about `most` changes: of each level the last one in a stretch of time; and its length, ns.

    0 where nothing had to go. What stands at the end of a stretch is what stood there. A new book begins
    a stretch of its own, so that there may be a few more.
    """
    total = len(changes.price)
    if total <= most:
        return changes, 0
    message = np.repeat(np.arange(len(changes.time_ns)), changes.count)
    time_ns = changes.time_ns - changes.time_ns[0]
    epoch = np.zeros(len(time_ns), dtype=np.int64)
    epoch[list(changes.restarts)] = 1
    level = np.unique(changes.price * 2 + changes.side, return_inverse=True)[1]
    step_ns = 1_000_000
    while True:
        last = _last_of_stretch(time_ns // step_ns, np.cumsum(epoch), message, level)
        if len(last) <= most or step_ns > int(time_ns[-1]):
            return _kept(changes, message, last), step_ns
        step_ns *= 2


def largest_trades(trades: Trades, most: int) -> Trades:
    """The `most` largest ones, in the order they came."""
    if len(trades.qty) <= most:
        return trades
    keep = np.sort(np.argsort(trades.qty, kind="stable")[-most:])
    return Trades(trades.time_ns[keep], trades.price[keep], trades.qty[keep], trades.side[keep])


def _last_of_stretch(
    stretch: NDArray[np.int64], epoch: NDArray[np.int64], message: NDArray[np.int64], level: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Which changes are the last of their level between two new books and within their stretch."""
    begins = (np.diff(stretch, prepend=-1) != 0) | (np.diff(epoch, prepend=0) != 0)
    part = np.cumsum(begins)[message]
    backwards = (part * (int(level.max()) + 1) + level)[::-1]
    return np.sort(len(message) - 1 - np.unique(backwards, return_index=True)[1])


def _kept(changes: BookChanges, message: NDArray[np.int64], last: NDArray[np.int64]) -> BookChanges:
    numbers, counts = np.unique(message[last], return_counts=True)
    # WHY the next that is left: a message that began a book may have lost all its changes to later ones.
    restarts = np.unique(np.searchsorted(numbers, list(changes.restarts)))
    return BookChanges(
        time_ns=changes.time_ns[numbers],
        count=counts.astype(np.uint32),
        price=changes.price[last],
        side=changes.side[last],
        qty=changes.qty[last],
        restarts=tuple(int(at) for at in restarts if at < len(numbers)),
    )
