//! The jobs by name: what is prepared, what is timed, what is counted.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::book::{Book, Grid};
use crate::events::{self, Event, mapped};
use crate::replay::{Features, Frame, Touches, replay};
use crate::table::{self, Columns, Touch};
use crate::values::is_valid;
use crate::{checksum, clock, memory, probes};

/// Every job, in the order in which they are told.
pub const NAMES: [&str; 10] = [
    "book",
    "v1",
    "book_rows",
    "v1_rows",
    "v1_rows_fresh",
    "table",
    "capture_map",
    "capture_read",
    "read",
    "fill",
];

/// Bytes of the memory probes: far more than the last cache.
const PROBE_BYTES: usize = 256 << 20;

/// What one job did.
pub struct Outcome {
    pub seconds: Vec<f64>,
    /// Rows, or bytes for the memory probes: what the time is divided by.
    pub units: usize,
    pub frames: usize,
    pub checksum: u64,
}

/// A recording in memory, and the book that fits it.
struct Recording {
    path: PathBuf,
    events: Vec<Event>,
    rows: usize,
    unit: bool,
    book: Book,
}

impl Recording {
    fn open(path: &Path) -> io::Result<Self> {
        let events = events::read(path)?;
        let grid = Grid::of(&events);
        let rows = events.iter().filter(|e| e.is_row()).count();
        Ok(Self { path: path.to_owned(), rows, unit: grid.is_unit(), book: Book::new(grid), events })
    }

    fn touches(&mut self, out: &mut Vec<[u64; 6]>) -> usize {
        replay(&mut self.book, self.unit, &self.events, &mut Touches(out));
        out.len()
    }

    fn features(&mut self, out: &mut Vec<Frame>) -> usize {
        let room = out.spare_capacity_mut();
        let places = room.len();
        let mut features = Features::into(room);
        replay(&mut self.book, self.unit, &self.events, &mut features);
        let made = places - features.left();
        // SAFETY: `Features` has written the places before the ones it says are left.
        unsafe { out.set_len(made) };
        made
    }
}

/// The memory of the program between jobs, so that each is measured warm.
pub struct Bench {
    recording: Recording,
    every_row: Recording,
    touches: Vec<[u64; 6]>,
    frames: Vec<Frame>,
    touch: Touch,
    columns: Columns,
    probe: Vec<u64>,
}

/// One job: made ready, timed, and summed, each with the whole bench in hand.
struct Job {
    units: fn(&Bench) -> usize,
    ready: fn(&mut Bench),
    work: fn(&mut Bench) -> usize,
    sum: fn(&Bench, usize) -> u64,
}

impl Bench {
    /// `path` is a recording; `every_row` the same with each row a message of its own.
    pub fn open(path: &Path, every_row: &Path) -> io::Result<Self> {
        let (recording, mut every_row) = (Recording::open(path)?, Recording::open(every_row)?);
        let mut frames = memory::room(every_row.rows.max(recording.rows));
        every_row.features(&mut frames);
        let mut touch = Touch::default();
        for Frame(row) in frames.iter().filter(|frame| is_valid(&frame.0)) {
            for (column, place) in touch.iter_mut().zip([0, 1, 8, 9]) {
                column.push(row[place].cast_signed());
            }
        }
        let columns = Columns::new(touch[0].len());
        let touches = Vec::with_capacity(frames.capacity());
        Ok(Self { recording, every_row, touches, frames, touch, columns, probe: Vec::new() })
    }

    /// Runs one job `runs` times; the sum is of the last run, outside the clock.
    pub fn run(&mut self, name: &str, runs: usize) -> Option<Outcome> {
        let job = job(name)?;
        let mut seconds = Vec::with_capacity(runs);
        let mut frames = 0;
        for _ in 0..runs {
            (job.ready)(self);
            let start = clock::now();
            frames = (job.work)(self);
            seconds.push(clock::now() - start);
        }
        Some(Outcome { seconds, units: (job.units)(self), frames, checksum: (job.sum)(self, frames) })
    }

    /// Writes the frames of the last job, sixteen words each.
    pub fn dump(&self, path: &Path) -> io::Result<()> {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        for word in self.frames.iter().flat_map(|frame| frame.0) {
            file.write_all(&word.to_le_bytes())?;
        }
        file.flush()
    }

    fn forget(&mut self) {
        self.recording.book.clear();
        self.every_row.book.clear();
        self.touches.clear();
        self.frames.clear();
    }
}

fn job(name: &str) -> Option<Job> {
    let rows = |b: &Bench| b.recording.rows;
    let every_row = |b: &Bench| b.every_row.rows;
    let sum_touches = |b: &Bench, _| checksum::of_rows(b.touches.iter());
    let sum_frames = |b: &Bench, _| checksum::of_rows(b.frames.iter().map(|frame| &frame.0));
    let ready: fn(&mut Bench) = Bench::forget;
    Some(match name {
        "book" => Job { units: rows, ready, work: |b| b.recording.touches(&mut b.touches), sum: sum_touches },
        "book_rows" => {
            Job { units: every_row, ready, work: |b| b.every_row.touches(&mut b.touches), sum: sum_touches }
        }
        "v1" => Job { units: rows, ready, work: |b| b.recording.features(&mut b.frames), sum: sum_frames },
        "v1_rows" => {
            Job { units: every_row, ready, work: |b| b.every_row.features(&mut b.frames), sum: sum_frames }
        }
        "v1_rows_fresh" => Job {
            units: every_row,
            ready: |b| {
                b.forget();
                b.frames = Vec::new();
            },
            work: |b| {
                b.frames = memory::room(b.every_row.rows);
                b.every_row.features(&mut b.frames)
            },
            sum: sum_frames,
        },
        "table" => Job {
            units: |b| b.touch[0].len(),
            ready,
            work: |b| table::compute(&b.touch, &mut b.columns),
            sum: |b, _| checksum::of_columns((0..table::FEATURES).map(|feature| b.columns.column(feature))),
        },
        "capture_map" => Job {
            units: rows,
            ready,
            work: |b| {
                mapped::with_events(&b.recording.path, count_rows).expect("the file that was read before")
            },
            sum: |_, rows| rows as u64,
        },
        "capture_read" => Job {
            units: rows,
            ready,
            work: |b| count_rows(&events::read(&b.recording.path).expect("the file that was read before")),
            sum: |_, rows| rows as u64,
        },
        "read" => probe(|b| probes::read(&b.probe)),
        "fill" => probe(|b| probes::fill(&mut b.probe)),
        _ => return None,
    })
}

fn probe(work: fn(&mut Bench) -> usize) -> Job {
    let ready: fn(&mut Bench) = |b| b.probe.resize(PROBE_BYTES / 8, 1);
    Job { units: |_| PROBE_BYTES, ready, work, sum: |_, sum| sum as u64 }
}

/// Looks at every event once, as any use of a loaded file must.
fn count_rows(events: &[Event]) -> usize {
    events.iter().filter(|e| e.is_row()).count()
}
