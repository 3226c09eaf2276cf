//! Averages that weigh by time or by recency. Twin of `featureplane/features/kernels/averages.py`.

use std::ops::Range;

use super::cell::{Cell, UNDEFINED_F64, why};
use super::quanta::{BEHIND, Edge, Keys, Kind, QUANTA, QuantumRing};
use super::state::{StateReader, StateWriter, words_of};
use crate::error::Error;
use crate::units::{elapsed, exp2_neg, half_even_div, to_f64, u64_to_f64};

/// Stands for "no value held"; no defined integer has it (rule 1.2).
const ABSENT: i64 = i64::MIN;

/// The integral so far at one moment, and the value held from it on.
///
/// Everything wraps: only differences over a window are published, and those fit.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    clock: i64,
    held: i64,
    integral: i128,
    defined_ns: u64,
}

impl Point {
    /// Integral and defined time at `clock`, not before this point and before the next.
    #[inline]
    fn until(&self, clock: i64) -> (i128, u64) {
        if self.held == ABSENT {
            return (self.integral, self.defined_ns);
        }
        let dt = clock.wrapping_sub(self.clock);
        let area = i128::from(self.held) * i128::from(dt);
        (self.integral.wrapping_add(area), self.defined_ns.wrapping_add(dt.cast_unsigned()))
    }
}

/// Time-weighted mean of the input in the window.
///
/// The reference splits every interval over the quanta it crosses. Here the integral from the start
/// on is kept with the last step of each quantum; what it was at the edge follows from the value held
/// then, so a step costs the same however long the silence before it.
#[derive(Clone, Debug)]
pub struct MeanOver {
    edge: Edge,
    /// The last step in each stretch (k q, (k + 1) q], the newest that is not after the edge first.
    points: QuantumRing<Point>,
    /// The stretch of the newest point.
    stretch: i64,
    /// First quantum of the window that was last looked at, and integral and defined time at its
    /// edge: all points to come lie behind it, so they stay until the edge moves.
    passed: i64,
    before: (i128, u64),
}

/// Stands for "no edge yet" in [`MeanOver::passed`]; no clock has this quantum.
const NOWHERE: i64 = i64::MIN;

impl MeanOver {
    /// `window_ns`: a positive multiple of 1 ms. `kind`: of the input.
    #[must_use]
    pub fn new(window_ns: i64, kind: Kind) -> Self {
        let edge = Edge::new(window_ns, kind);
        Self { edge, points: QuantumRing::new(), stretch: NOWHERE, passed: NOWHERE, before: (0, 0) }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.edge.reset();
        self.points.clear();
        (self.stretch, self.passed, self.before) = (NOWHERE, NOWHERE, (0, 0));
    }

    /// A step begins at `clock`.
    #[inline]
    pub fn begin(&mut self, clock: i64) {
        self.edge.step(clock);
    }

    /// The step at `clock` ends with the input as given; it is held until the next step.
    #[inline]
    pub fn settle(&mut self, x: Cell, clock: i64) {
        let held = if x.is_defined() { x.as_i64() } else { ABSENT };
        if held != ABSENT {
            self.edge.value(clock);
        }
        let stretch = self.edge.index(clock.wrapping_sub(1));
        let Some(last) = self.points.newest() else {
            self.stretch = stretch;
            self.points.push(Point { clock, held, integral: 0, defined_ns: 0 });
            return;
        };
        let (integral, defined_ns) = last.until(clock);
        let now = Point { clock, held, integral, defined_ns };
        // Both in one stretch: every edge to come lies at or after both, and the later one serves.
        // WHY not `==`: clocks do not go back, but a saved state may lie about them.
        if self.stretch >= stretch {
            *last = now;
            return;
        }
        self.pass(clock);
        self.stretch = stretch;
        self.points.push(now);
    }

