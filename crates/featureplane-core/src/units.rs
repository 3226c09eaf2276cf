//! The few exact operations all kernels share (rule 1). Twin of `featureplane/units.py`.
//!
//! Integers are rounded to floats and floats to integers here and nowhere else, so that the casts
//! which the lints forbid stand in one file, each beside the reason why it is exact.

/// Nanoseconds in a millisecond.
pub const NANOS_PER_MS: u64 = 1_000_000;

/// 1.5 x 2^52: added to an `f64` of magnitude at most 2^51, it leaves the nearest integer (halves to
/// even) in the low bits. Unlike `round_ties_even` this is one addition on every x86-64.
const ROUNDING_SHIFT: f64 = 6_755_399_441_055_744.0;

/// Bound of the floating-point tier of [`half_even_div`]: |n| below this and 0 < d < 2^53.
const FLOAT_TIER_N: u64 = 1 << 51;
const FLOAT_TIER_D: u64 = 1 << 53;

/// `n` if it is a defined integer result, |n| <= 2^63 - 1 (rule 1.2).
#[inline]
#[must_use]
pub fn to_i64(n: i128) -> Option<i64> {
    i64::try_from(n).ok().filter(|&n| n != i64::MIN)
}

/// F(n) of rule 1.4: the nearest `f64`, halves to even.
#[inline]
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "rounding to the nearest is what F means")]
pub const fn i64_to_f64(n: i64) -> f64 {
    n as f64
}

/// F(n) of rule 1.4 for what cannot be negative.
#[inline]
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "rounding to the nearest is what F means")]
pub const fn u64_to_f64(n: u64) -> f64 {
    n as f64
}

/// F(n) of rule 1.4, also from 128 bits. One instruction where 64 bits hold `n`, a call where not.
#[inline]
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "rounding to the nearest is what F means")]
pub fn to_f64(n: i128) -> f64 {
    i64::try_from(n).map_or_else(|_| n as f64, i64_to_f64)
}

/// F(n) / F(d) of rule 1.4; `None` if `d` is 0.
#[inline]
#[must_use]
pub fn ratio(n: i128, d: i128) -> Option<f64> {
    (d != 0).then(|| to_f64(n) / to_f64(d) + 0.0)
}

/// The integer nearest to `x`, halves to even; `None` for NaN and beyond magnitude 2^53.
#[inline]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "an integer up to 2^53 survives the cast")]
pub fn rint(x: f64) -> Option<i64> {
    if x.abs() <= 2_251_799_813_685_248.0 {
        return Some(shifted_integer(x + ROUNDING_SHIFT));
    }
    let nearest = x.round_ties_even();
    (nearest.abs() <= 9_007_199_254_740_992.0).then_some(nearest as i64)
}

/// The integer k of `k + ROUNDING_SHIFT`, |k| <= 2^51: the mantissas differ by exactly k.
#[inline]
const fn shifted_integer(sum: f64) -> i64 {
    (sum.to_bits().wrapping_sub(ROUNDING_SHIFT.to_bits())).cast_signed()
}

/// R(n, d) of integers within the floating-point tier of [`half_even_div`].
#[inline]
pub(crate) const fn small_div(n: f64, d: f64) -> i64 {
    shifted_integer(n / d + ROUNDING_SHIFT)
}

/// F(n) for |n| < 2^51. WHY: no processor of this kind without AVX-512 converts several at once.
#[inline]
pub(crate) const fn small_to_f64(n: i64) -> f64 {
    f64::from_bits(n.cast_unsigned().wrapping_add(ROUNDING_SHIFT.to_bits())) - ROUNDING_SHIFT
}

/// Whether |n| >= 2^51: the top bit says it, the others nothing.
#[inline]
pub(crate) const fn is_not_small(n: f64) -> u64 {
    const MOST: u64 = ((1023 + 51) << 52) - 1;
    MOST.wrapping_sub(n.to_bits() & !(1 << 63))
}

/// R(n, d) of rule 1.3, halves to the even neighbour; `None` outside ±(2^63 - 1) and for d <= 0.
///
/// Three tiers with one result. In the first, |n| < 2^51 and d < 2^53, the rounding error of the
/// quotient is below 1 / (2 d), the least distance of n / d from a half that it is not; so rounding
/// the rounded quotient is rounding the quotient.
#[inline]
#[must_use]
pub fn half_even_div(n: i128, d: i128) -> Option<i64> {
    match (i64::try_from(n), i64::try_from(d)) {
        (Ok(n), Ok(d)) => half_even_div_i64(n, d),
        _ => half_even_div_i128(n, d),
    }
}

/// [`half_even_div`] of operands that fit 64 bits.
#[inline]
#[must_use]
pub fn half_even_div_i64(n: i64, d: i64) -> Option<i64> {
    // d - 1 wraps for d <= 0 and fails the comparison.
    if n.unsigned_abs() < FLOAT_TIER_N && d.wrapping_sub(1).cast_unsigned() < FLOAT_TIER_D - 1 {
        return Some(small_div(i64_to_f64(n), i64_to_f64(d)));
    }
    divide_i64(n, d)
}

