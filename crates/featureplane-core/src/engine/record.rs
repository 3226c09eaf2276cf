//! Plain messages of one symbol into a block: the steps of `symbol`, without their kernels.

use super::block::Block;
use super::plain::PlainStep;
use super::symbol::{Shared, Symbol, trade_ticks};
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
            let entry = self.plain_entry(shared, head).filter(|_| self.steps_plainly(shared));
            let Some(entry) = entry else { return false };
            let step = self.enter_plain(entry, head);
            self.record_ticks(message, step.clock, block);
            self.record_step(shared, step, block);
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
            let entry = self.plain_entry(shared, head).filter(|_| self.steps_plainly(shared));
            let Some(entry) = entry else { return false };
            step = Some(self.enter_plain(entry, head));
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
            self.record_tick(step.clock, block);
        }
        self.record_step(shared, step, block);
        true
    }

    /// A step of levels that are applied.
    #[inline]
    pub(super) fn record_levels(&mut self, shared: &Shared, step: PlainStep, block: &mut Block) {
        self.record_tick(step.clock, block);
        self.record_step(shared, step, block);
    }

    #[inline]
    fn record_tick(&mut self, clock: i64, block: &mut Block) {
        let changed = self.observe();
        block.book(&self.book, self.valid, changed, clock);
    }

    fn record_ticks(&mut self, message: &Message<'_>, clock: i64, block: &mut Block) {
        let mid_before = if self.guard.state == State::Whole { self.mid_x2() } else { None };
        for trade in trade_ticks(message, clock, mid_before, self.seq + 1) {
            block.trade(trade);
        }
    }

    /// See `finish_step`.
    #[inline]
    fn record_step(&mut self, shared: &Shared, step: PlainStep, block: &mut Block) {
        let mut flags = step.stale;
        if shared.reads.book {
            flags |= self.standing_flags(shared);
            if self.valid {
                self.crossed_since = None;
            } else {
                flags |= CROSSED_BOOK;
                self.crossed_since.get_or_insert(step.clock);
            }
        }
        flags |= self.count_frame();
        block.step(step.clock, flags, step.times, self.guard.book.applied, self.seq);
    }
}
