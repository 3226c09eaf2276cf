//! A plan over a prepared table of best prices and sizes.

use featureplane_core::engine::touch::{Rows, TouchEngine};
use featureplane_core::plan::Plan;
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::into_py;
use crate::memory;

/// Eight bytes of each value by feature, rows that have flags, and their flags.
type Computed<'py> = (Vec<Bound<'py, PyArray1<u64>>>, Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<u32>>);

/// Computes a plan over columns of best bid, best ask, their sizes, and times or none. None if a row holds
/// what no event may hold.
#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "as arguments are extracted")]
#[pyo3(signature = (plan, fingerprint, columns, source_ts_ns, *, tick, locked_valid))]
pub(crate) fn compute_touch<'py>(
    py: Python<'py>,
    plan: &str,
    fingerprint: [u8; 8],
    columns: [Bound<'py, PyArray1<i64>>; 4],
    source_ts_ns: Option<Bound<'py, PyArray1<i64>>>,
    tick: Option<i64>,
    locked_valid: bool,
) -> PyResult<Option<Computed<'py>>> {
    let plan = Plan::from_json(plan, fingerprint).map_err(into_py)?;
    let features = plan.features.len();
    let mut engine = TouchEngine::new(plan, tick, locked_valid).map_err(into_py)?;
    let columns = columns.iter().map(PyArrayMethods::try_readonly).collect::<Result<Vec<_>, _>>()?;
    let times = source_ts_ns.as_ref().map(PyArrayMethods::try_readonly).transpose()?;
    let slices = columns.iter().map(slice).collect::<PyResult<Vec<_>>>()?;
    let &[bid, ask, bid_qty, ask_qty] = slices.as_slice() else {
        return Err(PyValueError::new_err("four columns"));
    };
    let source_ts_ns = times.as_ref().map(slice).transpose()?;
    let rows = Rows { bid, ask, bid_qty, ask_qty, source_ts_ns };
    memory::keep(features, size_of::<u64>() * rows.len());
    let Some(table) = py.detach(|| engine.run(&rows)) else { return Ok(None) };
    let (flagged, flags) = table.flagged.into_iter().unzip();
    let values = table.values.into_iter().map(|column| PyArray1::from_vec(py, column)).collect();
    Ok(Some((values, PyArray1::from_vec(py, flagged), PyArray1::from_vec(py, flags))))
}

fn slice<'a>(column: &'a PyReadonlyArray1<'_, i64>) -> PyResult<&'a [i64]> {
    column.as_slice().map_err(|_| PyValueError::new_err("columns must be contiguous"))
}
