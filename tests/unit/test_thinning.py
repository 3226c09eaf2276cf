"""A picture of bounded size: what stands at the end of a stretch is what stood there."""

from __future__ import annotations

import numpy as np
import pytest

from featureplane.ops.heatmap import BookChanges, Trades
from featureplane.ops.thinning import largest_trades, thinned_changes

MS = 1_000_000


def changes(seed: int, messages: int, restarts: tuple[int, ...] = ()) -> BookChanges:
    random = np.random.default_rng(seed)
    count = random.integers(1, 6, messages).astype(np.uint32)
    rows = int(count.sum())
    return BookChanges(
        time_ns=np.cumsum(random.integers(0, 3 * MS, messages)).astype(np.int64),
        count=count,
        price=random.integers(100, 110, rows),
        side=random.integers(1, 3, rows).astype(np.uint8),
        qty=random.integers(0, 50, rows),
        restarts=restarts,
    )


def book_at(what: BookChanges, stop_ns: int) -> dict[tuple[int, int], int]:
    """What stands just before a time, as the page plays it."""
    book: dict[tuple[int, int], int] = {}
    at = 0
    for message, (time_ns, count) in enumerate(zip(what.time_ns, what.count, strict=True)):
        if time_ns >= stop_ns:
            break
        if message in what.restarts:
            book.clear()
        for row in range(at, at + int(count)):
            book[int(what.price[row]), int(what.side[row])] = int(what.qty[row])
        at += int(count)
    return {level: qty for level, qty in book.items() if qty}


@pytest.mark.parametrize("restarts", [(), (0,), (0, 700, 701, 1_400)])
def test_books_at_the_ends_of_stretches_are_the_same(restarts: tuple[int, ...]) -> None:
    whole = changes(5, 2_000, restarts)
    thin, step_ns = thinned_changes(whole, 900)
    assert 0 < len(thin.price) <= 900
    assert int(thin.count.sum()) == len(thin.price)
    assert step_ns > MS
    start = int(whole.time_ns[0])
    stretches = range(start + step_ns, int(whole.time_ns[-1]) + 1, step_ns)
    assert len(stretches) > 5
    for stop_ns in stretches:
        assert book_at(thin, stop_ns) == book_at(whole, stop_ns)


def test_a_short_recording_is_left_alone() -> None:
    whole = changes(1, 10)
    assert thinned_changes(whole, 1_000) == (whole, 0)


def test_the_largest_trades_in_their_order() -> None:
    trades = Trades(np.arange(5), np.arange(10, 15), np.array([4, 9, 1, 7, 2]), np.ones(5, np.uint8))
    kept = largest_trades(trades, 3)
    assert kept.qty.tolist() == [4, 9, 7]
    assert kept.time_ns.tolist() == [0, 1, 3]
    assert largest_trades(trades, 5) is trades
