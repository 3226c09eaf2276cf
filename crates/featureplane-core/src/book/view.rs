//! The market of one instrument as a simulated venue sees it: its book, its trades, and what changed.
//!
//! Twin of `execution/venues/market_view.py`, with what spares it most messages: none is told that is no
//! concern of the orders that wait.

use super::{GuardedBook, Level};
use crate::error::Error;
use crate::event::{Event, kind, side};

/// Levels of a side that are kept ready to read.
const DEPTH: usize = 8;
const TRADING: i64 = 3;

/// One change of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Side of the book.
    pub side: u8,
    /// Its price.
    pub price: i64,
    /// Its size before.
    pub before: i64,
    /// Its size behind it.
    pub after: i64,
    /// Whose doing it was, or 0.
    pub order_id: u64,
    /// The order was filled, not taken away.
    pub executed: bool,
    /// The level went out of the feed's view.
    pub concealed: bool,
}

/// What one message did.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// It said something new.
    pub said: bool,
    /// The venue's time.
    pub source_ts_ns: i64,
    /// The book was replaced or mended, or nobody wanted to know.
    pub resynced: bool,
    /// What it changed, else; of [`MarketView`] where orders wait or took.
    pub changes: Vec<Change>,
    /// The trading status, as last told.
    pub status: Option<i64>,
    /// Changes are wanted.
    pub(super) detailed: bool,
}

impl Journal {
    pub(super) fn begin(&mut self) {
        self.changes.clear();
        (self.said, self.source_ts_ns, self.resynced) = (false, 0, false);
    }
}

/// Where orders wait.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// Prices of those that buy.
    pub bids: Vec<i64>,
    /// Prices of those that sell.
    pub asks: Vec<i64>,
    /// Side and price of levels that were taken from, and are not as shown.
    pub taken: Vec<(u8, i64)>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.bids.is_empty() && self.asks.is_empty() && self.taken.is_empty()
    }

    /// Whether a price of the other side, or of a trade, reaches one that waits.
    fn is_reached(&self, price: i64) -> bool {
        self.bids.iter().any(|&bid| bid >= price) || self.asks.iter().any(|&ask| ask <= price)
    }

    fn is_at(&self, change: &Change) -> bool {
        let prices = if change.side == side::BID { &self.bids } else { &self.asks };
        prices.contains(&change.price) || self.taken.contains(&(change.side, change.price))
    }
}

/// The market of one instrument, message by message.
#[derive(Clone, Debug)]
pub struct MarketView {
    book: GuardedBook,
    waiting: Waiting,
    status: i64,
}

impl MarketView {
    /// A view through an empty book on a grid of `tick`.
    #[must_use]
    pub fn new(book: GuardedBook, tick: i64) -> Self {
        let book = book.with_levels(tick, DEPTH).with_journal();
        Self { book, waiting: Waiting::default(), status: TRADING }
    }

    /// What is of concern from the next message on.
    pub fn wait(&mut self, waiting: Waiting) {
        self.waiting = waiting;
    }

    /// Takes the message at the start of `events`, good or not: how many events, and whether it concerns what
    /// waits.
    ///
    /// # Errors
    /// Input that no rule can use, unless it is dropped; a gap, if gaps are refused.
    pub fn take(&mut self, events: &[Event]) -> Result<(usize, bool), Error> {
        let concerned = !self.waiting.is_empty();
        self.book.journal_mut().detailed = concerned;
        let taken = self.book.step_first(events)?;
        let journal = self.book.journal();
        self.status = journal.status.unwrap_or(self.status);
        if !concerned || !journal.said {
            return Ok((taken, false));
        }
        let traded = events[..taken]
            .iter()
            .any(|event| event.kind == kind::TRADE && self.waiting.is_reached(event.price));
        let waiting = &self.waiting;
        let journal = self.book.journal_mut();
        journal.changes.retain(|change| waiting.is_at(change));
        let told = traded || journal.resynced || !journal.changes.is_empty();
        Ok((taken, told || self.is_reached()))
    }

    /// The book's best prices reach what waits.
    fn is_reached(&mut self) -> bool {
        let Some((bids, asks)) = self.book.readable() else { return false };
        let (bid, ask) = (bids.first().map(|level| level.price), asks.first().map(|level| level.price));
        ask.is_some_and(|ask| self.waiting.bids.iter().any(|&price| price >= ask))
            || bid.is_some_and(|bid| self.waiting.asks.iter().any(|&price| price <= bid))
    }

    /// What the last message did.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        self.book.journal()
    }

    /// A connection without proof that it continues the one before.
    pub fn reconnect(&mut self) {
        self.book.reconnect();
    }

    /// Whether the status says so (rule 3.12); sessions are not looked at.
    #[must_use]
    pub const fn is_trading(&self) -> bool {
        self.status == TRADING
    }

    /// Whether the book is whole and not crossed.
    pub fn is_readable(&mut self) -> bool {
        self.book.readable().is_some()
    }

    /// The best prices; none while the book cannot be read.
    pub fn best(&mut self) -> (Option<i64>, Option<i64>) {
        self.book.readable().map_or((None, None), |(bids, asks)| {
            (bids.first().map(|level| level.price), asks.first().map(|level| level.price))
        })
    }

    /// The levels of a side, best first, whether or not the book can be read; with `all` not only the first.
    pub fn levels(&mut self, side: u8, all: bool) -> Vec<Level> {
        self.book.readable();
        let book = self.book.levels();
        match (side, all) {
            (side::BID, true) => book.all_bids(),
            (side::BID, false) => book.bids().to_vec(),
            (_, true) => book.all_asks(),
            (_, false) => book.asks().to_vec(),
        }
    }

    /// The size of a level.
    #[must_use]
    pub fn size_at(&self, side: u8, price: i64) -> i64 {
        self.book.levels().qty(side, price)
    }
}
