"""Strategies from before shared features: what they compute themselves, and the two forms side by side.

`LegacyFeatures` computes, from the events of one book and in plain Python, those values of `lob_shared_v1`
that our examples read, as a strategy without an engine has to: the same bits at many times the cost.
Leans on `strategy.events`. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from featureplane.errors import SettingError
from featureplane.market.instruments import Instrument
from featureplane.market.schedule import Schedule
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.events import BidAskEvent
from featureplane.units import half_even_div

__all__ = ["ComputesFeatures", "Forms", "LegacyFeatures", "ReadsFeatures"]

_SPAN: Final = 8
_ALPHA: Final = 2.0 / (_SPAN + 1.0)
_MILLION: Final = 1_000_000


class LegacyFeatures:
    """Touch, depths, and averages over eight books, of one symbol; they stand when `take` says so.

    Like the kernels it begins anew each day at the instrument's `daily_reset` and with each trading session
    and has no values outside of these; behind a gap `reset` is the strategy's to call.
    """

    __slots__ = (
        "_before",
        "_books",
        "_clock_ns",
        "_flows",
        "_imbalance",
        "_is_open",
        "_ofi",
        "_schedule",
        "_spread",
        "ask_depth",
        "best_ask",
        "best_bid",
        "bid_depth",
        "depth_imbalance_ema8_ppm",
        "microprice_x2",
        "ofi_l1_ema8",
        "spread_ema8_scaled",
    )

    def __init__(self, instrument: Instrument) -> None:
        self._schedule = Schedule(instrument)
        self._clock_ns: int | None = None
        self._is_open = False
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._before: tuple[int, int, int, int] | None = None
        self._books = self._flows = 0
        self._imbalance = self._ofi = self._spread = 0.0
        self.best_bid = self.best_ask = self.bid_depth = self.ask_depth = self.microprice_x2 = 0
        self.depth_imbalance_ema8_ppm = self.ofi_l1_ema8 = self.spread_ema8_scaled = 0.0

    def take(self, event: BidAskEvent) -> bool:
        """Take the next book; whether everything has a value now. One without a side changes no average."""
        before, ts_ns = self._clock_ns, event.ts
        if before is None or ts_ns > before:
            self._clock_ns = ts_ns
            if before is not None and self._schedule.resets(before, ts_ns):
                self.reset()
        was_open, self._is_open = self._is_open, self._schedule.is_open(self._clock_ns or ts_ns)
        if not self._is_open:
            return False
        if not was_open:
            self.reset()
        bids, asks = event.bids[:5].tolist(), event.asks[:5].tolist()
        if not bids or not asks:
            return False
        (bid, bid_qty), (ask, ask_qty) = bids[0], asks[0]
        self.best_bid, self.best_ask = bid, ask
        below = above = 0
        for _, qty in bids:
            below += qty
        for _, qty in asks:
            above += qty
        self.bid_depth, self.ask_depth = below, above
        self.microprice_x2 = half_even_div(2 * (ask * bid_qty + bid * ask_qty), bid_qty + ask_qty)
        self._average(half_even_div((below - above) * _MILLION, below + above), ask - bid)
        return self._flow(bid, bid_qty, ask, ask_qty)

    def _average(self, imbalance: int, spread: int) -> None:
        self._books += 1
        if self._books == 1:
            self._imbalance, self._spread = float(imbalance), float(spread)
        else:
            self._imbalance += _ALPHA * (float(imbalance) - self._imbalance)
            self._spread += _ALPHA * (float(spread) - self._spread)
        self.depth_imbalance_ema8_ppm = self._imbalance + 0.0
        self.spread_ema8_scaled = self._spread + 0.0

    def _flow(self, bid: int, bid_qty: int, ask: int, ask_qty: int) -> bool:
        """Order-flow imbalance against the book before (Cont, Kukanov, Stoikov 2014)."""
        before, self._before = self._before, (bid, bid_qty, ask, ask_qty)
        if before is None:
            return False
        last_bid, last_bid_qty, last_ask, last_ask_qty = before
        flow = bid_qty * (bid >= last_bid) - last_bid_qty * (bid <= last_bid)
        flow += last_ask_qty * (ask >= last_ask) - ask_qty * (ask <= last_ask)
        self._flows += 1
        if self._flows == 1:
            self._ofi = float(flow)
        else:
            self._ofi += _ALPHA * (float(flow) - self._ofi)
        self.ofi_l1_ema8 = self._ofi + 0.0
        return self._flows >= _SPAN  # the last of them to be warm


class ComputesFeatures(BaseStrategy):
    """A legacy form: one computation a symbol, in `computed`."""

    def on_start(self) -> None:
        """Begin with nothing."""
        ctx = self.ctx
        self.computed = {symbol: LegacyFeatures(ctx.instrument(symbol)) for symbol in ctx.symbols}


class ReadsFeatures(BaseStrategy):
    """A shared form: looks the names in `reads` up once, before the first message.

    `handles` has a symbol and a handle for each name, by symbol; `only` the same where there is one symbol.
    """

    reads: ClassVar[tuple[str, ...]] = ()

    def on_start(self) -> None:
        """Look names up; raises `UnknownFeature`."""
        ctx = self.ctx
        self.handles: dict[str, tuple[Any, ...]] = {
            symbol: (symbol, *(ctx.handle(name, symbol) for name in self.reads)) for symbol in ctx.symbols
        }
        self.only = next(iter(self.handles.values())) if len(self.handles) == 1 else None


@dataclass(frozen=True, slots=True)
class Forms:
    """One strategy in two forms that decide alike: `legacy` computes its features, `shared` reads them."""

    legacy: Callable[[], BaseStrategy]
    shared: Callable[[], BaseStrategy]

    def make(self, form: str) -> BaseStrategy | None:
        """A new strategy of a form, None for `off`; raises `SettingError` for any other word."""
        if form == "off":
            return None
        if form not in {"legacy", "shared"}:
            raise SettingError(f"form={form!r}", hint="choose one of legacy, shared, off")
        return self.legacy() if form == "legacy" else self.shared()
