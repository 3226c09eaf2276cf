"""One instrument's book from its events: guarded, whole or nothing.

Leans on `book.orders` and `market`. Knows nothing of features. Sequences, gaps and snapshots are
judged as everywhere (rule 3): while the book is not known to be the venue's, there is no touch.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from featureplane import native
from featureplane.arguments import expect
from featureplane.book.orders import OrderBook
from featureplane.errors import MalformedEvent, UnknownSymbol
from featureplane.market.events import EVENT_DTYPE, StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.messages import Event, Message, MessageReader, check_array, shape_of
from featureplane.market.quality import BookState, Outcome, Reads, StreamGuard

__all__ = ["LOBEngine", "Touch"]

Level = tuple[int, int]


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

    A message is applied whole, when its `LAST` event has come. `backend` says who keeps the book:
    `auto` is Rust when it is installed, else Python; the answers are the same.

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
        hint = "`load_instruments(file)` has some, `events.instrument` is the one of a batch"
        expect("instrument", instrument, Instrument, "an `Instrument`", hint=hint)
        StreamOptions(on_gap, on_malformed, seed)  # refuses words that are none
        self.instrument = instrument
        self.backend = native.resolve(backend)
        keep = _RustBook if self.backend == "rust" else _PythonBook
        self._book = keep(instrument, on_gap=on_gap, on_malformed=on_malformed, seed=seed)

    @property
    def state(self) -> BookState:
        """Whether the book can be read."""
        return self._book.state

    def process_event(self, event: Any) -> None:
        """Take the next event: a record of an event array, an `Event`, or a tuple of its fields.

        Raises
        ------
        MalformedEvent
            It is none of these, whatever `on_malformed`; or no rule accepts it, with "raise".
        UnknownSymbol
            It is of another instrument.
        SequenceGap
            Ids are missing, with `on_gap="refuse"`.
        """
        try:
            self._book.take(_checked(event))
        except UnknownSymbol as error:
            raise UnknownSymbol(error.symbol, [self.instrument.symbol]) from None

    def process_events(self, events: npt.NDArray[Any]) -> None:
        """Take the next events, an array of `EVENT_DTYPE`, at once; raises as `process_event` does."""
        try:
            self._book.take_all(check_array(events))
        except UnknownSymbol as error:
            raise UnknownSymbol(error.symbol, [self.instrument.symbol]) from None

    def levels(self) -> tuple[list[Level], list[Level]]:
        """(price, size) of every bid and of every ask, scaled, best first, readable or not."""
        return self._book.levels()

    def get_l1_scaled(self) -> Touch:
        """The best levels as of the last whole message.

        All but the time are None while the book is waiting, broken or crossed; those of a missing
        side and what needs both are None as well.
        """
        ts_ns, best_bid, best_ask = self._book.touch()
        bid, bid_qty = best_bid or (None, None)
        ask, ask_qty = best_ask or (None, None)
        if bid is None or ask is None:
            return Touch(ts_ns, bid, ask, None, None, bid_qty, ask_qty)
        return Touch(ts_ns, bid, ask, bid + ask, ask - bid, bid_qty, ask_qty)


def _checked(event: Any) -> bytes:
    """The 64 bytes of an event; raises `MalformedEvent`."""
    if isinstance(event, np.void) and event.dtype == EVENT_DTYPE:
        return event.tobytes()
    if isinstance(event, tuple) and len(event) == len(Event._fields):
        try:
            return Event._make(event).pack()
        except struct.error:
            pass
    raise MalformedEvent(shape_of(event), "a record of EVENT_DTYPE, an `Event` or a tuple of its fields")


class _PythonBook:
    """The reference."""

    def __init__(self, instrument: Instrument, *, on_gap: str, on_malformed: str, seed: str) -> None:
        self._locked = instrument.locked == "valid"
        self._levels = OrderBook()
        self._guard = StreamGuard(instrument.symbol, reads=Reads.BOOK, on_gap=on_gap, seed=seed)
        self._reader = MessageReader([instrument.symbol_id], on_malformed=on_malformed)
        self._ts_ns: int | None = None

    @property
    def state(self) -> BookState:
        return self._guard.state

    def take(self, event: bytes) -> None:
        for message in self._reader.take(Event.unpack(event)):
            self._apply(message)

    def take_all(self, events: npt.NDArray[Any]) -> None:
        for message in self._reader.read(events):
            self._apply(message)

    def _apply(self, message: Message) -> None:
        admission = self._guard.admit(message)
        if admission.outcome in {Outcome.APPLIED, Outcome.UNFINISHED}:
            self._levels.admit(admission)
            self._ts_ns = admission.source_ts_ns

    def levels(self) -> tuple[list[Level], list[Level]]:
        return self._levels.bids.levels(), self._levels.asks.levels()

    def touch(self) -> tuple[int | None, Level | None, Level | None]:
        bids, asks = self._levels.bids, self._levels.asks
        if not self._guard.is_whole or not self._levels.is_valid(locked=self._locked):
            return self._ts_ns, None, None
        bid = (bids.price(1), bids.qty(1)) if len(bids) else None
        ask = (asks.price(1), asks.qty(1)) if len(asks) else None
        return self._ts_ns, bid, ask


class _RustBook:
    """Its twin."""

    def __init__(self, instrument: Instrument, *, on_gap: str, on_malformed: str, seed: str) -> None:
        self._book = native.module().LobEngine(
            instrument.symbol,
            instrument.symbol_id,
            instrument.tick or 1,
            on_gap=on_gap,
            seed=seed,
            drop_malformed=on_malformed == "drop",
            locked_valid=instrument.locked == "valid",
        )

    @property
    def state(self) -> BookState:
        return BookState(self._book.state())

    def take(self, event: bytes) -> None:
        self._book.process_event(event)

    def take_all(self, events: npt.NDArray[Any]) -> None:
        self._book.process_events(np.ascontiguousarray(events).view(np.uint64))

    def levels(self) -> tuple[list[Level], list[Level]]:
        bids, asks = self._book.levels()
        return bids, asks

    def touch(self) -> tuple[int | None, Level | None, Level | None]:
        ts_ns, bid, ask = self._book.touch()
        return ts_ns, bid, ask
