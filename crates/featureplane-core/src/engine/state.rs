//! The saved state of a symbol as canonical bytes (`docs/reference/engine-state.md`).
//!
//! Twin of `featureplane/features/engine_state.py`: the same bytes for the same state.

use super::config::Trading;
use super::symbol::{Shared, Symbol};
use super::tally::{Causes, ResetCause};
use crate::book::l3::{Order, Orders};
use crate::book::{Book, Level};
use crate::error::Error;
use crate::event::{Event, TIME_LIMIT_NS, kind, side};
use crate::kernels::state::{StateReader, StateWriter};
use crate::message::{self, Next};
use crate::quality::{BUFFER_MESSAGES, Base, Cause, Chain, Guard, State};
use zerocopy::{FromBytes, IntoBytes};

const MAGIC: [u8; 8] = *b"FPSTATE1";
/// Faults in a row are counted, and room is left to go on.
const FAULTS_MAX: usize = 1 << 31;
/// Bits of a saved reset set.
const BOOK: u64 = 1;
const TRADES: u64 = 2;

/// A state is handed on in pieces of about this many bytes, which the nearest cache holds.
const PIECE: usize = 1 << 14;

/// Writes everything but what chooses which frames are put out.
pub(super) fn save(symbol: &Symbol, shared: &Shared) -> Vec<u8> {
    let mut out = StateWriter::new();
    write(symbol, shared, true, &mut out, &mut |_| ());
    out.into_bytes()
}

/// How long a state is that was handed on, and where in it the book stands, whose levels are in no order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    pub(super) bytes: usize,
    pub(super) book: usize,
}

/// The same, piece by piece to whoever wants it; `room` was used before.
pub(super) fn hand_on(
    symbol: &mut Symbol,
    shared: &Shared,
    room: &mut Vec<u8>,
    to: &mut impl FnMut(&[u8]),
) -> Extent {
    symbol.book.settle();
    let mut out = StateWriter::over(std::mem::take(room));
    let book = write(symbol, shared, false, &mut out, &mut |out| out.spill(PIECE, to));
    out.spill(0, to);
    let bytes = out.len();
    *room = out.into_bytes();
    Extent { bytes, book }
}

/// `pause` is called where what was written may be handed on; answers where the book stands.
fn write(
    symbol: &Symbol,
    shared: &Shared,
    sorted: bool,
    out: &mut StateWriter,
    pause: &mut impl FnMut(&mut StateWriter),
) -> usize {
    out.raw(&MAGIC);
    out.raw(&shared.layout.fingerprint());
    out.u64(symbol.config.symbol_id.into());
    save_guard(symbol, shared, out);
    out.u64(symbol.status as u64);
    out.bool(symbol.session == Trading::Trading);
    out.option_i64(symbol.crossed_since);
    out.option_i64(symbol.clock);
    out.option_i64(symbol.lateness.offset);
    out.i64(symbol.lateness.local_before);
    out.u64(symbol.lateness.faults.into());
    out.u64(symbol.seq);
    out.raw(symbol.output.last().as_bytes());
    let book = out.len();
    save_book(&symbol.book, sorted, out, pause);
    symbol.nodes.save(out, pause);
    book
}

fn save_guard(symbol: &Symbol, shared: &Shared, out: &mut StateWriter) {
    let guard = &symbol.guard;
    out.u64(guard.state as u64);
    out.u64(guard.cause as u64);
    for chain in [&guard.book, &guard.trade, &guard.status] {
        out.u64(chain.kind as u64);
        out.u64(chain.base);
        out.u64(chain.applied);
    }
    out.bool(symbol.carries_trades);
    out.bool(guard.passed);
    out.bool(guard.seeded);
    out.u64(symbol.seed_frames);
    out.count(guard.buffer.len());
    for held in &guard.buffer {
        out.count(held.len());
        out.raw(held.as_bytes());
    }
    out.u64(symbol.pending_flags.into());
    let reset = symbol.pending_reset;
    let book = u64::from(reset.book && shared.reads.book) * BOOK;
    let trades = u64::from(reset.trades && shared.reads.trades) * TRADES;
    out.u64(book | trades);
}

