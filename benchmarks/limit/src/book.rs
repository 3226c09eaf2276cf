//! One book as fast as we know: for each side a size for every tick, and a bit for every tick.
//!
//! The arrays span every price of the recording, which only a program written for one file can know.
//! Keys make lower better on both sides, so one code serves bids and asks.

use crate::events::{BID, Event, LEVEL, SNAPSHOT_LEVEL};
use crate::values::Top;

/// Levels a side that v1 reads.
const DEPTH: usize = 5;

/// How prices become keys; found before the clock starts.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    low: i64,
    high: i64,
    tick: i64,
}

impl Grid {
    /// The grid that holds every level of the recordings.
    pub fn of(events: &[Event]) -> Self {
        let levels = events.iter().filter(|e| matches!(e.kind, LEVEL | SNAPSHOT_LEVEL) && e.qty != 0);
        let prices = || levels.clone().map(|e| e.price);
        let low = prices().min().unwrap_or(0);
        let high = prices().max().unwrap_or(0);
        let tick = prices().fold(0, |tick, price| gcd(tick, price - low)).max(1);
        Self { low, high, tick }
    }

    /// Whether prices are keys as they stand, without a division.
    pub fn is_unit(&self) -> bool {
        self.tick == 1
    }

    fn span(&self) -> usize {
        usize::try_from((self.high - self.low) / self.tick).expect("low <= high") + 1
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Sizes by key, occupancy by bit, and the best levels as they were last read.
struct Side {
    sizes: Vec<i64>,
    bits: Vec<u64>,
    /// Best key changed since the last `refresh`.
    touched: usize,
    /// Key of the last of the levels read; a change behind it is not seen.
    worst: usize,
    best: usize,
    best_qty: i64,
    depth: i64,
    levels: usize,
}

impl Side {
    fn new(span: usize) -> Self {
        let words = span.div_ceil(64);
        Self {
            sizes: vec![0; words * 64],
            bits: vec![0; words],
            touched: usize::MAX,
            worst: usize::MAX,
            best: usize::MAX,
            best_qty: 0,
            depth: 0,
            levels: 0,
        }
    }

    /// Empties what is occupied, so that pages never written stay unmapped.
    fn clear(&mut self) {
        for (word, sizes) in
            self.bits.iter_mut().zip(self.sizes.chunks_exact_mut(64)).filter(|(word, _)| **word != 0)
        {
            *word = 0;
            sizes.fill(0);
        }
        (self.touched, self.worst, self.best) = (usize::MAX, usize::MAX, usize::MAX);
        (self.best_qty, self.depth, self.levels) = (0, 0, 0);
    }

    /// Sets one level; size 0 deletes it. Nothing was ever set, or is deleted, off the grid.
    #[inline(always)]
    fn set(&mut self, key: usize, qty: i64) {
        let (Some(size), Some(word)) = (self.sizes.get_mut(key), self.bits.get_mut(key / 64)) else { return };
        *size = qty;
        *word = *word & !(1 << (key % 64)) | u64::from(qty != 0) << (key % 64);
        self.touched = self.touched.min(key);
    }

    /// Whether the best levels may differ from what was read last.
    #[inline(always)]
    fn is_dirty(&self) -> bool {
        self.touched <= self.worst
    }

    /// Reads the best levels again.
    #[inline(always)]
    fn refresh(&mut self) {
        let start = self.touched.min(self.best) / 64;
        (self.touched, self.worst, self.best) = (usize::MAX, usize::MAX, usize::MAX);
        (self.best_qty, self.depth, self.levels) = (0, 0, 0);
        for (at, &word) in self.bits.iter().enumerate().skip(start) {
            let mut word = word;
            while word != 0 {
                let key = at * 64 + word.trailing_zeros() as usize;
                let qty = self.sizes[key];
                if self.levels == 0 {
                    (self.best, self.best_qty) = (key, qty);
                }
                self.depth += qty;
                self.levels += 1;
                if self.levels == DEPTH {
                    self.worst = key;
                    return;
                }
                word &= word - 1;
            }
        }
    }
}

/// The two sides of one book.
pub struct Book {
    grid: Grid,
    bid: Side,
    ask: Side,
}

impl Book {
    pub fn new(grid: Grid) -> Self {
        Self { grid, bid: Side::new(grid.span()), ask: Side::new(grid.span()) }
    }

    pub fn clear(&mut self) {
        self.bid.clear();
        self.ask.clear();
    }

    /// Applies one level. `UNIT`: the tick is 1.
    #[inline(always)]
    pub fn apply<const UNIT: bool>(&mut self, event: &Event) {
        let key = |distance: i64| (if UNIT { distance } else { distance / self.grid.tick }) as usize;
        if event.side == BID {
            self.bid.set(key(self.grid.high - event.price), event.qty);
        } else {
            self.ask.set(key(event.price - self.grid.low), event.qty);
        }
    }

    /// Reads the best levels again where they may have changed; says whether it did.
    #[inline(always)]
    pub fn refresh(&mut self) -> bool {
        let (bid, ask) = (self.bid.is_dirty(), self.ask.is_dirty());
        if bid {
            self.bid.refresh();
        }
        if ask {
            self.ask.refresh();
        }
        bid || ask
    }

    #[inline(always)]
    pub fn bid(&self) -> Option<Top> {
        let price = self.grid.high.wrapping_sub((self.bid.best as i64).wrapping_mul(self.grid.tick));
        (self.bid.levels > 0).then_some(Top { price, qty: self.bid.best_qty, depth: self.bid.depth })
    }

    #[inline(always)]
    pub fn ask(&self) -> Option<Top> {
        let price = self.grid.low.wrapping_add((self.ask.best as i64).wrapping_mul(self.grid.tick));
        (self.ask.levels > 0).then_some(Top { price, qty: self.ask.best_qty, depth: self.ask.depth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_side_shows_what_a_map_shows() {
        let (mut side, mut map) = (Side::new(1000), BTreeMap::new());
        let mut random = 1u64;
        for step in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (random >> 33) as usize % if step % 50_000 < 100 { 5 } else { 1000 };
            let qty = ((random >> 20) % 4) as i64;
            side.set(key, qty);
            if qty == 0 {
                map.remove(&key);
            } else {
                map.insert(key, qty);
            }
            if random.is_multiple_of(3) {
                if side.is_dirty() {
                    side.refresh();
                }
                assert_eq!(side.levels, map.len().min(DEPTH));
                assert_eq!(side.depth, map.values().take(DEPTH).sum::<i64>());
                assert_eq!(
                    (side.levels > 0).then_some((side.best, side.best_qty)),
                    map.iter().next().map(|(&k, &q)| (k, q))
                );
            }
        }
    }
}
