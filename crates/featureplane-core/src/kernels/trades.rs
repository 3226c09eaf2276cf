//! Kernels that read trades. Twin of `featureplane/features/kernels/trades.py`.

use super::cell::Cell;
use super::state::{StateReader, StateWriter};
use crate::error::Error;
use crate::units::{NANOS_PER_MS, elapsed, exp2_neg, u64_to_f64};

/// One market trade, with what a kernel may know of the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TradeTick {
    /// Price, scaled.
    pub price: i64,
    /// Size, scaled, above 0.
    pub qty: i64,
    /// The venue's aggressor: 1 buy, -1 sell, 0 not told.
    pub sign: i8,
    /// An execution against a hidden order.
    pub hidden: bool,
    /// The clock of the step (rule 5.3).
    pub clock_ns: i64,
    /// `mid_x2` of the book before the message, if that book was valid and two-sided.
    pub mid_before: Option<i64>,
    /// Equal for the trades of one message, different for those of two.
    pub step: u64,
}

/// Size with the aggressor's sign, found after Lee and Ready where the venue does not tell it.
#[derive(Clone, Debug)]
pub struct SignedQty {
    hidden: bool,
    value: Option<i64>,
    /// Price of the last trade, and the last price before it that was another one.
    last: Option<i64>,
    different: Option<i64>,
}

impl SignedQty {
    /// `hidden`: whether executions against hidden orders are read.
    #[must_use]
    pub const fn new(hidden: bool) -> Self {
        Self { hidden, value: None, last: None, different: None }
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        *self = Self::new(self.hidden);
    }

    /// Whether the kernel advanced: a trade without a sign leaves only its price behind.
    #[inline]
    pub fn update(&mut self, trade: &TradeTick) -> bool {
        if trade.hidden && !self.hidden {
            return false;
        }
        let sign = match trade.sign {
            0 => self.infer(trade),
            told => i64::from(told),
        };
        if self.last != Some(trade.price) {
            self.different = self.last;
            self.last = Some(trade.price);
        }
        if sign != 0 {
            self.value = Some(sign * trade.qty);
        }
        sign != 0
    }

    fn infer(&self, trade: &TradeTick) -> i64 {
        let by_quote = trade.mid_before.map_or(0, |mid_x2| compare(2 * trade.price, mid_x2));
        if by_quote != 0 {
            return by_quote;
        }
        let before = if self.last == Some(trade.price) { self.different } else { self.last };
        before.map_or(0, |before| compare(trade.price, before))
    }

    /// The last signed size.
    #[inline]
    #[must_use]
    pub fn read(&self) -> Cell {
        self.value.map_or(Cell::COLD, Cell::int)
    }

    /// See the reference for the layout.
    pub fn save(&self, out: &mut StateWriter) {
        out.option_i64(self.value);
        out.option_i64(self.last);
        out.option_i64(self.different);
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// The state is not one of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.value = from.option_i64()?;
        self.last = from.option_i64()?;
        self.different = from.option_i64()?;
        Ok(())
    }
}

const fn compare(x: i64, y: i64) -> i64 {
    (x > y) as i64 - (x < y) as i64
}

/// Price of the last trade.
#[derive(Clone, Debug)]
pub struct TradePrice {
    hidden: bool,
    value: Option<i64>,
}

impl TradePrice {
    /// `hidden`: whether executions against hidden orders are read.
    #[must_use]
    pub const fn new(hidden: bool) -> Self {
        Self { hidden, value: None }
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        self.value = None;
    }

    /// Whether the kernel advanced.
    #[inline]
    pub fn update(&mut self, trade: &TradeTick) -> bool {
        let reads = self.hidden || !trade.hidden;
        if reads {
            self.value = Some(trade.price);
        }
        reads
    }

    /// The last price.
    #[inline]
    #[must_use]
    pub fn read(&self) -> Cell {
        self.value.map_or(Cell::COLD, Cell::int)
    }

