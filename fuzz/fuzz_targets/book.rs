//! See `featureplane_fuzz::book`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| featureplane_fuzz::book::any(data));
