//! The engine, and what it put out, as NumPy arrays.

use featureplane_core::columns::{Column, Columns};
use featureplane_core::engine::config::Config;
use featureplane_core::engine::{Engine as CoreEngine, ResetCause, Witness};
use featureplane_core::error::Error;
use featureplane_core::event::Event;
use featureplane_core::frame::quality;
use featureplane_core::frame::{Frame, FrameSink, Layout};
use featureplane_core::plan::Plan;
use featureplane_core::quality::{Cause, Reason};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::array::as_events;
use crate::errors::into_py;
use crate::latest::Latest;
use crate::market::MarketBooks;
use crate::push::Door;
use crate::shadow::Probe;

/// Packed frames, one behind the other, and their grid points.
#[derive(Default)]
struct Packed {
    bytes: Vec<u8>,
    grid_ts_ns: Vec<i64>,
}

struct PackedSink<'a> {
    layout: &'a Layout,
    packed: &'a mut Packed,
}

impl FrameSink for PackedSink<'_> {
    #[inline]
    fn frame(&mut self, _symbol: usize, frame: &Frame<'_>) {
        self.layout.write(frame, &mut self.packed.bytes);
        self.packed.grid_ts_ns.push(frame.head.grid_ts_ns);
    }
}

/// Event by event, or in blocks of so many steps.
fn run(
    core: &mut CoreEngine,
    events: &[Event],
    trusted: bool,
    block: usize,
    sink: &mut impl FrameSink,
) -> Result<(), Error> {
    match (block, trusted) {
        (0, true) => core.run_trusted(events, sink),
        (0, false) => core.run(events, sink),
        _ => core.run_block(events, trusted, block, sink),
    }
}

/// A plan running over events. Not frozen: it is one running state, used by one thread at a time.
#[pyclass(module = "featureplane._native")]
pub(crate) struct Engine {
    pub(crate) core: CoreEngine,
    pub(crate) layout: Layout,
    packed: Packed,
    columns: Columns,
    pub(crate) door: Door,
    /// Books that `push` takes its message to.
    market: Option<Py<MarketBooks>>,
}

#[pymethods]
impl Engine {
    /// `plan` and `config` are JSON; `fingerprint` the first eight bytes of the plan's.
    #[new]
    fn new(plan: &str, fingerprint: [u8; 8], config: &str) -> PyResult<Self> {
        let plan = Plan::from_json(plan, fingerprint).map_err(into_py)?;
        let config = Config::from_json(config).map_err(into_py)?;
        let core = CoreEngine::new(plan, &config).map_err(into_py)?;
        let layout = core.layout().clone();
        let (packed, door) = (Packed::default(), Door::default());
        Ok(Self { packed, columns: Columns::new(&layout), door, core, layout, market: None })
    }

    /// Takes events, `block` steps at a time (0: event by event); frames wait for `take_frames`. On an
    /// error those before it wait too.
    #[pyo3(signature = (events, *, trusted = false, block = 0))]
    fn run_frames(
        &mut self,
        py: Python<'_>,
        events: &Bound<'_, PyArray1<u64>>,
        trusted: bool,
        block: usize,
    ) -> PyResult<()> {
        let events = events.try_readonly()?;
        let events = as_events(&events)?;
        let Self { core, layout, packed, .. } = self;
        let sink = &mut PackedSink { layout, packed };
        py.detach(|| run(core, events, trusted, block, sink)).map_err(into_py)
    }

    /// Takes events, `block` steps at a time (0: event by event); columns wait for `take_columns`. On an
    /// error those before it wait too.
    #[pyo3(signature = (events, *, trusted = false, block = 0))]
    fn run_columns(
        &mut self,
        py: Python<'_>,
        events: &Bound<'_, PyArray1<u64>>,
        trusted: bool,
        block: usize,
    ) -> PyResult<()> {
        let events = events.try_readonly()?;
        let events = as_events(&events)?;
        let Self { core, columns, .. } = self;
        py.detach(|| run(core, events, trusted, block, columns)).map_err(into_py)
    }

    /// The array of events that `push` takes from.
    fn bind_events(&mut self, events: PyBuffer<u64>) -> PyResult<()> {
        self.door.bind_events(events)
    }

