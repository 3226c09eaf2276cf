//! What one line of JSON says, before anything is judged.
//!
//! The library validates and cuts; decimals go from its borrowed text straight to integers, and levels
//! into two reused lists. Nothing here knows what a field means.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::levels::{List, Sides, visit_plain, visit_scalars};
use crate::normalize::decimal::Decimals;

/// Lists and objects inside each other; a message of the venue has four.
pub(super) const NESTING_MAX: u8 = 16;

/// The keys a message may have that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Key {
    EventType,
    EventTime,
    TradeTime,
    Symbol,
    SymbolName,
    FirstId,
    LastId,
    PreviousId,
    SnapshotId,
    TradeId,
    FirstTradeId,
    LastTradeId,
    Price,
    Qty,
    BidQty,
    AskQty,
    Maker,
    Market,
    Bid,
    Ask,
    Bids,
    Asks,
    Data,
    Other,
}

const KEYS: usize = Key::Data as usize;

static ABSENT: Value<'static> = Value::Absent;

impl Key {
    /// Every key that is read, in the order of their places.
    pub(super) const ALL: [Self; KEYS] = [
        Self::EventType,
        Self::EventTime,
        Self::TradeTime,
        Self::Symbol,
        Self::SymbolName,
        Self::FirstId,
        Self::LastId,
        Self::PreviousId,
        Self::SnapshotId,
        Self::TradeId,
        Self::FirstTradeId,
        Self::LastTradeId,
        Self::Price,
        Self::Qty,
        Self::BidQty,
        Self::AskQty,
        Self::Maker,
        Self::Market,
        Self::Bid,
        Self::Ask,
        Self::Bids,
        Self::Asks,
    ];

    /// Whether its text can only be a decimal.
    pub(super) const fn is_decimal(self) -> bool {
        matches!(self, Self::Price | Self::Qty | Self::BidQty | Self::AskQty | Self::Bid | Self::Ask)
    }

    /// Whether levels may stand there.
    pub(super) const fn is_side(self) -> bool {
        matches!(self, Self::Bid | Self::Ask | Self::Bids | Self::Asks)
    }

    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"e" => Self::EventType,
            b"E" => Self::EventTime,
            b"T" => Self::TradeTime,
            b"s" => Self::Symbol,
            b"symbol" => Self::SymbolName,
            b"U" => Self::FirstId,
            b"u" => Self::LastId,
            b"pu" => Self::PreviousId,
            b"lastUpdateId" => Self::SnapshotId,
            b"t" => Self::TradeId,
            b"f" => Self::FirstTradeId,
            b"l" => Self::LastTradeId,
            b"p" => Self::Price,
            b"q" => Self::Qty,
            b"B" => Self::BidQty,
            b"A" => Self::AskQty,
            b"m" => Self::Maker,
            b"X" => Self::Market,
            b"b" => Self::Bid,
            b"a" => Self::Ask,
            b"bids" => Self::Bids,
            b"asks" => Self::Asks,
            b"data" => Self::Data,
            _ => Self::Other,
        }
    }

    /// The key as the venue writes it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::EventType => "e",
            Self::EventTime => "E",
            Self::TradeTime => "T",
            Self::Symbol => "s",
            Self::SymbolName => "symbol",
            Self::FirstId => "U",
            Self::LastId => "u",
            Self::PreviousId => "pu",
            Self::SnapshotId => "lastUpdateId",
            Self::TradeId => "t",
            Self::FirstTradeId => "f",
            Self::LastTradeId => "l",
            Self::Price => "p",
            Self::Qty => "q",
            Self::BidQty => "B",
            Self::AskQty => "A",
            Self::Maker => "m",
            Self::Market => "X",
            Self::Bid => "b",
            Self::Ask => "a",
            Self::Bids => "bids",
            Self::Asks => "asks",
            Self::Data => "data",
            Self::Other => "other",
        }
    }
}

/// One value, as far as it can matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Value<'de> {
    #[default]
    Absent,
    /// UTF-8.
    Text(Cow<'de, [u8]>),
    Id(u64),
    Number,
    Bool(bool),
    Null,
    List,
    Object,
}

impl Value<'_> {
    /// The same value for a while.
    pub(super) fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::Absent => Value::Absent,
            Self::Id(id) => Value::Id(*id),
            Self::Number => Value::Number,
            Self::Bool(value) => Value::Bool(*value),
            Self::Null => Value::Null,
            Self::List => Value::List,
            Self::Object => Value::Object,
        }
    }

    /// The value in words, for an error.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Absent => "nothing".to_owned(),
            Self::Text(text) => quoted(text),
            Self::Id(id) => id.to_string(),
            Self::Number => "another number".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Null => "null".to_owned(),
            Self::List => "a list".to_owned(),
            Self::Object => "an object".to_owned(),
        }
    }
}

/// The first 40 characters, in quotes.
pub(super) fn quoted(text: &[u8]) -> String {
    format!("\"{}\"", printable(text).chars().take(40).collect::<String>())
}

/// Text as it can be shown on a terminal, whatever it is.
pub(super) fn printable(text: &[u8]) -> String {
    let shown = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    String::from_utf8_lossy(text).chars().map(shown).collect()
}

/// The fields of one message by key. A key given twice counts the last time.
#[derive(Debug, Default)]
pub(super) struct Message<'de> {
    values: [Value<'de>; KEYS],
    /// Whether it came in an envelope.
    pub(super) enveloped: bool,
}

