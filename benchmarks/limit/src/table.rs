//! Nine features of the touch over a prepared table: columns in, columns out.
//!
//! Blocks are made in the first-level cache and written past it. All but the sum and the means vectorises.

use crate::values::{ROUND, Top, UNDEFINED_F64, UNDEFINED_I64, imbalance_ppm, microprice_x2};

/// Columns `best_bid`, `best_ask`, `l1_bid_qty`, `l1_ask_qty` of valid books.
pub type Touch = [Vec<i64>; 4];

/// `mid_x2`, spread, `microprice_x2`, touch imbalance, OFI, its sum; EMA 8 of OFI, spread, imbalance.
pub const FEATURES: usize = 9;

const BLOCK: usize = 64;
/// Rows before every feature is warm.
const WARM: usize = 9;
const ALPHA: f64 = 2.0 / 9.0;

/// Nine columns of one block, each a cache line more than a multiple of 4 KiB behind the last one.
#[repr(C, align(64))]
struct Block([[u64; BLOCK + 8]; FEATURES]);

/// Nine columns in one piece of memory, so placed that they do not share cache sets.
#[derive(Default)]
pub struct Columns {
    words: Vec<Line>,
    rows: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u64; 8]);

impl Columns {
    pub fn new(rows: usize) -> Self {
        Self { words: vec![Line([0; 8]); stride(rows) * FEATURES], rows }
    }

    pub fn column(&self, feature: usize) -> impl Iterator<Item = u64> {
        let lines = &self.words[feature * stride(self.rows)..];
        lines.iter().flat_map(|line| line.0).take(self.rows)
    }
}

/// Lines from one column to the next: odd.
fn stride(rows: usize) -> usize {
    rows.div_ceil(8) | 1
}

/// Exact for |x| < 2^51, and unlike `as` it vectorises.
#[inline(always)]
fn float(x: i64) -> f64 {
    f64::from_bits(x.cast_unsigned().wrapping_add(ROUND.to_bits())) - ROUND
}

