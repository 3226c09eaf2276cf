//! One instrument's book from its events: guarded, whole or nothing. Twin of `book/engine.py`.

use super::view::{Change, Journal};
use super::{Book, Level};
use crate::error::{Error, Place as At};
use crate::event::{Event, flag, kind};
use crate::frame::quality::GAP_DETECTED;
use crate::message::{self, Channel, Message, Next};
use crate::quality::{Cause, Followed, Guard, Policy, Reason, State, Verdict};

/// A book, its guard and the message that is still coming.
#[derive(Clone, Debug)]
pub struct GuardedBook {
    symbol: String,
    symbol_id: u32,
    policy: Policy,
    drop_malformed: bool,
    locked_valid: bool,
    guard: Guard,
    book: Book,
    coming: Vec<Event>,
    events: u64,
    source_ts_ns: Option<i64>,
    did: Did,
    /// A connection ended with a book, and nothing has come behind it.
    lost: bool,
    /// Written for who wants to know more than the book.
    journal: Journal,
    journals: bool,
}

/// What messages did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Did {
    /// The book was applied to.
    pub book: bool,
    /// Trades came that were not there before.
    pub trades: bool,
    /// Messages of the book are missing: it broke, went on without them, or begins anew behind them.
    pub gap: bool,
}

/// The best levels of a book that can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// The venue's time of the last message applied.
    pub source_ts_ns: Option<i64>,
    /// Best bid.
    pub bid: Option<Level>,
    /// Best ask.
    pub ask: Option<Level>,
}

impl GuardedBook {
    /// An empty book that waits for its snapshot.
    #[must_use]
    pub fn new(
        symbol: String,
        symbol_id: u32,
        tick: i64,
        policy: Policy,
        drop_malformed: bool,
        locked_valid: bool,
    ) -> Self {
        Self {
            symbol,
            symbol_id,
            policy,
            drop_malformed,
            locked_valid,
            guard: Guard::default(),
            book: Book::new(tick, 1),
            coming: Vec::new(),
            events: 0,
            source_ts_ns: None,
            did: Did::default(),
            lost: false,
            journal: Journal::default(),
            journals: false,
        }
    }

    /// The same, with a journal of the last message that [`Self::step`] took.
    #[must_use]
    pub fn with_journal(self) -> Self {
        Self { journals: true, ..self }
    }

    /// The same, still empty, with so many levels a side to be read.
    #[must_use]
    pub fn with_levels(self, tick: i64, levels: usize) -> Self {
        Self { book: Book::new(tick, levels), ..self }
    }

    /// A connection without proof that it continues the one before: no book until the next snapshot.
    pub fn reconnect(&mut self) {
        self.lost |= self.guard.reconnect();
        self.book.reset();
    }

    /// The book has been crossed for too long (rule 3.9); whoever keeps the clock says so.
    pub fn break_crossed(&mut self) {
        self.guard.break_book(Cause::Crossed);
    }

    /// Takes whole messages, and says what they did.
    ///
    /// # Errors
    /// As [`Self::take`]; what was before the message at fault is done.
    pub fn step(&mut self, events: &[Event]) -> Result<Did, Error> {
        let mut did = Did::default();
        let mut rest = events;
        while !rest.is_empty() {
            let taken = self.step_first(rest)?;
            did.book |= self.did.book;
            did.trades |= self.did.trades;
            did.gap |= self.did.gap;
            rest = &rest[taken..];
        }
        Ok(did)
    }

