//! Promises of the core that a client could break once, each as the shortest way to break it.
mod logins;
mod pressure;

use super::*;
use crate::auth::Methods;
use crate::auth::access::Door;
use crate::auth::decision::Grant;
use crate::auth::test_method::TestMethod;
use crate::codec::{
    Connect, ConnectProperties, FilterList, MAX_PACKET, PacketType, Subscribe, SubscribeOptions, Version,
};
use crate::codec::{QoS, ReasonCode};
use crate::limits::Limits;
use crate::session::message::{Message, Publication, SessionKey};
use crate::shard::envelope::RoutedMessage;

const NOW: Time = Time(1000);

/// Cores and what is between them; a socket's number is its core's.
struct Broker(Vec<Core>);

impl Broker {
    fn new(shards: u8, limits: Limits) -> Broker {
        let methods: Methods = Arc::new([Box::new(TestMethod) as Box<_>]);
        Broker::with_policy(shards, limits, Policy { methods, ..Policy::default() })
    }

    fn with_policy(shards: u8, limits: Limits, policy: Policy) -> Broker {
        let profiles = Profiles::from(Limits { sys_interval_ms: 0, ..limits });
        let (limits, policy) = (Arc::new(profiles), Arc::new(policy));
        let config =
            |shard| CoreConfig { shard, shards, seed: 3, limits: limits.clone(), policy: policy.clone() };
        Broker((0..shards).map(|shard| Core::new(config(shard), NOW)).collect())
    }

    /// Delivers envelopes until none is left, handing off what is to be handed off.
    fn cross(&mut self) {
        loop {
            let mut is_any = false;
            for from in 0..self.0.len() {
                while let Some(action) = self.0[from].poll_action() {
                    if let Action::Handoff { conn } = action {
                        self.0[from].complete_handoff(conn, Socket::plain(0));
                    }
                }
                for to in 0..self.0.len() {
                    while let Some(envelope) = self.0[from].outbox(to as u8).pop_front() {
                        self.0[to].handle_envelope(NOW, from as u8, envelope);
                        is_any = true;
                    }
                }
            }
            if !is_any {
                return;
            }
        }
    }
}

fn connect(client_id: &str, properties: ConnectProperties<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (version, clean_start) = (Version::V5, false);
    let connect = Connect {
        version,
        clean_start,
        keep_alive: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties,
    };
    connect.encode(version, &mut bytes);
    bytes
}

#[test]
fn a_client_that_is_gone_before_its_home_is_found_leaves_no_claim() {
    // Before the registrar answers, after it, and before the socket has moved.
    for moment in 0..3 {
        let mut broker = Broker::new(2, Limits::default());
        for client in 0..20 {
            let core = &mut broker.0[0];
            let conn = core.handle_accept(NOW, Origin::default()).expect("room");
            core.handle_bytes(NOW, conn, &connect(&format!("client-{client}"), ConnectProperties::default()));
            if moment > 0 {
                while let Some(envelope) = broker.0[0].outbox(1).pop_front() {
                    broker.0[1].handle_envelope(NOW, 0, envelope);
                }
            }
            if moment > 1 {
                while let Some(envelope) = broker.0[1].outbox(0).pop_front() {
                    broker.0[0].handle_envelope(NOW, 1, envelope);
                }
            }
            broker.0[0].handle_close(NOW, conn, CloseCause::Eof);
            while broker.0[0].poll_action().is_some() {}
            broker.cross();
        }
        broker.0.iter().for_each(|core| core.audit().check_empty());
    }
}

#[test]
fn an_auth_that_is_too_large_refuses_the_connection() {
    let mut broker = Broker::new(1, Limits::default());
    let core = &mut broker.0[0];
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    let properties = ConnectProperties {
        maximum_packet_size: Some(10),
        authentication_method: Some("RINGMQ-TEST"),
        authentication_data: Some(b"hello"),
        ..ConnectProperties::default()
    };
    core.handle_bytes(NOW, conn, &connect("a", properties));
    assert_eq!(core.poll_action(), Some(Action::Established { conn }));
    assert_eq!(core.poll_action(), Some(Action::Close { conn }));
    assert_eq!(core.take_output(conn).single(), Some(&b"\x20\x03\x00\x95\x00"[..]));
    core.audit().check_empty();
}

