//! The loops that are timed: recorded events in memory to values in memory.

use std::mem::MaybeUninit;

use crate::book::Book;
use crate::events::{Event, LEVEL, SNAPSHOT_LEVEL};
use crate::values::{Row, UNDEFINED, UNDEFINED_I64, V1, is_valid};

/// Kernels of an instrument without sessions begin anew at 00:00 UTC.
const DAY_NS: i64 = 86_400_000_000_000;

/// What is read from the book after each of its messages.
pub trait Observer {
    /// `changed`: the best levels were read again since the last call, and may differ.
    fn observe(&mut self, book: &Book, changed: bool);

    /// A day has begun: what goes from message to message is forgotten (rule 3.6).
    fn reset(&mut self) {}
}

/// Best prices, best sizes and five-level depths: what "book alone" shows.
pub struct Touches<'a>(pub &'a mut Vec<[u64; 6]>);

impl Observer for Touches<'_> {
    #[inline(always)]
    fn observe(&mut self, book: &Book, _changed: bool) {
        let mut row = [UNDEFINED_I64; 6];
        let (bid, ask) = (book.bid(), book.ask());
        let crossed = matches!((bid, ask), (Some(bid), Some(ask)) if bid.price >= ask.price);
        for (place, top) in [bid, ask].into_iter().enumerate() {
            if let Some(top) = top.filter(|_| !crossed) {
                row[place] = top.price.cast_unsigned();
                row[2 + place] = top.qty.cast_unsigned();
                row[4 + place] = top.depth.cast_unsigned();
            }
        }
        self.0.push(row);
    }
}

/// The values of one frame in two cache lines of their own.
#[repr(C, align(64))]
pub struct Frame(pub Row);

/// The sixteen values of v1, written frame by frame past the cache.
pub struct Features<'a> {
    state: V1,
    row: Row,
    room: std::slice::IterMut<'a, MaybeUninit<Frame>>,
}

impl<'a> Features<'a> {
    /// `room` must have a place for every book message.
    pub fn into(room: &'a mut [MaybeUninit<Frame>]) -> Self {
        Self { state: V1::default(), row: UNDEFINED, room: room.iter_mut() }
    }

    /// Places not written.
    pub fn left(&self) -> usize {
        self.room.len()
    }
}

impl Observer for Features<'_> {
    #[inline(always)]
    fn observe(&mut self, book: &Book, changed: bool) {
        if changed {
            self.row = self.state.update(book.bid(), book.ask());
        } else if is_valid(&self.row) {
            self.state.repeat(&mut self.row);
        }
        stream(self.room.next().expect("room for every book message"), &self.row);
    }

    #[cold]
    fn reset(&mut self) {
        self.state = V1::default();
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn stream(to: &mut MaybeUninit<Frame>, row: &Row) {
    use std::arch::x86_64::{__m128i, _mm_set_epi64x, _mm_stream_si128};
    let to = to.as_mut_ptr().cast::<__m128i>();
    for (place, pair) in row.chunks_exact(2).enumerate() {
        // SAFETY: SSE2 is part of x86-64; a frame is eight aligned pieces of 16 bytes, and `to` is its first.
        unsafe {
            let both = _mm_set_epi64x(pair[1].cast_signed(), pair[0].cast_signed());
            _mm_stream_si128(to.add(place), both);
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn stream(to: &mut MaybeUninit<Frame>, row: &Row) {
    to.write(Frame(*row));
}

/// Replays a recording: one observation for each book message from the snapshot on.
///
/// Behind the snapshot the sequence is not looked at: the recordings have no gap, and a limit may know.
pub fn replay(book: &mut Book, unit: bool, events: &[Event], observer: &mut impl Observer) {
    if unit { run::<true>(book, events, observer) } else { run::<false>(book, events, observer) }
}

#[inline(always)]
fn run<const UNIT: bool>(book: &mut Book, events: &[Event], observer: &mut impl Observer) {
    let (mut rest, clock_ns) = seed::<UNIT>(book, events);
    let mut midnight_ns = (clock_ns / DAY_NS + 1) * DAY_NS;
    let changed = book.refresh();
    observer.observe(book, changed);
    while let Some((mut event, mut after)) = rest.split_first() {
        if event.kind == LEVEL {
            loop {
                book.apply::<UNIT>(event);
                if event.is_last() {
                    break;
                }
                let Some((next, further)) = after.split_first() else { return };
                (event, after) = (next, further);
            }
            let new_day = event.source_ts_ns >= midnight_ns;
            if new_day {
                midnight_ns = (event.source_ts_ns / DAY_NS + 1) * DAY_NS;
                observer.reset();
            }
            let changed = book.refresh() | new_day;
            observer.observe(book, changed);
        }
        rest = after;
    }
}

/// The snapshot and the diffs that came before it and reach beyond it (rule 3.7), one message.
///
/// Returns what follows it, duplicates dropped, and the latest time of the venue up to it.
fn seed<'a, const UNIT: bool>(book: &mut Book, events: &'a [Event]) -> (&'a [Event], i64) {
    let first = events.iter().position(|e| e.kind == SNAPSHOT_LEVEL).expect("a snapshot");
    let (before, rest) = events.split_at(first);
    let end = rest.iter().position(Event::is_last).expect("a whole message") + 1;
    let (snapshot, rest) = rest.split_at(end);
    let base = snapshot[0].seq_last;
    let mut applied = base;
    for event in snapshot.iter().chain(before.iter().filter(|e| e.kind == LEVEL && e.seq_last > base)) {
        book.apply::<UNIT>(event);
        applied = applied.max(event.seq_last);
    }
    let fresh = |e: &Event| e.kind == LEVEL && (e.seq_last > applied || e.seq_last == 0);
    let book_times = events[..first + end].iter().filter(|e| matches!(e.kind, LEVEL | SNAPSHOT_LEVEL));
    let latest = book_times.map(|e| e.source_ts_ns).max().filter(|&latest| latest > 0);
    let clock_ns = latest.unwrap_or(snapshot[0].local_ts_ns);
    (&rest[rest.iter().position(fresh).unwrap_or(rest.len())..], clock_ns)
}
