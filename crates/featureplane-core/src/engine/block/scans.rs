//! Nodes of one channel that go through a block tick by tick, or step by step.

use super::super::nodes::{Nodes, TRAVELS, Wiring, travelling};
use super::steps::{Grid, Steps};
use super::tracks::{Class, Node, Track};
use crate::kernels::Cell;
use crate::kernels::bound::{Drive, Kernel};
use crate::kernels::cell::why;
use crate::kernels::trades::TradeTick;
use crate::kernels::work::{Employer, Moment, Work};

/// Computes the node at `at`, if it is of class `Ticks` or `Steps`; those before it are computed.
pub(super) fn run(at: usize, tracks: &mut [Node], nodes: &mut Nodes, steps: &Steps) {
    let (before, rest) = tracks.split_at_mut(at);
    let Some(own) = rest.first_mut() else { return };
    let (Class::Ticks(channel) | Class::Steps(channel)) = own.class else { return };
    let grid = steps.of(channel);
    let (kernel, wire) = (&mut nodes.kernels[at], nodes.wiring[at]);
    let timed = matches!(own.class, Class::Steps(_));
    if let Some(integrals) = &mut own.integrals {
        integrals.iter_mut().for_each(Vec::clear);
    }
    match wire.drive {
        Drive::Book => watch_book(kernel, own, steps, grid),
        Drive::Trade => read_trades(kernel, own, &steps.trades, grid),
        Drive::Stateful | Drive::Stateless => {
            let [x, y] = [wire.inputs[0], if wire.count > 1 { wire.inputs[1] } else { wire.inputs[0] }];
            let integrals = (own.integrals.as_mut(), before[y].integrals.as_ref());
            let [x, y] = [x, y].map(|input| Input::of(&before[input], grid.ticks()));
            let own = Own { ticks: &mut own.ticks, steps: &mut own.steps, advanced: &mut own.advanced };
            kernel.work(integrals.0, integrals.1, Lane { wire, x, y, own, grid, timed });
        }
    }
}

/// A kernel of the book that looks at the clock.
fn watch_book(kernel: &mut Kernel, own: &mut Node, steps: &Steps, grid: Grid<'_>) {
    let views = steps.books.views().zip(steps.books.spans());
    let mut views = views.flat_map(|(view, (_, ticks))| std::iter::repeat_n(view, ticks));
    let (mut cell, mut tick, mut any) = (own.ticks.cell(0), 0, 0);
    for (step, (&clock, &end)) in grid.clocks.iter().zip(grid.ends).enumerate() {
        while tick < end {
            let view = views.next().flatten();
            let cold = cell.state & why::COLD;
            cell = view.map_or(Cell::undefined(0), |view| kernel.book(&view, clock));
            cell.state |= if cell.is_defined() { 0 } else { cold };
            tick += 1;
            own.ticks.put(tick, cell);
        }
        if cell.is_defined() {
            cell = kernel.read(clock);
        }
        any |= cell.state;
        own.steps.put(step + 1, cell);
    }
    own.ticks.end(any);
    own.steps.end(any);
}

/// A kernel of trades. Its channel is alone, so it is not shown the book (reading 38).
fn read_trades(kernel: &mut Kernel, own: &mut Node, trades: &[TradeTick], grid: Grid<'_>) {
    let timed = matches!(own.class, Class::Steps(_));
    let (mut tick, mut any, mut any_step) = (0, 0, 0);
    for (step, (&clock, &end)) in grid.clocks.iter().zip(grid.ends).enumerate() {
        kernel.begin(clock);
        while tick < end {
            let seen = TradeTick { mid_before: None, ..trades[tick] };
            own.advanced[tick] = kernel.trade(&seen);
            let cell = kernel.read(clock);
            any |= cell.state;
            tick += 1;
            own.ticks.put(tick, cell);
        }
        if timed {
            let cell = kernel.read(clock);
            any_step |= cell.state;
            own.steps.put(step + 1, cell);
        }
    }
    own.ticks.end(any);
    own.steps.end(any_step);
}

