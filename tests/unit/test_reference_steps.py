"""Steps, ticks, clocks, what frames say of change and readiness, saved state (rules 5, 6, 7, 10)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureplane.errors import EmptyStream, FeatureSetMismatch, MalformedEvent, SettingError
from featureplane.features import kernels as k
from featureplane.features.catalog import feature_set as shipped
from featureplane.features.engine import FeatureEngine
from featureplane.features.frame import FeatureFrame
from featureplane.features.reference import ReferenceEngine
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch, EventFlag, Kind, Side, StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.quality import Quality
from featureplane.market.synthetic import Faults, synthetic_events
from tests.streams import (
    MS,
    START_NS,
    Change,
    as_array,
    ask,
    bid,
    buy,
    engine,
    feature_set,
    frames,
    instrument,
    message,
    sell,
    snapshot,
    source,
    status,
)

COUNT = feature_set(count=k.trade_count())
MIXED = feature_set(mid=k.mid_x2(), count=k.trade_count())
BEGIN = snapshot(bid(99, 5), ask(101, 5), last=10)


def column(found: list[FeatureFrame], feature_id: str) -> list[Any]:
    return [frame[feature_id] for frame in found]


def book_message(i: int, *changes: Any, at: float | None = None) -> Any:
    return message(*changes, ids=(9 + i, 10 + i), at=i if at is None else at)


# -- steps


def test_rule_5_1_every_book_message_is_a_step_changed_or_not() -> None:
    found = frames(
        feature_set(mid=k.mid_x2()), [BEGIN, book_message(1, bid(99, 5)), book_message(2, bid(1, 0))]
    )
    assert [frame.seq for frame in found] == [1, 2, 3]
    assert [frame.changed for frame in found] == [1, 0, 0]


def test_rule_5_1_what_is_no_step_moves_no_clock() -> None:
    """A set that reads the book alone does not know that trades happened."""
    survival = feature_set(ms=k.tob_survival_ms())
    stream = [
        BEGIN,
        book_message(1, bid(100, 1)),
        message(buy(101, 1), at=50),
        book_message(2, bid(1, 1), at=3),
    ]
    assert column(frames(survival, stream), "ms") == [None, 0, 2]
    with_trades = feature_set(ms=k.tob_survival_ms(), count=k.trade_count())
    assert column(frames(with_trades, stream), "ms") == [None, 0, 49, 49]


def test_rule_2_5_trades_that_are_not_market_trades_make_no_step() -> None:
    insurance = message(buy(101, 1, EventFlag.NOT_MARKET), ids=(1, 2))
    assert frames(COUNT, [insurance]) == []
    found = frames(COUNT, [message(buy(101, 1), ids=(1, 2)), insurance, message(buy(101, 1), ids=(2, 3))])
    assert column(found, "count") == [1, 2]


def test_rule_2_4_quotes_make_no_step() -> None:
    quote = message(Change(Kind.QUOTE, Side.BID, 99, 1), Change(Kind.QUOTE, Side.ASK, 101, 1), ids=(0, 11))
    assert len(frames(MIXED, [BEGIN, quote])) == 1


def test_rules_3_1_and_3_8_arrival_orders_messages_and_time_does_not() -> None:
    earlier = [BEGIN, book_message(1, bid(100, 1), at=50), book_message(2, bid(100, 0), at=20)]
    found = frames(feature_set(bid=k.best_bid()), earlier)
    assert column(found, "bid") == [99, 100, 99]
    assert [frame.source_ts_ns for frame in found] == [START_NS, START_NS + 50 * MS, START_NS + 20 * MS]
    without_ids = [
        snapshot(bid(99, 5), ask(101, 5), at=9),
        message(bid(100, 1), at=9),
        message(bid(98, 1), at=3),
    ]
    assert len(frames(MIXED, without_ids)) == 3


def test_rule_5_2_trades_come_before_the_book_and_see_the_one_before() -> None:
    """Without sides: 101 is above the mid of 100 before the message, and below that of 102 after it."""
    signed = feature_set(signed=k.signed_qty(), mid=k.mid_x2())
    sweep = message(buy(101, 3)._replace(side=0), ask(101, 0), ask(105, 1), bid(101, 1), ids=(10, 11), at=1)
    found = frames(signed, [BEGIN, sweep], feed=source(trade_sides=False))
    assert column(found, "signed") == [None, 3]
    assert column(found, "mid") == [200, 206]


def test_rule_5_2_every_trade_is_a_tick() -> None:
    trades = feature_set(diff=k.diff(k.trade_price()), total=k.cumsum(k.signed_qty()))
    found = frames(trades, [message(buy(101, 3), sell(99, 1), buy(104, 2))])
    assert column(found, "diff") == [5]
    assert column(found, "total") == [4]


def test_rule_5_2_one_sided_inputs_advance_when_their_side_is_there() -> None:
    sides = feature_set(bids=k.cumsum(k.qty("bid")), both=k.cumsum(k.spread()))
    stream = [BEGIN, book_message(1, ask(101, 0)), book_message(2, bid(99, 7)), book_message(3, ask(102, 1))]
    found = frames(sides, stream)
    assert column(found, "bids") == [5, 10, 17, 24]
    assert column(found, "both") == [2, None, None, 5]


def test_rule_5_3_the_clock_never_goes_back() -> None:
    timed = feature_set(ms=k.ms_since_trade())
    found = frames(timed, [message(buy(1, 1), at=t, local=t0) for t0, t in enumerate((5, 3, 9))])
    assert column(found, "ms") == [0, 0, 0]
    mixed = feature_set(ms=k.ms_since_trade(), mid=k.mid_x2())
    found = frames(mixed, [BEGIN, message(buy(1, 1), at=5, local=1), book_message(1, bid(99, 1), at=3)])
    assert column(found, "ms") == [None, 0, 0]


def test_rule_5_4_kernels_marked_t_are_evaluated_at_every_frame() -> None:
    windows = feature_set(
        sum=k.sum_over(k.signed_qty(), ms=1000), twice=k.sum_over(k.signed_qty(), ms=1000) * 2
    )
    stream = [
        message(buy(1, 5), at=0),
        message(buy(1, 7), at=1000),
        snapshot(bid(99, 5), ask(101, 5), last=10, at=1500),
        book_message(1, bid(99, 6), at=1999),
        book_message(2, bid(99, 6), at=2000),
    ]
    with_book = FeatureSet("w", features={**windows.features, "mid": k.mid_x2()})
    found = frames(with_book, stream)
    assert column(found, "sum") == [7, 7, 0]
    assert column(found, "twice") == [14, 14, 0]


def test_rule_5_4_a_stateful_kernel_on_a_t_input_advances_with_that_inputs_inputs() -> None:
    chain = feature_set(ema=k.ema(k.sum_over(k.signed_qty(), ms=10), span=1), mid=k.mid_x2())
    stream = [
        BEGIN,
        message(buy(1, 5), ids=(1, 2), at=10),
        message(buy(1, 7), ids=(2, 3), at=11),
        book_message(1, bid(99, 6), at=40),
    ]
    assert column(frames(chain, stream), "ema") == [None, 5.0, 12.0, 12.0]


def test_reading_36_inputs_that_did_not_advance_are_read_at_the_clock() -> None:
    """At the second trade the window has moved on, though nothing of the book happened."""
    mixed = feature_set(total=k.cumsum(k.sum_over(k.ofi(), ms=10) + k.signed_qty()))
    stream = [
        BEGIN,
        book_message(1, bid(99, 8), at=10),
        message(buy(1, 100), ids=(1, 2), at=15),
        message(buy(1, 1000), ids=(2, 3), at=40),
    ]
    # 15: 3 + 100; 40: 0 + 1000. The book tick at 10 had no signed trade yet.
    assert column(frames(mixed, stream), "total") == [None, None, 103, 1103]


def test_rule_5_4_mean_over_integrates_what_was_shown() -> None:
    mean = feature_set(mean=k.mean_over(k.mid_x2(), ms=10))
    found = frames(
        mean,
        [
            BEGIN,
            book_message(1, bid(98, 1), bid(99, 0), at=6),
            book_message(2, bid(98, 0), at=8),
            book_message(3, bid(95, 1), at=10),
            book_message(4, bid(95, 2), at=14),
        ],
    )
    # [0.01, 10): 5.99 of 200, 2 of 199, 2 without a bid
    assert column(found, "mean")[:3] == [None, None, None]
    assert found[3]["mean"] == (5_990_000 * 200 + 2_000_000 * 199) / 7_990_000
    # [4.01, 14]: 1.99 of 200, 2 of 199, 2 of nothing, 4 of 196
    assert found[4]["mean"] == (1_990_000 * 200 + 2_000_000 * 199 + 4_000_000 * 196) / 7_990_000


# -- readiness


def test_rule_7_1_warm_ups_count_own_advances() -> None:
    found = frames(
        shipped("lob_shared_v1"), [BEGIN, *(book_message(i, bid(99, 5 + i)) for i in range(1, 10))]
    )
    specs = shipped("lob_shared_v1").specs
    for i, frame in enumerate(found, start=1):
        ready = {spec.feature_id for spec in specs if frame.ready >> spec.index & 1}
        assert ready == {spec.feature_id for spec in specs if spec.warmup_min_events <= i}, i


def test_rule_7_2_an_input_undefined_now_silences_and_the_state_goes_on() -> None:
    chain = feature_set(ofi=k.ofi(), cum=k.cumsum(k.ofi()))
    stream = [
        BEGIN,
        book_message(1, bid(99, 8)),
        book_message(2, bid(99, 0)),
        book_message(3, bid(99, 20)),
        message(buy(1, 1), at=4),
    ]
    found = frames(FeatureSet("c", features={**chain.features, "count": k.trade_count()}), stream)
    assert column(found, "ofi") == [None, 3, None, 12, 12]  # compared with the last valid touch
    assert column(found, "cum") == [None, 3, None, 15, 15]


def test_rule_7_2_no_solution_is_no_flag() -> None:
    flat = feature_set(z=k.zscore(k.spread(), window=2), ratio=k.spread() / (k.spread() - k.spread()))
    found = frames(flat, [BEGIN, book_message(1, bid(99, 6))])
    assert column(found, "z") == [None, None]
    assert found[-1].flags == Quality(0)


def test_rule_6_ready_says_defined_and_changed_compares_with_the_frame_before() -> None:
    found = frames(
        feature_set(bid=k.best_bid(), ask=k.best_ask()),
        [BEGIN, book_message(1, bid(100, 1)), book_message(2, ask(101, 0)), book_message(3, ask(101, 1))],
    )
    assert [frame.ready for frame in found] == [0b11, 0b11, 0b01, 0b11]
    assert [frame.changed for frame in found] == [0b11, 0b01, 0b10, 0b10]


def test_rule_6_masks_of_more_than_64_features_are_several_words() -> None:
    many = FeatureSet("many", features={f"f{i}": k.best_bid() + i for i in range(70)})
    (found,) = frames(many, [BEGIN])
    assert found.ready == found.changed == (1 << 70) - 1


# -- choice of frames


def stream_of_changes() -> list[Any]:
    return [
        BEGIN,
        book_message(1, bid(99, 6)),
        book_message(2, bid(100, 6)),
        book_message(3, bid(100, 7)),
        book_message(4, bid(100, 8)),
        book_message(5, bid(101, 8)),
        book_message(6, bid(101, 0)),
        book_message(7, bid(100, 1)),
    ]


MID = feature_set(mid=k.mid_x2())


def test_rule_5_5_change_gives_frames_in_which_something_changed() -> None:
    found = frames(MID, stream_of_changes(), emit="change")
    everything = frames(MID, stream_of_changes())
    assert [frame.seq for frame in found] == [1, 2, 3, 6, 7]
    assert found == [frame for frame in everything if frame.seq in {1, 2, 3, 6, 7}]


def test_rule_5_6_every_n_keeps_by_seq_and_ors_what_lies_between() -> None:
    found = frames(MID, stream_of_changes(), every=3)
    assert [frame.seq for frame in found] == [3, 6]
    assert [frame.flags for frame in found] == [Quality.STATE_RESET, Quality.CROSSED_BOOK]
    assert [frame.changed for frame in found] == [1, 1]
    assert column(found, "mid") == [201, None]


def test_rule_5_6_a_grid_keeps_the_last_frame_at_or_before_each_point() -> None:
    stream = [
        snapshot(bid(99, 5), ask(105, 5), last=10, at=0.5),
        book_message(1, bid(100, 1), at=1.9),
        book_message(2, bid(101, 1), at=2),
        book_message(3, bid(102, 1), at=2.1),
        book_message(4, bid(103, 1), at=9.5),
        book_message(5, bid(104, 1), at=10),
    ]
    one = engine(feature_set(bid=k.best_bid()), every="2ms")
    found = [
        (frame["bid"], (grid - START_NS) / MS, frame.flags) for frame, grid in one.process(as_array(stream))
    ]
    assert found == [(101, 2, Quality.STATE_RESET), (102, 4, Quality(0))]


def test_rule_5_5_choice_changes_no_value() -> None:
    everything = {frame.seq: frame.values for frame in frames(MID, stream_of_changes())}
    for how in ({"emit": "change"}, {"every": 2}, {"every": "1ms"}, {"emit": "change", "every": 2}):
        assert all(everything[frame.seq] == frame.values for frame in frames(MID, stream_of_changes(), **how))


@pytest.mark.parametrize("every", [0, -1, "0ms", "1", "ms", "1.5s", True])
def test_a_choice_that_is_none_is_refused(every: Any) -> None:
    with pytest.raises(SettingError):
        engine(MID, every=every)


# -- saved state


def synthetic_instrument(events: Any, **fields: Any) -> Instrument:
    return instrument(
        symbol_id=int(events["symbol_id"][0]),
        tick_size="0.01",
        vpin_bucket="1000",
        price_exponent=2,
        **fields,
    )


ALL_KERNELS = FeatureSet(
    "all",
    features={
        **shipped("lob_shared_v2").features,
        "price": k.trade_price(),
        "sum": k.trade_price() - k.best_bid(),
        "std": k.std(k.spread(), window=5),
        "std_over": k.std_over(k.spread(), ms=50),
        "lag": k.lag(k.mid_x2(), n=3),
        "min": k.min(k.spread(), window=4),
        "time": k.ema_time(k.spread(), half_life_ns=20 * MS),
        "deep": k.level_price("ask", 8),
    },
)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 50),
    cut=st.integers(1, 400),
    order_level=st.booleans(),
    options=st.sampled_from([{}, {"on_gap": "continue"}, {"seed": "increments", "seed_after": 20}]),
)
def test_rule_10_5_state_travels(seed: int, cut: int, *, order_level: bool, options: dict[str, Any]) -> None:
    """One engine over all, or one up to the cut and another from its saved state: the same frames."""
    often = Faults(**dict.fromkeys(("gap_book", "gap_trades", "crossed_long", "halt", "jump"), 4000))
    events = synthetic_events(1000, seed=seed, faults=often, order_level=order_level)
    about, feed = synthetic_instrument(events), source()
    ends = np.flatnonzero(events["flags"] & EventFlag.LAST) + 1
    place = int(ends[min(cut, len(ends)) - 1])

    def fresh() -> ReferenceEngine:
        return ReferenceEngine(ALL_KERNELS, (about,), feed, StreamOptions(**options))

    straight = fresh()
    whole = [frame.pack() for frame, _ in straight.process(events)]
    first, second = fresh(), fresh()
    split = [frame.pack() for frame, _ in first.process(events[:place])]
    state = first.snapshot(about.symbol_id)
    second.restore(about.symbol_id, state)
    assert second.snapshot(about.symbol_id) == state
    split += [frame.pack() for frame, _ in second.process(events[place:])]
    assert split == whole
    assert second.snapshot(about.symbol_id) == straight.snapshot(about.symbol_id)


def test_rule_10_5_a_state_of_something_else_is_refused() -> None:
    one, other = engine(MID), engine(feature_set(bid=k.best_bid()))
    list(one.process(as_array([BEGIN, status(2, at=1)])))
    state = one.snapshot(7)
    with pytest.raises(FeatureSetMismatch):
        other.restore(7, state)
    for broken in (
        b"",
        state[:-8],
        state + bytes(8),
        bytes(8) + state[8:],
        state[:24] + bytes([9]) + state[25:],
    ):
        with pytest.raises(MalformedEvent):
            engine(MID).restore(7, broken)


@given(st.binary(max_size=400), st.integers(0, 400))
def test_rule_10_5_any_bytes_are_a_state_or_refused(data: bytes, at: int) -> None:
    one = engine(MID)
    list(one.process(as_array([BEGIN])))
    state = one.snapshot(7)
    try:
        one.restore(7, state[:at] + data + state[at + len(data) :])
    except (MalformedEvent, FeatureSetMismatch):
        return
    list(one.process(as_array([book_message(1, bid(99, 6))])))


# -- the public door


def batch(*messages: Any, **options: Any) -> EventBatch:
    return EventBatch(as_array(messages), (instrument(),), source(), StreamOptions(**options))


def test_frames_of_a_replay_stay_what_they_are() -> None:
    found = list(FeatureEngine(MID, backend="python").replay(batch(*stream_of_changes())))
    assert found == frames(MID, stream_of_changes())
    assert column(found, "mid") == [200, 200, 201, 201, 201, None, 201, 201]


def test_several_batches_are_one_stream() -> None:
    one = FeatureEngine(MID, backend="python")
    parts = [batch(message_) for message_ in stream_of_changes()]
    assert list(one.replay(parts)) == frames(MID, stream_of_changes())
    with pytest.raises(EmptyStream):
        next(one.replay([]))


def test_a_replay_begins_anew_and_counts_what_was_dropped() -> None:
    one = FeatureEngine(MID, backend="python", emit="change")
    stream = batch(BEGIN, book_message(1, bid(99, 6)), book_message(1, bid(99, 6)))
    assert list(one.replay(stream)) == list(one.replay(stream))
    assert one.dropped == {"duplicate": 1}


def test_symbols_do_not_know_each_other() -> None:
    events = synthetic_events(3000, seed=5, symbols=3)
    ids = list(dict.fromkeys(events["symbol_id"].tolist()))
    about = tuple(instrument(symbol=str(i), symbol_id=i) for i in ids)
    both = FeatureSet("b", features={"mid": k.mid_x2(), "count": k.trade_count()})
    together = [frame for frame, _ in ReferenceEngine(both, about, source()).process(events)]
    for one in about:
        alone = ReferenceEngine(both, (one,), source())
        own = [frame for frame, _ in alone.process(events[events["symbol_id"] == one.symbol_id])]
        assert [frame.pack() for frame in together if frame.symbol_id == one.symbol_id] == [
            f.pack() for f in own
        ]
    assert {frame.symbol for frame in together} == {str(i) for i in ids}
