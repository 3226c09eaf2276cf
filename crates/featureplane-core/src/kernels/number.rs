//! The two types of value a node can hold, behind one trait, so that a kernel is written once.

use super::cell::Cell;
use crate::units::i64_to_f64;

/// How the eight bytes of a node are read. A `u32` of a plan is a non-negative `I64` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// An integer.
    I64,
    /// An IEEE-754 binary64.
    F64,
}

impl Dtype {
    /// F of rule 1.4 of a defined value of this type.
    #[inline]
    #[must_use]
    pub const fn as_f64(self, bits: u64) -> f64 {
        match self {
            Self::I64 => i64_to_f64(bits.cast_signed()),
            Self::F64 => f64::from_bits(bits),
        }
    }
}

/// A defined value: an integer other than `i64::MIN`, or a finite float that is not -0.0.
pub trait Number: Copy + PartialOrd + Default + std::fmt::Debug {
    /// Reads the bytes of a defined cell.
    fn from_bits(bits: u64) -> Self;
    /// The bytes, as a cell and a saved state hold them.
    fn to_bits(self) -> u64;
    /// F of rule 1.4.
    fn to_f64(self) -> f64;
    /// As a cell; always defined for what came out of one.
    fn cell(self) -> Cell;
    /// `self - before`, exact for integers; undefined out of range.
    fn minus(self, before: Self) -> Cell;
}

impl Number for i64 {
    #[inline]
    fn from_bits(bits: u64) -> Self {
        bits.cast_signed()
    }

    #[inline]
    fn to_bits(self) -> u64 {
        self.cast_unsigned()
    }

    #[inline]
    fn to_f64(self) -> f64 {
        i64_to_f64(self)
    }

    #[inline]
    fn cell(self) -> Cell {
        Cell::int(self)
    }

    #[inline]
    fn minus(self, before: Self) -> Cell {
        Cell::wide(i128::from(self) - i128::from(before))
    }
}

impl Number for f64 {
    #[inline]
    fn from_bits(bits: u64) -> Self {
        Self::from_bits(bits)
    }

    #[inline]
    fn to_bits(self) -> u64 {
        self.to_bits()
    }

    #[inline]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline]
    fn cell(self) -> Cell {
        Cell::float(self)
    }

    #[inline]
    fn minus(self, before: Self) -> Cell {
        Cell::float(self - before)
    }
}
