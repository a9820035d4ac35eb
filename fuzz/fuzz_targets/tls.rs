//! See `ringmq::fuzzing::doors::tls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq::fuzzing::doors::tls(bytes));
