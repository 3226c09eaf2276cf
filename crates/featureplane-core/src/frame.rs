//! The packed frame, layout version 1 (rule 6), and the quality flags (rule 4).

mod view;

pub use self::view::FrameView;
use crate::kernels::Dtype;
use crate::kernels::cell::{UNDEFINED_F64, UNDEFINED_I64};
use crate::plan::Plan;
use crate::stores::Sheet;

/// First four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"FUV1";
/// Layout version.
pub const VERSION: u16 = 1;
/// Bytes before the masks.
pub const HEADER_BYTES: usize = 64;

/// Bits of `quality_flags`: what happened to the input of one frame.
pub mod quality {
    /// Messages are missing before this frame.
    pub const GAP_DETECTED: u32 = 1 << 0;
    /// State was forgotten before this frame.
    pub const STATE_RESET: u32 = 1 << 1;
    /// The message was late beyond the instrument's limit.
    pub const STALE_INPUT: u32 = 1 << 2;
    /// A late message was dropped, or a hole was closed, before this frame.
    pub const OUT_OF_ORDER_INPUT: u32 = 1 << 3;
    /// A warm feature has no value or sums fewer levels than it asks for, or the book is not whole.
    pub const PARTIAL_FEATURES: u32 = 1 << 4;
    /// The best bid is not below the best ask.
    pub const CROSSED_BOOK: u32 = 1 << 5;
    /// Names by bit.
    pub const NAMES: [&str; 6] = [
        "GAP_DETECTED",
        "STATE_RESET",
        "STALE_INPUT",
        "OUT_OF_ORDER_INPUT",
        "PARTIAL_FEATURES",
        "CROSSED_BOOK",
    ];
}

/// What a frame says besides its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Instrument.
    pub symbol_id: u32,
    /// Bits of [`quality`].
    pub flags: u32,
    /// Frames computed for the symbol so far, from 1.
    pub seq: u64,
    /// Times of the message.
    pub source_ts_ns: i64,
    /// See `source_ts_ns`.
    pub local_ts_ns: i64,
    /// Last applied id of the book channel, 0 if none.
    pub source_seq: u64,
    /// Grid point of a sampled frame (rule 5.6), 0 otherwise; not part of the bytes.
    pub grid_ts_ns: i64,
}

/// One computed frame, borrowed from the engine.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Everything but values.
    pub head: Head,
    /// Features whose eight bytes differ from the frame before.
    pub changed: &'a [u64],
    /// Features that have a value.
    pub ready: &'a [u64],
    /// Values in schema order, undefined ones as their sentinel.
    pub values: &'a [u64],
}

/// Number and types of the values of one set.
#[derive(Clone, Debug)]
pub struct Layout {
    fingerprint: [u8; 8],
    schema_version: u32,
    sentinels: Vec<u64>,
    /// Features that are `u32`: what is defined lies below 2^32.
    codes: Vec<bool>,
}

