//! Stateless kernels. Twin of `featureplane/features/kernels/arithmetic.py`.

use super::cell::{Cell, why};
use super::number::{Dtype, Number};
use crate::units::{half_even_div, rint};

/// What to do with two operands of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `x + y`
    Add,
    /// `x - y`
    Sub,
    /// `x * y`
    Mul,
}

/// One stateless kernel of a plan, its parameters and the types of its inputs settled.
///
/// Types are chosen here, once, when the plan is compiled, so that evaluation never asks whether a
/// pair of operands is mixed.
#[derive(Clone, Debug, PartialEq)]
pub enum Arithmetic {
    /// `clip` of an integer to [lo, hi].
    Clip(i64, i64),
    /// `clip` of a float to [lo, hi].
    ClipFloat(f64, f64),
    /// `abs` of an integer.
    Abs,
    /// `abs` of a float.
    AbsFloat,
    /// Both operands are integers.
    Integers(Operation),
    /// One operand at least is a float, and so is the result.
    Floats(Operation, Dtype, Dtype),
    /// `x / y`, always a float.
    Div(Dtype, Dtype),
    /// R(x 10^6, y) of two integers.
    RatioPpm,
    /// The factor as a float, and the type it is applied to.
    Fixed(f64, Dtype),
    /// Edges, ascending, and the type compared with them.
    Bucket(Box<[f64]>, Dtype),
    /// Roll's spread of an autocovariance.
    Roll,
    /// A value without inputs.
    Constant(Cell),
}

impl Arithmetic {
    /// The value for defined inputs, given as the bytes of their cells; a missing `y` is ignored.
    #[inline]
    #[must_use]
    pub fn evaluate(&self, x: u64, y: u64) -> Cell {
        match self {
            Self::Clip(lo, hi) => clip(i64::from_bits(x), *lo, *hi),
            Self::ClipFloat(lo, hi) => clip(f64::from_bits(x), *lo, *hi),
            Self::Abs => abs(x.cast_signed()),
            Self::AbsFloat => Cell::float(f64::from_bits(x).abs()),
            Self::Integers(operation) => integers(*operation, x.cast_signed(), y.cast_signed()),
            Self::Floats(operation, of_x, of_y) => floats(*operation, of_x.as_f64(x), of_y.as_f64(y)),
            Self::Div(of_x, of_y) => div(of_x.as_f64(x), of_y.as_f64(y)),
            Self::RatioPpm => ratio_ppm(x.cast_signed(), y.cast_signed()),
            Self::Fixed(k, of_x) => fixed(of_x.as_f64(x), *k),
            Self::Bucket(edges, of_x) => bucket(of_x.as_f64(x), edges),
            Self::Roll => roll(f64::from_bits(x)),
            Self::Constant(value) => *value,
        }
    }
}

/// `x` held inside [lo, hi].
#[inline]
#[must_use]
pub fn clip<N: Number>(x: N, lo: N, hi: N) -> Cell {
    let held = if x < lo {
        lo
    } else if x > hi {
        hi
    } else {
        x
    };
    held.cell()
}

/// Magnitude of an integer; -2^63 is not one (rule 1.2), so this cannot overflow.
#[inline]
#[must_use]
pub const fn abs(x: i64) -> Cell {
    Cell::int(x.wrapping_abs())
}

/// Exact result of two integers. 64 bits first: their overflow is the only way out of range.
#[inline]
#[must_use]
pub fn integers(operation: Operation, x: i64, y: i64) -> Cell {
    let exact = match operation {
        Operation::Add => x.checked_add(y),
        Operation::Sub => x.checked_sub(y),
        Operation::Mul => x.checked_mul(y),
    };
    exact.map_or(Cell::undefined(why::OVERFLOW), Cell::int)
}

/// One rounded operation.
#[inline]
#[must_use]
pub fn floats(operation: Operation, x: f64, y: f64) -> Cell {
    Cell::float(match operation {
        Operation::Add => x + y,
        Operation::Sub => x - y,
        Operation::Mul => x * y,
    })
}

/// `x / y`; without value for y = 0, which IEEE 754 answers with an infinity or NaN.
#[inline]
#[must_use]
pub fn div(x: f64, y: f64) -> Cell {
    Cell::float(x / y)
}

/// R(x 10^6, y) with the sign of `y` moved to `x`; without value for y = 0.
#[inline]
#[must_use]
pub fn ratio_ppm(x: i64, y: i64) -> Cell {
    if y == 0 {
        return Cell::undefined(0);
    }
    let n = i128::from(if y < 0 { x.wrapping_neg() } else { x }) * 1_000_000;
    half_even_div(n, i128::from(y.unsigned_abs())).map_or(Cell::undefined(why::OVERFLOW), Cell::int)
}

/// The integer nearest to `x * k`, halves to even; without value beyond 2^53.
#[inline]
#[must_use]
pub fn fixed(x: f64, k: f64) -> Cell {
    rint(x * k).map_or(Cell::undefined(why::OVERFLOW), Cell::int)
}

/// How many edges are at most `x`. A handful: counting all of them beats a search that branches.
#[inline]
#[must_use]
pub fn bucket(x: f64, edges: &[f64]) -> Cell {
    Cell::int(edges.iter().map(|&edge| i64::from(edge <= x)).sum())
}

