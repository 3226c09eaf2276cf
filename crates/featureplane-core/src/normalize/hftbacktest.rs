//! hftbacktest's event rows to events (rule 3.11). Twin of `featureplane/market/sources/hftbacktest.py`.
//!
//! Rows arrive in chunks cut anywhere; the message that is still open at a cut is kept back.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Error, Place};
use crate::event::{Event, MAGNITUDE_LIMIT, flag, kind, side};
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
}

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
    Book { key: Key, kind: u64 },
    Bid { key: Key },
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
                return Err(error);
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
        if !self.continues(key, row) {
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

    fn continues(&self, now: Key, row: &Row) -> bool {
        let row_kind = row.ev & KIND;
        match self.open {
            Open::Nothing => false,
            Open::Bid { key } => row_kind == DEPTH_BBO && row.ev & SELL != 0 && key == now,
            Open::Book { key, kind } => match row_kind {
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
            Ok(last) => (last, row.order_id),
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
            source_ts_ns: row.exch_ts,
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
            return Ok(row.exch_ts);
        }
        row.local_ts
            .checked_sub(self.config.local_shift_ns)
            .ok_or_else(|| self.malformed(format!("local_ts {}", row.local_ts), "a time in nanoseconds"))
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
mod tests {
    use super::*;

    const CONFIG: Config = Config {
        symbol_id: 7,
        price_exponent: 1,
        qty_exponent: 3,
        local_shift_ns: 5,
        local_time: true,
        side_inferred: false,
    };

    fn row(ev: u64, ts: i64, px: f64, qty: f64) -> Row {
        Row { ev: ev | LOCAL, exch_ts: ts, local_ts: ts + 105, px, qty, ..Row::default() }
    }

    fn read(config: Config, rows: &[Row]) -> Result<Vec<Event>, Error> {
        let (mut reader, mut out) = (Normalizer::new(config), Vec::new());
        reader.feed(rows, &mut out)?;
        reader.finish(&mut out);
        Ok(out)
    }

    fn messages(events: &[Event]) -> Vec<Vec<u8>> {
        events.split_inclusive(Event::is_last).map(|m| m.iter().map(|e| e.kind).collect()).collect()
    }

    #[test]
    fn rule_3_11_runs_of_book_rows_are_messages() {
        let rows = [
            row(DEPTH_CLEAR | BUY, 1, 10.0, 0.0),
            row(DEPTH_SNAPSHOT | BUY, 1, 10.5, 1.0),
            row(DEPTH_CLEAR | SELL, 1, 11.0, 0.0),
            row(DEPTH_SNAPSHOT | SELL, 1, 11.0, 1.0),
            row(DEPTH | SELL, 1, 11.0, 2.0),
            row(DEPTH_SNAPSHOT | SELL, 1, 11.0, 1.0),
            row(TRADE | SELL, 1, 10.5, 1.0),
            row(TRADE, 1, 10.5, 1.0),
            row(DEPTH | SELL, 1, 11.0, 0.0),
            row(DEPTH | SELL, 2, 11.0, 0.0),
            Row { ival: 9, order_id: 8, ..row(DEPTH | SELL, 2, 11.0, 0.0) },
            row(DEPTH_BBO | BUY, 2, 10.0, 1.0),
            row(DEPTH_BBO | SELL, 2, 11.0, 1.0),
            row(DEPTH_BBO | SELL, 2, 11.0, 1.0),
        ];
        let events = read(CONFIG, &rows).unwrap();
        let expected: Vec<Vec<u8>> = vec![
            vec![3, 4],
            vec![3, 4, 1],
            vec![4],
            vec![2],
            vec![2],
            vec![1],
            vec![1],
            vec![1],
            vec![5, 5],
            vec![5],
        ];
        assert_eq!(messages(&events), expected);
        assert_eq!(events[0].flags, flag::RECOVERY | flag::BOUND);
        assert_eq!((events[0].price, events[1].qty, events[1].local_ts_ns), (100, 1000, 101));
        assert_eq!((events[10].seq_prev, events[10].seq_last), (8, 9));
        for cut in 0..rows.len() {
            let (mut reader, mut out) = (Normalizer::new(CONFIG), Vec::new());
            reader.feed(&rows[..cut], &mut out).unwrap();
            assert!(out.last().is_none_or(Event::is_last), "cut at {cut}");
            reader.feed(&rows[cut..], &mut out).unwrap();
            reader.finish(&mut out);
            assert_eq!(out, events, "cut at {cut}");
        }
    }

    #[test]
    fn rule_3_11_other_rows_are_dropped_and_counted() {
        let mut reader = Normalizer::new(CONFIG);
        let mut out = Vec::new();
        let exchange_only = Row { ev: DEPTH | BUY | 1 << 31, ..row(0, 1, 1.0, 1.0) };
        reader.feed(&[exchange_only, row(103, 1, 1.0, 1.0), row(0xa | BUY, 1, 1.0, 1.0)], &mut out).unwrap();
        reader.feed(&[row(TRADE | BUY, 1, 1.0, 0.0)], &mut out).unwrap();
        reader.finish(&mut out);
        assert_eq!(out, []);
        assert_eq!(reader.dropped(), Dropped { not_local: 1, unknown_kind: 2, empty_trade: 1 });
    }

    #[test]
    fn rule_1_1_a_float_is_refused_off_its_grid() {
        for (px, qty) in
            [(0.05, 1.0), (f64::NAN, 1.0), (1.0, -1.0), (1e18, 1.0), (1.0, 9_007_199_254_740.992)]
        {
            let error =
                read(CONFIG, &[row(DEPTH | BUY, 1, 1.0, 1.0), row(DEPTH | BUY, 1, px, qty)]).unwrap_err();
            let Error::Malformed { place, .. } = &error else { panic!("{error}") };
            assert_eq!(place.line, Some(2), "{error}");
        }
        assert_eq!(read(CONFIG, &[row(DEPTH | BUY, 1, 0.1 + 0.2, 1.0)]).unwrap()[0].price, 3);
    }

    #[test]
    fn rule_1_1_the_first_pass_finds_the_decimals() {
        for (x, expected) in [(1.0, 0), (0.1, 1), (61_800.1, 1), (0.1 + 0.2, 1), (1e-8, 8), (123.456_789, 6)]
        {
            assert_eq!(exponent(x, 0), expected, "{x}");
        }
        assert_eq!(exponent(0.5, 3), 3);
    }

    #[test]
    fn what_came_before_a_malformed_message_is_kept() {
        let rows =
            [row(DEPTH | BUY, 1, 1.0, 1.0), row(DEPTH | BUY, 2, 1.0, 1.0), row(DEPTH | BUY, 2, 0.01, 1.0)];
        let (mut reader, mut out) = (Normalizer::new(CONFIG), Vec::new());
        assert!(reader.feed(&rows, &mut out).is_err());
        assert_eq!(messages(&out), [[1]]);
        let (mut reader, mut out) = (Normalizer::new(CONFIG), Vec::new());
        assert!(reader.feed(&[rows[0], rows[2]], &mut out).is_err());
        assert_eq!(messages(&out), [[1]]);
    }
}
