//! One side of a price-level book.
//!
//! WHY: a flat window of sizes around the best price with an occupancy bitmap, and a hash for the
//! levels outside, measured against sorted vectors and trees in `docs/decisions`. A row costs one
//! bounds check, one store and one bit; the best levels are read by counting trailing zeros.
//!
//! Keys are `price / tick`, negated for bids, so that lower is better on both sides.

use super::Level;
use super::far::Far;
use super::grid::{Grid, gcd};

/// Window slots at the start; grows while more than one row in 20 falls outside.
const SLOTS_MIN: usize = 1 << 12;
/// Slots of a deep book, and the rows outside a smaller window that show one: its first snapshot does.
const DEEP: (usize, u32) = (1 << 14, 1 << 6);
const SLOTS_MAX: usize = 1 << 16;
/// Levels better than the window that are kept in a list before the window moves.
const NEAR_MAX: usize = 8;
/// The same where moves have not been paid for by rows.
const NEAR_LIMIT: usize = 1 << 10;
/// Rows after which the window's size is looked at again.
const REVIEW_ROWS: u32 = 1 << 12;
/// The same where the window is no longer than this: most of a feed's rows are soon seen to need more.
const REVIEW_SOON: (usize, u32) = (1 << 13, 1 << 10);

/// No slot.
pub(super) const UNTOUCHED: usize = usize::MAX;

/// One side: all levels, and the best `depth` of them ready to read.
#[derive(Clone, Debug)]
pub(super) struct Ladder<const BID: bool> {
    grid: Grid,
    base: i64,
    sizes: Vec<i64>,
    bits: Vec<u64>,
    /// No occupied slot stands before it. Never behind `worst`.
    low: usize,
    /// Levels better than the window, best first.
    near: Vec<(i64, i64)>,
    /// Levels worse than the window.
    far: Far,
    /// Levels on their way, for a moment; kept for its room.
    moving: Vec<(i64, i64)>,
    rows: u32,
    rows_outside: u32,
    depth: usize,
    top: Vec<Level>,
    /// Touching a slot up to this one makes `top` stale.
    worst: usize,
    stale: bool,
}

impl<const BID: bool> Ladder<BID> {
    /// An empty side on a grid of `tick` that keeps its best `depth` levels ready.
    pub(super) fn new(tick: i64, depth: usize) -> Self {
        Self {
            grid: Grid::new(tick.max(1)),
            base: 0,
            sizes: vec![0; SLOTS_MIN],
            bits: vec![0; SLOTS_MIN / 64],
            low: SLOTS_MIN,
            near: Vec::with_capacity(NEAR_MAX + 1),
            far: Far::default(),
            moving: Vec::new(),
            rows: 0,
            rows_outside: 0,
            depth,
            top: Vec::with_capacity(depth),
            worst: usize::MAX,
            stale: false,
        }
    }

    fn key(&self, price: i64) -> Option<i64> {
        self.grid.key(price).map(|key| if BID { -key } else { key })
    }

    fn price(&self, key: i64) -> i64 {
        (if BID { -key } else { key }) * self.grid.tick
    }

    fn slot(&self, key: i64) -> usize {
        usize::try_from(key.wrapping_sub(self.base).cast_unsigned()).unwrap_or(usize::MAX)
    }

    /// Whether every price is a key as it stands, but for its sign; once so, always.
    pub(super) fn is_unit(&self) -> bool {
        self.grid.tick == 1
    }

    /// Sets the size at `price`; 0 deletes the level.
    #[inline]
    pub(super) fn set(&mut self, price: i64, qty: i64) {
        let mut best = UNTOUCHED;
        self.put::<false>(price, qty, &mut best);
        self.touch(best);
    }

