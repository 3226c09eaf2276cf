//! Messages that came too early are joined to a snapshot, or close the hole they wait behind.

use super::{BUFFER_MESSAGES, Base, Cause, Chain, Guard, Joined, Place, Policy, Reason, State, Verdict};
use crate::event::{Event, flag, kind};
use crate::frame::quality::OUT_OF_ORDER_INPUT;
use crate::message::{Channel, Message};

impl Guard {
    /// A snapshot with ids (rule 3.7, reading 13).
    pub(super) fn join(&mut self, message: &Message<'_>, policy: Policy) -> Verdict {
        let snapshot = message.head().seq_last;
        if self.state == State::Whole && self.book.is_set() && snapshot <= self.book.applied {
            return Verdict::Drop(Reason::Redundant, 0);
        }
        let kept = self.sorted(snapshot);
        let too_old = match kept.first() {
            Some(first) => self.buffer[*first][0].seq_prev > snapshot,
            None => self.book.is_set() && snapshot < self.book.applied,
        };
        if too_old {
            return Verdict::Drop(Reason::SnapshotTooOld, 0);
        }
        let times = self.buffer.iter().map(|held| held[0].source_ts_ns).max();
        self.drops[Reason::BeforeSnapshot as usize] += (self.buffer.len() - kept.len()) as u64;
        let kept: Vec<Box<[Event]>> =
            kept.into_iter().map(|at| std::mem::take(&mut self.buffer[at])).collect();
        self.buffer.clear();
        self.book = Chain { kind: Base::Snapshot, base: snapshot, applied: snapshot };
        let mut events = message.events.to_vec();
        let begins = self.state != State::Whole;
        let flags = self.whole_again(true);
        let gap = self.walk(kept, &mut events, policy);
        if let Some(prev) = gap
            && policy.refuse_gaps
        {
            return Verdict::Refuse(prev);
        }
        Verdict::Joined(Joined {
            events,
            replaces: begins || !message.has_clear(),
            resets: message.is_recovery(),
            source_ts_ns: latest(message.head(), times),
            flags,
            torn: gap.is_some(),
            passed: self.passed,
        })
    }

    /// Places of the buffered messages that end behind `after`, in order of ids.
    fn sorted(&self, after: u64) -> Vec<usize> {
        let mut places: Vec<usize> =
            (0..self.buffer.len()).filter(|&at| self.buffer[at][0].seq_last > after).collect();
        places.sort_by_key(|&at| (self.buffer[at][0].seq_last, self.buffer[at][0].seq_prev));
        places
    }

    /// Applies messages in order; those from a gap on that is not passed over go back to the buffer,
    /// and the id before which the first of them begins is returned.
    fn walk(&mut self, messages: Vec<Box<[Event]>>, events: &mut Vec<Event>, policy: Policy) -> Option<u64> {
        let mut torn = None;
        for held in messages {
            if torn.is_some() {
                self.buffer.push_back(held);
                continue;
            }
            let head = held[0];
            match self.book.place(&head) {
                Place::Before | Place::Duplicate => {
                    self.count(Reason::Duplicate);
                    continue;
                }
                Place::Overlap if !Message::of(&held).has_orders() => {}
                Place::Next => {}
                Place::Overlap | Place::Gap => {
                    self.gaps[Channel::Book as usize] += 1;
                    if !policy.pass_gaps {
                        torn = Some(head.seq_prev);
                        if !policy.refuse_gaps {
                            self.break_book(Cause::Gap);
                        }
                        self.buffer.push_back(held);
                        continue;
                    }
                    self.book.pass(&head);
                    self.passed = true;
                }
            }
            self.book.apply(&head);
            events.extend_from_slice(&held);
        }
        torn
    }

    /// Tries to close the hole with a message (rule 3.4, reading 14).
    pub(super) fn heal(&mut self, message: &Message<'_>, policy: Policy) -> Verdict {
        let head = message.head();
        let closes = match self.book.place(head) {
            Place::Next => true,
            Place::Overlap => !message.has_orders(),
            _ => false,
        };
        if !closes || self.is_held(head) {
            return self.keep_or_drop(message);
        }
        self.buffer.push_back(without_empty_trades(message));
        let order = self.sorted(0);
        let mut chain = self.book;
        for &at in &order {
            let held = Message::of(&self.buffer[at]);
            match chain.place(held.head()) {
                Place::Next => chain.apply(held.head()),
                Place::Overlap if !held.has_orders() => chain.apply(held.head()),
                Place::Before | Place::Duplicate => {}
                Place::Gap | Place::Overlap => {
                    self.trim();
                    return Verdict::Unread;
                }
            }
        }
        let times = self.buffer.iter().map(|held| held[0].source_ts_ns).max();
        let messages: Vec<Box<[Event]>> =
            order.into_iter().map(|at| std::mem::take(&mut self.buffer[at])).collect();
        self.buffer.clear();
        let mut events = Vec::new();
        self.walk(messages, &mut events, policy);
        let flags = self.whole_again(false) | OUT_OF_ORDER_INPUT;
        let source_ts_ns = times.unwrap_or(head.source_ts_ns);
        Verdict::Joined(Joined {
            events,
            replaces: false,
            resets: false,
            source_ts_ns,
            flags,
            torn: false,
            passed: false,
        })
    }

    fn is_held(&self, head: &Event) -> bool {
        let ids = (head.seq_prev, head.seq_last);
        self.buffer.iter().any(|held| (held[0].seq_prev, held[0].seq_last) == ids)
    }

    pub(super) fn keep_or_drop(&mut self, message: &Message<'_>) -> Verdict {
        if self.is_held(message.head()) {
            return Verdict::Drop(Reason::Duplicate, 0);
        }
        self.keep(message);
        Verdict::Unread
    }

    pub(super) fn keep(&mut self, message: &Message<'_>) {
        if message.is_sequenced() {
            self.buffer.push_back(without_empty_trades(message));
            self.trim();
        }
    }

    fn trim(&mut self) {
        if self.buffer.len() > BUFFER_MESSAGES {
            self.buffer.pop_front();
            self.count(Reason::BufferOverflow);
        }
    }
}

/// The latest time of a snapshot and what was buffered; 0 is no time (reading 13).
pub(super) fn latest(head: &Event, buffered: Option<i64>) -> i64 {
    match head.source_ts_ns.max(buffered.unwrap_or(0)) {
        0 => head.local_ts_ns,
        time => time,
    }
}

/// Trades of size 0 are taken out of their message (reading 3).
fn without_empty_trades(message: &Message<'_>) -> Box<[Event]> {
    let kept = message.events.iter().filter(|event| event.kind != kind::TRADE || event.qty != 0);
    let mut kept: Box<[Event]> = kept.copied().collect();
    if let Some(last) = kept.last_mut() {
        last.flags |= flag::LAST;
    }
    kept
}
