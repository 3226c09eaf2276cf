//! Guarded books of several symbols, a message at a time, and their best levels in room that Python looks at.
//!
//! Twin of `PlainBooks` in `strategy/market.py`, which says what stands where.

use featureplane_core::book::Level;
use featureplane_core::book::guarded::GuardedBook;
use featureplane_core::error::Error;
use featureplane_core::event::Event;
use featureplane_core::message::{self, Message, Next};
use featureplane_core::quality::{Policy, State};
use featureplane_core::units::{half_even_div, to_i64};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use crate::array::Held;
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

/// Price, size and side of a trade.
type Trade = (i64, i64, u8);

/// Messages taken, the times of the last, and the latest at which one was received.
#[derive(Clone, Copy, Default)]
struct Clock {
    messages: u64,
    ts_ns: i64,
    local_ts_ns: i64,
    now_ns: i64,
}

/// The best prices in force, none where they cannot be known, and since when.
#[derive(Clone, Copy)]
struct Touch {
    book: usize,
    prices: Option<(i64, i64)>,
    now_ns: i64,
}

/// Symbol, best bid, best ask, and since when.
type ToldTouch = (Py<PyString>, Option<i64>, Option<i64>, i64);

/// One whole message.
pub(crate) enum One<'a> {
    /// It keeps the rules.
    Sound(Message<'a>),
    /// It may not.
    Odd(&'a [Event]),
}

impl<'a> One<'a> {
    fn events(&self) -> &'a [Event] {
        match self {
            Self::Sound(message) => message.events,
            Self::Odd(events) => events,
        }
    }
}

/// Books by symbol. Not frozen: it is one running state.
#[pyclass(module = "featureplane._native")]
pub(crate) struct MarketBooks {
    books: Vec<(u32, GuardedBook)>,
    levels: usize,
    /// Somebody looks at the levels, or at what they add up to.
    shows: Shows,
    intake: Intake,
    room: Option<Held<i64>>,
    seen: Vec<i64>,
    /// The book whose levels and sums were seen last, and what of them is there, as bits.
    ///
    /// WHY: three messages in four are trades, which leave the book alone.
    stands: Option<(usize, u32)>,
    /// Trades of the last message that were not there before, and whose they are.
    trades: Vec<Trade>,
    last: usize,
    clock: Clock,
    /// The touch of each book that messages moved and nobody has asked for yet, in the order in which they did.
    touches: Vec<Touch>,
    /// What the clock said before the last message, how many touches there were, and the one it changed.
    before: (Clock, usize, Option<(usize, Touch)>),
    /// What trades are told with: the name of each book, and the objects that stand for sides.
    names: Vec<Py<PyString>>,
    sides: Py<PyTuple>,
}

/// What is written to the room beside what messages did.
#[derive(Clone, Copy)]
struct Shows {
    levels: bool,
    sums: bool,
    /// A message that is one trade is told at once.
    trades: bool,
}

#[pymethods]
impl MarketBooks {
    /// `symbols` are (symbol, id, tick, whether locked is valid), `sides` what stands for each side in `trades`.
    #[new]
    #[pyo3(signature = (symbols, levels, sides, *, on_gap, seed, drop_malformed))]
    fn new(
        symbols: Vec<(Bound<'_, PyString>, u32, i64, bool)>,
        levels: usize,
        sides: Py<PyTuple>,
        on_gap: &str,
        seed: &str,
        drop_malformed: bool,
    ) -> PyResult<Self> {
        let policy = Policy {
            pass_gaps: on_gap == "continue",
            refuse_gaps: on_gap == "refuse",
            seed_increments: seed == "increments",
        };
        let depth = levels.max(STATS_LEVELS);
        let (mut books, mut names) = (Vec::new(), Vec::new());
        for (symbol, id, tick, locked) in symbols {
            let empty = GuardedBook::new(symbol.extract()?, id, tick, policy, drop_malformed, locked);
            books.push((id, empty.with_levels(tick, depth)));
            names.push(symbol.unbind());
        }
        let shows = Shows { levels: true, sums: true, trades: false };
        Ok(Self {
            books,
            levels,
            shows,
            intake: Intake::default(),
            room: None,
            seen: vec![0; HEAD],
            stands: None,
            trades: Vec::new(),
            last: 0,
            clock: Clock::default(),
            touches: Vec::new(),
            before: (Clock::default(), 0, None),
            names,
            sides,
        })
    }

    /// The trades of the last message: symbol, the venue's and the local time, price, size and side of each.
    fn trades<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self.trades[..] {
            [] => Ok(PyTuple::empty(py)),
            [trade] => PyTuple::new(py, [PyTuple::new(py, self.told(py, trade)?)?]),
            _ => {
                let told = |&trade| PyTuple::new(py, self.told(py, trade)?);
                PyTuple::new(py, self.trades.iter().map(told).collect::<PyResult<Vec<_>>>()?)
            }
        }
    }

    /// Messages taken.
    #[getter]
    fn messages(&self) -> u64 {
        self.clock.messages
    }

