//! Messages as they come, one call each, of one instrument or several.
//!
//! Twin of `featureplane/market/sources/binance_feed.py`.

use memchr::memmem::Finder;

use super::events::{Output, Reader};
use super::judge::Meaning;
use super::levels::Sides;
use super::{Counts, Market, Receiver};
use crate::error::Error;
use crate::event::Event;
use crate::normalize::decimal::Scaled;

/// How far a message is looked at to guess its symbol.
const GUESS_BYTES: usize = 256;

/// One instrument of a feed.
#[derive(Clone, Debug)]
pub struct Lane {
    /// As the venue writes it.
    pub symbol: String,
    /// What events will name it.
    pub symbol_id: u32,
    /// How its prices and sizes are read.
    pub decimals: Scaled,
}

/// What is known of a message beside its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// When it came; None: it begins with its local time, as recorded.
    pub local_ts_ns: Option<i64>,
    /// Which instrument was asked for, counted from 0: an answer that names none is that one's.
    pub lane: Option<usize>,
}

/// Reads messages of the instruments it is given; those of others are counted.
#[derive(Debug)]
pub struct Feed {
    readers: Vec<Reader>,
    /// The symbols, and each as it stands in a message.
    names: Vec<(String, Finder<'static>)>,
    lane: usize,
    local_max: i64,
    messages: u64,
    bytes_max: usize,
    drop_malformed: bool,
}

impl Feed {
    /// A feed of `lanes`, with messages of at most `bytes_max` bytes. With `drop_malformed` one that cannot be
    /// read is no error: a trade or quote is counted, anything else becomes an event of kind 0.
    #[must_use]
    pub fn new(lanes: &[Lane], market: Market, drop_malformed: bool, bytes_max: usize) -> Self {
        let reader = |lane: &Lane| {
            Reader::new(&lane.symbol, lane.symbol_id, lane.decimals, market, drop_malformed, bytes_max)
        };
        let name = |lane: &Lane| {
            let quoted = format!("\"{}\"", lane.symbol);
            (lane.symbol.clone(), Finder::new(quoted.as_bytes()).into_owned())
        };
        Self {
            readers: lanes.iter().map(reader).collect(),
            names: lanes.iter().map(name).collect(),
            lane: 0,
            local_max: 0,
            messages: 0,
            bytes_max,
            drop_malformed,
        }
    }

    /// Appends the events of one whole message.
    ///
    /// A snapshot that names no symbol counts where there is one instrument or it is said which is meant; else
    /// what cannot be read at all may have been of the book of any.
    ///
    /// # Errors
    ///
    /// A malformed message, with its number from 1; `out` is as it was.
    pub fn read(&mut self, text: &[u8], how: Received, out: &mut Vec<Event>) -> Result<(), Error> {
        self.messages += 1;
        let lane = how.lane.filter(|&lane| lane < self.names.len()).unwrap_or_else(|| self.guess(text));
        let (elsewhere, lost) = self.read_as(lane, text, how, out)?;
        if let Some(lane) = elsewhere {
            self.read_as(lane, text, how, out)?;
        }
        if let Some(local) = lost {
            for Reader { maker, .. } in &mut self.readers {
                Output { maker, out }.lost(local);
            }
        }
        Ok(())
    }

    /// Whose it is if not this instrument's, and when something was lost that may have been anyone's.
    fn read_as(
        &mut self,
        lane: usize,
        text: &[u8],
        how: Received,
        out: &mut Vec<Event>,
    ) -> Result<(Option<usize>, Option<i64>), Error> {
        let Some(Reader { stream, maker }) = self.readers.get_mut(lane) else { return Ok((None, None)) };
        self.lane = lane;
        stream.stage.local_max = self.local_max;
        let output = Output { maker, out };
        let told = how.lane == Some(lane);
        let names = &self.names;
        let mut routed = Routed { output, names, told, named: false, elsewhere: None, lost: None };
        let limits = (self.messages, self.bytes_max);
        let read = stream.stage.message(limits, text, how.local_ts_ns, &mut routed);
        let Routed { elsewhere, lost, .. } = routed;
        self.local_max = stream.stage.local_max;
        read.map(|()| (elsewhere, lost))
    }

