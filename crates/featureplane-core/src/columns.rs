//! Frames by column, for tables.

use crate::frame::{Frame, FrameSink, Frames, Layout};

/// Frames put out so far, one vector a column.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Place of the symbol among the engine's symbols.
    pub symbol: Vec<u32>,
    /// See [`crate::frame::Head`]; so for the next four.
    pub seq: Vec<u64>,
    /// See `seq`.
    pub source_seq: Vec<u64>,
    /// See `seq`.
    pub source_ts_ns: Vec<i64>,
    /// See `seq`.
    pub local_ts_ns: Vec<i64>,
    /// See `seq`.
    pub quality_flags: Vec<u32>,
    /// See `seq`; 0 without a grid.
    pub grid_ts_ns: Vec<i64>,
    /// Mask words, all of one frame together.
    pub ready: Vec<u64>,
    /// See `ready`.
    pub changed: Vec<u64>,
    /// Eight bytes of each value, one vector a feature.
    pub values: Vec<Vec<u64>>,
}

impl Columns {
    /// Columns of a layout, empty.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        Self { values: vec![Vec::new(); layout.sentinels().len()], ..Self::default() }
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seq.len()
    }

    /// Whether there are no frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seq.is_empty()
    }

    /// The ready bits of one feature, packed as Arrow packs validity; none if every value is defined.
    #[must_use]
    pub fn validity(&self, feature: usize) -> Option<Vec<u8>> {
        let words = self.ready.len().checked_div(self.len())?;
        let (word, bit) = (feature / 64, feature % 64);
        let mut packed = vec![0u8; self.len().div_ceil(8)];
        let mut defined = 0;
        for (row, ready) in self.ready.iter().skip(word).step_by(words).enumerate() {
            let set = u8::from(ready >> bit & 1 == 1);
            packed[row / 8] |= set << (row % 8);
            defined += usize::from(set);
        }
        (defined < self.len()).then_some(packed)
    }
}

impl FrameSink for Columns {
    const BY_COLUMN: bool = true;

    #[inline]
    fn frame(&mut self, symbol: usize, frame: &Frame<'_>) {
        let head = &frame.head;
        self.symbol.push(u32::try_from(symbol).unwrap_or(u32::MAX));
        self.seq.push(head.seq);
        self.source_seq.push(head.source_seq);
        self.source_ts_ns.push(head.source_ts_ns);
        self.local_ts_ns.push(head.local_ts_ns);
        self.quality_flags.push(head.flags);
        self.grid_ts_ns.push(head.grid_ts_ns);
        self.ready.extend_from_slice(frame.ready);
        self.changed.extend_from_slice(frame.changed);
        for (column, value) in self.values.iter_mut().zip(frame.values) {
            column.push(*value);
        }
    }

    fn frames(&mut self, symbol: usize, frames: &Frames<'_>) {
        let count = frames.len();
        let place = u32::try_from(symbol).unwrap_or(u32::MAX);
        self.symbol.resize(self.symbol.len() + count, place);
        self.seq.extend((0..count as u64).map(|at| frames.first_seq + at));
        self.source_seq.extend_from_slice(frames.source_seq);
        self.source_ts_ns.extend_from_slice(frames.source_ts_ns);
        self.local_ts_ns.extend_from_slice(frames.local_ts_ns);
        self.quality_flags.extend_from_slice(frames.flags);
        self.grid_ts_ns.resize(self.grid_ts_ns.len() + count, 0);
        let words = self.values.len().div_ceil(64);
        interleave(&mut self.ready, words, count, |word| frames.ready(word));
        interleave(&mut self.changed, words, count, |word| frames.changed(word));
        for (feature, column) in self.values.iter_mut().enumerate() {
            column.extend_from_slice(frames.value(feature));
        }
    }
}

/// Appends masks, all words of one frame together.
fn interleave<'a>(out: &mut Vec<u64>, words: usize, count: usize, of: impl Fn(usize) -> &'a [u64]) {
    if words == 1 {
        return out.extend_from_slice(of(0));
    }
    let from = out.len();
    out.resize(from + words * count, 0);
    for word in 0..words {
        for (place, value) in out[from + word..].iter_mut().step_by(words).zip(of(word)) {
            *place = *value;
        }
    }
}
