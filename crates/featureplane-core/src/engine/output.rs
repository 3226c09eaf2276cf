//! From cells to frames, and which frames are put out (rules 4, 5.5, 5.6, 6).

use super::config::{Emit, Every};
use super::nodes::Nodes;
use crate::frame::quality::PARTIAL_FEATURES;
use crate::frame::{Frame, FrameSink, Frames, Head, Layout};
use crate::kernels::cell::why;
use crate::plan::Plan;

/// Whether a feature in this state makes its frame partial (rule 4): it lacks a value, though warm, or
/// sums fewer levels than it was asked for.
pub(super) const fn is_partial(state: u8) -> bool {
    if state & why::UNDEFINED == 0 {
        return state & why::SHORT != 0;
    }
    state & why::COLD == 0 && state & (why::LACK | why::OVERFLOW | why::SHORT) != 0
}

/// The frame computed last, and the one before it.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) values: Vec<u64>,
    before: Vec<u64>,
    changed: Vec<u64>,
    ready: Vec<u64>,
    flags_before: Option<u32>,
    /// Of the frame computed last, where frames are computed one by one.
    head: Head,
}

impl Output {
    pub(super) fn new(layout: &Layout) -> Self {
        let words = layout.mask_words();
        Self {
            values: layout.sentinels().to_vec(),
            before: layout.sentinels().to_vec(),
            changed: vec![0; words],
            ready: vec![0; words],
            flags_before: None,
            head: Head::default(),
        }
    }

    /// Reads every feature; `PARTIAL_FEATURES` if some warm one lacks its value for want of book.
    pub(super) fn publish(&mut self, plan: &Plan, layout: &Layout, nodes: &Nodes) -> u32 {
        self.ready.fill(0);
        let mut partial = false;
        let features = plan.features.iter().zip(layout.sentinels()).zip(&mut self.values);
        for (at, ((feature, &sentinel), value)) in features.enumerate() {
            let cell = nodes.cell(feature.node);
            if cell.is_defined() {
                *value = cell.bits;
                self.ready[at / 64] |= 1 << (at % 64);
            } else {
                *value = sentinel;
            }
            partial |= is_partial(cell.state);
        }
        if partial { PARTIAL_FEATURES } else { 0 }
    }

    /// A frame in which every value is undefined.
    pub(super) fn blank(&mut self, layout: &Layout) {
        self.values.copy_from_slice(layout.sentinels());
        self.ready.fill(0);
    }

    /// Marks what changed and makes the values those of the frame before.
    pub(super) fn mark(&mut self) {
        self.changed.fill(0);
        for (at, (value, before)) in self.values.iter().zip(&mut self.before).enumerate() {
            self.changed[at / 64] |= u64::from(value != before) << (at % 64);
            *before = *value;
        }
    }

    /// What a feature was in the frame computed last.
    pub(super) fn before(&self, feature: usize) -> u64 {
        self.before[feature]
    }

    /// A feature of the frame computed last.
    pub(super) fn set_before(&mut self, feature: usize, value: u64) {
        self.before[feature] = value;
    }

    /// Takes frame `at` of those given for the one computed last.
    pub(super) fn show(&mut self, frames: &Frames<'_>, at: usize) {
        for (feature, value) in self.before.iter_mut().enumerate() {
            *value = frames.value(feature, at);
        }
        for word in 0..self.ready.len() {
            self.ready[word] = frames.ready(word)[at];
            self.changed[word] = frames.changed(word)[at];
        }
    }

    /// Frames were put out as they are, the last of them with these flags.
    pub(super) fn set_flags(&mut self, flags: u32) {
        self.flags_before = Some(flags);
    }

    /// The frame computed last, whether or not it was put out.
    pub(super) fn computed(&self) -> Frame<'_> {
        Frame { head: self.head, changed: &self.changed, ready: &self.ready, values: &self.before }
    }

    /// Values of the frame computed last.
    pub(super) fn last(&self) -> &[u64] {
        &self.before
    }

    /// Puts the values of the frame computed last in place.
    pub(super) fn restore(&mut self, values: &[u64]) {
        self.before.copy_from_slice(values);
    }
}