#[inline]
fn save_level(level: Level, out: &mut StateWriter) {
    out.words([level.price, level.qty].map(i64::cast_unsigned));
}

fn save_book(book: &Book, sorted: bool, out: &mut StateWriter, pause: &mut impl FnMut(&mut StateWriter)) {
    out.counted(|out| book.each_bid(sorted, |level| save_level(level, out)));
    pause(out);
    out.counted(|out| book.each_ask(sorted, |level| save_level(level, out)));
    pause(out);
    let orders = book.orders().map(Orders::sorted).unwrap_or_default();
    out.count(orders.len());
    for (id, order) in orders {
        out.u64(id);
        out.u64(order.side.into());
        out.i64(order.price);
        out.i64(order.qty);
    }
    out.u64(book.orders().map_or(0, Orders::unknown));
}

/// Puts a saved state in the place of the present one; on an error what was there is lost.
pub(super) fn load(symbol: &mut Symbol, shared: &Shared, bytes: &[u8]) -> Result<(), Error> {
    let from = &mut StateReader::new(bytes);
    if from.raw(8)? != MAGIC {
        return Err(from.refuse("no saved state", "FPSTATE1"));
    }
    if from.raw(8)? != shared.layout.fingerprint() {
        return Err(from.refuse("another fingerprint", "that of the plan"));
    }
    let id = from.u64()?;
    if id != u64::from(symbol.config.symbol_id) {
        return Err(
            from.refuse(format!("state of symbol {id}"), format!("symbol {}", symbol.config.symbol_id))
        );
    }
    load_guard(symbol, from)?;
    symbol.status = choose(from, &[Trading::Closed, Trading::PreOpen, Trading::Halted, Trading::Trading])?;
    symbol.session = if from.bool()? { Trading::Trading } else { Trading::Closed };
    symbol.crossed_since = optional(from, time)?;
    symbol.clock = optional(from, time)?;
    symbol.lateness.offset = optional(from, |from| limited(from, 1 - TIME_LIMIT_NS))?;
    symbol.lateness.local_before = time(from)?;
    symbol.lateness.faults =
        u32::try_from(from.count(FAULTS_MAX)?).map_err(|_| from.refuse("too many faults", "2^31"))?;
    symbol.seq = frames(from)?;
    let mut values = Vec::with_capacity(shared.layout.sentinels().len());
    for _ in shared.layout.sentinels() {
        values.push(from.u64()?);
    }
    symbol.output.restore(&values);
    load_book(symbol, from)?;
    symbol.nodes.load(from)?;
    if !from.is_empty() {
        return Err(from.refuse("more bytes", "the end of the state"));
    }
    symbol.session_until = if symbol.config.sessions.is_some() { i64::MIN } else { i64::MAX };
    symbol.next_reset = symbol.clock.map_or(i64::MAX, |clock| symbol.reset_after(clock));
    symbol.observe();
    Ok(())
}

/// A time of an event.
fn time(from: &mut StateReader<'_>) -> Result<i64, Error> {
    limited(from, 0)
}

/// A number from `least` to below 2^62: no sum or difference of two leaves 64 bits.
fn limited(from: &mut StateReader<'_>, least: i64) -> Result<i64, Error> {
    let number = from.i64()?;
    if (least..TIME_LIMIT_NS).contains(&number) {
        return Ok(number);
    }
    Err(from.refuse(number.to_string(), format!("{least} to 2^62 - 1")))
}

/// A count that leaves room to go on counting.
fn frames(from: &mut StateReader<'_>) -> Result<u64, Error> {
    limited(from, 0).map(i64::cast_unsigned)
}

