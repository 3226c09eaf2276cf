//! Writes of what is not read again soon: past the caches, where the processor can.
//!
//! WHY: an ordinary store first fetches the line that it overwrites. Of the columns of a day that is a
//! third of all traffic with the memory, and it drives out what the kernels work on: 6 of 17 ns a row.

#![allow(clippy::inline_always, reason = "callers are compiled for several processors")]

/// Words of a line of the caches.
pub(crate) const LINE: usize = 8;

/// Columns of one length that begin the same number of words apart, to be written from a row on.
///
/// They may be read when it is gone.
#[derive(Debug)]
pub(crate) struct Sheet<'a> {
    words: &'a mut [u64],
    stride: usize,
    /// The column that is called the first.
    first: usize,
    row: usize,
    /// Rows before the first whose words begin a line in each column.
    lead: usize,
    passes_caches: bool,
}

impl<'a> Sheet<'a> {
    /// Rows from `row` on of columns `stride` words apart; whole lines, if they are to be written past the
    /// caches.
    pub(crate) fn new(words: &'a mut [u64], stride: usize, row: usize, passes_caches: bool) -> Self {
        let lead = (words[row..].as_ptr().addr() / size_of::<u64>()).wrapping_neg() % LINE;
        let passes_caches = passes_caches && stride.is_multiple_of(LINE);
        Self { words, stride, first: 0, row, lead, passes_caches }
    }

    /// Calls this column the first from now on.
    pub(crate) fn turn_to(&mut self, column: usize) {
        self.first = column;
    }

    /// Rows to write before those that begin a line.
    pub(crate) fn lead(&self) -> usize {
        self.lead
    }

    /// Whole lines are written past the caches.
    #[inline(always)]
    pub(crate) fn passes_caches(&self) -> bool {
        self.passes_caches
    }

    /// The places of a line from a row on, where lines begin, in each column from `column` on.
    #[inline(always)]
    pub(crate) fn lines(&mut self, column: usize, row: usize) -> impl Iterator<Item = &mut [u64; LINE]> {
        let row = self.row + row;
        let columns = self.words[(self.first + column) * self.stride..].chunks_exact_mut(self.stride);
        columns.filter_map(move |column| column.get_mut(row..)?.first_chunk_mut())
    }

    /// Writes less than a line to a column from a row on.
    pub(crate) fn part(&mut self, column: usize, row: usize, words: &[u64]) {
        let start = (self.first + column) * self.stride + self.row + row;
        self.words[start..][..words.len()].copy_from_slice(words);
    }

    /// Writes a column from its first row on.
    pub(crate) fn copy(&mut self, column: usize, words: &[u64]) {
        if !self.passes_caches {
            return self.part(column, 0, words);
        }
        let (lead, rest) = words.split_at(self.lead.min(words.len()));
        let (lines, last) = rest.as_chunks();
        let mut given = lines.iter();
        let line = |_| given.next().copied().unwrap_or_default();
        self.write_lines::<true>(column, lead.len(), lines.len(), line);
        self.part(column, 0, lead);
        self.part(column, words.len() - last.len(), last);
    }

    /// Writes `count` words to a column from its first row on: the first, and each one so much more than the
    /// one before it.
    pub(crate) fn count(&mut self, column: usize, first: u64, step: u64, count: usize) {
        let of = |row: usize| first.wrapping_add(step.wrapping_mul(row as u64));
        let lead = self.lead.min(count);
        let lines = (count - lead) / LINE;
        let line = |row| std::array::from_fn(|at| of(row + at));
        if self.passes_caches {
            self.write_lines::<true>(column, lead, lines, line);
        } else {
            self.write_lines::<false>(column, lead, lines, line);
        }
        for row in (0..lead).chain(lead + lines * LINE..count) {
            self.part(column, row, &[of(row)]);
        }
    }

    /// Writes so many lines to a column, from a row on.
    #[inline(always)]
    fn write_lines<const PAST: bool>(
        &mut self,
        column: usize,
        row: usize,
        lines: usize,
        mut line: impl FnMut(usize) -> [u64; LINE],
    ) {
        let start = (self.first + column) * self.stride + self.row + row;
        let places = self.words[start..][..lines * LINE].as_chunks_mut().0;
        for (place, row) in places.iter_mut().zip((row..).step_by(LINE)) {
            copy_line::<false, PAST>(place, &line(row));
        }
    }
}

impl Drop for Sheet<'_> {
    fn drop(&mut self) {
        if self.passes_caches {
            past_caches::fence();
        }
    }
}

/// Fills a line of a [`Sheet`] with one word; with `PAST` past the caches, and what is written is there when the
/// sheet is gone. `AVX2`: the processor has it.
#[inline(always)]
pub(crate) fn fill_line<const AVX2: bool, const PAST: bool>(place: &mut [u64; LINE], word: u64) {
    if PAST { past_caches::fill::<AVX2>(place, word) } else { *place = [word; LINE] }
}