    /// See the reference for the layout.
    pub fn save(&self, out: &mut StateWriter) {
        out.option_i64(self.value);
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// The state is not one of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.value = from.option_i64()?;
        Ok(())
    }
}

/// Trades since the reset.
#[derive(Clone, Debug)]
pub struct TradeCount {
    hidden: bool,
    count: i64,
}

impl TradeCount {
    /// `hidden`: whether executions against hidden orders are counted.
    #[must_use]
    pub const fn new(hidden: bool) -> Self {
        Self { hidden, count: 0 }
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        self.count = 0;
    }

    /// Whether the kernel advanced.
    #[inline]
    pub fn update(&mut self, trade: &TradeTick) -> bool {
        let reads = self.hidden || !trade.hidden;
        self.count += i64::from(reads);
        reads
    }

    /// The count; nothing before the first trade.
    #[inline]
    #[must_use]
    pub const fn read(&self) -> Cell {
        if self.count == 0 { Cell::COLD } else { Cell::int(self.count) }
    }

    /// See the reference for the layout.
    pub fn save(&self, out: &mut StateWriter) {
        out.i64(self.count);
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// The state is not one of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        let count = from.i64()?;
        if count < 0 {
            return Err(from.refuse(format!("a count of {count}"), "0 or more"));
        }
        self.count = count;
        Ok(())
    }
}

/// Milliseconds since the last trade.
#[derive(Clone, Debug)]
pub struct MsSinceTrade {
    hidden: bool,
    traded_ns: Option<i64>,
}

impl MsSinceTrade {
    /// `hidden`: whether executions against hidden orders are read.
    #[must_use]
    pub const fn new(hidden: bool) -> Self {
        Self { hidden, traded_ns: None }
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        self.traded_ns = None;
    }

    /// Whether the kernel advanced.
    #[inline]
    pub fn update(&mut self, trade: &TradeTick) -> bool {
        let reads = self.hidden || !trade.hidden;
        if reads {
            self.traded_ns = Some(trade.clock_ns);
        }
        reads
    }

    /// Whole milliseconds at `clock_ns`.
    #[inline]
    #[must_use]
    pub fn read(&self, clock_ns: i64) -> Cell {
        self.traded_ns.map_or(Cell::COLD, |traded_ns| {
            Cell::int((elapsed(clock_ns, traded_ns) / NANOS_PER_MS).cast_signed())
        })
    }

    /// See the reference for the layout.
    pub fn save(&self, out: &mut StateWriter) {
        out.option_i64(self.traded_ns);
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// The state is not one of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.traded_ns = from.option_i64()?;
        Ok(())
    }
}

/// Trades a second, each forgotten by half in a half-life.
#[derive(Clone, Debug)]
pub struct TradeIntensity {
    hidden: bool,
    half_life_ns: u64,
    /// ln 2 x 10^9 / F(h): from a decayed count to a rate a second.
    per_second: f64,
    first_ns: Option<i64>,
    traded_ns: Option<i64>,
    decayed: f64,
}

/// ln 2, as rule 8 writes it.
const LN_2: f64 = f64::from_bits(0x3fe6_2e42_fefa_39ef);

impl TradeIntensity {
    /// `half_life_ns` above 0; `hidden`: whether executions against hidden orders are read.
    #[must_use]
    pub fn new(half_life_ns: u64, hidden: bool) -> Self {
        let half_life_ns = half_life_ns.max(1);
        Self {
            hidden,
            half_life_ns,
            per_second: LN_2 * 1e9 / u64_to_f64(half_life_ns),
            first_ns: None,
            traded_ns: None,
            decayed: 0.0,
        }
    }

    /// Back to the initial state.
    pub fn reset(&mut self) {
        self.first_ns = None;
        self.traded_ns = None;
        self.decayed = 0.0;
    }

