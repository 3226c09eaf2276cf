//! What a message that was let in does: one step, a silent one, or the frame of a break (rules 3 to 5).

use super::block::Block;
use super::config::Trading;
use super::nodes::Reads;
use super::plain::PlainStep;
use super::symbol::{Shared, Symbol};
use super::tally::ResetCause;
use crate::event::{Event, flag, side};
use crate::frame::quality::{CROSSED_BOOK, GAP_DETECTED, PARTIAL_FEATURES, STALE_INPUT, STATE_RESET};
use crate::frame::{FrameSink, Head, Stage};
use crate::kernels::book::BookView;
use crate::kernels::trades::TradeTick;
use crate::message::Message;
use crate::quality::{Cause, Joined, State};

/// How long a book may stand crossed before it is broken.
pub(super) const CROSSED_NS: i64 = 1_000_000_000;

/// Times of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) source_ns: i64,
    pub(super) local_ns: i64,
}

/// What a row does with the book.
pub(super) enum Change<'a> {
    /// Nothing; a step of trades.
    None,
    /// Applies the message.
    Message,
    /// Applies several as one.
    Joined(&'a Joined),
    /// The book breaks here.
    Break,
    /// A snapshot is in the book, and behind it something is missing.
    Torn(&'a Joined),
}

/// A message that was let in, and the moment it came.
pub(super) struct Row<'a> {
    pub(super) message: &'a Message<'a>,
    pub(super) change: Change<'a>,
    pub(super) times: Times,
    /// The book was whole before the message.
    pub(super) had_book: bool,
    /// Trading was on before the message.
    pub(super) was_trading: bool,
}

impl Symbol {
    /// One row: a step, a silent step or the frame of a break (reading 25).
    pub(super) fn row(&mut self, shared: &Shared, row: &Row<'_>, sink: &mut impl FrameSink) {
        let &Row { message, ref change, times, .. } = row;
        let has_trades = shared.reads.trades && message.has_market_trades();
        let steps = shared.reads.book && matches!(change, Change::Message | Change::Joined(_));
        let breaks = shared.reads.book && matches!(change, Change::Break);
        if !steps && !breaks && !has_trades {
            self.apply(shared, message, change, sink);
            return self.leave(shared, row.was_trading, times, sink);
        }
        let first = self.clock.is_none();
        let clock = self.enter(times);
        let stale = self.staleness(times);
        if !self.is_trading() {
            self.counts.unread_trades += message.market_trades().count() as u64;
            self.apply(shared, message, change, sink);
            self.observe();
            if row.was_trading && !first && self.makes_frames(shared) {
                self.blank_frame(shared, STATE_RESET | stale, times, sink);
            }
            return;
        }
        let silent = breaks || (shared.reads.book && !steps && self.guard.state != State::Whole);
        self.nodes.begin(clock, silent);
        if has_trades {
            self.read_trades(message, clock, row.had_book, silent);
            sink.reached(Stage::Features);
        }
        if breaks {
            self.crossed_since = None;
            self.nodes.book(None, clock);
            self.nodes.finish(clock, false);
            return self.blank_frame(shared, GAP_DETECTED | PARTIAL_FEATURES | stale, times, sink);
        }
        self.apply(shared, message, change, sink);
        if silent {
            self.nodes.finish(clock, true);
            self.pending_flags |= stale;
            return sink.reached(Stage::Features);
        }
        if steps {
            self.tick_book(clock, sink);
        }
        self.nodes.finish(clock, false);
        self.finish_step(shared, clock, stale, times, sink);
    }

    /// What a step does before its ticks; the clock it stands at.
    #[inline]
    fn enter(&mut self, times: Times) -> i64 {
        let fault = self.lateness.is_fault(times.source_ns, times.local_ns);
        let first = self.clock.is_none();
        let clock = self.advance_clock(times.source_ns, fault);
        if clock >= self.session_until {
            self.look_up_session(clock, (!first).then_some(times));
        }
        self.reset_kernels();
        clock
    }

    #[inline]
    fn staleness(&self, times: Times) -> u32 {
        if self.lateness.is_stale(times.source_ns, times.local_ns) { STALE_INPUT } else { 0 }
    }

    fn advance_clock(&mut self, source_ns: i64, fault: bool) -> i64 {
        self.counts.clock_faults += u64::from(fault);
        let Some(before) = self.clock else {
            self.clock = Some(source_ns);
            self.counts.resets[ResetCause::First as usize] += 1;
            self.next_reset = self.reset_after(source_ns);
            return source_ns;
        };
        if fault {
            return before;
        }
        self.counts.steps_back += u64::from(source_ns < before);
        let clock = before.max(source_ns);
        self.clock = Some(clock);
        if clock >= self.next_reset {
            self.pending_reset = Reads::ALL;
            self.pending_causes.add(ResetCause::Daily);
            self.next_reset = self.reset_after(clock);
        }
        clock
    }