    /// [`Self::set`] for one of many rows; `UNIT` says what [`Self::is_unit`] does. The best slot touched so
    /// far is in `best`, which [`Self::touch`] has to be told in the end.
    ///
    /// WHY: written in place for each row, it would make each wait for the row before; a branch is not foreseen.
    #[allow(clippy::inline_always, reason = "`best` is to stay in a register")]
    #[inline(always)]
    pub(super) fn put<const UNIT: bool>(&mut self, price: i64, qty: i64, best: &mut usize) {
        let key = if UNIT { Some(if BID { -price } else { price }) } else { self.key(price) };
        let Some(key) = key else {
            self.touch(std::mem::replace(best, UNTOUCHED));
            return self.set_off_grid(price, qty);
        };
        let slot = self.slot(key);
        if let (Some(size), Some(word)) = (self.sizes.get_mut(slot), self.bits.get_mut(slot / 64)) {
            *size = qty;
            let bit = slot % 64;
            *word = (*word & !(1 << bit)) | (u64::from(qty != 0) << bit);
            *best = slot.min(*best);
        } else {
            self.touch(std::mem::replace(best, UNTOUCHED));
            self.set_outside(key, qty);
        }
    }

    /// Slots were set, this one the best of them.
    #[inline]
    pub(super) fn touch(&mut self, best: usize) {
        if best != UNTOUCHED && best <= self.worst {
            self.low = self.low.min(best);
            self.stale = true;
        }
    }

    #[cold]
    fn set_off_grid(&mut self, price: i64, qty: i64) {
        let levels = self.levels();
        self.grid = Grid::new(gcd(self.grid.tick, price).max(1));
        self.clear();
        for level in levels {
            self.set(level.price, level.qty);
        }
        self.set(price, qty);
    }

    #[inline(never)]
    fn set_outside(&mut self, key: i64, qty: i64) {
        if key > self.base && self.worst != usize::MAX && self.sizes.len() >= DEEP.0 {
            self.rows_outside += 1;
            return self.far.note(key, qty);
        }
        self.set_elsewhere(key, qty);
    }

    /// A row outside the window that may be of the best levels, or show that the window is too small.
    #[cold]
    fn set_elsewhere(&mut self, key: i64, qty: i64) {
        if self.is_empty() {
            if qty != 0 {
                (self.base, self.worst) = (key - self.margin(), usize::MAX);
                self.set(self.price(key), qty);
            }
            return;
        }
        self.rows_outside += 1;
        if self.rows_outside > DEEP.1 && self.sizes.len() < DEEP.0 {
            (self.rows, self.rows_outside) = (0, 0);
            self.recentre(DEEP.0);
            return self.set(self.price(key), qty);
        }
        if key < self.base {
            self.stale = true;
            match (self.near.binary_search_by_key(&key, |&(key, _)| key), qty) {
                (Ok(at), 0) => drop(self.near.remove(at)),
                (Ok(at), _) => self.near[at].1 = qty,
                (Err(_), 0) => {}
                (Err(at), _) => self.near.insert(at, (key, qty)),
            }
            if self.near.len() > NEAR_MAX && (self.near.len() > NEAR_LIMIT || self.far.spend(self.occupied()))
            {
                self.recentre(self.sizes.len());
            }
        } else if qty == 0 {
            self.stale |= self.far.remove(key) && self.worst == usize::MAX;
        } else {
            self.far.insert(key, qty);
            self.stale |= self.worst == usize::MAX;
        }
    }

    /// Slots kept free before the best level, for better prices to come.
    fn margin(&self) -> i64 {
        i64::try_from(self.sizes.len() / 4).unwrap_or(0)
    }

    fn is_empty(&self) -> bool {
        self.near.is_empty() && self.far.is_empty() && self.first_slot().is_none()
    }

    fn first_slot(&self) -> Option<usize> {
        let (mut at, mut mask) = (self.low / 64, u64::MAX << (self.low % 64));
        while let Some(&word) = self.bits.get(at) {
            if word & mask != 0 {
                return Some(at * 64 + (word & mask).trailing_zeros() as usize);
            }
            (at, mask) = (at + 1, u64::MAX);
        }
        None
    }

