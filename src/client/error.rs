//! What can go wrong with a connection, as a sentence and as an exit code.
use crate::codec::{DecodeError, ReasonCode, Version};
use std::io;

/// Exit code: a wrong command line, a file that cannot be read, no connection.
pub(super) const FAILED: u8 = 1;
/// Exit code: the broker broke the protocol, or the packet is not what it allows.
pub(super) const PROTOCOL: u8 = 2;
/// Exit code: the connection ended without a reason.
pub(super) const LOST: u8 = 7;
/// Exit code: the time of `-W` is over.
pub(super) const TIMED_OUT: u8 = 27;
/// Exit code: a signal came before everything was done.
const INTERRUPTED: u8 = 130;

/// Why a connection did not come up or ended.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The host name has no address.
    #[error("Unable to look up '{host}': {reason}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver says.
        reason: String,
    },
    /// No TCP connection.
    #[error("{}", plain(.0))]
    Connect(io::Error),
    /// CONNACK says no.
    #[error("Connection refused by the broker: {}", .reason.text())]
    Refused {
        /// Why.
        reason: ReasonCode,
        /// The version that was asked for; decides the exit code.
        version: Version,
        /// The broker's words.
        text: Option<String>,
    },
    /// The broker ended the connection with DISCONNECT.
    #[error("Disconnected by the broker: {}", .reason.text())]
    Disconnected {
        /// Why.
        reason: ReasonCode,
        /// The broker's words.
        text: Option<String>,
    },
    /// The connection broke.
    #[error("The connection was lost.")]
    Lost,
    /// Nothing was heard in time: no CONNACK, no PINGRESP, or nothing can be sent.
    #[error("The broker does not answer.")]
    Silent,
    /// What came is no MQTT.
    #[error("The broker sent a malformed packet: {0}.")]
    Malformed(DecodeError),
    /// What came does not belong there.
    #[error("The broker broke the protocol: {0}.")]
    Protocol(&'static str),
    /// The broker does not take such a message, as it said in CONNACK.
    #[error("The broker does not take this message: {0}.")]
    NotTaken(&'static str),
    /// One of the watched descriptors ended the attempt to connect.
    #[error("Interrupted.")]
    Interrupted,
    /// The operating system refuses something else.
    #[error("{}", plain(.0))]
    System(io::Error),
}

impl ClientError {
    /// The exit code that says the same.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Lookup { .. } | ClientError::Connect(_) | ClientError::System(_) => FAILED,
            ClientError::Refused { reason, version, .. } if version.is_v5() => reason.code(),
            ClientError::Refused { reason, .. } => reason.connack_3(),
            ClientError::Disconnected { reason, .. } if reason.is_error() => reason.code(),
            ClientError::Disconnected { .. } | ClientError::Lost | ClientError::Silent => LOST,
            ClientError::Malformed(_) | ClientError::Protocol(_) | ClientError::NotTaken(_) => PROTOCOL,
            ClientError::Interrupted => INTERRUPTED,
        }
    }

    /// Whether connecting again may help: the connection broke, or the broker went away for a while.
    pub fn is_passing(&self) -> bool {
        match self {
            ClientError::Lost
            | ClientError::Silent
            | ClientError::Connect(_)
            | ClientError::Lookup { .. } => true,
            ClientError::Refused { reason, .. } | ClientError::Disconnected { reason, .. } => matches!(
                reason,
                ReasonCode::ServerShuttingDown | ReasonCode::ServerUnavailable | ReasonCode::ServerBusy
            ),
            _ => false,
        }
    }

    /// What the broker adds in its own words.
    pub fn broker_text(&self) -> Option<&str> {
        match self {
            ClientError::Refused { text, .. } | ClientError::Disconnected { text, .. } => text.as_deref(),
            _ => None,
        }
    }
}

/// The operating system's words without its number.
pub(super) fn plain(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(number) = text.find(" (os error ") {
        text.truncate(number);
    }
    text
}
