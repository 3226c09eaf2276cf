//! What changed between two books. Twin of `featureplane/features/kernels/flow.py`.

use super::book::{BookView, short, sum};
use super::cell::{Cell, why};
use super::state::{StateReader, StateWriter};
use crate::book::Level;
use crate::error::Error;
use crate::event::side;
use crate::units::{NANOS_PER_MS, elapsed};

/// Order-flow imbalance at one level.
///
/// Four independent comparisons rather than a match on the price move: each side is decided
/// alone, and the compiler turns them into conditional moves. Nothing wraps for sizes of rule 1.2; rows of
/// a table are computed before it is known whether theirs are.
#[inline]
pub(super) fn level_flow(before: (Level, Level), now: (Level, Level)) -> i64 {
    let ((bid0, ask0), (bid, ask)) = (before, now);
    let bid_added = if bid.price >= bid0.price { bid.qty } else { 0 };
    let bid_taken = if bid.price <= bid0.price { bid0.qty } else { 0 };
    let ask_added = if ask.price <= ask0.price { ask.qty } else { 0 };
    let ask_taken = if ask.price >= ask0.price { ask0.qty } else { 0 };
    bid_added.wrapping_sub(bid_taken).wrapping_sub(ask_added.wrapping_sub(ask_taken))
}

fn save_level(level: Level, out: &mut StateWriter) {
    out.i64(level.price);
    out.i64(level.qty);
}

fn load_level(from: &mut StateReader<'_>) -> Result<Level, Error> {
    Ok(Level { price: from.i64()?, qty: from.i64()? })
}

/// `ofi(level)`.
#[derive(Clone, Debug)]
pub struct Ofi {
    level: usize,
    before: Option<(Level, Level)>,
}

impl Ofi {
    pub(super) const fn new(level: usize) -> Self {
        Self { level, before: None }
    }

    /// Whether it looks at the best level alone.
    pub(crate) const fn is_of_touch(&self) -> bool {
        self.level == 1
    }

    /// Takes these for the last valid levels.
    pub(crate) const fn follow(&mut self, bid: Level, ask: Level) {
        self.before = Some((bid, ask));
    }

    /// The last valid levels, if there are.
    pub(crate) const fn before(&self) -> Option<(Level, Level)> {
        self.before
    }

    /// Whether there are last valid levels.
    pub(crate) const fn is_warm(&self) -> bool {
        self.before.is_some()
    }

    pub(super) fn update(&mut self, book: &BookView<'_>) -> Cell {
        let (Some(bid), Some(ask)) = (book.level(side::BID, self.level), book.level(side::ASK, self.level))
        else {
            return Cell::undefined(why::LACK | if self.before.is_none() { why::COLD } else { 0 });
        };
        let now = (bid, ask);
        self.before.replace(now).map_or(Cell::COLD, |before| Cell::int(level_flow(before, now)))
    }

    pub(super) fn reset(&mut self) {
        self.before = None;
    }

    pub(super) fn save(&self, out: &mut StateWriter) {
        out.bool(self.before.is_some());
        if let Some((bid, ask)) = self.before {
            save_level(bid, out);
            save_level(ask, out);
        }
    }

    pub(super) fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.before = if from.bool()? { Some((load_level(from)?, load_level(from)?)) } else { None };
        Ok(())
    }
}

/// `ofi_multi(levels)`: compares with the last book that had all of them.
#[derive(Clone, Debug)]
pub struct OfiMulti {
    levels: usize,
    /// Bid and ask of each level, best first; empty before the first.
    before: Vec<(Level, Level)>,
}

impl OfiMulti {
    pub(super) fn new(levels: usize) -> Self {
        Self { levels, before: Vec::with_capacity(levels) }
    }

