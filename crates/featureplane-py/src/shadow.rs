//! The live end of the queue to a shadow engine: room that another process looks at, in words.
//!
//! Twin of `features/shadow_queue.py`, which says what stands where. One writes, one reads; neither waits
//! for the other, and what finds no room is counted and left out.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use featureplane_core::engine::{Seen, Wanted, Witness};
use featureplane_core::event::Event;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use zerocopy::{FromBytes, IntoBytes};

const MAGIC: u64 = u64::from_le_bytes(*b"FPSHADW1");
/// Words of the head, by what stands in them.
const HEAD_BYTES: usize = 1;
const ROOM_BYTES: usize = 2;
const FULL: usize = 3;
const EVERY: usize = 4;
const WRITTEN: usize = 8;
const DUE: usize = 9;
const SENT: usize = 10;
const SKIPPED: usize = 11;
const TAKEN: usize = 16;
const ROUND: usize = 17;
/// Words of the head that always are there.
const WORDS: usize = 32;
/// Words before the parts of a record.
const RECORD: usize = 10;
/// What a record holds beside states, in bytes, as a rule.
const SLACK: usize = 1 << 16;

/// One engine's end of a queue.
pub(crate) struct Probe {
    room: PyBuffer<u64>,
    head: usize,
    bytes: usize,
    full: bool,
    /// Of each symbol the round in which the shadow was given its state; 0: none.
    rounds: Vec<u64>,
    /// Of each symbol the next frame to be compared, and one in how many that is; no division a message.
    next: Vec<(u64, u64)>,
    /// Bytes of the last state, to guess the next.
    state: usize,
    /// Records are left out until half of the room is free.
    lagging: bool,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("bytes", &self.bytes).field("full", &self.full).finish_non_exhaustive()
    }
}

impl Probe {
    /// The queue in `room`, for an engine of so many symbols.
    pub(crate) fn new(room: PyBuffer<u64>, symbols: usize) -> PyResult<Self> {
        let words = room.item_count();
        let sound = room.is_c_contiguous() && !room.readonly() && words > WORDS;
        let (rounds, next) = (vec![0; symbols], vec![(0, 0); symbols]);
        let mut probe = Self { room, head: 0, bytes: 0, full: false, rounds, next, state: 0, lagging: false };
        if !sound || probe.word(0).load(Ordering::Acquire) != MAGIC {
            return Err(PyValueError::new_err("no queue to a shadow"));
        }
        let of = |at| usize::try_from(probe.word(at).load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let (head, bytes, full) = (of(HEAD_BYTES), of(ROOM_BYTES), of(FULL) != 0);
        let whole = head.is_multiple_of(8) && bytes.is_multiple_of(8) && head >= 8 * WORDS && bytes > 0;
        if !whole || head.checked_add(bytes) != Some(8 * words) {
            return Err(PyValueError::new_err("a queue of another size than it says"));
        }
        (probe.head, probe.bytes, probe.full) = (head, bytes, full);
        Ok(probe)
    }

    #[allow(unsafe_code, reason = "words that another process looks at")]
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < WORDS);
        // SAFETY: there are so many words in the buffer, aligned, and it stays as long as `self`; whoever else
        // looks at them does so word by word.
        unsafe { AtomicU64::from_ptr(self.room.buf_ptr().cast::<u64>().add(at)) }
    }

    fn read(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    /// This is the only one who writes here.
    fn add(&self, at: usize, more: u64) {
        let word = self.word(at);
        word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Release);
    }

    fn free(&self) -> usize {
        let held = self.read(WRITTEN).wrapping_sub(self.read(TAKEN));
        self.bytes.saturating_sub(usize::try_from(held).unwrap_or(usize::MAX))
    }

    /// The next frame to be compared of a symbol that has computed `seq`.
    #[inline]
    fn due(&mut self, symbol: usize, seq: u64) -> u64 {
        let every = self.word(EVERY).load(Ordering::Relaxed).max(1);
        let Some(next) = self.next.get_mut(symbol) else { return u64::MAX };
        if next.1 != every || next.0 <= seq || next.0 - seq > every {
            *next = ((seq + 1).next_multiple_of(every), every);
        }
        next.0
    }

    fn skip(&mut self, symbol: usize, due: bool) {
        self.add(SKIPPED, u64::from(due));
        self.lagging = true;
        if let Some(round) = self.rounds.get_mut(symbol) {
            *round = 0;
        }
    }

    /// Puts bytes behind those at `at`, which counts from the first ever written; where they end.
    #[allow(unsafe_code, reason = "bytes that another process looks at")]
    fn put(&self, at: u64, bytes: &[u8]) -> u64 {
        let whole = self.bytes as u64;
        let from = usize::try_from(at % whole).unwrap_or(0);
        let first = bytes.len().min(self.bytes - from);
        // SAFETY: `bytes` bytes lie behind the head, of which this writes `from..` and what is left at the start;
        // nobody reads them before `WRITTEN` says so, and `free` said that they were read.
        unsafe {
            let room = self.room.buf_ptr().cast::<u8>().add(self.head);
            room.add(from).copy_from_nonoverlapping(bytes.as_ptr(), first);
            room.copy_from_nonoverlapping(bytes.as_ptr().add(first), bytes.len() - first);
        }
        at.wrapping_add(bytes.len() as u64)
    }
}

