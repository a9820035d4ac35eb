//! Shared-subscription groups: how many members each shard has, and who the members on this shard are.
use super::{InterestChange, Keys, Subscriber};
use crate::session::outgoing::GroupKey;
use crate::topic::FilterMap;
use hashbrown::HashMap;
use slab::Slab;
use smallvec::SmallVec;

/// A member on this shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its subscription.
    pub subscriber: Subscriber,
    /// Whether its client is connected.
    pub connected: bool,
}

/// Members of one group on one shard.
#[derive(Clone, Copy, Default, Debug)]
struct Count {
    connected: u32,
    members: u32,
}

/// One group: a share name and a filter.
#[derive(Debug)]
pub struct Group {
    /// Its name on every shard.
    pub key: GroupKey,
    share: Box<str>,
    filter: Box<str>,
    /// By shard.
    counts: Box<[Count]>,
    /// Its place in the list of groups with the same filter.
    place: u32,
    members: Vec<Member>,
    next_connected: u32,
    next_member: usize,
}

impl Group {
    /// Chooses the shard for the next message: connected members get equal shares. `None` when none is connected.
    pub fn choose_shard(&mut self) -> Option<u8> {
        let connected: u32 = self.counts.iter().map(|count| count.connected).sum();
        if connected == 0 {
            return None;
        }
        self.next_connected = (self.next_connected + 1) % connected;
        let mut place = self.next_connected;
        for (shard, count) in self.counts.iter().enumerate() {
            if place < count.connected {
                return Some(shard as u8);
            }
            place -= count.connected;
        }
        unreachable!("the place is below the sum")
    }

    /// Another shard with connected members, for a message that found none on `here`.
    pub fn choose_other(&self, here: u8) -> Option<u8> {
        let other = |(shard, count): (usize, &Count)| {
            (shard != usize::from(here) && count.connected > 0).then_some(shard as u8)
        };
        self.counts.iter().enumerate().find_map(other)
    }

    /// The members on this shard in the order in which they are to be tried for the next message; the connected
    /// ones only.
    pub fn candidates(&mut self) -> impl Iterator<Item = Subscriber> + '_ {
        let start = if self.members.is_empty() { 0 } else { self.next_member % self.members.len() };
        self.next_member = start + 1;
        let (before, after) = self.members.split_at(start);
        after.iter().chain(before).filter(|member| member.connected).map(|member| member.subscriber)
    }

    /// What names it.
    pub fn share_and_filter(&self) -> (&str, &str) {
        (&self.share, &self.filter)
    }

    /// Members on all shards, connected or not.
    pub fn total(&self) -> u32 {
        self.counts.iter().map(|count| count.members).sum()
    }
    /// Connected members on all shards.
    pub fn connected(&self) -> u32 {
        self.counts.iter().map(|count| count.connected).sum()
    }
}

/// All groups that have a member anywhere.
pub struct Groups {
    shard: u8,
    shards: u8,
    keys: Keys,
    groups: Slab<Group>,
    by_key: HashMap<GroupKey, u32, ahash::RandomState>,
    by_filter: FilterMap<SmallVec<[u32; 2]>>,
}

