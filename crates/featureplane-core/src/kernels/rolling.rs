//! Kernels over the last n advances, or all of them. Twin of `featureplane/features/kernels/rolling.py`.
//!
//! The reference adds up its window at every reading. Here one input goes into the sums and one out of
//! them: integers, so that the two are equal.

use super::cell::{Cell, why};
use super::moments::Moments;
use super::quanta::Sums;
use super::ring::Ring;
use super::state::{StateReader, StateWriter};
use crate::error::Error;
use crate::units::{to_f64, to_i64, u64_to_f64};

/// Restores `inputs` and shows each of them to `take`.
fn load_inputs(
    inputs: &mut Ring<i64>,
    state: &mut StateReader<'_>,
    mut take: impl FnMut(i64),
) -> Result<(), Error> {
    inputs.load(state, |state| {
        let x = state.i64()?;
        if x == i64::MIN {
            return Err(state.refuse("i64::MIN", "a defined value"));
        }
        take(x);
        Ok(x)
    })
}

/// Mean of the last n inputs.
#[derive(Clone, Debug)]
pub struct Mean {
    inputs: Ring<i64>,
    sum: i128,
}

impl Mean {
    /// Over `n` >= 1 advances.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { inputs: Ring::new(n), sum: 0 }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.inputs.clear();
        self.sum = 0;
    }

    /// The input advanced.
    #[inline]
    pub fn update(&mut self, x: i64) {
        self.sum += i128::from(x) - i128::from(self.inputs.push(x).unwrap_or(0));
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn read(&self) -> Cell {
        if !self.inputs.is_full() {
            return Cell::COLD;
        }
        Cell::float(to_f64(self.sum) / u64_to_f64(self.inputs.len() as u64))
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        self.inputs.save(state, StateWriter::i64);
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel with these parameters; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.sum = 0;
        load_inputs(&mut self.inputs, state, |x| self.sum += i128::from(x))
    }
}

/// The last n inputs and their first two moments.
#[derive(Clone, Debug)]
struct Scattered {
    inputs: Ring<i64>,
    moments: Moments,
}

impl Scattered {
    fn new(n: usize) -> Self {
        Self { inputs: Ring::new(n), moments: Moments::default() }
    }

    fn reset(&mut self) {
        self.inputs.clear();
        self.moments = Moments::default();
    }

    #[inline]
    fn update(&mut self, x: i64) {
        if let Some(before) = self.inputs.push(x) {
            self.moments.take(&Moments::of(before));
        }
        self.moments.add(&Moments::of(x));
    }

    /// `Err` with what to publish while there is nothing to compute with.
    #[inline]
    fn ready(&self) -> Result<&Moments, Cell> {
        if !self.inputs.is_full() {
            Err(Cell::COLD)
        } else if self.moments.beyond > 0 {
            Err(Cell::undefined(why::OVERFLOW))
        } else {
            Ok(&self.moments)
        }
    }

    fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.moments = Moments::default();
        load_inputs(&mut self.inputs, state, |x| self.moments.add(&Moments::of(x)))
    }
}

/// Standard deviation of the last n inputs.
#[derive(Clone, Debug)]
pub struct Std {
    window: Scattered,
}

impl Std {
    /// Over `n` advances, 1 to 65,536.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { window: Scattered::new(n) }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.window.reset();
    }

    /// The input advanced.
    #[inline]
    pub fn update(&mut self, x: i64) {
        self.window.update(x);
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn read(&self) -> Cell {
        match self.window.ready() {
            Ok(moments) => moments.deviation(),
            Err(cell) => cell,
        }
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        self.window.inputs.save(state, StateWriter::i64);
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel with these parameters; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.window.load(state)
    }
}

/// By how many standard deviations the newest of the last n inputs lies above their mean.
#[derive(Clone, Debug)]
pub struct ZScore {
    window: Scattered,
}

impl ZScore {
    /// Over `n` advances, 1 to 65,536.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { window: Scattered::new(n) }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.window.reset();
    }

    /// The input advanced.
    #[inline]
    pub fn update(&mut self, x: i64) {
        self.window.update(x);
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn read(&self) -> Cell {
        let moments = match self.window.ready() {
            Ok(moments) => moments,
            Err(cell) => return cell,
        };
        let scatter = moments.scatter();
        if scatter <= 0.0 {
            return Cell::undefined(0);
        }
        let above = i128::from(moments.count) * i128::from(self.window.inputs.newest(0)) - moments.sum;
        Cell::float(to_f64(above) / scatter.sqrt())
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        self.window.inputs.save(state, StateWriter::i64);
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel with these parameters; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.window.load(state)
    }
}

/// Sum since the reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CumSum {
    /// No input yet.
    #[default]
    Empty,
    /// The sum.
    Sum(i64),
    /// It once left the range of rule 1.2.
    Lost,
}

impl CumSum {
    /// Forgets everything.
    pub const fn reset(&mut self) {
        *self = Self::Empty;
    }

    /// The input advanced.
    #[inline]
    pub fn update(&mut self, x: i64) {
        let before = match *self {
            Self::Empty => 0,
            Self::Sum(sum) => sum,
            Self::Lost => return,
        };
        *self = to_i64(i128::from(before) + i128::from(x)).map_or(Self::Lost, Self::Sum);
    }

    /// The value.
    #[inline]
    #[must_use]
    pub const fn read(&self) -> Cell {
        match *self {
            Self::Empty => Cell::COLD,
            Self::Sum(sum) => Cell::int(sum),
            Self::Lost => Cell::undefined(why::OVERFLOW),
        }
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        let (phase, sum) = match *self {
            Self::Empty => (0, 0),
            Self::Sum(sum) => (1, sum),
            Self::Lost => (2, 0),
        };
        state.u64(phase);
        state.i64(sum);
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        *self = match (state.u64()?, state.i64()?) {
            (0, 0) => Self::Empty,
            (1, sum) => Self::Sum(sum),
            (2, 0) => Self::Lost,
            (phase, sum) => return Err(state.refuse(format!("phase {phase} with {sum}"), "a saved sum")),
        };
        Ok(())
    }
}
