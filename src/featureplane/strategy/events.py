"""What happened in the market, as strategies see it; all numbers are the exact integers of the events.

An event stands until its handler returns: its object is used again for the next one, and reading one
that was kept raises `StateError`. `copy` keeps one. The arrays of a `BidAskEvent` that were kept stay as
they were. `ts` is the venue's time and `local_ts` that of receipt, in nanoseconds. Leans on `errors`
and NumPy. Knows nothing of books or strategies.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from featureplane.errors import StateError
from featureplane.features.frame import FeatureUpdateEvent
from featureplane.market.events import Side

__all__ = [
    "BidAskEvent",
    "FeatureUpdateEvent",
    "GapEvent",
    "LOBStatsEvent",
    "MarketEvent",
    "TickEvent",
    "end_event",
]


class MarketEvent:
    """One of the events; two are equal when their fields are."""

    __slots__ = ("local_ts", "symbol", "ts")

    symbol: str
    ts: int
    local_ts: int

    FIELDS: ClassVar[tuple[str, ...]] = ("symbol", "ts", "local_ts")

    def copy(self) -> Self:
        """The event as an object of its own, which stands as long as it is held."""
        other = type(self)()
        for name in self.FIELDS:
            value = getattr(self, name)
            setattr(other, name, value.copy() if isinstance(value, np.ndarray) else value)
        return other

    def as_tuple(self) -> tuple[Any, ...]:
        """The fields in their order; arrays as tuples of (price, size)."""
        return tuple(
            tuple(map(tuple, value.tolist())) if isinstance(value, np.ndarray) else value
            for value in (getattr(self, name) for name in self.FIELDS)
        )

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.as_tuple() == other.as_tuple()

    def __hash__(self) -> int:
        return hash(self.as_tuple())

    def __repr__(self) -> str:
        fields = ", ".join(f"{n}={v}" for n, v in zip(self.FIELDS, self.as_tuple(), strict=True))
        return f"{type(self).__name__}({fields})"


class TickEvent(MarketEvent):
    """One trade. `side` is the aggressor's: `Side.BID` bought, `Side.ASK` sold, `Side.NONE` unknown."""

    __slots__ = ("price", "qty", "side")

    price: int
    qty: int
    side: Side

    FIELDS = (*MarketEvent.FIELDS, "price", "qty", "side")


class BidAskEvent(MarketEvent):
    """The book behind a message: the best levels of each side, best first.

    `bids` and `asks` are read-only arrays of `i64`, n x 2, (price, size); n is what is there, at most
    the runner's `levels`. `seq` is the last id of the book applied, 0 without ids. A book that is not
    known to be the venue's, or is crossed, makes no event.
    """

    __slots__ = ("asks", "bids", "seq")

    seq: int
    bids: npt.NDArray[np.int64]
    asks: npt.NDArray[np.int64]

    FIELDS = (*MarketEvent.FIELDS, "seq", "bids", "asks")


class LOBStatsEvent(MarketEvent):
    """The touch of a book with two sides, and sums over its best five levels; `seq` as in `BidAskEvent`.

    `mid_price_x2` is bid + ask, `spread_scaled` ask - bid, `imbalance_ppm` (B - A) / (B + A) of the depths,
    half-even: the features of these names in `lob_shared_v1`.
    """

    __slots__ = (
        "ask_depth",
        "best_ask",
        "best_bid",
        "bid_depth",
        "imbalance_ppm",
        "mid_price_x2",
        "seq",
        "spread_scaled",
    )

    seq: int
    best_bid: int
    best_ask: int
    bid_depth: int
    ask_depth: int
    mid_price_x2: int
    spread_scaled: int
    imbalance_ppm: int

    FIELDS = (
        *MarketEvent.FIELDS,
        "seq",
        "best_bid",
        "best_ask",
        "bid_depth",
        "ask_depth",
        "mid_price_x2",
        "spread_scaled",
        "imbalance_ppm",
    )


class GapEvent(MarketEvent):
    """Messages are missing; comes before everything else its message makes, the frame of the gap included.

    `is_whole`: the book can be read again behind the gap; else there is none until further notice.
    `seq` is the last id of the book applied.
    """

    __slots__ = ("is_whole", "seq")

    seq: int
    is_whole: bool

    FIELDS = (*MarketEvent.FIELDS, "seq", "is_whole")


class _Ended:
    """An event that somebody held longer than it stood."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise StateError(
            "an event is read behind the handler it was given to", hint="keep `event.copy()`, or its values"
        )

    def __repr__(self) -> str:
        return "<event that has ended>"


class _EndedTick(_Ended, TickEvent):
    __slots__ = ()


class _EndedBidAsk(_Ended, BidAskEvent):
    __slots__ = ()


class _EndedStats(_Ended, LOBStatsEvent):
    __slots__ = ()


class _EndedGap(_Ended, GapEvent):
    __slots__ = ()


_ENDED: Final[dict[type[MarketEvent], type[MarketEvent]]] = {
    TickEvent: _EndedTick,
    BidAskEvent: _EndedBidAsk,
    LOBStatsEvent: _EndedStats,
    GapEvent: _EndedGap,
}


def end_event(event: MarketEvent) -> None:
    """Let whoever still holds this event get `StateError` when it is read."""
    event.__class__ = _ENDED[type(event)]
