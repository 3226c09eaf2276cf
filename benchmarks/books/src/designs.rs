//! One side of a book, five ways. Lower keys are better; size 0 deletes.

use std::collections::{BTreeMap, HashMap};

/// Levels read after each message.
pub const DEPTH: usize = 5;

/// The best levels, best first, as (key, size).
pub type Top = Vec<(i64, i64)>;

/// What a design has to do.
pub trait Side {
    /// `low` and `high` are the keys that will come; only `Flat` may look at them.
    fn new(low: i64, high: i64) -> Self;
    fn set(&mut self, key: i64, qty: i64);
    /// Reads the best levels again where they may have changed.
    fn top(&mut self) -> &Top;
    fn clear(&mut self);
    /// Bytes it holds, roughly.
    fn bytes(&self) -> usize;
}

/// A balanced tree.
pub struct Tree {
    levels: BTreeMap<i64, i64>,
    top: Top,
    worst: i64,
    stale: bool,
}

impl Side for Tree {
    fn new(_: i64, _: i64) -> Self {
        Self { levels: BTreeMap::new(), top: Top::new(), worst: i64::MAX, stale: false }
    }

    fn set(&mut self, key: i64, qty: i64) {
        if qty == 0 {
            self.levels.remove(&key);
        } else {
            self.levels.insert(key, qty);
        }
        self.stale |= key <= self.worst;
    }

    fn top(&mut self) -> &Top {
        if std::mem::take(&mut self.stale) {
            self.top.clear();
            self.top.extend(self.levels.iter().take(DEPTH).map(|(&key, &qty)| (key, qty)));
            self.worst = if self.top.len() == DEPTH { self.top[DEPTH - 1].0 } else { i64::MAX };
        }
        &self.top
    }

    fn clear(&mut self) {
        self.levels.clear();
        self.stale = true;
    }

    fn bytes(&self) -> usize {
        self.levels.len() * 24 // nodes of 11, two thirds full
    }
}

/// A sorted vector, the best level last, so that what moves most costs least.
pub struct Sorted {
    levels: Vec<(i64, i64)>,
    top: Top,
    worst: i64,
    stale: bool,
}

impl Side for Sorted {
    fn new(_: i64, _: i64) -> Self {
        Self { levels: Vec::new(), top: Top::new(), worst: i64::MAX, stale: false }
    }

    fn set(&mut self, key: i64, qty: i64) {
        match (self.levels.binary_search_by(|level| key.cmp(&level.0)), qty) {
            (Ok(at), 0) => drop(self.levels.remove(at)),
            (Ok(at), _) => self.levels[at].1 = qty,
            (Err(_), 0) => {}
            (Err(at), _) => self.levels.insert(at, (key, qty)),
        }
        self.stale |= key <= self.worst;
    }

    fn top(&mut self) -> &Top {
        if std::mem::take(&mut self.stale) {
            self.top.clear();
            self.top.extend(self.levels.iter().rev().take(DEPTH));
            self.worst = if self.top.len() == DEPTH { self.top[DEPTH - 1].0 } else { i64::MAX };
        }
        &self.top
    }

    fn clear(&mut self) {
        self.levels.clear();
        self.stale = true;
    }

    fn bytes(&self) -> usize {
        self.levels.capacity() * 16
    }
}

/// Sizes and a bit for each of a run of keys.
struct Slots {
    sizes: Vec<i64>,
    bits: Vec<u64>,
    low: usize,
}

impl Slots {
    fn new(slots: usize) -> Self {
        let words = slots.div_ceil(64);
        Self { sizes: vec![0; words * 64], bits: vec![0; words], low: words * 64 }
    }

    #[inline]
    fn set(&mut self, slot: usize, qty: i64) -> bool {
        let (Some(size), Some(word)) = (self.sizes.get_mut(slot), self.bits.get_mut(slot / 64)) else {
            return false;
        };
        *size = qty;
        *word = *word & !(1 << (slot % 64)) | u64::from(qty != 0) << (slot % 64);
        self.low = self.low.min(slot);
        true
    }

    /// Adds occupied slots to `top` until it has all it wants; the slot of the last one.
    fn read(&mut self, base: i64, top: &mut Top) -> usize {
        let (mut at, mut mask) = (self.low / 64, u64::MAX << (self.low % 64));
        self.low = self.sizes.len();
        while let Some(&word) = self.bits.get(at) {
            let mut rest = word & mask;
            while rest != 0 {
                let slot = at * 64 + rest.trailing_zeros() as usize;
                self.low = self.low.min(slot);
                rest &= rest - 1;
                top.push((base + slot as i64, self.sizes[slot]));
                if top.len() == DEPTH {
                    return slot;
                }
            }
            (at, mask) = (at + 1, u64::MAX);
        }
        usize::MAX
    }

    fn take(&mut self, base: i64) -> Vec<(i64, i64)> {
        let occupied = |slot: &usize| self.bits[slot / 64] >> (slot % 64) & 1 == 1;
        let levels =
            (0..self.sizes.len()).filter(occupied).map(|s| (base + s as i64, self.sizes[s])).collect();
        self.clear();
        levels
    }

