//! See `ringmq::fuzzing::packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq::fuzzing::packet(bytes));
