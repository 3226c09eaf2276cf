"""The numbers of a backtest as people read them: in the quote currency and in units of the base.

Leans on `research.backtest.result`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from featureplane.execution.money import Worth, shown
from featureplane.market.instruments import Instrument
from featureplane.research.backtest.result import HORIZONS_MS, BacktestResult

__all__ = ["Numbers", "numbers_of"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A backtest of one symbol. Money in the quote currency, sizes and inventory in units of the base.

    `markouts` are in price, by milliseconds; None where nothing was filled or the mid is not known, as
    `pnl` is when what is held has no mid. `inventory_most` is the largest held, long or short, at the
    points of equity.
    """

    messages: int
    decisions: int
    sent: int
    refused: int
    fills: int
    maker_fills: int
    fill_rate: float | None
    volume: float
    pnl: float | None
    equity_low: float | None
    equity_high: float | None
    fees: float
    markouts: dict[int, float | None]
    inventory: float
    inventory_most: float
    cpu_ns_per_message: float

    def to_json(self) -> dict[str, Any]:
        """As `featureplane backtest --json` prints them."""
        return {
            "messages": self.messages,
            "decisions": self.decisions,
            "orders_sent": self.sent,
            "orders_refused": self.refused,
            "fills": self.fills,
            "maker_fills": self.maker_fills,
            "fill_rate": self.fill_rate,
            "volume": self.volume,
            "pnl": self.pnl,
            "equity_low": self.equity_low,
            "equity_high": self.equity_high,
            "fees": self.fees,
            "markouts": {str(horizon): value for horizon, value in self.markouts.items()},
            "inventory": self.inventory,
            "inventory_most": self.inventory_most,
            "cpu_ns_per_message": round(self.cpu_ns_per_message, 1),
        }


def numbers_of(result: BacktestResult, instrument: Instrument) -> Numbers:
    """The numbers of a backtest of one instrument."""
    worth, price_unit = Worth(instrument), 10.0**instrument.price_exponent
    known = [point.equity for point in result.equity if point.equity is not None]
    held = [point.inventory[0] for point in result.equity]
    volume = sum(abs(worth.of(fill.event.price, fill.event.qty)) for fill in result.fills)
    moves = {horizon: result.markout(horizon) for horizon in HORIZONS_MS}
    return Numbers(
        messages=result.messages,
        decisions=len(result.decisions),
        sent=result.sent,
        refused=result.refused,
        fills=len(result.fills),
        maker_fills=sum(fill.event.is_maker for fill in result.fills),
        fill_rate=result.fill_rate,
        volume=float(shown(volume)),
        pnl=None if result.pnl is None else float(shown(result.pnl)),
        equity_low=float(shown(min(known))) if known else None,
        equity_high=float(shown(max(known))) if known else None,
        fees=float(shown(result.fees)),
        markouts={at: None if move is None else move / price_unit for at, move in moves.items()},
        inventory=float(shown(held[-1], instrument.qty_exponent)),
        inventory_most=float(shown(max(abs(one) for one in held), instrument.qty_exponent)),
        cpu_ns_per_message=float(result.cpu_ns) / float(max(1, result.messages)),
    )
