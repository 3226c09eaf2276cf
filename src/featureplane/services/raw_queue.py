"""The bounded queue between a feed that does not wait and the loop that takes its messages.

One thread puts, one takes. What there is no room for is lost, which is counted, and the symbol's book is
broken at that place. Leans on nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

__all__ = ["MESSAGES_MAX", "Item", "RawMessage", "RawQueue", "Reconnect"]

MESSAGES_MAX: Final = 16_384
"""Messages there is room for, unless asked otherwise."""

RawMessage = tuple[bytes, int | None, str | None]
"""Bytes, local time unless they begin with it, and the symbol that was asked for."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """At this place the connection of a symbol, or of all, is another one; `reason` is `feed` or `queue`."""

    symbol: str | None
    reason: str = "feed"


Item = RawMessage | Reconnect


class RawQueue:
    """Room for `messages_max` messages.

    `whose` says which symbol a lost message was of, where `put` was not told; None: any of them.
    """

    def __init__(
        self,
        messages_max: int = MESSAGES_MAX,
        *,
        whose: Callable[[bytes], str | None] = lambda _: None,
    ) -> None:
        self._items: deque[Item] = deque()
        self.messages_max, self._whose = messages_max, whose
        self._breaks: dict[str | None, str] = {}  # why, by symbol
        self._filled = threading.Event()
        self._hungry = False
        self.take = self._items.popleft
        """The next item; raises `IndexError` where there is none."""
        self.dropped = 0
        self.is_ended = False
        self.error: Exception | None = None

    def __len__(self) -> int:
        return len(self._items)

    # -- the feed's side

    def put(self, data: bytes, local_ts_ns: int | None = None, symbol: str | None = None) -> bool:
        """Put a message; False where there was no room for it: it is lost.

        A `Reconnect` of each symbol that lost one stands before the first message for which there is room
        again, or is what `lost` gives.
        """
        items = self._items
        if len(items) >= self.messages_max:
            self.dropped += 1
            self._breaks[symbol or self._whose(data)] = "queue"
            return False
        while self._breaks:
            with suppress(KeyError):  # the loop was quicker
                items.append(Reconnect(*self._breaks.popitem()))
        items.append((data, local_ts_ns, symbol))
        if self._hungry:
            self._filled.set()
        return True

    def reconnect(self, symbol: str | None = None, reason: str = "feed") -> None:
        """Tell that what comes next comes over another connection.

        Where there is no room, all of one symbol until the next message there is room for are one: a feed
        that does nothing but reconnect fills no memory.
        """
        if len(self._items) < self.messages_max:
            self._items.append(Reconnect(symbol, reason))
        else:
            self._breaks.setdefault(symbol, reason)
        self._filled.set()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; with the error that ended it, if one did."""
        self.error, self.is_ended = error, True
        self._filled.set()

    # -- the loop's side

    def lost(self) -> Reconnect | None:
        """What broke behind all that was taken, for the loop that found nothing more to take.

        WHY not with the next message alone: until that comes the book would pass for whole.
        """
        try:
            symbol, reason = self._breaks.popitem()
        except KeyError:
            return None
        if self._items:  # it came meanwhile, and was there before the break
            self._breaks.setdefault(symbol, reason)
            return None
        return Reconnect(symbol, reason)

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