    /// Whose message it may be; a wrong guess costs time and nothing else.
    fn guess(&self, text: &[u8]) -> usize {
        if self.names.len() == 1 {
            return 0;
        }
        let start = &text[..text.len().min(GUESS_BYTES)];
        self.names.iter().position(|(_, quoted)| quoted.find(start).is_some()).unwrap_or(0)
    }

    /// Whether a message that cannot be read is no error.
    #[must_use]
    pub const fn drops_malformed(&self) -> bool {
        self.drop_malformed
    }

    /// Which instrument the last message was read as one of, counted from 0.
    #[must_use]
    pub const fn lane(&self) -> usize {
        self.lane
    }

    /// What was left out so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.readers.iter().fold(Counts::default(), |sum, reader| sum.plus(reader.counts()))
    }
}

struct Routed<'a> {
    output: Output<'a>,
    names: &'a [(String, Finder<'static>)],
    /// Whether this instrument was asked for.
    told: bool,
    /// Whether the message is known to be one of this instrument.
    named: bool,
    elsewhere: Option<usize>,
    lost: Option<i64>,
}

impl Receiver<Scaled> for Routed<'_> {
    fn wants(&mut self, symbol: Option<&[u8]>, counts: &mut Counts) -> bool {
        match symbol {
            Some(name) if name != self.output.maker.symbol.as_bytes() => {
                self.elsewhere = self.names.iter().position(|(known, _)| known.as_bytes() == name);
                if self.elsewhere.is_some() {
                    return false;
                }
            }
            None if self.told => {
                self.named = true;
                return true;
            }
            None if self.names.len() > 1 => {
                counts.unnamed_snapshot += 1;
                return false;
            }
            _ => {}
        }
        self.named = self.output.wants(symbol, counts);
        self.named
    }

    fn take(&mut self, local: i64, meaning: Meaning<i64>, sides: &Sides<i64>) {
        self.output.take(local, meaning, sides);
    }

    fn lost(&mut self, local: i64) {
        if self.named || self.told {
            self.output.lost(local);
        } else {
            self.lost = Some(local);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::kind;

    const LOCAL: i64 = 1_723_161_254_000_000_000;

    fn feed(symbols: &[&str], drop_malformed: bool) -> Feed {
        let lane = |(id, symbol): (u32, &&str)| {
            let decimals = Scaled { price_exponent: u8::try_from(id).unwrap(), qty_exponent: 3 };
            Lane { symbol: (*symbol).to_owned(), symbol_id: id, decimals }
        };
        let lanes: Vec<Lane> = (1..).zip(symbols).map(lane).collect();
        Feed::new(&lanes, Market::Spot, drop_malformed, 400)
    }

    fn trade(symbol: &str) -> String {
        format!(
            r#"{{"e":"trade","E":1723161254,"s":"{symbol}","t":7,"p":"12.5","q":"0.25","m":true,"M":true}}"#
        )
    }

    fn read(feed: &mut Feed, text: &str, local: Option<i64>) -> Result<Vec<Event>, Error> {
        let mut out = Vec::new();
        let how = Received { local_ts_ns: local, lane: None };
        feed.read(text.as_bytes(), how, &mut out).map(|()| out)
    }

    #[test]
    fn a_message_alone_is_the_recorded_one() {
        let text = trade("ETHUSDT");
        let alone = read(&mut feed(&["ETHUSDT"], false), &text, Some(LOCAL)).unwrap();
        assert_eq!((alone.len(), alone[0].price, alone[0].local_ts_ns), (1, 125, LOCAL));
        for end in ["", "\n", "\r\n"] {
            let line = format!("{LOCAL} {text}{end}");
            assert_eq!(read(&mut feed(&["ETHUSDT"], false), &line, None).as_ref(), Ok(&alone));
        }
    }

    #[test]
    fn each_message_is_read_as_one_of_its_instrument() {
        let mut feed = feed(&["ETHUSDT", "BTCUSDT"], false);
        for _ in 0..3 {
            for (id, symbol, price) in [(2, "BTCUSDT", 1250), (1, "ETHUSDT", 125)] {
                let events = read(&mut feed, &trade(symbol), Some(LOCAL)).unwrap();
                assert_eq!((events[0].symbol_id, events[0].price, events.len()), (id, price, 1));
            }
        }
        // A name that stands elsewhere in the message leads the guess astray, not the reading.
        let text = trade("BTCUSDT").replacen('{', r#"{"x":"ETHUSDT","#, 1);
        assert_eq!(read(&mut feed, &text, Some(LOCAL)).unwrap()[0].symbol_id, 2);
        assert_eq!(feed.lane(), 1);
        assert_eq!(feed.counts(), Counts::default());
        assert_eq!(read(&mut feed, &trade("XRPUSDT"), Some(LOCAL)), Ok(vec![]));
        assert_eq!(feed.counts().other_symbol, 1);
    }

    #[test]
    fn what_cannot_be_read_is_lost_to_whom_it_may_concern() {
        let mut feed = feed(&["ETHUSDT", "BTCUSDT"], true);
        let lost = |events: Vec<Event>| -> Vec<(u8, u32, i64)> {
            events.iter().map(|event| (event.kind, event.symbol_id, event.local_ts_ns)).collect()
        };
        let long = "x".repeat(401);
        for text in ["{", "", "[]", long.as_str()] {
            let events = read(&mut feed, text, Some(LOCAL)).unwrap();
            assert_eq!(lost(events), [(0, 1, LOCAL), (0, 2, LOCAL)], "{text}");
        }
        let diff = r#"{"e":"depthUpdate","E":1723161254,"s":"BTCUSDT","U":0,"u":2,"b":[],"a":[]}"#;
        assert_eq!(lost(read(&mut feed, diff, Some(LOCAL)).unwrap()), [(0, 2, LOCAL)]);
        let bad = trade("BTCUSDT").replace("12.5", "12.5.");
        assert_eq!(read(&mut feed, &bad, Some(LOCAL)), Ok(vec![]));
        assert_eq!(feed.counts().malformed, 1);
    }

    #[test]
    fn a_snapshot_without_a_name_needs_a_feed_of_one() {
        let text = r#"{"lastUpdateId":5,"bids":[["1.5","2"]],"asks":[]}"#;
        let events = read(&mut feed(&["ETHUSDT"], false), text, Some(LOCAL)).unwrap();
        assert_eq!(events.iter().filter(|event| event.kind == kind::CLEAR).count(), 2);
        let mut several = feed(&["ETHUSDT", "BTCUSDT"], false);
        assert_eq!(read(&mut several, text, Some(LOCAL)), Ok(vec![]));
        assert_eq!(several.counts().unnamed_snapshot, 1);
        for lane in 0..2 {
            let (how, mut out) = (Received { local_ts_ns: Some(LOCAL), lane: Some(lane) }, Vec::new());
            several.read(text.as_bytes(), how, &mut out).unwrap();
            assert!(out.len() == 3 && out.iter().all(|event| event.symbol_id as usize == lane + 1));
        }
    }

    #[test]
    fn an_error_names_the_message() {
        let mut feed = feed(&["ETHUSDT"], false);
        read(&mut feed, &trade("ETHUSDT"), Some(LOCAL)).unwrap();
        let Err(Error::Malformed { place, .. }) = read(&mut feed, "{}x", Some(LOCAL)) else {
            panic!("no error");
        };
        assert_eq!(place.line, Some(2));
    }
}
