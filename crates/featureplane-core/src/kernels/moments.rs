//! Count, sum and sum of squares, exact. Used by the kernels with a second moment.

use super::cell::{Cell, why};
use super::quanta::Sums;
use super::state::{StateReader, StateWriter, words_of};
use crate::error::Error;
use crate::units::{i64_to_f64, to_f64};

/// Inputs of this magnitude leave a kernel with a second moment undefined (rule 8).
pub const SQUARE_LIMIT: u64 = 1 << 47;

/// First two moments of the inputs below [`SQUARE_LIMIT`], and how many were not.
///
/// LIMIT: 2^33 inputs; 128 bits hold the squares of no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moments {
    pub count: i64,
    pub beyond: i64,
    pub sum: i128,
    pub squares: i128,
}

impl Moments {
    #[inline]
    pub fn of(x: i64) -> Self {
        if x.unsigned_abs() >= SQUARE_LIMIT {
            return Self { beyond: 1, ..Self::default() };
        }
        let x = i128::from(x);
        Self { count: 1, beyond: 0, sum: x, squares: x * x }
    }

    /// F(N S2 - S1^2), the square of N standard deviations.
    #[inline]
    pub fn scatter(&self) -> f64 {
        // Two products of 64 bits each, as long as the inputs are as small as they nearly always are.
        if let (Ok(s2), Ok(s1)) = (i64::try_from(self.squares), i64::try_from(self.sum)) {
            let n_s2 = i128::from(self.count) * i128::from(s2);
            return to_f64(n_s2 - i128::from(s1) * i128::from(s1));
        }
        self.large_scatter()
    }

    fn large_scatter(&self) -> f64 {
        let count = i128::from(self.count);
        match (count.checked_mul(self.squares), self.sum.checked_mul(self.sum)) {
            (Some(n_s2), Some(s1_s1)) => to_f64(n_s2 - s1_s1),
            _ => self.wide_scatter(),
        }
    }

    /// The same in 256 bits: a window of time holds as many advances as the market makes.
    #[cold]
    fn wide_scatter(&self) -> f64 {
        let (a_high, a_low) = wide_product(self.count.unsigned_abs().into(), self.squares.unsigned_abs());
        let (b_high, b_low) = wide_product(self.sum.unsigned_abs(), self.sum.unsigned_abs());
        let (low, borrow) = a_low.overflowing_sub(b_low);
        wide_to_f64(a_high.wrapping_sub(b_high).wrapping_sub(borrow.into()), low)
    }

    /// sqrt(F(N S2 - S1^2)) / F(N), by the rules of the kernels that publish it.
    #[inline]
    pub fn deviation(&self) -> Cell {
        if self.beyond > 0 {
            return Cell::undefined(why::OVERFLOW);
        }
        Cell::float(self.scatter().sqrt() / i64_to_f64(self.count))
    }
}

impl Sums for Moments {
    #[inline]
    fn add(&mut self, other: &Self) {
        self.count = self.count.wrapping_add(other.count);
        self.beyond = self.beyond.wrapping_add(other.beyond);
        self.sum = self.sum.wrapping_add(other.sum);
        self.squares = self.squares.wrapping_add(other.squares);
    }

    #[inline]
    fn take(&mut self, other: &Self) {
        self.count = self.count.wrapping_sub(other.count);
        self.beyond = self.beyond.wrapping_sub(other.beyond);
        self.sum = self.sum.wrapping_sub(other.sum);
        self.squares = self.squares.wrapping_sub(other.squares);
    }

    fn save(&self, key: i64, state: &mut StateWriter) {
        let ([sum, sum_high], [squares, squares_high]) = (words_of(self.sum), words_of(self.squares));
        let [key, count, beyond] = [key, self.count, self.beyond].map(i64::cast_unsigned);
        state.words([key, count, sum, sum_high, squares, squares_high, beyond]);
    }

    fn load(state: &mut StateReader) -> Result<Self, Error> {
        let (count, sum, squares) = (state.i64()?, state.i128()?, state.i128()?);
        Ok(Self { count, sum, squares, beyond: state.i64()? })
    }
}

/// High and low 128 bits of a x b.
fn wide_product(a: u128, b: u128) -> (u128, u128) {
    let mask = u128::from(u64::MAX);
    let (a1, a0, b1, b0) = (a >> 64, a & mask, b >> 64, b & mask);
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 64);
    let middle_low = a0 * b1 + (middle & mask);
    (a1 * b1 + (middle >> 64) + (middle_low >> 64), (middle_low << 64) | (low & mask))
}

/// The nearest `f64` to high x 2^128 + low, halves to even.
#[expect(clippy::cast_precision_loss, reason = "rounding to the nearest is what F means")]
fn wide_to_f64(high: u128, low: u128) -> f64 {
    if high == 0 {
        return low as f64;
    }
    let shift = high.leading_zeros();
    // Bits that no longer fit decide only whether a half is a half: one of them says that for all.
    let (top, rest) = match shift {
        0 => (high, low),
        _ => ((high << shift) | (low >> (128 - shift)), low << shift),
    };
    let top = top | u128::from(rest != 0);
    let scale = u64::from(1023 + 128 - shift) << 52;
    top as f64 * f64::from_bits(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn power_of_two(k: u64) -> f64 {
        f64::from_bits((1023 + k) << 52)
    }

    #[test]
    fn wide_product_keeps_every_bit() {
        assert_eq!(wide_product(u128::MAX, u128::MAX), (u128::MAX - 1, 1));
        assert_eq!(wide_product(1 << 100, 1 << 100), (1 << 72, 0));
        assert_eq!(wide_product(12_345, u128::MAX), (12_344, u128::MAX - 12_344));
    }

    #[test]
    fn wide_floats_round_half_to_even() {
        let bits = |high, low| wide_to_f64(high, low).to_bits();
        assert_eq!(bits(0, 3), 3f64.to_bits());
        assert_eq!(bits(1, 0), power_of_two(128).to_bits());
        assert_eq!(bits((1 << 53) + 1, 0), power_of_two(181).to_bits(), "a tie goes to even");
        assert_eq!(
            bits((1 << 53) + 1, 1),
            (power_of_two(181) + power_of_two(129)).to_bits(),
            "sticky bits count"
        );
        assert_eq!(bits(u128::MAX, u128::MAX), power_of_two(256).to_bits());
    }

    #[test]
    fn scatter_of_more_than_128_bits_equals_the_definition() {
        // Half at +x, half at -x: N S2 - 0 = N^2 x^2, a number whose root is known.
        let (count, x) = (1i64 << 30, (1i128 << 47) - 1);
        let moments = Moments { count, beyond: 0, sum: 0, squares: i128::from(count) * x * x };
        assert_eq!(moments.deviation(), Cell::int(0x42df_ffff_ffff_ffc0), "F(x) as bits");
    }

    #[test]
    fn narrow_large_and_wide_scatter_agree() {
        let mut moments = Moments::default();
        for x in [5, -3, 1 << 30, 1 << 46, -(1 << 45), 99] {
            moments.add(&Moments::of(x));
            assert_eq!(moments.scatter().to_bits(), moments.large_scatter().to_bits());
            assert_eq!(moments.scatter().to_bits(), moments.wide_scatter().to_bits());
        }
    }
}
