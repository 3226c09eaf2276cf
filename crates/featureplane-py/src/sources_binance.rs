//! Recordings of Binance from bytes to NumPy.
#![allow(clippy::needless_pass_by_value, reason = "arguments are extracted by value")]

use featureplane_core::error::Error;
use featureplane_core::event::Event;
use featureplane_core::normalize::binance::{Market, Reader, Scan};
use featureplane_core::normalize::decimal::{EXPONENT_MAX, Scaled};
use featureplane_core::normalize::inflate::{Flow, Unpacker};
use numpy::PyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::array::into_numpy;
use crate::errors::into_py_at;

/// Symbol, (decimals, common divisor) of prices and of sizes, volume in units of 10^-18.
type FoundRow = (String, (u8, i128), (u8, i128), i128);

const fn market(futures: bool) -> Market {
    if futures { Market::Futures } else { Market::Spot }
}

/// Reads one symbol of a recording; files come one after another, packed or not.
#[pyclass(module = "featureplane._native")]
pub(crate) struct BinanceReader {
    reader: Reader,
    unpacker: Unpacker,
    events: Vec<Event>,
    file: String,
}

#[pymethods]
impl BinanceReader {
    #[new]
    fn new(
        symbol: &str,
        symbol_id: u32,
        price_exponent: u8,
        qty_exponent: u8,
        futures: bool,
        drop_malformed: bool,
        line_bytes_max: usize,
    ) -> PyResult<Self> {
        if price_exponent.max(qty_exponent) > EXPONENT_MAX {
            return Err(PyValueError::new_err(format!("exponents are at most {EXPONENT_MAX}")));
        }
        let decimals = Scaled { price_exponent, qty_exponent };
        let reader =
            Reader::new(symbol, symbol_id, decimals, market(futures), drop_malformed, line_bytes_max);
        let unpacker = Unpacker::default();
        Ok(Self { reader, unpacker, events: Vec::new(), file: String::new() })
    }

    /// Begins a file; errors will name it.
    fn begin(&mut self, file: String) {
        self.file = file;
    }

    /// Reads `data` from `start` on until `events_max` events are waiting; returns the place behind what was
    /// used.
    fn feed(&mut self, py: Python<'_>, data: &[u8], start: usize, events_max: usize) -> PyResult<usize> {
        let Self { reader, unpacker, events, file } = self;
        let input = data.get(start..).unwrap_or_default();
        let used = py.detach(|| {
            unpacker.feed(input, &mut |text| {
                reader.feed(text, events)?;
                Ok(if events.len() >= events_max { Flow::Enough } else { Flow::More })
            })
        });
        used.map(|used| start + used).map_err(|error| into_py_at(error, Some(file)))
    }

    /// Ends the file.
    fn end(&mut self, py: Python<'_>) -> PyResult<()> {
        let Self { reader, unpacker, events, file } = self;
        py.detach(|| -> Result<(), Error> {
            unpacker.finish(&mut |text| reader.feed(text, events).map(|()| Flow::More))?;
            reader.finish(events)
        })
        .map_err(|error| into_py_at(error, Some(file)))
    }

    /// Events waiting to be taken.
    fn pending(&self) -> usize {
        self.events.len()
    }

    /// The events waiting, eight words each.
    fn take<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        into_numpy(py, std::mem::take(&mut self.events))
    }

    /// Lines that became no event since the beginning, by reason.
    fn dropped(&self) -> [(&'static str, u64); 5] {
        self.reader.counts().named()
    }

    /// Symbols seen, the wanted one first if it is among them.
    fn symbols(&self) -> Vec<String> {
        self.reader.symbols().map(str::to_owned).collect()
    }

    /// The latest local time of any line, 0 before the first.
    fn local_max(&self) -> i64 {
        self.reader.local_max()
    }
}

/// Looks through a recording for the precision of its symbols.
#[pyclass(module = "featureplane._native")]
pub(crate) struct BinanceScan {
    scan: Scan,
    unpacker: Unpacker,
    file: String,
}

#[pymethods]
impl BinanceScan {
    #[new]
    fn new(futures: bool, drop_malformed: bool, line_bytes_max: usize) -> Self {
        let scan = Scan::new(market(futures), drop_malformed, line_bytes_max);
        Self { scan, unpacker: Unpacker::default(), file: String::new() }
    }

    /// Begins a file; errors will name it.
    fn begin(&mut self, file: String) {
        self.file = file;
    }

    /// Looks at `data`, all of it.
    fn feed(&mut self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        let Self { scan, unpacker, file } = self;
        py.detach(|| unpacker.feed(data, &mut |text| scan.feed(text).map(|()| Flow::More)))
            .map(|_| ())
            .map_err(|error| into_py_at(error, Some(file)))
    }

    /// Ends the file.
    fn end(&mut self, py: Python<'_>) -> PyResult<()> {
        let Self { scan, unpacker, file } = self;
        py.detach(|| -> Result<(), Error> {
            unpacker.finish(&mut |text| scan.feed(text).map(|()| Flow::More))?;
            scan.finish()
        })
        .map_err(|error| into_py_at(error, Some(file)))
    }

    /// What was found of each symbol.
    fn found(&self) -> Vec<FoundRow> {
        let row = |found: featureplane_core::normalize::binance::Found| {
            let price = (found.price.places, found.price.divisor);
            (found.symbol, price, (found.qty.places, found.qty.divisor), found.volume)
        };
        self.scan.found().into_iter().map(row).collect()
    }

    /// The latest local time of any line, 0 before the first.
    fn local_max(&self) -> i64 {
        self.scan.local_max()
    }
}
