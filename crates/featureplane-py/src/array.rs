//! Events and bytes between Rust and NumPy without a copy.
//!
//! Events cross as `uint64` arrays of eight words each; Python views them with `EVENT_DTYPE`.
#![allow(dead_code, reason = "used by the sources as they arrive")]

use featureplane_core::event::Event;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

/// Words of eight bytes in one event.
const WORDS: usize = size_of::<Event>() / 8;

/// From this size on memory is asked for in huge pages, as NumPy does for its own arrays.
const HUGE_FROM_BYTES: usize = 1 << 22;

/// Up to here room grows fourfold, then twofold.
const GROW_FAST_EVENTS: usize = 1 << 22;

/// Makes room for `more` events, in huge pages if it is much.
///
/// A page fault costs as much as reading ten events, and a page of the usual size holds 64. Room is made anew
/// and filled: to grow where they are, huge pages are taken apart again. What is never touched costs nothing.
pub(crate) fn reserve(events: &mut Vec<Event>, more: usize) {
    let (length, capacity) = (events.len(), events.capacity());
    if capacity - length >= more {
        return;
    }
    let factor = if capacity < GROW_FAST_EVENTS { 4 } else { 2 };
    let mut grown = Vec::new();
    if grown.try_reserve_exact((capacity * factor).max(length + more)).is_err() {
        events.reserve(more);
        return;
    }
    #[cfg(target_os = "linux")]
    advise_huge_pages(&mut grown);
    grown.extend_from_slice(events);
    *events = grown;
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn advise_huge_pages(events: &mut Vec<Event>) {
    const PAGE_BYTES: usize = 4096;
    let bytes = events.capacity() * size_of::<Event>();
    if bytes < HUGE_FROM_BYTES {
        return;
    }
    let start = events.as_mut_ptr().cast::<u8>();
    let skip = start.align_offset(PAGE_BYTES);
    // SAFETY: the range lies inside the allocation that `events` owns. The advice changes no byte of it, and
    // that a kernel refuses it is no error.
    unsafe {
        libc::madvise(start.add(skip).cast(), bytes - skip, libc::MADV_HUGEPAGE);
    }
}

/// Hands `events` to NumPy, which frees them; no copy.
#[allow(unsafe_code)]
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
