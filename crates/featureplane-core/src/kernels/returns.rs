//! Returns of the mid over windows of time. Twin of `featureplane/features/kernels/returns.py`.

use super::cell::{Cell, why};
use super::moments::SQUARE_LIMIT;
use super::quanta::{BEHIND, Edge, Keys, Kind, QUANTA, Quanta, QuantumRing, Sums};
use super::state::{StateReader, StateWriter, words_of};
use crate::error::Error;
use crate::units::{half_even_div, half_even_div_i64, isqrt};

/// Squared returns of a quantum, and how many were too large to square.
///
/// LIMIT: 2^33 returns in a window; 128 bits hold the squares of no more.
#[derive(Clone, Copy, Debug, Default)]
struct Squares {
    sum: i128,
    beyond: i64,
}

impl Sums for Squares {
    #[inline]
    fn add(&mut self, other: &Self) {
        self.sum.add(&other.sum);
        self.beyond = self.beyond.wrapping_add(other.beyond);
    }

    #[inline]
    fn take(&mut self, other: &Self) {
        self.sum.take(&other.sum);
        self.beyond = self.beyond.wrapping_sub(other.beyond);
    }

    fn save(&self, key: i64, state: &mut StateWriter) {
        let [sum, sum_high] = words_of(self.sum);
        state.words([key.cast_unsigned(), sum, sum_high, self.beyond.cast_unsigned()]);
    }

    fn load(state: &mut StateReader) -> Result<Self, Error> {
        Ok(Self { sum: state.i128()?, beyond: state.i64()? })
    }
}

/// R(10^9 (now - before), before), a return in units of 10^-5 bps; `None` outside 64 bits.
#[inline]
fn scaled_return(now: i64, before: i64) -> Option<i64> {
    // The common case in 64 bits: a change below 9.2 x 10^9 half ticks.
    match now.checked_sub(before).and_then(|change| change.checked_mul(1_000_000_000)) {
        Some(change) => half_even_div_i64(change, before),
        None => half_even_div((i128::from(now) - i128::from(before)) * 1_000_000_000, before.into()),
    }
}

/// Root of the sum of squared returns from advance to advance.
#[derive(Clone, Debug)]
pub struct RealizedVol {
    window: Quanta<Squares>,
    before: Option<i64>,
}

impl RealizedVol {
    /// `window_ns`: a positive multiple of 1 ms.
    #[must_use]
    pub fn new(window_ns: i64) -> Self {
        Self { window: Quanta::new(window_ns, Kind::State), before: None }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.window.reset();
        self.before = None;
    }

    /// The mid advanced.
    #[inline]
    pub fn update(&mut self, mid_x2: i64, clock: i64) {
        self.window.edge.value(clock);
        let Some(before) = self.before.replace(mid_x2) else { return };
        if before <= 0 {
            return;
        }
        let squares = match scaled_return(mid_x2, before) {
            Some(r) if r.unsigned_abs() < SQUARE_LIMIT => {
                Squares { sum: i128::from(r) * i128::from(r), beyond: 0 }
            }
            _ => Squares { sum: 0, beyond: 1 },
        };
        self.window.add(squares, clock);
    }

    /// The value at `clock`.
    #[inline]
    pub fn read(&mut self, clock: i64) -> Cell {
        let Some(squares) = self.window.covered(clock) else { return Cell::COLD };
        if squares.beyond != 0 {
            return Cell::undefined(why::OVERFLOW);
        }
        Cell::wide(isqrt(squares.sum.cast_unsigned()).into())
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        state.option_i64(self.before);
        self.window.save(state);
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel with these parameters; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.before = state.option_i64()?;
        self.window.load(state)
    }
}

/// Return against the last mid from before the window.
#[derive(Clone, Debug)]
pub struct ReturnBps {
    edge: Edge,
    /// The last mid of each quantum: of those inside the window, and of one before it.
    mids: QuantumRing<(i64, i64)>,
}

impl ReturnBps {
    /// `window_ns`: a positive multiple of 1 ms.
    #[must_use]
    pub fn new(window_ns: i64) -> Self {
        Self { edge: Edge::new(window_ns, Kind::State), mids: QuantumRing::new() }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.mids.clear();
    }

    /// The mid advanced.
    #[inline]
    pub fn update(&mut self, mid_x2: i64, clock: i64) {
        let index = self.edge.index(clock);
        match self.mids.newest() {
            // WHY not `==`: clocks do not go back, but a saved state may lie about them.
            Some((key, mid)) if *key >= index => *mid = mid_x2,
            _ => {
                self.pass(index - BEHIND);
                self.mids.push((index, mid_x2));
            }
        }
    }

    /// Makes `live` the last quantum before `first`, if there is one.
    #[inline]
    fn pass(&mut self, first: i64) {
        while self.mids.live + 1 < self.mids.next && self.mids.at(self.mids.live + 1).0 < first {
            self.mids.live += 1;
        }
    }

    /// The value at `clock`.
    #[inline]
    pub fn read(&mut self, clock: i64) -> Cell {
        let first = self.edge.first(clock);
        self.pass(first);
        let Some(&mut (_, now)) = self.mids.newest() else { return Cell::COLD };
        let (key, before) = *self.mids.at(self.mids.live);
        if key >= first {
            return Cell::COLD;
        }
        if before <= 0 {
            return Cell::undefined(0);
        }
        scaled_return(now, before).map_or(Cell::undefined(why::OVERFLOW), Cell::int)
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        state.count(self.mids.len());
        for &(key, mid) in self.mids.iter() {
            state.words([key, mid].map(i64::cast_unsigned));
        }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel with these parameters; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.reset();
        let mut keys = Keys::default();
        for _ in 0..state.count(QUANTA + 1)? {
            let key = keys.next(state)?;
            self.mids.push((key, state.i64()?));
        }
        // The first may stand before the window, any time before.
        match (self.mids.iter().nth(1), self.mids.iter().last()) {
            (Some(&(first, _)), Some(&(last, _))) => Keys::check_span(state, first, last),
            _ => Ok(()),
        }
    }
}
