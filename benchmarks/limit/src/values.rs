//! The sixteen values of `lob_shared_v1`, rules 8 and 9, by hand.

pub const UNDEFINED_I64: u64 = 1 << 63;
pub const UNDEFINED_F64: u64 = 0x7ff8_0000_0000_0000;

/// The values of one frame, in the order of rule 9.
pub type Row = [u64; 16];

/// Nothing is defined.
pub const UNDEFINED: Row = {
    let mut row = [UNDEFINED_I64; 16];
    row[13] = UNDEFINED_F64;
    row[14] = UNDEFINED_F64;
    row[15] = UNDEFINED_F64;
    row
};

/// Adding and taking away 1.5 x 2^52 rounds |x| < 2^51 half-even to an integer, without a call to libm.
pub const ROUND: f64 = 6_755_399_441_055_744.0;
const EXACT: i64 = 1 << 51;

/// `R(n, d)` of rule 1.3, d > 0: n / d to the nearest integer, ties to even.
///
/// With both below 2^51 the rounded quotient cannot lie on a half that the true one misses.
#[inline(always)]
pub fn half_even(n: i64, d: i64) -> i64 {
    if n > -EXACT && n < EXACT && d < EXACT {
        let q = n as f64 / d as f64 + ROUND;
        return q.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    }
    half_even_wide(i128::from(n), i128::from(d))
}

#[cold]
fn half_even_wide(n: i128, d: i128) -> i64 {
    let (q, r) = (n.div_euclid(d), n.rem_euclid(d));
    let up = 2 * r > d || (2 * r == d && q & 1 == 1);
    i64::try_from(q + i128::from(up)).expect("sizes and prices lie below 2^53")
}

/// `R(a b, d)`.
#[inline(always)]
fn half_even_product(a: i64, b: i64, d: i64) -> i64 {
    a.checked_mul(b)
        .map_or_else(|| half_even_wide(i128::from(a) * i128::from(b), i128::from(d)), |n| half_even(n, d))
}

#[inline(always)]
pub fn imbalance_ppm(bid: i64, ask: i64) -> i64 {
    half_even_product(bid - ask, 1_000_000, bid + ask)
}

/// `R(2 (a p + b s), p + s)`, taken from the bid: an even offset keeps half-even.
#[inline(always)]
pub fn microprice_x2(bid: Top, ask: Top) -> i64 {
    2 * bid.price + half_even_product(2 * (ask.price - bid.price), bid.qty, bid.qty + ask.qty)
}

/// An exponential mean over 8 updates, seeded with its first.
#[derive(Clone, Copy, Default)]
pub struct Ema8 {
    mean: f64,
    count: u32,
}

impl Ema8 {
    #[inline(always)]
    pub fn update(&mut self, x: f64) {
        self.mean = if self.count == 0 { x } else { self.mean + 2.0 / 9.0 * (x - self.mean) };
        self.count = self.count.saturating_add(1);
    }

    #[inline(always)]
    pub fn bits(self) -> u64 {
        if self.count >= 8 { (self.mean + 0.0).to_bits() } else { UNDEFINED_F64 }
    }
}

/// What v1 sees of one side.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Top {
    pub price: i64,
    pub qty: i64,
    pub depth: i64,
}

/// `ofi(1)` of rule 8.
#[inline(always)]
pub fn ofi(before: (Top, Top), now: (Top, Top)) -> i64 {
    let ((bid_before, ask_before), (bid, ask)) = (before, now);
    let added = |yes: bool, qty: i64| if yes { qty } else { 0 };
    added(bid.price >= bid_before.price, bid.qty)
        - added(bid.price <= bid_before.price, bid_before.qty)
        - added(ask.price <= ask_before.price, ask.qty)
        + added(ask.price >= ask_before.price, ask_before.qty)
}

/// State of the set between messages.
#[derive(Default)]
pub struct V1 {
    before: Option<(Top, Top)>,
    cum: i64,
    ofi_ema: Ema8,
    spread_ema: Ema8,
    imbalance_ema: Ema8,
}

