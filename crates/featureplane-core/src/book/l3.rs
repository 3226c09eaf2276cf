//! Orders, and the levels they add up to.
//!
//! Events that name unknown orders change nothing and are counted: order-level feeds lose
//! messages, and an order may be older than the recording.

use std::collections::{BTreeSet, HashMap};

use super::Book;
use crate::event::{Event, flag, kind, side};

/// One resting order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Side of the book.
    pub side: u8,
    /// Price in the instrument's units.
    pub price: i64,
    /// Remaining size in the instrument's units.
    pub qty: i64,
}

/// Every resting order by id.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    by_id: HashMap<u64, Order>,
    /// Side, price and id of each, for clears: one that looked at all orders could be asked for at each.
    by_price: BTreeSet<(u8, i64, u64)>,
    unknown: u64,
}

impl Orders {
    /// Applies one order event and hands the change of its level to `book`.
    pub(super) fn apply(&mut self, event: &Event, book: &mut Book) {
        match event.kind {
            kind::ADD => {
                // The same id again replaces the order (snapshots overlap with increments).
                self.take(event.order_id, i64::MAX, book);
                self.put(
                    event.order_id,
                    Order { side: event.side, price: event.price, qty: event.qty },
                    book,
                );
            }
            kind::CANCEL if event.qty == 0 => self.reduce(event.order_id, i64::MAX, book),
            kind::CANCEL | kind::EXECUTE => self.reduce(event.order_id, event.qty, book),
            kind::MODIFY => match self.take(event.order_id, i64::MAX, book) {
                Some(order) => {
                    self.put(event.order_id, Order { price: event.price, qty: event.qty, ..order }, book);
                }
                None => self.unknown += 1,
            },
            _ => {}
        }
    }

    fn put(&mut self, id: u64, order: Order, book: &mut Book) {
        if order.qty > 0 {
            let level = book.qty(order.side, order.price).saturating_add(order.qty);
            book.set(order.side, order.price, level);
            self.by_price.insert((order.side, order.price, id));
            self.by_id.insert(id, order);
        }
    }

    fn reduce(&mut self, id: u64, qty: i64, book: &mut Book) {
        if self.take(id, qty, book).is_none() {
            self.unknown += 1;
        }
    }

    /// Takes up to `qty` from an order; the order as it was.
    fn take(&mut self, id: u64, qty: i64, book: &mut Book) -> Option<Order> {
        let before = *self.by_id.get(&id)?;
        let taken = qty.min(before.qty);
        let level = (book.qty(before.side, before.price) - taken).max(0);
        book.set(before.side, before.price, level);
        if taken == before.qty {
            self.by_id.remove(&id);
            self.by_price.remove(&(before.side, before.price, id));
        } else {
            self.by_id.insert(id, Order { qty: before.qty - taken, ..before });
        }
        Some(before)
    }

    /// Forgets all orders, but not how many were unknown.
    pub(super) fn reset(&mut self) {
        self.by_id.clear();
        self.by_price.clear();
    }

    /// Forgets the orders a clear event removes.
    pub(super) fn clear(&mut self, event: &Event) {
        let bounded = event.flags & flag::BOUND != 0;
        for named in [side::BID, side::ASK] {
            if event.side != named && event.side != side::NONE {
                continue;
            }
            let (from, to) = match named {
                _ if !bounded => (i64::MIN, i64::MAX),
                side::BID => (event.price, i64::MAX),
                _ => (i64::MIN, event.price),
            };
            while let Some(&gone) = self.by_price.range((named, from, 0)..=(named, to, u64::MAX)).next() {
                self.by_price.remove(&gone);
                self.by_id.remove(&gone.2);
            }
        }
    }

    /// One order, if it rests.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Order> {
        self.by_id.get(&id).copied()
    }

    /// Orders by ascending id.
    #[must_use]
    pub fn sorted(&self) -> Vec<(u64, Order)> {
        let mut all: Vec<_> = self.by_id.iter().map(|(&id, &order)| (id, order)).collect();
        all.sort_unstable_by_key(|&(id, _)| id);
        all
    }

    /// Events that named an order nobody knew.
    #[must_use]
    pub const fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Orders and the count of unknown ones, as saved.
    pub fn restore(orders: impl IntoIterator<Item = (u64, Order)>, unknown: u64) -> Self {
        let by_id: HashMap<u64, Order> = orders.into_iter().collect();
        let by_price = by_id.iter().map(|(&id, order)| (order.side, order.price, id)).collect();
        Self { by_id, by_price, unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(kind: u8, id: u64, price: i64, qty: i64) -> Event {
        Event { kind, side: side::BID, order_id: id, price, qty, ..Event::default() }
    }

    #[test]
    fn orders_add_up_to_levels() {
        let mut book = Book::new(1, 2);
        for event in [
            order(kind::ADD, 1, 100, 5),
            order(kind::ADD, 2, 100, 7),
            order(kind::ADD, 3, 99, 1),
            order(kind::EXECUTE, 1, 100, 2),
            order(kind::CANCEL, 2, 100, 3),
            order(kind::MODIFY, 3, 101, 9),
            order(kind::CANCEL, 77, 100, 1),
        ] {
            book.apply(&event);
        }
        book.observe();
        assert_eq!(book.bids().iter().map(|l| (l.price, l.qty)).collect::<Vec<_>>(), [(101, 9), (100, 7)]);
        assert_eq!(book.orders().map(Orders::unknown), Some(1));
        book.apply(&order(kind::CANCEL, 3, 101, 0));
        book.apply(&order(kind::ADD, 2, 98, 4));
        book.observe();
        assert_eq!(book.bids().iter().map(|l| (l.price, l.qty)).collect::<Vec<_>>(), [(100, 3), (98, 4)]);
    }

    #[test]
    fn a_clear_takes_no_order_for_one_of_the_same_id_before_the_book_was_emptied() {
        let mut book = Book::new(1, 2);
        book.apply(&order(kind::ADD, 1, 100, 5));
        book.reset();
        book.apply(&order(kind::ADD, 1, 98, 5));
        book.apply(&Event { flags: flag::BOUND, ..order(kind::CLEAR, 0, 99, 0) });
        assert_eq!(book.orders().map(|orders| orders.sorted().len()), Some(1));
    }
}