    /// The venue's time of the last message taken.
    #[getter]
    fn ts_ns(&self) -> i64 {
        self.clock.ts_ns
    }

    /// When the last message taken was received.
    #[getter]
    fn local_ts_ns(&self) -> i64 {
        self.clock.local_ts_ns
    }

    /// The latest of those times, and of those that were told.
    #[getter]
    fn now_ns(&self) -> i64 {
        self.clock.now_ns
    }

    /// It is at least so late.
    #[pyo3(signature = (now_ns, /))]
    fn pass_time(&mut self, now_ns: i64) {
        self.clock.now_ns = self.clock.now_ns.max(now_ns);
    }

    /// The best prices of each symbol that moved since they were asked for last, None where there are none, and
    /// the latest time when they did; in the order of the first moves.
    fn touches(&mut self, py: Python<'_>) -> Vec<ToldTouch> {
        let told = |Touch { book, prices, now_ns }| {
            let (bid, ask) = prices.unzip();
            (self.names[book].clone_ref(py), bid, ask, now_ns)
        };
        self.before.1 = 0;
        self.touches.drain(..).map(told).collect()
    }

    /// No best prices of a symbol are known until a message moves its book.
    #[pyo3(signature = (symbol_id, /))]
    fn lose(&mut self, symbol_id: u32) {
        if let Some(book) = self.place(symbol_id) {
            self.note(book, None);
        }
    }

    /// The last message does not count: whoever else had to take it could not.
    pub(crate) fn take_back(&mut self) {
        let (clock, touches, changed) = self.before;
        self.clock = clock;
        self.touches.truncate(touches);
        if let Some((at, touch)) = changed
            && let Some(now) = self.touches.get_mut(at)
        {
            *now = touch;
        }
    }

    /// The array of events that `push` takes from.
    fn bind_events(&mut self, events: PyBuffer<u64>) -> PyResult<()> {
        self.intake.bind(events)
    }

    /// The array that `push` writes to.
    fn bind_room(&mut self, room: PyBuffer<i64>) -> PyResult<()> {
        let fits = !room.readonly() && room.item_count() == HEAD + 4 * self.levels;
        let wrong = || PyValueError::new_err("room of another size");
        self.room = Some(Held::of(room).filter(|_| fits).ok_or_else(wrong)?);
        self.show();
        Ok(())
    }

    /// Whether levels are written to the room from the next message on, whether what they add up to is, and
    /// whether `Engine.step` gives back the trade where a message is nothing else.
    #[pyo3(signature = (*, levels, sums, trades))]
    fn watch(&mut self, levels: bool, sums: bool, trades: bool) {
        self.shows = Shows { levels, sums, trades };
        self.stands = None;
    }

    /// The connection of a symbol is another one.
    fn reconnect(&mut self, symbol_id: u32) {
        self.stands = None;
        for (_, book) in self.books.iter_mut().filter(|(id, _)| *id == symbol_id) {
            book.reconnect();
        }
    }

    /// The book of a symbol has been crossed for too long.
    fn break_crossed(&mut self, symbol_id: u32) {
        self.stands = None;
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
    fn push(&mut self, start: isize, stop: isize) -> PyResult<Option<u32>> {
        let (Ok(start), Ok(stop)) = (usize::try_from(start), usize::try_from(stop)) else {
            return Ok(None);
        };
        // WHY taken out: the events are read while the books are written.
        let mut intake = std::mem::take(&mut self.intake);
        let taken = match intake.take(start, stop) {
            Some(events) => match self.one(events) {
                Some(one) => self.follow_one(&one).map(Some),
                None => Ok(None),
            },
            None => Ok(None),
        };
        self.intake = intake;
        taken.map_err(into_py)
    }
}

impl MarketBooks {
    /// What the last message did, as bits; or as a list what `trades` has, where it is a trade and nothing else,
    /// and somebody wants that told.
    pub(crate) fn did<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let code = self.seen.get(DID).copied().unwrap_or_default();
        match self.trades[..] {
            [trade] if self.shows.trades && code & i64::from(BOOK | GAP) == 0 => {
                Ok(PyList::new(py, self.told(py, trade)?)?.into_any())
            }
            _ => Ok(code.into_pyobject(py)?.into_any()),
        }
    }