    /// Brings `before` to the edge of the window that ends at `clock`, and `live` to the last point
    /// that is not after it, if there is one.
    #[inline]
    fn pass(&mut self, clock: i64) {
        let first = self.edge.first(clock);
        if first == self.passed {
            return;
        }
        self.passed = first;
        let edge_ns = first.saturating_mul(self.edge.quantum_ns());
        while self.points.live + 1 < self.points.next && self.points.at(self.points.live + 1).clock <= edge_ns
        {
            self.points.live += 1;
        }
        let point = self.points.at(self.points.live);
        if self.points.next > 0 && point.clock <= edge_ns {
            self.before = point.until(edge_ns);
        }
    }

    /// I and V of rule 8 for the window that ends at `clock`: the integral of the input, and the
    /// nanoseconds in which it was defined.
    #[inline]
    pub fn integral(&mut self, clock: i64) -> (i128, u64) {
        self.pass(clock);
        let Some(newest) = self.points.newest() else { return (0, 0) };
        let (integral, defined_ns) = newest.until(clock);
        (integral.wrapping_sub(self.before.0), defined_ns.wrapping_sub(self.before.1))
    }

    /// The value at `clock`; it is the engine that knows whether the input is defined now.
    #[inline]
    pub fn read(&mut self, clock: i64) -> Cell {
        let first = self.edge.first(clock);
        if !self.edge.is_covered(first) {
            return Cell::COLD;
        }
        let (integral, defined_ns) = self.integral(clock);
        if defined_ns == 0 {
            return Cell::undefined(0);
        }
        Cell::float(to_f64(integral) / u64_to_f64(defined_ns))
    }

    /// Integral and defined time up to `clock`, looking from `place` on.
    #[inline]
    fn until(&self, place: &mut usize, clock: i64) -> (i128, u64) {
        while *place + 1 < self.points.next && self.points.at(*place + 1).clock <= clock {
            *place += 1;
        }
        let point = self.points.at(*place);
        if point.clock <= clock { point.until(clock) } else { (0, 0) }
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        self.edge.save(state);
        let newest = self.points.iter().last();
        state.bool(newest.is_some());
        let Some(newest) = newest else { return };
        state.i64(newest.clock);
        state.option_i64((newest.held != ABSENT).then_some(newest.held));
        state.counted(|state| {
            self.each_quantum(newest, |keys, integral, defined_ns| {
                let [low, high] = words_of(integral);
                state.run(keys, |key| [key.cast_unsigned(), low, high, defined_ns]);
            })
        });
    }

    /// Shows the quanta of the window that ends at the newest point in which the input had a value: the numbers of
    /// those that are alike, integral and defined time of each. How many there are.
    fn each_quantum(&self, newest: &Point, mut show: impl FnMut(Range<i64>, i128, u64)) -> usize {
        let (last, quantum_ns) = (self.edge.divide(newest.clock), self.edge.quantum_ns());
        let mut key = last - BEHIND;
        let mut start = key.saturating_mul(quantum_ns);
        let mut place = self.points.oldest();
        let mut before = self.until(&mut place, start);
        let mut count = 0;
        let mut quanta = |keys: Range<i64>, integral, defined_ns| {
            count += keys.end - keys.start;
            show(keys, integral, defined_ns);
        };
        while key <= last {
            let point = self.points.at(place);
            let alike = if point.clock <= start { self.alike(place, start).min(last - key) } else { 0 };
            if alike > 0 {
                if point.held != ABSENT {
                    let integral = i128::from(point.held) * i128::from(quantum_ns);
                    quanta(key..key + alike, integral, quantum_ns.cast_unsigned());
                }
                key += alike;
                start = key.saturating_mul(quantum_ns);
                before = point.until(start);
                continue;
            }
            let end = (key + 1).saturating_mul(quantum_ns);
            let now = self.until(&mut place, if key == last { newest.clock } else { end });
            let defined_ns = now.1.wrapping_sub(before.1);
            if defined_ns > 0 {
                quanta(key..key + 1, now.0.wrapping_sub(before.0), defined_ns);
            }
            (key, start, before) = (key + 1, end, now);
        }
        usize::try_from(count).unwrap_or(0)
    }

