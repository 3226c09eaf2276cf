//! Lines of the two files to rows of numbers.

use std::collections::VecDeque;

use crate::error::{Error, Place};
use crate::event::MAGNITUDE_LIMIT;
use crate::normalize::lines::Line;

/// Longest line that is read.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;

/// The price of a level that is not there: +-9999999999.
const EMPTY_PRICE: u64 = 9_999_999_999;
/// Most levels a side; a row costs the square of them.
const LEVELS_MAX: usize = 200;
const SECONDS_MAX: i64 = 86_400;
const NANOS_DIGITS: usize = 9;
const FIELDS: &str = "6 fields: time, type, order id, size, price, direction";

/// One row of the message file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub line: u64,
    pub since_midnight_ns: i64,
    /// The time had more digits than nanoseconds.
    pub time_cut: bool,
    /// 1 to 7.
    pub kind: u8,
    pub order_id: u64,
    pub size: i64,
    pub price: i64,
    /// Whether the resting order is a buy.
    pub bid: bool,
}

/// One price level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub price: i64,
    pub size: i64,
}

/// A row, or why there is none.
pub(super) type Parsed<T> = Result<T, Box<Refused>>;

/// A line that is no row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub error: Error,
    /// The line was the last and not ended: it may have been cut off.
    pub cut: bool,
}

/// The bytes of a line and whether it may be cut.
fn text_of<'a>(number: u64, line: &Line<'a>) -> Parsed<(&'a [u8], bool)> {
    match *line {
        Line::Whole(text) => Ok((text, false)),
        Line::Tail(text) => Ok((text, true)),
        Line::Overlong => Err(Box::new(Refused {
            error: Error::malformed(
                format!("a line beyond {LINE_BYTES_MAX} bytes"),
                "rows of a LOBSTER file",
                Place::line(number),
            ),
            cut: false,
        })),
    }
}

/// Reads a line of the message file.
pub(super) fn message(number: u64, line: &Line<'_>) -> Parsed<Message> {
    let (text, cut) = text_of(number, line)?;
    let refuse = |(found, expected): Complaint| {
        Box::new(Refused { error: Error::malformed(found, expected, Place::line(number)), cut })
    };
    let mut fields = [b"".as_slice(); 6];
    let mut count = 0;
    for field in text.split(|byte| *byte == b',') {
        if let Some(slot) = fields.get_mut(count) {
            *slot = field;
        }
        count += 1;
    }
    if count != 6 {
        return Err(refuse((format!("`{}`", String::from_utf8_lossy(text)), FIELDS.to_owned())));
    }
    numbers(number, &fields).map_err(refuse)
}

/// What was found and what was expected.
type Complaint = (String, String);

fn numbers(line: u64, fields: &[&[u8]; 6]) -> Result<Message, Complaint> {
    let complaint = |name: &str, text: &[u8], expected: &str| {
        (format!("{name} `{}`", String::from_utf8_lossy(text)), expected.to_owned())
    };
    let [time, kind, order_id, size, price, direction] = *fields;
    let (since_midnight_ns, time_cut) =
        seconds(time).ok_or_else(|| complaint("time", time, "seconds after midnight below 86400"))?;
    let kind = match *kind {
        [digit @ b'1'..=b'7'] => digit - b'0',
        _ => return Err(complaint("type", kind, "1 to 7")),
    };
    let order_id = match order_id {
        b"-1" => 0,
        _ => unsigned(order_id).ok_or_else(|| complaint("order id", order_id, "an integer, or -1"))?,
    };
    let size = integer(size)
        .filter(|size| *size >= 0)
        .ok_or_else(|| complaint("size", size, "an integer of 0 to 2^53 - 1"))?;
    let value = integer(price).ok_or_else(|| complaint("price", price, "an integer within 2^53"))?;
    if kind == 7 && !(-1..=1).contains(&value) {
        return Err(complaint("price", price, "-1, 0 or 1 in a row of type 7"));
    }
    let bid = match direction {
        b"1" => true,
        b"-1" => false,
        _ => return Err(complaint("direction", direction, "1 or -1")),
    };
    Ok(Message { line, since_midnight_ns, time_cut, kind, order_id, size, price: value, bid })
}

/// Nanoseconds, cut off, and whether something was cut.
fn seconds(text: &[u8]) -> Option<(i64, bool)> {
    let (whole, decimals) = match memchr::memchr(b'.', text) {
        Some(point) => (&text[..point], Some(&text[point + 1..])),
        None => (text, None),
    };
    let decimals = match decimals {
        Some(digits) if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) => return None,
        other => other.unwrap_or_default(),
    };
    let seconds = i64::try_from(unsigned(whole)?).ok().filter(|seconds| *seconds < SECONDS_MAX)?;
    let mut nanos = seconds;
    for place in 0..NANOS_DIGITS {
        nanos = nanos * 10 + decimals.get(place).map_or(0, |digit| i64::from(digit - b'0'));
    }
    Some((nanos, decimals.len() > NANOS_DIGITS))
}

