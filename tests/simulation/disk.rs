//! The disk of the simulation: it stores batches late, tells of it later, and answers what is asked for at any time
//! after that. Records are kept as they are; what joins them is the real thing.
use ringmq::shard::core::Command;
use ringmq::store::assembly::{Assembly, Change, SWEPT};
use ringmq::store::queue::Wanted;
use ringmq::store::record::{self, Wall};
use ringmq::store::{Batch, Key, Space, key};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;

/// The wall clock when virtual time begins.
pub const WALL: Wall = Wall(1_000_000);

/// One thing that the disk can do next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Take the next batch.
    Take,
    /// Store everything that was taken, as far as it is whole.
    Round,
    /// Tell a shard what is stored.
    Tell(usize),
    /// Read what a shard wants.
    Read(usize),
}

/// What is stored, and what is on its way.
pub struct Disk {
    records: BTreeMap<(Space, Key), Vec<u8>>,
    assembly: Assembly,
    /// With their shards, in the order in which they were handed over.
    batches: VecDeque<(usize, Batch)>,
    is_taken: bool,
    stored: Vec<Option<u64>>,
    wishes: Vec<VecDeque<Wanted>>,
    /// Messages that were read back.
    pub read_back: u64,
}

impl Disk {
    /// An empty one.
    pub fn new(shards: usize) -> Disk {
        Disk {
            records: BTreeMap::new(),
            assembly: Assembly::new(shards as u8, []),
            batches: VecDeque::new(),
            is_taken: false,
            stored: vec![None; shards],
            wishes: (0..shards).map(|_| VecDeque::new()).collect(),
            read_back: 0,
        }
    }

    /// Records that are stored, those about the store itself left out.
    pub fn records(&self) -> impl Iterator<Item = &(Space, Key)> {
        self.records.keys()
    }

    /// A shard hands over its next batch.
    pub fn hand_over(&mut self, shard: usize, batch: Batch) {
        self.batches.push_back((shard, batch));
    }

    /// A shard wants something back.
    pub fn wish(&mut self, shard: usize, wanted: Wanted) {
        self.wishes[shard].push_back(wanted);
    }

    /// All that can be done now.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        let shards = 0..self.stored.len();
        let of_shards = shards.flat_map(|shard| {
            [
                self.stored[shard].map(|_| Step::Tell(shard)),
                (!self.wishes[shard].is_empty()).then_some(Step::Read(shard)),
            ]
        });
        let own = [(!self.batches.is_empty()).then_some(Step::Take), self.is_taken.then_some(Step::Round)];
        of_shards.flatten().chain(own.into_iter().flatten())
    }

    /// Does it; what a shard is told.
    pub fn take(&mut self, step: Step) -> Option<(usize, Command)> {
        match step {
            Step::Take => {
                let (shard, batch) = self.batches.pop_front().expect("there is one");
                self.assembly.add(shard as u8, batch);
                self.is_taken = true;
                None
            }
            Step::Round => {
                self.store();
                None
            }
            Step::Tell(shard) => {
                let number = self.stored[shard].take().expect("there is something to tell");
                Some((shard, Command::Stored(number)))
            }
            Step::Read(shard) => {
                let wanted = self.wishes[shard].pop_front().expect("there is one");
                Some((shard, self.read(&wanted)))
            }
        }
    }

    fn store(&mut self) {
        let records = &self.records;
        let round = self.assembly.take_round(|session, from| of_session(records, session, from));
        let Some(round) = round else {
            self.is_taken = false;
            return;
        };
        for (record, change) in round.changes {
            match change {
                Change::Put(value) => drop(self.records.insert(record, value.to_vec())),
                Change::Remove => drop(self.records.remove(&record)),
            }
        }
        self.is_taken = self.assembly.is_sweeping();
        for (shard, number) in round.stored {
            self.stored[usize::from(shard)] = Some(number);
        }
    }

    fn read(&mut self, wanted: &Wanted) -> Command {
        let place = |position| (Space::Queue, key::entry(wanted.session, position));
        let entries = self.records.range(place(wanted.from)..=place(wanted.to));
        let entries = entries.map(|((_, key), value)| Ok::<_, Infallible>((key, value)));
        let payload = |number| {
            let value = self.records.get(&(Space::Message, key::number(number)));
            Ok(value.map(|value| value.clone().into()))
        };
        let Ok((found, damaged)) = wanted.read(WALL, entries, payload);
        assert!(damaged.is_empty(), "{damaged:?}");
        self.read_back += found.deliveries.len() as u64;
        Command::Found(found)
    }
}

/// Records of a session, each with the shared payload that it holds: without a place all but its messages, with one
/// the messages from there on.
fn of_session(
    records: &BTreeMap<(Space, Key), Vec<u8>>,
    session: u64,
    from: Option<u64>,
) -> Vec<(Space, Key, u64)> {
    if let Some(from) = from {
        let place = |position| (Space::Queue, key::entry(session, position));
        let entries = records.range(place(from)..=place(u64::MAX)).take(SWEPT);
        return entries.map(|((space, key), value)| (*space, key.clone(), record::holds(value))).collect();
    }
    let mut found = Vec::new();
    for space in Space::OF_SESSION.into_iter().filter(|space| *space != Space::Queue) {
        let range = records.range((space, key::session(session))..);
        let of_session =
            range.take_while(|((of, key), _)| *of == space && key::leading_number(key) == Some(session));
        found.extend(of_session.map(|((_, key), _)| (space, key.clone(), 0)));
    }
    found
}