    /// Takes what stands at the start of `events`, a whole message or what cannot be one; how many events.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn step_first(&mut self, events: &[Event]) -> Result<usize, Error> {
        self.did = Did { gap: std::mem::take(&mut self.lost), ..Did::default() };
        self.journal.begin();
        let taken = match message::take(events) {
            Next::Incomplete => return Ok(events.len()),
            Next::Message(message) => self.message(&message).map(|()| message.events.len()),
            Next::Malformed { events, .. } if self.drop_malformed && !events.is_empty() => {
                self.malformed(events);
                Ok(events.len())
            }
            Next::Malformed { error, .. } => Err(self.placed(error)),
        }?;
        self.events += taken as u64;
        Ok(taken)
    }

    /// Takes one whole message that was checked before, and says what it did.
    ///
    /// # Errors
    /// A gap, if gaps are refused.
    pub fn step_message(&mut self, message: &Message<'_>) -> Result<Did, Error> {
        self.did = Did { gap: std::mem::take(&mut self.lost), ..Did::default() };
        self.journal.begin();
        self.message(message)?;
        self.events += message.events.len() as u64;
        Ok(self.did)
    }

    /// Takes events; a message is applied when its `LAST` has come.
    ///
    /// # Errors
    /// Input that no rule can use, unless it is dropped; a gap, if gaps are refused.
    pub fn take(&mut self, events: &[Event]) -> Result<(), Error> {
        for event in events {
            if event.symbol_id != self.symbol_id {
                return Err(Error::UnknownSymbol { symbol_id: event.symbol_id });
            }
            self.coming.push(*event);
            self.advance()?;
        }
        Ok(())
    }

    /// Applies what stands complete at the start of `coming`.
    fn advance(&mut self) -> Result<(), Error> {
        while !self.coming.is_empty() {
            let coming = std::mem::take(&mut self.coming);
            let taken = match message::take(&coming) {
                Next::Incomplete => Ok(0),
                Next::Message(message) => self.message(&message).map(|()| message.events.len()),
                Next::Malformed { events, .. } if self.drop_malformed => {
                    if !events.is_empty() {
                        self.malformed(events);
                    }
                    Ok(events.len())
                }
                Next::Malformed { error, .. } => Err(self.placed(error)),
            };
            self.coming = coming;
            let taken = taken?;
            if taken == 0 {
                break;
            }
            self.events += taken as u64;
            self.coming.drain(..taken);
        }
        Ok(())
    }

    fn placed(&self, error: Error) -> Error {
        match error {
            Error::Malformed { found, expected, place: At { offset: Some(offset), line } } => {
                let place = At { line, offset: Some(offset + 64 * self.events) };
                Error::Malformed { found, expected, place }
            }
            other => other,
        }
    }

    fn malformed(&mut self, events: &[Event]) {
        self.guard.count(Reason::Malformed);
        if message::channel_of(events) == Channel::Book && self.guard.state == State::Whole {
            self.guard.break_book(Cause::Malformed);
            self.did.gap = true;
        }
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), Error> {
        let channel = message.channel();
        if channel != Channel::Book {
            return self.other(channel, message);
        }
        let seeded = self.guard.seeded;
        let verdict = self.guard.judge(message, self.policy);
        self.did.trades |= message.has_market_trades() && !matches!(verdict, Verdict::Drop(..));
        self.did.gap |= matches!(verdict, Verdict::Break | Verdict::Passed);
        if !matches!(verdict, Verdict::Drop(..)) {
            self.note(message);
        }
        match verdict {
            Verdict::Drop(reason, _) => self.guard.count(reason),
            Verdict::Unread | Verdict::Break => {}
            Verdict::Plain | Verdict::Passed => {
                let begins = self.guard.seeded && !seeded;
                if begins || (message.is_snapshot() && !message.has_clear()) {
                    self.book.reset();
                }
                self.apply(message.events, message.head().source_ts_ns);
            }
            Verdict::Joined(joined) => {
                self.did.gap |= joined.torn || joined.passed || joined.flags & GAP_DETECTED != 0;
                if joined.replaces {
                    self.book.reset();
                }
                let whole = self.journal.source_ts_ns;
                self.apply(&joined.events, joined.source_ts_ns);
                self.journal.source_ts_ns = if joined.torn { whole } else { joined.source_ts_ns };
            }
            Verdict::Refuse(got) => return Err(self.refused(channel, self.guard.book.applied, got)),
        }
        Ok(())
    }

    fn refused(&self, channel: Channel, expected: u64, got: u64) -> Error {
        Error::SequenceGap { symbol: self.symbol.clone(), channel: channel.name(), expected, got }
    }

    /// Trades and status leave the book alone; only their ids are followed.
    fn other(&mut self, channel: Channel, message: &Message<'_>) -> Result<(), Error> {
        if channel == Channel::Quote {
            return Ok(());
        }
        match self.guard.follow(channel, message) {
            Followed::Old(reason) => self.guard.count(reason),
            Followed::Gap(applied) if self.policy.refuse_gaps => {
                return Err(self.refused(channel, applied, message.head().seq_prev));
            }
            Followed::New | Followed::Gap(_) => {
                self.did.trades |= message.has_market_trades();
                self.note(message);
            }
        }
        Ok(())
    }

    /// A message that says something new.
    fn note(&mut self, message: &Message<'_>) {
        (self.journal.said, self.journal.source_ts_ns) = (true, message.head().source_ts_ns);
        if message.has_status() {
            let last = message.events.iter().rev().find(|event| event.kind == kind::STATUS);
            self.journal.status = last.map(|event| event.qty);
        }
    }

    fn apply(&mut self, events: &[Event], source_ts_ns: i64) {
        if self.journals && self.journal.detailed && is_plain(events) {
            for event in events {
                self.apply_noting(event);
            }
        } else {
            let levels = self.book.set_message(events).unwrap_or(0);
            for event in &events[levels..] {
                self.book.apply(event);
            }
            self.journal.resynced = true;
        }
        self.source_ts_ns = Some(source_ts_ns);
        self.did.book = true;
    }

    /// An order that grows or moves leaves its place in the queue: it goes, and comes anew.
    fn apply_noting(&mut self, event: &Event) {
        let Event { kind, side, price, order_id, .. } = *event;
        if kind < kind::ADD {
            let before = self.book.qty(side, price);
            self.book.apply(event);
            if kind == kind::LEVEL {
                let concealed = event.flags & flag::CONCEALED != 0;
                let after = event.qty;
                let change = Change { side, price, before, after, order_id, executed: false, concealed };
                self.journal.changes.push(change);
            }
            return;
        }
        let resting = |book: &Book| book.orders().and_then(|orders| orders.get(order_id));
        let held = resting(&self.book);
        let before = held.map_or(0, |held| self.book.qty(held.side, held.price));
        self.book.apply(event);
        let now = resting(&self.book);
        let keeps = held.zip(now).filter(|(held, now)| now.price == held.price && now.qty <= held.qty);
        let changes = &mut self.journal.changes;
        if let Some(held) = held {
            let after = before - (held.qty - keeps.map_or(0, |(_, now)| now.qty));
            let executed = kind == kind::EXECUTE;
            let (side, price) = (held.side, held.price);
            changes.push(Change { side, price, before, after, order_id, executed, concealed: false });
        }
        if let (Some(now), None) = (now, keeps) {
            let (side, price, after) = (now.side, now.price, self.book.qty(now.side, now.price));
            let before = after - now.qty;
            changes.push(Change { side, price, before, after, order_id, executed: false, concealed: false });
        }
    }

    /// What the last message did, as far as it was written down.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(super) const fn journal_mut(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// Whether the book can be read.
    #[must_use]
    pub const fn state(&self) -> State {
        self.guard.state
    }

    /// The venue's time of what was applied last: of several messages joined into one the latest.
    #[must_use]
    pub const fn source_ts_ns(&self) -> Option<i64> {
        self.source_ts_ns
    }

    /// The last id of the book applied, 0 if none.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.guard.book.applied
    }

    /// The best bids and asks, best first; none while the book is waiting, broken or crossed.
    pub fn readable(&mut self) -> Option<(&[Level], &[Level])> {
        self.book.observe();
        let (bids, asks) = (self.book.bids(), self.book.asks());
        let valid = match (bids.first(), asks.first()) {
            (Some(bid), Some(ask)) => bid.price < ask.price || (self.locked_valid && bid.price == ask.price),
            _ => true,
        };
        (self.guard.state == State::Whole && valid).then_some((bids, asks))
    }

    /// The best levels; none while the book is waiting, broken or crossed.
    pub fn touch(&mut self) -> Touch {
        let source_ts_ns = self.source_ts_ns;
        let Some((bids, asks)) = self.readable() else { return Touch { source_ts_ns, ..Touch::default() } };
        Touch { source_ts_ns, bid: bids.first().copied(), ask: asks.first().copied() }
    }

    /// The levels themselves.
    #[must_use]
    pub const fn levels(&self) -> &Book {
        &self.book
    }
}

/// One message that changes levels, and replaces none.
fn is_plain(events: &[Event]) -> bool {
    let message = Message::of(events);
    let messages = events.iter().filter(|event| event.is_last()).count();
    messages == 1 && !message.is_snapshot() && !message.has_clear()
}
