"""The queue between feed and loop: bounded, in order, and never the loop that waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from featureplane.services.raw_queue import Item, RawQueue, Reconnect


def drained(queue: RawQueue) -> list[Item]:
    out = []
    while True:
        try:
            out.append(queue.take())
        except IndexError:
            return out


def test_what_is_put_is_taken_in_order() -> None:
    queue = RawQueue(10)
    assert queue.put(b"a")
    assert queue.put(b"b", 5, "X")
    queue.reconnect("X")
    queue.end()
    assert len(queue) == 3
    assert drained(queue) == [(b"a", None, None), (b"b", 5, "X"), Reconnect("X")]
    assert queue.is_ended
    assert queue.error is None


def test_a_lost_message_is_counted_and_the_next_of_all_comes_behind_a_reconnect() -> None:
    queue = RawQueue(2, whose={b"x": "X", b"y": "Y"}.get)
    assert [queue.put(data) for data in (b"1", b"2", b"x", b"x", b"y", b"?")] == [True, True, *[False] * 4]
    assert queue.dropped == 4
    assert drained(queue) == [(b"1", None, None), (b"2", None, None)]
    assert queue.put(b"3")
    expected = [Reconnect(symbol, "queue") for symbol in ("X", "Y", None)]
    assert drained(queue) == [*expected, (b"3", None, None)]
    assert queue.put(b"4")
    assert drained(queue) == [(b"4", None, None)], "said once"


def test_a_symbol_that_was_asked_for_needs_no_look() -> None:
    queue = RawQueue(1)
    queue.put(b"1")
    assert not queue.put(b"2", 7, "X")
    drained(queue)
    queue.put(b"3")
    assert queue.take() == Reconnect("X", "queue")


def test_a_feed_that_waits_loses_nothing() -> None:
    queue, count = RawQueue(8, waits=True), 5000

    def feed() -> None:
        for number in range(count):
            assert queue.put(str(number).encode())
        queue.end()

    thread = threading.Thread(target=feed)
    thread.start()
    seen, deepest = [], 0
    while not queue.is_ended or len(queue):
        deepest = max(deepest, len(queue))
        try:
            item = queue.take()
        except IndexError:
            queue.wait(0.01)
            continue
        queue.make_room()
        assert isinstance(item, tuple)
        seen.append(int(item[0]))
    thread.join(10)
    assert seen == list(range(count))
    assert deepest <= 8
    assert queue.dropped == 0


def test_a_feed_that_waits_is_let_go_when_nobody_takes_any_more() -> None:
    queue = RawQueue(1, waits=True)
    queue.put(b"1")
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(queue.put(b"2")))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    queue.close()
    thread.join(10)
    assert answers == [False]
    assert queue.dropped == 0, "not lost: nobody wanted it"


@pytest.mark.parametrize("what", [lambda queue: queue.put(b"1"), RawQueue.end, RawQueue.wake])
def test_a_wait_ends_as_soon_as_there_is_something(what: Callable[[RawQueue], object]) -> None:
    queue = RawQueue(1)
    waited = threading.Thread(target=queue.wait, args=(60,))
    waited.start()
    waited.join(0.1)
    assert waited.is_alive()
    what(queue)
    waited.join(10)
    assert not waited.is_alive()
