//! Events in, frames out: many symbols, one plan.
//!
//! `symbol` is one instrument's life, `row` one message's, `nodes` its kernels, `output` what leaves it.

mod block;
mod blocks;
mod calls;
pub mod config;
mod lanes;
mod lateness;
mod nodes;
mod output;
mod plain;
mod record;
mod row;
mod state;
mod symbol;
mod tally;
pub mod touch;
mod watch;

use std::collections::HashMap;

use self::blocks::Blocks;
use self::config::{Config, OnMalformed};
use self::symbol::{Shared, Symbol};
use self::watch::Watch;
use crate::error::{Error, Place};
use crate::event::Event;
use crate::frame::{FrameSink, Layout};
use crate::message::{self, Message, Next};
use crate::plan::Plan;
use crate::quality::{Drops, Reason};

pub use self::nodes::Reads;
pub use self::symbol::Counts;
pub use self::tally::{ResetCause, Resets};
pub use self::watch::{Seen, Wanted, Witness};

/// A plan running over a stream of one or many symbols.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Shared,
    symbols: Vec<Symbol>,
    places: HashMap<u32, usize>,
    drop_malformed: bool,
    /// Events taken so far, for the offsets of errors.
    events: u64,
    last_symbol: usize,
    blocks: Blocks,
    watch: Watch,
}

impl Engine {
    /// An engine before its first event.
    ///
    /// # Errors
    /// A kernel does not take its parameters.
    pub fn new(plan: Plan, config: &Config) -> Result<Self, Error> {
        let shared = Shared::new(plan, config);
        let symbols = (0..config.symbols.len())
            .map(|place| Symbol::new(place, &shared, config))
            .collect::<Result<Vec<_>, _>>()?;
        let places = config.symbols.iter().enumerate().map(|(at, symbol)| (symbol.symbol_id, at)).collect();
        let drop_malformed = config.on_malformed == OnMalformed::Drop;
        let (blocks, watch) = (Blocks::default(), Watch::default());
        Ok(Self { shared, symbols, places, drop_malformed, events: 0, last_symbol: 0, blocks, watch })
    }

    /// The whole state of a symbol, but for what chooses which frames are put out.
    ///
    /// # Errors
    /// The engine does not have the symbol.
    pub fn save(&self, symbol_id: u32) -> Result<Vec<u8>, Error> {
        let place = *self.places.get(&symbol_id).ok_or(Error::UnknownSymbol { symbol_id })?;
        Ok(state::save(&self.symbols[place], &self.shared))
    }

    /// Puts a saved state in the place of a symbol's present one.
    ///
    /// # Errors
    /// The bytes are no state of this plan and symbol; the symbol's state is lost then.
    pub fn restore(&mut self, symbol_id: u32, bytes: &[u8]) -> Result<(), Error> {
        let place = *self.places.get(&symbol_id).ok_or(Error::UnknownSymbol { symbol_id })?;
        self.watch.changed(place);
        state::load(&mut self.symbols[place], &self.shared, bytes)
    }

    /// Number and types of the values of a frame.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.shared.layout
    }

    /// Counts of each symbol, in the order of the configuration.
    pub fn counts(&self) -> impl Iterator<Item = (Counts, Drops, [u64; 4])> + '_ {
        self.symbols.iter().map(|symbol| {
            let counts = Counts { flags: symbol.rises.counts, breaks: symbol.guard.breaks, ..symbol.counts };
            (counts, symbol.guard.drops, symbol.guard.gaps)
        })
    }

    /// [`Self::run`] for events that are known to keep the rules: made by our readers, or checked before.
    ///
    /// # Errors
    /// An unknown symbol; a gap, if gaps are refused.
    pub fn run_trusted(&mut self, events: &[Event], sink: &mut impl FrameSink) -> Result<(), Error> {
        if self.is_watched(events) {
            return self.run_watched(events, true, sink);
        }
        let whole = events.iter().rposition(Event::is_last).map_or(0, |last| last + 1);
        let (mut rest, cut_off) = events.split_at(whole);
        while let Some(head) = rest.first() {
            self.last_symbol = self.place(head)?;
            let (symbol, shared) = (&mut self.symbols[self.last_symbol], &self.shared);
            let mut taken = symbol.run_plain(shared, rest, |symbol, events| {
                let Some((step, rows)) = symbol.take_levels(shared, events, sink) else { return 0 };
                symbol.plain_step(shared, step, sink);
                rows
            });
            if let Some(message) = message::take_trusted(&rest[taken..]) {
                self.message(&message, sink)?;
                taken += message.events.len();
            }
            self.events += taken as u64;
            rest = &rest[taken..];
        }
        if !cut_off.is_empty() {
            self.events += self.incomplete(cut_off)? as u64;
        }
        Ok(())
    }

    /// Takes events; frames go to `sink` as they are computed. A message cut off by the end of
    /// `events` is dropped and counted.
    ///
    /// # Errors
    /// Input that no rule can use, unless it is to be dropped; a gap, if gaps are refused. Frames up
    /// to the message before have been put out then.
    pub fn run(&mut self, events: &[Event], sink: &mut impl FrameSink) -> Result<(), Error> {
        if self.is_watched(events) {
            return self.run_watched(events, false, sink);
        }
        let mut rest = events;
        while !rest.is_empty() {
            let taken = match message::take(rest) {
                Next::Message(message) => {
                    self.message(&message, sink)?;
                    message.events.len()
                }
                other => self.unusable(rest, other, sink)?,
            };
            self.events += taken as u64;
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// What stands at the start of `rest` and is no message; how many events it is.
    fn unusable(
        &mut self,
        rest: &[Event],
        what: Next<'_>,
        sink: &mut impl FrameSink,
    ) -> Result<usize, Error> {
        let Next::Malformed { events, at, error } = what else { return self.incomplete(rest) };
        self.place(&rest[0])?;
        self.place(at)?;
        if !self.drop_malformed {
            return Err(self.placed(error));
        }
        if events.is_empty() { self.incomplete(rest) } else { self.malformed(events, sink) }
    }

    #[inline]
    fn place(&self, event: &Event) -> Result<usize, Error> {
        let id = event.symbol_id;
        if self.symbols.get(self.last_symbol).is_some_and(|symbol| symbol.config.symbol_id == id) {
            return Ok(self.last_symbol);
        }
        self.places.get(&id).copied().ok_or(Error::UnknownSymbol { symbol_id: id })
    }

    #[inline]
    fn message(&mut self, message: &Message<'_>, sink: &mut impl FrameSink) -> Result<(), Error> {
        let place = self.place(message.head())?;
        self.last_symbol = place;
        self.symbols[place].message(&self.shared, message, sink)
    }

    fn malformed(&mut self, events: &[Event], sink: &mut impl FrameSink) -> Result<usize, Error> {
        let place = self.place(&events[0])?;
        let channel = message::channel_of(events);
        self.symbols[place].malformed(&self.shared, channel, &events[0], sink);
        Ok(events.len())
    }

    /// A message cut off by the end of the input.
    fn incomplete(&mut self, events: &[Event]) -> Result<usize, Error> {
        let place = self.place(&events[0])?;
        self.symbols[place].guard.count(Reason::Incomplete);
        Ok(events.len())
    }

    /// Offsets count from the start of the stream.
    fn placed(&self, error: Error) -> Error {
        match error {
            Error::Malformed { found, expected, place: Place { offset: Some(offset), line } } => {
                let offset = Some(offset + 64 * self.events);
                Error::Malformed { found, expected, place: Place { line, offset } }
            }
            other => other,
        }
    }
}
