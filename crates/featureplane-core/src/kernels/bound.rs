//! A kernel of a plan with its parameters and its instrument settled: one enum, no boxes.
//!
//! WHY: an enum call costs 2 to 4 ns, and 5 to 10 % less than a boxed trait.

use super::arithmetic::Arithmetic;
use super::averages::{Ema, EmaTime, MeanOver, relative_ticks};
use super::book::BookView;
use super::cell::{Cell, why};
use super::flow::{DeepFlow, Ofi, OfiMulti, TouchSurvival};
use super::number::Dtype;
use super::returns::{RealizedVol, ReturnBps};
use super::rolling::{CumSum, Mean, Std, ZScore};
use super::series::{Autocov, Diff, Extremum, Lag};
use super::state::{StateReader, StateWriter};
use super::toxicity::{KyleLambda, Vpin};
use super::trades::{MsSinceTrade, SignedQty, TradeCount, TradeIntensity, TradePrice, TradeTick};
use super::window::{StdOver, SumOver, TradeImbalance};
use super::{imbalance, price};
use crate::error::Error;

/// What an instrument lends to kernels.
#[derive(Clone, Copy, Debug)]
pub struct Instrument {
    /// Tick in price units, if known.
    pub tick: Option<i64>,
    /// VPIN bucket in size units, if known.
    pub vpin_bucket: Option<u64>,
}

/// Defined inputs of one advance.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// Bytes of the first input.
    pub x: u64,
    /// Bytes of the second input.
    pub y: u64,
    /// See [`TradeTick::mid_before`].
    pub mid_before: Option<i64>,
    /// See [`TradeTick::step`].
    pub step: u64,
}

/// One kernel, ready to run.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each names the kernel it holds")]
pub enum Kernel {
    LevelPrice(u8, usize),
    Mid,
    Spread,
    Microprice,
    Qty(u8, usize),
    Depth(u8, usize),
    ImbalancePpm(usize),
    Vwap(usize),
    BookSlope(usize),
    Ofi(Ofi),
    OfiMulti(OfiMulti),
    DeepFlow(DeepFlow),
    TouchSurvival(TouchSurvival),
    SignedQty(SignedQty),
    TradePrice(TradePrice),
    TradeCount(TradeCount),
    TradeIntensity(TradeIntensity),
    MsSinceTrade(MsSinceTrade),
    Ema(Ema, Dtype),
    EmaTime(EmaTime, Dtype),
    SumOver(Box<SumOver>),
    MeanOver(Box<MeanOver>),
    StdOver(Box<StdOver>),
    TradeImbalance(Box<TradeImbalance>),
    ReturnBps(Box<ReturnBps>),
    RealizedVol(Box<RealizedVol>),
    RelativeTicks(Option<i64>),
    Mean(Mean),
    Std(Std),
    ZScore(ZScore),
    ExtremumInt(Extremum<i64>),
    ExtremumFloat(Extremum<f64>),
    LagInt(Lag<i64>),
    LagFloat(Lag<f64>),
    DiffInt(Diff<i64>),
    DiffFloat(Diff<f64>),
    CumSum(CumSum),
    Autocov(Box<Autocov>),
    Vpin(Vpin),
    KyleLambda(Box<KyleLambda>),
    Arithmetic(Arithmetic),
    /// The feed never has what it asks for (rule 7.3).
    Never,
}

/// How the engine drives a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// By the book.
    Book,
    /// By trades.
    Trade,
    /// By its inputs, with a memory.
    Stateful,
    /// A function of its inputs.
    Stateless,
}

impl Kernel {
    /// How the engine drives it.
    #[must_use]
    pub const fn drive(&self) -> Drive {
        match self {
            Self::LevelPrice(..)
            | Self::Mid
            | Self::Spread
            | Self::Microprice
            | Self::Qty(..)
            | Self::Depth(..)
            | Self::ImbalancePpm(_)
            | Self::Vwap(_)
            | Self::BookSlope(_)
            | Self::Ofi(_)
            | Self::OfiMulti(_)
            | Self::DeepFlow(_)
            | Self::TouchSurvival(_) => Drive::Book,
            Self::SignedQty(_)
            | Self::TradePrice(_)
            | Self::TradeCount(_)
            | Self::TradeIntensity(_)
            | Self::MsSinceTrade(_) => Drive::Trade,
            Self::Arithmetic(_) | Self::RelativeTicks(_) | Self::Never => Drive::Stateless,
            _ => Drive::Stateful,
        }
    }

