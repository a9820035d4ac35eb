//! What is delivered to a session that comes back: what was in flight, then what was queued, each once and in order.
mod support;
use support::*;

/// A session that exists and is offline, subscribed to `topic`.
#[track_caller]
fn offline(broker: &Broker, connect: &Connect, topic: &str, qos: u8) {
    let mut client = Client::connect(broker, connect);
    client.subscribe(topic, qos);
    client.disconnect();
}

#[test]
fn unacknowledged_messages_come_again_with_dup_in_order_and_with_their_ids() {
    each_version(|broker, version| {
        for qos in [1, 2] {
            let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
            let mut client = Client::connect(broker, &connect);
            client.subscribe(&topic, qos);
            let mut publisher = Client::new(broker, version);
            (0..5).for_each(|n| publisher.publish(&topic, qos, n.to_string()));
            let mut first: Vec<Publish> = (0..5).map(|_| client.expect_publish()).collect();
            assert!(first.iter().all(|message| !message.dup && message.qos == qos));
            client.expect_nothing_until_ping();
            client.reset();
            let mut client = Client::connect(broker, &connect);
            let again: Vec<Publish> = (0..5).map(|_| client.expect_publish()).collect();
            first.iter_mut().for_each(|message| message.dup = true);
            assert_eq!(again, first);
            client.expect_nothing_until_ping();
            again.iter().for_each(|message| client.finish(message));
            client.disconnect();
            let mut client = Client::connect(broker, &connect);
            client.expect_nothing_until_ping();
        }
    });
}

/// What comes in one piece is kept in one piece: what of it was acknowledged must not come back with the rest.
#[test]
fn of_a_row_of_messages_those_come_again_that_were_not_acknowledged() {
    each_version(|broker, version| {
        for qos in [1, 2] {
            let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
            let mut client = Client::connect(broker, &connect);
            client.subscribe(&topic, qos);
            let away = Connect::new(version, &unique("away")).persistent();
            offline(broker, &away, &topic, 1);
            let mut other = Client::new(broker, version);
            other.subscribe(&topic, qos);
            let mut publisher = Client::new(broker, version);
            let message = |n: u16| Publish::new(&topic, n.to_string()).qos(qos).id(n + 1);
            let row: Vec<u8> = (0..40).flat_map(|n| publish(version, &message(n))).collect();
            publisher.send(&row);
            let (kind, answer) =
                if qos == 1 { (Kind::Puback, None) } else { (Kind::Pubrec, Some(Kind::Pubrel)) };
            (1..=40).for_each(|id| assert!(publisher.expect_ack(kind, id) < 0x80));
            let got: Vec<Publish> = (0..40).map(|_| client.expect_publish()).collect();
            assert!(got.iter().enumerate().all(|(n, message)| message.payload == n.to_string().as_bytes()));
            let others: Vec<Publish> = (0..40).map(|_| other.expect_publish()).collect();
            assert!(others.iter().zip(&got).all(|(one, another)| one.payload == another.payload));
            others.iter().for_each(|message| other.finish(message));
            for (n, message) in got.iter().enumerate().filter(|(n, _)| n % 3 != 1) {
                client.ack(kind, message.id.unwrap());
                if let Some(answer) = answer {
                    client.expect_ack(answer, message.id.unwrap());
                    // Half of them are not finished, and only their release comes again.
                    if n % 3 == 0 {
                        client.ack(Kind::Pubcomp, message.id.unwrap());
                    }
                }
            }
            client.expect_nothing_until_ping();
            client.reset();
            let mut client = Client::connect(broker, &connect);
            for (n, message) in got.into_iter().enumerate() {
                match (n % 3, answer) {
                    (1, _) => assert_eq!(client.expect_publish(), Publish { dup: true, ..message }),
                    (2, Some(answer)) => assert_eq!(client.expect_ack(answer, message.id.unwrap()), 0),
                    _ => {}
                }
            }
            client.expect_nothing_until_ping();
            let mut away = Client::connect(broker, &away);
            (0..40).for_each(|n| drop(away.expect_message(&topic, n.to_string())));
            away.expect_nothing_until_ping();
        }
    });
}

