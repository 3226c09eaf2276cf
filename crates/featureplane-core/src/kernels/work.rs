//! Kernels that are driven by their inputs, along many ticks: which kernel it is, is asked once.

use super::arithmetic::Arithmetic;
use super::averages::{Ema, EmaTime, MeanOver, relative_ticks};
use super::bound::Kernel;
use super::cell::{Cell, why};
use super::number::Dtype;
use super::returns::{RealizedVol, ReturnBps};
use super::rolling::{CumSum, Mean, Std, ZScore};
use super::series::{Autocov, Diff, Extremum, Lag};
use super::toxicity::Vpin;
use super::window::{StdOver, SumOver, TradeImbalance};

/// Integral and time of a mean over a window.
pub(crate) type Integral = (i128, u64);

/// Where a value is read: at a tick, or at the end of a step, and at which, from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    Tick(usize),
    Step(usize),
}

/// One kernel at work. Inputs are the eight bytes of defined cells.
pub(crate) trait Work {
    /// A step begins.
    fn begin(&mut self, _clock: i64) {}

    /// The inputs advanced.
    fn update(&mut self, _x: u64, _y: u64, _clock: i64) {}

    /// A step ends with the first input as given.
    fn settle(&mut self, _x: Cell, _clock: i64) {}

    /// The value.
    fn value(&mut self, x: u64, y: u64, clock: i64, at: Moment) -> Cell;

    /// `COLD` if it has not learned enough, whatever its inputs are now.
    fn cold(&mut self, clock: i64) -> u8 {
        self.value(0, 0, clock, Moment::Tick(0)).state & why::COLD
    }

    /// What it holds was read at a tick or the end of a step.
    fn was_read(&mut self, _clock: i64, _at: Moment) {}
}

/// What is done with a kernel.
pub(crate) trait Employer {
    fn employ(self, work: &mut impl Work);
}

/// Kernels of the last advances: `$cast` turns the bytes into what they take.
macro_rules! of_advances {
    ($($kernel:ty, $cast:path;)*) => {$(
        impl Work for $kernel {
            #[inline]
            fn update(&mut self, x: u64, _y: u64, _clock: i64) {
                <$kernel>::update(self, $cast(x));
            }

            #[inline]
            fn value(&mut self, _x: u64, _y: u64, _clock: i64, _at: Moment) -> Cell {
                self.read()
            }
        }
    )*};
}

of_advances! {
    Mean, u64::cast_signed;
    Std, u64::cast_signed;
    ZScore, u64::cast_signed;
    CumSum, u64::cast_signed;
    Autocov, u64::cast_signed;
    Vpin, u64::cast_signed;
    Extremum<i64>, u64::cast_signed;
    Extremum<f64>, f64::from_bits;
    Lag<i64>, u64::cast_signed;
    Lag<f64>, f64::from_bits;
    Diff<i64>, u64::cast_signed;
    Diff<f64>, f64::from_bits;
}

/// Kernels over a window of time.
macro_rules! of_time {
    ($($kernel:ty $(, $begin:ident)?;)*) => {$(
        impl Work for $kernel {
            $(#[inline]
            fn $begin(&mut self, clock: i64) {
                <$kernel>::$begin(self, clock);
            })?

            #[inline]
            fn update(&mut self, x: u64, _y: u64, clock: i64) {
                <$kernel>::update(self, x.cast_signed(), clock);
            }

            #[inline]
            fn value(&mut self, _x: u64, _y: u64, clock: i64, _at: Moment) -> Cell {
                self.read(clock)
            }
        }
    )*};
}

of_time! {
    SumOver, begin;
    StdOver, begin;
    TradeImbalance, begin;
    ReturnBps;
    RealizedVol;
}

/// An average, and the type it averages.
struct Average<'a, E>(&'a mut E, Dtype);

impl Work for Average<'_, Ema> {
    #[inline]
    fn update(&mut self, x: u64, _y: u64, _clock: i64) {
        self.0.update(self.1.as_f64(x));
    }

    #[inline]
    fn value(&mut self, _x: u64, _y: u64, _clock: i64, _at: Moment) -> Cell {
        self.0.read()
    }
}

impl Work for Average<'_, EmaTime> {
    #[inline]
    fn update(&mut self, x: u64, _y: u64, clock: i64) {
        self.0.update(self.1.as_f64(x), clock);
    }

    #[inline]
    fn value(&mut self, _x: u64, _y: u64, _clock: i64, _at: Moment) -> Cell {
        self.0.read()
    }
}

