//! In the steady state nothing is allocated: not for a message, a step, a frame or a block of them.
//!
//! Steady is a market whose prices have all been seen: whatever holds its levels has grown to its size. The
//! one here swings through all of them and back, so that books move their windows; each swing is like the
//! one before.
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::cell::Cell;
use std::collections::BTreeSet;

use featureplane_core::book::Book;
use featureplane_core::engine::Engine;
use featureplane_core::engine::config::{Config, Emit, Every};
use featureplane_core::event::{Event, flag, kind, side};
use featureplane_core::frame::{Frame, FrameSink, Frames, Layout};
use featureplane_core::normalize::binance::{Feed, Lane, Market as Rules, Received};
use featureplane_core::normalize::decimal::Scaled;
use featureplane_core::pipeline::Pipeline;
use featureplane_core::plan::Plan;

#[expect(dead_code, reason = "the unit tests draw more from it")]
#[path = "../src/random.rs"]
mod random;

use random::Random;

/// The system's allocator, which counts what each thread asks of it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no counter any more, and nothing to count.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is handed on as it came, with the caller's own promises.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: MemoryLayout) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: MemoryLayout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: MemoryLayout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What `work` asks of the allocator.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Bytes of the frames of one message, room for which is taken once; and how many frames there were.
struct Packed {
    layout: Layout,
    bytes: Vec<u8>,
    frames: usize,
}

impl Packed {
    fn new(layout: &Layout) -> Self {
        Self { bytes: Vec::with_capacity(4 * layout.frame_bytes()), layout: layout.clone(), frames: 0 }
    }
}

impl FrameSink for Packed {
    fn frame(&mut self, _: usize, frame: &Frame<'_>) {
        self.bytes.clear();
        self.layout.write(frame, &mut self.bytes);
        self.frames += 1;
    }
}

/// Adds up the values it is shown by column, as a table would keep them.
#[derive(Default)]
struct Sum {
    features: usize,
    total: u64,
    frames: usize,
    columns: Vec<u64>,
}

impl FrameSink for Sum {
    const BY_COLUMN: bool = true;

    fn frame(&mut self, _: usize, frame: &Frame<'_>) {
        self.frames += 1;
        self.total = frame.values.iter().fold(self.total, |sum, &value| sum.wrapping_add(value));
    }

    fn frames(&mut self, _: usize, frames: &mut Frames<'_>) {
        let count = frames.len();
        self.frames += count;
        self.columns.resize((self.features * count).max(self.columns.len()), 0);
        frames.copy_values(&mut self.columns, count);
        let values = &self.columns[..self.features * count];
        self.total = values.iter().fold(self.total, |sum, &value| sum.wrapping_add(value));
    }
}

const START_NS: i64 = 1_723_161_540_000_000_000;
const SYMBOLS: [u32; 2] = [1, 3]; // those of the configuration that trade at all hours
const SWING: i64 = 20_000; // messages of a swing to the highest price and back
const SWINGS: usize = 8;

/// One instrument: levels around a mid, and what the feed says of them.
struct Market {
    symbol_id: u32,
    mid: i64,
    bids: BTreeSet<i64>,
    asks: BTreeSet<i64>,
    seq: u64,
}

impl Market {
    fn new(symbol_id: u32) -> Self {
        Self { symbol_id, mid: 0, bids: BTreeSet::new(), asks: BTreeSet::new(), seq: 0 }
    }

    /// The next message, at most `high` above the lowest mid: the snapshot, a diff or a trade.
    fn message(&mut self, random: &mut Random, high: i64, time_ns: i64, out: &mut Vec<Event>) {
        let (begin, first) = (out.len(), self.seq == 0);
        self.mid = 100_000 + high + random.pick(&[-2, -1, 0, 0, 1, 2]);
        let is_trade = !first && random.below(3) == 0;
        if is_trade {
            let (side, qty) = (random.pick(&[side::BID, side::ASK]), 1 + random.magnitude(9));
            out.push(Event { kind: kind::TRADE, side, price: self.mid, qty, ..Event::default() });
        } else {
            self.seq += 1;
            for _ in 0..if first { 400 } else { 1 + random.below(6) } {
                self.level(random, out);
            }
            self.uncross(out);
        }
        for event in &mut out[begin..] {
            event.kind = if first { kind::SNAPSHOT_LEVEL } else { event.kind };
            event.flags = if first { flag::RECOVERY } else { 0 };
            event.symbol_id = self.symbol_id;
            (event.seq_prev, event.seq_last) = if is_trade { (0, 0) } else { (self.seq - 1, self.seq) };
            (event.source_ts_ns, event.local_ts_ns) = (time_ns, time_ns + 1_000_000);
        }
        if let Some(last) = out.last_mut() {
            last.flags |= flag::LAST;
        }
    }

