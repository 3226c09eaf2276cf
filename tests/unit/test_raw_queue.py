"""The queue between feed and loop: bounded, in order, and never the loop that waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise

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
    *reconnects, last = drained(queue)
    assert set(reconnects) == {Reconnect(symbol, "queue") for symbol in ("X", "Y", None)}
    assert len(reconnects) == 3
    assert last == (b"3", None, None)
    assert queue.lost() is None
    assert queue.put(b"4")
    assert drained(queue) == [(b"4", None, None)], "said once"


def test_a_loss_is_told_when_nothing_more_is_there_to_take() -> None:
    queue = RawQueue(1)
    assert queue.lost() is None
    queue.put(b"1")
    queue.put(b"2", 7, "X")
    assert queue.lost() is None, "what came before it comes first"
    drained(queue)
    assert queue.lost() == Reconnect("X", "queue")
    assert queue.lost() is None
    queue.put(b"3")
    assert drained(queue) == [(b"3", None, None)], "said once"


def test_a_symbol_that_was_asked_for_needs_no_look() -> None:
    queue = RawQueue(1)
    queue.put(b"1")
    assert not queue.put(b"2", 7, "X")
    drained(queue)
    queue.put(b"3")
    assert queue.take() == Reconnect("X", "queue")


def test_a_feed_that_does_nothing_but_reconnect_fills_no_memory() -> None:
    queue = RawQueue(4)
    queue.put(b"1")
    for _ in range(1000):
        queue.reconnect("X")
        queue.reconnect(None)
    assert len(queue) == 4
    assert not queue.put(b"2", 7, "X")
    assert drained(queue)[:2] == [(b"1", None, None), Reconnect("X")]
    assert queue.put(b"3")
    *breaks, last = drained(queue)
    assert set(breaks) == {Reconnect("X", "queue"), Reconnect(None)}, "lost behind it: the queue's"
    assert len(breaks) == 2
    assert last == (b"3", None, None)


def test_another_connection_there_was_no_room_for_is_told_when_nothing_more_comes() -> None:
    queue = RawQueue(1)
    queue.put(b"1")
    queue.reconnect("X")
    assert queue.lost() is None, "what came before it comes first"
    assert drained(queue) == [(b"1", None, None)]
    assert queue.lost() == Reconnect("X")
    assert queue.lost() is None


def test_one_thread_puts_and_one_takes_and_what_is_not_lost_is_in_order() -> None:
    queue, count = RawQueue(64), 20_000

    def feed() -> None:
        for number in range(count):
            queue.put(str(number).encode())
        queue.end()

    thread = threading.Thread(target=feed)
    thread.start()
    seen, deepest, breaks = [], 0, 0
    while not queue.is_ended or len(queue):
        deepest = max(deepest, len(queue))
        try:
            item = queue.take()
        except IndexError:
            queue.wait(0.01)
            continue
        if isinstance(item, Reconnect):
            breaks += 1
        else:
            seen.append(int(item[0]))
    thread.join(10)
    assert seen == sorted(set(seen))
    assert len(seen) + queue.dropped == count
    holes = sum(after - before > 1 for before, after in pairwise(seen))
    assert breaks == holes, "there is a break wherever something is missing, and nowhere else"
    assert deepest <= 65


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
