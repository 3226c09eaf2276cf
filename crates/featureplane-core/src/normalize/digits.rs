//! Runs of decimal digits, eight at a time.

/// The digits of `text` from `at` on: their value, and how many they are. The value holds for at most 19.
#[inline]
pub(crate) fn run(text: &[u8], at: usize) -> (u64, usize) {
    let mut value = 0u64;
    let mut rest = text.get(at..).unwrap_or_default();
    let mut count = 0;
    while let Some((chunk, behind)) = rest.split_first_chunk::<8>() {
        let chunk = u64::from_le_bytes(*chunk);
        let digits = leading(chunk);
        if digits < 8 {
            let moved = if digits == 0 { 0 } else { eight(chunk << (64 - 8 * digits)) };
            return (value.wrapping_mul(POWERS[digits]).wrapping_add(moved), count + digits);
        }
        value = value.wrapping_mul(100_000_000).wrapping_add(eight(chunk));
        count += 8;
        rest = behind;
    }
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        count += 1;
    }
    (value, count)
}

const POWERS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// How many of the eight bytes, from the first on, are digits.
#[inline]
const fn leading(chunk: u64) -> usize {
    // WHY: a digit xored with '0' is 0 to 9; adding 0x76 to anything above sets its high bit. A carry
    // reaches only bytes behind the first that is no digit.
    let apart = chunk ^ ZEROS;
    let others = (apart.wrapping_add(0x7676_7676_7676_7676) | apart) & 0x8080_8080_8080_8080;
    (others.trailing_zeros() / 8) as usize
}

/// The value of eight digits; a zero byte counts as the digit 0.
#[inline]
const fn eight(chunk: u64) -> u64 {
    let ones = chunk & 0x0f0f_0f0f_0f0f_0f0f;
    let tens = ones.wrapping_mul(10).wrapping_add(ones >> 8) & 0x00ff_00ff_00ff_00ff;
    let hundreds = tens.wrapping_mul(100).wrapping_add(tens >> 16) & 0x0000_ffff_0000_ffff;
    hundreds.wrapping_mul(10_000).wrapping_add(hundreds >> 32) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_at_the_first_byte_that_is_no_digit() {
        for length in 0..20usize {
            let digits: String = "1234567890123456789".chars().take(length).collect();
            for behind in ["", "\"", ".5", "/0", ":9", "\u{ff}0000000", "\0\0\0\0\0\0\0\0", "e12345678"] {
                let text = format!("x{digits}{behind}");
                let value = digits.parse().unwrap_or(0);
                assert_eq!(run(text.as_bytes(), 1), (value, length), "{text}");
            }
        }
        assert_eq!(run(b"12", 5), (0, 0));
    }
}
