//! From the batches of all shards to rounds that are stored at once.
//!
//! A change by itself goes into the next round. The parts of one publish go into a round together, once all have come.
//! How many that is the parts say themselves: each names how many others it caused, and is handed over before those it
//! caused can be. A change of a record that a waiting publish is about to change waits for that publish, and so do all
//! that it is to be stored with; so changes of one record are stored in the order in which its shard made them. Waiting
//! cannot go round in a circle: two publishes share no record but a retained message and a packet id, and both of these
//! are changed in the order in which the publisher's shard sent them. (What gives way to the message of a publish is a
//! change by itself.) The messages of one shard's publishers are stored in their order, those that are retained excepted,
//! whose order is that of their topic.
use super::{Batch, Item, Key, Op, Part, Space, key, record};
use bytes::Bytes;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};

/// What becomes of one record in a round.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is written.
    Put(Bytes),
    /// It is removed.
    Remove,
}

/// Changes by record.
pub type Changes = BTreeMap<(Space, Key), Change>;

/// Changes to be stored at once, and what is promised by them.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Round {
    /// By record.
    pub changes: Changes,
    /// Shards and the batch up to which everything is stored with this round.
    pub stored: Vec<(u8, u64)>,
}

/// A change of the next round.
struct Pending {
    change: Change,
    /// Nothing is stored under this key.
    is_new: bool,
    /// The shared payload it refers to.
    holds: u64,
}

/// Batches of one shard that are not stored as a whole.
#[derive(Default)]
struct Stream {
    /// Number of the first of `open`.
    first: u64,
    /// How much of each batch still waits.
    open: VecDeque<u32>,
}

/// Changes that wait for others.
#[derive(Default)]
struct Unit {
    ops: Vec<Op>,
    has_root: bool,
    received: u32,
    forwarded: u32,
    /// Shards and batches that are not complete without it.
    holds_up: SmallVec<[(u8, u64); 4]>,
    /// How many other units must go first.
    behind: u32,
    /// Units that go after it.
    followers: Vec<u64>,
}

impl Unit {
    fn is_whole(&self) -> bool {
        self.has_root && self.received == self.forwarded + 1
    }
    fn is_ready(&self) -> bool {
        self.is_whole() && self.behind == 0
    }
}

/// Messages of sessions that have ended that are removed with one round. There may be very many of them, and others wait.
pub const SWEPT: usize = 4096;

/// A session that has ended, some of whose messages are stored still.
struct Ended {
    session: u64,
    /// None of them has a place before this one.
    from: u64,
    /// There is a record that says so, for the next start.
    is_marked: bool,
}

/// Bit that tells units made here from those that shards have named.
const OWN: u64 = 1 << 63;

/// Batches on their way into rounds.
pub struct Assembly {
    streams: Vec<Stream>,
    units: BTreeMap<u64, Unit>,
    made: u64,
    /// By shard: the last publish that is stored in order.
    last: Vec<u64>,
    /// The last unit that is to change a record, for all records of waiting units.
    claimed: BTreeMap<(Space, Key), u64>,
    /// How many stored records hold a shared payload.
    holders: HashMap<u64, u32, ahash::RandomState>,
    changes: BTreeMap<(Space, Key), Pending>,
    dropped: Vec<u64>,
    ended: VecDeque<Ended>,
    bytes: usize,
}

impl Assembly {
    /// Nothing on its way. `holders`: how many stored records hold each shared payload.
    pub fn new(shards: u8, holders: impl IntoIterator<Item = (u64, u32)>) -> Assembly {
        let mut counts = HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
        counts.extend(holders);
        Assembly {
            streams: (0..shards).map(|_| Stream { first: 1, open: VecDeque::new() }).collect(),
            units: BTreeMap::new(),
            made: 0,
            last: vec![0; usize::from(shards)],
            claimed: BTreeMap::new(),
            holders: counts,
            changes: BTreeMap::new(),
            dropped: Vec::new(),
            ended: VecDeque::new(),
            bytes: 0,
        }
    }

    /// A shard hands over its next batch.
    pub fn add(&mut self, shard: u8, batch: Batch) {
        let stream = &mut self.streams[usize::from(shard)];
        assert_eq!(batch.number, stream.first + stream.open.len() as u64, "batches come one after the other");
        stream.open.push_back(0);
        let place = (shard, batch.number);
        for item in batch.items {
            match item {
                Item::Op(op) if !self.is_claimed(&op) => self.apply(op),
                Item::Op(op) => {
                    let part = Part { unit: 0, is_root: true, forwarded: 0, in_order: false, ops: vec![op] };
                    self.add_part(place, part);
                }
                Item::Part(part) if part.unit == 0 && self.units.is_empty() => {
                    part.ops.into_iter().for_each(|op| self.apply(op));
                }
                Item::Part(part) => self.add_part(place, part),
            }
        }
    }

