//! The Python door of `featureplane-core`: convert, register, translate errors. No opinion of its own.

mod array;
mod errors;

use pyo3::prelude::*;

/// Rust half of featureplane; `featureplane.native` is the only module that imports it.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
