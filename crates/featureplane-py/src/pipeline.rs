//! One venue message a call: bytes in, frames and events into room that Python looks at.

use featureplane_core::engine::Engine as CoreEngine;
use featureplane_core::error::Error;
use featureplane_core::event::{Event, TIME_LIMIT_NS};
use featureplane_core::frame::Stage;
use featureplane_core::normalize::binance::{Feed, Lane, Market, Received};
use featureplane_core::normalize::decimal::{EXPONENT_MAX, Scaled};
use featureplane_core::pipeline::Pipeline as CorePipeline;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use zerocopy::IntoBytes;

use crate::array::WORDS;
use crate::engine::Engine;
use crate::errors::{into_py, into_py_at};
use crate::laps::{Laps, Timed};
use crate::market::MarketBooks;
use crate::push::Packing;

/// Bytes beyond which other threads may run meanwhile; for fewer it is not worth the while.
const LONG: usize = 1 << 18;

/// A feed before an engine; frames go where those of the engine's own pushes go.
#[pyclass(module = "featureplane._native")]
pub(crate) struct Pipeline {
    core: CorePipeline,
    engine: Option<Py<Engine>>,
    source: String,
    room: Option<PyBuffer<u64>>,
    /// Books that take every message too.
    market: Option<Py<MarketBooks>>,
}

#[pymethods]
impl Pipeline {
    /// Without an engine events are all there is. `lanes`: symbol, id, decimals of prices and of sizes. `source` is what errors name.
    #[new]
    #[pyo3(signature = (engine, source, lanes, *, futures, drop_malformed, bytes_max))]
    fn new(
        engine: Option<Py<Engine>>,
        source: String,
        lanes: Vec<(String, u32, u8, u8)>,
        futures: bool,
        drop_malformed: bool,
        bytes_max: usize,
    ) -> PyResult<Self> {
        if lanes.iter().any(|&(_, _, price, qty)| price.max(qty) > EXPONENT_MAX) {
            return Err(PyValueError::new_err(format!("exponents are at most {EXPONENT_MAX}")));
        }
        let lane = |(symbol, symbol_id, price_exponent, qty_exponent)| {
            let decimals = Scaled { price_exponent, qty_exponent };
            Lane { symbol, symbol_id, decimals }
        };
        let lanes: Vec<Lane> = lanes.into_iter().map(lane).collect();
        let market = if futures { Market::Futures } else { Market::Spot };
        let core = CorePipeline::new(Feed::new(&lanes, market, drop_malformed, bytes_max));
        Ok(Self { core, engine, source, room: None, market: None })
    }

    /// The array that events of a message are put into; those of the last one are put there now.
    fn bind_events(&mut self, room: PyBuffer<u64>) -> PyResult<()> {
        if !room.is_c_contiguous() || room.readonly() || !room.item_count().is_multiple_of(WORDS) {
            return Err(PyValueError::new_err("the room for events must be contiguous and writable"));
        }
        self.room = Some(room);
        self.show();
        Ok(())
    }

    /// The books that `push` takes its message to, behind the engine, or None.
    #[pyo3(signature = (market, /))]
    fn bind_market(&mut self, market: Option<Py<MarketBooks>>) {
        self.market = market;
    }

    /// Takes one whole message, as recorded, or alone with the local time given; the views bound for as many
    /// frames as it makes, or, as a negative number, how many those are. None, and nothing has happened, for a
    /// time that is none. `lane` is the instrument that was asked for.
    #[pyo3(signature = (data, local_ts_ns = None, lane = None, /))]
    fn push(
        &mut self,
        py: Python<'_>,
        data: &[u8],
        local_ts_ns: Option<i64>,
        lane: Option<usize>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let how = Received { local_ts_ns, lane };
        self.take(py, data.len(), local_ts_ns, |core, behind| match behind {
            Some((engine, sink)) => core.push(engine, data, how, sink),
            None => core.read(data, how),
        })
    }

    /// As `push`; and how long each part took, in nanoseconds, None for one that the message did not go through:
    /// `normalize`, `guard`, `book`, `features`, and what was done for a shadow.
    #[allow(clippy::type_complexity, reason = "what `push` gives and its parts")]
    #[pyo3(signature = (data, local_ts_ns = None, lane = None, /))]
    fn push_timed(
        &mut self,
        py: Python<'_>,
        data: &[u8],
        local_ts_ns: Option<i64>,
        lane: Option<usize>,
    ) -> PyResult<Option<(Py<PyAny>, [Option<u64>; 5])>> {
        let how = Received { local_ts_ns, lane };
        let mut laps = Laps::begin();
        let taken = self.take(py, data.len(), local_ts_ns, |core, behind| match behind {
            Some((engine, sink)) => core.push(engine, data, how, &mut Timed { sink, laps: &mut laps }),
            None => core.read(data, how).map(|()| laps.end(Stage::Normalize)),
        })?;
        Ok(taken.map(|frames| (frames, laps.spent())))
    }

    /// Events of the last message.
    #[getter]
    fn events(&self) -> usize {
        self.core.events().len()
    }

    /// Which instrument the last message was read as one of, counted from 0.
    #[getter]
    fn lane(&self) -> usize {
        self.core.lane()
    }

    /// Messages that became no event since the beginning, by reason.
    fn dropped(&self) -> [(&'static str, u64); 5] {
        self.core.counts().named()
    }
}

impl Pipeline {
    /// Takes a message of so many bytes: `run` is given what is behind the reader, an engine and a sink for its
    /// frames.
    #[inline]
    fn take(
        &mut self,
        py: Python<'_>,
        bytes: usize,
        local_ts_ns: Option<i64>,
        run: impl FnOnce(&mut CorePipeline, Option<(&mut CoreEngine, &mut Packing<'_>)>) -> Result<(), Error>
        + Send,
    ) -> PyResult<Option<Py<PyAny>>> {
        if local_ts_ns.is_some_and(|local| !(1..TIME_LIMIT_NS).contains(&local)) {
            return Ok(None);
        }
        let core = &mut self.core;
        let long = (bytes > LONG).then_some(py);
        let taken = if let Some(engine) = &self.engine {
            let mut engine = engine.bind(py).try_borrow_mut()?;
            let Engine { core: engine, layout, door, .. } = &mut *engine;
            door.outlet.collect(long, layout, |sink| run(core, Some((engine, sink))))
        } else {
            run(core, None).map(|()| 0)
        };
        self.show();
        let taken = taken.map_err(|error| into_py_at(error, Some(&self.source)))?;
        if let Some(market) = &self.market {
            market.bind(py).try_borrow_mut()?.follow(self.core.events()).map_err(into_py)?;
        }
        let seen = match &self.engine {
            Some(engine) => engine.bind(py).try_borrow()?.door.outlet.seen(py, taken)?,
            None => taken.into_pyobject(py)?.into_any().unbind(),
        };
        Ok(Some(seen))
    }

    /// Puts events where Python looks, as many as there is room for.
    #[allow(unsafe_code, reason = "events are written where Python looks")]
    fn show(&self) {
        let Some(room) = self.room.as_ref().and_then(PyBuffer::as_slice_ptr) else { return };
        let bytes = self.core.events().as_bytes();
        let fitting = bytes.len().min(8 * room.len());
        // SAFETY: so many bytes lie in both. Python holds the room for views of events and nothing else; it
        // runs in this thread, or waits for it, and the events are ours alone.
        unsafe { room.as_ptr().cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), fitting) };
    }
}

const _: () = assert!(size_of::<Event>() == 8 * WORDS);
