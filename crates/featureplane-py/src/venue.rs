//! The market as a simulated venue sees it, a message at a time; orders and fills are Python's.

use featureplane_core::book::GuardedBook;
use featureplane_core::book::view::{MarketView, Waiting};
use featureplane_core::event::{Event, kind};
use featureplane_core::quality::Policy;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::errors::into_py;
use crate::push::Intake;

type Fields = (u8, u8, u16, u32, i64, i64, u64, u64, u64, i64, i64);
type Change = (u8, i64, i64, i64, u64, bool, bool);

/// Views by symbol. Not frozen: it is one running state.
#[pyclass(module = "featureplane._native")]
pub(crate) struct VenueViews {
    views: Vec<(u32, MarketView)>,
    intake: Intake,
    /// Which view the last message was of, and its trades.
    last: usize,
    trades: Vec<Event>,
}

#[pymethods]
impl VenueViews {
    /// `symbols` are (symbol, id, tick, whether locked is valid).
    #[new]
    #[pyo3(signature = (symbols, *, on_gap, seed, drop_malformed))]
    fn new(symbols: Vec<(String, u32, i64, bool)>, on_gap: &str, seed: &str, drop_malformed: bool) -> Self {
        let policy = Policy {
            pass_gaps: on_gap == "continue",
            refuse_gaps: on_gap == "refuse",
            seed_increments: seed == "increments",
        };
        let view = |(symbol, id, tick, locked)| {
            let book = GuardedBook::new(symbol, id, tick, policy, drop_malformed, locked);
            (id, MarketView::new(book, tick))
        };
        let views = symbols.into_iter().map(view).collect();
        Self { views, intake: Intake::default(), last: 0, trades: Vec::new() }
    }

    /// The array of events that `take` reads.
    fn bind_events(&mut self, events: PyBuffer<u64>) -> PyResult<()> {
        self.intake.bind(events)
    }

    /// Takes the first message of events `start` to `stop`: twice the number of its events, plus one if it
    /// concerns what waits. None, and nothing has happened, if those events are not whole messages, or of no
    /// symbol that is here.
    #[pyo3(signature = (start, stop, /))]
    fn take(&mut self, start: usize, stop: usize) -> PyResult<Option<usize>> {
        let Some(events) = self.intake.take_from(start, stop) else { return Ok(None) };
        let Some(head) = events.first() else { return Ok(None) };
        let Some(at) = self.views.iter().position(|(id, _)| *id == head.symbol_id) else { return Ok(None) };
        self.last = at;
        let (taken, concerned) = self.views[at].1.take(events).map_err(into_py)?;
        if concerned {
            let is_told = |event: &&Event| event.is_market_trade() && event.qty != 0;
            self.trades.clear();
            self.trades.extend(events[..taken].iter().filter(is_told));
        }
        Ok(Some(2 * taken + usize::from(concerned)))
    }

    /// What the last message did, if it concerned what waits: id of its symbol, venue's time, trades, changes
    /// where that is, and whether the book was replaced.
    fn step(&self) -> (u32, i64, Vec<Fields>, Vec<Change>, bool) {
        let (id, view) = &self.views[self.last];
        let journal = view.journal();
        let trades = self.trades.iter().map(fields).collect();
        let changes = journal.changes.iter().map(|one| {
            (one.side, one.price, one.before, one.after, one.order_id, one.executed, one.concealed)
        });
        (*id, journal.source_ts_ns, trades, changes.collect(), journal.resynced)
    }

    /// Where orders of ours wait from now on, and side and price of levels they took from.
    #[pyo3(signature = (symbol_id, bids, asks, taken, /))]
    fn wait(&mut self, symbol_id: u32, bids: Vec<i64>, asks: Vec<i64>, taken: Vec<(u8, i64)>) {
        if let Some(view) = self.view(symbol_id) {
            view.wait(Waiting { bids, asks, taken });
        }
    }

    /// The connection of a symbol is another one.
    #[pyo3(signature = (symbol_id, /))]
    fn reconnect(&mut self, symbol_id: u32) {
        if let Some(view) = self.view(symbol_id) {
            view.reconnect();
        }
    }

    /// Whether the status says that there is trading, and whether the book can be read.
    #[pyo3(signature = (symbol_id, /))]
    fn stands(&mut self, symbol_id: u32) -> (bool, bool) {
        self.view(symbol_id).map_or((false, false), |view| (view.is_trading(), view.is_readable()))
    }

    /// The best bid and ask; None while the book cannot be read.
    #[pyo3(signature = (symbol_id, /))]
    fn best(&mut self, symbol_id: u32) -> (Option<i64>, Option<i64>) {
        self.view(symbol_id).map_or((None, None), MarketView::best)
    }

    /// Price and size of the first levels of a side, or of all of them, best first.
    #[pyo3(signature = (symbol_id, side, every, /))]
    fn levels(&mut self, symbol_id: u32, side: u8, every: bool) -> Vec<(i64, i64)> {
        let levels = self.view(symbol_id).map(|view| view.levels(side, every)).unwrap_or_default();
        levels.into_iter().map(|level| (level.price, level.qty)).collect()
    }

    /// The size of a level, 0 if it is not there.
    #[pyo3(signature = (symbol_id, side, price, /))]
    fn size_at(&mut self, symbol_id: u32, side: u8, price: i64) -> i64 {
        self.view(symbol_id).map_or(0, |view| view.size_at(side, price))
    }
}

impl VenueViews {
    fn view(&mut self, symbol_id: u32) -> Option<&mut MarketView> {
        self.views.iter_mut().find(|(id, _)| *id == symbol_id).map(|(_, view)| view)
    }
}

const fn fields(event: &Event) -> Fields {
    (
        kind::TRADE,
        event.side,
        event.flags,
        event.symbol_id,
        event.price,
        event.qty,
        event.order_id,
        event.seq_last,
        event.seq_prev,
        event.source_ts_ns,
        event.local_ts_ns,
    )
}
