//! See `featureplane_fuzz::hftbacktest`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| featureplane_fuzz::hftbacktest::any(data));
