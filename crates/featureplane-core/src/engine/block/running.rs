//! Sums and exponential means of what depends on the book alone: its runs are known, so that inputs
//! need not be looked at tick by tick.

use super::super::nodes::{Nodes, TRAVELS, travelling};
use super::steps::Books;
use super::tracks::{Channel, Class, Node, Track};
use crate::kernels::averages::Ema;
use crate::kernels::bound::Kernel;
use crate::kernels::cell::{UNDEFINED_F64, why};
use crate::kernels::rolling::CumSum;
use crate::kernels::{Cell, Dtype};
use crate::units::i64_to_f64;

/// WHY: each mean waits for the one before it, and the processor has time for others meanwhile: three
/// take no longer than one. Eight would be rearranged into vectors, and take longer.
const SIDE_BY_SIDE: usize = 3;

/// Such nodes of a plan, each with its input.
#[derive(Clone, Debug)]
pub(super) struct Running {
    means: Vec<Vec<(usize, usize)>>,
    sums: Vec<(usize, usize)>,
    /// Nodes that are computed in the present block.
    done: Vec<bool>,
}

impl Running {
    pub(super) fn new(tracks: &[Node], nodes: &Nodes) -> Self {
        let all = |is: fn(&Kernel) -> bool| -> Vec<(usize, usize)> {
            (0..tracks.len())
                .map(|at| (at, nodes.wiring[at].inputs[0]))
                .filter(|&(at, input)| {
                    tracks[at].class == Class::Ticks(Channel::Book)
                        && tracks[input].class == Class::Runs
                        && is(&nodes.kernels[at])
                })
                .collect()
        };
        let means = all(|kernel| matches!(kernel, Kernel::Ema(_, Dtype::I64)));
        Self {
            means: means.chunks(SIDE_BY_SIDE).map(<[_]>::to_vec).collect(),
            sums: all(|kernel| matches!(kernel, Kernel::CumSum(_))),
            done: vec![false; tracks.len()],
        }
    }

    /// Computes the sums, and the means that are warm, unless they are to come `late`; their inputs are computed.
    pub(super) fn run(&mut self, late: bool, tracks: &mut [Node], nodes: &mut Nodes, books: &Books) {
        for group in &self.means {
            let done = match *group.as_slice() {
                _ if late => {
                    for &mean in group {
                        lay_states(mean, tracks, books);
                    }
                    true
                }
                [a, b, c] => run_means([a, b, c], tracks, nodes, books),
                [a, b] => run_means([a, b], tracks, nodes, books),
                [a] => run_means([a], tracks, nodes, books),
                _ => false,
            };
            for &(at, _) in group {
                self.done[at] = done;
            }
        }
        for &(at, input) in &self.sums {
            let (before, own) = tracks.split_at_mut(at);
            if let Kernel::CumSum(sum) = &mut nodes.kernels[at] {
                if books.are_by_tick() {
                    sum_ticks(sum, &before[input].ticks, &mut own[0].ticks, books.runs());
                } else {
                    run_sum(sum, &before[input], &mut own[0], books);
                }
                self.done[at] = true;
            }
        }
    }

    pub(super) fn is_done(&self, at: usize) -> bool {
        self.done[at]
    }
}

fn run_means<const N: usize>(
    group: [(usize, usize); N],
    tracks: &mut [Node],
    nodes: &mut Nodes,
    books: &Books,
) -> bool {
    let mut means = group.map(|(at, _)| match &nodes.kernels[at] {
        Kernel::Ema(mean, _) => mean.clone(),
        _ => Ema::new(1),
    });
    if !means.iter().all(Ema::is_warm) {
        return false;
    }
    let mut bits = group.map(|(at, _)| std::mem::take(&mut tracks[at].ticks.bits));
    if books.are_by_tick() {
        let out = bits.each_mut().map(|bits| &mut bits[1..=books.runs()]);
        follow_ticks(&mut means, group.map(|(_, input)| &tracks[input].ticks), out);
    } else {
        follow_runs(&mut means, group.map(|(_, input)| &tracks[input]), &mut bits, books);
    }
    for ((at, input), (bits, mean)) in group.into_iter().zip(bits.into_iter().zip(means)) {
        nodes.kernels[at] = Kernel::Ema(mean, Dtype::I64);
        tracks[at].ticks.bits = bits;
        lay_states((at, input), tracks, books);
    }
    true
}

fn follow_runs<const N: usize>(
    means: &mut [Ema; N],
    inputs: [&Node; N],
    bits: &mut [Vec<u64>; N],
    books: &Books,
) {
    let inputs = inputs.map(|input| (input.first.as_slice(), input.rest()));
    for (run, (start, ticks)) in books.spans().enumerate() {
        let [first, rest] = [inputs.map(|(first, _)| first[run]), inputs.map(|(_, rest)| rest[run])];
        let out = bits.each_mut().map(|bits| &mut bits[start + 1..][..ticks]);
        let defined = first.iter().chain(&rest).all(|cell| cell.is_defined());
        if defined { follow(means, first, rest, out) } else { step_aside(means, first, rest, out) }
    }
}

