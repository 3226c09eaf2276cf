//! Big blocks of memory straight from the kernel, in big pages.
//!
//! WHY: events and columns are tens of megabytes, new for every call. In pages of 4 KiB the kernel takes
//! longer to hand them out than we take to fill them: 30 of 85 ns a row of JSON lines. `malloc` gives a
//! block of 4 MB, a column of a day, a place in which few pages of 2 MiB fit; and growing copies it.

#![allow(unsafe_code, reason = "an allocator is nothing else")]

use std::alloc::{GlobalAlloc, Layout, System};

/// Keeps as much of what is given back as so many big blocks of so many bytes, 64 MiB at most.
///
/// WHY: the kernel clears pages at 10 GB/s before it hands them out. Who computes one table after the other
/// lets go of one like it each time; a stream does not, and would only grow by what is kept.
pub(crate) fn keep(blocks: usize, bytes: usize) {
    pages::KEPT.allow(blocks, bytes);
}

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
            let kept = pages::KEPT.take(layout.size());
            return if kept.is_null() { pages::map(layout.size()) } else { kept };
        }
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if pages::is_big(layout) {
            let kept = pages::KEPT.take(layout.size());
            if kept.is_null() {
                return pages::map(layout.size());
            }
            // SAFETY: a whole mapping of ours, of so many bytes at least.
            unsafe { kept.write_bytes(0, layout.size()) };
            return kept;
        }
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if pages::is_big(layout) {
            pages::KEPT.give(block, layout.size());
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
    use std::cell::UnsafeCell;
    use std::ptr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

    /// Blocks that were given back, for whoever asks for as much next: their pages are there. The oldest go
    /// when there is no more place.
    pub(super) struct Kept {
        /// Bytes to keep at most.
        most: AtomicUsize,
        busy: AtomicBool,
        places: UnsafeCell<[(usize, usize); PLACES]>,
    }

    const PLACES: usize = 32;
    const MOST: usize = 64 << 20;

    pub(super) static KEPT: Kept = Kept {
        most: AtomicUsize::new(0),
        busy: AtomicBool::new(false),
        places: UnsafeCell::new([(0, 0); PLACES]),
    };

    // SAFETY: whoever looks at the places holds `busy`.
    unsafe impl Sync for Kept {}

    impl Kept {
        /// Keeps that much from now on, if it is more than so far, within reason.
        pub(super) fn allow(&self, blocks: usize, bytes: usize) {
            if bytes >= BIG_PAGE {
                self.most.fetch_max(length(bytes).saturating_mul(blocks).min(MOST), Ordering::Relaxed);
            }
        }

        /// A mapping of so many bytes that was written before; null if there is none.
        pub(super) fn take(&self, bytes: usize) -> *mut u8 {
            let found = self.with(|places| {
                let at = places.iter().position(|&(_, held)| held == length(bytes))?;
                let (block, _) = places[at];
                places.copy_within(at + 1.., at);
                places[PLACES - 1] = (0, 0);
                Some(block)
            });
            found.flatten().map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
        }

        /// Takes a mapping back.
        pub(super) fn give(&self, block: *mut u8, bytes: usize) {
            let mut out = [(0, 0); PLACES + 1];
            out[PLACES] = (block.expose_provenance(), length(bytes));
            let most = self.most.load(Ordering::Relaxed);
            if length(bytes) <= most {
                self.with(|places| {
                    let mut held: usize = places.iter().map(|&(_, held)| held).sum();
                    let free = places.iter().position(|&(_, held)| held == 0).unwrap_or(PLACES);
                    let mut oldest = 0;
                    while held + length(bytes) > most || free - oldest == PLACES {
                        held -= places[oldest].1;
                        out[oldest] = places[oldest];
                        oldest += 1;
                    }
                    places.copy_within(oldest.., 0);
                    places[PLACES - oldest..].fill((0, 0));
                    places[free - oldest] = std::mem::take(&mut out[PLACES]);
                });
            }
            for (block, bytes) in out.into_iter().filter(|&(_, bytes)| bytes > 0) {
                unmap(ptr::with_exposed_provenance_mut(block), bytes);
            }
        }

        /// None, and nothing done, while somebody else looks at the places: no one waits for memory here.
        fn with<T>(&self, work: impl FnOnce(&mut [(usize, usize); PLACES]) -> T) -> Option<T> {
            if self.busy.swap(true, Ordering::Acquire) {
                return None;
            }
            // SAFETY: `busy` was free and is ours now; `work` allocates nothing.
            let done = work(unsafe { &mut *self.places.get() });
            self.busy.store(false, Ordering::Release);
            Some(done)
        }
    }

    /// Gives a mapping back.
    fn unmap(block: *mut u8, bytes: usize) {
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

    pub(super) struct Kept;

    pub(super) static KEPT: Kept = Kept;

    impl Kept {
        pub(super) fn allow(&self, _: usize, _: usize) {}

        pub(super) fn take(&self, _: usize) -> *mut u8 {
            unreachable!("nothing is big")
        }

        pub(super) fn give(&self, _: *mut u8, _: usize) {
            unreachable!("nothing is big")
        }
    }
}
