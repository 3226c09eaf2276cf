//! Steps of one symbol as they were taken, before any kernel has seen them.

use super::super::nodes::Reads;
use super::super::plain::PlainStep;
use super::tracks::Channel;
use crate::book::{Book, Level};
use crate::kernels::book::BookView;
use crate::kernels::trades::TradeTick;
use crate::stores::LINE;

/// What ticks there are in the steps of a block, for nodes of one channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid<'a> {
    /// Clock of each step.
    pub(super) clocks: &'a [i64],
    /// Clock of each tick.
    pub(super) tick_clocks: &'a [i64],
    /// Number of ticks up to and with each step.
    pub(super) ends: &'a [usize],
    /// They are those of the book.
    pub(super) book: bool,
}

impl Grid<'_> {
    /// Number of ticks.
    pub(super) fn ticks(&self) -> usize {
        self.tick_clocks.len()
    }
}

/// Books as observed at ticks, those of ticks in a row that saw the same one only once; or, where hardly any
/// do, one a tick.
#[derive(Clone, Debug)]
pub(super) struct Books {
    depth: usize,
    /// Each run is one tick long, whatever it saw.
    ///
    /// WHY by the block before: they are written down as they come, and a feed changes its ways slowly.
    by_tick: bool,
    /// Ticks that may have seen another book than the one before.
    changes: usize,
    /// All books are valid and have `depth` levels a side.
    whole: bool,
    /// The tick at which each run of ticks that saw the same book begins; when closed, where the last ends.
    starts: Vec<usize>,
    /// Best levels of each run, `depth` places for bids and as many for asks.
    levels: Vec<Level>,
    /// Bids and asks there are; none if the book is invalid.
    held: Vec<Option<(usize, usize)>>,
    /// Clock of each tick, where not every step has one.
    clocks: Vec<i64>,
    ticks: usize,
}

impl Books {
    fn new(depth: usize, size: usize) -> Self {
        Self {
            depth,
            by_tick: true,
            changes: 0,
            whole: true,
            starts: Vec::with_capacity(size + 1),
            levels: vec![Level { price: 0, qty: 0 }; 2 * depth * size],
            held: Vec::with_capacity(size),
            clocks: Vec::with_capacity(size),
            ticks: 0,
        }
    }

    fn clear(&mut self) {
        if self.ticks > 0 {
            self.by_tick = 2 * self.changes > self.ticks;
        }
        self.starts.clear();
        self.held.clear();
        self.clocks.clear();
        (self.ticks, self.changes, self.whole) = (0, 0, true);
    }

    /// The tick `ahead` ticks from now sees this book; with `changed` it may differ from the last one.
    #[inline]
    fn see(&mut self, ahead: usize, book: &Book, valid: bool, changed: bool) {
        self.changes += usize::from(changed);
        if changed || self.by_tick || self.ticks + ahead == 0 {
            self.begin(ahead, book, valid);
        }
    }

    /// A run begins with the tick `ahead` ticks from now.
    fn begin(&mut self, ahead: usize, book: &Book, valid: bool) {
        let place = 2 * self.depth * self.starts.len();
        let (bids, asks) = (book.bids(), book.asks());
        self.levels[place..][..bids.len()].copy_from_slice(bids);
        self.levels[place + self.depth..][..asks.len()].copy_from_slice(asks);
        self.whole &= valid && bids.len().min(asks.len()) == self.depth;
        self.held.push(valid.then_some((bids.len(), asks.len())));
        self.starts.push(self.ticks + ahead);
    }

    /// All ticks are there.
    pub(super) fn close(&mut self) {
        self.starts.push(self.ticks);
    }

    /// Number of runs.
    pub(super) fn runs(&self) -> usize {
        self.held.len()
    }

    /// Bids and asks of each run, if all books are valid and have as many levels as are kept.
    pub(super) fn whole(&self) -> Option<impl Iterator<Item = (&[Level], &[Level])> + Clone> {
        let levels = self.levels.chunks_exact(2 * self.depth).take(self.runs());
        self.whole.then(|| levels.map(|levels| levels.split_at(self.depth)))
    }

    /// Each run is one tick long.
    pub(super) fn are_by_tick(&self) -> bool {
        self.by_tick
    }

    /// Most runs are one tick long, and it is less work to go tick by tick.
    pub(super) fn are_short(&self) -> bool {
        2 * self.runs() > self.ticks
    }

    /// First tick and number of ticks of each run, of books that are closed.
    pub(super) fn spans(&self) -> impl Iterator<Item = (usize, usize)> + Clone + '_ {
        self.starts.windows(2).map(|ends| (ends[0], ends[1] - ends[0]))
    }

    /// The book of each run; none if it is invalid.
    pub(super) fn views(&self) -> impl Iterator<Item = Option<BookView<'_>>> {
        self.held.iter().zip(self.levels.chunks_exact(2 * self.depth)).map(|(held, levels)| {
            let (bids, asks) = levels.split_at(self.depth);
            held.map(|(bid_count, ask_count)| BookView { bids: &bids[..bid_count], asks: &asks[..ask_count] })
        })
    }
}

