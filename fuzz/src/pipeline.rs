//! Messages to frames: whatever bytes come, what a reader of the same lines and an engine behind it make of them.

use featureplane_core::engine::Engine;
use featureplane_core::engine::config::{OnMalformed, SymbolConfig};
use featureplane_core::error::Error;
use featureplane_core::event::Event;
use featureplane_core::normalize::binance::{Feed, Lane, Market, Reader, Received};
use featureplane_core::normalize::decimal::Scaled;
use featureplane_core::pipeline::Pipeline;

use crate::choices::Choices;
use crate::engine::options;
use crate::streams::{PLANS, Packed, is_sound, plan};

/// Longest message taken here, so that longer ones are within a fuzzer's reach.
const BYTES_MAX: usize = 2_000;
const LOCAL_NS: i64 = 1_723_161_540_000_000_000;

/// A plan, six bytes of options, five of the feed; then lines, each a message.
pub fn any(data: &[u8]) {
    let mut choices = Choices::new(data);
    let plan = plan(choices.below(PLANS));
    let config = options(&mut choices);
    let market = if choices.coin() { Market::Spot } else { Market::Futures };
    let decimals = Scaled { price_exponent: choices.below(19), qty_exponent: choices.below(19) };
    let recorded = choices.coin();
    let told = [None, None, Some(0), Some(1)][usize::from(choices.below(4))];
    let drop = config.on_malformed == OnMalformed::Drop;
    let names = ["ETHUSDT", "BTCUSDT", "XRPUSDT"];
    let lane = |(symbol, name): (&SymbolConfig, &&str)| {
        let symbol_id = symbol.symbol_id;
        Lane { symbol: (*name).to_owned(), symbol_id, decimals }
    };
    let lanes: Vec<Lane> = config.symbols.iter().zip(&names).map(lane).collect();
    let engine = Engine::new(plan.clone(), &config).expect("a plan and a configuration of ours");

    let mut piped = engine.clone();
    let mut frames = Packed::new(piped.layout());
    let mut pipeline = Pipeline::new(Feed::new(&lanes, market, drop, BYTES_MAX));
    let texts: Vec<&[u8]> = choices.rest().split_inclusive(|&byte| byte == b'\n').collect();
    let mut events: Vec<Event> = Vec::new();
    let result = texts.iter().zip(LOCAL_NS..).try_for_each(|(line, local)| {
        let how = Received { local_ts_ns: (!recorded).then_some(local), lane: told };
        let taken = pipeline.push(&mut piped, line, how, &mut frames);
        events.extend_from_slice(pipeline.events());
        taken
    });
    assert!(events.last().is_none_or(Event::is_last));
    for message in events.split_inclusive(Event::is_last) {
        let lost = drop && message.len() == 1 && message[0].kind == 0;
        assert!(lost || is_sound(message), "{message:?}");
    }
    if drop {
        assert!(!matches!(result, Err(Error::Malformed { .. })), "{result:?}");
    }
    frames.check();

    let mut behind = engine;
    let mut again = Packed::new(behind.layout());
    let ended = behind.run(&events, &mut again);
    assert!(ended.is_ok() || ended == result);
    assert_eq!((&again.bytes, &again.grid), (&frames.bytes, &frames.grid));
    // A reader is not told whose an unnamed snapshot is.
    if let ([lane], true, None, true) = (&lanes[..], recorded, told, result.is_ok()) {
        let reader = Reader::new(&lane.symbol, lane.symbol_id, decimals, market, drop, BYTES_MAX);
        check_read(reader, &texts, &events);
    }
}

/// A reader of the same lines makes the same events, up to a last line that has no end.
fn check_read(mut reader: Reader, texts: &[&[u8]], events: &[Event]) {
    let whole = texts.iter().filter(|text| text.ends_with(b"\n"));
    let file: Vec<u8> = whole.copied().flatten().copied().collect();
    let mut read = Vec::new();
    assert_eq!(reader.feed(&file, &mut read), Ok(()));
    assert!(events.starts_with(&read));
}
