//! Frames by column, for tables.

use zerocopy::{FromBytes, IntoBytes};

use crate::frame::{Frame, FrameSink, Frames, Layout};
use crate::stores::{LINE, Sheet};

/// Rows there is room for when nothing is known of the stream, and when a little is.
const FIRST_ROWS: usize = 1 << 10;
const LITTLE_KNOWN: usize = 1 << 12;
/// Events for which there is a row at the start: what it takes is little beside what they take.
const EVENTS_A_ROW: usize = 64;

/// Words of all columns beyond which they do not stay in the caches until somebody reads them.
const BEYOND_CACHES: usize = 1 << 19;

/// Frames by column that are looked through together for those that lack a value.
const NOTED: usize = 64;

/// Columns of eight bytes before the masks.
const HEADS: usize = 4;

/// A column of frames. All but the flags have eight bytes a frame, the masks eight bytes a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// See [`crate::frame::Head`]; so for the next three.
    Seq,
    /// See `Seq`.
    SourceSeq,
    /// See `Seq`.
    SourceTs,
    /// See `Seq`.
    LocalTs,
    /// The ready mask, all words of one frame together.
    Ready,
    /// The changed mask, so too.
    Changed,
    /// Eight bytes of each value of a feature.
    Value(usize),
    /// `u32` flags.
    Flags,
}

impl Column {
    const OTHERS: [Self; 7] =
        [Self::Seq, Self::SourceSeq, Self::SourceTs, Self::LocalTs, Self::Ready, Self::Changed, Self::Flags];
}

/// Frames put out so far.
///
/// WHY all columns in one vector: memory comes from the kernel in pages of 2 MiB, of which each column
/// would leave the last half empty; and columns that lie a multiple of 4 KiB apart share the same few
/// places in the caches of whoever reads them together.
#[derive(Clone, Debug)]
pub struct Columns {
    features: usize,
    rows: usize,
    /// Words of a column: an odd number of lines.
    stride: usize,
    words: Vec<u64>,
    /// Places of the symbols, as soon as one is not 0.
    symbols: Vec<u32>,
    /// Grid points, as soon as one is not 0.
    grid: Vec<i64>,
    /// Rows among which some lack a value.
    unready: Vec<(usize, usize)>,
    /// Events taken and left of those that are run through, as last told.
    progress: (usize, usize),
    /// Rows and events taken when there was made room the last time.
    grown_at: (usize, usize),
}