/// A node driven by its inputs, on its way through the block.
struct Lane<'a> {
    wire: Wiring,
    x: Input<'a>,
    /// The second input; the first again if there is none.
    y: Input<'a>,
    own: Own<'a>,
    grid: Grid<'a>,
    timed: bool,
}

/// What is read of an input: its cells at ticks, from the one before the block on, and at the ends of
/// steps.
struct Input<'a> {
    bits: &'a [u64],
    state: &'a [u8],
    advanced: &'a [bool],
    steps: Option<&'a Track>,
}

impl<'a> Input<'a> {
    fn of(node: &'a Node, ticks: usize) -> Self {
        Self {
            bits: &node.ticks.bits[..=ticks],
            state: &node.ticks.state[..=ticks],
            advanced: &node.advanced,
            steps: matches!(node.class, Class::Steps(_) | Class::Row).then_some(&node.steps),
        }
    }

    /// What it holds when step `step` has ended, and `ticks` ticks with it.
    #[inline]
    fn end_of_step(&self, step: usize, ticks: usize) -> Cell {
        match self.steps {
            Some(steps) => steps.cell(step + 1),
            None if self.state[ticks] & why::UNDEFINED != 0 => Cell::undefined(self.state[ticks]),
            None => Cell { bits: self.bits[ticks], state: self.state[ticks] },
        }
    }
}

/// What a node writes.
struct Own<'a> {
    ticks: &'a mut Track,
    steps: &'a mut Track,
    advanced: &'a mut [bool],
}

impl Employer for Lane<'_> {
    fn employ(mut self, work: &mut impl Work) {
        if self.timed { self.steps(work) } else { self.ticks(work) }
    }
}

impl Lane<'_> {
    fn ticks(&mut self, work: &mut impl Work) {
        let mut any = 0;
        for tick in 0..self.grid.ticks() {
            any |= self.tick(work, tick, self.grid.tick_clocks[tick]);
        }
        self.own.ticks.end(any);
    }

    fn steps(&mut self, work: &mut impl Work) {
        let (mut tick, mut any, mut any_step) = (0, 0, 0);
        for (step, (&clock, &end)) in self.grid.clocks.iter().zip(self.grid.ends).enumerate() {
            work.begin(clock);
            while tick < end {
                any |= self.tick(work, tick, clock);
                tick += 1;
            }
            let [x, y] = [&self.x, &self.y].map(|input| input.end_of_step(step, end));
            work.settle(x, clock);
            let cell = value(work, x.state | y.state, x.bits, y.bits, clock, Moment::Step(step));
            any_step |= cell.state;
            self.own.steps.put(step + 1, cell);
        }
        self.own.ticks.end(any);
        self.own.steps.end(any_step);
    }

    /// One tick; the state it leaves.
    #[inline]
    fn tick(&mut self, work: &mut impl Work, tick: usize, clock: i64) -> u8 {
        let state = self.x.state[tick + 1] | self.y.state[tick + 1];
        let (x, y) = (self.x.bits[tick + 1], self.y.bits[tick + 1]);
        // At a tick of the book whatever has a value has just advanced.
        let moved = self.grid.book || self.x.advanced[tick] || self.y.advanced[tick];
        let advances = moved && state & why::UNDEFINED == 0;
        if !self.grid.book {
            self.own.advanced[tick] = advances;
        }
        if advances {
            work.update(x, y, clock);
        }
        if !self.wire.needed_at_ticks {
            return 0;
        }
        let cell = value(work, state, x, y, clock, Moment::Tick(tick));
        self.own.ticks.put(tick + 1, cell);
        cell.state
    }
}

/// See `Nodes::value`.
#[inline]
fn value(work: &mut impl Work, inputs: u8, x: u64, y: u64, clock: i64, at: Moment) -> Cell {
    let state = travelling(inputs);
    let cell = if state & why::UNDEFINED == 0 {
        let cell = work.value(x, y, clock, at);
        Cell { state: cell.state | state, ..cell }
    } else {
        Cell::undefined(state & TRAVELS | work.cold(clock))
    };
    work.was_read(clock, at);
    cell
}
