//! Events and bytes between Rust and NumPy without a copy.
//!
//! Events cross as `uint64` arrays of eight words each; Python views them with `EVENT_DTYPE`.
#![allow(dead_code, reason = "used by the sources as they arrive")]

use std::ptr;

use featureplane_core::event::Event;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

/// Words of eight bytes in one event.
pub(crate) const WORDS: usize = size_of::<Event>() / 8;

/// Hands `events` to NumPy, which frees them; no copy.
#[allow(unsafe_code, reason = "NumPy takes over memory of ours")]
pub(crate) fn into_numpy(py: Python<'_>, events: Vec<Event>) -> Bound<'_, PyArray1<u64>> {
    let mut events = std::mem::ManuallyDrop::new(events);
    let (data, length, capacity) = (events.as_mut_ptr(), events.len(), events.capacity());
    // SAFETY: `Event` and `u64` have alignment 8 and 64 = 8 x 8 bytes, so the allocation's layout is the
    // same in both views, every bit pattern is a `u64`, and `events` is never dropped.
    let words = unsafe { Vec::from_raw_parts(data.cast::<u64>(), length * WORDS, capacity * WORDS) };
    PyArray1::from_vec(py, words)
}

/// Sees the words of a NumPy array as events; no copy.
pub(crate) fn as_events<'a>(words: &'a PyReadonlyArray1<'_, u64>) -> PyResult<&'a [Event]> {
    let words = words.as_slice().map_err(|_| PyValueError::new_err("events must be contiguous"))?;
    <[Event]>::ref_from_bytes(words.as_bytes())
        .map_err(|_| PyValueError::new_err(format!("{} words are no whole number of events", words.len())))
}

/// An array of Python's, looked at for as long as this is held.
///
/// WHY where it lies is kept: to ask the buffer is a call of Python for every message.
pub(crate) struct Held<T: Element> {
    first: usize,
    items: usize,
    _buffer: PyBuffer<T>,
}

impl<T: Element> Held<T> {
    /// None for an array that does not lie in one piece.
    pub(crate) fn of(buffer: PyBuffer<T>) -> Option<Self> {
        let items = buffer.as_slice_ptr()?;
        let (first, items) = (items.as_ptr().cast::<T>().expose_provenance(), items.len());
        Some(Self { first, items, _buffer: buffer })
    }

    /// How many items there are.
    pub(crate) const fn len(&self) -> usize {
        self.items
    }

    /// The first of them. They stay there as long as this does; Python may look at them, and write.
    pub(crate) fn first(&self) -> *mut T {
        ptr::with_exposed_provenance_mut(self.first)
    }
}