    /// Quanta from `start` on that lie between the point at `place` and the stretch of the next: each holds the
    /// same.
    #[inline]
    fn alike(&self, place: usize, start: i64) -> i64 {
        if place + 1 >= self.points.next {
            return 0;
        }
        let behind = self.points.at(place + 1).clock.saturating_sub(start).saturating_sub(1);
        if behind < self.edge.quantum_ns() { 0 } else { self.edge.divide(behind) }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel with these parameters; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.reset();
        self.edge.load(state)?;
        if !state.bool()? {
            return Ok(());
        }
        let clock = state.i64()?;
        let held = match state.option_i64()? {
            Some(ABSENT) => return Err(state.refuse("i64::MIN", "a defined value")),
            held => held.unwrap_or(ABSENT),
        };
        let last = self.edge.divide(clock);
        let mut sum = Point { clock, held: ABSENT, integral: 0, defined_ns: 0 };
        let mut keys = Keys::default();
        for _ in 0..state.count(QUANTA)? {
            let key = keys.next(state)?;
            Keys::check_span(state, key, last)?;
            sum.integral = sum.integral.wrapping_add(state.i128()?);
            sum.defined_ns = sum.defined_ns.wrapping_add(state.u64()?);
            // What happened inside a quantum is forgotten; what it held in all stands at its end.
            if key < last {
                sum.clock = (key + 1).wrapping_mul(self.edge.quantum_ns());
                self.points.push(sum);
            }
        }
        self.points.push(Point { clock, held, ..sum });
        self.stretch = self.edge.divide(clock.wrapping_sub(1));
        Ok(())
    }
}

/// R(1000 (x V - I), 2 tick V): thousandths of a tick by which a doubled price lies above its mean.
///
/// `integral` and `defined_ns` are those of [`MeanOver::integral`], which has a value. Without a tick
/// it never has one.
#[inline]
#[must_use]
pub fn relative_ticks(x: i64, integral: i128, defined_ns: u64, tick: Option<i64>) -> Cell {
    let Some(tick) = tick else { return Cell::COLD };
    if defined_ns == 0 {
        return Cell::undefined(0);
    }
    // A window has less than 2^47 ns, so the largest number here is below 2^122.
    let time = i128::from(defined_ns);
    let above = i128::from(x) * time - integral;
    half_even_div(1000 * above, 2 * i128::from(tick) * time).map_or(Cell::undefined(why::OVERFLOW), Cell::int)
}

/// Exponential mean by number of advances.
#[derive(Clone, Debug)]
pub struct Ema {
    alpha: f64,
    n: u64,
    count: u64,
    value: f64,
}

impl Ema {
    /// `n` advances until it is warm; alpha = 2 / (n + 1).
    #[must_use]
    pub fn new(n: u64) -> Self {
        Self { alpha: 2.0 / (u64_to_f64(n) + 1.0), n, count: 0, value: 0.0 }
    }

    /// Forgets everything.
    pub const fn reset(&mut self) {
        (self.count, self.value) = (0, 0.0);
    }

    /// The input advanced; integers come as F(x).
    #[inline]
    pub fn update(&mut self, x: f64) {
        self.value = if self.count == 0 { x } else { self.next(x) };
        self.count += u64::from(self.count < self.n);
    }

    #[inline]
    fn next(&self, x: f64) -> f64 {
        // PARITY: p + alpha * (x - p), not (1 - alpha) * p + alpha * x; the last bit differs.
        self.value + self.alpha * (x - self.value)
    }

    /// Whether it has a value.
    #[inline]
    #[must_use]
    pub const fn is_warm(&self) -> bool {
        self.count == self.n
    }

    /// [`Self::update`] and [`Self::read`] of one that is warm, for an integer: the bytes of its value.
    #[inline]
    pub fn follow(&mut self, x: f64) -> u64 {
        (self.take(x) + 0.0).to_bits()
    }

