//! One seeded stream of numbers for the unit tests.

/// `SplitMix64`.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 or more, of a random length in bits, so that every magnitude comes up.
    pub(crate) fn magnitude(&mut self, bits_max: u64) -> i64 {
        (self.bits() >> (64 - 1 - self.bits() % bits_max)).cast_signed()
    }

    /// Of both signs, of a random length in bits.
    pub(crate) fn signed(&mut self, bits_max: u64) -> i64 {
        let magnitude = self.magnitude(bits_max);
        if self.bits() & 1 == 0 { magnitude } else { -magnitude }
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    /// 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }
}