#[test]
fn a_message_for_a_client_that_a_shutdown_has_closed_harms_nobody() {
    let mut broker = Broker::new(1, Limits::default());
    let core = &mut broker.0[0];
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    core.handle_bytes(NOW, conn, &connect("a", ConnectProperties::default()));
    core.handle_bytes(NOW, conn, b"\x82\x07\x00\x01\x00\x00\x01t\x01");
    core.handle_command(NOW, Command::Shutdown);
    core.handle_deadlines(NOW + 1000);
    assert!(core.is_stopped());
    let message = Message::new("t", &[], b"late", QoS::AtLeastOnce, false, Time::NEVER, SessionKey::BROKER);
    core.handle_envelope(
        NOW + 1001,
        0,
        Envelope::Publish(Box::new(RoutedMessage { message, retained: 0, unit: 0 })),
    );
    assert_eq!(core.counters().clients_connected, 0);
}

#[test]
fn coming_and_going_leaves_one_timer() {
    let mut broker = Broker::new(1, Limits::default());
    let core = &mut broker.0[0];
    for minute in 0..50 {
        let now = NOW + 60_000 * minute;
        let properties = ConnectProperties { session_expiry: 100_000, ..ConnectProperties::default() };
        let conn = core.handle_accept(now, Origin::default()).expect("room");
        core.handle_bytes(now, conn, &connect("a", properties));
        // A retained message that expires in 65,536 seconds, and is removed again.
        core.handle_bytes(now, conn, b"\x31\x0a\x00\x01t\x05\x02\x00\x01\x00\x00x\x31\x04\x00\x01t\x00");
        core.handle_close(now, conn, CloseCause::Eof);
        // The session's, and that of the retained message, which is not worth cancelling.
        assert_eq!(core.timers.len(), 2);
    }
    core.handle_deadlines(NOW + 200_000_000);
    while core.poll_action().is_some() {}
    core.audit().check_empty();
}

#[test]
fn a_second_connect_of_an_unknown_version_is_a_protocol_error() {
    let mut broker = Broker::new(1, Limits::default());
    let core = &mut broker.0[0];
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    core.handle_bytes(NOW, conn, &connect("a", ConnectProperties::default()));
    core.handle_bytes(NOW, conn, b"\x10\x07\x00\x04MQTT\x09");
    assert_eq!(core.poll_action(), Some(Action::Established { conn }));
    assert_eq!(core.poll_action(), Some(Action::Close { conn }));
    assert!(
        core.take_output(conn)
            .single()
            .is_some_and(|output| output.windows(3).any(|bytes| bytes[0] == 0xe0 && bytes[2] == 0x82))
    );
}

#[test]
fn many_new_subscriptions_ask_for_retained_messages_a_few_at_a_time() {
    let limits = Limits { max_queued_messages: 10_000, ..Limits::default() };
    let mut broker = Broker::new(2, limits);
    // Client ids and topics are hashed onto the shards: one that stays on shard 0.
    let id =
        (0..).map(|n| n.to_string()).find(|id| broker.0[0].keys.shard_of(id, 2) == 0).expect("half of all");
    let conn = broker.0[0].handle_accept(NOW, Origin::default()).expect("room");
    broker.0[0].handle_bytes(NOW, conn, &connect(&id, ConnectProperties::default()));
    let mut filters = FilterList::new();
    for number in 0..100 {
        let topic = format!("t/{number}");
        let message =
            Message::new(&topic, &[], b"x", QoS::AtLeastOnce, true, Time::NEVER, SessionKey::BROKER);
        for core in &mut broker.0 {
            core.publish(NOW, &message.publication());
        }
        filters.push(&format!("{topic}/#"), SubscribeOptions::new(QoS::AtLeastOnce));
    }
    broker.cross();
    let mut bytes = Vec::new();
    Subscribe::new(1, None, &filters).encode(Version::V5, &mut bytes);
    broker.0[0].handle_bytes(NOW, conn, &bytes);
    let mut asked = 0;
    loop {
        let waiting = broker.0[0].outbox(1).iter().filter(|e| matches!(e, Envelope::Scan(_))).count();
        assert!(waiting <= scans::SCANS_AT_ONCE);
        asked += waiting;
        let before = broker.0[0].outbox(1).len() + broker.0[1].outbox(0).len();
        for (from, to) in [(0, 1), (1, 0)] {
            let mut outbox = std::mem::take(broker.0[from].outbox(to as u8));
            while let Some(envelope) = outbox.pop_front() {
                broker.0[to].handle_envelope(NOW, from as u8, envelope);
            }
        }
        for core in &mut broker.0 {
            if core.next_deadline() <= NOW {
                core.handle_deadlines(NOW);
            }
        }
        if before == 0 {
            break;
        }
    }
    assert_eq!(asked, 100);
    assert_eq!(broker.0[0].counters().packets_sent[PacketType::Publish as usize], 100);
    assert_eq!(broker.0[0].scans.len(), 0);
}