    /// A book tick of a valid book.
    #[inline]
    pub fn book(&mut self, book: &BookView<'_>, clock_ns: i64) -> Cell {
        match self {
            Self::LevelPrice(side, level) => price::level_price(*side, *level, book),
            Self::Mid => price::mid_x2(book),
            Self::Spread => price::spread(book),
            Self::Microprice => price::microprice_x2(book),
            Self::Qty(side, level) => imbalance::qty(*side, *level, book),
            Self::Depth(side, levels) => imbalance::depth(*side, *levels, book),
            Self::ImbalancePpm(levels) => imbalance::imbalance_ppm(*levels, book),
            Self::Vwap(levels) => price::vwap_x2(*levels, book),
            Self::BookSlope(levels) => price::book_slope(*levels, book),
            Self::Ofi(kernel) => kernel.update(book),
            Self::OfiMulti(kernel) => kernel.update(book),
            Self::DeepFlow(kernel) => kernel.update(book),
            Self::TouchSurvival(kernel) => kernel.update(book, clock_ns),
            _ => Cell::undefined(0),
        }
    }

    /// Whether a valid book warms a kernel without a memory, even if it lacks the level asked for.
    pub(crate) fn warms_on(&self, book: &BookView<'_>) -> bool {
        match self {
            Self::LevelPrice(side, _) | Self::Qty(side, _) | Self::Depth(side, _) => {
                book.level(*side, 1).is_some()
            }
            Self::Mid
            | Self::Spread
            | Self::Microprice
            | Self::ImbalancePpm(_)
            | Self::Vwap(_)
            | Self::BookSlope(_) => book.touch().is_some(),
            _ => false,
        }
    }

    /// A trade tick; whether the kernel advanced.
    #[inline]
    pub fn trade(&mut self, trade: &TradeTick) -> bool {
        match self {
            Self::SignedQty(kernel) => kernel.update(trade),
            Self::TradePrice(kernel) => kernel.update(trade),
            Self::TradeCount(kernel) => kernel.update(trade),
            Self::TradeIntensity(kernel) => kernel.update(trade),
            Self::MsSinceTrade(kernel) => kernel.update(trade),
            _ => false,
        }
    }

    /// One advance of a stateful kernel.
    #[inline]
    pub fn update(&mut self, inputs: Inputs, clock_ns: i64) {
        let Inputs { x, .. } = inputs;
        let int = x.cast_signed();
        match self {
            Self::Ema(kernel, dtype) => kernel.update(dtype.as_f64(x)),
            Self::EmaTime(kernel, dtype) => kernel.update(dtype.as_f64(x), clock_ns),
            Self::SumOver(kernel) => kernel.update(int, clock_ns),
            Self::StdOver(kernel) => kernel.update(int, clock_ns),
            Self::TradeImbalance(kernel) => kernel.update(int, clock_ns),
            Self::ReturnBps(kernel) => kernel.update(int, clock_ns),
            Self::RealizedVol(kernel) => kernel.update(int, clock_ns),
            Self::Mean(kernel) => kernel.update(int),
            Self::Std(kernel) => kernel.update(int),
            Self::ZScore(kernel) => kernel.update(int),
            Self::ExtremumInt(kernel) => kernel.update(int),
            Self::ExtremumFloat(kernel) => kernel.update(f64::from_bits(x)),
            Self::LagInt(kernel) => kernel.update(int),
            Self::LagFloat(kernel) => kernel.update(f64::from_bits(x)),
            Self::DiffInt(kernel) => kernel.update(int),
            Self::DiffFloat(kernel) => kernel.update(f64::from_bits(x)),
            Self::CumSum(kernel) => kernel.update(int),
            Self::Autocov(kernel) => kernel.update(int),
            Self::Vpin(kernel) => kernel.update(int),
            Self::KyleLambda(kernel) => kernel.update(int, inputs.mid_before, inputs.step),
            _ => {}
        }
    }

    /// The value at `clock_ns` of a kernel with a memory, whatever its inputs are now.
    #[inline]
    pub fn read(&mut self, clock_ns: i64) -> Cell {
        match self {
            Self::TouchSurvival(kernel) => kernel.read(clock_ns),
            Self::SignedQty(kernel) => kernel.read(),
            Self::TradePrice(kernel) => kernel.read(),
            Self::TradeCount(kernel) => kernel.read(),
            Self::TradeIntensity(kernel) => kernel.read(clock_ns),
            Self::MsSinceTrade(kernel) => kernel.read(clock_ns),
            Self::Ema(kernel, _) => kernel.read(),
            Self::EmaTime(kernel, _) => kernel.read(),
            Self::SumOver(kernel) => kernel.read(clock_ns),
            Self::MeanOver(kernel) => kernel.read(clock_ns),
            Self::StdOver(kernel) => kernel.read(clock_ns),
            Self::TradeImbalance(kernel) => kernel.read(clock_ns),
            Self::ReturnBps(kernel) => kernel.read(clock_ns),
            Self::RealizedVol(kernel) => kernel.read(clock_ns),
            Self::Mean(kernel) => kernel.read(),
            Self::Std(kernel) => kernel.read(),
            Self::ZScore(kernel) => kernel.read(),
            Self::ExtremumInt(kernel) => kernel.read(),
            Self::ExtremumFloat(kernel) => kernel.read(),
            Self::LagInt(kernel) => kernel.read(),
            Self::LagFloat(kernel) => kernel.read(),
            Self::DiffInt(kernel) => kernel.read(),
            Self::DiffFloat(kernel) => kernel.read(),
            Self::CumSum(kernel) => kernel.read(),
            Self::Autocov(kernel) => kernel.read(),
            Self::Vpin(kernel) => kernel.read(),
            Self::KyleLambda(kernel) => kernel.read(),
            _ => Cell::COLD,
        }
    }

