//! What each node holds along the steps of a block, and how it is computed.

use std::iter::Zip;
use std::slice::IterMut;

use super::super::nodes::{Nodes, Reads, Wiring};
use super::steps::Books;
use crate::kernels::bound::{Drive, Kernel};
use crate::kernels::cell::{UNDEFINED_F64, UNDEFINED_I64, why};
use crate::kernels::work::Integral;
use crate::kernels::{Cell, Dtype};
use crate::plan::Plan;

/// Places behind the last cell that may be written.
const BEYOND: usize = 16;

/// Cells in a row. Place 0 holds what was there before the block.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// Eight bytes of each; undefined ones stand as the sentinel of the type.
    pub(super) bits: Vec<u64>,
    /// Bits of [`why`].
    pub(super) state: Vec<u8>,
    /// Every state of this block is 0.
    pub(super) plain: bool,
    /// Every state there is room for is 0.
    zeros: bool,
    sentinel: u64,
}

impl Track {
    pub(super) fn new(dtype: Dtype, places: usize) -> Self {
        let sentinel = if dtype == Dtype::F64 { UNDEFINED_F64 } else { UNDEFINED_I64 };
        let (bits, state) = (vec![sentinel; places + BEYOND], vec![0; places]);
        Self { bits, state, plain: true, zeros: true, sentinel }
    }

    /// Begins a block of `count` cells behind `before`.
    pub(super) fn begin(&mut self, before: Cell, count: usize) {
        if self.state.len() <= count {
            self.bits.resize(count + 1 + BEYOND, self.sentinel);
            self.state.resize(count + 1, 0);
        }
        self.zeros &= before.state == 0;
        self.put(0, before);
    }

    #[inline]
    pub(super) fn put(&mut self, at: usize, cell: Cell) {
        self.bits[at] = self.bits_of(cell);
        self.state[at] = cell.state;
    }

    /// Lays one cell at `from` and another at the `ticks` - 1 places behind it.
    #[inline]
    pub(super) fn lay(&mut self, from: usize, ticks: usize, first: Cell, rest: Cell) {
        if !self.zeros || first.state | rest.state != 0 {
            self.zeros = false;
            self.state[from] = first.state;
            self.state[from + 1..from + ticks].fill(rest.state);
        }
        let (first, rest) = (self.bits_of(first), self.bits_of(rest));
        self.bits[from] = first;
        let behind = &mut self.bits[from + 1..];
        // A fixed number first: most runs are shorter, and how much shorter is not foreseen.
        let (near, far) = behind.split_at_mut(BEYOND);
        near.fill(rest);
        if ticks > BEYOND {
            far[..ticks - 1 - BEYOND].fill(rest);
        }
    }

    /// What stands for a cell among `bits`.
    #[inline]
    pub(super) fn bits_of(&self, cell: Cell) -> u64 {
        if cell.is_defined() { cell.bits } else { self.sentinel }
    }

    /// All cells up to `count` are in place; `any` is what stands in the state of some.
    pub(super) fn end(&mut self, any: u8) {
        self.plain = any | self.state[0] == 0;
        self.zeros &= self.plain;
    }

    /// Every cell will be a plain value; what was before the block is one.
    pub(super) fn make_plain(&mut self) {
        if !self.zeros {
            self.state.fill(0);
            self.zeros = true;
        }
        self.plain = true;
    }

    /// Takes the states of runs of ticks, at the first tick of each and at the others; those of a run are
    /// the same in all cells but the first.
    pub(super) fn lay_states(&mut self, states: impl Iterator<Item = [u8; 2]> + Clone, books: &Books) {
        let any = states.clone().flatten().fold(0, |any, state| any | state);
        if any | self.state[0] == 0 {
            return self.make_plain();
        }
        for ((start, ticks), [first, rest]) in books.spans().zip(states) {
            self.state[start + 1] = first;
            self.state[start + 2..start + 1 + ticks].fill(rest);
        }
        self.end(any);
    }

    /// Takes the states of another track, those that `travels` has, at `ticks` ticks.
    pub(super) fn take_states(&mut self, from: &Self, travels: u8, ticks: usize) {
        if from.plain && self.state[0] == 0 {
            return self.make_plain();
        }
        let mut any = 0;
        for (place, state) in self.state[1..=ticks].iter_mut().zip(&from.state[1..]) {
            *place = state & travels;
            any |= *place;
        }
        self.end(any);
    }

    /// Puts plain values in a row, from the tick behind so many on.
    pub(super) fn fill_in(&mut self, values: &[i64], behind: usize) {
        for (place, value) in self.bits[behind + 1..][..values.len()].iter_mut().zip(values) {
            *place = value.cast_unsigned();
        }
    }

