//! hftbacktest's event rows to events (rule 3.11). Twin of `featureplane/market/sources/hftbacktest.py`.
//!
//! Rows arrive in chunks cut anywhere; the message that is still open at a cut is kept back.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Error, Place};
use crate::event::{Event, MAGNITUDE_LIMIT, TIME_LIMIT_NS, flag, kind, side};
use crate::units::{i64_to_f64, rint};

/// Most decimals that are looked for in floats.
pub const EXPONENT_MAX: u8 = 12;

/// A decimal of so many digits is told apart from its neighbours by an `f64`; one more may be noise.
const MANTISSA_MAX: i64 = 1_000_000_000_000_000;

/// How far from an integer `x * 10^e` may lie (rule 1.1).
const NOISE_MAX: f64 = 1e-6;

const LOCAL: u64 = 1 << 30;
const BUY: u64 = 1 << 29;
const SELL: u64 = 1 << 28;
const KIND: u64 = 0xff;

const DEPTH: u64 = 1;
const TRADE: u64 = 2;
const DEPTH_CLEAR: u64 = 3;
const DEPTH_SNAPSHOT: u64 = 4;
const DEPTH_BBO: u64 = 5;

/// One row as hftbacktest lays it out, 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Row {
    /// Flags, side and kind.
    pub ev: u64,
    /// When the venue says it happened, nanoseconds.
    pub exch_ts: i64,
    /// When it was received, nanoseconds, shifted so that it is never before `exch_ts`.
    pub local_ts: i64,
    /// Price.
    pub px: f64,
    /// Size.
    pub qty: f64,
    /// Id of the message before, where `ival` is not 0.
    pub order_id: u64,
    /// Last id of the message, or 0.
    pub ival: i64,
    /// Not read.
    pub fval: f64,
}

/// How a stream of rows is read.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Goes into every event.
    pub symbol_id: u32,
    /// Decimals of prices, at most 18.
    pub price_exponent: u8,
    /// Decimals of sizes, at most 18.
    pub qty_exponent: u8,
    /// Subtracted from every `local_ts`.
    pub local_shift_ns: i64,
    /// Whether rows have a local time; else it is the venue's.
    pub local_time: bool,
    /// Whether the source guessed the aggressors.
    pub side_inferred: bool,
    /// Count malformed trades and quotes and turn malformed book messages into events of kind 0, instead of
    /// refusing them.
    pub drop_malformed: bool,
}

/// Rows that became no event, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Rows for the exchange's side of a simulation only.
    pub not_local: u64,
    /// Kinds that rule 3.11 does not name.
    pub unknown_kind: u64,
    /// Trades of size 0.
    pub empty_trade: u64,
    /// Trades and quotes that no rule could turn into events.
    pub malformed: u64,
}

/// What a time must be.
const TIME: &str = "nanoseconds since 1970, from 0 to 2^62 - 1";

/// What tells book messages apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    local_ts: i64,
    exch_ts: i64,
    ival: i64,
}

/// The message that may still grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    Book {
        key: Key,
        kind: u64,
    },
    /// A book message that could not be read; what is left of it is passed over.
    Lost {
        key: Key,
        kind: u64,
    },
    Bid {
        key: Key,
    },
}

/// Reads rows into events.
#[derive(Debug)]
pub struct Normalizer {
    config: Config,
    price_scale: f64,
    qty_scale: f64,
    rows: u64,
    open: Open,
    tail: Vec<Event>,
    dropped: Dropped,
}