    pub(super) fn reset_after(&self, clock: i64) -> i64 {
        self.config.resets.as_ref().map_or(i64::MAX, |resets| resets.after(clock))
    }

    /// `times` are those of the message, none if it is the symbol's first.
    #[cold]
    fn look_up_session(&mut self, clock: i64, times: Option<Times>) {
        let was_trading = self.is_trading();
        let sessions = self.config.sessions.as_deref().unwrap_or_default();
        let next = sessions.partition_point(|&(_, close, _)| close <= clock);
        (self.session, self.session_until) = match sessions.get(next) {
            Some(&(open, close, state)) if open <= clock => (state, close),
            Some(&(open, _, _)) => (Trading::Closed, open),
            None => (Trading::Closed, i64::MAX),
        };
        if let Some(times) = times
            && self.is_trading()
            && !was_trading
        {
            self.pending_reset = Reads::ALL;
            self.pending_causes.add(ResetCause::Trading);
            self.lateness.begin(times.source_ns, times.local_ns);
        }
        if !self.is_trading() {
            self.crossed_since = None;
        }
    }

    /// Pending resets happen; the next frame says so if they concern a kernel.
    #[inline]
    fn reset_kernels(&mut self) {
        let reset = std::mem::take(&mut self.pending_reset);
        if reset != Reads::default() && self.nodes.reset(reset) {
            self.pending_flags |= STATE_RESET;
            self.pending_causes.count(&mut self.counts.resets);
        }
    }

    /// The trades see the book as it was before the message.
    fn read_trades(&mut self, message: &Message<'_>, clock: i64, had_book: bool, silent: bool) {
        let mid_before = if had_book { self.mid_x2() } else { None };
        for trade in trade_ticks(message, clock, mid_before, self.seq + 1) {
            self.nodes.trade(&trade, silent);
        }
    }

    /// Of the book as last observed.
    pub(super) fn mid_x2(&self) -> Option<i64> {
        let (bid, ask) = (self.book.bids().first()?, self.book.asks().first()?);
        self.valid.then_some(bid.price + ask.price)
    }

    /// The book of a plan that reads none is not kept.
    #[inline]
    fn apply(
        &mut self,
        shared: &Shared,
        message: &Message<'_>,
        change: &Change<'_>,
        sink: &mut impl FrameSink,
    ) {
        if !shared.reads.book {
            return;
        }
        match change {
            Change::None | Change::Break => return,
            Change::Message => self.apply_message(message),
            Change::Joined(joined) | Change::Torn(joined) => {
                if joined.replaces {
                    self.book.reset();
                }
                for event in &joined.events {
                    self.book.apply(event);
                }
            }
        }
        sink.reached(Stage::Book);
    }

    /// An ordinary message; a snapshot that restarts nothing replaces the book all the same.
    pub(super) fn apply_message(&mut self, message: &Message<'_>) {
        if message.is_snapshot() && !message.has_clear() {
            self.book.reset();
        }
        for event in message.events {
            self.book.apply(event);
        }
    }

    /// Brings the best levels up to date with the book, and whether it is valid; whether they may differ
    /// from what they were.
    #[inline]
    pub(super) fn observe(&mut self) -> bool {
        let changed = self.book.observe();
        if changed {
            self.valid = match (self.book.bids().first(), self.book.asks().first()) {
                (Some(bid), Some(ask)) => {
                    bid.price < ask.price || (self.config.locked_valid && bid.price == ask.price)
                }
                _ => true,
            };
        }
        changed
    }

    /// A step of a message of levels that are applied.
    #[inline]
    pub(super) fn plain_step(&mut self, shared: &Shared, step: PlainStep, sink: &mut impl FrameSink) {
        self.nodes.begin(step.clock, false);
        self.tick_book(step.clock, sink);
        self.nodes.finish(step.clock, false);
        self.finish_step(shared, step.clock, step.stale, step.times, sink);
    }

    #[inline]
    fn tick_book(&mut self, clock: i64, sink: &mut impl FrameSink) {
        self.observe();
        sink.reached(Stage::Book);
        let view = BookView { bids: self.book.bids(), asks: self.book.asks() };
        self.nodes.book(self.valid.then_some(&view), clock);
    }

