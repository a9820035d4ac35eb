//! Publishers whose messages cost another shard much. The way between two shards is bounded by a number of envelopes, which
//! says little about the work in them. So the shard that had much work tells the one it came from, and there the publisher
//! goes on when its last message was delivered: whatever else goes the same way waits behind one piece of work of each such
//! publisher, not behind all that they can send.
use super::budget::{WORK_AT_ONCE, work_of_each};
use super::{ConnId, Core, ShardId};
use crate::session::message::SessionKey;
use crate::shard::envelope::Envelope;
use std::collections::BTreeMap;

/// Work of one envelope from which on its publisher is told of: a millisecond or so.
const HEAVY_WORK: u64 = WORK_AT_ONCE / 8;
/// Work of all envelopes from one shard, from which on the publisher of the next one is told of: whoever causes most of it
/// is told of most often.
const HEAVY_SUM: u64 = WORK_AT_ONCE / 2;
/// Publishers that are known to be heavy at most; one more and all are forgotten until they are told of again.
const MAX_HEAVY: usize = 1024;

/// Packets of others in a row after which all are forgotten: those that are known may be gone.
const MISSES: u32 = 4096;

/// Publishers of this shard that gave another one much work since they waited last, and the work that others gave this one.
pub(super) struct Heavy {
    /// With the work of one message.
    publishers: BTreeMap<SessionKey, u32>,
    /// Packets of others since one of them was held back.
    misses: u32,
    /// By shard: work of its envelopes since one of its publishers was told of.
    sums: Box<[u64]>,
}

impl Heavy {
    pub fn new(shards: u8) -> Heavy {
        Heavy { publishers: BTreeMap::new(), misses: 0, sums: vec![0; usize::from(shards)].into() }
    }
}

impl Core {
    /// Messages that a publisher sent from another shard were delivered here, since `before` ([`Core::work_done`]).
    pub(super) fn tell_if_heavy(&mut self, from: ShardId, publisher: SessionKey, before: u64, messages: u32) {
        let work = self.work_done() - before;
        let sum = &mut self.heavy.sums[usize::from(from)];
        *sum += work;
        if work >= HEAVY_WORK || *sum >= HEAVY_SUM {
            *sum = 0;
            self.send(from, Envelope::Heavy { publisher, work: work_of_each(work, messages) });
        }
    }

    pub(super) fn handle_heavy(&mut self, publisher: SessionKey, work: u32) {
        if self.heavy.publishers.len() >= MAX_HEAVY {
            self.heavy.publishers.clear();
        }
        self.heavy.publishers.insert(publisher, work);
        self.heavy.misses = 0;
    }

    /// After a packet of a connection: whether what comes behind it, `rest`, waits for other shards.
    #[inline]
    pub(super) fn awaits_others(&mut self, slot: u32, rest: &[u8]) -> bool {
        !self.heavy.publishers.is_empty() && self.await_others(slot, rest)
    }

    #[cold]
    fn await_others(&mut self, slot: u32, rest: &[u8]) -> bool {
        self.heavy.misses += 1;
        if self.heavy.misses > MISSES {
            self.heavy.publishers.clear();
            self.heavy.misses = 0;
            return false;
        }
        let connection = &self.connections[slot as usize];
        let Some(route) = connection.route.upgrade().filter(|route| !route.shards.is_empty()) else {
            return false;
        };
        let Some(session) = self.sessions.get(connection.session as usize) else { return false };
        let Some(work) = self.heavy.publishers.remove(&session.key) else { return false };
        self.connections[slot as usize].extras().work_afar = work;
        self.heavy.misses = 0;
        let conn = self.id(slot);
        let mut marks = 0;
        for shard in route.shards {
            self.send(shard, Envelope::Mark(conn));
            marks += 1;
        }
        self.connections[slot as usize].extras().marks = marks;
        self.hold(slot, [rest, &[]]);
        true
    }

    /// Work of one message of a connection on other shards, as far as they told of it: what it sends next is cut into such
    /// pieces that each can be done at once. It is told of again if it is still so.
    pub(super) fn work_afar(&mut self, slot: u32) -> u32 {
        let Some(extras) = &mut self.connections[slot as usize].extras else { return 0 };
        let work = extras.work_afar;
        extras.work_afar /= 2;
        work
    }

    /// Everything that was sent before is done.
    pub(super) fn handle_mark(&mut self, from: ShardId, conn: ConnId) {
        self.send(from, Envelope::Marked(conn));
    }

