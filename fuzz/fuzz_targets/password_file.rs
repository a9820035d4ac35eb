//! See `ringmq::fuzzing::doors::password_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq::fuzzing::doors::password_file(bytes));
