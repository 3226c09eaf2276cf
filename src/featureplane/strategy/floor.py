"""Where the orders of all strategies of a runner meet risk check and venue.

Leans on `strategy.desk` and `execution`. Knows nothing of handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from featureplane.execution.orders import EventKind, OrderEvent
from featureplane.execution.risk import RiskCheck
from featureplane.execution.venue import OrderVenue
from featureplane.market.instruments import Instrument
from featureplane.strategy.desk import Decision, Desk, Exchange
from featureplane.strategy.market import Tape

__all__ = ["Floor"]

_NOTHING: Final[tuple[tuple[Desk | None, OrderEvent], ...]] = ()


class Floor(Exchange):
    """The exchange of a runner's desks, and what it keeps from message to message."""

    def __init__(
        self,
        instruments: Iterable[Instrument],
        risk: RiskCheck | None,
        venue: OrderVenue | None,
        told: Callable[[Decision], None] | None,
        tape: Tape,
    ) -> None:
        super().__init__(risk, venue, self.mark, told, tape)
        self._symbols = tuple(one.symbol for one in instruments)
        self.holds = self._is_held()
        """Whether something is held: every move of the touch is one of the equity then."""

    def _is_held(self) -> bool:
        risk = self.risk
        return risk is not None and any(risk.portfolio[symbol].qty for symbol in self._symbols)

    def mark(self) -> None:
        """Tell the risk check the touch in force.

        WHY not with every message: while nothing is held the equity stands still, so that only the
        last touch before an order counts, and most messages have none.
        """
        risk = self.risk
        if risk is not None:
            for symbol, bid, ask, ts_ns in self.tape.touches():
                risk.on_market(symbol, bid, ask, ts_ns)

    def answers(self) -> Iterable[tuple[Desk | None, OrderEvent]]:
        """What the venue tells of orders until now, each with its desk, None where nobody waits for it.

        The risk check has heard of an event when it comes out; the desk is told by whoever takes it.
        """
        self.asked = False
        venue, risk = self.venue, self.risk
        if venue is None or risk is None:
            return _NOTHING
        told = venue.poll(self.tape.now_ns)
        return self._attended(told, risk) if told else _NOTHING

    def _attended(self, told: list[OrderEvent], risk: RiskCheck) -> Iterable[tuple[Desk | None, OrderEvent]]:
        for event in told:
            desk = self.owners.get(event.client_id)
            if desk is None and event.kind is EventKind.CANCEL_REQUESTED:
                continue  # asked for in the same breath in which the order ended
            risk.on_event(event)
            if event.is_fill:
                self.holds = self._is_held()
            yield desk, event
