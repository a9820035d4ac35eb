//! Which shard a client id's session lives on. The registrar of an id counts the claims on it: each CONNECT has one
//! from when it asks until its session ends, or until it turns out that the session has one already.
use super::{ConnId, Core, ShardId};
use crate::router::keys::FingerprintMap;
use crate::shard::envelope::Envelope;

/// Where a client id lives.
#[derive(Clone, Copy, Debug)]
struct Entry {
    home: ShardId,
    claims: u32,
}

/// The client ids that hash to this shard and have a session anywhere.
pub(super) struct Registrar {
    entries: FingerprintMap<Entry>,
    /// Sessions placed by this registrar, by shard.
    placed: Box<[u32]>,
}

impl Registrar {
    pub fn new(shards: u8) -> Registrar {
        Registrar { entries: FingerprintMap::default(), placed: vec![0; usize::from(shards)].into() }
    }

    /// Client ids that have a home.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The home of a client id, which is claimed once more. A new id gets the shard with the fewest sessions, `here`
    /// (where the registrar is) among equals.
    fn claim(&mut self, client: u128, here: ShardId) -> ShardId {
        if let Some(entry) = self.entries.get_mut(&client) {
            entry.claims += 1;
            return entry.home;
        }
        let shards = self.placed.len();
        let nearest = (0..shards).map(|step| (usize::from(here) + step) % shards);
        let home = nearest.min_by_key(|shard| self.placed[*shard]).expect("there is at least one shard");
        self.placed[home] += 1;
        self.entries.insert(client, Entry { home: home as ShardId, claims: 1 });
        home as ShardId
    }

    /// After a restart: the home of a client id that has a session.
    pub fn restore(&mut self, client: u128, home: ShardId) {
        self.placed[usize::from(home)] += 1;
        self.entries.insert(client, Entry { home, claims: 1 });
    }

    /// One claim is given up; the id is forgotten with the last one.
    pub fn handle_ended(&mut self, client: u128) {
        let entry = self.entries.get_mut(&client).expect("a claim is given up once");
        entry.claims -= 1;
        if entry.claims == 0 {
            self.placed[usize::from(entry.home)] -= 1;
            self.entries.remove(&client);
        }
    }
}

impl Core {
    /// Asked for the home of a client id.
    pub(super) fn handle_locate(&mut self, from: ShardId, client: u128, connection: ConnId) {
        let home = self.registrar.claim(client, self.shard);
        self.send(from, Envelope::Home { client, connection, home });
    }

    /// A claim on the client id with this fingerprint has no session (any more), or is one too many for it.
    pub(super) fn give_up_claim(&mut self, client: u128) {
        if self.shards > 1 {
            let registrar = self.keys.shard_of_fingerprint(client, self.shards);
            self.send(registrar, Envelope::Ended { client });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_clients_are_spread_evenly_and_old_ones_stay() {
        let mut registrar = Registrar::new(3);
        let homes: Vec<u8> = (0..9).map(|client| registrar.claim(client, 1)).collect();
        assert_eq!(homes, [1, 2, 0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(registrar.claim(4, 1), homes[4]);
    }

    #[test]
    fn an_id_is_forgotten_with_its_last_claim() {
        let mut registrar = Registrar::new(2);
        assert_eq!(registrar.claim(1, 0), registrar.claim(1, 0));
        registrar.handle_ended(1);
        assert_eq!(registrar.entries.len(), 1);
        registrar.handle_ended(1);
        assert!(registrar.entries.is_empty());
        assert_eq!(registrar.placed.iter().sum::<u32>(), 0);
    }
}