    /// The array that `push` puts frames into; those of the last one are put there now.
    fn bind_room(&mut self, room: PyBuffer<u64>) -> PyResult<()> {
        self.door.outlet.bind_room(room)
    }

    /// What `push` gives back: a list of views on the first 0, 1, 2 … frames in the room.
    #[pyo3(signature = (runs, /))]
    fn bind_runs(&mut self, runs: Py<PyList>) {
        self.door.outlet.bind_runs(runs);
    }

    /// Where `push` puts the last values of each symbol, or None.
    #[pyo3(signature = (latest, /))]
    fn bind_latest(&mut self, latest: Option<&Latest>) {
        self.door.outlet.bind_latest(latest.map(Latest::words));
    }

    /// The books that `push` takes its message to, before its own, or None.
    #[pyo3(signature = (market, /))]
    fn bind_market(&mut self, market: Option<Py<MarketBooks>>) {
        self.market = market;
    }

    /// The queue to a shadow that sees what `push` takes, or None.
    #[pyo3(signature = (queue, /))]
    fn bind_shadow(&mut self, queue: Option<PyBuffer<u64>>) -> PyResult<()> {
        let symbols = self.core.counts().count();
        let probe = queue.map(|queue| Probe::new(queue, symbols)).transpose()?;
        self.core.watch(probe.map(|probe| Box::new(probe) as Box<dyn Witness>));
        Ok(())
    }

    /// Takes events `start` to `stop` of those bound, event by event, and puts their frames into the room,
    /// as many as fit; the views bound for so many, or, as a negative number, how many there are. None, and nothing has
    /// happened, if those events are not there or begin or end inside a message; nor, with books bound, if they
    /// are not one message of those.
    #[pyo3(signature = (start, stop, /))]
    fn push(&mut self, py: Python<'_>, start: isize, stop: isize) -> PyResult<Option<Py<PyAny>>> {
        let Self { core, layout, door, market, .. } = self;
        let (Ok(start), Ok(stop)) = (usize::try_from(start), usize::try_from(stop)) else {
            return Ok(None);
        };
        let frames = door.push(py, core, layout, market.as_ref(), (start, stop))?;
        frames.map(|frames| door.outlet.seen(py, frames)).transpose()
    }

    /// As `push`, for one message of the books bound: what it did, as they say it, where it makes no frame, and
    /// how many there are, as a negative number, where nobody made views for so many.
    #[pyo3(signature = (start, stop, /))]
    fn step(&mut self, py: Python<'_>, start: isize, stop: isize) -> PyResult<Option<Py<PyAny>>> {
        let Self { core, layout, door, market: Some(market), .. } = self else { return Ok(None) };
        let (Ok(start), Ok(stop)) = (usize::try_from(start), usize::try_from(stop)) else {
            return Ok(None);
        };
        match door.push(py, core, layout, Some(market), (start, stop))? {
            None => Ok(None),
            Some(0) => Ok(Some(market.bind(py).try_borrow()?.did(py)?.unbind())),
            Some(frames) => door.outlet.seen(py, frames).map(Some),
        }
    }

    /// Frames of the last `push`, those before the message that it raised for.
    #[getter]
    fn pushed(&self) -> usize {
        self.door.outlet.frames
    }

    /// Bytes of one frame.
    #[getter]
    fn frame_bytes(&self) -> usize {
        self.layout.frame_bytes()
    }