    pub(super) fn update(&mut self, book: &BookView<'_>) -> Cell {
        let cold = self.before.is_empty();
        if book.bids.len().min(book.asks.len()) < self.levels {
            return Cell::undefined(why::LACK | if cold { why::COLD } else { 0 });
        }
        let now = || book.bids.iter().copied().zip(book.asks.iter().copied()).take(self.levels);
        let flow: i128 =
            self.before.iter().zip(now()).map(|(&before, now)| i128::from(level_flow(before, now))).sum();
        self.before.clear();
        self.before.extend(book.bids.iter().copied().zip(book.asks.iter().copied()).take(self.levels));
        if cold { Cell::COLD } else { Cell::wide(flow) }
    }

    pub(super) fn reset(&mut self) {
        self.before.clear();
    }

    pub(super) fn save(&self, out: &mut StateWriter) {
        out.bool(!self.before.is_empty());
        for &(bid, ask) in &self.before {
            save_level(bid, out);
            save_level(ask, out);
        }
    }

    pub(super) fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.before.clear();
        if from.bool()? {
            for _ in 0..self.levels {
                let pair = (load_level(from)?, load_level(from)?);
                self.before.push(pair);
            }
        }
        Ok(())
    }
}

/// `deep_flow(levels)`: size added behind an unchanged touch.
#[derive(Clone, Debug)]
pub struct DeepFlow {
    levels: usize,
    /// Best bid price, best ask price, bid and ask size of levels 2 to `levels`.
    before: Option<(i64, i64, i128, i128)>,
}

impl DeepFlow {
    pub(super) const fn new(levels: usize) -> Self {
        Self { levels, before: None }
    }

    pub(super) fn update(&mut self, book: &BookView<'_>) -> Cell {
        let Some((bid, ask)) = book.touch() else {
            return Cell::undefined(why::LACK | if self.before.is_none() { why::COLD } else { 0 });
        };
        let behind = |held: &[Level], best: Level| sum(held, self.levels) - i128::from(best.qty);
        let now = (bid.price, ask.price, behind(book.bids, bid), behind(book.asks, ask));
        let Some(before) = self.before.replace(now) else { return Cell::COLD };
        let moved = (before.0, before.1) != (now.0, now.1);
        let cell = if moved { Cell::int(0) } else { Cell::wide((now.2 - before.2) - (now.3 - before.3)) };
        Cell { state: cell.state | short(self.levels, book), ..cell }
    }

    pub(super) fn reset(&mut self) {
        self.before = None;
    }

    pub(super) fn save(&self, out: &mut StateWriter) {
        out.bool(self.before.is_some());
        if let Some((bid, ask, bids, asks)) = self.before {
            out.i64(bid);
            out.i64(ask);
            out.i128(bids);
            out.i128(asks);
        }
    }

    pub(super) fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.before =
            if from.bool()? { Some((from.i64()?, from.i64()?, from.i128()?, from.i128()?)) } else { None };
        Ok(())
    }
}

/// `tob_survival_ms`: how long the touch prices have stood.
#[derive(Clone, Debug, Default)]
pub struct TouchSurvival {
    touch: Option<(i64, i64)>,
    since: Option<i64>,
}

impl TouchSurvival {
    pub(super) fn update(&mut self, book: &BookView<'_>, clock_ns: i64) -> Cell {
        let Some((bid, ask)) = book.touch() else {
            return Cell::undefined(why::LACK | if self.since.is_none() { why::COLD } else { 0 });
        };
        let now = (bid.price, ask.price);
        if self.touch.replace(now).is_some_and(|before| before != now) {
            self.since = Some(clock_ns);
        }
        self.read(clock_ns)
    }

    pub(super) fn read(&self, clock_ns: i64) -> Cell {
        self.since.map_or(Cell::COLD, |since| Cell::wide((elapsed(clock_ns, since) / NANOS_PER_MS).into()))
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(super) fn save(&self, out: &mut StateWriter) {
        out.bool(self.touch.is_some());
        if let Some((bid, ask)) = self.touch {
            out.i64(bid);
            out.i64(ask);
        }
        out.option_i64(self.since);
    }

    pub(super) fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.touch = if from.bool()? { Some((from.i64()?, from.i64()?)) } else { None };
        self.since = from.option_i64()?;
        Ok(())
    }
}
