//! Kernels over many books in one go: which kernel it is, is asked once.

use super::book::BookView;
use super::bound::Kernel;
use super::cell::{Cell, why};
use super::{imbalance, price};

impl Kernel {
    /// Of a kernel of the book: it holds the same at all ticks that see the same one.
    pub(crate) const fn is_steady(&self) -> bool {
        !matches!(self, Self::Ofi(_) | Self::OfiMulti(_) | Self::DeepFlow(_))
    }

    /// [`Self::book`] for runs of ticks, the book of each given with the length of its run; `before` is
    /// the cell before. Of each run `put` is shown the cell at its first tick, and that at the others. Not for
    /// kernels that look at the clock.
    pub(crate) fn scan_books<'a>(
        &mut self,
        books: impl Iterator<Item = (Option<BookView<'a>>, usize)>,
        before: Cell,
        put: impl FnMut(Cell, Cell),
    ) {
        let scan = Scan { books, before, put };
        match *self {
            Self::LevelPrice(side, level) => {
                scan.same(Some(side), |book| price::level_price(side, level, book));
            }
            Self::Mid => scan.same(None, price::mid_x2),
            Self::Spread => scan.same(None, price::spread),
            Self::Microprice => scan.same(None, price::microprice_x2),
            Self::Qty(side, level) => scan.same(Some(side), |book| imbalance::qty(side, level, book)),
            Self::Depth(side, levels) => scan.same(Some(side), |book| imbalance::depth(side, levels, book)),
            Self::ImbalancePpm(levels) => scan.same(None, |book| imbalance::imbalance_ppm(levels, book)),
            Self::Vwap(levels) => scan.same(None, |book| price::vwap_x2(levels, book)),
            Self::BookSlope(levels) => scan.same(None, |book| price::book_slope(levels, book)),
            Self::Ofi(ref mut kernel) => scan.changing(|book| kernel.update(book)),
            Self::OfiMulti(ref mut kernel) => scan.changing(|book| kernel.update(book)),
            Self::DeepFlow(ref mut kernel) => scan.changing(|book| kernel.update(book)),
            _ => {}
        }
    }
}

struct Scan<I, P> {
    books: I,
    before: Cell,
    put: P,
}

impl<'v, I: Iterator<Item = (Option<BookView<'v>>, usize)>, P: FnMut(Cell, Cell)> Scan<I, P> {
    /// A function of the book, warm on any that has the side it looks at; none: both (reading 34).
    #[inline]
    fn same(mut self, side: Option<u8>, of: impl Fn(&BookView<'v>) -> Cell) {
        for (book, _) in self.books {
            let mut cell = book.as_ref().map_or(Cell::undefined(0), &of);
            if !cell.is_defined() && self.before.state & why::COLD != 0 {
                let has = |book: &BookView<'_>| match side {
                    Some(side) => book.level(side, 1).is_some(),
                    None => book.touch().is_some(),
                };
                cell.state |= if book.as_ref().is_some_and(has) { 0 } else { why::COLD };
            }
            (self.put)(cell, cell);
            self.before = cell;
        }
    }

    /// A kernel that compares with the book before: the second tick of a run finds nothing changed, and
    /// so does every one behind it.
    #[inline]
    fn changing(mut self, mut update: impl FnMut(&BookView<'v>) -> Cell) {
        for (book, ticks) in self.books {
            let mut tick = |before: Cell| {
                let cell = book.as_ref().map_or(Cell::undefined(0), &mut update);
                let cold = if cell.is_defined() { 0 } else { before.state & why::COLD };
                Cell { state: cell.state | cold, ..cell }
            };
            let first = tick(self.before);
            self.before = if ticks > 1 { tick(first) } else { first };
            (self.put)(first, self.before);
        }
    }
}
