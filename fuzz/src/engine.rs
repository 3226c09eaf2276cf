//! The engine over any events: frames or an error of the tree, and the same ones however the stream is cut.

use featureplane_core::columns::Columns;
use featureplane_core::engine::Engine;
use featureplane_core::engine::config::{Config, Emit, Every, OnGap, OnMalformed, Seed};
use featureplane_core::error::Error;
use featureplane_core::event::{Event, flag, kind};
use featureplane_core::plan::Plan;
use zerocopy::{FromBytes, IntoBytes};

use crate::choices::Choices;
use crate::streams::{PLANS, Packed, aligned, config, is_sound, plan};

/// Eight bytes of options, then events of 64 bytes, or moves that make events which mostly fit.
pub fn any(data: &[u8]) {
    let mut choices = Choices::new(data);
    let plan = plan(choices.below(PLANS));
    let config = options(&mut choices);
    let stride = usize::from(choices.byte());
    let events = events(&mut choices);
    check(plan, &config, &events, stride);
}

/// A byte that chooses moves or bytes, then what it chose.
pub(crate) fn events(choices: &mut Choices<'_>) -> Vec<Event> {
    if choices.coin() {
        return moves(choices);
    }
    let words = aligned(choices.rest());
    <[Event]>::ref_from_bytes(words.as_bytes()).unwrap_or_default().to_vec()
}

/// Six bytes that choose how an engine takes its stream.
pub(crate) fn options(choices: &mut Choices<'_>) -> Config {
    let mut config = config();
    config.on_gap = [OnGap::Wait, OnGap::Continue, OnGap::Refuse][usize::from(choices.below(3))];
    config.on_malformed = if choices.coin() { OnMalformed::Drop } else { OnMalformed::Raise };
    let seed = choices.below(4);
    config.seed = if seed == 0 { Seed::Snapshot } else { Seed::Increments };
    config.seed_after = (seed > 1).then(|| seed.into());
    let facts = choices.byte();
    config.has_snapshots = facts & 1 != 0;
    config.local_time = facts & 2 != 0;
    config.trade_sides = facts & 4 != 0;
    config.symbols.truncate(1 + usize::from(facts >> 4 & 3));
    config.emit = if facts & 8 == 0 { Emit::Update } else { Emit::Change };
    config.every = match choices.below(4) {
        0 | 1 => None,
        2 => Some(Every::Frames(3)),
        _ => Some(Every::Nanos(1_000_000)),
    };
    config
}

fn check(plan: &Plan, config: &Config, events: &[Event], stride: usize) {
    let engine = Engine::new(plan.clone(), config).expect("a plan and a configuration of ours");
    let mut whole = engine.clone();
    let mut frames = Packed::new(whole.layout());
    let result = whole.run(events, &mut frames);
    if config.on_malformed == OnMalformed::Drop {
        assert!(!matches!(result, Err(Error::Malformed { .. })), "{result:?}");
    }
    frames.check();
    if config.emit == Emit::Update && config.every.is_none() {
        check_changes(&whole, &frames);
    }

    let mut cut = engine.clone();
    let mut pieces = Packed::new(cut.layout());
    let again = messages(events, stride).try_for_each(|piece| cut.run(piece, &mut pieces));
    assert_eq!(again, result);
    assert_eq!((&pieces.bytes, &pieces.grid), (&frames.bytes, &frames.grid));
    assert!(cut.counts().zip(whole.counts()).all(|(a, b)| a.1 == b.1 && a.2 == b.2));

    if events.split_inclusive(Event::is_last).all(is_sound) {
        let mut trusting = engine.clone();
        let mut trusted = Packed::new(trusting.layout());
        assert_eq!(trusting.run_trusted(events, &mut trusted), result);
        assert_eq!((&trusted.bytes, &trusted.grid), (&frames.bytes, &frames.grid));
        assert!(trusting.counts().zip(whole.counts()).all(|(a, b)| a.1 == b.1 && a.2 == b.2));
    }

    if result.is_ok() && config.emit == Emit::Update && config.every.is_none() {
        check_travel(&engine, config, events, stride, &frames);
    }

    let mut by_column = engine;
    let mut columns = Columns::new(by_column.layout());
    assert_eq!(by_column.run(events, &mut columns), result);
    let on_grid = !columns.grid_ts_ns().is_empty();
    assert_eq!(if on_grid { columns.grid_ts_ns().to_vec() } else { vec![0; columns.len()] }, frames.grid);
}

/// At every cut the state goes into an engine that knows nothing, and the frames are the same.
fn check_travel(fresh: &Engine, config: &Config, events: &[Event], stride: usize, frames: &Packed) {
    let (mut engine, mut sink) = (fresh.clone(), Packed::new(fresh.layout()));
    let ends = events.iter().filter(|event| event.is_last()).count();
    for piece in messages(events, stride.max(ends / 3)) {
        let mut next = fresh.clone();
        for symbol in &config.symbols {
            let state = engine.save(symbol.symbol_id).expect("a symbol of ours");
            next.restore(symbol.symbol_id, &state).expect("a state as it was saved");
            assert_eq!(next.save(symbol.symbol_id).as_ref(), Ok(&state));
        }
        next.run(piece, &mut sink).expect("as in one piece");
        engine = next;
    }
    assert_eq!(sink.bytes, frames.bytes);
}

