//! From the bytes of a venue's message to frames, in one go: normaliser, guard, book, engine.

use crate::engine::Engine;
use crate::error::Error;
use crate::event::Event;
use crate::frame::{FrameSink, Stage};
use crate::normalize::binance::{Counts, Feed, Received};

/// Reads messages one by one and hands their events to an engine. Nothing is kept of a message but its
/// events, until the next one.
#[derive(Debug)]
pub struct Pipeline {
    feed: Feed,
    events: Vec<Event>,
    /// Whether every event is one that the rules accept: nothing else leaves a feed that refuses.
    trusted: bool,
}

impl Pipeline {
    /// A pipeline behind a feed.
    #[must_use]
    pub const fn new(feed: Feed) -> Self {
        let trusted = !feed.drops_malformed();
        Self { feed, events: Vec::new(), trusted }
    }

    /// Takes one whole message.
    ///
    /// # Errors
    ///
    /// A message that cannot be read, of which the engine then knows nothing; and the errors of the engine.
    pub fn push(
        &mut self,
        engine: &mut Engine,
        text: &[u8],
        how: Received,
        sink: &mut impl FrameSink,
    ) -> Result<(), Error> {
        self.read(text, how)?;
        sink.reached(Stage::Normalize);
        if self.trusted { engine.run_trusted(&self.events, sink) } else { engine.run(&self.events, sink) }
    }

    /// Reads one whole message, for nobody but who looks at its events.
    ///
    /// # Errors
    ///
    /// A message that cannot be read.
    pub fn read(&mut self, text: &[u8], how: Received) -> Result<(), Error> {
        self.events.clear();
        self.feed.read(text, how, &mut self.events)
    }

    /// The events of the last message.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Which instrument of the feed the last message was read as one of.
    #[must_use]
    pub const fn lane(&self) -> usize {
        self.feed.lane()
    }

    /// What the feed left out so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.feed.counts()
    }
}
