//! The only place where a core error becomes an exception.
#![allow(dead_code, reason = "used by the sources as they arrive")]

use featureplane_core::error::Error;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyErr, import_exception};

import_exception!(featureplane.errors, BookMismatch);
import_exception!(featureplane.errors, FeatureSetMismatch);
import_exception!(featureplane.errors, MalformedEvent);
import_exception!(featureplane.errors, PlanError);
import_exception!(featureplane.errors, SequenceGap);
import_exception!(featureplane.errors, UnknownSymbol);
import_exception!(featureplane.errors, UnreadableFile);

/// Translates one core error. No wildcard arm: a new error must be named here before it compiles.
pub(crate) fn into_py(error: Error) -> PyErr {
    into_py_at(error, None)
}

/// Translates an error met while `file` was read.
pub(crate) fn into_py_at(error: Error, file: Option<&str>) -> PyErr {
    Python::attach(|py| {
        let named = |class: Bound<'_, PyAny>, found: String, expected: String, kwargs: &Bound<'_, PyDict>| {
            match class.call((found, expected), Some(kwargs)) {
                Ok(exception) => PyErr::from_value(exception),
                Err(error) => error,
            }
        };
        let kwargs = PyDict::new(py);
        match error {
            Error::Malformed { found, expected, place } => {
                let set = kwargs
                    .set_item("file", file)
                    .and_then(|()| kwargs.set_item("line", place.line))
                    .and_then(|()| kwargs.set_item("offset", place.offset));
                if let Err(error) = set {
                    return error;
                }
                named(py.get_type::<MalformedEvent>().into_any(), found, expected, &kwargs)
            }
            Error::Damaged { found, expected } => {
                UnreadableFile::new_err((file.unwrap_or("data").to_owned(), found, expected))
            }
            Error::Plan { found, expected } | Error::State { found, expected } => {
                named(py.get_type::<PlanError>().into_any(), found, expected, &kwargs)
            }
            Error::SequenceGap { symbol, channel, expected, got } => {
                SequenceGap::new_err((symbol, channel, expected, got))
            }
            Error::FeatureSetMismatch { expected, got } => {
                let hex = |bytes: [u8; 8]| format!("{:016x}", u64::from_be_bytes(bytes));
                FeatureSetMismatch::new_err((hex(expected), hex(got)))
            }
            Error::BookMismatch { line, bid, price, expected, got } => {
                if let Err(error) = kwargs.set_item("line", line) {
                    return error;
                }
                let side = if bid { "bid" } else { "ask" };
                match py.get_type::<BookMismatch>().call((side, price, expected, got), Some(&kwargs)) {
                    Ok(exception) => PyErr::from_value(exception),
                    Err(error) => error,
                }
            }
            Error::UnknownSymbol { symbol_id } => UnknownSymbol::new_err((symbol_id,)),
        }
    })
}
