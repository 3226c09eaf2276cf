//! Saved state: words of eight bytes, little-endian, the same bytes as `features/kernels/state.py`.

use std::ops::Range;

use zerocopy::IntoBytes;

use crate::error::Error;

/// The two words of a wide number, the low one first.
#[allow(clippy::cast_possible_truncation, reason = "the two halves")]
#[inline]
pub(crate) const fn words_of(value: i128) -> [u64; 2] {
    let bits = value.cast_unsigned();
    [bits as u64, (bits >> 64) as u64]
}

/// Collects the words of a saved state.
#[derive(Debug, Default)]
pub struct StateWriter {
    bytes: Vec<u8>,
    /// Bytes that were there and have been handed on.
    gone: usize,
}

impl StateWriter {
    /// An empty state.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty state in room that was used before.
    #[must_use]
    pub fn over(mut room: Vec<u8>) -> Self {
        room.clear();
        Self { bytes: room, gone: 0 }
    }

    /// One unsigned word.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// One signed word.
    pub fn i64(&mut self, value: i64) {
        self.u64(value.cast_unsigned());
    }

    /// The bits of a float.
    pub fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    /// Two words, the low one first.
    pub fn i128(&mut self, value: i128) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Several words at once, which costs little more than one.
    #[inline]
    pub(crate) fn words<const N: usize>(&mut self, words: [u64; N]) {
        self.bytes.extend_from_slice(words.map(u64::to_le).as_bytes());
    }

    /// Several words for each number of a run.
    #[inline]
    pub(crate) fn run<const N: usize>(&mut self, of: Range<i64>, words: impl Fn(i64) -> [u64; N]) {
        if of.end - of.start == 1 {
            return self.words(words(of.start));
        }
        self.bytes.reserve(8 * N * usize::try_from(of.end - of.start).unwrap_or(0));
        of.for_each(|number| self.words(words(number)));
    }

    /// A count, as one word.
    pub fn count(&mut self, value: usize) {
        self.u64(value as u64);
    }

    /// A count that is known behind what it counts.
    pub(crate) fn counted(&mut self, write: impl FnOnce(&mut Self) -> usize) {
        let at = self.bytes.len();
        self.u64(0);
        let count = write(self) as u64;
        self.bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
    }

    /// 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.u64(u64::from(value));
    }

    /// 0, or 1 and the value.
    pub fn option_i64(&mut self, value: Option<i64>) {
        self.bool(value.is_some());
        if let Some(value) = value {
            self.i64(value);
        }
    }

    /// Raw bytes; the caller keeps them a multiple of eight.
    pub fn raw(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len().is_multiple_of(8));
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes so far.
    pub(crate) const fn len(&self) -> usize {
        self.gone + self.bytes.len()
    }

    /// Hands on what is held, if that is so many bytes.
    #[inline]
    pub(crate) fn spill(&mut self, least: usize, to: &mut impl FnMut(&[u8])) {
        if self.bytes.len() >= least {
            to(&self.bytes);
            self.gone += self.bytes.len();
            self.bytes.clear();
        }
    }

    /// The collected bytes that were not handed on.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads the words of a saved state; every read is checked.
#[derive(Debug)]
pub struct StateReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> StateReader<'a> {
    /// Reads from the first word.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// An error about what stands at the present place.
    pub fn refuse(&self, found: impl Into<String>, expected: impl Into<String>) -> Error {
        Error::State { found: format!("{} at byte {}", found.into(), self.at), expected: expected.into() }
    }

    /// `count` raw bytes.
    ///
    /// # Errors
    /// The state ends before them.
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(self.refuse("the end of the state", format!("{count} bytes more")));
        };
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    /// One unsigned word.
    ///
    /// # Errors
    /// The state ends before it; so for every other read.
    pub fn u64(&mut self) -> Result<u64, Error> {
        let mut word = [0; 8];
        word.copy_from_slice(self.raw(8)?);
        Ok(u64::from_le_bytes(word))
    }

    /// One signed word.
    ///
    /// # Errors
    /// See [`Self::u64`].
    pub fn i64(&mut self) -> Result<i64, Error> {
        self.u64().map(u64::cast_signed)
    }

    /// The bits of a float.
    ///
    /// # Errors
    /// See [`Self::u64`].
    pub fn f64(&mut self) -> Result<f64, Error> {
        self.u64().map(f64::from_bits)
    }

    /// Two words, the low one first.
    ///
    /// # Errors
    /// See [`Self::u64`].
    pub fn i128(&mut self) -> Result<i128, Error> {
        let mut words = [0; 16];
        words.copy_from_slice(self.raw(16)?);
        Ok(i128::from_le_bytes(words))
    }

    /// A count that may be at most `most`.
    ///
    /// # Errors
    /// It is larger, or the state ends before it.
    pub fn count(&mut self, most: usize) -> Result<usize, Error> {
        let value = self.u64()?;
        usize::try_from(value)
            .ok()
            .filter(|&value| value <= most)
            .ok_or_else(|| self.refuse(format!("a count of {value}"), format!("at most {most}")))
    }

    /// 0 or 1.
    ///
    /// # Errors
    /// It is neither, or the state ends before it.
    pub fn bool(&mut self) -> Result<bool, Error> {
        match self.u64()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.refuse(format!("the word {other}"), "0 or 1")),
        }
    }

    /// 0, or 1 and the value.
    ///
    /// # Errors
    /// See [`Self::bool`].
    pub fn option_i64(&mut self) -> Result<Option<i64>, Error> {
        Ok(if self.bool()? { Some(self.i64()?) } else { None })
    }

    /// Whether every word has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }
}
