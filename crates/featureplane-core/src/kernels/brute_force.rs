//! The kernels over windows, held against their definitions: every reading is worked out again from
//! all that has happened since the reset.

use super::averages::MeanOver;
use super::cell::{Cell, why};
use super::moments::SQUARE_LIMIT;
use super::quanta::Kind;
use super::returns::{RealizedVol, ReturnBps};
use super::rolling::{Mean, Std, ZScore};
use super::state::{StateReader, StateWriter};
use super::window::{StdOver, SumOver, TradeImbalance};
use crate::error::Error;
use crate::random::Random;
use crate::units::{half_even_div, isqrt, to_f64};

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;
const DAY: i64 = 86_400 * SECOND;

/// What has happened since the reset, as clock and value.
#[derive(Clone, Debug, Default)]
struct History {
    steps: Vec<i64>,
    advances: Vec<(i64, i64)>,
    ends: Vec<(i64, Option<i64>)>,
}

/// A window by the words of rule 8.
struct Window {
    edge: i128,
}

impl Window {
    fn new(ns: i64, clock: i64) -> Self {
        let q = ns / 1000;
        Self { edge: i128::from(clock.div_euclid(q) - 999) * i128::from(q) }
    }

    fn holds(&self, clock: i64) -> bool {
        i128::from(clock) >= self.edge
    }

    fn is_covered(&self, kind: Kind, history: &History) -> bool {
        let defined = history.ends.iter().find(|end| end.1.is_some()).map(|end| end.0);
        let since = match kind {
            Kind::Flow => history.steps.first().copied(),
            Kind::State => history.advances.first().map(|advance| advance.0).or(defined),
        };
        since.is_some_and(|since| !self.holds(since))
    }

    fn inside(&self, history: &History) -> Vec<i64> {
        history.advances.iter().filter(|advance| self.holds(advance.0)).map(|advance| advance.1).collect()
    }
}

/// One kernel and its definition.
trait Subject: Clone {
    fn reset(&mut self);
    fn step(&mut self, _clock: i64) {}
    fn advance(&mut self, _x: i64, _clock: i64) {}
    fn end(&mut self, _x: Option<i64>, _clock: i64) {}
    fn cell(&mut self, clock: i64) -> Cell;
    fn write(&self, state: &mut StateWriter);
    fn restore(&mut self, state: &mut StateReader) -> Result<(), Error>;

    fn bytes(&self) -> Vec<u8> {
        let mut state = StateWriter::new();
        self.write(&mut state);
        state.into_bytes()
    }
}

macro_rules! subject {
    ($kernel:ty, $($hook:item)*) => {
        impl Subject for $kernel {
            fn reset(&mut self) {
                self.reset();
            }

            fn write(&self, state: &mut StateWriter) {
                self.save(state);
            }

            fn restore(&mut self, state: &mut StateReader) -> Result<(), Error> {
                self.load(state)
            }

            $($hook)*
        }
    };
}

/// Kernels of one shape.
macro_rules! subjects {
    (flow or state: $($kernel:ty),+) => {
        $(subject!($kernel,
            fn step(&mut self, clock: i64) { self.begin(clock); }
            fn advance(&mut self, x: i64, clock: i64) { self.update(x, clock); }
            fn cell(&mut self, clock: i64) -> Cell { self.read(clock) }
        );)+
    };
    (state: $($kernel:ty),+) => {
        $(subject!($kernel,
            fn advance(&mut self, x: i64, clock: i64) { self.update(x, clock); }
            fn cell(&mut self, clock: i64) -> Cell { self.read(clock) }
        );)+
    };
    (by count: $($kernel:ty),+) => {
        $(subject!($kernel,
            fn advance(&mut self, x: i64, _clock: i64) { self.update(x); }
            fn cell(&mut self, _clock: i64) -> Cell { self.read() }
        );)+
    };
}

subjects!(flow or state: SumOver, StdOver, TradeImbalance);
subjects!(state: RealizedVol, ReturnBps);
subjects!(by count: Mean, Std, ZScore);
subject! { MeanOver,
    fn step(&mut self, clock: i64) {
        self.begin(clock);
    }

    fn end(&mut self, x: Option<i64>, clock: i64) {
        self.settle(x.map_or(Cell::undefined(0), Cell::int), clock);
    }

    fn cell(&mut self, clock: i64) -> Cell {
        self.read(clock)
    }
}

