//! Plain messages of one symbol into a block: the steps of `symbol`, without their kernels.

use super::block::Block;
use super::plain::PlainStep;
use super::row::{Times, times, trade_ticks};
use super::symbol::{Shared, Symbol};
use crate::event::{Event, kind};
use crate::frame::quality::CROSSED_BOOK;
use crate::message::{Channel, Message};
use crate::quality::{Place, Reason, State};

impl Symbol {
    /// Takes a message, if it is plain; nothing has happened if it is not. Whether it was.
    pub(super) fn record(&mut self, shared: &Shared, message: &Message<'_>, block: &mut Block) -> bool {
        let channel = message.channel();
        let taken = match channel {
            Channel::Quote => true,
            Channel::Book => self.record_book(shared, message, block),
            Channel::Trade => self.record_trades(shared, message, block),
            Channel::Status => false,
        };
        if taken {
            self.counts.messages[channel as usize] += 1;
            self.guard.drops[Reason::EmptyTrade as usize] += message.empty_trades();
        }
        taken
    }

    fn record_trades(&mut self, shared: &Shared, message: &Message<'_>, block: &mut Block) -> bool {
        let head = message.head();
        let follows = matches!(self.guard.trade.place(head), Place::Next | Place::Overlap);
        if message.is_sequenced() && !follows {
            return false;
        }
        if shared.reads.trades && message.has_market_trades() {
            let Some(step) = self.enter_recorded(shared, times(head)) else { return false };
            self.record_ticks(message, step.clock, block);
            self.record_step(shared, false, step, block);
        }
        if message.is_sequenced() {
            self.guard.trade.apply(head);
        }
        true
    }

    fn record_book(&mut self, shared: &Shared, message: &Message<'_>, block: &mut Block) -> bool {
        let head = message.head();
        let follows = match self.guard.book.place(head) {
            Place::Next => true,
            Place::Overlap => !message.has_orders(),
            _ => false,
        };
        let plain = self.guard.state == State::Whole && !message.is_recovery() && !message.has_status();
        if !plain || (message.is_sequenced() && !follows) {
            return false;
        }
        let has_trades = shared.reads.trades && message.has_market_trades();
        let mut step = None;
        if shared.reads.book || has_trades {
            step = self.enter_recorded(shared, times(head));
            if step.is_none() {
                return false;
            }
        }
        self.carries_trades |= message.has_trades();
        if message.is_sequenced() {
            self.guard.book.apply(head);
        }
        let Some(step) = step else { return true };
        if has_trades {
            self.record_ticks(message, step.clock, block);
        }
        if shared.reads.book {
            self.apply_message(message);
            let changed = self.observe();
            block.see(0, &self.book, self.valid, changed);
        }
        self.record_step(shared, shared.reads.book, step, block);
        true
    }

    fn enter_recorded(&mut self, shared: &Shared, times: Times) -> Option<PlainStep> {
        let step = self.steps_plainly(shared).then(|| self.enter_plain(shared, times)).flatten()?;
        self.counts.steps_back += u64::from(times.source_ns < step.clock);
        Some(step)
    }

    /// Plain steps of levels at the start of `events`, as long as there is room; how many events.
    #[inline]
    pub(super) fn record_levels(&mut self, shared: &Shared, events: &[Event], block: &mut Block) -> usize {
        if self.guard.seeded && shared.seed_after.is_some() {
            return 0; // its flags depend on the number of the frame
        }
        let mut at = 0;
        while block.room() > 0 {
            let Some(head) = events.get(at).filter(|head| head.kind == kind::LEVEL) else { break };
            if head.symbol_id != self.config.symbol_id || !self.guard.book.goes_on(head) {
                break;
            }
            let Some(step) = self.enter_plain(shared, times(head)) else { break };
            let taken = self.record_moment(shared, step, &events[at..], block);
            if taken == 0 {
                break;
            }
            at += taken;
        }
        at
    }

    /// The messages among them that are of the moment of `step`.
    ///
    /// WHY together: what a step says of its time is the same for all of them.
    #[inline]
    fn record_moment(
        &mut self,
        shared: &Shared,
        step: PlainStep,
        events: &[Event],
        block: &mut Block,
    ) -> usize {
        let symbol_id = self.config.symbol_id;
        let standing = step.stale | self.standing_flags(shared);
        let room = block.room();
        let mut crossed = 0;
        let (mut at, mut count) = (0, 0);
        while let Some(head) = events.get(at) {
            let together = head.symbol_id == symbol_id && times(head) == step.times;
            if count == room || !together || !self.guard.book.goes_on(head) {
                break;
            }
            let Some(rows) = self.book.set_message(&events[at..]) else { break };
            at += rows;
            self.guard.book.applied = head.seq_last.max(self.guard.book.applied);
            if count == 0 || self.book.is_stale() {
                let changed = self.observe();
                block.see(count, &self.book, self.valid, changed);
                crossed = self.note_crossing(step.clock);
            } else {
                block.see(count, &self.book, self.valid, false);
            }
            block.note(count, standing | crossed, self.guard.book.applied);
            count += 1;
        }
        if count > 0 {
            self.count_levels(count, step);
            let seq = self.seq + 1;
            block.add(count, true, step, seq, self.count_frames(count));
        }
        at
    }

    fn record_ticks(&mut self, message: &Message<'_>, clock: i64, block: &mut Block) {
        let mid_before = if self.guard.state == State::Whole { self.mid_x2() } else { None };
        for trade in trade_ticks(message, clock, mid_before, self.seq + 1) {
            block.trade(trade);
        }
    }

    /// Keeps count of how long the book has been crossed; the flag that says that it is.
    #[inline]
    fn note_crossing(&mut self, clock: i64) -> u32 {
        if self.valid {
            self.crossed_since = None;
            return 0;
        }
        self.crossed_since.get_or_insert(clock);
        CROSSED_BOOK
    }

    /// See `finish_step`; with `book` the step has a tick of the book.
    fn record_step(&mut self, shared: &Shared, book: bool, step: PlainStep, block: &mut Block) {
        let mut flags = step.stale;
        if shared.reads.book {
            flags |= self.standing_flags(shared) | self.note_crossing(step.clock);
        }
        let seq = self.seq + 1;
        block.note(0, flags, self.guard.book.applied);
        block.add(1, book, step, seq, self.count_frames(1));
    }
}