/// What happened, step by step.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    pub(super) size: usize,
    /// Every step has one tick of the book: the plan reads nothing else.
    pub(super) book_alone: bool,
    pub(super) first_seq: u64,
    len: usize,
    /// Steps there is room for.
    end: usize,
    clocks: Vec<i64>,
    source_ns: Vec<i64>,
    local_ns: Vec<i64>,
    source_seq: Vec<u64>,
    flags: Vec<u32>,
    pub(super) books: Books,
    /// Book ticks up to and with each step; where every step is one of the book, 1, 2, 3 from the start.
    book_ends: Vec<usize>,
    pub(super) trades: Vec<TradeTick>,
    trade_clocks: Vec<i64>,
    trade_ends: Vec<usize>,
}

impl Steps {
    pub(super) fn new(size: usize, depth: usize, reads: Reads) -> Self {
        let book_alone = reads.book && !reads.trades;
        let times = || vec![0; size];
        let mut steps = Self {
            size,
            book_alone,
            first_seq: 0,
            len: 0,
            end: 0,
            clocks: times(),
            source_ns: times(),
            local_ns: times(),
            source_seq: vec![0; size],
            flags: vec![0; size],
            books: Books::new(depth, size),
            book_ends: (1..=size).collect(),
            trades: Vec::with_capacity(size),
            trade_clocks: Vec::with_capacity(size),
            trade_ends: vec![0; size],
        };
        steps.clear();
        steps
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.end = self.size - beyond_line(u64::MAX, self.size);
        self.books.clear();
        self.trades.clear();
        self.trade_clocks.clear();
    }

    /// No further step has room.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len >= self.end || self.trades.len() >= self.size
    }

    /// How many further steps have room.
    #[inline]
    pub(super) fn room(&self) -> usize {
        if self.trades.len() >= self.size { 0 } else { self.end - self.len }
    }

    #[inline]
    pub(super) fn trade(&mut self, trade: TradeTick) {
        self.trade_clocks.push(trade.clock_ns);
        self.trades.push(trade);
    }

    /// See `Block::see`.
    #[inline]
    pub(super) fn see(&mut self, ahead: usize, book: &Book, valid: bool, changed: bool) {
        self.books.see(ahead, book, valid, changed);
    }

    /// See `Block::note`.
    #[inline]
    pub(super) fn note(&mut self, ahead: usize, flags: u32, source_seq: u64) {
        let at = self.len + ahead;
        self.flags[at] = flags;
        self.source_seq[at] = source_seq;
    }

    /// Flags of the next step, besides those noted.
    #[inline]
    pub(super) fn raise(&mut self, flags: u32) {
        self.flags[self.len] |= flags;
    }

    /// See `Block::add`.
    #[inline]
    pub(super) fn add(&mut self, count: usize, book: bool, step: PlainStep, seq: u64) {
        if self.len == 0 {
            self.first_seq = seq;
            self.end = self.size - beyond_line(seq - 1, self.size);
        }
        let added = self.len..self.len + count;
        self.clocks[added.clone()].fill(step.clock);
        self.source_ns[added.clone()].fill(step.times.source_ns);
        self.local_ns[added.clone()].fill(step.times.local_ns);
        self.len = added.end;
        if self.book_alone {
            self.books.ticks += count;
            return;
        }
        for end in &mut self.book_ends[added.clone()] {
            self.books.ticks += usize::from(book);
            *end = self.books.ticks;
        }
        self.books.clocks.resize(self.books.ticks, step.clock);
        self.trade_ends[added].fill(self.trades.len());
    }

    pub(super) fn clocks(&self) -> &[i64] {
        &self.clocks[..self.len]
    }

    pub(super) fn source_ns(&self) -> &[i64] {
        &self.source_ns[..self.len]
    }

    pub(super) fn local_ns(&self) -> &[i64] {
        &self.local_ns[..self.len]
    }

    pub(super) fn source_seq(&self) -> &[u64] {
        &self.source_seq[..self.len]
    }

    pub(super) fn flags(&self) -> &[u32] {
        &self.flags[..self.len]
    }

    pub(super) fn flags_mut(&mut self) -> &mut [u32] {
        &mut self.flags[..self.len]
    }

    /// The books, and the flags of each step.
    pub(super) fn books_and_flags(&mut self) -> (&Books, &mut [u32]) {
        (&self.books, &mut self.flags[..self.len])
    }

    /// The ticks of a channel.
    pub(super) fn of(&self, channel: Channel) -> Grid<'_> {
        let (clocks, book) = (self.clocks(), channel == Channel::Book);
        let ends = if book { &self.book_ends } else { &self.trade_ends };
        let tick_clocks = match channel {
            Channel::Book if self.book_alone => clocks,
            Channel::Book => &self.books.clocks,
            Channel::Trades => &self.trade_clocks,
        };
        Grid { clocks, tick_clocks, ends: &ends[..self.len], book }
    }
}

/// How many steps more than whole lines of the caches there are before the step with `before` before it.
///
/// WHY: columns of blocks that end with a line can be written line by line.
fn beyond_line(before: u64, size: usize) -> usize {
    if size < 2 * LINE { 0 } else { usize::try_from(before % LINE as u64).unwrap_or_default() }
}
