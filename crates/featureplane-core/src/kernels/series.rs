//! Kernels over the last advances of one input. Twin of `featureplane/features/kernels/series.py`.

use super::cell::{Cell, why};
use super::number::Number;
use super::ring::Ring;
use super::state::{StateReader, StateWriter};
use crate::error::Error;
use crate::units::to_f64;

/// The value n advances ago.
#[derive(Clone, Debug)]
pub struct Lag<N> {
    /// Of n + 1 values: the present one and those since.
    values: Ring<N>,
}

impl<N: Number> Lag<N> {
    /// `n` advances back.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { values: Ring::new(n + 1) }
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        self.values.clear();
    }

    /// Takes one value.
    #[inline]
    pub fn update(&mut self, x: N) {
        self.values.push(x);
    }

    /// The oldest value held, once all of them are.
    #[inline]
    #[must_use]
    pub fn read(&self) -> Cell {
        if self.values.is_full() { self.values.oldest(0).cell() } else { Cell::COLD }
    }

    /// See the reference for the layout.
    pub fn save(&self, out: &mut StateWriter) {
        self.values.save(out, |out, x| out.u64(x.to_bits()));
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// The state is not one of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.values.load(from, number)
    }
}

/// One defined value of a saved state.
fn number<N: Number>(from: &mut StateReader<'_>) -> Result<N, Error> {
    let x = N::from_bits(from.u64()?);
    if x.cell().is_defined() { Ok(x) } else { Err(from.refuse(format!("{x:?}"), "a defined value")) }
}

/// Change since the advance before.
#[derive(Clone, Debug)]
pub struct Diff<N> {
    before: Option<N>,
    now: Option<N>,
}

impl<N: Number> Default for Diff<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Number> Diff<N> {
    /// Nothing seen.
    #[must_use]
    pub const fn new() -> Self {
        Self { before: None, now: None }
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// Takes one value.
    #[inline]
    pub fn update(&mut self, x: N) {
        self.before = self.now.replace(x);
    }

    /// The last change.
    #[inline]
    #[must_use]
    pub fn read(&self) -> Cell {
        match (self.before, self.now) {
            (Some(before), Some(now)) => now.minus(before),
            _ => Cell::COLD,
        }
    }

    /// See the reference for the layout.
    pub fn save(&self, out: &mut StateWriter) {
        let held = self.before.into_iter().chain(self.now);
        out.count(held.clone().count());
        held.for_each(|x| out.u64(x.to_bits()));
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// The state is not one of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.reset();
        for _ in 0..from.count(2)? {
            self.update(number(from)?);
        }
        Ok(())
    }
}

/// Which end of the window is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    /// The least value.
    Min,
    /// The greatest value.
    Max,
}

/// Least or greatest of the last n advances.
///
/// Beside the window stands a monotonic queue: the ages of the values that could still be the
/// answer, each better than all after it. A value enters and leaves it once, so an update is O(1)
/// on average where looking through the window is O(n).
#[derive(Clone, Debug)]
pub struct Extremum<N> {
    extreme: Extreme,
    values: Ring<N>,
    /// (number of the advance, value), best first, in a circle.
    candidates: Vec<(u64, N)>,
    first: usize,
    count: usize,
    advances: u64,
}

impl<N: Number> Extremum<N> {
    /// Over the last `n` advances.
    #[must_use]
    pub fn new(extreme: Extreme, n: usize) -> Self {
        let values = Ring::new(n);
        let candidates = vec![(0, N::default()); values.capacity()];
        Self { extreme, values, candidates, first: 0, count: 0, advances: 0 }
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        self.values.clear();
        self.first = 0;
        self.count = 0;
        self.advances = 0;
    }

    /// Takes one value.
    #[inline]
    pub fn update(&mut self, x: N) {
        self.advances += 1;
        if self.values.push(x).is_some() && self.candidates[self.first].0 + self.window() <= self.advances {
            self.first = self.place(1);
            self.count -= 1;
        }
        while self.count > 0 && self.is_beaten(self.candidates[self.place(self.count - 1)].1, x) {
            self.count -= 1;
        }
        let place = self.place(self.count);
        self.candidates[place] = (self.advances, x);
        self.count += 1;
    }

    fn window(&self) -> u64 {
        self.candidates.len() as u64
    }

    /// Index of the candidate `rank` places behind the best.
    #[inline]
    fn place(&self, rank: usize) -> usize {
        let at = self.first + rank;
        if at >= self.candidates.len() { at - self.candidates.len() } else { at }
    }

    #[inline]
    fn is_beaten(&self, old: N, new: N) -> bool {
        match self.extreme {
            Extreme::Min => old >= new,
            Extreme::Max => old <= new,
        }
    }

    /// The extreme, once the window is full.
    #[inline]
    #[must_use]
    pub fn read(&self) -> Cell {
        if self.values.is_full() { self.candidates[self.first].1.cell() } else { Cell::COLD }
    }

