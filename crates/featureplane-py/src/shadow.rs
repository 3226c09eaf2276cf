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
use zerocopy::IntoBytes;

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
    /// Bytes ever written with those of the record at hand, which begin behind its head.
    at: u64,
    /// Bytes that there is room for behind it; none where the record does not fit.
    left: Option<usize>,
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
        let mut probe = Self {
            room,
            head: 0,
            bytes: 0,
            full: false,
            rounds,
            next,
            state: 0,
            at: 0,
            left: None,
            lagging: false,
        };
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

    /// A record may be shown; its head is written last.
    fn begin(&mut self) {
        let head = 8 * RECORD;
        self.at = self.word(WRITTEN).load(Ordering::Relaxed).wrapping_add(head as u64);
        self.left = if self.lagging { None } else { self.free().checked_sub(head) };
    }

    fn skip(&mut self, symbol: usize, due: bool) {
        self.add(SKIPPED, u64::from(due));
        self.lagging = true;
        if let Some(round) = self.rounds.get_mut(symbol) {
            *round = 0;
        }
    }

    /// Puts bytes behind those at `at`, which counts from the first ever written; where they end.
    fn put(&self, at: u64, bytes: &[u8]) -> u64 {
        let from = usize::try_from(at % self.bytes as u64).unwrap_or(0);
        let (first, rest) = bytes.split_at(bytes.len().min(self.bytes - from));
        self.copy(from, first);
        self.copy(0, rest);
        at.wrapping_add(bytes.len() as u64)
    }

    #[allow(unsafe_code, reason = "bytes that another process looks at")]
    fn copy(&self, from: usize, bytes: &[u8]) {
        // SAFETY: `self.bytes` bytes lie behind the head, `from` and these among them; nobody reads them before
        // `WRITTEN` says so, and `free` said that they were read.
        unsafe {
            let place = self.room.buf_ptr().cast::<u8>().add(self.head + from);
            place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
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
        self.begin();
        Wanted { frame, before: states, after: states && !self.full, message: self.full }
    }

    fn show(&mut self, bytes: &[u8]) {
        self.left = self.left.and_then(|left| left.checked_sub(bytes.len()));
        if self.left.is_some() {
            self.at = self.put(self.at, bytes);
        }
    }

    fn taken(&mut self, seen: &Seen) {
        let due = seen.frame > 0;
        self.add(DUE, u64::from(due));
        self.state = self.state.max(seen.before).max(seen.after);
        let round = if self.full { self.read(ROUND) } else { 0 };
        if self.left.take().is_none() {
            return self.skip(seen.symbol, due);
        }
        if let Some(told) = self.rounds.get_mut(seen.symbol) {
            *told = round;
        }
        let sent = self.word(SENT).load(Ordering::Relaxed) + u64::from(due);
        let written = self.word(WRITTEN).load(Ordering::Relaxed);
        let (bytes, symbol) = (self.at.wrapping_sub(written), u64::from(seen.symbol_id));
        let [before, events, frame, after, book] =
            [seen.before, seen.events, seen.frame, seen.after, seen.book].map(|part| part as u64);
        let record: [u64; RECORD] =
            [bytes, symbol, seen.until, sent, round, before, events, frame, after, book];
        self.put(written, record.as_bytes());
        self.word(WRITTEN).store(self.at, Ordering::Release);
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
        if events.is_empty() || !events.len().is_multiple_of(size_of::<Event>()) {
            return Err(PyValueError::new_err(format!("{} bytes of events", events.len())));
        }
        let parts = [&*states.0, events, &*states.1, &*states.2];
        for part in parts {
            self.probe.show(part);
        }
        let [before, events, frame, after] = parts.map(<[u8]>::len);
        let symbol = self.place(symbol_id);
        self.probe.taken(&Seen { symbol, symbol_id, until, before, events, frame, after, book: 0 });
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
