//! A plan over rows of best prices and sizes: each row a book of its own, and a step (rule 5).
//!
//! Rows go through the nodes as books do, one by one; where 64 of them are of the common kind, and so is
//! the plan, all at once.

use super::lanes::Lanes;
use super::nodes::Nodes;
use super::output::Output;
use crate::book::Level;
use crate::error::Error;
use crate::event::{MAGNITUDE_LIMIT, TIME_LIMIT_NS};
use crate::frame::Layout;
use crate::frame::quality::{CROSSED_BOOK, STATE_RESET};
use crate::kernels::book::BookView;
use crate::kernels::bound::Instrument;
use crate::kernels::touch::ROWS;
use crate::plan::Plan;

/// Columns of best levels, one length; a size of 0 says that the side is empty.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Best bids.
    pub bid: &'a [i64],
    /// Best asks.
    pub ask: &'a [i64],
    /// Their sizes.
    pub bid_qty: &'a [i64],
    /// See `bid_qty`.
    pub ask_qty: &'a [i64],
    /// UTC nanoseconds; none: the clock stands at 0.
    pub source_ts_ns: Option<&'a [i64]>,
}

impl Rows<'_> {
    /// Number of rows: those of the shortest column.
    #[must_use]
    pub fn len(&self) -> usize {
        let sides = [self.bid, self.ask, self.bid_qty, self.ask_qty];
        sides.into_iter().chain(self.source_ts_ns).map(<[i64]>::len).min().unwrap_or(0)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn levels(&self, row: usize) -> (Level, Level) {
        let bid = Level { price: self.bid[row], qty: self.bid_qty[row] };
        (bid, Level { price: self.ask[row], qty: self.ask_qty[row] })
    }

    /// Whether no event may hold some of the times (rule 2.3).
    fn have_odd_times(&self) -> bool {
        let mut times = self.source_ts_ns.unwrap_or_default().iter();
        times.any(|time| !(0..TIME_LIMIT_NS).contains(time))
    }

    /// Whether no event may hold the numbers of a row (rule 1.2).
    fn are_beyond(&self, row: usize) -> bool {
        let (bid, ask) = self.levels(row);
        let prices = [bid, ask].iter().any(|level| level.price.unsigned_abs() >> 53 != 0);
        let sizes = [bid, ask].iter().any(|level| !(0..MAGNITUDE_LIMIT).contains(&level.qty));
        prices || sizes
    }
}

/// What came of rows: values by feature, undefined ones as their sentinel, and flags where there are any.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Eight bytes of each value, one vector a feature.
    pub values: Vec<Vec<u64>>,
    /// Rows with flags, and their flags.
    pub flagged: Vec<(u64, u32)>,
}

/// A plan that reads the best levels alone, over rows.
#[derive(Clone, Debug)]
pub struct TouchEngine {
    plan: Plan,
    layout: Layout,
    nodes: Nodes,
    output: Output,
    lanes: Option<Lanes>,
    locked_valid: bool,
    clock: Option<i64>,
}

impl TouchEngine {
    /// An engine before its first row. `locked_valid`: equal best bid and ask are valid.
    ///
    /// # Errors
    /// The plan reads more than the best levels, or a kernel does not take its parameters.
    pub fn new(plan: Plan, tick: Option<i64>, locked_valid: bool) -> Result<Self, Error> {
        if plan.reads_trades() || plan.depth > 1 {
            let found = format!("a plan of {} levels, trades: {}", plan.depth, plan.reads_trades());
            return Err(Error::Plan { found, expected: "one that reads the best levels alone".into() });
        }
        let layout = Layout::new(&plan);
        let nodes = Nodes::new(&plan, Instrument { tick, vpin_bucket: None }, 1)?;
        Ok(Self {
            output: Output::new(&layout),
            lanes: Lanes::new(&plan, &nodes),
            layout,
            nodes,
            plan,
            locked_valid,
            clock: None,
        })
    }

    /// Takes all rows; each makes a row of the table. None if a row holds what no event may hold.
    pub fn run(&mut self, rows: &Rows<'_>) -> Option<Table> {
        let count = rows.len();
        if rows.have_odd_times() {
            return None;
        }
        let mut table = Table {
            values: self.plan.features.iter().map(|_| Vec::with_capacity(count)).collect(),
            flagged: Vec::new(),
        };
        let mut at = 0;
        while at < count {
            at += self.take_many(rows, at, &mut table);
            // WHY up to a multiple: lanes begin where lines of the caches do.
            let stop = count.min(at + ROWS - at % ROWS);
            while at < stop {
                if rows.are_beyond(at) {
                    return None;
                }
                self.take(rows, at, &mut table);
                at += 1;
            }
        }
        Some(table)
    }

    /// Rows from `at` on in the lanes, if they have any and are warm; how many.
    fn take_many(&mut self, rows: &Rows<'_>, at: usize, table: &mut Table) -> usize {
        let Some(lanes) = self.lanes.as_mut().filter(|_| at > 0) else { return 0 };
        let taken = lanes.run(rows, at, &mut self.nodes, &mut table.values);
        if let (Some(times), true) = (rows.source_ts_ns, taken > 0) {
            let latest = times[at..at + taken].iter().copied().max();
            self.clock = self.clock.max(latest);
        }
        taken
    }

