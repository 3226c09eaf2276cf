//! One instrument: guard, book, clock and nodes, one message at a time (rules 3 to 5).

use super::block::Block;
use super::config::{Config, OnGap, Seed, SymbolConfig, Trading};
use super::lateness::Lateness;
use super::nodes::{Nodes, Reads};
use super::output::{Output, Sampler};
use super::plain::PlainStep;
use crate::book::Book;
use crate::error::Error;
use crate::event::{Event, flag, kind, side};
use crate::frame::quality::{
    CROSSED_BOOK, GAP_DETECTED, OUT_OF_ORDER_INPUT, PARTIAL_FEATURES, STALE_INPUT, STATE_RESET,
};
use crate::frame::{FrameSink, Head, Layout};
use crate::kernels::book::BookView;
use crate::kernels::bound::Instrument;
use crate::kernels::trades::TradeTick;
use crate::message::{Channel, Message};
use crate::plan::Plan;
use crate::quality::{Cause, Followed, Guard, Joined, Policy, Reason, State, Verdict};

/// How long a book may stand crossed before it is broken.
pub(super) const CROSSED_NS: i64 = 1_000_000_000;

/// What all symbols of an engine share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) layout: Layout,
    pub(super) reads: Reads,
    pub(super) policy: Policy,
    pub(super) has_snapshots: bool,
    pub(super) seed_after: Option<u64>,
}

impl Shared {
    pub(super) fn new(mut plan: Plan, config: &Config) -> Self {
        if !config.trade_sides {
            plan.sign_by_book();
        }
        Self {
            layout: Layout::new(&plan),
            reads: Reads { book: plan.reads_book(), trades: plan.reads_trades() },
            policy: Policy {
                pass_gaps: config.on_gap == OnGap::Continue,
                refuse_gaps: config.on_gap == OnGap::Refuse,
                seed_increments: config.seed == Seed::Increments,
            },
            has_snapshots: config.has_snapshots,
            seed_after: config.seed_after,
            plan,
        }
    }
}

/// Times of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) source_ns: i64,
    pub(super) local_ns: i64,
}

/// What a row does with the book.
enum Change<'a> {
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
struct Row<'a> {
    message: &'a Message<'a>,
    change: Change<'a>,
    times: Times,
    /// The book was whole before the message.
    had_book: bool,
    /// Trading was on before the message.
    was_trading: bool,
}

/// Events, steps and the like; exact.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Messages of each channel, in the order of [`Channel`].
    pub messages: [u64; 4],
    /// Frames computed.
    pub frames: u64,
    /// Steps whose clock did not reach the one before (rule 5.3).
    pub steps_back: u64,
    /// Steps beyond the limit of rule 3.10.
    pub clock_faults: u64,
    /// Resets by `reset_at`.
    pub daily_resets: u64,
    /// Market trades outside trading (rule 2.5).
    pub unread_trades: u64,
}

/// The state of one instrument.
#[derive(Clone, Debug)]
pub(super) struct Symbol {
    pub(super) place: usize,
    pub(super) config: SymbolConfig,
    pub(super) guard: Guard,
    pub(super) book: Book,
    pub(super) nodes: Nodes,
    pub(super) lateness: Lateness,
    pub(super) clock: Option<i64>,
    /// What the last status event said.
    pub(super) status: Trading,
    pub(super) session: Trading,
    /// Clock from which `session` must be looked up again.
    pub(super) session_until: i64,
    pub(super) next_reset: i64,
    pub(super) pending_flags: u32,
    pub(super) pending_reset: Reads,
    /// Book messages of this symbol carry trades (reading 16).
    pub(super) carries_trades: bool,
    /// The book is valid as last observed.
    pub(super) valid: bool,
    pub(super) crossed_since: Option<i64>,
    pub(super) seq: u64,
    /// Frames computed of a book seeded from increments.
    pub(super) seed_frames: u64,
    pub(super) output: Output,
    pub(super) sampler: Sampler,
    pub(super) counts: Counts,
}

impl Symbol {
    pub(super) fn new(place: usize, shared: &Shared, config: &Config) -> Result<Self, Error> {
        let symbol = config.symbols[place].clone();
        let instrument = Instrument {
            tick: (symbol.tick > 0).then_some(symbol.tick),
            vpin_bucket: symbol.vpin_bucket.and_then(|bucket| u64::try_from(bucket).ok()).filter(|&b| b > 0),
        };
        let has_sessions = symbol.sessions.is_some();
        Ok(Self {
            place,
            guard: Guard::default(),
            book: Book::new(symbol.tick.max(1), shared.plan.depth),
            nodes: Nodes::new(&shared.plan, instrument, symbol.book_levels)?,
            lateness: Lateness::new(symbol.stale_ms, symbol.synchronised, config.local_time),
            clock: None,
            status: Trading::Trading,
            session: if has_sessions { Trading::Closed } else { Trading::Trading },
            session_until: if has_sessions { i64::MIN } else { i64::MAX },
            next_reset: i64::MAX,
            pending_flags: STATE_RESET,
            pending_reset: Reads::default(),
            carries_trades: false,
            valid: true,
            crossed_since: None,
            seq: 0,
            seed_frames: 0,
            output: Output::new(&shared.layout),
            sampler: Sampler::new(config.emit, config.every, config.local_time, &shared.layout),
            counts: Counts::default(),
            config: symbol,
        })
    }

