//! See `featureplane_fuzz::binance`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| featureplane_fuzz::binance::any(data));
