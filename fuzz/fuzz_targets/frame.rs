//! See `ringmq::fuzzing::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq::fuzzing::frame(bytes));