    /// One row; the steps of `symbol`, for a source that has nothing but books.
    fn take(&mut self, rows: &Rows<'_>, row: usize, table: &mut Table) {
        let time = rows.source_ts_ns.map_or(0, |times| times[row]);
        let mut flags = if self.clock.is_none() { STATE_RESET } else { 0 };
        let clock = self.clock.map_or(time, |clock| clock.max(time));
        self.clock = Some(clock);
        let (bid, ask) = rows.levels(row);
        let (bids, asks) = ([bid], [ask]);
        let view =
            BookView { bids: &bids[..usize::from(bid.qty > 0)], asks: &asks[..usize::from(ask.qty > 0)] };
        let valid = view
            .touch()
            .is_none_or(|(bid, ask)| bid.price < ask.price || (self.locked_valid && bid.price == ask.price));
        self.nodes.begin(clock, false);
        self.nodes.book(valid.then_some(&view), clock);
        self.nodes.finish(clock, false);
        flags |= if valid { 0 } else { CROSSED_BOOK };
        flags |= self.output.publish(&self.plan, &self.layout, &self.nodes);
        for (column, value) in table.values.iter_mut().zip(&self.output.values) {
            column.push(*value);
        }
        if flags != 0 {
            table.flagged.push((row as u64, flags));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const PLAN: &str = r#"{"abi":1,"feature_set_id":"t","schema_version":1,"nodes":[
        {"kernel":"microprice_x2","params":{},"inputs":[],"dtype":"i64","kind":"state"},
        {"kernel":"imbalance_ppm","params":{"levels":1},"inputs":[],"dtype":"i64","kind":"state"},
        {"kernel":"ofi","params":{"level":1},"inputs":[],"dtype":"i64","kind":"flow"},
        {"kernel":"cumsum","params":{},"inputs":[2],"dtype":"i64","kind":"state"},
        {"kernel":"ema","params":{"n":8},"inputs":[2],"dtype":"f64","kind":"state"},
        {"kernel":"ema","params":{"n":3},"inputs":[0],"dtype":"f64","kind":"state"}],
        "features":[
        {"feature_id":"a","node":0,"dtype":"i64","scale":2},{"feature_id":"b","node":1,"dtype":"i64","scale":1},
        {"feature_id":"c","node":2,"dtype":"i64","scale":1},{"feature_id":"d","node":3,"dtype":"i64","scale":1},
        {"feature_id":"e","node":4,"dtype":"f64","scale":1},{"feature_id":"f","node":5,"dtype":"f64","scale":1}]}"#;

    fn engine() -> TouchEngine {
        let plan = Plan::from_json(PLAN, [0; 8]).expect("a plan");
        TouchEngine::new(plan, None, false).expect("a plan of best levels")
    }

    /// Rows of the common kind, but for one in so many.
    fn columns(rows: usize, odd: u64, random: &mut Random) -> [Vec<i64>; 4] {
        let mut columns = [const { Vec::new() }; 4];
        for _ in 0..rows {
            let bid = 1_000 + random.signed(8);
            let mut row =
                [bid, bid + 1 + random.magnitude(4), 1 + random.magnitude(20), 1 + random.magnitude(20)];
            if random.below(odd) == 0 {
                row[usize::try_from(random.below(4)).unwrap()] = random.pick(&[0, 5, (1 << 53) - 1, 1 << 50]);
            }
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        columns
    }

    fn rows(columns: &[Vec<i64>; 4]) -> Rows<'_> {
        let [bid, ask, bid_qty, ask_qty] = columns.each_ref().map(Vec::as_slice);
        Rows { bid, ask, bid_qty, ask_qty, source_ts_ns: None }
    }

    #[test]
    fn many_rows_at_once_are_the_rows_one_by_one() {
        let mut random = Random::new(3);
        assert!(engine().lanes.is_some());
        for (count, odd) in [(0, 9), (1, 9), (200, 1_000), (5_000, 100), (5_000, 20), (100_000, 3_000)] {
            let columns = columns(count, odd, &mut random);
            let (mut fast, mut slow) = (engine(), TouchEngine { lanes: None, ..engine() });
            let (fast, slow) = (fast.run(&rows(&columns)).unwrap(), slow.run(&rows(&columns)).unwrap());
            assert_eq!(fast.flagged, slow.flagged, "{count} rows");
            assert!(fast.values == slow.values, "{count} rows, one in {odd} odd");
            assert_eq!(fast.values[0].len(), count);
        }
    }

    #[test]
    fn every_processor_computes_the_same() {
        let columns = columns(1_000, u64::MAX, &mut Random::new(4));
        let all = rows(&columns);
        let mut engine = engine();
        let mut table = Table { values: vec![Vec::new(); 6], flagged: Vec::new() };
        (0..ROWS).for_each(|row| engine.take(&all, row, &mut table));
        let mut lanes = engine.lanes.take().unwrap();
        let (mut any, mut own) = (engine.nodes.clone(), engine.nodes);
        let mut values = [const { Vec::new() }; 2].map(|_: Vec<u64>| vec![Vec::new(); 6]);
        let taken = lanes.run_all::<false>(&all, ROWS, &mut any, &mut values[0]);
        assert_eq!(lanes.run(&all, ROWS, &mut own, &mut values[1]), taken);
        assert!(taken > 800);
        assert_eq!(values[0], values[1]);
        assert_eq!(any.cells, own.cells);
    }

    #[test]
    fn what_no_event_may_hold_is_refused() {
        let mut random = Random::new(5);
        for (column, value) in [(0, 1 << 53), (1, -(1 << 53)), (2, -1), (3, i64::MIN)] {
            let mut columns = columns(300, u64::MAX, &mut random);
            columns[column][200] = value;
            assert!(engine().run(&rows(&columns)).is_none(), "{value} in column {column}");
        }
        let columns = columns(300, u64::MAX, &mut random);
        let mut times = vec![7; 300];
        assert!(engine().run(&Rows { source_ts_ns: Some(&times), ..rows(&columns) }).is_some());
        times[200] = -1;
        assert!(engine().run(&Rows { source_ts_ns: Some(&times), ..rows(&columns) }).is_none());
    }
}
