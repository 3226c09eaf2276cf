//! Blocks of all symbols of an engine, computed together, their frames put out in order of arrival.

use super::Engine;
use super::block::Block;
use super::symbol::{Shared, Symbol};
use crate::error::Error;
use crate::event::Event;
use crate::frame::FrameSink;
use crate::message::{self, Message, Next};

/// Steps taken but not computed.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    size: usize,
    /// One a symbol, made when it is needed.
    of_symbols: Vec<Option<Box<Block>>>,
    /// Places of symbols that have steps.
    touched: Vec<usize>,
    /// Steps in order of arrival: the place of a symbol, and how many came of it in a row.
    order: Vec<(usize, usize)>,
}

impl Blocks {
    fn resize(&mut self, size: usize, symbols: usize) {
        if self.size != size {
            *self = Self { size, of_symbols: vec![None; symbols], ..Self::default() };
        }
    }

    fn of(&mut self, shared: &Shared, symbol: &Symbol) -> &mut Block {
        let size = self.size;
        self.of_symbols[symbol.place].get_or_insert_with(|| Box::new(Block::new(shared, &symbol.nodes, size)))
    }
}

impl Engine {
    /// The same frames as [`Self::run`], or [`Self::run_trusted`] for events that are known to keep the
    /// rules, computed in blocks of up to `size` steps; everything is computed at the end.
    ///
    /// # Errors
    /// See there.
    pub fn run_block(
        &mut self,
        events: &[Event],
        trusted: bool,
        size: usize,
        sink: &mut impl FrameSink,
    ) -> Result<(), Error> {
        self.blocks.resize(size.max(1), self.symbols.len());
        sink.foresee(0, events.len());
        let ended = if trusted { self.gather_trusted(events, sink) } else { self.gather(events, sink) };
        self.flush(sink);
        ended
    }

    fn gather_trusted(&mut self, events: &[Event], sink: &mut impl FrameSink) -> Result<(), Error> {
        let whole = events.iter().rposition(Event::is_last).map_or(0, |last| last + 1);
        let (mut rest, cut_off) = events.split_at(whole);
        while let Some(head) = rest.first() {
            self.last_symbol = self.place(head)?;
            let mut taken = self.gather_plain(rest);
            if taken == 0 {
                let Some(message) = message::take_trusted(rest) else { break };
                self.gather_message(&message, sink)?;
                taken = message.events.len();
            }
            self.flush_if_full(events.len() - rest.len(), rest.len(), sink);
            self.events += taken as u64;
            rest = &rest[taken..];
        }
        if !cut_off.is_empty() {
            self.events += self.incomplete(cut_off)? as u64;
        }
        Ok(())
    }

    fn gather(&mut self, events: &[Event], sink: &mut impl FrameSink) -> Result<(), Error> {
        let mut rest = events;
        while !rest.is_empty() {
            let taken = match message::take(rest) {
                Next::Message(message) => {
                    self.last_symbol = self.place(message.head())?;
                    self.gather_message(&message, sink)?;
                    self.flush_if_full(events.len() - rest.len(), rest.len(), sink);
                    message.events.len()
                }
                other => {
                    self.flush(sink);
                    self.unusable(rest, other, sink)?
                }
            };
            self.events += taken as u64;
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// Plain messages of the symbol in hand, as long as its block has room; how many events.
    #[inline]
    fn gather_plain(&mut self, events: &[Event]) -> usize {
        let Self { symbols, shared, blocks, last_symbol, .. } = self;
        let symbol = &mut symbols[*last_symbol];
        let block = blocks.of(shared, symbol);
        let before = block.len();
        let taken =
            symbol.run_plain(shared, events, |symbol, events| symbol.record_levels(shared, events, block));
        let steps = block.len() - before;
        self.note(before, steps);
        taken
    }

    /// One message of the symbol in hand: into its block, or through streaming.
    fn gather_message(&mut self, message: &Message<'_>, sink: &mut impl FrameSink) -> Result<(), Error> {
        let Self { symbols, shared, blocks, last_symbol, .. } = self;
        let symbol = &mut symbols[*last_symbol];
        let block = blocks.of(shared, symbol);
        let before = block.len();
        if symbol.record(shared, message, block) {
            let steps = block.len() - before;
            self.note(before, steps);
            return Ok(());
        }
        self.flush(sink);
        self.symbols[self.last_symbol].message(&self.shared, message, sink)
    }

    /// Steps of the symbol in hand were taken behind the `before` ones it had.
    #[inline]
    fn note(&mut self, before: usize, steps: usize) {
        let Blocks { touched, order, .. } = &mut self.blocks;
        if steps == 0 {
            return;
        }
        if before == 0 {
            touched.push(self.last_symbol);
        }
        match order.last_mut() {
            Some((place, count)) if *place == self.last_symbol => *count += steps,
            _ => order.push((self.last_symbol, steps)),
        }
    }

    fn flush_if_full(&mut self, taken: usize, left: usize, sink: &mut impl FrameSink) {
        let last = self.blocks.of_symbols[self.last_symbol].as_ref();
        if last.is_some_and(|block| block.is_full()) {
            sink.foresee(taken, left);
            self.flush(sink);
        }
    }

    /// Computes all steps and puts their frames out.
    fn flush<S: FrameSink>(&mut self, sink: &mut S) {
        let Self { symbols, blocks, .. } = self;
        for &place in &blocks.touched {
            if let Some(block) = &mut blocks.of_symbols[place] {
                symbols[place].compute::<S>(block, blocks.order.len() == 1);
            }
        }
        for &(place, count) in &blocks.order {
            if let Some(block) = &mut blocks.of_symbols[place] {
                symbols[place].put_out(block, count, sink);
            }
        }
        for &place in &blocks.touched {
            if let Some(block) = &mut blocks.of_symbols[place] {
                block.clear();
            }
        }
        blocks.touched.clear();
        blocks.order.clear();
    }
}
