//! See `featureplane_fuzz::pipeline`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| featureplane_fuzz::pipeline::any(data));
