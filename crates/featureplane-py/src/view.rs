//! What one strategy reads: of each symbol the last frame of the version it consumes now.
//!
//! Twin of `PlainView` in `features/view.py`. Which version that is changes while doors stay: nothing that a
//! strategy holds goes on reading the version it has left.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::latest::{Given, Latest, Names};

/// LIMIT: versions that one strategy can be shown between its start and its end.
const VERSIONS: usize = 64;

const NOTHING: usize = usize::MAX;
const UNKNOWN: u32 = u32::MAX;

/// The versions shown so far, and by symbol which of them is read now.
struct Shown {
    versions: [OnceLock<Py<Latest>>; VERSIONS],
    now: Box<[AtomicUsize]>,
}

impl Shown {
    #[inline]
    fn version(&self, row: usize) -> Option<(usize, &Latest)> {
        let version = self.now[row].load(Ordering::Relaxed);
        Some((version, self.versions.get(version)?.get()?.get()))
    }
}

/// The last frame of each symbol, of the version that is shown.
#[pyclass(module = "featureplane._native", frozen)]
pub(crate) struct View {
    symbols: Names,
    shown: Arc<Shown>,
    refuse: Py<PyAny>,
}

#[pymethods]
impl View {
    /// `refuse(symbol, feature_id)` raises.
    #[new]
    fn new(py: Python<'_>, symbols: Vec<Bound<'_, PyString>>, refuse: Py<PyAny>) -> PyResult<Self> {
        let now = symbols.iter().map(|_| AtomicUsize::new(NOTHING)).collect();
        let shown = Arc::new(Shown { versions: [const { OnceLock::new() }; VERSIONS], now });
        Ok(Self { symbols: Names::new(py, symbols)?, shown, refuse })
    }

    /// Shows these frames of a symbol from now on, or none; whether there was room for another version.
    #[pyo3(signature = (symbol, latest, /))]
    fn turn(&self, symbol: &Bound<'_, PyAny>, latest: Option<Py<Latest>>) -> bool {
        let Some(row) = self.symbols.find(symbol) else { return false };
        let version = match latest {
            None => Some(NOTHING),
            Some(latest) => self
                .shown
                .versions
                .iter()
                .position(|known| known.get_or_init(|| latest.clone_ref(symbol.py())).is(&latest)),
        };
        if let Some(version) = version {
            self.shown.now[row].store(version, Ordering::Relaxed);
        }
        version.is_some()
    }

    /// The value of a feature; without one `default` if it is given, else what `refuse` raises.
    #[pyo3(signature = (symbol, feature_id, /, *, default = Given::Nothing), text_signature = "($self, symbol, feature_id, /, *, default=...)")]
    fn get_feature(
        &self,
        symbol: &Bound<'_, PyAny>,
        feature_id: &Bound<'_, PyAny>,
        default: Given<'_>,
    ) -> PyResult<Py<PyAny>> {
        let found = self.symbols.find(symbol).and_then(|row| {
            let (_, latest) = self.shown.version(row)?;
            Some((latest, row, latest.feature(feature_id)?))
        });
        let value = found.and_then(|(latest, row, feature)| latest.number(symbol.py(), row, feature));
        match (value, found, default) {
            (Some(value), ..) => Ok(value),
            (None, Some(_), Given::Value(default)) => Ok(default.unbind()),
            _ => self.refuse.call1(symbol.py(), (symbol, feature_id)),
        }
    }

    /// A door to one feature of one symbol; what `refuse` raises for one that is not shown.
    fn handle(
        &self,
        symbol: &Bound<'_, PyString>,
        feature_id: &Bound<'_, PyString>,
    ) -> PyResult<Option<Door>> {
        let py = symbol.py();
        let row = self.symbols.find(symbol);
        let shown = row.and_then(|row| self.shown.version(row)?.1.feature(feature_id));
        let (Some(row), Some(_)) = (row, shown) else {
            self.refuse.call1(py, (symbol, feature_id))?;
            return Ok(None);
        };
        Ok(Some(Door {
            shown: Arc::clone(&self.shown),
            row,
            places: [const { AtomicU32::new(UNKNOWN) }; VERSIONS],
            symbol: symbol.clone().unbind(),
            feature_id: feature_id.clone().unbind(),
            refuse: self.refuse.clone_ref(py),
        }))
    }
}

/// Reads one feature of one symbol, of whichever version is shown: `door()`.
#[pyclass(module = "featureplane._native", frozen)]
pub(crate) struct Door {
    shown: Arc<Shown>,
    row: usize,
    /// By version the place of the feature; looked up once.
    places: [AtomicU32; VERSIONS],
    #[pyo3(get)]
    symbol: Py<PyString>,
    #[pyo3(get)]
    feature_id: Py<PyString>,
    refuse: Py<PyAny>,
}

impl Door {
    #[inline]
    fn find(&self, py: Python<'_>) -> Option<(&Latest, usize)> {
        let (version, latest) = self.shown.version(self.row)?;
        match self.places[version].load(Ordering::Relaxed) {
            UNKNOWN => self.look_up(py, version, latest).map(|place| (latest, place)),
            place => Some((latest, place as usize)),
        }
    }

    #[cold]
    fn look_up(&self, py: Python<'_>, version: usize, latest: &Latest) -> Option<usize> {
        let place = latest.feature(self.feature_id.bind(py).as_any())?;
        self.places[version].store(u32::try_from(place).ok()?, Ordering::Relaxed);
        Some(place)
    }
}

#[pymethods]
impl Door {
    fn __call__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.find(py).and_then(|(latest, feature)| latest.number(py, self.row, feature)) {
            Some(value) => Ok(value),
            None => self.refuse.call1(py, (&self.symbol, &self.feature_id)),
        }
    }

    /// The same; cheaper, as nothing is called in Python.
    #[getter]
    fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.__call__(py)
    }

    /// Whether there is a value.
    #[getter]
    fn is_ready(&self, py: Python<'_>) -> bool {
        self.find(py).is_some_and(|(latest, feature)| latest.is_defined(self.row, feature))
    }
}
