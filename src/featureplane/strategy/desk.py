"""One strategy's orders: numbered, reviewed, sent, and what they add up to.

Leans on `execution`. Knows nothing of events of the market.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from featureplane.errors import StateError
from featureplane.execution.orders import EventKind, Order, OrderEvent, OrderIntent
from featureplane.execution.risk import Approved, Refused, RiskCheck
from featureplane.execution.venue import OrderVenue
from featureplane.market.stages import Stages
from featureplane.strategy.market import Tape

__all__ = ["Decision", "Desk", "Exchange"]


class Decision(NamedTuple):
    """What a strategy asked for, and when: one line of a comparison of two forms.

    `message` counts the runner's messages from 1; times are those of the message at hand. `action` is
    `submit` or `cancel`; `outcome` `sent`, or the code of the risk limit that refused.
    """

    message: int
    ts_ns: int
    local_ts_ns: int
    strategy: str
    action: str
    order_id: int
    symbol: str
    side: int
    qty: int
    price: int | None
    tif: str
    reduce_only: bool
    outcome: str


class Exchange:
    """What the desks of one runner share: risk check, venue, the next number, and the message at hand.

    `mark` is called before a review, so that the risk check knows the touch in force. `tape` has the messages
    that were taken.
    """

    def __init__(
        self,
        risk: RiskCheck | None,
        venue: OrderVenue | None,
        mark: Callable[[], None],
        told: Callable[[Decision], None] | None,
        tape: Tape,
    ) -> None:
        self.risk, self.venue, self.tape = risk, venue, tape
        self.mark, self.told = mark, told
        self.last_id = 0
        self.asked = False  # whether the venue has something new to answer
        self.owners: dict[int, Desk] = {}
        self.stages: Stages | None = None  # of a message that is timed
        self.late: set[int] | None = None  # cancels that came too late for the venue, if somebody asks

    @property
    def message(self) -> int:
        """The number of the message at hand."""
        return self.tape.messages

    @property
    def now_ns(self) -> int:
        """The latest time at which a message was received, or that was told."""
        return self.tape.now_ns

    def review(self, risk: RiskCheck, intent: OrderIntent) -> Approved[OrderIntent] | Refused[OrderIntent]:
        """What the risk check says of an order."""
        stages = self.stages
        if stages is None:
            return risk.review(intent, self.now_ns)
        began = stages.timer()
        answer = risk.review(intent, self.now_ns)
        stages.add("risk", began)
        return answer

    def send(self, venue: OrderVenue, approved: Approved[OrderIntent]) -> None:
        """Hand an order over."""
        stages = self.stages
        if stages is None:
            venue.send(approved, self.now_ns)
            return
        began = stages.timer()
        venue.send(approved, self.now_ns)
        stages.add("order", began)


class Desk:
    """The orders of one strategy."""

    def __init__(self, name: str, exchange: Exchange) -> None:
        self.name = name
        self._exchange = exchange
        self.is_open = True
        self._positions: dict[str, int] = {}
        self.positions: Mapping[str, int] = self._positions
        self._working: dict[int, Order] = {}
        self.working: Mapping[int, Order] = self._working
        self._ending: set[int] = set()  # asked to end, and not answered
        self.refused = 0

    @property
    def ending(self) -> frozenset[int]:
        """Orders that were asked to end and have not."""
        return frozenset(self._ending)

    @property
    def now_ns(self) -> int:
        """When the message at hand was received."""
        return self._exchange.now_ns

    @property
    def message(self) -> int:
        """The number of the message at hand."""
        return self._exchange.message

    def submit(self, intent: OrderIntent) -> int:
        """The number of a new order, 0 if the risk check refused it; see `StrategyContext.submit`."""
        exchange = self._exchange
        if not self.is_open:
            raise StateError(f"{self.name} has been stopped", hint="it sends no more orders")
        if exchange.risk is None or exchange.venue is None:
            raise StateError("there is no venue here", hint="give the runner a venue and a risk check")
        exchange.last_id += 1
        number = exchange.last_id
        numbered = intent.numbered(number, intent.trace_id or f"m{exchange.message}")
        exchange.mark()
        answer = exchange.review(exchange.risk, numbered)
        if not isinstance(answer, Approved):
            self.refused += 1
            self._tell("submit", numbered, answer.code.value)
            return 0
        # WHY first: a venue without latency may answer within `send`.
        self._working[number] = Order(numbered)
        exchange.owners[number] = self
        exchange.asked = True
        self._tell("submit", numbered, "sent")
        exchange.send(exchange.venue, answer)
        return number

    def cancel(self, order_id: int) -> bool:
        """Ask for the end of an order; see `StrategyContext.cancel`."""
        exchange = self._exchange
        order = self._working.get(order_id)
        if order is None:
            if not 0 < order_id <= exchange.last_id or order_id in exchange.owners:
                raise StateError(f"order {order_id} is not one of {self.name}")
            return False
        if order_id in self._ending or exchange.venue is None:
            return False
        try:
            exchange.venue.cancel(order_id, exchange.now_ns)
        except StateError:
            if exchange.late is not None:
                exchange.late.add(order_id)
            return False  # over for the venue; we are about to hear of it
        self._ending.add(order_id)
        exchange.asked = True
        self._tell("cancel", order.intent, "sent")
        return True

    def take(self, event: OrderEvent) -> None:
        """What became of an order of this desk."""
        order = self._working.get(event.client_id)
        if order is None:
            return  # the late answer to a cancel
        order.apply(event)
        if event.is_fill:
            signed = event.side.sign * event.qty
            self._positions[event.symbol] = self._positions.get(event.symbol, 0) + signed
        if event.kind is EventKind.CANCEL_REJECTED or order.is_final:
            self._ending.discard(event.client_id)
        if order.is_final:
            self._forget(event.client_id)

    def _forget(self, order_id: int) -> None:
        del self._working[order_id]
        del self._exchange.owners[order_id]

    def take_over(self, other: Desk) -> None:
        """Go on with the positions of a desk that was closed."""
        self._positions.update(other.positions)

    def close(self) -> None:
        """Send nothing more, and cancel what works."""
        self.is_open = False
        for number in list(self._working):
            self.cancel(number)

    def _tell(self, action: str, intent: OrderIntent, outcome: str) -> None:
        told = self._exchange.told
        if told is not None:
            told(self._decision(action, intent, outcome))

    def _decision(self, action: str, intent: OrderIntent, outcome: str) -> Decision:
        tape = self._exchange.tape
        return Decision(
            tape.messages,
            tape.ts_ns,
            tape.local_ts_ns,
            self.name,
            action,
            intent.client_id,
            intent.symbol,
            int(intent.side),
            intent.qty,
            intent.price,
            intent.tif.value,
            intent.reduce_only,
            outcome,
        )