    fn is_trading(&self) -> bool {
        self.status == Trading::Trading && self.session == Trading::Trading
    }

    /// Whether leaving trading makes a frame now (reading 30).
    fn makes_frames(&self, shared: &Shared) -> bool {
        !shared.reads.book || self.guard.state == State::Whole
    }

    // Messages.

    /// Takes one good message of this symbol.
    #[inline]
    pub(super) fn message(
        &mut self,
        shared: &Shared,
        message: &Message<'_>,
        sink: &mut impl FrameSink,
    ) -> Result<(), Error> {
        let channel = message.channel();
        self.counts.messages[channel as usize] += 1;
        self.guard.drops[Reason::EmptyTrade as usize] += message.empty_trades();
        match channel {
            Channel::Quote => {}
            Channel::Book => self.book_message(shared, message, sink)?,
            Channel::Trade => self.trade_message(shared, message, sink)?,
            Channel::Status => {
                let was_trading = self.is_trading();
                if self.follow(shared, Channel::Status, message)? {
                    self.take_status(message);
                    self.leave(shared, was_trading, times(message.head()), sink);
                }
            }
        }
        Ok(())
    }

    fn refused(&self, channel: Channel, applied: u64, got: u64) -> Error {
        let symbol = self.config.symbol.clone();
        Error::SequenceGap { symbol, channel: channel.name(), expected: applied, got }
    }

    /// Follows the ids of a channel that waits for nothing; whether the message is new.
    fn follow(&mut self, shared: &Shared, channel: Channel, message: &Message<'_>) -> Result<bool, Error> {
        let trades = channel == Channel::Trade;
        match self.guard.follow(channel, message) {
            Followed::New => Ok(true),
            Followed::Old(reason) => {
                self.guard.count(reason);
                let late = reason == Reason::Late && trades && shared.reads.trades;
                self.pending_flags |= if late { OUT_OF_ORDER_INPUT } else { 0 };
                Ok(false)
            }
            Followed::Gap(applied) if shared.policy.refuse_gaps => {
                Err(self.refused(channel, applied, message.head().seq_prev))
            }
            Followed::Gap(_) => {
                if trades {
                    self.trade_gap(shared);
                }
                Ok(true)
            }
        }
    }

    fn trade_message(
        &mut self,
        shared: &Shared,
        message: &Message<'_>,
        sink: &mut impl FrameSink,
    ) -> Result<(), Error> {
        if self.follow(shared, Channel::Trade, message)? {
            let row = Row {
                message,
                change: Change::None,
                times: times(message.head()),
                had_book: self.guard.state == State::Whole,
                was_trading: self.is_trading(),
            };
            self.row(shared, &row, sink);
        }
        Ok(())
    }

    /// Ids of trades are missing: kernels that read them forget.
    fn trade_gap(&mut self, shared: &Shared) {
        if shared.reads.trades {
            self.pending_reset.trades = true;
            self.pending_flags |= GAP_DETECTED;
        }
    }

    fn book_message(
        &mut self,
        shared: &Shared,
        message: &Message<'_>,
        sink: &mut impl FrameSink,
    ) -> Result<(), Error> {
        self.carries_trades |= message.has_trades();
        let (seeded, had_book) = (self.guard.seeded, self.guard.state == State::Whole);
        let was_trading = self.is_trading();
        let verdict = self.guard.judge(message, shared.policy);
        match &verdict {
            Verdict::Drop(reason, flags) => {
                self.guard.count(*reason);
                let carries = message.has_market_trades() && shared.reads.trades;
                self.pending_flags |= if shared.reads.book || carries { *flags } else { 0 };
                return Ok(());
            }
            Verdict::Refuse(got) => {
                return Err(self.refused(Channel::Book, self.guard.book.applied, *got));
            }
            Verdict::Plain if self.guard.seeded && !seeded => {
                self.book.reset();
            }
            Verdict::Passed => {
                self.pending_reset.book = true;
                self.book_gap(shared);
            }
            Verdict::Break => self.book_gap(shared),
            Verdict::Joined(joined) => self.note_join(shared, joined),
            Verdict::Plain | Verdict::Unread => {}
        }
        if message.has_status() {
            self.take_status(message);
        }
        let times = times(message.head());
        let (change, times) = match &verdict {
            Verdict::Plain | Verdict::Passed => (Change::Message, times),
            Verdict::Break => (Change::Break, times),
            Verdict::Joined(joined) if joined.torn => (Change::Torn(joined), times),
            Verdict::Joined(joined) => {
                (Change::Joined(joined), Times { source_ns: joined.source_ts_ns, ..times })
            }
            _ => (Change::None, times),
        };
        self.row(shared, &Row { message, change, times, had_book, was_trading }, sink);
        Ok(())
    }

