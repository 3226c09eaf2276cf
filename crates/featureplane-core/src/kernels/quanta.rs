//! Windows of time, counted in quanta (rule 8). Twin of `featureplane/features/kernels/quanta.py`.
//!
//! The reference adds up the quanta of the window at every reading. Here the sum of the window is
//! kept, and a quantum is taken out of it when the edge has passed: integers, so that the two are
//! equal, and never more than [`QUANTA`] of them, so that a silence of hours costs no more than one.

use serde::Deserialize;

use super::state::{StateReader, StateWriter, words_of};
use crate::error::Error;

/// Quanta in a window.
pub const QUANTA: usize = 1000;

/// A window ends in the quantum of the clock, so the first one inside is this many before it.
pub(super) const BEHIND: i64 = 999;

/// Places in a ring: all quanta of a window, one that lies before it, and a power of two.
pub(super) const PLACES: usize = 1024;

/// What an input means between its advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It has a value between them: price, size, ratio.
    State,
    /// It counts once at each: order flow, signed size.
    Flow,
}

/// Where a window of time begins, and whether it has been watched for long enough.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    quantum_ns: i64,
    /// 2^64 / q, rounded down: multiplying with it is dividing by q, nearly.
    reciprocal: u64,
    kind: Kind,
    since: Option<i64>,
    since_index: i64,
    /// The quantum of the last clock asked for: nearly all clocks lie in the one before.
    index: i64,
    begins: i64,
}

impl Edge {
    /// # Panics
    /// `window_ns` is not positive or no multiple of [`QUANTA`]; plans are checked before.
    pub fn new(window_ns: i64, kind: Kind) -> Self {
        let quantum_ns = window_ns / (BEHIND + 1);
        assert!(quantum_ns > 0 && quantum_ns * (BEHIND + 1) == window_ns, "window of {window_ns} ns");
        let reciprocal = u64::MAX / quantum_ns.cast_unsigned();
        Self { quantum_ns, reciprocal, kind, since: None, since_index: 0, index: 0, begins: 0 }
    }

    pub fn reset(&mut self) {
        self.since = None;
    }

    pub const fn quantum_ns(&self) -> i64 {
        self.quantum_ns
    }

    /// Quantum of any clock.
    #[inline]
    pub fn divide(&self, clock: i64) -> i64 {
        if clock < 0 {
            return clock.div_euclid(self.quantum_ns);
        }
        // The reciprocal is at most 1 too small, and clock / 2^64 below a half; so the quotient is at
        // most 1 too small.
        let (clock, quantum_ns) = (clock.cast_unsigned(), self.quantum_ns.cast_unsigned());
        let product = u128::from(clock) * u128::from(self.reciprocal);
        let low = u64::try_from(product >> 64).unwrap_or(0);
        (low + u64::from(clock - low * quantum_ns >= quantum_ns)).cast_signed()
    }

    /// Quantum of a clock. Wrapping, because the quantum of the very first clocks begins before
    /// `i64::MIN`; the difference is right all the same.
    #[inline]
    pub fn index(&mut self, clock: i64) -> i64 {
        if clock.wrapping_sub(self.begins).cast_unsigned() >= self.quantum_ns.cast_unsigned() {
            self.index = self.divide(clock);
            self.begins = self.index.wrapping_mul(self.quantum_ns);
        }
        self.index
    }

    /// The first quantum inside the window that ends at `clock`.
    #[inline]
    pub fn first(&mut self, clock: i64) -> i64 {
        self.index(clock) - BEHIND
    }

    /// Whether the window whose first quantum is `first` has been watched from its edge on.
    #[inline]
    pub const fn is_covered(&self, first: i64) -> bool {
        self.since.is_some() && self.since_index < first
    }

    /// A step begins: flows are watched from the first one on.
    #[inline]
    pub fn step(&mut self, clock: i64) {
        if self.since.is_none() && self.kind == Kind::Flow {
            self.watch(clock);
        }
    }

    /// A defined value was seen: states are watched from the first one on.
    #[inline]
    pub fn value(&mut self, clock: i64) {
        if self.since.is_none() && self.kind == Kind::State {
            self.watch(clock);
        }
    }

    #[cold]
    fn watch(&mut self, clock: i64) {
        self.since = Some(clock);
        self.since_index = self.divide(clock);
    }

    pub fn save(&self, state: &mut StateWriter) {
        state.option_i64(self.since);
    }

    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.since = None;
        if let Some(clock) = state.option_i64()? {
            self.watch(clock);
        }
        Ok(())
    }
}

/// What is added up in a quantum. Wrapping, so that a saved state which lies cannot panic.
pub(super) trait Sums: Copy + Default {
    fn add(&mut self, other: &Self);
    fn take(&mut self, other: &Self);
    /// Appends a quantum's key, then its sums.
    fn save(&self, key: i64, state: &mut StateWriter);
    fn load(state: &mut StateReader) -> Result<Self, Error>;
}

impl Sums for i128 {
    #[inline]
    fn add(&mut self, other: &Self) {
        *self = self.wrapping_add(*other);
    }

    #[inline]
    fn take(&mut self, other: &Self) {
        *self = self.wrapping_sub(*other);
    }

