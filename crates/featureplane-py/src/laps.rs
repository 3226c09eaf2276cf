//! How long the parts of a message take, by a clock that never runs backwards. The core has no clock: it says
//! where a part ends, and here is looked when that was.

use std::time::Instant;

use featureplane_core::frame::{Frame, FrameSink, Stage};

/// Nanoseconds by part, of one message; none for a part that it did not go through.
#[derive(Debug)]
pub(crate) struct Laps {
    since: Instant,
    spent: [Option<u64>; 5],
}

impl Laps {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        Self { since: now(), spent: [None; 5] }
    }

    /// What was done since the last one ended was this part.
    pub(crate) fn end(&mut self, stage: Stage) {
        let now = now();
        let lap = u64::try_from((now - self.since).as_nanos()).unwrap_or(u64::MAX);
        let spent = &mut self.spent[stage as usize];
        *spent = Some(spent.unwrap_or(0).saturating_add(lap));
        self.since = now;
    }

    /// In the order of [`Stage`].
    pub(crate) fn spent(&self) -> [Option<u64>; 5] {
        self.spent
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the core reads no clock; this is outside of it, and changes no frame"
)]
fn now() -> Instant {
    Instant::now()
}

/// Where frames go, and somebody who looks at the clock.
pub(crate) struct Timed<'a, S> {
    pub(crate) sink: &'a mut S,
    pub(crate) laps: &'a mut Laps,
}

impl<S: FrameSink> FrameSink for Timed<'_, S> {
    fn frame(&mut self, symbol: usize, frame: &Frame<'_>) {
        self.sink.frame(symbol, frame);
    }

    fn reached(&mut self, stage: Stage) {
        self.laps.end(stage);
    }
}
