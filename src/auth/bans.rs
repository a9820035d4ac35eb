//! Who is let in under no circumstances, and until when.
use crate::time::Time;
use core::net::IpAddr;
use ipnet::IpNet;
use std::collections::BTreeMap;

/// What a ban names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Banned {
    /// A client id.
    Client(Box<str>),
    /// A user name.
    User(Box<str>),
    /// Addresses that begin with the same bits.
    Network(IpNet),
}

/// Every ban with the time at which it ends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bans {
    clients: BTreeMap<Box<str>, Time>,
    users: BTreeMap<Box<str>, Time>,
    networks: Vec<(IpNet, Time)>,
}

impl Bans {
    /// Adds a ban; a later end replaces an earlier one. [`Time::NEVER`]: for ever.
    pub fn insert(&mut self, banned: Banned, until: Time) {
        match banned {
            Banned::Client(id) => _ = self.clients.insert(id, until),
            Banned::User(name) => _ = self.users.insert(name, until),
            Banned::Network(network) => {
                self.networks.retain(|(known, _)| *known != network);
                self.networks.push((network, until));
            }
        }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.users.is_empty() && self.networks.is_empty()
    }

    /// Whether one of them is banned.
    pub fn bans(&self, now: Time, client_id: &str, user: Option<&str>, address: Option<IpAddr>) -> bool {
        let holds = |until: Option<&Time>| until.is_some_and(|until| *until > now);
        holds(self.clients.get(client_id))
            || user.is_some_and(|user| holds(self.users.get(user)))
            || address.is_some_and(|address| {
                self.networks.iter().any(|(network, until)| *until > now && network.contains(&address))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_ends() {
        let mut bans = Bans::default();
        bans.insert(Banned::Client("c".into()), Time(100));
        bans.insert(Banned::User("u".into()), Time::NEVER);
        bans.insert(Banned::Network("192.0.2.0/24".parse().unwrap()), Time(100));
        assert!(bans.bans(Time(99), "c", None, None));
        assert!(!bans.bans(Time(100), "c", None, None));
        assert!(bans.bans(Time(u64::MAX - 1), "x", Some("u"), None));
        assert!(!bans.bans(Time(99), "x", Some("c"), None));
        assert!(bans.bans(Time(99), "x", None, Some("192.0.2.9".parse().unwrap())));
        assert!(!bans.bans(Time(100), "x", None, Some("192.0.2.9".parse().unwrap())));
    }
}
