//! What an engine must know of its instruments and its stream; JSON from `features/engine.py`.

use serde::Deserialize;

use crate::error::Error;
use crate::event::{MAGNITUDE_LIMIT, TIME_LIMIT_NS};

/// What happens at a hole in the ids of a book (rule 3.5).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum OnGap {
    /// Buffer until a snapshot or the missing messages come.
    Wait,
    /// Keep the book and say so in every frame.
    Continue,
    /// Stop with an error.
    Refuse,
}

/// What happens to a message no rule can use (rule 10.1).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum OnMalformed {
    /// Stop with an error.
    Raise,
    /// Count it; a book is broken by it.
    Drop,
}

/// Where a book starts (rule 3.7).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Seed {
    /// At the first snapshot.
    Snapshot,
    /// Empty, at the first message.
    Increments,
}

/// Which frames are put out (rule 5.5).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Emit {
    /// Every frame.
    Update,
    /// Frames in which a value or a flag changed.
    Change,
}

/// Which of the frames put out are kept (rule 5.6).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Those whose `seq` is a multiple.
    Frames(u64),
    /// The last one at or before each multiple of a period.
    Nanos(i64),
}

/// When kernels forget once a day (rule 3.6).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Resets {
    /// Instants, UTC nanoseconds, ascending.
    Instants(Vec<i64>),
    /// Multiples of a period, shifted.
    Period {
        /// Nanoseconds between two resets.
        period_ns: i64,
        /// Of the first one after 1970.
        offset_ns: i64,
    },
}

impl Resets {
    /// The first instant after `clock_ns`; `i64::MAX` if there is none.
    #[must_use]
    pub fn after(&self, clock_ns: i64) -> i64 {
        match self {
            Self::Instants(instants) => {
                instants.get(instants.partition_point(|&at| at <= clock_ns)).copied().unwrap_or(i64::MAX)
            }
            Self::Period { period_ns, offset_ns } => (clock_ns - offset_ns)
                .div_euclid(*period_ns)
                .checked_add(1)
                .and_then(|n| n.checked_mul(*period_ns))
                .and_then(|at| at.checked_add(*offset_ns))
                .unwrap_or(i64::MAX),
        }
    }
}

/// Whether an instrument trades (rule 3.12).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Trading {
    /// No session.
    Closed,
    /// Orders are taken, none is matched.
    PreOpen,
    /// Stopped for a while.
    Halted,
    /// Open.
    Trading,
}

impl Trading {
    /// The state a status event names (rule 2.1).
    #[must_use]
    pub const fn from_status(qty: i64) -> Option<Self> {
        match qty {
            0 => Some(Self::Closed),
            1 => Some(Self::PreOpen),
            2 => Some(Self::Halted),
            3 => Some(Self::Trading),
            _ => None,
        }
    }
}

/// One instrument.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SymbolConfig {
    /// Its name, for messages to people.
    #[serde(default)]
    pub symbol: String,
    /// Its number in events.
    pub symbol_id: u32,
    /// Tick in price units; 0 if unknown.
    #[serde(default)]
    pub tick: i64,
    /// VPIN bucket in size units; none if unknown.
    #[serde(default)]
    pub vpin_bucket: Option<i64>,
    /// Levels a side the feed shows; 0 for all.
    #[serde(default)]
    pub book_levels: usize,
    /// Milliseconds of lateness beyond which input is stale.
    pub stale_ms: i64,
    /// Source and local clock are the same.
    #[serde(default)]
    pub synchronised: bool,
    /// Equal best bid and ask are valid.
    #[serde(default)]
    pub locked_valid: bool,
    /// Daily resets; none switches them off.
    #[serde(default)]
    pub resets: Option<Resets>,
    /// `[open_ns, close_ns, state]`, ascending; none if the instrument always trades.
    #[serde(default)]
    pub sessions: Option<Vec<(i64, i64, Trading)>>,
}

