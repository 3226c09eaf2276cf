//! Guarded books of several symbols, a message at a time, and their best levels in room that Python looks at.
//!
//! Twin of `PlainBooks` in `strategy/market.py`, which says what stands where.

use featureplane_core::book::Level;
use featureplane_core::book::guarded::GuardedBook;
use featureplane_core::error::Error;
use featureplane_core::event::Event;
use featureplane_core::quality::{Policy, State};
use featureplane_core::units::{half_even_div, to_i64};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::into_py;
use crate::push::Intake;

const HEAD: usize = 16;
const STATS_LEVELS: usize = 5;
const BOOK: u32 = 1;
const TRADES: u32 = 2;
const GAP: u32 = 4;
const READABLE: u32 = 8;
const TWO_SIDED: u32 = 16;
const WHOLE: u32 = 32;
const LEVELS: u32 = 64;
/// Words of the head behind what statistics have: what the message did, messages taken, and their events.
const DID: usize = 13;

/// Books by symbol. Not frozen: it is one running state.
#[pyclass(module = "featureplane._native")]
pub(crate) struct MarketBooks {
    books: Vec<(u32, GuardedBook)>,
    levels: usize,
    /// Somebody looks at the levels, or at what they add up to.
    shows: Shows,
    intake: Intake,
    room: Option<PyBuffer<i64>>,
    seen: Vec<i64>,
}

/// What is written to the room beside what messages did.
#[derive(Clone, Copy)]
struct Shows {
    levels: bool,
    sums: bool,
}

#[pymethods]
impl MarketBooks {
    /// `symbols` are (symbol, id, tick, whether locked is valid).
    #[new]
    #[pyo3(signature = (symbols, levels, *, on_gap, seed, drop_malformed))]
    fn new(
        symbols: Vec<(String, u32, i64, bool)>,
        levels: usize,
        on_gap: &str,
        seed: &str,
        drop_malformed: bool,
    ) -> Self {
        let policy = Policy {
            pass_gaps: on_gap == "continue",
            refuse_gaps: on_gap == "refuse",
            seed_increments: seed == "increments",
        };
        let depth = levels.max(STATS_LEVELS);
        let book = |(symbol, id, tick, locked)| {
            let empty = GuardedBook::new(symbol, id, tick, policy, drop_malformed, locked);
            (id, empty.with_levels(tick, depth))
        };
        let books = symbols.into_iter().map(book).collect();
        let shows = Shows { levels: true, sums: true };
        Self { books, levels, shows, intake: Intake::default(), room: None, seen: Vec::new() }
    }

    /// The array of events that `push` takes from.
    fn bind_events(&mut self, events: PyBuffer<u64>) -> PyResult<()> {
        self.intake.bind(events)
    }

    /// The array that `push` writes to.
    fn bind_room(&mut self, room: PyBuffer<i64>) -> PyResult<()> {
        if !room.is_c_contiguous() || room.readonly() || room.item_count() != HEAD + 4 * self.levels {
            return Err(PyValueError::new_err("room of another size"));
        }
        self.room = Some(room);
        self.show();
        Ok(())
    }

    /// Whether levels are written to the room from the next message on, and whether what they add up to is.
    #[pyo3(signature = (*, levels, sums))]
    fn watch(&mut self, levels: bool, sums: bool) {
        self.shows = Shows { levels, sums };
    }

    /// The connection of a symbol is another one.
    fn reconnect(&mut self, symbol_id: u32) {
        for (_, book) in self.books.iter_mut().filter(|(id, _)| *id == symbol_id) {
            book.reconnect();
        }
    }

    /// The book of a symbol has been crossed for too long.
    fn break_crossed(&mut self, symbol_id: u32) {
        for (_, book) in self.books.iter_mut().filter(|(id, _)| *id == symbol_id) {
            book.break_crossed();
        }
    }

    /// Whether the book of a symbol is whole.
    fn is_whole(&self, symbol_id: u32) -> bool {
        self.books.iter().any(|(id, book)| *id == symbol_id && book.state() == State::Whole)
    }

    /// Takes one message, events `start` to `stop`; what it did, as bits. None, and nothing has happened, if
    /// that is no whole message of a symbol that is here.
    #[pyo3(signature = (start, stop, /))]
    fn push(&mut self, start: usize, stop: usize) -> PyResult<Option<u32>> {
        // WHY taken out: the events are read while the books are written.
        let mut intake = std::mem::take(&mut self.intake);
        let taken = match intake.take(start, stop) {
            Some(events) if self.is_message(events) => self.follow(events).map(Some),
            _ => Ok(None),
        };
        self.intake = intake;
        taken.map_err(into_py)
    }
}

