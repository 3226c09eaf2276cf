//! Columns against the same frames, one behind the other.

use super::*;
use crate::frame::{FrameColumns, Head};
use crate::plan::Plan;
use crate::random::Random;

const FEATURES: usize = 70;

/// Values and masks of frames, by column.
struct Given {
    values: Vec<Vec<u64>>,
    ready: [Vec<u64>; 2],
    changed: [Vec<u64>; 2],
}

impl FrameColumns for Given {
    fn value(&self, feature: usize) -> &[u64] {
        &self.values[feature]
    }

    fn write(&mut self, from: usize, count: usize, sheet: &mut Sheet<'_>) {
        for (feature, values) in self.values.iter().enumerate() {
            sheet.copy(feature, &values[from..from + count]);
        }
    }

    fn ready(&self, word: usize) -> &[u64] {
        &self.ready[word]
    }

    fn changed(&self, word: usize) -> &[u64] {
        &self.changed[word]
    }
}

fn layout() -> Layout {
    let node = r#"{"kind":"state","kernel":"best_bid","params":{},"inputs":[],"dtype":"i64"}"#;
    let features: Vec<String> = (0..FEATURES)
        .map(|at| format!(r#"{{"feature_id":"f{at}","node":0,"dtype":"i64","scale":1}}"#))
        .collect();
    let plan = format!(
        r#"{{"abi":1,"feature_set_id":"many","schema_version":1,"nodes":[{node}],"features":[{}]}}"#,
        features.join(",")
    );
    Layout::new(&Plan::from_json(&plan, [0; 8]).expect("a plan"))
}

fn draw(random: &mut Random, count: usize) -> Given {
    let mut words = |of: &dyn Fn(u64) -> u64| (0..count).map(|_| of(random.bits())).collect();
    let all = |word: u64| if word.is_multiple_of(9) { word } else { u64::MAX };
    let high = |word: u64| all(word) & 63;
    Given {
        values: (0..FEATURES).map(|_| words(&|word| word)).collect(),
        ready: [words(&all), words(&high)],
        changed: [words(&|word| word), words(&|word| word & 63)],
    }
}

/// The same frames one by one.
#[derive(Default)]
struct Rows {
    words: Vec<Vec<u64>>,
    symbols: Vec<u32>,
    grid: Vec<i64>,
}

impl Rows {
    fn push(&mut self, symbol: u32, head: &Head, given: &Given, at: usize) {
        let times = [head.source_ts_ns, head.local_ts_ns].map(i64::cast_unsigned);
        let mut row = vec![head.seq, head.source_seq, times[0], times[1], u64::from(head.flags)];
        row.extend(given.ready.iter().chain(&given.changed).map(|mask| mask[at]));
        row.extend(given.values.iter().map(|column| column[at]));
        self.words.push(row);
        self.symbols.push(symbol);
        self.grid.push(head.grid_ts_ns);
    }

    fn check(&self, columns: &Columns) {
        let of = |column| columns.column(column);
        assert_eq!(columns.len(), self.words.len());
        let halves = |word: u64| [word & 0xffff_ffff, word >> 32];
        let flags: Vec<u64> = of(Column::Flags).iter().flat_map(|&word| halves(word)).collect();
        for (at, row) in self.words.iter().enumerate() {
            let mut got = vec![of(Column::Seq)[at], of(Column::SourceSeq)[at]];
            got.extend([of(Column::SourceTs)[at], of(Column::LocalTs)[at], flags[at]]);
            got.extend(&of(Column::Ready)[2 * at..2 * at + 2]);
            got.extend(&of(Column::Changed)[2 * at..2 * at + 2]);
            got.extend((0..FEATURES).map(|feature| of(Column::Value(feature))[at]));
            assert_eq!(&got, row, "row {at}");
        }
        for (feature, packed) in columns.validity().into_iter().enumerate() {
            let ready = |row: &Vec<u64>| row[5 + feature / 64] >> (feature % 64) & 1 == 1;
            let bit = |at: usize| packed.as_ref().is_none_or(|packed| packed[at / 8] >> (at % 8) & 1 == 1);
            assert!(self.words.iter().enumerate().all(|(at, row)| ready(row) == bit(at)));
            assert_eq!(packed.is_none(), self.words.iter().all(ready));
        }
    }
}

impl Rows {
    /// Draws some frames and shows them to the columns, together or one by one.
    fn grow(&mut self, columns: &mut Columns, random: &mut Random, symbols: u64, grid_ts_ns: i64) {
        let count = usize::try_from(1 + random.below(300)).unwrap();
        let (mut given, symbol) = (draw(random, count + 5), random.below(symbols));
        let mut numbers = |of: u64| -> Vec<u64> { (0..count).map(|_| random.below(of)).collect() };
        let (seqs, flags, times) = (numbers(99), numbers(64), numbers(1 << 60));
        let flags: Vec<u32> = flags.into_iter().map(|flag| u32::try_from(flag).unwrap()).collect();
        let times: Vec<i64> = times.into_iter().map(u64::cast_signed).collect();
        let (symbol, place) = (u32::try_from(symbol).unwrap(), usize::try_from(symbol).unwrap());
        let together = !count.is_multiple_of(3);
        let mut frames = Frames {
            symbol_id: 7,
            first_seq: self.words.len() as u64,
            source_seq: &seqs,
            source_ts_ns: &times,
            local_ts_ns: &times,
            flags: &flags,
            columns: (&mut given, 5),
        };
        if together {
            columns.frames(place, &mut frames);
        }
        let heads: Vec<Head> = (0..count).map(|at| frames.head(at)).collect();
        for at in 0..count {
            let grid_ts_ns = if together { 0 } else { grid_ts_ns };
            let head = Head { grid_ts_ns, ..heads[at] };
            self.push(symbol, &head, &given, 5 + at);
            if !together {
                let mask = |mask: &[Vec<u64>; 2]| [mask[0][5 + at], mask[1][5 + at]];
                let values: Vec<u64> = given.values.iter().map(|column| column[5 + at]).collect();
                let (ready, changed) = (mask(&given.ready), mask(&given.changed));
                columns.frame(place, &Frame { head, changed: &changed, ready: &ready, values: &values });
            }
        }
    }
}

#[test]
fn columns_hold_the_frames_however_they_come() {
    for (seed, rows, symbols, grid_ts_ns) in [(1, 9_000, 1, 0), (2, 300, 2, 0), (3, 2_500, 3, 1_000)] {
        let mut random = Random::new(seed);
        let (mut columns, mut wanted) = (Columns::new(&layout()), Rows::default());
        while wanted.words.len() < rows {
            columns.foresee(wanted.words.len(), rows - wanted.words.len());
            wanted.grow(&mut columns, &mut random, symbols, grid_ts_ns);
        }
        wanted.check(&columns);
        let rows = columns.len();
        let (symbols_of, grid) = (columns.symbols(), columns.grid_ts_ns());
        assert_eq!((symbols_of.is_empty(), grid.is_empty()), (symbols == 1, grid_ts_ns == 0));
        let zeros = (vec![0; rows], vec![0; rows]);
        assert_eq!(if symbols_of.is_empty() { &zeros.0 } else { symbols_of }, wanted.symbols);
        assert_eq!(if grid.is_empty() { &zeros.1 } else { grid }, wanted.grid);
    }
}