    /// Sets or deletes a level near the mid, further away, or far beyond the window of the book.
    fn level(&mut self, random: &mut Random, out: &mut Vec<Event>) {
        let far = random.below(50) == 0; // more of them, and the window would grow over all prices
        let (reach, step) = if far { (60, 150) } else { (random.pick(&[3, 3, 12, 60, 400]), 1) };
        let away = step * (1 + i64::try_from(random.below(reach)).unwrap());
        let bid = random.below(2) == 0;
        // Far levels stand on round prices, so that a swing leaves no more of them than the one before.
        let price = if bid { self.mid - away } else { self.mid + away + step - 1 }.div_euclid(step) * step;
        let levels = if bid { &mut self.bids } else { &mut self.asks };
        let qty = if levels.contains(&price) && random.below(2) == 0 { 0 } else { 1 + random.magnitude(12) };
        if qty == 0 {
            levels.remove(&price)
        } else {
            levels.insert(price)
        };
        out.push(level(bid, price, qty));
    }

    /// Deletes what the mid has gone past.
    fn uncross(&mut self, out: &mut Vec<Event>) {
        out.extend(self.bids.split_off(&self.mid).into_iter().map(|price| level(true, price, 0)));
        let kept = self.asks.split_off(&(self.mid + 1));
        out.extend(std::mem::replace(&mut self.asks, kept).into_iter().map(|price| level(false, price, 0)));
    }
}

fn level(bid: bool, price: i64, qty: i64) -> Event {
    Event { kind: kind::LEVEL, side: if bid { side::BID } else { side::ASK }, price, qty, ..Event::default() }
}

/// Swings of two instruments, one message after the other.
fn swings() -> Vec<Vec<Event>> {
    let (mut random, mut markets) = (Random::new(7), SYMBOLS.map(Market::new));
    let mut swing = |from: i64| {
        let mut events = Vec::new();
        for at in 0..SWING {
            let market = &mut markets[usize::from(at % 2 == 1)];
            let high = at.min(SWING - at) / 2;
            market.message(&mut random, high, START_NS + (from + at) * 3_000_000, &mut events);
        }
        events
    };
    (0..SWING * i64::try_from(SWINGS).unwrap())
        .step_by(usize::try_from(SWING).unwrap())
        .map(&mut swing)
        .collect()
}

/// What is asked of the allocator in a swing once everything has its size.
///
/// WHY not in the third: a hash of as many levels as before may still grow, to be rid of its graves.
fn asked_when_steady(swings: &[Vec<Event>], mut take: impl FnMut(&[Event])) -> u64 {
    let (first, others) = swings.split_at(2);
    for events in first {
        take(events);
    }
    let mut asked = u64::MAX;
    for events in others {
        asked = allocations(|| take(events));
        if asked == 0 {
            break;
        }
    }
    asked
}

const PLANS: [&str; 2] = [
    include_str!("../../../fuzz/plans/lob_shared_v1.json"),
    include_str!("../../../fuzz/plans/lob_shared_v2.json"),
];

const CHOICES: [(Emit, Option<Every>); 4] = [
    (Emit::Update, None),
    (Emit::Change, None),
    (Emit::Update, Some(Every::Frames(3))),
    (Emit::Update, Some(Every::Nanos(10_000_000))),
];

fn config() -> Config {
    Config::from_json(include_str!("../../../fuzz/plans/config.json")).expect("a configuration")
}

fn engine(plan: &str, config: &Config) -> Engine {
    Engine::new(Plan::from_json(plan, *b"counting").expect("a plan"), config).expect("an engine")
}

#[test]
fn an_allocation_is_counted() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0u8; 100]))), 1);
}

