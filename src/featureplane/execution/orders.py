"""Orders: what a strategy asks for, and what becomes of it, as a table.

Prices and sizes are integers in the units of the instrument's events (rule 1.1). Leans on
`errors` and `units`. Knows nothing of limits, positions or venues.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from featureplane.errors import IllegalTransition, InvalidOrder, StateError
from featureplane.units import MAGNITUDE_LIMIT, ratio

__all__ = [
    "FINAL",
    "TABLE",
    "EventKind",
    "Order",
    "OrderEvent",
    "OrderIntent",
    "OrderState",
    "Side",
    "TimeInForce",
    "advance",
]


class Side(IntEnum):
    """What an order does; the numbers are those of the side of the book it would rest on."""

    BUY = 1
    SELL = 2

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other one."""
        return Side.SELL if self is Side.BUY else Side.BUY


class TimeInForce(StrEnum):
    """How long an order may wait."""

    GTC = "gtc"  # takes what it may, and the rest waits until it is filled or cancelled
    IOC = "ioc"  # takes what it may at once, and the rest expires
    POST_ONLY = "post_only"  # waits; rejected where it would take


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIntent:
    """An order as a strategy wants it.

    `qty` > 0; `price` None is a market order, which is IOC. `reduce_only` may bring a position
    nearer to zero and no further. `client_id` is the order's number, above 0 and rising within
    one risk check; 0: nobody has numbered it. `trace_id` is that of the message it answers, so
    that logs can be read from message to fill. Raises `InvalidOrder`.
    """

    symbol: str
    side: Side
    qty: int
    price: int | None = None
    tif: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False
    client_id: int = 0
    trace_id: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant; a float is no price, whatever it holds."""
        if not isinstance(self.side, Side):
            raise InvalidOrder("side", self.side, "Side.BUY or Side.SELL")
        if not isinstance(self.tif, TimeInForce):
            raise InvalidOrder("tif", self.tif, f"one of {', '.join(TimeInForce)}")
        if type(self.qty) is not int or not 0 < self.qty < MAGNITUDE_LIMIT:
            raise InvalidOrder("qty", self.qty, "an integer of 1 to 2^53 - 1")
        if self.price is None:
            if self.tif is not TimeInForce.IOC:
                hint = "a market order takes what is there: give tif=TimeInForce.IOC"
                raise InvalidOrder("price", None, f"an integer, for {self.tif}", hint=hint)
        elif type(self.price) is not int or not -MAGNITUDE_LIMIT < self.price < MAGNITUDE_LIMIT:
            raise InvalidOrder("price", self.price, "an integer of a magnitude below 2^53, or None")
        if type(self.client_id) is not int or self.client_id < 0:
            raise InvalidOrder("client_id", self.client_id, "an integer from 0")

    def numbered(self, client_id: int, trace_id: str) -> OrderIntent:
        """The same order with this number and trace; `dataclasses.replace` takes twice as long."""
        return OrderIntent(
            symbol=self.symbol,
            side=self.side,
            qty=self.qty,
            price=self.price,
            tif=self.tif,
            reduce_only=self.reduce_only,
            client_id=client_id,
            trace_id=trace_id,
        )


class OrderState(StrEnum):
    """Where an order stands, as far as we were told."""

    PENDING = "pending"  # approved and sent; the venue has not answered
    WORKING = "working"  # the venue has it
    CANCELLING = "cancelling"  # we asked to cancel; it can still be filled
    FILLED = "filled"  # all of it; final
    CANCELLED = "cancelled"  # what was left is gone; final
    REJECTED = "rejected"  # the venue never had it; final
    EXPIRED = "expired"  # its time, or the time it had to take, is over; final


class EventKind(StrEnum):
    """What happens to an order."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"  # what was left
    CANCEL_REQUESTED = "cancel_requested"  # by us
    CANCELLED = "cancelled"
    CANCEL_REJECTED = "cancel_rejected"
    EXPIRED = "expired"


FINAL: Final = frozenset({OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED})
"""States without a way out."""

_FILLS: Final = frozenset({EventKind.PARTIALLY_FILLED, EventKind.FILLED})

