//! See `featureplane_fuzz::messages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| featureplane_fuzz::messages::any(data));
