"""The made-up source: same bytes everywhere, whole messages, every accident there and counted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featureplane.errors import MalformedEvent, SettingError
from featureplane.market.events import EventBatch, EventFlag, Kind
from featureplane.market.order_flow import splitmix64
from featureplane.market.reading import iter_events, read_events
from featureplane.market.synthetic import (
    Faults,
    SyntheticStream,
    synthetic_events,
    synthetic_instruments,
)
from featureplane.research.compute import compute
from featureplane.units import MAGNITUDE_LIMIT

PINNED: dict[str, tuple[dict[str, Any], str]] = {
    "usual accidents": ({"seed": 1}, "485e2d8111fbf9b5"),
    "three symbols": ({"seed": 7, "symbols": 3}, "802e141bf08a25ba"),
    "order level": ({"seed": 1, "order_level": True}, "d869e9013275ecfb"),
}


@pytest.mark.parametrize("case", PINNED, ids=str)
def test_a_seed_gives_the_same_bytes_on_every_machine(case: str) -> None:
    arguments, expected = PINNED[case]
    assert hashlib.sha256(synthetic_events(20_000, **arguments).tobytes()).hexdigest()[:16] == expected


def test_splitmix_gives_the_published_values() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(1234567, 0, 4).tolist() == published


def test_a_longer_stream_begins_with_the_shorter_one() -> None:
    short, long = synthetic_events(3_000, symbols=2), synthetic_events(200_000, symbols=2)
    assert (short == long[: len(short)]).all()


def test_rule_2_2_events_of_a_message_stand_together() -> None:
    events = synthetic_events(50_000, symbols=3)
    last = (events["flags"] & EventFlag.LAST) != 0
    assert last[-1]
    inside = ~last[:-1]
    for name in ("symbol_id", "seq_last", "seq_prev", "source_ts_ns", "local_ts_ns"):
        assert (events[name][1:][inside] == events[name][:-1][inside]).all(), name


def test_rule_1_2_sizes_and_prices_stay_inside_their_limits() -> None:
    events = synthetic_events(100_000, symbols=4)
    assert (np.abs(events["price"]) < MAGNITUDE_LIMIT).all()
    assert ((events["qty"] >= 0) & (events["qty"] < MAGNITUDE_LIMIT)).all()
    assert (events["qty"] == MAGNITUDE_LIMIT - 1).any()
    assert (events["qty"][events["kind"] == Kind.TRADE] > 0).all()


def test_every_accident_happens_and_is_counted() -> None:
    stream = SyntheticStream(faults=replace(Faults(), corrupt=200))
    for _ in stream.blocks(600_000):
        pass
    assert set(stream.injected) == {field.name for field in fields(Faults)}


def test_without_accidents_books_and_trades_are_numbered_without_a_hole() -> None:
    stream = SyntheticStream(seed=3, faults=False)
    events = np.concatenate(list(stream.blocks(100_000)))
    assert not stream.injected
    first = np.flatnonzero(np.r_[True, (events["flags"][:-1] & EventFlag.LAST) != 0])
    heads = events[first]
    trade_only = np.logical_and.reduceat(events["kind"] == Kind.TRADE, first)
    book = heads[~trade_only & ~np.isin(heads["kind"], (Kind.QUOTE, Kind.SNAPSHOT_LEVEL))]
    for channel in (book, heads[trade_only]):
        assert (channel["seq_prev"][1:] == channel["seq_last"][:-1]).all()


def test_order_level_tells_books_by_orders() -> None:
    kinds = set(synthetic_events(50_000, order_level=True)["kind"].tolist())
    assert {Kind.ADD, Kind.CANCEL, Kind.MODIFY, Kind.EXECUTE, Kind.TRADE, Kind.CLEAR} <= kinds
    assert not {Kind.LEVEL, Kind.SNAPSHOT_LEVEL} & kinds


def test_only_asked_for_accidents_happen() -> None:
    stream = SyntheticStream(faults=replace(Faults.none(), gap_book=5_000))
    for _ in stream.blocks(50_000):
        pass
    assert set(stream.injected) == {"gap_book"}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Faults(gap_book=-1), id="negative rate"),
        pytest.param(lambda: SyntheticStream(symbols=0), id="no symbol"),
        pytest.param(lambda: SyntheticStream(faults=Faults(gap_book=999_999)), id="rates above one"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(SettingError):
        make()


def test_a_spec_stands_in_place_of_a_path() -> None:
    batch = read_events("synthetic:7:20000:3", "synthetic")
    assert [one.symbol for one in batch.instruments] == ["SYN0", "SYN1", "SYN2"]
    assert batch.array.tobytes() == synthetic_events(20_000, seed=7, symbols=3).tobytes()
    one = read_events("synthetic:7:20000:3", "synthetic", "SYN1")
    wanted = batch.array["symbol_id"] == one.instrument.symbol_id
    assert one.array.tobytes() == batch.array[wanted].tobytes()
    parts = list(iter_events("synthetic:7:20000:3", "synthetic", events_max=3000))
    assert b"".join(part.array.tobytes() for part in parts) == batch.array.tobytes()


CORRUPT = "synthetic:7:20000:2:corrupt=5000"


def test_a_spec_may_name_faults() -> None:
    batch = read_events(CORRUPT + ":gap_book=0", "synthetic", on_malformed="drop")
    faults = Faults(corrupt=5_000, gap_book=0)
    assert batch.array.tobytes() == synthetic_events(20_000, seed=7, symbols=2, faults=faults).tobytes()
    parts = list(iter_events(CORRUPT, "synthetic", events_max=300, on_malformed="drop"))
    wanted = synthetic_events(20_000, seed=7, symbols=2, faults=Faults(corrupt=5_000))
    assert b"".join(part.array.tobytes() for part in parts) == wanted.tobytes()


def test_corrupt_messages_of_a_spec_are_dropped_and_counted(tmp_path: Path) -> None:
    out = tmp_path / "made.parquet"
    report = compute(CORRUPT, "lob_shared_v1", source="synthetic", on_malformed="drop", out=out)
    assert report.dropped["malformed"] > 20
    assert 0 < report.broken["malformed"] <= report.dropped["malformed"]


def test_a_corrupt_message_of_a_spec_is_an_error_with_its_place() -> None:
    good: list[EventBatch] = []
    with pytest.raises(MalformedEvent, match=f"{CORRUPT} at byte ") as caught:
        good.extend(iter_events(CORRUPT, "synthetic", events_max=300))
    events = synthetic_events(20_000, seed=7, symbols=2, faults=Faults(corrupt=5_000))
    with pytest.raises(MalformedEvent) as wanted:
        EventBatch(events, synthetic_instruments(2), good[0].source)
    said = caught.value
    assert (said.found, said.expected, said.offset) == (
        wanted.value.found, wanted.value.expected, wanted.value.offset
    )  # fmt: skip
    whole = b"".join(batch.array.tobytes() for batch in good)
    assert len(whole) > 0
    assert whole == events.tobytes()[: len(whole)]
    with pytest.raises(MalformedEvent):
        read_events(CORRUPT, "synthetic")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("synthetic:1:corupt=5", "'corupt' is no fault"),
        ("synthetic:1:corrupt=5:corrupt=6", "named twice"),
        ("synthetic:1:corrupt=5000000", "corrupt=5000000"),
        ("synthetic:1:corrupt=0.005", "corrupt=0.005"),
        ("synthetic:1:corrupt=50000000", "corrupt=50000000"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_and_rates_have_a_unit(spec: str, said: str) -> None:
    with pytest.raises(SettingError, match=said) as caught:
        read_events(spec, "synthetic")
    assert "in millionths of the messages" in str(caught.value.hint)


@pytest.mark.parametrize(
    "spec",
    [
        "synthetic",
        "synthetic:x",
        "synthetic:1:2:3:4",
        "1:2",
        "synthetic:-1",
        "synthetic:1:corrupt",
        "synthetic:1:corrupt=x",
    ],
)
def test_another_spec_is_refused(spec: str) -> None:
    with pytest.raises(SettingError, match=spec) as caught:
        read_events(spec, "synthetic")
    assert "SEED" in str(caught.value.hint)