fn pause(random: &mut Random, window_ns: i64) -> i64 {
    let below = |random: &mut Random, bound: i64| random.below(bound.cast_unsigned()).cast_signed();
    match random.below(32) {
        0..8 => 0,
        8..16 => below(random, window_ns / 500),
        16..20 => window_ns / 1000,
        20..28 => below(random, window_ns / 30),
        28..31 => below(random, window_ns),
        _ => below(random, 20 * window_ns),
    }
}

/// Runs a kernel, a copy that is hardly ever read, and one that goes on from saved states, through a
/// seeded life, and compares each reading with the definition.
fn live<K: Subject>(
    kernel: &K,
    window_ns: i64,
    seed: u64,
    value: impl Fn(&mut Random) -> i64,
    definition: impl Fn(&History, i64) -> Cell,
) {
    let mut random = Random::new(seed);
    let mut kernels = [kernel.clone(), kernel.clone(), kernel.clone()];
    let mut history = History::default();
    let mut clock = -random.below(4).cast_signed() * window_ns;
    for at in 0..1500 {
        let place = format!("seed {seed}, step {at}, clock {clock}");
        clock += pause(&mut random, window_ns);
        if random.below(500) == 0 {
            history = History::default();
            kernels.iter_mut().for_each(Subject::reset);
        }
        history.steps.push(clock);
        for kernel in &mut kernels {
            kernel.step(clock);
        }
        for _ in 0..random.pick(&[0, 1, 1, 2]) {
            let x = value(&mut random);
            history.advances.push((clock, x));
            for kernel in &mut kernels {
                kernel.advance(x, clock);
            }
        }
        let x = (random.below(5) > 0).then(|| value(&mut random));
        let [read, unread, restored] = &mut kernels;
        assert_eq!(read.cell(clock), definition(&history, clock), "{place}: before the step ends");
        history.ends.push((clock, x));
        for kernel in [&mut *read, unread, restored] {
            kernel.end(x, clock);
        }
        let expected = definition(&history, clock);
        assert_eq!(read.cell(clock), expected, "{place}");
        assert_eq!(restored.cell(clock), expected, "{place}: restored");
        if random.below(50) == 0 {
            assert_eq!(unread.cell(clock), expected, "{place}: unread");
        }
        if random.below(50) == 0 {
            let bytes = read.bytes();
            assert_eq!(unread.bytes(), bytes, "{place}: reading changes no state");
            assert_eq!(restored.bytes(), bytes, "{place}: a state travels");
            *restored = kernel.clone();
            let mut state = StateReader::new(&bytes);
            restored.restore(&mut state).unwrap();
            assert!(state.is_empty(), "{place}");
        }
    }
}

fn small(random: &mut Random) -> i64 {
    random.signed(12)
}

fn any_size(random: &mut Random) -> i64 {
    random.signed(63)
}

fn around_the_square_limit(random: &mut Random) -> i64 {
    let limit = SQUARE_LIMIT.cast_signed();
    match random.below(60) {
        0 => limit,
        1 => -limit,
        n => [limit - 1, 1 - limit, 7][usize::try_from(n % 3).unwrap()],
    }
}

const WINDOWS: [i64; 3] = [MS, 5 * SECOND, DAY];

fn each_window(seed: u64, check: impl Fn(i64, Kind, u64)) {
    for (i, ns) in (0u64..).zip(WINDOWS) {
        for (j, kind) in (0u64..).zip([Kind::Flow, Kind::State]) {
            check(ns, kind, seed + 10 * i + j);
        }
    }
}

#[test]
fn rule_8_sum_over() {
    let definition = |window: &Window, kind, history: &History| {
        if !window.is_covered(kind, history) {
            return Cell::COLD;
        }
        Cell::wide(window.inside(history).into_iter().map(i128::from).sum())
    };
    for value in [small, any_size] {
        each_window(1, |ns, kind, seed| {
            live(&SumOver::new(ns, kind), ns, seed, value, |history, clock| {
                definition(&Window::new(ns, clock), kind, history)
            });
        });
    }
}

