//! Every kernel answers, op by op, what its Python reference answered.
//!
//! `scripts/golden_kernels.py` says what the files under `tests/golden/kernels` hold and writes them.

use std::fs;
use std::path::Path;

use featureplane_core::error::Error;
use featureplane_core::kernels::averages::{Ema, EmaTime, MeanOver, relative_ticks};
use featureplane_core::kernels::cell::Cell;
use featureplane_core::kernels::returns::{RealizedVol, ReturnBps};
use featureplane_core::kernels::rolling::{CumSum, Mean, Std, ZScore};
use featureplane_core::kernels::state::{StateReader, StateWriter};
use featureplane_core::kernels::window::{StdOver, SumOver, TradeImbalance};
use serde_json::Value;

/// The arguments of an op.
struct Args<'a>(&'a [Value]);

impl Args<'_> {
    fn int(&self, at: usize) -> i64 {
        self.0[at].as_i64().unwrap_or_else(|| panic!("an i64, got {}", self.0[at]))
    }

    fn count(&self, at: usize) -> u64 {
        self.0[at].as_u64().unwrap_or_else(|| panic!("a u64, got {}", self.0[at]))
    }

    fn wide(&self, at: usize) -> i128 {
        self.0[at]["i128"].as_str().and_then(|digits| digits.parse().ok()).expect("an i128")
    }

    /// F of an integer, or a float by its bits.
    fn float(&self, at: usize) -> f64 {
        match &self.0[at] {
            Value::String(bits) => f64::from_bits(u64::from_str_radix(bits, 16).expect("hexadecimal")),
            _ => featureplane_core::units::i64_to_f64(self.int(at)),
        }
    }

    fn clock(&self) -> i64 {
        self.int(self.0.len() - 1)
    }

    /// Null is a value that is not defined.
    fn cell(&self, at: usize) -> Cell {
        if self.0[at].is_null() { Cell::undefined(0) } else { Cell::int(self.int(at)) }
    }
}

/// A kernel behind the ops of the files.
trait Probe {
    fn op(&mut self, name: &str, args: &Args);
    fn cell_at(&mut self, clock: i64) -> Cell;
    fn write(&self, state: &mut StateWriter);
    fn restore(&mut self, state: &mut StateReader) -> Result<(), Error>;
}

/// `probe!(Kernel: op => |kernel, args| .., read => |kernel, clock| ..)`
macro_rules! probe {
    ($kernel:ty: $($op:literal => $hook:expr),+; $read:expr) => {
        impl Probe for $kernel {
            fn op(&mut self, name: &str, args: &Args) {
                match name {
                    "reset" => self.reset(),
                    $($op => {
                        let hook: fn(&mut Self, &Args) = $hook;
                        hook(self, args);
                    })+
                    other => panic!("{} has no {other}", stringify!($kernel)),
                }
            }

            fn cell_at(&mut self, clock: i64) -> Cell {
                let read: fn(&mut Self, i64) -> Cell = $read;
                read(self, clock)
            }

            fn write(&self, state: &mut StateWriter) {
                self.save(state);
            }

            fn restore(&mut self, state: &mut StateReader) -> Result<(), Error> {
                self.load(state)
            }
        }
    };
}

probe!(SumOver: "begin" => |k, a| k.begin(a.clock()), "update" => |k, a| k.update(a.int(0), a.clock());
    Self::read);
probe!(StdOver: "begin" => |k, a| k.begin(a.clock()), "update" => |k, a| k.update(a.int(0), a.clock());
    Self::read);
probe!(TradeImbalance: "begin" => |k, a| k.begin(a.clock()),
    "update" => |k, a| k.update(a.int(0), a.clock()); Self::read);
probe!(MeanOver: "begin" => |k, a| k.begin(a.clock()), "settle" => |k, a| k.settle(a.cell(0), a.clock());
    Self::read);
probe!(ReturnBps: "update" => |k, a| k.update(a.int(0), a.clock()); Self::read);
probe!(RealizedVol: "update" => |k, a| k.update(a.int(0), a.clock()); Self::read);
probe!(Mean: "update" => |k, a| k.update(a.int(0)); |k, _| k.read());
probe!(Std: "update" => |k, a| k.update(a.int(0)); |k, _| k.read());
probe!(ZScore: "update" => |k, a| k.update(a.int(0)); |k, _| k.read());
probe!(CumSum: "update" => |k, a| k.update(a.int(0)); |k, _| k.read());
probe!(Ema: "update" => |k, a| k.update(a.float(0)); |k, _| k.read());
probe!(EmaTime: "update" => |k, a| k.update(a.float(0), a.clock()); |k, _| k.read());

