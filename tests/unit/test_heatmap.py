"""What the report draws is the book: its changes, followed to the end, are the book's levels."""

from __future__ import annotations

import numpy as np
import pytest

from featureplane.book.engine import LOBEngine
from featureplane.market.events import EventBatch
from featureplane.market.sample import sample_events
from featureplane.ops.heatmap import book_changes, market_trades

LOW, HIGH = 267_000, 269_500


def followed(events: EventBatch) -> dict[tuple[int, int], int]:
    """Sizes by side and price after all changes."""
    changes = book_changes(events.array, LOW, HIGH)
    ends = np.cumsum(changes.count)
    levels: dict[tuple[int, int], int] = {}
    for message, end in enumerate(ends.tolist()):
        if message in changes.restarts:
            levels.clear()
        for i in range(end - int(changes.count[message]), end):
            levels[int(changes.side[i]), int(changes.price[i])] = int(changes.qty[i])
    return {key: qty for key, qty in levels.items() if qty}


@pytest.mark.parametrize("messages", [10, 500, 9_000])
def test_changes_lead_to_the_book(messages: int) -> None:
    events = sample_events().part(0, messages)
    book = LOBEngine(events.instrument, backend="python")
    book.process_events(events.array)
    sides = zip((1, 2), book.levels(), strict=True)
    inside = {(side, price): qty for side, levels in sides for price, qty in levels if LOW <= price <= HIGH}
    assert len(inside) > 500
    assert followed(events) == inside


def test_time_is_the_clock_of_the_kernels() -> None:
    changes = book_changes(sample_events().array, LOW, HIGH)
    assert np.all(np.diff(changes.time_ns) >= 0)
    assert changes.restarts == (0,)
    assert len(changes.time_ns) == len(changes.count)
    assert int(changes.count.sum()) == len(changes.price) == len(changes.side) == len(changes.qty)


def test_trades_inside_the_window_and_no_others() -> None:
    events = sample_events()
    assert len(market_trades(events.array, LOW, HIGH).price) == 6_106
    trades = market_trades(events.array, 268_000, 268_300)
    assert 0 < len(trades.price) < 6_106
    assert trades.price.min() >= 268_000
    assert trades.price.max() <= 268_300
    assert set(trades.side.tolist()) == {1, 2}


def test_without_a_snapshot_everything_is_drawn() -> None:
    events = sample_events()
    increments = events.array[~np.isin(events.array["kind"], (3, 4))]
    changes = book_changes(increments, LOW, HIGH)
    assert changes.restarts == ()
    assert len(changes.price) > 100_000
