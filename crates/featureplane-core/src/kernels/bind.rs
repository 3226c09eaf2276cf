//! A node of a plan becomes a kernel: parameters and types are judged once, here.

use super::arithmetic::{Arithmetic, Operation};
use super::averages::{Ema, EmaTime, MeanOver};
use super::bound::{Instrument, Kernel};
use super::cell::Cell;
use super::flow::{DeepFlow, Ofi, OfiMulti, TouchSurvival};
use super::number::Dtype;
use super::returns::{RealizedVol, ReturnBps};
use super::rolling::{CumSum, Mean, Std, ZScore};
use super::series::{Autocov, Diff, Extreme, Extremum, Lag};
use super::toxicity::{KyleLambda, Vpin};
use super::trades::{MsSinceTrade, SignedQty, TradeCount, TradeIntensity, TradePrice};
use super::window::{StdOver, SumOver, TradeImbalance};
use crate::error::Error;
use crate::event::side;
use crate::plan::{BookSide, Kind, Node, Number, Op};
use crate::units::i64_to_f64;

const fn book_side(side: BookSide) -> u8 {
    match side {
        BookSide::Bid => side::BID,
        BookSide::Ask => side::ASK,
    }
}

fn operands(inputs: &[&Node]) -> (Dtype, Dtype) {
    let dtype = |at: usize| inputs.get(at).map_or(Dtype::I64, |node| node.dtype);
    (dtype(0), dtype(1))
}

fn arithmetic(op: &Op, inputs: &[&Node]) -> Option<Arithmetic> {
    let (x, y) = operands(inputs);
    let pair = |operation| match (x, y) {
        (Dtype::I64, Dtype::I64) => Arithmetic::Integers(operation),
        _ => Arithmetic::Floats(operation, x, y),
    };
    Some(match op {
        Op::Add {} => pair(Operation::Add),
        Op::Sub {} => pair(Operation::Sub),
        Op::Mul {} => pair(Operation::Mul),
        Op::Div {} => Arithmetic::Div(x, y),
        Op::RatioPpm {} => Arithmetic::RatioPpm,
        Op::Fixed { k } => Arithmetic::Fixed(i64_to_f64(*k), x),
        Op::Bucket { edges } => Arithmetic::Bucket(edges.clone().into_boxed_slice(), x),
        Op::Abs {} if x == Dtype::F64 => Arithmetic::AbsFloat,
        Op::Abs {} => Arithmetic::Abs,
        Op::Clip { lo, hi } => match (x, *lo, *hi) {
            (Dtype::I64, Number::Int(lo), Number::Int(hi)) => Arithmetic::Clip(lo, hi),
            (Dtype::F64, lo, hi) => Arithmetic::ClipFloat(lo.as_f64(), hi.as_f64()),
            _ => return None,
        },
        Op::Constant { value: Number::Int(value) } => Arithmetic::Constant(Cell::int(*value)),
        Op::Constant { value: Number::Float(value) } => Arithmetic::Constant(Cell::float(*value)),
        _ => return None,
    })
}