/// A mean over time, and its integrals at ticks and at the ends of steps, where somebody wants them.
struct Integrated<'a>(&'a mut MeanOver, Option<&'a mut [Vec<Integral>; 2]>);

impl Work for Integrated<'_> {
    #[inline]
    fn begin(&mut self, clock: i64) {
        self.0.begin(clock);
    }

    #[inline]
    fn settle(&mut self, x: Cell, clock: i64) {
        self.0.settle(x, clock);
    }

    #[inline]
    fn value(&mut self, _x: u64, _y: u64, clock: i64, _at: Moment) -> Cell {
        self.0.read(clock)
    }

    #[inline]
    fn was_read(&mut self, clock: i64, at: Moment) {
        if let Some(integrals) = &mut self.1 {
            let of = usize::from(matches!(at, Moment::Step(_)));
            integrals[of].push(self.0.integral(clock));
        }
    }
}

/// A function of its inputs.
impl Work for &Arithmetic {
    #[inline]
    fn value(&mut self, x: u64, y: u64, _clock: i64, _at: Moment) -> Cell {
        self.evaluate(x, y)
    }

    #[inline]
    fn cold(&mut self, _clock: i64) -> u8 {
        0
    }
}

/// Thousandths of a tick above a mean whose integrals are known.
struct Relative<'a>(Option<i64>, Option<&'a [Vec<Integral>; 2]>);

impl Work for Relative<'_> {
    #[inline]
    fn value(&mut self, x: u64, _y: u64, _clock: i64, at: Moment) -> Cell {
        let Some(integrals) = self.1 else { return Cell::COLD };
        let (integral, defined_ns) = match at {
            Moment::Tick(tick) => integrals[0][tick],
            Moment::Step(step) => integrals[1][step],
        };
        relative_ticks(x.cast_signed(), integral, defined_ns, self.0)
    }

    #[inline]
    fn cold(&mut self, _clock: i64) -> u8 {
        0
    }
}

/// What a feed never has.
struct Never;

impl Work for Never {
    fn value(&mut self, _x: u64, _y: u64, _clock: i64, _at: Moment) -> Cell {
        Cell::COLD
    }

    fn cold(&mut self, _clock: i64) -> u8 {
        0
    }
}

impl Kernel {
    /// Gives a kernel of no source, and not of both channels, to `employer`. `own` takes the integrals
    /// of a mean, `of_input` has those of a mean that is read.
    pub(crate) fn work(
        &mut self,
        own: Option<&mut [Vec<Integral>; 2]>,
        of_input: Option<&[Vec<Integral>; 2]>,
        employer: impl Employer,
    ) {
        match self {
            Self::Ema(kernel, dtype) => employer.employ(&mut Average(kernel, *dtype)),
            Self::EmaTime(kernel, dtype) => employer.employ(&mut Average(kernel, *dtype)),
            Self::MeanOver(kernel) => employer.employ(&mut Integrated(kernel, own)),
            Self::SumOver(kernel) => employer.employ(&mut **kernel),
            Self::StdOver(kernel) => employer.employ(&mut **kernel),
            Self::TradeImbalance(kernel) => employer.employ(&mut **kernel),
            Self::ReturnBps(kernel) => employer.employ(&mut **kernel),
            Self::RealizedVol(kernel) => employer.employ(&mut **kernel),
            Self::Autocov(kernel) => employer.employ(&mut **kernel),
            Self::Mean(kernel) => employer.employ(kernel),
            Self::Std(kernel) => employer.employ(kernel),
            Self::ZScore(kernel) => employer.employ(kernel),
            Self::ExtremumInt(kernel) => employer.employ(kernel),
            Self::ExtremumFloat(kernel) => employer.employ(kernel),
            Self::LagInt(kernel) => employer.employ(kernel),
            Self::LagFloat(kernel) => employer.employ(kernel),
            Self::DiffInt(kernel) => employer.employ(kernel),
            Self::DiffFloat(kernel) => employer.employ(kernel),
            Self::CumSum(kernel) => employer.employ(kernel),
            Self::Vpin(kernel) => employer.employ(kernel),
            Self::Arithmetic(kernel) => employer.employ(&mut &*kernel),
            Self::RelativeTicks(tick) => employer.employ(&mut Relative(*tick, of_input)),
            _ => employer.employ(&mut Never),
        }
    }
}
