//! The last frame of each symbol, read value by value: by name, or by a handle made once.
//!
//! Twin of `PlainLatest` in `features/latest.py`. A value that is not there is never a number: all doors
//! then call `refuse`, which raises. Rule 6: the ready bit is set if and only if the value is defined.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyString};

const UNDEFINED_I64: u64 = i64::MIN.cast_unsigned();
const UNDEFINED_F64: u64 = 0x7ff8_0000_0000_0000;

/// The words of one frame a symbol.
pub(crate) struct Words {
    width: usize,
    words: Box<[AtomicU64]>,
}

impl Words {
    /// Puts a frame there, if it is of this width.
    pub(crate) fn put(&self, symbol: usize, frame: &[u8]) {
        let first = symbol * self.width;
        if let Some(room) = self.words.get(first..first + self.width)
            && frame.len() == 8 * self.width
        {
            for (word, bytes) in room.iter().zip(frame.as_chunks::<8>().0) {
                word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
            }
        }
    }

    fn word(&self, at: usize) -> u64 {
        self.words[at].load(Ordering::Relaxed)
    }
}

/// A word as a number; none if it says undefined.
#[inline]
fn number(py: Python<'_>, word: u64, is_float: bool) -> Option<Py<PyAny>> {
    if is_float {
        return (word != UNDEFINED_F64).then(|| PyFloat::new(py, f64::from_bits(word)).into_any().unbind());
    }
    if word == UNDEFINED_I64 {
        return None;
    }
    word.cast_signed().into_pyobject(py).ok().map(|value: Bound<'_, PyInt>| value.into_any().unbind())
}

/// Names to numbers: by identity, which names in a program have, else by equality.
pub(crate) struct Names {
    slots: Box<[(usize, usize)]>,
    by_name: Py<PyDict>,
    /// WHY held: an address is a name only as long as nothing else can have it.
    _held: Vec<Py<PyString>>,
}

impl Names {
    pub(crate) fn new(py: Python<'_>, names: Vec<Bound<'_, PyString>>) -> PyResult<Self> {
        let mut slots = vec![(0, 0); (4 * names.len()).next_power_of_two()].into_boxed_slice();
        let by_name = PyDict::new(py);
        for (number, name) in names.iter().enumerate() {
            by_name.set_item(name, number)?;
            let address = name.as_ptr() as usize;
            let mut at = Self::place(address, slots.len());
            while slots[at].0 != 0 {
                at = (at + 1) % slots.len();
            }
            slots[at] = (address, number);
        }
        let held = names.into_iter().map(Bound::unbind).collect();
        Ok(Self { slots, by_name: by_name.unbind(), _held: held })
    }

    const fn place(address: usize, slots: usize) -> usize {
        (address >> 4) & (slots - 1)
    }

    #[inline]
    pub(crate) fn find(&self, name: &Bound<'_, PyAny>) -> Option<usize> {
        let address = name.as_ptr() as usize;
        let mut at = Self::place(address, self.slots.len());
        while self.slots[at].0 != 0 {
            if self.slots[at].0 == address {
                return Some(self.slots[at].1);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.by_name.bind(name.py()).get_item(name).ok().flatten()?.extract().ok()
    }
}

/// An argument for which None is a value.
pub(crate) enum Given<'py> {
    Nothing,
    Value(Bound<'py, PyAny>),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self::Value(value.to_owned()))
    }
}

/// The last frame of each symbol.
#[pyclass(module = "featureplane._native", frozen)]
pub(crate) struct Latest {
    words: Arc<Words>,
    undefined: Vec<u64>,
    first: usize,
    floats: Vec<bool>,
    symbols: Names,
    features: Names,
    refuse: Py<PyAny>,
}

impl Latest {
    pub(crate) fn words(&self) -> Arc<Words> {
        Arc::clone(&self.words)
    }

    /// The place of a feature.
    #[inline]
    pub(crate) fn feature(&self, feature_id: &Bound<'_, PyAny>) -> Option<usize> {
        self.features.find(feature_id)
    }

    #[inline]
    fn value_of(&self, row: usize, feature: usize) -> u64 {
        self.words.word(row * self.words.width + self.first + feature)
    }

    /// The value of the feature at a place, of the symbol in a row; none if it has none.
    #[inline]
    pub(crate) fn number(&self, py: Python<'_>, row: usize, feature: usize) -> Option<Py<PyAny>> {
        number(py, self.value_of(row, feature), self.floats[feature])
    }

    /// Whether it has one.
    #[inline]
    pub(crate) fn is_defined(&self, row: usize, feature: usize) -> bool {
        self.value_of(row, feature) != if self.floats[feature] { UNDEFINED_F64 } else { UNDEFINED_I64 }
    }

    fn find(&self, symbol: &Bound<'_, PyAny>, feature_id: &Bound<'_, PyAny>) -> Option<(usize, usize)> {
        Some((self.symbols.find(symbol)?, self.features.find(feature_id)?))
    }
}

#[pymethods]
impl Latest {
    /// `undefined` are the bytes of a frame without values, `first` the word of its first value;
    /// `refuse(symbol, feature_id)` raises.
    #[new]
    fn new(
        py: Python<'_>,
        symbols: Vec<Bound<'_, PyString>>,
        features: Vec<Bound<'_, PyString>>,
        floats: Vec<bool>,
        undefined: &[u8],
        first: usize,
        refuse: Py<PyAny>,
    ) -> PyResult<Self> {
        let undefined: Vec<u64> =
            undefined.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        if floats.len() != features.len() || first + features.len() != undefined.len() {
            return Err(PyValueError::new_err("a frame of another layout"));
        }
        let width = undefined.len();
        let words = (0..symbols.len()).flat_map(|_| undefined.iter().map(|word| AtomicU64::new(*word)));
        let words = Arc::new(Words { width, words: words.collect() });
        let (symbols, features) = (Names::new(py, symbols)?, Names::new(py, features)?);
        Ok(Self { words, undefined, first, floats, symbols, features, refuse })
    }

    /// The value of a feature; without one `default` if it is given, else what `refuse` raises.
    #[pyo3(signature = (symbol, feature_id, /, *, default = Given::Nothing), text_signature = "($self, symbol, feature_id, /, *, default=...)")]
    fn get_feature(
        &self,
        symbol: &Bound<'_, PyAny>,
        feature_id: &Bound<'_, PyAny>,
        default: Given<'_>,
    ) -> PyResult<Py<PyAny>> {
        let found = self.find(symbol, feature_id);
        let value = found.and_then(|(row, feature)| {
            let word = self.words.word(row * self.words.width + self.first + feature);
            number(symbol.py(), word, self.floats[feature])
        });
        match (value, found, default) {
            (Some(value), ..) => Ok(value),
            (None, Some(_), Given::Value(default)) => Ok(default.unbind()),
            _ => self.refuse.call1(symbol.py(), (symbol, feature_id)),
        }
    }

    /// A door to one feature of one symbol; what `refuse` raises for one that is not here.
    fn handle(
        &self,
        symbol: &Bound<'_, PyString>,
        feature_id: &Bound<'_, PyString>,
    ) -> PyResult<Option<Handle>> {
        let py = symbol.py();
        let Some((row, feature)) = self.find(symbol, feature_id) else {
            self.refuse.call1(py, (symbol, feature_id))?;
            return Ok(None);
        };
        Ok(Some(Handle {
            words: self.words(),
            at: row * self.words.width + self.first + feature,
            is_float: self.floats[feature],
            symbol: symbol.clone().unbind(),
            feature_id: feature_id.clone().unbind(),
            refuse: self.refuse.clone_ref(py),
        }))
    }

    /// The bytes of the symbol's last frame, None for a symbol that is not here.
    fn frame<'py>(&self, symbol: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
        let row = self.symbols.find(symbol)? * self.words.width;
        let words = (row..row + self.words.width).flat_map(|at| self.words.word(at).to_le_bytes());
        Some(PyBytes::new(symbol.py(), &words.collect::<Vec<u8>>()))
    }

    /// A 64-bit word of the symbol's last frame, as a signed integer.
    fn word(&self, symbol: &Bound<'_, PyAny>, at: usize) -> Option<i64> {
        let row = self.symbols.find(symbol)? * self.words.width;
        (at < self.words.width).then(|| self.words.word(row + at).cast_signed())
    }

    /// Forgets the values of a symbol, or all.
    #[pyo3(signature = (symbol = None, /))]
    fn clear(&self, symbol: Option<&Bound<'_, PyAny>>) {
        let width = self.words.width;
        let row = symbol.map(|symbol| self.symbols.find(symbol).unwrap_or(usize::MAX));
        for (at, word) in self.words.words.iter().enumerate() {
            if row.is_none_or(|row| row == at / width) {
                word.store(self.undefined[at % width], Ordering::Relaxed);
            }
        }
    }
}

/// Reads one feature of one symbol: `handle()`.
#[pyclass(module = "featureplane._native", frozen)]
pub(crate) struct Handle {
    words: Arc<Words>,
    at: usize,
    is_float: bool,
    #[pyo3(get)]
    symbol: Py<PyString>,
    #[pyo3(get)]
    feature_id: Py<PyString>,
    refuse: Py<PyAny>,
}

#[pymethods]
impl Handle {
    fn __call__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match number(py, self.words.word(self.at), self.is_float) {
            Some(value) => Ok(value),
            None => self.refuse.call1(py, (&self.symbol, &self.feature_id)),
        }
    }

    /// The same; cheaper by a third, as nothing is called in Python.
    #[getter]
    fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.__call__(py)
    }

    /// Whether there is a value.
    #[getter]
    fn is_ready(&self) -> bool {
        self.words.word(self.at) != if self.is_float { UNDEFINED_F64 } else { UNDEFINED_I64 }
    }
}
