"""A market maker: one order a side at the touch, and none where the flow would run it over.

The rule stands once, in `MarketMaker`; the forms differ in where its numbers come from.
"""

from __future__ import annotations

from typing import Final

from featureplane.execution.orders import OrderIntent, Side, TimeInForce
from featureplane.features.frame import FeatureUpdateEvent
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.compatibility import ComputesFeatures, Forms, ReadsFeatures
from featureplane.strategy.events import BidAskEvent, GapEvent

__all__ = ["FORMS", "LegacyMarketMaker", "MarketMaker", "SharedMarketMaker"]


class MarketMaker(BaseStrategy):
    """Quotes `qty` lots a side, holds at most `most` times that, and keeps a quote until its price is wrong.

    A side is left while the book leans against it by more than `lean_ppm` on average, or while the average
    order flow against it is more than `flow_ppm` of the visible depth, or while the microprice lies beyond
    the price it would quote.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        qty: int = 10,
        most: int = 5,
        lean_ppm: int = 600_000,
        flow_ppm: int = 100_000,
    ) -> None:
        super().__init__(name)
        self.lots, self.most = qty, most
        self.lean_ppm, self.flow_ppm = float(lean_ppm), float(flow_ppm)
        self._quotes: dict[tuple[str, Side], tuple[int, int]] = {}  # number and price

    def decide(  # noqa: PLR0917 - what it decides by, without a dictionary a message
        self, symbol: str, bid: int, ask: int, depth: int, micro_x2: int, imbalance: float, ofi: float
    ) -> None:
        """Quote for what the market looks like now."""
        flow_limit = self.flow_ppm * float(depth)
        flow = ofi * 1e6
        rising = imbalance > self.lean_ppm or flow > flow_limit
        falling = imbalance < -self.lean_ppm or flow < -flow_limit
        self._quote(symbol, Side.BUY, None if falling or micro_x2 < 2 * bid else bid)
        self._quote(symbol, Side.SELL, None if rising or micro_x2 > 2 * ask else ask)

    def _quote(self, symbol: str, side: Side, price: int | None) -> None:
        key = (symbol, side)
        number, quoted = self._quotes.get(key, (0, 0))
        if number in self.ctx.working:
            if quoted != price:
                self.ctx.cancel(number)
            return
        qty = self.lots * (self.ctx.instrument(symbol).lot or 1)
        if price is None or side.sign * self.ctx.position(symbol) >= self.most * qty:
            return
        intent = OrderIntent(symbol=symbol, side=side, qty=qty, price=price, tif=TimeInForce.POST_ONLY)
        self._quotes[key] = (self.ctx.submit(intent), price)

    def leave(self, symbol: str) -> None:
        """Cancel what works: the book is not known."""
        for side in Side:
            self._quote(symbol, side, None)

    def on_gap(self, event: GapEvent) -> None:
        """Quotes beside a book that is not known are given away."""
        self.leave(event.symbol)


class SharedMarketMaker(ReadsFeatures, MarketMaker):
    """Reads its numbers from shared features."""

    required_features = "lob_shared_v1"
    reads = (
        "best_bid",
        "best_ask",
        "bid_depth",
        "ask_depth",
        "microprice_x2",
        "depth_imbalance_ema8_ppm",
        "ofi_l1_ema8",
    )

    def on_features(self, frame: FeatureUpdateEvent) -> None:
        """Decide, once everything has a value: averages are the last to be warm."""
        reads = self.only or self.handles[frame.symbol]
        symbol, bid, ask, below, above, micro_x2, imbalance, ofi = reads
        if ofi.is_ready and imbalance.is_ready:
            depth = below.value + above.value
            touch = bid.value, ask.value
            self.decide(symbol, *touch, depth, micro_x2.value, imbalance.value, ofi.value)


class LegacyMarketMaker(ComputesFeatures, MarketMaker):
    """Computes its numbers from the book."""

    def on_gap(self, event: GapEvent) -> None:
        """Averages across a gap are none."""
        self.computed[event.symbol].reset()
        super().on_gap(event)

    def on_bid_ask(self, event: BidAskEvent) -> None:
        """Compute and decide."""
        values = self.computed[event.symbol]
        if values.take(event):
            depth = values.bid_depth + values.ask_depth
            touch = values.best_bid, values.best_ask
            averages = values.depth_imbalance_ema8_ppm, values.ofi_l1_ema8
            self.decide(event.symbol, *touch, depth, values.microprice_x2, *averages)


FORMS: Final = Forms(legacy=LegacyMarketMaker, shared=SharedMarketMaker)
"""Both, for switching and comparing."""
