//! Runs at QoS 1 and 2: what comes in rows of the same kind is looked up once and taken as a whole.
//!
//! Where something is stored, only for sessions that end with their connections. What a session that outlives its
//! connection may have to repeat is kept as the row that it came in. Everything else goes the ordinary way, packet by
//! packet, and so does the first packet here that is not quite like the others.
use super::Core;
use super::connection::Phase;
use super::publish::plain_publication;
use crate::codec::{PacketType, QoS, ReasonCode};
use crate::limits::Limits;
use crate::router::{Route, RouteSubscriber, When};
use crate::session::Session;
use crate::session::message::{SHARE_FROM, SessionKey};
use crate::session::outgoing::Acknowledged;
use crate::session::run::{
    ACK_LEN, Run, acknowledged, begins_acknowledged_run, cut_acknowledged_run, readdress,
};
use crate::shard::envelope::Envelope;
use crate::time::Time;
use bytes::Bytes;

impl Core {
    /// Publishes a run of QoS 1 or 2 for the topic of `route` and acknowledges it; the bytes used, `None` if the first
    /// packet has to go the ordinary way.
    pub(super) fn receive_acknowledged_run(
        &mut self,
        now: Time,
        slot: u32,
        route: &Route,
        bytes: &[u8],
    ) -> Option<usize> {
        let connection = &self.connections[slot as usize];
        let (publisher, v5) = (connection.session as usize, connection.is_v5());
        let topic = route.topic.as_bytes();
        if !begins_acknowledged_run(bytes, v5, topic) || !self.takes_acknowledged_run(publisher, route) {
            return None;
        }
        let Limits { max_packet, max_qos, receive_maximum, .. } = self.profiles[connection.profile].limits;
        let run = cut_acknowledged_run(bytes, v5, max_packet, topic)?;
        let mut run = run.split(self.most_at_once(slot, route, true)).0;
        if run.qos as u8 > max_qos {
            return None;
        }
        let session = &mut self.sessions[publisher];
        let key = session.key;
        if run.qos == QoS::ExactlyOnce {
            let most = usize::from(if v5 { receive_maximum } else { u16::MAX });
            let incoming = session.incoming();
            // An id that is there already is a repetition, one too many is an error: the ordinary way.
            let count = run.ids().take_while(|id| incoming.len() < most && incoming.insert(*id)).count();
            if count == 0 {
                return None;
            }
            run = run.split(count).0;
        }
        self.counters.packets_received[PacketType::Publish as usize] += u64::from(run.count);
        self.counters.publish_bytes_received += run.payload_bytes;
        let mut kept = None;
        if route.shards.is_empty() {
            self.counters.publishes_local += u64::from(run.count);
        }
        for shard in route.shards {
            let bytes = kept.get_or_insert_with(|| Bytes::copy_from_slice(run.bytes)).clone();
            self.send(shard, Envelope::Run { bytes, v5, publisher: key });
        }
        self.deliver_acknowledged_run_along(now, route, &run, key, kept);
        self.acknowledge_run(slot, &run);
        Some(run.bytes.len())
    }

    /// Whether nothing that concerns the run is stored, and somebody gets it. Groups choose for each packet.
    fn takes_acknowledged_run(&self, publisher: usize, route: &Route) -> bool {
        let is_fleeting = |session: &Session| !session.is_persistent() && session.connection.is_some();
        let is_kept_nowhere = || {
            route.shards.is_empty()
                && is_fleeting(&self.sessions[publisher])
                && route
                    .direct
                    .iter()
                    .all(|subscriber| is_fleeting(&self.sessions[subscriber.session as usize]))
        };
        !(route.direct.is_empty() && route.shards.is_empty())
            && route.groups.is_empty()
            && !self.profiles.refuses
            && (self.store.is_none() || is_kept_nowhere())
    }

    /// To this shard's own subscribers. `kept`: the run as something that can be kept, if there is that already.
    pub(super) fn deliver_acknowledged_run_along(
        &mut self,
        now: Time,
        route: &Route,
        run: &Run<'_>,
        publisher: SessionKey,
        mut kept: Option<Bytes>,
    ) {
        let before = self.work_done();
        self.spend(route, run.count, true);
        let mut left = Vec::new();
        for subscriber in &route.direct {
            let done = self.deliver_acknowledged_run(route, subscriber, run, publisher, &mut kept);
            if done < run.count {
                left.push((subscriber, done));
            }
        }
        if !left.is_empty() {
            self.deliver_left(now, route, run, publisher, &left);
        }
        self.note_work(route, before, run.count);
    }

