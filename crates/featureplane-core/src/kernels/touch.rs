//! Kernels of the best levels over several rows at once, for books and numbers of the common kind.
//!
//! WHY: where numbers are small floats are exact, nothing is asked row by row, and the processor takes several
//! rows with one instruction. The formulas are those of `price`, `imbalance` and `flow`; the tests hold them
//! together.

#![allow(clippy::inline_always, reason = "callers are compiled for several processors")]

use super::flow::level_flow;
use crate::book::Level;
use crate::units::{is_not_small, small_div, small_to_f64};

/// Rows that are taken together.
pub(crate) const ROWS: usize = 64;

/// Magnitudes up to this are of the common kind: sums of two of them, and doubles, are exact as floats.
const SMALL: u64 = 1 << 50;

/// One column of rows taken together.
pub(crate) type Lane = [i64; ROWS];

/// Best levels of rows. Each column has the row before them in front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touches<'a> {
    pub(crate) bid: &'a [i64; ROWS + 1],
    pub(crate) ask: &'a [i64; ROWS + 1],
    pub(crate) bid_qty: &'a [i64; ROWS + 1],
    pub(crate) ask_qty: &'a [i64; ROWS + 1],
}

impl Touches<'_> {
    /// Whether the row before has two sides, bid below ask, and small numbers.
    pub(crate) fn begins_usual(&self) -> bool {
        let (bid, ask) = self.levels(0);
        unusual(bid, ask) >> 63 == 0
    }

    /// The levels of a row, counted from 1; 0 is the row before.
    #[inline(always)]
    pub(crate) fn levels(&self, row: usize) -> (Level, Level) {
        (
            Level { price: self.bid[row], qty: self.bid_qty[row] },
            Level { price: self.ask[row], qty: self.ask_qty[row] },
        )
    }
}

/// What kernels of the best levels make of rows.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct Values {
    pub(crate) mid_x2: Lane,
    pub(crate) spread: Lane,
    pub(crate) microprice_x2: Lane,
    pub(crate) imbalance_ppm: Lane,
    pub(crate) ofi: Lane,
}

impl Values {
    pub(crate) const fn new() -> Self {
        const NONE: Lane = [0; ROWS];
        Self { mid_x2: NONE, spread: NONE, microprice_x2: NONE, imbalance_ppm: NONE, ofi: NONE }
    }

    /// Computes rows `from` to `to`, from 0. The top bit of the answer is set unless all of them have two sides,
    /// bid below ask, and small numbers and products; what was computed means nothing then.
    ///
    /// WHY it wraps: rows are looked at and computed in one go, and the numbers of a table may be any.
    #[inline(always)]
    pub(crate) fn compute(&mut self, rows: &Touches<'_>, from: usize, to: usize) -> u64 {
        let mut any = 0;
        for at in from..to {
            let (before, now) = (rows.levels(at), rows.levels(at + 1));
            let (bid, ask) = now;
            let spread = ask.price.wrapping_sub(bid.price);
            // An even offset keeps half-even rounding; see `price::microprice_x2`.
            let weight = small_to_f64(spread.wrapping_mul(2)) * small_to_f64(bid.qty);
            let part = small_to_f64(bid.qty.wrapping_sub(ask.qty)) * 1e6;
            let total = small_to_f64(bid.qty.wrapping_add(ask.qty));
            any |= unusual(bid, ask) | is_not_small(weight) | is_not_small(part);
            self.mid_x2[at] = bid.price.wrapping_add(ask.price);
            self.spread[at] = spread;
            self.microprice_x2[at] = bid.price.wrapping_mul(2).wrapping_add(small_div(weight, total));
            self.imbalance_ppm[at] = small_div(part, total);
            self.ofi[at] = level_flow(before, now);
        }
        any
    }
}

/// Imbalances of sizes as [`Values::compute`] has them, of sums over levels; so is the answer.
#[inline(always)]
pub(crate) fn imbalances(bids: &[i64], asks: &[i64], out: &mut [i64]) -> u64 {
    let mut any = 0;
    for ((&bid, &ask), out) in bids.iter().zip(asks).zip(out) {
        let part = small_to_f64(bid.wrapping_sub(ask)) * 1e6;
        let total = small_to_f64(bid.wrapping_add(ask));
        any |= not_positive(bid) | not_positive(ask) | is_not_small(part);
        *out = small_div(part, total);
    }
    any
}