impl V1 {
    /// One tick of the book, whatever it looks like.
    #[inline(always)]
    pub fn update(&mut self, bid: Option<Top>, ask: Option<Top>) -> Row {
        match (bid, ask) {
            (Some(bid), Some(ask)) if bid.price < ask.price => self.valid(bid, ask),
            (Some(_), Some(_)) => UNDEFINED,
            _ => one_sided(bid, ask),
        }
    }

    #[inline(always)]
    fn valid(&mut self, bid: Top, ask: Top) -> Row {
        let spread = ask.price - bid.price;
        let imbalance = imbalance_ppm(bid.depth, ask.depth);
        let flow = self.before.map(|before| ofi(before, (bid, ask)));
        self.before = Some((bid, ask));
        if let Some(flow) = flow {
            self.cum += flow;
            self.ofi_ema.update(flow as f64);
        }
        self.spread_ema.update(spread as f64);
        self.imbalance_ema.update(imbalance as f64);
        [
            bid.price.cast_unsigned(),
            ask.price.cast_unsigned(),
            (bid.price + ask.price).cast_unsigned(),
            spread.cast_unsigned(),
            bid.depth.cast_unsigned(),
            ask.depth.cast_unsigned(),
            imbalance.cast_unsigned(),
            microprice_x2(bid, ask).cast_unsigned(),
            bid.qty.cast_unsigned(),
            ask.qty.cast_unsigned(),
            imbalance_ppm(bid.qty, ask.qty).cast_unsigned(),
            flow.map_or(UNDEFINED_I64, i64::cast_unsigned),
            flow.map_or(UNDEFINED_I64, |_| self.cum.cast_unsigned()),
            self.ofi_ema.bits(),
            self.spread_ema.bits(),
            self.imbalance_ema.bits(),
        ]
    }

    /// One tick of a valid book in which nothing moved since `row` was made of it: only the means go on.
    #[inline(always)]
    pub fn repeat(&mut self, row: &mut Row) {
        self.ofi_ema.update(0.0);
        self.spread_ema.update(row[3].cast_signed() as f64);
        self.imbalance_ema.update(row[6].cast_signed() as f64);
        row[11] = 0;
        row[12] = self.cum.cast_unsigned();
        row[13] = self.ofi_ema.bits();
        row[14] = self.spread_ema.bits();
        row[15] = self.imbalance_ema.bits();
    }
}

/// Whether a tick with these values advanced the means.
#[inline(always)]
pub fn is_valid(row: &Row) -> bool {
    row[3] != UNDEFINED_I64
}

/// A book with a side empty: what the other one says.
fn one_sided(bid: Option<Top>, ask: Option<Top>) -> Row {
    let mut row = UNDEFINED;
    for (top, [price, depth, qty]) in [(bid, [0, 4, 8]), (ask, [1, 5, 9])] {
        if let Some(top) = top {
            row[price] = top.price.cast_unsigned();
            row[depth] = top.depth.cast_unsigned();
            row[qty] = top.qty.cast_unsigned();
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_by_float_is_rounding_by_integers() {
        let mut random = 7u64;
        let mut draw = |limit: i64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 1).cast_signed() % limit
        };
        for limit in [8, 1000, 1 << 30, EXACT] {
            for _ in 0..100_000 {
                let (n, d) = (draw(limit) * if draw(2) == 0 { 1 } else { -1 }, draw(limit) + 1);
                assert_eq!(half_even(n, d), half_even_wide(n.into(), d.into()), "{n} / {d}");
                let half = (2 * (draw(limit) / d) + 1) * d / 2;
                assert_eq!(half_even(half, d), half_even_wide(half.into(), d.into()), "{half} / {d}");
            }
        }
    }

    #[test]
    fn a_repeated_tick_is_an_update_with_the_same_touch() {
        let bid = Top { price: 100, qty: 3, depth: 17 };
        let ask = Top { price: 102, qty: 5, depth: 11 };
        let (mut by_update, mut by_repeat) = (V1::default(), V1::default());
        let mut row = by_repeat.update(Some(bid), Some(ask));
        assert_eq!(by_update.update(Some(bid), Some(ask)), row);
        for _ in 0..12 {
            by_repeat.repeat(&mut row);
            assert_eq!(by_update.update(Some(bid), Some(ask)), row);
        }
    }
}