fn unsigned(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// An integer within the magnitude of rule 1.2.
fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let value = i64::try_from(unsigned(digits)?).ok().filter(|value| *value < MAGNITUDE_LIMIT)?;
    Some(if negative { -value } else { value })
}

/// Rows of the order-book file that wait for their message.
#[derive(Debug, Default)]
pub(super) struct BookRows {
    rows: VecDeque<Parsed<()>>,
    values: VecDeque<i64>,
    /// Numbers in a row, 0 before the first.
    width: usize,
}

impl BookRows {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Levels a side.
    pub fn depth(&self) -> usize {
        self.width / 4
    }

    /// Reads a line of the order-book file.
    pub fn push(&mut self, number: u64, line: &Line<'_>) {
        let before = self.values.len();
        let parsed = text_of(number, line).and_then(|(text, cut)| {
            self.fields(text).map_err(|(found, expected)| {
                Box::new(Refused { error: Error::malformed(found, expected, Place::line(number)), cut })
            })
        });
        if parsed.is_err() {
            self.values.truncate(before);
        }
        self.rows.push_back(parsed);
    }

    fn fields(&mut self, text: &[u8]) -> Result<(), Complaint> {
        let mut count = 0;
        for field in text.split(|byte| *byte == b',') {
            let value = integer(field).filter(|value| count % 2 == 0 || *value >= 0);
            let Some(value) = value else {
                let name = if count % 2 == 0 { "price" } else { "size" };
                let expected =
                    if count % 2 == 0 { "an integer within 2^53" } else { "an integer of 0 to 2^53 - 1" };
                return Err((format!("{name} `{}`", String::from_utf8_lossy(field)), expected.to_owned()));
            };
            self.values.push_back(value);
            count += 1;
        }
        if self.width == 0 && count % 4 == 0 {
            if count / 4 > LEVELS_MAX {
                return Err((format!("{} levels", count / 4), format!("at most {LEVELS_MAX} levels a side")));
            }
            self.width = count;
        }
        if count == self.width {
            Ok(())
        } else if self.width == 0 {
            Err((format!("{count} fields"), "4 fields a level: ask price, size, bid price, size".to_owned()))
        } else {
            Err((format!("{count} fields"), format!("{} fields, as before", self.width)))
        }
    }

    /// Takes the next row into `sides`, bids and asks, best first, without levels that are not there.
    pub fn pop(&mut self, sides: &mut [Vec<Level>; 2]) -> Option<Parsed<()>> {
        let row = self.rows.pop_front()?;
        if let Err(refused) = row {
            return Some(Err(refused));
        }
        let [bids, asks] = sides;
        bids.clear();
        asks.clear();
        for (place, value) in self.values.drain(..self.width).enumerate() {
            match place % 4 {
                0 => asks.push(Level { price: value, size: 0 }),
                2 => bids.push(Level { price: value, size: 0 }),
                1 => set_size(asks, value),
                _ => set_size(bids, value),
            }
        }
        Some(Ok(()))
    }
}

/// Completes the level pushed last, or takes it away if it is none.
fn set_size(levels: &mut Vec<Level>, size: i64) {
    if let Some(last) = levels.last_mut() {
        last.size = size;
        if size == 0 || last.price.unsigned_abs() == EMPTY_PRICE {
            levels.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_1_1_times_are_cut_not_rounded() {
        for (text, expected) in [
            ("34200.017459617", Some((34_200_017_459_617, false))),
            ("43002.632812672004", Some((43_002_632_812_672, true))),
            ("0.9999999999", Some((999_999_999, true))),
            ("34200", Some((34_200_000_000_000, false))),
            ("34200.5", Some((34_200_500_000_000, false))),
            ("86400", None),
            ("34200.", None),
            (".5", None),
            ("-1.5", None),
            ("1e5", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_row_of_the_message_file_is_six_numbers() {
        let read = |text: &str| message(3, &Line::Whole(text.as_bytes()));
        let row = read("34200.5,4,11885113,21,2238100,-1").unwrap();
        assert_eq!(
            (row.kind, row.order_id, row.size, row.price, row.bid),
            (4, 11_885_113, 21, 2_238_100, false)
        );
        for text in [
            "",
            "1,1,1,1,1",
            "1,1,1,1,1,1,1",
            "x,1,1,1,1,1",
            "1,8,1,1,1,1",
            "1,0,1,1,1,1",
            "1,1,-2,1,1,1",
            "1,1,1,-1,1,1",
            "1,1,1,1,1.5,1",
            "1,1,1,1,9007199254740992,1",
            "1,1,1,1,1,0",
            "1,7,0,0,2,-1",
            " 1,1,1,1,1,1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