/// Has the top bit unless both sides are there, bid below ask, and all numbers small.
#[inline(always)]
const fn unusual(bid: Level, ask: Level) -> u64 {
    beyond(bid.price)
        | beyond(ask.price)
        | not_positive(bid.qty)
        | not_positive(ask.qty)
        | not_positive(ask.price.wrapping_sub(bid.price))
}

/// Has the top bit unless |x| is small.
#[inline(always)]
const fn beyond(x: i64) -> u64 {
    SMALL.wrapping_sub(x.cast_unsigned()) | SMALL.wrapping_add(x.cast_unsigned())
}

/// Has the top bit unless x is positive and small.
#[inline(always)]
const fn not_positive(x: i64) -> u64 {
    x.cast_unsigned().wrapping_sub(1) | SMALL.wrapping_sub(x.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::book::BookView;
    use crate::kernels::bound::Kernel;
    use crate::kernels::flow::Ofi;
    use crate::random::Random;

    const KERNELS: [Kernel; 5] =
        [Kernel::Mid, Kernel::Spread, Kernel::Microprice, Kernel::ImbalancePpm(1), Kernel::Ofi(Ofi::new(1))];

    fn lanes(values: &Values) -> [&Lane; 5] {
        [&values.mid_x2, &values.spread, &values.microprice_x2, &values.imbalance_ppm, &values.ofi]
    }

    #[test]
    fn rows_at_once_say_what_the_kernels_say() {
        let mut random = Random::new(5);
        let mut usual = 0;
        for bits in (2..52).cycle().take(500) {
            let mut columns = [[0; ROWS + 1]; 4];
            for row in 0..=ROWS {
                let bid = random.signed(bits);
                let spread = 1 + random.magnitude(1 + bits * 3 / 5);
                let sizes = [0; 2].map(|_| 1 + random.magnitude(1 + bits * 3 / 5));
                for (column, value) in columns.iter_mut().zip([bid, bid + spread, sizes[0], sizes[1]]) {
                    column[row] = value;
                }
            }
            let [bid, ask, bid_qty, ask_qty] = &columns;
            let rows = Touches { bid, ask, bid_qty, ask_qty };
            let mut values = Values::new();
            if !rows.begins_usual() || values.compute(&rows, 0, ROWS) >> 63 != 0 {
                continue;
            }
            usual += 1;
            let mut kernels = KERNELS;
            for row in 0..=ROWS {
                let (bid, ask) = rows.levels(row);
                let book = BookView { bids: &[bid], asks: &[ask] };
                for (kernel, lane) in kernels.iter_mut().zip(lanes(&values)) {
                    let cell = kernel.book(&book, 0);
                    assert!(row == 0 || cell.as_i64() == lane[row - 1], "{kernel:?}: {bid:?} {ask:?}");
                }
            }
        }
        assert!((200..480).contains(&usual), "{usual} of 500");
    }

    #[test]
    fn what_is_not_usual_is_seen_wherever_it_stands() {
        let (one, two) = ([1; ROWS + 1], [2; ROWS + 1]);
        let plain = Touches { bid: &one, ask: &two, bid_qty: &one, ask_qty: &one };
        let is_usual =
            |rows: &Touches<'_>| rows.begins_usual() && Values::new().compute(rows, 0, ROWS) >> 63 == 0;
        assert!(is_usual(&plain));
        for at in 0..=ROWS {
            for odd in [i64::MIN, -(1 << 50) - 1, 0, (1 << 50) + 1, i64::MAX] {
                let (mut ones, mut twos) = (one, two);
                (ones[at], twos[at]) = (odd, odd);
                let seen = [
                    Touches { bid_qty: &ones, ..plain },
                    Touches { ask_qty: &ones, ..plain },
                    Touches { ask: &twos, ..plain },
                    Touches { bid: &ones, ask: &twos, ..plain },
                ];
                assert!(!seen.iter().any(is_usual), "{odd} in row {at}");
            }
        }
    }
}
