//! What targets share: plans, instruments, events, and a sink that looks at every frame it gets.

use std::sync::LazyLock;

use featureplane_core::engine::config::Config;
use featureplane_core::event::{Event, flag, kind, side};
use featureplane_core::frame::{Frame, FrameSink, Layout};
use featureplane_core::message::{Next, take};
use featureplane_core::plan::Plan;

/// Number of plans.
pub const PLANS: u8 = 4;

/// Plans as Python writes them (`scripts/fuzz_corpus.py`).
pub const PLAN_TEXTS: [&str; PLANS as usize] = [
    include_str!("../plans/lob_shared_v1.json"),
    include_str!("../plans/every_kernel.json"),
    include_str!("../plans/trades_only.json"),
    include_str!("../plans/lob_shared_v2.json"),
];

/// Three instruments that differ in everything an instrument can say; ids 1, 2, 3.
pub const CONFIG: &str = include_str!("../plans/config.json");

/// Plan `which`, parsed.
#[must_use]
pub fn plan(which: u8) -> &'static Plan {
    static PARSED: LazyLock<Vec<Plan>> = LazyLock::new(|| {
        PLAN_TEXTS.iter().map(|text| Plan::from_json(text, *b"fuzzing!").expect("a plan of ours")).collect()
    });
    &PARSED[usize::from(which % PLANS)]
}

/// [`CONFIG`], parsed.
#[must_use]
pub fn config() -> Config {
    static PARSED: LazyLock<Config> =
        LazyLock::new(|| Config::from_json(CONFIG).expect("a configuration of ours"));
    PARSED.clone()
}

/// The input in words, so that it may be seen as events; a last part of 64 bytes is filled with zeros.
#[must_use]
pub fn aligned(data: &[u8]) -> Vec<u64> {
    let mut words: Vec<u64> = data
        .chunks(8)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        })
        .collect();
    words.resize(words.len().next_multiple_of(8), 0);
    words
}

/// Whether events are one whole message that the rules can use.
#[must_use]
pub fn is_sound(events: &[Event]) -> bool {
    matches!(take(events), Next::Message(message) if message.events.len() == events.len())
}

/// A snapshot, diffs and trades of one symbol, each event a message.
#[must_use]
pub fn synthetic(symbol_id: u32) -> Vec<Event> {
    (0..24)
        .map(|at| {
            let time = 1_723_161_540_000_000_000 + at * 700_000;
            let trade = at % 5 == 4;
            Event {
                kind: match at {
                    0 => kind::SNAPSHOT_LEVEL,
                    _ if trade => kind::TRADE,
                    _ => kind::LEVEL,
                },
                side: if at % 2 == 0 { side::BID } else { side::ASK },
                flags: flag::LAST | if at == 0 { flag::RECOVERY } else { 0 },
                symbol_id,
                price: if at % 2 == 0 { 1000 - at } else { 1001 + at },
                qty: 1 + at % 3,
                source_ts_ns: time,
                local_ts_ns: time + 3_000_000,
                ..Event::default()
            }
        })
        .collect()
}

/// Frames as bytes, checked as they come.
#[derive(Debug)]
pub struct Packed {
    layout: Layout,
    /// Packed frames, one behind the other.
    pub bytes: Vec<u8>,
    /// Grid points of sampled frames.
    pub grid: Vec<i64>,
}

impl Packed {
    /// A sink for frames of `layout`.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), bytes: Vec::new(), grid: Vec::new() }
    }

    /// Every frame is one by its own decoder.
    pub fn check_each(&self) {
        for bytes in self.bytes.chunks(self.layout.frame_bytes()) {
            assert_eq!(self.layout.read(bytes).err(), None);
        }
    }

    /// Every frame is one by its own decoder, and `seq` ascends within a symbol.
    pub fn check(&self) {
        let mut seqs = std::collections::HashMap::new();
        for bytes in self.bytes.chunks(self.layout.frame_bytes()) {
            let frame = self.layout.read(bytes).expect("the engine makes frames");
            let before = seqs.insert(frame.head().symbol_id, frame.head().seq).unwrap_or(0);
            assert!(before < frame.head().seq);
        }
    }
}

impl FrameSink for Packed {
    fn frame(&mut self, _: usize, frame: &Frame<'_>) {
        self.layout.write(frame, &mut self.bytes);
        self.grid.push(frame.head.grid_ts_ns);
    }
}
