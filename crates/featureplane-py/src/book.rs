//! One instrument's guarded book.

use featureplane_core::book::guarded::GuardedBook;
use featureplane_core::book::{Book, Level};
use featureplane_core::event::Event;
use featureplane_core::quality::Policy;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use zerocopy::FromBytes;

use crate::array::as_events;
use crate::errors::into_py;

type Pair = (i64, i64);
type Touch = (Option<i64>, Option<Pair>, Option<Pair>);

fn pair(level: Level) -> Pair {
    (level.price, level.qty)
}

/// A book, its guard and the message still coming. Not frozen: it is one running state.
#[pyclass(module = "featureplane._native")]
pub(crate) struct LobEngine {
    core: GuardedBook,
}

#[pymethods]
impl LobEngine {
    #[new]
    #[pyo3(signature = (symbol, symbol_id, tick, *, on_gap, seed, drop_malformed, locked_valid))]
    fn new(
        symbol: String,
        symbol_id: u32,
        tick: i64,
        on_gap: &str,
        seed: &str,
        drop_malformed: bool,
        locked_valid: bool,
    ) -> Self {
        let policy = Policy {
            pass_gaps: on_gap == "continue",
            refuse_gaps: on_gap == "refuse",
            seed_increments: seed == "increments",
        };
        let core = GuardedBook::new(symbol, symbol_id, tick, policy, drop_malformed, locked_valid);
        Self { core }
    }

    /// Takes the 64 bytes of one event.
    fn process_event(&mut self, event: &[u8]) -> PyResult<()> {
        let event = Event::read_from_bytes(event)
            .map_err(|_| PyValueError::new_err(format!("an event of {} bytes", event.len())))?;
        self.core.take(&[event]).map_err(into_py)
    }

    /// Takes many events at once.
    fn process_events(&mut self, py: Python<'_>, events: &Bound<'_, PyArray1<u64>>) -> PyResult<()> {
        let events = events.try_readonly()?;
        let events = as_events(&events)?;
        let core = &mut self.core;
        py.detach(|| core.take(events)).map_err(into_py)
    }

    /// Time of the last message applied, and (price, size) of best bid and best ask.
    fn touch(&mut self) -> Touch {
        let touch = self.core.touch();
        (touch.source_ts_ns, touch.bid.map(pair), touch.ask.map(pair))
    }

    /// 0 waiting, 1 whole, 2 broken.
    fn state(&self) -> u8 {
        self.core.state() as u8
    }

    /// (price, size) of every level of each side, best first.
    fn levels(&self) -> (Vec<Pair>, Vec<Pair>) {
        let all =
            |levels: fn(&Book) -> Vec<Level>| levels(self.core.levels()).into_iter().map(pair).collect();
        (all(Book::all_bids), all(Book::all_asks))
    }
}
