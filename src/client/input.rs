//! Where the payload comes from: `-m`, `-f`, `-s`, `-n`, and line by line with `-l`.
use super::blocking::MAX_PAYLOAD;
use super::error::plain;
use rustix::io::{Errno, read};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Bytes asked for with one read.
const READ: usize = 64 * 1024;

/// The flags that say what is sent, at most one of them.
#[derive(clap::Args, Debug)]
#[group(multiple = false)]
pub(super) struct PayloadArgs {
    /// Send this
    #[arg(short = 'm', long = "message", value_name = "PAYLOAD")]
    message: Option<OsString>,
    /// Send the contents of a file
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send standard input as one message
    #[arg(short = 's', long = "stdin-file")]
    stdin: bool,
    /// Send an empty message
    #[arg(short = 'n', long = "null-message")]
    null: bool,
}

impl PayloadArgs {
    /// The payload, if one of the flags was given; a sentence if it cannot be read.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, String> {
        if let Some(message) = &self.message {
            return Ok(Some(message.clone().into_vec()));
        }
        if let Some(path) = &self.file {
            let cannot = |error: io::Error| format!("'{}' cannot be read: {}", path.display(), plain(&error));
            let file = File::open(path).map_err(cannot)?;
            return read_whole(file).map_err(cannot).map(Some);
        }
        if self.stdin {
            let cannot = |error: io::Error| format!("standard input cannot be read: {}", plain(&error));
            return read_whole(io::stdin().lock()).map_err(cannot).map(Some);
        }
        Ok(self.null.then(Vec::new))
    }

    /// Whether one of the flags was given.
    pub(super) fn is_given(&self) -> bool {
        self.message.is_some() || self.file.is_some() || self.stdin || self.null
    }
}

fn read_whole(source: impl Read) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    source.take(MAX_PAYLOAD as u64 + 1).read_to_end(&mut payload)?;
    if payload.len() > MAX_PAYLOAD { Err(too_large()) } else { Ok(payload) }
}

fn too_large() -> io::Error {
    io::Error::other(format!("more than {MAX_PAYLOAD} bytes do not fit into a message"))
}

/// Standard input, line by line, read only when it can be read without waiting.
pub(super) struct Lines {
    stdin: io::Stdin,
    /// Complete lines, of one read at most.
    ready: VecDeque<Vec<u8>>,
    /// The line that is not complete; at most [`MAX_PAYLOAD`] bytes.
    partial: Vec<u8>,
    ended: bool,
}

impl Lines {
    pub(super) fn new() -> Lines {
        Lines { stdin: io::stdin(), ready: VecDeque::new(), partial: Vec::new(), ended: false }
    }

    /// The next line without its end; what follows the last line end is a line if it is not empty.
    pub(super) fn next_line(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    /// Whether there is no line at hand.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether the input is at its end.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// What to wait for before [`Lines::fill`].
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stdin.as_fd()
    }

    /// Reads once.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ];
        let count = match read(&self.stdin, &mut buffer) {
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            self.ended = true;
            if !self.partial.is_empty() {
                self.ready.push_back(std::mem::take(&mut self.partial));
            }
        }
        for piece in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.len() > MAX_PAYLOAD {
                return Err(too_large());
            }
            if self.partial.last() == Some(&b'\n') {
                self.partial.pop();
                self.ready.push_back(std::mem::take(&mut self.partial));
            }
        }
        Ok(())
    }
}