/// Means of what stands tick by tick.
fn follow_ticks<const N: usize>(means: &mut [Ema; N], inputs: [&Track; N], out: [&mut [u64]; N]) {
    let ticks = out.iter().map(|out| out.len()).min().unwrap_or(0);
    let values = inputs.map(|input| &input.bits[1..=ticks]);
    if !inputs.iter().all(|input| input.plain) {
        for (lane, out) in out.into_iter().enumerate() {
            for ((place, &bits), state) in out.iter_mut().zip(values[lane]).zip(&inputs[lane].state[1..]) {
                let defined = state & why::UNDEFINED == 0;
                *place = if defined { means[lane].follow(number(bits)) } else { UNDEFINED_F64 };
            }
        }
        return;
    }
    let mut out = out.map(|out| &mut out[..ticks]);
    let mut here = means.clone();
    for tick in 0..ticks {
        for ((mean, out), values) in here.iter_mut().zip(&mut out).zip(values) {
            out[tick] = mean.follow(number(values[tick]));
        }
    }
    *means = here;
}

fn number(bits: u64) -> f64 {
    i64_to_f64(bits.cast_signed())
}

/// Lays the states of a mean that is warm: those of its input.
fn lay_states((at, input): (usize, usize), tracks: &mut [Node], books: &Books) {
    let (before, own) = tracks.split_at_mut(at);
    if books.are_by_tick() {
        return own[0].ticks.take_states(&before[input].ticks, TRAVELS | why::UNDEFINED, books.runs());
    }
    let states = before[input]
        .cells()
        .map(|(first, rest)| [first, rest].map(|cell| cell.state & (TRAVELS | why::UNDEFINED)));
    own[0].ticks.lay_states(states, books);
}

/// A run in which every input has a value.
#[inline]
fn follow<const N: usize>(means: &mut [Ema; N], first: [Cell; N], rest: [Cell; N], out: [&mut [u64]; N]) {
    let ticks = out.iter().map(|out| out.len()).min().unwrap_or(0);
    let mut places = out.map(|out| out.iter_mut());
    let mut here = means.clone();
    let mut tick = |inputs: &[f64; N]| {
        for ((mean, places), input) in here.iter_mut().zip(&mut places).zip(inputs) {
            if let Some(place) = places.next() {
                *place = mean.follow(*input);
            }
        }
    };
    let [first, rest] = [first, rest].map(|cells| cells.map(|cell| i64_to_f64(cell.as_i64())));
    tick(&first);
    for _ in 1..ticks {
        tick(&rest);
    }
    *means = here;
}

/// A run in which some input has none.
fn step_aside<const N: usize>(means: &mut [Ema; N], first: [Cell; N], rest: [Cell; N], out: [&mut [u64]; N]) {
    for (lane, out) in out.into_iter().enumerate() {
        for (tick, bits) in out.iter_mut().enumerate() {
            let cell = if tick == 0 { first[lane] } else { rest[lane] };
            *bits =
                if cell.is_defined() { means[lane].follow(i64_to_f64(cell.as_i64())) } else { UNDEFINED_F64 };
        }
    }
}

/// A sum whose input stands run by run. It stands so too if nothing is added behind the first tick of a run.
fn run_sum(sum: &mut CumSum, input: &Node, own: &mut Node, books: &Books) {
    let mut tick = |x| add(sum, x);
    let runs = books.spans().zip(input.cells());
    own.in_runs = runs.clone().all(|((_, ticks), (_, rest))| ticks == 1 || rest.bits == 0);
    if own.in_runs {
        for ((_, ticks), (first, rest)) in runs {
            let first = tick(first);
            own.first.push(first);
            own.rest.push(if ticks > 1 { tick(rest) } else { first });
        }
        return;
    }
    let mut any = 0;
    for ((start, ticks), (first, rest)) in runs {
        for at in start..start + ticks {
            let cell = tick(if at == start { first } else { rest });
            any |= cell.state;
            own.ticks.put(at + 1, cell);
        }
    }
    own.ticks.end(any);
}

/// The same tick by tick.
fn sum_ticks(sum: &mut CumSum, input: &Track, own: &mut Track, ticks: usize) {
    let mut writer = own.writer();
    for tick in 1..=ticks {
        writer.put(add(sum, input.cell(tick)));
    }
    let any = writer.any;
    own.end(any);
}

#[inline]
fn add(sum: &mut CumSum, x: Cell) -> Cell {
    let state = travelling(x.state);
    if state & why::UNDEFINED != 0 {
        return Cell::undefined(state | sum.read().state & why::COLD);
    }
    sum.update(x.as_i64());
    let cell = sum.read();
    Cell { state: cell.state | state, ..cell }
}
