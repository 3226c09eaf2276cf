"""Events to hftbacktest's arrays, so that its backtests and our features see one book (rule 3.11).

What our reader gives back of such an array makes the same frames as the events it was made of, as
long as these have no holes. What the rows cannot say is left out: quotes, status, trades that are
none of the market, the ids of trades, and which of a book message's trades came with it.

Leans on `market.quality` for what is applied. Knows nothing of backtests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from featureplane.arguments import expect
from featureplane.errors import MalformedEvent, SettingError
from featureplane.market.events import EventBatch, EventFlag, Kind, Side
from featureplane.market.messages import Channel, Event, Message, MessageReader
from featureplane.market.quality import Admission, Drop, Outcome, StreamGuard
from featureplane.market.sources.hftbacktest_rows import ROW_DTYPE
from featureplane.whole_file import WholeFile

__all__ = ["HftbacktestArray", "save_hftbacktest", "to_hftbacktest"]

_EXCH, _LOCAL, _BUY, _SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
_DEPTH, _TRADE, _CLEAR, _SNAPSHOT = 1, 2, 3, 4
_PIECE: Final = 1 << 14
_SIDES: Final[dict[int, int]] = {Side.NONE: 0, Side.BID: _BUY, Side.ASK: _SELL}
_LAST: Final = int(EventFlag.LAST)
_LEVEL: Final = int(Kind.LEVEL)

_Row = tuple[int, int, int, int, int, int, int]
_Levels = dict[int, int]


@dataclass(frozen=True, slots=True)
class HftbacktestArray:
    """Rows as hftbacktest reads them (`ROW_DTYPE`), and what was added to their local times.

    hftbacktest asks for local times not before the venue's; `local_shift_ns` made them so. Rows
    whose order differs by the two clocks stand twice, once for each side of a simulation. `held`
    counts rows whose local time went back and was replaced by the latest before.
    """

    rows: npt.NDArray[Any]
    local_shift_ns: int
    held: int = 0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an `.npz` with the keys `data` and `local_shift_ns`; a failure leaves nothing behind."""
        with WholeFile(path) as file, file.part.open("wb") as stream:
            np.savez_compressed(stream, data=self.rows, local_shift_ns=np.int64(self.local_shift_ns))


def to_hftbacktest(batch: EventBatch, *, local_time: str = "refuse") -> HftbacktestArray:
    """The events of one instrument as rows.

    A snapshot and what was kept for it are one full book at the snapshot's local time; `ival` is
    the last id of a book message, `order_id` the one before its first. A full book that does not
    restart ours becomes the changes it makes.

    hftbacktest takes events in the order of local times: where they go back, because our clock was
    set, `local_time="hold"` puts the latest before in their place and counts (`held`).

    Raises `SettingError` for several instruments or books of orders, and with `local_time="refuse"`
    `MalformedEvent` where local times go back.
    """
    if local_time not in {"refuse", "hold"}:
        raise SettingError(f"local_time={local_time!r}", hint="choose one of refuse, hold")
    expect("batch", batch, EventBatch, "an `EventBatch`", hint="`read_events` makes one")
    instrument = batch.instrument
    writer = _RowWriter()
    options = batch.options
    guard = StreamGuard(instrument.symbol, on_gap=options.on_gap, seed=options.seed)
    for message in _messages(batch):
        if message.has_orders:
            raise SettingError("a book of orders", hint="hftbacktest's rows are read as price levels")
        redundant = guard.dropped[Drop.REDUNDANT]
        admission = guard.admit(message)
        writer.trades(message, admission)
        if message.channel is Channel.BOOK and not message.malformed:
            if guard.dropped[Drop.REDUNDANT] > redundant:
                writer.full(
                    message.source_ts_ns or message.local_ts_ns, message.local_ts_ns, guard.book.applied
                )
            else:
                writer.book(message, admission, guard.book.applied)
    return _finished(
        writer.rows, instrument.price_exponent, instrument.qty_exponent, hold=local_time == "hold"
    )


