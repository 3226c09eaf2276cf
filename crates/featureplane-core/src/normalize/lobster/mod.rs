//! LOBSTER's message and order-book files to events (rule 3.11).
//!
//! Both files are fed in chunks cut anywhere; rows wait until their partner has come. Twin of
//! `featureplane/market/sources/lobster.py`, byte for byte and word for word.

mod rows;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;

use self::rows::{BookRows, LINE_BYTES_MAX, Level, Message, Parsed, message};
use crate::error::{Error, Place};
use crate::event::{Event, MAGNITUDE_LIMIT, flag, kind, side};
use crate::normalize::lines::Lines;

/// Sides in the order in which events are made.
const SIDES: [u8; 2] = [side::BID, side::ASK];

/// How a pair of files is read.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Goes into every event.
    pub symbol_id: u32,
    /// Midnight of the files' date at the exchange, UTC nanoseconds.
    pub midnight_ns: i64,
    /// Whether there is an order-book file.
    pub book: bool,
    /// Take a row of the order-book file that the messages do not explain, instead of refusing it.
    pub adopt: bool,
    /// Turn rows that cannot be read into events of kind 0, instead of refusing them.
    pub drop_malformed: bool,
}

/// What was left out or taken as it stood, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows of the order-book file taken although the messages do not explain them.
    pub adopted: u64,
    /// Trades of size 0 (rule 1.2).
    pub empty_trade: u64,
    /// Last rows cut off by the end of their file (rule 2.2).
    pub incomplete: u64,
    /// Times with more digits than nanoseconds.
    pub time_cut: u64,
    /// Without an order-book file: changes of levels that nothing is known of.
    pub unknown_level: u64,
}

impl Counts {
    /// Every reason with its count, by name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("adopted", self.adopted),
            ("empty_trade", self.empty_trade),
            ("incomplete", self.incomplete),
            ("time_cut", self.time_cut),
            ("unknown_level", self.unknown_level),
        ]
    }
}

/// Reads one pair of files, or a message file alone.
#[derive(Debug)]
pub struct Normalizer {
    config: Config,
    message_lines: Lines,
    book_lines: Lines,
    messages: VecDeque<Parsed<Message>>,
    books: BookRows,
    /// Levels of the order-book row before, bids and asks, best first; empty before the first.
    before: Option<[Vec<Level>; 2]>,
    now: [Vec<Level>; 2],
    /// Without an order-book file: sizes by price, bids and asks.
    known: [BTreeMap<i64, i64>; 2],
    line: u64,
    time_ns: i64,
    counts: Counts,
}

