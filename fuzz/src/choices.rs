//! Bytes read as choices; an end of bytes chooses 0.

/// A cursor over the input of a target.
#[derive(Clone, Copy, Debug)]
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// Chooses from the first byte on.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Whether no byte is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.rest.split_at(self.rest.len().min(N));
        self.rest = rest;
        let mut bytes = [0; N];
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    /// A number below `limit`, from one byte.
    pub fn below(&mut self, limit: u8) -> u8 {
        self.byte() % limit
    }

    /// Yes or no.
    pub fn coin(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Two bytes.
    pub fn short(&mut self) -> i64 {
        i16::from_le_bytes(self.array()).into()
    }

    /// Eight bytes.
    pub fn word(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number of any size: mostly small, now and then near the limits that rules name.
    pub fn number(&mut self) -> i64 {
        match self.byte() {
            0..=99 => self.byte().into(),
            100..=199 => self.short(),
            200..=219 => (1 << 53) - 1 - i64::from(self.byte()),
            220..=234 => (1 << 47) - 128 + i64::from(self.byte()),
            235..=244 => (1 << 62) - 128 + i64::from(self.byte()),
            _ => self.word().cast_signed(),
        }
    }

    /// Places at which `0..=length` is cut, ascending; at most eight.
    pub fn cuts(&mut self, length: usize) -> Vec<usize> {
        let count = self.below(9);
        let mut cuts: Vec<usize> =
            (0..count).map(|_| usize::from(u16::from_le_bytes(self.array())) % (length + 1)).collect();
        cuts.sort_unstable();
        cuts
    }
}