    /// See the reference for the layout: the window alone, the queue follows from it.
    pub fn save(&self, out: &mut StateWriter) {
        self.values.save(out, |out, x| out.u64(x.to_bits()));
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// The state is not one of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.reset();
        for _ in 0..from.count(self.values.capacity())? {
            self.update(number(from)?);
        }
        Ok(())
    }
}

/// Second moments are exact below this magnitude (rule 8).
const MOMENT_LIMIT: u64 = 1 << 47;

/// Autocovariance at one lag over the last n advances.
///
/// The sums move with the window: integers leave a sum as exactly as they came. An oversized value
/// counts as 0 in them and forbids a value until it has left.
#[derive(Clone, Debug)]
pub struct Autocov {
    lag: usize,
    values: Ring<i64>,
    oversized: usize,
    /// Sum of the window, of its `lag` oldest and of its `lag` newest values.
    sum: i64,
    oldest: i64,
    newest: i64,
    products: i128,
    /// F(n^3).
    cube: f64,
}

impl Autocov {
    /// `lag` below `n`, `n` at most 1,024.
    #[must_use]
    pub fn new(lag: usize, n: usize) -> Self {
        let values = Ring::new(n);
        let lag = lag.min(values.capacity() - 1);
        let n = values.capacity() as i128;
        Self { lag, values, oversized: 0, sum: 0, oldest: 0, newest: 0, products: 0, cube: to_f64(n * n * n) }
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        self.values.clear();
        self.oversized = 0;
        (self.sum, self.oldest, self.newest, self.products) = (0, 0, 0, 0);
    }

    /// Takes one value.
    #[inline]
    pub fn update(&mut self, x: i64) {
        let len = self.values.len();
        // The values that meet the newest and the one that leaves at the distance of the lag.
        let behind = if self.lag == 0 {
            x
        } else if len >= self.lag {
            self.values.newest(self.lag - 1)
        } else {
            0
        };
        let ahead = if self.values.is_full() { self.values.oldest(self.lag) } else { 0 };
        let left = self.values.push(x).unwrap_or(0);
        self.oversized += usize::from(is_oversized(x));
        self.oversized -= usize::from(is_oversized(left));
        let (x, left, behind, ahead) = (small(x), small(left), small(behind), small(ahead));
        self.sum += x - left;
        self.newest += x - behind;
        self.oldest += if len < self.lag { x } else { ahead - left };
        self.products += i128::from(x) * i128::from(behind) - i128::from(left) * i128::from(ahead);
    }

    /// In the square of the input's unit, once the window is full.
    #[must_use]
    pub fn read(&self) -> Cell {
        if !self.values.is_full() {
            return Cell::COLD;
        }
        if self.oversized > 0 {
            return Cell::undefined(why::OVERFLOW);
        }
        let (n, k) = (self.values.capacity() as i128, self.lag as i128);
        let sum = i128::from(self.sum);
        let without = i128::from(2 * self.sum - self.oldest - self.newest);
        // The rule's numerator with S1 taken out of the last two terms: one wide product less.
        let above = n * n * self.products - sum * (n * without - (n - k) * sum);
        Cell::float(to_f64(above) / self.cube)
    }

    /// See the reference for the layout.
    pub fn save(&self, out: &mut StateWriter) {
        self.values.save(out, StateWriter::i64);
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// The state is not one of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.reset();
        for _ in 0..from.count(self.values.capacity())? {
            self.update(number(from)?);
        }
        Ok(())
    }
}

#[inline]
const fn is_oversized(x: i64) -> bool {
    x.unsigned_abs() >= MOMENT_LIMIT
}