impl Normalizer {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            price_scale: power_of_ten(config.price_exponent),
            qty_scale: power_of_ten(config.qty_exponent),
            rows: 0,
            open: Open::Nothing,
            tail: Vec::new(),
            dropped: Dropped::default(),
        }
    }

    /// Rows that became no event so far.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Appends the messages that `rows` complete to `out`.
    ///
    /// # Errors
    ///
    /// A row that no rule can turn into an event, by its number from 1. `out` then holds everything
    /// up to the message before; the reader must not be fed again.
    pub fn feed(&mut self, rows: &[Row], out: &mut Vec<Event>) -> Result<(), Error> {
        let mut start = out.len();
        out.append(&mut self.tail);
        for row in rows {
            self.rows += 1;
            if let Err(error) = self.row(row, &mut start, out) {
                out.truncate(start);
                if !self.config.drop_malformed {
                    return Err(error);
                }
                self.lose(row, out);
                start = out.len();
            }
        }
        self.tail.extend(out.drain(start..));
        Ok(())
    }

    /// Appends the message left open: the stream has ended.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        out.append(&mut self.tail);
        if self.open != Open::Nothing {
            self.open = Open::Nothing;
            close(out);
        }
    }

    fn row(&mut self, row: &Row, start: &mut usize, out: &mut Vec<Event>) -> Result<(), Error> {
        if row.ev & LOCAL == 0 {
            self.dropped.not_local += 1;
            return Ok(());
        }
        let row_kind = row.ev & KIND;
        if !(DEPTH..=DEPTH_BBO).contains(&row_kind) {
            self.dropped.unknown_kind += 1;
            return Ok(());
        }
        if row_kind == TRADE && row.qty == 0.0 {
            self.dropped.empty_trade += 1;
            return Ok(());
        }
        let key = Key { local_ts: row.local_ts, exch_ts: row.exch_ts, ival: row.ival };
        let continues = self.continues(key, row);
        if let Open::Lost { kind, .. } = &mut self.open
            && continues
        {
            *kind = row_kind;
            return Ok(());
        }
        if !continues {
            if self.open != Open::Nothing {
                self.open = Open::Nothing;
                close(out);
            }
            *start = out.len();
        }
        let event = self.event(row, row_kind)?;
        if self.open != Open::Nothing && out.last().is_some_and(|before| before.seq_prev != event.seq_prev) {
            return Err(self
                .malformed(format!("order_id {}", row.order_id), "one order_id in the rows of one message"));
        }
        out.push(event);
        self.open = match row_kind {
            DEPTH | DEPTH_CLEAR | DEPTH_SNAPSHOT => Open::Book { key, kind: row_kind },
            DEPTH_BBO if event.side == side::BID => Open::Bid { key },
            _ => {
                close(out);
                *start = out.len();
                Open::Nothing
            }
        };
        Ok(())
    }

    /// Leaves out the message of a malformed row; of a book message a mark stays that breaks the book.
    #[cold]
    fn lose(&mut self, row: &Row, out: &mut Vec<Event>) {
        let row_kind = row.ev & KIND;
        self.open = Open::Nothing;
        if row_kind == TRADE || row_kind == DEPTH_BBO {
            self.dropped.malformed += 1;
            return;
        }
        let key = Key { local_ts: row.local_ts, exch_ts: row.exch_ts, ival: row.ival };
        self.open = Open::Lost { key, kind: row_kind };
        let source_ts_ns = self.exch_ts(row).unwrap_or(0);
        out.push(Event {
            kind: kind::UNREADABLE,
            flags: flag::LAST,
            symbol_id: self.config.symbol_id,
            source_ts_ns,
            local_ts_ns: self.local_ts(row).unwrap_or(source_ts_ns),
            ..Event::default()
        });
    }

    fn continues(&self, now: Key, row: &Row) -> bool {
        let row_kind = row.ev & KIND;
        match self.open {
            Open::Nothing => false,
            Open::Bid { key } => row_kind == DEPTH_BBO && row.ev & SELL != 0 && key == now,
            Open::Book { key, kind } | Open::Lost { key, kind } => match row_kind {
                DEPTH => key == now,
                DEPTH_SNAPSHOT => key == now && kind != DEPTH,
                _ => false,
            },
        }
    }

    #[inline]
    fn event(&self, row: &Row, row_kind: u64) -> Result<Event, Error> {
        let side = self.side(row, row_kind)?;
        let (kind, flags) = match row_kind {
            DEPTH => (kind::LEVEL, 0),
            TRADE if self.config.side_inferred && side != side::NONE => (kind::TRADE, flag::SIDE_INFERRED),
            TRADE => (kind::TRADE, 0),
            DEPTH_CLEAR if side != side::NONE && row.px.is_finite() => {
                (kind::CLEAR, flag::RECOVERY | flag::BOUND)
            }
            DEPTH_CLEAR => (kind::CLEAR, flag::RECOVERY),
            DEPTH_SNAPSHOT => (kind::SNAPSHOT_LEVEL, flag::RECOVERY),
            _ => (kind::QUOTE, 0),
        };
        let has_price = kind != kind::CLEAR || flags & flag::BOUND != 0;
        let (seq_last, seq_prev) = match u64::try_from(row.ival) {
            Ok(0) => (0, 0),
            _ if row_kind == TRADE || row_kind == DEPTH_BBO => (0, 0),
            Ok(last) if row.order_id <= last => (last, row.order_id),
            Ok(last) => {
                return Err(
                    self.malformed(format!("order_id {}", row.order_id), format!("an id of at most {last}"))
                );
            }
            Err(_) => return Err(self.malformed(format!("ival {}", row.ival), "an id, or 0")),
        };
        Ok(Event {
            kind,
            side,
            flags,
            symbol_id: self.config.symbol_id,
            price: if has_price { self.scaled("px", row.px, self.price_scale)? } else { 0 },
            qty: if kind == kind::CLEAR { 0 } else { self.size(row.qty)? },
            order_id: 0,
            seq_last,
            seq_prev,
            source_ts_ns: self.exch_ts(row)?,
            local_ts_ns: self.local_ts(row)?,
        })
    }

    #[inline]
    fn side(&self, row: &Row, row_kind: u64) -> Result<u8, Error> {
        match row.ev & (BUY | SELL) {
            BUY => Ok(side::BID),
            SELL => Ok(side::ASK),
            0 if row_kind == TRADE || row_kind == DEPTH_CLEAR => Ok(side::NONE),
            _ => Err(self.malformed(format!("ev {:#x}", row.ev), "one of the bits 29 (buy) and 28 (sell)")),
        }
    }

    fn local_ts(&self, row: &Row) -> Result<i64, Error> {
        if !self.config.local_time || row.local_ts == 0 {
            return self.exch_ts(row);
        }
        row.local_ts
            .checked_sub(self.config.local_shift_ns)
            .filter(|local| (0..TIME_LIMIT_NS).contains(local))
            .ok_or_else(|| self.malformed(format!("local_ts {}", row.local_ts), TIME))
    }

    fn exch_ts(&self, row: &Row) -> Result<i64, Error> {
        if (0..TIME_LIMIT_NS).contains(&row.exch_ts) {
            Ok(row.exch_ts)
        } else {
            Err(self.malformed(format!("exch_ts {}", row.exch_ts), TIME))
        }
    }

    fn size(&self, qty: f64) -> Result<i64, Error> {
        let size = self.scaled("qty", qty, self.qty_scale)?;
        if size < 0 { Err(self.malformed(format!("qty {qty:?}"), "a size of at least 0")) } else { Ok(size) }
    }

    #[inline]
    fn scaled(&self, name: &str, x: f64, scale: f64) -> Result<i64, Error> {
        match on_grid(x, scale) {
            Some(n) if n.abs() < MAGNITUDE_LIMIT => Ok(n),
            _ => Err(self.off_grid(name, x, scale)),
        }
    }

    #[cold]
    fn off_grid(&self, name: &str, x: f64, scale: f64) -> Error {
        let exponent = (0..18).find(|e| power_of_ten(*e) >= scale).unwrap_or(18);
        self.malformed(
            format!("{name} {x:?}"),
            format!("a multiple of 10^-{exponent} below 2^53 such units in magnitude"),
        )
    }

    #[cold]
    fn malformed(&self, found: String, expected: impl Into<String>) -> Error {
        Error::malformed(found, expected, Place::line(self.rows))
    }
}

