"""What strategies see of a message is the same whoever keeps the book."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import featureplane as fp
from featureplane.errors import FeaturePlaneError, SettingError
from featureplane.market.events import EventBatch
from featureplane.strategy.market import HEAD_WORDS, Did, MarketBooks
from tests.parity.any_messages import any_batch
from tests.parity.streams import synthetic

pytestmark = pytest.mark.native

LEVELS = 3


def seen(books: MarketBooks, did: Did) -> tuple[Any, ...]:
    """What may be looked at behind a message."""
    room = books.room
    bids, asks = (int(room[4]), int(room[5])) if did & Did.READABLE else (0, 0)
    first = HEAD_WORDS + 2 * books.levels
    return (
        room[:4].tolist(),
        room[HEAD_WORDS : HEAD_WORDS + 2 * bids].tolist(),
        room[first : first + 2 * asks].tolist(),
        room[6:13].tolist() if did & Did.TWO_SIDED else None,
    )


def compare(events: EventBatch) -> Did:
    """Compare every message; all that was ever done."""
    books = [
        MarketBooks(events.instruments, events.options, levels=LEVELS, backend=b) for b in ("python", "rust")
    ]
    for one in books:
        one.turn_to(events)
    start, all_did = 0, Did(0)
    for number, stop in enumerate(events.message_ends.tolist()):
        answers = []
        if number % 97 == 96:
            for one in books:
                one.reconnect(events.instruments[0].symbol_id)
        for one in books:
            try:
                did = one.push(start, stop)
                answers.append((did, seen(one, did)))
            except FeaturePlaneError as error:
                answers.append((Did(0), (type(error), str(error))))
        assert answers[0] == answers[1], (start, stop)
        all_did |= answers[0][0]
        if isinstance(answers[0][1][0], type):
            break
        start = stop
    return all_did


@pytest.mark.parametrize("seed", range(60))
def test_any_messages_are_seen_alike(seed: int) -> None:
    compare(any_batch(seed, 300))


def test_a_faulty_stream_is_seen_alike_and_does_everything() -> None:
    assert compare(synthetic(3_000, seed=5, symbols=2)) == Did(63)


@pytest.mark.parametrize("backend", ["python", "rust"])
def test_only_one_whole_message_is_taken(backend: str) -> None:
    events = synthetic(50, seed=1)
    ends = events.message_ends.tolist()
    books = MarketBooks(events.instruments, backend=backend)
    books.turn_to(events)
    for start, stop in ((0, 0), (0, ends[1]), (0, len(events) + 1), (ends[0], ends[0])):
        with pytest.raises(SettingError):
            books.push(start, stop)
    long = next((a, b) for a, b in zip([0, *ends], ends, strict=False) if b - a > 1)
    with pytest.raises(SettingError):
        books.push(long[0], long[1] - 1)
    assert books.push(0, ends[0]) >= 0


def test_statistics_are_the_features_of_their_names() -> None:
    events = fp.sample_events().part(0, 4_000)
    names = (
        "best_bid",
        "best_ask",
        "bid_depth",
        "ask_depth",
        "mid_price_x2",
        "spread_scaled",
        "depth_imbalance_ppm",
    )
    engine = fp.FeatureEngine(fp.feature_set("lob_shared_v1"))
    books = MarketBooks(events.instruments)
    books.turn_to(events)
    start = compared = 0
    for stop in events.message_ends.tolist():
        did = books.push(start, stop)
        for frame in engine.push(events, start, stop):
            if did & Did.TWO_SIDED:
                assert books.room[6:13].tolist() == [frame[name] for name in names]
                compared += 1
        start = stop
    assert compared > 300
    assert books.room.dtype == np.int64
