//! Small files, row by row; recorded ones are read by `tests/unit/test_lobster.py`.

use super::*;

const CONFIG: Config =
    Config { symbol_id: 7, midnight_ns: 1_000, book: true, adopt: false, drop_malformed: false };

const MESSAGES: &str = "1.5,5,0,1,105,-1\n\
                        1.6,1,11,5,101,1\n\
                        1.7,4,12,3,110,-1\n\
                        1.8,3,13,7,110,-1\n\
                        1.9,7,0,0,-1,-1\n\
                        2.0,2,14,4,101,1\n";
const BOOKS: &str = "110,10,100,5,111,20,99,9\n\
                     110,10,101,5,111,20,100,5\n\
                     110,7,101,5,111,20,100,5\n\
                     111,20,101,5,112,8,100,5\n\
                     111,20,101,5,112,8,100,5\n\
                     111,20,101,1,112,8,100,5\n";

fn read(config: Config, messages: &str, books: &str, cut: usize) -> Result<(Vec<Event>, Counts), Error> {
    let (mut reader, mut out) = (Normalizer::new(config), Vec::new());
    let (m, b) = (messages.as_bytes(), books.as_bytes());
    reader.feed(&m[..cut.min(m.len())], &b[..cut.min(b.len())], &mut out)?;
    reader.feed(&m[cut.min(m.len())..], &b[cut.min(b.len())..], &mut out)?;
    reader.finish(&mut out)?;
    Ok((out, reader.counts()))
}

#[test]
fn rule_3_11_rows_become_messages() {
    let (events, counts) = read(CONFIG, MESSAGES, BOOKS, 0).unwrap();
    let told: Vec<_> = events.iter().map(|e| (e.kind, e.side, e.flags, e.price, e.qty)).collect();
    let (last, recovery) = (flag::LAST, flag::RECOVERY);
    assert_eq!(
        told,
        [
            (3, 1, recovery, 0, 0),
            (3, 2, recovery, 0, 0),
            (4, 1, recovery, 100, 5),
            (4, 1, recovery, 99, 9),
            (4, 2, recovery, 110, 10),
            (4, 2, recovery, 111, 20),
            (2, 1, flag::HIDDEN | last, 105, 1),
            (1, 1, 0, 101, 5),
            (1, 1, flag::CONCEALED | last, 99, 0),
            (2, 1, 0, 110, 3),
            (1, 2, last, 110, 7),
            (1, 2, 0, 110, 0),
            (1, 2, flag::REVEALED | last, 112, 8),
            (6, 0, last, 0, 2),
            (1, 1, last, 101, 1),
        ]
    );
    assert_eq!(events[7].order_id, 11);
    assert_eq!((events[0].source_ts_ns, events[0].local_ts_ns), (1_500_001_000, 1_500_001_000));
    assert_eq!(counts, Counts::default());
    for cut in 0..BOOKS.len() {
        assert_eq!(read(CONFIG, MESSAGES, BOOKS, cut).unwrap().0, events, "cut at {cut}");
    }
    let trimmed = read(CONFIG, MESSAGES.trim_end(), BOOKS.trim_end(), 9).unwrap().0;
    assert_eq!(trimmed, events);
}

#[test]
fn rule_3_11_a_row_that_messages_do_not_explain_is_named() {
    for (from, to, line, bid, price, expected, got) in [
        ("110,7,101", "110,8,101", 3, false, 110, 8, 7),
        ("111,20,101,5,112,8,100,5\n111", "111,20,101,5,112,8,102,5\n111", 4, true, 102, 0, 0),
        ("110,10,101,5,111", "109,10,101,5,111", 2, false, 109, 10, 0),
        ("110,10,101,5,111,20,100,5", "110,10,101,5,9999999999,0,100,5", 2, false, 111, 0, 20),
    ] {
        let books = BOOKS.replacen(from, to, 1);
        let error = read(CONFIG, MESSAGES, &books, 0).unwrap_err();
        if price == 102 {
            assert!(matches!(error, Error::Malformed { .. }), "{error}");
            continue;
        }
        assert_eq!(error, Error::BookMismatch { line, bid, price, expected, got });
        let (events, counts) = read(Config { adopt: true, ..CONFIG }, MESSAGES, &books, 0).unwrap();
        assert!(counts.adopted > 0);
        assert!(events.iter().any(|e| e.kind == kind::CLEAR && e.flags & flag::RECOVERY == 0));
    }
}

#[test]
fn rule_3_11_without_a_book_file_only_known_levels_change() {
    let (events, counts) = read(Config { book: false, ..CONFIG }, MESSAGES, "", 0).unwrap();
    let told: Vec<_> = events.iter().map(|e| (e.kind, e.price, e.qty, e.is_last())).collect();
    let expected =
        [(2, 105, 1, true), (1, 101, 5, true), (2, 110, 3, true), (6, 0, 2, true), (1, 101, 1, true)];
    assert_eq!(told, expected);
    assert_eq!(counts.unknown_level, 2);
}

#[test]
fn a_malformed_row_ends_the_stream_or_restarts_the_book() {
    let messages = MESSAGES.replace("1.7,4", "1.7,9");
    let mut out = Vec::new();
    let error = Normalizer::new(CONFIG).feed(messages.as_bytes(), BOOKS.as_bytes(), &mut out).unwrap_err();
    assert!(matches!(error, Error::Malformed { place: Place { line: Some(3), .. }, .. }), "{error}");
    assert_eq!(out.iter().filter(|e| e.is_last()).count(), 2);
    let mut reader = Normalizer::new(Config { drop_malformed: true, ..CONFIG });
    let mut out = Vec::new();
    reader.feed(messages.as_bytes(), BOOKS.as_bytes(), &mut out).unwrap();
    assert_eq!(
        (out[9].kind, out[9].flags, out[9].local_ts_ns),
        (kind::UNREADABLE, flag::LAST, 1_600_001_000)
    );
    assert_eq!(out[10].flags & flag::RECOVERY, flag::RECOVERY);
}

#[test]
fn files_of_different_length_are_refused() {
    let shorter = BOOKS.rsplit_once("111,20,101,1").unwrap().0;
    let error = read(CONFIG, MESSAGES, shorter, 0).unwrap_err();
    assert!(error.to_string().contains("end of the order-book file"), "{error}");
    let shorter = MESSAGES.rsplit_once("2.0").unwrap().0;
    assert!(read(CONFIG, shorter, BOOKS, 0).unwrap_err().to_string().contains("end of the message file"));
}

#[test]
fn rule_2_2_a_last_row_cut_off_is_dropped_and_counted() {
    let (events, counts) = read(CONFIG, MESSAGES, BOOKS.trim_end_matches(",100,5\n"), 0).unwrap();
    assert_eq!((counts.incomplete, events.len()), (1, 14));
    let (_, counts) = read(CONFIG, MESSAGES.trim_end_matches("101,1\n"), BOOKS, 0).unwrap();
    assert_eq!(counts.incomplete, 1);
}
