//! Lists of levels, read from borrowed text straight to integers into reused lists.
//!
//! A level that cannot be read does not stop the line: whose symbol it is may stand behind it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::message::{Key, Skip, Value, quoted, skip_list, skip_object};
use crate::normalize::decimal::{Decimals, Fault};

/// The visits of values that need no further reading.
macro_rules! visit_plain {
    ($($value:ident $name:ident($type:ty) => $result:expr;)*) => {
        $(fn $name<E: serde::de::Error>(self, $value: $type) -> Result<Self::Value, E> { Ok($result) })*
    };
}

pub(super) use visit_plain;

/// The visits of values that are kept as they are.
macro_rules! visit_scalars {
    ($de:lifetime) => {
        visit_plain! {
            value visit_bool(bool) => Value::Bool(value);
            value visit_u64(u64) => Value::Id(value);
            _value visit_i64(i64) => Value::Number;
            _value visit_f64(f64) => Value::Number;
            value visit_borrowed_str(&$de str) => Value::Text(Cow::Borrowed(value.as_bytes()));
            value visit_str(&str) => Value::Text(Cow::Owned(value.as_bytes().to_vec()));
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Value::Null)
        }
    };
}
pub(super) use visit_scalars;

/// What is wrong with the first bad level of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadLevel {
    /// Its number, from 1.
    pub(super) number: usize,
    pub(super) found: String,
    pub(super) expected: String,
}

/// The levels of one side.
#[derive(Debug)]
pub(super) struct Levels<V> {
    pub(super) rows: Vec<(V, V)>,
    pub(super) bad: Option<BadLevel>,
}

/// Where levels are collected; reused from line to line.
#[derive(Debug)]
pub(super) struct Sides<V> {
    /// Of `b`, `a`, `bids`, `asks`.
    lists: [Levels<V>; 4],
}

impl<V> Default for Sides<V> {
    fn default() -> Self {
        Self { lists: std::array::from_fn(|_| Levels { rows: Vec::new(), bad: None }) }
    }
}

impl<V> Sides<V> {
    pub(super) fn of(&self, key: Key) -> &Levels<V> {
        &self.lists[Self::index(key)]
    }

    /// The list of `key`, emptied.
    pub(super) fn anew(&mut self, key: Key) -> &mut Levels<V> {
        let levels = &mut self.lists[Self::index(key)];
        levels.rows.clear();
        levels.bad = None;
        levels
    }

    fn index(key: Key) -> usize {
        match key {
            Key::Bid => 0,
            Key::Ask => 1,
            Key::Bids => 2,
            _ => 3,
        }
    }
}

/// A list of levels, or any other value in its place.
pub(super) struct List<'a, D: Decimals> {
    pub(super) decimals: &'a D,
    pub(super) levels: &'a mut Levels<D::Value>,
    pub(super) depth: u8,
}

impl<'de, D: Decimals> DeserializeSeed<'de> for List<'_, D> {
    type Value = Value<'de>;

    fn deserialize<T: Deserializer<'de>>(self, json: T) -> Result<Value<'de>, T::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, D: Decimals> Visitor<'de> for List<'_, D> {
    type Value = Value<'de>;

    visit_scalars!('de);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of levels")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Value<'de>, M::Error> {
        skip_object(map, self.depth + 1).map(|()| Value::Object)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Value<'de>, S::Error> {
        let mut number = 0;
        while let Some(level) =
            seq.next_element_seed(Level { decimals: self.decimals, depth: self.depth + 1 })?
        {
            number += 1;
            match level {
                Ok(row) => self.levels.rows.push(row),
                Err((found, expected)) => {
                    self.levels.bad.get_or_insert(BadLevel { number, found, expected });
                }
            }
        }
        Ok(Value::List)
    }
}

/// One level: [price, size].
struct Level<'a, D> {
    decimals: &'a D,
    depth: u8,
}

type LevelRead<V> = Result<(V, V), (String, String)>;

const LEVEL_EXPECTED: &str = "a level [price, size]";

impl<'de, D: Decimals> DeserializeSeed<'de> for Level<'_, D> {
    type Value = LevelRead<D::Value>;

    fn deserialize<T: Deserializer<'de>>(self, json: T) -> Result<Self::Value, T::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, D: Decimals> Visitor<'de> for Level<'_, D> {
    type Value = LevelRead<D::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LEVEL_EXPECTED)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        let number = |which| Number { decimals: self.decimals, depth: self.depth, which };
        let price = seq.next_element_seed(number(Which::Price))?;
        let size = seq.next_element_seed(number(Which::Size))?;
        let longer = seq.next_element_seed(Skip(self.depth))?.is_some();
        if longer {
            while seq.next_element_seed(Skip(self.depth))?.is_some() {}
        }
        Ok(match (price, size) {
            (Some(price), Some(size)) if !longer => price.and_then(|price| Ok((price, size?))),
            _ => Err(not_a_level("another list")),
        })
    }

    visit_plain! {
        _value visit_bool(bool) => Err(not_a_level("true or false"));
        _value visit_u64(u64) => Err(not_a_level("a number"));
        _value visit_i64(i64) => Err(not_a_level("a number"));
        _value visit_f64(f64) => Err(not_a_level("a number"));
        _value visit_str(&str) => Err(not_a_level("text"));
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Err(not_a_level("null")))
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
        skip_object(map, self.depth + 1).map(|()| Err(not_a_level("an object")))
    }
}

fn not_a_level(found: &str) -> (String, String) {
    (found.to_owned(), LEVEL_EXPECTED.to_owned())
}

#[derive(Clone, Copy)]
enum Which {
    Price,
    Size,
}

/// One decimal of a level.
struct Number<'a, D> {
    decimals: &'a D,
    depth: u8,
    which: Which,
}

type NumberRead<V> = Result<V, (String, String)>;

impl<'de, D: Decimals> DeserializeSeed<'de> for Number<'_, D> {
    type Value = NumberRead<D::Value>;

    fn deserialize<T: Deserializer<'de>>(self, json: T) -> Result<Self::Value, T::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, D: Decimals> Visitor<'de> for Number<'_, D> {
    type Value = NumberRead<D::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("decimal text")
    }

    #[inline]
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let read = match self.which {
            Which::Price => self.decimals.price(text.as_bytes()),
            Which::Size => self.decimals.size(text.as_bytes()),
        };
        Ok(read.map_err(|fault| (quoted(text.as_bytes()), fault.to_string())))
    }

    visit_plain! {
        _value visit_bool(bool) => Err(not_a_decimal("true or false"));
        _value visit_u64(u64) => Err(not_a_decimal("a number"));
        _value visit_i64(i64) => Err(not_a_decimal("a number"));
        _value visit_f64(f64) => Err(not_a_decimal("a number"));
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Err(not_a_decimal("null")))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, seq: S) -> Result<Self::Value, S::Error> {
        skip_list(seq, self.depth + 1).map(|()| Err(not_a_decimal("a list")))
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
        skip_object(map, self.depth + 1).map(|()| Err(not_a_decimal("an object")))
    }
}

fn not_a_decimal(found: &str) -> (String, String) {
    (found.to_owned(), Fault::Grammar.to_string())
}
