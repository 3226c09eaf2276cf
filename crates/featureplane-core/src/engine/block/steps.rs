//! Steps of one symbol as they were taken, before any kernel has seen them.

use super::super::nodes::Reads;
use super::super::symbol::Times;
use super::tracks::Channel;
use crate::book::{Book, Level};
use crate::kernels::book::BookView;
use crate::kernels::trades::TradeTick;

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

/// Books as observed at ticks, those of ticks in a row that saw the same one only once.
#[derive(Clone, Debug)]
pub(super) struct Books {
    depth: usize,
    /// The tick at which each run of ticks that saw the same book begins.
    starts: Vec<usize>,
    /// Best levels of each run, `depth` places for bids and as many for asks.
    levels: Vec<Level>,
    /// Bids and asks there are; none if the book is invalid.
    held: Vec<Option<(usize, usize)>>,
    clocks: Vec<i64>,
}

impl Books {
    fn new(depth: usize, size: usize) -> Self {
        Self {
            depth,
            starts: Vec::with_capacity(size),
            levels: vec![Level { price: 0, qty: 0 }; 2 * depth * size],
            held: Vec::with_capacity(size),
            clocks: Vec::with_capacity(size),
        }
    }

    fn clear(&mut self) {
        self.starts.clear();
        self.held.clear();
        self.clocks.clear();
    }

    #[inline]
    fn tick(&mut self, book: &Book, valid: bool, changed: bool, clock: i64) {
        if changed || self.starts.is_empty() {
            self.see(book, valid);
        }
        self.clocks.push(clock);
    }

    fn see(&mut self, book: &Book, valid: bool) {
        let place = 2 * self.depth * self.starts.len();
        let (bids, asks) = (book.bids(), book.asks());
        self.levels[place..][..bids.len()].copy_from_slice(bids);
        self.levels[place + self.depth..][..asks.len()].copy_from_slice(asks);
        self.held.push(valid.then_some((bids.len(), asks.len())));
        self.starts.push(self.clocks.len());
    }

    /// Number of runs.
    pub(super) fn runs(&self) -> usize {
        self.starts.len()
    }

    /// First tick and number of ticks of each run.
    pub(super) fn spans(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let ends = self.starts.iter().skip(1).copied().chain([self.clocks.len()]);
        self.starts.iter().zip(ends).map(|(&start, end)| (start, end - start))
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
    pub(super) clocks: Vec<i64>,
    pub(super) source_ns: Vec<i64>,
    pub(super) local_ns: Vec<i64>,
    pub(super) source_seq: Vec<u64>,
    pub(super) flags: Vec<u32>,
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
        Self {
            size,
            book_alone,
            first_seq: 0,
            clocks: Vec::with_capacity(size),
            source_ns: Vec::with_capacity(size),
            local_ns: Vec::with_capacity(size),
            source_seq: Vec::with_capacity(size),
            flags: Vec::with_capacity(size),
            books: Books::new(depth, size),
            book_ends: if book_alone { (1..=size).collect() } else { Vec::with_capacity(size) },
            trades: Vec::with_capacity(size),
            trade_clocks: Vec::with_capacity(size),
            trade_ends: Vec::with_capacity(size),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.clocks.len()
    }

    pub(super) fn clear(&mut self) {
        self.clocks.clear();
        self.source_ns.clear();
        self.local_ns.clear();
        self.source_seq.clear();
        self.flags.clear();
        self.books.clear();
        if !self.book_alone {
            self.book_ends.clear();
        }
        self.trades.clear();
        self.trade_clocks.clear();
        self.trade_ends.clear();
    }

    /// No further step has room.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len() == self.size || self.trades.len() >= self.size
    }

    #[inline]
    pub(super) fn trade(&mut self, trade: TradeTick) {
        self.trade_clocks.push(trade.clock_ns);
        self.trades.push(trade);
    }

    #[inline]
    pub(super) fn book(&mut self, book: &Book, valid: bool, changed: bool, clock: i64) {
        self.books.tick(book, valid, changed, clock);
    }

    #[inline]
    pub(super) fn end(&mut self, clock: i64, flags: u32, times: Times, source_seq: u64) {
        self.clocks.push(clock);
        self.source_ns.push(times.source_ns);
        self.local_ns.push(times.local_ns);
        self.source_seq.push(source_seq);
        self.flags.push(flags);
        if !self.book_alone {
            self.book_ends.push(self.books.clocks.len());
        }
        self.trade_ends.push(self.trades.len());
    }

    /// The ticks of a channel.
    pub(super) fn of(&self, channel: Channel) -> Grid<'_> {
        let clocks = &self.clocks;
        match channel {
            Channel::Book => Grid {
                clocks,
                tick_clocks: &self.books.clocks,
                ends: &self.book_ends[..self.len()],
                book: true,
            },
            Channel::Trades => {
                Grid { clocks, tick_clocks: &self.trade_clocks, ends: &self.trade_ends, book: false }
            }
        }
    }
}