    /// A trade of the last message.
    fn told<'py>(&self, py: Python<'py>, (price, qty, side): Trade) -> PyResult<[Bound<'py, PyAny>; 6]> {
        let Clock { ts_ns, local_ts_ns, .. } = self.clock;
        let number = |word: i64| word.into_pyobject(py).map(Bound::into_any);
        Ok([
            self.names[self.last].bind(py).clone().into_any(),
            number(ts_ns)?,
            number(local_ts_ns)?,
            number(price)?,
            number(qty)?,
            self.sides.bind(py).get_item(side.into())?,
        ])
    }

    /// The message, if events are one whole message of a symbol that is here.
    pub(crate) fn one<'a>(&self, events: &'a [Event]) -> Option<One<'a>> {
        self.place(events.first()?.symbol_id)?;
        match message::take(events) {
            Next::Message(message) if message.events.len() == events.len() => Some(One::Sound(message)),
            _ => (count_messages(events) == 1).then_some(One::Odd(events)),
        }
    }

    fn place(&self, symbol_id: u32) -> Option<usize> {
        self.books.iter().position(|(id, _)| *id == symbol_id)
    }

    /// Takes what one push took; what it did stands in the room. Of several messages nothing is taken: they are
    /// counted, for who takes them one by one.
    pub(crate) fn follow(&mut self, events: &[Event]) -> Result<u32, Error> {
        match count_messages(events) {
            1 => self.follow_one(&One::Odd(events)),
            messages => {
                self.forget();
                self.trades.clear();
                self.before = (self.clock, self.touches.len(), None);
                self.tell(0, messages, events.len());
                Ok(0)
            }
        }
    }

    /// Takes one message, which is checked here unless it is sound.
    pub(crate) fn follow_one(&mut self, one: &One<'_>) -> Result<u32, Error> {
        self.trades.clear();
        self.before = (self.clock, self.touches.len(), None);
        let done = self.step(one);
        let code = if let Ok(code) = done {
            self.count(code);
            code
        } else {
            self.forget();
            0
        };
        self.tell(code, 1, one.events().len());
        done
    }

    /// Writes down what messages did, so many of so many events, and shows it.
    fn tell(&mut self, code: u32, messages: usize, events: usize) {
        self.seen[DID..HEAD].copy_from_slice(&[code.into(), as_word(messages), as_word(events)]);
        self.show();
    }

    /// Nothing is seen of any book.
    fn forget(&mut self) {
        self.seen.clear();
        self.seen.resize(HEAD, 0);
        self.stands = None;
    }

    /// Counts a message that was taken, and notes the touch if it moved it.
    fn count(&mut self, code: u32) {
        let (id, ts_ns, local_ts_ns) = (self.seen[0], self.seen[1], self.seen[2]);
        let Clock { messages, now_ns, .. } = self.clock;
        self.clock = Clock { messages: messages + 1, ts_ns, local_ts_ns, now_ns: now_ns.max(local_ts_ns) };
        if code & (BOOK | GAP) != 0
            && let Some(book) = u32::try_from(id).ok().and_then(|id| self.place(id))
        {
            self.note(book, (code & TWO_SIDED != 0).then(|| (self.seen[6], self.seen[7])));
        }
    }

    fn note(&mut self, book: usize, prices: Option<(i64, i64)>) {
        let touch = Touch { book, prices, now_ns: self.clock.now_ns };
        match self.touches.iter().position(|one| one.book == book) {
            Some(at) => self.before.2 = Some((at, std::mem::replace(&mut self.touches[at], touch))),
            None => self.touches.push(touch),
        }
    }

    fn step(&mut self, one: &One<'_>) -> Result<u32, Error> {
        let events = one.events();
        let Some(head) = events.first() else { return Ok(0) };
        let Some(place) = self.place(head.symbol_id) else { return Ok(0) };
        self.last = place;
        let book = &mut self.books[place].1;
        let did = match one {
            One::Sound(message) => book.step_message(message)?,
            One::Odd(events) => book.step(events)?,
        };
        let mut code = if did.book { BOOK } else { 0 };
        code |= if did.trades { TRADES } else { 0 } | if did.gap { GAP } else { 0 };
        if did.trades {
            let told = events.iter().filter(|event| event.is_market_trade() && event.qty != 0);
            self.trades.extend(told.map(|event| (event.price, event.qty, event.side)));
        }
        code |= if book.state() == State::Whole { WHOLE } else { 0 };
        let source_ts_ns =
            book.source_ts_ns().filter(|_| did.book && code & WHOLE != 0).unwrap_or(head.source_ts_ns);
        let (local_ts_ns, applied) = (head.local_ts_ns, book.applied().cast_signed());
        let stands = match self.stands {
            Some((of, code)) if of == place && !did.book && !did.gap => code,
            _ => self.see(place),
        };
        self.seen[..4].copy_from_slice(&[i64::from(head.symbol_id), source_ts_ns, local_ts_ns, applied]);
        Ok(code | stands)
    }

    /// Looks at a book anew; what of it stands in the room, as bits.
    fn see(&mut self, place: usize) -> u32 {
        self.forget();
        let Shows { levels, sums, .. } = self.shows;
        let mut code = 0;
        if (levels || sums)
            && let Some((bids, asks)) = self.books[place].1.readable()
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
        self.stands = Some((place, code));
        code
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
        let Some(room) = &self.room else { return };
        let words = self.seen.len().min(room.len());
        // SAFETY: so many words lie in both. Python holds the room for views and nothing else; it runs in this
        // thread, and `seen` is ours alone.
        unsafe { room.first().copy_from_nonoverlapping(self.seen.as_ptr(), words) };
    }
}

fn count_messages(events: &[Event]) -> usize {
    events.iter().filter(|event| event.is_last()).count()
}

fn as_word(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
