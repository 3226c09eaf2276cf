//! The newest n values of something, in place, oldest first.

use super::state::{StateReader, StateWriter};
use crate::error::Error;

/// At most `capacity` values; the memory is taken once, at construction.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    items: Vec<T>,
    /// Where the oldest value stands once the ring is full, and the next one goes.
    head: usize,
    len: usize,
}

impl<T: Copy + Default> Ring<T> {
    /// Room for `capacity` values, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { items: vec![T::default(); capacity.max(1)], head: 0, len: 0 }
    }

    /// How many values it holds at most.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.items.len()
    }

    /// How many values it holds.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the next value pushes one out.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len == self.items.len()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.head = 0;
        self.len = 0;
    }

    /// Adds the newest value; answers with the oldest if it had to leave.
    #[inline]
    pub fn push(&mut self, value: T) -> Option<T> {
        let left = std::mem::replace(&mut self.items[self.head], value);
        self.head = if self.head + 1 == self.items.len() { 0 } else { self.head + 1 };
        if self.is_full() {
            return Some(left);
        }
        self.len += 1;
        None
    }

    /// The value with `age` newer ones before it: 0 is the newest. `age` is below `len`.
    #[inline]
    #[must_use]
    pub fn newest(&self, age: usize) -> T {
        debug_assert!(age < self.len);
        let back = age + 1;
        let at = if self.head >= back { self.head - back } else { self.head + self.items.len() - back };
        self.items[at]
    }

    /// The value with `rank` older ones before it: 0 is the oldest. `rank` is below `len`.
    #[inline]
    #[must_use]
    pub fn oldest(&self, rank: usize) -> T {
        self.newest(self.len - 1 - rank)
    }

    /// Full of one value.
    pub fn fill(&mut self, value: T) {
        self.items.fill(value);
        self.head = 0;
        self.len = self.items.len();
    }

    /// From the oldest to the newest.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.len).map(|rank| self.oldest(rank))
    }

    /// Count, then the values, oldest first.
    pub fn save(&self, out: &mut StateWriter, mut item: impl FnMut(&mut StateWriter, T)) {
        out.count(self.len);
        for value in self.iter() {
            item(out, value);
        }
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// More values than there is room for, or what `item` refuses.
    pub fn load(
        &mut self,
        from: &mut StateReader<'_>,
        mut item: impl FnMut(&mut StateReader<'_>) -> Result<T, Error>,
    ) -> Result<(), Error> {
        self.clear();
        for _ in 0..from.count(self.capacity())? {
            self.push(item(from)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(from: &mut StateReader<'_>) -> Result<i64, Error> {
        from.i64()
    }

    #[test]
    fn keeps_the_newest_in_order() {
        let mut ring = Ring::new(3);
        assert_eq!([1, 2, 3, 4, 5].map(|x| ring.push(x)), [None, None, None, Some(1), Some(2)]);
        assert_eq!(ring.iter().collect::<Vec<i64>>(), [3, 4, 5]);
        assert_eq!((ring.newest(0), ring.newest(2), ring.oldest(0)), (5, 3, 3));
        ring.fill(7);
        assert_eq!(ring.push(8), Some(7));
        assert_eq!(ring.iter().collect::<Vec<i64>>(), [7, 7, 8]);
        ring.clear();
        assert!(ring.is_empty() && !ring.is_full());
        assert_eq!(ring.push(9), None);
        assert_eq!(ring.iter().collect::<Vec<i64>>(), [9]);
    }

    #[test]
    fn a_state_with_too_many_values_is_refused() {
        let mut out = StateWriter::new();
        let mut ring = Ring::new(2);
        ring.fill(4);
        ring.save(&mut out, StateWriter::i64);
        let bytes = out.into_bytes();
        assert!(Ring::<i64>::new(1).load(&mut StateReader::new(&bytes), word).is_err());
        let mut twin = Ring::new(2);
        assert!(twin.load(&mut StateReader::new(&bytes), word).is_ok());
        assert_eq!(twin.iter().collect::<Vec<i64>>(), [4, 4]);
    }
}