    fn note_join(&mut self, shared: &Shared, joined: &Joined) {
        if shared.reads.book {
            self.pending_flags |= joined.flags;
        }
        if joined.resets || joined.passed {
            self.pending_reset.book = true;
            self.pending_reset.trades |= self.carries_trades;
        }
        if joined.passed || joined.torn {
            self.book_gap(shared);
        }
    }

    /// A hole in book messages is one in trades where they carry them (reading 16).
    fn book_gap(&mut self, shared: &Shared) {
        if self.carries_trades {
            self.pending_reset.trades = true;
            if !shared.reads.book {
                self.trade_gap(shared);
            }
        }
    }

    /// A message of this symbol could not be used and is dropped (reading 2).
    pub(super) fn malformed(
        &mut self,
        shared: &Shared,
        channel: Channel,
        head: &Event,
        sink: &mut impl FrameSink,
    ) {
        self.guard.count(Reason::Malformed);
        if channel != Channel::Book || self.guard.state != State::Whole {
            return;
        }
        self.guard.break_book(Cause::Malformed);
        self.book_gap(shared);
        self.crossed_since = None;
        if let Some(clock) = self.clock
            && shared.reads.book
            && self.is_trading()
        {
            self.nodes.book(None, clock);
            self.nodes.finish(clock, false);
            self.blank_frame(shared, GAP_DETECTED | PARTIAL_FEATURES, times(head), sink);
        }
    }

    /// The last status of a message counts.
    fn take_status(&mut self, message: &Message<'_>) {
        let was_trading = self.is_trading();
        let last = message.events.iter().rev().find(|event| event.kind == kind::STATUS);
        self.status = last.and_then(|event| Trading::from_status(event.qty)).unwrap_or(self.status);
        if self.is_trading() && !was_trading {
            self.pending_reset = Reads::ALL;
            self.lateness.forget();
        }
        if !self.is_trading() {
            self.crossed_since = None;
        }
    }

    /// The frame that leaves trading, made without a step.
    fn leave(&mut self, shared: &Shared, was_trading: bool, times: Times, sink: &mut impl FrameSink) {
        if was_trading && !self.is_trading() && self.clock.is_some() && self.makes_frames(shared) {
            self.blank_frame(shared, STATE_RESET, times, sink);
        }
    }

    // Rows.

    /// One row: a step, a silent step or the frame of a break (reading 25).
    fn row(&mut self, shared: &Shared, row: &Row<'_>, sink: &mut impl FrameSink) {
        let &Row { message, ref change, times, .. } = row;
        let has_trades = shared.reads.trades && message.has_market_trades();
        let steps = shared.reads.book && matches!(change, Change::Message | Change::Joined(_));
        let breaks = shared.reads.book && matches!(change, Change::Break);
        if !steps && !breaks && !has_trades {
            self.apply(shared, message, change);
            return self.leave(shared, row.was_trading, times, sink);
        }
        let first = self.clock.is_none();
        let clock = self.enter(times);
        let stale = self.staleness(times);
        if !self.is_trading() {
            self.counts.unread_trades += message.market_trades().count() as u64;
            self.apply(shared, message, change);
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
        }
        if breaks {
            self.crossed_since = None;
            self.nodes.book(None, clock);
            self.nodes.finish(clock, false);
            return self.blank_frame(shared, GAP_DETECTED | PARTIAL_FEATURES | stale, times, sink);
        }
        self.apply(shared, message, change);
        if silent {
            self.nodes.finish(clock, true);
            self.pending_flags |= stale;
            return;
        }
        if steps {
            self.tick_book(clock);
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
            self.counts.daily_resets += 1;
            self.pending_reset = Reads::ALL;
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
    fn apply(&mut self, shared: &Shared, message: &Message<'_>, change: &Change<'_>) {
        if !shared.reads.book {
            return;
        }
        match change {
            Change::None | Change::Break => {}
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
        self.tick_book(step.clock);
        self.nodes.finish(step.clock, false);
        self.finish_step(shared, step.clock, step.stale, step.times, sink);
    }

    #[inline]
    fn tick_book(&mut self, clock: i64) {
        self.observe();
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
    fn blank_frame(&mut self, shared: &Shared, flags: u32, times: Times, sink: &mut impl FrameSink) {
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
    }

    /// Computes the steps of a block.
    pub(super) fn compute(&mut self, block: &mut Block) {
        block.compute(&mut self.nodes, &mut self.output);
    }

    /// Puts out the frames of the next `count` steps of a block that is computed.
    pub(super) fn put_out<S: FrameSink>(&mut self, block: &mut Block, count: usize, sink: &mut S) {
        let frames = block.frames(self.config.symbol_id, count);
        if S::BY_COLUMN && self.sampler.takes_all() {
            sink.frames(self.place, &frames);
            return self.output.set_flags(frames.flags.last().copied().unwrap_or_default());
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
