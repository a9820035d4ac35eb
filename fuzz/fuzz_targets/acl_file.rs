//! See `ringmq::fuzzing::doors::acl_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq::fuzzing::doors::acl_file(bytes));