impl Columns {
    /// Columns of a layout, empty.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        Self {
            features: layout.sentinels().len(),
            rows: 0,
            stride: 0,
            words: Vec::new(),
            symbols: Vec::new(),
            grid: Vec::new(),
            unready: Vec::new(),
            progress: (0, 0),
            grown_at: (0, 0),
        }
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Words of one mask.
    #[must_use]
    pub fn mask_words(&self) -> usize {
        self.features.div_ceil(64)
    }

    /// The place of each frame's symbol among the engine's symbols; empty if all are 0.
    #[must_use]
    pub fn symbols(&self) -> &[u32] {
        &self.symbols
    }

    /// The grid point of each frame; empty if all are 0.
    #[must_use]
    pub fn grid_ts_ns(&self) -> &[i64] {
        &self.grid
    }

    /// Where a column begins among the words of all, and how many are its own. The last word of the flags
    /// is half theirs if the number of frames is odd.
    #[must_use]
    pub fn place(&self, column: Column) -> (usize, usize) {
        let masks = self.mask_words();
        let (at, words) = match column {
            Column::Seq => (0, self.rows),
            Column::SourceSeq => (1, self.rows),
            Column::SourceTs => (2, self.rows),
            Column::LocalTs => (3, self.rows),
            Column::Ready => (HEADS, masks * self.rows),
            Column::Changed => (HEADS + masks, masks * self.rows),
            Column::Value(feature) => (HEADS + 2 * masks + feature, self.rows),
            Column::Flags => (HEADS + 2 * masks + self.features, self.rows.div_ceil(2)),
        };
        (at * self.stride, words)
    }

    /// The words of a column, as [`Self::place`] says.
    #[must_use]
    pub fn column(&self, column: Column) -> &[u64] {
        let (start, words) = self.place(column);
        &self.words[start..start + words]
    }

    /// The words of all columns, each where [`Self::place`] says.
    #[must_use]
    pub fn into_words(self) -> Vec<u64> {
        self.words
    }

    /// The ready bits of each feature, packed as Arrow packs validity; none if every value is defined.
    #[must_use]
    pub fn validity(&self) -> Vec<Option<Vec<u8>>> {
        let (ready, words) = (self.column(Column::Ready), self.mask_words());
        let mut packed: Vec<Option<Vec<u8>>> = vec![None; self.features];
        for &(from, to) in &self.unready {
            for row in from..to {
                for word in 0..words {
                    let mut lacking = self.all_ready(word) & !ready[words * row + word];
                    while lacking != 0 {
                        let feature = 64 * word + lacking.trailing_zeros() as usize;
                        let bits = packed[feature].get_or_insert_with(|| all_valid(self.rows));
                        bits[row / 8] &= !(1 << (row % 8));
                        lacking &= lacking - 1;
                    }
                }
            }
        }
        packed
    }

    /// Makes room for `count` more rows.
    fn room(&mut self, count: usize) {
        let wanted = self.rows + count;
        if wanted <= self.stride {
            return;
        }
        let (taken, left) = self.progress;
        let guess = match self.rows {
            0 => FIRST_ROWS.max(left / EVENTS_A_ROW).min(left),
            rows if rows < LITTLE_KNOWN => LITTLE_KNOWN.min(rows + left),
            rows => {
                // As many rows an event as since the last time and a quarter more, but one an event at most.
                let (rows_then, taken_then) = self.grown_at;
                let share = left / 4 * 5 / (taken - taken_then.min(taken)).max(1);
                rows + share.saturating_add(1).saturating_mul(rows - rows_then).min(left)
            }
        };
        self.grown_at = (self.rows, taken);
        let least = wanted.max(self.rows + self.rows / 2);
        let stride = (guess.max(least).div_ceil(LINE) | 1) * LINE;
        let columns = HEADS + 2 * self.mask_words() + self.features;
        let grown = vec![0; columns * stride + stride.div_ceil(2)];
        let before = (self.stride, std::mem::replace(&mut self.words, grown));
        self.stride = stride;
        let values = (0..self.features).map(Column::Value);
        for column in values.chain(Column::OTHERS) {
            let (now, words) = self.place(column);
            // Each begins a number of strides behind the first.
            let from = now / stride * before.0;
            self.words[now..now + words].copy_from_slice(&before.1[from..from + words]);
        }
    }

    /// The next `count` rows are those of a symbol, and stand for this point of the grid.
    fn label(&mut self, symbol: usize, grid_ts_ns: i64, count: usize) {
        let symbol = u32::try_from(symbol).unwrap_or(u32::MAX);
        if symbol != 0 || !self.symbols.is_empty() {
            self.symbols.resize(self.rows, 0);
            self.symbols.resize(self.rows + count, symbol);
        }
        if grid_ts_ns != 0 || !self.grid.is_empty() {
            self.grid.resize(self.rows, 0);
            self.grid.resize(self.rows + count, grid_ts_ns);
        }
    }

    /// Notes that some of `count` rows lack a value.
    fn note_unready(&mut self, from: usize, count: usize) {
        let to = from + count;
        match self.unready.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => self.unready.push((from, to)),
        }
    }

    /// Notes which of the next rows lack a value; whether there are none.
    fn note_frames(&mut self, frames: &Frames<'_>) -> bool {
        let mut lacking = false;
        for from in (0..frames.len()).step_by(NOTED) {
            let part = from..frames.len().min(from + NOTED);
            let lacks = |word: usize| {
                let all = frames.ready(word)[part.clone()].iter().fold(u64::MAX, |all, ready| all & ready);
                all != self.all_ready(word)
            };
            if (0..self.mask_words()).any(lacks) {
                self.note_unready(self.rows + part.start, part.len());
                lacking = true;
            }
        }
        !lacking
    }

    /// What each word of a mask is if every feature has a value.
    fn all_ready(&self, word: usize) -> u64 {
        u64::MAX >> (64 - self.features.saturating_sub(64 * word).clamp(1, 64))
    }
}