#[test]
fn streaming_allocates_nothing() {
    let swings = swings();
    for (plan, (emit, every)) in PLANS.iter().flat_map(|plan| CHOICES.map(|choice| (plan, choice))) {
        let mut engine = engine(plan, &Config { emit, every, ..config() });
        let mut sink = Packed::new(engine.layout());
        let asked = asked_when_steady(&swings, |events| {
            sink.frames = 0;
            for message in events.split_inclusive(Event::is_last) {
                engine.run(message, &mut sink).expect("sound events");
            }
        });
        assert_eq!(asked, 0, "{emit:?}, {every:?}: in {} frames", sink.frames);
        assert!(sink.frames > 4_000, "{emit:?}, {every:?}: {} frames", sink.frames);
    }
}

/// A message as Binance writes it for futures, without its local time.
fn written(message: &[Event]) -> String {
    let [first, ..] = message else { return String::new() };
    let (symbol, time, last) = (first.symbol_id, first.source_ts_ns / 1_000_000, first.seq_last);
    if first.kind == kind::TRADE {
        let (price, qty, maker) = (first.price, first.qty, first.side == side::ASK);
        return format!(
            r#"{{"e":"trade","E":{time},"T":{time},"s":"S{symbol}","t":{time},"p":"{price}","q":"{qty}","m":{maker}}}"#
        );
    }
    let levels = |side: u8| {
        let of_side = message.iter().filter(|event| event.side == side);
        of_side.map(|event| format!(r#"["{}","{}"]"#, event.price, event.qty)).collect::<Vec<_>>().join(",")
    };
    let (bids, asks) = (levels(side::BID), levels(side::ASK));
    if first.kind == kind::SNAPSHOT_LEVEL {
        return format!(
            r#"{{"lastUpdateId":{last},"E":{time},"T":{time},"symbol":"S{symbol}","bids":[{bids}],"asks":[{asks}]}}"#
        );
    }
    let previous = first.seq_prev;
    format!(
        r#"{{"e":"depthUpdate","E":{time},"T":{time},"s":"S{symbol}","U":{last},"u":{last},"pu":{previous},"b":[{bids}],"a":[{asks}]}}"#
    )
}

#[test]
fn messages_to_frames_allocate_nothing() {
    let swings = swings();
    let texts: Vec<Vec<(String, i64)>> = swings
        .iter()
        .map(|events| {
            let messages = events.split_inclusive(Event::is_last);
            messages.map(|message| (written(message), message[0].local_ts_ns)).collect()
        })
        .collect();
    let lane = |symbol_id| {
        let decimals = Scaled { price_exponent: 0, qty_exponent: 0 };
        Lane { symbol: format!("S{symbol_id}"), symbol_id, decimals }
    };
    let mut engine = engine(PLANS[1], &config());
    let mut sink = Packed::new(engine.layout());
    let mut pipeline = Pipeline::new(Feed::new(&SYMBOLS.map(lane), Rules::Futures, false, 1 << 20));
    let mut asked = u64::MAX;
    for (at, swing) in texts.iter().enumerate() {
        sink.frames = 0;
        asked = allocations(|| {
            for (text, local) in swing {
                let how = Received { local_ts_ns: Some(*local), lane: None };
                pipeline.push(&mut engine, text.as_bytes(), how, &mut sink).expect("sound messages");
            }
        });
        if at > 1 && asked == 0 {
            break;
        }
    }
    assert_eq!(asked, 0, "in {} frames", sink.frames);
    assert!(sink.frames > 4_000, "{} frames", sink.frames);
}

#[test]
fn blocks_allocate_nothing() {
    let swings = swings();
    for (plan, trusted) in PLANS.iter().flat_map(|plan| [(plan, true), (plan, false)]) {
        let mut engine = engine(plan, &config());
        let mut sum = Sum { features: engine.layout().sentinels().len(), ..Sum::default() };
        let asked = asked_when_steady(&swings, |events| {
            sum.frames = 0;
            engine.run_block(events, trusted, 256, &mut sum).expect("sound events");
        });
        assert_eq!(asked, 0, "trusted {trusted}: in {} frames, sum {}", sum.frames, sum.total);
        assert!(sum.frames > 10_000, "{} frames", sum.frames);
    }
}

#[test]
fn the_book_alone_allocates_nothing() {
    let (mut book, mut moves) = (Book::new(1, 5), 0);
    let asked = asked_when_steady(&swings(), |events| {
        moves = 0;
        for event in events.iter().filter(|event| event.symbol_id == SYMBOLS[0]) {
            book.apply(event);
            moves += u64::from(event.is_last() && book.observe());
        }
    });
    assert_eq!(asked, 0);
    assert!(moves > 4_000, "the best levels moved {moves} times");
}
