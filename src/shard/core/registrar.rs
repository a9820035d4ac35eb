//! Which shard a client id's session lives on. The registrar of an id serialises the claims on it.
use super::{ConnId, Core, ShardId};
use crate::router::keys::FingerprintMap;
use crate::shard::envelope::Envelope;

/// Where a client id lives.
#[derive(Clone, Copy, Debug)]
struct Entry {
    home: ShardId,
    /// Claims whose end was not told. They reach the home, and their ends the registrar, in any order; while there
    /// is one, everybody who claims the id is sent to the same home.
    claims: u64,
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

    /// The home of a client id. A new id gets the shard with the fewest sessions, `here` (where the registrar is)
    /// among equals.
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

    /// Some claims ended: by the end of their session, or because they came to nothing.
    pub fn handle_ended(&mut self, client: u128, claims: u64) {
        let entry = self.entries.get_mut(&client).expect("an id is known while it is claimed");
        assert!(entry.claims >= claims, "a claim ends once");
        entry.claims -= claims;
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

    /// Claims on a client id have ended.
    pub(super) fn give_up_claims(&mut self, client_id: &str, claims: u64) {
        if self.shards > 1 {
            let client = self.keys.fingerprint(client_id);
            let registrar = self.keys.shard_of(client_id, self.shards);
            self.send(registrar, Envelope::Ended { client, claims });
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
    fn a_home_is_kept_until_every_claim_ended() {
        let mut registrar = Registrar::new(2);
        let home = registrar.claim(1, 0);
        assert_eq!(registrar.claim(1, 0), home);
        assert_eq!(registrar.claim(1, 0), home);
        registrar.handle_ended(1, 2);
        assert_eq!(registrar.claim(1, 1), home);
        registrar.handle_ended(1, 1);
        registrar.handle_ended(1, 1);
        assert!(registrar.entries.is_empty());
        assert_eq!(registrar.placed.iter().sum::<u32>(), 0);
    }
}