    /// [`Self::follow`], but for the sign that a value of 0 may have.
    #[inline]
    pub fn take(&mut self, x: f64) -> f64 {
        self.value = self.next(x);
        self.value
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn read(&self) -> Cell {
        if self.count < self.n { Cell::COLD } else { Cell::float(self.value) }
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        state.u64(self.count);
        state.u64(canonical(self.value));
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel with these parameters; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.count = state.u64()?;
        if self.count > self.n {
            return Err(state.refuse(format!("{} advances", self.count), format!("at most {}", self.n)));
        }
        self.value = state.f64()?;
        Ok(())
    }
}

/// Bits of a running float. Once it is not finite it never is again, and NaN has many bits.
fn canonical(value: f64) -> u64 {
    if value.is_finite() { value.to_bits() } else { UNDEFINED_F64 }
}

/// What an [`EmaTime`] knows after its first advance.
#[derive(Clone, Copy, Debug)]
struct Decaying {
    first: i64,
    last: i64,
    held: f64,
    value: f64,
}

/// Exponential mean by time, of the value held.
#[derive(Clone, Debug)]
pub struct EmaTime {
    half_life_ns: u64,
    known: Option<Decaying>,
}

impl EmaTime {
    /// `half_life_ns` > 0; warm three of them after the first advance.
    #[must_use]
    pub const fn new(half_life_ns: u64) -> Self {
        Self { half_life_ns, known: None }
    }

    /// Forgets everything.
    pub const fn reset(&mut self) {
        self.known = None;
    }

    /// The input advanced; integers come as F(x).
    #[inline]
    pub fn update(&mut self, x: f64, clock: i64) {
        let Some(known) = &mut self.known else {
            self.known = Some(Decaying { first: clock, last: clock, held: x, value: x });
            return;
        };
        let decay = exp2_neg(elapsed(clock, known.last), self.half_life_ns);
        // PARITY: towards the value held since the last advance, never towards the new one.
        known.value = known.held + decay * (known.value - known.held);
        (known.last, known.held) = (clock, x);
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn read(&self) -> Cell {
        let Some(known) = &self.known else { return Cell::COLD };
        // A third of the time against one half-life: three half-lives may not fit.
        if elapsed(known.last, known.first) / 3 < self.half_life_ns {
            return Cell::COLD;
        }
        Cell::float(known.value)
    }

    /// Appends the state.
    pub fn save(&self, state: &mut StateWriter) {
        state.bool(self.known.is_some());
        if let Some(known) = &self.known {
            state.i64(known.first);
            state.i64(known.last);
            state.f64(known.held);
            state.u64(canonical(known.value));
        }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// It is not one of this kernel with these parameters; reset the kernel then.
    pub fn load(&mut self, state: &mut StateReader) -> Result<(), Error> {
        self.known = if state.bool()? {
            Some(Decaying {
                first: state.i64()?,
                last: state.i64()?,
                held: state.f64()?,
                value: state.f64()?,
            })
        } else {
            None
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ema_is_seeded_with_its_first_value_and_warm_after_n() {
        let mut ema = Ema::new(3);
        let mut seen = Vec::new();
        for x in [8.0, 4.0, 4.0] {
            ema.update(x);
            seen.push(ema.read());
        }
        assert_eq!(seen, [Cell::COLD, Cell::COLD, Cell::float(5.0)]);
    }

    #[test]
    fn ema_time_decays_towards_the_value_that_was_held() {
        let mut ema = EmaTime::new(10);
        ema.update(100.0, 0);
        ema.update(0.0, 10);
        ema.update(0.0, 29);
        assert_eq!(ema.read(), Cell::COLD);
        ema.update(7.0, 30);
        assert_eq!(ema.read(), Cell::float(100.0 * exp2_neg(19, 10) * exp2_neg(1, 10)));
    }

    #[test]
    fn relative_ticks_rounds_half_to_even() {
        // Mean 100, tick 1, doubled prices: 101 lies half a tick above.
        assert_eq!(relative_ticks(101, 700, 7, Some(1)), Cell::int(500));
        assert_eq!(relative_ticks(1, 3, 4, Some(250)), Cell::int(0));
        assert_eq!(relative_ticks(101, 700, 7, None), Cell::COLD);
        assert_eq!(relative_ticks(i64::MAX, -(1 << 109), 1 << 46, Some(1)), Cell::undefined(why::OVERFLOW));
    }
}