    fn add_part(&mut self, place: (u8, u64), part: Part) {
        let number = match part.unit {
            0 => {
                self.made += 1;
                self.made | OWN
            }
            unit => unit,
        };
        let mut before = self.predecessors(number, &part.ops);
        if part.in_order && part.is_root {
            let last = std::mem::replace(&mut self.last[usize::from(place.0)], number);
            if last != number && !before.contains(&last) && self.units.contains_key(&last) {
                before.push(last);
            }
        }
        let unit = self.units.entry(number).or_default();
        unit.has_root |= part.is_root;
        unit.received += 1;
        unit.forwarded += part.forwarded;
        unit.holds_up.push(place);
        unit.behind += before.len() as u32;
        let claims: Vec<(Space, Key)> = part.ops.iter().filter_map(subject).collect();
        unit.ops.extend(part.ops);
        let is_ready = unit.is_ready();
        self.streams[usize::from(place.0)].hold_up(place.1);
        for other in before {
            self.units.get_mut(&other).expect("a claim ends with its unit").followers.push(number);
        }
        if is_ready {
            return self.release(number);
        }
        for claim in claims {
            self.claimed.insert(claim, number);
        }
    }

    /// Units that must go before `number` because they change one of the same records.
    fn predecessors(&self, number: u64, ops: &[Op]) -> SmallVec<[u64; 4]> {
        let mut before = SmallVec::new();
        if self.claimed.is_empty() {
            return before;
        }
        let mut note = |other: u64| {
            if other != number && !before.contains(&other) {
                before.push(other);
            }
        };
        for op in ops {
            match subject(op) {
                Some(record) => {
                    if let Some(other) = self.claimed.get(&record) {
                        note(*other);
                    }
                }
                None => self.claims_of_session(op).for_each(&mut note),
            }
        }
        before
    }

    fn is_claimed(&self, op: &Op) -> bool {
        if self.claimed.is_empty() {
            return false;
        }
        match op {
            Op::Put { space, key, .. } | Op::Remove { space, key, .. } => {
                self.claimed.contains_key(&(*space, key.clone()))
            }
            Op::DropSession { .. } => self.claims_of_session(op).next().is_some(),
        }
    }