/// Roll's spread from the autocovariance of price changes at lag 1: stateless, and without value
/// where that is not negative.
#[inline]
#[must_use]
pub fn roll(autocov: f64) -> Cell {
    if autocov >= 0.0 { Cell::undefined(0) } else { Cell::float(2.0 * (-autocov).sqrt()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERFLOW: Cell = Cell::undefined(why::OVERFLOW);
    const NONE: Cell = Cell::undefined(0);

    fn int(x: i64) -> u64 {
        x.cast_unsigned()
    }

    #[test]
    fn rule_8_bounds_are_inclusive() {
        assert_eq!([-3, -2, 5, 6].map(|x| clip(x, -2, 5).as_i64()), [-2, -2, 5, 5]);
        assert_eq!(clip(0.5, -0.25, 0.25), Cell::float(0.25));
        assert_eq!(Arithmetic::Clip(-2, 5).evaluate(int(-9), 0), Cell::int(-2));
        assert_eq!(Arithmetic::ClipFloat(1.0, 2.0).evaluate(3f64.to_bits(), 0), Cell::float(2.0));
    }

    #[test]
    fn rule_1_2_integers_are_exact_or_undefined() {
        assert_eq!(integers(Operation::Add, i64::MAX, 1), OVERFLOW);
        assert_eq!(integers(Operation::Sub, -i64::MAX, 1), OVERFLOW);
        assert_eq!(integers(Operation::Sub, -i64::MAX, 0), Cell::int(-i64::MAX));
        assert_eq!(integers(Operation::Mul, 1 << 32, 1 << 31), OVERFLOW);
        assert_eq!(integers(Operation::Mul, -(1 << 32), 1 << 31), OVERFLOW);
        assert_eq!(integers(Operation::Mul, i64::MAX, -1), Cell::int(-i64::MAX));
        assert_eq!(abs(-i64::MAX), Cell::int(i64::MAX));
    }

    #[test]
    fn rule_1_4_one_float_makes_both_floats() {
        let add = Arithmetic::Floats(Operation::Add, Dtype::I64, Dtype::F64);
        assert_eq!(add.evaluate(int((1 << 53) + 1), 0f64.to_bits()), Cell::float(9_007_199_254_740_992.0));
        let mul = Arithmetic::Floats(Operation::Mul, Dtype::F64, Dtype::F64);
        assert_eq!(mul.evaluate(f64::MAX.to_bits(), 2f64.to_bits()), NONE);
        let sub = Arithmetic::Floats(Operation::Sub, Dtype::F64, Dtype::I64);
        assert_eq!(sub.evaluate(1f64.to_bits(), int(1)).bits, 0);
    }

    #[test]
    fn rule_8_no_value_for_a_zero_divisor() {
        let div = Arithmetic::Div(Dtype::I64, Dtype::I64);
        assert_eq!(div.evaluate(int(1), int(0)), NONE);
        assert_eq!(div.evaluate(int(0), int(0)), NONE);
        assert_eq!(div.evaluate(int(0), int(-4)).bits, 0);
        assert_eq!(Arithmetic::RatioPpm.evaluate(int(7), int(0)), NONE);
    }

    #[test]
    fn rule_8_ratio_ppm_moves_the_sign() {
        // 5 / 2,000,000 is 2.5 millionths: halves go to the even neighbour on both sides.
        for (x, y, expected) in [
            (5, 2_000_000, 2),
            (-5, 2_000_000, -2),
            (5, -2_000_000, -2),
            (7, 2_000_000, 4),
            (-3, -7, 428_571),
        ] {
            assert_eq!(ratio_ppm(x, y), Cell::int(expected), "{x} {y}");
        }
        assert_eq!(ratio_ppm(i64::MAX, 1), OVERFLOW);
        assert_eq!(ratio_ppm(i64::MAX, -i64::MAX), Cell::int(-1_000_000));
    }

    #[test]
    fn rule_8_fixed_ends_at_2_53() {
        assert_eq!(fixed(0.5, 5.0), Cell::int(2));
        assert_eq!(fixed(9_007_199_254_740_992.0, -1.0), Cell::int(-(1 << 53)));
        assert_eq!(fixed(9_007_199_254_740_994.0, 1.0), OVERFLOW);
        assert_eq!(fixed(f64::MAX, 1e9), OVERFLOW);
        assert_eq!(Arithmetic::Fixed(1000.0, Dtype::I64).evaluate(int(-3), 0), Cell::int(-3000));
    }

    #[test]
    fn rule_8_bucket_counts_edges_at_or_below() {
        let edges = [0.5, 1.5, 3.0];
        assert_eq!([0.4, 0.5, 1.4, 3.0, 9.0].map(|x| bucket(x, &edges).as_i64()), [0, 1, 1, 3, 3]);
        let by_integer = Arithmetic::Bucket(Box::new([9_007_199_254_740_992.0]), Dtype::I64);
        assert_eq!(by_integer.evaluate(int((1 << 53) - 1), 0), Cell::int(0));
        assert_eq!(by_integer.evaluate(int((1 << 53) + 1), 0), Cell::int(1));
        assert_eq!(Arithmetic::Constant(Cell::int(4)).evaluate(0, 0), Cell::int(4));
    }

    #[test]
    fn rule_8_roll_needs_a_negative_autocovariance() {
        assert_eq!(roll(-0.25), Cell::float(1.0));
        assert_eq!(roll(0.0), NONE);
        assert_eq!(roll(3.0), NONE);
    }
}