impl<'de> Message<'de> {
    pub(super) fn new(enveloped: bool) -> Self {
        Self { enveloped, ..Self::default() }
    }

    /// The value of a key; keys that are not read have none.
    pub(super) fn get(&self, key: Key) -> &Value<'de> {
        self.values.get(key as usize).unwrap_or(&ABSENT)
    }

    pub(super) fn set(&mut self, key: Key, value: Value<'de>) {
        if let Some(place) = self.values.get_mut(key as usize) {
            *place = value;
        }
    }
}

/// Reads one JSON object into a [`Message`], its levels into [`Sides`].
pub(super) struct Reading<'a, D: Decimals> {
    pub(super) decimals: &'a D,
    pub(super) sides: &'a mut Sides<D::Value>,
}

impl<'de, D: Decimals> DeserializeSeed<'de> for Reading<'_, D> {
    type Value = Message<'de>;

    fn deserialize<T: Deserializer<'de>>(self, json: T) -> Result<Message<'de>, T::Error> {
        let mut message = Message::default();
        json.deserialize_map(Fields { reading: self, message: &mut message, top: true })?;
        Ok(message)
    }
}

struct Fields<'a, 'r, 'de, D: Decimals> {
    reading: Reading<'r, D>,
    message: &'a mut Message<'de>,
    top: bool,
}

impl<'de, D: Decimals> Visitor<'de> for Fields<'_, '_, 'de, D> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let depth = if self.top { 1 } else { 2 };
        while let Some(key) = map.next_key_seed(Name)? {
            match key {
                Key::Data if self.top => {
                    let reading = Reading { decimals: self.reading.decimals, sides: self.reading.sides };
                    map.next_value_seed(Envelope { reading, message: self.message })?;
                }
                _ if self.message.enveloped && self.top => map.next_value_seed(Skip(depth))?,
                Key::Other | Key::Data => map.next_value_seed(Skip(depth))?,
                Key::Bid | Key::Ask | Key::Bids | Key::Asks => {
                    let levels = self.reading.sides.anew(key);
                    let value =
                        map.next_value_seed(List { decimals: self.reading.decimals, levels, depth })?;
                    self.message.set(key, value);
                }
                _ => {
                    let value = map.next_value_seed(Any(depth))?;
                    self.message.set(key, value);
                }
            }
        }
        Ok(())
    }
}

/// Reads `data` of an envelope; what stood beside it is forgotten.
struct Envelope<'a, 'r, 'de, D: Decimals> {
    reading: Reading<'r, D>,
    message: &'a mut Message<'de>,
}

impl<'de, D: Decimals> DeserializeSeed<'de> for Envelope<'_, '_, 'de, D> {
    type Value = ();

    fn deserialize<T: Deserializer<'de>>(self, json: T) -> Result<(), T::Error> {
        *self.message = Message::new(true);
        json.deserialize_any(self)
    }
}

impl<'de, D: Decimals> Visitor<'de> for Envelope<'_, '_, 'de, D> {
    type Value = ();

    visit_plain! {
        _value visit_bool(bool) => ();
        _value visit_u64(u64) => ();
        _value visit_i64(i64) => ();
        _value visit_f64(f64) => ();
        _value visit_str(&str) => ();
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, seq: S) -> Result<(), S::Error> {
        skip_list(seq, 2)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<(), M::Error> {
        Fields { reading: self.reading, message: self.message, top: false }.visit_map(map)
    }
}

/// A key.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Key;

    fn deserialize<T: Deserializer<'de>>(self, json: T) -> Result<Key, T::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        Ok(Key::of(name.as_bytes()))
    }
}

/// Any value, at a depth; of lists and objects only that they are some.
pub(super) struct Any(pub(super) u8);

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Value<'de>;

    fn deserialize<T: Deserializer<'de>>(self, json: T) -> Result<Value<'de>, T::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Value<'de>;

    visit_scalars!('de);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, seq: S) -> Result<Value<'de>, S::Error> {
        skip_list(seq, self.0 + 1).map(|()| Value::List)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Value<'de>, M::Error> {
        skip_object(map, self.0 + 1).map(|()| Value::Object)
    }
}

/// A value nobody reads: checked, bounded, forgotten.
pub(super) struct Skip(pub(super) u8);

impl<'de> DeserializeSeed<'de> for Skip {
    type Value = ();

    fn deserialize<T: Deserializer<'de>>(self, json: T) -> Result<(), T::Error> {
        Any(self.0).deserialize(json).map(|_| ())
    }
}

pub(super) fn skip_list<'de, S: SeqAccess<'de>>(mut seq: S, depth: u8) -> Result<(), S::Error> {
    if depth > NESTING_MAX {
        return Err(S::Error::custom("nested too deeply"));
    }
    while seq.next_element_seed(Skip(depth))?.is_some() {}
    Ok(())
}

pub(super) fn skip_object<'de, M: MapAccess<'de>>(mut map: M, depth: u8) -> Result<(), M::Error> {
    if depth > NESTING_MAX {
        return Err(M::Error::custom("nested too deeply"));
    }
    while map.next_key_seed(Name)?.is_some() {
        map.next_value_seed(Skip(depth))?;
    }
    Ok(())
}
