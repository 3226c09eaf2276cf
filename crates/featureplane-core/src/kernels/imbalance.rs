//! Sizes and their imbalance. Twin of `featureplane/features/kernels/imbalance.py`.

use super::book::{BookView, short, sum};
use super::cell::{Cell, why};
use crate::event::side;
use crate::units::half_even_div;

pub(super) fn qty(side: u8, level: usize, book: &BookView<'_>) -> Cell {
    book.level(side, level).map_or(Cell::undefined(why::LACK), |level| Cell::int(level.qty))
}

pub(super) fn depth(side: u8, levels: usize, book: &BookView<'_>) -> Cell {
    let held = if side == side::BID { book.bids } else { book.asks };
    if held.is_empty() {
        return Cell::undefined(why::LACK);
    }
    let cell = Cell::wide(sum(held, levels));
    if held.len() < levels { Cell { state: cell.state | why::SHORT, ..cell } } else { cell }
}

pub(super) fn imbalance_ppm(levels: usize, book: &BookView<'_>) -> Cell {
    if book.touch().is_none() {
        return Cell::undefined(why::LACK);
    }
    let (bid, ask) = (sum(book.bids, levels), sum(book.asks, levels));
    let cell =
        half_even_div((bid - ask) * 1_000_000, bid + ask).map_or(Cell::undefined(why::OVERFLOW), Cell::int);
    Cell { state: cell.state | short(levels, book), ..cell }
}
