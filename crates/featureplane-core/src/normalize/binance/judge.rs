//! What a message means, or why it means nothing (rules 1.2, 2.3, 2.5, 3.2).
//!
//! Twin of `featureplane/market/sources/binance_messages.py`: fields are judged in the same order and
//! complaints are the same words.

use super::Market;
use super::levels::Sides;
use super::message::{Key, Message, Value};
use crate::event::{TIME_LIMIT_NS, side};
use crate::normalize::decimal::Decimals;

const NANOS_PER_MS: i64 = 1_000_000;

/// What kind of message a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Diff,
    Trade,
    Aggregate,
    Quote,
    Snapshot,
    /// Of another stream, or an answer of the connection.
    Foreign,
}

impl Class {
    pub(super) fn of(message: &Message<'_>) -> Self {
        let given = |key| *message.get(key) != Value::Absent;
        match message.get(Key::EventType) {
            Value::Text(kind) => match kind.as_ref() {
                b"depthUpdate" => Self::Diff,
                b"trade" => Self::Trade,
                b"aggTrade" => Self::Aggregate,
                b"bookTicker" => Self::Quote,
                _ => Self::Foreign,
            },
            Value::Absent if given(Key::SnapshotId) => {
                // WHY: in an envelope it is a partial book of a few levels, which restarts nothing.
                if message.enveloped { Self::Foreign } else { Self::Snapshot }
            }
            Value::Absent if given(Key::LastId) && given(Key::BidQty) && given(Key::AskQty) => Self::Quote,
            _ => Self::Foreign,
        }
    }

    /// Whether a message lost is a hole in the book.
    pub(super) fn is_book(self) -> bool {
        matches!(self, Self::Diff | Self::Snapshot)
    }

    pub(super) fn symbol_key(self) -> Key {
        if self == Self::Snapshot { Key::SymbolName } else { Key::Symbol }
    }
}

/// A field that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) found: String,
    pub(super) expected: String,
}

/// A complaint, out of the way of the common case: errors are large and rare.
pub(super) type Judged<T> = Result<T, Box<Complaint>>;

pub(super) fn complain<T>(key: Key, message: &Message<'_>, expected: impl Into<String>) -> Judged<T> {
    let found = format!("`{}`: {}", key.name(), message.get(key).shown());
    Err(Box::new(Complaint { found, expected: expected.into() }))
}

/// A message that can become events.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning<V> {
    Diff { last: u64, previous: u64, time: i64 },
    Trade { last: u64, previous: u64, time: i64, price: V, qty: V, side: u8, market: bool },
    Quote { last: u64, time: i64, bid: (V, V), ask: (V, V) },
    Snapshot { last: u64, time: i64 },
}

impl<V> Meaning<V> {
    pub(super) fn time(&self) -> i64 {
        match self {
            Self::Diff { time, .. }
            | Self::Trade { time, .. }
            | Self::Quote { time, .. }
            | Self::Snapshot { time, .. } => *time,
        }
    }
}

pub(super) struct Judge<'a, D: Decimals> {
    pub(super) decimals: &'a D,
    pub(super) market: Market,
    pub(super) sides: &'a Sides<D::Value>,
}