    /// Called at every step before its ticks; the first one after a reset starts the warm-up.
    #[inline]
    pub fn begin(&mut self, clock_ns: i64) {
        if self.first_ns.is_none() {
            self.first_ns = Some(clock_ns);
        }
    }

    /// Whether the kernel advanced.
    #[inline]
    pub fn update(&mut self, trade: &TradeTick) -> bool {
        if trade.hidden && !self.hidden {
            return false;
        }
        self.decayed = self.decayed_at(trade.clock_ns) + 1.0;
        self.traded_ns = Some(trade.clock_ns);
        true
    }

    /// At the clock of the last trade the factor is exactly 1; that is most of the calls.
    #[inline]
    fn decayed_at(&self, clock_ns: i64) -> f64 {
        match self.traded_ns {
            Some(traded_ns) if traded_ns != clock_ns => {
                self.decayed * exp2_neg(elapsed(clock_ns, traded_ns), self.half_life_ns)
            }
            _ => self.decayed,
        }
    }

    /// The rate at `clock_ns`; warm three half-lives after the first step.
    #[inline]
    #[must_use]
    pub fn read(&self, clock_ns: i64) -> Cell {
        match self.first_ns {
            Some(first_ns) if elapsed(clock_ns, first_ns) / 3 >= self.half_life_ns => {
                Cell::float(self.decayed_at(clock_ns) * self.per_second)
            }
            _ => Cell::COLD,
        }
    }

    /// See the reference for the layout.
    pub fn save(&self, out: &mut StateWriter) {
        out.option_i64(self.first_ns);
        out.option_i64(self.traded_ns);
        out.f64(self.decayed);
    }

