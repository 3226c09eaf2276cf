//! Writes of what is not read again soon: past the caches, where the processor can.
//!
//! WHY: an ordinary store first fetches the line that it overwrites. Of the columns of a day that is a
//! third of all traffic with the memory, and it drives out what the kernels work on: 6 of 17 ns a row.

use std::marker::PhantomData;
use std::ops::Range;

/// Words of a line of the caches.
pub(crate) const LINE: usize = 8;

/// Lends places to write to, which may be read when it is gone.
#[derive(Debug)]
pub(crate) struct Stores<'a> {
    passes_caches: bool,
    places: PhantomData<&'a mut [u64]>,
}

impl<'a> Stores<'a> {
    pub(crate) const fn new(passes_caches: bool) -> Self {
        Self { passes_caches, places: PhantomData }
    }

    /// A place, to be written from its start on.
    pub(crate) fn at(&mut self, place: &'a mut [u64]) -> Place<'a> {
        let whole = if self.passes_caches { whole_lines(place) } else { 0..0 };
        Place { words: place, at: 0, whole }
    }
}

impl Drop for Stores<'_> {
    fn drop(&mut self) {
        if self.passes_caches {
            past_caches::fence();
        }
    }
}

/// The words of the lines that lie in `place` from end to end. Others are shared with what is beside it,
/// and half a line past the caches takes longer than a whole one.
fn whole_lines(place: &[u64]) -> Range<usize> {
    let first = (place.as_ptr().addr() / size_of::<u64>()).wrapping_neg() % LINE;
    let words = place.len().saturating_sub(first) / LINE * LINE;
    first..first + words
}

/// Words that are written one behind the other.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    words: &'a mut [u64],
    at: usize,
    whole: Range<usize>,
}

impl Place<'_> {
    /// Writes one word `count` times.
    #[inline]
    pub(crate) fn fill(&mut self, word: u64, count: usize) {
        let (start, end) = self.advance(count);
        if end <= self.whole.start || start >= self.whole.end {
            return self.words[start..end].iter_mut().for_each(|place| *place = word);
        }
        let (from, to) = self.split(start, end);
        self.words[start..from].fill(word);
        past_caches::fill(&mut self.words[from..to], word);
        self.words[to..end].fill(word);
    }

    /// Writes words as they are.
    #[inline]
    pub(crate) fn copy(&mut self, words: &[u64]) {
        let (start, end) = self.advance(words.len());
        let (from, to) = self.split(start, end);
        self.words[start..from].copy_from_slice(&words[..from - start]);
        past_caches::copy(&mut self.words[from..to], &words[from - start..to - start]);
        self.words[to..end].copy_from_slice(&words[to - start..]);
    }

    /// Writes `first` and the numbers behind it.
    pub(crate) fn count(&mut self, first: u64, count: usize) {
        let (start, end) = self.advance(count);
        for (word, at) in self.words[start..end].iter_mut().zip(0..) {
            *word = first + at;
        }
    }

    #[inline]
    fn advance(&mut self, count: usize) -> (usize, usize) {
        let start = self.at;
        self.at += count;
        (start, self.at)
    }

    /// The part of these words that is written past the caches.
    #[inline]
    fn split(&self, start: usize, end: usize) -> (usize, usize) {
        let from = self.whole.start.clamp(start, end);
        (from, self.whole.end.clamp(from, end))
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[allow(unsafe_code, reason = "the language has no such store")]
mod past_caches {
    use std::arch::x86_64::{
        __m128i, _mm_loadu_si128, _mm_set1_epi64x, _mm_sfence, _mm_stream_si64, _mm_stream_si128,
    };

    /// Bytes to which a store of two words must be aligned.
    const PAIR: usize = 16;

    pub(super) fn fence() {
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() };
    }

    /// Until the next fence only [`super::Stores`] may let others see the words.
    #[inline]
    pub(super) fn fill(place: &mut [u64], word: u64) {
        let (odd, pairs, last) = pairs(place);
        for place in odd.iter_mut().chain(last) {
            // SAFETY: a word of ours.
            unsafe { _mm_stream_si64(std::ptr::from_mut(place).cast(), word.cast_signed()) };
        }
        // SAFETY: every x86-64 processor has it.
        let both = unsafe { _mm_set1_epi64x(word.cast_signed()) };
        for pair in pairs {
            // SAFETY: two words of ours, aligned as `pairs` says.
            unsafe { _mm_stream_si128(aligned(pair), both) };
        }
    }

    /// As many words as there is place. See `fill`.
    #[inline]
    pub(super) fn copy(place: &mut [u64], words: &[u64]) {
        let (odd, pairs, last) = pairs(place);
        let (for_odd, words) = words.split_at(odd.len());
        let (for_pairs, for_last) = words.as_chunks::<2>();
        for (place, word) in odd.iter_mut().chain(last).zip(for_odd.iter().chain(for_last)) {
            // SAFETY: a word of ours.
            unsafe { _mm_stream_si64(std::ptr::from_mut(place).cast(), word.cast_signed()) };
        }
        for (pair, words) in pairs.iter_mut().zip(for_pairs) {
            // SAFETY: two words that are there, and two of ours, aligned as `pairs` says.
            unsafe {
                let both = _mm_loadu_si128(words.as_ptr().cast());
                _mm_stream_si128(aligned(pair), both);
            }
        }
    }

    #[allow(clippy::cast_ptr_alignment, reason = "`pairs` begins where it is aligned")]
    const fn aligned(pair: &mut [u64; 2]) -> *mut __m128i {
        std::ptr::from_mut(pair).cast()
    }

    /// The aligned pairs of words, with the word before and the one behind that belong to none.
    #[inline]
    fn pairs(place: &mut [u64]) -> (&mut [u64], &mut [[u64; 2]], &mut [u64]) {
        let odd = usize::from(!place.as_ptr().addr().is_multiple_of(PAIR)).min(place.len());
        let (odd, rest) = place.split_at_mut(odd);
        let (pairs, last) = rest.as_chunks_mut::<2>();
        (odd, pairs, last)
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod past_caches {
    pub(super) fn fence() {}

    pub(super) fn fill(place: &mut [u64], word: u64) {
        place.fill(word);
    }

    pub(super) fn copy(place: &mut [u64], words: &[u64]) {
        place.copy_from_slice(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_from_end_to_end_wherever_they_lie() {
        for passes_caches in [false, true] {
            for from in 0..2 * LINE {
                for count in 0..5 * LINE {
                    let mut words = vec![7; 10 * LINE];
                    let copied: Vec<u64> = (100..).take(count).collect();
                    {
                        let mut stores = Stores::new(passes_caches);
                        let mut place = stores.at(&mut words[from..=from + count + count / 2]);
                        place.copy(&copied);
                        place.fill(9, count / 2);
                        place.count(11, 1);
                    }
                    let mut wanted = vec![7; from];
                    wanted.extend(&copied);
                    wanted.extend(vec![9; count / 2]);
                    wanted.push(11);
                    wanted.resize(10 * LINE, 7);
                    assert_eq!(words, wanted, "{count} words from {from}");
                }
            }
        }
    }
}