    /// The packets of a run that were not done with for some subscribers, each of which has that many behind it.
    fn deliver_left(
        &mut self,
        now: Time,
        route: &Route,
        run: &Run<'_>,
        publisher: SessionKey,
        left: &[(&RouteSubscriber, u32)],
    ) {
        // One publication for all of them, so that what many sessions keep is kept once.
        for (place, payload) in (0..).zip(run.payloads()) {
            let publication = plain_publication(&route.topic, payload, run.qos, publisher);
            for (subscriber, done) in left {
                if place >= *done {
                    let ids = route.ids(subscriber);
                    self.deliver(now, subscriber.session, &publication, subscriber.qos, false, ids, None);
                }
            }
        }
    }

    /// How many of the run, from its front on, are done with.
    fn deliver_acknowledged_run(
        &mut self,
        route: &Route,
        subscriber: &RouteSubscriber,
        run: &Run<'_>,
        publisher: SessionKey,
        kept: &mut Option<Bytes>,
    ) -> u32 {
        let session = &mut self.sessions[subscriber.session as usize];
        if subscriber.when != When::Always && (session.key == publisher) != (subscriber.when == When::OwnOnly)
        {
            return run.count;
        }
        let ids = route.ids(subscriber);
        let qos = run.qos.min(subscriber.qos);
        let Some(slot) = session.connection else { return 0 };
        let must_keep = session.is_persistent();
        let connection = &mut self.connections[slot as usize];
        let fits = qos > QoS::AtMostOnce
            && connection.output.len() <= self.profiles[connection.profile].output_mark
            && connection.takes_verbatim(run, ids, SHARE_FROM);
        let outgoing = session.outgoing();
        let room = if fits { usize::from(outgoing.room(connection.quota)) } else { 0 };
        let first = run.split(room).0;
        if first.count > 0 {
            let out = connection.writer(slot, &mut self.buffers, &mut self.dirty);
            let before = out.len();
            out.extend_from_slice(first.bytes);
            if must_keep {
                let kept = kept.get_or_insert_with(|| Bytes::copy_from_slice(run.bytes));
                outgoing.keep_row(kept.slice(..first.bytes.len()), run.v5, publisher, first.count);
                readdress(&mut out[before..], qos, |at| outgoing.begin_in_row(qos, at));
            } else {
                readdress(&mut out[before..], qos, |_| outgoing.begin(qos, None));
            }
            self.counters.packets_sent[PacketType::Publish as usize] += u64::from(first.count);
            self.counters.publish_bytes_sent += first.payload_bytes;
            if connection.output.len() > self.profiles[connection.profile].output_bound {
                self.doom(slot, ReasonCode::QuotaExceeded);
            }
        }
        first.count
    }

    /// PUBACK or PUBREC for every packet of a run that went to somebody.
    fn acknowledge_run(&mut self, slot: u32, run: &Run<'_>) {
        let packet = if run.qos == QoS::AtLeastOnce { PacketType::PubAck } else { PacketType::PubRec };
        let ids = run.ids();
        self.write_acks(slot, packet, ids);
    }

    /// Acknowledgements of one kind that say nothing but their packet id, at the front of `bytes`; the bytes used,
    /// `None` if the first one has to go the ordinary way.
    pub(super) fn receive_acks(&mut self, now: Time, slot: u32, bytes: &[u8]) -> Option<usize> {
        let packet = PacketType::from_bits(bytes[0] >> 4)?;
        let connection = &self.connections[slot as usize];
        if connection.phase != Phase::Connected || bytes[0] != packet.first() {
            return None;
        }
        let session = &mut self.sessions[connection.session as usize];
        if self.store.is_some() && session.is_persistent() {
            return None;
        }
        let ids = acknowledged(bytes, packet.first());
        let count = match packet {
            PacketType::PubRel => {
                let incoming = session.incoming.as_mut()?;
                ids.take_while(|id| incoming.release(*id)).count()
            }
            PacketType::PubAck => {
                let outgoing = session.outgoing.as_mut()?;
                ids.take_while(|id| outgoing.handle_puback(*id) == Acknowledged::Finished).count()
            }
            PacketType::PubRec => {
                let outgoing = session.outgoing.as_mut()?;
                ids.take_while(|id| outgoing.handle_pubrec(*id, false) == Acknowledged::Release).count()
            }
            PacketType::PubComp => {
                let outgoing = session.outgoing.as_mut()?;
                ids.take_while(|id| outgoing.handle_pubcomp(*id) == Acknowledged::Finished).count()
            }
            _ => return None,
        };
        if count == 0 {
            return None;
        }
        self.counters.packets_received[packet as usize] += count as u64;
        let used = count * ACK_LEN;
        match packet {
            PacketType::PubRel => {
                self.write_acks(slot, PacketType::PubComp, acknowledged(&bytes[..used], bytes[0]))
            }
            PacketType::PubRec => {
                self.write_acks(slot, PacketType::PubRel, acknowledged(&bytes[..used], bytes[0]))
            }
            _ => self.pump_waiting(now, slot),
        }
        Some(used)
    }