/// A changed bit says that eight bytes differ from the frame before (rule 6).
fn check_changes(engine: &Engine, frames: &Packed) {
    let layout = engine.layout();
    let mut before = std::collections::HashMap::new();
    for bytes in frames.bytes.chunks(layout.frame_bytes()) {
        let frame = layout.read(bytes).expect("the engine makes frames");
        let values: Vec<u64> = layout
            .sentinels()
            .iter()
            .enumerate()
            .map(|(at, &sentinel)| frame.value(at).unwrap_or(sentinel))
            .collect();
        let last = before.entry(frame.head().symbol_id).or_insert_with(|| layout.sentinels().to_vec());
        for (at, (now, last)) in values.iter().zip(last.iter()).enumerate() {
            assert_eq!(frame.is_changed(at), now != last, "feature {at} of frame {}", frame.head().seq);
        }
        *last = values;
    }
}

/// `events` cut behind every `stride`-th end of a message; 0 cuts nowhere.
fn messages(events: &[Event], stride: usize) -> impl Iterator<Item = &[Event]> {
    let mut ends = 0;
    events.split_inclusive(move |event| {
        ends += usize::from(event.is_last());
        event.is_last() && stride > 0 && ends % stride == 0
    })
}

/// What the next event goes on from.
#[derive(Clone, Copy, Debug)]
struct Market {
    centre: i64,
    time: i64,
    ids: [u64; 3],
}

/// Events near each other in price, time and ids, with leaps.
fn moves(choices: &mut Choices<'_>) -> Vec<Event> {
    let mut market = Market { centre: 1000, time: 1_723_161_540_000_000_000, ids: [0; 3] };
    let mut events: Vec<Event> = Vec::new();
    while !choices.is_empty() && events.len() < 2_000 {
        let open = events.last().filter(|event| !event.is_last()).copied();
        events.push(market.event(choices, open));
    }
    events
}

impl Market {
    fn event(&mut self, choices: &mut Choices<'_>, open: Option<Event>) -> Event {
        const KINDS: [u8; 16] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 4, 4, 5, 6, 10, 12];
        let (what, how) = (choices.byte(), choices.byte());
        let kind = match KINDS[usize::from(what & 15)] {
            kind::ADD => kind::ADD + (how & 1),
            kind::MODIFY => kind::MODIFY + (how & 1),
            kind => kind,
        };
        let price = match how >> 4 {
            0..=13 => self.centre + i64::from(choices.byte()) - 128,
            14 => choices.number(),
            _ => {
                self.centre = self.centre.saturating_add(choices.short());
                self.centre
            }
        };
        let head = open.unwrap_or_else(|| self.head(choices, what));
        let last = if what & 0x80 == 0 { flag::LAST } else { 0 };
        Event {
            kind,
            side: if how & 0b1110 == 0 { 0 } else { 1 + (how >> 1 & 1) },
            flags: last | u16::from(if what & 0x40 == 0 { 0 } else { choices.byte() & !1 }),
            price,
            qty: match (kind, choices.byte()) {
                (kind::STATUS, byte) => i64::from(byte & 3),
                (_, byte @ ..250) => i64::from(byte & 15),
                _ => choices.number(),
            },
            order_id: (how & 7).into(),
            ..head
        }
    }

    /// Symbol, ids and times of the next message.
    fn head(&mut self, choices: &mut Choices<'_>, what: u8) -> Event {
        let leap = choices.byte();
        let symbol = usize::from(leap & 15).min(2);
        let step = i64::from(choices.byte());
        let ids = &mut self.ids[symbol];
        let (seq_prev, seq_last) = match leap >> 4 & 7 {
            0..=3 => (*ids, ids.saturating_add(1 + step.unsigned_abs() % 3)),
            4 => (0, 0),
            5 => (ids.saturating_sub(2), ids.saturating_add(1)),
            6 => (ids.saturating_add(2), ids.saturating_add(3)),
            _ => (choices.word(), choices.word()),
        };
        *ids = (*ids).max(if what & 0x20 == 0 { seq_last } else { 0 });
        self.time = self.time.saturating_add(match step {
            0..=199 => step * 10_000,
            200..=229 => step * 10_000_000,
            230..=239 => -step * 1_000_000,
            240..=249 => step * 1_000_000_000,
            _ => choices.number(),
        });
        Event {
            symbol_id: u32::try_from(symbol).unwrap_or(0) + 1,
            seq_last,
            seq_prev,
            source_ts_ns: self.time,
            local_ts_ns: self.time.saturating_add(if leap & 0x80 == 0 {
                5_000_000
            } else {
                choices.number()
            }),
            ..Event::default()
        }
    }
}
