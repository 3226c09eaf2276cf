//! Somebody who looks on while messages are taken one by one, and is shown what a second engine needs to take
//! them too. Nothing of it changes what is computed.

use std::fmt::Debug;

use zerocopy::IntoBytes;

use super::Engine;
use super::state::{self, Extent};
use super::symbol::{Shared, Symbol};
use crate::error::Error;
use crate::event::Event;
use crate::frame::{FrameSink, Stage};
use crate::message::{self, Channel, Message, Next};

/// What is wanted of a message to come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// The `seq` of the frame that is wanted, if the message makes it; 0: none.
    pub frame: u64,
    /// The state before the message.
    pub before: bool,
    /// The state behind the message, if it makes the frame.
    pub after: bool,
    /// The message, whether or not it makes the frame.
    pub message: bool,
}

/// A message that was taken. What was wanted of it has been shown, in this order; here is how many bytes each
/// part had, 0 where it was not wanted or the message did not make the frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Place of the symbol in the configuration.
    pub symbol: usize,
    /// Id of the symbol.
    pub symbol_id: u32,
    /// Events of the stream up to and with the message.
    pub until: u64,
    /// The state before it, levels of the book in no order.
    pub before: usize,
    /// The message.
    pub events: usize,
    /// The frame that was wanted.
    pub frame: usize,
    /// The state behind it, likewise.
    pub after: usize,
    /// Where in `after` the book stands.
    pub book: usize,
}

/// Looks on.
pub trait Witness: Debug + Send + Sync {
    /// Whether nothing is wanted of the next messages of a symbol that has computed `seq` frames, as long as they
    /// make no more than so many frames.
    fn rests(&mut self, symbol: usize, seq: u64, frames: u64) -> bool;

    /// What is wanted of the next message of a symbol that has computed `seq` frames. What was shown since the
    /// last [`Self::taken`] is of no message.
    fn wanted(&mut self, symbol: usize, seq: u64) -> Wanted;

    /// The next bytes of what was wanted of the message.
    fn show(&mut self, bytes: &[u8]);

    /// A message of which something was wanted, and which made the frame or was wanted itself.
    fn taken(&mut self, seen: &Seen);

    /// Something else than a message changed a symbol's state.
    fn changed(&mut self, symbol: usize);

    /// What was wanted of a symbol's message was passed over: it made two frames.
    fn missed(&mut self, symbol: usize);
}

/// The witness of an engine, if it has one. A copy of an engine has none.
#[derive(Debug, Default)]
pub(super) struct Watch(Option<Box<Watching>>);

/// A witness, and room for a piece of what it is shown.
#[derive(Debug)]
struct Watching {
    witness: Box<dyn Witness>,
    room: Vec<u8>,
    /// Bytes of the state before the message at hand.
    before: usize,
}

impl Clone for Watch {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Watch {
    pub(super) fn changed(&mut self, symbol: usize) {
        if let Some(watching) = &mut self.0 {
            watching.witness.changed(symbol);
        }
    }
}

impl Watching {
    #[inline]
    fn wanted(&mut self, symbol: &mut Symbol, shared: &Shared) -> Wanted {
        let wanted = self.witness.wanted(symbol.place, symbol.seq);
        self.before = if wanted.before { self.show_state(symbol, shared).bytes } else { 0 };
        wanted
    }

    fn show_state(&mut self, symbol: &mut Symbol, shared: &Shared) -> Extent {
        let witness = &mut self.witness;
        state::hand_on(symbol, shared, &mut self.room, &mut |piece| witness.show(piece))
    }

    fn taken(
        &mut self,
        symbol: &mut Symbol,
        shared: &Shared,
        wanted: Wanted,
        (until, events): (u64, &[Event]),
    ) {
        let made = wanted.frame != 0 && symbol.seq == wanted.frame;
        if made || wanted.message {
            let events = events.as_bytes();
            let mut seen = Seen {
                symbol: symbol.place,
                symbol_id: symbol.config.symbol_id,
                until,
                before: self.before,
                events: events.len(),
                ..Seen::default()
            };
            self.witness.show(events);
            if made {
                self.room.clear();
                shared.layout.write(&symbol.output.computed(), &mut self.room);
                seen.frame = self.room.len();
                self.witness.show(&self.room);
            }
            if made && wanted.after {
                Extent { bytes: seen.after, book: seen.book } = self.show_state(symbol, shared);
            }
            self.witness.taken(&seen);
        }
        if wanted.frame != 0 && symbol.seq > wanted.frame {
            self.witness.missed(symbol.place);
        }
    }
}

impl Engine {
    /// Lets somebody look on, or nobody, from the next event on; only where they are taken one by one.
    pub fn watch(&mut self, witness: Option<Box<dyn Witness>>) {
        let watching = |witness| Box::new(Watching { witness, room: Vec::new(), before: 0 });
        self.watch = Watch(witness.map(watching));
    }