    /// All cells up to `count` are in place, and plain values.
    pub(super) fn end_plain(&mut self, count: usize) {
        if self.state[0] == 0 {
            self.make_plain();
        } else {
            self.state[1..=count].fill(0);
            self.end(0);
        }
    }

    /// Takes cells one by one, from the first of the block on.
    pub(super) fn writer(&mut self) -> Writer<'_> {
        let Self { bits, state, sentinel, .. } = self;
        Writer { places: bits[1..].iter_mut().zip(&mut state[1..]), sentinel: *sentinel, any: 0 }
    }

    pub(super) fn cell(&self, at: usize) -> Cell {
        let state = self.state[at];
        Cell { bits: if state & why::UNDEFINED == 0 { self.bits[at] } else { 0 }, state }
    }
}

/// See [`Track::writer`].
pub(super) struct Writer<'a> {
    places: Zip<IterMut<'a, u64>, IterMut<'a, u8>>,
    sentinel: u64,
    /// What stands in the state of some cell: `Track::end` has to be told.
    pub(super) any: u8,
}

impl Writer<'_> {
    #[inline]
    pub(super) fn put(&mut self, cell: Cell) {
        if let Some((bits, state)) = self.places.next() {
            *bits = if cell.is_defined() { cell.bits } else { self.sentinel };
            *state = cell.state;
            self.any |= cell.state;
        }
    }
}

/// The channel whose ticks move a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Book,
    Trades,
}

/// How a node is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It never changes.
    Constant,
    /// By runs of ticks that see the same book: one cell for the first, one for the rest of them.
    Runs,
    /// Tick by tick of one channel.
    Ticks(Channel),
    /// The same, and at the end of every step, because it moves with the clock.
    Steps(Channel),
    /// It reads both channels: with others of its kind, event by event.
    Row,
}

/// One node along a block.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) class: Class,
    /// The channel whose ticks move it; of those that read both, the book.
    pub(super) channel: Channel,
    /// At ticks of its channel.
    pub(super) ticks: Track,
    /// At the ends of steps; classes `Steps` and `Row`.
    pub(super) steps: Track,
    /// Whether it advanced at each trade.
    pub(super) advanced: Vec<bool>,
    /// Its cells stand run by run in this block: at the first tick of each run, and at the others. Those of
    /// class `Runs` do unless each run is one tick long.
    pub(super) in_runs: bool,
    pub(super) first: Vec<Cell>,
    pub(super) rest: Vec<Cell>,
    /// They are the same at all ticks of a run, and stand only once.
    pub(super) steady: bool,
    /// They stand tick by tick too.
    laid_out: bool,
    /// Integral and time of a mean whose readers need them: at ticks, and at the ends of steps.
    pub(super) integrals: Option<[Vec<Integral>; 2]>,
}

/// The nodes of a plan, each with its class.
pub(super) fn of_plan(plan: &Plan, nodes: &Nodes, size: usize) -> Vec<Node> {
    let classes = classes(nodes);
    let wiring = &nodes.wiring;
    let is_read = |at: usize, by: fn(&Wiring, Class) -> bool| {
        wiring.iter().zip(&classes).any(|(wire, &class)| wire.reads_from().contains(&at) && by(wire, class))
    };
    let of = |at: usize, &class: &Class| {
        let room = |needed: bool| if needed { size + 1 } else { 1 };
        let dtype = plan.nodes[at].dtype;
        let in_runs = class == Class::Runs;
        let mut ticks = Track::new(dtype, room(class != Class::Row));
        if class == Class::Constant {
            ticks.begin(nodes.cells[at], size);
            fill(&mut ticks, nodes.cells[at]);
        }
        let relative =
            is_read(at, |wire, _| wire.relative) && matches!(nodes.kernels[at], Kernel::MeanOver(_));
        Node {
            class,
            channel: if wiring[at].reads.book { Channel::Book } else { Channel::Trades },
            ticks,
            steps: Track::new(dtype, room(matches!(class, Class::Steps(_) | Class::Row))),
            advanced: vec![false; room(nodes.wiring[at].reads.trades || class == Class::Constant)],
            in_runs,
            first: Vec::with_capacity(if in_runs { size } else { 0 }),
            rest: Vec::with_capacity(if in_runs { size } else { 0 }),
            steady: in_runs && wiring[at].drive == Drive::Book && nodes.kernels[at].is_steady(),
            laid_out: false,
            integrals: relative.then(Default::default),
        }
    };
    classes.iter().enumerate().map(|(at, class)| of(at, class)).collect()
}