impl Witness for Probe {
    #[inline]
    fn rests(&mut self, symbol: usize, seq: u64, frames: u64) -> bool {
        !self.full && self.due(symbol, seq) > seq + frames
    }

    fn wanted(&mut self, symbol: usize, seq: u64) -> Wanted {
        let due = self.due(symbol, seq);
        let frame = if due == seq + 1 { due } else { 0 };
        if !self.full && frame == 0 {
            return Wanted::default();
        }
        let told = self.full && self.rounds.get(symbol) == Some(&self.read(ROUND));
        if self.lagging || !told {
            let free = self.free();
            let enough = (2 * self.state + SLACK).min(self.bytes / 2);
            self.lagging = free < if self.lagging { enough.max(self.bytes / 2) } else { enough };
        }
        let states = !self.lagging && !told;
        Wanted { frame, before: states, after: states && !self.full, message: self.full }
    }

    fn taken(&mut self, seen: &Seen<'_>) {
        let due = !seen.frame.is_empty();
        self.add(DUE, u64::from(due));
        let parts = [seen.before, seen.events.as_bytes(), seen.frame, seen.after];
        let bytes = 8 * RECORD + parts.iter().map(|part| part.len()).sum::<usize>();
        self.state = self.state.max(seen.before.len()).max(seen.after.len());
        let round = if self.full { self.read(ROUND) } else { 0 };
        if self.lagging || bytes > self.free() {
            return self.skip(seen.symbol, due);
        }
        if let Some(told) = self.rounds.get_mut(seen.symbol) {
            *told = round;
        }
        let sent = self.word(SENT).load(Ordering::Relaxed) + u64::from(due);
        let [before, events, frame, after] = parts.map(|part| part.len() as u64);
        let symbol = u64::from(seen.symbol_id);
        let record: [u64; RECORD] =
            [bytes as u64, symbol, seen.until, sent, round, before, events, frame, after, seen.book as u64];
        let mut at = self.put(self.read(WRITTEN), record.as_bytes());
        for part in parts {
            at = self.put(at, part);
        }
        self.word(WRITTEN).store(at, Ordering::Release);
        self.word(SENT).store(sent, Ordering::Release); // behind it: whoever sees this sees the record
    }

    fn changed(&mut self, symbol: usize) {
        if let Some(round) = self.rounds.get_mut(symbol) {
            *round = 0;
        }
    }

    fn missed(&mut self, symbol: usize) {
        self.add(DUE, 1);
        self.skip(symbol, true);
    }
}

/// [`Probe`] for an engine in Python; twin of `PlainProbe`.
#[pyclass(module = "featureplane._native")]
pub(crate) struct ShadowProbe {
    probe: Probe,
    symbols: Vec<u32>,
}

#[pymethods]
impl ShadowProbe {
    /// The queue, and the ids of the engine's symbols.
    #[new]
    #[pyo3(signature = (queue, symbols, /))]
    fn new(queue: PyBuffer<u64>, symbols: Vec<u32>) -> PyResult<Self> {
        Ok(Self { probe: Probe::new(queue, symbols.len())?, symbols })
    }

    /// What is wanted of the next message: the frame of this `seq`, the states before and behind, the message.
    #[pyo3(signature = (symbol_id, seq, /))]
    fn wanted(&mut self, symbol_id: u32, seq: u64) -> (u64, bool, bool, bool) {
        let Wanted { frame, before, after, message } = self.probe.wanted(self.place(symbol_id), seq);
        (frame, before, after, message)
    }

    /// A message, and the states around it and the frame it made, empty where they were not wanted.
    #[pyo3(signature = (symbol_id, until, events, states, /))]
    #[allow(clippy::needless_pass_by_value, reason = "an argument of Python")]
    fn taken(
        &mut self,
        symbol_id: u32,
        until: u64,
        events: &[u8],
        states: (PyBackedBytes, PyBackedBytes, PyBackedBytes),
    ) -> PyResult<()> {
        let whole = !events.is_empty() && events.len().is_multiple_of(size_of::<Event>());
        // WHY a copy: bytes of Python need not stand where events may.
        let words: Vec<u64> =
            events.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let Ok(events) = <[Event]>::ref_from_bytes(words.as_bytes()) else {
            return Err(PyValueError::new_err("events of another size"));
        };
        if !whole {
            return Err(PyValueError::new_err("a message without events"));
        }
        let (before, frame, after) = (&*states.0, &*states.1, &*states.2);
        let symbol = self.place(symbol_id);
        self.probe.taken(&Seen { symbol, symbol_id, until, events, before, frame, after, book: 0 });
        Ok(())
    }

    /// Something else than a message changed a symbol's state.
    #[pyo3(signature = (symbol_id, /))]
    fn changed(&mut self, symbol_id: u32) {
        self.probe.changed(self.place(symbol_id));
    }
}

impl ShadowProbe {
    fn place(&self, symbol_id: u32) -> usize {
        self.symbols.iter().position(|&id| id == symbol_id).unwrap_or(usize::MAX)
    }
}