    /// Frames since the last call, packed one behind the other, and their grid points.
    #[allow(clippy::type_complexity, reason = "two arrays")]
    fn take_frames<'py>(&mut self, py: Python<'py>) -> (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<i64>>) {
        let Packed { bytes, grid_ts_ns } = std::mem::take(&mut self.packed);
        (PyArray1::from_vec(py, bytes), PyArray1::from_vec(py, grid_ts_ns))
    }

    /// Columns since the last call: `words` of all of them, `rows`, where in the words `heads` (those of
    /// `HEADS`) and `values` (in schema order) begin, and `validity`, a list in schema order. `symbol` and
    /// `grid_ts_ns` are None if all of them are 0.
    fn take_columns<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        const HEADS: [Column; 7] = [
            Column::Seq,
            Column::SourceSeq,
            Column::SourceTs,
            Column::LocalTs,
            Column::Ready,
            Column::Changed,
            Column::Flags,
        ];
        let columns = std::mem::replace(&mut self.columns, Columns::new(&self.layout));
        let features = 0..self.layout.sentinels().len();
        let out = PyDict::new(py);
        let validity: Vec<Option<Bound<'py, PyArray1<u8>>>> = columns
            .validity()
            .into_iter()
            .map(|packed| packed.map(|packed| PyArray1::from_vec(py, packed)))
            .collect();
        out.set_item("validity", validity)?;
        let symbols = columns.symbols();
        out.set_item("symbol", (!symbols.is_empty()).then(|| PyArray1::from_slice(py, symbols)))?;
        let grid = columns.grid_ts_ns();
        out.set_item("grid_ts_ns", (!grid.is_empty()).then(|| PyArray1::from_slice(py, grid)))?;
        let begins = |column| columns.place(column).0;
        out.set_item("heads", HEADS.map(begins))?;
        out.set_item("values", features.map(Column::Value).map(begins).collect::<Vec<_>>())?;
        out.set_item("rows", columns.len())?;
        out.set_item("words", PyArray1::from_vec(py, columns.into_words()))?;
        Ok(out)
    }

    /// The whole state of a symbol, canonical.
    fn save<'py>(&self, py: Python<'py>, symbol_id: u32) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.core.save(symbol_id).map_err(into_py)?))
    }

    /// Puts a saved state in the place of a symbol's present one.
    fn restore(&mut self, symbol_id: u32, state: &[u8]) -> PyResult<()> {
        self.core.restore(symbol_id, state).map_err(into_py)
    }

    /// Resets all kernels of a symbol at its next step.
    fn reset(&mut self, symbol_id: u32) -> PyResult<()> {
        self.core.reset(symbol_id).map_err(into_py)
    }

    /// A symbol's connection is another one, without proof that it continues the one before.
    fn reconnect(&mut self, symbol_id: u32) -> PyResult<()> {
        self.core.reconnect(symbol_id).map_err(into_py)
    }

    /// Exact counts, summed over symbols.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let mut dropped = [0u64; Reason::NAMES.len()];
        let mut resets = [0u64; ResetCause::NAMES.len()];
        let (mut messages, mut gaps, mut breaks) = ([0u64; 4], [0u64; 4], [0u64; 5]);
        let (mut flags, mut others) = ([0u64; 6], [0u64; 4]);
        let add = |sums: &mut [u64], counts: &[u64]| {
            for (sum, n) in sums.iter_mut().zip(counts) {
                *sum += n;
            }
        };
        for (counts, drops, holes) in self.core.counts() {
            add(&mut dropped, &drops);
            add(&mut messages, &counts.messages);
            add(&mut gaps, &holes);
            add(&mut breaks, &counts.breaks);
            add(&mut resets, &counts.resets);
            add(&mut flags, &counts.flags);
            let more = [counts.frames, counts.steps_back, counts.clock_faults, counts.unread_trades];
            add(&mut others, &more);
        }
        let out = PyDict::new(py);
        let table = |names: &[&str], counts: &[u64]| -> PyResult<Bound<'py, PyDict>> {
            let table = PyDict::new(py);
            for (name, count) in names.iter().zip(counts).filter(|&(_, &count)| count > 0) {
                table.set_item(name, count)?;
            }
            Ok(table)
        };
        out.set_item("dropped", table(&Reason::NAMES, &dropped)?)?;
        out.set_item("messages", table(&["book", "trade", "quote", "status"], &messages)?)?;
        out.set_item("gaps", table(&["book", "trade", "quote", "status"], &gaps)?)?;
        out.set_item("broken", table(&Cause::NAMES[1..], &breaks[1..])?)?;
        out.set_item("resets", table(&ResetCause::NAMES, &resets)?)?;
        out.set_item("flags", table(&quality::NAMES, &flags)?)?;
        out.set_item("steps", table(&["back", "clock_fault", "unread_trade"], &others[1..])?)?;
        out.set_item("frames", others[0])?;
        Ok(out)
    }

    fn __repr__(&self) -> String {
        format!("<native engine, {} features>", self.layout.sentinels().len())
    }
}
