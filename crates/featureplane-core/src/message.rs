//! One venue message: where it ends, what is in it, and whether the rules can use it (rule 2.2).

use crate::error::{Error, Place};
use crate::event::{Event, MAGNITUDE_LIMIT, TIME_LIMIT_NS, flag, kind, side};

const fn bit(kind: u8) -> u32 {
    1 << kind
}

const ORDERS: u32 = bit(kind::ADD) | bit(kind::CANCEL) | bit(kind::MODIFY) | bit(kind::EXECUTE);

/// Sides each kind may have, as bits; 0 for kinds that do not exist.
const SIDES: [u8; 16] = {
    let one = 1 << side::BID | 1 << side::ASK;
    let any = one | 1 << side::NONE;
    let mut table = [0; 16];
    table[kind::LEVEL as usize] = one;
    table[kind::TRADE as usize] = any;
    table[kind::CLEAR as usize] = any;
    table[kind::SNAPSHOT_LEVEL as usize] = one;
    table[kind::QUOTE as usize] = one;
    table[kind::STATUS as usize] = any;
    table[kind::ADD as usize] = one;
    table[kind::CANCEL as usize] = any;
    table[kind::MODIFY as usize] = any;
    table[kind::EXECUTE as usize] = any;
    table
};

/// Which stream of ids a message belongs to (rule 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Everything else; may carry trades.
    Book,
    /// All events are trades.
    Trade,
    /// All events are best quotes.
    Quote,
    /// All events are status.
    Status,
}

impl Channel {
    /// The name used in errors and counts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Book => "book",
            Self::Trade => "trade",
            Self::Quote => "quote",
            Self::Status => "status",
        }
    }
}

/// One complete message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its events; never empty.
    pub events: &'a [Event],
    facts: Facts,
}

/// What a message holds, gathered in one pass.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    kinds: u32,
    flags: u16,
    empty_trades: bool,
    trades: bool,
    market_trades: bool,
}

impl Facts {
    #[inline]
    fn note(&mut self, event: &Event) {
        self.kinds |= 1 << (event.kind & 31);
        // Empty trades are taken out of their message, and what they say with them (reading 3).
        let empty = event.kind == kind::TRADE && event.qty == 0;
        self.flags |= if empty { 0 } else { event.flags };
        if event.kind == kind::TRADE {
            self.empty_trades |= empty;
            self.trades |= !empty;
            self.market_trades |= event.is_market_trade() && event.qty > 0;
        }
    }
}

impl<'a> Message<'a> {
    /// The first event, which carries ids and times for all.
    #[must_use]
    pub fn head(&self) -> &'a Event {
        &self.events[0]
    }

    /// See [`Channel`].
    #[must_use]
    pub const fn channel(&self) -> Channel {
        channel(self.facts.kinds)
    }

    /// Whether it has ids.
    #[must_use]
    pub fn is_sequenced(&self) -> bool {
        self.head().seq_last != 0 || self.head().seq_prev != 0
    }

    /// A full book, or the start of one (reading 5).
    #[must_use]
    pub fn is_snapshot(&self) -> bool {
        self.facts.kinds & bit(kind::SNAPSHOT_LEVEL) != 0 || self.is_recovery()
    }

    /// A snapshot that restarts the book.
    #[must_use]
    pub const fn is_recovery(&self) -> bool {
        self.facts.flags & flag::RECOVERY != 0
    }

    /// Whether a clear event says what goes.
    #[must_use]
    pub const fn has_clear(&self) -> bool {
        self.facts.kinds & bit(kind::CLEAR) != 0
    }

    /// Whether it changes orders.
    #[must_use]
    pub const fn has_orders(&self) -> bool {
        self.facts.kinds & ORDERS != 0
    }

    /// Whether it has trades of any kind, empty ones apart.
    #[must_use]
    pub const fn has_trades(&self) -> bool {
        self.facts.trades
    }

    /// Whether it has status events.
    #[must_use]
    pub const fn has_status(&self) -> bool {
        self.facts.kinds & bit(kind::STATUS) != 0
    }

    /// Whether kernels may read a trade of it.
    #[must_use]
    pub const fn has_market_trades(&self) -> bool {
        self.facts.market_trades
    }

    /// Trades that kernels may read, in order.
    pub fn market_trades(&self) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(|event| event.is_market_trade() && event.qty > 0)
    }

    /// Trades of size 0 (rule 1.2).
    #[must_use]
    pub fn empty_trades(&self) -> u64 {
        if !self.facts.empty_trades {
            return 0;
        }
        self.events.iter().filter(|event| event.kind == kind::TRADE && event.qty == 0).count() as u64
    }

    /// A view of events that are known to be one good message.
    #[must_use]
    pub fn of(events: &'a [Event]) -> Self {
        let mut facts = Facts::default();
        for event in events {
            facts.note(event);
        }
        Self { events, facts }
    }
}

const fn channel(kinds: u32) -> Channel {
    const TRADE: u32 = bit(kind::TRADE);
    const QUOTE: u32 = bit(kind::QUOTE);
    const STATUS: u32 = bit(kind::STATUS);
    match kinds {
        TRADE => Channel::Trade,
        QUOTE => Channel::Quote,
        STATUS => Channel::Status,
        _ => Channel::Book,
    }
}

