//! See `ringmq::fuzzing::doors::dynsec`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq::fuzzing::doors::dynsec(bytes));
