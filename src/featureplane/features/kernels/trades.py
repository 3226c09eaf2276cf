"""Kernels that read trades, one at a time.

Market trades only: rule 2.5 keeps the others from every kernel. With `hidden=False` a kernel does
not read executions against hidden orders at all, not even to remember their price.

Leans on `cell`, `state` and `units`. Twin: `kernels/trades.rs`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from featureplane.features.kernels.cell import NOT_WARM, Cell
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.units import NANOS_PER_MS, exp2_neg

__all__ = ["MsSinceTrade", "SignedQty", "TradeCount", "TradeIntensity", "TradePrice", "TradeTick"]


class TradeTick(NamedTuple):
    """One market trade, with what a kernel may know of the moment."""

    price: int
    """Scaled."""

    qty: int
    """Scaled, above 0."""

    sign: int
    """The venue's aggressor: 1 buy, -1 sell, 0 not told."""

    clock_ns: int
    """The clock of the step (rule 5.3)."""

    hidden: bool = False
    """An execution against a hidden order."""

    mid_before: int | None = None
    """`mid_x2` of the book before the message, if that book was valid and two-sided."""

    step: int = 0
    """Equal for the trades of one message, different for those of two."""


class SignedQty:
    """Size of the last trade with the aggressor's sign: `+q` buy, `-q` sell. A flow; unit qty.

    Where the venue does not tell the aggressor (sign 0), after Lee and Ready:

        price above the mid before the message   buy
        price below it                           sell
        at it, or no valid book                  against the last trade price that was another
                                                 one: above buy, below sell, none no sign

    A trade without a sign is no advance, but its price is remembered.

    State      value, last trade price, the last price before it that was another one: each an
               optional word (`i64`)
    Warm-up    1 trade with a sign
    Reset      forgets the value and both prices
    Undefined  before warm-up
    Source     Lee, Ready, "Inferring Trade Direction from Intraday Data", J. Finance 46(2),
               1991, pp. 733-746; quotes of the moment before, no 5 s delay
    Twin       `kernels/trades.rs`, exact

    >>> signed = SignedQty()
    >>> signed.update(TradeTick(price=101, qty=3, sign=0, clock_ns=0, mid_before=201))
    True
    >>> signed.read(0).value
    3
    >>> signed.update(TradeTick(price=100, qty=2, sign=0, clock_ns=1))
    True
    >>> signed.read(1).value
    -2
    """

    __slots__ = ("_different", "_hidden", "_last", "_value")

    def __init__(self, *, hidden: bool = True) -> None:
        self._hidden = hidden
        self.reset()

    def reset(self) -> None:
        self._value: int | None = None
        self._last: int | None = None
        self._different: int | None = None

    def update(self, trade: TradeTick) -> bool:
        """Whether the kernel advanced."""
        if trade.hidden and not self._hidden:
            return False
        sign = trade.sign or self._inferred(trade)
        if trade.price != self._last:
            self._different, self._last = self._last, trade.price
        if sign == 0:
            return False
        self._value = sign * trade.qty
        return True

    def _inferred(self, trade: TradeTick) -> int:
        if trade.mid_before is not None and 2 * trade.price != trade.mid_before:
            return 1 if 2 * trade.price > trade.mid_before else -1
        before = self._last if trade.price != self._last else self._different
        if before is None:
            return 0
        return 1 if trade.price > before else -1

    def read(self, clock_ns: int) -> Cell:
        return NOT_WARM if self._value is None else Cell.of_int(self._value)

    def save(self, out: StateWriter) -> None:
        out.option_i64(self._value)
        out.option_i64(self._last)
        out.option_i64(self._different)

    def load(self, state: StateReader) -> None:
        self._value = state.option_i64()
        self._last = state.option_i64()
        self._different = state.option_i64()


class TradePrice:
    """Price of the last trade, scaled.

    State      the price, an optional word (`i64`)
    Warm-up    1 trade
    Reset      forgets the price
    Undefined  before warm-up
    Source     rule 8
    Twin       `kernels/trades.rs`, exact

    >>> last = TradePrice(hidden=False)
    >>> last.update(TradeTick(price=101, qty=3, sign=1, clock_ns=0, hidden=True))
    False
    >>> last.update(TradeTick(price=102, qty=3, sign=1, clock_ns=0))
    True
    >>> last.read(0).value
    102
    """

    __slots__ = ("_hidden", "_value")

    def __init__(self, *, hidden: bool = True) -> None:
        self._hidden = hidden
        self.reset()

    def reset(self) -> None:
        self._value: int | None = None

    def update(self, trade: TradeTick) -> bool:
        """Whether the kernel advanced."""
        if trade.hidden and not self._hidden:
            return False
        self._value = trade.price
        return True

    def read(self, clock_ns: int) -> Cell:
        return NOT_WARM if self._value is None else Cell.of_int(self._value)

    def save(self, out: StateWriter) -> None:
        out.option_i64(self._value)

    def load(self, state: StateReader) -> None:
        self._value = state.option_i64()


