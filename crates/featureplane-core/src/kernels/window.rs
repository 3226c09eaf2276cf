//! Kernels over windows of time. Twin of `featureplane/features/kernels/window.py`.

use super::cell::{Cell, why};
use super::moments::Moments;
use super::quanta::{Kind, Quanta, Sums};
use super::state::{StateReader, StateWriter, words_of};
use crate::error::Error;
use crate::units::half_even_div;

/// Sum of the inputs in the window.
#[derive(Clone, Debug)]
pub struct SumOver {
    window: Quanta<i128>,
}

impl SumOver {
    /// `window_ns`: a positive multiple of 1 ms. `kind`: of the input.
    #[must_use]
    pub fn new(window_ns: i64, kind: Kind) -> Self {
        Self { window: Quanta::new(window_ns, kind) }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.window.reset();
    }

    /// A step begins at `clock`.
    #[inline]
    pub fn begin(&mut self, clock: i64) {
        self.window.edge.step(clock);
    }

    /// The input advanced.
    #[inline]
    pub fn update(&mut self, x: i64, clock: i64) {
        self.window.edge.value(clock);
        self.window.add(x.into(), clock);
    }

    /// The value at `clock`.
    #[inline]
    pub fn read(&mut self, clock: i64) -> Cell {
        self.window.covered(clock).map_or(Cell::COLD, |&sum| Cell::wide(sum))
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        self.window.save(state);
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel with these parameters; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.window.load(state)
    }
}

/// Standard deviation of the inputs in the window.
#[derive(Clone, Debug)]
pub struct StdOver {
    window: Quanta<Moments>,
}

impl StdOver {
    /// `window_ns`: a positive multiple of 1 ms. `kind`: of the input.
    #[must_use]
    pub fn new(window_ns: i64, kind: Kind) -> Self {
        Self { window: Quanta::new(window_ns, kind) }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.window.reset();
    }

    /// A step begins at `clock`.
    #[inline]
    pub fn begin(&mut self, clock: i64) {
        self.window.edge.step(clock);
    }

    /// The input advanced.
    #[inline]
    pub fn update(&mut self, x: i64, clock: i64) {
        self.window.edge.value(clock);
        self.window.add(Moments::of(x), clock);
    }

    /// The value at `clock`.
    #[inline]
    pub fn read(&mut self, clock: i64) -> Cell {
        let Some(moments) = self.window.covered(clock) else { return Cell::COLD };
        if moments.count < 2 && moments.beyond == 0 {
            return Cell::undefined(0);
        }
        moments.deviation()
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        self.window.save(state);
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel with these parameters; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.window.load(state)
    }
}

/// Signed size and size of the trades of a quantum.
#[derive(Clone, Copy, Debug, Default)]
struct Signed {
    signed: i128,
    size: i128,
}

impl Sums for Signed {
    #[inline]
    fn add(&mut self, other: &Self) {
        self.signed.add(&other.signed);
        self.size.add(&other.size);
    }

    #[inline]
    fn take(&mut self, other: &Self) {
        self.signed.take(&other.signed);
        self.size.take(&other.size);
    }

    fn save(&self, key: i64, state: &mut StateWriter) {
        let ([signed, signed_high], [size, size_high]) = (words_of(self.signed), words_of(self.size));
        state.words([key.cast_unsigned(), signed, signed_high, size, size_high]);
    }

    fn load(state: &mut StateReader) -> Result<Self, Error> {
        Ok(Self { signed: state.i128()?, size: state.i128()? })
    }
}

/// Signed share of the traded size in the window, in millionths.
#[derive(Clone, Debug)]
pub struct TradeImbalance {
    window: Quanta<Signed>,
}

impl TradeImbalance {
    /// `window_ns`: a positive multiple of 1 ms.
    #[must_use]
    pub fn new(window_ns: i64) -> Self {
        Self { window: Quanta::new(window_ns, Kind::Flow) }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.window.reset();
    }

    /// A step begins at `clock`.
    #[inline]
    pub fn begin(&mut self, clock: i64) {
        self.window.edge.step(clock);
    }

    /// A signed trade.
    #[inline]
    pub fn update(&mut self, signed_qty: i64, clock: i64) {
        let trade = Signed { signed: signed_qty.into(), size: signed_qty.unsigned_abs().into() };
        self.window.add(trade, clock);
    }

    /// The value at `clock`.
    #[inline]
    pub fn read(&mut self, clock: i64) -> Cell {
        let Some(&Signed { signed, size }) = self.window.covered(clock) else { return Cell::COLD };
        if size <= 0 {
            return Cell::undefined(0);
        }
        // |signed| <= size, so the result lies within a million of 0.
        half_even_div(signed.wrapping_mul(1_000_000), size).map_or(Cell::undefined(why::OVERFLOW), Cell::int)
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        self.window.save(state);
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel with these parameters; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.window.load(state)
    }
}
