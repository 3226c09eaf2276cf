//! An allocator that refuses what no input of a fuzzer can justify.
//!
//! WHY: `vec![0; n]` with n out of the input costs nothing until it is touched, so a limit on resident
//! memory does not see it.

use std::alloc::{GlobalAlloc, Layout, System};

/// Largest single allocation; inputs are some kilobytes.
pub const LARGEST: usize = 256 << 20;

/// The system's allocator up to [`LARGEST`]; beyond it the process stops.
#[derive(Debug)]
pub struct Limited;

fn check(bytes: usize) {
    if bytes > LARGEST {
        eprintln!("an allocation of {bytes} bytes, more than {LARGEST}");
        std::process::abort();
    }
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        check(bytes);
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static LIMITED: Limited = Limited;