impl Node {
    /// Begins a block of `ticks` ticks of its channel and `steps` steps behind the cell `before`; `by_tick` if
    /// each run of books is one tick long.
    pub(super) fn begin(&mut self, before: Cell, ticks: usize, steps: usize, by_tick: bool) {
        self.in_runs = self.class == Class::Runs && !by_tick;
        self.laid_out = false;
        self.first.clear();
        self.rest.clear();
        if self.class == Class::Constant {
            if self.ticks.state.len() <= ticks {
                self.ticks.begin(before, ticks);
                fill(&mut self.ticks, before);
            }
        } else {
            self.ticks.begin(before, ticks);
            self.steps.begin(before, steps);
        }
        if self.channel == Channel::Trades && self.advanced.len() < ticks {
            self.advanced.resize(ticks, false);
        }
    }

    /// It goes through a block tick by tick, or step by step.
    pub(super) fn is_scanned(&self) -> bool {
        matches!(self.class, Class::Ticks(_) | Class::Steps(_))
    }

    /// Brings cells that stand run by run to ticks.
    fn lay_out(&mut self, books: &Books) {
        if self.is_laid_out() {
            return;
        }
        self.laid_out = true;
        let mut any = 0;
        let rest = if self.steady { &self.first } else { &self.rest };
        let runs = books.spans().zip(self.first.iter().zip(rest));
        if books.are_short() {
            for ((start, ticks), (&first, &rest)) in runs {
                self.ticks.put(start + 1, first);
                for at in 1..ticks {
                    self.ticks.put(start + 1 + at, rest);
                }
                any |= first.state | rest.state;
            }
        } else {
            for ((start, ticks), (&first, &rest)) in runs {
                self.ticks.lay(start + 1, ticks, first, rest);
                any |= first.state | rest.state;
            }
        }
        self.ticks.end(any);
    }

    /// Its cell at the first tick of each run, and at the others.
    pub(super) fn cells(&self) -> impl Iterator<Item = (Cell, Cell)> + Clone + '_ {
        self.first.iter().copied().zip(self.rest().iter().copied())
    }

    /// Its cell at all ticks of a run but the first.
    pub(super) fn rest(&self) -> &[Cell] {
        if self.steady { &self.first } else { &self.rest }
    }

    /// Its cells stand tick by tick, whether or not they stand run by run.
    pub(super) fn is_laid_out(&self) -> bool {
        self.laid_out || !self.in_runs
    }
}

/// Brings the cells of the nodes named to ticks.
pub(super) fn lay_out(named: &[usize], tracks: &mut [Node], books: &Books) {
    for &at in named {
        tracks[at].lay_out(books);
    }
}

/// Gives every place of a constant's track its cell.
fn fill(track: &mut Track, cell: Cell) {
    for at in 0..track.state.len() {
        track.put(at, cell);
    }
    track.end(cell.state);
}

fn classes(nodes: &Nodes) -> Vec<Class> {
    let wiring = &nodes.wiring;
    let rows = rows(wiring);
    let mut classes: Vec<Class> = Vec::with_capacity(wiring.len());
    for (at, wire) in wiring.iter().enumerate() {
        let channel = if wire.reads.book { Channel::Book } else { Channel::Trades };
        let of_books = wire.drive == Drive::Stateless
            && !wire.relative
            && wire.reads_from().iter().all(|&x| matches!(classes[x], Class::Constant | Class::Runs));
        classes.push(if rows[at] {
            Class::Row
        } else if wire.reads == Reads::default() {
            Class::Constant
        } else if wire.timed {
            Class::Steps(channel)
        } else if channel == Channel::Book && (wire.drive == Drive::Book || of_books) {
            Class::Runs
        } else {
            Class::Ticks(channel)
        });
    }
    classes
}

/// The nodes that must run event by event: those that read both channels, what moves with the clock
/// and is shown to them where it does not run (reading 36), and what reads any of these.
fn rows(wiring: &[Wiring]) -> Vec<bool> {
    let mut rows: Vec<bool> = wiring
        .iter()
        .map(|wire| wire.reads == Reads::ALL || (wire.timed && wire.reads == Reads::default()))
        .collect();
    loop {
        let before = rows.clone();
        for (at, wire) in wiring.iter().enumerate() {
            rows[at] |= wire.reads_from().iter().any(|&input| rows[input]);
            if rows[at] {
                for &input in wire.reads_from() {
                    rows[input] |= wiring[input].timed || wire.relative;
                }
            }
        }
        if rows == before {
            return rows;
        }
    }
}
