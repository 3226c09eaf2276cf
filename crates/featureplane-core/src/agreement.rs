//! Whether prices lie on a tick.

use crate::event::{Event, kind};

/// The first event of the instrument whose price, of a book or a quote, is no multiple of `tick`.
///
/// Trades may print between ticks and are not asked. Every price is a multiple of a `tick` of 0.
#[must_use]
pub fn first_off_tick(events: &[Event], symbol_id: u32, tick: u64) -> Option<usize> {
    if tick == 0 {
        return None;
    }
    let divisor = Divisor::new(tick);
    events.iter().position(|event| {
        !divisor.divides(event.price.unsigned_abs()) && event.symbol_id == symbol_id && has_tick(event.kind)
    })
}

const fn has_tick(of: u8) -> bool {
    matches!(of, kind::LEVEL | kind::SNAPSHOT_LEVEL | kind::QUOTE | kind::ADD | kind::MODIFY)
}

/// Asks for divisibility by multiplying: a division would cost more than the rest of the pass.
///
/// Of the odd part o of a divisor 2^k o, n is a multiple if n / o modulo 2^64, rotated by k, is at
/// most 2^64 / (2^k o) (Granlund and Montgomery 1994, section 9).
struct Divisor {
    inverse: u64,
    twos: u32,
    most: u64,
}

impl Divisor {
    fn new(divisor: u64) -> Self {
        let twos = divisor.trailing_zeros();
        let odd = divisor >> twos;
        let mut inverse = odd; // right in 3 bits; each round doubles them
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        Self { inverse, twos, most: u64::MAX / divisor }
    }

    const fn divides(&self, n: u64) -> bool {
        n.wrapping_mul(self.inverse).rotate_right(self.twos) <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_divisor_agrees_with_the_remainder() {
        for divisor in (1..200).chain([1 << 52, (1 << 53) - 1, 10u64.pow(15), 25 * 10u64.pow(12)]) {
            let by = Divisor::new(divisor);
            let near = (0..6).flat_map(|k| (0..3).map(move |d| (k * divisor + d).saturating_sub(1)));
            for n in near.chain(0..500).chain([u64::MAX, 1 << 63, (1 << 53) - 1]) {
                assert_eq!(by.divides(n), n % divisor == 0, "{n} by {divisor}");
            }
        }
    }

    #[test]
    fn the_first_price_off_the_tick_is_found() {
        let event = |kind, symbol_id, price| Event { kind, symbol_id, price, ..Event::default() };
        let events = [
            event(kind::LEVEL, 7, -10),
            event(kind::LEVEL, 8, 3),
            event(kind::TRADE, 7, 3),
            event(kind::QUOTE, 7, -3),
            event(kind::LEVEL, 7, 3),
        ];
        assert_eq!(first_off_tick(&events, 7, 5), Some(3));
        assert_eq!(first_off_tick(&events, 7, 1), None);
        assert_eq!(first_off_tick(&events, 7, 0), None);
    }
}
