//! How many connections the same address or the same user has, and how fast they come from an address, on all shards
//! together. Asked when a connection comes
//! and when its client is let in, never on the way of a message, so that a lock does no harm.
use crate::time::Time;
use core::net::{IpAddr, Ipv6Addr};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Bits of an IPv6 address that name a network: whoever has one address there has all of them.
const NETWORK_BITS: u32 = 64;

/// Addresses whose rate is looked after; one more and the one that came first is forgotten, so that it may begin anew. Whoever
/// has so many addresses gains nothing by that.
const MOST_RATED: usize = 65_536;

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
    rates: Mutex<Rates>,
}

/// How many connections may still come from an address at once, in thousandths.
#[derive(Clone, Copy, Debug)]
struct Credit {
    left: u64,
    /// Up to when it was filled.
    at: Time,
}

/// Addresses from which connections came lately.
#[derive(Default, Debug)]
struct Rates {
    credits: HashMap<Member, Credit>,
    /// In the order in which they came first.
    order: VecDeque<Member>,
}

impl Rates {
    /// Whether one more may come; it is counted then.
    fn admits(&mut self, now: Time, member: Member, a_second: u32, burst: u32) -> bool {
        let full = u64::from(burst) * 1000;
        let known = self.credits.get(&member).copied();
        if known.is_none() {
            if self.order.len() >= MOST_RATED
                && let Some(oldest) = self.order.pop_front()
            {
                self.credits.remove(&oldest);
            }
            self.order.push_back(member.clone());
        }
        let Credit { left, at } = known.unwrap_or(Credit { left: full, at: now });
        // One a second is one thousandth a millisecond. Shards look at the clock one after the other.
        let left = left.saturating_add(now.since(at.min(now)).saturating_mul(a_second.into())).min(full);
        let is_admitted = left >= 1000;
        let left = if is_admitted { left - 1000 } else { left };
        self.credits.insert(member, Credit { left, at: at.max(now) });
        is_admitted
    }
}

/// The place of one connection in the crowd; free again when it is dropped.
#[derive(Debug)]
pub struct Seat {
    crowd: Arc<Crowd>,
    /// Whose it is.
    pub member: Member,
}

impl Crowd {
    /// Whether one more connection may come from an address, where there are at most `a_second` on average and `burst` at
    /// once. One that may is counted.
    pub fn admits(&self, now: Time, address: IpAddr, a_second: u32, burst: u32) -> bool {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.admits(now, Member::at(address), a_second, burst)
    }

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
    fn an_address_has_a_burst_and_then_its_rate() {
        let crowd = Crowd::default();
        let (here, there) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let count = |at: u64, address| (0..10).filter(|_| crowd.admits(Time(at), address, 2, 3)).count();
        assert_eq!((count(0, here), count(0, there)), (3, 3));
        assert_eq!((count(499, here), count(500, here), count(400, here), count(999, here)), (0, 1, 0, 0));
        assert_eq!((count(1000, here), count(1_000_000, here)), (1, 3));
        let network = |host: u16| format!("2001:db8::{host:x}").parse().unwrap();
        assert_eq!((0..10).filter(|host| crowd.admits(Time(0), network(*host), 2, 3)).count(), 3);
    }

    #[test]
    fn only_so_many_addresses_are_looked_after() {
        let mut rates = Rates::default();
        let member = |n: usize| Member::at(std::net::Ipv4Addr::from_bits(n as u32).into());
        for n in 0..MOST_RATED + 10 {
            assert!(rates.admits(Time(0), member(n), 1, 1));
        }
        assert_eq!((rates.credits.len(), rates.order.len()), (MOST_RATED, MOST_RATED));
        assert!(!rates.admits(Time(0), member(MOST_RATED), 1, 1));
        assert!(rates.admits(Time(0), member(0), 1, 1), "it was forgotten");
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