impl Normalizer {
    /// A reader at the start of its files.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            message_lines: Lines::new(LINE_BYTES_MAX),
            book_lines: Lines::new(LINE_BYTES_MAX),
            messages: VecDeque::new(),
            books: BookRows::default(),
            before: None,
            now: [Vec::new(), Vec::new()],
            known: [BTreeMap::new(), BTreeMap::new()],
            line: 0,
            time_ns: 0,
            counts: Counts::default(),
        }
    }

    /// What was left out or taken as it stood so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Rows that wait for their partner: of the message file, of the order-book file.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.messages.len(), self.books.len())
    }

    /// Levels a side of the order-book file; 0 before its first row.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.books.depth()
    }

    /// Appends the messages that the next bytes of both files complete.
    ///
    /// # Errors
    ///
    /// A malformed row, with its line; `out` then holds the messages of all rows before it, and the
    /// reader must not be fed again.
    pub fn feed(&mut self, messages: &[u8], books: &[u8], out: &mut Vec<Event>) -> Result<(), Error> {
        let Self { message_lines, messages: rows, book_lines, books: book_rows, .. } = self;
        let Ok(()) = message_lines.feed(messages, |number, line| {
            rows.push_back(message(number, &line));
            Ok::<(), Infallible>(())
        });
        let Ok(()) = book_lines.feed(books, |number, line| {
            book_rows.push(number, &line);
            Ok::<(), Infallible>(())
        });
        self.pair(out)
    }

    /// Both files have ended; appends what their last lines complete.
    ///
    /// # Errors
    ///
    /// As for [`Self::feed`], and rows without a partner.
    pub fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), Error> {
        let Self { message_lines, messages: rows, book_lines, books: book_rows, .. } = self;
        let Ok(()) = message_lines.finish(|number, line| {
            rows.push_back(message(number, &line));
            Ok::<(), Infallible>(())
        });
        let Ok(()) = book_lines.finish(|number, line| {
            book_rows.push(number, &line);
            Ok::<(), Infallible>(())
        });
        self.pair(out)?;
        self.lone_rows(out)
    }

    fn pair(&mut self, out: &mut Vec<Event>) -> Result<(), Error> {
        while !self.messages.is_empty() && (!self.config.book || self.books.len() > 0) {
            let Some(row) = self.messages.pop_front() else { break };
            self.line += 1;
            let book = if self.config.book { self.books.pop(&mut self.now) } else { None };
            let start = out.len();
            let result = match (row, book) {
                (Err(refused), _) | (_, Some(Err(refused))) => {
                    if refused.cut {
                        self.counts.incomplete += 1;
                        continue;
                    }
                    Err(refused.error)
                }
                (Ok(row), _) => self.row(&row, out),
            };
            if let Err(error) = result {
                out.truncate(start);
                self.refuse(error, out)?;
            } else if out.len() > start
                && let Some(last) = out.last_mut()
            {
                last.flags |= flag::LAST;
            }
        }
        Ok(())
    }

    /// Rows left over by the shorter file: the first is an error, or all are dropped.
    fn lone_rows(&mut self, out: &mut Vec<Event>) -> Result<(), Error> {
        let (messages, books) = self.waiting();
        let (left, missing) = if messages > 0 { (messages, "order-book") } else { (books, "message") };
        self.messages.clear();
        self.books = BookRows::default();
        for _ in 0..left {
            self.line += 1;
            let found = format!("the end of the {missing} file");
            self.refuse(Error::malformed(found, "as many rows in both files", Place::line(self.line)), out)?;
        }
        Ok(())
    }

    /// Ends the stream, or leaves a mark that breaks the book; the next row starts it again.
    fn refuse(&mut self, error: Error, out: &mut Vec<Event>) -> Result<(), Error> {
        if !self.config.drop_malformed {
            return Err(error);
        }
        out.push(Event { kind: kind::UNREADABLE, flags: flag::LAST, ..self.template() });
        self.before = None;
        Ok(())
    }

    /// An event of the row read last.
    fn template(&self) -> Event {
        Event {
            symbol_id: self.config.symbol_id,
            source_ts_ns: self.time_ns,
            local_ts_ns: self.time_ns,
            ..Event::default()
        }
    }

    fn row(&mut self, row: &Message, out: &mut Vec<Event>) -> Result<(), Error> {
        self.time_ns = self.config.midnight_ns + row.since_midnight_ns;
        self.counts.time_cut += u64::from(row.time_cut);
        let template = self.template();
        if !self.config.book {
            self.tell(row, template, out);
            return if (1..=4).contains(&row.kind) { self.blind(row, template, out) } else { Ok(()) };
        }
        in_order(&self.now, row.line)?;
        let Some(mut result) = self.before.take() else {
            whole(&self.now, template, flag::RECOVERY, out);
            self.tell(row, template, out);
            self.before = Some(self.now.clone());
            return Ok(());
        };
        self.tell(row, template, out);
        let told = out.len();
        change(row, &mut result, template, out);
        conceal(&mut result, self.books.depth(), template, out);
        if let Err(error) = reveal(&mut result, &self.now, row.line, template, out) {
            if !self.config.adopt {
                return Err(error);
            }
            out.truncate(told);
            whole(&self.now, template, 0, out);
            self.counts.adopted += 1;
            for (kept, now) in result.iter_mut().zip(&self.now) {
                kept.clone_from(now);
            }
        }
        self.before = Some(result);
        Ok(())
    }

    /// Trade or status of a row (step 1).
    fn tell(&mut self, row: &Message, template: Event, out: &mut Vec<Event>) {
        let flags = match row.kind {
            4 => 0,
            5 => flag::HIDDEN,
            6 => flag::NOT_MARKET,
            7 => {
                let qty = match row.price {
                    -1 => 2,
                    0 => 1,
                    _ => 3,
                };
                out.push(Event { kind: kind::STATUS, qty, ..template });
                return;
            }
            _ => return,
        };
        if row.size == 0 {
            self.counts.empty_trade += 1;
            return;
        }
        let side = if row.bid { side::ASK } else { side::BID };
        let order_id = row.order_id;
        out.push(Event {
            kind: kind::TRADE,
            side,
            flags,
            price: row.price,
            qty: row.size,
            order_id,
            ..template
        });
    }

    /// The change of a level where only the messages are known.
    fn blind(&mut self, row: &Message, template: Event, out: &mut Vec<Event>) -> Result<(), Error> {
        let levels = &mut self.known[usize::from(!row.bid)];
        let size = match levels.get(&row.price) {
            Some(size) if row.kind == 1 => size + row.size,
            Some(size) => (size - row.size).max(0),
            None if row.kind == 1 => row.size,
            None => {
                self.counts.unknown_level += 1;
                return Ok(());
            }
        };
        if size >= MAGNITUDE_LIMIT {
            return Err(too_large(row.line));
        }
        if size == 0 {
            levels.remove(&row.price);
        } else {
            levels.insert(row.price, size);
        }
        out.push(level(row.bid, row.price, size, Event { order_id: row.order_id, ..template }));
        Ok(())
    }
}

