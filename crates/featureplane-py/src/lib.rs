//! The Python door of `featureplane-core`: convert, register, translate errors. No opinion of its own.

mod agreement;
mod array;
mod book;
mod engine;
mod errors;
mod laps;
mod latest;
mod market;
mod memory;
mod pipeline;
mod push;
mod shadow;
mod sources_binance;
mod sources_hftbacktest;
mod sources_lobster;
mod touch;
mod venue;
mod view;

use pyo3::prelude::*;

/// Rust half of featureplane; `featureplane.native` is the only module that imports it.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<sources_binance::BinanceReader>()?;
    module.add_class::<sources_binance::BinanceScan>()?;
    module.add_class::<sources_hftbacktest::HftbacktestReader>()?;
    module.add_function(wrap_pyfunction!(sources_hftbacktest::hftbacktest_precision, module)?)?;
    module.add_function(wrap_pyfunction!(agreement::first_off_tick, module)?)?;
    module.add_function(wrap_pyfunction!(touch::compute_touch, module)?)?;
    module.add_class::<book::LobEngine>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<latest::Handle>()?;
    module.add_class::<latest::Latest>()?;
    module.add_class::<market::MarketBooks>()?;
    module.add_class::<pipeline::Pipeline>()?;
    module.add_class::<shadow::ShadowProbe>()?;
    module.add_class::<sources_lobster::LobsterReader>()?;
    module.add_class::<venue::VenueViews>()?;
    module.add_class::<view::Door>()?;
    module.add_class::<view::View>()?;
    Ok(())
}
