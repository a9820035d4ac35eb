//! See `ringmq::fuzzing::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq::fuzzing::session(bytes));
