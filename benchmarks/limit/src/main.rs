//! What a hand-written program needs for the same numbers.
//!
//! ```text
//! limit EVENTS EVERY_ROW           every job, 15 runs each, one JSON object a line
//! limit EVENTS EVERY_ROW --serve   reads "job runs [dump]" lines, answers each with such an object
//! ```
//!
//! `benchmarks/limit/README.md` says what the jobs are.

mod book;
mod checksum;
mod clock;
mod events;
mod jobs;
mod memory;
mod probes;
mod replay;
mod table;
mod values;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use jobs::{Bench, NAMES, Outcome};

const RUNS: usize = 15;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (files, serve) = match args.as_slice() {
        [events, every_row] => ([events, every_row], false),
        [events, every_row, flag] if flag == "--serve" => ([events, every_row], true),
        _ => {
            eprintln!("usage: limit EVENTS EVERY_ROW [--serve]");
            return ExitCode::from(2);
        }
    };
    let bench = match Bench::open(files[0].as_ref(), files[1].as_ref()) {
        Ok(bench) => bench,
        Err(error) => {
            eprintln!("limit: {}: {error}", files.map(String::as_str).join(", "));
            return ExitCode::from(2);
        }
    };
    let told = if serve { answer(bench, io::stdin().lock()) } else { all(bench) };
    told.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn all(mut bench: Bench) -> io::Result<()> {
    for name in NAMES {
        tell(name, bench.run(name, RUNS))?;
    }
    Ok(())
}

fn answer(mut bench: Bench, requests: impl BufRead) -> io::Result<()> {
    for line in requests.lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let (name, runs) = (words.next().unwrap_or(""), words.next().and_then(|runs| runs.parse().ok()));
        tell(name, bench.run(name, runs.unwrap_or(RUNS)))?;
        if let Some(path) = words.next() {
            bench.dump(path.as_ref())?;
        }
    }
    Ok(())
}

fn tell(name: &str, outcome: Option<Outcome>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match outcome {
        None => writeln!(out, r#"{{"job":{name:?},"error":"no such job; there are {}"}}"#, NAMES.join(", "))?,
        Some(Outcome { seconds, units, frames, checksum }) => {
            let seconds: Vec<String> = seconds.iter().map(|s| format!("{s:.9}")).collect();
            let seconds = seconds.join(",");
            writeln!(
                out,
                r#"{{"job":"{name}","units":{units},"frames":{frames},"checksum":"{checksum:016x}","seconds":[{seconds}]}}"#
            )?;
        }
    }
    out.flush()
}