fn kernel(name: &str, params: &Value) -> Box<dyn Probe> {
    let int = |key: &str| params[key].as_i64().unwrap_or_else(|| panic!("{name}: {key} of {params}"));
    let positive = |key: &str| params[key].as_u64().unwrap_or_else(|| panic!("{name}: {key} of {params}"));
    let n = || usize::try_from(positive("n")).expect("fits");
    let kind = || serde_json::from_value(params["kind"].clone()).expect("a kind");
    match name {
        "sum_over" => Box::new(SumOver::new(int("window_ns"), kind())),
        "std_over" => Box::new(StdOver::new(int("window_ns"), kind())),
        "mean_over" => Box::new(MeanOver::new(int("window_ns"), kind())),
        "trade_imbalance" => Box::new(TradeImbalance::new(int("window_ns"))),
        "return_bps" => Box::new(ReturnBps::new(int("window_ns"))),
        "realized_vol" => Box::new(RealizedVol::new(int("window_ns"))),
        "mean" => Box::new(Mean::new(n())),
        "std" => Box::new(Std::new(n())),
        "zscore" => Box::new(ZScore::new(n())),
        "cumsum" => Box::new(CumSum::default()),
        "ema" => Box::new(Ema::new(positive("n"))),
        "ema_time" => Box::new(EmaTime::new(positive("half_life_ns"))),
        other => panic!("no kernel {other}"),
    }
}

/// What a kernel without state answers.
fn value(name: &str, params: &Value, args: &Args) -> Cell {
    match name {
        "relative_ticks" => relative_ticks(args.int(0), args.wide(1), args.count(2), params["tick"].as_i64()),
        other => panic!("no stateless kernel {other}"),
    }
}

fn state_text(bytes: &[u8]) -> String {
    if bytes.len() <= 96 {
        return bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    }
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("fnv1a64:{}:{hash:016x}", bytes.len())
}

fn check_cell(cell: Cell, words: &[Value], place: &str) {
    let bits = words[0].as_str().and_then(|bits| u64::from_str_radix(bits, 16).ok()).expect("bits");
    let why = words[1].as_u64().expect("why");
    assert_eq!(
        (format!("{:x}", cell.bits), u64::from(cell.state)),
        (format!("{bits:x}"), why),
        "{place}: twin, reference"
    );
}

/// Every op of a file; answers how many cells were compared.
fn replay(name: &str, cases: &[Value]) -> usize {
    let stateless = name == "relative_ticks";
    let mut compared = 0;
    for (at, case) in cases.iter().enumerate() {
        let params = &case["params"];
        let mut probe = (!stateless).then(|| kernel(name, params));
        for (line, op) in case["ops"].as_array().expect("ops").iter().enumerate() {
            let words = op.as_array().expect("an op");
            let place = format!("{name}, case {at} ({params}), op {line}: {op}");
            let (word, args) = (words[0].as_str().expect("a name"), &words[1..]);
            match (word, &mut probe) {
                ("value", _) => {
                    let (args, expected) = args.split_at(args.len() - 2);
                    check_cell(value(name, params, &Args(args)), expected, &place);
                    compared += 1;
                }
                ("read", Some(probe)) => {
                    check_cell(probe.cell_at(Args(args).int(0)), &args[1..], &place);
                    compared += 1;
                }
                ("save", Some(probe)) => {
                    let mut out = StateWriter::new();
                    probe.write(&mut out);
                    let bytes = out.into_bytes();
                    assert_eq!(
                        state_text(&bytes),
                        args[0].as_str().expect("a state"),
                        "{place}: twin, reference"
                    );
                    let mut state = StateReader::new(&bytes);
                    *probe = kernel(name, params);
                    probe.restore(&mut state).unwrap_or_else(|error| panic!("{place}: {error}"));
                    assert!(state.is_empty(), "{place}: more than the kernel reads");
                }
                (word, Some(probe)) => probe.op(word, &Args(args)),
                (word, None) => panic!("{place}: {word} of a kernel without state"),
            }
        }
    }
    compared
}

#[test]
fn every_twin_answers_what_its_reference_answered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/kernels");
    let mut names: Vec<_> =
        fs::read_dir(&folder).expect("golden files").map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(!names.is_empty());
    for path in names {
        let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).expect("JSON");
        let name = file["kernel"].as_str().expect("a name");
        let compared = replay(name, file["cases"].as_array().expect("cases"));
        assert!(compared > 100, "{name}: only {compared} cells compared");
    }
}
