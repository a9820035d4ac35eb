//! What happens to clients, told to the shell so that it can be written down.
use super::close::Parting;
use super::connect::pending_client_id;
use super::connection::Phase;
use super::{ConnId, Core};
use crate::auth::Origin;
use crate::codec::{Connect, ReasonCode, Version};

/// Notices that wait for the shell; further ones of the same turn are counted only.
const MAX_NOTICES: usize = 4096;

/// One thing that happened to a client.
#[derive(PartialEq, Eq, Debug)]
pub enum Notice {
    /// CONNECT was accepted.
    Connected {
        /// The connection.
        conn: ConnId,
        /// Who it is, and where it comes from.
        who: Who,
        /// Version of MQTT.
        version: Version,
    },
    /// CONNECT was refused.
    Refused {
        /// Who it says it is.
        who: Who,
        /// What it was told.
        reason: ReasonCode,
    },
    /// A client's connection ended.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Its client id.
        client: Box<str>,
        /// Why.
        parting: Parting,
    },
}

/// A client as the log names it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Who {
    /// Client id; empty where none is known.
    pub client: Box<str>,
    /// User name, if it has one.
    pub user: Option<Box<str>>,
    /// Where it comes from.
    pub origin: Origin,
}

/// The notices of one shard.
#[derive(Default)]
pub(super) struct Notices {
    is_wanted: bool,
    waiting: std::collections::VecDeque<Notice>,
    lost: u64,
}

impl Core {
    /// Whether [`Core::poll_notice`] will be asked.
    pub fn want_notices(&mut self, is_wanted: bool) {
        self.notices.is_wanted = is_wanted;
    }

    /// The next notice.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.waiting.pop_front()
    }

    /// How many notices found no room since this was asked last.
    pub fn take_lost_notices(&mut self) -> u64 {
        std::mem::take(&mut self.notices.lost)
    }

    fn note(&mut self, notice: Notice) {
        if self.notices.waiting.len() >= MAX_NOTICES {
            self.notices.lost += 1;
        } else {
            self.notices.waiting.push_back(notice);
        }
    }

    /// A client connected. Its origin must still be known.
    pub(super) fn note_connect(&mut self, slot: u32, session: u32, connect: &Connect<'_>) {
        if !self.notices.is_wanted {
            return;
        }
        let client = Box::from(&*self.sessions[session as usize].client_id);
        let origin = self.connections[slot as usize].extras().origin.as_deref().cloned().unwrap_or_default();
        let user = origin.identity.clone().or_else(|| connect.username.map(Box::from));
        let (conn, version) = (self.id(slot), connect.version);
        self.note(Notice::Connected { conn, who: Who { client, user, origin }, version });
    }

    /// Remembers who a client says it is until that is decided.
    pub(super) fn remember_claim(&mut self, slot: u32, connect: &Connect<'_>) {
        if self.notices.is_wanted {
            let claim = (Box::from(connect.client_id), connect.username.map(Box::from));
            self.connections[slot as usize].extras().claim = Some(Box::new(claim));
        }
    }

    /// A CONNECT is refused.
    pub(super) fn note_refusal(&mut self, slot: u32, reason: ReasonCode) {
        if !self.notices.is_wanted {
            return;
        }
        let extras = self.connections[slot as usize].extras();
        let origin = extras.origin.as_deref().cloned().unwrap_or_default();
        let (client, user) = extras.claim.take().map(|claim| *claim).unwrap_or_default();
        let client = extras.pending.as_ref().and_then(pending_client_id).unwrap_or(client);
        let user = origin.identity.clone().or(user);
        self.note(Notice::Refused { who: Who { client, user, origin }, reason });
    }

    /// A connection is about to be forgotten.
    pub(super) fn note_close(&mut self, slot: u32, parting: Parting) {
        let connection = &self.connections[slot as usize];
        if self.notices.is_wanted && connection.phase == Phase::Connected {
            let client = Box::from(&*self.sessions[connection.session as usize].client_id);
            let conn = self.id(slot);
            self.note(Notice::Closed { conn, client, parting });
        }
    }
}
