"""The guard, rule by rule: what is applied, kept, dropped, and what that raises."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import SequenceGap
from featureplane.market.events import Kind, Side
from featureplane.market.messages import Event, Message
from featureplane.market.quality import (
    BUFFER_MESSAGES,
    Admission,
    Base,
    BookState,
    Cause,
    Drop,
    Outcome,
    Quality,
    Reads,
    StreamGuard,
)
from tests.streams import (
    MS,
    START_NS,
    Change,
    ask,
    bid,
    buy,
    clear,
    message,
    order,
    snapshot,
    status,
)

BOTH = Reads.BOOK | Reads.TRADES


def guard(**options: object) -> StreamGuard:
    return StreamGuard("ABC", **options)  # type: ignore[arg-type] # one door for all options


def whole_guard(last: int = 100, **options: object) -> StreamGuard:
    """A guard whose book has begun with a snapshot at id `last`; nothing pends."""
    one = guard(**options)
    take(one, snapshot(bid(99, 1), ask(101, 1), last=last))
    one.pending_flags, one.pending_resets = Quality(0), Reads.NOTHING
    return one


def take(one: StreamGuard, events: list[Event]) -> Admission:
    return one.admit(Message(events))


def diff(prev: int, last: int, **head: Any) -> list[Event]:
    return message(bid(99, last), ids=(prev, last), **head)


def deal(prev: int, last: int, **head: Any) -> list[Event]:
    return message(buy(100, last), ids=(prev, last), **head)


def applied_ids(admission: Admission) -> list[int]:
    return [one.seq_last for one in admission.messages]


def test_rule_1_2_empty_trades_are_dropped() -> None:
    one = guard()
    mixed = Message(message(buy(100, 0), buy(101, 5), ids=(0, 2)))
    assert [event.qty for event in mixed.events] == [5]
    one.admit(mixed)
    assert one.dropped == {Drop.EMPTY_TRADE: 1}


def test_rule_2_4_quotes_touch_nothing() -> None:
    one = whole_guard()
    quote = message(Change(Kind.QUOTE, Side.BID, 99, 1), Change(Kind.QUOTE, Side.ASK, 101, 1), ids=(0, 500))
    assert take(one, quote).outcome is Outcome.IGNORED
    assert one.book.applied == 100


# -- sequences


@pytest.mark.parametrize(
    ("prev", "last", "outcome", "reason"),
    [
        pytest.param(90, 100, Outcome.IGNORED, Drop.BEFORE_SNAPSHOT, id="at the base"),
        pytest.param(100, 110, Outcome.IGNORED, Drop.DUPLICATE, id="applied"),
        pytest.param(105, 108, Outcome.IGNORED, Drop.DUPLICATE, id="inside what is applied"),
        pytest.param(110, 120, Outcome.APPLIED, None, id="next"),
        pytest.param(105, 120, Outcome.APPLIED, None, id="an overlap is harmless"),
        pytest.param(111, 120, Outcome.BROKE, None, id="gap"),
        pytest.param(0, 0, Outcome.APPLIED, None, id="no ids"),
    ],
)
def test_rule_3_3_the_table(prev: int, last: int, outcome: Outcome, reason: Drop | None) -> None:
    one = whole_guard(100)
    take(one, diff(100, 110))
    assert take(one, message(bid(99, 1), ids=(prev, last))).outcome is outcome
    assert one.dropped == ({reason: 1} if reason else {})


def test_rule_3_3_a_duplicate_leaves_no_trace() -> None:
    one = whole_guard(100)
    take(one, diff(100, 110))
    take(one, diff(100, 110))
    assert (one.book.applied, one.pending_flags, one.pending_resets) == (110, Quality(0), Reads.NOTHING)


def test_rule_3_3_an_overlap_of_orders_is_a_gap() -> None:
    one = whole_guard(100)
    change = order(Kind.CANCEL, 5, Side.BID, 99, 1)
    assert take(one, message(change, ids=(100, 110))).outcome is Outcome.APPLIED
    assert take(one, message(change, ids=(105, 120))).outcome is Outcome.BROKE


def test_rule_3_3_what_a_gap_passed_over_left_behind_is_late() -> None:
    one = whole_guard(100, on_gap="continue")
    take(one, diff(120, 130))
    one.pending_flags = Quality(0)
    assert take(one, diff(100, 120)).outcome is Outcome.IGNORED
    assert one.dropped == {Drop.LATE: 1}
    assert one.pending_flags == Quality.OUT_OF_ORDER_INPUT


def test_rule_3_4_a_trade_channel_is_always_whole_and_begins_with_its_first_message() -> None:
    one = guard()
    assert take(one, deal(7, 8)).outcome is Outcome.TRADES
    assert (one.trades.base, one.trades.applied) == (7, 8)
    assert take(one, deal(6, 7)).outcome is Outcome.IGNORED
    assert one.dropped == {Drop.LATE: 1}


def test_rule_3_5_a_gap_in_trades_resets_their_kernels_and_is_applied() -> None:
    one = whole_guard()
    take(one, deal(7, 8))
    assert take(one, deal(10, 11)).outcome is Outcome.TRADES
    assert (one.pending_flags, one.pending_resets) == (Quality.GAP_DETECTED, Reads.TRADES)
    assert one.is_whole
    assert take(one, deal(8, 9)).outcome is Outcome.IGNORED
    assert one.dropped[Drop.LATE] == 1


def test_reading_21_a_set_that_reads_no_trades_never_hears_of_their_gaps() -> None:
    one = whole_guard(reads=Reads.BOOK)
    take(one, deal(7, 8))
    take(one, deal(10, 11))
    take(one, deal(8, 9))
    assert (one.pending_flags, one.pending_resets) == (Quality(0), Reads.NOTHING)
    assert one.gaps == {"trade": 1}


def test_rule_3_5_refuse_raises_at_any_gap() -> None:
    one = whole_guard(100, on_gap="refuse")
    with pytest.raises(SequenceGap) as caught:
        take(one, diff(105, 110))
    assert (caught.value.channel, caught.value.expected, caught.value.got) == ("book", 100, 105)


# -- books that are not whole


def test_rule_3_4_a_book_waits_and_keeps_messages() -> None:
    one = guard()
    assert take(one, diff(90, 95)).outcome is Outcome.HELD
    assert (one.state, len(one.buffer)) == (BookState.WAITING, 1)


def test_rule_3_4_the_oldest_goes_when_the_buffer_is_full() -> None:
    one = guard()
    for i in range(BUFFER_MESSAGES + 2):
        take(one, diff(i, i + 1))
    assert len(one.buffer) == BUFFER_MESSAGES
    assert one.buffer[0].seq_last == 3
    assert one.dropped == {Drop.BUFFER_OVERFLOW: 2}


def test_reading_11_a_held_message_is_held_once() -> None:
    one = guard()
    take(one, diff(90, 95))
    assert take(one, diff(90, 95)).outcome is Outcome.IGNORED
    assert one.dropped == {Drop.DUPLICATE: 1}


def test_rule_3_4_without_ids_a_book_begins_with_a_snapshot_or_a_clear() -> None:
    one = guard()
    assert take(one, message(bid(99, 1))).outcome is Outcome.HELD
    assert one.buffer == []
    admission = take(one, message(clear(), bid(99, 1)))
    assert (admission.outcome, admission.begins, one.state) == (Outcome.APPLIED, True, BookState.WHOLE)
    assert one.pending_resets == Reads.NOTHING


def test_rule_3_7_increments_begin_with_the_first_message() -> None:
    one = guard(seed="increments")
    assert take(one, diff(90, 95)).outcome is Outcome.APPLIED
    assert (one.book.kind, one.book.base, one.book.applied) == (Base.FIRST, 90, 95)
    assert one.standing_flags == Quality.PARTIAL_FEATURES


def test_reading_20_a_snapshot_or_enough_frames_make_a_book_of_increments_whole() -> None:
    by_frames = guard(seed="increments", seed_after=1)
    take(by_frames, diff(90, 95))
    by_frames.frame_made()
    assert by_frames.standing_flags == Quality(0)
    by_snapshot = guard(seed="increments")
    take(by_snapshot, diff(90, 95))
    take(by_snapshot, snapshot(bid(99, 1), last=96))
    assert by_snapshot.standing_flags == Quality(0)


def test_rule_3_5_a_gap_breaks_the_book_and_is_kept() -> None:
    one = whole_guard(100)
    assert take(one, diff(105, 110)).outcome is Outcome.BROKE
    assert (one.state, one.cause, len(one.buffer)) == (BookState.BROKEN, Cause.GAP, 1)
    assert one.broken == {"gap": 1}
    assert one.pending_flags == Quality(0)


def test_rule_3_5_continue_passes_over_until_a_snapshot() -> None:
    one = whole_guard(100, on_gap="continue")
    assert take(one, diff(105, 110)).outcome is Outcome.APPLIED
    assert (one.book.base, one.book.applied) == (105, 110)
    assert one.pending_resets == Reads.BOOK
    assert one.standing_flags == Quality.GAP_DETECTED | Quality.PARTIAL_FEATURES
    take(one, snapshot(bid(99, 1), last=120))
    assert one.standing_flags == Quality(0)
    assert one.pending_flags == Quality.GAP_DETECTED


def test_rule_3_4_the_missing_message_heals() -> None:
    one = whole_guard(100)
    take(one, diff(105, 110, at=1))
    take(one, diff(110, 115, at=5))
    healed = take(one, diff(100, 105, at=2, local=9))
    assert healed.outcome is Outcome.APPLIED
    assert applied_ids(healed) == [105, 110, 115]
    assert (healed.source_ts_ns, healed.local_ts_ns) == (START_NS + 5 * MS, START_NS + 9 * MS)
    assert (one.state, one.book.base, one.book.applied) == (BookState.WHOLE, 100, 115)
    assert one.pending_flags == Quality.GAP_DETECTED | Quality.OUT_OF_ORDER_INPUT
    assert one.pending_resets == Reads.NOTHING


def test_rule_3_4_another_hole_does_not_heal() -> None:
    one = whole_guard(100)
    take(one, diff(105, 110))
    take(one, diff(112, 115))
    assert take(one, diff(100, 105)).outcome is Outcome.HELD
    assert (one.state, one.book.applied, len(one.buffer)) == (BookState.BROKEN, 100, 3)


def test_reading_14_a_crossed_book_does_not_heal() -> None:
    one = whole_guard(100)
    one.break_book(Cause.CROSSED)
    assert take(one, diff(100, 105)).outcome is Outcome.HELD


def test_rule_3_3_a_broken_book_still_drops_duplicates() -> None:
    one = whole_guard(100)
    take(one, diff(100, 104))
    take(one, diff(105, 110))
    assert take(one, diff(100, 104)).outcome is Outcome.IGNORED
    assert one.dropped == {Drop.DUPLICATE: 1}


# -- snapshots


def test_rule_3_7_kept_messages_join_the_snapshot() -> None:
    one = guard()
    take(one, diff(80, 90, at=1))
    take(one, diff(90, 99, at=2))
    take(one, diff(99, 105, at=7))
    joined = take(one, snapshot(bid(99, 1), last=95, at=0, local=20))
    assert applied_ids(joined) == [95, 99, 105]
    assert (joined.source_ts_ns, joined.local_ts_ns) == (START_NS + 7 * MS, START_NS + 20 * MS)
    assert joined.begins
    assert one.dropped == {Drop.BEFORE_SNAPSHOT: 1}
    assert (one.book.kind, one.book.base, one.book.applied) == (Base.SNAPSHOT, 95, 105)
    assert one.pending_flags == Quality.STATE_RESET
    assert one.pending_resets == BOTH & Reads.BOOK


def test_rule_3_7_the_first_message_behind_the_snapshot_may_begin_right_at_it() -> None:
    """Spot: `U = lastUpdateId + 1`."""
    one = guard()
    take(one, diff(95, 105))
    assert take(one, snapshot(bid(99, 1), last=95)).outcome is Outcome.APPLIED
    assert one.book.applied == 105


def test_rule_3_7_times_of_dropped_messages_count_and_none_is_local() -> None:
    one = guard()
    take(one, diff(80, 90, at=30))
    joined = take(one, snapshot(bid(99, 1), last=95, at=0, local=20))
    assert joined.source_ts_ns == START_NS + 30 * MS
    timeless = [event._replace(source_ts_ns=0) for event in snapshot(bid(99, 1), last=95, local=20)]
    assert take(guard(), timeless).source_ts_ns == START_NS + 20 * MS


def test_rule_3_7_a_snapshot_too_old_is_ignored() -> None:
    one = guard()
    take(one, diff(97, 105))
    assert take(one, snapshot(bid(99, 1), last=95)).outcome is Outcome.IGNORED
    assert (one.state, len(one.buffer)) == (BookState.WAITING, 1)
    assert one.dropped == {Drop.SNAPSHOT_TOO_OLD: 1}


def test_reading_13_a_snapshot_older_than_the_book_that_broke_is_too_old() -> None:
    one = whole_guard(100)
    one.break_book(Cause.CROSSED)
    assert take(one, snapshot(bid(99, 1), last=90)).outcome is Outcome.IGNORED
    assert take(one, snapshot(bid(99, 1), last=100)).outcome is Outcome.APPLIED


def test_rule_3_7_a_snapshot_of_a_whole_book_is_redundant_unless_newer() -> None:
    one = whole_guard(100)
    assert take(one, snapshot(bid(99, 1), last=100)).outcome is Outcome.IGNORED
    assert one.dropped == {Drop.REDUNDANT: 1}
    assert take(one, snapshot(bid(99, 1), last=101)).outcome is Outcome.APPLIED
    assert (one.pending_flags, one.pending_resets) == (Quality(0), Reads.BOOK)


def test_rule_3_7_a_gap_inside_the_kept_ones_breaks_again() -> None:
    one = guard()
    take(one, diff(90, 105))
    take(one, diff(110, 115))
    torn = take(one, snapshot(bid(99, 1), last=95))
    assert torn.outcome is Outcome.UNFINISHED
    assert applied_ids(torn) == [95, 105]
    assert (one.state, one.book.applied, len(one.buffer)) == (BookState.BROKEN, 105, 1)
    assert one.pending_resets == Reads.BOOK
    assert take(one, diff(105, 110)).outcome is Outcome.APPLIED


def test_rule_3_7_a_plain_snapshot_is_an_ordinary_message_of_a_whole_book() -> None:
    one = whole_guard(100)
    full = snapshot(bid(99, 1), recovery=False)
    assert take(one, [e._replace(seq_prev=100, seq_last=110) for e in full]).outcome is Outcome.APPLIED
    assert one.pending_resets == Reads.NOTHING
    assert take(one, [e._replace(seq_prev=115, seq_last=120) for e in full]).outcome is Outcome.BROKE
    assert one.buffer == []
    assert take(one, [e._replace(seq_prev=120, seq_last=130) for e in full]).outcome is Outcome.APPLIED
    assert (one.is_whole, one.pending_resets) == (True, Reads.NOTHING)


def test_rule_3_7_a_recovery_snapshot_resets_and_a_broken_book_says_so() -> None:
    one = whole_guard(100)
    take(one, diff(105, 110))
    take(one, snapshot(bid(99, 1), last=120))
    assert one.pending_flags == Quality.GAP_DETECTED
    assert one.pending_resets == Reads.BOOK


def test_rule_3_6_where_trades_stand_in_book_messages_both_are_reset() -> None:
    one = whole_guard(100)
    take(one, message(buy(100, 1), bid(99, 1), ids=(100, 110)))
    take(one, snapshot(bid(99, 1), last=120))
    assert one.pending_resets == BOTH


def test_reading_16_a_gap_there_is_a_gap_in_trades_for_a_set_that_reads_only_them() -> None:
    one = whole_guard(100, reads=Reads.TRADES)
    take(one, message(buy(100, 1), bid(99, 1), ids=(100, 110)))
    take(one, message(buy(100, 1), bid(99, 1), ids=(115, 120)))
    assert (one.pending_flags, one.pending_resets) == (Quality.GAP_DETECTED, Reads.TRADES)


def test_reading_6_a_snapshot_without_ids_begins_the_chain_anew() -> None:
    one = whole_guard(100)
    assert take(one, snapshot(bid(99, 1))).outcome is Outcome.APPLIED
    assert not one.book.is_set
    assert take(one, diff(7, 8)).outcome is Outcome.APPLIED
    assert (one.book.base, one.book.applied) == (7, 8)


def test_rule_10_1_a_malformed_message_breaks_a_whole_book() -> None:
    one = whole_guard(100)
    assert one.admit(Message(diff(100, 110), malformed=True)).outcome is Outcome.SPOILED
    assert one.broken == {"malformed": 1}
    assert take(one, diff(100, 110)).outcome is Outcome.APPLIED  # the same message, sound
    assert one.admit(Message(deal(1, 2), malformed=True)).outcome is Outcome.IGNORED
    assert one.dropped == {Drop.MALFORMED: 2}


def test_rule_3_6_a_reconnect_forgets_all_ids() -> None:
    one = whole_guard(100)
    one.reconnect()
    assert (one.state, one.book.is_set) == (BookState.WAITING, False)
    assert one.pending_flags == Quality.GAP_DETECTED
    assert one.pending_resets == BOTH


def test_statuses_are_passed_on_once() -> None:
    one = guard()
    assert take(one, status(2)).outcome is Outcome.STATUS
    numbered = [event._replace(seq_prev=1, seq_last=2) for event in status(2)]
    assert take(one, numbered).outcome is Outcome.STATUS
    assert take(one, numbered).outcome is Outcome.IGNORED


@given(st.permutations(range(6)), st.integers(0, 5))
def test_rule_3_4_any_order_of_what_was_missing_ends_in_the_same_book(arrival: list[int], lost: int) -> None:
    """Whatever comes whenever: once the first hole is closed last, all has been applied once."""
    one = whole_guard(0)
    late = [i for i in arrival if i != lost] + [lost]
    seen: list[int] = []
    for i in late:
        admission = take(one, diff(10 * i, 10 * i + 10))
        if admission.outcome is Outcome.APPLIED:
            seen += applied_ids(admission)
    assert seen == sorted(set(seen))
    if one.is_whole:
        assert one.book.applied == 60
    assert all(a < b for a, b in itertools.pairwise(seen))
