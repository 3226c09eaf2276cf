//! What signed trades say about who trades. Twin of `featureplane/features/kernels/toxicity.py`.

use super::cell::{Cell, why};
use super::ring::Ring;
use super::state::{StateReader, StateWriter};
use crate::error::Error;
use crate::units::{half_even_div, to_f64};

/// Volume-synchronised probability of informed trading, from aggressor flags.
#[derive(Clone, Debug)]
pub struct Vpin {
    /// Size of a bucket; 0 where the instrument names none, and nothing is ever published.
    bucket: u64,
    buy: u64,
    sell: u64,
    /// |buy - sell| of the full buckets.
    imbalances: Ring<u64>,
    total: u128,
    value: Cell,
}

impl Vpin {
    /// `bucket`: size of a bucket, above 0, or none; `n`: full buckets looked at.
    #[must_use]
    pub fn new(bucket: Option<u64>, n: usize) -> Self {
        let imbalances = Ring::new(n);
        Self { bucket: bucket.unwrap_or(0), buy: 0, sell: 0, imbalances, total: 0, value: Cell::COLD }
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        self.buy = 0;
        self.sell = 0;
        self.imbalances.clear();
        self.total = 0;
        self.value = Cell::COLD;
    }

    /// Takes one signed size.
    #[inline]
    pub fn update(&mut self, signed_qty: i64) {
        if self.bucket == 0 {
            return;
        }
        let size = signed_qty.unsigned_abs();
        let room = self.bucket - self.buy - self.sell;
        if size >= room {
            self.close(signed_qty > 0, room, size - room);
        } else if signed_qty > 0 {
            self.buy += size;
        } else {
            self.sell += size;
        }
    }

    /// The rest of a trade fills whole buckets of one side; more than n of them look like n.
    fn close(&mut self, is_buy: bool, room: u64, rest: u64) {
        let own = room + if is_buy { self.buy } else { self.sell };
        self.push(own.abs_diff(self.bucket - own));
        let (full, over) = (rest / self.bucket, rest % self.bucket);
        let n = self.imbalances.capacity();
        match usize::try_from(full) {
            Ok(full) if full < n => (0..full).for_each(|_| self.push(self.bucket)),
            _ => {
                self.imbalances.fill(self.bucket);
                self.total = n as u128 * u128::from(self.bucket);
            }
        }
        (self.buy, self.sell) = if is_buy { (over, 0) } else { (0, over) };
        self.evaluate();
    }

    fn push(&mut self, imbalance: u64) {
        self.total += u128::from(imbalance);
        if let Some(left) = self.imbalances.push(imbalance) {
            self.total -= u128::from(left);
        }
    }

    /// The value moves only when a bucket closes, so it is computed there.
    fn evaluate(&mut self) {
        if self.imbalances.is_full() {
            let volume = self.imbalances.capacity() as u128 * u128::from(self.bucket);
            self.value = match (i128::try_from(1_000_000 * self.total), i128::try_from(volume)) {
                (Ok(n), Ok(d)) => half_even_div(n, d).map_or(Cell::undefined(why::OVERFLOW), Cell::int),
                _ => Cell::undefined(why::OVERFLOW),
            };
        }
    }

    /// Parts per million of the volume of the last n full buckets.
    #[inline]
    #[must_use]
    pub const fn read(&self) -> Cell {
        self.value
    }

    /// See the reference for the layout.
    pub fn save(&self, out: &mut StateWriter) {
        out.u64(self.buy);
        out.u64(self.sell);
        self.imbalances.save(out, StateWriter::u64);
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// The state is not one of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.reset();
        let (bought, sold) = (from.u64()?, from.u64()?);
        if bought.checked_add(sold).is_none_or(|filled| filled >= self.bucket.max(1)) {
            return Err(
                from.refuse(format!("a bucket of {bought} + {sold}"), format!("below {}", self.bucket))
            );
        }
        let bucket = self.bucket;
        self.imbalances.load(from, |from| {
            let imbalance = from.u64()?;
            if imbalance > bucket {
                return Err(from.refuse(format!("an imbalance of {imbalance}"), format!("at most {bucket}")));
            }
            Ok(imbalance)
        })?;
        (self.buy, self.sell) = (bought, sold);
        self.total = self.imbalances.iter().map(u128::from).sum();
        self.evaluate();
        Ok(())
    }
}