    /// Whether a witness wants to look at some of these events. A message makes a frame at most.
    #[inline]
    pub(super) fn is_watched(&mut self, events: &[Event]) -> bool {
        let Some(watching) = &mut self.watch.0 else { return false };
        let one_symbol = |head: &&Event| {
            self.symbols.len() == 1 || events.iter().all(|event| event.symbol_id == head.symbol_id)
        };
        let Some(head) = events.first().filter(one_symbol) else { return true };
        let place = match self.symbols.get(self.last_symbol) {
            Some(symbol) if symbol.config.symbol_id == head.symbol_id => self.last_symbol,
            _ => self.places.get(&head.symbol_id).copied().unwrap_or(usize::MAX),
        };
        let Some(symbol) = self.symbols.get(place) else { return true };
        !watching.witness.rests(place, symbol.seq, events.len() as u64)
    }

    /// [`Self::run`] and [`Self::run_trusted`] with a witness.
    pub(super) fn run_watched(
        &mut self,
        events: &[Event],
        trusted: bool,
        sink: &mut impl FrameSink,
    ) -> Result<(), Error> {
        let Some(mut watching) = self.watch.0.take() else { return Ok(()) };
        let mut rest = events;
        let mut ended = Ok(());
        while !rest.is_empty() && ended.is_ok() {
            match self.watched(&mut watching, rest, trusted, sink) {
                Ok(taken) => {
                    self.events += taken as u64;
                    rest = &rest[taken..];
                }
                Err(error) => ended = Err(error),
            }
        }
        self.watch.0 = Some(watching);
        ended
    }

    /// Takes what stands at the start of `rest`; how many events it is.
    fn watched(
        &mut self,
        watching: &mut Watching,
        rest: &[Event],
        trusted: bool,
        sink: &mut impl FrameSink,
    ) -> Result<usize, Error> {
        let next = if trusted {
            message::take_trusted(rest).map_or(Next::Incomplete, Next::Message)
        } else {
            message::take(rest)
        };
        let events = match &next {
            Next::Message(message) if message.channel() == Channel::Quote => &[],
            Next::Message(message) => message.events,
            Next::Malformed { events, .. } if self.drop_malformed => events,
            _ => &[],
        };
        let Some(head) = events.first() else { return self.unseen(rest, next, sink) };
        let place = self.place(head)?;
        let wanted = watching.wanted(&mut self.symbols[place], &self.shared);
        sink.reached(Stage::Aside);
        let taken = match next {
            Next::Message(message) if trusted => self.plainly(place, &message, sink)?,
            next => self.unseen(rest, next, sink)?,
        };
        if wanted.frame != 0 || wanted.message {
            let until = self.events + taken as u64;
            watching.taken(&mut self.symbols[place], &self.shared, wanted, (until, events));
            sink.reached(Stage::Aside);
        }
        Ok(taken)
    }

    fn unseen(&mut self, rest: &[Event], next: Next<'_>, sink: &mut impl FrameSink) -> Result<usize, Error> {
        match next {
            Next::Message(message) => self.message(&message, sink).map(|()| message.events.len()),
            other => self.unusable(rest, other, sink),
        }
    }

    /// A message of good events by the short way, if it is one that needs no judgement.
    fn plainly(
        &mut self,
        place: usize,
        message: &Message<'_>,
        sink: &mut impl FrameSink,
    ) -> Result<usize, Error> {
        self.last_symbol = place;
        let (symbol, shared) = (&mut self.symbols[place], &self.shared);
        let taken = symbol.run_plain(shared, message.events, |symbol, events| {
            let Some((step, rows)) = symbol.take_levels(shared, events, sink) else { return 0 };
            symbol.plain_step(shared, step, sink);
            rows
        });
        if taken == 0 {
            self.message(message, sink)?;
        }
        Ok(message.events.len())
    }
}
