//! One instrument, and which of its messages are let in (rules 3 and 4); `row` is what these do.

use super::config::{Config, OnGap, Seed, SymbolConfig, Trading};
use super::lateness::Lateness;
use super::nodes::{Nodes, Reads};
use super::output::{Output, Sampler};
use super::row::{Change, Row, Times, times};
use super::tally::{Causes, ResetCause, Resets, Rises};
use crate::book::Book;
use crate::error::Error;
use crate::event::{Event, kind};
use crate::frame::quality::{GAP_DETECTED, OUT_OF_ORDER_INPUT, PARTIAL_FEATURES, STATE_RESET};
use crate::frame::{FrameSink, Layout, Stage};
use crate::kernels::bound::Instrument;
use crate::message::{Channel, Message};
use crate::plan::Plan;
use crate::quality::{Cause, Followed, Guard, Joined, Policy, Reason, State, Verdict};

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
    /// Steps at which kernels were reset, by cause (rule 3.6).
    pub resets: Resets,
    /// Books that broke, in the order of [`Cause`] (rule 3.9).
    pub breaks: [u64; 5],
    /// Frames on which a flag rises, by its bit (rule 4).
    pub flags: [u64; 6],
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
    pub(super) pending_causes: Causes,
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
    pub(super) rises: Rises,
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
            pending_causes: Causes::default(),
            carries_trades: false,
            valid: true,
            crossed_since: None,
            seq: 0,
            seed_frames: 0,
            output: Output::new(&shared.layout),
            sampler: Sampler::new(config.emit, config.every, config.local_time, &shared.layout),
            rises: Rises::default(),
            counts: Counts::default(),
            config: symbol,
        })
    }

    pub(super) fn is_trading(&self) -> bool {
        self.status == Trading::Trading && self.session == Trading::Trading
    }

    /// Whether leaving trading makes a frame now (reading 30).
    pub(super) fn makes_frames(&self, shared: &Shared) -> bool {
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
        let is_new = self.follow(shared, Channel::Trade, message)?;
        sink.reached(Stage::Guard);
        if is_new {
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
            self.ask_reset(shared, Reads::TRADES, ResetCause::Gap);
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
        sink.reached(Stage::Guard);
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
                self.ask_reset(shared, Reads::BOOK, ResetCause::Gap);
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
        let concerned = Reads { book: true, trades: self.carries_trades };
        if joined.resets {
            self.ask_reset(shared, concerned, ResetCause::Recovery);
        }
        if joined.passed {
            self.ask_reset(shared, concerned, ResetCause::Gap);
        }
        if joined.passed || joined.torn {
            self.book_gap(shared);
        }
    }

    /// A hole in book messages is one in trades where they carry them (reading 16).
    fn book_gap(&mut self, shared: &Shared) {
        if self.carries_trades {
            self.ask_reset(shared, Reads::TRADES, ResetCause::Gap);
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
        if channel != Channel::Quote {
            sink.reached(Stage::Guard);
        }
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
            self.pending_causes.add(ResetCause::Trading);
            self.lateness.forget();
        }
        if !self.is_trading() {
            self.crossed_since = None;
        }
    }

    /// The frame that leaves trading, made without a step.
    pub(super) fn leave(
        &mut self,
        shared: &Shared,
        was_trading: bool,
        times: Times,
        sink: &mut impl FrameSink,
    ) {
        if was_trading && !self.is_trading() && self.clock.is_some() && self.makes_frames(shared) {
            self.blank_frame(shared, STATE_RESET, times, sink);
        }
    }
}
