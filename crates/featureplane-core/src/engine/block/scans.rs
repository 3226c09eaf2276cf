//! Nodes of one channel that go through a block tick by tick, or step by step.

use super::super::nodes::{Nodes, TRAVELS, Wiring, travelling};
use super::steps::{Grid, Steps};
use super::tracks::{Class, Integral, Node};
use crate::kernels::Cell;
use crate::kernels::bound::{Drive, Inputs, Kernel};
use crate::kernels::cell::why;
use crate::kernels::trades::TradeTick;

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
            let scan = Scan { kernel, wire, x: &before[x], y: &before[y], own, grid };
            if timed { scan.steps() } else { scan.ticks() }
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

/// A node driven by its inputs, and what it needs on its way through the block.
struct Scan<'a> {
    kernel: &'a mut Kernel,
    wire: Wiring,
    x: &'a Node,
    /// The second input; the first again if there is none.
    y: &'a Node,
    own: &'a mut Node,
    grid: Grid<'a>,
}

impl Scan<'_> {
    fn ticks(mut self) {
        let mut any = 0;
        for tick in 1..=self.grid.ticks() {
            any |= self.tick(tick, self.grid.tick_clocks[tick - 1]);
        }
        self.own.ticks.end(any);
    }

    fn steps(mut self) {
        let (mut tick, mut any, mut any_step) = (0, 0, 0);
        for step in 0..self.grid.clocks.len() {
            let (clock, end) = (self.grid.clocks[step], self.grid.ends[step]);
            if self.wire.begins {
                self.kernel.begin(clock);
            }
            while tick < end {
                tick += 1;
                any |= self.tick(tick, clock);
            }
            let [x, y] = [self.x, self.y].map(|input| end_of_step(input, step + 1, end));
            self.kernel.settle(x, clock);
            let integral = self.integral(1, step);
            let cell = self.value(travelling(x.state | y.state), x.bits, y.bits, clock, integral);
            any_step |= cell.state;
            self.own.steps.put(step + 1, cell);
            self.show_integral(1, clock);
        }
        self.own.ticks.end(any);
        self.own.steps.end(any_step);
    }

    /// One tick, counted from 1; the state it leaves.
    #[inline]
    fn tick(&mut self, tick: usize, clock: i64) -> u8 {
        let state = self.x.ticks.state[tick] | self.y.ticks.state[tick];
        let (x, y) = (self.x.ticks.bits[tick], self.y.ticks.bits[tick]);
        // At a tick of the book whatever has a value has just advanced.
        let moved = self.grid.book || self.x.advanced[tick - 1] || self.y.advanced[tick - 1];
        let advances = moved && state & why::UNDEFINED == 0;
        if !self.grid.book {
            self.own.advanced[tick - 1] = advances;
        }
        if advances && self.wire.drive == Drive::Stateful {
            self.kernel.update(Inputs { x, y, mid_before: None, step: 0 }, clock);
        }
        if !self.wire.needed_at_ticks {
            return 0;
        }
        let integral = self.integral(0, tick - 1);
        let cell = self.value(travelling(state), x, y, clock, integral);
        self.own.ticks.put(tick, cell);
        self.show_integral(0, clock);
        cell.state
    }

    /// What the mean that the node reads, if it reads one, says at a tick (0) or the end of a step (1).
    #[inline]
    fn integral(&self, of: usize, place: usize) -> Option<Integral> {
        if self.wire.relative {
            self.y.integrals.as_ref().map(|integrals| integrals[of][place])
        } else {
            None
        }
    }

    #[inline]
    fn show_integral(&mut self, of: usize, clock: i64) {
        if let Some(integrals) = &mut self.own.integrals {
            integrals[of].extend(self.kernel.integral(clock));
        }
    }

    /// See `Nodes::value`.
    #[inline]
    fn value(&mut self, state: u8, x: u64, y: u64, clock: i64, integral: Option<Integral>) -> Cell {
        let stateful = self.wire.drive == Drive::Stateful;
        if state & why::UNDEFINED != 0 {
            let own = if stateful { self.kernel.read(clock).state & why::COLD } else { 0 };
            return Cell::undefined(state & TRAVELS | own);
        }
        let cell = if stateful {
            self.kernel.read(clock)
        } else if self.wire.relative {
            self.kernel.relative_to(x, integral)
        } else {
            self.kernel.evaluate(x, y)
        };
        Cell { state: cell.state | state, ..cell }
    }
}

/// What a node holds when a step has ended, `step` from 1, and `ticks` of its channel with it.
#[inline]
fn end_of_step(node: &Node, step: usize, ticks: usize) -> Cell {
    match node.class {
        Class::Steps(_) | Class::Row => node.steps.cell(step),
        _ => node.ticks.cell(ticks),
    }
}