impl Kernel {
    /// Binds a node of a plan; `inputs` are the nodes it reads.
    ///
    /// # Errors
    /// A parameter or a type of input that the kernel does not take.
    #[allow(clippy::too_many_lines, reason = "one line a kernel of rule 8")]
    pub fn bind(op: &Op, inputs: &[&Node], instrument: Instrument) -> Result<Self, Error> {
        let refuse = || Error::Plan {
            found: format!("{op:?} on {:?}", inputs.iter().map(|node| node.dtype).collect::<Vec<_>>()),
            expected: "parameters and inputs that the kernel takes".into(),
        };
        let (x, _) = operands(inputs);
        let kind = inputs.first().map_or(Kind::State, |node| node.kind);
        let ns = |n: i64| u64::try_from(n).ok().filter(|&n| n > 0).ok_or_else(refuse);
        let window = |ns: i64| {
            (ns > 0 && ns % 1_000_000 == 0 && ns <= 86_400_000_000_000).then_some(ns).ok_or_else(refuse)
        };
        let count = |n: u32, least: u32, most: u32| {
            (least..=most).contains(&n).then_some(n as usize).ok_or_else(refuse)
        };
        let level = |n: usize| (n > 0).then_some(n).ok_or_else(refuse);
        let rolling_integer = matches!(
            op,
            Op::SumOver { .. }
                | Op::MeanOver { .. }
                | Op::StdOver { .. }
                | Op::Mean { .. }
                | Op::Std { .. }
                | Op::Zscore { .. }
                | Op::Cumsum {}
                | Op::Autocov { .. }
                | Op::TradeImbalance { .. }
                | Op::Vpin { .. }
                | Op::KyleLambda { .. }
                | Op::ReturnBps { .. }
                | Op::RealizedVol { .. }
                | Op::RelativeTicks {}
                | Op::RatioPpm {}
        );
        if rolling_integer && x != Dtype::I64 {
            return Err(refuse());
        }
        Ok(match *op {
            Op::BestBid {} => Self::LevelPrice(side::BID, 1),
            Op::BestAsk {} => Self::LevelPrice(side::ASK, 1),
            Op::MidX2 {} => Self::Mid,
            Op::Spread {} => Self::Spread,
            Op::MicropriceX2 {} => Self::Microprice,
            Op::LevelPrice { side, level: n } => Self::LevelPrice(book_side(side), level(n)?),
            Op::Qty { side, level: n } => Self::Qty(book_side(side), level(n)?),
            Op::Depth { side, levels } => Self::Depth(book_side(side), level(levels)?),
            Op::ImbalancePpm { levels } => Self::ImbalancePpm(level(levels)?),
            Op::VwapX2 { levels } => Self::Vwap(level(levels)?),
            Op::BookSlope { levels } => Self::BookSlope(level(levels)?),
            Op::Ofi { level: n } => Self::Ofi(Ofi::new(level(n)?)),
            Op::OfiMulti { levels } => Self::OfiMulti(OfiMulti::new(level(levels)?)),
            Op::DeepFlow { levels } => Self::DeepFlow(DeepFlow::new(level(levels)?)),
            Op::TobSurvivalMs {} => Self::TouchSurvival(TouchSurvival::default()),
            Op::SignedQty { hidden } => Self::SignedQty(SignedQty::new(hidden)),
            Op::TradePrice { hidden } => Self::TradePrice(TradePrice::new(hidden)),
            Op::TradeCount { hidden } => Self::TradeCount(TradeCount::new(hidden)),
            Op::MsSinceTrade { hidden } => Self::MsSinceTrade(MsSinceTrade::new(hidden)),
            Op::TradeIntensity { half_life_ns, hidden } => {
                Self::TradeIntensity(TradeIntensity::new(ns(half_life_ns)?, hidden))
            }
            Op::Ema { n } => Self::Ema(Ema::new(count(n, 1, u32::MAX)? as u64), x),
            Op::EmaTime { half_life_ns } => Self::EmaTime(EmaTime::new(ns(half_life_ns)?), x),
            Op::SumOver { window_ns } => Self::SumOver(Box::new(SumOver::new(window(window_ns)?, kind))),
            Op::MeanOver { window_ns } => Self::MeanOver(Box::new(MeanOver::new(window(window_ns)?, kind))),
            Op::StdOver { window_ns } => Self::StdOver(Box::new(StdOver::new(window(window_ns)?, kind))),
            Op::TradeImbalance { window_ns } => {
                Self::TradeImbalance(Box::new(TradeImbalance::new(window(window_ns)?)))
            }
            Op::ReturnBps { window_ns } => Self::ReturnBps(Box::new(ReturnBps::new(window(window_ns)?))),
            Op::RealizedVol { window_ns } => {
                Self::RealizedVol(Box::new(RealizedVol::new(window(window_ns)?)))
            }
            Op::RelativeTicks {} => Self::RelativeTicks(instrument.tick),
            Op::Mean { n } => Self::Mean(Mean::new(count(n, 1, 65_536)?)),
            Op::Std { n } => Self::Std(Std::new(count(n, 1, 65_536)?)),
            Op::Zscore { n } => Self::ZScore(ZScore::new(count(n, 1, 65_536)?)),
            Op::Min { n } => extremum(Extreme::Min, count(n, 1, 65_536)?, x),
            Op::Max { n } => extremum(Extreme::Max, count(n, 1, 65_536)?, x),
            Op::Lag { n } => match (count(n, 1, 65_536)?, x) {
                (n, Dtype::I64) => Self::LagInt(Lag::new(n)),
                (n, Dtype::F64) => Self::LagFloat(Lag::new(n)),
            },
            Op::Diff {} if x == Dtype::I64 => Self::DiffInt(Diff::new()),
            Op::Diff {} => Self::DiffFloat(Diff::new()),
            Op::Cumsum {} => Self::CumSum(CumSum::default()),
            Op::Autocov { lag, n } => {
                let n = count(n, 2, 1_024)?;
                Self::Autocov(Box::new(Autocov::new(
                    count(lag, 0, 1_023).ok().filter(|&l| l < n).ok_or_else(refuse)?,
                    n,
                )))
            }
            Op::Roll {} if x == Dtype::F64 => Self::Arithmetic(Arithmetic::Roll),
            Op::Vpin { bucket, n } => {
                let bucket = match bucket {
                    Some(bucket) => Some(ns(bucket)?),
                    None => instrument.vpin_bucket,
                };
                let n = count(n, 1, 65_536)?;
                Self::Vpin(Vpin::new(bucket, n))
            }
            Op::KyleLambda { n } => Self::KyleLambda(Box::new(KyleLambda::new(count(n, 2, 65_536)?))),
            ref other => Self::Arithmetic(arithmetic(other, inputs).ok_or_else(refuse)?),
        })
    }
}

fn extremum(extreme: Extreme, n: usize, x: Dtype) -> Kernel {
    match x {
        Dtype::I64 => Kernel::ExtremumInt(Extremum::new(extreme, n)),
        Dtype::F64 => Kernel::ExtremumFloat(Extremum::new(extreme, n)),
    }
}
