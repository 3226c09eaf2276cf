//! LOBSTER files from Python bytes to events.

use featureplane_core::normalize::lobster::{Config, Normalizer};
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::array::into_numpy;
use crate::errors::into_py;

/// Events and, if the rows behind them could not be read, why.
type Fed<'py> = (Bound<'py, PyArray1<u64>>, Option<PyErr>);

/// Reads a message file, with or without its order-book file, into events.
#[pyclass(module = "featureplane._native")]
pub(crate) struct LobsterReader {
    inner: Normalizer,
}

#[pymethods]
impl LobsterReader {
    #[new]
    #[allow(clippy::fn_params_excessive_bools, reason = "five values of one call from one place")]
    fn new(symbol_id: u32, midnight_ns: i64, book: bool, adopt: bool, drop_malformed: bool) -> Self {
        Self { inner: Normalizer::new(Config { symbol_id, midnight_ns, book, adopt, drop_malformed }) }
    }

    /// The events of the rows that the next bytes of both files complete, and the error that ends them, if any.
    fn feed<'py>(&mut self, py: Python<'py>, messages: &[u8], books: &[u8]) -> Fed<'py> {
        let inner = &mut self.inner;
        let (events, result) = py.detach(|| {
            let mut events = Vec::new();
            let result = inner.feed(messages, books, &mut events);
            (events, result)
        });
        (into_numpy(py, events), result.err().map(into_py))
    }

    /// As `feed`, at the end of both files.
    fn finish<'py>(&mut self, py: Python<'py>) -> Fed<'py> {
        let mut events = Vec::new();
        let result = self.inner.finish(&mut events);
        (into_numpy(py, events), result.err().map(into_py))
    }

    /// Rows that wait for their partner: of the message file, of the order-book file.
    fn waiting(&self) -> (usize, usize) {
        self.inner.waiting()
    }

    /// Levels a side of the order-book file; 0 before its first row.
    fn depth(&self) -> usize {
        self.inner.depth()
    }

    /// What was left out or taken as it stood, by reason.
    fn counts(&self) -> [(&'static str, u64); 5] {
        self.inner.counts().named()
    }
}
