"""One symbol's life in the reference: guard, clock, book and nodes, one message at a time.

Written to be read beside rules 3 to 5 and `docs/decisions/0002-readings-of-the-law.md`; "reading
25" there is the order of the parts of a step.

Leans on `nodes`, `book` and `market`. Knows nothing of streams of several symbols, nor of which
frames are put out.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Final

from featureplane.book.orders import OrderBook
from featureplane.features.frame import FrameLayout
from featureplane.features.kernels.binding import Terms
from featureplane.features.kernels.cell import Why
from featureplane.features.kernels.trades import TradeTick
from featureplane.features.nodes import Nodes
from featureplane.features.plan import Plan
from featureplane.features.sampling import ComputedFrame
from featureplane.market.events import EventFlag, SourceInfo, StreamOptions
from featureplane.market.instruments import Instrument
from featureplane.market.messages import Channel, Message
from featureplane.market.quality import (
    Admission,
    Cause,
    Outcome,
    Quality,
    Reads,
    ResetCause,
    StreamGuard,
)
from featureplane.market.schedule import Schedule
from featureplane.market.stages import Stages
from featureplane.market.stream_clock import StreamClock
from featureplane.units import NANOS_PER_SECOND

__all__ = ["STATUS_TRADING", "SymbolRun"]

STATUS_TRADING: Final = 3
"""`qty` of a status event that says the market trades."""

_CROSSED_NS: Final = NANOS_PER_SECOND
_EVERYTHING: Final = Reads.BOOK | Reads.TRADES
_BROKEN: Final = Quality.GAP_DETECTED | Quality.PARTIAL_FEATURES
_SIGNS: Final = (0, 1, -1)  # by `Side` of the aggressor
_HIDDEN: Final = int(EventFlag.HIDDEN)
_ABSENT: Final = int(Why.LACK | Why.OVERFLOW)
_COLD: Final = int(Why.COLD)
_SHORT: Final = int(Why.SHORT)


class _Row(Enum):
    """What a listened-to message makes."""

    STEP = "step"  # all nodes take part, one frame
    SILENT = "silent"  # the book is not whole: nodes that read only trades, no frame
    BREAK = "break"  # as silent, and the frame of rule 3.5


class SymbolRun:
    """The state of one symbol under one plan.

    What the guard and the clock do not count is here: `resets` by cause, `rises` the frames on which a
    flag stands that did not stand on the one computed before, and `unread_trades`.
    """

    def __init__(
        self,
        plan: Plan,
        layout: FrameLayout,
        instrument: Instrument,
        source: SourceInfo,
        options: StreamOptions,
    ) -> None:
        terms = Terms(instrument.tick, instrument.vpin_bucket_scaled, instrument.book_levels)
        self.layout = layout
        self.instrument = instrument
        self.nodes = Nodes(plan, terms, trade_sides=source.trade_sides)
        self.guard = StreamGuard(
            instrument.symbol,
            reads=self.nodes.reads,
            on_gap=options.on_gap,
            seed=options.seed,
            seed_after=options.seed_after,
        )
        self.clock = StreamClock(
            stale_ms=instrument.stale_ms,
            synchronised=instrument.clock == "synchronised",
            local_time=source.local_time,
        )
        self.schedule = Schedule(instrument)
        self.book = OrderBook()
        self.has_snapshots = source.has_snapshots
        self.locked_is_valid = instrument.locked == "valid"
        self.reads_book = bool(self.nodes.reads & Reads.BOOK)
        self.reads_trades = bool(self.nodes.reads & Reads.TRADES)
        self.status = STATUS_TRADING
        self.session_open = not self.schedule.has_sessions
        self.crossed_since: int | None = None
        self._had_book = False  # whether the book was whole before the message at hand
        self.seq = 0
        self.values = layout.undefined  # of the frame before
        self.flags = Quality(0)  # of the frame before
        self.resets: Counter[str] = Counter()
        self.rises: Counter[str] = Counter()
        self.unread_trades = 0
        self.stages: Stages | None = None  # of messages that are timed

    @property
    def is_trading(self) -> bool:
        """Whether status and session both say so (reading 30)."""
        return self.status == STATUS_TRADING and self.session_open

    # -- messages

    def take(self, message: Message) -> ComputedFrame | None:
        """The frame the message makes, if it makes one.

        Raises `SequenceGap` at a hole with `on_gap="refuse"`.
        """
        self._had_book = self.guard.is_whole
        admission = self.guard.admit(message)
        if message.channel is not Channel.QUOTE:  # of which nothing is judged
            self._lap("guard")
        if admission.outcome is Outcome.IGNORED:
            return None
        if admission.outcome is Outcome.SPOILED:
            return self._spoiled(admission.source_ts_ns, admission.local_ts_ns)
        if admission.outcome is Outcome.STATUS:
            return self._take_status(message)
        return self._take_change(message, admission)

    def reset(self, cause: ResetCause = ResetCause.EXPLICIT) -> None:
        """Reset all kernels at the next step (reading 24)."""
        self.guard.reset(_EVERYTHING, cause)

    def reconnect(self) -> None:
        """A connection without proof that it continues the one before (reading 24)."""
        self.guard.reconnect()
        self.clock.forget_offset()
        self.book.clear()
        self.crossed_since = None

    def _spoiled(self, source_ts_ns: int, local_ts_ns: int) -> ComputedFrame | None:
        self.crossed_since = None
        if not self.reads_book or not self.is_trading or self.clock.now is None:
            return None
        self.nodes.lose_book()
        self.nodes.finish(self.clock.now)
        return self._blank_frame(_BROKEN, source_ts_ns, local_ts_ns)

    def _take_status(self, message: Message) -> ComputedFrame | None:
        """A message of the status channel is no step; leaving trading makes a frame all the same."""
        was_trading = self.is_trading
        self._set_status(message)
        return self._leave(message) if was_trading and not self.is_trading else None

    def _leave(self, message: Message) -> ComputedFrame | None:
        """Leaving trading without a step: the clock keeps still (reading 27)."""
        if not self._makes_frames():
            return None
        return self._blank_frame(Quality.STATE_RESET, message.source_ts_ns, message.local_ts_ns)

    def _set_status(self, message: Message) -> None:
        if message.status is None:
            return
        was_trading, self.status = self.is_trading, message.status
        if self.is_trading and not was_trading:
            self.reset(ResetCause.TRADING)
            self.clock.forget_offset()
        if not self.is_trading:
            self.crossed_since = None

    def _makes_frames(self) -> bool:
        """Whether leaving trading makes a frame now (reading 30)."""
        return self.clock.now is not None and (not self.reads_book or self.guard.is_whole)

    def _take_change(self, message: Message, admission: Admission) -> ComputedFrame | None:
        """A message of book or trades that the guard did not drop."""
        outcome = admission.outcome
        was_trading = self.is_trading
        self._set_status(message)
        has_trades = self.reads_trades and bool(message.trades)
        if not self.reads_book:
            row = _Row.STEP if has_trades else None
        elif outcome is Outcome.APPLIED:
            row = _Row.STEP
        elif outcome is Outcome.BROKE:
            row = _Row.BREAK
        elif has_trades:
            row = _Row.STEP if outcome is Outcome.TRADES and self.guard.is_whole else _Row.SILENT
        else:
            row = None
        if row is not None:
            return self._row(row, message, admission, was_trading=was_trading)
        self._change_book(admission)
        return self._leave(message) if was_trading and not self.is_trading else None

    # -- rows (reading 25)

    def _row(
        self, row: _Row, message: Message, admission: Admission, *, was_trading: bool
    ) -> ComputedFrame | None:
        times = admission.source_ts_ns, admission.local_ts_ns
        before = self.clock.now
        clock_ns = self.clock.step(*times)
        self._look_up_session(clock_ns, times if before is not None else None)
        self._reset_kernels(before, clock_ns)
        if not self.is_trading:
            self.unread_trades += len(message.trades)
            self._change_book(admission)
            if was_trading and before is not None and self._makes_frames():
                return self._blank_frame(Quality.STATE_RESET | self._staleness(*times), *times)
            return None
        trades_only = row is not _Row.STEP
        self.nodes.begin(clock_ns, trades_only=trades_only)
        self._read_trades(message, clock_ns, trades_only=trades_only)
        if row is _Row.SILENT:
            self._change_book(admission)
            self.nodes.finish(clock_ns, trades_only=True)
            self._lap("features")
            self.guard.pending_flags |= self._staleness(*times)
            return None
        if row is _Row.BREAK:
            self.nodes.lose_book()
            self.nodes.finish(clock_ns)
            self.crossed_since = None
            return self._blank_frame(_BROKEN | self._staleness(*times), *times)
        return self._finish_step(admission, clock_ns)

    def _finish_step(self, admission: Admission, clock_ns: int) -> ComputedFrame:
        times = admission.source_ts_ns, admission.local_ts_ns
        book_came = admission.outcome is Outcome.APPLIED and self.reads_book
        if book_came:
            self._change_book(admission)
            if self._book_is_valid():
                self.nodes.book_tick(self.book, clock_ns)
            else:
                self.nodes.lose_book()
        self.nodes.finish(clock_ns, book_stands=not book_came)
        flags = self._staleness(*times)
        if self.reads_book:
            flags |= self.guard.standing_flags
            if not self._book_is_valid():
                flags |= Quality.CROSSED_BOOK
            if self._stays_crossed(clock_ns):
                self.guard.break_book(Cause.CROSSED)
                return self._blank_frame(_BROKEN | flags, *times)
        return self._computed_frame(flags, *times)

    def _look_up_session(self, clock_ns: int, times: tuple[int, int] | None) -> None:
        """`times` are those of the message, None if it is the symbol's first."""
        was_trading, self.session_open = self.is_trading, self.schedule.is_open(clock_ns)
        if self.is_trading and not was_trading and times is not None:
            self.reset(ResetCause.TRADING)
            self.clock.begin_offset(*times)
        if not self.is_trading:
            self.crossed_since = None

    def _reset_kernels(self, before: int | None, clock_ns: int) -> None:
        if before is None:
            self.resets[ResetCause.FIRST] += 1
        elif self.schedule.resets(before, clock_ns):
            self.reset(ResetCause.DAILY)
        resets, self.guard.pending_resets = self.guard.pending_resets, Reads.NOTHING
        if resets and self.nodes.reset(resets):
            self.guard.pending_flags |= Quality.STATE_RESET
            self.resets.update(self.guard.causes)
            self.guard.causes.clear()

    def _read_trades(self, message: Message, clock_ns: int, *, trades_only: bool) -> None:
        """The trades see the book as it was before the message."""
        if not self.reads_trades:
            return
        mid_before = self._mid_before()
        for event in message.trades:
            trade = TradeTick(
                event.price,
                event.qty,
                _SIGNS[event.side],
                clock_ns,
                hidden=bool(event.flags & _HIDDEN),
                mid_before=mid_before,
                step=self.seq + 1,
            )
            self.nodes.trade_tick(trade, trades_only=trades_only)
        if message.trades:
            self._lap("features")

    def _mid_before(self) -> int | None:
        book = self.book
        if not self._had_book or not len(book.bids) or not len(book.asks) or not self._book_is_valid():
            return None
        return book.bids.price(1) + book.asks.price(1)

    def _lap(self, stage: str) -> None:
        if self.stages is not None:
            self.stages.lap(stage)

    # -- the book

    def _change_book(self, admission: Admission) -> None:
        if not self.reads_book or admission.outcome not in {Outcome.APPLIED, Outcome.UNFINISHED}:
            return
        self.book.admit(admission)
        self._lap("book")

    def _book_is_valid(self) -> bool:
        return self.book.is_valid(locked=self.locked_is_valid)

    def _stays_crossed(self, clock_ns: int) -> bool:
        """Whether the book has been invalid for too long on a source that can mend it (rule 3.9)."""
        if self._book_is_valid():
            self.crossed_since = None
        elif self.crossed_since is None:
            self.crossed_since = clock_ns
        elif self.has_snapshots and clock_ns - self.crossed_since > _CROSSED_NS:
            self.crossed_since = None
            return True
        return False

    # -- frames

    def _staleness(self, source_ts_ns: int, local_ts_ns: int) -> Quality:
        return Quality.STALE_INPUT if self.clock.is_stale(source_ts_ns, local_ts_ns) else Quality(0)

    def _computed_frame(self, flags: Quality, source_ts_ns: int, local_ts_ns: int) -> ComputedFrame:
        values, ready = [], 0
        for i, (node, dtype) in enumerate(zip(self.nodes.features, self.layout.dtypes, strict=True)):
            cell = node.cell
            values.append(cell.bits(dtype))
            if cell.value is not None:
                ready |= 1 << i
            lacks = cell.value is None and cell.why & _ABSENT
            if (lacks or cell.why & _SHORT) and not cell.why & _COLD:
                flags |= Quality.PARTIAL_FEATURES
        return self._frame(flags, source_ts_ns, local_ts_ns, b"".join(values), ready)

    def _blank_frame(self, flags: Quality, source_ts_ns: int, local_ts_ns: int) -> ComputedFrame:
        """A frame in which every value is undefined."""
        if self.reads_book:
            flags |= self.guard.standing_flags
        return self._frame(flags, source_ts_ns, local_ts_ns, self.layout.undefined, 0)

    def _note_rises(self, flags: Quality) -> None:
        before, self.flags = self.flags, flags
        if flags != before:
            self.rises.update(str(flag.name) for flag in flags & ~before)

    def _frame(
        self, flags: Quality, source_ts_ns: int, local_ts_ns: int, values: bytes, ready: int
    ) -> ComputedFrame:
        self.seq += 1
        self.guard.frame_made()
        flags |= self.guard.pending_flags
        self.guard.pending_flags = Quality(0)
        self._note_rises(flags)
        changed, before, self.values = 0, self.values, values
        if values != before:
            for i in range(len(self.layout.dtypes)):
                if values[8 * i : 8 * i + 8] != before[8 * i : 8 * i + 8]:
                    changed |= 1 << i
        return ComputedFrame(
            self.instrument.symbol_id,
            int(flags),
            self.seq,
            source_ts_ns,
            local_ts_ns,
            self.guard.book.applied,
            changed,
            ready,
            values,
        )
