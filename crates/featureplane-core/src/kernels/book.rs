//! What kernels see of a book at a tick.

use super::cell::why;
use crate::book::Level;
use crate::event::side;

/// The best levels of a valid book, best first; at least as many as the plan asks for, if they exist.
#[derive(Clone, Copy, Debug)]
pub struct BookView<'a> {
    /// Bids, best first.
    pub bids: &'a [Level],
    /// Asks, best first.
    pub asks: &'a [Level],
}

impl<'a> BookView<'a> {
    /// Best bid and ask, if both sides have one.
    #[must_use]
    pub fn touch(&self) -> Option<(Level, Level)> {
        Some((*self.bids.first()?, *self.asks.first()?))
    }

    /// The `level`-th best level of a side, from 1.
    #[must_use]
    pub fn level(&self, side: u8, level: usize) -> Option<Level> {
        let held: &'a [Level] = if side == side::BID { self.bids } else { self.asks };
        held.get(level.wrapping_sub(1)).copied()
    }
}

/// Sum of the sizes of the best `levels` levels that exist.
pub(super) fn sum(held: &[Level], levels: usize) -> i128 {
    small_sum(held, levels).map_or_else(
        || held[..held.len().min(levels)].iter().map(|level| i128::from(level.qty)).sum(),
        i128::from,
    )
}

/// The same where no size is large: below 2^62, as long as there are not very many.
#[inline]
pub(super) fn small_sum(held: &[Level], levels: usize) -> Option<i64> {
    const SMALL: u64 = 1 << 54;
    let (mut total, mut any) = (0i64, 0);
    for level in &held[..held.len().min(levels).min(256)] {
        total = total.wrapping_add(level.qty);
        any |= level.qty.cast_unsigned();
    }
    (any < SMALL && held.len().min(levels) <= 256).then_some(total)
}

/// `SHORT` if a side holds fewer than `levels` levels.
pub(super) fn short(levels: usize, book: &BookView<'_>) -> u8 {
    if book.bids.len().min(book.asks.len()) < levels { why::SHORT } else { 0 }
}
