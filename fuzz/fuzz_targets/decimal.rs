//! See `featureplane_fuzz::decimal`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| featureplane_fuzz::decimal::any(data));
