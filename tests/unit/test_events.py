"""Events and batches of them: the layout, what is refused, and how a batch is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureplane.errors import MalformedEvent, SettingError, UnknownSymbol
from featureplane.market.events import (
    EVENT_DTYPE,
    EventBatch,
    EventFlag,
    Kind,
    Side,
    SourceInfo,
    StreamOptions,
)
from featureplane.market.instruments import Instrument
from featureplane.market.messages import MessageReader

ONE = Instrument(venue="v", symbol="ONE", price_exponent=2, qty_exponent=3, symbol_id=1)
TWO = Instrument(venue="v", symbol="TWO", price_exponent=0, qty_exponent=0, symbol_id=2)
SOURCE = SourceInfo("test", sequenced=True, has_snapshots=True, local_time=True, trade_sides=True)

Array = npt.NDArray[Any]


def sound(*lengths: int) -> Array:
    """Messages of so many levels each."""
    array = np.zeros(sum(lengths), EVENT_DTYPE)
    array["kind"], array["side"], array["symbol_id"] = Kind.LEVEL, Side.BID, 1
    array["flags"][np.cumsum(lengths, dtype=np.intp) - 1] = EventFlag.LAST
    ids = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    array["seq_last"], array["seq_prev"] = ids, ids - 1
    array["source_ts_ns"] = array["local_ts_ns"] = ids * 1000
    return array


def batch(array: Array, on_malformed: str = "raise") -> EventBatch:
    return EventBatch(array, (ONE, TWO), SOURCE, StreamOptions(on_malformed=on_malformed))


def test_rule_2_1_the_layout_is_64_bytes_without_padding() -> None:
    places = {name: EVENT_DTYPE.fields[name][1] for name in EVENT_DTYPE.names or ()}  # type: ignore[index] # it has
    assert EVENT_DTYPE.itemsize == 64
    assert places == {
        "kind": 0,
        "side": 1,
        "flags": 2,
        "symbol_id": 4,
        "price": 8,
        "qty": 16,
        "order_id": 24,
        "seq_last": 32,
        "seq_prev": 40,
        "source_ts_ns": 48,
        "local_ts_ns": 56,
    }


def test_a_batch_is_a_view_that_cannot_be_written() -> None:
    array = sound(2, 1)
    held = batch(array)
    assert np.shares_memory(held.array, array)
    with pytest.raises(ValueError, match="read-only"):
        held.array["price"][0] = 5
    array["price"][0] = 7
    assert held.array["price"][0] == 7


def test_rows_are_book_and_trade_events() -> None:
    array = sound(*[1] * 10)
    array["kind"] = [
        Kind.LEVEL,
        Kind.TRADE,
        Kind.CLEAR,
        Kind.SNAPSHOT_LEVEL,
        Kind.QUOTE,
        Kind.STATUS,
        10,
        11,
        12,
        13,
    ]
    held = batch(array)
    assert (len(held), held.rows, held.messages) == (10, 8, 10)


def test_one_instrument_is_the_instrument() -> None:
    assert EventBatch(sound(1), (ONE,), SOURCE).instrument is ONE
    with pytest.raises(SettingError, match="2 instruments"):
        _ = batch(sound(1)).instrument


def test_rule_2_2_a_last_message_without_its_end_is_cut_off_and_counted() -> None:
    array = sound(2, 3)
    array["flags"][-1] = 0
    held = batch(array)
    assert (len(held), dict(held.dropped)) == (2, {"incomplete": 1})


FAULTS = [
    pytest.param("kind", 7, "kind 7", id="kind"),
    pytest.param("side", 3, "side 3 for kind 1", id="side"),
    pytest.param("side", 0, "side 0 for kind 1", id="level without side"),
    pytest.param("flags", 0x100, "flags 0x0100", id="flags"),
    pytest.param("price", 1 << 53, f"price {1 << 53}", id="price"),
    pytest.param("price", -(1 << 53), f"price {-(1 << 53)}", id="price below"),
    pytest.param("qty", -1, "qty -1", id="size below 0"),
    pytest.param("qty", 1 << 53, f"qty {1 << 53}", id="size"),
    pytest.param("seq_last", 0, "ids (1, 0]", id="ids"),
    pytest.param("source_ts_ns", -1, "source_ts_ns -1", id="source time"),
    pytest.param("local_ts_ns", 1 << 62, f"local_ts_ns {1 << 62}", id="local time"),
    pytest.param("seq_prev", 0, "another message", id="another message"),
]


@pytest.mark.parametrize(("field", "value", "found"), FAULTS)
def test_rules_1_2_and_2_2_the_first_event_that_breaks_one_is_named(
    field: str, value: int, found: str
) -> None:
    array = sound(2, 3, 2)
    array[field][3] = value
    with pytest.raises(MalformedEvent) as caught:
        batch(array)
    assert (caught.value.found, caught.value.offset) == (found, 3 * 64)


@given(st.data())
def test_rule_10_1_a_batch_and_a_guard_refuse_the_same_event(data: st.DataObject) -> None:
    array = sound(*data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)))
    for _ in range(data.draw(st.integers(0, 3))):
        fault = data.draw(st.sampled_from(FAULTS))
        array[str(fault.values[0])][data.draw(st.integers(0, len(array) - 1))] = fault.values[1]
    array["flags"][-1] |= EventFlag.LAST

    def refusal(read: Any) -> object:
        try:
            read()
        except MalformedEvent as error:
            return vars(error)
        return None

    guard = MessageReader({1, 2})
    assert refusal(lambda: batch(array)) == refusal(lambda: list(guard.read(array)))


def test_rule_10_1_dropping_leaves_malformed_events_to_the_guard() -> None:
    array = sound(1, 1)
    array["kind"][0] = 0
    assert len(batch(array, "drop")) == 2


def test_an_event_of_an_instrument_nobody_gave_is_refused() -> None:
    array = sound(1, 1)
    array["symbol_id"][1] = 3
    with pytest.raises(UnknownSymbol) as caught:
        batch(array, "drop")
    assert (caught.value.symbol, caught.value.known) == (3, ("ONE", "TWO"))


@pytest.mark.parametrize(
    "array",
    [
        pytest.param([1, 2], id="a list"),
        pytest.param(np.zeros(8, "u8"), id="words"),
        pytest.param(np.zeros((2, 2), EVENT_DTYPE), id="two dimensions"),
        pytest.param(np.zeros(4, EVENT_DTYPE)[::2], id="with steps"),
    ],
)
def test_what_is_no_array_of_events_is_refused(array: Any) -> None:
    with pytest.raises(MalformedEvent, match="EVENT_DTYPE"):
        batch(array)


def test_an_empty_batch_is_sound() -> None:
    held = batch(np.zeros(0, EVENT_DTYPE))
    assert (len(held), held.rows, held.messages, held.has_snapshot) == (0, 0, 0, False)
    assert [len(part) for part in held.chunks(5)] == [0]


@given(st.lists(st.integers(1, 6), max_size=12), st.integers(1, 8))
def test_chunks_are_whole_messages_in_order(lengths: list[int], events_max: int) -> None:
    held = batch(sound(*lengths))
    parts = list(held.chunks(events_max))
    assert b"".join(part.array.tobytes() for part in parts) == held.array.tobytes()
    assert sum(part.messages for part in parts) == held.messages
    for part in parts:
        assert len(part) <= events_max or part.messages == 1
        assert len(part) == 0 or np.shares_memory(part.array, held.array)


def test_part_takes_messages_by_number() -> None:
    held = batch(sound(2, 1, 3))
    assert [len(held.part(a, b)) for a, b in ((0, 1), (1, 3), (0, 99), (2, 2), (-1, 3))] == [2, 4, 6, 0, 3]


@pytest.mark.parametrize(
    ("kind", "flags", "expected"),
    [
        (Kind.SNAPSHOT_LEVEL, EventFlag.RECOVERY, True),
        (Kind.CLEAR, 0, True),
        (Kind.CLEAR, EventFlag.BOUND, False),
        (Kind.SNAPSHOT_LEVEL, 0, False),
        (Kind.LEVEL, 0, False),
    ],
)
def test_a_book_can_start_at_a_recovery_snapshot_or_a_clear(
    kind: Kind, flags: int, *, expected: bool
) -> None:
    array = sound(1)
    array["kind"], array["flags"] = kind, flags | EventFlag.LAST
    assert batch(array).has_snapshot is expected


@pytest.mark.parametrize(
    "options",
    [
        {"on_gap": "ignore"},
        {"on_malformed": "keep"},
        {"seed": "none"},
        {"seed_after": 5},
        {"seed": "increments", "seed_after": -1},
        {"seed": "increments", "seed_after": True},
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        StreamOptions(**options)