/// sqrt(F(N S2 - S1^2)) / F(N), or the reason why not.
fn deviation(inputs: &[i64]) -> Result<(f64, f64, i128), Cell> {
    if inputs.iter().any(|x| x.unsigned_abs() >= SQUARE_LIMIT) {
        return Err(Cell::undefined(why::OVERFLOW));
    }
    let n = i128::try_from(inputs.len()).unwrap();
    let s1: i128 = inputs.iter().copied().map(i128::from).sum();
    let s2: i128 = inputs.iter().map(|&x| i128::from(x) * i128::from(x)).sum();
    Ok((to_f64(n * s2 - s1 * s1).sqrt(), to_f64(n), s1))
}

#[test]
fn rule_8_std_over() {
    let definition = |window: &Window, kind, history: &History| {
        if !window.is_covered(kind, history) {
            return Cell::COLD;
        }
        let inside = window.inside(history);
        match deviation(&inside) {
            Err(cell) => cell,
            Ok(_) if inside.len() < 2 => Cell::undefined(0),
            Ok((root, n, _)) => Cell::float(root / n),
        }
    };
    for value in [small, around_the_square_limit] {
        each_window(2, |ns, kind, seed| {
            live(&StdOver::new(ns, kind), ns, seed, value, |history, clock| {
                definition(&Window::new(ns, clock), kind, history)
            });
        });
    }
}

#[test]
fn rule_8_trade_imbalance() {
    for value in [small, any_size] {
        each_window(3, |ns, _, seed| {
            live(&TradeImbalance::new(ns), ns, seed, value, |history, clock| {
                let window = Window::new(ns, clock);
                if !window.is_covered(Kind::Flow, history) {
                    return Cell::COLD;
                }
                let inside = window.inside(history);
                let signed: i128 = inside.iter().copied().map(i128::from).sum();
                let size: i128 = inside.iter().map(|x| i128::from(x.unsigned_abs())).sum();
                half_even_div(signed * 1_000_000, size).map_or(Cell::undefined(0), Cell::int)
            });
        });
    }
}

#[test]
fn rule_8_mean_over() {
    for value in [small, any_size] {
        each_window(4, |ns, kind, seed| {
            live(&MeanOver::new(ns, kind), ns, seed, value, |history, clock| {
                let window = Window::new(ns, clock);
                let watched = History { advances: Vec::new(), ..history.clone() };
                if !window.is_covered(kind, &watched) {
                    return Cell::COLD;
                }
                let (mut integral, mut defined_ns) = (0, 0);
                let until = history.ends.iter().skip(1).map(|end| end.0).chain([clock]);
                for (&(from, held), until) in history.ends.iter().zip(until) {
                    let ns = i128::from(until) - window.edge.max(from.into());
                    if let (Some(held), 1..) = (held, ns) {
                        integral += i128::from(held) * ns;
                        defined_ns += ns;
                    }
                }
                if defined_ns == 0 {
                    return Cell::undefined(0);
                }
                Cell::float(to_f64(integral) / to_f64(defined_ns))
            });
        });
    }
}

fn scaled_return(now: i64, before: i64) -> Option<i64> {
    half_even_div(1_000_000_000 * (i128::from(now) - i128::from(before)), before.into())
}

fn mid(random: &mut Random) -> i64 {
    5_000_000 + random.signed(8)
}

fn wild_mid(random: &mut Random) -> i64 {
    random.pick(&[1 << 54, 1, 0, -7, 3_000_000_000, 1_000_000_000, 999_999]) + random.below(3).cast_signed()
}

#[test]
fn rule_8_return_bps() {
    for value in [mid, wild_mid] {
        each_window(5, |ns, _, seed| {
            live(&ReturnBps::new(ns), ns, seed, value, |history, clock| {
                let window = Window::new(ns, clock);
                let before = history.advances.iter().rfind(|advance| !window.holds(advance.0));
                match (history.advances.last(), before) {
                    (Some(_), Some((_, ..=0))) => Cell::undefined(0),
                    (Some(&(_, now)), Some(&(_, before))) => {
                        scaled_return(now, before).map_or(Cell::undefined(why::OVERFLOW), Cell::int)
                    }
                    _ => Cell::COLD,
                }
            });
        });
    }
}

