//! From messages to events.

use super::judge::Meaning;
use super::levels::Sides;
use super::message::Key;
use super::{Counts, Market, OTHERS_MAX, Receiver, Stream};
use crate::error::Error;
use crate::event::{Event, flag, kind, side};
use crate::normalize::decimal::Scaled;

/// No kind of the law: a message that could not be read and may have been of the book. The guard counts it as
/// malformed and breaks the book (rule 10.1).
const UNREADABLE: u8 = 0;

/// Reads one symbol of a recording.
#[derive(Debug)]
pub struct Reader {
    pub(super) stream: Stream<Scaled>,
    pub(super) maker: Maker,
}

#[derive(Debug)]
pub(super) struct Maker {
    pub(super) symbol: String,
    symbol_id: u32,
    seen: bool,
    others: Vec<String>,
    /// Of the last message that had one, 0 before.
    source_ts_ns: i64,
}

impl Reader {
    /// A reader of `symbol`, which events will name `symbol_id`. With `drop_malformed` a line that cannot be
    /// read is no error: a trade or quote is counted, anything else becomes an event of kind 0.
    #[must_use]
    pub fn new(
        symbol: &str,
        symbol_id: u32,
        decimals: Scaled,
        market: Market,
        drop_malformed: bool,
        line_bytes_max: usize,
    ) -> Self {
        let maker =
            Maker { symbol: symbol.to_owned(), symbol_id, seen: false, others: Vec::new(), source_ts_ns: 0 };
        Self { stream: Stream::new(decimals, market, drop_malformed, line_bytes_max), maker }
    }

    /// Appends the events of every line that ends in `text`, which may be cut anywhere.
    ///
    /// # Errors
    ///
    /// A malformed line, with its number; `out` then holds the events of all lines before it.
    pub fn feed(&mut self, text: &[u8], out: &mut Vec<Event>) -> Result<(), Error> {
        self.stream.feed(text, &mut Output { maker: &mut self.maker, out })
    }

    /// Ends a file; the next one continues the stream, its lines count from 1.
    ///
    /// # Errors
    ///
    /// As for [`Self::feed`]; a last line that was cut off is dropped and counted.
    pub fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), Error> {
        self.stream.finish(&mut Output { maker: &mut self.maker, out })
    }

    /// What was left out so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.stream.stage.counts
    }

    /// Symbols seen, the wanted one first if it is among them.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        let wanted = self.maker.seen.then_some(self.maker.symbol.as_str());
        wanted.into_iter().chain(self.maker.others.iter().map(String::as_str))
    }

    /// The latest local time of any line, 0 before the first.
    #[must_use]
    pub fn local_max(&self) -> i64 {
        self.stream.stage.local_max
    }
}

pub(super) struct Output<'a> {
    pub(super) maker: &'a mut Maker,
    pub(super) out: &'a mut Vec<Event>,
}

impl Receiver<Scaled> for Output<'_> {
    fn wants(&mut self, symbol: Option<&[u8]>, counts: &mut Counts) -> bool {
        let Maker { symbol: wanted, seen, others, .. } = &mut *self.maker;
        match symbol {
            Some(name) if name == wanted.as_bytes() => {
                *seen = true;
                true
            }
            Some(name) => {
                counts.other_symbol += 1;
                if others.len() < OTHERS_MAX && !others.iter().any(|other| other.as_bytes() == name) {
                    others.push(String::from_utf8_lossy(name).into_owned());
                }
                false
            }
            None if others.is_empty() => true,
            None => {
                counts.unnamed_snapshot += 1;
                false
            }
        }
    }

    fn take(&mut self, local: i64, meaning: Meaning<i64>, sides: &Sides<i64>) {
        let template = Event {
            symbol_id: self.maker.symbol_id,
            source_ts_ns: meaning.time(),
            local_ts_ns: local,
            ..Event::default()
        };
        match meaning {
            Meaning::Diff { last, previous, .. } => {
                let level = Event { kind: kind::LEVEL, seq_last: last, seq_prev: previous, ..template };
                self.levels(level, side::BID, &sides.of(Key::Bid).rows);
                self.levels(level, side::ASK, &sides.of(Key::Ask).rows);
                if sides.of(Key::Bid).rows.is_empty() && sides.of(Key::Ask).rows.is_empty() {
                    self.out.push(Event { side: side::BID, ..level });
                }
            }
            Meaning::Trade { last, previous, price, qty, side, market, .. } => {
                let flags = if market { 0 } else { flag::NOT_MARKET };
                let ids = Event { seq_last: last, seq_prev: previous, ..template };
                self.out.push(Event { kind: kind::TRADE, side, flags, price, qty, ..ids });
            }
            Meaning::Quote { last, bid, ask, .. } => {
                let quote = Event { kind: kind::QUOTE, seq_last: last, ..template };
                self.out.push(Event { side: side::BID, price: bid.0, qty: bid.1, ..quote });
                self.out.push(Event { side: side::ASK, price: ask.0, qty: ask.1, ..quote });
            }
            Meaning::Snapshot { last, .. } => {
                let clear = Event { kind: kind::CLEAR, flags: flag::RECOVERY, seq_last: last, ..template };
                self.out.push(Event { side: side::BID, ..clear });
                self.out.push(Event { side: side::ASK, ..clear });
                let level = Event { kind: kind::SNAPSHOT_LEVEL, ..clear };
                self.levels(level, side::BID, &sides.of(Key::Bids).rows);
                self.levels(level, side::ASK, &sides.of(Key::Asks).rows);
            }
        }
        if let Some(event) = self.out.last_mut() {
            event.flags |= flag::LAST;
        }
        if template.source_ts_ns != 0 {
            self.maker.source_ts_ns = template.source_ts_ns;
        }
    }

    fn lost(&mut self, local: i64) {
        self.out.push(Event {
            kind: UNREADABLE,
            flags: flag::LAST,
            symbol_id: self.maker.symbol_id,
            source_ts_ns: self.maker.source_ts_ns,
            local_ts_ns: local,
            ..Event::default()
        });
    }
}

impl Output<'_> {
    fn levels(&mut self, template: Event, side: u8, rows: &[(i64, i64)]) {
        self.out.extend(rows.iter().map(|(price, qty)| Event { side, price: *price, qty: *qty, ..template }));
    }
}
