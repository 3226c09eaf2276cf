//! hftbacktest rows: any 64 bytes are an event, a dropped row or an error, however the rows are cut.

use featureplane_core::error::Error;
use featureplane_core::event::Event;
use featureplane_core::normalize::hftbacktest::{Config, Dropped, Normalizer, Precision, Row};
use zerocopy::{FromBytes, IntoBytes};

use crate::choices::Choices;
use crate::streams::{aligned, is_sound};

type Read = (Vec<Event>, Result<(), Error>, Dropped);

/// Options, cuts, then rows.
pub fn any(data: &[u8]) {
    let mut choices = Choices::new(data);
    let config = Config {
        symbol_id: 7,
        price_exponent: choices.below(19),
        qty_exponent: choices.below(19),
        local_shift_ns: choices.number(),
        local_time: choices.coin(),
        side_inferred: choices.coin(),
        drop_malformed: choices.coin(),
    };
    let cuts = choices.cuts(data.len() / 64);
    let words = aligned(choices.rest());
    let rows = <[Row]>::ref_from_bytes(words.as_bytes()).unwrap_or_default();
    Precision::default().feed(rows);
    let whole = read(config, rows, &[]);
    assert_eq!(whole, read(config, rows, &cuts));
    assert!(whole.0.last().is_none_or(Event::is_last));
    for message in whole.0.split_inclusive(Event::is_last) {
        let lost = config.drop_malformed && message.len() == 1 && message[0].kind == 0;
        assert!(lost || is_sound(message), "{message:?}");
    }
}

fn read(config: Config, rows: &[Row], cuts: &[usize]) -> Read {
    let (mut reader, mut out, mut start) = (Normalizer::new(config), Vec::new(), 0);
    for &cut in cuts.iter().chain([&rows.len()]) {
        let end = cut.min(rows.len());
        if let Err(error) = reader.feed(&rows[start..end], &mut out) {
            return (out, Err(error), reader.dropped());
        }
        start = end;
    }
    reader.finish(&mut out);
    (out, Ok(()), reader.dropped())
}
