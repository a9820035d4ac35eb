//! See `ringmq::fuzzing::doors::config_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq::fuzzing::doors::config_file(bytes));
