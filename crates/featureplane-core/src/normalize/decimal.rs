//! Decimal text to integers, digit by digit, never through a binary float (rule 1.1).
//!
//! Twin of `featureplane/market/decimal.py`; the two agree on every text, and on what is wrong with it.

use std::fmt;

use super::digits;
use crate::event::MAGNITUDE_LIMIT;

/// Most decimals a price or a size may need.
pub const EXPONENT_MAX: u8 = 18;

/// Powers of ten that fit an `i64`.
pub(crate) const POW10: [i64; 19] = {
    let mut powers = [1i64; 19];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// What is wrong with a decimal text. Judged in this order, whatever comes first in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not `-?digits[.digits]`.
    Grammar,
    /// A digit of a price other than 0 beyond this many decimals.
    Fine(u8),
    /// The same of a size.
    FineSize(u8),
    /// A size below 0.
    Negative,
    /// At or beyond 2^53 in units of the last decimal (rule 1.2).
    Large,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grammar => write!(f, "decimal text `-?digits[.digits]`"),
            Self::Fine(places) => write!(f, "a price of at most {places} significant decimals"),
            Self::FineSize(places) => write!(f, "a size of at most {places} significant decimals"),
            Self::Negative => write!(f, "a size of at least 0"),
            Self::Large => write!(f, "a magnitude below 2^53 at the instrument's precision"),
        }
    }
}

/// How a source reads its prices and sizes.
pub trait Decimals {
    /// What a decimal becomes.
    type Value: Copy + std::fmt::Debug;

    /// A price; may be negative.
    ///
    /// # Errors
    ///
    /// The text is no decimal, too fine or too large.
    fn price(&self, text: &[u8]) -> Result<Self::Value, Fault>;

    /// A size; at least 0.
    ///
    /// # Errors
    ///
    /// As for a price, or it is negative.
    fn size(&self, text: &[u8]) -> Result<Self::Value, Fault>;

    /// A plain price at the beginning of `text` and what stands behind it; None if it is not plain.
    fn price_in<'a>(&self, text: &'a [u8]) -> Option<(Self::Value, &'a [u8])>;

    /// A plain size at the beginning of `text`, as [`Self::price_in`].
    fn size_in<'a>(&self, text: &'a [u8]) -> Option<(Self::Value, &'a [u8])>;
}

/// Integers in units of 10^-exponent: how events are made.
#[derive(Clone, Copy, Debug)]
pub struct Scaled {
    /// Decimals of prices, at most [`EXPONENT_MAX`].
    pub price_exponent: u8,
    /// Decimals of sizes, at most [`EXPONENT_MAX`].
    pub qty_exponent: u8,
}

impl Decimals for Scaled {
    type Value = i64;

    #[inline]
    fn price(&self, text: &[u8]) -> Result<i64, Fault> {
        match plain(text, self.price_exponent) {
            Some(value) => Ok(value),
            None => careful(text, self.price_exponent, false),
        }
    }

    #[inline]
    fn size(&self, text: &[u8]) -> Result<i64, Fault> {
        match plain(text, self.qty_exponent) {
            Some(value) => Ok(value),
            None => careful(text, self.qty_exponent, true),
        }
    }

    #[inline]
    fn price_in<'a>(&self, text: &'a [u8]) -> Option<(i64, &'a [u8])> {
        plain_in(text, self.price_exponent)
    }

    #[inline]
    fn size_in<'a>(&self, text: &'a [u8]) -> Option<(i64, &'a [u8])> {
        plain_in(text, self.qty_exponent)
    }
}

/// A decimal as it was written: `mantissa` x 10^-`places`, without trailing zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Value without its decimal point.
    pub mantissa: i64,
    /// Significant decimals.
    pub places: u8,
}

/// Decimals as written: how exponents are found in a first pass.
#[derive(Clone, Copy, Debug)]
pub struct AsWritten;

impl Decimals for AsWritten {
    type Value = Written;

