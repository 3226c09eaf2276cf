"""Fill models: when a waiting order of ours would have been filled.

All three fill what is left of an order when the market goes through it: a trade beyond its
price, or the other side's best price reaching it. They differ in what a trade *at* its price does:

    touch     fills it, however small the trade: the most an order can hope for
    queue     fills what is left of the trade behind the queue that stood there first
    through   does nothing: the least it must get

Leans on `venues.market_view`. Knows nothing of latency, fees or messages.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Final, Protocol

from featureplane.execution.orders import OrderIntent
from featureplane.execution.venues.market_view import Change
from featureplane.market.events import EventFlag
from featureplane.market.messages import Event

__all__ = ["FILL_MODELS", "FillModel", "Resting", "RestingSide"]

_HIDDEN: Final = int(EventFlag.HIDDEN)


class Resting:
    """An order of ours that waits at `price`; `ahead` is what must be filled before it.

    `behind` are the numbers of orders that came later, `credited` what of the queue was seen to
    go without a reason told, until `credited_ts_ns` of the venue: a trade told late explains it.
    """

    __slots__ = ("ahead", "behind", "credited", "credited_ts_ns", "intent", "left", "price")

    def __init__(self, intent: OrderIntent, price: int, left: int) -> None:
        self.intent = intent
        self.price = price
        self.left = left
        self.ahead = 0
        self.behind: set[int] = set()
        self.credited = 0
        self.credited_ts_ns = 0


class FillModel(Protocol):
    """What happens at the very price of a waiting order."""

    def rest(self, order: Resting, shown: int) -> None:
        """The order begins to wait, where the book shows `shown`."""

    def trade(self, order: Resting, trade: Event, qty: int) -> int:
        """What a trade at the order's price fills of it, `qty` being what it has for orders of ours."""

    def change(self, order: Resting, change: Change, *, traded: bool, source_ts_ns: int) -> None:
        """The level it waits at changed; `traded`: the same message told trades."""

    def resync(self, order: Resting, shown: int, source_ts_ns: int) -> None:
        """The book was replaced or mended, and shows `shown`."""


class Touch:
    """Any trade at the price, hidden ones too, fills the order."""

    def rest(self, order: Resting, shown: int) -> None:
        """Nothing to remember."""

    def trade(self, order: Resting, trade: Event, qty: int) -> int:
        """All of it."""
        del trade, qty
        return order.left

    def change(self, order: Resting, change: Change, *, traded: bool, source_ts_ns: int) -> None:
        """Nothing to remember."""

    def resync(self, order: Resting, shown: int, source_ts_ns: int) -> None:
        """Nothing to remember."""


class Through(Touch):
    """No trade at the price fills anything."""

    def trade(self, order: Resting, trade: Event, qty: int) -> int:
        """Nothing of it."""
        del order, trade, qty
        return 0


class Queue:
    """First come, first served, as far as the feed tells.

    Where events name orders, whose size left the queue is known. Where they do not, what goes
    without a trade goes from behind us first, and `ahead` is at most what is shown.
    """

    def rest(self, order: Resting, shown: int) -> None:
        """All that is shown is ahead."""
        order.ahead = shown

    def trade(self, order: Resting, trade: Event, qty: int) -> int:
        """What is left of a visible trade against our side behind the queue ahead."""
        if trade.flags & _HIDDEN or trade.side == order.intent.side:
            return 0
        if order.credited and trade.source_ts_ns <= order.credited_ts_ns:
            known = min(order.credited, qty)
            order.credited -= known
            qty -= known
        first = min(order.ahead, qty)
        order.ahead -= first
        return min(order.left, qty - first)

    def change(self, order: Resting, change: Change, *, traded: bool, source_ts_ns: int) -> None:
        """An order joined, or one ahead of us was taken away."""
        if change.concealed:
            return
        if not change.order_id:
            self.resync(order, change.after, source_ts_ns)
        elif change.after > change.before:
            order.behind.add(change.order_id)
        elif not (traded or change.executed) and change.order_id not in order.behind:
            order.ahead = max(0, order.ahead - (change.before - change.after))

    def resync(self, order: Resting, shown: int, source_ts_ns: int) -> None:
        """Nobody can be ahead who is not shown."""
        gone = order.ahead - min(order.ahead, shown)
        if gone:
            order.ahead -= gone
            order.credited += gone
            order.credited_ts_ns = source_ts_ns


FILL_MODELS: Final[dict[str, FillModel]] = {"touch": Touch(), "queue": Queue(), "through": Through()}
"""Models by name; they keep nothing, the orders do."""


class RestingSide:
    """Our waiting orders of one side, by price and then by time.

    A *key* is a price turned so that the most eager order has the highest one.
    """

    __slots__ = ("_at", "_keys", "_sign")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._keys: list[int] = []
        self._at: dict[int, list[Resting]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Resting]:
        for key in self._keys:
            yield from self._at[key]

    @property
    def prices(self) -> list[int]:
        """Where orders wait."""
        return [self._sign * key for key in self._keys]

    def add(self, order: Resting) -> None:
        """Behind those of the same price."""
        key = self._sign * order.price
        if key not in self._at:
            insort(self._keys, key)
            self._at[key] = []
        self._at[key].append(order)

    def remove(self, order: Resting) -> None:
        """It waits no longer."""
        key = self._sign * order.price
        orders = self._at[key]
        orders.remove(order)
        if not orders:
            del self._at[key]
            del self._keys[bisect_left(self._keys, key)]

    def at(self, price: int) -> list[Resting]:
        """Those at a price, oldest first; a list of its own."""
        return list(self._at.get(self._sign * price, ()))

    def passed_by(self, price: int) -> list[Resting]:
        """Those a trade at this price went beyond, the most eager first."""
        return self._from(bisect_right(self._keys, self._sign * price))

    def reached_by(self, price: int) -> list[Resting]:
        """Those the other side's best price has reached, the most eager first."""
        return self._from(bisect_left(self._keys, self._sign * price))

    def beyond(self, price: int) -> list[Resting]:
        """Those that wait deeper in the book than this price."""
        count = bisect_left(self._keys, self._sign * price)
        return [order for key in self._keys[:count] for order in self._at[key]]

    def _from(self, first: int) -> list[Resting]:
        if first == len(self._keys):
            return []
        return [order for key in reversed(self._keys[first:]) for order in self._at[key]]
