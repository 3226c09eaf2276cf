"""The books that strategies and a simulated venue look at, told of what only others know.

Of another connection; and of a book that the engine has broken because it stood crossed for too long (rule
3.9): it alone has the clock by which that is judged, and without an engine nobody judges it. Leans on
`strategy.market`.
"""

from __future__ import annotations

from typing import Any

from featureplane.execution.venue import OrderVenue
from featureplane.features.engine import FeatureEngine
from featureplane.features.pipeline import Pipeline
from featureplane.market.instruments import Instrument
from featureplane.strategy.market import MarketBooks

__all__ = ["Onlookers"]


class Onlookers:
    """Books and venue of a runner."""

    def __init__(self, books: MarketBooks, venue: OrderVenue | None) -> None:
        self._books = books
        self._again: Any = getattr(venue, "reconnect", None)  # WHY: real venues need no market data
        self._symbols = {one.symbol_id: one.symbol for one in books.instruments}
        self.use(None)

    def use(self, engine: FeatureEngine | Pipeline | None) -> None:
        """Ask this engine from now on."""
        self._engine, self._known = engine, 0
        self._known = self._count()

    def reconnect(self, instrument: Instrument) -> None:
        """The connection of a symbol is another one."""
        self._books.reconnect(instrument.symbol_id)
        if self._again is not None:
            self._again(instrument.symbol)

    def broke_crossed(self, symbol_id: int) -> bool:
        """Whether the message at hand, behind which something is missing, broke the book of its symbol so.

        Nobody can read that book then, until the next snapshot.
        """
        count, before = self._count(), self._known
        self._known = count
        if count in {0, before}:  # an engine that began anew counts anew
            return False
        self._books.break_crossed(symbol_id)
        if self._again is not None:
            self._again(self._symbols[symbol_id])
        return True

    def _count(self) -> int:
        return 0 if self._engine is None else self._engine.counts["broken"]["crossed"]
