//! Nodes that depend on the book alone: computed once for every run of ticks that see the same one.

use super::super::nodes::{Nodes, travelling};
use super::steps::Books;
use super::tracks::{Class, Node, Track};
use super::usual::Usual;
use crate::kernels::Cell;
use crate::kernels::bound::{Drive, Kernel};
use crate::kernels::cell::why;

/// Computes every node of class `Runs`.
pub(super) fn run(tracks: &mut [Node], nodes: &mut Nodes, books: &Books, usual: &mut Usual) {
    let are_usual = usual.take(books, nodes);
    for at in 0..tracks.len() {
        let (before, rest) = tracks.split_at_mut(at);
        let Some(own) = rest.first_mut().filter(|own| own.class == Class::Runs) else { continue };
        let (kernel, wire) = (&mut nodes.kernels[at], nodes.wiring[at]);
        if wire.drive == Drive::Book {
            if are_usual && usual.write(kernel, &mut own.ticks) {
                continue;
            }
            if books.are_by_tick() {
                scan_ticks(kernel, &mut own.ticks, books);
            } else {
                scan_runs(kernel, own, books);
            }
            continue;
        }
        let inputs = wire.reads_from();
        let [x, y] = [0, 1].map(|place| inputs.get(place).map(|&input| &before[input]));
        if books.are_by_tick() {
            evaluate_ticks(kernel, x, y, &mut own.ticks, books.runs());
        } else {
            evaluate_runs(kernel, x, y, own, books.runs());
        }
    }
}

fn scan_runs(kernel: &mut Kernel, own: &mut Node, books: &Books) {
    let before = own.ticks.cell(0);
    let views = books.views().zip(books.spans()).map(|(view, (_, ticks))| (view, ticks));
    let Node { first, rest, steady, .. } = own;
    kernel.scan_books(views, before, |cell, behind| {
        first.push(cell);
        if !*steady {
            rest.push(behind);
        }
    });
}

fn scan_ticks(kernel: &mut Kernel, own: &mut Track, books: &Books) {
    let before = own.cell(0);
    let mut writer = own.writer();
    kernel.scan_books(books.views().map(|view| (view, 1)), before, |cell, _| writer.put(cell));
    let any = writer.any;
    own.end(any);
}

/// A function of such nodes and of constants.
fn evaluate_runs(kernel: &Kernel, x: Option<&Node>, y: Option<&Node>, own: &mut Node, runs: usize) {
    let cells = |node: Option<&Node>, run: usize| match node {
        Some(node) if node.class == Class::Runs => (node.first[run], node.rest()[run]),
        Some(node) => (node.ticks.cell(0), node.ticks.cell(0)),
        None => (NOTHING, NOTHING),
    };
    for run in 0..runs {
        let ((x_first, x_rest), (y_first, y_rest)) = (cells(x, run), cells(y, run));
        own.first.push(value(kernel, x_first, y_first));
        own.rest.push(value(kernel, x_rest, y_rest));
    }
}

fn evaluate_ticks(kernel: &Kernel, x: Option<&Node>, y: Option<&Node>, own: &mut Track, ticks: usize) {
    let cell = |node: Option<&Node>, tick: usize| node.map_or(NOTHING, |node| node.ticks.cell(tick));
    let mut writer = own.writer();
    for tick in 1..=ticks {
        writer.put(value(kernel, cell(x, tick), cell(y, tick)));
    }
    let any = writer.any;
    own.end(any);
}

/// An input that is not there.
const NOTHING: Cell = Cell { bits: 0, state: 0 };

#[inline]
fn value(kernel: &Kernel, x: Cell, y: Cell) -> Cell {
    let state = travelling(x.state | y.state);
    if state & why::UNDEFINED != 0 {
        return Cell::undefined(state);
    }
    let cell = kernel.evaluate(x.bits, y.bits);
    Cell { state: cell.state | state, ..cell }
}
