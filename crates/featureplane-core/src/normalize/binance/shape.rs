//! Lines of a form that was read before.
//!
//! A stream repeats itself: between two messages only ids, times, prices and sizes differ. A [`Shape`] is
//! learned from a line that the JSON library has read and the rules have accepted: its text, cut where values
//! stand. A line that has the same text between values of the same kind says the same about other values, so
//! it is read by comparing and counting digits. The least difference, an escape or a decimal that is not
//! plain, and the line goes the long way; nothing is ever refused here.

use std::borrow::Cow;

use super::levels::Sides;
use super::message::{Key, Message, Value};
use crate::normalize::decimal::Decimals;
use crate::normalize::digits;

/// Most shapes kept: a recording has one for each stream.
const SHAPES_MAX: usize = 8;

/// Longest text a shape may hold.
const TEXT_MAX: usize = 4096;

/// A value that may differ between lines of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// A whole number, of a field or of a key that is not read.
    Id(Key),
    /// Text of digits, between quotes that belong to the shape.
    Decimal(Key),
    /// `true` or `false`.
    Flag(Key),
    /// A list of levels.
    Levels(Key),
    /// The end of the line.
    End,
}

impl Slot {
    fn key(self) -> Option<Key> {
        match self {
            Self::Id(key) | Self::Decimal(key) | Self::Flag(key) | Self::Levels(key) => Some(key),
            Self::End => None,
        }
    }
}

/// Text that must be there, then a value.
#[derive(Debug)]
struct Part {
    text: Box<[u8]>,
    slot: Slot,
}

/// The form of a line.
#[derive(Debug)]
pub(super) struct Shape {
    parts: Vec<Part>,
    /// Fields whose values are text of the shape.
    fixed: Vec<(Key, Value<'static>)>,
    enveloped: bool,
}

/// The forms of a stream's lines.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    known: Vec<Shape>,
}

impl Shapes {
    /// Reads a line of a known shape.
    #[inline]
    pub(super) fn read<'de, D: Decimals>(
        &'de self,
        json: &'de [u8],
        decimals: &D,
        sides: &mut Sides<D::Value>,
    ) -> Option<Message<'de>> {
        self.known.iter().find_map(|shape| shape.read(json, decimals, sides))
    }

    /// The shape of a line that was read the long way, if there is room for another.
    pub(super) fn learnt(&self, json: &[u8], message: &Message<'_>) -> Option<Shape> {
        if self.known.len() < SHAPES_MAX { Learner::new(json, message).learn() } else { None }
    }

    pub(super) fn keep(&mut self, shape: Option<Shape>) {
        self.known.extend(shape);
    }
}

impl Shape {
    fn read<'de, D: Decimals>(
        &'de self,
        json: &'de [u8],
        decimals: &D,
        sides: &mut Sides<D::Value>,
    ) -> Option<Message<'de>> {
        let mut rest = json.strip_prefix(&*self.parts[0].text)?;
        let mut message = Message::new(self.enveloped);
        for (key, value) in &self.fixed {
            message.set(*key, value.borrowed());
        }
        for (index, Part { text, slot }) in self.parts.iter().enumerate() {
            if index > 0 {
                rest = rest.strip_prefix(&**text)?;
            }
            match *slot {
                Slot::Id(key) => {
                    let (value, count) = digits::run(rest, 0);
                    // WHY: a zero in front of other digits is no JSON; 19 digits may leave 63 bits, 20 leave 64.
                    if count == 0 || count > 19 || (count > 1 && rest[0] == b'0') {
                        return None;
                    }
                    message.set(key, Value::Id(value));
                    rest = &rest[count..];
                }
                Slot::Decimal(key) => {
                    let end = rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b'-'))?;
                    message.set(key, Value::Text(Cow::Borrowed(&rest[..end])));
                    rest = &rest[end..];
                }
                Slot::Flag(key) => {
                    let value = rest.starts_with(b"true");
                    rest = rest.strip_prefix(if value { &b"true"[..] } else { b"false" })?;
                    message.set(key, Value::Bool(value));
                }
                Slot::Levels(key) => {
                    rest = levels(rest, decimals, &mut sides.anew(key).rows)?;
                    message.set(key, Value::List);
                }
                Slot::End => return rest.is_empty().then_some(message),
            }
        }
        None
    }
}

/// Reads `[["price","size"],..]`; what stands behind it.
#[inline]
fn levels<'a, D: Decimals>(
    json: &'a [u8],
    decimals: &D,
    rows: &mut Vec<(D::Value, D::Value)>,
) -> Option<&'a [u8]> {
    let mut rest = json.strip_prefix(b"[")?;
    if let Some(behind) = rest.strip_prefix(b"]") {
        return Some(behind);
    }
    loop {
        let (price, behind) = decimals.price_in(rest.strip_prefix(b"[\"")?)?;
        let (size, behind) = decimals.size_in(behind.strip_prefix(b"\",\"")?)?;
        rows.push((price, size));
        rest = behind.strip_prefix(b"\"]")?;
        let (next, behind) = rest.split_first()?;
        rest = behind;
        match next {
            b',' => {}
            b']' => return Some(rest),
            _ => return None,
        }
    }
}