    /// Writes acknowledgements that say nothing but their packet id, which all versions write alike.
    fn write_acks(&mut self, slot: u32, packet: PacketType, ids: impl Iterator<Item = u16>) {
        let connection = &mut self.connections[slot as usize];
        let is_too_long = connection.max_packet < ACK_LEN as u32;
        let out = connection.writer(slot, &mut self.buffers, &mut self.dirty);
        if is_too_long {
            return self.doom(slot, ReasonCode::PacketTooLarge);
        }
        let before = out.len();
        for id in ids {
            let [high, low] = id.to_be_bytes();
            out.extend_from_slice(&[packet.first(), 2, high, low]);
        }
        self.counters.packets_sent[packet as usize] += ((out.len() - before) / ACK_LEN) as u64;
        if connection.output.len() > self.profiles[connection.profile].output_bound {
            self.doom(slot, ReasonCode::QuotaExceeded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConnId, CoreConfig};
    use super::*;
    use crate::auth::Origin;
    use crate::limits::Limits;
    use std::sync::Arc;

    const NOW: Time = Time(1000);

    /// A broker that gets everything in pieces of `piece` bytes. Torn packets go the ordinary way.
    struct Pieces {
        core: Core,
        piece: usize,
        clients: Vec<(ConnId, Vec<u8>)>,
    }

    impl Pieces {
        fn new(piece: usize, receive_maximum: u16) -> Pieces {
            let limits = Limits { max_inflight: 3, receive_maximum, sys_interval_ms: 0, ..Limits::default() };
            let (limits, policy) = (Arc::new(limits.into()), Arc::default());
            let config = CoreConfig { shard: 0, shards: 1, seed: 3, limits, policy };
            Pieces { core: Core::new(config, NOW), piece, clients: Vec::new() }
        }

        fn connect(&mut self, version: u8, keeps_session: bool) -> usize {
            let conn = self.core.handle_accept(NOW, Origin::default()).expect("room");
            let (client, flags) = (self.clients.len(), if keeps_session { 0 } else { 2 });
            let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', version, flags, 0, 0];
            match (version, keeps_session) {
                (5, false) => body.push(0),
                (5, true) => body.extend_from_slice(&[5, 17, 0, 0, 1, 0]),
                _ => {}
            }
            body.extend_from_slice(&[0, 1, b'a' + client as u8]);
            self.clients.push((conn, Vec::new()));
            self.send(client, &[&[0x10, body.len() as u8][..], &body].concat());
            client
        }

        fn subscribe(&mut self, version: u8, qos: u8, keeps_session: bool) -> usize {
            let client = self.connect(version, keeps_session);
            let properties: &[u8] = if version == 5 { &[0] } else { &[] };
            let body = [&[0, 1][..], properties, &[0, 1, b't', qos]].concat();
            self.send(client, &[&[0x82, body.len() as u8][..], &body].concat());
            client
        }

        fn send(&mut self, client: usize, bytes: &[u8]) {
            let conn = self.clients[client].0;
            for piece in bytes.chunks(self.piece) {
                self.core.handle_bytes(NOW, conn, piece);
            }
            while let Some(conn) = self.core.poll_dirty() {
                let (_, got) = self.clients.iter_mut().find(|client| client.0 == conn).expect("a client");
                let output = self.core.output(conn).expect("a live connection");
                got.extend_from_slice(output.single().expect("small packets"));
                output.advance(output.len());
                self.core.handle_drained(NOW, conn);
            }
            self.core.audit();
        }
    }

    /// A PUBLISH on `topic` with an id, and with DUP if `dup` is 8.
    fn publish(version: u8, qos: u8, dup: u8, topic: u8, id: u8) -> Vec<u8> {
        let properties: &[u8] = if version == 5 { &[0] } else { &[] };
        let body = [&[0, 1, topic, 0, id][..], properties, &[b'<', id, b'>']].concat();
        [&[0x30 | qos << 1 | dup, body.len() as u8][..], &body].concat()
    }

    /// What everybody gets, and what is counted, when a publisher and its subscribers say the same in these pieces.
    fn told(piece: usize, version: u8, qos: u8, keeps_session: bool) -> (Vec<Vec<u8>>, String) {
        let mut broker = Pieces::new(piece, 20);
        let publisher = broker.connect(version, false);
        let subscribers = [
            broker.subscribe(version, 2, keeps_session),
            broker.subscribe(version, 1, false),
            broker.subscribe(version, 0, false),
            broker.subscribe(9 - version, 2, false),
        ];
        let id_range = |ids: std::ops::Range<u8>| ids.flat_map(|id| publish(version, qos, 0, b't', id));
        // More than a window takes, a repetition with and one without DUP, another topic in between.
        let mut bytes: Vec<u8> = id_range(1..9).collect();
        bytes.extend(publish(version, qos, 8, b't', 2));
        bytes.extend(publish(version, qos, 0, b't', 3));
        bytes.extend(publish(version, qos, 0, b'u', 10));
        bytes.extend(id_range(11..15));
        broker.send(publisher, &bytes);
        // Releases of what came, of what did not, and twice.
        let releases = [1, 2, 3, 99, 4, 4, 5].into_iter().flat_map(|id| [0x62, 2, 0, id]);
        broker.send(publisher, &releases.collect::<Vec<u8>>());
        for round in 0..4 {
            for subscriber in subscribers {
                for first in [0x40, 0x50, 0x70] {
                    // In another order than they were sent, some twice, and some that were never sent.
                    let ids = [2, 1, 3, 3, 77].into_iter().map(|id| id + 3 * round);
                    let acks = ids.flat_map(|id| [first, 2, 0, id]);
                    broker.send(subscriber, &acks.collect::<Vec<u8>>());
                }
            }
        }
        let counters = broker.core.counters();
        let counted = format!("{:?} {:?}", counters.packets_received, counters.packets_sent);
        let bytes = (counters.publish_bytes_received, counters.publish_bytes_sent);
        (broker.clients.into_iter().map(|(_, got)| got).collect(), format!("{counted} {bytes:?}"))
    }

    #[test]
    fn rows_are_answered_like_packets_that_come_one_by_one() {
        for version in [4, 5] {
            for qos in [1, 2] {
                for keeps_session in [false, true] {
                    let whole = told(usize::MAX, version, qos, keeps_session);
                    assert!(whole.0.iter().all(|got| got.len() > 50), "everybody got something");
                    for piece in [1, 5, 64] {
                        let told = told(piece, version, qos, keeps_session);
                        assert_eq!(told, whole, "version {version}, QoS {qos}, pieces of {piece}");
                    }
                }
            }
        }
    }

    #[test]
    fn more_than_receive_maximum_ends_the_connection_in_a_row_too() {
        let mut broker = Pieces::new(usize::MAX, 3);
        let publisher = broker.connect(5, false);
        broker.subscribe(5, 2, false);
        let row: Vec<u8> = (1..6).flat_map(|id| publish(5, 2, 0, b't', id)).collect();
        let conn = broker.clients[publisher].0;
        broker.core.handle_bytes(NOW, conn, &row);
        let output = broker.core.take_output(conn);
        let got = output.single().expect("small packets");
        let acks = [0x50, 2, 0, 1, 0x50, 2, 0, 2, 0x50, 2, 0, 3];
        let at = got.windows(acks.len()).position(|window| window == acks).expect("what is allowed is taken");
        let end = &got[at + acks.len()..];
        assert_eq!((end[0], end[2]), (0xe0, 0x93), "{got:x?}");
    }

    #[test]
    fn a_client_that_takes_no_acknowledgement_is_ended() {
        let mut broker = Pieces::new(usize::MAX, 20);
        let publisher = broker.connect(5, false);
        broker.subscribe(5, 1, false);
        broker.send(publisher, &publish(5, 1, 0, b't', 1));
        broker.core.connections[broker.clients[publisher].0.slot as usize].max_packet = 3;
        let row: Vec<u8> = (2..4).flat_map(|id| publish(5, 1, 0, b't', id)).collect();
        broker.core.handle_bytes(NOW, broker.clients[publisher].0, &row);
        assert!(!broker.core.is_live(broker.clients[publisher].0));
    }
}
