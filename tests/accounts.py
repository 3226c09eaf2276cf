"""An account under a risk check, with a clock and a venue that does as it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from featureplane.execution.orders import EventKind, OrderEvent, OrderIntent, Side, TimeInForce
from featureplane.execution.risk import Approved, RiskCheck
from featureplane.units import NANOS_PER_MS, NANOS_PER_SECOND
from tests.orders import WIDE
from tests.streams import instrument

S: Final = NANOS_PER_SECOND
MS: Final = NANOS_PER_MS
START: Final = 1_700_000_000 * S
ABC: Final = instrument(symbol="ABC", price_exponent=2, qty_exponent=1, tick_size="0.05")
XYZ: Final = instrument(symbol="XYZ", price_exponent=0, qty_exponent=0, symbol_id=8)
BID, ASK = 99_95, 100_05  # mid 100.00


class Account:
    """A risk check with a clock, and a venue that does as it is told."""

    def __init__(self, **limits: Any) -> None:
        self.check = RiskCheck([ABC, XYZ], replace(WIDE, **limits))
        self.now_ns = START
        self.number = 0
        self.market(BID, ASK)

    def market(self, bid: float | None, ask: float | None, symbol: str = "ABC") -> None:
        self.check.on_market(symbol, bid, ask, self.now_ns)

    def ask(self, side: Side = Side.BUY, qty: int = 10, price: int | None = BID, **fields: Any) -> Any:
        self.number += 1
        defaults: dict[str, Any] = {"symbol": "ABC", "client_id": self.number}
        if price is None:
            defaults["tif"] = TimeInForce.IOC
        intent = OrderIntent(side=side, qty=qty, price=price, **(defaults | fields))
        return self.check.review(intent, self.now_ns)

    def tell(self, intent: OrderIntent, kind: EventKind, qty: int = 0, price: int = 0, fee: int = 0) -> None:
        self.check.on_event(
            OrderEvent(
                kind=kind,
                client_id=intent.client_id,
                symbol=intent.symbol,
                side=intent.side,
                venue_ts_ns=self.now_ns,
                ts_ns=self.now_ns,
                qty=qty,
                price=price,
                fee=fee,
            )
        )

    def work(self, side: Side = Side.BUY, qty: int = 10, price: int = BID, **fields: Any) -> OrderIntent:
        answer = self.ask(side, qty, price, **fields)
        assert isinstance(answer, Approved), answer
        intent: OrderIntent = answer.item
        self.tell(intent, EventKind.ACCEPTED)
        return intent

    def trade(self, side: Side, qty: int, price: int, fee: int = 0) -> None:
        intent = self.work(side, qty, BID if side is Side.BUY else ASK)
        self.tell(intent, EventKind.FILLED, qty, price, fee)

    def lose(self, dollars: int) -> None:
        """One round trip of one unit of ABC that loses so much."""
        self.trade(Side.BUY, 10, BID)
        self.trade(Side.SELL, 10, BID - 100 * dollars)


def hold(account: Account) -> None:
    account.market(999, 1001, "XYZ")
    intent = account.work(Side.BUY, 1, 1000, symbol="XYZ")
    account.tell(intent, EventKind.FILLED, 1, 1000)


def fill_twice(account: Account) -> None:
    account.trade(Side.BUY, 10, BID)
    account.now_ns += 1
    account.trade(Side.BUY, 10, BID)
    account.now_ns += 5 * S - 2
