"""The bounded queue between a feed and the loop that takes its messages.

One thread puts, one takes. A feed that can wait, as a replay at full speed, waits for room; any other loses
what there is no room for, which is counted, and the symbol's book is broken at that place: the loop never
waits for itself. Leans on nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["MESSAGES_MAX", "Item", "RawMessage", "RawQueue", "Reconnect"]

MESSAGES_MAX: Final = 16_384
"""Messages there is room for, unless asked otherwise."""

RawMessage = tuple[bytes, int | None, str | None]
"""Bytes, local time unless they begin with it, and the symbol that was asked for."""

_LOOK_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Reconnect:
    """At this place the connection of a symbol, or of all, is another one; `reason` is `feed` or `queue`."""

    symbol: str | None
    reason: str = "feed"


Item = RawMessage | Reconnect


class RawQueue:
    """Room for `messages_max` messages; `waits`: `put` waits for room instead of losing the message.

    `whose` says which symbol a lost message was of, where `put` was not told; None: any of them.
    """

    def __init__(
        self,
        messages_max: int = MESSAGES_MAX,
        *,
        waits: bool = False,
        whose: Callable[[bytes], str | None] = lambda _: None,
    ) -> None:
        self._items: deque[Item] = deque()
        self._max, self._waits, self._whose = messages_max, waits, whose
        self._lost: dict[str | None, None] = {}  # symbols, in order
        self._filled, self._room = threading.Event(), threading.Event()
        self._hungry = self._crowded = False
        self.take = self._items.popleft
        """The next item; raises `IndexError` where there is none. Call `make_room` now and then."""
        self.dropped = 0
        self.is_ended = False
        self.error: Exception | None = None
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._items)

    # -- the feed's side

    def put(self, data: bytes, local_ts_ns: int | None = None, symbol: str | None = None) -> bool:
        """Put a message; False where there was no room for it, or nobody takes any more.

        The first message of a lost one's symbol for which there is room comes behind a `Reconnect`.
        """
        items = self._items
        if len(items) >= self._max and not self._has_room():
            if not self._waits:
                self.dropped += 1
                self._lost[symbol or self._whose(data)] = None
            return False
        if self._lost:
            for lost in self._lost:
                items.append(Reconnect(lost, "queue"))
            self._lost.clear()
        items.append((data, local_ts_ns, symbol))
        if self._hungry:
            self._filled.set()
        return True

    def reconnect(self, symbol: str | None = None) -> None:
        """Tell that what comes next comes over another connection."""
        self._items.append(Reconnect(symbol))
        self._filled.set()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; with the error that ended it, if one did."""
        self.error, self.is_ended = error, True
        self._filled.set()

    def _has_room(self) -> bool:
        while self._waits and len(self._items) >= self._max and not self.is_closed:
            self._room.clear()
            self._crowded = True
            self._room.wait(_LOOK_AGAIN_S)
        return self._waits and not self.is_closed

    # -- the loop's side

    def make_room(self) -> None:
        """Let a feed that waits go on, once half of the room is free."""
        if self._crowded and 2 * len(self._items) <= self._max:
            self._crowded = False
            self._room.set()

    def wait(self, seconds: float) -> None:
        """Wait until there may be something, or `wake` is called."""
        self._hungry = True
        if not self._items and not self.is_ended:
            self._filled.wait(seconds)
        self._hungry = False
        self._filled.clear()

    def wake(self) -> None:
        """End a wait, from any thread."""
        self._filled.set()

    def close(self) -> None:
        """Nobody takes any more: whoever waits for room goes on."""
        self.is_closed = True
        self._room.set()
