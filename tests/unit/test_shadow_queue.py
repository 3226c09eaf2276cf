"""The queue to a shadow: whole records in order, round its end, and nothing where there is no room."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from featureplane.errors import SettingError
from featureplane.features.shadow_queue import Head, PlainProbe, Probe, Queue, Record, names_of, probe_of


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue.make(3, every=4, full=False, room_bytes=1 << 12)
    yield made
    os.close(made.descriptor)


def record(number: int, size: int) -> Record:
    parts = [bytes([number % 256]) * length for length in (size, 64, 0, size // 2)]
    before, events, frame, after = parts
    return Record(7, number, number, 1, before, events, frame, after, number)


def test_records_come_out_as_they_went_in_round_and_round(queue: Queue) -> None:
    draw, sent, taken = random.Random(5), [], []
    for number in range(3_000):
        one = record(number, 8 * draw.randrange(0, 60))
        if queue.put(one):
            sent.append(one)
        while draw.random() < 0.5 and (found := queue.take()) is not None:
            taken.append(found)
    while (found := queue.take()) is not None:
        taken.append(found)
    assert taken == sent
    assert len(sent) > 1_500
    assert queue.read(Head.WRITTEN) > 100 * queue.read(Head.ROOM_BYTES)
    assert queue.held == 0


def test_what_finds_no_room_is_not_begun(queue: Queue) -> None:
    fits = record(1, 1_600)
    assert queue.put(fits)
    before = queue.read(Head.WRITTEN), queue.read(Head.SENT)
    assert not queue.put(record(2, 1_600))
    assert (queue.read(Head.WRITTEN), queue.read(Head.SENT)) == before
    assert queue.take() == fits
    assert queue.take() is None


def test_another_process_sees_the_same_queue(queue: Queue) -> None:
    assert queue.put(record(3, 80))
    other = Queue.attach(os.dup(queue.descriptor))
    assert other.take() == record(3, 80)
    other.add(Head.MATCH, 2)
    assert queue.read(Head.MATCH) == queue.answered == 2
    os.close(other.descriptor)


def test_a_descriptor_that_is_no_queue_is_refused() -> None:
    descriptor = os.memfd_create("none")
    os.truncate(descriptor, 1 << 13)
    with pytest.raises(SettingError, match="no queue"):
        Queue.attach(descriptor)
    os.close(descriptor)


def test_a_probe_wants_every_nth_frame_and_the_states_around_it(queue: Queue) -> None:
    probe = PlainProbe(queue)
    assert [seq + 1 for seq in range(20) if probe.wanted(7, seq).frame] == [4, 8, 12, 16, 20]
    assert probe.wanted(7, 3) == (4, True, True, False)
    queue.write(Head.EVERY, 1)
    assert probe.wanted(7, 0).frame == 1


def test_a_full_probe_wants_a_state_once_a_round_and_behind_a_loss() -> None:
    queue = Queue.make(3, every=2, full=True, room_bytes=1 << 18)
    probe = PlainProbe(queue)
    assert probe.wanted(7, 0) == (0, True, False, True)
    probe.taken(7, 1, bytes(64), (bytes(8), b"", b""))
    assert probe.wanted(7, 0) == (0, False, False, True)
    assert probe.wanted(8, 1) == (2, True, False, True)
    queue.add(Head.ROUND)
    assert probe.wanted(7, 0).before
    probe.taken(7, 1, bytes(64), (bytes(8), b"", b""))
    probe.changed(7)
    assert probe.wanted(7, 0).before
    for frame in (b"", b"", b"frame"):
        probe.taken(7, 2, bytes(100_000), (b"", frame, b""))
    assert (queue.read(Head.DUE), queue.read(Head.SKIPPED), queue.read(Head.SENT)) == (1, 1, 0)
    assert not probe.wanted(7, 1).before
    while queue.take() is not None:
        pass
    assert probe.wanted(7, 1).before
    os.close(queue.descriptor)


def test_mismatches_are_counted_by_feature_and_by_what_is_of_none() -> None:
    assert names_of(("a", "b")) == ("a", "b", "_changed", "_ready", "_flags", "_frame", "_state")


@pytest.mark.native
@pytest.mark.parametrize("full", [False, True])
def test_both_probes_write_the_same_records(full: bool) -> None:  # noqa: FBT001 - a parameter of the test
    queues = [Queue.make(3, every=3, full=full, room_bytes=1 << 13) for _ in range(2)]
    probes: list[Probe] = [PlainProbe(queues[0]), probe_of(queues[1], [7, 8])]
    assert not isinstance(probes[1], PlainProbe)
    draw, seqs = random.Random(full), {7: 0, 8: 0}
    for number in range(3_000):
        symbol_id, makes, large = draw.choice([7, 8]), draw.random() < 0.6, 8 * draw.randrange(0, 300)
        wanted = [tuple(probe.wanted(symbol_id, seqs[symbol_id])) for probe in probes]
        assert wanted[0] == wanted[1]
        due, before, after, whole = wanted[0]
        seqs[symbol_id] += makes
        frame = b"f" * 72 if makes and due else b""
        if whole or frame:
            states = (b"b" * large * before, frame, b"a" * large * (after and bool(frame)))
            for probe in probes:
                probe.taken(symbol_id, number, bytes([number % 256]) * 128, states)
        if draw.random() < 0.02:
            for probe in probes:
                probe.changed(symbol_id)
        while draw.random() < 0.3:
            assert queues[0].take() == queues[1].take()
        for word in Head:
            assert queues[0].read(word) == queues[1].read(word), word
    assert queues[0].read(Head.SENT) > 100
    assert queues[0].read(Head.DUE) == queues[0].read(Head.SENT) + queues[0].read(Head.SKIPPED)
    assert queues[0].read(Head.SKIPPED) > 10
    for queue in queues:
        os.close(queue.descriptor)