fn optional<T>(
    from: &mut StateReader<'_>,
    read: impl Fn(&mut StateReader<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    Ok(if from.bool()? { Some(read(from)?) } else { None })
}

fn choose<T: Copy>(from: &mut StateReader<'_>, all: &[T]) -> Result<T, Error> {
    let word = from.u64()?;
    let place = usize::try_from(word).unwrap_or(usize::MAX);
    all.get(place)
        .copied()
        .ok_or_else(|| from.refuse(format!("the word {word}"), format!("0 to {}", all.len() - 1)))
}

fn load_guard(symbol: &mut Symbol, from: &mut StateReader<'_>) -> Result<(), Error> {
    let state = choose(from, &[State::Waiting, State::Whole, State::Broken])?;
    let causes = [Cause::None, Cause::Gap, Cause::Crossed, Cause::Malformed, Cause::Queue];
    let cause = choose(from, &causes)?;
    let mut chain = || -> Result<Chain, Error> {
        let kind = choose(from, &[Base::Unset, Base::Snapshot, Base::PassedOver, Base::First])?;
        Ok(Chain { kind, base: from.u64()?, applied: from.u64()? })
    };
    let (book, trade, status) = (chain()?, chain()?, chain()?);
    symbol.carries_trades = from.bool()?;
    let (passed, seeded) = (from.bool()?, from.bool()?);
    symbol.seed_frames = frames(from)?;
    let guard = &mut symbol.guard;
    let (drops, breaks, gaps) = (guard.drops, guard.breaks, guard.gaps);
    *guard =
        Guard { state, cause, book, trade, passed, seeded, status, drops, breaks, gaps, ..Guard::default() };
    for _ in 0..from.count(BUFFER_MESSAGES)? {
        let held = load_message(from)?;
        guard.buffer.push_back(held);
    }
    let flags = from.u64()?;
    symbol.pending_flags = u32::try_from(flags)
        .ok()
        .filter(|&flags| flags < 64)
        .ok_or_else(|| from.refuse(format!("flags {flags}"), "0 to 63"))?;
    let resets = from.u64()?;
    if resets > BOOK | TRADES {
        return Err(from.refuse(format!("resets {resets}"), "0 to 3"));
    }
    symbol.pending_reset.book = resets & BOOK != 0;
    symbol.pending_reset.trades = resets & TRADES != 0;
    symbol.pending_causes = Causes::default();
    if resets != 0 {
        symbol.pending_causes.add(ResetCause::Restored);
    }
    symbol.rises.forget();
    Ok(())
}

fn load_message(from: &mut StateReader<'_>) -> Result<Box<[Event]>, Error> {
    let count = from.count(usize::MAX / 64)?;
    let bytes = from.raw(count * 64)?;
    let events: Box<[Event]> =
        bytes.chunks_exact(64).filter_map(|event| Event::read_from_bytes(event).ok()).collect();
    if events.is_empty() {
        return Err(from.refuse("a message without events", "at least one"));
    }
    match message::take(&events) {
        Next::Message(message) if message.events.len() == events.len() => Ok(events),
        _ => Err(from.refuse("events that are no message", "one message")),
    }
}

fn load_book(symbol: &mut Symbol, from: &mut StateReader<'_>) -> Result<(), Error> {
    symbol.book.reset();
    for side in [side::BID, side::ASK] {
        for _ in 0..from.count(usize::MAX / 16)? {
            let (price, qty) = (from.i64()?, from.i64()?);
            if price.unsigned_abs() >> 53 != 0 || qty <= 0 {
                return Err(
                    from.refuse(format!("level {price}, {qty}"), "a price below 2^53, a size above 0")
                );
            }
            symbol.book.apply(&Event { kind: kind::LEVEL, side, price, qty, ..Event::default() });
        }
    }
    let mut orders = Vec::new();
    for _ in 0..from.count(usize::MAX / 32)? {
        let (id, side) = (from.u64()?, from.u64()?);
        let (price, qty) = (from.i64()?, from.i64()?);
        let side = u8::try_from(side).ok().filter(|side| [side::BID, side::ASK].contains(side));
        let Some(side) = side.filter(|_| price.unsigned_abs() >> 53 == 0 && qty > 0 && qty >> 53 == 0) else {
            return Err(from.refuse(format!("order {id}"), "a side, a price and a size below 2^53"));
        };
        orders.push((id, Order { side, price, qty }));
    }
    let unknown = from.u64()?;
    if !orders.is_empty() || unknown > 0 {
        symbol.book.restore_orders(Orders::restore(orders, unknown));
    }
    Ok(())
}