impl Groups {
    /// No group. `shard` is this shard.
    pub fn new(shard: u8, shards: u8, keys: Keys, seed: u64) -> Groups {
        Groups {
            shard,
            shards,
            keys,
            groups: Slab::new(),
            by_key: HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 1, 2, 3)),
            by_filter: FilterMap::new(seed),
        }
    }

    /// The group in a slot that a route names.
    pub fn at(&mut self, slot: u32) -> &mut Group {
        &mut self.groups[slot as usize]
    }
    /// The group of this name, if it has a member anywhere.
    pub fn get(&mut self, key: GroupKey) -> Option<&mut Group> {
        let slot = *self.by_key.get(&key)?;
        Some(&mut self.groups[slot as usize])
    }
    /// The slot of the group of this name, if it has a member anywhere.
    pub fn slot_of(&self, key: GroupKey) -> Option<u32> {
        self.by_key.get(&key).copied()
    }
    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }
    /// There is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Slots of the groups whose filter matches `topic`. Adds to `steps` what finding them took.
    pub fn matching(&self, topic: &str, steps: &mut usize) -> Vec<u32> {
        let mut slots = Vec::new();
        if !self.groups.is_empty() {
            *steps += self.by_filter.for_each_match(topic, |found| slots.extend_from_slice(found));
        }
        slots
    }

    /// A member joins on this shard or changes its options; true if the group is new.
    pub fn join(&mut self, share: &str, filter: &str, member: Member) -> bool {
        let (slot, is_new) = self.slot_or_new(share, filter);
        let group = &mut self.groups[slot as usize];
        match group.members.iter_mut().find(|known| known.subscriber.session == member.subscriber.session) {
            Some(known) => *known = member,
            None => group.members.push(member),
        }
        self.recount(slot);
        is_new
    }

    /// A member on this shard leaves; false if it was not there.
    pub fn leave(&mut self, share: &str, filter: &str, session: u32) -> bool {
        let Some(slot) = self.slot(share, filter) else { return false };
        let members = &mut self.groups[slot as usize].members;
        let Some(at) = members.iter().position(|known| known.subscriber.session == session) else {
            return false;
        };
        members.remove(at);
        self.recount(slot);
        true
    }

    /// A member's client connected or went away; false if nothing changed.
    pub fn set_connected(&mut self, share: &str, filter: &str, session: u32, connected: bool) -> bool {
        let Some(slot) = self.slot(share, filter) else { return false };
        let members = &mut self.groups[slot as usize].members;
        let Some(member) = members.iter_mut().find(|known| known.subscriber.session == session) else {
            return false;
        };
        if member.connected == connected {
            return false;
        }
        member.connected = connected;
        self.recount(slot);
        true
    }

    /// Another shard's count; true if the set of groups changed.
    pub fn set_count(&mut self, shard: u8, share: &str, filter: &str, connected: u32, members: u32) -> bool {
        if members == 0 && self.slot(share, filter).is_none() {
            return false;
        }
        let (slot, is_new) = self.slot_or_new(share, filter);
        self.groups[slot as usize].counts[usize::from(shard)] = Count { connected, members };
        self.remove_if_empty(share, filter) || is_new
    }

    /// What the other shards must know about this shard's members of a group.
    pub fn count_of(&self, share: &str, filter: &str) -> InterestChange {
        let count = self
            .slot(share, filter)
            .map_or(Count::default(), |slot| self.groups[slot as usize].counts[usize::from(self.shard)]);
        InterestChange::Group {
            share: share.into(),
            filter: filter.into(),
            connected: count.connected,
            members: count.members,
        }
    }

    /// Forgets a group without members; true if it was one.
    pub fn remove_if_empty(&mut self, share: &str, filter: &str) -> bool {
        let Some(slot) = self.slot(share, filter) else { return false };
        if self.groups[slot as usize].total() > 0 {
            return false;
        }
        let group = self.groups.remove(slot as usize);
        self.by_key.remove(&group.key);
        let same_filter = self.by_filter.get_mut(filter).expect("every group is listed under its filter");
        // By its place: one client can have a hundred thousand groups with the same filter.
        let place = group.place as usize;
        assert!(same_filter[place] == slot, "a group knows its place");
        same_filter.swap_remove(place);
        match same_filter.get(place) {
            Some(moved) => self.groups[*moved as usize].place = group.place,
            None if same_filter.is_empty() => drop(self.by_filter.remove(filter)),
            None => {}
        }
        true
    }

    fn slot(&self, share: &str, filter: &str) -> Option<u32> {
        self.by_key.get(&self.keys.group(share, filter)).copied()
    }

    fn slot_or_new(&mut self, share: &str, filter: &str) -> (u32, bool) {
        if let Some(slot) = self.slot(share, filter) {
            return (slot, false);
        }
        let key = self.keys.group(share, filter);
        let same_filter = self.by_filter.entry_or(filter, SmallVec::new);
        let slot = self.groups.insert(Group {
            key,
            share: share.into(),
            filter: filter.into(),
            counts: vec![Count::default(); usize::from(self.shards)].into(),
            place: same_filter.len() as u32,
            members: Vec::new(),
            next_connected: 0,
            next_member: 0,
        }) as u32;
        same_filter.push(slot);
        self.by_key.insert(key, slot);
        (slot, true)
    }

    fn recount(&mut self, slot: u32) {
        let group = &mut self.groups[slot as usize];
        group.counts[usize::from(self.shard)] = Count {
            connected: group.members.iter().filter(|member| member.connected).count() as u32,
            members: group.members.len() as u32,
        };
    }
}

impl Group {
    /// Share name and filter, for messages to people.
    pub fn name(&self) -> String {
        format!("$share/{}/{}", self.share, self.filter)
    }
}
