//! A book of price levels.

use super::Level;
use super::l3::Orders;
use super::ladder::{Ladder, UNTOUCHED};
use crate::ahead::ask_behind;
use crate::event::{Event, flag, kind, side};

/// Both sides of one instrument's book, with its orders where the feed sends orders.
#[derive(Clone, Debug)]
pub struct Book {
    bids: Ladder<true>,
    asks: Ladder<false>,
    orders: Option<Box<Orders>>,
    rows: u32,
}

impl Book {
    /// An empty book on a grid of `tick` that keeps the best `depth` levels a side ready to read.
    #[must_use]
    pub fn new(tick: i64, depth: usize) -> Self {
        let depth = depth.max(1);
        Self { bids: Ladder::new(tick, depth), asks: Ladder::new(tick, depth), orders: None, rows: 0 }
    }

    /// Applies one event; trades, quotes and status change nothing.
    #[inline]
    pub fn apply(&mut self, event: &Event) {
        match event.kind {
            kind::LEVEL | kind::SNAPSHOT_LEVEL => {
                self.rows += 1;
                self.set(event.side, event.price, event.qty);
            }
            kind::CLEAR => self.clear(event),
            kind::ADD..=kind::EXECUTE => self.apply_order(event),
            _ => {}
        }
    }

    /// Sets the size of a level; 0 deletes it.
    #[inline]
    pub(crate) fn set(&mut self, side: u8, price: i64, qty: i64) {
        // WHY: the branch is foreseen, rows of a side come together; a chosen pointer makes each row wait for
        // the stores of the row before (5.3 instead of 3.3 ns a row).
        if side == side::BID {
            self.bids.set(price, qty);
        } else {
            self.asks.set(price, qty);
        }
    }

    /// Applies the message at the start of `events` as long as it is made of ordinary levels; how many, none if
    /// it is not to its end.
    ///
    /// WHY before all of it was looked at: a level that is set again is the same level. A message of a
    /// whole book that follows the last one is applied whatever it holds, so a beginning of it may be.
    #[inline]
    pub(crate) fn set_message(&mut self, events: &[Event]) -> Option<usize> {
        if self.bids.is_unit() && self.asks.is_unit() {
            self.set_rows::<true>(events)
        } else {
            self.set_rows::<false>(events)
        }
    }

    fn set_rows<const UNIT: bool>(&mut self, events: &[Event]) -> Option<usize> {
        let (mut best_bid, mut best_ask) = (UNTOUCHED, UNTOUCHED);
        let mut rows = None;
        for (event, at) in events.iter().zip(1..) {
            ask_behind(event);
            let head = event.head();
            if !head.is_level() {
                break;
            }
            // WHY: see `set`.
            if head.is_bid() {
                self.bids.put::<UNIT>(event.price, event.qty, &mut best_bid);
            } else {
                self.asks.put::<UNIT>(event.price, event.qty, &mut best_ask);
            }
            if head.is_last() {
                self.rows = self.rows.wrapping_add(at);
                rows = usize::try_from(at).ok();
                break;
            }
        }
        self.bids.touch(best_bid);
        self.asks.touch(best_ask);
        rows
    }

    #[cold]
    fn apply_order(&mut self, event: &Event) {
        self.rows += 1;
        let mut orders = self.orders.take().unwrap_or_default();
        orders.apply(event, self);
        self.orders = Some(orders);
    }

    #[cold]
    fn clear(&mut self, event: &Event) {
        let bounded = event.flags & flag::BOUND != 0;
        if matches!(event.side, side::BID | side::NONE) {
            if bounded { self.bids.clear_to(event.price) } else { self.bids.clear() }
        }
        if matches!(event.side, side::ASK | side::NONE) {
            if bounded { self.asks.clear_to(event.price) } else { self.asks.clear() }
        }
        if let Some(orders) = &mut self.orders {
            orders.clear(event);
        }
    }

    /// Empties the book.
    pub fn reset(&mut self) {
        self.bids.clear();
        self.asks.clear();
        if let Some(orders) = &mut self.orders {
            orders.reset();
        }
    }

    /// Whether [`Self::bids`] or [`Self::asks`] may differ from what they were.
    #[inline]
    pub(crate) fn is_stale(&self) -> bool {
        self.bids.is_stale() || self.asks.is_stale()
    }

    /// Brings [`Self::bids`] and [`Self::asks`] up to date with what was applied; whether they were
    /// read again, and may differ from what they were.
    #[inline]
    pub fn observe(&mut self) -> bool {
        let rows = std::mem::take(&mut self.rows);
        let bids = self.bids.top(rows);
        let asks = self.asks.top(rows);
        bids || asks
    }

    /// The best bids as of the last [`Self::observe`], best first.
    #[must_use]
    pub fn bids(&self) -> &[Level] {
        self.bids.seen()
    }

    /// The best asks as of the last [`Self::observe`], best first.
    #[must_use]
    pub fn asks(&self) -> &[Level] {
        self.asks.seen()
    }

    /// Every bid, best first.
    #[must_use]
    pub fn all_bids(&self) -> Vec<Level> {
        self.bids.levels()
    }

