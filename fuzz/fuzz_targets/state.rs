//! See `featureplane_fuzz::state`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| featureplane_fuzz::state::any(data));