#[inline]
fn divide_i64(n: i64, d: i64) -> Option<i64> {
    if d <= 0 {
        return None;
    }
    let (q, r) = (n.div_euclid(d), n.rem_euclid(d));
    let up = r > d - r || (r == d - r && q & 1 == 1);
    // WHY: q + 1 cannot overflow, |q| is near its limit only for d = 1, where r is 0.
    Some(q + i64::from(up)).filter(|&q| q != i64::MIN)
}

#[cold]
fn half_even_div_i128(n: i128, d: i128) -> Option<i64> {
    if d <= 0 {
        return None;
    }
    let (q, r) = (n.div_euclid(d), n.rem_euclid(d));
    let up = r > d - r || (r == d - r && q & 1 == 1);
    to_i64(q + i128::from(up))
}

/// The largest integer whose square is at most `n`.
#[inline]
#[must_use]
pub fn isqrt(n: u128) -> u64 {
    match u64::try_from(n) {
        // The root of an exact `f64` is off by less than half; one too many shows in the square.
        Ok(n) if n < 1 << 52 => {
            let root = shifted_integer(u64_to_f64(n).sqrt() + ROUNDING_SHIFT).cast_unsigned();
            root - u64::from(root * root > n)
        }
        Ok(n) => n.isqrt(),
        Err(_) => u64::try_from(n.isqrt()).unwrap_or(u64::MAX),
    }
}

/// Nanoseconds from `before` to `now`, which is not earlier; exact for any two clocks.
#[inline]
#[must_use]
pub const fn elapsed(now: i64, before: i64) -> u64 {
    now.wrapping_sub(before).cast_unsigned()
}

/// `c_0 .. c_17` of rule 1.4: the nearest `f64` to (-ln 2)^k / k!, as bits.
const EXP2_COEFFICIENTS: [u64; 18] = [
    0x3ff0_0000_0000_0000,
    0xbfe6_2e42_fefa_39ef,
    0x3fce_bfbd_ff82_c58f,
    0xbfac_6b08_d704_a0c0,
    0x3f83_b2ab_6fba_4e77,
    0xbf55_d87f_e78a_6731,
    0x3f24_3091_2f86_c787,
    0xbeef_fcbf_c588_b0c7,
    0x3eb6_2c02_23a5_c824,
    0xbe7b_5253_d395_e7c4,
    0x3e3e_4cf5_158b_8eca,
    0xbdfe_8cac_7351_bb25,
    0x3dbc_3bd6_50fc_2986,
    0xbd78_1619_3166_d0f9,
    0x3d33_1496_4d58_78a9,
    0xbcec_36e8_43b0_4022,
    0x3ca3_8e89_ae79_f8b4,
    0xbc59_8444_b41c_25a8,
];