/// What stands at the start of a run of events.
#[derive(Debug)]
pub enum Next<'a> {
    /// A complete message.
    Message(Message<'a>),
    /// A message no rule can use.
    Malformed {
        /// All of it, to be passed over; none if its end is not in the run.
        events: &'a [Event],
        /// The event that shows it.
        at: &'a Event,
        /// What is wrong; its offset counts from the start of the run.
        error: Error,
    },
    /// The run ends before `LAST`.
    Incomplete,
}

/// Takes the message at the start of `run`, which must not be empty.
#[inline]
#[must_use]
pub fn take(run: &[Event]) -> Next<'_> {
    let head = &run[0];
    let mut facts = Facts::default();
    // One test a message: violations are gathered, and looked for in order only when there is one.
    let mut bad = u64::from(head.seq_prev > head.seq_last)
        | (head.source_ts_ns | head.local_ts_ns).cast_unsigned() & !(TIME_LIMIT_NS - 1).cast_unsigned();
    for (at, event) in run.iter().enumerate() {
        facts.note(event);
        bad |= violations(event, head);
        if bad != 0 {
            return malformed(run, at);
        }
        if event.is_last() {
            return Next::Message(Message { events: &run[..=at], facts });
        }
    }
    Next::Incomplete
}

/// [`take`] for events that are known to keep the rules: what our readers made, or was checked before.
#[inline]
#[must_use]
pub fn take_trusted(run: &[Event]) -> Option<Message<'_>> {
    let mut facts = Facts::default();
    for (at, event) in run.iter().enumerate() {
        facts.note(event);
        if event.is_last() {
            return Some(Message { events: &run[..=at], facts });
        }
    }
    None
}

#[inline]
fn violations(event: &Event, head: &Event) -> u64 {
    let sides = SIDES[usize::from(event.kind & 15)];
    let named = u64::from(event.kind & 0xf0) | u64::from(event.side & 0xf8) | u64::from(event.flags & 0xff00);
    let allowed = u64::from(sides >> (event.side & 7) & 1) ^ 1;
    let price = (event.price.unsigned_abs() >> 53) | (event.qty.cast_unsigned() >> 53);
    let status = u64::from(event.kind == kind::STATUS) & (event.qty.cast_unsigned() >> 2);
    let same = (u64::from(event.symbol_id ^ head.symbol_id))
        | (event.seq_last ^ head.seq_last)
        | (event.seq_prev ^ head.seq_prev)
        | (event.source_ts_ns ^ head.source_ts_ns).cast_unsigned()
        | (event.local_ts_ns ^ head.local_ts_ns).cast_unsigned();
    named | allowed | price | status | same
}

#[cold]
fn malformed(run: &[Event], at: usize) -> Next<'_> {
    let (head, event) = (&run[0], &run[at]);
    let fault = describe(event);
    let sound = fault.is_none();
    let (found, expected) =
        fault.unwrap_or_else(|| ("another message".into(), "the rest of one that has no LAST".into()));
    let error = Error::malformed(found, expected, Place::offset(64 * at as u64));
    // A good event of another message ends one that lacks its LAST; else the message goes on to it.
    let end = if sound || event.symbol_id != head.symbol_id {
        at
    } else {
        let rest = &run[at..];
        let of_another = |event: &Event| event.symbol_id != head.symbol_id;
        match rest.iter().position(|event| event.is_last() || of_another(event)) {
            Some(end) if of_another(&rest[end]) => at + end,
            Some(end) => at + end + 1,
            None => 0,
        }
    };
    Next::Malformed { events: &run[..end], at: event, error }
}

/// The first rule an event breaks by itself, in the order of reading 1.
fn describe(event: &Event) -> Option<(String, String)> {
    let sides = SIDES.get(usize::from(event.kind)).copied().unwrap_or(0);
    if sides == 0 {
        return Some((format!("kind {}", event.kind), "kind 1 to 6 or 10 to 13".into()));
    }
    if event.flags & 0xff00 != 0 {
        return Some((format!("flags {:#06x}", event.flags), "bits 0 to 7".into()));
    }
    if event.side > 7 || sides >> event.side & 1 == 0 {
        let expected = if sides & 1 == 0 { "side 1 or 2" } else { "side 0 to 2" };
        return Some((format!("side {} for kind {}", event.side, event.kind), expected.into()));
    }
    if event.price.unsigned_abs() >= MAGNITUDE_LIMIT.unsigned_abs() {
        return Some((format!("price {}", event.price), "a magnitude below 2^53".into()));
    }
    if event.kind == kind::STATUS && !(0..=3).contains(&event.qty) {
        return Some((format!("qty {}", event.qty), "0 to 3".into()));
    }
    if !(0..MAGNITUDE_LIMIT).contains(&event.qty) {
        return Some((format!("qty {}", event.qty), "0 to 2^53 - 1".into()));
    }
    if event.seq_prev > event.seq_last {
        return Some((
            format!("ids ({}, {}]", event.seq_prev, event.seq_last),
            "ids in ascending order".into(),
        ));
    }
    for (name, time) in [("source_ts_ns", event.source_ts_ns), ("local_ts_ns", event.local_ts_ns)] {
        if !(0..TIME_LIMIT_NS).contains(&time) {
            return Some((format!("{name} {time}"), "0 to 2^62 - 1".into()));
        }
    }
    None
}

/// Channel of events that make no good message; a kind that does not exist counts as book.
#[must_use]
pub fn channel_of(events: &[Event]) -> Channel {
    channel(events.iter().fold(0, |kinds, event| kinds | 1u32.checked_shl(event.kind.into()).unwrap_or(1)))
}
