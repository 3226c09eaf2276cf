"""The risk limits, declared once: name, unit, default, refusal code, meaning.

`RiskLimits` is made from this table and `docs/reference/risk-limits.md` is written from it. A limit
is the largest value that passes. Leans on `execution.money`. Judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, cast

from featureplane.errors import SettingError
from featureplane.execution.money import MONEY_EXPONENT, amount

__all__ = ["CONDITIONS", "LIMITS", "LimitSpec", "RefusalCode", "RiskLimits"]


class RefusalCode(StrEnum):
    """Why an order was refused, in the order in which the questions are asked."""

    DUPLICATE_ID = "duplicate_id"
    NO_REFERENCE = "no_reference"
    STALE_REFERENCE = "stale_reference"
    REDUCE_ONLY = "reduce_only"
    ORDER_QTY = "order_qty"
    ORDER_VALUE = "order_value"
    PRICE_COLLAR = "price_collar"
    FAT_FINGER = "fat_finger"
    POSITION = "position"
    GROSS_VALUE = "gross_value"
    OPEN_VALUE = "open_value"
    ORDER_RATE = "order_rate"
    MESSAGE_RATE = "message_rate"
    REPEATED_EXECUTION = "repeated_execution"
    DUPLICATE_ORDER = "duplicate_order"
    SELF_TRADE = "self_trade"
    DAILY_LOSS = "daily_loss"
    DRAWDOWN = "drawdown"
    LOSS_STREAK = "loss_streak"


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """One limit. `shrinks`: an order that only reduces a position is not held back by it."""

    name: str
    unit: str
    default: str | int
    code: RefusalCode
    says: str
    least: int = 0
    per_symbol: bool = False
    shrinks: bool = False


def _limit(
    code: RefusalCode,
    unit: str,
    default: str | int,
    says: str,
    *,
    least: int = 0,
    per_symbol: bool = False,
    shrinks: bool = False,
) -> Any:
    about = {"code": code, "unit": unit, "says": says, "least": least}
    return field(default=default, metadata={**about, "per_symbol": per_symbol, "shrinks": shrinks})


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """What an account may do; sizes and money are decimal text. Raises `SettingError`.

    Sizes are in the instrument's own unit (coins, shares, contracts), money in the quote currency.

    >>> RiskLimits(order_qty_max="0.5", orders_per_second_max=10).daily_loss_max
    '10000'
    """

    reference_age_ms_max: int = _limit(
        RefusalCode.STALE_REFERENCE,
        "ms",
        1000,
        "age of the best bid and ask an order is judged by, before or behind the time of the order",
    )
    order_qty_max: str = _limit(RefusalCode.ORDER_QTY, "qty", "1000", "size of one order", per_symbol=True)
    order_value_max: str = _limit(
        RefusalCode.ORDER_VALUE,
        "money",
        "100000",
        "size x price of one order; a market order at the other side's best price",
        per_symbol=True,
    )
    price_collar_ppm_max: int = _limit(
        RefusalCode.PRICE_COLLAR,
        "ppm",
        50_000,
        "distance of the price from the mid, either way",
        per_symbol=True,
    )
    fat_finger_ticks_max: int = _limit(
        RefusalCode.FAT_FINGER,
        "ticks",
        100,
        "how far a price goes through the other side's best one",
        per_symbol=True,
    )
    position_max: str = _limit(
        RefusalCode.POSITION,
        "qty",
        "10000",
        "position, long or short, were this order and all working ones of its side filled",
        per_symbol=True,
        shrinks=True,
    )
    gross_value_max: str = _limit(
        RefusalCode.GROSS_VALUE,
        "money",
        "1000000",
        "all positions at their mids without sign, all working orders, and this one",
        shrinks=True,
    )
    open_value_max: str = _limit(
        RefusalCode.OPEN_VALUE, "money", "500000", "all working orders and this one", shrinks=True
    )
    orders_per_second_max: int = _limit(
        RefusalCode.ORDER_RATE, "orders/s", 50, "orders within any second, this one with them", least=1
    )
    messages_per_second_max: int = _limit(
        RefusalCode.MESSAGE_RATE,
        "messages/s",
        100,
        "orders and cancels within any second, this one with them; a cancel is never refused",
        least=1,
    )
    repeated_execution_max: int = _limit(
        RefusalCode.REPEATED_EXECUTION,
        "count",
        100,
        "orders of one symbol, side and size filled within `repeated_execution_ms`, this one with them",
        least=1,
    )
    repeated_execution_ms: int = _limit(
        RefusalCode.REPEATED_EXECUTION, "ms", 10_000, "the time in which they are counted", least=1
    )
    duplicate_order_ms: int = _limit(
        RefusalCode.DUPLICATE_ORDER,
        "ms",
        20,
        "how long an order equal in all but its number to one at work is a duplicate; the end passes",
    )
    self_trades_max: int = _limit(
        RefusalCode.SELF_TRADE, "count", 0, "own working orders an order would meet; shown is how many"
    )
    daily_loss_max: str = _limit(
        RefusalCode.DAILY_LOSS,
        "money",
        "10000",
        "loss since 00:00 UTC, realised and unrealised, fees with it",
        shrinks=True,
    )
    drawdown_max: str = _limit(
        RefusalCode.DRAWDOWN,
        "money",
        "5000",
        "fall from the best equity of the last `drawdown_s`",
        shrinks=True,
    )
    drawdown_s: int = _limit(
        RefusalCode.DRAWDOWN, "s", 3600, "the time looked back, in steps of a sixtieth", least=1
    )
    loss_streak_max: int = _limit(
        RefusalCode.LOSS_STREAK,
        "count",
        10,
        "round trips in a row that lost money, fees with it; lifted by a person",
        shrinks=True,
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be a limit: nothing is switched off by a typing error."""
        for spec in LIMITS:
            value = getattr(self, spec.name)
            if isinstance(spec.default, int):
                if type(value) is not int or value < spec.least:
                    raise SettingError(
                        f"{spec.name}={value!r}", hint=f"an integer from {spec.least}, in {spec.unit}"
                    )
            elif (size := amount(value, MONEY_EXPONENT)) is None or size < 0:
                raise SettingError(f"{spec.name}={value!r}", hint='decimal text from 0, like "2500" or "0.5"')


LIMITS: Final = tuple(
    LimitSpec(name=one.name, default=cast("str | int", one.default), **one.metadata)
    for one in fields(RiskLimits)
)
"""Every limit, in the order in which orders are judged by them."""

CONDITIONS: Final = {
    RefusalCode.DUPLICATE_ID: "the order's number is not above that of the last one approved",
    RefusalCode.NO_REFERENCE: "best bid or ask missing, not finite or crossed, or something held has no mid",
    RefusalCode.REDUCE_ONLY: "a reduce-only order larger than the position, less what working ones reduce",
}
"""Refusals without a limit of their own."""