    /// The units that are to change a record of the session that `op` drops.
    fn claims_of_session(&self, op: &Op) -> impl Iterator<Item = u64> + '_ {
        let Op::DropSession { session } = *op else { unreachable!("other changes name their record") };
        Space::OF_SESSION.into_iter().flat_map(move |space| {
            let first = (space, key::session(session));
            let claims = self
                .claimed
                .range(first..)
                .take_while(move |((of, key), _)| *of == space && key::leading_number(key) == Some(session));
            claims.map(|(_, unit)| *unit)
        })
    }

    /// Takes a unit that waits for nothing any more into the round, and then those that waited for it.
    fn release(&mut self, number: u64) {
        let mut ready = vec![number];
        while let Some(number) = ready.pop() {
            let unit = self.units.remove(&number).expect("a unit is released once");
            for op in unit.ops {
                if let Some(record) = subject(&op)
                    && self.claimed.get(&record) == Some(&number)
                {
                    self.claimed.remove(&record);
                }
                self.apply(op);
            }
            for (shard, batch) in unit.holds_up {
                self.streams[usize::from(shard)].go_on(batch);
            }
            for follower in unit.followers {
                let unit =
                    self.units.get_mut(&follower).expect("a unit does not end before those it follows");
                unit.behind -= 1;
                if unit.is_ready() {
                    ready.push(follower);
                }
            }
        }
    }

    /// Takes a change into the round.
    fn apply(&mut self, op: Op) {
        self.bytes += op.size();
        match op {
            Op::Put { space, key, value, is_new, holds } => {
                if holds > 0 {
                    *self.holders.entry(holds).or_default() += 1;
                }
                let record = (space, key);
                let is_new = is_new || self.changes.get(&record).is_some_and(|pending| pending.is_new);
                self.changes.insert(record, Pending { change: Change::Put(value), is_new, holds });
            }
            Op::Remove { space, key, releases } => {
                self.remove((space, key));
                self.let_go(releases);
            }
            Op::DropSession { session } => self.drop_session(session),
        }
    }

    fn remove(&mut self, record: (Space, Key)) {
        match self.changes.get(&record) {
            Some(pending) if pending.is_new => drop(self.changes.remove(&record)),
            _ => self.erase(record),
        }
    }

    fn erase(&mut self, record: (Space, Key)) {
        self.changes.insert(record, Pending { change: Change::Remove, is_new: false, holds: 0 });
    }

    /// What the round was to write of the session is not written; what is stored goes when the round is taken.
    fn drop_session(&mut self, session: u64) {
        for space in Space::OF_SESSION {
            let range = self.changes.range((space, key::session(session))..);
            let of_session =
                range.take_while(|((of, key), _)| *of == space && key::leading_number(key) == Some(session));
            let written = of_session.filter(|(_, pending)| pending.change != Change::Remove);
            let written: Vec<_> = written.map(|(record, _)| record.clone()).collect();
            for record in written {
                let holds = self.changes.remove(&record).map_or(0, |pending| pending.holds);
                self.let_go(holds);
            }
        }
        self.dropped.push(session);
    }

    /// One holder of a shared payload is gone; with the last one it goes.
    fn let_go(&mut self, message: u64) {
        let Some(count) = self.holders.get_mut(&message) else { return };
        *count -= 1;
        if *count == 0 {
            self.holders.remove(&message);
            self.remove((Space::Message, key::number(message)));
        }
    }

    /// Bytes in the round so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages of these sessions, which have ended, are stored still.
    pub fn go_on_with(&mut self, sessions: impl IntoIterator<Item = u64>) {
        let ended = sessions.into_iter().map(|session| Ended { session, from: 0, is_marked: true });
        self.ended.extend(ended);
    }

    /// There is something to remove that nobody waits for.
    pub fn is_sweeping(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Removes some messages of sessions that have ended; sees to it that the next start knows of the others.
    fn sweep(&mut self, stored: &mut impl FnMut(u64, Option<u64>) -> Vec<(Space, Key, u64)>) {
        let mut left = SWEPT;
        while left > 0
            && let Some(Ended { session, from, is_marked }) = self.ended.pop_front()
        {
            let found = stored(session, Some(from));
            let (count, last) = (found.len(), found.last().and_then(|(_, key, _)| key::position(key)));
            for (space, key, holds) in found {
                self.erase_stored((space, key), holds);
            }
            if count >= SWEPT {
                let from = last.map_or(from, |last| last + 1);
                self.ended.push_front(Ended { session, from, is_marked });
            } else if is_marked {
                self.erase((Space::Meta, key::ended(session)));
            }
            left = left.saturating_sub(count.max(1));
        }
        let unmarked: Vec<u64> =
            self.ended.iter().filter(|ended| !ended.is_marked).map(|ended| ended.session).collect();
        for session in unmarked {
            let change = Change::Put(record::encode_mark());
            let pending = Pending { change, is_new: false, holds: 0 };
            self.changes.insert((Space::Meta, key::ended(session)), pending);
        }
        self.ended.iter_mut().for_each(|ended| ended.is_marked = true);
    }

    /// A record that is stored goes, unless the round does something about it already.
    fn erase_stored(&mut self, record: (Space, Key), holds: u64) {
        if !self.changes.contains_key(&record) {
            self.erase(record);
            self.let_go(holds);
        }
    }

    /// Everything that can be stored now; `None` if that is nothing and promises nothing. `stored` looks up what there
    /// is of a session: its records, each with the shared payload it holds; without a place all but its messages, with
    /// one [`SWEPT`] messages from there on.
    pub fn take_round(
        &mut self,
        mut stored: impl FnMut(u64, Option<u64>) -> Vec<(Space, Key, u64)>,
    ) -> Option<Round> {
        for session in std::mem::take(&mut self.dropped) {
            for (space, key, holds) in stored(session, None) {
                self.erase_stored((space, key), holds);
            }
            self.ended.push_back(Ended { session, from: 0, is_marked: false });
        }
        self.sweep(&mut stored);
        let changes = std::mem::take(&mut self.changes).into_iter();
        let mut round =
            Round { changes: changes.map(|(record, it)| (record, it.change)).collect(), stored: Vec::new() };
        self.bytes = 0;
        for (shard, stream) in self.streams.iter_mut().enumerate() {
            if let Some(number) = stream.finish() {
                round.stored.push((shard as u8, number));
            }
        }
        (round != Round::default()).then_some(round)
    }

    /// Units that wait.
    pub fn waiting(&self) -> usize {
        self.units.len()
    }
}

impl Stream {
    fn hold_up(&mut self, batch: u64) {
        self.open[(batch - self.first) as usize] += 1;
    }
    fn go_on(&mut self, batch: u64) {
        self.open[(batch - self.first) as usize] -= 1;
    }
    /// The last batch of those that are complete.
    fn finish(&mut self) -> Option<u64> {
        let before = self.first;
        while self.open.front() == Some(&0) {
            self.open.pop_front();
            self.first += 1;
        }
        (self.first > before).then(|| self.first - 1)
    }
}

/// The record that a change is about; `None` if it is about all of a session.
fn subject(op: &Op) -> Option<(Space, Key)> {
    match op {
        Op::Put { space, key, .. } | Op::Remove { space, key, .. } => Some((*space, key.clone())),
        Op::DropSession { .. } => None,
    }
}