    pub(super) fn handle_marked(&mut self, conn: ConnId) {
        if !self.is_live(conn) {
            return;
        }
        let Some(extras) = &mut self.connections[conn.slot as usize].extras else { return };
        if extras.marks > 0 {
            extras.marks -= 1;
            if extras.marks == 0 {
                self.put_off.push_back(conn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Origin;
    use crate::limits::Limits;
    use crate::limits::profiles::Profiles;
    use crate::shard::core::connection::Phase;
    use crate::shard::core::{CloseCause, CoreConfig, OUTBOX_BYTES};
    use crate::time::Time;
    use std::sync::Arc;

    const NOW: Time = Time(1000);
    /// Levels of a topic that 2 to their power filters match.
    const LEVELS: usize = 13;

    fn packet(first: u8, body: &[u8]) -> Vec<u8> {
        let (mut bytes, mut rest) = (vec![first], body.len());
        loop {
            bytes.push(rest as u8 & 0x7f | if rest > 0x7f { 0x80 } else { 0 });
            rest >>= 7;
            if rest == 0 {
                return [bytes, body.to_vec()].concat();
            }
        }
    }

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
    }

    /// A client whose home is `shard`: ids are tried until there is one.
    fn client(cores: &mut [Core], shard: usize, name: &str) -> ConnId {
        for number in 0.. {
            let conn = cores[shard].handle_accept(NOW, Origin::default()).expect("room");
            let id = text(&format!("{name}{number}"));
            let connect = [&[0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0][..], &id].concat();
            cores[shard].handle_bytes(NOW, conn, &packet(0x10, &connect));
            cross(cores);
            if cores[shard].connections[conn.slot as usize].phase == Phase::Connected {
                return conn;
            }
            cores[shard].handle_close(NOW, conn, CloseCause::Eof);
        }
        unreachable!("half of all ids are at home on each shard")
    }

    /// A topic of many levels, its own for each number.
    fn publish(number: usize) -> Vec<u8> {
        let levels: Vec<String> =
            (0..LEVELS).map(|level| if level == 0 { format!("n{number}") } else { "x".into() }).collect();
        packet(0x30, &text(&levels.join("/")))
    }

    /// Moves envelopes until none is left; how many messages went from 0 to 1 at a time, before 1 answered.
    fn cross(cores: &mut [Core]) -> Vec<usize> {
        let mut at_a_time = Vec::new();
        loop {
            let mut moved = 0;
            for from in 0..2 {
                if cores[from].next_deadline() <= NOW {
                    cores[from].handle_deadlines(NOW);
                }
                let outbox = cores[from].outbox(1 - from as u8);
                let envelopes: Vec<Envelope> = std::iter::from_fn(|| outbox.pop_front()).collect();
                moved += envelopes.len();
                let messages = envelopes
                    .iter()
                    .filter(|envelope| matches!(envelope, Envelope::Run { .. } | Envelope::Publish(_)));
                if from == 0 {
                    at_a_time.push(messages.count());
                }
                for envelope in envelopes {
                    cores[1 - from].handle_envelope(NOW, from as u8, envelope);
                }
                while cores[from].poll_action().is_some() {}
            }
            if moved == 0 && cores.iter().all(|core| core.next_deadline() > NOW) {
                return at_a_time;
            }
        }
    }

    fn cores() -> [Core; 2] {
        let profiles =
            Profiles::from(Limits { sys_interval_ms: 0, max_subscriptions: usize::MAX, ..Limits::default() });
        let (limits, policy) = (Arc::new(profiles), Arc::default());
        let config = |shard| CoreConfig {
            shard,
            shards: 2,
            seed: 3,
            limits: limits.clone(),
            policy: Arc::clone(&policy),
        };
        [0, 1].map(|shard| Core::new(config(shard), NOW))
    }

    #[test]
    fn who_gives_another_shard_much_work_waits_for_it_and_others_do_not() {
        let mut cores = cores();
        let subscriber = client(&mut cores, 1, "s");
        let mut filters = Vec::new();
        for number in 0..1 << LEVELS {
            // The first level is never given, so that each matches every topic.
            let levels =
                (0..LEVELS).map(|level| if level == 0 || number >> level & 1 == 0 { "+" } else { "x" });
            let filter = levels.collect::<Vec<_>>().join("/");
            filters.extend([text(&filter), vec![0]].concat());
        }
        cores[1].handle_bytes(NOW, subscriber, &packet(0x82, &[vec![0, 1], filters].concat()));
        cross(&mut cores);
        let [heavy, light] = ["h", "l"].map(|name| client(&mut cores, 0, name));
        // Nothing is known of it at first.
        cores[0].handle_bytes(NOW, heavy, &[publish(0), publish(1)].concat());
        assert_eq!(cross(&mut cores).into_iter().max(), Some(2));
        // Then it goes on with one message at a time, whatever it sends.
        let many: Vec<u8> = (2..12).flat_map(publish).collect();
        cores[0].handle_bytes(NOW, heavy, &many);
        let at_a_time = cross(&mut cores);
        assert_eq!((at_a_time.iter().sum::<usize>(), at_a_time.into_iter().max()), (10, Some(1)));
        // In pieces that each end one packet and begin another, too.
        let many: Vec<u8> = (20..30).flat_map(publish).collect();
        let piece = publish(20).len();
        cores[0].handle_bytes(NOW, heavy, &many[..piece / 2]);
        many[piece / 2..].chunks(piece).for_each(|piece| cores[0].handle_bytes(NOW, heavy, piece));
        let at_a_time = cross(&mut cores);
        assert_eq!((at_a_time.iter().sum::<usize>(), at_a_time.into_iter().max()), (10, Some(1)));
        // What another one sends is not held because of it.
        cores[0].handle_bytes(NOW, heavy, &publish(12));
        cores[0].handle_bytes(NOW, light, &[publish(13), publish(14)].concat());
        assert_eq!(
            cores[0].outbox(1).iter().filter(|envelope| !matches!(envelope, Envelope::Mark(_))).count(),
            3
        );
        cross(&mut cores);
        // Neither is one that is gone waited for, nor does it go on.
        cores[0].handle_bytes(NOW, heavy, &publish(15));
        cores[0].handle_close(NOW, heavy, CloseCause::Eof);
        cross(&mut cores);
        cores.iter().for_each(|core| drop(core.audit()));
        assert_eq!(cores[1].counters().packets_sent[3], 26);
        // One that does not come back is forgotten.
        cores[0].heavy.publishers = [(SessionKey(99), 1)].into();
        (0..=MISSES).for_each(|_| assert!(!cores[0].awaits_others(light.slot, &[])));
        assert!(cores[0].heavy.publishers.is_empty());
    }

    #[test]
    fn few_bytes_do_not_fill_the_way_to_another_shard_beyond_its_bound() {
        let mut cores = cores();
        let subscriber = client(&mut cores, 1, "s");
        let subscribe = packet(0x82, &[vec![0, 1], text("#"), vec![0]].concat());
        cores[1].handle_bytes(NOW, subscriber, &subscribe);
        cross(&mut cores);
        // A message for all is a few bytes with an alias, and a topic of many on the way.
        let publisher = client_5(&mut cores);
        let topic = text(&"t".repeat(60_000));
        let first = packet(0x30, &[topic, vec![3, 0x23, 0, 1]].concat());
        let again = packet(0x30, &[0, 0, 3, 0x23, 0, 1]);
        cores[0].handle_bytes(NOW, publisher, &first);
        let count = 64 * 1024 / again.len();
        cores[0].handle_bytes(NOW, publisher, &again.repeat(count));
        let weight = cores[0].outbox(1).weight();
        assert!(!cores[0].wants_input() && weight < OUTBOX_BYTES + 2 * 64 * 1024, "{weight}");
        // The others follow.
        let sent: usize = cross(&mut cores).into_iter().sum();
        assert_eq!(sent, 1 + count);
        // Filters that are told to another shard weigh what they are.
        let long = text(&format!("{}/+", "x".repeat(60_000)));
        cores[0].handle_bytes(NOW, publisher, &packet(0x82, &[vec![0, 2, 0], long, vec![0]].concat()));
        assert!(cores[0].outbox(1).weight() > 60_000);
    }

    /// A client of version 5 at home on shard 0.
    fn client_5(cores: &mut [Core]) -> ConnId {
        for number in 0.. {
            let conn = cores[0].handle_accept(NOW, Origin::default()).expect("room");
            let id = text(&format!("p{number}"));
            let connect = [&[0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0][..], &id].concat();
            cores[0].handle_bytes(NOW, conn, &packet(0x10, &connect));
            cross(cores);
            if cores[0].is_live(conn) {
                return conn;
            }
        }
        unreachable!("half of all ids are at home on each shard")
    }
}
