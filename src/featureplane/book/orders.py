"""A book of orders, and the levels they add up to.

Order-level feeds lose messages, and an order may be older than the recording: an event that names
an order nobody knows changes nothing and is counted (reading 7). Leans on `book.levels`. Twin:
`crates/featureplane-core/src/book/l3.rs`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from featureplane.book.levels import LevelBook
from featureplane.market.events import EventFlag, Kind, Side
from featureplane.market.messages import Event
from featureplane.units import I64_MAX

__all__ = ["Order", "OrderBook"]

_BOUND: Final = int(EventFlag.BOUND)


class Order(NamedTuple):
    """A resting order."""

    side: int
    price: int
    qty: int


class OrderBook(LevelBook):
    """A book that takes order events beside level events; `orders` by id.

    >>> book = OrderBook()
    >>> book.apply(Event(Kind.ADD, Side.BID, 0, 1, 100, 5, 77, 0, 0, 0, 0))
    >>> book.apply(Event(Kind.EXECUTE, Side.BID, 0, 1, 100, 2, 77, 0, 0, 0, 0))
    >>> book.bids.levels(), book.orders[77].qty
    ([(100, 3)], 3)
    """

    __slots__ = ("orders", "unknown")

    def __init__(self) -> None:
        super().__init__()
        self.orders: dict[int, Order] = {}
        self.unknown = 0

    def clear(self) -> None:
        """Forget levels and orders; the count of unknown orders stays."""
        super().clear()
        self.orders.clear()

    def apply(self, event: Event) -> None:
        """Apply one event."""
        if event.kind < Kind.ADD:
            super().apply(event)
            if event.kind == Kind.CLEAR and self.orders:
                self._forget(event)
        elif event.kind == Kind.ADD:
            self._take(event.order_id, I64_MAX)
            self._put(event.order_id, Order(event.side, event.price, event.qty))
        elif event.order_id not in self.orders:
            self.unknown += 1
        elif event.kind == Kind.MODIFY:
            side = self.orders[event.order_id].side
            self._take(event.order_id, I64_MAX)
            self._put(event.order_id, Order(side, event.price, event.qty))
        else:
            everything = event.kind == Kind.CANCEL and event.qty == 0
            self._take(event.order_id, I64_MAX if everything else event.qty)

    def _put(self, order_id: int, order: Order) -> None:
        if order.qty:
            self.orders[order_id] = order
            levels = self.side(order.side)
            levels.set(order.price, min(levels.size_at(order.price) + order.qty, I64_MAX))

    def _take(self, order_id: int, qty: int) -> None:
        order = self.orders.pop(order_id, None)
        if order is None:
            return
        taken = min(qty, order.qty)
        levels = self.side(order.side)
        levels.set(order.price, max(0, levels.size_at(order.price) - taken))
        if taken < order.qty:
            self.orders[order_id] = order._replace(qty=order.qty - taken)

    def _forget(self, clear: Event) -> None:
        """Drop the orders a clear event takes away with their levels."""
        for order_id, order in list(self.orders.items()):
            named = clear.side in {Side.NONE, order.side}
            inside = order.price >= clear.price if order.side == Side.BID else order.price <= clear.price
            if named and (inside or not clear.flags & _BOUND):
                del self.orders[order_id]
