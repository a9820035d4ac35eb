//! See `ringmq::fuzzing::doors::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq::fuzzing::doors::token(bytes));
