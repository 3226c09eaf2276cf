//! Rows by hand; recorded ones are read by `tests/unit/test_hftbacktest.py`.

use super::*;

const CONFIG: Config = Config {
    symbol_id: 7,
    price_exponent: 1,
    qty_exponent: 3,
    local_shift_ns: 5,
    local_time: true,
    side_inferred: false,
    drop_malformed: false,
};

fn row(ev: u64, ts: i64, px: f64, qty: f64) -> Row {
    Row { ev: ev | LOCAL, exch_ts: ts, local_ts: ts + 105, px, qty, ..Row::default() }
}

fn read(config: Config, rows: &[Row]) -> Result<Vec<Event>, Error> {
    let (mut reader, mut out) = (Normalizer::new(config), Vec::new());
    reader.feed(rows, &mut out)?;
    reader.finish(&mut out);
    Ok(out)
}

fn messages(events: &[Event]) -> Vec<Vec<u8>> {
    events.split_inclusive(Event::is_last).map(|m| m.iter().map(|e| e.kind).collect()).collect()
}

#[test]
fn rule_3_11_runs_of_book_rows_are_messages() {
    let rows = [
        row(DEPTH_CLEAR | BUY, 1, 10.0, 0.0),
        row(DEPTH_SNAPSHOT | BUY, 1, 10.5, 1.0),
        row(DEPTH_CLEAR | SELL, 1, 11.0, 0.0),
        row(DEPTH_SNAPSHOT | SELL, 1, 11.0, 1.0),
        row(DEPTH | SELL, 1, 11.0, 2.0),
        row(DEPTH_SNAPSHOT | SELL, 1, 11.0, 1.0),
        row(TRADE | SELL, 1, 10.5, 1.0),
        row(TRADE, 1, 10.5, 1.0),
        row(DEPTH | SELL, 1, 11.0, 0.0),
        row(DEPTH | SELL, 2, 11.0, 0.0),
        Row { ival: 9, order_id: 8, ..row(DEPTH | SELL, 2, 11.0, 0.0) },
        row(DEPTH_BBO | BUY, 2, 10.0, 1.0),
        row(DEPTH_BBO | SELL, 2, 11.0, 1.0),
        row(DEPTH_BBO | SELL, 2, 11.0, 1.0),
    ];
    let events = read(CONFIG, &rows).unwrap();
    let expected: Vec<Vec<u8>> = vec![
        vec![3, 4],
        vec![3, 4, 1],
        vec![4],
        vec![2],
        vec![2],
        vec![1],
        vec![1],
        vec![1],
        vec![5, 5],
        vec![5],
    ];
    assert_eq!(messages(&events), expected);
    assert_eq!(events[0].flags, flag::RECOVERY | flag::BOUND);
    assert_eq!((events[0].price, events[1].qty, events[1].local_ts_ns), (100, 1000, 101));
    assert_eq!((events[10].seq_prev, events[10].seq_last), (8, 9));
    for cut in 0..rows.len() {
        let (mut reader, mut out) = (Normalizer::new(CONFIG), Vec::new());
        reader.feed(&rows[..cut], &mut out).unwrap();
        assert!(out.last().is_none_or(Event::is_last), "cut at {cut}");
        reader.feed(&rows[cut..], &mut out).unwrap();
        reader.finish(&mut out);
        assert_eq!(out, events, "cut at {cut}");
    }
}

#[test]
fn rule_3_11_other_rows_are_dropped_and_counted() {
    let mut reader = Normalizer::new(CONFIG);
    let mut out = Vec::new();
    let exchange_only = Row { ev: DEPTH | BUY | 1 << 31, ..row(0, 1, 1.0, 1.0) };
    reader.feed(&[exchange_only, row(103, 1, 1.0, 1.0), row(0xa | BUY, 1, 1.0, 1.0)], &mut out).unwrap();
    reader.feed(&[row(TRADE | BUY, 1, 1.0, 0.0)], &mut out).unwrap();
    reader.finish(&mut out);
    assert_eq!(out, []);
    assert_eq!(reader.dropped(), Dropped { not_local: 1, unknown_kind: 2, empty_trade: 1, malformed: 0 });
}

#[test]
fn rule_1_1_a_float_is_refused_off_its_grid() {
    for (px, qty) in [(0.05, 1.0), (f64::NAN, 1.0), (1.0, -1.0), (1e18, 1.0), (1.0, 9_007_199_254_740.992)] {
        let error = read(CONFIG, &[row(DEPTH | BUY, 1, 1.0, 1.0), row(DEPTH | BUY, 1, px, qty)]).unwrap_err();
        let Error::Malformed { place, .. } = &error else { panic!("{error}") };
        assert_eq!(place.line, Some(2), "{error}");
    }
    assert_eq!(read(CONFIG, &[row(DEPTH | BUY, 1, 0.1 + 0.2, 1.0)]).unwrap()[0].price, 3);
}

#[test]
fn rule_1_1_the_first_pass_finds_the_decimals() {
    for (x, expected) in [(1.0, 0), (0.1, 1), (61_800.1, 1), (0.1 + 0.2, 1), (1e-8, 8), (123.456_789, 6)] {
        assert_eq!(exponent(x, 0), expected, "{x}");
    }
    assert_eq!(exponent(0.5, 3), 3);
}

#[test]
fn what_came_before_a_malformed_message_is_kept() {
    let rows = [row(DEPTH | BUY, 1, 1.0, 1.0), row(DEPTH | BUY, 2, 1.0, 1.0), row(DEPTH | BUY, 2, 0.01, 1.0)];
    let (mut reader, mut out) = (Normalizer::new(CONFIG), Vec::new());
    assert!(reader.feed(&rows, &mut out).is_err());
    assert_eq!(messages(&out), [[1]]);
    let (mut reader, mut out) = (Normalizer::new(CONFIG), Vec::new());
    assert!(reader.feed(&[rows[0], rows[2]], &mut out).is_err());
    assert_eq!(messages(&out), [[1]]);
}

#[test]
fn rule_10_1_a_dropped_book_message_leaves_a_mark() {
    let bad = row(DEPTH | BUY, 2, 0.01, 1.0);
    let rows = [
        row(DEPTH | BUY, 1, 1.0, 1.0),
        row(DEPTH | BUY, 2, 1.0, 1.0),
        bad,
        row(DEPTH | BUY, 2, 1.0, 1.0),
        row(TRADE | BUY, 2, 0.01, 1.0),
        row(DEPTH | BUY, 2, 1.0, 1.0),
    ];
    let config = Config { drop_malformed: true, ..CONFIG };
    let events = read(config, &rows).unwrap();
    assert_eq!(messages(&events), [[1], [kind::UNREADABLE], [1]]);
    assert_eq!((events[1].source_ts_ns, events[1].local_ts_ns), (2, 102));
}