#[test]
fn a_search_that_finds_nothing_among_many_topics_leaves_room_for_others() {
    let mut broker = Broker::new(1, Limits::default());
    let core = &mut broker.0[0];
    for number in 0..20_000 {
        let topic = format!("t/{number}/x");
        let message = Message::new(&topic, &[], b"x", QoS::AtMostOnce, true, Time::NEVER, SessionKey::BROKER);
        core.publish(NOW, &message.publication());
    }
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    core.handle_bytes(NOW, conn, &connect("a", ConnectProperties::default()));
    core.handle_bytes(NOW, conn, b"\x82\x0c\x00\x01\x00\x00\x06t/+/yz\x00");
    let mut turns = 0;
    while core.next_deadline() <= NOW {
        core.handle_deadlines(NOW);
        turns += 1;
    }
    // A literal level behind the wildcard is looked for topic by topic, and each jump takes some looks.
    let least = 20_000 / retained::LOOKS_AT_ONCE;
    assert!((least..20 * least).contains(&turns), "{turns}");
    assert_eq!(core.scans.len(), 0);
}

#[test]
fn the_queue_of_a_group_without_members_is_bounded_in_bytes() {
    let mut broker = Broker::new(1, Limits { max_queued_bytes: 1000, ..Limits::default() });
    let core = &mut broker.0[0];
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    let properties = ConnectProperties { session_expiry: 100, ..ConnectProperties::default() };
    core.handle_bytes(NOW, conn, &connect("a", properties));
    core.handle_bytes(NOW, conn, b"\x82\x10\x00\x01\x00\x00\x0a$share/g/t\x01");
    core.handle_close(NOW, conn, CloseCause::Eof);
    for _ in 0..20 {
        let (qos, payload) = (QoS::AtLeastOnce, [0; 99]);
        let message = Message::new("t", &[], &payload, qos, false, Time::NEVER, SessionKey::BROKER);
        core.publish(NOW, &message.publication());
    }
    assert_eq!((core.group_queues.len(), core.counters().dropped_group_queue), (10, 10));
}

#[test]
fn a_message_that_no_packet_of_version_5_can_hold_is_dropped() {
    let mut broker = Broker::new(1, Limits { max_packet: MAX_PACKET, ..Limits::default() });
    let core = &mut broker.0[0];
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    core.handle_bytes(NOW, conn, &connect("a", ConnectProperties::default()));
    core.handle_bytes(NOW, conn, b"\x82\x07\x00\x01\x00\x00\x01t\x01");
    let payload = vec![0; MAX_PACKET as usize - 5 - 3];
    let qos = QoS::AtMostOnce;
    let publication = Publication::new("t", &[], &payload, qos, false, Time::NEVER, SessionKey::BROKER, None);
    core.publish(NOW, &publication);
    assert_eq!(core.counters().dropped_too_large, 1);
}

