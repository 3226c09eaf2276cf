//! Room for big arrays.

/// An empty vector with room for `count`, in 2 MiB pages where the kernel has them.
///
/// `NumPy` asks for them too. In pages of 4 KiB, taking them costs more than what is then done with them.
pub fn room<T>(count: usize) -> Vec<T> {
    let mut room = Vec::with_capacity(count);
    #[cfg(target_os = "linux")]
    advise_huge(room.spare_capacity_mut());
    room
}

#[cfg(target_os = "linux")]
fn advise_huge<T>(room: &mut [std::mem::MaybeUninit<T>]) {
    unsafe extern "C" {
        fn madvise(addr: *mut std::ffi::c_void, bytes: usize, advice: i32) -> i32;
    }
    const MADV_HUGEPAGE: i32 = 14;
    const PAGE: usize = 4096;
    let start = room.as_mut_ptr().cast::<u8>();
    let skip = start.align_offset(PAGE);
    let bytes = size_of_val(room).saturating_sub(skip) / PAGE * PAGE;
    // SAFETY: whole pages inside the room; the advice changes no content, and without it all is the same but slower.
    unsafe { madvise(start.wrapping_add(skip).cast(), bytes, MADV_HUGEPAGE) };
}
