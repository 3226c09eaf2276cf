//! Big blocks of memory straight from the kernel, in big pages.
//!
//! WHY: events and columns are tens of megabytes, new for every call. In pages of 4 KiB the kernel takes
//! longer to hand them out than we take to fill them: 30 of 85 ns a row of JSON lines. `malloc` gives a
//! block of 4 MB, a column of a day, a place in which few pages of 2 MiB fit; and growing copies it.

#![allow(unsafe_code, reason = "an allocator is nothing else")]

use std::alloc::{GlobalAlloc, Layout, System};

/// What the extension allocates with.
#[global_allocator]
static ALLOCATOR: BigBlocks = BigBlocks;

/// The system's allocator, but for big blocks.
struct BigBlocks;

// SAFETY: small blocks are `System`'s with the caller's own promises. Big ones are mappings of their own, told
// apart by the size that the caller has to bring back, aligned to a page at least, zero when new.
unsafe impl GlobalAlloc for BigBlocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if pages::is_big(layout) {
            return pages::map(layout.size());
        }
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if pages::is_big(layout) {
            return pages::map(layout.size());
        }
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if pages::is_big(layout) {
            pages::unmap(block, layout.size());
        } else {
            // SAFETY: as promised by the caller.
            unsafe { System.dealloc(block, layout) }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller promises that `bytes` is valid for the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        match (pages::is_big(layout), pages::is_big(wanted)) {
            // SAFETY: as promised by the caller.
            (false, false) => unsafe { System.realloc(block, layout, bytes) },
            (true, true) => pages::remap(block, layout.size(), bytes),
            // SAFETY: two blocks of at least the bytes that are copied, then the old one as promised.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    moved.copy_from_nonoverlapping(block, layout.size().min(bytes));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

#[cfg(target_os = "linux")]
mod pages {
    use std::alloc::Layout;
    use std::ptr;

    const BIG_PAGE: usize = 2 << 20;
    const PAGE: usize = 4096;

    #[inline]
    pub(super) fn is_big(layout: Layout) -> bool {
        layout.size() >= BIG_PAGE && layout.align() <= PAGE
    }

    fn length(bytes: usize) -> usize {
        bytes.next_multiple_of(BIG_PAGE)
    }

    /// A new mapping, zero; null if there is no memory.
    pub(super) fn map(bytes: usize) -> *mut u8 {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping wherever the kernel likes. It aligns one of whole big pages to big pages.
        let block = unsafe { libc::mmap(ptr::null_mut(), length(bytes), access, kind, -1, 0) };
        advised(block, bytes)
    }

    /// Grows or shrinks a mapping, moving its pages and not their content.
    pub(super) fn remap(block: *mut u8, before: usize, bytes: usize) -> *mut u8 {
        if length(before) == length(bytes) {
            return block;
        }
        // SAFETY: a whole mapping of ours, of one kind of pages; null or its new place is all anybody gets.
        let moved =
            unsafe { libc::mremap(block.cast(), length(before), length(bytes), libc::MREMAP_MAYMOVE) };
        advised(moved, bytes)
    }

    /// Gives a mapping back.
    pub(super) fn unmap(block: *mut u8, bytes: usize) {
        // SAFETY: a whole mapping of ours that nobody uses any more.
        unsafe { libc::munmap(block.cast(), length(bytes)) };
    }

    fn advised(block: *mut libc::c_void, bytes: usize) -> *mut u8 {
        if block == libc::MAP_FAILED {
            return ptr::null_mut();
        }
        // SAFETY: a whole mapping of ours; the advice changes no content and may be refused.
        unsafe { libc::madvise(block, length(bytes), libc::MADV_HUGEPAGE) };
        block.cast()
    }
}

#[cfg(not(target_os = "linux"))]
mod pages {
    use std::alloc::Layout;

    pub(super) const fn is_big(_: Layout) -> bool {
        false
    }

    pub(super) fn map(_: usize) -> *mut u8 {
        unreachable!("nothing is big")
    }

    pub(super) fn remap(_: *mut u8, _: usize, _: usize) -> *mut u8 {
        unreachable!("nothing is big")
    }

    pub(super) fn unmap(_: *mut u8, _: usize) {
        unreachable!("nothing is big")
    }
}