#[inline]
const fn small(x: i64) -> i64 {
    if is_oversized(x) { 0 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Magnitudes up to 2^52, so that some are too large for second moments, and runs of equal ones.
    fn stream(seed: u64) -> Vec<i64> {
        let mut random = Random::new(seed);
        let mut x = 0;
        let mut draw = || {
            let bits = random.pick(&[3, 3, 20, 52]);
            x = if random.below(5) == 0 { x } else { random.signed(bits) };
            x
        };
        (0..3_000).map(|_| draw()).collect()
    }

    fn tail(values: &[i64], i: usize, n: usize) -> Option<&[i64]> {
        (i + 1).checked_sub(n).map(|start| &values[start..=i])
    }

    #[test]
    fn rule_8_lag_and_diff() {
        let values = stream(1);
        for n in [1, 2, 7] {
            let (mut lag, mut diff) = (Lag::new(n), Diff::new());
            for (i, &x) in values.iter().enumerate() {
                lag.update(x);
                diff.update(x);
                assert_eq!(lag.read(), i.checked_sub(n).map_or(Cell::COLD, |at| Cell::int(values[at])));
                assert_eq!(diff.read(), i.checked_sub(1).map_or(Cell::COLD, |at| Cell::int(x - values[at])));
            }
        }
        let mut diff = Diff::new();
        diff.update(-i64::MAX);
        diff.update(1);
        assert_eq!(diff.read(), Cell::undefined(why::OVERFLOW));
        diff.reset();
        assert_eq!(diff.read(), Cell::COLD);
    }

    #[test]
    fn rule_8_min_and_max() {
        let values = stream(2);
        for n in [1, 2, 3, 16, 129] {
            let mut least = Extremum::new(Extreme::Min, n);
            let mut greatest = Extremum::new(Extreme::Max, n);
            let mut as_float = Extremum::new(Extreme::Max, n);
            for (i, &x) in values.iter().enumerate() {
                least.update(x);
                greatest.update(x);
                as_float.update(x.to_f64());
                let window = tail(&values, i, n);
                let min = window.and_then(|w| w.iter().min().copied());
                let max = window.and_then(|w| w.iter().max().copied());
                assert_eq!(least.read(), min.map_or(Cell::COLD, Cell::int));
                assert_eq!(greatest.read(), max.map_or(Cell::COLD, Cell::int));
                assert_eq!(as_float.read(), max.map_or(Cell::COLD, |x| Cell::float(x.to_f64())));
            }
        }
    }

    /// Rule 8 as written, from the window alone.
    fn autocov(window: &[i64], k: usize) -> Cell {
        if window.iter().any(|x| x.abs() >= 1 << 47) {
            return Cell::undefined(why::OVERFLOW);
        }
        let total = |x: &[i64]| x.iter().map(|&x| i128::from(x)).sum::<i128>();
        let (n, lag) = (window.len() as i128, k as i128);
        let (late, early) = (&window[k..], &window[..window.len() - k]);
        let products: i128 = late.iter().zip(early).map(|(&x, &y)| i128::from(x) * i128::from(y)).sum();
        let sum = total(window);
        let above = n * n * products - n * sum * (total(late) + total(early)) + (n - lag) * sum * sum;
        Cell::float(to_f64(above) / to_f64(n * n * n))
    }

    #[test]
    fn rule_8_autocov_of_every_lag() {
        let values = stream(3);
        for (lag, n) in [(0, 1), (0, 5), (1, 2), (1, 40), (3, 4), (5, 40)] {
            let mut kernel = Autocov::new(lag, n);
            for (i, &x) in values.iter().enumerate() {
                kernel.update(x);
                let expected = tail(&values, i, n).map_or(Cell::COLD, |window| autocov(window, lag));
                assert_eq!(kernel.read(), expected, "lag {lag} of {n}, advance {i}");
            }
        }
    }

    #[test]
    fn rule_8_autocov_holds_the_largest_inputs() {
        let mut kernel = Autocov::new(1, 1024);
        let values: Vec<i64> =
            (0..1024).map(|i| if i % 2 == 0 { (1 << 47) - 1 } else { 1 - (1 << 47) }).collect();
        for &x in &values {
            kernel.update(x);
        }
        assert_eq!(kernel.read(), autocov(&values, 1));
        assert!(kernel.read().as_f64() < -1e28);
    }

    /// Saves after `cut` values and goes on with both, the one that saved and the one that loaded.
    macro_rules! assert_continues {
        ($kernel:expr, $held:expr) => {
            let values = stream(4);
            for cut in [0, 1, 3, 1_000] {
                let (mut one, mut other) = ($kernel, $kernel);
                values[..cut].iter().for_each(|&x| one.update(x));
                let mut out = StateWriter::new();
                one.save(&mut out);
                let bytes = out.into_bytes();
                assert_eq!(bytes.len(), 8 * (1 + cut.min($held)));
                let from = &mut StateReader::new(&bytes);
                other.load(from).unwrap();
                assert!(from.is_empty());
                for &x in &values[cut..cut + 100] {
                    one.update(x);
                    other.update(x);
                    assert_eq!(other.read(), one.read());
                }
            }
        };
    }

    #[test]
    fn saved_state_is_the_window_and_continues() {
        assert_continues!(Lag::new(4), 5);
        assert_continues!(Diff::new(), 2);
        assert_continues!(Extremum::new(Extreme::Min, 9), 9);
        assert_continues!(Autocov::new(2, 9), 9);
    }

    fn is_refused<N: Number>(words: &[u64]) -> bool {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Lag::<N>::new(1).load(&mut StateReader::new(&bytes)).is_err()
    }

    #[test]
    fn a_state_no_kernel_has_is_refused() {
        assert!(!is_refused::<i64>(&[1, 7]) && !is_refused::<f64>(&[1, 7]));
        assert!(is_refused::<i64>(&[1, 1 << 63]) && is_refused::<f64>(&[1, f64::NAN.to_bits()]));
        assert!(is_refused::<i64>(&[3, 0, 0, 0]) && is_refused::<i64>(&[2, 0]));
    }
}
