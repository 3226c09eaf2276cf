"""What the guard's verdicts, resets and trading hours make of frames (rules 3 and 4)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from featureplane.errors import MalformedEvent, SequenceGap
from featureplane.features import kernels as k
from featureplane.features.frame import FeatureFrame
from featureplane.market.quality import Quality
from featureplane.market.sessions import Session
from tests.streams import (
    START_NS,
    as_array,
    ask,
    bid,
    buy,
    clear,
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

GAP, RESET, STALE = Quality.GAP_DETECTED, Quality.STATE_RESET, Quality.STALE_INPUT
LATE, PARTIAL, CROSSED = Quality.OUT_OF_ORDER_INPUT, Quality.PARTIAL_FEATURES, Quality.CROSSED_BOOK
WELL = Quality(0)

BOOK = feature_set(mid=k.mid_x2(), ofi=k.ofi())
TRADES = feature_set(price=k.trade_price(), count=k.trade_count())
BOTH = feature_set(mid=k.mid_x2(), count=k.trade_count())

BEGIN = snapshot(bid(99, 5), ask(101, 5), last=10)


def flags(found: Sequence[FeatureFrame]) -> list[Quality]:
    return [frame.flags for frame in found]


def column(found: Sequence[FeatureFrame], feature_id: str) -> list[object]:
    return [frame[feature_id] for frame in found]


# -- gaps


def test_rule_3_5_a_gap_makes_one_empty_frame_and_then_silence() -> None:
    found = frames(
        BOOK,
        [
            BEGIN,
            message(bid(99, 6), ids=(10, 11), at=1),
            message(bid(99, 7), ids=(15, 16), at=2),
            message(bid(99, 8), ids=(16, 17), at=3),
        ],
    )
    assert flags(found) == [RESET, WELL, GAP | PARTIAL]
    gap = found[-1]
    assert (gap.values, gap.ready, gap.changed) == ((None, None), 0, 0b11)
    assert (gap.seq, gap.source_ts_ns, gap.source_seq) == (3, START_NS + 2_000_000, 11)


def test_rule_3_7_the_joined_snapshot_is_one_frame_that_says_gap_and_reset() -> None:
    found = frames(
        BOOK,
        [
            BEGIN,
            message(bid(99, 7), ids=(15, 16), at=2),
            message(bid(99, 8), ids=(16, 17), at=3),
            snapshot(bid(98, 1), ask(101, 1), last=16, at=1, local=9),
            message(bid(98, 2), ids=(17, 18), at=10),
        ],
    )
    assert flags(found) == [RESET, GAP | PARTIAL, GAP | RESET, WELL]
    joined = found[2]
    assert (joined["mid"], joined.source_seq) == (200, 17)
    assert (joined.source_ts_ns, joined.local_ts_ns) == (START_NS + 3_000_000, START_NS + 9_000_000)
    assert column(found, "ofi") == [None, None, None, 0]  # 99 came with the kept message; 98 is behind it


def test_rule_3_4_a_healed_book_goes_on_without_reset() -> None:
    found = frames(
        BOOK,
        [
            BEGIN,
            message(bid(99, 6), ids=(10, 11), at=1),
            message(bid(99, 8), ids=(12, 13), at=3),
            message(bid(99, 7), ids=(11, 12), at=2, local=4),
        ],
    )
    assert flags(found) == [RESET, WELL, GAP | PARTIAL, GAP | LATE]
    assert found[-1]["ofi"] == 2  # from the last valid touch, 6, to 8
    assert found[-1].source_seq == 13


def test_rule_3_5_continue_has_no_gap_frame() -> None:
    found = frames(
        BOTH,
        [
            BEGIN,
            message(bid(98, 1), ids=(15, 16), at=1),
            message(buy(101, 1), at=2),
            snapshot(bid(99, 1), ask(101, 1), last=20, at=3),
            message(bid(98, 1), ids=(20, 21), at=4),
        ],
        on_gap="continue",
    )
    assert flags(found) == [RESET, GAP | PARTIAL | RESET, GAP | PARTIAL, GAP | RESET, WELL]
    assert column(found, "mid") == [200] * 5


def test_rule_3_5_a_gap_in_trades_leaves_the_book_alone() -> None:
    found = frames(
        BOTH,
        [BEGIN, message(buy(101, 1), ids=(1, 2), at=1), message(buy(101, 1), ids=(5, 6), at=2)],
    )
    assert flags(found) == [RESET, WELL, GAP | RESET]
    assert column(found, "count") == [None, 1, 1]
    assert column(found, "mid") == [200] * 3


def test_rule_3_3_a_late_trade_is_told_by_the_next_frame() -> None:
    found = frames(
        BOTH,
        [
            BEGIN,
            message(buy(101, 1), ids=(4, 5), at=1),
            message(buy(101, 1), ids=(2, 3), at=2),
            message(bid(99, 6), ids=(10, 11), at=3),
            message(bid(99, 7), ids=(11, 12), at=4),
        ],
    )
    assert flags(found) == [RESET, WELL, LATE, WELL]
    assert found[-1]["count"] == 1


def test_rule_3_3_a_duplicate_changes_nothing_at_all() -> None:
    twice = message(bid(99, 6), ids=(10, 11), at=1)
    stream = [BEGIN, twice, message(bid(99, 7), ids=(11, 12), at=2)]
    assert frames(BOOK, [BEGIN, twice, twice, *stream[2:]]) == frames(BOOK, stream)


def test_rule_3_5_refuse_raises_with_the_frames_before() -> None:
    stream = engine(BOOK, on_gap="refuse").process(as_array([BEGIN, message(bid(99, 7), ids=(15, 16), at=2)]))
    assert next(stream)[0].flags == RESET
    with pytest.raises(SequenceGap):
        next(stream)


def test_rule_10_1_a_malformed_message_breaks_the_book_or_raises() -> None:
    bad = message(bid(99, -1), ids=(10, 11), at=5)
    stream = [BEGIN, bad, message(bid(99, 7), ids=(10, 11), at=6)]
    found = frames(BOOK, stream, on_malformed="drop")
    assert flags(found) == [RESET, GAP | PARTIAL, GAP | LATE]
    assert found[1].source_ts_ns == START_NS + 5_000_000
    with pytest.raises(MalformedEvent) as caught:
        frames(BOOK, stream)
    assert caught.value.offset == 2 * 64


# -- waiting books and silent steps


def test_rule_5_1_a_set_that_reads_only_trades_never_waits_for_a_book() -> None:
    found = frames(
        TRADES,
        [
            message(buy(101, 1), ids=(1, 2)),
            BEGIN,
            message(bid(99, 7), ids=(15, 16)),
            message(sell(99, 1), ids=(2, 3)),
        ],
    )
    assert flags(found) == [RESET, WELL]
    assert column(found, "count") == [1, 2]
    assert [frame.source_seq for frame in found] == [0, 10]


def test_rule_3_4_silent_steps_advance_trades_and_hold_their_flags() -> None:
    found = frames(
        BOTH,
        [
            message(buy(101, 1), ids=(1, 2), at=1),
            message(buy(101, 1), ids=(5, 6), at=2),
            BEGIN,
            message(buy(101, 1), ids=(6, 7), at=3),
        ],
    )
    assert flags(found) == [RESET | GAP, WELL]
    assert column(found, "count") == [1, 2]
    assert [frame.seq for frame in found] == [1, 2]


def test_reading_15_trades_of_held_messages_are_read_once() -> None:
    begin = snapshot(bid(99, 5), ask(101, 5), last=10, recovery=False)  # which resets nothing
    held = message(buy(101, 1), bid(99, 6), ids=(10, 11), at=1)
    found = frames(BOTH, [held, begin, message(buy(101, 1), ids=(6, 7), at=3)])
    assert column(found, "count") == [1, 2]


def test_reading_41_staleness_of_a_silent_step_waits() -> None:
    found = frames(
        BOTH,
        [
            message(buy(101, 1), at=0, local=0),
            message(buy(101, 1), at=1, local=2000),
            snapshot(bid(99, 5), ask(101, 5), last=10, at=2000, local=2001),
        ],
    )
    assert flags(found) == [RESET | STALE]


def test_rule_3_7_a_book_of_increments_is_never_reported_as_complete() -> None:
    stream = [
        message(bid(99, 5), ask(101, 5), ids=(1, 2)),
        message(bid(99, 6), ids=(2, 3)),
        message(bid(99, 7), ids=(3, 4)),
    ]
    assert flags(frames(BOOK, stream, seed="increments")) == [RESET | PARTIAL, PARTIAL, PARTIAL]
    assert flags(frames(BOOK, stream, seed="increments", seed_after=2)) == [RESET | PARTIAL, PARTIAL, WELL]
    assert frames(BOOK, stream) == []


# -- resets


def test_rule_3_6_the_book_survives_a_daily_reset() -> None:
    """START is 22:13:20 UTC; midnight is 6,400 s later."""
    day = feature_set(bid=k.best_bid(), mid=k.mid_x2(), cum=k.cumsum(k.ofi()), count=k.trade_count())
    found = frames(
        day,
        [
            BEGIN,
            message(bid(99, 6), ids=(10, 11), at=1),
            message(buy(101, 1), at=6_399_999),
            message(buy(101, 1), at=6_400_000),
            message(bid(99, 7), ids=(11, 12), at=6_400_001),
            message(bid(99, 9), ids=(12, 13), at=6_400_002),
        ],
    )
    assert flags(found) == [RESET, WELL, WELL, RESET, WELL, WELL]
    assert column(found, "cum") == [None, 1, 1, None, None, 2]
    assert column(found, "count") == [None, None, 1, 1, 1, 1]
    # Rule 7.1: one book since the reset makes them warm again, though the book was there all the time.
    assert column(found, "bid") == [99, 99, 99, None, 99, 99]


@pytest.mark.parametrize(
    ("reset_at", "zone", "at"),
    [
        pytest.param("none", "UTC", None, id="never"),
        pytest.param("23:00", "UTC", 2_800_000, id="a time in UTC"),
        pytest.param("18:00", "America/New_York", 2_800_000, id="a time in New York"),
    ],
)
def test_rule_3_6_reset_at_is_a_time_of_day_of_the_exchange(reset_at: str, zone: str, at: int | None) -> None:
    times = (1, 2_799_999, 2_800_000, 6_400_000)
    stream = [BEGIN, *(message(bid(99, 6 + i), ids=(10 + i, 11 + i), at=t) for i, t in enumerate(times))]
    found = frames(BOOK, stream, about=instrument(reset_at=reset_at, time_zone=zone))
    expected = [RESET, *(RESET if t == at else WELL for t in times)]
    assert flags(found) == expected


def test_rule_3_6_a_recovery_snapshot_resets_the_kernels_of_the_book() -> None:
    found = frames(
        feature_set(ofi=k.ofi(), count=k.trade_count()),
        [
            BEGIN,
            message(buy(101, 1), at=1),
            message(bid(99, 6), ids=(10, 11), at=2),
            snapshot(bid(99, 9), ask(101, 5), last=20, at=3),
            snapshot(bid(99, 1), ask(101, 5), at=4, recovery=False),
        ],
    )
    assert flags(found) == [RESET, WELL, WELL, RESET, WELL]
    assert column(found, "ofi") == [None, None, 1, None, -8]
    assert column(found, "count") == [None, 1, 1, 1, 1]


def test_rule_3_6_explicit_reset_and_reconnect() -> None:
    one = engine(BOTH)
    list(one.process(as_array([BEGIN, message(buy(101, 1), ids=(1, 2), at=1)])))
    one.symbol(7).reset()
    (after,) = one.process(as_array([message(buy(101, 1), ids=(2, 3), at=2)]))
    assert (after[0].flags, after[0]["count"], after[0]["mid"]) == (RESET, 1, None)
    one.symbol(7).reconnect()
    assert list(one.process(as_array([message(bid(91, 1), ids=(10, 11), at=3)]))) == []
    (again,) = one.process(as_array([snapshot(bid(90, 1), ask(95, 1), last=10, at=4)]))
    assert (again[0].flags, again[0]["mid"], again[0].seq) == (GAP | RESET, 186, 4)


# -- invalid books


def test_rule_3_9_a_crossed_book_has_no_features_and_advances_nothing() -> None:
    crossing = feature_set(bid=k.best_bid(), ofi=k.ofi(), count=k.trade_count())
    found = frames(
        crossing,
        [
            BEGIN,
            message(bid(101, 3), ids=(10, 11), at=1),
            message(buy(101, 1), at=2),
            message(bid(101, 0), bid(99, 7), ids=(11, 12), at=3),
        ],
    )
    assert flags(found) == [RESET, CROSSED, CROSSED, WELL]
    assert column(found, "bid") == [99, None, None, 99]
    assert column(found, "ofi") == [None, None, None, 2]
    assert column(found, "count") == [None, None, 1, 1]


def test_rule_3_9_a_locked_book_may_be_valid() -> None:
    stream = [snapshot(bid(100, 5), ask(100, 5), last=10)]
    assert flags(frames(BOOK, stream)) == [RESET | CROSSED]
    (found,) = frames(BOOK, stream, about=instrument(locked="valid"))
    assert (found.flags, found["mid"]) == (RESET, 200)


@pytest.mark.parametrize(("has_snapshots", "last"), [(True, GAP | PARTIAL | CROSSED), (False, CROSSED)])
def test_rule_3_9_crossed_for_more_than_a_second_is_broken(*, has_snapshots: bool, last: Quality) -> None:
    found = frames(
        BOTH,
        [
            BEGIN,
            message(bid(101, 3), ids=(10, 11), at=1),
            message(buy(101, 1), at=1001),
            message(buy(101, 1), at=1002),
        ],
        feed=source(has_snapshots=has_snapshots),
    )
    assert flags(found) == [RESET, CROSSED, CROSSED, last]


def test_rule_4_a_missing_side_is_partial_for_warm_features_only() -> None:
    found = frames(
        feature_set(bid=k.best_bid(), mid=k.mid_x2()),
        [
            snapshot(bid(99, 5), last=10),
            message(ask(101, 1), ids=(10, 11)),
            message(ask(101, 0), ids=(11, 12)),
            message(clear(), ids=(12, 13)),
        ],
    )
    assert flags(found) == [RESET, WELL, PARTIAL, PARTIAL]
    assert column(found, "mid") == [None, 200, None, None]


def test_rule_7_3_a_depth_that_sums_fewer_levels_than_asked_is_partial() -> None:
    short = feature_set(depth=k.depth("bid", 2), ema=k.ema(k.depth("bid", 2), span=1))
    stream = [BEGIN, message(bid(98, 4), ids=(10, 11))]
    found = frames(short, stream)
    assert flags(found) == [RESET | PARTIAL, WELL]
    assert column(found, "depth") == [5, 9]
    assert column(found, "ema") == [5.0, 9.0]


def test_rule_7_3_a_level_the_feed_never_has_is_undefined_and_no_flag() -> None:
    deep = feature_set(
        mid=k.mid_x2(), level=k.level_price("bid", 3), mean=k.mean(k.depth("ask", 3), window=1)
    )
    found = frames(
        deep, [BEGIN, message(bid(98, 1), bid(97, 1), ids=(10, 11))], about=instrument(book_levels=2)
    )
    assert flags(found) == [RESET, WELL]
    assert column(found, "level") == [None, None]
    assert column(found, "mean") == [None, None]


def test_rule_4_overflow_is_partial() -> None:
    big = feature_set(product=k.qty("bid") * k.qty("ask"))
    (found,) = frames(big, [snapshot(bid(99, 1 << 40), ask(101, 1 << 40), last=10)])
    assert (found.flags, found["product"]) == (RESET | PARTIAL, None)


# -- trading


def test_rule_3_12_leaving_makes_an_empty_frame_and_entering_resets() -> None:
    found = frames(
        BOTH,
        [
            BEGIN,
            message(buy(101, 1), at=1),
            status(2, at=2),
            message(buy(101, 1), at=3),
            message(bid(99, 9), ids=(10, 11), at=4),
            status(0, at=5),
            status(3, at=6),
            message(buy(101, 1), at=7),
            message(bid(98, 9), ids=(11, 12), at=8),
        ],
    )
    assert flags(found) == [RESET, WELL, RESET, RESET, WELL]
    assert column(found, "count") == [None, 1, None, 1, 1]
    assert column(found, "mid") == [200, 200, None, None, 200]
    assert found[2].source_ts_ns == START_NS + 2_000_000


def test_rule_3_12_a_book_that_waits_makes_no_frame_when_trading_stops() -> None:
    assert frames(BOTH, [status(2), status(3), status(2)]) == []


SESSION = (
    Session("trading", 22 * 3600, 22 * 3600 + 14 * 60),
    Session("pre_open", 22 * 3600 + 14 * 60, 23 * 3600),
)


def test_rule_3_12_sessions_are_half_open_intervals() -> None:
    """START is 22:13:20 UTC, the session ends 40 s later."""
    found = frames(
        BOTH,
        [
            BEGIN,
            message(buy(101, 1), at=39_999),
            message(bid(99, 9), ids=(10, 11), at=40_000),
            message(buy(101, 1), at=50_000),
            message(bid(99, 8), ids=(11, 12), at=86_400_000 - 800_000 - 1),
            message(buy(101, 1), at=86_400_000 - 800_000),
        ],
        about=instrument(sessions=SESSION),
    )
    assert flags(found) == [RESET, WELL, RESET, RESET]
    assert column(found, "count") == [None, 1, None, 1]
    assert column(found, "mid") == [200, 200, None, None]


def test_rule_3_12_a_status_halts_a_session() -> None:
    stream = [
        BEGIN,
        status(2, at=1),
        message(bid(99, 9), ids=(10, 11), at=2),
        status(3, at=3),
        message(buy(1, 1), at=4),
    ]
    assert len(frames(BOTH, stream, about=instrument(sessions=SESSION))) == 3


def test_reading_31_a_gap_outside_trading_makes_no_frame() -> None:
    found = frames(
        BOOK,
        [
            BEGIN,
            status(2, at=1),
            message(bid(99, 9), ids=(15, 16), at=2),
            status(3, at=3),
            message(bid(99, 9), ids=(16, 17), at=4),
            snapshot(bid(98, 1), ask(101, 1), last=17, at=5),
        ],
    )
    assert flags(found) == [RESET, RESET, GAP | RESET]


# -- lateness


def test_rule_3_10_stale_is_told_by_the_frame_of_the_late_message() -> None:
    found = frames(
        BOOK,
        [
            snapshot(bid(99, 5), ask(101, 5), last=10, at=1000, local=0),
            message(bid(99, 6), ids=(10, 11), at=1500, local=1501),
            message(bid(99, 7), ids=(11, 12), at=1502, local=502),
        ],
    )
    assert flags(found) == [RESET, STALE, WELL]


def test_rule_3_10_a_fault_keeps_the_clock() -> None:
    timed = feature_set(ms=k.ms_since_trade())
    found = frames(
        timed,
        [
            message(buy(1, 1), at=0),
            message(buy(1, 1), at=61_000, local=10),
            message(buy(1, 1), at=20, local=20),
        ],
    )
    assert column(found, "ms") == [0, 0, 0]
    assert [frame.source_ts_ns for frame in found] == [
        START_NS,
        START_NS + 61_000_000_000,
        START_NS + 20_000_000,
    ]