#[test]
fn a_repetition_that_the_next_connection_cannot_take_does_not_block_it() {
    let mut broker = Broker::new(1, Limits::default());
    let core = &mut broker.0[0];
    let properties = ConnectProperties { session_expiry: 100, receive_maximum: 1, ..Default::default() };
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    core.handle_bytes(NOW, conn, &connect("a", properties));
    core.handle_bytes(NOW, conn, b"\x82\x07\x00\x01\x00\x00\x01t\x01");
    for payload in [&[0; 100][..], b"small"] {
        let (qos, expires) = (QoS::AtLeastOnce, Time::NEVER);
        core.publish(
            NOW,
            &Publication::new("t", &[], payload, qos, false, expires, SessionKey::BROKER, None),
        );
    }
    core.handle_close(NOW, conn, CloseCause::Eof);
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    let properties = ConnectProperties { maximum_packet_size: Some(50), ..properties };
    core.handle_bytes(NOW, conn, &connect("a", properties));
    let output = core.output(conn).and_then(|output| output.single()).expect("CONNACK and PUBLISH");
    assert!(output.ends_with(b"small"));
    assert_eq!(core.counters().dropped_too_large, 1);
}

#[test]
fn a_connack_that_is_too_large_is_followed_by_nothing() {
    let mut broker = Broker::new(1, Limits::default());
    let core = &mut broker.0[0];
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    let properties = ConnectProperties { maximum_packet_size: Some(6), ..ConnectProperties::default() };
    core.handle_bytes(NOW, conn, &connect("a", properties));
    assert_eq!(core.poll_action(), Some(Action::Established { conn }));
    assert_eq!(core.poll_action(), Some(Action::Close { conn }));
    assert!(core.take_output(conn).is_empty());
    core.audit().check_empty();
}

#[test]
fn an_idle_connection_keeps_nothing_of_its_origin() {
    let mut broker = Broker::new(1, Limits::default());
    let core = &mut broker.0[0];
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    let origin = Origin { identity: Some("gateway".into()), ..Origin::default() };
    core.handle_origin(NOW, conn, origin.clone());
    let extras = |core: &Core| core.connections[0].extras.as_ref().map(|extras| extras.origin.clone());
    assert_eq!(extras(core), Some(Some(Box::new(origin))));
    core.handle_bytes(NOW, conn, &connect("a", ConnectProperties::default()));
    assert_eq!(extras(core), None);
}

