"""A book of price levels, plainly: a sorted list of prices and a size for each.

Leans on `market` for events and what the guard makes of them. Knows nothing of features. Twin:
`crates/featureplane-core/src/book/l2.rs`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Final

from featureplane.market.events import EventFlag, Kind, Side
from featureplane.market.messages import Event
from featureplane.market.quality import Admission

__all__ = ["LevelBook", "LevelSide"]

_BID: Final = int(Side.BID)
_BOUND: Final = int(EventFlag.BOUND)
_OTHERS: Final = frozenset({Kind.TRADE, Kind.QUOTE, Kind.STATUS})


class LevelSide:
    """One side of a book; level 1 is the best.

    >>> bids = LevelSide(Side.BID)
    >>> for price, qty in ((100, 5), (101, 7), (99, 1)):
    ...     bids.set(price, qty)
    >>> bids.price(1), bids.qty(1), bids.depth(2), len(bids)
    (101, 7, 12, 3)
    """

    __slots__ = ("_keys", "_sign", "_sizes")

    def __init__(self, side: Side) -> None:
        self._sign = -1 if side == Side.BID else 1
        self.clear()

    def clear(self) -> None:
        """Forget all levels."""
        self._keys: list[int] = []  # price times sign, so that the best comes first on both sides
        self._sizes: dict[int, int] = {}

    def clear_to(self, price: int) -> None:
        """Forget the levels from the best to `price`, inclusive."""
        gone = bisect_right(self._keys, self._sign * price)
        for key in self._keys[:gone]:
            del self._sizes[key]
        del self._keys[:gone]

    def set(self, price: int, qty: int) -> None:
        """Set the size of a level; 0 deletes it, also one that is not there."""
        key = self._sign * price
        if qty:
            if key not in self._sizes:
                insort(self._keys, key)
            self._sizes[key] = qty
        elif self._sizes.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def size_at(self, price: int) -> int:
        """The size at a price, 0 if there is no such level."""
        return self._sizes.get(self._sign * price, 0)

    def __len__(self) -> int:
        return len(self._keys)

    def price(self, i: int) -> int:
        """Price of level i, 1 <= i <= len."""
        return self._sign * self._keys[i - 1]

    def qty(self, i: int) -> int:
        """Size of level i, 1 <= i <= len."""
        return self._sizes[self._keys[i - 1]]

    def depth(self, n: int) -> int:
        """Sum of the sizes of levels 1..n that exist."""
        total = 0
        for key in self._keys[:n]:
            total += self._sizes[key]
        return total

    def levels(self) -> list[tuple[int, int]]:
        """(price, size) of every level, best first."""
        return [(self._sign * key, self._sizes[key]) for key in self._keys]


class LevelBook:
    """Both sides of one instrument's book.

    Level events say the size at a price; a snapshot level is one of a full book. Trades, quotes
    and status change nothing.
    """

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = LevelSide(Side.BID)
        self.asks = LevelSide(Side.ASK)

    def side(self, side: int) -> LevelSide:
        """The bids for `Side.BID`, else the asks."""
        return self.bids if side == _BID else self.asks

    def clear(self) -> None:
        """Forget both sides."""
        self.bids.clear()
        self.asks.clear()

    def apply(self, event: Event) -> None:
        """Apply one event."""
        if event.kind in {Kind.LEVEL, Kind.SNAPSHOT_LEVEL}:
            self.side(event.side).set(event.price, event.qty)
        elif event.kind == Kind.CLEAR:
            for number, side in ((Side.BID, self.bids), (Side.ASK, self.asks)):
                if event.side in {number, Side.NONE}:
                    if event.flags & _BOUND:
                        side.clear_to(event.price)
                    else:
                        side.clear()

    def admit(self, admission: Admission) -> None:
        """Apply the messages the guard lets in as one (readings 5 and 12)."""
        if admission.begins:
            self.clear()
        for message in admission.messages:
            if message.snapshot and not message.clears:
                self.clear()
            for event in message.events:
                if event.kind not in _OTHERS:
                    self.apply(event)

    def is_valid(self, *, locked: bool = False) -> bool:
        """Whether the best bid is below the best ask, or a side is empty (rule 3.9).

        With `locked` they may be equal.
        """
        if not len(self.bids) or not len(self.asks):
            return True
        bid, ask = self.bids.price(1), self.asks.price(1)
        return bid < ask or (locked and bid == ask)
