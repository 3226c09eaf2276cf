"""A taker: goes with the order flow at the touch for a moment, then out again.

The rule stands once, in `OfiTaker`; the forms differ in where its numbers come from.
"""

from __future__ import annotations

from typing import Final

from featureplane.execution.orders import OrderIntent, Side, TimeInForce
from featureplane.features.frame import FeatureUpdateEvent
from featureplane.strategy.api import BaseStrategy
from featureplane.strategy.compatibility import ComputesFeatures, Forms, ReadsFeatures
from featureplane.strategy.events import BidAskEvent, GapEvent
from featureplane.units import NANOS_PER_MS

__all__ = ["FORMS", "LegacyOfiTaker", "OfiTaker", "SharedOfiTaker"]


class OfiTaker(BaseStrategy):
    """Takes `qty` lots where flow and book lean one way, and gives them back `hold_ms` later.

    The flow, averaged over eight books, must be more than `flow_ppm` of the visible depth, the book's average
    lean more than `lean_ppm` to the same side, the average spread at most `spread_ticks`.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        qty: int = 10,
        flow_ppm: int = 150_000,
        lean_ppm: int = 300_000,
        spread_ticks: int = 10,
        hold_ms: int = 1_000,
    ) -> None:
        super().__init__(name)
        self.lots = qty
        self.flow_ppm, self.lean_ppm = float(flow_ppm), float(lean_ppm)
        self.spread_ticks, self.hold_ns = spread_ticks, hold_ms * NANOS_PER_MS
        self._since: dict[str, int] = {}

    def decide(self, symbol: str, depth: int, spread: float, imbalance: float, ofi: float) -> None:
        """Go in, go out, or wait."""
        if self.ctx.working:
            return
        held = self.ctx.position(symbol)
        if held:
            if self.ctx.now_ns - self._since[symbol] >= self.hold_ns:
                self._take(symbol, Side.SELL if held > 0 else Side.BUY, abs(held), out=True)
            return
        about = self.ctx.instrument(symbol)
        flow, limit = ofi * 1e6, self.flow_ppm * float(depth)
        if spread > float(self.spread_ticks * (about.tick or 1)):
            return
        if flow > limit and imbalance > self.lean_ppm:
            self._take(symbol, Side.BUY, self.lots * (about.lot or 1), out=False)
        elif flow < -limit and imbalance < -self.lean_ppm:
            self._take(symbol, Side.SELL, self.lots * (about.lot or 1), out=False)

    def _take(self, symbol: str, side: Side, qty: int, *, out: bool) -> None:
        intent = OrderIntent(symbol=symbol, side=side, qty=qty, tif=TimeInForce.IOC, reduce_only=out)
        if self.ctx.submit(intent) and not out:
            self._since[symbol] = self.ctx.now_ns


class SharedOfiTaker(ReadsFeatures, OfiTaker):
    """Reads its numbers from shared features."""

    required_features = "lob_shared_v1"
    reads = (
        "bid_depth",
        "ask_depth",
        "spread_ema8_scaled",
        "depth_imbalance_ema8_ppm",
        "ofi_l1_ema8",
    )

    def on_features(self, frame: FeatureUpdateEvent) -> None:
        """Decide, once everything has a value: averages are the last to be warm."""
        reads = self.only or self.handles[frame.symbol]
        symbol, below, above, spread, imbalance, ofi = reads
        if ofi.is_ready and imbalance.is_ready and spread.is_ready:
            depth = below.value + above.value
            self.decide(symbol, depth, spread.value, imbalance.value, ofi.value)


class LegacyOfiTaker(ComputesFeatures, OfiTaker):
    """Computes its numbers from the book."""

    def on_gap(self, event: GapEvent) -> None:
        """Averages across a gap are none."""
        self.computed[event.symbol].reset()

    def on_bid_ask(self, event: BidAskEvent) -> None:
        """Compute and decide."""
        values = self.computed[event.symbol]
        if values.take(event):
            below, above, spread = values.bid_depth, values.ask_depth, values.spread_ema8_scaled
            imbalance, ofi = values.depth_imbalance_ema8_ppm, values.ofi_l1_ema8
            self.decide(event.symbol, below + above, spread, imbalance, ofi)


FORMS: Final = Forms(legacy=LegacyOfiTaker, shared=SharedOfiTaker)
"""Both, for switching and comparing."""
