//! Frames by column are the frames one by one, whoever takes them and however often.

use featureplane_core::engine::Engine;
use featureplane_core::engine::config::Config;
use featureplane_core::event::{Event, flag, kind, side};
use featureplane_core::frame::{Frame, FrameSink, Frames};
use featureplane_core::plan::Plan;

#[expect(dead_code, reason = "the unit tests draw more from it")]
#[path = "../src/random.rs"]
mod random;

use random::Random;

const PLAN: &str = include_str!("../../../fuzz/plans/lob_shared_v1.json");
const CONFIG: &str = include_str!("../../../fuzz/plans/config.json");
const SYMBOL: u32 = 1;
const START_NS: i64 = 1_723_161_540_000_000_000;

fn engine() -> Engine {
    let plan = Plan::from_json(PLAN, *b"bycolumn").expect("a plan");
    Engine::new(plan, &Config::from_json(CONFIG).expect("a configuration")).expect("an engine")
}

/// A snapshot and levels near it, each a message of its own. Some cross the book, and some are followed by
/// many that change nothing near the best ones; in a `lively` stream only few cross, most change the best
/// levels, and hardly a size is too large to be computed with others at once.
fn events(lively: bool) -> Vec<Event> {
    let mut random = Random::new(11);
    let mut events = Vec::new();
    for at in 0..12_000 {
        let first = at < 40;
        let quiet = at % 700 > 400;
        // A level of the other side, and its end.
        let crossing = at % 600 < 2;
        let bid = random.below(2) == 0 || (lively && crossing);
        let away = match lively {
            true if crossing => -5,
            true => 1 + i64::try_from(random.below(9)).unwrap(),
            false if quiet => 900 + i64::try_from(random.below(9)).unwrap(),
            false => {
                random.pick(&[-1, 0, 1, 1, 2, 3, 5, 8, 400, 500]) + i64::try_from(random.below(9)).unwrap()
            }
        };
        let large = if lively && random.below(900) == 0 { 1 << 50 } else { 0 };
        let stays = if lively { random.below(16) != 0 && at % 600 != 1 } else { random.below(2) == 0 };
        let qty = if first || stays { 1 + random.magnitude(20) + large } else { 0 };
        let time = START_NS + if first { 0 } else { i64::from(at / 3) * 1_000_000 };
        let mark = if at == 39 || !first { flag::LAST } else { 0 };
        events.push(Event {
            kind: if first { kind::SNAPSHOT_LEVEL } else { kind::LEVEL },
            side: if bid { side::BID } else { side::ASK },
            price: 100_000 + if bid { -away } else { away },
            qty,
            flags: mark | if first { flag::RECOVERY } else { 0 },
            symbol_id: SYMBOL,
            source_ts_ns: time,
            local_ts_ns: time,
            ..Event::default()
        });
    }
    events
}

/// Words of a frame: masks and values.
type Row = Vec<u64>;

/// Takes frames one by one.
#[derive(Default)]
struct OneByOne(Vec<Row>);

impl FrameSink for OneByOne {
    fn frame(&mut self, _: usize, frame: &Frame<'_>) {
        self.0.push([frame.ready, frame.changed, frame.values].concat());
    }
}

/// Takes them by column: those of a block once, the next ones twice, and the next ones not at all.
struct ByColumn {
    features: usize,
    blocks: usize,
    rows: Vec<Option<Row>>,
    partial: usize,
}

impl FrameSink for ByColumn {
    const BY_COLUMN: bool = true;

    fn frame(&mut self, _: usize, frame: &Frame<'_>) {
        self.rows.push(Some([frame.ready, frame.changed, frame.values].concat()));
    }

    fn frames(&mut self, _: usize, frames: &mut Frames<'_>) {
        let (count, stride) = (frames.len(), frames.len() + 3);
        let mut columns = vec![0; self.features * stride];
        self.blocks += 1;
        for time in 0..self.blocks % 3 {
            let mut again = vec![1; columns.len()];
            frames.copy_values(&mut again, stride);
            let left_alone = |at: &usize| at % stride >= count;
            assert!((0..again.len()).filter(left_alone).all(|at| again[at] == 1));
            (0..again.len()).filter(left_alone).for_each(|at| again[at] = 0);
            assert!(time == 0 || columns == again, "other values the second time");
            columns = again;
        }
        for at in 0..count {
            let masks = [frames.ready(0)[at], frames.changed(0)[at]];
            let values = (0..self.features).map(|feature| columns[feature * stride + at]);
            self.rows
                .push((!self.blocks.is_multiple_of(3)).then(|| masks.into_iter().chain(values).collect()));
            self.partial += usize::from(masks[0] & 1 == 0);
        }
    }
}

#[test]
fn frames_by_column_are_the_frames_one_by_one() {
    for (lively, partial) in [(false, 100), (true, 1)] {
        by_column_is_one_by_one(&events(lively), partial);
    }
}

fn by_column_is_one_by_one(events: &[Event], partial: usize) {
    let (mut one_by_one, mut wanted) = (engine(), OneByOne::default());
    one_by_one.run(events, &mut wanted).expect("sound events");
    let state = one_by_one.save(SYMBOL).expect("a symbol");
    for size in [1, 7, 16, 100, 512, 2_000] {
        let mut engine = engine();
        let features = engine.layout().sentinels().len();
        let mut got = ByColumn { features, blocks: 0, rows: Vec::new(), partial: 0 };
        for part in events.chunks(3_000) {
            engine.run_block(part, true, size, &mut got).expect("sound events");
        }
        assert_eq!(got.rows.len(), wanted.0.len());
        assert!(got.rows.len() > 11_000 && got.partial >= partial, "{} of {}", got.partial, got.rows.len());
        for (at, (got, wanted)) in got.rows.iter().zip(&wanted.0).enumerate() {
            assert!(
                got.as_ref().is_none_or(|got| got == wanted),
                "size {size}, frame {at}: {got:?} {wanted:?}"
            );
        }
        assert!(engine.save(SYMBOL).expect("a symbol") == state, "size {size}: another state");
    }
}
