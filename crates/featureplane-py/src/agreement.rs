//! Events against the instruments they were read by.

use featureplane_core::agreement;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;

use crate::array::as_events;

/// Index of the first event whose price is off the tick, or None.
#[pyfunction]
pub(crate) fn first_off_tick(
    py: Python<'_>,
    events: &Bound<'_, PyArray1<u64>>,
    symbol_id: u32,
    tick: u64,
) -> PyResult<Option<usize>> {
    let events = events.try_readonly()?;
    let events = as_events(&events)?;
    Ok(py.detach(|| agreement::first_off_tick(events, symbol_id, tick)))
}
