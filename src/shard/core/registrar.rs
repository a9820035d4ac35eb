//! Which shard a client id's session lives on. The registrar of an id serialises the claims on it.
use super::{ConnId, Core, ShardId};
use crate::router::keys::FingerprintMap;
use crate::shard::envelope::Envelope;

/// Where a client id lives.
#[derive(Clone, Copy, Debug)]
struct Entry {
    home: ShardId,
    claim: u64,
}

/// The client ids that hash to this shard and have a session anywhere.
pub(super) struct Registrar {
    entries: FingerprintMap<Entry>,
    /// Sessions placed by this registrar, by shard.
    placed: Box<[u32]>,
    claims: u64,
}

impl Registrar {
    pub fn new(shards: u8) -> Registrar {
        Registrar {
            entries: FingerprintMap::default(),
            placed: vec![0; usize::from(shards)].into(),
            claims: 0,
        }
    }

    /// Client ids that have a home.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The home of a client id, and the number of this claim. A new id gets the shard with the fewest sessions,
    /// `here` (where the registrar is) among equals.
    fn claim(&mut self, client: u128, here: ShardId) -> (ShardId, u64) {
        self.claims += 1;
        let claim = self.claims;
        if let Some(entry) = self.entries.get_mut(&client) {
            entry.claim = claim;
            return (entry.home, claim);
        }
        let shards = self.placed.len();
        let nearest = (0..shards).map(|step| (usize::from(here) + step) % shards);
        let home = nearest.min_by_key(|shard| self.placed[*shard]).expect("there is at least one shard");
        self.placed[home] += 1;
        self.entries.insert(client, Entry { home: home as ShardId, claim });
        (home as ShardId, claim)
    }

    /// The session is gone, unless its client id was claimed again since.
    pub fn handle_ended(&mut self, client: u128, claim: u64) {
        if self.entries.get(&client).is_some_and(|entry| entry.claim == claim) {
            let entry = self.entries.remove(&client).expect("just found");
            self.placed[usize::from(entry.home)] -= 1;
        }
    }
}

impl Core {
    /// Asked for the home of a client id.
    pub(super) fn handle_locate(&mut self, from: ShardId, client: u128, connection: ConnId) {
        let (home, claim) = self.registrar.claim(client, self.shard);
        self.send(from, Envelope::Home { connection, home, claim });
    }

    /// The session of a claim does not exist (any more).
    pub(super) fn give_up_claim(&mut self, client_id: &str, claim: u64) {
        if self.shards > 1 {
            let client = self.keys.fingerprint(client_id);
            let registrar = self.keys.shard_of(client_id, self.shards);
            self.send(registrar, Envelope::Ended { client, claim });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_clients_are_spread_evenly_and_old_ones_stay() {
        let mut registrar = Registrar::new(3);
        let homes: Vec<u8> = (0..9).map(|client| registrar.claim(client, 1).0).collect();
        assert_eq!(homes, [1, 2, 0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(registrar.claim(4, 1).0, homes[4]);
    }

    #[test]
    fn an_end_that_a_later_claim_overtook_is_ignored() {
        let mut registrar = Registrar::new(2);
        let (home, first) = registrar.claim(1, 0);
        let (again, second) = registrar.claim(1, 0);
        assert_eq!(home, again);
        registrar.handle_ended(1, first);
        assert_eq!(registrar.entries.len(), 1);
        registrar.handle_ended(1, second);
        assert!(registrar.entries.is_empty());
        assert_eq!(registrar.placed.iter().sum::<u32>(), 0);
    }
}
