//! SIGINT and SIGTERM as something to wait for.
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Becomes readable with the first SIGINT or SIGTERM, and stays so.
pub(super) struct Signals {
    bell: UnixStream,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub(super) fn install() -> io::Result<Signals> {
        let (bell, ringer) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, ringer.try_clone()?)?;
        }
        Ok(Signals { bell })
    }

    /// What to wait for.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
