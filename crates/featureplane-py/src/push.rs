//! Messages pushed one by one: events that Python holds in, frames into room that Python looks at.
//!
//! WHY both are bound once: what NumPy and PyO3 do to hand over an array takes longer than most messages.

use std::sync::Arc;

use featureplane_core::ahead::ask_for;
use featureplane_core::engine::Engine;
use featureplane_core::error::Error;
use featureplane_core::event::Event;
use featureplane_core::frame::{Frame, FrameSink, Layout};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use zerocopy::{FromBytes, IntoBytes};

use crate::array::{Held, WORDS};
use crate::errors::into_py;
use crate::latest::Words;
use crate::market::{MarketBooks, One};

/// Events beyond which other threads may run meanwhile; for fewer it is not worth the while.
const LONG: usize = 4096;

/// Events asked for ahead: what comes behind a message is on its way while Python has it.
const AHEAD: usize = 16;

/// Events to take from, bound to the array they are in.
#[derive(Default)]
pub(crate) struct Intake {
    events: Option<Held<u64>>,
    /// WHY a copy: nobody can change it while it is checked and used.
    taken: Vec<u64>,
}

impl Intake {
    /// Binds the events that are taken from.
    pub(crate) fn bind(&mut self, events: PyBuffer<u64>) -> PyResult<()> {
        let events = Held::of(events).filter(|events| events.len().is_multiple_of(WORDS));
        let wrong = || PyValueError::new_err("events must be contiguous, eight words each");
        self.events = Some(events.ok_or_else(wrong)?);
        Ok(())
    }

    /// Events `start` to `stop`; none if they are not there, or do not begin and end where messages do.
    pub(crate) fn take(&mut self, start: usize, stop: usize) -> Option<&[Event]> {
        self.copy(start, stop)
            .filter(|(before, events)| {
                before.is_none_or(Event::is_last) && events.last().is_none_or(Event::is_last)
            })
            .map(|(_, events)| events)
    }

    /// Events `start` to `stop`, wherever they begin; none if they are not there.
    pub(crate) fn take_from(&mut self, start: usize, stop: usize) -> Option<&[Event]> {
        self.copy(start, stop).map(|(_, events)| events)
    }

    /// The event before `start`, which shows whether a message begins there, and those to `stop`.
    #[allow(unsafe_code, reason = "events of Python are read where they lie")]
    fn copy(&mut self, start: usize, stop: usize) -> Option<(Option<&Event>, &[Event])> {
        self.taken.clear();
        let events = self.events.as_ref()?;
        if start > stop || stop > events.len() / WORDS {
            return None;
        }
        let first = start.saturating_sub(1);
        let count = WORDS * (stop - first);
        self.taken.reserve(count);
        // SAFETY: those words lie in the buffer, which stays as long as it is bound; there is room for them
        // in `taken`, which is ours alone, and every bit pattern is a `u64`.
        unsafe {
            let from = events.first().cast_const().add(WORDS * first);
            from.copy_to_nonoverlapping(self.taken.as_mut_ptr(), count);
            self.taken.set_len(count);
        }
        ask_for(events.first().wrapping_add(WORDS * stop), AHEAD);
        let events = <[Event]>::ref_from_bytes(self.taken.as_bytes()).unwrap_or_default();
        let (before, pushed) = events.split_at(start - first);
        Some((before.last(), pushed))
    }
}

/// Room for frames, bound to the array it is in.
#[derive(Default)]
pub(crate) struct Outlet {
    room: Option<Held<u64>>,
    /// Where the last frame of each symbol is read value by value.
    latest: Option<Arc<Words>>,
    /// The first 0, 1, 2 … of the views on the room, as Python made them.
    runs: Option<Py<PyList>>,
    packed: Vec<u8>,
    /// Frames of the last push.
    pub(crate) frames: usize,
}

/// Events to push, and room for the frames they make. Both stay bound to the arrays they are in.
#[derive(Default)]
pub(crate) struct Door {
    intake: Intake,
    pub(crate) outlet: Outlet,
}

pub(crate) struct Packing<'a> {
    layout: &'a Layout,
    out: &'a mut Vec<u8>,
    latest: Option<&'a Words>,
    frames: usize,
}

impl FrameSink for Packing<'_> {
    #[inline]
    fn frame(&mut self, symbol: usize, frame: &Frame<'_>) {
        let first = self.out.len();
        self.layout.write(frame, self.out);
        self.frames += 1;
        if let Some(latest) = self.latest {
            latest.put(symbol, &self.out[first..]);
        }
    }
}