    fn clear(&mut self) {
        self.sizes.fill(0);
        self.bits.fill(0);
        self.low = self.sizes.len();
    }
}

/// An array over every price that will come: only for who knows them.
pub struct Flat {
    slots: Slots,
    base: i64,
    top: Top,
    worst: usize,
    stale: bool,
}

impl Side for Flat {
    fn new(low: i64, high: i64) -> Self {
        let slots = Slots::new((high - low) as usize + 1);
        Self { slots, base: low, top: Top::new(), worst: usize::MAX, stale: false }
    }

    fn set(&mut self, key: i64, qty: i64) {
        let slot = (key - self.base) as usize;
        assert!(self.slots.set(slot, qty), "a price nobody announced");
        self.stale |= slot <= self.worst;
    }

    fn top(&mut self) -> &Top {
        if std::mem::take(&mut self.stale) {
            self.top.clear();
            self.worst = self.slots.read(self.base, &mut self.top);
        }
        &self.top
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.stale = true;
    }

    fn bytes(&self) -> usize {
        self.slots.sizes.len() * 8 + self.slots.bits.len() * 8
    }
}

/// Where the levels outside a window are kept.
pub trait Outside {
    fn new() -> Self;
    fn set(&mut self, key: i64, qty: i64);
    fn best(&self) -> Option<i64>;
    fn take(&mut self) -> Vec<(i64, i64)>;
    fn bytes(&self) -> usize;
}

impl Outside for HashMap<i64, i64> {
    fn new() -> Self {
        Self::default()
    }

    fn set(&mut self, key: i64, qty: i64) {
        if qty == 0 {
            self.remove(&key);
        } else {
            self.insert(key, qty);
        }
    }

    fn best(&self) -> Option<i64> {
        self.keys().min().copied()
    }

    fn take(&mut self) -> Vec<(i64, i64)> {
        self.drain().collect()
    }

    fn bytes(&self) -> usize {
        self.capacity() * 17
    }
}

impl Outside for BTreeMap<i64, i64> {
    fn new() -> Self {
        Self::new()
    }

    fn set(&mut self, key: i64, qty: i64) {
        if qty == 0 {
            self.remove(&key);
        } else {
            self.insert(key, qty);
        }
    }

    fn best(&self) -> Option<i64> {
        self.first_key_value().map(|(&key, _)| key)
    }

    fn take(&mut self) -> Vec<(i64, i64)> {
        std::mem::take(self).into_iter().collect()
    }

    fn bytes(&self) -> usize {
        self.len() * 24
    }
}

/// A window of `SLOTS` keys about the best, the rest elsewhere; moved when something better stands before it.
pub struct Window<O, const SLOTS: usize> {
    slots: Slots,
    base: i64,
    outside: O,
    top: Top,
    worst: usize,
    stale: bool,
    empty: bool,
}

impl<O: Outside, const SLOTS: usize> Window<O, SLOTS> {
    #[cold]
    fn set_outside(&mut self, key: i64, qty: i64) {
        self.outside.set(key, qty);
        if qty != 0 && (self.empty || key < self.base) {
            self.empty = false;
            self.move_to(key);
        }
    }

    #[cold]
    fn move_to(&mut self, best: i64) {
        let mut levels = self.slots.take(self.base);
        levels.extend(self.outside.take());
        self.base = best - SLOTS as i64 / 4;
        self.stale = true;
        for (key, qty) in levels {
            if !self.slots.set((key - self.base) as usize, qty) {
                self.outside.set(key, qty);
            }
        }
    }
}

impl<O: Outside, const SLOTS: usize> Side for Window<O, SLOTS> {
    fn new(_: i64, _: i64) -> Self {
        let slots = Slots::new(SLOTS);
        Self {
            slots,
            base: 0,
            outside: O::new(),
            top: Top::new(),
            worst: usize::MAX,
            stale: false,
            empty: true,
        }
    }

    fn set(&mut self, key: i64, qty: i64) {
        let slot = key.wrapping_sub(self.base) as usize;
        if self.empty || !self.slots.set(slot, qty) {
            self.set_outside(key, qty);
        } else {
            self.stale |= slot <= self.worst;
        }
    }

    fn top(&mut self) -> &Top {
        if std::mem::take(&mut self.stale) {
            self.top.clear();
            self.worst = self.slots.read(self.base, &mut self.top);
            if self.top.len() < DEPTH
                && let Some(best) = self.top.first().map(|level| level.0).or(self.outside.best())
                && self.outside.best().is_some()
                && best - self.base != SLOTS as i64 / 4
            {
                self.move_to(best);
                self.stale = false;
                self.top.clear();
                self.worst = self.slots.read(self.base, &mut self.top);
            }
        }
        &self.top
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.outside.take();
        (self.stale, self.empty) = (true, true);
    }

    fn bytes(&self) -> usize {
        SLOTS * 8 + SLOTS / 8 + self.outside.bytes()
    }
}