impl MarketBooks {
    /// Whether events are one whole message of a symbol that is here.
    pub(crate) fn is_message(&self, events: &[Event]) -> bool {
        count_messages(events) == 1
            && events.first().is_some_and(|head| self.books.iter().any(|(id, _)| *id == head.symbol_id))
    }

    /// Takes what one push took; what it did stands in the room. Of several messages nothing is taken: they are
    /// counted, for who takes them one by one.
    pub(crate) fn follow(&mut self, events: &[Event]) -> Result<u32, Error> {
        self.seen.clear();
        self.seen.resize(HEAD, 0);
        let messages = count_messages(events);
        let done = if messages == 1 { self.step(events) } else { Ok(0) };
        let code = done.as_ref().map_or(0, |&code| code);
        self.seen[DID..HEAD].copy_from_slice(&[code.into(), as_word(messages), as_word(events.len())]);
        self.show();
        done
    }

    fn step(&mut self, events: &[Event]) -> Result<u32, Error> {
        let Some(head) = events.first() else { return Ok(0) };
        let Some((_, book)) = self.books.iter_mut().find(|(id, _)| *id == head.symbol_id) else {
            return Ok(0);
        };
        let did = book.step(events)?;
        let mut code = if did.book { BOOK } else { 0 };
        code |= if did.trades { TRADES } else { 0 } | if did.gap { GAP } else { 0 };
        code |= if book.state() == State::Whole { WHOLE } else { 0 };
        let source_ts_ns =
            book.source_ts_ns().filter(|_| did.book && code & WHOLE != 0).unwrap_or(head.source_ts_ns);
        self.seen[..4].copy_from_slice(&[
            i64::from(head.symbol_id),
            source_ts_ns,
            head.local_ts_ns,
            book.applied().cast_signed(),
        ]);
        let Shows { levels, sums } = self.shows;
        if (levels || sums)
            && let Some((bids, asks)) = book.readable()
        {
            code |= READABLE;
            if levels {
                code |= LEVELS;
                see_levels(bids, asks, self.levels, &mut self.seen);
            }
            if sums && see_sums(bids, asks, &mut self.seen) {
                code |= TWO_SIDED;
            }
        }
        Ok(code)
    }
}

/// Writes so many levels of each side.
fn see_levels(bids: &[Level], asks: &[Level], levels: usize, out: &mut Vec<i64>) {
    out[4] = as_word(bids.len().min(levels));
    out[5] = as_word(asks.len().min(levels));
    for side in [bids, asks] {
        let first = out.len();
        out.extend(side.iter().take(levels).flat_map(|level| [level.price, level.qty]));
        out.resize(first + 2 * levels, 0);
    }
}

/// Writes what levels add up to; whether both sides are there and nothing overflows.
fn see_sums(bids: &[Level], asks: &[Level], out: &mut [i64]) -> bool {
    let (Some(bid), Some(ask)) = (bids.first(), asks.first()) else { return false };
    let depth =
        |side: &[Level]| side.iter().take(STATS_LEVELS).map(|level| i128::from(level.qty)).sum::<i128>();
    let (below, above) = (depth(bids), depth(asks));
    let ppm = half_even_div((below - above) * 1_000_000, below + above);
    let (Some(below), Some(above), Some(ppm)) = (to_i64(below), to_i64(above), ppm) else { return false };
    out[6..13].copy_from_slice(&[
        bid.price,
        ask.price,
        below,
        above,
        bid.price + ask.price,
        ask.price - bid.price,
        ppm,
    ]);
    true
}

impl MarketBooks {
    /// Puts what was seen where Python looks.
    #[allow(unsafe_code, reason = "books are written where Python looks")]
    fn show(&self) {
        let Some(room) = self.room.as_ref().and_then(PyBuffer::as_slice_ptr) else { return };
        let words = self.seen.len().min(room.len());
        // SAFETY: so many words lie in both. Python holds the room for views and nothing else; it runs in this
        // thread, and `seen` is ours alone.
        unsafe { room.as_ptr().cast::<i64>().copy_from_nonoverlapping(self.seen.as_ptr(), words) };
    }
}

fn count_messages(events: &[Event]) -> usize {
    events.iter().filter(|event| event.is_last()).count()
}

fn as_word(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
