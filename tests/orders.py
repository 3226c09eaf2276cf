"""Orders against a paper venue over hand-written messages; times are milliseconds after `START_NS`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from featureplane.execution.approval import Approved
from featureplane.execution.limits import RiskLimits
from featureplane.execution.orders import EventKind, Order, OrderEvent, OrderIntent, Side, TimeInForce
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venues.paper import PaperOptions, PaperVenue
from featureplane.market.events import StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.messages import Event
from tests.streams import MS, START_NS, as_array, instrument

WIDE: Final = RiskLimits(
    order_qty_max="1000000",
    order_value_max="100000000",
    price_collar_ppm_max=1_000_000,
    fat_finger_ticks_max=100_000,
    position_max="1000000",
    gross_value_max="1000000000",
    open_value_max="1000000000",
    orders_per_second_max=10_000,
    messages_per_second_max=10_000,
    repeated_execution_max=10_000,
    duplicate_order_ms=0,
    self_trades_max=1000,
    daily_loss_max="1000000000",
    drawdown_max="1000000000",
    loss_streak_max=1000,
)


def approve(about: Instrument, intent: OrderIntent) -> Approved[OrderIntent]:
    """An approval by a risk check of its own, which has no quarrel with the price."""
    check = RiskCheck([about], WIDE)
    price = 100 if intent.price is None else intent.price
    check.on_market(about.symbol, price - 1, price + 1, 0)
    if intent.reduce_only:
        check.portfolio.fill(about.symbol, intent.side.opposite, intent.qty, price)
    answer = check.review(intent, 0)
    assert isinstance(answer, Approved), answer
    return answer


def _time(at: float, now_ns: int | None) -> int:
    return START_NS + round(at * MS) if now_ns is None else now_ns


class Trader:
    """One instrument at a paper venue; keeps every order and every event."""

    def __init__(
        self, *, about: Instrument | None = None, stream: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.instrument = about or instrument()
        self.venue = PaperVenue(
            [self.instrument], PaperOptions(**options), stream=StreamOptions(**(stream or {}))
        )
        self.orders: dict[int, Order] = {}
        self.events: list[OrderEvent] = []

    def see(self, *messages: list[Event]) -> None:
        """The market moves, and what is known then is told."""
        array = as_array(messages)
        self.venue.on_market(array)
        self.hear(now_ns=int(array["local_ts_ns"][-1]))

    def hear(self, at: float = 0, *, now_ns: int | None = None) -> list[OrderEvent]:
        """What is known by then; every event must be one its order allows."""
        told = self.venue.poll(_time(at, now_ns))
        for event in told:
            self.orders[event.client_id].apply(event)
        self.events += told
        return told

    def send(
        self,
        side: Side,
        qty: int,
        price: int | None = None,
        *,
        at: float = 0,
        now_ns: int | None = None,
        **fields: Any,
    ) -> int:
        """The number of a new order; what is known at once is told."""
        number = len(self.orders) + 1
        if price is None:
            fields["tif"] = TimeInForce.IOC
        intent = OrderIntent(
            symbol=self.instrument.symbol, side=side, qty=qty, price=price, client_id=number, **fields
        )
        self.orders[number] = Order(intent)
        self.venue.send(approve(self.instrument, intent), _time(at, now_ns))
        self.hear(at, now_ns=now_ns)
        return number

    def cancel(self, number: int, *, at: float) -> None:
        """Ask for its end; what is known at once is told."""
        self.venue.cancel(number, _time(at, None))
        self.hear(at)

    def story(self, number: int) -> list[tuple[str, int, int]]:
        """(what, size, price) of everything told of an order."""
        mine = [event for event in self.events if event.client_id == number]
        return [(event.reason or event.kind.value, event.qty, event.price) for event in mine]

    def times(self, number: int) -> list[tuple[float, float]]:
        """(when it happened, when it was known) of the same, in milliseconds."""
        mine = [event for event in self.events if event.client_id == number]
        return [((e.venue_ts_ns - START_NS) / MS, (e.ts_ns - START_NS) / MS) for e in mine]

    def filled(self, *numbers: int) -> Sequence[int]:
        """How much of each was filled."""
        return [self.orders[number].filled for number in numbers]


ACCEPTED: Final = (EventKind.ACCEPTED.value, 0, 0)
