//! Who is let in: sequences, duplicates, gaps and snapshots of one symbol (rule 3).
//!
//! Twin of `featureplane/market/quality.py`. "Reading n" is a paragraph of
//! `docs/decisions/0002-readings-of-the-law.md`.

mod chain;
mod join;

use std::collections::VecDeque;

use crate::event::Event;
use crate::frame::quality::{GAP_DETECTED, OUT_OF_ORDER_INPUT};
use crate::message::{Channel, Message};

pub use chain::{Base, Chain, Place};
use join::latest;

/// Messages kept while a book waits for its snapshot.
pub const BUFFER_MESSAGES: usize = 4_096;

/// Why something was not used. Names are those of counters and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`NAMES` and rule 3 say what each is")]
pub enum Reason {
    BeforeSnapshot,
    Late,
    Duplicate,
    Redundant,
    SnapshotTooOld,
    BufferOverflow,
    Malformed,
    EmptyTrade,
    Incomplete,
}

impl Reason {
    /// Names in the order of the counts.
    pub const NAMES: [&'static str; 9] = [
        "before_snapshot",
        "late",
        "duplicate",
        "redundant",
        "snapshot_too_old",
        "buffer_overflow",
        "malformed",
        "empty_trade",
        "incomplete",
    ];
}

/// Drops by reason.
pub type Drops = [u64; Reason::NAMES.len()];

/// Whether a book can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Before the first snapshot.
    Waiting,
    /// The book is what the venue's book is.
    Whole,
    /// Something is missing.
    Broken,
}

/// Why a book is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is not.
    None,
    /// Ids are missing; the missing messages heal it.
    Gap,
    /// Crossed for more than a second; only a snapshot helps.
    Crossed,
    /// A message could not be used; the same message again heals it.
    Malformed,
    /// A queue was full; only a snapshot helps.
    Queue,
}

impl Cause {
    /// Names in the order of the counts; that of the first is none of them.
    pub const NAMES: [&'static str; 5] = ["none", "gap", "crossed", "malformed", "queue"];
}

/// What becomes of a book message.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing moves but a count, and the flags given wait for the next frame.
    Drop(Reason, u32),
    /// Kept or lost while the book cannot be read: only its trades are.
    Unread,
    /// Applied as it is.
    Plain,
    /// The gap before it is passed over (`on_gap="continue"`), and it is applied.
    Passed,
    /// The book breaks here; the message is kept if it has ids.
    Break,
    /// Ids are missing and `on_gap="refuse"`: the id before which the next message begins.
    Refuse(u64),
    /// One message made of several.
    Joined(Joined),
}

/// Where a message of a channel that waits for nothing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// It is new.
    New,
    /// It was there before.
    Old(Reason),
    /// It is new, and ids behind the one given are missing.
    Gap(u64),
}

/// Several messages that count as one.
#[derive(Debug)]
pub struct Joined {
    /// What to apply, in order.
    pub events: Vec<Event>,
    /// The book is emptied before.
    pub replaces: bool,
    /// The kernels of the book are reset.
    pub resets: bool,
    /// The latest time among them.
    pub source_ts_ns: i64,
    /// For the frame.
    pub flags: u32,
    /// A gap among the kept ones: the book is broken again, and there is no frame.
    pub torn: bool,
    /// A gap among the kept ones was passed over.
    pub passed: bool,
}

/// Settings of the stream the guard stands before.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Gaps of the book are passed over.
    pub pass_gaps: bool,
    /// Gaps are an error.
    pub refuse_gaps: bool,
    /// The book starts empty at the first message.
    pub seed_increments: bool,
}

/// The guard of one symbol.
#[derive(Clone, Debug)]
pub struct Guard {
    pub(crate) state: State,
    pub(crate) cause: Cause,
    pub(crate) book: Chain,
    pub(crate) trade: Chain,
    pub(crate) buffer: VecDeque<Box<[Event]>>,
    /// A gap was passed over and no snapshot has come since.
    pub(crate) passed: bool,
    /// The book grew from increments and no snapshot has come since.
    pub(crate) seeded: bool,
    pub(crate) status: Chain,
    pub(crate) drops: Drops,
    pub(crate) breaks: [u64; 5],
    /// Holes by channel, in the order of [`crate::message::Channel`].
    pub(crate) gaps: [u64; 4],
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            state: State::Waiting,
            cause: Cause::None,
            book: Chain::default(),
            trade: Chain::default(),
            buffer: VecDeque::new(),
            passed: false,
            seeded: false,
            status: Chain::default(),
            drops: Drops::default(),
            breaks: [0; 5],
            gaps: [0; 4],
        }
    }
}

impl Guard {
    pub(crate) fn count(&mut self, reason: Reason) {
        self.drops[reason as usize] += 1;
    }

    /// The book cannot be read from here on.
    pub(crate) fn break_book(&mut self, cause: Cause) {
        self.state = State::Broken;
        self.cause = cause;
        self.buffer.clear();
        self.breaks[cause as usize] += 1;
    }

    /// A connection without proof that it continues the one before: all ids are forgotten, and the book
    /// waits. Whether there was one to wait for no longer.
    pub(crate) fn reconnect(&mut self) -> bool {
        let had_book = self.state != State::Waiting;
        let (drops, breaks, gaps) = (self.drops, self.breaks, self.gaps);
        *self = Self { drops, breaks, gaps, ..Self::default() };
        had_book
    }