#[test]
fn what_was_acknowledged_does_not_come_again() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        let mut client = Client::connect(broker, &connect);
        client.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, version);
        (0..3).for_each(|n| publisher.publish(&topic, 1, n.to_string()));
        let messages: Vec<Publish> = (0..3).map(|_| client.expect_publish()).collect();
        client.ack(Kind::Puback, messages[0].id.unwrap());
        client.ack(Kind::Puback, messages[2].id.unwrap());
        client.expect_nothing_until_ping();
        client.close();
        let mut client = Client::connect(broker, &connect);
        let again = client.expect_message(&topic, "1");
        assert!(again.dup && again.id == messages[1].id);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn pubrel_comes_again_instead_of_the_message_it_releases() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        let mut client = Client::connect(broker, &connect);
        client.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, version);
        (0..4).for_each(|n| publisher.publish(&topic, 2, n.to_string()));
        let ids: Vec<u16> = (0..4).map(|_| client.expect_publish().id.unwrap()).collect();
        for n in [0, 2] {
            client.ack(Kind::Pubrec, ids[n]);
            client.expect_ack(Kind::Pubrel, ids[n]);
        }
        client.reset();
        let mut client = Client::connect(broker, &connect);
        let (mut released, mut published) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            match client.receive() {
                Packet::Publish(message) => {
                    assert!(message.dup, "{message:?}");
                    published.push(message.id.unwrap());
                }
                Packet::Ack(ack) if ack.kind == Kind::Pubrel => released.push(ack.id),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            (released.as_slice(), published.as_slice()),
            (&[ids[0], ids[2]][..], &[ids[1], ids[3]][..])
        );
        released.iter().for_each(|id| client.ack(Kind::Pubcomp, *id));
        for id in published {
            client.ack(Kind::Pubrec, id);
            client.expect_ack(Kind::Pubrel, id);
            client.ack(Kind::Pubcomp, id);
        }
        client.disconnect();
        Client::connect(broker, &connect).expect_nothing_until_ping();
    });
}

#[test]
fn pubrec_for_a_resent_message_goes_on_with_pubrel() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        let mut client = Client::connect(broker, &connect);
        client.subscribe(&topic, 2);
        Client::new(broker, version).publish(&topic, 2, "once");
        let first = client.expect_publish();
        // Two connections are lost before the message and before PUBREL are answered.
        client.reset();
        let mut client = Client::connect(broker, &connect);
        let second = client.expect_publish();
        assert_eq!((second.dup, second.id), (true, first.id));
        client.ack(Kind::Pubrec, second.id.unwrap());
        client.expect_ack(Kind::Pubrel, second.id.unwrap());
        client.reset();
        let mut client = Client::connect(broker, &connect);
        client.expect_ack(Kind::Pubrel, second.id.unwrap());
        client.ack(Kind::Pubcomp, second.id.unwrap());
        client.expect_nothing_until_ping();
    });
}

#[test]
fn a_refused_message_does_not_come_again() {
    each_broker(|broker| {
        for (qos, kind) in [(1, Kind::Puback), (2, Kind::Pubrec)] {
            let (connect, topic) = (Connect::new(Version::V5, &unique("s")).persistent(), unique("t"));
            let mut client = Client::connect(broker, &connect);
            client.subscribe(&topic, qos);
            Client::new(broker, Version::V5).publish(&topic, qos, "refused");
            let message = client.expect_publish();
            client.ack_with(kind, message.id.unwrap(), 0x83);
            client.expect_nothing_until_ping();
            client.reset();
            Client::connect(broker, &connect).expect_nothing_until_ping();
        }
    });
}