#[test]
fn rule_8_realized_vol() {
    for value in [mid, wild_mid] {
        each_window(6, |ns, _, seed| {
            live(&RealizedVol::new(ns), ns, seed, value, |history, clock| {
                let window = Window::new(ns, clock);
                if !window.is_covered(Kind::State, history) {
                    return Cell::COLD;
                }
                let mut sum = 0;
                for pair in history.advances.windows(2) {
                    if !window.holds(pair[1].0) || pair[0].1 <= 0 {
                        continue;
                    }
                    match scaled_return(pair[1].1, pair[0].1) {
                        Some(r) if r.unsigned_abs() < SQUARE_LIMIT => {
                            sum += u128::from(r.unsigned_abs()).pow(2);
                        }
                        _ => return Cell::undefined(why::OVERFLOW),
                    }
                }
                Cell::wide(isqrt(sum).into())
            });
        });
    }
}

/// The last n inputs, if there are so many.
fn last(history: &History, n: usize) -> Option<Vec<i64>> {
    let from = history.advances.len().checked_sub(n)?;
    Some(history.advances[from..].iter().map(|advance| advance.1).collect())
}

#[test]
fn rule_8_windows_by_count() {
    for (n, seed) in [(1, 70), (2, 71), (16, 72), (300, 73)] {
        for value in [small, any_size] {
            live(&Mean::new(n), SECOND, seed, value, |history, _| {
                last(history, n).map_or(Cell::COLD, |inputs| {
                    let sum: i128 = inputs.into_iter().map(i128::from).sum();
                    Cell::float(to_f64(sum) / to_f64(i128::try_from(n).unwrap()))
                })
            });
        }
        for value in [small, around_the_square_limit] {
            live(&Std::new(n), SECOND, seed, value, |history, _| {
                match last(history, n).as_deref().map(deviation) {
                    None => Cell::COLD,
                    Some(Err(cell)) => cell,
                    Some(Ok((root, n, _))) => Cell::float(root / n),
                }
            });
            live(&ZScore::new(n), SECOND, seed, value, |history, _| {
                let Some(inputs) = last(history, n) else { return Cell::COLD };
                match deviation(&inputs) {
                    Err(cell) => cell,
                    Ok((root, _, s1)) => {
                        let above = i128::try_from(n).unwrap() * i128::from(inputs[n - 1]) - s1;
                        Cell::float(to_f64(above) / root)
                    }
                }
            });
        }
    }
}

#[test]
fn a_window_of_the_largest_inputs_stays_exact() {
    let n = 1 << 16;
    let (x, mut std, mut score) = (SQUARE_LIMIT.cast_signed() - 1, Std::new(n), ZScore::new(n));
    for i in 0..n {
        let x = if i % 2 == 0 { x } else { -x };
        std.update(x);
        score.update(x);
    }
    // S1 = 0, so both are known: x and -1.
    assert_eq!(std.read(), Cell::float(to_f64(x.into())));
    assert_eq!(score.read(), Cell::float(-1.0));
}

#[test]
fn states_that_no_kernel_wrote_are_refused() {
    let words = |words: &[i64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let refused = |kernel: &mut dyn FnMut(&mut StateReader) -> Result<(), Error>, bytes: &[i64]| {
        kernel(&mut StateReader::new(&words(bytes))).unwrap_err();
    };
    let mut sum = SumOver::new(MS, Kind::Flow);
    refused(&mut |state| sum.load(state), &[0, 2, 5, 0, 0, 5, 0, 0]);
    refused(&mut |state| sum.load(state), &[0, 2, 5, 0, 0, 1005, 0, 0]);
    refused(&mut |state| sum.load(state), &[0, 1001]);
    refused(&mut |state| sum.load(state), &[2]);
    let mut mean = MeanOver::new(MS, Kind::State);
    refused(&mut |state| mean.load(state), &[0, 1, 3_000_000, 1, i64::MIN, 0]);
    refused(&mut |state| mean.load(state), &[0, 1, 3_000_000, 0, 1, 3_001, 0, 0, 1]);
    refused(&mut |state| mean.load(state), &[0, 1, 3_000_000, 0, 1, 2_000, 0, 0, 1]);
    let mut change = ReturnBps::new(MS);
    refused(&mut |state| change.load(state), &[3, -9_000_000, 1, 0, 1, 1_000, 1]);
    let mut score = ZScore::new(2);
    refused(&mut |state| score.load(state), &[3, 1, 2, 3]);
    refused(&mut |state| score.load(state), &[1, i64::MIN]);
}
