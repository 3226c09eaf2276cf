//! The input: 64-byte events as rule 2.1 lays them out, read whole into memory or mapped.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::memory;

pub const LEVEL: u8 = 1;
pub const SNAPSHOT_LEVEL: u8 = 4;
pub const QUOTE: u8 = 5;
pub const BID: u8 = 1;
const LAST: u16 = 1;

/// Bytes of one event.
pub const EVENT_BYTES: usize = 64;
/// Bytes before the events of a capture file; a plain dump has none.
const CAPTURE_HEADER: u64 = 4096;
const CAPTURE_MAGIC: &[u8; 8] = b"FPCAPT01";

/// One change of the market, and which ids its message covers.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub struct Event {
    pub kind: u8,
    pub side: u8,
    pub flags: u16,
    pub symbol_id: u32,
    pub price: i64,
    pub qty: i64,
    pub order_id: u64,
    pub seq_last: u64,
    pub seq_prev: u64,
    pub source_ts_ns: i64,
    pub local_ts_ns: i64,
}

impl Event {
    pub fn is_last(&self) -> bool {
        self.flags & LAST != 0
    }

    /// Whether it is a row: the unit of every figure. Quotes are none.
    pub fn is_row(&self) -> bool {
        self.kind != QUOTE
    }
}

/// Where the events begin in the file, and how many there are.
fn extent(file: &mut File) -> io::Result<(u64, usize)> {
    let bytes = file.metadata()?.len();
    let mut magic = [0; 8];
    let start = match file.read_exact(&mut magic) {
        Ok(()) if &magic == CAPTURE_MAGIC => CAPTURE_HEADER,
        _ => 0,
    };
    let count = usize::try_from(bytes - start).expect("a 64-bit machine") / EVENT_BYTES;
    Ok((start, count))
}

/// Reads all events of a capture file, or of a plain dump of them.
pub fn read(path: &Path) -> io::Result<Vec<Event>> {
    let mut file = File::open(path)?;
    let (start, count) = extent(&mut file)?;
    let mut events: Vec<Event> = memory::room(count);
    file.seek(SeekFrom::Start(start))?;
    let mut place = events.spare_capacity_mut().as_mut_ptr().cast::<u8>();
    let mut left = count * EVENT_BYTES;
    while left > 0 {
        // SAFETY: `left` bytes of the room begin at `place`; the kernel writes them, nobody reads them before.
        let got = file.read(unsafe { std::slice::from_raw_parts_mut(place, left) })?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        place = place.wrapping_add(got);
        left -= got;
    }
    // SAFETY: all bytes of `count` events were read above, and every bit pattern is an event.
    unsafe { events.set_len(count) };
    Ok(events)
}

/// A file in memory without a copy: the floor of "load a day".
#[cfg(unix)]
pub mod mapped {
    use super::{Event, File, Path, extent, io};
    use std::ffi::c_void;
    use std::os::fd::AsRawFd;

    unsafe extern "C" {
        fn mmap(addr: *mut c_void, bytes: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> *mut c_void;
        fn munmap(addr: *mut c_void, bytes: usize) -> i32;
    }

    const PROT_READ: i32 = 1;
    const MAP_PRIVATE: i32 = 2;

    /// Maps the file, hands the events to `look`, and unmaps it.
    pub fn with_events<T>(path: &Path, look: impl FnOnce(&[Event]) -> T) -> io::Result<T> {
        let mut file = File::open(path)?;
        let (start, count) = extent(&mut file)?;
        let start = usize::try_from(start).expect("a 64-bit machine");
        let bytes = start + count * super::EVENT_BYTES;
        // SAFETY: a private read-only mapping of a file that nobody shortens while we look; the result is checked.
        let base = unsafe { mmap(std::ptr::null_mut(), bytes, PROT_READ, MAP_PRIVATE, file.as_raw_fd(), 0) };
        if base as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is page-aligned, `start` a multiple of 64, and every bit pattern is an `Event`.
        let events =
            unsafe { std::slice::from_raw_parts(base.cast::<u8>().add(start).cast::<Event>(), count) };
        let seen = look(events);
        // SAFETY: the mapping made above, no longer borrowed.
        unsafe { munmap(base, bytes) };
        Ok(seen)
    }
}