#[test]
fn a_qos_2_message_sent_again_after_a_reconnect_is_delivered_once() {
    each_version(|broker, version| {
        let topic = unique("t");
        let mut reader = Client::new(broker, version);
        reader.subscribe(&topic, 1);
        let connect = Connect::new(version, &unique("s")).persistent();
        let once = publish(version, &Publish::new(&topic, "once").qos(2).id(7));
        let again = publish(version, &Publish::new(&topic, "once").qos(2).id(7).dup());
        let mut publisher = Client::connect(broker, &connect);
        publisher.send(&once);
        publisher.expect_ack(Kind::Pubrec, 7);
        for _ in 0..3 {
            publisher.reset();
            publisher = Client::connect(broker, &connect);
            publisher.send(&again);
            publisher.expect_ack(Kind::Pubrec, 7);
        }
        publisher.send(&again);
        publisher.expect_ack(Kind::Pubrec, 7);
        publisher.ack(Kind::Pubrel, 7);
        publisher.expect_ack(Kind::Pubcomp, 7);
        // Now the id means a new message.
        publisher.send(&publish(version, &Publish::new(&topic, "new").qos(2).id(7)));
        publisher.expect_ack(Kind::Pubrec, 7);
        publisher.ack(Kind::Pubrel, 7);
        publisher.expect_ack(Kind::Pubcomp, 7);
        reader.expect_message(&topic, "once");
        reader.expect_message(&topic, "new");
        reader.expect_nothing_until_ping();
    });
}

#[test]
fn pubrel_after_a_reconnect_completes_the_message() {
    each_version(|broker, version| {
        let topic = unique("t");
        let mut reader = Client::new(broker, version);
        reader.subscribe(&topic, 1);
        let connect = Connect::new(version, &unique("s")).persistent();
        let mut publisher = Client::connect(broker, &connect);
        publisher.send(&publish(version, &Publish::new(&topic, "once").qos(2).id(9)));
        publisher.expect_ack(Kind::Pubrec, 9);
        publisher.reset();
        let mut publisher = Client::connect(broker, &connect);
        publisher.ack(Kind::Pubrel, 9);
        publisher.expect_ack_code(Kind::Pubcomp, 9, 0);
        // A PUBREL whose PUBCOMP got lost is answered again.
        publisher.ack(Kind::Pubrel, 9);
        publisher.expect_ack_code(Kind::Pubcomp, 9, if version.is_5() { 0x92 } else { 0 });
        reader.expect_message(&topic, "once");
        reader.expect_nothing_until_ping();
    });
}

#[test]
fn a_clean_start_forgets_the_received_qos_2_ids() {
    each_version(|broker, version| {
        let topic = unique("t");
        let mut reader = Client::new(broker, version);
        reader.subscribe(&topic, 1);
        let connect = Connect::new(version, &unique("s")).persistent();
        let mut publisher = Client::connect(broker, &connect);
        publisher.send(&publish(version, &Publish::new(&topic, "first").qos(2).id(3)));
        publisher.expect_ack(Kind::Pubrec, 3);
        publisher.close();
        let mut publisher = Client::connect(broker, &Connect { clean: true, ..connect });
        publisher.send(&publish(version, &Publish::new(&topic, "second").qos(2).id(3)));
        publisher.expect_ack(Kind::Pubrec, 3);
        publisher.ack(Kind::Pubrel, 3);
        publisher.expect_ack(Kind::Pubcomp, 3);
        // Whether the first one was passed on at once or would have been at its PUBREL is the broker's choice.
        let heard = reader.expect_publish();
        if heard.payload == b"first" {
            reader.finish(&heard);
            reader.expect_message(&topic, "second");
        } else {
            assert_eq!(heard.payload, b"second");
            reader.finish(&heard);
        }
        reader.expect_nothing_until_ping();
    });
}

#[test]
fn messages_for_an_offline_session_are_queued_in_order() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        offline(broker, &connect, &topic, 2);
        let mut publisher = Client::new(broker, version);
        (0..300).for_each(|n| publisher.publish(&topic, 1 + u8::from(n % 2 == 1), n.to_string()));
        let mut client = Client::connect(broker, &connect);
        let mut ordered = [Vec::new(), Vec::new()];
        while ordered[0].len() + ordered[1].len() < 300 {
            match client.receive() {
                Packet::Publish(message) => {
                    let (qos, id) = (message.qos, message.id.unwrap());
                    assert!(!message.dup, "a first delivery: {message:?}");
                    ordered[usize::from(qos) - 1].push(String::from_utf8(message.payload).unwrap());
                    client.ack(if qos == 1 { Kind::Puback } else { Kind::Pubrec }, id);
                }
                Packet::Ack(ack) => client.ack(Kind::Pubcomp, ack.id),
                other => panic!("{other:?}"),
            }
        }
        let expected =
            |odd: usize| (0..300).filter(|n| n % 2 == odd).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(ordered, [expected(0), expected(1)]);
    });
}