fn level(bid: bool, price: i64, qty: i64, template: Event) -> Event {
    Event { kind: kind::LEVEL, side: SIDES[usize::from(!bid)], price, qty, ..template }
}

#[cold]
fn too_large(line: u64) -> Error {
    Error::malformed("a level beyond 2^53 - 1", "sizes within 2^53", Place::line(line))
}

fn better(bid: bool, a: i64, b: i64) -> bool {
    if bid { a > b } else { a < b }
}

/// A row of the order-book file has its levels in order, none twice.
fn in_order(sides: &[Vec<Level>; 2], line: u64) -> Result<(), Error> {
    for (levels, bid) in sides.iter().zip([true, false]) {
        if let Some(pair) = levels.windows(2).find(|pair| !better(bid, pair[0].price, pair[1].price)) {
            let name = if bid { "bid" } else { "ask" };
            let found = format!("{name} {} behind {}", pair[1].price, pair[0].price);
            return Err(Error::malformed(found, "levels in order, best first", Place::line(line)));
        }
    }
    Ok(())
}

/// The whole row as a snapshot; both sides are cleared first, so that an empty one is told too.
fn whole(sides: &[Vec<Level>; 2], template: Event, flags: u16, out: &mut Vec<Event>) {
    for side in SIDES {
        out.push(Event { kind: kind::CLEAR, side, flags, ..template });
    }
    for (levels, side) in sides.iter().zip(SIDES) {
        for Level { price, size } in levels {
            let event =
                Event { kind: kind::SNAPSHOT_LEVEL, side, flags, price: *price, qty: *size, ..template };
            out.push(event);
        }
    }
}

/// What the message itself does to a level (step 2).
fn change(row: &Message, sides: &mut [Vec<Level>; 2], template: Event, out: &mut Vec<Event>) {
    if !(1..=4).contains(&row.kind) {
        return;
    }
    let levels = &mut sides[usize::from(!row.bid)];
    let place =
        levels.iter().position(|level| !better(row.bid, level.price, row.price)).unwrap_or(levels.len());
    let present = levels.get(place).is_some_and(|level| level.price == row.price);
    let before = if present { levels[place].size } else { 0 };
    let size = if row.kind == 1 { before + row.size } else { (before - row.size).max(0) };
    match (present, size > 0) {
        (true, true) => levels[place].size = size,
        (true, false) => {
            levels.remove(place);
        }
        (false, true) => levels.insert(place, Level { price: row.price, size }),
        (false, false) => {}
    }
    out.push(level(row.bid, row.price, size, Event { order_id: row.order_id, ..template }));
}

/// Levels pushed out of view (step 3).
fn conceal(sides: &mut [Vec<Level>; 2], depth: usize, template: Event, out: &mut Vec<Event>) {
    for (levels, bid) in sides.iter_mut().zip([true, false]) {
        for gone in levels.drain(depth.min(levels.len())..) {
            out.push(level(bid, gone.price, 0, Event { flags: flag::CONCEALED, ..template }));
        }
    }
}

/// Levels that came into view (step 4); the result must be the row of the order-book file (step 5).
fn reveal(
    sides: &mut [Vec<Level>; 2],
    row: &[Vec<Level>; 2],
    line: u64,
    template: Event,
    out: &mut Vec<Event>,
) -> Result<(), Error> {
    for ((result, now), bid) in sides.iter_mut().zip(row).zip([true, false]) {
        let mismatch = |price, expected, got| Error::BookMismatch { line, bid, price, expected, got };
        for level in now {
            match result.iter().find(|held| held.price == level.price) {
                Some(held) if held.size == level.size => {}
                Some(held) => return Err(mismatch(level.price, level.size, held.size)),
                None if result.last().is_some_and(|last| better(bid, level.price, last.price)) => {
                    return Err(mismatch(level.price, level.size, 0));
                }
                None => {
                    result.push(*level);
                    out.push(self::level(
                        bid,
                        level.price,
                        level.size,
                        Event { flags: flag::REVEALED, ..template },
                    ));
                }
            }
        }
        if let Some(held) = result.iter().find(|held| now.iter().all(|level| level.price != held.price)) {
            return Err(mismatch(held.price, 0, held.size));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