/// Writes a line of a [`Sheet`]. See `fill_line`.
#[inline(always)]
pub(crate) fn copy_line<const AVX2: bool, const PAST: bool>(place: &mut [u64; LINE], line: &[u64; LINE]) {
    if PAST { past_caches::copy::<AVX2>(place, line) } else { *place = *line }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[allow(unsafe_code, reason = "the language has no such store")]
#[allow(clippy::cast_ptr_alignment, reason = "loads need none, and lines are aligned")]
mod past_caches {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_loadu_si128, _mm_set1_epi64x, _mm_sfence, _mm_stream_si128, _mm256_loadu_si256,
        _mm256_set1_epi64x, _mm256_stream_si256,
    };

    use super::LINE;

    pub(super) fn fence() {
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() };
    }

    /// Until the next fence only [`super::Sheet`] may let others see the words. A line must be aligned.
    #[inline(always)]
    pub(super) fn fill<const AVX2: bool>(place: &mut [u64; LINE], word: u64) {
        assert_aligned(place);
        let word = word.cast_signed();
        // SAFETY: words of ours, aligned as was asked for; the processor has the wide stores where it is asked
        // for them.
        unsafe {
            if AVX2 {
                let (place, four) = (place.as_mut_ptr().cast::<__m256i>(), _mm256_set1_epi64x(word));
                _mm256_stream_si256(place, four);
                _mm256_stream_si256(place.add(1), four);
            } else {
                let (place, pair) = (place.as_mut_ptr().cast::<__m128i>(), _mm_set1_epi64x(word));
                for at in 0..LINE / 2 {
                    _mm_stream_si128(place.add(at), pair);
                }
            }
        }
    }

    /// See `fill`.
    #[inline(always)]
    pub(super) fn copy<const AVX2: bool>(place: &mut [u64; LINE], words: &[u64; LINE]) {
        assert_aligned(place);
        // SAFETY: as in `fill`, and as many words that are there; loads need not be aligned.
        unsafe {
            if AVX2 {
                let (place, words) = (place.as_mut_ptr().cast::<__m256i>(), words.as_ptr().cast::<__m256i>());
                _mm256_stream_si256(place, _mm256_loadu_si256(words));
                _mm256_stream_si256(place.add(1), _mm256_loadu_si256(words.add(1)));
            } else {
                let (place, words) = (place.as_mut_ptr().cast::<__m128i>(), words.as_ptr().cast::<__m128i>());
                for at in 0..LINE / 2 {
                    _mm_stream_si128(place.add(at), _mm_loadu_si128(words.add(at)));
                }
            }
        }
    }

    #[inline(always)]
    fn assert_aligned(place: &[u64; LINE]) {
        assert!(place.as_ptr().addr().is_multiple_of(size_of_val(place)), "a line begins where lines begin");
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod past_caches {
    use super::LINE;

    pub(super) fn fence() {}

    pub(super) fn fill<const AVX2: bool>(place: &mut [u64; LINE], word: u64) {
        *place = [word; LINE];
    }

    pub(super) fn copy<const AVX2: bool>(place: &mut [u64; LINE], words: &[u64; LINE]) {
        *place = *words;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRIDE: usize = 7 * LINE;

    #[test]
    fn columns_are_written_from_end_to_end_wherever_they_lie() {
        for passes_caches in [false, true] {
            for (from, row) in (0..LINE).flat_map(|from| (0..2 * LINE).map(move |row| (from, row))) {
                for count in 0..4 * LINE {
                    let mut words = vec![7; from + 4 * STRIDE];
                    let copied: Vec<u64> = (100..).take(count).collect();
                    {
                        let mut sheet = Sheet::new(&mut words[from..], STRIDE, row, passes_caches);
                        sheet.turn_to(1);
                        sheet.copy(0, &copied);
                        sheet.count(1, 50, 3, count);
                    }
                    let mut wanted = vec![7; from + 4 * STRIDE];
                    let column = |column: usize| from + column * STRIDE + row;
                    wanted[column(1)..][..count].copy_from_slice(&copied);
                    for (at, word) in wanted[column(2)..][..count].iter_mut().enumerate() {
                        *word = 50 + 3 * at as u64;
                    }
                    assert_eq!(words, wanted, "{count} words from {from} and {row}");
                }
            }
        }
    }

    #[test]
    fn lines_are_written_where_they_begin() {
        let has_avx2 = cfg!(target_arch = "x86_64") && std::is_x86_feature_detected!("avx2");
        for row in 0..2 * LINE {
            let mut words = vec![7; 4 * STRIDE];
            let mut sheet = Sheet::new(&mut words, STRIDE, row, true);
            let lead = sheet.lead();
            let line = [1, 2, 3, 4, 5, 6, 7, 8];
            for (column, place) in sheet.lines(1, lead).enumerate() {
                match (column, has_avx2) {
                    (0, true) => copy_line::<true, true>(place, &line),
                    (0, false) => copy_line::<false, true>(place, &line),
                    (1, true) => fill_line::<true, true>(place, 9),
                    (1, false) => fill_line::<false, true>(place, 9),
                    _ => fill_line::<false, false>(place, 3),
                }
            }
            drop(sheet);
            for (column, wanted) in [[7; LINE], line, [9; LINE], [3; LINE]].iter().enumerate() {
                assert_eq!(&words[column * STRIDE + row + lead..][..LINE], wanted);
            }
            assert_eq!(words.iter().filter(|&&word| word != 7).count(), 3 * LINE - 1);
        }
    }
}
