//! One instrument: guard, book, clock and nodes, one message at a time (rules 3 to 5).

use super::config::{Config, OnGap, Seed, SymbolConfig, Trading};
use super::lateness::Lateness;
use super::nodes::{Nodes, Reads};
use super::output::{Output, Sampler};
use crate::book::Book;
use crate::error::Error;
use crate::event::{Event, flag, kind};
use crate::frame::quality::{
    CROSSED_BOOK, GAP_DETECTED, OUT_OF_ORDER_INPUT, PARTIAL_FEATURES, STALE_INPUT, STATE_RESET,
};
use crate::frame::{FrameSink, Head, Layout};
use crate::kernels::book::BookView;
use crate::kernels::bound::Instrument;
use crate::kernels::trades::TradeTick;
use crate::message::{Channel, Message};
use crate::plan::Plan;
use crate::quality::{Cause, Guard, Joined, Place, Policy, Reason, State, Verdict};

/// How long a book may stand crossed before it is broken.
const CROSSED_NS: i64 = 1_000_000_000;

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
#[derive(Clone, Copy, Debug)]
struct Times {
    source_ns: i64,
    local_ns: i64,
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
    /// Trades no kernel may read (rule 2.5).
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
    pub(super) status: Option<Trading>,
    pub(super) session: Option<Trading>,
    /// Clock from which `session` must be looked up again.
    session_until: i64,
    next_reset: i64,
    pub(super) pending_flags: u32,
    pub(super) pending_reset: Reads,
    /// Book messages of this symbol carry trades (reading 16).
    pub(super) carries_trades: bool,
    /// The book is valid as of its last tick.
    pub(super) valid: bool,
    pub(super) crossed_since: Option<i64>,
    pub(super) seq: u64,
    /// `seq` before the book was seeded from increments.
    pub(super) seeded_at: u64,
    pub(super) started: bool,
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
        Ok(Self {
            place,
            guard: Guard::default(),
            book: Book::new(symbol.tick.max(1), shared.plan.depth),
            nodes: Nodes::new(&shared.plan, instrument, symbol.book_levels)?,
            lateness: Lateness::new(symbol.stale_ms, symbol.synchronised, config.local_time),
            clock: None,
            status: None,
            session: symbol.sessions.is_none().then_some(Trading::Trading),
            session_until: if symbol.sessions.is_none() { i64::MAX } else { i64::MIN },
            next_reset: i64::MAX,
            pending_flags: STATE_RESET,
            pending_reset: Reads::default(),
            carries_trades: false,
            valid: false,
            crossed_since: None,
            seq: 0,
            seeded_at: 0,
            started: false,
            output: Output::new(&shared.layout),
            sampler: Sampler::new(config.emit, config.every, config.local_time, &shared.layout),
            counts: Counts::default(),
            config: symbol,
        })
    }

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
            Channel::Quote => Ok(()),
            Channel::Book => self.book_message(shared, message, sink),
            Channel::Trade => self.trade_message(shared, message, sink),
            Channel::Status => self.status_message(shared, message, sink),
        }
    }

    fn refused(&self, channel: Channel, applied: u64, got: u64) -> Error {
        Error::SequenceGap {
            symbol_id: self.config.symbol_id,
            channel: channel.name(),
            expected: applied,
            got,
        }
    }

    fn trade_message(
        &mut self,
        shared: &Shared,
        message: &Message<'_>,
        sink: &mut impl FrameSink,
    ) -> Result<(), Error> {
        let head = message.head();
        if message.is_sequenced() {
            match self.guard.trade.place(head) {
                Place::Before => {
                    self.guard.count(Reason::Late);
                    if shared.reads.trades {
                        self.pending_flags |= OUT_OF_ORDER_INPUT;
                    }
                    return Ok(());
                }
                Place::Duplicate => {
                    self.guard.count(Reason::Duplicate);
                    return Ok(());
                }
                Place::Gap => {
                    self.guard.gaps[Channel::Trade as usize] += 1;
                    if shared.policy.refuse_gaps {
                        let applied = self.guard.trade.applied();
                        return Err(self.refused(Channel::Trade, applied, head.seq_prev));
                    }
                    self.guard.trade.pass(head);
                    self.trade_gap(shared);
                }
                Place::Next | Place::Overlap => self.guard.trade.apply(head),
            }
        }
        if !shared.reads.trades || !message.has_market_trades() {
            return Ok(());
        }
        self.row(shared, message, times(head), &Change::None, sink);
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
        if message.has_status() {
            self.take_status(shared, message, sink);
        }
        let head = message.head();
        let times = times(head);
        let seeded = self.guard.seeded;
        match self.guard.judge(message, shared.policy) {
            Verdict::Drop(reason, flags) => {
                self.guard.count(reason);
                let carries = message.has_market_trades() && shared.reads.trades;
                self.pending_flags |= if shared.reads.book || carries { flags } else { 0 };
            }
            Verdict::Refuse(got) => return Err(self.refused(Channel::Book, self.guard.book.applied(), got)),
            Verdict::Unread => {
                if message.has_market_trades() && shared.reads.trades {
                    self.row(shared, message, times, &Change::None, sink);
                }
            }
            Verdict::Plain => {
                if self.guard.seeded && !seeded {
                    self.seeded_at = self.seq;
                    self.book.reset();
                }
                self.row(shared, message, times, &Change::Message, sink);
            }
            Verdict::Passed => {
                self.book_gap(shared);
                self.pending_reset.book = true;
                self.row(shared, message, times, &Change::Message, sink);
            }
            Verdict::Break => {
                self.book_gap(shared);
                self.row(shared, message, times, &Change::Break, sink);
            }
            Verdict::Joined(joined) => {
                let times = Times { source_ns: joined.source_ts_ns, ..times };
                self.join(shared, message, times, &joined, sink);
            }
        }
        Ok(())
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

    fn join(
        &mut self,
        shared: &Shared,
        message: &Message<'_>,
        times: Times,
        joined: &Joined,
        sink: &mut impl FrameSink,
    ) {
        if shared.reads.book {
            self.pending_flags |= joined.flags;
        }
        if joined.resets {
            self.pending_reset.book = true;
            self.pending_reset.trades |= self.carries_trades;
        }
        if joined.passed {
            self.pending_reset.book = true;
        }
        if joined.passed || joined.torn {
            self.book_gap(shared);
        }
        if joined.torn {
            self.apply_joined(joined);
            if message.has_market_trades() && shared.reads.trades {
                self.row(shared, message, times, &Change::None, sink);
            }
            return;
        }
        self.row(shared, message, times, &Change::Joined(joined), sink);
    }

    fn apply_joined(&mut self, joined: &Joined) {
        if joined.replaces {
            self.book.reset();
        }
        for event in &joined.events {
            self.book.apply(event);
        }
    }

    /// Where a message of this symbol could not be used and is dropped (reading 2).
    pub(super) fn malformed(
        &mut self,
        shared: &Shared,
        channel: Channel,
        head: &Event,
        sink: &mut impl FrameSink,
    ) {
        self.guard.count(Reason::Malformed);
        if channel == Channel::Book && self.guard.state == State::Whole {
            self.guard.break_book(Cause::Malformed);
            self.book_gap(shared);
            self.crossed_since = None;
            if shared.reads.book && self.is_trading() {
                self.blank_frame(shared, GAP_DETECTED | PARTIAL_FEATURES, times(head), sink);
            }
        }
    }

    fn is_trading(&self) -> bool {
        self.status.is_none_or(|status| status == Trading::Trading)
            && self.session.is_none_or(|session| session == Trading::Trading)
    }

    /// No status has come and there are no sessions.
    fn is_always_trading(&self) -> bool {
        self.status.is_none() && self.config.sessions.is_none()
    }

    fn makes_frames(&self, shared: &Shared) -> bool {
        !shared.reads.book || self.guard.state == State::Whole
    }

    fn status_message(
        &mut self,
        shared: &Shared,
        message: &Message<'_>,
        sink: &mut impl FrameSink,
    ) -> Result<(), Error> {
        let head = message.head();
        if message.is_sequenced() {
            match self.guard.status.place(head) {
                Place::Before => {
                    self.guard.count(Reason::Late);
                    return Ok(());
                }
                Place::Duplicate => {
                    self.guard.count(Reason::Duplicate);
                    return Ok(());
                }
                Place::Gap => {
                    self.guard.gaps[Channel::Status as usize] += 1;
                    if shared.policy.refuse_gaps {
                        return Err(self.refused(
                            Channel::Status,
                            self.guard.status.applied(),
                            head.seq_prev,
                        ));
                    }
                    self.guard.status.pass(head);
                }
                Place::Next | Place::Overlap => self.guard.status.apply(head),
            }
        }
        self.take_status(shared, message, sink);
        Ok(())
    }

    fn take_status(&mut self, shared: &Shared, message: &Message<'_>, sink: &mut impl FrameSink) {
        for event in message.events.iter().filter(|event| event.kind == kind::STATUS) {
            let before = self.is_trading();
            self.status = Trading::from_status(event.qty);
            self.trading_changed(shared, before, times(event), sink);
        }
    }

    fn trading_changed(&mut self, shared: &Shared, before: bool, times: Times, sink: &mut impl FrameSink) {
        match (before, self.is_trading()) {
            (false, true) => {
                self.pending_reset = Reads::ALL;
                self.pending_flags |= STATE_RESET;
                self.lateness.forget();
            }
            (true, false) => {
                self.crossed_since = None;
                if self.makes_frames(shared) && self.started {
                    self.blank_frame(shared, STATE_RESET, times, sink);
                }
            }
            _ => {}
        }
    }

    /// One row: a step, a silent step or the frame of a break (reading 25).
    fn row(
        &mut self,
        shared: &Shared,
        message: &Message<'_>,
        times: Times,
        change: &Change<'_>,
        sink: &mut impl FrameSink,
    ) {
        let changes_book = !matches!(change, Change::None);
        let has_trades = shared.reads.trades && message.has_market_trades();
        let listened = (changes_book && shared.reads.book) || has_trades;
        if !listened {
            self.apply(message, change);
            return;
        }
        let clock = self.enter(shared, times, sink);
        if !self.is_trading() {
            if has_trades {
                self.counts.unread_trades += message.market_trades().count() as u64;
            }
            self.apply(message, change);
            return;
        }
        let breaks = matches!(change, Change::Break);
        let silent = breaks || (shared.reads.book && self.guard.state != State::Whole);
        self.nodes.begin(clock, silent);
        if has_trades {
            self.read_trades(message, clock, silent);
        }
        self.apply(message, change);
        if changes_book && shared.reads.book {
            self.tick_book(clock, breaks);
        }
        self.nodes.finish(clock, silent && !breaks);
        if breaks {
            self.blank_frame(shared, GAP_DETECTED | PARTIAL_FEATURES, times, sink);
        } else if !silent {
            self.finish_step(shared, clock, times, sink);
        }
    }

    /// What a step does before its ticks; the clock it stands at.
    #[inline]
    fn enter(&mut self, shared: &Shared, times: Times, sink: &mut impl FrameSink) -> i64 {
        self.started = true;
        let (fault, stale) = self.lateness.see(times.source_ns, times.local_ns);
        let clock = self.advance_clock(times.source_ns, fault);
        self.look_up_session(shared, clock, times, sink);
        self.reset_kernels();
        if stale {
            self.pending_flags |= STALE_INPUT;
        }
        clock
    }

    /// Takes messages from the start of `events` that need no judgement, as long as there are such:
    /// levels that continue a whole book, and what the plan does not listen to. How many events.
    pub(super) fn run_plain(
        &mut self,
        shared: &Shared,
        events: &[Event],
        sink: &mut impl FrameSink,
    ) -> usize {
        let mut at = 0;
        while let Some(head) = events.get(at).filter(|head| head.symbol_id == self.config.symbol_id) {
            let taken = match head.kind {
                kind::LEVEL => self.plain_levels(shared, &events[at..], sink),
                kind::TRADE => self.plain_trade(shared, head),
                kind::QUOTE => self.plain_quotes(&events[at..]),
                _ => 0,
            };
            if taken == 0 {
                break;
            }
            at += taken;
        }
        at
    }

    #[inline]
    fn plain_levels(&mut self, shared: &Shared, events: &[Event], sink: &mut impl FrameSink) -> usize {
        let head = &events[0];
        let Some((applied, base)) = self.guard.book.ids else { return 0 };
        let continues = head.seq_prev <= applied && applied < head.seq_last;
        if !continues || self.guard.state != State::Whole || !shared.reads.book || !self.is_always_trading() {
            return 0;
        }
        let Some(rows) = of_one_kind(events, kind::LEVEL) else { return 0 };
        self.guard.book.ids = Some((head.seq_last, base));
        self.counts.messages[Channel::Book as usize] += 1;
        let times = times(head);
        let clock = self.enter(shared, times, sink);
        self.nodes.begin(clock, false);
        for row in rows {
            self.book.set(row.side, row.price, row.qty);
        }
        self.book.note_rows(rows.len());
        self.tick_book(clock, false);
        self.nodes.finish(clock, false);
        self.finish_step(shared, clock, times, sink);
        rows.len()
    }

    /// A trade nobody reads: only its ids count.
    #[inline]
    fn plain_trade(&mut self, shared: &Shared, head: &Event) -> usize {
        let Some((applied, _)) = &mut self.guard.trade.ids else { return 0 };
        if shared.reads.trades || !head.is_last() || head.qty == 0 || head.seq_prev != *applied {
            return 0;
        }
        if head.seq_last <= *applied {
            return 0;
        }
        *applied = head.seq_last;
        self.counts.messages[Channel::Trade as usize] += 1;
        1
    }

    #[inline]
    fn plain_quotes(&mut self, events: &[Event]) -> usize {
        let Some(quotes) = of_one_kind(events, kind::QUOTE) else { return 0 };
        self.counts.messages[Channel::Quote as usize] += 1;
        quotes.len()
    }

    fn advance_clock(&mut self, source_ns: i64, fault: bool) -> i64 {
        let Some(before) = self.clock else {
            self.clock = Some(source_ns);
            self.next_reset = self.config.resets.as_ref().map_or(i64::MAX, |resets| resets.after(source_ns));
            return source_ns;
        };
        if fault {
            self.counts.clock_faults += 1;
            return before;
        }
        self.counts.steps_back += u64::from(source_ns < before);
        let clock = before.max(source_ns);
        self.clock = Some(clock);
        if clock >= self.next_reset {
            self.counts.daily_resets += 1;
            self.pending_reset = Reads::ALL;
            self.pending_flags |= STATE_RESET;
            self.next_reset = self.config.resets.as_ref().map_or(i64::MAX, |resets| resets.after(clock));
        }
        clock
    }

    fn look_up_session(&mut self, shared: &Shared, clock: i64, times: Times, sink: &mut impl FrameSink) {
        let Some(sessions) = &self.config.sessions else { return };
        if clock < self.session_until {
            return;
        }
        let next = sessions.partition_point(|&(_, close, _)| close <= clock);
        let (state, until) = match sessions.get(next) {
            Some(&(open, close, state)) if open <= clock => (state, close),
            Some(&(open, _, _)) => (Trading::Closed, open),
            None => (Trading::Closed, i64::MAX),
        };
        let first = self.session.is_none();
        let before = self.is_trading();
        self.session = Some(state);
        self.session_until = until;
        if !first {
            self.trading_changed(shared, before, times, sink);
        }
    }

    fn reset_kernels(&mut self) {
        let reset = std::mem::take(&mut self.pending_reset);
        if reset != Reads::default() {
            self.nodes.reset(reset);
        }
    }

    fn read_trades(&mut self, message: &Message<'_>, clock: i64, silent: bool) {
        let mid_before = if self.guard.state == State::Whole { self.mid_x2() } else { None };
        for event in message.market_trades() {
            let sign = match event.side {
                crate::event::side::BID => 1,
                crate::event::side::ASK => -1,
                _ => 0,
            };
            let trade = TradeTick {
                price: event.price,
                qty: event.qty,
                sign,
                hidden: event.flags & crate::event::flag::HIDDEN != 0,
                clock_ns: clock,
                mid_before,
                step: self.seq + 1,
            };
            self.nodes.trade(&trade, silent);
        }
        let unread =
            message.events.iter().filter(|event| event.kind == kind::TRADE && !event.is_market_trade());
        self.counts.unread_trades += unread.count() as u64;
    }

    /// Of the book as last observed.
    fn mid_x2(&self) -> Option<i64> {
        let (bid, ask) = (self.book.bids().first()?, self.book.asks().first()?);
        self.valid.then_some(bid.price + ask.price)
    }

    #[inline]
    fn apply(&mut self, message: &Message<'_>, change: &Change<'_>) {
        match change {
            Change::None | Change::Break => {}
            Change::Message => {
                if message.is_snapshot() && !message.has_clear() {
                    self.book.reset();
                }
                for event in message.events {
                    self.book.apply(event);
                }
            }
            Change::Joined(joined) => self.apply_joined(joined),
        }
    }

    #[inline]
    fn tick_book(&mut self, clock: i64, breaks: bool) {
        self.valid = false;
        if breaks {
            self.nodes.book(None, clock);
            return;
        }
        self.book.observe();
        let view = BookView { bids: self.book.bids(), asks: self.book.asks() };
        self.valid = view.touch().is_none_or(|(bid, ask)| {
            bid.price < ask.price || (self.config.locked_valid && bid.price == ask.price)
        });
        self.nodes.book(self.valid.then_some(&view), clock);
    }

    #[inline]
    fn finish_step(&mut self, shared: &Shared, clock: i64, times: Times, sink: &mut impl FrameSink) {
        let mut flags = 0;
        if shared.reads.book {
            if self.valid {
                self.crossed_since = None;
            } else {
                flags |= CROSSED_BOOK;
                let since = *self.crossed_since.get_or_insert(clock);
                if shared.has_snapshots && clock - since > CROSSED_NS {
                    self.guard.break_book(Cause::Crossed);
                    self.crossed_since = None;
                    self.nodes.book(None, clock);
                    self.nodes.finish(clock, false);
                    self.blank_frame(shared, GAP_DETECTED | PARTIAL_FEATURES | CROSSED_BOOK, times, sink);
                    return;
                }
            }
            flags |= self.standing_flags(shared);
        }
        flags |= self.output.publish(&shared.plan, &shared.layout, &self.nodes);
        self.frame(flags, times, sink);
    }

    /// Flags of every frame of a book that is not whole (rules 3.5, 3.7).
    fn standing_flags(&self, shared: &Shared) -> u32 {
        let mut flags = 0;
        if self.guard.passed {
            flags |= GAP_DETECTED | PARTIAL_FEATURES;
        }
        if self.guard.seeded && shared.seed_after.is_none_or(|after| self.seq - self.seeded_at < after) {
            flags |= PARTIAL_FEATURES;
        }
        flags
    }

    fn blank_frame(&mut self, shared: &Shared, flags: u32, times: Times, sink: &mut impl FrameSink) {
        self.output.blank(&shared.layout);
        self.frame(flags, times, sink);
    }

    #[inline]
    fn frame(&mut self, flags: u32, times: Times, sink: &mut impl FrameSink) {
        self.seq += 1;
        self.counts.frames += 1;
        self.output.mark();
        let head = Head {
            symbol_id: self.config.symbol_id,
            flags: flags | std::mem::take(&mut self.pending_flags),
            seq: self.seq,
            source_ts_ns: times.source_ns,
            local_ts_ns: times.local_ns,
            source_seq: self.guard.book.applied(),
            grid_ts_ns: 0,
        };
        self.sampler.frame(self.place, head, &mut self.output, sink);
    }
}

fn times(event: &Event) -> Times {
    Times { source_ns: event.source_ts_ns, local_ns: event.local_ts_ns }
}

/// The message at the start of `events`, if all of it is of one kind and it restarts no book.
#[inline]
fn of_one_kind(events: &[Event], kind: u8) -> Option<&[Event]> {
    let mut others = 0u8;
    let mut flags = 0u16;
    for (at, event) in events.iter().enumerate() {
        others |= event.kind ^ kind;
        flags |= event.flags;
        if event.is_last() {
            return (others == 0 && flags & flag::RECOVERY == 0).then_some(&events[..=at]);
        }
    }
    None
}