    #[inline]
    fn finish_step(
        &mut self,
        shared: &Shared,
        clock: i64,
        mut flags: u32,
        times: Times,
        sink: &mut impl FrameSink,
    ) {
        if shared.reads.book {
            flags |= self.standing_flags(shared);
            if self.valid {
                self.crossed_since = None;
            } else {
                flags |= CROSSED_BOOK;
                let since = *self.crossed_since.get_or_insert(clock);
                if shared.has_snapshots && clock - since > CROSSED_NS {
                    self.crossed_since = None;
                    self.guard.break_book(Cause::Crossed);
                    let flags = flags | GAP_DETECTED | PARTIAL_FEATURES;
                    return self.blank_frame(shared, flags, times, sink);
                }
            }
        }
        flags |= self.output.publish(&shared.plan, &shared.layout, &self.nodes);
        self.frame(flags, times, sink);
    }

    // Frames.

    /// Flags of every frame of a book that is not whole (rules 3.5, 3.7).
    pub(super) fn standing_flags(&self, shared: &Shared) -> u32 {
        let mut flags = 0;
        if self.guard.passed {
            flags |= GAP_DETECTED | PARTIAL_FEATURES;
        }
        if self.guard.seeded && shared.seed_after.is_none_or(|after| self.seed_frames < after) {
            flags |= PARTIAL_FEATURES;
        }
        flags
    }

    /// A frame in which every value is undefined.
    pub(super) fn blank_frame(
        &mut self,
        shared: &Shared,
        flags: u32,
        times: Times,
        sink: &mut impl FrameSink,
    ) {
        self.output.blank(&shared.layout);
        let standing = if shared.reads.book { self.standing_flags(shared) } else { 0 };
        self.frame(flags | standing, times, sink);
    }

    /// More frames are computed; the flags that waited for the first of them.
    #[inline]
    pub(super) fn count_frames(&mut self, count: usize) -> u32 {
        let count = count as u64;
        self.seq += count;
        self.counts.frames += count;
        self.seed_frames += if self.guard.seeded { count } else { 0 };
        std::mem::take(&mut self.pending_flags)
    }

    #[inline]
    fn frame(&mut self, flags: u32, times: Times, sink: &mut impl FrameSink) {
        let flags = flags | self.count_frames(1);
        self.rises.note(flags);
        self.output.mark();
        let head = Head {
            symbol_id: self.config.symbol_id,
            flags,
            seq: self.seq,
            source_ts_ns: times.source_ns,
            local_ts_ns: times.local_ns,
            source_seq: self.guard.book.applied,
            grid_ts_ns: 0,
        };
        self.sampler.frame(self.place, head, &mut self.output, sink);
        sink.reached(Stage::Features);
    }

    /// Computes the steps of a block, whose frames are all put out together if it is `alone`.
    pub(super) fn compute<S: FrameSink>(&mut self, block: &mut Block, alone: bool) {
        let late = alone && S::BY_COLUMN && self.sampler.takes_all();
        block.compute(&mut self.nodes, &mut self.output, late);
        self.rises.note_all(block.flags());
    }

    /// Puts out the frames of the next `count` steps of a block that is computed.
    pub(super) fn put_out<S: FrameSink>(&mut self, block: &mut Block, count: usize, sink: &mut S) {
        let by_column = S::BY_COLUMN && self.sampler.takes_all();
        let mut frames = block.frames(self.config.symbol_id, count, by_column);
        if by_column {
            sink.frames(self.place, &mut frames);
            self.output.set_flags(frames.flags.last().copied().unwrap_or_default());
            return block.settle(&mut self.nodes, &mut self.output);
        }
        for at in 0..count {
            self.output.show(&frames, at);
            self.sampler.frame(self.place, frames.head(at), &mut self.output, sink);
        }
    }
}

/// Market trades of a message; `step` is the `seq` of the frame to come.
pub(super) fn trade_ticks(
    message: &Message<'_>,
    clock_ns: i64,
    mid_before: Option<i64>,
    step: u64,
) -> impl Iterator<Item = TradeTick> {
    message.market_trades().map(move |event| TradeTick {
        price: event.price,
        qty: event.qty,
        sign: match event.side {
            side::BID => 1,
            side::ASK => -1,
            _ => 0,
        },
        hidden: event.flags & flag::HIDDEN != 0,
        clock_ns,
        mid_before,
        step,
    })
}

pub(super) fn times(event: &Event) -> Times {
    Times { source_ns: event.source_ts_ns, local_ns: event.local_ts_ns }
}
