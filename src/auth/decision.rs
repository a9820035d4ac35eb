//! What the core asks about a client and is told: questions that may take long are answered by ordinary threads.
use super::access::TokenRules;
use super::origin::Origin;
use super::rule::Operation;
use crate::codec::ReasonCode;
use std::fmt;
use std::sync::Arc;

/// The credentials of a CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Client id, the client's own or the one that the broker chose.
    pub client_id: Box<str>,
    /// User name.
    pub user: Option<Box<str>>,
    /// Password. Never shown.
    pub password: Option<Box<[u8]>>,
    /// Topic of the will.
    pub will: Option<Box<str>>,
    /// Where the connection comes from.
    pub origin: Origin,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Login { client_id, user, password, will, origin } = self;
        let password = password.as_ref().map(|_| "...");
        f.debug_struct("Login")
            .field("client_id", client_id)
            .field("user", user)
            .field("password", &password)
            .field("will", will)
            .field("origin", origin)
            .finish()
    }
}

/// What a client that was let in is allowed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grant {
    /// The verified user name; `None` for anonymous clients.
    pub user: Option<Arc<str>>,
    /// Allowed everything.
    pub superuser: bool,
    /// Rules that came with the credentials.
    pub token: Option<Arc<TokenRules>>,
    /// Milliseconds from the answer after which the connection ends.
    pub lasts_ms: Option<u64>,
    /// The topic of the will and whether it may be published to, if that was asked.
    pub will: Option<(Box<str>, bool)>,
}

impl Grant {
    /// For this user, without more.
    pub fn user(name: &str) -> Grant {
        Grant { user: Some(name.into()), ..Grant::default() }
    }
}

/// What an ordinary thread is to find out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// Whether a client is who it says.
    Login(Box<Login>),
    /// Whether a client may do something; no rule in memory says.
    Access(Box<Wish>),
    /// A message to the broker itself, on a topic below `$CONTROL/`.
    Control(Box<ControlRequest>),
}

/// What a client wants to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// User name.
    pub user: Option<Arc<str>>,
    /// Client id.
    pub client_id: Box<str>,
    /// What with it.
    pub operation: Operation,
    /// Topic or filter.
    pub topic: Box<str>,
}

/// A message to the broker itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlRequest {
    /// Who sends it.
    pub user: Option<Arc<str>>,
    /// From which client.
    pub client_id: Box<str>,
    /// The topic.
    pub topic: Box<str>,
    /// What is asked for. It may hold passwords and is never shown.
    pub payload: Box<[u8]>,
}

impl fmt::Debug for ControlRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ControlRequest { user, client_id, topic, payload } = self;
        write!(f, "ControlRequest of {user:?} as {client_id} on {topic}, {} bytes", payload.len())
    }
}

/// What was found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The client is let in, or refused with a reason; and the [`super::access::Policy::generation`] at which that was begun.
    Login(Result<Grant, ReasonCode>, u64),
    /// Whether the wish is allowed.
    Access {
        /// The wish.
        wish: Box<Wish>,
        /// Whether it is allowed.
        allowed: bool,
        /// Milliseconds for which that may be remembered.
        lasts_ms: u64,
    },
    /// To be delivered to the client that asked.
    Control {
        /// Topic of the answer.
        topic: Box<str>,
        /// The answer.
        payload: Box<[u8]>,
    },
    /// The question could not be taken: too many wait. With the wish that it was about, if it was about one.
    Busy(Option<Box<Wish>>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_password() {
        let login = Login {
            client_id: "c".into(),
            user: Some("ann".into()),
            password: Some((*b"hunter2").into()),
            will: None,
            origin: Origin::default(),
        };
        let control = ControlRequest {
            user: None,
            client_id: "c".into(),
            topic: "$CONTROL/x".into(),
            payload: (*b"hunter2").into(),
        };
        for shown in [
            format!("{login:?}"),
            format!("{:?}", Question::Login(login.into())),
            format!("{:?}", Question::Control(control.into())),
        ] {
            assert!(!shown.contains("hunter2") && !shown.contains(&format!("{:?}", b"hunter2")), "{shown}");
        }
    }
}
