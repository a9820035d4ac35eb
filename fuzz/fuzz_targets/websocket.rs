//! See `ringmq::fuzzing::doors::websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq::fuzzing::doors::websocket(bytes));
