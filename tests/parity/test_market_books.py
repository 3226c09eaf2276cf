"""What strategies see of a message is the same whoever keeps the book."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import featureplane as fp
from featureplane.errors import FeaturePlaneError, SettingError
from featureplane.features import kernels
from featureplane.market.events import EventBatch
from featureplane.strategy.market import DID_WORD, HEAD_WORDS, Did, MarketBooks
from tests.parity.any_messages import any_batch
from tests.parity.streams import V1, V2, synthetic

pytestmark = pytest.mark.native

LEVELS = 3
TRADES = fp.FeatureSet("trades_v1", features={"count": kernels.trade_count()})


class Carried(MarketBooks):
    """Books that an engine takes its messages to."""

    def __init__(self, events: EventBatch, fset: fp.FeatureSet) -> None:
        super().__init__(events.instruments, events.options, levels=LEVELS, backend="rust")
        self.engine = fp.FeatureEngine(fset, "rust")
        assert self.engine.bind_market(self.native)
        self.events = events

    def turn_to(self, events: EventBatch) -> None:
        assert events is self.events

    def push(self, start: int, stop: int) -> Did:
        self.engine.push(self.events, start, stop)
        return Did(int(self.room[DID_WORD]))

    def reconnect(self, symbol_id: int) -> None:
        super().reconnect(symbol_id)
        self.engine.reconnect(symbol_id)


def told(books: MarketBooks) -> tuple[Any, ...]:
    """What was taken until now, and the trades of the last message."""
    tape = books.tape
    return tape.messages, tape.ts_ns, tape.local_ts_ns, tape.now_ns, tuple(books.trades())


def seen(books: MarketBooks, did: Did) -> tuple[Any, ...]:
    """What may be looked at behind a message."""
    room = books.room
    bids, asks = (int(room[4]), int(room[5])) if did & Did.LEVELS else (0, 0)
    first = HEAD_WORDS + 2 * books.levels
    return (
        room[:6].tolist(),
        room[DID_WORD:HEAD_WORDS].tolist(),
        room[HEAD_WORDS : HEAD_WORDS + 2 * bids].tolist(),
        room[first : first + 2 * asks].tolist(),
        room[6:13].tolist() if did & Did.TWO_SIDED else None,
        told(books),
    )


def answer(books: MarketBooks, start: int, stop: int) -> tuple[Did, tuple[Any, ...]]:
    """What a message did, and what is seen then; or the error."""
    try:
        did = books.push(start, stop)
    except FeaturePlaneError as error:
        return Did(0), (type(error), str(error))
    return did, seen(books, did)


def compare(events: EventBatch, *, levels: bool = True, sums: bool = True) -> Did:
    """Compare every message; all that was ever done."""
    books = [
        MarketBooks(events.instruments, events.options, levels=LEVELS, backend=b) for b in ("python", "rust")
    ]
    books += [Carried(events, fset) for fset in (V1, V2, TRADES)]
    for one in books:
        one.turn_to(events)
        one.watch(levels=levels, sums=sums)
    start, all_did = 0, Did(0)
    for number, stop in enumerate(events.message_ends.tolist()):
        if number % 97 == 96:
            for one in books:
                one.reconnect(events.instruments[0].symbol_id)
                one.tape.lose(events.instruments[0].symbol_id)
        if number % 7 == 6:
            touches = [list(one.tape.touches()) for one in books]
            assert all(one == touches[0] for one in touches)
        answers = [answer(one, start, stop) for one in books]
        assert all(one == answers[0] for one in answers), (start, stop)
        if number % 11 == 10:
            for one in books:
                one.tape.take_back()
        assert len({told(one)[:4] for one in books}) == 1
        all_did |= answers[0][0]
        if isinstance(answers[0][1][0], type):
            break
        start = stop
    return all_did


@pytest.mark.parametrize("seed", range(60))
def test_any_messages_are_seen_alike(seed: int) -> None:
    compare(any_batch(seed, 300))


def test_a_faulty_stream_is_seen_alike_and_does_everything() -> None:
    assert compare(synthetic(3_000, seed=5, symbols=2)) == Did(127)


def test_what_nobody_looks_at_is_not_shown() -> None:
    events = synthetic(2_000, seed=6, symbols=2)
    always = Did.BOOK | Did.TRADES | Did.GAP | Did.WHOLE
    assert compare(events, levels=False, sums=False) == always
    assert compare(events, levels=True, sums=False) == always | Did.READABLE | Did.LEVELS
    assert compare(events, levels=False, sums=True) == always | Did.READABLE | Did.TWO_SIDED


def test_books_that_are_carried_refuse_what_they_refuse_alone() -> None:
    events = synthetic(50, seed=1)
    ends = events.message_ends.tolist()
    books = Carried(events, V1)
    for start, stop in ((0, 0), (0, ends[1]), (0, len(events) + 1), (ends[0], ends[0])):
        with pytest.raises(SettingError):
            books.push(start, stop)
    assert books.push(0, ends[0]) >= 0
    assert not books.engine.bind_market(None)
    assert books.engine.push(events, ends[0], ends[-1]) is not None
    assert not fp.FeatureEngine(V1, "python").bind_market(books.native)


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
