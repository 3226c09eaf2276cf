//! The tick of a book, and prices as multiples of it.

/// Exact division of multiples of a tick: a shift and a multiplication.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) tick: i64,
    shift: u32,
    inverse: i64,
    /// Largest magnitude of a key; beyond it products wrap and look exact.
    key_max: u64,
}

impl Grid {
    pub(super) fn new(tick: i64) -> Self {
        let shift = tick.trailing_zeros();
        let odd = tick >> shift;
        // Newton: each round doubles the correct low bits of the inverse modulo 2^64.
        let mut inverse = odd;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2i64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        Self { tick, shift, inverse, key_max: (1 << 53) / tick.unsigned_abs() }
    }

    /// `price / tick` if that is an integer.
    #[inline]
    pub(super) fn key(self, price: i64) -> Option<i64> {
        if self.tick == 1 {
            return Some(price);
        }
        let key = (price >> self.shift).wrapping_mul(self.inverse);
        (key.wrapping_mul(self.tick) == price && key.unsigned_abs() <= self.key_max).then_some(key)
    }
}

pub(super) fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.abs()
}
