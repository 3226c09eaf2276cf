//! The book against a sorted map, and orders against a list of them.

use std::collections::BTreeMap;

use featureplane_core::book::{Book, Level};
use featureplane_core::event::{Event, flag, kind, side};

use crate::choices::Choices;

const LIMIT: i64 = (1 << 53) - 1;

/// Levels by price, orders by id: bids, then asks.
#[derive(Debug, Default)]
struct Plain {
    sides: [BTreeMap<i64, i64>; 2],
    orders: BTreeMap<u64, (usize, i64, i64)>,
}

impl Plain {
    fn set(&mut self, side: usize, price: i64, qty: i64) {
        if qty == 0 {
            self.sides[side].remove(&price)
        } else {
            self.sides[side].insert(price, qty)
        };
    }

    fn add(&mut self, side: usize, price: i64, change: i64) {
        let before = self.sides[side].get(&price).copied().unwrap_or(0);
        self.set(side, price, before.saturating_add(change).max(0));
    }

    fn take(&mut self, id: u64, qty: i64) -> Option<(usize, i64, i64)> {
        let (side, price, held) = self.orders.remove(&id)?;
        let taken = qty.min(held);
        self.add(side, price, -taken);
        if taken < held {
            self.orders.insert(id, (side, price, held - taken));
        }
        Some((side, price, held))
    }

    fn put(&mut self, id: u64, side: usize, price: i64, qty: i64) {
        if qty > 0 {
            self.add(side, price, qty);
            self.orders.insert(id, (side, price, qty));
        }
    }

    fn apply(&mut self, event: &Event) {
        let place = usize::from(event.side == side::ASK);
        match event.kind {
            kind::LEVEL | kind::SNAPSHOT_LEVEL => self.set(place, event.price, event.qty),
            kind::CLEAR => self.clear(event),
            kind::ADD => {
                self.take(event.order_id, i64::MAX);
                self.put(event.order_id, place, event.price, event.qty);
            }
            kind::CANCEL | kind::EXECUTE => {
                let all = event.kind == kind::CANCEL && event.qty == 0;
                self.take(event.order_id, if all { i64::MAX } else { event.qty });
            }
            kind::MODIFY => {
                if let Some((side, ..)) = self.take(event.order_id, i64::MAX) {
                    self.put(event.order_id, side, event.price, event.qty);
                }
            }
            _ => {}
        }
    }

    fn clear(&mut self, event: &Event) {
        let bound = event.flags & flag::BOUND != 0;
        let stays = |place: usize, price: i64| {
            let named = event.side == side::NONE || usize::from(event.side == side::ASK) == place;
            let inside = if place == 0 { price >= event.price } else { price <= event.price };
            !(named && (inside || !bound))
        };
        for (place, levels) in self.sides.iter_mut().enumerate() {
            levels.retain(|&price, _| stays(place, price));
        }
        self.orders.retain(|_, &mut (place, price, _)| stays(place, price));
    }
}

/// Ticks, depth and a run of events, nine out of ten of them near a price that wanders.
pub fn any(data: &[u8]) {
    let mut choices = Choices::new(data);
    let tick = match choices.below(4) {
        0 => 1,
        1 => i64::from(choices.byte()).max(1),
        2 => choices.number().unsigned_abs().clamp(1, 1 << 53).cast_signed(),
        _ => 10,
    };
    let depth = usize::from(choices.below(8)) + 1;
    let (mut book, mut plain, mut centre) = (Book::new(tick, depth), Plain::default(), 0);
    while !choices.is_empty() {
        let event = event(&mut choices, &mut centre, tick);
        book.apply(&event);
        plain.apply(&event);
        if choices.coin() {
            compare(&mut book, &plain, depth);
        }
    }
    compare(&mut book, &plain, depth);
}

fn event(choices: &mut Choices<'_>, centre: &mut i64, tick: i64) -> Event {
    let what = choices.byte();
    let near = centre.saturating_add(choices.short()).saturating_mul(tick);
    let price = if what & 0xf0 == 0xf0 { choices.number() } else { near }.clamp(-LIMIT, LIMIT);
    let kind = match what & 15 {
        0..=8 => kind::LEVEL,
        9 | 10 => kind::ADD,
        11 => kind::CANCEL,
        12 => kind::MODIFY,
        13 => kind::EXECUTE,
        14 => kind::CLEAR,
        _ => {
            *centre = centre.saturating_add(choices.short().saturating_mul(64)).clamp(-LIMIT, LIMIT);
            kind::STATUS
        }
    };
    let qty = match choices.byte() {
        0..=99 => 0,
        100..=250 => i64::from(choices.byte()),
        _ => choices.number().clamp(0, LIMIT),
    };
    Event {
        kind,
        side: match choices.byte() {
            0 if kind == kind::CLEAR => side::NONE,
            byte => 1 + (byte & 1),
        },
        flags: if what & 0x40 == 0 { 0 } else { flag::BOUND },
        price,
        qty,
        order_id: choices.below(16).into(),
        ..Event::default()
    }
}

fn compare(book: &mut Book, plain: &Plain, depth: usize) {
    book.observe();
    let level = |(&price, &qty): (&i64, &i64)| Level { price, qty };
    let bids: Vec<Level> = plain.sides[0].iter().rev().map(level).collect();
    let asks: Vec<Level> = plain.sides[1].iter().map(level).collect();
    assert_eq!(book.bids(), &bids[..bids.len().min(depth)]);
    assert_eq!(book.asks(), &asks[..asks.len().min(depth)]);
    assert_eq!(book.all_bids(), bids);
    assert_eq!(book.all_asks(), asks);
    let orders: Vec<(u64, i64)> = plain.orders.iter().map(|(&id, &(.., qty))| (id, qty)).collect();
    let known = book.orders().map(featureplane_core::book::l3::Orders::sorted).unwrap_or_default();
    assert_eq!(known.iter().map(|(id, order)| (*id, order.qty)).collect::<Vec<_>>(), orders);
}
