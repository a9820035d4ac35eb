//! How many connections the same address or the same user has, on all shards together. Asked when a connection comes
//! and when its client is let in, never on the way of a message, so that a lock does no harm.
use core::net::{IpAddr, Ipv6Addr};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bits of an IPv6 address that name a network: whoever has one address there has all of them.
const NETWORK_BITS: u32 = 64;

/// Whose connections are counted together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Member {
    /// Those of an address, or of a network of IPv6.
    Address(IpAddr),
    /// Those of a verified user.
    User(Box<str>),
}

impl Member {
    /// Whoever comes from this address.
    pub fn at(address: IpAddr) -> Member {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << (u128::BITS - NETWORK_BITS));
                Member::Address(Ipv6Addr::from_bits(network).into())
            }
            address => Member::Address(address),
        }
    }
}

/// Who has how many connections. Those that have none are not in it.
#[derive(Default, Debug)]
pub struct Crowd {
    counts: Mutex<HashMap<Member, u32>>,
}

/// The place of one connection in the crowd; free again when it is dropped.
#[derive(Debug)]
pub struct Seat {
    crowd: Arc<Crowd>,
    /// Whose it is.
    pub member: Member,
}

impl Crowd {
    /// A place for one more connection; `None` if there are `most` already.
    pub fn seat(self: &Arc<Crowd>, member: Member, most: u32) -> Option<Seat> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&member).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        counts.insert(member.clone(), count + 1);
        drop(counts);
        Some(Seat { crowd: self.clone(), member })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.member) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.member);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_by_member_and_free_again_when_they_are_dropped() {
        let crowd = Arc::new(Crowd::default());
        let ann = || Member::User("ann".into());
        let (first, second) = (crowd.seat(ann(), 2), crowd.seat(ann(), 2));
        assert!(first.is_some() && second.is_some());
        assert!(crowd.seat(ann(), 2).is_none());
        assert!(crowd.seat(Member::User("bob".into()), 2).is_some());
        drop(first);
        assert!(crowd.seat(ann(), 2).is_some());
        drop(second);
        assert!(crowd.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let at = |text: &str| Member::at(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.2"), at("192.0.2.1"));
    }
}
