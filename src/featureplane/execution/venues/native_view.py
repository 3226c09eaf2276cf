"""The market of a simulated venue in Rust: what `market_view` does, told only where it concerns an order.

Leans on `native`. Its reference is `execution.venues.market_view`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NoReturn, cast

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.errors import UnknownSymbol
from featureplane.execution.orders import Side
from featureplane.execution.venues.market_view import Change, Step
from featureplane.market.events import StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.messages import Event

__all__ = ["NativeView", "NativeViews"]

_LOCAL_WORD: Final = 7


class NativeView:
    """The market of one instrument; the interface of `MarketView` but for `take`."""

    __slots__ = ("_id", "_views")

    def __init__(self, views: Any, symbol_id: int) -> None:
        self._views, self._id = views, symbol_id

    @property
    def is_trading(self) -> bool:
        """Whether the status says so (rule 3.12)."""
        return bool(self._views.stands(self._id)[0])

    @property
    def is_readable(self) -> bool:
        """Whether the book is whole and not crossed."""
        return bool(self._views.stands(self._id)[1])

    def best(self, side: int) -> int | None:
        """The best price of a side; None without one, or while the book cannot be read."""
        bid, ask = self._views.best(self._id)
        price: int | None = bid if side == Side.BUY else ask
        return price

    def size_at(self, side: int, price: int) -> int:
        """The size of a level, 0 if it is not there."""
        size: int = self._views.size_at(self._id, int(side), price)
        return size

    def walk(self, side: int) -> Iterator[tuple[int, int]]:
        """Price and size of the levels of a side, best first."""
        first = self._views.levels(self._id, int(side), False)  # noqa: FBT003 - Rust takes it so
        yield from first
        yield from self._views.levels(self._id, int(side), True)[len(first) :]  # noqa: FBT003 - as above

    def worst(self, side: int) -> int | None:
        """The last price of a side, None without one."""
        levels = self._views.levels(self._id, int(side), True)  # noqa: FBT003 - as above
        return levels[-1][0] if levels else None

    def reconnect(self) -> None:
        """A connection without proof that it continues the one before: wait for a snapshot."""
        self._views.reconnect(self._id)


class NativeViews:
    """The markets of a venue's instruments, which have no sessions."""

    def __init__(self, instruments: Iterable[Instrument], stream: StreamOptions) -> None:
        given = tuple(instruments)
        self._symbols = [one.symbol_id for one in given]
        self._views: Any = native.module().VenueViews(
            [(one.symbol, one.symbol_id, one.tick or 1, one.locked == "valid") for one in given],
            on_gap=stream.on_gap,
            seed=stream.seed,
            drop_malformed=stream.on_malformed == "drop",
        )
        self.take = self._views.take
        """Takes the first message of some events: twice its events, plus one if it concerns an order."""

    def view(self, symbol_id: int) -> NativeView:
        """One of the markets."""
        return NativeView(self._views, symbol_id)

    def turn_to(self, events: npt.NDArray[Any]) -> None:
        """Let `take` read these events."""
        words = np.ascontiguousarray(events).view(np.uint64)
        self._views.bind_events(words)
        self._words = words.view(np.int64)
        self.local_ts_ns: memoryview[int] = memoryview(cast("bytes", self._words))[_LOCAL_WORD:]
        """When events were received: at 8 times the place of each."""

    def wait(self, symbol_id: int, bids: list[int], asks: list[int], taken: list[tuple[int, int]]) -> None:
        """Where orders of ours wait from now on, and side and price of levels they took from."""
        self._views.wait(symbol_id, bids, asks, taken)

    def refuse(self, at: int) -> NoReturn:
        """Raise `UnknownSymbol` for the event at which nothing was taken."""
        raise UnknownSymbol(self._words[8 * at : 8 * at + 1].view(np.uint32)[1].item(), self._symbols)

    def step(self) -> tuple[int, Step]:
        """What the last message did, and to which symbol; changes only where orders wait or took."""
        symbol_id, source_ts_ns, trades, changes, resynced = self._views.step()
        told = [Event._make(one) for one in trades]
        return symbol_id, Step(source_ts_ns, told, [Change._make(one) for one in changes], resynced)
