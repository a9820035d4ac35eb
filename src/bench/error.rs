//! What can go wrong in a benchmark that is not a finding about the broker.
use std::io;

/// Why a benchmark ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The broker answered CONNECT with a code other than success.
    #[error("the broker refused a connection: {0}")]
    Refused(&'static str),
    /// The broker answered SUBSCRIBE with a failure code.
    #[error("the broker refused a subscription with code {0:#04x}")]
    SubscriptionRefused(u8),
    /// The broker closed a connection.
    #[error("the broker closed a connection {0}")]
    Closed(&'static str),
    /// The broker sent something that a broker never sends.
    #[error("the broker sent {0}")]
    Protocol(&'static str),
    /// The broker sent a packet that is not one.
    #[error("the broker sent a wrong packet: {0}")]
    Decode(#[from] crate::codec::DecodeError),
    /// Something that was waited for did not come.
    #[error("no answer within {seconds} s while {what}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
    /// The flags contradict each other.
    #[error("{0}")]
    Usage(String),
    /// Another thread of the run failed first.
    #[error("{0}")]
    Aborted(String),
}

impl BenchError {
    /// Wraps an I/O error with what was being done.
    pub fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