class TradeCount:
    """Trades since the reset. Unit: count.

    State      the count, a word (`i64`)
    Warm-up    1 trade: there is no count of 0
    Reset      back to 0
    Undefined  before warm-up
    Source     rule 8
    Twin       `kernels/trades.rs`, exact

    >>> count = TradeCount()
    >>> count.read(0).value
    >>> count.update(TradeTick(price=101, qty=3, sign=0, clock_ns=0))
    True
    >>> count.read(0).value
    1
    """

    __slots__ = ("_count", "_hidden")

    def __init__(self, *, hidden: bool = True) -> None:
        self._hidden = hidden
        self.reset()

    def reset(self) -> None:
        self._count = 0

    def update(self, trade: TradeTick) -> bool:
        """Whether the kernel advanced."""
        if trade.hidden and not self._hidden:
            return False
        self._count += 1
        return True

    def read(self, clock_ns: int) -> Cell:
        return NOT_WARM if self._count == 0 else Cell.of_int(self._count)

    def save(self, out: StateWriter) -> None:
        out.i64(self._count)

    def load(self, state: StateReader) -> None:
        self._count = state.i64()
        if self._count < 0:
            raise ValueError(f"trade_count: saved count {self._count}, expected 0 or more")


class MsSinceTrade:
    """(c - c_trade) div 10^6: whole milliseconds since the last trade, at each frame.

    State      clock of the last trade, an optional word (`i64`)
    Warm-up    1 trade
    Reset      forgets the trade
    Undefined  before warm-up
    Source     rule 8
    Twin       `kernels/trades.rs`, exact

    >>> age = MsSinceTrade()
    >>> age.update(TradeTick(price=101, qty=3, sign=0, clock_ns=1_000_000))
    True
    >>> age.read(3_999_999).value
    2
    """

    __slots__ = ("_hidden", "_traded_ns")

    def __init__(self, *, hidden: bool = True) -> None:
        self._hidden = hidden
        self.reset()

    def reset(self) -> None:
        self._traded_ns: int | None = None

    def update(self, trade: TradeTick) -> bool:
        """Whether the kernel advanced."""
        if trade.hidden and not self._hidden:
            return False
        self._traded_ns = trade.clock_ns
        return True

    def read(self, clock_ns: int) -> Cell:
        if self._traded_ns is None:
            return NOT_WARM
        return Cell.of_int((clock_ns - self._traded_ns) // NANOS_PER_MS)

    def save(self, out: StateWriter) -> None:
        out.option_i64(self._traded_ns)

    def load(self, state: StateReader) -> None:
        self._traded_ns = state.option_i64()


_LN_2: Final = float.fromhex("0x1.62e42fefa39efp-1")


class TradeIntensity:
    """Trades per second, each weighing half as much after a half-life h.

    At a trade `s = s * exp2_neg(dt, h) + 1.0`, dt since the trade before (the first: s = 1.0). Read
    at any clock c: `s * exp2_neg(c - c_trade, h) * (ln2 * 1e9 / F(h))`; 0.0 before the first trade.
    Constant arrivals at rate r give r in the long run.

    State      clock of the first step, clock of the last trade, each an optional word (`i64`); then
               s, a word (`f64`), as of the last trade
    Warm-up    c - (clock of the first step after the reset) >= 3 h, trades or not
    Reset      s = 0.0, no trade, no first step
    Undefined  before warm-up
    Source     rule 8; the intensity of a shot-noise process, as in Hawkes 1971
    Twin       `kernels/trades.rs`, exact

    >>> rate = TradeIntensity(half_life_ns=10**9)
    >>> for second in range(31):
    ...     rate.begin(second * 10**9)
    ...     advanced = rate.update(TradeTick(price=1, qty=1, sign=1, clock_ns=second * 10**9))
    >>> round(rate.read(30 * 10**9).value, 3)
    1.386
    """

    __slots__ = ("_first_ns", "_h", "_hidden", "_per_second", "_s", "_traded_ns")

    def __init__(self, half_life_ns: int, *, hidden: bool = True) -> None:
        if half_life_ns <= 0:
            raise ValueError(f"trade_intensity: half-life {half_life_ns} ns, expected a positive one")
        self._h = half_life_ns
        self._hidden = hidden
        self._per_second = _LN_2 * 1e9 / float(half_life_ns)
        self.reset()

    def reset(self) -> None:
        self._first_ns: int | None = None
        self._traded_ns: int | None = None
        self._s = 0.0

    def begin(self, clock_ns: int) -> None:
        """Told at each step; the first one after a reset starts the warm-up."""
        if self._first_ns is None:
            self._first_ns = clock_ns

    def update(self, trade: TradeTick) -> bool:
        """Whether the kernel advanced."""
        if trade.hidden and not self._hidden:
            return False
        self._s = self._decayed(trade.clock_ns) + 1.0
        self._traded_ns = trade.clock_ns
        return True

    def _decayed(self, clock_ns: int) -> float:
        if self._traded_ns is None:
            return 0.0
        return self._s * exp2_neg(clock_ns - self._traded_ns, self._h)

    def read(self, clock_ns: int) -> Cell:
        if self._first_ns is None or clock_ns - self._first_ns < 3 * self._h:
            return NOT_WARM
        return Cell.of_float(self._decayed(clock_ns) * self._per_second)

    def save(self, out: StateWriter) -> None:
        out.option_i64(self._first_ns)
        out.option_i64(self._traded_ns)
        out.f64(self._s)

    def load(self, state: StateReader) -> None:
        self._first_ns = state.option_i64()
        self._traded_ns = state.option_i64()
        self._s = state.f64()
        if not math.isfinite(self._s):
            raise ValueError(f"trade_intensity: saved count {self._s}, expected a finite one")