/// A bit for each of `rows` rows, the others 0.
fn all_valid(rows: usize) -> Vec<u8> {
    let mut packed = vec![u8::MAX; rows.div_ceil(8)];
    if let Some(last) = packed.last_mut() {
        *last >>= (8 - rows % 8) % 8;
    }
    packed
}

impl FrameSink for Columns {
    const BY_COLUMN: bool = true;

    fn frame(&mut self, symbol: usize, frame: &Frame<'_>) {
        self.room(1);
        let head = &frame.head;
        self.label(symbol, head.grid_ts_ns, 1);
        if frame.ready.iter().enumerate().any(|(word, &ready)| ready != self.all_ready(word)) {
            self.note_unready(self.rows, 1);
        }
        let (row, masks) = (self.rows, self.mask_words());
        let (heads, rest) = self.words.split_at_mut(HEADS * self.stride);
        let times = [head.source_ts_ns, head.local_ts_ns].map(i64::cast_unsigned);
        let own = [head.seq, head.source_seq, times[0], times[1]];
        for (column, word) in heads.chunks_mut(self.stride).zip(own) {
            column[row] = word;
        }
        for (mask, words) in [frame.ready, frame.changed].into_iter().enumerate() {
            rest[mask * masks * self.stride + masks * row..][..masks].copy_from_slice(words);
        }
        let mut values = rest[2 * masks * self.stride..].chunks_mut(self.stride);
        for (value, column) in frame.values.iter().zip(values.by_ref()) {
            column[row] = *value;
        }
        if let Some(flags) = values.next() {
            halves(flags)[row] = head.flags;
        }
        self.rows += 1;
    }

    fn frames(&mut self, symbol: usize, frames: &mut Frames<'_>) {
        let (count, masks) = (frames.len(), self.mask_words());
        if count == 0 {
            return;
        }
        self.room(count);
        self.label(symbol, 0, count);
        let is_ready = self.note_frames(frames);
        let (row, stride, passes_caches) = (self.rows, self.stride, self.words.len() >= BEYOND_CACHES);
        let mut sheet = Sheet::new(&mut self.words, stride, row, passes_caches);
        sheet.count(0, frames.first_seq, 1, count);
        let times = [frames.source_ts_ns, frames.local_ts_ns].map(as_words);
        for (column, words) in (1..).zip([frames.source_seq, times[0], times[1]]) {
            // All is zero from the start, and a page that nobody writes to costs nothing.
            if words.iter().any(|&word| word != 0) {
                sheet.copy(column, words);
            }
        }
        sheet.turn_to(HEADS + 2 * masks);
        frames.write(&mut sheet);
        sheet.turn_to(HEADS);
        if masks == 1 {
            if is_ready {
                sheet.count(0, frames.ready(0)[0], 0, count);
            } else {
                sheet.copy(0, frames.ready(0));
            }
            sheet.copy(1, frames.changed(0));
        }
        drop(sheet);
        let (others, flags) = self.words.split_at_mut((HEADS + 2 * masks + self.features) * stride);
        if masks > 1 {
            let (ready, changed) = others[HEADS * stride..].split_at_mut(masks * stride);
            interleave(&mut ready[masks * row..][..masks * count], masks, |word| frames.ready(word));
            interleave(&mut changed[masks * row..][..masks * count], masks, |word| frames.changed(word));
        }
        if frames.flags.iter().any(|&flags| flags != 0) {
            halves(flags)[row..row + count].copy_from_slice(frames.flags);
        }
        self.rows += count;
    }

    fn foresee(&mut self, taken: usize, left: usize) {
        self.progress = (taken, left);
    }
}

fn as_words(times: &[i64]) -> &[u64] {
    zerocopy::transmute_ref!(times)
}

fn halves(words: &mut [u64]) -> &mut [u32] {
    <[u32]>::mut_from_bytes(words.as_mut_bytes()).unwrap_or_default()
}

/// Writes masks, all words of one frame together.
fn interleave<'a>(place: &mut [u64], words: usize, of: impl Fn(usize) -> &'a [u64]) {
    for word in 0..words {
        for (place, value) in place[word..].iter_mut().step_by(words).zip(of(word)) {
            *place = *value;
        }
    }
}

#[cfg(test)]
mod tests;