    fn price(&self, text: &[u8]) -> Result<Written, Fault> {
        match written_in(text) {
            Some((value, [])) => Ok(value),
            _ => written(text, false),
        }
    }

    fn size(&self, text: &[u8]) -> Result<Written, Fault> {
        match written_in(text) {
            Some((value, [])) => Ok(value),
            _ => written(text, true),
        }
    }

    #[inline]
    fn price_in<'a>(&self, text: &'a [u8]) -> Option<(Written, &'a [u8])> {
        written_in(text)
    }

    #[inline]
    fn size_in<'a>(&self, text: &'a [u8]) -> Option<(Written, &'a [u8])> {
        written_in(text)
    }
}

/// A plain decimal at the beginning of a text.
struct Plain<'a> {
    whole: i64,
    decimals: i64,
    /// How many decimals were written.
    places: usize,
    rest: &'a [u8],
}

/// Digits that fit an `i64` whatever they are.
const DIGITS_SAFE: usize = 18;

/// The common case: no sign, few digits, in range. Anything else goes to [`careful`].
#[inline]
fn plain(text: &[u8], exponent: u8) -> Option<i64> {
    let (value, rest) = plain_in(text, exponent)?;
    rest.is_empty().then_some(value)
}

impl<'a> Plain<'a> {
    #[inline]
    fn read(text: &'a [u8]) -> Option<Self> {
        let (whole, digits) = digits::run(text, 0);
        let behind = text.get(digits..)?;
        let (decimals, places, rest) = match behind.split_first() {
            Some((b'.', decimals)) => {
                let (value, places) = digits::run(decimals, 0);
                (value, places, decimals.get(places..).filter(|_| places > 0)?)
            }
            _ => (0, 0, behind),
        };
        if digits == 0 || digits + places > DIGITS_SAFE {
            return None;
        }
        Some(Self {
            whole: i64::try_from(whole).ok()?,
            decimals: i64::try_from(decimals).ok()?,
            places,
            rest,
        })
    }
}

#[inline]
fn plain_in(text: &[u8], exponent: u8) -> Option<(i64, &[u8])> {
    let Plain { whole, decimals, places, rest } = Plain::read(text)?;
    let exponent = usize::from(exponent);
    let decimals = if places <= exponent {
        decimals * POW10[exponent - places]
    } else {
        let beyond = POW10[places - exponent];
        if decimals % beyond != 0 {
            return None;
        }
        decimals / beyond
    };
    let value = whole.checked_mul(POW10[exponent])?.checked_add(decimals)?;
    (value < MAGNITUDE_LIMIT).then_some((value, rest))
}

#[inline]
fn written_in(text: &[u8]) -> Option<(Written, &[u8])> {
    let Plain { whole, mut decimals, mut places, rest } = Plain::read(text)?;
    while places > 0 && decimals % 10 == 0 {
        (decimals, places) = (decimals / 10, places - 1);
    }
    let mantissa = whole.checked_mul(POW10[places])?.checked_add(decimals)?;
    let places = u8::try_from(places).ok()?;
    (mantissa < MAGNITUDE_LIMIT).then_some((Written { mantissa, places }, rest))
}

/// Sign, whole digits and decimals without trailing zeros; `None` if the grammar is broken.
fn parts(text: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, decimals) = match memchr::memchr(b'.', digits) {
        Some(point) => (&digits[..point], Some(&digits[point + 1..])),
        None => (digits, None),
    };
    let are_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    if !are_digits(whole) || !decimals.is_none_or(are_digits) {
        return None;
    }
    let decimals = decimals.unwrap_or_default();
    let significant = decimals.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    Some((negative, whole, &decimals[..significant]))
}

/// Digits to a number below `limit`, or `None`.
fn accumulate<'a>(digits: impl Iterator<Item = &'a u8>, limit: i64) -> Option<i64> {
    let mut value = 0i64;
    for digit in digits {
        value = value.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
    }
    (value < limit).then_some(value)
}

