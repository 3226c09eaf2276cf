//! Nodes that depend on the book alone: computed once for every run of ticks that see the same one.

use super::super::nodes::{Nodes, travelling};
use super::steps::Books;
use super::tracks::{Class, Node};
use crate::kernels::Cell;
use crate::kernels::bound::{Drive, Kernel};
use crate::kernels::cell::why;
use crate::kernels::scans::Runs;

/// Computes every node of class `Runs`.
pub(super) fn run(tracks: &mut [Node], nodes: &mut Nodes, books: &Books) {
    for at in 0..tracks.len() {
        let (before, rest) = tracks.split_at_mut(at);
        let Some(own) = rest.first_mut().filter(|own| own.class == Class::Runs) else { continue };
        let (kernel, wire) = (&mut nodes.kernels[at], nodes.wiring[at]);
        if wire.drive == Drive::Book {
            let books = books.views().zip(books.spans()).map(|(view, (_, ticks))| (view, ticks));
            let out = &mut Runs { first: &mut own.first, rest: &mut own.rest };
            kernel.scan_books(books, own.ticks.cell(0), out);
        } else {
            let inputs = wire.reads_from();
            let [x, y] = [0, 1].map(|place| inputs.get(place).map(|&input| &before[input]));
            evaluate(kernel, x, y, books.runs(), own);
        }
    }
}

/// A function of such nodes and of constants.
fn evaluate(kernel: &Kernel, x: Option<&Node>, y: Option<&Node>, runs: usize, own: &mut Node) {
    let cells = |node: Option<&Node>, run: usize| match node {
        Some(node) if node.class == Class::Runs => (node.first[run], node.rest()[run]),
        Some(node) => (node.ticks.cell(0), node.ticks.cell(0)),
        None => (Cell { bits: 0, state: 0 }, Cell { bits: 0, state: 0 }),
    };
    for run in 0..runs {
        let ((x_first, x_rest), (y_first, y_rest)) = (cells(x, run), cells(y, run));
        own.first.push(value(kernel, x_first, y_first));
        own.rest.push(value(kernel, x_rest, y_rest));
    }
}

#[inline]
fn value(kernel: &Kernel, x: Cell, y: Cell) -> Cell {
    let state = travelling(x.state | y.state);
    if state & why::UNDEFINED != 0 {
        return Cell::undefined(state);
    }
    let cell = kernel.evaluate(x.bits, y.bits);
    Cell { state: cell.state | state, ..cell }
}