    /// Levels in the window.
    fn occupied(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Moves the window so that the best level stands a quarter from its start, and gives it `slots`.
    #[cold]
    fn recentre(&mut self, slots: usize) {
        self.stale = true;
        let near = self.near.first().map(|&(key, _)| key);
        let best = near.or_else(|| self.first_slot().map(|slot| self.key_of(slot)));
        let Some(best) = best.or_else(|| self.far.first()) else { return };
        let mut moving = std::mem::take(&mut self.moving);
        let end = self.key_of(self.sizes.len());
        self.empty_window(&mut moving);
        self.sizes.resize(slots, 0);
        self.bits.resize(slots / 64, 0);
        self.base = best - self.margin();
        (self.low, self.worst) = (slots, usize::MAX);
        if self.key_of(slots) > end && !self.far.is_empty() {
            self.far.take_before(self.key_of(slots), &mut moving);
        }
        for (key, qty) in moving.drain(..) {
            let slot = self.slot(key);
            if let Some(size) = self.sizes.get_mut(slot) {
                *size = qty;
                self.bits[slot / 64] |= 1 << (slot % 64);
                self.low = self.low.min(slot);
            } else {
                self.far.insert(key, qty);
            }
        }
        self.moving = moving;
    }

    /// Moves everything out of the window and from before it to `out`.
    fn empty_window(&mut self, out: &mut Vec<(i64, i64)>) {
        out.append(&mut self.near);
        let inside = out.len();
        out.extend(self.window());
        for &(key, _) in &out[inside..] {
            let slot = self.slot(key);
            self.sizes[slot] = 0;
        }
        self.bits.fill(0);
    }

    fn key_of(&self, slot: usize) -> i64 {
        self.base + i64::try_from(slot).unwrap_or(i64::MAX)
    }

    fn window(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.bits.iter().enumerate().flat_map(move |(at, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
            .map(|slot| (self.key_of(slot), self.sizes[slot]))
        })
    }

    /// Doubles the window if it was too small for the rows seen since the last review.
    fn review(&mut self, rows: u32) {
        self.far.earn(rows as usize);
        self.rows += rows;
        let (short, soon) = REVIEW_SOON;
        if self.rows < (if self.sizes.len() <= short { soon } else { REVIEW_ROWS }) {
            return;
        }
        if self.rows_outside > self.rows / 20 && self.sizes.len() < SLOTS_MAX {
            self.recentre(self.sizes.len() * 2);
        }
        (self.rows, self.rows_outside) = (0, 0);
    }

    /// Reads the best levels again if they may have changed, and whether it did. `rows` is how many were
    /// set since the last call.
    #[inline]
    pub(super) fn top(&mut self, rows: u32) -> bool {
        let stale = self.stale;
        if stale {
            self.review(rows);
            self.refresh();
        }
        stale
    }

    /// Whether the best levels may have changed since the last call of [`Self::top`].
    #[inline]
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// The best levels as of the last call of [`Self::top`], at most `depth`, best first.
    pub(super) fn seen(&self) -> &[Level] {
        &self.top
    }

    fn refresh(&mut self) {
        self.stale = false;
        self.read_window();
        if self.top.len() < self.depth && !self.far.is_empty() {
            // Most of the window lies behind the best level, or nothing is in it: a move helps.
            if self.first_slot().is_none_or(|slot| slot > self.sizes.len() / 2) {
                self.recentre(self.sizes.len());
                self.stale = false;
                self.read_window();
            }
            self.read_far();
        }
    }

    fn read_window(&mut self) {
        self.top.clear();
        for &(key, qty) in self.near.iter().take(self.depth) {
            let price = self.price(key);
            self.top.push(Level { price, qty });
        }
        self.worst = usize::MAX;
        if self.top.len() == self.depth {
            (self.worst, self.low) = (0, 0);
            return;
        }
        self.low = self.first_slot().unwrap_or(self.sizes.len());
        if self.top.is_empty() && self.depth <= 64 && self.read_next_to_best() {
            return;
        }
        let (mut at, mut mask) = (self.low / 64, u64::MAX << (self.low % 64));
        while let Some(&word) = self.bits.get(at) {
            let mut rest = word & mask;
            while rest != 0 {
                let slot = at * 64 + rest.trailing_zeros() as usize;
                rest &= rest - 1;
                let price = self.price(self.key_of(slot));
                self.top.push(Level { price, qty: self.sizes[slot] });
                if self.top.len() == self.depth {
                    self.worst = slot;
                    return;
                }
            }
            (at, mask) = (at + 1, u64::MAX);
        }
    }

    /// Reads the best levels, if all of them stand in the 64 slots from the best on; whether they do.
    ///
    /// WHY: how many stand in a word of the bitmap is not foreseen, that all do in 64 slots is.
    #[inline]
    fn read_next_to_best(&mut self) -> bool {
        let (at, from) = (self.low / 64, self.low % 64);
        let Some(&word) = self.bits.get(at) else { return false };
        let behind = self.bits.get(at + 1).copied().unwrap_or(0);
        let mut rest = word >> from | behind << 1 << (63 - from);
        let (best, unit) = (self.key_of(self.low), self.price(1));
        let sizes = &self.sizes[self.low..];
        let mut worst = self.low;
        self.top.resize(self.depth, Level { price: 0, qty: 0 });
        for level in &mut self.top {
            let behind = rest.trailing_zeros();
            let Some(&qty) = sizes.get(behind as usize).filter(|_| rest != 0) else {
                self.top.clear();
                return false;
            };
            rest &= rest - 1;
            worst = self.low + behind as usize;
            *level = Level { price: (best + i64::from(behind)) * unit, qty };
        }
        self.worst = worst;
        true
    }

    fn read_far(&mut self) {
        let missing = self.depth - self.top.len();
        if missing == 0 {
            return;
        }
        let mut moving = std::mem::take(&mut self.moving);
        self.far.best(missing, &mut moving);
        for (key, qty) in moving.drain(..) {
            let price = self.price(key);
            self.top.push(Level { price, qty });
        }
        self.moving = moving;
    }

    /// The size at `price`, 0 if there is no level.
    pub(super) fn qty(&self, price: i64) -> i64 {
        let Some(key) = self.key(price) else { return 0 };
        if let Some(&size) = self.sizes.get(self.slot(key)) {
            return size;
        }
        if key < self.base {
            let place = self.near.binary_search_by_key(&key, |&(key, _)| key);
            return place.map_or(0, |at| self.near[at].1);
        }
        self.far.get(key).unwrap_or(0)
    }

    /// Every level, best first.
    pub(super) fn levels(&self) -> Vec<Level> {
        let mut levels = Vec::new();
        self.each(true, |level| levels.push(level));
        levels
    }

    /// Lets [`Self::each`] find all levels in one place; they stay what they are.
    pub(super) fn settle(&mut self) {
        self.far.settle();
    }

    /// Shows every level, best first or, which costs less, those far from the best in no order; how many.
    pub(super) fn each(&self, sorted: bool, mut show: impl FnMut(Level)) -> usize {
        let mut count = 0;
        let mut show = |(key, qty)| {
            show(Level { price: self.price(key), qty });
            count += 1;
        };
        self.near.iter().copied().for_each(&mut show);
        self.window().for_each(&mut show);
        if sorted {
            self.far.sorted().into_iter().for_each(&mut show);
        } else {
            self.far.each(show);
        }
        count
    }

    /// Removes every level.
    pub(super) fn clear(&mut self) {
        self.sizes.fill(0);
        self.bits.fill(0);
        (self.low, self.worst) = (self.sizes.len(), usize::MAX);
        self.near.clear();
        self.far.clear();
        self.stale = true;
    }

    /// Removes the levels from the best to `price`, inclusive.
    pub(super) fn clear_to(&mut self, price: i64) {
        let bound = (if BID { -price } else { price }).div_euclid(self.grid.tick);
        (self.stale, self.worst) = (true, usize::MAX);
        self.near.drain(..self.near.partition_point(|&(key, _)| key <= bound));
        while let Some(slot) = self.first_slot() {
            if self.key_of(slot) > bound {
                return;
            }
            self.sizes[slot] = 0;
            self.bits[slot / 64] &= !(1 << (slot % 64));
            self.low = slot + 1;
        }
        if !self.far.is_empty() {
            let mut moving = std::mem::take(&mut self.moving);
            self.far.take_before(bound + 1, &mut moving);
            moving.clear();
            self.moving = moving;
        }
    }
}
