//! What the machine itself can do: the floors under the floors.

use std::hint::black_box;

/// Sums 64-bit words, eight chains side by side: the speed of reading.
pub fn read(words: &[u64]) -> usize {
    let mut sums = [0u64; 8];
    for chunk in words.chunks_exact(8) {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add) as usize
}

/// Fills words: the speed of writing.
pub fn fill(words: &mut [u64]) -> usize {
    words.fill(black_box(1));
    black_box(words).len()
}