/// Second moments are exact below this magnitude (rule 8); what is not is held at it.
const MOMENT_LIMIT: i64 = 1 << 47;

/// One message with signed trades: its signed size, and how far the mid moved until the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pair {
    size: i64,
    move_x2: i64,
}

impl Pair {
    fn is_oversized(self) -> bool {
        self.size.abs() >= MOMENT_LIMIT || self.move_x2.abs() >= MOMENT_LIMIT
    }

    /// As it counts in the sums.
    fn small(self) -> Self {
        if self.is_oversized() { Self::default() } else { self }
    }
}

/// The message whose pair is not complete yet.
#[derive(Clone, Copy, Debug)]
struct Message {
    /// `None` after `load`: state is saved between steps, so the next trade is of another message.
    step: Option<u64>,
    mid_x2: Option<i64>,
    size: i128,
}

/// Kyle's lambda: the slope of the mid's move on signed size.
///
/// Sums are kept, not recomputed; integers leave a sum as exactly as they came. An oversized pair
/// counts as (0, 0) in them and forbids a value until it has left.
#[derive(Clone, Debug)]
pub struct KyleLambda {
    message: Option<Message>,
    pairs: Ring<Pair>,
    oversized: usize,
    sum_x: i64,
    sum_y: i64,
    sum_xx: i128,
    sum_xy: i128,
    value: Cell,
}

impl KyleLambda {
    /// Over the last `n` completed pairs, 2 to 65,536.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self {
            message: None,
            pairs: Ring::new(n),
            oversized: 0,
            sum_x: 0,
            sum_y: 0,
            sum_xx: 0,
            sum_xy: 0,
            value: Cell::COLD,
        }
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        self.message = None;
        self.pairs.clear();
        self.oversized = 0;
        (self.sum_x, self.sum_y, self.sum_xx, self.sum_xy) = (0, 0, 0, 0);
        self.value = Cell::COLD;
    }

    /// Takes one signed size of message `step`, before which the mid was `mid_before`.
    #[inline]
    pub fn update(&mut self, signed_qty: i64, mid_before: Option<i64>, step: u64) {
        if let Some(message) = &mut self.message
            && message.step == Some(step)
        {
            message.size = message.size.saturating_add(signed_qty.into());
            return;
        }
        let next = Message { step: Some(step), mid_x2: mid_before, size: signed_qty.into() };
        if let Some(Message { mid_x2: Some(before), size, .. }) = self.message.replace(next)
            && let Some(after) = mid_before
        {
            self.push(Pair { size: held(size), move_x2: held(i128::from(after) - i128::from(before)) });
            self.evaluate();
        }
    }

    fn push(&mut self, pair: Pair) {
        if let Some(left) = self.pairs.push(pair) {
            self.oversized -= usize::from(left.is_oversized());
            let Pair { size: x, move_x2: y } = left.small();
            (self.sum_x, self.sum_y) = (self.sum_x - x, self.sum_y - y);
            self.sum_xx -= i128::from(x) * i128::from(x);
            self.sum_xy -= i128::from(x) * i128::from(y);
        }
        self.oversized += usize::from(pair.is_oversized());
        let Pair { size: x, move_x2: y } = pair.small();
        (self.sum_x, self.sum_y) = (self.sum_x + x, self.sum_y + y);
        self.sum_xx += i128::from(x) * i128::from(x);
        self.sum_xy += i128::from(x) * i128::from(y);
    }

    /// The value moves only when a pair is completed, so it is computed there.
    fn evaluate(&mut self) {
        if !self.pairs.is_full() {
            self.value = Cell::COLD;
        } else if self.oversized > 0 {
            self.value = Cell::undefined(why::OVERFLOW);
        } else {
            let n = self.pairs.capacity() as i128;
            let (x, y) = (i128::from(self.sum_x), i128::from(self.sum_y));
            let below = n * self.sum_xx - x * x;
            self.value = if below == 0 {
                Cell::undefined(0)
            } else {
                Cell::float(to_f64(n * self.sum_xy - x * y) / (2.0 * to_f64(below)))
            };
        }
    }

    /// Price per size over the last n pairs.
    #[inline]
    #[must_use]
    pub const fn read(&self) -> Cell {
        self.value
    }

    /// See the reference for the layout.
    pub fn save(&self, out: &mut StateWriter) {
        out.bool(self.message.is_some());
        if let Some(message) = self.message {
            out.option_i64(message.mid_x2);
            out.i128(message.size);
        }
        self.pairs.save(out, |out, pair| {
            out.i64(pair.size);
            out.i64(pair.move_x2);
        });
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// The state is not one of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.reset();
        if from.bool()? {
            let (mid_x2, size) = (from.option_i64()?, from.i128()?);
            self.message = Some(Message { step: None, mid_x2, size });
        }
        for _ in 0..from.count(self.pairs.capacity())? {
            let pair = Pair { size: moment(from)?, move_x2: moment(from)? };
            self.push(pair);
        }
        self.evaluate();
        Ok(())
    }
}