    /// Follows the ids of a channel that waits for nothing, trades or status.
    pub(crate) fn follow(&mut self, channel: Channel, message: &Message<'_>) -> Followed {
        let head = message.head();
        let chain = if channel == Channel::Trade { &mut self.trade } else { &mut self.status };
        if !message.is_sequenced() {
            return Followed::New;
        }
        match chain.place(head) {
            Place::Next | Place::Overlap => {
                chain.apply(head);
                Followed::New
            }
            Place::Before => Followed::Old(Reason::Late),
            Place::Duplicate => Followed::Old(Reason::Duplicate),
            Place::Gap => {
                let applied = chain.applied;
                chain.pass(head);
                self.gaps[channel as usize] += 1;
                Followed::Gap(applied)
            }
        }
    }

    /// Judges a message of the book channel. The caller counts what is dropped.
    #[inline]
    pub(crate) fn judge(&mut self, message: &Message<'_>, policy: Policy) -> Verdict {
        if self.state == State::Whole && !message.is_snapshot() {
            return self.judge_whole(message, policy);
        }
        self.judge_otherwise(message, policy)
    }

    #[inline]
    fn judge_whole(&mut self, message: &Message<'_>, policy: Policy) -> Verdict {
        if !message.is_sequenced() {
            return Verdict::Plain;
        }
        let head = message.head();
        let place = match self.book.place(head) {
            Place::Overlap if message.has_orders() => Place::Gap,
            place => place,
        };
        match place {
            Place::Before | Place::Duplicate => self.repeated(place),
            Place::Next | Place::Overlap => {
                self.book.apply(head);
                Verdict::Plain
            }
            Place::Gap => {
                self.gaps[Channel::Book as usize] += 1;
                if policy.refuse_gaps {
                    return Verdict::Refuse(head.seq_prev);
                }
                if policy.pass_gaps {
                    self.book.pass(head);
                    self.passed = true;
                    return Verdict::Passed;
                }
                self.break_book(Cause::Gap);
                if !message.is_snapshot() {
                    self.keep(message);
                }
                Verdict::Break
            }
        }
    }

    fn repeated(&self, place: Place) -> Verdict {
        match place {
            Place::Before if self.book.kind == Base::Snapshot => Verdict::Drop(Reason::BeforeSnapshot, 0),
            Place::Before => Verdict::Drop(Reason::Late, OUT_OF_ORDER_INPUT),
            _ => Verdict::Drop(Reason::Duplicate, 0),
        }
    }

    fn judge_otherwise(&mut self, message: &Message<'_>, policy: Policy) -> Verdict {
        let sequenced = message.is_sequenced();
        if message.is_snapshot() {
            return match self.state {
                State::Whole if !message.is_recovery() => self.judge_whole(message, policy),
                _ if sequenced => self.join(message, policy),
                _ => self.restart(message),
            };
        }
        if sequenced {
            let place = self.book.place(message.head());
            if matches!(place, Place::Before | Place::Duplicate) {
                return self.repeated(place);
            }
        }
        if self.state == State::Waiting && policy.seed_increments {
            self.state = State::Whole;
            self.seeded = true;
            if sequenced {
                self.book.apply(message.head());
            }
            return Verdict::Plain;
        }
        if !sequenced {
            return self.unsequenced(message);
        }
        let heals = self.state == State::Broken && matches!(self.cause, Cause::Gap | Cause::Malformed);
        if heals && self.book.is_set() {
            return self.heal(message, policy);
        }
        self.keep_or_drop(message)
    }

    /// Without ids nothing can be joined, but a clear says that the book is empty.
    fn unsequenced(&mut self, message: &Message<'_>) -> Verdict {
        if !message.has_clear() {
            self.count(Reason::BeforeSnapshot);
            return Verdict::Unread;
        }
        self.begin_without_ids();
        let flags = self.whole_again(true);
        Verdict::Joined(Joined {
            events: message.events.to_vec(),
            replaces: true,
            resets: false,
            source_ts_ns: message.head().source_ts_ns,
            flags,
            torn: false,
            passed: false,
        })
    }

    /// Flags of the frame with which the book is whole; it `begins` with a full book, or was healed.
    fn whole_again(&mut self, begins: bool) -> u32 {
        let lost = self.state == State::Broken || (begins && self.passed);
        (self.state, self.cause) = (State::Whole, Cause::None);
        if begins {
            (self.passed, self.seeded) = (false, false);
        }
        if lost { GAP_DETECTED } else { 0 }
    }

    /// What was held cannot be joined to a book without ids, nor what comes to its chain.
    fn begin_without_ids(&mut self) {
        self.drops[Reason::BeforeSnapshot as usize] += self.buffer.len() as u64;
        self.buffer.clear();
        self.book = Chain::default();
    }

    /// A snapshot without ids: the chain starts anew.
    fn restart(&mut self, message: &Message<'_>) -> Verdict {
        let times = self.buffer.iter().map(|kept| kept[0].source_ts_ns).max();
        self.begin_without_ids();
        let begins = self.state != State::Whole;
        let flags = self.whole_again(true);
        Verdict::Joined(Joined {
            events: message.events.to_vec(),
            replaces: begins || !message.has_clear(),
            resets: message.is_recovery(),
            source_ts_ns: latest(message.head(), times),
            flags,
            torn: false,
            passed: false,
        })
    }
}
