//! See `featureplane_fuzz::gzip`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| featureplane_fuzz::gzip::any(data));