/// `x`, or the limit itself for what lies beyond: enough to know that it is oversized.
fn held(x: i128) -> i64 {
    let limit = i128::from(MOMENT_LIMIT);
    i64::try_from(x.clamp(-limit, limit)).unwrap_or(MOMENT_LIMIT)
}

fn moment(from: &mut StateReader<'_>) -> Result<i64, Error> {
    let x = from.i64()?;
    if x.unsigned_abs() > MOMENT_LIMIT.unsigned_abs() {
        return Err(from.refuse(format!("a moment of {x}"), format!("at most {MOMENT_LIMIT}")));
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const OVERFLOW: Cell = Cell::undefined(why::OVERFLOW);

    /// Every unit of size on its own.
    fn vpin_by_unit(trades: &[i64], bucket: u64, n: usize) -> Cell {
        let (mut filled, mut net, mut full) = (0, 0i64, Vec::new());
        for &trade in trades {
            for _ in 0..trade.abs() {
                (filled, net) = (filled + 1, net + trade.signum());
                if filled == bucket {
                    full.push(net.unsigned_abs());
                    (filled, net) = (0, 0);
                }
            }
        }
        let Some(start) = full.len().checked_sub(n) else { return Cell::COLD };
        let total: u64 = full[start..].iter().sum();
        half_even_div(i128::from(total) * 1_000_000, i128::from(bucket) * n as i128)
            .map_or(OVERFLOW, Cell::int)
    }

    #[test]
    fn rule_8_vpin_splits_trades_at_the_edge() {
        let mut random = Random::new(1);
        for (bucket, n) in [(1, 1), (1, 3), (7, 1), (7, 4), (100, 3)] {
            let mut kernel = Vpin::new(Some(bucket), n);
            let mut trades = Vec::new();
            for _ in 0..250 {
                trades.push(random.signed(9));
                kernel.update(trades[trades.len() - 1]);
                assert_eq!(kernel.read(), vpin_by_unit(&trades, bucket, n), "{bucket} {n} {trades:?}");
            }
        }
    }

    #[test]
    fn rule_8_vpin_in_closed_form_for_a_giant() {
        let mut kernel = Vpin::new(Some(3), 65_536);
        kernel.update(i64::MAX);
        assert_eq!(kernel.read(), Cell::int(1_000_000));
        let mut wide = Vpin::new(Some(i64::MAX.unsigned_abs()), 2);
        wide.update(i64::MAX);
        wide.update(-i64::MAX);
        assert_eq!(wide.read(), Cell::int(1_000_000));
    }

    #[test]
    fn rule_8_vpin_without_a_bucket_is_never_defined() {
        let mut kernel = Vpin::new(None, 1);
        kernel.update(i64::MAX);
        assert_eq!(kernel.read(), Cell::COLD);
    }

    #[derive(Clone, Copy)]
    struct Signed {
        qty: i64,
        mid_x2: Option<i64>,
        step: u64,
    }

    /// Rule 8 as written, from all trades so far.
    fn lambda_from_the_start(trades: &[Signed], n: usize) -> Cell {
        let mut messages: Vec<(u64, Option<i64>, i128)> = Vec::new();
        for trade in trades {
            match messages.last_mut() {
                Some(message) if message.0 == trade.step => message.2 += i128::from(trade.qty),
                _ => messages.push((trade.step, trade.mid_x2, trade.qty.into())),
            }
        }
        let pairs: Vec<(i128, i128)> = messages
            .windows(2)
            .filter_map(|two| Some((two[0].2, i128::from(two[1].1?) - i128::from(two[0].1?))))
            .collect();
        let Some(start) = pairs.len().checked_sub(n) else { return Cell::COLD };
        let pairs = &pairs[start..];
        if pairs.iter().any(|(x, y)| x.abs() >= 1 << 47 || y.abs() >= 1 << 47) {
            return OVERFLOW;
        }
        let sum = |f: &dyn Fn(i128, i128) -> i128| pairs.iter().map(|&(x, y)| f(x, y)).sum::<i128>();
        let (sx, sy, count) = (sum(&|x, _| x), sum(&|_, y| y), n as i128);
        let below = count * sum(&|x, _| x * x) - sx * sx;
        let above = count * sum(&|x, y| x * y) - sx * sy;
        if below == 0 { Cell::undefined(0) } else { Cell::float(to_f64(above) / (2.0 * to_f64(below))) }
    }

    #[test]
    fn rule_8_kyle_lambda_of_completed_pairs() {
        let mut random = Random::new(2);
        for n in [2, 3, 20] {
            let mut kernel = KyleLambda::new(n);
            let mut trades: Vec<Signed> = Vec::new();
            let mut step = 0;
            for _ in 0..1_500 {
                let bits = random.pick(&[3, 10, 10, 51]);
                let qty = random.signed(bits);
                let mut mid_x2 = (random.below(9) > 0).then(|| 1_000 + random.signed(6));
                if random.below(40) == 0 {
                    mid_x2 = Some(1 << 53);
                }
                match trades.last() {
                    Some(last) if random.below(3) == 0 => mid_x2 = last.mid_x2,
                    _ => step += 1,
                }
                trades.push(Signed { qty, mid_x2, step });
                kernel.update(qty, mid_x2, step);
                let seen = &trades[trades.len().saturating_sub(400)..];
                let from = seen.iter().position(|t| t.step != seen[0].step).unwrap_or(0);
                let recent = if seen.len() < trades.len() { &seen[from..] } else { seen };
                assert_eq!(kernel.read(), lambda_from_the_start(recent, n), "{n} {}", trades.len());
            }
        }
    }

    #[test]
    fn rule_8_kyle_lambda_holds_the_largest_inputs() {
        let n = 65_536;
        let mut kernel = KyleLambda::new(n);
        let largest = (1 << 47) - 1;
        for step in 0..=n as u64 {
            let even = step % 2 == 0;
            kernel.update(if even { largest } else { -largest }, Some(if even { 0 } else { largest }), step);
        }
        assert_eq!(kernel.read(), Cell::float(0.5));
    }

    #[test]
    fn saved_state_continues_in_the_next_step() {
        let mut random = Random::new(3);
        let mut kernel = KyleLambda::new(4);
        let mut vpin = Vpin::new(Some(50), 4);
        for step in 0..200 {
            let mut out = StateWriter::new();
            kernel.save(&mut out);
            vpin.save(&mut out);
            let bytes = out.into_bytes();
            let (mut kernel_2, mut vpin_2) = (KyleLambda::new(4), Vpin::new(Some(50), 4));
            let from = &mut StateReader::new(&bytes);
            kernel_2.load(from).unwrap();
            vpin_2.load(from).unwrap();
            assert!(from.is_empty());
            for _ in 0..=random.below(2) {
                let qty = random.signed([6, 50][usize::from(step % 17 == 0)]);
                let mid_x2 = Some(random.magnitude(8));
                kernel.update(qty, mid_x2, step);
                vpin.update(qty);
                // Another count of steps: only that they differ matters.
                kernel_2.update(qty, mid_x2, step + 1_000);
                vpin_2.update(qty);
            }
            assert_eq!((kernel_2.read(), vpin_2.read()), (kernel.read(), vpin.read()));
        }
    }

    #[test]
    fn a_state_of_another_kernel_is_refused() {
        for words in [[5, 5, 0], [0, 0, 9], [1, 1, 1]] {
            let mut out = StateWriter::new();
            for word in words {
                out.u64(word);
            }
            (0..words[2]).for_each(|_| out.u64(11));
            let bytes = out.into_bytes();
            assert!(Vpin::new(Some(10), 2).load(&mut StateReader::new(&bytes)).is_err());
        }
        let mut out = StateWriter::new();
        for word in [0, 1] {
            out.u64(word);
        }
        for word in [1i64 << 47, (1 << 47) + 1] {
            out.i64(word);
        }
        assert!(KyleLambda::new(2).load(&mut StateReader::new(&out.into_bytes())).is_err());
    }
}
