//! See `featureplane_fuzz::lobster`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| featureplane_fuzz::lobster::any(data));
