//! One change of a market, 64 bytes. Rule 2.1 is the layout; `layout_is_pinned` holds it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Prices and sizes lie strictly inside ±2^53 (rule 1.2).
pub const MAGNITUDE_LIMIT: i64 = 1 << 53;

/// Times lie from 0 to below this, so that no difference of two leaves 64 bits.
pub const TIME_LIMIT_NS: i64 = 1 << 62;

/// `kind` of an [`Event`].
pub mod kind {
    /// No kind of the law: a message that could not be read. Guards count it as malformed (rule 10.1).
    pub const UNREADABLE: u8 = 0;
    /// One price level; size 0 deletes it.
    pub const LEVEL: u8 = 1;
    /// One trade.
    pub const TRADE: u8 = 2;
    /// The book, or a part of it (`BOUND`), is empty.
    pub const CLEAR: u8 = 3;
    /// One level of a full book.
    pub const SNAPSHOT_LEVEL: u8 = 4;
    /// One side of the venue's own best quote.
    pub const QUOTE: u8 = 5;
    /// Trading status; qty 0 closed, 1 pre-open, 2 halted, 3 trading.
    pub const STATUS: u8 = 6;
    /// A new order.
    pub const ADD: u8 = 10;
    /// Size taken away from an order; 0 takes all.
    pub const CANCEL: u8 = 11;
    /// New price and size of an order.
    pub const MODIFY: u8 = 12;
    /// Size executed against an order.
    pub const EXECUTE: u8 = 13;
}

/// `side` of an [`Event`].
pub mod side {
    /// Not known, or of no meaning for the kind.
    pub const NONE: u8 = 0;
    /// Bid, or buy aggressor.
    pub const BID: u8 = 1;
    /// Ask, or sell aggressor.
    pub const ASK: u8 = 2;
}

/// Bits of `flags` of an [`Event`].
pub mod flag {
    /// The last event of its message.
    pub const LAST: u16 = 1 << 0;
    /// This snapshot restarts the book.
    pub const RECOVERY: u16 = 1 << 1;
    /// A level that came into view from beyond the feed's depth.
    pub const REVEALED: u16 = 1 << 2;
    /// A level that left the feed's view.
    pub const CONCEALED: u16 = 1 << 3;
    /// An execution against a hidden order.
    pub const HIDDEN: u16 = 1 << 4;
    /// Not a market trade; counted, read by no kernel.
    pub const NOT_MARKET: u16 = 1 << 5;
    /// The aggressor was inferred by the source, not sent by the venue.
    pub const SIDE_INFERRED: u16 = 1 << 6;
    /// A clear from the best level to `price`, inclusive.
    pub const BOUND: u16 = 1 << 7;
}

/// One change, 64 bytes, little-endian, no padding: the same bytes in NumPy, a memory map and here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// One of [`kind`].
    pub kind: u8,
    /// One of [`side`].
    pub side: u8,
    /// Bits of [`flag`].
    pub flags: u16,
    /// The instrument, as its instruments file numbers it.
    pub symbol_id: u32,
    /// Price in units of 10^-`price_exponent`.
    pub price: i64,
    /// Size in units of 10^-`qty_exponent`.
    pub qty: i64,
    /// The order, where the source has one.
    pub order_id: u64,
    /// The message covers the ids (`seq_prev`, `seq_last`]; 0, 0 if the venue has none.
    pub seq_last: u64,
    /// See `seq_last`.
    pub seq_prev: u64,
    /// When the venue says it happened, UTC nanoseconds since 1970.
    pub source_ts_ns: i64,
    /// When we received it, UTC nanoseconds since 1970.
    pub local_ts_ns: i64,
}

/// Kind, side, flags and symbol of an [`Event`], as they lie in memory: looked at together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventHead(u64);

impl EventHead {
    const KIND: u64 = 0xff;
    const SIDE: u64 = 0xff << 8;
    const SYMBOL: u64 = 0xffff_ffff << 32;

    /// Of this kind and symbol, and nothing else.
    pub(crate) fn of(kind: u8, symbol_id: u32) -> Self {
        Self(u64::from(kind) | u64::from(symbol_id) << 32)
    }

    /// It has the kind and the symbol of another one.
    #[inline]
    pub(crate) const fn is_like(self, other: Self) -> bool {
        (self.0 ^ other.0) & (Self::KIND | Self::SYMBOL) == 0
    }

    const fn flag(flag: u16) -> u64 {
        (flag as u64) << 16
    }

    /// A level of an ordinary message.
    #[inline]
    pub(crate) const fn is_level(self) -> bool {
        self.0 & (Self::KIND | Self::flag(flag::RECOVERY)) == kind::LEVEL as u64
    }

    #[inline]
    pub(crate) const fn is_bid(self) -> bool {
        self.0 & Self::SIDE == (side::BID as u64) << 8
    }

    #[inline]
    pub(crate) const fn is_last(self) -> bool {
        self.0 & Self::flag(flag::LAST) != 0
    }
}

impl Event {
    /// See [`EventHead`].
    #[inline]
    pub(crate) fn head(&self) -> EventHead {
        let words: &[u64; 8] = zerocopy::transmute_ref!(self);
        EventHead(u64::from_le(words[0]))
    }

    /// Whether the message ends here.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.flags & flag::LAST != 0
    }

    /// Whether this is a trade that kernels may read (rule 2.5).
    #[must_use]
    pub const fn is_market_trade(&self) -> bool {
        self.kind == kind::TRADE && self.flags & flag::NOT_MARKET == 0
    }

    /// Whether the other event belongs to the same message (rule 2.2).
    #[must_use]
    pub const fn same_message(&self, other: &Self) -> bool {
        self.symbol_id == other.symbol_id
            && self.seq_last == other.seq_last
            && self.seq_prev == other.seq_prev
            && self.source_ts_ns == other.source_ts_ns
            && self.local_ts_ns == other.local_ts_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_pinned() {
        let event = Event {
            kind: 1,
            side: 2,
            flags: 0x0403,
            symbol_id: 5,
            price: -6,
            qty: 7,
            order_id: 8,
            seq_last: 9,
            seq_prev: 10,
            source_ts_ns: 11,
            local_ts_ns: 12,
        };
        let bytes = event.as_bytes();
        assert_eq!(bytes.len(), 64);
        assert_eq!(&bytes[..8], &[1, 2, 3, 4, 5, 0, 0, 0]);
        for (offset, value) in [(8, -6i64), (16, 7), (24, 8), (32, 9), (40, 10), (48, 11), (56, 12)] {
            assert_eq!(&bytes[offset..offset + 8], &value.to_le_bytes(), "offset {offset}");
        }
    }
}