#[inline(always)]
fn integer(x: f64) -> i64 {
    (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed()
}

const SIGN: u64 = 1 << 63;

/// Has the top bit if |x| >= 2^50. Floats without their sign are ordered as their bits are.
#[inline(always)]
fn beyond(x: f64) -> u64 {
    const LIMIT: u64 = (1023 + 50) << 52;
    (x.to_bits() & !SIGN) + (SIGN - LIMIT)
}

/// What goes from row to row.
#[derive(Default)]
struct Carried {
    cum: i64,
    ofi: f64,
    spread: f64,
    imbalance: f64,
}

/// Computes all nine for every row.
pub fn compute(touch: &Touch, out: &mut Columns) -> usize {
    let rows = touch[0].len();
    let mut carried = Carried::default();
    let mut block = Block([[0; BLOCK + 8]; FEATURES]);
    for start in (0..rows).step_by(BLOCK) {
        let end = (start + BLOCK).min(rows);
        let first = usize::from(start == 0);
        let now = touch.each_ref().map(|column| &column[start..end]);
        if !stateless(now, &mut block) {
            stateless_wide(now, &mut block);
        }
        flow(touch.each_ref().map(|column| &column[start + first - 1..end]), &mut block, first);
        if start == 0 {
            begin(&mut carried, &mut block);
        }
        carry(&mut carried, &mut block, first, end - start);
        if start == 0 {
            chill(&mut block);
        }
        for (feature, column) in block.0.iter().enumerate() {
            let lines = feature * stride(rows) + start / 8;
            write(&mut out.words[lines..lines + (end - start).div_ceil(8)], column);
        }
    }
    rows
}

/// The first four by floats that are exact; says whether they were.
#[inline(always)]
fn stateless([bid, ask, bid_qty, ask_qty]: [&[i64]; 4], block: &mut Block) -> bool {
    let rows = bid.len().min(BLOCK);
    let (ask, bid_qty, ask_qty) = (&ask[..rows], &bid_qty[..rows], &ask_qty[..rows]);
    let [mid, spread, micro, imbalance, ..] = block.0.each_mut().map(|column| &mut column[..rows]);
    let (mut largest, mut product) = (0, 0);
    for i in 0..rows {
        let (b, a, p, s) = (bid[i], ask[i], bid_qty[i], ask_qty[i]);
        let (weight, part) = (float(2 * (a - b)) * float(p), float(p - s) * 1e6);
        let total = float(p + s);
        largest |= (p + s).cast_unsigned() | (a - b).cast_unsigned();
        product |= beyond(weight) | beyond(part);
        mid[i] = (b + a).cast_unsigned();
        spread[i] = (a - b).cast_unsigned();
        micro[i] = (2 * b + integer(weight / total)).cast_unsigned();
        imbalance[i] = integer(part / total).cast_unsigned();
    }
    largest < 1 << 50 && product < SIGN
}

/// The same by integers, for sizes with many decimals.
#[cold]
fn stateless_wide([bid, ask, bid_qty, ask_qty]: [&[i64]; 4], block: &mut Block) {
    for i in 0..bid.len() {
        let top = |price: i64, qty: i64| Top { price, qty, depth: qty };
        let (bid, ask) = (top(bid[i], bid_qty[i]), top(ask[i], ask_qty[i]));
        block.0[2][i] = microprice_x2(bid, ask).cast_unsigned();
        block.0[3][i] = imbalance_ppm(bid.qty, ask.qty).cast_unsigned();
    }
}

/// OFI of the rows behind the first of each slice.
#[inline(always)]
fn flow(touch: [&[i64]; 4], block: &mut Block, skip: usize) {
    let rows = touch[0].len() - 1;
    let [bid, ask, bid_qty, ask_qty] = touch.map(|column| &column[..=rows]);
    let ofi = &mut block.0[4][skip..skip + rows];
    let when = |yes: bool, qty: i64| -i64::from(yes) & qty;
    for i in 0..rows {
        let flow = when(bid[i + 1] >= bid[i], bid_qty[i + 1])
            - when(bid[i + 1] <= bid[i], bid_qty[i])
            - when(ask[i + 1] <= ask[i], ask_qty[i + 1])
            + when(ask[i + 1] >= ask[i], ask_qty[i]);
        ofi[i] = flow.cast_unsigned();
    }
}

/// Seeds the means: spread and imbalance with row 0, OFI with row 1.
fn begin(carried: &mut Carried, block: &mut Block) {
    carried.spread = float(block.0[1][0].cast_signed());
    carried.imbalance = float(block.0[3][0].cast_signed());
    carried.ofi = float(block.0[4][1].cast_signed());
}

#[inline(always)]
fn carry(carried: &mut Carried, block: &mut Block, from: usize, rows: usize) {
    let [_, spread, _, imbalance, ofi, cum, ofi_ema, spread_ema, imbalance_ema] =
        block.0.each_mut().map(|column| &mut column[..rows]);
    for i in from..rows {
        carried.cum += ofi[i].cast_signed();
        carried.ofi += ALPHA * (float(ofi[i].cast_signed()) - carried.ofi);
        carried.spread += ALPHA * (float(spread[i].cast_signed()) - carried.spread);
        carried.imbalance += ALPHA * (float(imbalance[i].cast_signed()) - carried.imbalance);
        cum[i] = carried.cum.cast_unsigned();
        ofi_ema[i] = (carried.ofi + 0.0).to_bits();
        spread_ema[i] = (carried.spread + 0.0).to_bits();
        imbalance_ema[i] = (carried.imbalance + 0.0).to_bits();
    }
}

/// Takes back what was published before it was warm.
fn chill(block: &mut Block) {
    block.0[4][0] = UNDEFINED_I64;
    block.0[5][0] = UNDEFINED_I64;
    block.0[6][..WARM - 1].fill(UNDEFINED_F64);
    block.0[7][..WARM - 2].fill(UNDEFINED_F64);
    block.0[8][..WARM - 2].fill(UNDEFINED_F64);
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn write(to: &mut [Line], column: &[u64]) {
    use std::arch::x86_64::{__m128i, _mm_set_epi64x, _mm_stream_si128};
    for (line, words) in to.iter_mut().zip(column.chunks_exact(8)) {
        let line = line.0.as_mut_ptr().cast::<__m128i>();
        for (place, pair) in words.chunks_exact(2).enumerate() {
            // SAFETY: SSE2 is part of x86-64; a line is four aligned pieces of 16 bytes, `line` its first.
            unsafe {
                let both = _mm_set_epi64x(pair[1].cast_signed(), pair[0].cast_signed());
                _mm_stream_si128(line.add(place), both);
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn write(to: &mut [Line], column: &[u64]) {
    for (line, words) in to.iter_mut().zip(column.chunks_exact(8)) {
        line.0.copy_from_slice(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_and_integers_make_the_same_columns() {
        let mut random = 3u64;
        let mut draw = |limit: i64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 1).cast_signed() % limit
        };
        for limit in [10, 100_000, 1 << 29] {
            let bid: Vec<i64> = (0..BLOCK).map(|_| draw(1_000_000)).collect();
            let ask: Vec<i64> = bid.iter().map(|bid| bid + 1 + draw(100)).collect();
            let sizes = [0; 2].map(|_| (0..BLOCK).map(|_| 1 + draw(limit)).collect::<Vec<i64>>());
            let now = [&bid, &ask, &sizes[0], &sizes[1]].map(Vec::as_slice);
            let (mut fast, mut wide) = (Block([[0; BLOCK + 8]; FEATURES]), Block([[0; BLOCK + 8]; FEATURES]));
            assert!(stateless(now, &mut fast));
            stateless_wide(now, &mut wide);
            assert_eq!(fast.0[2..4], wide.0[2..4]);
        }
    }
}
