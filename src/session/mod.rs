//! One client's session: what outlives its connection, and the rules of its packets.
//!
//! Nothing here knows other sessions, sockets or clocks.
pub mod alias;
pub mod incoming;
pub mod message;
pub mod outgoing;
pub mod queue;
pub mod rows;
pub mod run;
pub mod stored;
pub mod subscriptions;
pub mod tail;

use crate::auth::access::Access;
use crate::time::Time;
use incoming::Incoming;
use message::{Message, SessionKey};
use outgoing::Outgoing;
use std::rc::Rc;
use std::sync::Arc;
use subscriptions::Subscriptions;

/// Session Expiry Interval that means "never" (3.1.2.11.2).
pub const NEVER_EXPIRES: u32 = u32::MAX;

/// A will as it waits in its session ([MQTT-3.1.2-7]).
#[derive(Debug)]
pub struct Will {
    /// What is published.
    pub message: Message,
    /// Message Expiry Interval of the will, seconds; counts from its publication.
    pub expiry: Option<u32>,
    /// Will Delay Interval, seconds.
    pub delay: u32,
}

/// The state that belongs to a client id, whether the client is connected or not.
#[derive(Debug)]
pub struct Session {
    /// Names this session for as long as the broker runs; a later session of the same client id has another key.
    pub key: SessionKey,
    /// The client id ([MQTT-3.1.3-2]).
    pub client_id: Rc<str>,
    /// Slot of the connection in use; `None` while the client is away.
    pub connection: Option<u32>,
    /// Session Expiry Interval, seconds; [`NEVER_EXPIRES`] is allowed.
    pub expiry_interval: u32,
    /// When the session ends, [`Time::NEVER`] while connected.
    pub expires: Time,
    /// When the will is published, [`Time::NEVER`] while connected or without one.
    pub will_due: Time,
    /// The will ([MQTT-3.1.2-7]).
    pub will: Option<Box<Will>>,
    /// Filters and their options.
    pub subscriptions: Subscriptions,
    /// QoS 1 and 2 towards the client; absent until first needed.
    pub outgoing: Option<Box<Outgoing>>,
    /// QoS 2 from the client; absent until first needed.
    pub incoming: Option<Box<Incoming>>,
    /// The number of its limits: those of the client's last connection.
    pub profile: u16,
    /// There is a record of it in the store.
    pub is_stored: bool,
    /// Retained scans that are still delivering to this session, one a subscription at most.
    pub scans: u32,
    /// What its client may do; `None` where everybody may everything, and while it has not been seen.
    pub access: Option<Rc<Access>>,
    /// The user it belonged to before the broker started, where that is known and `access` is not yet.
    pub owner: Option<Box<Owner>>,
}

/// Whose a session is; `None` is a client that did not say who it is.
pub type Owner = Option<Arc<str>>;

impl Session {
    /// A session without state.
    pub fn new(key: SessionKey, client_id: Rc<str>) -> Session {
        Session {
            key,
            client_id,
            connection: None,
            expiry_interval: 0,
            expires: Time::NEVER,
            will_due: Time::NEVER,
            will: None,
            subscriptions: Subscriptions::default(),
            outgoing: None,
            incoming: None,
            profile: 0,
            is_stored: false,
            scans: 0,
            access: None,
            owner: None,
        }
    }

    /// Whether deliveries must be kept for a later connection.
    pub fn is_persistent(&self) -> bool {
        self.expiry_interval > 0
    }

    /// The next moment at which this session needs attention while its client is away.
    pub fn deadline(&self) -> Time {
        self.expires.min(self.will_due)
    }

    /// When a session whose connection ended at `now` is discarded.
    pub fn expiry_from(&self, now: Time) -> Time {
        if self.expiry_interval == NEVER_EXPIRES { Time::NEVER } else { now.plus_secs(self.expiry_interval) }
    }

    /// Whose it is; `None` where that is not known.
    pub fn owner(&self) -> Option<&Owner> {
        self.access.as_ref().map(|access| &access.user).or(self.owner.as_deref())
    }

    /// The outgoing half, made on first use.
    pub fn outgoing(&mut self) -> &mut Outgoing {
        self.outgoing.get_or_insert_with(Box::default)
    }

    /// The incoming half, made on first use.
    pub fn incoming(&mut self) -> &mut Incoming {
        self.incoming.get_or_insert_with(Box::default)
    }
}