/// Ends the message whose events stand last in `out`.
fn close(out: &mut [Event]) {
    if let Some(last) = out.last_mut() {
        last.flags |= flag::LAST;
    }
}

/// 10^exponent, exact up to 22.
#[must_use]
pub fn power_of_ten(exponent: u8) -> f64 {
    i64_to_f64(10_i64.pow(u32::from(exponent)))
}

/// `x * scale` as the integer rule 1.1 makes of it, or `None`.
#[inline]
#[expect(clippy::float_cmp, reason = "the rule asks for the very same float")]
fn on_grid(x: f64, scale: f64) -> Option<i64> {
    let scaled = x * scale;
    let n = rint(scaled)?;
    let nearest = i64_to_f64(n);
    ((scaled - nearest).abs() <= NOISE_MAX || nearest / scale == x).then_some(n)
}

/// The first pass: how many decimals prices and sizes have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Precision {
    /// Decimals of prices.
    pub price_exponent: u8,
    /// Decimals of sizes.
    pub qty_exponent: u8,
}

impl Precision {
    /// Learns from the rows that [`Normalizer`] would read. Values no exponent fits are left for it to refuse.
    pub fn feed(&mut self, rows: &[Row]) {
        for row in rows.iter().filter(|row| row.ev & LOCAL != 0) {
            let row_kind = row.ev & KIND;
            if row_kind == DEPTH_CLEAR {
                if row.ev & (BUY | SELL) != 0 {
                    self.price_exponent = exponent(row.px, self.price_exponent);
                }
            } else if (DEPTH..=DEPTH_BBO).contains(&row_kind) {
                self.price_exponent = exponent(row.px, self.price_exponent);
                self.qty_exponent = exponent(row.qty, self.qty_exponent);
            }
        }
    }
}

/// The least exponent of at least `least` that fits `x`: as a decimal of at most 15 digits, or, for
/// floats that arithmetic has blurred, within the noise that rule 1.1 forgives.
#[inline]
fn exponent(x: f64, least: u8) -> u8 {
    if is_decimal(x, power_of_ten(least)) { least } else { search(x, least) }
}

#[cold]
fn search(x: f64, least: u8) -> u8 {
    let exact = (least..=EXPONENT_MAX).find(|e| is_decimal(x, power_of_ten(*e)));
    let near = || (least..=EXPONENT_MAX).find(|e| on_grid(x, power_of_ten(*e)).is_some());
    exact.or_else(near).unwrap_or(least)
}

#[expect(clippy::float_cmp, reason = "the rule asks for the very same float")]
fn is_decimal(x: f64, scale: f64) -> bool {
    rint(x * scale).is_some_and(|n| n.abs() <= MANTISSA_MAX && i64_to_f64(n) / scale == x)
}

#[cfg(test)]
mod tests;