#[test]
fn queued_messages_follow_those_in_flight_and_new_ones_follow_both() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        let mut client = Client::connect(broker, &connect);
        client.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, version);
        (0..3).for_each(|n| publisher.publish(&topic, 1, n.to_string()));
        (0..3).for_each(|_| drop(client.expect_publish()));
        client.close();
        (3..6).for_each(|n| publisher.publish(&topic, 1, n.to_string()));
        let mut client = Client::connect(broker, &connect);
        publisher.publish(&topic, 1, "6");
        for n in 0..7 {
            let message = client.expect_message(&topic, n.to_string());
            assert_eq!(message.dup, n < 3);
        }
        client.expect_nothing_until_ping();
    });
}

#[test]
fn queued_messages_keep_the_lower_of_both_qos() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        offline(broker, &connect, &topic, 1);
        Client::new(broker, version).publish(&topic, 2, "2 becomes 1");
        let mut client = Client::connect(broker, &connect);
        assert_eq!(client.expect_message(&topic, "2 becomes 1").qos, 1);
    });
}

#[test]
fn every_matching_session_gets_its_own_copy() {
    each_version(|broker, version| {
        let topic = unique("t");
        let sessions: Vec<Connect> =
            (0..5).map(|_| Connect::new(version, &unique("s")).persistent()).collect();
        sessions.iter().for_each(|connect| offline(broker, connect, &topic, 1));
        let mut live: Vec<Client> = (0..5).map(|_| Client::new(broker, version)).collect();
        live.iter_mut().for_each(|client| client.subscribe(&topic, 1));
        Client::new(broker, version).publish(&topic, 1, "to all");
        live.iter_mut().for_each(|client| drop(client.expect_message(&topic, "to all")));
        for connect in &sessions {
            Client::connect(broker, connect).expect_message(&topic, "to all");
        }
    });
}

#[test]
fn what_is_resent_keeps_within_the_receive_maximum_of_the_new_connection() {
    each_broker(|broker| {
        let (connect, topic) = (Connect::new(Version::V5, &unique("s")).persistent(), unique("t"));
        let mut client = Client::connect(broker, &connect);
        client.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, Version::V5);
        (0..5).for_each(|n| publisher.publish(&topic, 1, n.to_string()));
        (0..5).for_each(|_| drop(client.expect_publish()));
        client.close();
        let narrow = connect.property(prop::RECEIVE_MAXIMUM, 2u16);
        let mut client = Client::connect(broker, &narrow);
        let mut window: Vec<Publish> = (0..2).map(|_| client.expect_publish()).collect();
        client.expect_nothing_until_ping();
        for n in 0..5 {
            let message = window.remove(0);
            assert_eq!(message.payload, n.to_string().into_bytes());
            assert!(message.dup, "{message:?}");
            client.ack(Kind::Puback, message.id.unwrap());
            if n < 3 {
                window.push(client.expect_publish());
            }
            client.expect_nothing_until_ping();
        }
    });
}

#[test]
fn outgoing_packet_ids_in_flight_are_not_reused_after_resuming() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        let mut client = Client::connect(broker, &connect);
        client.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, version);
        (0..3).for_each(|n| publisher.publish(&topic, 1, n.to_string()));
        (0..3).for_each(|_| drop(client.expect_publish()));
        client.close();
        (3..10).for_each(|n| publisher.publish(&topic, 1, n.to_string()));
        let mut client = Client::connect(broker, &connect);
        let mut ids: Vec<u16> = (0..10).map(|_| client.expect_publish().id.unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 10, "{ids:?}");
    });
}
