//! What can go wrong, with the values a caller needs to say so.
//!
//! Sentences are composed in one place, `featureplane/errors.py`; here are only the facts.

use std::fmt;

/// Where in the input something was found. Lines and events count from 1, bytes from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Line of a text source, from 1.
    pub line: Option<u64>,
    /// Byte offset, from 0.
    pub offset: Option<u64>,
}

impl Place {
    /// A line of a text source, from 1.
    #[must_use]
    pub const fn line(line: u64) -> Self {
        Self { line: Some(line), offset: None }
    }

    /// A byte offset of a binary source, from 0.
    #[must_use]
    pub const fn offset(offset: u64) -> Self {
        Self { line: None, offset: Some(offset) }
    }
}

/// Every error the core raises. A new one must be named in the binding before it compiles there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Input that no rule can turn into an event.
    Malformed {
        /// What was found, shortened to 120 characters.
        found: String,
        /// What was expected instead.
        expected: String,
        /// Line or offset, if the source has one.
        place: Place,
    },
    /// A file whose packing is cut short or damaged.
    Damaged {
        /// What was found.
        found: String,
        /// What was expected instead.
        expected: String,
    },
    /// An order-book file that its messages do not explain.
    BookMismatch {
        /// Line of both files, from 1.
        line: u64,
        /// Whether the bid side differs, else the ask side.
        bid: bool,
        /// Price of the level, scaled.
        price: i64,
        /// Size of the level in the order-book file, scaled; 0 if it is not there.
        expected: i64,
        /// Size of the level by the messages, scaled; 0 if it is not there.
        got: i64,
    },
    /// An event names a symbol nobody declared.
    UnknownSymbol {
        /// The id that was not found.
        symbol_id: u32,
    },
    /// Ids are missing in a stream opened with `on_gap="refuse"`.
    SequenceGap {
        /// The instrument.
        symbol: String,
        /// `book`, `trade` or `status`.
        channel: &'static str,
        /// Last id applied.
        expected: u64,
        /// Id before which the message begins.
        got: u64,
    },
    /// A plan this build cannot run.
    Plan {
        /// What was found.
        found: String,
        /// What was expected instead.
        expected: String,
    },
    /// A frame of another feature set.
    FeatureSetMismatch {
        /// First eight bytes of the fingerprint of the set that reads.
        expected: [u8; 8],
        /// Those in the frame.
        got: [u8; 8],
    },
    /// Saved state that does not belong to this engine.
    State {
        /// What was found.
        found: String,
        /// What was expected instead.
        expected: String,
    },
}

impl Error {
    /// Malformed input at `place`; `found` is shortened so that a megabyte of junk stays a line.
    pub fn malformed(found: impl Into<String>, expected: impl Into<String>, place: Place) -> Self {
        let mut found: String = found.into();
        if let Some((cut, _)) = found.char_indices().nth(120) {
            found.truncate(cut);
            found.push('…');
        }
        Self::Malformed { found, expected: expected.into(), place }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { found, expected, place } => {
                if let Some(line) = place.line {
                    write!(f, "line {line}: ")?;
                }
                if let Some(offset) = place.offset {
                    write!(f, "offset {offset}: ")?;
                }
                write!(f, "found {found}, expected {expected}")
            }
            Self::BookMismatch { line, bid, price, expected, got } => {
                let side = if *bid { "bid" } else { "ask" };
                write!(f, "line {line}: {side} {price}: found size {got}, expected {expected}")
            }
            Self::UnknownSymbol { symbol_id } => write!(f, "unknown symbol id {symbol_id}"),
            Self::SequenceGap { symbol, channel, expected, got } => {
                write!(f, "{symbol}: {channel} ids ({expected}, {got}] are missing")
            }
            Self::FeatureSetMismatch { expected, got } => {
                write!(f, "expected feature set fingerprint {expected:02x?}, got {got:02x?}")
            }
            Self::Damaged { found, expected }
            | Self::Plan { found, expected }
            | Self::State { found, expected } => {
                write!(f, "found {found}, expected {expected}")
            }
        }
    }
}

impl std::error::Error for Error {}
