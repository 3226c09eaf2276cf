//! Prices at the touch and beyond. Twin of `featureplane/features/kernels/price.py`.

use super::book::{BookView, short, sum};
use super::cell::{Cell, why};
use crate::event::side;
use crate::units::{half_even_div, ratio};

pub(super) fn level_price(side: u8, level: usize, book: &BookView<'_>) -> Cell {
    book.level(side, level).map_or(Cell::undefined(why::LACK), |level| Cell::int(level.price))
}

pub(super) fn mid_x2(book: &BookView<'_>) -> Cell {
    book.touch().map_or(Cell::undefined(why::LACK), |(bid, ask)| Cell::int(bid.price + ask.price))
}

pub(super) fn spread(book: &BookView<'_>) -> Cell {
    book.touch().map_or(Cell::undefined(why::LACK), |(bid, ask)| Cell::int(ask.price - bid.price))
}

/// Relative to the bid: `2 b + R(2 (a - b) p, p + s)`. An even offset keeps half-even rounding, and
/// the small numerator stays in the fast tier of the division.
pub(super) fn microprice_x2(book: &BookView<'_>) -> Cell {
    let Some((bid, ask)) = book.touch() else { return Cell::undefined(why::LACK) };
    let weight = 2 * i128::from(ask.price - bid.price) * i128::from(bid.qty);
    half_even_div(weight, i128::from(bid.qty) + i128::from(ask.qty))
        .map_or(Cell::undefined(why::OVERFLOW), |above| {
            Cell::wide(2 * i128::from(bid.price) + i128::from(above))
        })
}

pub(super) fn vwap_x2(levels: usize, book: &BookView<'_>) -> Cell {
    let Some((bid, _)) = book.touch() else { return Cell::undefined(why::LACK) };
    let (mut value, mut size) = (0i128, 0i128);
    for side in [book.bids, book.asks] {
        for level in &side[..side.len().min(levels)] {
            value += i128::from(level.price - bid.price) * i128::from(level.qty);
            size += i128::from(level.qty);
        }
    }
    let cell = half_even_div(2 * value, size).map_or(Cell::undefined(why::OVERFLOW), |above| {
        Cell::wide(2 * i128::from(bid.price) + i128::from(above))
    });
    Cell { state: cell.state | short(levels, book), ..cell }
}

/// `F(P) / F(m - 2 b_n) + F(S) / F(2 a_n - m)`.
pub(super) fn book_slope(levels: usize, book: &BookView<'_>) -> Cell {
    let (Some(bid), Some(ask), Some((b, a))) =
        (book.level(side::BID, levels), book.level(side::ASK, levels), book.touch())
    else {
        return Cell::undefined(why::LACK);
    };
    let mid_x2 = i128::from(b.price) + i128::from(a.price);
    let below = ratio(sum(book.bids, levels), mid_x2 - 2 * i128::from(bid.price));
    let above = ratio(sum(book.asks, levels), 2 * i128::from(ask.price) - mid_x2);
    match (below, above) {
        (Some(below), Some(above)) => Cell::float(below + above),
        _ => Cell::undefined(0),
    }
}
