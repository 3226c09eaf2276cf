"""Resets and reconnects that are asked for: the same in every execution (rule 3.6, reading 24)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis.strategies import integers, sampled_from

import featureplane as fp
from featureplane import native
from featureplane.errors import FeaturePlaneError, StateError, UnknownSymbol
from featureplane.features.native_engine import NativeEngine
from featureplane.features.reference import ReferenceEngine
from featureplane.market.events import EventBatch, StreamOptions
from featureplane.market.quality import Quality
from featureplane.market.sessions import Session
from featureplane.market.synthetic import Faults
from tests.parity.any_messages import any_batch
from tests.parity.streams import ODD, SETS, TRADES, V1, V2, synthetic

BACKENDS = ("python", "rust") if native.available() else ("python",)
EACH_BACKEND = pytest.mark.parametrize("backend", BACKENDS)
Engine = ReferenceEngine | NativeEngine
DROP = StreamOptions(on_malformed="drop", on_gap="continue")
SIZES = (1, 2, 511, 512, 513, 1023, 1024, 1025)
"""Steps of a block: smallest ones, and those around powers of two."""
Call = tuple[int, str, int]
"""After so many events, what, for which symbol."""


def drawn(events: EventBatch, rng: random.Random, calls: int) -> list[Call]:
    """Calls between messages, in order; several may come at one place, also before the first message."""
    places = sorted(rng.choice([0, *events.message_ends.tolist()]) for _ in range(calls))
    ids = [one.symbol_id for one in events.instruments]
    return [(place, rng.choice(("reset", "reconnect")), rng.choice(ids)) for place in places]


def made(engine: Engine, events: EventBatch, calls: list[Call]) -> tuple[Any, ...]:
    """Frames, the error if there is one, counts and saved states."""
    frames: list[tuple[bytes, int]] = []
    error, at = None, 0
    try:
        for place, what, symbol_id in [*calls, (len(events), "", 0)]:
            frames += [(frame.pack(), point) for frame, point in engine.process(events.array[at:place])]
            at = place
            if what:
                getattr(engine, what)(symbol_id)
    except FeaturePlaneError as raised:
        error = type(raised).__name__, vars(raised)
    engine.finish()
    ended = [engine.snapshot(one.symbol_id) for one in events.instruments] if error is None else []
    return frames, error, engine.counts if error is None else {}, ended


def check(events: EventBatch, fset: fp.FeatureSet, calls: list[Call]) -> Counter[str]:
    """The reference and both executions agree; what was reset and why."""
    stream = fset, events.instruments, events.source, events.options
    wanted = made(ReferenceEngine(*stream), events, calls)
    for size in (1, 64, 512):
        assert made(NativeEngine(*stream, block_steps=size), events, calls) == wanted
    assert made(NativeEngine(*stream, execution="streaming"), events, calls) == wanted
    return Counter(wanted[2].get("resets", {}))


@pytest.mark.native
@pytest.mark.parametrize("seed", range(12))
def test_rule_3_6_calls_in_a_market_with_accidents(seed: int) -> None:
    options = StreamOptions(
        on_malformed="drop",
        on_gap=("wait", "continue")[seed % 2],
        seed=("snapshot", "snapshot", "increments")[seed % 3],
    )
    events = synthetic(3_000, seed=seed, symbols=1 + seed % 2, faults=Faults(corrupt=3_000), options=options)
    resets = check(events, SETS[seed % len(SETS)], drawn(events, random.Random(seed), 12))
    assert resets["explicit"] > 0
    assert resets["reconnect"] > 0


@pytest.mark.native
@pytest.mark.parametrize("fset", SETS, ids=lambda fset: fset.feature_set_id)
def test_rule_10_5_blocks_of_any_size(fset: fp.FeatureSet) -> None:
    events = synthetic(16_000, seed=31, faults=Faults(corrupt=500), options=DROP)
    calls = drawn(events, random.Random(31), 3)
    stream = fset, events.instruments, events.source, events.options
    wanted = made(ReferenceEngine(*stream), events, calls)
    assert len(wanted[0]) > max(SIZES)
    for size in SIZES:
        assert made(NativeEngine(*stream, block_steps=size), events, calls) == wanted, size


@pytest.mark.native
@settings(max_examples=30, deadline=None)
@given(size=sampled_from(SIZES) | integers(1, 1100), seed=integers(0, 10_000))
@example(size=1, seed=416)  # a call before the first message of an instrument with hours
def test_rule_10_5_blocks_of_any_size_among_any_messages(size: int, seed: int) -> None:
    events = any_batch(seed, 120)
    stream = SETS[seed % len(SETS)], events.instruments, events.source, events.options
    calls = drawn(events, random.Random(seed), 4)
    wanted = made(ReferenceEngine(*stream), events, calls)
    assert made(NativeEngine(*stream, block_steps=size), events, calls) == wanted


@pytest.mark.native
@pytest.mark.parametrize("part", range(8))
def test_rule_3_6_calls_among_any_messages(part: int) -> None:
    resets: Counter[str] = Counter()
    for seed in range(5_000 + 5 * part, 5_005 + 5 * part):
        events = any_batch(seed, 250)
        resets += check(events, SETS[seed % len(SETS)], drawn(events, random.Random(seed), 10))
    assert min(resets["explicit"], resets["reconnect"], resets["first"]) > 0


@pytest.mark.native
def test_a_call_before_the_first_message_of_a_restored_symbol() -> None:
    events = synthetic(2_000, seed=9)
    stream = V2, events.instruments, events.source, events.options
    symbol_id, cut = events.instrument.symbol_id, int(events.message_ends[400])
    first = ReferenceEngine(*stream)
    list(first.process(events.array[:cut]))
    seen = []
    for engine in (ReferenceEngine(*stream), NativeEngine(*stream)):
        engine.restore(symbol_id, first.snapshot(symbol_id))
        engine.reset(symbol_id)
        engine.reconnect(symbol_id)
        between = engine.snapshot(symbol_id)
        frames = [frame.pack() for frame, _ in engine.process(events.array[cut:])]
        seen.append((between, frames, engine.snapshot(symbol_id)))
    assert seen[0] == seen[1]
    assert seen[0][0] != first.snapshot(symbol_id)


HOURS = Session.read_all([{"state": "trading", "opens": "00:00", "closes": "23:59"}])


@pytest.mark.native
@pytest.mark.parametrize("calls", [[], ["reset"], ["reconnect"], ["reconnect", "reset"]])
@pytest.mark.parametrize("empty", [0, 1])
def test_no_events_do_not_say_when_a_stream_begins(calls: list[str], empty: int) -> None:
    events = synthetic(3_000, seed=5, sessions=HOURS, time_zone="Asia/Taipei")
    stream = V1, events.instruments, events.source, events.options
    seen = []
    for engine in (ReferenceEngine(*stream), NativeEngine(*stream)):
        for _ in range(empty):
            assert list(engine.process(events.array[:0])) == []
        for call in calls:
            getattr(engine, call)(events.instrument.symbol_id)
        frames = [frame.pack() for frame, _ in engine.process(events.array)]
        seen.append((frames, engine.counts["resets"]))
    assert len(seen[0][0]) > 100
    assert seen[0] == seen[1]
    assert {"reset": "explicit", "reconnect": "reconnect"}.get(calls[0] if calls else "", "first") in seen[1][
        1
    ]


@pytest.mark.native
def test_a_table_that_begins_with_an_empty_batch() -> None:
    events = synthetic(3_000, seed=5, sessions=HOURS, time_zone="Asia/Taipei")
    parts = [events.part(0, 0), events]
    rust, python = (
        list(fp.FeatureEngine(V1, backend).columns(iter(parts))) for backend in ("rust", "python")
    )
    assert sum(map(len, rust)) == sum(map(len, python)) > 100


def steps(engine: fp.FeatureEngine, events: EventBatch) -> list[Callable[[], list[fp.FeatureFrame]]]:
    """Each message of the events as a push to be made."""
    ends = events.message_ends.tolist()

    def push(start: int, stop: int) -> list[fp.FeatureFrame]:
        return [frame.copy() for frame in engine.push(events, start, stop)]

    return [partial(push, start, stop) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]


@EACH_BACKEND
def test_rule_3_6_a_reset_keeps_the_book_and_forgets_the_past(backend: str) -> None:
    events = synthetic(3_000, seed=3, faults=False)
    engine = fp.FeatureEngine(V1, backend)
    pushes = steps(engine, events)
    before = [frame for push in pushes[:600] for frame in push()][-1]
    engine.reset()
    after = next(frame for push in pushes[600:] for frame in push())
    assert before.quality_flags == 0
    assert after.quality_flags == Quality.STATE_RESET
    assert after.seq == before.seq + 1
    assert 0 < after.warmup_ready_mask.bit_count() < before.warmup_ready_mask.bit_count()
    assert after["best_bid"] is not None, "the book is as it was"
    assert engine.counts["resets"] == {"first": 1, "recovery": 1, "explicit": 1}


@EACH_BACKEND
def test_reading_24_a_reconnect_waits_for_a_snapshot(backend: str) -> None:
    events = synthetic(6_000, seed=3, faults=Faults.none())
    again = synthetic(6_000, seed=3, faults=Faults.none())
    engine = fp.FeatureEngine(V1, backend)
    last = [frame.copy() for frame in engine.push(events)][-1]
    engine.reconnect("SYN0")
    waiting = 0
    frames: list[fp.FeatureFrame] = []
    for push in steps(engine, again):
        frames = push()
        if frames:
            break
        waiting += 1
    assert waiting > 0, "nothing waited for the snapshot"
    assert frames[0].seq == last.seq + 1
    assert frames[0].quality_flags & Quality.GAP_DETECTED
    assert frames[0].quality_flags & Quality.STATE_RESET
    assert not frames[0].quality_flags & Quality.STALE_INPUT, "lateness was not measured anew"
    assert engine.counts["resets"]["reconnect"] == 1
    assert not engine.counts["broken"]


@EACH_BACKEND
def test_a_reconnect_of_a_set_that_reads_trades_alone(backend: str) -> None:
    events = synthetic(3_000, seed=3, faults=False)
    engine = fp.FeatureEngine(TRADES, backend)
    last = [frame.copy() for frame in engine.push(events)][-1]
    engine.reconnect()
    frame = next(frame for push in steps(engine, events) for frame in push())
    assert frame.seq == last.seq + 1
    assert frame.quality_flags == Quality.STATE_RESET, "it has no book to miss"


@EACH_BACKEND
@pytest.mark.parametrize("taken", ["replay", "columns"])
def test_calls_in_a_replay_count_from_the_next_batch_on(backend: str, taken: str) -> None:
    events = synthetic(4_000, seed=6, symbols=2, faults=Faults(snapshot_redundant=20_000))
    batches = list(events.chunks(500))
    second = events.instruments[1]

    def flags(engine: fp.FeatureEngine) -> list[list[int]]:
        seen: list[list[int]] = [[]]

        def fed() -> Iterator[EventBatch]:
            for place, batch in enumerate(batches):
                if place == 3:
                    engine.reset(second.symbol_id)
                if place == 5:
                    engine.reconnect()
                yield batch

        if taken == "columns":
            seen += [part.quality_flags.tolist() for part in engine.columns(fed())]
        else:
            seen += [[int(frame.quality_flags)] for frame in engine.replay(fed())]
        return seen

    engine, reference = fp.FeatureEngine(V2, backend), fp.FeatureEngine(V2, "python")
    assert flags(engine) == flags(reference)
    assert engine.counts == reference.counts
    assert engine.counts["resets"]["explicit"] == 1
    assert engine.counts["resets"]["reconnect"] == 2


@EACH_BACKEND
def test_a_call_in_the_middle_of_a_batch_waits_for_the_next(backend: str) -> None:
    events = synthetic(2_000, seed=6)
    whole = [frame.pack() for frame in fp.FeatureEngine(V1, backend).replay(events)]
    engine, got = fp.FeatureEngine(V1, backend), []
    for frame in engine.replay(events):
        got.append(frame.pack())
        engine.reconnect()
    assert got == whole, "there was no next batch"


@EACH_BACKEND
def test_calls_to_nobody_are_refused(backend: str) -> None:
    events = synthetic(600, seed=2)
    engine = fp.FeatureEngine(V1, backend)
    for call in (engine.reset, engine.reconnect):
        with pytest.raises(StateError, match="no stream") as raised:
            call()
        assert raised.value.hint
    list(engine.replay(events))
    with pytest.raises(StateError, match="no stream"):
        engine.reset()
    engine.push(events)
    for call in (engine.reset, engine.reconnect):
        for unknown in ("SYN7", 7):
            with pytest.raises(UnknownSymbol):
                call(unknown)
    assert engine.counts["resets"]["explicit"] == 0
    spoiled = np.array(events.array)
    spoiled["kind"][0] = 77
    bad = EventBatch(spoiled, events.instruments, events.source, events.options, checked=True)
    with pytest.raises(fp.errors.MalformedEvent):
        engine.push(bad)
    with pytest.raises(StateError, match="ended with an error"):
        engine.reset()


@EACH_BACKEND
def test_counts_name_every_cause(backend: str) -> None:
    faults = Faults(gap_book=4_000, crossed_long=2_000, halt=2_000, corrupt=4_000, jump=2_000)
    events = synthetic(20_000, seed=8, faults=faults, options=StreamOptions(on_malformed="drop"))
    engine = fp.FeatureEngine(ODD, backend)
    flags = np.concatenate([part.quality_flags for part in engine.columns(events)])
    counts = engine.counts
    assert set(counts["broken"]) == {"gap", "crossed", "malformed"}
    assert set(counts["resets"]) == {"first", "recovery", "trading", "daily", "gap"}
    assert counts["broken"]["gap"] <= counts["gaps"]["book"]
    assert counts["dropped"] == engine.dropped
    assert counts["steps"]["back"] > 0
    rises = {
        str(flag.name): int(
            np.count_nonzero(np.diff((flags & flag) > 0, prepend=False) & ((flags & flag) > 0))
        )
        for flag in Quality
    }
    assert counts["flags"] == Counter(rises)
    assert min(rises.values()) > 0
