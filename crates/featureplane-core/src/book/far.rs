//! Levels too far from the best to stand in the window of a side.
//!
//! WHY: a hash, because rows come ten times as often as questions of order and a tree costs each of them
//! (`docs/decisions`). A question of order costs a hash all its levels, so rows pay in for it; where they
//! have not paid enough, as on books with few levels far apart, or made up to be slow, the hash becomes a
//! tree for good.
//!
//! Most rows are only written down: nobody may ask before the next ones come, and a hash takes many rows in
//! less time than each by itself, between rows of the window.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};

/// Levels that may be looked at for each row that came; about what a row costs a tree.
const LEVELS_A_ROW: usize = 32;
/// Credit at the start: a snapshot of this size may be put in order at once.
const CREDIT: usize = 1 << 16;

/// Rows that may be written down, besides twice as many as there are levels.
const LATE: usize = 1 << 12;

/// A multiplicative hash, as keys are small dense integers; by a number nobody can know, so that nobody can
/// send prices that all fall on one place.
#[derive(Clone, Copy, Debug)]
struct Keyed {
    multiplier: u64,
}

impl Default for Keyed {
    fn default() -> Self {
        Self { multiplier: RandomState::new().hash_one(0) | 1 }
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { multiplier: self.multiplier, hash: 0 }
    }
}

#[derive(Clone, Copy, Debug)]
struct KeyHasher {
    multiplier: u64,
    hash: u64,
}

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.hash ^ word).wrapping_mul(self.multiplier);
        self.hash = mixed ^ (mixed >> 32);
    }

    fn write_i64(&mut self, word: i64) {
        self.write_u64(word.cast_unsigned());
    }
}

#[derive(Clone, Debug)]
enum Levels {
    Hash(HashMap<i64, i64, Keyed>),
    Tree(BTreeMap<i64, i64>),
}

/// Sizes by key; lower keys are better.
#[derive(Clone, Debug)]
pub(super) struct Far {
    levels: Levels,
    /// Rows written down, in the order in which they came; `levels` knows nothing of them yet.
    late: Vec<(i64, i64)>,
    credit: usize,
}

impl Default for Far {
    fn default() -> Self {
        Self { levels: Levels::Hash(HashMap::default()), late: Vec::new(), credit: CREDIT }
    }
}

impl Far {
    /// Whether nothing is there, and nothing was written down.
    pub fn is_empty(&self) -> bool {
        self.late.is_empty() && self.len() == 0
    }

    fn len(&self) -> usize {
        match &self.levels {
            Levels::Hash(levels) => levels.len(),
            Levels::Tree(levels) => levels.len(),
        }
    }

    /// Writes a row down: size 0 deletes the level.
    #[inline]
    pub fn note(&mut self, key: i64, qty: i64) {
        if self.late.len() >= LATE + 2 * self.len() {
            self.settle();
        }
        self.late.push((key, qty));
    }

    /// Sets what was written down.
    pub fn settle(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let mut late = std::mem::take(&mut self.late);
        for (key, qty) in late.drain(..) {
            if qty == 0 {
                self.remove(key);
            } else {
                self.insert(key, qty);
            }
        }
        self.late = late;
    }

    pub fn get(&self, key: i64) -> Option<i64> {
        if let Some(&(_, qty)) = self.late.iter().rev().find(|(late, _)| *late == key) {
            return (qty != 0).then_some(qty);
        }
        match &self.levels {
            Levels::Hash(levels) => levels.get(&key).copied(),
            Levels::Tree(levels) => levels.get(&key).copied(),
        }
    }

    pub fn insert(&mut self, key: i64, qty: i64) {
        self.settle();
        match &mut self.levels {
            Levels::Hash(levels) => levels.insert(key, qty),
            Levels::Tree(levels) => levels.insert(key, qty),
        };
    }

    /// Whether there was such a level.
    pub fn remove(&mut self, key: i64) -> bool {
        self.settle();
        match &mut self.levels {
            Levels::Hash(levels) => levels.remove(&key).is_some(),
            Levels::Tree(levels) => levels.remove(&key).is_some(),
        }
    }

    pub fn clear(&mut self) {
        self.late.clear();
        match &mut self.levels {
            // Emptying costs what it could hold.
            Levels::Hash(levels) if levels.capacity() <= 8 * levels.len() + 1024 => levels.clear(),
            Levels::Hash(levels) => *levels = HashMap::default(),
            Levels::Tree(_) => self.levels = Levels::Hash(HashMap::default()),
        }
    }

    /// Rows have come that may be spent.
    pub fn earn(&mut self, rows: usize) {
        self.credit = self.credit.saturating_add(rows.saturating_mul(LEVELS_A_ROW));
    }

    /// Spends a look at `count` levels, if it was earned.
    pub fn spend(&mut self, count: usize) -> bool {
        let left = self.credit.checked_sub(count);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }

    /// A question of order is coming: it is paid for, or the levels are put in order once and for all.
    fn pay(&mut self) {
        self.settle();
        let Levels::Hash(levels) = &mut self.levels else { return };
        // A look at all costs what it could hold.
        if let Some(left) = self.credit.checked_sub(levels.capacity()) {
            self.credit = left;
        } else {
            self.levels = Levels::Tree(std::mem::take(levels).into_iter().collect());
        }
    }

    /// The best key.
    pub fn first(&mut self) -> Option<i64> {
        self.pay();
        match &self.levels {
            Levels::Hash(levels) => levels.keys().min().copied(),
            Levels::Tree(levels) => levels.keys().next().copied(),
        }
    }

    /// Puts the best `count` levels in `out`, best first, and nothing else.
    pub fn best(&mut self, count: usize, out: &mut Vec<(i64, i64)>) {
        self.pay();
        out.clear();
        match &self.levels {
            Levels::Hash(levels) => {
                out.extend(levels.iter().map(|(&key, &qty)| (key, qty)));
                out.sort_unstable();
                out.truncate(count);
            }
            Levels::Tree(levels) => out.extend(levels.iter().take(count).map(|(&key, &qty)| (key, qty))),
        }
    }

    /// Moves the levels before `end` to `out`, in no order.
    pub fn take_before(&mut self, end: i64, out: &mut Vec<(i64, i64)>) {
        self.pay();
        match &mut self.levels {
            Levels::Hash(levels) => out.extend(levels.extract_if(|&key, _| key < end)),
            Levels::Tree(levels) => {
                let rest = levels.split_off(&end);
                out.extend(std::mem::replace(levels, rest));
            }
        }
    }

    /// Shows every level, in no order.
    pub fn each(&self, mut show: impl FnMut((i64, i64))) {
        if !self.late.is_empty() {
            return self.sorted().into_iter().for_each(show);
        }
        match &self.levels {
            Levels::Hash(levels) => levels.iter().for_each(|(&key, &qty)| show((key, qty))),
            Levels::Tree(levels) => levels.iter().for_each(|(&key, &qty)| show((key, qty))),
        }
    }

    /// Every level, best first.
    pub fn sorted(&self) -> Vec<(i64, i64)> {
        if !self.late.is_empty() {
            let mut settled = self.clone();
            settled.settle();
            return settled.sorted();
        }
        match &self.levels {
            Levels::Hash(levels) => {
                let mut all: Vec<(i64, i64)> = levels.iter().map(|(&key, &qty)| (key, qty)).collect();
                all.sort_unstable();
                all
            }
            Levels::Tree(levels) => levels.iter().map(|(&key, &qty)| (key, qty)).collect(),
        }
    }
}
