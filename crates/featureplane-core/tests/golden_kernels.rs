//! Every kernel answers, op by op, what its Python reference answered.
//!
//! `scripts/golden_kernels.py` says what the files under `tests/golden/kernels` hold and writes them.

use std::fs;
use std::path::Path;

use featureplane_core::error::Error;
use featureplane_core::kernels::arithmetic::{Arithmetic, Operation};
use featureplane_core::kernels::averages::{Ema, EmaTime, MeanOver, relative_ticks};
use featureplane_core::kernels::cell::Cell;
use featureplane_core::kernels::number::{Dtype, Number};
use featureplane_core::kernels::returns::{RealizedVol, ReturnBps};
use featureplane_core::kernels::rolling::{CumSum, Mean, Std, ZScore};
use featureplane_core::kernels::series::{Autocov, Diff, Extreme, Extremum, Lag};
use featureplane_core::kernels::state::{StateReader, StateWriter};
use featureplane_core::kernels::toxicity::{KyleLambda, Vpin};
use featureplane_core::kernels::trades::{
    MsSinceTrade, SignedQty, TradeCount, TradeIntensity, TradePrice, TradeTick,
};
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

    /// The bytes of a cell, and how they are read.
    fn operand(&self, at: usize) -> (u64, Dtype) {
        match self.0.get(at) {
            Some(Value::String(_)) => (self.float(at).to_bits(), Dtype::F64),
            Some(_) => (self.int(at).cast_unsigned(), Dtype::I64),
            None => (0, Dtype::I64),
        }
    }

    fn number<N: Number>(&self, at: usize) -> N {
        N::from_bits(self.operand(at).0)
    }

    fn optional(&self, at: usize) -> Option<i64> {
        (!self.0[at].is_null()).then(|| self.int(at))
    }

    fn trade(&self) -> TradeTick {
        TradeTick {
            price: self.int(0),
            qty: self.int(1),
            sign: i8::try_from(self.int(2)).expect("a sign"),
            clock_ns: self.int(3),
            hidden: self.0[4] == true,
            mid_before: self.optional(5),
            step: self.count(6),
        }
    }

    /// Of a trade: whether the reference advanced.
    fn advanced(&self) -> bool {
        self.0[7] == true
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

probe!(Lag<i64>: "update" => |k, a| k.update(a.number(0)); |k, _| k.read());
probe!(Lag<f64>: "update" => |k, a| k.update(a.number(0)); |k, _| k.read());
probe!(Diff<i64>: "update" => |k, a| k.update(a.number(0)); |k, _| k.read());
probe!(Diff<f64>: "update" => |k, a| k.update(a.number(0)); |k, _| k.read());
probe!(Extremum<i64>: "update" => |k, a| k.update(a.number(0)); |k, _| k.read());
probe!(Extremum<f64>: "update" => |k, a| k.update(a.number(0)); |k, _| k.read());
probe!(Autocov: "update" => |k, a| k.update(a.int(0)); |k, _| k.read());
probe!(Vpin: "update" => |k, a| k.update(a.int(0)); |k, _| k.read());
probe!(KyleLambda: "update" => |k, a| k.update(a.int(0), a.optional(1), a.count(2)); |k, _| k.read());
probe!(SignedQty: "trade" => |k, a| assert_eq!(k.update(&a.trade()), a.advanced()); |k, _| k.read());
probe!(TradePrice: "trade" => |k, a| assert_eq!(k.update(&a.trade()), a.advanced()); |k, _| k.read());
probe!(TradeCount: "trade" => |k, a| assert_eq!(k.update(&a.trade()), a.advanced()); |k, _| k.read());
probe!(MsSinceTrade: "trade" => |k, a| assert_eq!(k.update(&a.trade()), a.advanced()); |k, c| k.read(c));
probe!(TradeIntensity: "begin" => |k, a| k.begin(a.clock()),
    "trade" => |k, a| assert_eq!(k.update(&a.trade()), a.advanced()); |k, c| k.read(c));

fn kernel(name: &str, params: &Value) -> Box<dyn Probe> {
    let int = |key: &str| params[key].as_i64().unwrap_or_else(|| panic!("{name}: {key} of {params}"));
    let positive = |key: &str| params[key].as_u64().unwrap_or_else(|| panic!("{name}: {key} of {params}"));
    let n = || usize::try_from(positive("n")).expect("fits");
    let hidden = || params["hidden"].as_bool().expect("hidden");
    let is_float = params["dtype"] == "f64";
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
        "lag" if is_float => Box::new(Lag::<f64>::new(n())),
        "lag" => Box::new(Lag::<i64>::new(n())),
        "diff" if is_float => Box::new(Diff::<f64>::new()),
        "diff" => Box::new(Diff::<i64>::new()),
        "min" if is_float => Box::new(Extremum::<f64>::new(Extreme::Min, n())),
        "min" => Box::new(Extremum::<i64>::new(Extreme::Min, n())),
        "max" if is_float => Box::new(Extremum::<f64>::new(Extreme::Max, n())),
        "max" => Box::new(Extremum::<i64>::new(Extreme::Max, n())),
        "autocov" => Box::new(Autocov::new(usize::try_from(int("lag")).expect("fits"), n())),
        "vpin" => Box::new(Vpin::new(params["bucket"].as_u64(), n())),
        "kyle_lambda" => Box::new(KyleLambda::new(n())),
        "signed_qty" => Box::new(SignedQty::new(hidden())),
        "trade_price" => Box::new(TradePrice::new(hidden())),
        "trade_count" => Box::new(TradeCount::new(hidden())),
        "ms_since_trade" => Box::new(MsSinceTrade::new(hidden())),
        "trade_intensity" => Box::new(TradeIntensity::new(positive("half_life_ns"), hidden())),
        other => panic!("no kernel {other}"),
    }
}

/// What a kernel without state answers.
fn value(name: &str, params: &Value, args: &Args) -> Cell {
    if name == "relative_ticks" {
        return relative_ticks(args.int(0), args.wide(1), args.count(2), params["tick"].as_i64());
    }
    let ((x, of_x), (y, of_y)) = (args.operand(0), args.operand(1));
    let int = |key: &str| params[key].as_i64().expect("an integer");
    let float = |key: &str| params[key].as_f64().expect("a number");
    let binary = |operation| match (of_x, of_y) {
        (Dtype::I64, Dtype::I64) => Arithmetic::Integers(operation),
        _ => Arithmetic::Floats(operation, of_x, of_y),
    };
    let edges = || params["edges"].as_array().expect("edges").iter().map(|edge| edge.as_f64().expect("one"));
    let kernel = match name {
        "clip" if of_x == Dtype::F64 => Arithmetic::ClipFloat(float("lo"), float("hi")),
        "clip" => Arithmetic::Clip(int("lo"), int("hi")),
        "abs" if of_x == Dtype::F64 => Arithmetic::AbsFloat,
        "abs" => Arithmetic::Abs,
        "add" => binary(Operation::Add),
        "sub" => binary(Operation::Sub),
        "mul" => binary(Operation::Mul),
        "div" => Arithmetic::Div(of_x, of_y),
        "ratio_ppm" => Arithmetic::RatioPpm,
        "fixed" => Arithmetic::Fixed(float("k"), of_x),
        "bucket" => Arithmetic::Bucket(edges().collect(), of_x),
        "roll" => Arithmetic::Roll,
        other => panic!("no stateless kernel {other}"),
    };
    kernel.evaluate(x, y)
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
    let mut compared = 0;
    for (at, case) in cases.iter().enumerate() {
        let params = &case["params"];
        let stateless = case["ops"][0][0] == "value";
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
