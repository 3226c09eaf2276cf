//! hftbacktest rows from NumPy to events.
#![allow(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]

use featureplane_core::normalize::hftbacktest::{Config, Normalizer, Precision, Row};
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use crate::array::into_numpy;
use crate::errors::into_py;

/// Events and, if the rows behind them could not be read, why.
type Fed<'py> = (Bound<'py, PyArray1<u64>>, Option<PyErr>);

fn as_rows<'a>(words: &'a PyReadonlyArray1<'_, u64>) -> PyResult<&'a [Row]> {
    let words = words.as_slice().map_err(|_| PyValueError::new_err("rows must be contiguous"))?;
    <[Row]>::ref_from_bytes(words.as_bytes())
        .map_err(|_| PyValueError::new_err(format!("{} words are no whole number of rows", words.len())))
}

/// Reads chunks of rows, eight words each, into events.
#[pyclass(module = "featureplane._native")]
pub(crate) struct HftbacktestReader {
    inner: Normalizer,
}

#[pymethods]
impl HftbacktestReader {
    #[new]
    fn new(
        symbol_id: u32,
        price_exponent: u8,
        qty_exponent: u8,
        local_shift_ns: i64,
        local_time: bool,
        side_inferred: bool,
        drop_malformed: bool,
    ) -> PyResult<Self> {
        if price_exponent.max(qty_exponent) > 18 {
            return Err(PyValueError::new_err("exponents are at most 18"));
        }
        let config = Config {
            symbol_id,
            price_exponent,
            qty_exponent,
            local_shift_ns,
            local_time,
            side_inferred,
            drop_malformed,
        };
        Ok(Self { inner: Normalizer::new(config) })
    }

    /// The events of the messages that `rows` complete, and the error that ends the stream, if any.
    fn feed<'py>(&mut self, py: Python<'py>, rows: PyReadonlyArray1<'py, u64>) -> PyResult<Fed<'py>> {
        let rows = as_rows(&rows)?;
        let inner = &mut self.inner;
        let (events, result) = py.detach(|| {
            let mut events = Vec::with_capacity(rows.len() + 1);
            let result = inner.feed(rows, &mut events);
            (events, result)
        });
        Ok((into_numpy(py, events), result.err().map(into_py)))
    }

    /// The events of the message left open.
    fn finish<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        let mut events = Vec::new();
        self.inner.finish(&mut events);
        into_numpy(py, events)
    }

    /// Rows that became no event, by reason.
    fn dropped(&self) -> [(&'static str, u64); 4] {
        let dropped = self.inner.dropped();
        [
            ("not_local", dropped.not_local),
            ("unknown_kind", dropped.unknown_kind),
            ("empty_trade", dropped.empty_trade),
            ("malformed", dropped.malformed),
        ]
    }
}

/// Decimals of prices and sizes: the larger of those given and those `rows` need.
#[pyfunction]
pub(crate) fn hftbacktest_precision(
    py: Python<'_>,
    rows: PyReadonlyArray1<'_, u64>,
    price_exponent: u8,
    qty_exponent: u8,
) -> PyResult<(u8, u8)> {
    let rows = as_rows(&rows)?;
    let mut precision = Precision { price_exponent, qty_exponent };
    py.detach(|| precision.feed(rows));
    Ok((precision.price_exponent, precision.qty_exponent))
}
