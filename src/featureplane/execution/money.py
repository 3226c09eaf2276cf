"""Money in integers: what a size at a price is worth, exactly.

Money is counted in 10^-18 of the quote currency, so that no sum of fills, fees and marks is ever
rounded but where a fee is charged. One portfolio has one quote currency. Leans on `market`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from featureplane.errors import SettingError
from featureplane.market.instruments import Instrument

__all__ = ["MONEY_EXPONENT", "Worth", "amount", "money", "shown"]

MONEY_EXPONENT: Final = 18
"""Decimals of the quote currency that money has."""


class Worth:
    """Turns sizes and prices of one instrument into money.

    Raises `SettingError` for an instrument whose products have more than 17 decimals: half of
    the smallest one must be money still, for the mid.

    >>> coin = Instrument(venue="v", symbol="s", price_exponent=2, qty_exponent=3)
    >>> shown(Worth(coin).of(61800_20, 500)), shown(Worth(coin).of_x2(61800_20 * 2 + 1, 500))
    (Decimal('30900.1'), Decimal('30900.1025'))
    """

    __slots__ = ("_factor", "_half")

    def __init__(self, instrument: Instrument) -> None:
        decimals = instrument.price_exponent + instrument.qty_exponent
        if decimals >= MONEY_EXPONENT:
            raise SettingError(
                f"{instrument.symbol}: {decimals} decimals of price x size",
                hint=f"orders need less than {MONEY_EXPONENT}",
            )
        self._factor: int = 10 ** (MONEY_EXPONENT - decimals)
        self._half: int = self._factor // 2

    def of(self, price: int, qty: int) -> int:
        """Money of `qty` at `price`."""
        return price * qty * self._factor

    def of_x2(self, price_x2: int, qty: int) -> int:
        """Money of `qty` at half of `price_x2`, a mid."""
        return price_x2 * qty * self._half

    def price(self, money: int, qty: int) -> float:
        """The price at which `qty` is worth `money`, in units of event prices; `qty` is not 0."""
        return float(money) / float(qty * self._factor) + 0.0


def money(text: str, name: str = "amount") -> int:
    """Decimal text of the quote currency as money; raises `SettingError`.

    >>> money("0.5")
    500000000000000000
    """
    value = amount(text, MONEY_EXPONENT)
    if value is None:
        raise SettingError(f"{name}={text!r}", hint="decimal text of the quote currency, like 2500 or 0.5")
    return value


def amount(text: object, exponent: int) -> int | None:
    """Decimal text in units of 10^-exponent, of any magnitude; None if it is not that."""
    if not isinstance(text, str) or len(text) > 64:
        return None
    sign = -1 if text.startswith("-") else 1
    whole, point, decimals = text.removeprefix("-").partition(".")
    digits = whole + decimals.rstrip("0").ljust(exponent, "0")
    plain = whole.isascii() and whole.isdigit() and (not point or (decimals.isascii() and decimals.isdigit()))
    if not plain or len(decimals.rstrip("0")) > exponent:
        return None
    return sign * int(digits)


def shown(value: int, exponent: int = MONEY_EXPONENT) -> Decimal:
    """An integer of 10^-exponent as people write it, exactly.

    >>> shown(1500, 3), shown(-20 * 10**18)
    (Decimal('1.5'), Decimal('-20'))
    """
    whole, rest = divmod(abs(value), 10**exponent)
    decimals = str(rest).rjust(exponent, "0").rstrip("0") if exponent else ""
    return Decimal(f"{'-' if value < 0 else ''}{whole}{'.' if decimals else ''}{decimals}")