impl SymbolConfig {
    /// Within these limits no arithmetic on prices and times leaves 64 bits.
    fn check(&self) -> Result<(), Error> {
        const TIMES: std::ops::RangeInclusive<i64> = -TIME_LIMIT_NS..=TIME_LIMIT_NS;
        let refuse = |found: String, expected: &str| Err(Error::Plan { found, expected: expected.into() });
        if !(0..MAGNITUDE_LIMIT).contains(&self.tick) {
            return refuse(format!("tick {}", self.tick), "0 to 2^53 - 1");
        }
        let resets = match &self.resets {
            None => true,
            Some(Resets::Instants(instants)) => instants.is_sorted(),
            Some(Resets::Period { period_ns, offset_ns }) => {
                *period_ns > 0 && TIMES.contains(period_ns) && TIMES.contains(offset_ns)
            }
        };
        if !resets {
            return refuse(
                format!("resets of symbol {}", self.symbol_id),
                "ascending times or a positive period",
            );
        }
        let mut before = i64::MIN;
        for &(open, close, _) in self.sessions.iter().flatten() {
            if open < before || close <= open {
                return refuse(format!("session [{open}, {close})"), "sessions one behind the other");
            }
            before = close;
        }
        Ok(())
    }
}

/// An engine's stream and instruments.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Instruments; events of any other are refused.
    pub symbols: Vec<SymbolConfig>,
    /// See [`OnGap`].
    pub on_gap: OnGap,
    /// See [`OnMalformed`].
    pub on_malformed: OnMalformed,
    /// See [`Seed`].
    pub seed: Seed,
    /// Frames after which a book of increments counts as whole.
    #[serde(default)]
    pub seed_after: Option<u64>,
    /// The source sends snapshots now and then.
    pub has_snapshots: bool,
    /// The source has a receive time.
    pub local_time: bool,
    /// The source names the aggressor.
    pub trade_sides: bool,
    /// See [`Emit`].
    pub emit: Emit,
    /// See [`Every`].
    #[serde(default)]
    pub every: Option<Every>,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`Error::Plan`] with what was found.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let refuse = |found: String, expected: &str| Error::Plan { found, expected: expected.into() };
        let config: Self = serde_json::from_str(text)
            .map_err(|error| refuse(error.to_string(), "an engine configuration"))?;
        let mut ids: Vec<u32> = config.symbols.iter().map(|symbol| symbol.symbol_id).collect();
        ids.sort_unstable();
        if ids.is_empty() || ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(refuse(format!("symbol ids {ids:?}"), "at least one, each once"));
        }
        if matches!(config.every, Some(Every::Frames(0))) || matches!(config.every, Some(Every::Nanos(..=0)))
        {
            return Err(refuse(format!("every = {:?}", config.every), "a positive number"));
        }
        config.symbols.iter().try_for_each(SymbolConfig::check)?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(symbol: &str) -> Result<Config, Error> {
        Config::from_json(&format!(
            r#"{{"symbols":[{{"symbol_id":1,"stale_ms":0{symbol}}}],"on_gap":"wait","on_malformed":"raise",
            "seed":"snapshot","has_snapshots":true,"local_time":true,"trade_sides":true,"emit":"update"}}"#
        ))
    }

    #[test]
    fn what_arithmetic_could_not_bear_is_refused() {
        assert!(with("").is_ok());
        assert!(with(r#","sessions":[[0,5,"trading"],[5,9,"closed"]],"resets":[-1,1,1]"#).is_ok());
        for symbol in [
            r#","tick":9007199254740992"#,
            r#","tick":-1"#,
            r#","resets":[2,1]"#,
            r#","resets":{"period_ns":0,"offset_ns":0}"#,
            r#","resets":{"period_ns":1,"offset_ns":-9223372036854775808}"#,
            r#","sessions":[[5,5,"trading"]]"#,
            r#","sessions":[[0,5,"trading"],[4,9,"closed"]]"#,
        ] {
            assert!(matches!(with(symbol), Err(Error::Plan { .. })), "{symbol}");
        }
    }
}
