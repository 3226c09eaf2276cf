//! First pass: the exponents, tick, lot and volume that a recording shows (rule 1.1).

use super::judge::Meaning;
use super::levels::Sides;
use super::message::Key;
use super::{Counts, Market, OTHERS_MAX, Receiver, Stream};
use crate::error::Error;
use crate::normalize::decimal::{AsWritten, POW10, Written};

/// Greatest common divisor and most decimals of the values seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// Most significant decimals of any value.
    pub places: u8,
    /// Greatest common divisor in units of 10^-`places`; 0 if all values were 0.
    pub divisor: i128,
}

impl Grid {
    fn add(&mut self, value: Written) {
        if self.divisor == 1 && value.places <= self.places {
            return; // it divides everything
        }
        let unit = |places: u8| i128::from(POW10[usize::from(places)]);
        if value.places > self.places {
            self.divisor *= unit(value.places - self.places);
            self.places = value.places;
        }
        let mut rest = i128::from(value.mantissa.abs()) * unit(self.places - value.places);
        if self.divisor == 0 || rest % self.divisor != 0 {
            while rest != 0 {
                (self.divisor, rest) = (rest, self.divisor % rest);
            }
        }
    }
}

/// What was seen of one symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// As the venue writes it.
    pub symbol: String,
    /// Of all prices.
    pub price: Grid,
    /// Of all sizes.
    pub qty: Grid,
    /// Volume of all market trades, in units of 10^-18; at most what 128 bits hold.
    pub volume: i128,
}

impl Found {
    fn row(&mut self, (price, qty): (Written, Written)) {
        self.price.add(price);
        self.qty.add(qty);
    }

    fn merge(&mut self, other: &Self) {
        for (grid, more) in [(&mut self.price, other.price), (&mut self.qty, other.qty)] {
            let unit = |places: u8| i128::from(POW10[usize::from(places)]);
            let places = grid.places.max(more.places);
            let mut rest = more.divisor * unit(places - more.places);
            let mut divisor = grid.divisor * unit(places - grid.places);
            while rest != 0 {
                (divisor, rest) = (rest, divisor % rest);
            }
            *grid = Grid { places, divisor };
        }
    }
}

/// Looks through a recording without making events of it.
#[derive(Debug)]
pub struct Scan {
    stream: Stream<AsWritten>,
    finder: Finder,
}

#[derive(Debug, Default)]
struct Finder {
    found: Vec<Found>,
    /// Of snapshots that do not name their symbol, before any was named: whoever reads takes them for its own.
    unnamed: Found,
    /// Of those behind several names: nobody does.
    nobodys: Found,
    /// Index in `found` of the message being read; None for an unnamed one.
    current: Option<usize>,
}

impl Scan {
    /// A scan of every symbol of a recording.
    #[must_use]
    pub fn new(market: Market, drop_malformed: bool, line_bytes_max: usize) -> Self {
        let stream = Stream::new(AsWritten, market, drop_malformed, line_bytes_max);
        Self { stream, finder: Finder::default() }
    }

    /// Looks at every line that ends in `text`, which may be cut anywhere.
    ///
    /// # Errors
    ///
    /// A malformed line, with its number.
    pub fn feed(&mut self, text: &[u8]) -> Result<(), Error> {
        self.stream.feed(text, &mut self.finder)
    }

    /// Ends a file.
    ///
    /// # Errors
    ///
    /// As for [`Self::feed`].
    pub fn finish(&mut self) -> Result<(), Error> {
        self.stream.finish(&mut self.finder)
    }

    /// What was found so far, a row a symbol in order of appearance. Snapshots without a symbol count for the
    /// only one named before them, or for all if none was.
    #[must_use]
    pub fn found(&self) -> Vec<Found> {
        let mut found = self.finder.found.clone();
        for one in &mut found {
            one.merge(&self.finder.unnamed);
        }
        found
    }

    /// The latest local time of any line, 0 before the first.
    #[must_use]
    pub fn local_max(&self) -> i64 {
        self.stream.stage.local_max
    }
}

impl Receiver<AsWritten> for Finder {
    fn wants(&mut self, symbol: Option<&[u8]>, _: &mut Counts) -> bool {
        self.current =
            symbol.and_then(|name| self.found.iter().position(|one| one.symbol.as_bytes() == name));
        if let Some(name) = symbol.filter(|_| self.current.is_none() && self.found.len() < OTHERS_MAX) {
            self.current = Some(self.found.len());
            self.found.push(Found { symbol: String::from_utf8_lossy(name).into_owned(), ..Found::default() });
        }
        symbol.is_none() || self.current.is_some()
    }

    fn take(&mut self, _: i64, meaning: Meaning<Written>, sides: &Sides<Written>) {
        let found = match (self.current, self.found.as_mut_slice()) {
            (Some(index), found) => &mut found[index],
            (None, []) => &mut self.unnamed,
            (None, [only]) => only,
            (None, _) => &mut self.nobodys,
        };
        let lists = match meaning {
            Meaning::Diff { .. } => [Key::Bid, Key::Ask],
            Meaning::Snapshot { .. } => [Key::Bids, Key::Asks],
            Meaning::Trade { qty: Written { mantissa: 0, .. }, .. } => return,
            Meaning::Trade { price, qty, market, .. } => {
                found.row((price, qty));
                if market {
                    let unit = i128::from(POW10[usize::from(18 - qty.places)]);
                    found.volume = found.volume.saturating_add(i128::from(qty.mantissa) * unit);
                }
                return;
            }
            Meaning::Quote { bid, ask, .. } => {
                found.row(bid);
                found.row(ask);
                return;
            }
        };
        for key in lists {
            for row in &sides.of(key).rows {
                found.row(*row);
            }
        }
    }

    fn lost(&mut self, _: i64) {}
}