/// Chooses which frames leave.
#[derive(Clone, Debug)]
pub(super) struct Sampler {
    emit: Emit,
    every: Option<Every>,
    local_time: bool,
    /// What the frames not kept would have said.
    flags: u32,
    changed: Vec<u64>,
    /// For periods.
    held: Held,
    time_ns: i64,
}

/// The last frame of the open interval, if there is one.
#[derive(Clone, Debug)]
struct Held {
    is_open: bool,
    head: Head,
    changed: Vec<u64>,
    ready: Vec<u64>,
    values: Vec<u64>,
}

impl Sampler {
    pub(super) fn new(emit: Emit, every: Option<Every>, local_time: bool, layout: &Layout) -> Self {
        let changed = vec![0; layout.mask_words()];
        let held = Held {
            is_open: false,
            head: Head::default(),
            changed: changed.clone(),
            ready: changed.clone(),
            values: layout.sentinels().to_vec(),
        };
        Self { emit, every, local_time, flags: 0, changed, held, time_ns: i64::MIN }
    }

    /// Every computed frame is put out as it is.
    pub(super) fn takes_all(&self) -> bool {
        self.emit == Emit::Update && self.every.is_none()
    }

    /// Takes a computed frame and hands on what is due.
    pub(super) fn frame(
        &mut self,
        symbol: usize,
        head: Head,
        output: &mut Output,
        sink: &mut impl FrameSink,
    ) {
        let before = output.flags_before.replace(head.flags);
        output.head = head;
        let put_out = match self.emit {
            Emit::Update => true,
            Emit::Change => output.changed.iter().any(|&word| word != 0) || before != Some(head.flags),
        };
        let Some(every) = self.every else {
            if put_out {
                let frame =
                    Frame { head, changed: &output.changed, ready: &output.ready, values: &output.before };
                sink.frame(symbol, &frame);
            } else {
                self.gather(&head, output);
            }
            return;
        };
        if let Every::Nanos(period) = every {
            self.tick(symbol, &head, period, sink);
        }
        self.gather(&head, output);
        if !put_out {
            return;
        }
        match every {
            Every::Frames(n) if head.seq.is_multiple_of(n) => {
                let changed = std::mem::take(&mut self.changed);
                let head = Head { flags: self.flags, ..head };
                let frame = Frame { head, changed: &changed, ready: &output.ready, values: &output.before };
                sink.frame(symbol, &frame);
                self.changed = changed;
                self.clear();
            }
            Every::Frames(_) => {}
            Every::Nanos(period) => self.hold(head, period, output),
        }
    }

    fn gather(&mut self, head: &Head, output: &Output) {
        if self.every.is_some() {
            self.flags |= head.flags;
            for (kept, changed) in self.changed.iter_mut().zip(&output.changed) {
                *kept |= changed;
            }
        }
    }

    fn clear(&mut self) {
        self.flags = 0;
        self.changed.fill(0);
    }

    /// A frame of a later grid point shows that the held one was the last of its own.
    fn tick(&mut self, symbol: usize, head: &Head, period: i64, sink: &mut impl FrameSink) {
        let time = if self.local_time { head.local_ts_ns } else { head.source_ts_ns };
        self.time_ns = self.time_ns.max(time);
        let point = grid_point(self.time_ns, period);
        let held = &mut self.held;
        if held.is_open && held.head.grid_ts_ns < point {
            held.is_open = false;
            let frame =
                Frame { head: held.head, changed: &held.changed, ready: &held.ready, values: &held.values };
            sink.frame(symbol, &frame);
        }
    }

    fn hold(&mut self, head: Head, period: i64, output: &Output) {
        let held = &mut self.held;
        let (before, kept) = if held.is_open { (held.head.flags, u64::MAX) } else { (0, 0) };
        for (changed, more) in held.changed.iter_mut().zip(&self.changed) {
            *changed = *changed & kept | more;
        }
        let grid_ts_ns = grid_point(self.time_ns, period);
        held.head = Head { flags: before | self.flags, grid_ts_ns, ..head };
        held.ready.copy_from_slice(&output.ready);
        held.values.copy_from_slice(&output.before);
        held.is_open = true;
        self.clear();
    }
}

/// The first multiple of `period` at or after `time`.
fn grid_point(time: i64, period: i64) -> i64 {
    let beyond = time.rem_euclid(period);
    if beyond == 0 { time } else { time.saturating_add(period - beyond) }
}
