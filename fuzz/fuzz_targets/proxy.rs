//! See `ringmq::fuzzing::doors::proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq::fuzzing::doors::proxy(bytes));
