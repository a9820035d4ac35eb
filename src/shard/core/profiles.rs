//! Which limits hold for whom: a connection and a session keep a number, and a table of this shard has what it means.
use super::connection::Phase;
use super::{Core, pressure};
use crate::codec::{Connect, ReasonCode};
use crate::limits::Limits;
use crate::limits::profiles::Profiles;
use crate::memory::Memory;
use crate::time::Time;
use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::Arc;

/// The limits of some connections and sessions.
#[derive(Debug)]
pub(super) struct Profile {
    pub limits: Limits,
    /// The listener that they are for.
    listener: Option<u16>,
    /// [`Limits::output_mark`], or less while memory is short.
    pub output_mark: usize,
    /// [`Limits::output_bound`].
    pub output_bound: usize,
    /// There are bounds on how fast a client may publish.
    pub has_rates: bool,
}

/// The limits of everybody, by number.
pub(super) struct Table {
    source: Arc<Profiles>,
    entries: Vec<Profile>,
    /// The largest packet that anybody could send since the start, and that others may be sent therefore.
    largest: u32,
    /// Some queue refuses publishers when it is full.
    pub refuses: bool,
}

impl Index<u16> for Table {
    type Output = Profile;
    #[inline]
    fn index(&self, number: u16) -> &Profile {
        &self.entries[usize::from(number)]
    }
}

impl Table {
    pub fn new(source: Arc<Profiles>, memory: &Memory, largest: u32) -> Table {
        let largest = source.iter().map(|limits| limits.max_packet).fold(largest, u32::max);
        let mut table = Table { entries: Vec::new(), largest, refuses: false, source: source.clone() };
        for (number, limits) in (0..).zip(source.iter()) {
            table.push(limits.clone(), source.listener(number), memory);
        }
        table
    }

    fn push(&mut self, limits: Limits, listener: Option<u16>, memory: &Memory) {
        self.refuses |= limits.queue_policy == crate::limits::QueuePolicy::Refuse;
        self.entries.push(Profile {
            listener,
            output_mark: pressure::output_mark(&limits, memory),
            output_bound: limits.output_bound(self.largest),
            has_rates: limits.max_publish_rate > 0 || limits.max_publish_bytes > 0,
            limits,
        });
    }

    /// The number of the limits of a user on a listener.
    pub fn number(&self, listener: Option<u16>, user: Option<&str>) -> u16 {
        self.source.number(listener, user)
    }

    /// The memory in use was looked at.
    pub fn note_memory(&mut self, memory: &Memory) {
        for profile in &mut self.entries {
            profile.output_mark = pressure::output_mark(&profile.limits, memory);
        }
    }
}

/// `new`, with what a client was told in CONNACK as it was.
fn with_promises_of(old: &Limits, new: &Limits) -> Limits {
    Limits {
        max_packet: old.max_packet,
        receive_maximum: old.receive_maximum,
        topic_alias_maximum: old.topic_alias_maximum,
        max_qos: old.max_qos,
        retain_available: old.retain_available,
        ..new.clone()
    }
}

fn promises(limits: &Limits) -> (u32, u16, u16, u8, bool) {
    let Limits { max_packet, receive_maximum, topic_alias_maximum, max_qos, retain_available, .. } = limits;
    (*max_packet, *receive_maximum, *topic_alias_maximum, *max_qos, *retain_available)
}

impl Core {
    /// The limits of a connection.
    #[inline]
    pub(super) fn limits_of(&self, slot: u32) -> &Limits {
        &self.profiles[self.connections[slot as usize].profile].limits
    }

    /// A will that is more than its client may leave.
    pub(super) fn check_will_limits(&self, slot: u32, connect: &Connect<'_>) -> Result<(), ReasonCode> {
        let (Some(will), limits) = (&connect.will, self.limits_of(slot)) else { return Ok(()) };
        if will.qos as u8 > limits.max_qos {
            return Err(ReasonCode::QoSNotSupported);
        }
        if will.retain && !limits.retain_available {
            return Err(ReasonCode::RetainNotSupported);
        }
        if will.payload.len() > limits.max_will {
            return Err(ReasonCode::QuotaExceeded);
        }
        self.check_topic(limits, will.topic)
    }

    /// Other limits from now on. A client keeps what it was told in CONNACK until it connects anew.
    pub(super) fn take_limits(&mut self, now: Time, profiles: Arc<Profiles>) {
        self.limits = profiles.common.clone();
        let table = Table::new(profiles, &self.memory, self.profiles.largest);
        let old = std::mem::replace(&mut self.profiles, table);
        // What is new, for whom what was told is other than that: found again by the two numbers.
        let mut mixed: BTreeMap<(u16, u16), u16> = BTreeMap::new();
        let mut full = Vec::new();
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        let Core { connections, sessions, profiles, memory, .. } = self;
        for slot in slots {
            let connection = &mut connections[slot];
            let was = connection.profile;
            let Profile { listener, limits: told, .. } = &old[was];
            if connection.phase != Phase::Connected {
                connection.profile = profiles.number(*listener, None);
                continue;
            }
            let access = sessions[connection.session as usize].access.as_ref();
            let fresh = profiles.number(*listener, access.and_then(|access| access.user.as_deref()));
            connection.profile = fresh;
            if promises(told) == promises(&profiles[fresh].limits) {
                continue;
            }
            connection.profile = match mixed.get(&(fresh, was)) {
                Some(known) => *known,
                None if profiles.entries.len() > usize::from(u16::MAX) => {
                    // So many reloads that it is simpler for this client to come anew.
                    full.push(slot as u32);
                    fresh
                }
                None => {
                    let number = profiles.entries.len() as u16;
                    let limits = with_promises_of(told, &profiles[fresh].limits);
                    profiles.push(limits, *listener, memory);
                    mixed.insert((fresh, was), number);
                    number
                }
            };
        }
        let slots: Vec<usize> = sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let session = &mut sessions[slot];
            let user = session.owner().cloned().flatten();
            session.profile = profiles.number(old[session.profile].listener, user.as_deref());
        }
        full.into_iter().for_each(|slot| self.disconnect(now, slot, ReasonCode::AdministrativeAction));
    }
}
