//! Sizes and their imbalance. Twin of `featureplane/features/kernels/imbalance.py`.

use super::book::{BookView, short, small_sum, sum};
use super::cell::{Cell, why};
use crate::event::side;
use crate::units::{half_even_div, half_even_div_i64};

pub(super) fn qty(side: u8, level: usize, book: &BookView<'_>) -> Cell {
    book.level(side, level).map_or(Cell::undefined(why::LACK), |level| Cell::int(level.qty))
}

pub(super) fn depth(side: u8, levels: usize, book: &BookView<'_>) -> Cell {
    let held = if side == side::BID { book.bids } else { book.asks };
    if held.is_empty() {
        return Cell::undefined(why::LACK);
    }
    let cell = small_sum(held, levels).map_or_else(|| Cell::wide(sum(held, levels)), Cell::int);
    if held.len() < levels { Cell { state: cell.state | why::SHORT, ..cell } } else { cell }
}

pub(super) fn imbalance_ppm(levels: usize, book: &BookView<'_>) -> Cell {
    if book.touch().is_none() {
        return Cell::undefined(why::LACK);
    }
    let ppm = match (small_sum(book.bids, levels), small_sum(book.asks, levels)) {
        (Some(bid), Some(ask)) if (bid - ask).unsigned_abs() < 1 << 40 => {
            half_even_div_i64((bid - ask) * 1_000_000, bid + ask)
        }
        _ => {
            let (bid, ask) = (sum(book.bids, levels), sum(book.asks, levels));
            half_even_div((bid - ask) * 1_000_000, bid + ask)
        }
    };
    let cell = ppm.map_or(Cell::undefined(why::OVERFLOW), Cell::int);
    Cell { state: cell.state | short(levels, book), ..cell }
}