impl Layout {
    /// The layout of a plan's frames.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let sentinel = |dtype| if dtype == Dtype::F64 { UNDEFINED_F64 } else { UNDEFINED_I64 };
        Self {
            fingerprint: plan.fingerprint,
            schema_version: plan.schema_version,
            sentinels: plan.features.iter().map(|feature| sentinel(feature.dtype)).collect(),
            codes: plan.features.iter().map(|feature| feature.is_code).collect(),
        }
    }

    /// First eight bytes of the fingerprint.
    #[must_use]
    pub const fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }

    /// What each value holds while undefined.
    #[must_use]
    pub fn sentinels(&self) -> &[u64] {
        &self.sentinels
    }

    /// Words of one mask.
    #[must_use]
    pub const fn mask_words(&self) -> usize {
        self.sentinels.len().div_ceil(64)
    }

    /// Bytes of one frame.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        HEADER_BYTES + 16 * self.mask_words() + 8 * self.sentinels.len()
    }

    /// Appends the bytes of `frame`.
    pub fn write(&self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let head = &frame.head;
        let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
        let mut header = [0u8; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4..6].copy_from_slice(&VERSION.to_le_bytes());
        header[6..8].copy_from_slice(&count(self.sentinels.len()));
        header[8..12].copy_from_slice(&head.symbol_id.to_le_bytes());
        header[12..16].copy_from_slice(&head.flags.to_le_bytes());
        header[16..24].copy_from_slice(&head.seq.to_le_bytes());
        header[24..32].copy_from_slice(&head.source_ts_ns.to_le_bytes());
        header[32..40].copy_from_slice(&head.local_ts_ns.to_le_bytes());
        header[40..48].copy_from_slice(&self.fingerprint);
        header[48..52].copy_from_slice(&self.schema_version.to_le_bytes());
        header[52..54].copy_from_slice(&count(self.mask_words()));
        header[54..56].copy_from_slice(&count(HEADER_BYTES));
        header[56..64].copy_from_slice(&head.source_seq.to_le_bytes());
        out.extend_from_slice(&header);
        for words in [frame.changed, frame.ready, frame.values] {
            for word in words {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
    }
}

/// Columns of frames that were computed together.
pub(crate) trait FrameColumns {
    /// Eight bytes of a feature in each frame, where frames are wanted one by one.
    fn value(&self, feature: usize) -> &[u64];
    /// Writes the eight bytes of all features in `count` frames, from frame `from` on, a column each.
    fn write(&mut self, from: usize, count: usize, sheet: &mut Sheet<'_>);
    /// One word of the ready mask of each frame.
    fn ready(&self, word: usize) -> &[u64];
    /// One word of the changed mask of each frame.
    fn changed(&self, word: usize) -> &[u64];
}

/// Frames of one symbol, put out one behind the other.
pub struct Frames<'a> {
    /// Instrument.
    pub symbol_id: u32,
    /// `seq` of the first; the others follow without a hole.
    pub first_seq: u64,
    /// See [`Head`]; so for the next three.
    pub source_seq: &'a [u64],
    /// See `source_seq`.
    pub source_ts_ns: &'a [i64],
    /// See `source_seq`.
    pub local_ts_ns: &'a [i64],
    /// See `source_seq`.
    pub flags: &'a [u32],
    /// Masks and values, and which of theirs the first of these frames is.
    pub(crate) columns: (&'a mut dyn FrameColumns, usize),
}

impl Frames<'_> {
    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Eight bytes of a feature in frame `at`. Only where frames are wanted one by one.
    pub(crate) fn value(&self, feature: usize, at: usize) -> u64 {
        self.columns.0.value(feature)[self.columns.1 + at]
    }

    /// Copies the eight bytes of each feature in each frame to the start of its column; columns begin `stride`
    /// words apart.
    ///
    /// # Panics
    /// `columns` is shorter.
    pub fn copy_values(&mut self, columns: &mut [u64], stride: usize) {
        self.write(&mut Sheet::new(columns, stride, 0, false));
    }

    /// Writes the eight bytes of each feature in each frame, a column each.
    pub(crate) fn write(&mut self, sheet: &mut Sheet<'_>) {
        let count = self.len();
        self.columns.0.write(self.columns.1, count, sheet);
    }

    /// One word of the ready mask of each frame.
    #[must_use]
    pub fn ready(&self, word: usize) -> &[u64] {
        &self.columns.0.ready(word)[self.columns.1..][..self.len()]
    }

    /// One word of the changed mask of each frame; only when their values are written.
    #[must_use]
    pub fn changed(&self, word: usize) -> &[u64] {
        &self.columns.0.changed(word)[self.columns.1..][..self.len()]
    }

    /// What frame `at` says besides masks and values.
    #[must_use]
    pub fn head(&self, at: usize) -> Head {
        Head {
            symbol_id: self.symbol_id,
            flags: self.flags[at],
            seq: self.first_seq + at as u64,
            source_ts_ns: self.source_ts_ns[at],
            local_ts_ns: self.local_ts_ns[at],
            source_seq: self.source_seq[at],
            grid_ts_ns: 0,
        }
    }
}

/// Parts of taking a message, in the order in which it goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From its bytes to events.
    Normalize,
    /// Up to the verdict whether and how it is let in.
    Guard,
    /// Its levels and orders are applied, and the best ones known.
    Book,
    /// Kernels, and the frame, until whoever receives it has it.
    Features,
    /// What is done for a witness.
    Aside,
}

/// Receives computed frames in the order in which they are put out.
pub trait FrameSink {
    /// It takes frames by column, where they were computed so; else one by one.
    const BY_COLUMN: bool = false;

    /// Takes one frame; `symbol` is its place among the engine's symbols.
    fn frame(&mut self, symbol: usize, frame: &Frame<'_>);

    /// Takes several; only called where [`Self::BY_COLUMN`].
    fn frames(&mut self, _symbol: usize, _frames: &mut Frames<'_>) {}

    /// Is told how many of the events that are run through are taken, and how many are left.
    fn foresee(&mut self, _taken: usize, _left: usize) {}

    /// Is told that what was done since the last call, or since the message was given, was this part of it. A
    /// part may come more than once, and what nobody asks for is not told.
    #[inline(always)]
    fn reached(&mut self, _stage: Stage) {}
}