impl Door {
    /// Binds the events that are pushed from.
    pub(crate) fn bind_events(&mut self, events: PyBuffer<u64>) -> PyResult<()> {
        self.intake.bind(events)
    }

    /// Takes events `start` to `stop`; the number of frames, or none if those are not whole messages. Books of
    /// a `market` take the same, before, and then it has to be one message.
    pub(crate) fn push(
        &mut self,
        py: Python<'_>,
        core: &mut Engine,
        layout: &Layout,
        market: Option<&Py<MarketBooks>>,
        (start, stop): (usize, usize),
    ) -> PyResult<Option<usize>> {
        let Self { intake, outlet } = self;
        let Some(events) = intake.take(start, stop) else {
            outlet.empty();
            return Ok(None);
        };
        let mut checked = false;
        if let Some(market) = market {
            let mut market = market.bind(py).try_borrow_mut()?;
            let Some(one) = market.one(events) else {
                outlet.empty();
                return Ok(None);
            };
            checked = matches!(one, One::Sound(_));
            market.follow_one(&one).map_err(into_py)?;
        }
        let long = (stop - start > LONG).then_some(py);
        // WHY not checked again: what the books have read is a message that keeps the rules.
        let taken = outlet.collect(long, layout, |sink| {
            if checked { core.run_trusted(events, sink) } else { core.run(events, sink) }
        });
        if let (Err(_), Some(market)) = (&taken, market) {
            market.bind(py).try_borrow_mut()?.take_back();
        }
        taken.map(Some).map_err(into_py)
    }
}

impl Outlet {
    /// Binds where the last values are put, or nothing.
    pub(crate) fn bind_latest(&mut self, latest: Option<Arc<Words>>) {
        self.latest = latest;
    }

    /// Binds the room for frames, and puts those of the last push there.
    pub(crate) fn bind_room(&mut self, room: PyBuffer<u64>) -> PyResult<()> {
        let writable = !room.readonly();
        let wrong = || PyValueError::new_err("the room for frames must be contiguous and writable");
        self.room = Some(Held::of(room).filter(|_| writable).ok_or_else(wrong)?);
        self.show();
        Ok(())
    }

    /// Binds the views on the room that a push gives back: the first 0, 1, 2 … frames.
    pub(crate) fn bind_runs(&mut self, runs: Py<PyList>) {
        self.runs = Some(runs);
    }

    /// So many frames as views on the room; less than nothing, their number, where there are no such views.
    pub(crate) fn seen(&self, py: Python<'_>, frames: usize) -> PyResult<Py<PyAny>> {
        match &self.runs {
            Some(runs) if frames < runs.bind(py).len() => Ok(runs.bind(py).get_item(frames)?.unbind()),
            _ => {
                let frames = isize::try_from(frames).unwrap_or(isize::MAX);
                Ok((-frames).into_pyobject(py)?.into_any().unbind())
            }
        }
    }

    /// Forgets the frames of the last push.
    pub(crate) fn empty(&mut self) {
        self.packed.clear();
        self.frames = 0;
    }

    /// The number of frames that `run` puts out; other threads run meanwhile if it is `long`.
    pub(crate) fn collect(
        &mut self,
        long: Option<Python<'_>>,
        layout: &Layout,
        run: impl FnOnce(&mut Packing<'_>) -> Result<(), Error> + Send,
    ) -> Result<usize, Error> {
        self.empty();
        let latest = self.latest.as_deref();
        let mut sink = Packing { layout, out: &mut self.packed, latest, frames: 0 };
        let ended = match long {
            Some(py) => py.detach(|| run(&mut sink)),
            None => run(&mut sink),
        };
        self.frames = sink.frames;
        self.show();
        ended.map(|()| self.frames)
    }

    /// Puts frames where Python looks, as many as there is room for.
    #[allow(unsafe_code, reason = "frames are written where Python looks")]
    fn show(&self) {
        let Some(room) = &self.room else { return };
        let bytes = self.packed.len().min(8 * room.len());
        // SAFETY: so many bytes lie in both. Python holds the room for views of frames and nothing else; it
        // runs in this thread, or waits for it, and `packed` is ours alone.
        unsafe { room.first().cast::<u8>().copy_from_nonoverlapping(self.packed.as_ptr(), bytes) };
    }
}
