//! Runs of messages that need no judgement: levels that continue a whole book, and what nobody reads.
//!
//! WHY: nearly all messages of a feed are such, and most of what decides it cannot change inside a run.

use super::config::Trading;
use super::nodes::Reads;
use super::row::{CROSSED_NS, Times, times};
use super::symbol::{Shared, Symbol};
use crate::ahead::ask_behind;
use crate::event::{Event, EventHead, kind};
use crate::frame::quality::STALE_INPUT;
use crate::frame::{FrameSink, Stage};
use crate::message::Channel;
use crate::quality::{Base, State};

/// A step of the book whose levels are applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlainStep {
    /// Clock of the step.
    pub(super) clock: i64,
    /// `STALE_INPUT`, or nothing.
    pub(super) stale: u32,
    pub(super) times: Times,
}

impl Symbol {
    /// Takes messages from the start of `events` that need no judgement, as long as there are such; how
    /// many events. Those of levels, where they make steps, are given to `levels`, which says how many
    /// it took. `events` were checked and end with a message.
    #[inline]
    pub(super) fn run_plain(
        &mut self,
        shared: &Shared,
        events: &[Event],
        mut levels: impl FnMut(&mut Self, &[Event]) -> usize,
    ) -> usize {
        let steps = shared.reads.book && self.steps_plainly(shared);
        let mut at = 0;
        while let Some(head) = events.get(at).filter(|head| head.symbol_id == self.config.symbol_id) {
            let taken = match head.kind {
                kind::LEVEL if steps => levels(self, &events[at..]),
                kind::QUOTE => self.quotes(&events[at..]),
                kind::TRADE if !shared.reads.trades => self.unread_trades(&events[at..]),
                _ => 0,
            };
            if taken == 0 {
                break;
            }
            at += taken;
        }
        at
    }

    /// The message of levels at the start of `events`, if it is a plain step, and how many events.
    #[inline]
    pub(super) fn take_levels(
        &mut self,
        shared: &Shared,
        events: &[Event],
        sink: &mut impl FrameSink,
    ) -> Option<(PlainStep, usize)> {
        let head = &events[0];
        if !self.guard.book.goes_on(head) {
            return None;
        }
        let step = self.enter_plain(shared, times(head))?;
        sink.reached(Stage::Guard);
        let rows = self.book.set_message(events)?;
        self.guard.book.applied = head.seq_last.max(self.guard.book.applied);
        self.count_levels(1, step);
        Some((step, rows))
    }

    /// Messages of levels were taken, all at the moment of one step.
    #[inline]
    pub(super) fn count_levels(&mut self, messages: usize, step: PlainStep) {
        let messages = messages as u64;
        self.counts.messages[Channel::Book as usize] += messages;
        self.counts.steps_back += if step.times.source_ns < step.clock { messages } else { 0 };
    }

    /// Takes the clock of a step, if it is not the first, resets nothing and ends no session, its clock
    /// is not at fault, and no book breaks at it. To take the same one again changes nothing.
    #[inline]
    pub(super) fn enter_plain(&mut self, shared: &Shared, times: Times) -> Option<PlainStep> {
        let clock = self.clock?.max(times.source_ns);
        let crossed = self.crossed_since.is_some_and(|since| clock - since > CROSSED_NS);
        if clock >= self.next_reset.min(self.session_until) || (crossed && shared.has_snapshots) {
            return None;
        }
        let stale = if self.lateness.of_plain(times.source_ns, times.local_ns)? { STALE_INPUT } else { 0 };
        self.clock = Some(clock);
        Some(PlainStep { clock, stale, times })
    }

    /// Whether steps are taken that reset nothing, on a book that can be read.
    #[inline]
    pub(super) fn steps_plainly(&self, shared: &Shared) -> bool {
        (self.guard.state == State::Whole || !shared.reads.book)
            && self.pending_reset == Reads::default()
            && (self.status, self.session) == (Trading::Trading, Trading::Trading)
    }

    /// Messages of quotes: nothing but counted (rule 2.4).
    #[inline]
    fn quotes(&mut self, events: &[Event]) -> usize {
        let own = EventHead::of(kind::QUOTE, self.config.symbol_id);
        let (mut seen, mut messages) = (0, 0);
        for event in events {
            ask_behind(event);
            let head = event.head();
            if !head.is_like(own) {
                break;
            }
            messages += u64::from(head.is_last());
            seen += 1;
        }
        self.counts.messages[Channel::Quote as usize] += messages;
        // What stands behind the last end is no whole message.
        events[..seen].iter().rposition(Event::is_last).map_or(0, |last| last + 1)
    }

    /// Trades nobody reads: only their ids count.
    #[inline]
    fn unread_trades(&mut self, events: &[Event]) -> usize {
        let chain = &mut self.guard.trade;
        let mut taken = 0;
        for event in events {
            ask_behind(event);
            let alone = event.kind == kind::TRADE && event.is_last() && event.qty != 0;
            if !alone || event.symbol_id != self.config.symbol_id {
                break;
            }
            if event.seq_last | event.seq_prev != 0 {
                let follows = event.seq_prev == chain.applied && event.seq_last > chain.applied;
                if !follows || chain.kind == Base::Unset {
                    break;
                }
                chain.applied = event.seq_last;
            }
            taken += 1;
        }
        self.counts.messages[Channel::Trade as usize] += taken as u64;
        taken
    }
}
