//! Decimal text against the slow way: by hand, in 128 bits.

use featureplane_core::normalize::decimal::{AsWritten, Decimals, Fault, Scaled};

use crate::choices::Choices;

/// One byte of exponent, then the text.
pub fn any(data: &[u8]) {
    let mut choices = Choices::new(data);
    let exponent = choices.below(19);
    let text = choices.rest();
    let scaled = Scaled { price_exponent: exponent, qty_exponent: exponent };
    for size in [false, true] {
        let fast = if size { scaled.size(text) } else { scaled.price(text) };
        assert_eq!(fast, slow(text, exponent, size), "{}", String::from_utf8_lossy(text));
        let written = if size { AsWritten.size(text) } else { AsWritten.price(text) };
        let Ok(written) = written else { continue };
        let shift = 10_i128.pow(u32::from(exponent.saturating_sub(written.places)));
        let value = i128::from(written.mantissa) * shift;
        match fast {
            Ok(fast) => assert_eq!(i128::from(fast), value),
            Err(fault) => {
                assert!(matches!(fault, Fault::Fine(_) | Fault::FineSize(_) | Fault::Large), "{fault:?}");
            }
        }
    }
}

fn slow(text: &[u8], exponent: u8, size: bool) -> Result<i64, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::Grammar)?;
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) {
        return Err(Fault::Grammar);
    }
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > usize::from(exponent) {
        return Err(if size { Fault::FineSize(exponent) } else { Fault::Fine(exponent) });
    }
    let number = format!("{whole}{decimals:0<width$}", width = usize::from(exponent));
    let number = number.trim_start_matches('0');
    if size && negative && !number.is_empty() {
        return Err(Fault::Negative);
    }
    let value: i128 = match number.len() {
        0 => 0,
        1..=36 => number.parse().map_err(|_| Fault::Grammar)?,
        _ => i128::MAX,
    };
    let value = i64::try_from(value).ok().filter(|&value| value < 1 << 53).ok_or(Fault::Large)?;
    Ok(if negative { -value } else { value })
}
