"""Messages: where they end, what is refused, which channel they are of."""

from __future__ import annotations

import pytest

from featureplane.errors import MalformedEvent, UnknownSymbol
from featureplane.market.events import EventFlag, Kind, Side
from featureplane.market.messages import Channel, Message, MessageReader
from tests.streams import (
    SYMBOL_ID,
    Change,
    as_array,
    ask,
    bid,
    buy,
    message,
    sell,
)


def test_rule_2_2_a_message_ends_with_last() -> None:
    reader = MessageReader([SYMBOL_ID])
    events = as_array([message(bid(99, 1), ask(101, 1)), message(bid(99, 2), ids=(1, 2))])
    assert [len(one.events) for one in reader.read(events)] == [2, 1]
    assert reader.offset == 3 * 64
    assert not reader.pending


def test_rule_2_2_a_message_cut_off_by_the_end_is_incomplete() -> None:
    reader = MessageReader([SYMBOL_ID])
    assert list(reader.read(as_array([message(bid(99, 1), ask(101, 1))])[:1])) == []
    assert reader.pending
    assert reader.finish() == 1


def test_rule_2_2_a_message_may_be_cut_by_the_end_of_a_piece() -> None:
    reader = MessageReader([SYMBOL_ID])
    events = as_array([message(bid(99, 1), ask(101, 1))])
    assert list(reader.read(events[:1])) == []
    (whole,) = reader.read(events[1:])
    assert len(whole.events) == 2


@pytest.mark.parametrize(
    ("field", "value", "found", "expected"),
    [
        pytest.param("kind", 7, "kind 7", "kind 1 to 6 or 10 to 13", id="kind"),
        pytest.param("flags", 1 << 8 | 1, "flags 0x0101", "bits 0 to 7", id="flags"),
        pytest.param("side", 0, "side 0 for kind 1", "side 1 or 2", id="side of a level"),
        pytest.param("side", 3, "side 3 for kind 1", "side 1 or 2", id="side beyond"),
        pytest.param("price", 1 << 53, f"price {1 << 53}", "a magnitude below 2^53", id="price"),
        pytest.param(
            "price", -(1 << 53), f"price {-(1 << 53)}", "a magnitude below 2^53", id="negative price"
        ),
        pytest.param("qty", -1, "qty -1", "0 to 2^53 - 1", id="negative size"),
        pytest.param("qty", 1 << 53, f"qty {1 << 53}", "0 to 2^53 - 1", id="size"),
        pytest.param("seq_prev", 9, "ids (9, 0]", "ids in ascending order", id="ids"),
        pytest.param("source_ts_ns", -1, "source_ts_ns -1", "0 to 2^62 - 1", id="source time"),
        pytest.param("local_ts_ns", 1 << 62, f"local_ts_ns {1 << 62}", "0 to 2^62 - 1", id="local time"),
    ],
)
def test_rule_1_2_what_no_rule_accepts_is_refused(field: str, value: int, found: str, expected: str) -> None:
    events = [*message(bid(99, 1)), *[one._replace(**{field: value}) for one in message(bid(98, 1))]]
    with pytest.raises(MalformedEvent) as caught:
        list(MessageReader([SYMBOL_ID]).read(as_array([events])))
    assert (caught.value.found, caught.value.expected, caught.value.offset) == (found, expected, 64)


def test_rule_2_2_events_of_one_message_share_their_head() -> None:
    events = [*message(bid(99, 1), ask(101, 1), at=1)[:1], *message(ask(101, 1), at=2)]
    with pytest.raises(MalformedEvent) as caught:
        list(MessageReader([SYMBOL_ID]).read(as_array([events])))
    assert caught.value.found == "another message"


def test_rule_2_1_a_symbol_nobody_declared_is_refused() -> None:
    with pytest.raises(UnknownSymbol):
        list(MessageReader([1, 2], on_malformed="drop").read(as_array([message(bid(99, 1))])))


def test_rule_10_1_drop_takes_the_whole_message() -> None:
    spoiled = message(bid(99, 1), ask(101, 1), bid(98, 1))
    spoiled[1] = spoiled[1]._replace(qty=-1)
    reader = MessageReader([SYMBOL_ID], on_malformed="drop")
    first, second = reader.read(as_array([spoiled, message(bid(99, 2), ids=(1, 2))]))
    assert (first.malformed, second.malformed) == (True, False)
    assert len(first.events) == 3


def test_reading_2_a_cut_message_is_dropped_alone() -> None:
    cut = message(bid(99, 1), ask(101, 1), at=1)[:1]
    reader = MessageReader([SYMBOL_ID], on_malformed="drop")
    first, second = reader.read(as_array([cut, message(bid(99, 2), ids=(1, 2), at=2)]))
    assert (first.malformed, second.malformed, second.seq_last) == (True, False, 2)


@pytest.mark.parametrize(
    ("changes", "channel"),
    [
        ([buy(1, 1), sell(1, 1)], Channel.TRADE),
        ([Change(Kind.QUOTE, Side.BID, 1, 1)], Channel.QUOTE),
        ([Change(Kind.STATUS, qty=3)], Channel.STATUS),
        ([buy(1, 1), bid(1, 1)], Channel.BOOK),
        ([buy(1, 1), Change(Kind.STATUS, qty=3)], Channel.BOOK),
    ],
)
def test_rule_2_4_channels(changes: list[Change], channel: Channel) -> None:
    assert Message(message(*changes)).channel is channel


def test_rule_2_5_trades_that_are_not_market_trades_are_no_trades() -> None:
    one = Message(message(buy(1, 1, EventFlag.NOT_MARKET), buy(2, 1), sell(3, 1, EventFlag.HIDDEN)))
    assert [event.price for event in one.trades] == [2, 3]
