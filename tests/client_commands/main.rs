//! The commands `ringmq pub`, `ringmq sub` and `ringmq rr`, as a user runs them.
//!
//! Each test starts a broker of its own. With `RINGMQ_TEST_BROKER=127.0.0.1:PORT` in the environment the tests talk to
//! that broker instead, which shows whether the commands or the broker are at fault.
mod command_line;
mod conversation;
mod process;
mod publish;
mod scripted;
mod subscribe;
