//! Recordings of Binance's streams: `<local time> <json>` lines to events.
//!
//! A line is an envelope `{"stream": .., "data": {..}}`, a message without one, or the bare answer to a
//! request for a snapshot. Depth diffs, trades, aggregated trades, best quotes and snapshots are read;
//! other streams are counted and skipped, lines of other symbols are skipped and remembered.
//!
//! Twin of `featureplane/market/sources/binance.py`, byte for byte and word for word.

mod events;
mod feed;
mod judge;
mod levels;
mod message;
mod scan;
mod shape;

use serde::de::DeserializeSeed;

pub use events::Reader;
pub use feed::{Feed, Lane, Received};
pub use scan::{Found, Scan};

use self::judge::{Class, Complaint, Judge, Meaning, complain};
use self::levels::Sides;
use self::message::{Message, Reading, Value, printable};
use self::shape::Shapes;
use crate::error::{Error, Place};
use crate::event::TIME_LIMIT_NS;
use crate::normalize::decimal::Decimals;
use crate::normalize::lines::{Line, Lines, trimmed};

/// Names of other symbols that are remembered.
const OTHERS_MAX: usize = 64;

/// Bytes of a line that are looked at to show it.
const SHOWN_BYTES: usize = 480;

/// Which rules of sequence a recording follows (rule 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Market {
    /// A diff covers (`U` - 1, `u`].
    Spot,
    /// A diff covers (`pu`, `u`].
    Futures,
}

/// What was left out, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Last lines cut off by the end of their file (rule 2.2).
    pub incomplete: u64,
    /// Trades and quotes that no rule could turn into events; what may have been of the book is an event.
    pub malformed: u64,
    /// Lines of streams that are not read.
    pub other_stream: u64,
    /// Lines of other symbols.
    pub other_symbol: u64,
    /// Snapshots without a symbol in a stream of several.
    pub unnamed_snapshot: u64,
}

impl Counts {
    /// These and others.
    #[must_use]
    pub const fn plus(self, other: &Self) -> Self {
        Self {
            incomplete: self.incomplete + other.incomplete,
            malformed: self.malformed + other.malformed,
            other_stream: self.other_stream + other.other_stream,
            other_symbol: self.other_symbol + other.other_symbol,
            unnamed_snapshot: self.unnamed_snapshot + other.unnamed_snapshot,
        }
    }

    /// Every reason with its count, by name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("incomplete", self.incomplete),
            ("malformed", self.malformed),
            ("other_stream", self.other_stream),
            ("other_symbol", self.other_symbol),
            ("unnamed_snapshot", self.unnamed_snapshot),
        ]
    }
}

/// What makes something of the messages.
trait Receiver<D: Decimals> {
    /// Whether messages of this symbol (None: a snapshot that does not say) are wanted.
    fn wants(&mut self, symbol: Option<&[u8]>, counts: &mut Counts) -> bool;

    /// Takes one message that was wanted.
    fn take(&mut self, local: i64, meaning: Meaning<D::Value>, sides: &Sides<D::Value>);

    /// A message was lost that may have been one of the book.
    fn lost(&mut self, local: i64);
}

/// Lines in, messages out; what both passes over a recording share.
#[derive(Debug)]
struct Stream<D: Decimals> {
    lines: Lines,
    stage: Stage<D>,
}

#[derive(Debug)]
struct Stage<D: Decimals> {
    decimals: D,
    market: Market,
    drop_malformed: bool,
    sides: Sides<D::Value>,
    shapes: Shapes,
    counts: Counts,
    /// Latest local time seen, 0 before the first.
    local_max: i64,
}

/// A line that cannot be used: why, and whether the book may have lost something by it.
struct Refused {
    complaint: Box<Complaint>,
    local: Option<i64>,
    book: bool,
}

impl<D: Decimals> Stream<D> {
    fn new(decimals: D, market: Market, drop_malformed: bool, line_bytes_max: usize) -> Self {
        let stage = Stage {
            decimals,
            market,
            drop_malformed,
            sides: Sides::default(),
            shapes: Shapes::default(),
            counts: Counts::default(),
            local_max: 0,
        };
        Self { lines: Lines::new(line_bytes_max), stage }
    }

    fn feed(&mut self, text: &[u8], receiver: &mut impl Receiver<D>) -> Result<(), Error> {
        let Self { lines, stage } = self;
        lines.feed(text, |number, line| stage.line(number, line, receiver))
    }

    fn finish(&mut self, receiver: &mut impl Receiver<D>) -> Result<(), Error> {
        let Self { lines, stage } = self;
        lines.finish(|number, line| stage.line(number, line, receiver))
    }
}

impl<D: Decimals> Stage<D> {
    fn line(&mut self, number: u64, line: Line<'_>, receiver: &mut impl Receiver<D>) -> Result<(), Error> {
        let refused = match line {
            Line::Whole(text) => self.text(text, receiver).err(),
            Line::Tail(text) => match self.text(text, receiver) {
                Err(_) if is_cut(text) => {
                    self.counts.incomplete += 1;
                    None
                }
                result => result.err(),
            },
            Line::Overlong => Some(overlong()),
        };
        refused.map_or(Ok(()), |refused| self.settle(refused, number, receiver))
    }

