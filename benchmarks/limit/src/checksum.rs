//! A number for everything that was computed, the same in `NumPy` and here.
//!
//! A column's is `h = h * M + bits` over its frames, a table's the same over its columns, modulo 2^64.
//! `benchmarks/harness.py` has the `NumPy` form.

const M: u64 = 0x9e37_79b9_7f4a_7c15;

fn fold(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, |sum: u64, bits| sum.wrapping_mul(M).wrapping_add(bits))
}

pub fn of_rows<'a, const N: usize>(rows: impl Iterator<Item = &'a [u64; N]>) -> u64 {
    let mut columns = [0u64; N];
    for row in rows {
        for (sum, bits) in columns.iter_mut().zip(row) {
            *sum = sum.wrapping_mul(M).wrapping_add(*bits);
        }
    }
    fold(columns.into_iter())
}

pub fn of_columns(columns: impl Iterator<Item = impl Iterator<Item = u64>>) -> u64 {
    fold(columns.map(fold))
}
