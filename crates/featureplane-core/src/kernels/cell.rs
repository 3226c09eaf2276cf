//! What a node of a plan holds at any moment: eight bytes, and why they mean nothing if they do not.

/// Bits of [`Cell::state`]. Twin: `features/kernels/cell.py`.
pub mod why {
    /// There is no value.
    pub const UNDEFINED: u8 = 1;
    /// Some kernel in it is not warm.
    pub const COLD: u8 = 2;
    /// The book lacks a side or a level.
    pub const LACK: u8 = 4;
    /// A result or an input left its range (rule 1.2).
    pub const OVERFLOW: u8 = 8;
    /// Defined, but a depth sums fewer levels than it was asked for.
    pub const SHORT: u8 = 16;
}

/// Eight bytes an integer feature without value holds.
pub const UNDEFINED_I64: u64 = 1 << 63;
/// Eight bytes a float feature without value holds.
pub const UNDEFINED_F64: u64 = 0x7ff8_0000_0000_0000;

/// A value, or the reasons why there is none.
///
/// `bits` of an undefined cell are 0 here; the frame writes the sentinel of the feature's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// `i64`, or `f64` as bits; 0 while undefined.
    pub bits: u64,
    /// Bits of [`why`]; 0 is a plain value.
    pub state: u8,
}

impl Cell {
    /// Nothing has been learned yet.
    pub const COLD: Self = Self::undefined(why::COLD);

    /// An integer value; `i64::MIN` is outside the range of rule 1.2.
    #[must_use]
    pub const fn int(value: i64) -> Self {
        if value == i64::MIN {
            return Self::undefined(why::OVERFLOW);
        }
        Self { bits: value.cast_unsigned(), state: 0 }
    }

    /// An integer value, undefined by overflow outside ±(2^63 - 1).
    #[must_use]
    pub fn wide(value: i128) -> Self {
        i64::try_from(value).map_or(Self::undefined(why::OVERFLOW), Self::int)
    }

    /// A float value without -0.0; undefined if not finite.
    #[must_use]
    pub fn float(value: f64) -> Self {
        if value.is_finite() { Self { bits: (value + 0.0).to_bits(), state: 0 } } else { Self::undefined(0) }
    }

    /// No value, for the reasons given.
    #[must_use]
    pub const fn undefined(state: u8) -> Self {
        Self { bits: 0, state: state | why::UNDEFINED }
    }

    /// Whether there is a value.
    #[must_use]
    pub const fn is_defined(self) -> bool {
        self.state & why::UNDEFINED == 0
    }

    /// The integer; 0 while undefined.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.bits.cast_signed()
    }

    /// The float; 0.0 while undefined.
    #[must_use]
    pub const fn as_f64(self) -> f64 {
        f64::from_bits(self.bits)
    }
}