/// 2^(-dt / `half_life`) by the polynomial of rule 1.4; no function of libm is called.
///
/// `half_life` > 0, in the unit of `dt`. 0.0 beyond 1000 half-lives.
#[inline]
#[must_use]
pub fn exp2_neg(dt: u64, half_life: u64) -> f64 {
    let (n, r) = if dt < half_life { (0, dt) } else { (dt / half_life, dt % half_life) };
    if n > 1000 {
        return 0.0;
    }
    let x = u64_to_f64(r) / u64_to_f64(half_life);
    let mut p = f64::from_bits(EXP2_COEFFICIENTS[17]);
    for &c in EXP2_COEFFICIENTS[..17].iter().rev() {
        p = p * x + f64::from_bits(c);
    }
    // 2^-n as bits; n <= 1000 keeps it a normal number, and the product exact.
    p * f64::from_bits((1023 - n) << 52)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the bits are what is tested")]
mod tests {
    use super::*;
    use crate::random::Random;

    fn defined(n: i128, d: i128) -> Option<i64> {
        let (q, r) = (n.div_euclid(d), n.rem_euclid(d));
        to_i64(if 2 * r > d || (2 * r == d && q % 2 != 0) { q + 1 } else { q })
    }

    #[test]
    fn rule_1_3_known_halves() {
        let halves = [-3, -1, 1, 3, 5].map(|n| half_even_div(n, 2));
        assert_eq!(halves, [Some(-2), Some(0), Some(0), Some(2), Some(2)]);
        assert_eq!(half_even_div(1, 0), None);
        assert_eq!(half_even_div(1, -1), None);
        assert_eq!(half_even_div(i128::from(i64::MIN), 1), None);
        assert_eq!(half_even_div(i128::from(i64::MIN) + 1, 1), Some(-i64::MAX));
        assert_eq!(half_even_div(i128::from(i64::MAX) + 1, 1), None);
        assert_eq!(half_even_div(i128::MIN, i128::MAX), Some(-1));
    }

    #[test]
    fn rule_1_3_tiers_agree_when_aimed_at_halves() {
        let mut random = Random::new(13);
        for _ in 0..300_000 {
            let d = random.magnitude(53).max(1);
            let q = random.magnitude(52);
            for off in -1..=1 {
                // (2 q + 1) d / 2 is a half, or beside one if d is odd.
                let n = (2 * i128::from(q) + 1) * i128::from(d) / 2 + off;
                for n in [n, -n] {
                    let expected = defined(n, i128::from(d));
                    assert_eq!(half_even_div(n, i128::from(d)), expected, "{n} / {d}");
                    assert_eq!(half_even_div_i128(n, i128::from(d)), expected, "{n} / {d}");
                    if let Ok(n) = i64::try_from(n) {
                        assert_eq!(divide_i64(n, d), expected, "{n} / {d}");
                    }
                }
            }
        }
    }

    #[test]
    fn rule_1_3_every_magnitude() {
        let mut random = Random::new(14);
        for _ in 0..200_000 {
            let n = i128::from(random.bits().cast_signed()) * i128::from(random.magnitude(63));
            let d = i128::from(random.magnitude(63).max(1));
            assert_eq!(half_even_div(n, d), defined(n, d), "{n} / {d}");
        }
        for n in [(1i64 << 51) - 1, 1 << 51, (1 << 52) - 1, 1 << 52, (1 << 53) - 1, i64::MAX] {
            for d in [1, 2, 3, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, i64::MAX] {
                assert_eq!(half_even_div_i64(n, d), defined(n.into(), d.into()), "{n} / {d}");
                assert_eq!(half_even_div_i64(-n, d), defined((-n).into(), d.into()), "-{n} / {d}");
            }
        }
    }

    #[test]
    fn rule_1_4_nearest_float_of_128_bits() {
        assert!(to_f64((1 << 53) + 1) == 9_007_199_254_740_992.0);
        assert!(to_f64((1 << 53) + 3) == 9_007_199_254_740_996.0);
        assert!(to_f64(-(1 << 100) - 1) == -(2f64.powi(100)));
        // A tie of 2^117 with one bit far below: sticky bits count.
        let tie = (1i128 << 117) + (1 << 64);
        assert!(to_f64(tie) == 2f64.powi(117));
        assert!(to_f64(tie + 1) == 2f64.powi(117) + 2f64.powi(65));
        assert_eq!(ratio(1, 0), None);
        assert_eq!(ratio(0, -3).map(f64::to_bits), Some(0));
    }

    #[test]
    fn rint_is_half_even_up_to_2_53() {
        for (x, expected) in [
            (0.5, Some(0)),
            (1.5, Some(2)),
            (-2.5, Some(-2)),
            (-0.0, Some(0)),
            (2_251_799_813_685_248.5, Some(2_251_799_813_685_248)),
            (-2_251_799_813_685_249.5, Some(-2_251_799_813_685_250)),
            (9_007_199_254_740_991.0, Some(9_007_199_254_740_991)),
            (9_007_199_254_740_992.0, Some(1 << 53)),
            (-9_007_199_254_740_994.0, None),
            (f64::NAN, None),
            (f64::NEG_INFINITY, None),
        ] {
            assert_eq!(rint(x), expected, "{x}");
        }
    }

    #[test]
    fn isqrt_is_the_floor() {
        for n in 0..5_000u128 {
            let root = u128::from(isqrt(n));
            assert!(root * root <= n && n < (root + 1) * (root + 1), "{n}");
        }
        let mut random = Random::new(15);
        for _ in 0..100_000 {
            let root = random.magnitude(63).cast_unsigned();
            let square = u128::from(root) * u128::from(root);
            assert_eq!(isqrt(square), root);
            assert_eq!(isqrt(square + 2 * u128::from(root)), root);
            assert_eq!(square.checked_sub(1).map(isqrt), root.checked_sub(1));
        }
        assert_eq!(isqrt(u128::MAX), u64::MAX);
    }

    #[test]
    fn rule_1_4_exp2_neg() {
        assert!(exp2_neg(0, 7) == 1.0);
        assert!(exp2_neg(7, 7) == 0.5);
        assert!(exp2_neg(700, 7) == 2f64.powi(-100));
        assert!(exp2_neg(7_000, 7) > 0.0);
        assert!(exp2_neg(7_007, 7) == 0.0);
        assert_eq!(exp2_neg(1, 3).to_bits(), 0x3fe9_65fe_a53d_6e3d);
        assert_eq!(exp2_neg(123_456_789, 5_000_000_000).to_bits(), 0x3fef_74fd_2d33_2840);
        assert!(exp2_neg(u64::MAX, 1) == 0.0);
    }

    #[test]
    fn rule_1_4_exp2_neg_is_pinned_to_the_last_bit() {
        let digest = (0..3 * 4096).fold(0xcbf2_9ce4_8422_2325u64, |digest, dt| {
            (digest ^ exp2_neg(dt, 4096).to_bits()).wrapping_mul(0x100_0000_01b3)
        });
        assert_eq!(digest, 0xd8d6_226e_a084_11b8, "tests/unit/test_units.py has the same");
    }

    #[test]
    fn elapsed_of_extreme_clocks() {
        assert_eq!(elapsed(i64::MAX, i64::MIN), u64::MAX);
        assert_eq!(elapsed(5, -5), 10);
    }
}