def _messages(batch: EventBatch) -> Iterator[Message]:
    """The messages of a batch but for those of quotes, which make no row."""
    array, ends = batch.array, batch.message_ends
    if not len(ends):
        return
    starts = np.concatenate([[0], ends[:-1]])
    has_more = np.logical_or.reduceat(array["kind"] != Kind.QUOTE, starts)
    array = array[np.repeat(has_more, ends - starts)]
    if batch.options.on_malformed == "drop":
        yield from MessageReader([batch.instrument.symbol_id], on_malformed="drop").read(array)
        return
    part: list[Event] = []  # a batch is checked: what is in it need not be looked at again
    for row in chain.from_iterable(piece.tolist() for piece in _pieces(array)):
        event = Event._make(row)
        part.append(event)
        if event.flags & _LAST:
            yield Message(part)
            part = []


def _pieces(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    return (array[first : first + _PIECE] for first in range(0, len(array), _PIECE))


class _RowWriter:
    """Collects (ev, exch_ts, local_ts, price, qty, order_id, ival), numbers still as integers."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self._bids: _Levels = {}
        self._asks: _Levels = {}
        self._begun = False

    def trades(self, message: Message, admission: Admission) -> None:
        """The market trades of a message that brings something new."""
        if admission.outcome is Outcome.IGNORED:
            return
        for event in message.trades:
            ev = _TRADE | _SIDES[event.side]
            self.rows.append((ev, event.source_ts_ns, event.local_ts_ns, event.price, event.qty, 0, 0))

    def book(self, message: Message, admission: Admission, applied: int) -> None:
        """What a book message does; before the first full book nothing."""
        outcome = admission.outcome
        if outcome in (Outcome.APPLIED, Outcome.UNFINISHED):
            full = message.snapshot and (message.recovery or admission.begins)
            changes = not full and (message.snapshot or message.clears)
            before = (dict(self._bids), dict(self._asks)) if changes else ({}, {})
            self._apply(admission)
            if outcome is Outcome.APPLIED and full:
                self.full(admission.source_ts_ns, admission.local_ts_ns, applied)
            elif outcome is Outcome.APPLIED and changes:
                self._changes(message, before)
            elif outcome is Outcome.APPLIED:
                self._levels(message)
            self._begun = self._begun or outcome is Outcome.APPLIED
        elif outcome in (Outcome.BROKE, Outcome.HELD) and self._begun and not message.snapshot:
            self._levels(message)  # whoever follows the ids waits; whoever does not has the best there is

    def full(self, source_ts_ns: int, local_ts_ns: int, applied: int) -> None:
        """The book as it is, as a full book that restarts whoever lost it."""
        head = (source_ts_ns, local_ts_ns)
        self.rows.append((_CLEAR, *head, 0, 0, 0, applied))
        for side, levels in ((_BUY, self._bids), (_SELL, self._asks)):
            for price in sorted(levels, reverse=side == _BUY):
                self.rows.append((_SNAPSHOT | side, *head, price, levels[price], 0, applied))

    def _levels(self, message: Message) -> None:
        for event in message.events:
            if event.kind == _LEVEL:
                self._change(message, _SIDES[event.side], event.price, event.qty)

    def _changes(self, message: Message, before: tuple[_Levels, _Levels]) -> None:
        """A message that empties or replaces the book, as changes of levels; at least one row."""
        rows = len(self.rows)
        for side, old, new in zip((_BUY, _SELL), before, (self._bids, self._asks), strict=True):
            for price in sorted(old.keys() | new.keys()):
                if old.get(price) != new.get(price):
                    self._change(message, side, price, new.get(price, 0))
        if len(self.rows) == rows:
            self._change(message, _BUY, 0, self._bids.get(0, 0))

    def _change(self, message: Message, side: int, price: int, qty: int) -> None:
        times, ids = (message.source_ts_ns, message.local_ts_ns), (message.seq_prev, message.seq_last)
        self.rows.append((_DEPTH | side, *times, price, qty, *ids))

    def _apply(self, admission: Admission) -> None:
        first = admission.messages[0]
        if admission.begins or (first.snapshot and not first.clears):
            self._bids.clear()
            self._asks.clear()
        for event in (event for message in admission.messages for event in message.events):
            levels = self._bids if event.side == Side.BID else self._asks
            if event.kind == Kind.CLEAR:
                self._clear(event)
            elif event.kind in (Kind.LEVEL, Kind.SNAPSHOT_LEVEL):
                levels.pop(event.price, None)
                if event.qty:
                    levels[event.price] = event.qty

    def _clear(self, event: Event) -> None:
        bounded = bool(event.flags & EventFlag.BOUND)
        if event.side != Side.ASK:
            self._bids = {p: q for p, q in self._bids.items() if bounded and p < event.price}
        if event.side != Side.BID:
            self._asks = {p: q for p, q in self._asks.items() if bounded and p > event.price}


def _finished(rows: list[_Row], price_exponent: int, qty_exponent: int, *, hold: bool) -> HftbacktestArray:
    """Floats for integers, local times not before the venue's, and both orders at once."""
    table = np.array(rows, np.int64).reshape(-1, 7)
    out = np.zeros(len(table), ROW_DTYPE)
    for i, name in enumerate(("ev", "exch_ts", "local_ts")):
        out[name] = table[:, i]
    out["px"] = table[:, 3] / 10.0**price_exponent
    out["qty"] = table[:, 4] / 10.0**qty_exponent
    out["order_id"], out["ival"] = table[:, 5], table[:, 6]
    latest = np.maximum.accumulate(out["local_ts"])
    held = np.flatnonzero(latest > out["local_ts"])
    if len(held) and not hold:
        row = int(held[0])
        found = f"local time {out['local_ts'][row]} behind {latest[row]}"
        expected = "local times that do not go back, as hftbacktest's arrays have them"
        hint = '`local_time="hold"` (`--local-time hold`) puts the latest in their place and counts'
        raise MalformedEvent(found, expected, hint=hint)
    out["local_ts"] = latest
    shift = max(0, -int((out["local_ts"] - out["exch_ts"]).min())) if len(out) else 0
    out["local_ts"] += shift
    return HftbacktestArray(_in_both_orders(out), shift, len(held))


def _in_both_orders(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows in the order of both clocks: those for which they differ stand twice.

    The venue's side of a simulation reads rows with bit 31, ours those with bit 30.
    """
    by_venue = np.argsort(rows["exch_ts"], kind="stable").tolist()
    exch, local = rows["exch_ts"].tolist(), rows["local_ts"].tolist()
    order: list[int] = []
    flags: list[int] = []
    count = len(by_venue)
    i = j = 0
    while i < count or j < count:
        if i < count and j < count and by_venue[i] == j:
            order.append(j)
            flags.append(_EXCH | _LOCAL)
            i, j = i + 1, j + 1
        elif i < count and (j == count or (exch[by_venue[i]], local[by_venue[i]]) < (exch[j], local[j])):
            order.append(by_venue[i])
            flags.append(_EXCH)
            i += 1
        else:
            order.append(j)
            flags.append(_LOCAL)
            j += 1
    out = rows[np.array(order, np.intp)]
    out["ev"] |= np.array(flags, np.uint64)
    return out


def save_hftbacktest(
    path: str | os.PathLike[str], batch: EventBatch, *, local_time: str = "refuse"
) -> HftbacktestArray:
    """Write the events of one instrument as an `.npz`; see `to_hftbacktest`."""
    array = to_hftbacktest(batch, local_time=local_time)
    array.save(path)
    return array
