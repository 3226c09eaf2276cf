"""One instrument's book from its events: guarded, whole or nothing.

Leans on `book.orders` and `market`. Knows nothing of features. Sequences, gaps and snapshots are
judged as everywhere (rule 3): while the book is not known to be the venue's, there is no touch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from featureplane import native
from featureplane.book.orders import OrderBook
from featureplane.market.instruments import Instrument
from featureplane.market.messages import Event, Message, MessageReader
from featureplane.market.quality import BookState, Outcome, Reads, StreamGuard

__all__ = ["LOBEngine", "Touch"]


class Touch(NamedTuple):
    """The best levels, scaled; None where there is none, and `ts_ns` the venue's time of it."""

    ts_ns: int | None
    bid: int | None
    ask: int | None
    mid_x2: int | None
    spread: int | None
    bid_qty: int | None
    ask_qty: int | None


class LOBEngine:
    """A book fed event by event; price levels and orders alike.

    A message is applied whole, when its `LAST` event has come. `backend` says who keeps the book;
    events that come one at a time from Python are kept by Python under `auto` as well, the crossing
    costs more than the book.

    >>> from featureplane.market.synthetic import synthetic_events
    >>> events = synthetic_events(200, seed=1, faults=False)
    >>> instrument = Instrument(
    ...     venue="synthetic", symbol="S", price_exponent=2, qty_exponent=0,
    ...     symbol_id=int(events["symbol_id"][0]),
    ... )
    >>> book = LOBEngine(instrument)
    >>> for event in events:
    ...     book.process_event(event)
    >>> touch = book.get_l1_scaled()
    >>> touch.bid + touch.ask == touch.mid_x2
    True
    """

    def __init__(
        self,
        instrument: Instrument,
        backend: str = "auto",
        *,
        on_gap: str = "wait",
        on_malformed: str = "raise",
        seed: str = "snapshot",
    ) -> None:
        native.resolve(backend)
        self.instrument = instrument
        self.levels = OrderBook()
        self.guard = StreamGuard(instrument.symbol, reads=Reads.BOOK, on_gap=on_gap, seed=seed)
        self._reader = MessageReader([instrument.symbol_id], on_malformed=on_malformed)
        self._ts_ns: int | None = None

    @property
    def state(self) -> BookState:
        """Whether the book can be read."""
        return self.guard.state

    def process_event(self, event: Any) -> None:
        """Take the next event: a record of an event array, an `Event`, or a tuple of its fields.

        Raises
        ------
        MalformedEvent
            No rule accepts it, with `on_malformed="raise"`.
        UnknownSymbol
            It is of another instrument.
        SequenceGap
            Ids are missing, with `on_gap="refuse"`.
        """
        fields = event.item() if hasattr(event, "item") else event
        for message in self._reader.take(Event._make(fields)):
            self._take(message)

    def _take(self, message: Message) -> None:
        admission = self.guard.admit(message)
        if admission.outcome in {Outcome.APPLIED, Outcome.UNFINISHED}:
            self.levels.admit(admission)
            self._ts_ns = admission.source_ts_ns

    def get_l1_scaled(self) -> Touch:
        """The best levels as of the last whole message.

        All but the time are None while the book is waiting, broken or crossed; those of a missing
        side and what needs both are None as well.
        """
        bids, asks = self.levels.bids, self.levels.asks
        readable = self.guard.is_whole and self.levels.is_valid(locked=self.instrument.locked == "valid")
        bid, bid_qty = (bids.price(1), bids.qty(1)) if readable and len(bids) else (None, None)
        ask, ask_qty = (asks.price(1), asks.qty(1)) if readable and len(asks) else (None, None)
        if bid is None or ask is None:
            return Touch(self._ts_ns, bid, ask, None, None, bid_qty, ask_qty)
        return Touch(self._ts_ns, bid, ask, bid + ask, ask - bid, bid_qty, ask_qty)