    /// What [`Self::save`] wrote.
    ///
    /// # Errors
    /// The state is not one of this kernel.
    pub fn load(&mut self, from: &mut StateReader<'_>) -> Result<(), Error> {
        self.first_ns = from.option_i64()?;
        self.traded_ns = from.option_i64()?;
        self.decayed = from.f64()?;
        if !self.decayed.is_finite() {
            return Err(from.refuse(format!("a count of {}", self.decayed), "a finite one"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRADE: TradeTick =
        TradeTick { price: 100, qty: 3, sign: 0, hidden: false, clock_ns: 0, mid_before: None, step: 0 };

    #[test]
    fn rule_8_signed_qty_believes_the_venue() {
        let mut kernel = SignedQty::new(true);
        assert_eq!(kernel.read(), Cell::COLD);
        assert!(kernel.update(&TradeTick { sign: -1, mid_before: Some(0), ..TRADE }));
        assert_eq!(kernel.read(), Cell::int(-3));
    }

    #[test]
    fn rule_8_signed_qty_after_lee_and_ready() {
        let mut kernel = SignedQty::new(true);
        let mut sign = |price, mid_before| {
            let advanced = kernel.update(&TradeTick { price, mid_before, ..TRADE });
            (advanced, kernel.read().as_i64())
        };
        assert_eq!(sign(100, Some(200)), (false, 0)); // at mid, first trade: no sign
        assert_eq!(sign(100, None), (false, 0)); // no other price yet
        assert_eq!(sign(101, None), (true, 3)); // above 100
        assert_eq!(sign(101, Some(202)), (true, 3)); // at mid; the last other price is still 100
        assert_eq!(sign(101, Some(203)), (true, -3)); // below mid
        assert_eq!(sign(99, Some(197)), (true, 3)); // above mid, although below the last trade
        assert_eq!(sign(99, None), (true, -3)); // the last other price is 101
    }

    #[test]
    fn hidden_false_does_not_even_remember() {
        let hidden = TradeTick { price: 90, hidden: true, ..TRADE };
        let mut signed = SignedQty::new(false);
        signed.update(&TRADE);
        assert!(!signed.update(&hidden));
        assert!(!signed.update(&TRADE));
        let (mut price, mut count) = (TradePrice::new(false), TradeCount::new(false));
        let (mut age, mut intensity) = (MsSinceTrade::new(false), TradeIntensity::new(1, false));
        intensity.begin(0);
        assert!(!price.update(&hidden) && !count.update(&hidden));
        assert!(!age.update(&hidden) && !intensity.update(&hidden));
        assert_eq!([price.read(), count.read(), age.read(9)], [Cell::COLD; 3]);
        assert_eq!(intensity.read(3), Cell::float(0.0));
        assert!(price.update(&TRADE) && count.update(&TRADE));
        assert_eq!((price.read(), count.read()), (Cell::int(100), Cell::int(1)));
    }

    #[test]
    fn rule_8_ms_since_trade_is_cut_not_rounded() {
        let mut kernel = MsSinceTrade::new(true);
        kernel.update(&TradeTick { clock_ns: -1, ..TRADE });
        assert_eq!(kernel.read(-1), Cell::int(0));
        assert_eq!(kernel.read(1_999_998), Cell::int(1));
        assert_eq!(kernel.read(1_999_999), Cell::int(2));
        assert_eq!(kernel.read(i64::MAX), Cell::int(9_223_372_036_854));
    }

    #[test]
    fn rule_8_trade_intensity_is_warm_after_three_half_lives() {
        let mut kernel = TradeIntensity::new(1_000, true);
        assert_eq!(kernel.read(9_999), Cell::COLD);
        kernel.begin(100);
        kernel.begin(5_000);
        assert_eq!(kernel.read(3_099), Cell::COLD);
        assert_eq!(kernel.read(3_100), Cell::float(0.0));
        for clock_ns in [3_100, 3_100, 4_100] {
            kernel.update(&TradeTick { clock_ns, ..TRADE });
        }
        // Two at once, half of them left after one half-life, and one more.
        assert_eq!(kernel.read(4_100), Cell::float(2.0 * (LN_2 * 1e9 / 1_000.0)));
        assert_eq!(kernel.read(5_100), Cell::float(LN_2 * 1e9 / 1_000.0));
        assert_eq!(kernel.read(i64::MAX), Cell::float(0.0));
        kernel.reset();
        assert_eq!(kernel.read(i64::MAX), Cell::COLD);
    }

    #[test]
    fn saved_state_continues() {
        let mut out = StateWriter::new();
        let mut signed = SignedQty::new(true);
        let mut intensity = TradeIntensity::new(1_000, true);
        intensity.begin(-5);
        for (clock_ns, price) in [(1, 100), (700, 101), (900, 101)] {
            signed.update(&TradeTick { price, clock_ns, ..TRADE });
            intensity.update(&TradeTick { price, clock_ns, ..TRADE });
        }
        signed.save(&mut out);
        intensity.save(&mut out);
        let bytes = out.into_bytes();
        let (mut signed_2, mut intensity_2) = (SignedQty::new(true), TradeIntensity::new(1_000, true));
        let from = &mut StateReader::new(&bytes);
        signed_2.load(from).unwrap();
        intensity_2.load(from).unwrap();
        assert!(from.is_empty());
        let next = TradeTick { price: 101, clock_ns: 2_995, ..TRADE };
        assert!(signed.update(&next) && signed_2.update(&next));
        assert!(intensity.update(&next) && intensity_2.update(&next));
        assert_eq!(signed_2.read(), signed.read());
        assert_eq!(intensity_2.read(2_995), intensity.read(2_995));
        assert!(intensity.read(2_995).is_defined());
    }

    #[test]
    fn a_state_no_kernel_has_is_refused() {
        let mut out = StateWriter::new();
        out.i64(-1);
        assert!(TradeCount::new(true).load(&mut StateReader::new(&out.into_bytes())).is_err());
        let mut out = StateWriter::new();
        for word in [0, 0, f64::INFINITY.to_bits()] {
            out.u64(word);
        }
        assert!(TradeIntensity::new(1, true).load(&mut StateReader::new(&out.into_bytes())).is_err());
    }
}
