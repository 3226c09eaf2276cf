//! What every parser and decoder owes to any bytes at all: an answer or an error. No panic, no loop, no
//! heap out of proportion to the input; and the same answer however the input is cut.
//!
//! One module a target, each with `any(data)`. Build options, choices and sizes are drawn from the data
//! themselves (`choices`), so that a committed input means one thing for ever. A target that finds
//! something panics, and so do the checks of the code it runs: overflow and debug assertions are on.

pub mod binance;
pub mod book;
pub mod choices;
pub mod decimal;
pub mod engine;
pub mod frame;
pub mod gzip;
pub mod hftbacktest;
pub mod limit;
pub mod lobster;
pub mod messages;
pub mod pipeline;
pub mod plan;
pub mod state;
pub mod streams;

/// What a target does with its input.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 12] = [
    ("binance", binance::any),
    ("book", book::any),
    ("decimal", decimal::any),
    ("engine", engine::any),
    ("frame", frame::any),
    ("gzip", gzip::any),
    ("hftbacktest", hftbacktest::any),
    ("lobster", lobster::any),
    ("messages", messages::any),
    ("pipeline", pipeline::any),
    ("plan", plan::any),
    ("state", state::any),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::TARGETS;

    /// What was found once is looked at again, on machines without libFuzzer too.
    #[test]
    fn every_committed_input_is_borne() {
        for (target, any) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
            let mut inputs: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
            inputs.sort();
            assert!(!inputs.is_empty(), "{target} has no corpus");
            for input in inputs {
                println!("{}", input.display());
                any(&std::fs::read(input).unwrap());
            }
            any(&[]);
        }
    }
}