TABLE: Final[dict[tuple[OrderState, EventKind], OrderState]] = {
    (OrderState.PENDING, EventKind.ACCEPTED): OrderState.WORKING,
    (OrderState.PENDING, EventKind.REJECTED): OrderState.REJECTED,
    (OrderState.PENDING, EventKind.CANCEL_REQUESTED): OrderState.CANCELLING,
    (OrderState.WORKING, EventKind.PARTIALLY_FILLED): OrderState.WORKING,
    (OrderState.WORKING, EventKind.FILLED): OrderState.FILLED,
    (OrderState.WORKING, EventKind.CANCEL_REQUESTED): OrderState.CANCELLING,
    (OrderState.WORKING, EventKind.CANCELLED): OrderState.CANCELLED,
    (OrderState.WORKING, EventKind.EXPIRED): OrderState.EXPIRED,
    (OrderState.CANCELLING, EventKind.ACCEPTED): OrderState.CANCELLING,
    (OrderState.CANCELLING, EventKind.REJECTED): OrderState.REJECTED,
    (OrderState.CANCELLING, EventKind.PARTIALLY_FILLED): OrderState.CANCELLING,
    (OrderState.CANCELLING, EventKind.FILLED): OrderState.FILLED,
    (OrderState.CANCELLING, EventKind.CANCELLED): OrderState.CANCELLED,
    (OrderState.CANCELLING, EventKind.CANCEL_REJECTED): OrderState.WORKING,
    (OrderState.CANCELLING, EventKind.EXPIRED): OrderState.EXPIRED,
    # WHY: a cancel on its way when the order ended is answered afterwards, and changes nothing.
    **{(state, EventKind.CANCEL_REJECTED): state for state in FINAL},
}


def advance(state: OrderState, event: EventKind, *, who: str = "order") -> OrderState:
    """The state behind an event; raises `IllegalTransition` for what is not in the table."""
    try:
        return TABLE[state, event]
    except KeyError:
        allowed = [kind for at, kind in TABLE if at is state]
        raise IllegalTransition(who, state, event, allowed) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """What a venue, or for `CANCEL_REQUESTED` we ourselves, say of an order.

    `qty` and `price` are those of a fill, else 0. `fee` is in money (10^-18 of the quote currency),
    negative for a rebate. `venue_ts_ns` is when it happened, `ts_ns` when we know of it.
    """

    kind: EventKind
    client_id: int
    symbol: str
    side: Side
    venue_ts_ns: int
    ts_ns: int
    qty: int = 0
    price: int = 0
    fee: int = 0
    is_maker: bool = False
    reason: str = ""
    trace_id: str = ""

    @property
    def is_fill(self) -> bool:
        """Whether something was traded."""
        return self.kind in _FILLS


class Order:
    """One order and what is known of it; changed by `apply` alone.

    >>> intent = OrderIntent(symbol="X", side=Side.BUY, qty=5, price=100, client_id=1)
    >>> order = Order(intent)
    >>> head = {"client_id": 1, "symbol": "X", "side": Side.BUY, "venue_ts_ns": 0, "ts_ns": 0}
    >>> order.apply(OrderEvent(kind=EventKind.ACCEPTED, **head))
    >>> order.apply(OrderEvent(kind=EventKind.PARTIALLY_FILLED, qty=2, price=100, **head))
    >>> order.state.value, order.filled, order.leaves, order.average_price
    ('working', 2, 3, 100.0)
    """

    __slots__ = ("_value", "filled", "intent", "state")

    def __init__(self, intent: OrderIntent) -> None:
        self.intent = intent
        self.state = OrderState.PENDING
        self.filled = 0
        self._value = 0

    def __repr__(self) -> str:
        wanted = self.intent
        return f"Order({wanted.client_id} {wanted.symbol} {self.state} {self.filled}/{wanted.qty})"

    @property
    def leaves(self) -> int:
        """What can still be filled: 0 in a final state."""
        return 0 if self.is_final else self.intent.qty - self.filled

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.state in FINAL

    @property
    def average_price(self) -> float | None:
        """Mean price of the fills, weighted by size; None before the first."""
        return ratio(self._value, self.filled)

    def apply(self, event: OrderEvent) -> None:
        """Take the next event.

        Raises `IllegalTransition`, or `StateError` for a fill that does not fit what is left or an
        event of another order; nothing is changed then.
        """
        intent = self.intent
        who = f"order {intent.client_id}"
        if (event.client_id, event.symbol, event.side) != (intent.client_id, intent.symbol, intent.side):
            raise StateError(f"{who} of {intent.symbol} was told of {event.client_id} of {event.symbol}")
        state = advance(self.state, event.kind, who=who)
        if event.is_fill:
            left = intent.qty - self.filled
            fits = event.qty == left if event.kind is EventKind.FILLED else 0 < event.qty < left
            if not fits:
                raise StateError(f"{who}: `{event.kind}` with {event.qty}, and {left} left")
            self.filled += event.qty
            self._value += event.qty * event.price
        self.state = state