const fn too_fine(places: u8, size: bool) -> Fault {
    if size { Fault::FineSize(places) } else { Fault::Fine(places) }
}

#[cold]
fn careful(text: &[u8], exponent: u8, size: bool) -> Result<i64, Fault> {
    let (negative, whole, decimals) = parts(text).ok_or(Fault::Grammar)?;
    if decimals.len() > usize::from(exponent) {
        return Err(too_fine(exponent, size));
    }
    let zeros = usize::from(exponent) - decimals.len();
    let value =
        accumulate(whole.iter().chain(decimals).chain(std::iter::repeat_n(&b'0', zeros)), MAGNITUDE_LIMIT);
    if size && negative && value != Some(0) {
        return Err(Fault::Negative);
    }
    let value = value.ok_or(Fault::Large)?;
    Ok(if negative { -value } else { value })
}

#[cold]
fn written(text: &[u8], size: bool) -> Result<Written, Fault> {
    let (negative, whole, decimals) = parts(text).ok_or(Fault::Grammar)?;
    let places = u8::try_from(decimals.len()).ok().filter(|places| *places <= EXPONENT_MAX);
    let places = places.ok_or_else(|| too_fine(EXPONENT_MAX, size))?;
    let value = accumulate(whole.iter().chain(decimals), MAGNITUDE_LIMIT);
    if size && negative && value != Some(0) {
        return Err(Fault::Negative);
    }
    let mantissa = value.ok_or(Fault::Large)?;
    Ok(Written { mantissa: if negative { -mantissa } else { mantissa }, places })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALED: Scaled = Scaled { price_exponent: 2, qty_exponent: 3 };

    #[test]
    fn rule_1_1_text_is_read_digit_by_digit() {
        for (text, expected) in [
            ("0", 0),
            ("61800.20", 6_180_020),
            ("61800.2", 6_180_020),
            ("7", 700),
            ("-1.05", -105),
            ("-0.00", 0),
            ("1.2300000000000000000000000", 123),
            ("0000000000000000000000001", 100),
            ("90071992547409.91", 9_007_199_254_740_991),
        ] {
            assert_eq!(SCALED.price(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn rule_1_1_nothing_else_is_a_decimal() {
        for text in [
            "", "-", ".", "1.", ".5", "+1", "1e3", " 1", "1 ", "1,0", "--1", "1.2.3", "NaN", "\u{661}", "0x1",
        ] {
            assert_eq!(SCALED.price(text.as_bytes()), Err(Fault::Grammar), "{text}");
        }
    }

    #[test]
    fn rule_1_1_digits_beyond_the_exponent_are_zeros() {
        assert_eq!(SCALED.price(b"1.001"), Err(Fault::Fine(2)));
        assert_eq!(SCALED.size(b"1.001"), Ok(1001));
        assert_eq!(SCALED.size(b"1.00100"), Ok(1001));
    }

    #[test]
    fn rule_1_2_magnitudes_lie_below_two_to_the_53() {
        assert_eq!(SCALED.price(b"90071992547409.92"), Err(Fault::Large));
        assert_eq!(SCALED.price(b"-90071992547409.92"), Err(Fault::Large));
        assert_eq!(SCALED.price(b"99999999999999999999999999"), Err(Fault::Large));
        assert_eq!(SCALED.size(b"-0.001"), Err(Fault::Negative));
        assert_eq!(SCALED.size(b"-0"), Ok(0));
    }

    #[test]
    fn a_written_decimal_keeps_its_significant_places() {
        assert_eq!(AsWritten.price(b"2683.80000000"), Ok(Written { mantissa: 26838, places: 1 }));
        assert_eq!(AsWritten.price(b"100"), Ok(Written { mantissa: 100, places: 0 }));
        assert_eq!(AsWritten.size(b"0.0000000000000000001"), Err(Fault::FineSize(18)));
    }
}