    /// The value of a function of defined inputs; `mean` is the second input's kernel.
    #[inline]
    #[must_use]
    pub fn evaluate(&self, x: u64, y: u64) -> Cell {
        match self {
            Self::Arithmetic(kernel) => kernel.evaluate(x, y),
            _ => Cell::COLD,
        }
    }

    /// `relative_ticks` of `x`, given the kernel of its second input.
    pub fn relative(&self, x: u64, mean: &mut Self, clock_ns: i64) -> Cell {
        let (Self::RelativeTicks(tick), Self::MeanOver(mean)) = (self, mean) else {
            return Cell::undefined(why::COLD);
        };
        let (integral, defined_ns) = mean.integral(clock_ns);
        relative_ticks(x.cast_signed(), integral, defined_ns, *tick)
    }

    /// A step begins.
    #[inline]
    pub fn begin(&mut self, clock_ns: i64) {
        match self {
            Self::TradeIntensity(kernel) => kernel.begin(clock_ns),
            Self::SumOver(kernel) => kernel.begin(clock_ns),
            Self::MeanOver(kernel) => kernel.begin(clock_ns),
            Self::StdOver(kernel) => kernel.begin(clock_ns),
            Self::TradeImbalance(kernel) => kernel.begin(clock_ns),
            _ => {}
        }
    }

    /// Whether [`Self::begin`] does anything.
    #[must_use]
    pub const fn begins(&self) -> bool {
        matches!(
            self,
            Self::TradeIntensity(_)
                | Self::SumOver(_)
                | Self::MeanOver(_)
                | Self::StdOver(_)
                | Self::TradeImbalance(_)
        )
    }

    /// A step ends with the input as given.
    #[inline]
    pub fn settle(&mut self, x: Cell, clock_ns: i64) {
        if let Self::MeanOver(kernel) = self {
            kernel.settle(x, clock_ns);
        }
    }
}

macro_rules! each_memory {
    ($kernel:expr, $held:ident => $do:expr, else $other:expr) => {
        match $kernel {
            Kernel::Ofi($held) => $do,
            Kernel::OfiMulti($held) => $do,
            Kernel::DeepFlow($held) => $do,
            Kernel::TouchSurvival($held) => $do,
            Kernel::SignedQty($held) => $do,
            Kernel::TradePrice($held) => $do,
            Kernel::TradeCount($held) => $do,
            Kernel::TradeIntensity($held) => $do,
            Kernel::MsSinceTrade($held) => $do,
            Kernel::Ema($held, _) => $do,
            Kernel::EmaTime($held, _) => $do,
            Kernel::SumOver($held) => $do,
            Kernel::MeanOver($held) => $do,
            Kernel::StdOver($held) => $do,
            Kernel::TradeImbalance($held) => $do,
            Kernel::ReturnBps($held) => $do,
            Kernel::RealizedVol($held) => $do,
            Kernel::Mean($held) => $do,
            Kernel::Std($held) => $do,
            Kernel::ZScore($held) => $do,
            Kernel::ExtremumInt($held) => $do,
            Kernel::ExtremumFloat($held) => $do,
            Kernel::LagInt($held) => $do,
            Kernel::LagFloat($held) => $do,
            Kernel::DiffInt($held) => $do,
            Kernel::DiffFloat($held) => $do,
            Kernel::CumSum($held) => $do,
            Kernel::Autocov($held) => $do,
            Kernel::Vpin($held) => $do,
            Kernel::KyleLambda($held) => $do,
            _ => $other,
        }
    };
}

impl Kernel {
    /// Returns to the initial conditions of rule 8.
    pub fn reset(&mut self) {
        each_memory!(self, kernel => kernel.reset(), else ());
    }

    /// Writes its memory.
    pub fn save(&self, out: &mut StateWriter) {
        each_memory!(self, kernel => kernel.save(out), else ());
    }

    /// Reads its memory.
    ///
    /// # Errors
    /// The words are no state of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        each_memory!(self, kernel => kernel.load(from), else Ok(()))
    }
}
