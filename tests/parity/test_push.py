"""Frames of messages pushed one by one are those of a replay, whoever computes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import featureplane as fp
from featureplane import native
from featureplane.errors import MalformedEvent, SequenceGap, SettingError, StateError, UnknownSymbol
from featureplane.features.sampling import Emit
from featureplane.market.events import EventBatch, StreamOptions
from featureplane.market.synthetic import Faults
from tests.parity.streams import SETS, V1, synthetic

BACKENDS = ("python", "rust") if native.available() else ("python",)
EACH_BACKEND = pytest.mark.parametrize("backend", BACKENDS)


def ranges(events: EventBatch, messages: int) -> Iterator[tuple[int, int]]:
    """Events of so many messages at a time."""
    ends = events.message_ends.tolist()
    stops = ends[messages - 1 :: messages]
    stops += [] if stops and stops[-1] == ends[-1] else ends[-1:]
    yield from zip([0, *stops[:-1]], stops, strict=True)


def pushed(engine: fp.FeatureEngine, events: EventBatch, messages: int = 1) -> list[bytes]:
    return [
        frame.pack() for start, stop in ranges(events, messages) for frame in engine.push(events, start, stop)
    ]


@EACH_BACKEND
@pytest.mark.parametrize("fset", SETS, ids=lambda fset: fset.feature_set_id)
@pytest.mark.parametrize("messages", [1, 7, 1_000])
def test_rule_10_1_pushed_frames_are_those_of_a_replay(
    backend: str, fset: fp.FeatureSet, messages: int
) -> None:
    options = StreamOptions(on_malformed="drop")
    events = synthetic(2_000, seed=messages, symbols=2, faults=Faults(corrupt=20_000), options=options)
    reference = fp.FeatureEngine(fset, "python")
    wanted = [frame.pack() for frame in reference.replay(events)]
    engine = fp.FeatureEngine(fset, backend)
    assert pushed(engine, events, messages) == wanted
    assert len(wanted) > 100
    engine.finish()
    assert engine.dropped == reference.dropped
    assert engine.dropped["malformed"] > 0


@EACH_BACKEND
@pytest.mark.parametrize("emit", ["update", "change"])
@pytest.mark.parametrize("every", [None, 3, "10ms", "1s"])
def test_rules_5_5_and_5_6_frames_are_chosen_alike(backend: str, emit: Emit, every: int | str | None) -> None:
    events = synthetic(3_000, seed=5, symbols=2)
    engines = [fp.FeatureEngine(V1, one, emit, every) for one in ("python", backend)]
    wanted = [frame.pack() for frame in engines[0].replay(events)]
    assert pushed(engines[1], events) == wanted
    assert wanted


@EACH_BACKEND
def test_one_push_may_make_no_frame_or_several(backend: str) -> None:
    events = synthetic(600, seed=2)
    engine = fp.FeatureEngine(V1, backend)
    counts = [len(engine.push(events, start, stop)) for start, stop in ranges(events, 1)]
    assert set(counts) == {0, 1}
    engine.finish()
    assert len(engine.push(events)) == sum(counts) > 100
    assert engine.push(events, len(events)) == ()


@EACH_BACKEND
def test_a_frame_stands_until_the_next_push_and_a_copy_stays(backend: str) -> None:
    events = synthetic(600, seed=2)
    engine = fp.FeatureEngine(V1, backend)
    seen: list[tuple[fp.FeatureFrame, fp.FeatureFrame, bytes]] = []
    for start, stop in ranges(events, 1):
        for frame in engine.push(events, start, stop):
            assert engine.pushed == (frame,)
            seen.append((frame, frame.copy(), frame.pack()))
    assert len({id(frame) for frame, _, _ in seen}) == 1, "a new object was made"
    assert all(copy.pack() == packed for _, copy, packed in seen)
    assert len({copy.seq for _, copy, _ in seen}) == len(seen) > 100


@EACH_BACKEND
def test_frames_of_a_replay_stay_beside_a_push(backend: str) -> None:
    events = synthetic(600, seed=2)
    engine = fp.FeatureEngine(V1, backend)
    held = list(engine.replay(events))
    packed = [frame.pack() for frame in held]
    assert pushed(engine, events) == packed
    assert [frame.pack() for frame in held] == packed


@EACH_BACKEND
def test_batches_in_a_row_are_one_stream(backend: str) -> None:
    events = synthetic(900, seed=4)
    wanted = [frame.pack() for frame in fp.FeatureEngine(V1, "python").replay(events)]
    engine = fp.FeatureEngine(V1, backend)
    got = [frame.pack() for batch in events.chunks(50) for frame in engine.push(batch)]
    assert got == wanted


@EACH_BACKEND
def test_events_may_stand_in_a_ring(backend: str) -> None:
    events = synthetic(900, seed=4, faults=False)
    wanted = [frame.pack() for frame in fp.FeatureEngine(V1, "python").replay(events)]
    ring = np.array(events.array[: events.message_ends[0]])
    ring.resize(1_000, refcheck=False)
    batch = EventBatch(ring, events.instruments, events.source, checked=True)
    engine = fp.FeatureEngine(V1, backend)
    got = []
    for start, stop in ranges(events, 1):
        ring[: stop - start] = events.array[start:stop]
        got += [frame.pack() for frame in engine.push(batch, 0, stop - start)]
    assert got == wanted


@EACH_BACKEND
def test_what_is_no_run_of_whole_messages_is_refused_and_nothing_taken(backend: str) -> None:
    events = synthetic(900, seed=4)
    wanted = [frame.pack() for frame in fp.FeatureEngine(V1, "python").replay(events)]
    engine = fp.FeatureEngine(V1, backend)
    ends = events.message_ends
    inside = int(ends[np.argmax(np.diff(ends) > 1) + 1]) - 1
    beyond = len(events) + 1
    for start, stop in [(0, inside), (inside, inside + 1), (0, beyond), (-1, 0), (beyond, beyond), (5, 4)]:
        with pytest.raises(SettingError, match=f"events {start} to {stop}") as raised:
            engine.push(events, start, stop)
        assert raised.value.hint
    assert pushed(engine, events) == wanted


def spoiled(events: EventBatch, at: int, field: str, value: Any) -> EventBatch:
    """The events with one field written over behind the checks."""
    array = np.array(events.array)
    array[field][at] = value
    return EventBatch(array, events.instruments, events.source, events.options, checked=True)


@EACH_BACKEND
@pytest.mark.parametrize(
    ("field", "value", "error"),
    [("kind", 9, MalformedEvent), ("qty", -1, MalformedEvent), ("symbol_id", 12345, UnknownSymbol)],
)
def test_what_no_rule_accepts_raises_behind_the_same_frames(
    backend: str, field: str, value: int, error: type[Exception]
) -> None:
    events = synthetic(900, seed=4, faults=False)
    start, stop = list(ranges(events, 100))[1]
    bad = spoiled(events, int(events.message_ends[149]), field, value)
    seen = []
    for one in ("python", backend):
        engine = fp.FeatureEngine(V1, one)
        engine.push(bad, 0, start)
        with pytest.raises(error) as raised:
            engine.push(bad, start, stop)
        seen.append((str(raised.value), vars(raised.value), [frame.pack() for frame in engine.pushed]))
    assert seen[0] == seen[1]
    assert len(seen[0][2]) > 10


@EACH_BACKEND
def test_a_stream_that_raised_has_ended_until_another_begins(backend: str) -> None:
    events = synthetic(4_000, seed=7, options=StreamOptions(on_gap="refuse"))
    engine = fp.FeatureEngine(V1, backend)
    with pytest.raises(SequenceGap):
        pushed(engine, events)
    with pytest.raises(StateError, match="ended with an error"):
        engine.push(events)
    engine.finish()
    first = next(fp.FeatureEngine(V1, backend).replay(events)).pack()
    frames = (frame for a, b in ranges(events, 1) for frame in engine.push(events, a, b))
    assert next(frames).pack() == first


def test_nothing_was_pushed_yet() -> None:
    engine = fp.FeatureEngine(V1, "python")
    engine.finish()
    assert engine.pushed == ()
    assert not engine.dropped
