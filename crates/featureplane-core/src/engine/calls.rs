//! What is asked for from outside, between two messages (rule 3.6, reading 24).

use super::Engine;
use super::nodes::Reads;
use super::symbol::{Shared, Symbol};
use super::tally::ResetCause;
use crate::error::Error;
use crate::frame::quality::GAP_DETECTED;

impl Engine {
    /// Resets all kernels of a symbol at its next step.
    ///
    /// # Errors
    /// The engine does not have the symbol.
    pub fn reset(&mut self, symbol_id: u32) -> Result<(), Error> {
        let place = *self.places.get(&symbol_id).ok_or(Error::UnknownSymbol { symbol_id })?;
        self.symbols[place].ask_reset(&self.shared, Reads::ALL, ResetCause::Explicit);
        self.watch.changed(place);
        Ok(())
    }

    /// A symbol's connection is another one, without proof that it continues the one before.
    ///
    /// # Errors
    /// The engine does not have the symbol.
    pub fn reconnect(&mut self, symbol_id: u32) -> Result<(), Error> {
        let place = *self.places.get(&symbol_id).ok_or(Error::UnknownSymbol { symbol_id })?;
        self.symbols[place].reconnect(&self.shared);
        self.watch.changed(place);
        Ok(())
    }
}

impl Symbol {
    /// Kernels that read one of these channels are reset at the next step.
    pub(super) fn ask_reset(&mut self, shared: &Shared, what: Reads, cause: ResetCause) {
        self.pending_reset.book |= what.book;
        self.pending_reset.trades |= what.trades;
        if shared.reads.meets(what) {
            self.pending_causes.add(cause);
        }
    }

    fn reconnect(&mut self, shared: &Shared) {
        let had_book = self.guard.reconnect();
        if had_book && shared.reads.book {
            self.pending_flags |= GAP_DETECTED;
        }
        self.ask_reset(shared, Reads::ALL, ResetCause::Reconnect);
        self.lateness.forget();
        self.seed_frames = 0;
        self.crossed_since = None;
        self.book.reset();
        self.observe();
    }
}
