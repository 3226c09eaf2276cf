//! Times each design on recorded feeds: `books FILE…`, capture files or plain dumps of events.
//!
//! Five levels a side are read after each book message. Warm: one book. Cold: 500 books in turn, a message
//! each, as a service of many symbols has them. The sums must agree.

mod designs;

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::Instant;

use designs::{DEPTH, Flat, Side, Sorted, Tree, Window};
use featureplane_core::book::{Book, Level};
use featureplane_core::event::{Event, kind, side};
use zerocopy::FromBytes;

const RUNS: usize = 15;
const COLD_BOOKS: usize = 500;
const COLD_MESSAGES: usize = 40;

/// Book messages of one recording, from its snapshot on, prices in ticks.
struct Feed {
    name: String,
    messages: Vec<Vec<Event>>,
    rows: usize,
    low: i64,
    high: i64,
}

impl Feed {
    fn open(path: &str) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        let body = if bytes.starts_with(b"FPCAPT01") { &bytes[4096..] } else { &bytes[..] };
        let events: Vec<Event> =
            body.chunks_exact(64).map(|bytes| Event::read_from_bytes(bytes).expect("64 bytes")).collect();
        let is_book = |e: &&Event| matches!(e.kind, kind::LEVEL | kind::SNAPSHOT_LEVEL);
        let start = events.iter().position(|e| e.kind == kind::SNAPSHOT_LEVEL).ok_or("no snapshot")?;
        let mut book: Vec<Event> = events[start..].iter().filter(is_book).copied().collect();
        let tick = book.iter().fold(0, |tick, e| gcd(tick, e.price)).max(1);
        for event in &mut book {
            event.price /= tick;
        }
        let low = book.iter().map(|e| e.price).min().unwrap_or(0);
        let high = book.iter().map(|e| e.price).max().unwrap_or(0);
        let messages: Vec<Vec<Event>> = book.split_inclusive(Event::is_last).map(<[Event]>::to_vec).collect();
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        Ok(Self { name, rows: book.len(), messages, low, high })
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A whole book of some design.
trait Design {
    fn new(feed: &Feed) -> Self;
    fn apply(&mut self, message: &[Event]);
    /// Reads five levels a side; a number that stands for them.
    fn read(&mut self) -> i64;
    fn clear(&mut self);
    fn bytes(&self) -> usize;
}

struct Sides<S> {
    bid: S,
    ask: S,
}

fn sum(levels: impl Iterator<Item = (i64, i64)>) -> i64 {
    levels.fold(0, |sum: i64, (price, qty)| sum.wrapping_mul(31).wrapping_add(price).wrapping_mul(31) ^ qty)
}

impl<S: Side> Design for Sides<S> {
    fn new(feed: &Feed) -> Self {
        Self { bid: S::new(-feed.high, -feed.low), ask: S::new(feed.low, feed.high) }
    }

    fn apply(&mut self, message: &[Event]) {
        for event in message {
            if event.side == side::BID {
                self.bid.set(-event.price, event.qty);
            } else {
                self.ask.set(event.price, event.qty);
            }
        }
    }

    fn read(&mut self) -> i64 {
        let bids = sum(self.bid.top().iter().map(|&(key, qty)| (-key, qty)));
        bids ^ sum(self.ask.top().iter().copied()).rotate_left(1)
    }

    fn clear(&mut self) {
        self.bid.clear();
        self.ask.clear();
    }

    fn bytes(&self) -> usize {
        self.bid.bytes() + self.ask.bytes()
    }
}

/// The book of the project.
struct Ours(Book);

impl Design for Ours {
    fn new(_: &Feed) -> Self {
        Self(Book::new(1, DEPTH))
    }

    fn apply(&mut self, message: &[Event]) {
        for event in message {
            self.0.apply(event);
        }
    }

    fn read(&mut self) -> i64 {
        self.0.observe();
        let sum = |levels: &[Level]| sum(levels.iter().map(|level| (level.price, level.qty)));
        sum(self.0.bids()) ^ sum(self.0.asks()).rotate_left(1)
    }

    fn clear(&mut self) {
        self.0.reset();
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// Least and middle: the first is steadier where others use the machine too.
fn least_and_middle(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2])
}

/// Prints one line; `many`: whether 500 of them fit in memory.
fn measure<D: Design>(name: &str, feed: &Feed, many: bool) -> i64 {
    let mut book = D::new(feed);
    let mut seen = 0i64;
    let warm = (0..RUNS).map(|_| {
        book.clear();
        seen = 0;
        let start = Instant::now();
        for message in &feed.messages {
            book.apply(message);
            seen = book.read().wrapping_add(seen.rotate_left(5));
        }
        start.elapsed().as_secs_f64() * 1e9 / feed.rows as f64
    });
    let (least, middle) = least_and_middle(warm.collect());
    let bytes = book.bytes();
    drop(book);
    let cold = if many { cold::<D>(feed) } else { f64::NAN };
    let memory = if bytes == 0 { "      -".to_owned() } else { format!("{:7.0}", bytes as f64 / 1024.0) };
    println!("{:<28} {name:<26} {least:8.2} {middle:8.2} {cold:8.2} {memory} {seen:016x}", feed.name);
    seen
}

fn cold<D: Design>(feed: &Feed) -> f64 {
    let (snapshot, rest) = feed.messages.split_first().expect("the snapshot");
    let mut books: Vec<D> = (0..COLD_BOOKS).map(|_| D::new(feed)).collect();
    for book in &mut books {
        book.apply(snapshot);
        book.read();
    }
    let rest = &rest[..COLD_MESSAGES.min(rest.len())];
    let (mut seconds, mut rows) = (0.0, 0);
    for message in rest {
        let turns = (0..3).map(|_| {
            let start = Instant::now();
            for book in &mut books {
                book.apply(message);
                std::hint::black_box(book.read());
            }
            start.elapsed().as_secs_f64()
        });
        seconds += least_and_middle(turns.collect()).0;
        rows += message.len() * COLD_BOOKS;
    }
    seconds * 1e9 / rows as f64
}

fn main() -> ExitCode {
    println!("{:<28} {:<26} {:>8} {:>8} {:>8} {:>7}", "ns a row", "design", "least", "middle", "cold", "KiB");
    for path in std::env::args().skip(1) {
        let feed = match Feed::open(&path) {
            Ok(feed) => feed,
            Err(error) => {
                eprintln!("books: {error}");
                return ExitCode::from(2);
            }
        };
        let sums = [
            measure::<Ours>("featureplane", &feed, true),
            measure::<Sides<Window<HashMap<i64, i64>, 4_096>>>("window 4096 + hash", &feed, true),
            measure::<Sides<Window<HashMap<i64, i64>, 16_384>>>("window 16384 + hash", &feed, true),
            measure::<Sides<Window<HashMap<i64, i64>, 65_536>>>("window 65536 + hash", &feed, true),
            measure::<Sides<Window<BTreeMap<i64, i64>, 4_096>>>("window 4096 + tree", &feed, true),
            measure::<Sides<Window<BTreeMap<i64, i64>, 16_384>>>("window 16384 + tree", &feed, true),
            measure::<Sides<Sorted>>("sorted vector", &feed, true),
            measure::<Sides<Tree>>("tree", &feed, true),
            measure::<Sides<Flat>>("flat, all prices known", &feed, false),
        ];
        if sums.iter().any(|sum| *sum != sums[0]) {
            eprintln!("books: the designs disagree on {path}");
            return ExitCode::from(1);
        }
    }
    ExitCode::SUCCESS
}
