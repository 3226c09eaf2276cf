//! LOBSTER's pairs of files: any lines are sound events or an error, however both are cut.

use featureplane_core::error::Error;
use featureplane_core::event::Event;
use featureplane_core::normalize::lobster::{Config, Counts, Normalizer};

use crate::choices::Choices;
use crate::streams::is_sound;

type Read = (Vec<Event>, Result<(), Error>, Counts);

/// Three bytes of options, cuts of both files, the message file, a zero byte, the order-book file.
pub fn any(data: &[u8]) {
    let mut choices = Choices::new(data);
    let config = Config {
        symbol_id: 7,
        midnight_ns: 1_340_251_200_000_000_000,
        book: choices.coin(),
        adopt: choices.coin(),
        drop_malformed: choices.coin(),
    };
    let (message_cuts, book_cuts) = (choices.cuts(data.len()), choices.cuts(data.len()));
    let files = choices.rest();
    let (messages, books) = files.split_at(files.iter().position(|&byte| byte == 0).unwrap_or(files.len()));
    let books = books.get(1..).unwrap_or_default();

    let whole = read(config, &[messages], &[books]);
    assert_eq!(whole, read(config, &pieces(messages, &message_cuts), &pieces(books, &book_cuts)));
    assert!(whole.0.last().is_none_or(Event::is_last));
    for message in whole.0.split_inclusive(Event::is_last) {
        let lost = config.drop_malformed && message.len() == 1 && message[0].kind == 0;
        assert!(lost || is_sound(message), "{message:?}");
    }
    assert!(!config.drop_malformed || whole.1.is_ok(), "{:?}", whole.1);
}

fn pieces<'a>(file: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let ends = cuts.iter().map(|&cut| cut.min(file.len())).chain([file.len()]);
    ends.scan(0, |start, end| Some(&file[std::mem::replace(start, end)..end])).collect()
}

fn read(config: Config, messages: &[&[u8]], books: &[&[u8]]) -> Read {
    let (mut reader, mut out) = (Normalizer::new(config), Vec::new());
    for at in 0..messages.len().max(books.len()) {
        let (message, book) = (messages.get(at).copied(), books.get(at).copied());
        if let Err(error) = reader.feed(message.unwrap_or_default(), book.unwrap_or_default(), &mut out) {
            return (out, Err(error), reader.counts());
        }
    }
    let result = reader.finish(&mut out);
    (out, result, reader.counts())
}