impl<D: Decimals> Judge<'_, D> {
    /// What a message of a class other than `Foreign` means.
    pub(super) fn meaning(&self, class: Class, message: &Message<'_>) -> Judged<Meaning<D::Value>> {
        match class {
            Class::Diff => self.diff(message),
            Class::Trade => self.trade(message, Key::TradeId, Key::TradeId),
            Class::Aggregate => self.trade(message, Key::FirstTradeId, Key::LastTradeId),
            Class::Quote => Ok(Meaning::Quote {
                last: id(message, Key::LastId)?,
                bid: (self.price(message, Key::Bid)?, self.size(message, Key::BidQty)?),
                ask: (self.price(message, Key::Ask)?, self.size(message, Key::AskQty)?),
                time: time(message)?.unwrap_or(0),
            }),
            Class::Snapshot | Class::Foreign => {
                let last = id(message, Key::SnapshotId)?;
                let time = time(message)?.unwrap_or(0);
                self.levels(message, Key::Bids)?;
                self.levels(message, Key::Asks)?;
                Ok(Meaning::Snapshot { last, time })
            }
        }
    }

    fn diff(&self, message: &Message<'_>) -> Judged<Meaning<D::Value>> {
        let first = id(message, Key::FirstId)?;
        let last = id(message, Key::LastId)?;
        let previous = match self.market {
            Market::Spot if *message.get(Key::PreviousId) == Value::Absent => first - 1,
            Market::Spot => {
                return complain(Key::PreviousId, message, "a diff of the spot market, without it");
            }
            Market::Futures => match message.get(Key::PreviousId) {
                Value::Id(previous) => *previous,
                _ => return complain(Key::PreviousId, message, "an id"),
            },
        };
        if last < first || last < previous {
            return complain(Key::LastId, message, "an id not below the first one of the message");
        }
        let time = event_time(message)?;
        self.levels(message, Key::Bid)?;
        self.levels(message, Key::Ask)?;
        Ok(Meaning::Diff { last, previous, time })
    }

    fn trade(&self, message: &Message<'_>, first: Key, last: Key) -> Judged<Meaning<D::Value>> {
        let first_id = id(message, first)?;
        let last_id = id(message, last)?;
        if last_id < first_id {
            return complain(last, message, "an id not below the first one of the message");
        }
        let price = self.price(message, Key::Price)?;
        let qty = self.size(message, Key::Qty)?;
        let side = match message.get(Key::Maker) {
            Value::Bool(true) => side::ASK,
            Value::Bool(false) => side::BID,
            _ => return complain(Key::Maker, message, "true or false"),
        };
        let market = match message.get(Key::Market) {
            Value::Absent => true,
            Value::Text(kind) => **kind == *b"MARKET",
            _ => return complain(Key::Market, message, "text"),
        };
        let time = event_time(message)?;
        Ok(Meaning::Trade { last: last_id, previous: first_id - 1, time, price, qty, side, market })
    }

    fn price(&self, message: &Message<'_>, key: Key) -> Judged<D::Value> {
        let Value::Text(text) = message.get(key) else { return complain(key, message, "decimal text") };
        self.decimals.price(text).or_else(|fault| complain(key, message, fault.to_string()))
    }

    fn size(&self, message: &Message<'_>, key: Key) -> Judged<D::Value> {
        let Value::Text(text) = message.get(key) else { return complain(key, message, "decimal text") };
        self.decimals.size(text).or_else(|fault| complain(key, message, fault.to_string()))
    }

    fn levels(&self, message: &Message<'_>, key: Key) -> Judged<()> {
        if *message.get(key) != Value::List {
            return complain(key, message, "a list of levels");
        }
        match &self.sides.of(key).bad {
            None => Ok(()),
            Some(bad) => Err(Box::new(Complaint {
                found: format!("`{}` level {}: {}", key.name(), bad.number, bad.found),
                expected: bad.expected.clone(),
            })),
        }
    }
}

fn id(message: &Message<'_>, key: Key) -> Judged<u64> {
    match message.get(key) {
        Value::Id(id) if *id > 0 => Ok(*id),
        _ => complain(key, message, "an id of at least 1"),
    }
}

/// Transaction time where there is one, else event time, in nanoseconds (rule 2.3).
fn time(message: &Message<'_>) -> Judged<Option<i64>> {
    let key = if *message.get(Key::TradeTime) == Value::Absent { Key::EventTime } else { Key::TradeTime };
    match message.get(key) {
        Value::Absent => Ok(None),
        Value::Id(ms) => match i64::try_from(*ms).ok().and_then(|ms| ms.checked_mul(NANOS_PER_MS)) {
            Some(nanos) if nanos < TIME_LIMIT_NS => Ok(Some(nanos)),
            _ => complain(key, message, "milliseconds since 1970"),
        },
        _ => complain(key, message, "milliseconds since 1970"),
    }
}

fn event_time(message: &Message<'_>) -> Judged<i64> {
    match time(message)? {
        Some(nanos) => Ok(nanos),
        None => complain(Key::EventTime, message, "milliseconds since 1970"),
    }
}