    /// One whole message: with its local time in front as recorded, or alone with the one that is given.
    fn message(
        &mut self,
        (number, bytes_max): (u64, usize),
        text: &[u8],
        local: Option<i64>,
        receiver: &mut impl Receiver<D>,
    ) -> Result<(), Error> {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let read = match local {
            _ if line.len() > bytes_max => Err(Refused { local, ..overlong() }),
            None => self.text(trimmed(line), receiver),
            Some(local) => self.json(local, trimmed(line), receiver),
        };
        read.or_else(|refused| self.settle(refused, number, receiver))
    }

    /// What becomes of a line that cannot be used.
    #[cold]
    fn settle(
        &mut self,
        Refused { complaint, local, book }: Refused,
        number: u64,
        receiver: &mut impl Receiver<D>,
    ) -> Result<(), Error> {
        if !self.drop_malformed {
            return Err(Error::malformed(complaint.found, complaint.expected, Place::line(number)));
        }
        if book {
            receiver.lost(local.unwrap_or(self.local_max));
        } else {
            self.counts.malformed += 1;
        }
        Ok(())
    }

    fn text(&mut self, text: &[u8], receiver: &mut impl Receiver<D>) -> Result<(), Refused> {
        if text.is_empty() {
            return Ok(());
        }
        let Some((local, json)) = local_time(text) else {
            let expected = "a local time of 16 (microseconds) or 19 digits (nanoseconds) and a space";
            return Err(refused(&shown(text), expected));
        };
        self.json(local, json, receiver)
    }

    fn json(&mut self, local: i64, json: &[u8], receiver: &mut impl Receiver<D>) -> Result<(), Refused> {
        self.local_max = self.local_max.max(local);
        let known = self.shapes.read(json, &self.decimals, &mut self.sides);
        let is_new = known.is_none();
        let reading = Reading { decimals: &self.decimals, sides: &mut self.sides };
        let Some(message) = known.or_else(|| object(json, reading)) else {
            return Err(Refused { local: Some(local), ..refused(&shown(json), "one JSON object") });
        };
        let class = Class::of(&message);
        if class == Class::Foreign {
            self.counts.other_stream += 1;
            return Ok(());
        }
        let refuse = |complaint| Refused { complaint, local: Some(local), book: class.is_book() };
        let key = class.symbol_key();
        let symbol = match message.get(key) {
            Value::Text(name) => Some(&**name),
            Value::Absent if class == Class::Snapshot => None,
            _ => return complain(key, &message, "a symbol").map_err(refuse),
        };
        if !receiver.wants(symbol, &mut self.counts) {
            return Ok(());
        }
        let judge = Judge { decimals: &self.decimals, market: self.market, sides: &self.sides };
        let meaning = judge.meaning(class, &message).map_err(refuse)?;
        receiver.take(local, meaning, &self.sides);
        if is_new {
            let learnt = self.shapes.learnt(json, &message);
            self.shapes.keep(learnt);
        }
        Ok(())
    }
}

fn refused(found: &str, expected: &str) -> Refused {
    let complaint = Complaint { found: found.to_owned(), expected: expected.to_owned() };
    Refused { complaint: Box::new(complaint), local: None, book: true }
}

fn overlong() -> Refused {
    refused("a line without end", "lines of at most 64 MiB")
}

fn object<'de, D: Decimals>(json: &'de [u8], reading: Reading<'_, D>) -> Option<Message<'de>> {
    let mut library = serde_json::Deserializer::from_slice(json);
    let message = reading.deserialize(&mut library).ok()?;
    library.end().ok()?;
    Some(message)
}

/// Local time in nanoseconds, and what stands behind it.
fn local_time(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take(20).position(|byte| !byte.is_ascii_digit())?;
    let scale = match digits {
        16 => 1000,
        19 => 1,
        _ => return None,
    };
    let json = text[digits..].strip_prefix(b" ")?;
    let value = text[..digits]
        .iter()
        .try_fold(0i64, |value, byte| value.checked_mul(10)?.checked_add(i64::from(byte - b'0')))?;
    let local = value.checked_mul(scale).filter(|&local| local < TIME_LIMIT_NS)?;
    Some((local, json))
}

/// Whether the text ends inside its local time or inside its JSON.
fn is_cut(text: &[u8]) -> bool {
    let Some(space) = memchr::memchr(b' ', text) else { return text.iter().all(u8::is_ascii_digit) };
    let (mut open, mut quoted, mut escaped) = (0i64, false, false);
    for byte in &text[space + 1..] {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => open += 1,
            b'}' | b']' => open -= 1,
            _ => {}
        }
    }
    open > 0 || quoted || space + 1 == text.len()
}

fn shown(text: &[u8]) -> String {
    printable(&text[..text.len().min(SHOWN_BYTES)])
}