#[test]
fn the_origin_of_a_connection_moves_with_it() {
    let mut broker = Broker::new(2, Limits::default());
    let id =
        (0..).map(|n| n.to_string()).find(|id| broker.0[0].keys.shard_of(id, 2) == 1).expect("half of all");
    let origin = Origin { listener: 3, identity: Some("gateway".into()), ..Origin::default() };
    let conn = broker.0[0].handle_accept(NOW, origin.clone()).expect("room");
    broker.0[0].handle_bytes(NOW, conn, &connect(&id, ConnectProperties::default()));
    for (from, to) in [(0, 1), (1, 0)] {
        let envelope = broker.0[from].outbox(to as u8).pop_front().expect("a question, then its answer");
        broker.0[to].handle_envelope(NOW, from as u8, envelope);
    }
    broker.0[0].complete_handoff(conn, Socket::plain(0));
    match broker.0[0].outbox(1).pop_front() {
        Some(Envelope::Handoff(handoff)) => assert_eq!(handoff.origin, origin),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_matches_very_many_filters_is_done_in_parts_with_room_for_others_in_between() {
    const LEVELS: usize = 12;
    const MESSAGES: usize = 200;
    let mut broker = Broker::new(1, Limits::default());
    let core = &mut broker.0[0];
    let [heavy, other] = ["heavy", "other"].map(|client_id| {
        let conn = core.handle_accept(NOW, Origin::default()).expect("room");
        core.handle_bytes(NOW, conn, &connect(client_id, ConnectProperties::default()));
        conn
    });
    let mix = |number: usize| -> String {
        let levels = (0..LEVELS).map(|level| if number >> level & 1 == 0 { "/a" } else { "/+" });
        "+".chars().map(String::from).chain(levels.map(String::from)).collect()
    };
    for number in 0..1 << LEVELS {
        let mut bytes = vec![0x82, 0, 0, 1, 0, 0, 0];
        let filter = mix(number);
        bytes.extend_from_slice(filter.as_bytes());
        bytes.push(0);
        bytes[1] = bytes.len() as u8 - 2;
        bytes[6] = filter.len() as u8;
        core.handle_bytes(NOW, heavy, &bytes);
    }
    while core.poll_action().is_some() {}
    let message = |number: usize| {
        let topic = format!("{number:03}{}", "/a".repeat(LEVELS));
        let head = [0x30, topic.len() as u8 + 3, 0, topic.len() as u8];
        [&head[..], topic.as_bytes(), &[0]].concat()
    };
    let sent = core.counters().packets_sent[PacketType::Publish as usize];
    let delivered = |core: &Core| core.counters().packets_sent[PacketType::Publish as usize] - sent;
    core.handle_bytes(NOW, heavy, &(0..MESSAGES).flat_map(message).collect::<Vec<u8>>());
    assert_eq!(core.poll_action(), Some(Action::Pause { conn: heavy }));
    let mut turns = 0;
    let mut before = delivered(core);
    while core.next_deadline() <= NOW {
        while let Some(action) = core.poll_action() {
            assert_eq!(action, Action::Pause { conn: heavy }, "it is not read yet");
        }
        // Another client's packet is taken whole, however much waits.
        let pongs = core.counters().packets_sent[PacketType::PingResp as usize];
        core.handle_bytes(NOW, other, &[0xc0, 0]);
        assert_eq!(core.counters().packets_sent[PacketType::PingResp as usize], pongs + 1);
        core.handle_deadlines(NOW);
        assert!(delivered(core) > before, "each turn goes on");
        before = delivered(core);
        turns += 1;
    }
    assert_eq!(before, MESSAGES as u64);
    assert!(turns > 2, "{turns} turns");
    assert_eq!(core.poll_action(), Some(Action::Resume { conn: heavy }));
    core.audit();
}

#[test]
fn a_wish_is_denied_only_when_it_is_the_one_that_could_not_be_asked_about() {
    let mut broker = Broker::with_policy(1, Limits::default(), Policy { asks: true, ..Policy::default() });
    let core = &mut broker.0[0];
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    core.handle_bytes(NOW, conn, &connect("a", ConnectProperties::default()));
    // QoS 0 to "t".
    core.handle_bytes(NOW, conn, b"\x30\x05\x00\x01t\x00x");
    let actions: Vec<Action> = std::iter::from_fn(|| core.poll_action()).collect();
    let wish = actions.into_iter().find_map(|action| match action {
        Action::Ask { question: Question::Access(wish), .. } => Some(wish),
        _ => None,
    });
    // A message to the broker itself, which came before, could not be taken.
    core.handle_answer(NOW, conn, Answer::Busy(None));
    assert_eq!(core.poll_action(), None);
    assert_eq!((core.counters().questions_refused, core.counters().denied_publish), (1, 0));
    core.handle_answer(NOW, conn, Answer::Busy(wish));
    assert!(std::iter::from_fn(|| core.poll_action()).any(|action| action == Action::Resume { conn }));
    assert_eq!(core.counters().denied_publish, 1);
}

#[test]
fn what_was_allowed_holds_until_the_rules_change() {
    let rules = |text: &str| {
        let acl = crate::auth::acl::AclFile::parse(text).expect("an ACL file");
        Policy { acl: Some(Arc::new(acl)), ..Policy::default() }
    };
    let mut broker = Broker::with_policy(1, Limits::default(), rules("topic write a\ntopic write b\n"));
    let core = &mut broker.0[0];
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    core.handle_bytes(NOW, conn, &connect("a", ConnectProperties::default()));
    let publish = |core: &mut Core, topic: u8| {
        let before = core.counters().denied_publish;
        core.handle_bytes(NOW, conn, &[0x30, 5, 0, 1, topic, 0, b'x']);
        core.counters().denied_publish == before
    };
    // In turn, so that it is not the last topic that is known.
    for topic in [b'a', b'b', b'a', b'b'] {
        assert!(publish(core, topic) && !publish(core, b'c'));
    }
    core.handle_command(NOW, Command::Policy(Arc::new(rules("topic write b\n"))));
    for _ in 0..2 {
        assert!(publish(core, b'b') && !publish(core, b'a'));
    }
}
