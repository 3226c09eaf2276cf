//! Recordings of Binance: any lines are sound events or an error, packed or plain, however they are cut.

use featureplane_core::error::Error;
use featureplane_core::event::Event;
use featureplane_core::normalize::binance::{Counts, Market, Reader, Scan};
use featureplane_core::normalize::decimal::Scaled;
use featureplane_core::normalize::inflate::{Flow, Unpacker};

use crate::choices::Choices;
use crate::streams::is_sound;

/// Longest line a reader takes here, so that lines without end are within a fuzzer's reach.
const LINE_BYTES_MAX: usize = 2_000;

type Read = (Vec<Event>, Result<(), Error>, Counts);

/// Four bytes of options, cuts, then the file.
pub fn any(data: &[u8]) {
    let mut choices = Choices::new(data);
    let market = if choices.coin() { Market::Spot } else { Market::Futures };
    let decimals = Scaled { price_exponent: choices.below(19), qty_exponent: choices.below(19) };
    let drop = choices.coin();
    let cuts = choices.cuts(data.len());
    let file = choices.rest();

    let reader = || Reader::new("ETHUSDT", 7, decimals, market, drop, LINE_BYTES_MAX);
    let whole = read(reader(), file, &[]);
    let pieces = read(reader(), file, &cuts);
    if let Err(Error::Damaged { .. }) = whole.1 {
        // What a decoder gives out before it stumbles depends on how much it was given at once.
        assert!(whole.0.starts_with(&pieces.0) || pieces.0.starts_with(&whole.0));
    } else {
        assert_eq!(whole, pieces);
    }
    assert!(whole.0.last().is_none_or(Event::is_last));
    for message in whole.0.split_inclusive(Event::is_last) {
        let lost = drop && message.len() == 1 && message[0].kind == 0;
        assert!(lost || is_sound(message), "{message:?}");
    }
    if drop {
        assert!(!matches!(whole.1, Err(Error::Malformed { .. })), "{:?}", whole.1);
    }
    scan(market, drop, file);
}

fn read(mut reader: Reader, file: &[u8], cuts: &[usize]) -> Read {
    let (mut unpacker, mut out, mut start) = (Unpacker::default(), Vec::new(), 0);
    let mut feed = |out: &mut Vec<Event>| -> Result<(), Error> {
        for &cut in cuts.iter().chain([&file.len()]) {
            let end = cut.min(file.len());
            while start < end {
                start += unpacker.feed(&file[start..end], &mut |text| {
                    reader.feed(text, out)?;
                    Ok(if cuts.len().is_multiple_of(2) { Flow::More } else { Flow::Enough })
                })?;
            }
        }
        unpacker.finish(&mut |text| reader.feed(text, out).map(|()| Flow::More))?;
        reader.finish(out)
    };
    let result = feed(&mut out);
    (out, result, *reader.counts())
}

/// What the first pass finds fits what the second reads: no price or size is too fine then.
fn scan(market: Market, drop: bool, file: &[u8]) {
    let (mut unpacker, mut scan) = (Unpacker::default(), Scan::new(market, drop, LINE_BYTES_MAX));
    let fed = unpacker.feed(file, &mut |text| scan.feed(text).map(|()| Flow::More)).map(|_| ());
    let ended = fed.and_then(|()| unpacker.finish(&mut |text| scan.feed(text).map(|()| Flow::More)));
    if ended.and_then(|()| scan.finish()).is_err() {
        return;
    }
    for found in scan.found() {
        let decimals = Scaled { price_exponent: found.price.places, qty_exponent: found.qty.places };
        let reader = Reader::new(&found.symbol, 1, decimals, market, false, LINE_BYTES_MAX);
        if let (_, Err(Error::Malformed { expected, .. }), _) = read(reader, file, &[]) {
            assert!(drop || expected.contains("2^53"), "{expected}");
        }
    }
}