    fn save(&self, key: i64, state: &mut StateWriter) {
        let [low, high] = words_of(*self);
        state.words([key.cast_unsigned(), low, high]);
    }

    fn load(state: &mut StateReader) -> Result<Self, Error> {
        state.i128()
    }
}

/// A ring of at most [`PLACES`] items; `oldest`, `live` and `next` count pushes and never turn back.
#[derive(Clone, Debug)]
pub(super) struct QuantumRing<T> {
    items: Box<[T; PLACES]>,
    /// First item kept.
    oldest: usize,
    /// First item inside the window that was last looked at. It may lie behind `oldest`, because
    /// only an advance forgets: so a saved state does not depend on who looked, and when.
    pub live: usize,
    /// One behind the newest item.
    pub next: usize,
}

impl<T: Copy + Default> QuantumRing<T> {
    pub fn new() -> Self {
        let items = vec![T::default(); PLACES].into_boxed_slice();
        let Ok(items) = items.try_into() else { unreachable!("a slice of PLACES items") };
        Self { items, oldest: 0, live: 0, next: 0 }
    }

    pub fn clear(&mut self) {
        (self.oldest, self.live, self.next) = (0, 0, 0);
    }

    #[inline]
    pub const fn at(&self, place: usize) -> &T {
        &self.items[place % PLACES]
    }

    #[inline]
    pub fn newest(&mut self) -> Option<&mut T> {
        (self.next > self.oldest).then(|| &mut self.items[(self.next - 1) % PLACES])
    }

    /// Forgets what lies before `live` and appends.
    #[inline]
    pub fn push(&mut self, item: T) {
        self.oldest = self.live;
        debug_assert!(self.next - self.oldest < PLACES, "more quanta than a window has");
        self.items[self.next % PLACES] = item;
        self.next += 1;
    }

    pub const fn oldest(&self) -> usize {
        self.oldest
    }

    pub const fn len(&self) -> usize {
        self.next - self.oldest
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (self.oldest..self.next).map(|place| self.at(place))
    }
}

/// Sums over a window of time.
#[derive(Clone, Debug)]
pub(super) struct Quanta<S> {
    pub edge: Edge,
    ring: QuantumRing<(i64, S)>,
    total: S,
}

impl<S: Sums> Quanta<S> {
    pub fn new(window_ns: i64, kind: Kind) -> Self {
        Self { edge: Edge::new(window_ns, kind), ring: QuantumRing::new(), total: S::default() }
    }

    pub fn reset(&mut self) {
        self.edge.reset();
        self.ring.clear();
        self.total = S::default();
    }

    #[inline]
    pub fn add(&mut self, item: S, clock: i64) {
        let index = self.edge.index(clock);
        match self.ring.newest() {
            // WHY not `==`: clocks do not go back, but a saved state may lie about them.
            Some((key, sums)) if *key >= index => sums.add(&item),
            _ => {
                self.pass(index - BEHIND);
                self.ring.push((index, item));
            }
        }
        self.total.add(&item);
    }

    /// Sums of the window that ends at `clock`; `None` while it is not covered.
    #[inline]
    pub fn covered(&mut self, clock: i64) -> Option<&S> {
        let first = self.edge.first(clock);
        if !self.edge.is_covered(first) {
            return None;
        }
        self.pass(first);
        Some(&self.total)
    }

    /// Takes what lies before the edge out of the total.
    #[inline]
    fn pass(&mut self, first: i64) {
        while self.ring.live < self.ring.next {
            let (key, sums) = self.ring.at(self.ring.live);
            if *key >= first {
                break;
            }
            self.total.take(sums);
            self.ring.live += 1;
        }
    }

    pub fn save(&self, state: &mut StateWriter) {
        self.edge.save(state);
        state.count(self.ring.len());
        for (key, sums) in self.ring.iter() {
            sums.save(*key, state);
        }
    }

    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.reset();
        self.edge.load(state)?;
        let mut keys = Keys::default();
        for _ in 0..state.count(QUANTA)? {
            let key = keys.next(state)?;
            let sums = S::load(state)?;
            self.ring.push((key, sums));
            self.total.add(&sums);
        }
        match (keys.newest, self.ring.iter().next()) {
            (Some(newest), Some(&(first, _))) => Keys::check_span(state, first, newest),
            _ => Ok(()),
        }
    }
}

/// Reads the numbers of quanta, which ascend.
#[derive(Debug, Default)]
pub(super) struct Keys {
    newest: Option<i64>,
}

impl Keys {
    pub fn next(&mut self, state: &mut StateReader) -> Result<i64, Error> {
        let key = state.i64()?;
        if let Some(newest) = self.newest.replace(key).filter(|&newest| newest >= key) {
            return Err(state.refuse(format!("quantum {key}"), format!("one behind {newest}")));
        }
        Ok(key)
    }

    /// Whether a window that ends in quantum `last` reaches back to `first`.
    pub fn check_span(state: &StateReader, first: i64, last: i64) -> Result<(), Error> {
        match last.checked_sub(first) {
            Some(0..=BEHIND) => Ok(()),
            _ => Err(state.refuse(format!("quanta {first} to {last}"), "those of one window")),
        }
    }
}
