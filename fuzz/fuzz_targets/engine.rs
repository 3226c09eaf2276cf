//! See `featureplane_fuzz::engine`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| featureplane_fuzz::engine::any(data));