/// Cuts a line of sound JSON into text and values.
struct Learner<'a> {
    json: &'a [u8],
    message: &'a Message<'a>,
    parts: Vec<Part>,
    /// Where the text of the part being built begins.
    begin: usize,
    at: usize,
    depth: usize,
}

impl<'a> Learner<'a> {
    fn new(json: &'a [u8], message: &'a Message<'a>) -> Self {
        Self { json, message, parts: Vec::new(), begin: 0, at: 0, depth: 0 }
    }

    /// The shape, if every number and decimal that was read has its own slot.
    fn learn(mut self) -> Option<Shape> {
        let home = if self.message.enveloped { 2 } else { 1 };
        let mut key = None;
        while let Some(byte) = self.json.get(self.at) {
            match byte {
                b'"' => self.text(&mut key, home)?,
                b'[' if key.is_some_and(|key| key.is_side() && *self.message.get(key) == Value::List) => {
                    let end = self.at + list_end(&self.json[self.at..])?;
                    let slot = Slot::Levels(key.take()?);
                    self.cut(self.at, end, slot);
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    self.at += 1;
                    key = None;
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    self.at += 1;
                }
                b't' | b'f' if key == Some(Key::Maker) => {
                    let end = self.at + if *byte == b't' { 4 } else { 5 };
                    self.cut(self.at, end, Slot::Flag(Key::Maker));
                    key = None;
                }
                b'0'..=b'9' if key.is_some() => {
                    let number = self.json[self.at..].iter();
                    let end = self.at + number.take_while(|byte| is_number(**byte)).count();
                    if self.json[self.at..end].iter().all(u8::is_ascii_digit) {
                        self.cut(self.at, end, Slot::Id(key.take()?));
                    }
                    self.at = end;
                }
                _ => self.at += 1,
            }
        }
        self.cut(self.json.len(), self.json.len(), Slot::End);
        self.shape()
    }

    /// Passes a text, which may be a key of the message or stand under one; `None` if it has escapes.
    fn text(&mut self, key: &mut Option<Key>, home: usize) -> Option<()> {
        let begin = self.at + 1;
        let end = begin + memchr::memchr(b'"', &self.json[begin..])?;
        let text = &self.json[begin..end];
        if text.contains(&b'\\') {
            return None;
        }
        if self.json.get(end + 1) == Some(&b':') {
            self.at = end + 2;
            *key = (self.depth == home).then(|| Key::of(text));
            return Some(());
        }
        if let Some(key) = key.take().filter(|key| key.is_decimal()) {
            self.cut(begin, end, Slot::Decimal(key));
        }
        self.at = end + 1;
        Some(())
    }

    /// Ends a part: its text up to `begin`, then a value up to `end`.
    fn cut(&mut self, begin: usize, end: usize, slot: Slot) {
        let text = self.json[self.begin..begin].into();
        self.parts.push(Part { text, slot });
        (self.begin, self.at) = (end, end);
    }

    fn shape(self) -> Option<Shape> {
        let mut fixed = Vec::new();
        for key in Key::ALL {
            let mut slots = self.parts.iter().map(|part| part.slot).filter(|slot| slot.key() == Some(key));
            let value = self.message.get(key);
            match (value, slots.next(), slots.next()) {
                (Value::Absent, None, None)
                | (Value::Id(_), Some(Slot::Id(_)), None)
                | (Value::List, Some(Slot::Levels(_)), None)
                | (Value::Bool(_), Some(Slot::Flag(_)), None)
                | (Value::Text(_), Some(Slot::Decimal(_)), None) => {}
                (Value::Text(text), None, None) if !key.is_decimal() => {
                    fixed.push((key, Value::Text(Cow::Owned(text.to_vec()))));
                }
                _ => return None,
            }
        }
        let length: usize = self.parts.iter().map(|part| part.text.len()).sum();
        (length <= TEXT_MAX).then_some(Shape { parts: self.parts, fixed, enveloped: self.message.enveloped })
    }
}

fn is_number(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-')
}

/// Length of a list of sound JSON without escapes.
fn list_end(json: &[u8]) -> Option<usize> {
    let (mut depth, mut quoted) = (0usize, false);
    for (place, byte) in json.iter().enumerate() {
        match byte {
            b'\\' => return None,
            b'"' => quoted = !quoted,
            b'[' if !quoted => depth += 1,
            b']' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some(place + 1);
                }
            }
            _ => {}
        }
    }
    None
}
