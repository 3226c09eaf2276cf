"""A made-up market: two-sided order flow from a seed, the same on every machine.

`Draws` is the source of chance, in integers only; `Market` is the truth about one symbol, which
hands out messages as the venue would send them. What goes wrong on the way to us is added by
`market.synthetic`. Knows nothing of guards, books or features of the package.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from featureplane.market.events import EventFlag, Kind, Side
from featureplane.units import MAGNITUDE_LIMIT

__all__ = ["Change", "Draws", "Market", "Message", "splitmix64"]

_BLOCK: Final = 1 << 15
_DEPTH: Final = 64  # how far behind the touch new levels appear, in price units
_LEVELS_MOST: Final = 160  # a side beyond this is trimmed to half by one long message
_HIDDEN, _NOT_MARKET = int(EventFlag.HIDDEN), int(EventFlag.NOT_MARKET)
_RECOVERY, _BOUND = int(EventFlag.RECOVERY), int(EventFlag.BOUND)


class Change(NamedTuple):
    """One event without what its message says for all of them."""

    kind: int
    side: int
    flags: int
    price: int
    qty: int
    order_id: int = 0


@dataclass(slots=True)
class Message:
    """What the venue sends at once: the ids (`prev`, `last`] of one channel and the changes."""

    channel: str
    prev: int
    last: int
    changes: list[Change]


def splitmix64(seed: int, first: int, count: int) -> npt.NDArray[np.uint64]:
    """Outputs `first` .. `first + count - 1` of splitmix64 (Steele, Lea, Flood 2014) from `seed`.

    >>> [int(x) for x in splitmix64(0, 0, 2)]
    [16294208416658607535, 7960286522194355700]
    """
    gamma = 0x9E3779B97F4A7C15
    z = np.arange(first + 1, first + count + 1, dtype=np.uint64) * np.uint64(gamma) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Draws:
    """Integers by chance from a seed: no float, no library generator, so no version to follow."""

    __slots__ = ("_next", "_seed")

    def __init__(self, seed: int) -> None:
        self._seed = seed & 0xFFFF_FFFF_FFFF_FFFF
        self._next = self._stream().__next__

    def _stream(self) -> Iterator[int]:
        for first in itertools.count(0, _BLOCK):
            yield from (splitmix64(self._seed, first, _BLOCK) >> np.uint64(24)).tolist()

    def below(self, n: int) -> int:
        """An integer of 0 .. n - 1; n well below 2^40."""
        return self._next() % n

    def hits(self, ppm: int) -> bool:
        """True in `ppm` of a million cases."""
        return self._next() % 1_000_000 < ppm

    def few(self) -> int:
        """0 in half of the cases, 1 in a quarter, 2 in an eighth ..., at most 39."""
        x = self._next()
        return (x & -x).bit_length() - 1 if x else 39


class Market:
    """The truth about one symbol.

    `bids` and `asks` map price to size. Levels stand within a few hundred units of the touch, a few
    far away near the limits of rule 1.2. Ids of books and trades grow as Binance's futures do: a
    book message continues the id of the one before, trades count by one.
    """

    def __init__(
        self, draws: Draws, centre: int, *, order_level: bool, huge_ppm: int, far_ppm: int, no_side_ppm: int
    ) -> None:
        self._draws = draws
        self._centre = centre
        self._order_level = order_level
        self._huge_ppm, self._far_ppm, self._no_side_ppm = huge_ppm, far_ppm, no_side_ppm
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.orders: dict[int, tuple[int, int, int]] = {}
        self._at: dict[
            tuple[int, int], list[int]
        ] = {}  # ids of the orders at one side and price, oldest first
        self._next_order = 1
        self.book_id = 1_000_000 + draws.below(1_000_000)
        self.trade_id = 500_000 + draws.below(1_000_000)
        self.best_bid, self.best_ask = centre - 1, centre + 1
        self.huge = self.far = self.no_side = 0
        for d in range(1, 24):
            self._change(Side.BID, centre - d, self._size())
            self._change(Side.ASK, centre + d, self._size())

    # -- sizes and levels

    def _size(self) -> int:
        if self._huge_ppm and self._draws.hits(self._huge_ppm):
            self.huge += 1
            return MAGNITUDE_LIMIT - 1
        return 1 + self._draws.below(1 << (4 + self._draws.below(16)))

    def _change(self, side: int, price: int, qty: int) -> list[Change]:
        """Sets one level and returns the events that say so."""
        levels = self.bids if side == Side.BID else self.asks
        before = levels.get(price, 0)
        if qty:
            levels[price] = qty
        else:
            levels.pop(price, None)
        self._touch(side, price, qty)
        if not self._order_level:
            return [Change(Kind.LEVEL, side, 0, price, qty)]
        return self._order_changes(side, price, before, qty)

    def _touch(self, side: int, price: int, qty: int) -> None:
        if side == Side.BID:
            if qty and (price > self.best_bid or len(self.bids) == 1):
                self.best_bid = price
            elif not qty and price == self.best_bid and self.bids:
                self.best_bid = max(self.bids)
        elif qty and (price < self.best_ask or len(self.asks) == 1):
            self.best_ask = price
        elif not qty and price == self.best_ask and self.asks:
            self.best_ask = min(self.asks)

    def _order_changes(self, side: int, price: int, before: int, qty: int) -> list[Change]:
        """The same level change told by orders: adds fill up, cancels and modifies take away."""
        out: list[Change] = []
        if qty > before:
            order = self._next_order
            self._next_order += 1 + self._draws.below(3)
            self.orders[order] = (side, price, qty - before)
            self._at.setdefault((side, price), []).append(order)
            return [Change(Kind.ADD, side, 0, price, qty - before, order)]
        left = before - qty
        queue = self._at.get((side, price), [])
        while left:
            order = queue[0]
            size = self.orders[order][2]
            take = min(left, size)
            if take == size:
                del queue[0]
            out.append(self._shrink(order, side, price, size, take))
            left -= take
        return out

    def _shrink(self, order: int, side: int, price: int, size: int, take: int) -> Change:
        how = self._draws.below(4)
        if take == size:
            del self.orders[order]
            if how == 0:
                return Change(Kind.EXECUTE, side, 0, price, take, order)
            return Change(Kind.CANCEL, side, 0, price, 0 if how == 1 else take, order)
        self.orders[order] = (side, price, size - take)
        if how == 0:
            return Change(Kind.EXECUTE, side, 0, price, take, order)
        if how == 1:
            return Change(Kind.MODIFY, side, 0, price, size - take, order)
        return Change(Kind.CANCEL, side, 0, price, take, order)

    # -- messages

    def book(self, changes: list[Change]) -> Message:
        """A book message with the next ids."""
        prev, self.book_id = self.book_id, self.book_id + 1 + self._draws.below(40)
        return Message("book", prev, self.book_id, changes)

    def trades(self, changes: list[Change]) -> Message:
        """A trade message with the next ids, one for each trade."""
        prev, self.trade_id = self.trade_id, self.trade_id + len(changes)
        return Message("trade", prev, self.trade_id, changes)

    def update(self) -> Message:
        """An ordinary book message: one to a dozen changes near the touch, now and then far away."""
        draws, out = self._draws, []
        for _ in range(1 + draws.few() + draws.few()):
            out += self._one_change()
        for side, levels in ((Side.BID, self.bids), (Side.ASK, self.asks)):
            if len(levels) > _LEVELS_MOST:
                out += self._trim(side, levels)
        if self._far_ppm and draws.hits(self._far_ppm):
            self.far += 1
            side = Side.BID if draws.below(2) else Side.ASK
            price = (MAGNITUDE_LIMIT - 1 - draws.below(3)) * (-1 if side == Side.BID else 1)
            out += self._change(side, price, 0 if draws.below(2) else self._size())
        return self.book(out or self._one_change_at_least())

    def _one_change(self) -> list[Change]:
        draws = self._draws
        side = Side.BID if draws.below(2) else Side.ASK
        levels = self.bids if side == Side.BID else self.asks
        spread = self.best_ask - self.best_bid
        inside = spread > 1 and draws.below(8) < (7 if spread > 16 else 1)
        if not levels or spread > 1 << 20:  # only a level at the limit is left
            price = self.best_ask - 2 - draws.few() if side == Side.BID else self.best_bid + 2 + draws.few()
        elif inside:
            step = 1 + draws.below(min(spread - 1, 1 << 30))
            price = self.best_bid + step if side == Side.BID else self.best_ask - step
        else:
            back = draws.few() if draws.below(2) else draws.below(_DEPTH)
            price = self.best_bid - back if side == Side.BID else self.best_ask + back
        if abs(price) >= MAGNITUDE_LIMIT:
            price = self._centre + (-1 if side == Side.BID else 1)
        gone = price in levels and draws.below(2) == 0
        if not gone and price not in levels and draws.below(16) == 0:
            return [] if self._order_level else [Change(Kind.LEVEL, side, 0, price, 0)]  # a level nobody knew
        return self._change(side, price, 0 if gone else self._size())

    def _trim(self, side: int, levels: dict[int, int]) -> list[Change]:
        far_first = sorted(levels, reverse=side == Side.ASK)
        return [c for price in far_first[: _LEVELS_MOST // 2] for c in self._change(side, price, 0)]

    def sweep(self, most: int) -> tuple[list[Change], list[Change]]:
        """An aggressor takes up to `most` levels: its trades, and what is left of the levels."""
        buy = self._draws.below(2) == 0
        side, aggressor = (Side.ASK, Side.BID) if buy else (Side.BID, Side.ASK)
        levels = self.asks if buy else self.bids
        prices = [self.best_ask if buy else self.best_bid]
        if most > 1:
            prices = sorted(levels, reverse=not buy)[:most]
        taken: list[Change] = []
        left: list[Change] = []
        for n, price in enumerate(prices, 1):
            size = levels.get(price, 0)
            if not size:
                break
            part = size if n < len(prices) else 1 + self._draws.below(min(size, 1 << 30))
            taken.append(self._trade(price, part, aggressor))
            left += self._change(side, price, size - part)
        return taken, left

    def _trade(self, price: int, qty: int, aggressor: int) -> Change:
        chance = self._draws.below(400)
        flags = _HIDDEN if chance < 12 else _NOT_MARKET if chance < 15 else 0
        if self._no_side_ppm and self._draws.hits(self._no_side_ppm):
            self.no_side += 1
            aggressor = Side.NONE
        return Change(Kind.TRADE, aggressor, flags, price, qty)

    def lone_trade(self) -> Change:
        """A trade near the touch that takes nothing from the book we see."""
        buy = self._draws.below(2) == 0
        price = self.best_ask if buy else self.best_bid
        return self._trade(price, 1 + self._draws.below(1 << 16), Side.BID if buy else Side.ASK)

    def quote(self) -> Message | None:
        """The venue's own best quote, or None while a side is empty."""
        if not self.bids or not self.asks:
            return None
        bid = Change(Kind.QUOTE, Side.BID, 0, self.best_bid, self.bids[self.best_bid])
        ask = Change(Kind.QUOTE, Side.ASK, 0, self.best_ask, self.asks[self.best_ask])
        return Message("quote", 0, self.book_id, [bid, ask])

    def snapshot(self, *, recovery: bool = True) -> Message:
        """The whole book as it is now, as a snapshot with its id; `recovery` restarts the reader."""
        flag = _RECOVERY if recovery else 0
        out: list[Change] = []
        if self._order_level or not (self.bids or self.asks):
            out.append(Change(Kind.CLEAR, Side.NONE, flag, 0, 0))
        if self._order_level:
            out += [Change(Kind.ADD, s, flag, p, q, o) for o, (s, p, q) in self.orders.items()]
        else:
            out += [
                Change(Kind.SNAPSHOT_LEVEL, Side.BID, flag, p, self.bids[p]) for p in sorted(self.bids)[::-1]
            ]
            out += [Change(Kind.SNAPSHOT_LEVEL, Side.ASK, flag, p, self.asks[p]) for p in sorted(self.asks)]
        return Message("book", 0, self.book_id, out)

    # -- rare states of a market

    def cross(self, by: int) -> tuple[Message, int]:
        """A bid at the best ask (`by` 0) or above it, and its price, for `uncross`."""
        price = min(self.best_ask + by, MAGNITUDE_LIMIT - 1)
        return self.book(self._other_size(price)), price

    def uncross(self, price: int) -> Message:
        """Takes the bids at `price` and above away again."""
        high = sorted(p for p in self.bids if p >= price)
        return self.book(
            [c for p in high for c in self._change(Side.BID, p, 0)] or self._one_change_at_least()
        )

    def _one_change_at_least(self) -> list[Change]:
        return self._other_size(max(self.best_bid - _DEPTH, 1 - MAGNITUDE_LIMIT))

    def _other_size(self, price: int) -> list[Change]:
        before = self.bids.get(price, 0)
        return self._change(
            Side.BID, price, before - 1 if before > 1 << 40 else before + 1 + self._draws.below(99)
        )

    def empty(self, side: int, how: int) -> Message:
        """Takes a side away: by single deletes (`how` 0), by a clear (1), or a clear up to a price (2)."""
        levels = self.bids if side == Side.BID else self.asks
        if how == 0 or self._order_level:
            return self.book(
                [c for p in list(levels) for c in self._change(side, p, 0)] or self._one_change_at_least()
            )
        if how == 1 or not levels:
            levels.clear()
            return self.book([Change(Kind.CLEAR, side, 0, 0, 0)])
        ordered = sorted(levels, reverse=side == Side.BID)
        bound = ordered[min(3, len(ordered) - 1)]
        for p in ordered[:4]:
            del levels[p]
        if levels and side == Side.BID:
            self.best_bid = max(levels)
        elif levels:
            self.best_ask = min(levels)
        return self.book([Change(Kind.CLEAR, side, _BOUND, bound, 0)])

    def clear(self) -> Message:
        """Takes both sides away at once."""
        self.bids.clear()
        self.asks.clear()
        self.orders.clear()
        self._at.clear()
        return self.book([Change(Kind.CLEAR, Side.NONE, 0, 0, 0)])