    /// Every ask, best first.
    #[must_use]
    pub fn all_asks(&self) -> Vec<Level> {
        self.asks.levels()
    }

    /// Makes [`Self::each_bid`] and [`Self::each_ask`] cost less; the levels stay what they are.
    pub(crate) fn settle(&mut self) {
        self.bids.settle();
        self.asks.settle();
    }

    /// Shows every bid, best first or, which costs less, partly in no order; how many there are.
    pub(crate) fn each_bid(&self, sorted: bool, show: impl FnMut(Level)) -> usize {
        self.bids.each(sorted, show)
    }

    /// Shows every ask; see [`Self::each_bid`].
    pub(crate) fn each_ask(&self, sorted: bool, show: impl FnMut(Level)) -> usize {
        self.asks.each(sorted, show)
    }

    /// The size of a level, 0 if it is not there.
    #[must_use]
    pub fn qty(&self, side: u8, price: i64) -> i64 {
        if side == side::BID { self.bids.qty(price) } else { self.asks.qty(price) }
    }

    /// The orders, if the feed sends orders.
    #[must_use]
    pub fn orders(&self) -> Option<&Orders> {
        self.orders.as_deref()
    }

    /// Puts orders back beside the levels they add up to.
    pub fn restore_orders(&mut self, orders: Orders) {
        self.orders = Some(Box::new(orders));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn level(side: u8, price: i64, qty: i64) -> Event {
        Event { kind: kind::LEVEL, side, price, qty, ..Event::default() }
    }

    /// splitmix64, seeded.
    struct Stream(u64);

    impl Stream {
        fn next(&mut self, below: u64) -> i64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % below).cast_signed()
        }
    }

    fn agrees(book: &mut Book, plain: &[BTreeMap<i64, i64>; 2], depth: usize) {
        book.observe();
        let bids: Vec<Level> = plain[0].iter().rev().map(|(&price, &qty)| Level { price, qty }).collect();
        let asks: Vec<Level> = plain[1].iter().map(|(&price, &qty)| Level { price, qty }).collect();
        assert_eq!(book.bids(), &bids[..bids.len().min(depth)]);
        assert_eq!(book.asks(), &asks[..asks.len().min(depth)]);
        if !(bids.len() + asks.len()).is_multiple_of(64) {
            return; // now and then: it costs as much as everything else
        }
        for (sorted, settled) in [(true, false), (false, false), (false, true)] {
            let mut other = book.clone();
            if settled {
                other.settle();
            }
            let (mut seen_bids, mut seen_asks) = (Vec::new(), Vec::new());
            assert_eq!(other.each_bid(sorted, |level| seen_bids.push(level)), bids.len());
            assert_eq!(other.each_ask(sorted, |level| seen_asks.push(level)), asks.len());
            if !sorted {
                seen_bids.sort_unstable_by_key(|level| -level.price);
                seen_asks.sort_unstable_by_key(|level| level.price);
            }
            assert_eq!((seen_bids, seen_asks), (bids.clone(), asks.clone()));
        }
    }

    #[test]
    fn any_walk_equals_a_sorted_map() {
        for (seed, tick, spread, drift) in [
            (1, 1, 50, 3),
            (2, 10, 4_000, 40),
            (3, 25, 40_000, 900),
            (4, 7, 1_000_000, 10),
            (5, 1, 9, 20_000),
            (6, 1, 600_000, 10),
            (7, 5, 900_000, 9_000),
        ] {
            let mut stream = Stream(seed);
            let mut plain = [BTreeMap::new(), BTreeMap::new()];
            let mut book = Book::new(tick, 5);
            let mut mid = 1_000_000i64;
            for step in 0..20_000 {
                mid += stream.next(u64::try_from(2 * drift + 1).unwrap()) - drift;
                let ask = usize::try_from(stream.next(2)).unwrap();
                let away = stream.next(spread) * if stream.next(40) == 0 { 60 } else { 1 };
                let price = (mid + if ask == 1 { away } else { -away }) * tick;
                let qty = if stream.next(2) == 0 { 0 } else { 1 + stream.next(1 << 40) };
                book.apply(&level(if ask == 1 { side::ASK } else { side::BID }, price, qty));
                if qty == 0 {
                    plain[ask].remove(&price)
                } else {
                    plain[ask].insert(price, qty)
                };
                if stream.next(3) == 0 {
                    agrees(&mut book, &plain, 5);
                }
                if step % 5_000 == 4_999 {
                    let all: Vec<(i64, i64)> = book.all_asks().iter().map(|l| (l.price, l.qty)).collect();
                    assert_eq!(all, plain[1].iter().map(|(&p, &q)| (p, q)).collect::<Vec<_>>());
                    let bound = mid * tick;
                    let clear = Event {
                        kind: kind::CLEAR,
                        side: side::ASK,
                        flags: flag::BOUND,
                        price: bound,
                        ..level(2, 0, 0)
                    };
                    book.apply(&clear);
                    plain[1].retain(|&price, _| price > bound);
                }
            }
        }
    }

    #[test]
    fn messages_taken_at_once_are_their_rows_one_by_one() {
        for (seed, tick, spread, drift) in
            [(1, 1, 300, 5), (2, 5, 90_000, 70), (3, 1, 400_000, 9_000), (4, 10, 30_000_000, 9)]
        {
            let mut stream = Stream(seed);
            let (mut at_once, mut by_row) = (Book::new(tick, 5), Book::new(tick, 5));
            let mut mid = 1_000_000i64;
            for step in 0..3_000 {
                mid += stream.next(u64::try_from(2 * drift + 1).unwrap()) - drift;
                let mut message: Vec<Event> = (0..=stream.next(40))
                    .map(|_| {
                        let side = if stream.next(2) == 0 { side::BID } else { side::ASK };
                        let away = stream.next(spread) / (1 + stream.next(1_000));
                        let off = i64::from(stream.next(60_000) == 0);
                        let price = (mid + if side == side::ASK { away } else { -away }) * tick + off;
                        level(side, price, if stream.next(3) == 0 { 0 } else { 1 + stream.next(9) })
                    })
                    .collect();
                assert_eq!(at_once.set_message(&message), None, "it has no end");
                message.last_mut().unwrap().flags = flag::LAST;
                assert_eq!(at_once.set_message(&message), Some(message.len()));
                for event in &message {
                    by_row.apply(event);
                }
                if step % 3 == 0 {
                    at_once.observe();
                    by_row.observe();
                    assert_eq!((at_once.bids(), at_once.asks()), (by_row.bids(), by_row.asks()));
                }
                if step % 200 == 0 {
                    assert_eq!(at_once.all_bids(), by_row.all_bids());
                    assert_eq!(at_once.all_asks(), by_row.all_asks());
                    for Event { side, price, .. } in message {
                        assert_eq!(at_once.qty(side, price), by_row.qty(side, price));
                    }
                }
            }
        }
    }

    #[test]
    fn a_price_off_the_grid_refines_the_grid() {
        let mut book = Book::new(100, 3);
        for (price, qty) in [(1_000, 5), (1_200, 6), (1_150, 7), (1_151, 8)] {
            book.apply(&level(side::ASK, price, qty));
        }
        book.observe();
        let seen: Vec<i64> = book.asks().iter().map(|level| level.price).collect();
        assert_eq!(seen, [1_000, 1_150, 1_151]);
        assert_eq!(book.qty(side::ASK, 1_200), 6);
    }

    #[test]
    fn a_price_off_a_wide_grid_is_not_taken_for_one_on_it() {
        // 3125 k = 2^64 + 1509: a product that wraps to the price itself.
        for tick in [3_125, 25_000] {
            let mut book = Book::new(tick, 3);
            for price in [tick, 1_509 * (tick / 3_125), 2 * tick] {
                book.apply(&level(side::ASK, price, 1));
            }
            book.observe();
            let seen: Vec<i64> = book.asks().iter().map(|level| level.price).collect();
            assert_eq!(seen, [1_509 * (tick / 3_125), tick, 2 * tick]);
        }
    }

    /// Minutes, where a row could cost all levels.
    #[test]
    fn a_row_costs_no_more_on_books_made_up_to_be_slow() {
        const ROWS: i64 = 30_000;
        let clear = |price| Event { kind: kind::CLEAR, flags: flag::BOUND, ..level(side::BID, price, 0) };
        let slow: [fn(i64) -> i64; 7] = [
            |i| i * 50_000,
            |i| -i * 50_000,
            |i| if i % 2 == 0 { 7 } else { -i * 50_000 },
            |i| -i,
            |i| i * 90,
            |i| -i * 90,
            |i| i * 7_919 % 1_000_000,
        ];
        for price in slow {
            let (mut book, mut plain) = (Book::new(1, 5), [BTreeMap::new(), BTreeMap::new()]);
            for step in 0..ROWS {
                book.apply(&level(side::BID, price(step), 1 + step % 2));
                plain[0].insert(price(step), 1 + step % 2);
                book.observe();
            }
            agrees(&mut book, &plain, 5);
            let mut prices: Vec<i64> = plain[0].keys().copied().collect();
            while let Some(best) = prices.pop() {
                book.apply(&if best % 3 == 0 { clear(best) } else { level(side::BID, best, 0) });
                plain[0].remove(&best);
                book.observe();
                assert_eq!(book.bids().first().map(|level| level.price), prices.last().copied());
            }
        }
    }

    #[test]
    fn the_extremes_of_rule_1_2_fit() {
        let mut book = Book::new(1, 2);
        let far = (1 << 53) - 1;
        for (side, price) in [(side::BID, -far), (side::BID, far), (side::ASK, far), (side::ASK, -far)] {
            book.apply(&level(side, price, far));
        }
        book.observe();
        assert_eq!(book.bids().iter().map(|l| l.price).collect::<Vec<_>>(), [far, -far]);
        assert_eq!(book.asks().iter().map(|l| l.price).collect::<Vec<_>>(), [-far, far]);
    }
}
