//! `$share/group/filter`: who of a group gets a message, and what becomes of it when that member leaves.
mod support;

use std::collections::BTreeSet;
use support::*;

/// A version 5 client that is a member of `$share/group/topic`, and its session is over with its connection.
fn member(broker: &Broker, group: &str, topic: &str, qos: u8) -> Client {
    let mut client = Client::new(broker, Version::V5);
    client.subscribe(&format!("$share/{group}/{topic}"), qos);
    client
}

/// A CONNECT whose session outlives the connection.
fn lasting() -> Connect {
    Connect::new(Version::V5, &unique("member")).persistent()
}

#[test]
fn each_message_goes_to_one_member_of_each_group_and_to_every_other_subscriber() {
    each_version(|broker, version| {
        const MESSAGES: usize = 300;
        let topic = unique("each");
        let end = format!("{topic}/end");
        let mut groups: Vec<Vec<Client>> = ["red", "green"]
            .map(|group| {
                let filter = format!("$share/{group}/{topic}/+");
                (0..4).map(|_| client_with(broker, version, &[(&filter, 1), (&end, 1)])).collect()
            })
            .into();
        let mut plain: Vec<Client> =
            (0..2).map(|_| client_with(broker, version, &[(&format!("{topic}/x"), 1), (&end, 1)])).collect();
        let mut publisher = Client::new(broker, version);
        for n in 0..MESSAGES {
            publisher.publish(&format!("{topic}/x"), 1, format!("{n}"));
        }
        // Two groups would each give the end to one member only, so it has a subscription of its own as well.
        publisher.publish(&end, 1, END);
        let all: BTreeSet<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
        for plain in &mut plain {
            let got = payloads(&plain.messages_until_end());
            assert_eq!(got.len(), MESSAGES);
            assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), all);
        }
        for group in &mut groups {
            let each: Vec<Vec<String>> =
                group.iter_mut().map(|member| payloads(&until(member, &end))).collect();
            let shares: Vec<usize> = each.iter().map(Vec::len).collect();
            assert_eq!(shares.iter().sum::<usize>(), MESSAGES, "{shares:?}");
            assert_eq!(each.into_iter().flatten().collect::<BTreeSet<_>>(), all);
            assert!(shares.iter().all(|share| *share > 0), "a member got nothing at all: {shares:?}");
        }
    });
}

/// A client with these subscriptions.
fn client_with(broker: &Broker, version: Version, filters: &[(&str, u8)]) -> Client {
    let mut client = Client::new(broker, version);
    for (filter, qos) in filters {
        client.subscribe(filter, *qos);
    }
    client
}

/// The messages before the first on `end`, which may come more than once: by the group and for the client itself.
fn until(client: &mut Client, end: &str) -> Vec<Publish> {
    let mut all = Vec::new();
    loop {
        let message = client.expect_publish();
        client.finish(&message);
        if message.topic == end {
            return all;
        }
        all.push(message);
    }
}

#[test]
fn a_message_reaches_a_member_wherever_publisher_and_members_are() {
    each_broker(|broker| {
        let topic = unique("anywhere");
        let mut members: Vec<Client> = (0..3).map(|_| member(broker, "g", &topic, 1)).collect();
        while !members.is_empty() {
            // One more client each time, so that the publishers are spread over the shards.
            let mut publishers: Vec<Client> = (0..4).map(|_| Client::new(broker, Version::V5)).collect();
            for (n, publisher) in publishers.iter_mut().enumerate() {
                for m in 0..5 {
                    publisher.publish(&topic, 1, format!("{n}{m}"));
                }
            }
            let wanted: Vec<String> = (0..4).flat_map(|n| (0..5).map(move |m| format!("{n}{m}"))).collect();
            assert_eq!(gather(&mut members, 20), wanted);
            // The next messages go to the rest, even if not every shard knows yet that this one left.
            members.pop().unwrap().disconnect();
        }
    });
}

#[test]
fn a_client_that_is_a_member_and_a_plain_subscriber_gets_both_copies() {
    each_broker(|broker| {
        let topic = unique("both");
        let mut client = member(broker, "g", &topic, 1);
        client.subscribe(&topic, 1);
        Client::new(broker, Version::V5).publish(&topic, 1, "twice");
        assert_eq!(payloads(&client.messages(2)), ["twice", "twice"]);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn a_member_of_two_groups_gets_a_copy_for_each() {
    each_broker(|broker| {
        let topic = unique("two-groups");
        let mut client = member(broker, "g1", &topic, 1);
        client.subscribe(&format!("$share/g2/{topic}"), 1);
        client.subscribe(&format!("$share/g1/{topic}/#"), 1);
        Client::new(broker, Version::V5).publish(&topic, 1, "three");
        assert_eq!(payloads(&client.messages(3)), ["three"; 3]);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn shared_delivery_has_the_qos_granted_to_the_chosen_member() {
    each_broker(|broker| {
        let topic = unique("granted");
        for granted in 0..=2 {
            let mut only = member(broker, &format!("g{granted}"), &topic, granted);
            let mut publisher = Client::new(broker, Version::V5);
            for published in 0..=2 {
                publisher.publish(&topic, published, "x");
                assert_eq!(only.expect_message(&topic, "x").qos, published.min(granted));
            }
        }
    });
}

#[test]
fn members_of_different_qos_each_get_their_own() {
    each_broker(|broker| {
        let topic = unique("mixed");
        let mut members: Vec<Client> = (0..=2).map(|qos| member(broker, "g", &topic, qos)).collect();
        let end = unique("mixed-end");
        for member in &mut members {
            member.subscribe(&end, 0);
        }
        let mut publisher = Client::new(broker, Version::V5);
        for _ in 0..60 {
            publisher.publish(&topic, 2, "x");
        }
        publisher.publish(&end, 0, END);
        let mut sum = 0;
        for (qos, member) in (0..).zip(&mut members) {
            loop {
                let message = member.expect_publish();
                if message.topic == end {
                    break;
                }
                assert_eq!(message.qos, qos);
                sum += 1;
            }
        }
        assert_eq!(sum, 60);
    });
}

#[test]
fn a_shared_message_carries_the_members_subscription_id() {
    each_broker(|broker| {
        let topic = unique("id");
        let mut client = Client::new(broker, Version::V5);
        let id = Properties::new().with(prop::SUBSCRIPTION_ID, Value::Varint(77));
        client.subscribe_properties(&id, &[(&format!("$share/g/{topic}"), 1)]);
        Client::new(broker, Version::V5).publish(&topic, 1, "x");
        let got = client.expect_message(&topic, "x");
        assert_eq!(got.properties.all(prop::SUBSCRIPTION_ID), [&Value::Varint(77)]);
    });
}

#[test]
fn a_shared_subscription_is_sent_no_retained_messages() {
    each_broker(|broker| {
        let topic = unique("retained");
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish_with(&Publish::new(&topic, "kept").qos(1).retain());
        let mut client = member(broker, "g", &topic, 1);
        publisher.publish(&topic, 1, END);
        assert_eq!(client.messages_until_end(), []);
    });
}

#[test]
fn members_that_unsubscribe_get_nothing_more_and_the_others_get_it_all() {
    each_broker(|broker| {
        let topic = unique("leave");
        let filter = format!("$share/g/{topic}");
        let mut staying = member(broker, "g", &topic, 1);
        let mut leaving = member(broker, "g", &topic, 1);
        let id = leaving.fresh_id();
        leaving.send(&unsubscribe(Version::V5, id, &[&topic, "$share/other/x", &filter, &filter]));
        assert_eq!(leaving.expect_unsuback(id), [0x11, 0x11, 0, 0x11]);
        leaving.subscribe(&format!("{topic}/end"), 1);
        let mut publisher = Client::new(broker, Version::V5);
        for n in 0..20 {
            publisher.publish(&topic, 1, format!("{n}"));
        }
        publisher.publish(&topic, 1, END);
        publisher.publish(&format!("{topic}/end"), 1, END);
        assert_eq!(staying.messages_until_end().len(), 20);
        assert_eq!(leaving.messages_until_end(), []);
    });
}

#[test]
fn without_any_member_the_publisher_is_told_0x10() {
    each_broker(|broker| {
        let topic = unique("nobody");
        let client = member(broker, "g", &topic, 1);
        let mut publisher = Client::new(broker, Version::V5);
        client.disconnect();
        // Other shards may learn of it a little later.
        for id in 1.. {
            publisher.send_publish(&Publish::new(&topic, "").qos(1).id(id));
            if publisher.expect_ack(Kind::Puback, id) == 0x10 {
                break;
            }
            assert!(id < 60_000, "still told that somebody subscribes");
        }
    });
}

#[test]
fn qos_1_in_flight_to_a_member_whose_session_ends_goes_to_another() {
    each_broker(|broker| {
        let topic = unique("redispatch");
        let mut leaving = member(broker, "g", &topic, 1);
        let mut publisher = Client::new(broker, Version::V5);
        let wanted: Vec<String> = (0..5).map(|n| n.to_string()).collect();
        wanted.iter().for_each(|payload| publisher.publish(&topic, 1, payload));
        wanted.iter().for_each(|payload| assert_eq!(leaving.expect_publish().payload, payload.as_bytes()));
        let mut staying: Vec<Client> = (0..3).map(|_| member(broker, "g", &topic, 1)).collect();
        leaving.reset();
        assert_eq!(gather(&mut staying, 5), wanted);
    });
}

/// The payloads of `count` messages that came to any of these clients, sorted.
fn gather(clients: &mut [Client], count: usize) -> Vec<String> {
    let mut all = Vec::new();
    let until = std::time::Instant::now() + PATIENCE;
    while all.len() < count {
        assert!(std::time::Instant::now() < until, "only {all:?} of {count} came");
        for client in &mut *clients {
            client.send(&ping());
            loop {
                match client.receive() {
                    Packet::Pingresp => break,
                    Packet::Publish(message) => {
                        if let Some(id) = message.id {
                            client.ack(Kind::Puback, id);
                        }
                        all.push(String::from_utf8(message.payload).unwrap());
                    }
                    other => panic!("expected a message, got {other:?}"),
                }
            }
        }
    }
    all.sort();
    all
}

#[test]
fn what_waits_for_a_full_member_goes_to_another_when_its_session_ends() {
    each_broker(|broker| {
        let topic = unique("waiting");
        let connect = Connect::new(Version::V5, &unique("full")).property(prop::RECEIVE_MAXIMUM, 2_u16);
        let mut leaving = Client::connect(broker, &connect);
        leaving.subscribe(&format!("$share/g/{topic}"), 1);
        let mut publisher = Client::new(broker, Version::V5);
        let wanted: Vec<String> = (0..9).map(|n| n.to_string()).collect();
        wanted.iter().for_each(|payload| publisher.publish(&topic, 1, payload));
        leaving.expect_publish();
        leaving.expect_publish();
        leaving.expect_nothing_until_ping();
        let staying = member(broker, "g", &topic, 1);
        leaving.disconnect();
        assert_eq!(gather(&mut [staying], 9), wanted);
    });
}

#[test]
fn qos_2_in_flight_to_a_member_whose_session_ends_goes_to_nobody_else() {
    each_broker(|broker| {
        let topic = unique("not-again");
        let end = unique("end");
        let will = Will::new(&end, END).qos(2);
        let mut leaving = Client::connect(broker, &Connect::new(Version::V5, &unique("leaving")).will(will));
        leaving.subscribe(&format!("$share/g/{topic}"), 2);
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish(&topic, 2, "begun");
        publisher.publish(&topic, 2, "half done");
        leaving.expect_publish();
        let half_done = leaving.expect_publish().id.unwrap();
        leaving.ack(Kind::Pubrec, half_done);
        leaving.expect_ack(Kind::Pubrel, half_done);
        let mut staying = member(broker, "g", &topic, 2);
        staying.subscribe(&end, 2);
        // The end comes the way of the message that must not come: from the leaving client, as its will.
        leaving.reset();
        assert_eq!(staying.messages_until_end(), []);
        publisher.publish(&topic, 2, "new");
        staying.expect_message(&topic, "new");
    });
}

#[test]
fn qos_2_in_flight_is_finished_with_the_member_that_returns() {
    each_broker(|broker| {
        let topic = unique("returns");
        let connect = lasting();
        let mut first = Client::connect(broker, &connect);
        first.subscribe(&format!("$share/g/{topic}"), 2);
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish(&topic, 2, "begun");
        publisher.publish(&topic, 2, "half done");
        let begun = first.expect_publish();
        let half_done = first.expect_publish().id.unwrap();
        first.ack(Kind::Pubrec, half_done);
        first.expect_ack(Kind::Pubrel, half_done);
        let mut second = member(broker, "g", &topic, 2);
        first.reset();
        let mut first = Client::connect(broker, &connect);
        let again = first.expect_publish();
        assert_eq!(again, begun.dup());
        first.expect_ack(Kind::Pubrel, half_done);
        first.ack(Kind::Pubcomp, half_done);
        first.finish(&again);
        second.expect_nothing_until_ping();
    });
}

#[test]
fn a_shared_message_that_is_refused_is_offered_to_nobody_else() {
    each_broker(|broker| {
        let topic = unique("refused");
        let end = unique("end");
        let mut refusing = member(broker, "g", &topic, 2);
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish(&topic, 1, "one");
        publisher.publish(&topic, 2, "two");
        let one = refusing.expect_publish().id.unwrap();
        let two = refusing.expect_publish().id.unwrap();
        let mut other = member(broker, "g", &topic, 2);
        other.subscribe(&end, 1);
        refusing.ack_with(Kind::Puback, one, 0x97);
        refusing.ack_with(Kind::Pubrec, two, 0x80);
        // From the refusing client the end takes the way that an offer of the refused message would take.
        refusing.publish(&end, 1, END);
        assert_eq!(other.messages_until_end(), []);
        refusing.disconnect();
        Client::new(broker, Version::V5).publish(&end, 1, END);
        assert_eq!(other.messages_until_end(), []);
    });
}

#[test]
fn connected_members_come_before_absent_ones() {
    each_broker(|broker| {
        let topic = unique("absent");
        let connect = lasting();
        let mut absent = Client::connect(broker, &connect);
        absent.subscribe(&format!("$share/g/{topic}"), 1);
        let mut present = member(broker, "g", &topic, 1);
        absent.disconnect();
        let mut publisher = Client::new(broker, Version::V5);
        let wanted: Vec<String> = (10..60).map(|n| n.to_string()).collect();
        wanted.iter().for_each(|payload| publisher.publish(&topic, 1, payload));
        // What is on its way to the shard of the absent one comes back from there, and may come later than the rest.
        let mut got = payloads(&present.messages(50));
        got.sort();
        assert_eq!(got, wanted);
        Client::connect(broker, &connect).expect_nothing_until_ping();
    });
}

#[test]
fn with_no_member_connected_the_group_keeps_its_messages_for_whoever_comes_first() {
    each_broker(|broker| {
        let topic = unique("kept");
        let filter = format!("$share/g/{topic}");
        let connects = [lasting(), lasting(), lasting()];
        for connect in &connects {
            let mut client = Client::connect(broker, connect);
            client.subscribe(&filter, 2);
            client.disconnect();
        }
        let mut publisher = Client::new(broker, Version::V5);
        for n in 0..10 {
            publisher.publish(&topic, 1 + n % 2, format!("{n}"));
        }
        let mut second = Client::connect(broker, &connects[1]);
        let mut got = payloads(&second.messages(10));
        got.sort();
        assert_eq!(got, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
        publisher.publish(&topic, 1, END);
        assert_eq!(second.messages_until_end(), []);
        for connect in [&connects[0], &connects[2]] {
            let mut other = Client::connect(broker, connect);
            other.expect_nothing_until_ping();
        }
    });
}

#[test]
fn a_new_member_is_given_what_the_group_kept() {
    each_broker(|broker| {
        let topic = unique("newcomer");
        let mut away = Client::connect(broker, &lasting());
        away.subscribe(&format!("$share/g/{topic}"), 1);
        away.disconnect();
        let mut publisher = Client::new(broker, Version::V5);
        for n in 0..5 {
            publisher.publish(&topic, 1, format!("{n}"));
        }
        let mut new = Client::new(broker, Version::V5);
        new.send(&subscribe(Version::V5, 1, &[(&format!("$share/g/{topic}"), 1)]));
        let mut got = BTreeSet::new();
        let mut granted = None;
        while granted.is_none() || got.len() < 5 {
            match new.receive() {
                Packet::Suback { codes, .. } => granted = Some(codes),
                Packet::Publish(message) => {
                    new.finish(&message);
                    got.insert(String::from_utf8(message.payload).unwrap());
                }
                other => panic!("expected SUBACK or a message, got {other:?}"),
            }
        }
        assert_eq!((got, granted), ((0..5).map(|n| n.to_string()).collect(), Some(vec![1])));
    });
}

#[test]
fn the_queue_of_a_group_without_connected_members_is_bounded_and_drops_the_oldest() {
    each_broker_with(&["--max-group-queue", "5"], |broker| {
        let topic = unique("bounded");
        let connect = lasting();
        let mut away = Client::connect(broker, &connect);
        away.subscribe(&format!("$share/g/{topic}"), 1);
        away.disconnect();
        let mut publisher = Client::new(broker, Version::V5);
        for n in 0..20 {
            publisher.publish(&topic, 1, format!("{n}"));
        }
        settle(broker, &mut publisher);
        let mut back = Client::connect(broker, &connect);
        assert_eq!(payloads(&back.messages(5)), ["15", "16", "17", "18", "19"]);
        back.expect_nothing_until_ping();
    });
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V5);
        client.send(&subscribe(Version::V5, 1, &[("$share/g/a", 1 | NO_LOCAL)]));
        client.expect_disconnect(0x82);
    });
}

#[test]
fn malformed_shared_filters_are_not_accepted() {
    each_broker(|broker| {
        let bad = [
            "$share/",
            "$share//",
            "$share//a",
            "$share/g",
            "$share/g/",
            "$share/+/a",
            "$share/#",
            "$share/#/a",
            "$share/g+/a",
            "$share/g#/a",
            "$share/g/a#",
            "$share/g/#/a",
            "$share/g/a+",
        ];
        for filter in bad {
            let mut client = Client::new(broker, Version::V5);
            client.send(&subscribe(Version::V5, 1, &[(filter, 1)]));
            match client.receive() {
                Packet::Suback { codes, .. } => assert_eq!(codes, [0x8f], "{filter}"),
                Packet::Disconnect { code, .. } => {
                    assert!([0x81, 0x82, 0x8f].contains(&code), "{filter}: {code:02x}")
                }
                other => panic!("{filter}: {other:?}"),
            }
        }
    });
}

#[test]
fn odd_but_legal_shared_filters_work() {
    each_broker(|broker| {
        let topic = unique("odd");
        let long = "n".repeat(1000);
        for group in ["g", "$", "$share", " ", "ä", long.as_str()] {
            for (filter, name) in [("#", "a"), ("+/b", "/b"), ("/", "/"), ("a//", "a//")] {
                let filter = format!("$share/{group}/{topic}/{filter}");
                let mut client = Client::new(broker, Version::V5);
                client.subscribe(&filter, 0);
                let name = format!("{topic}/{name}");
                Client::new(broker, Version::V5).publish(&name, 0, group);
                client.expect_message(&name, group);
            }
        }
    });
}

#[test]
fn a_filter_that_only_resembles_a_shared_one_is_an_ordinary_filter() {
    each_broker(|broker| {
        let topic = unique("resembles");
        for name in [format!("$shared/g/{topic}"), format!("/$share/g/{topic}"), format!("$SHARE/g/{topic}")]
        {
            let mut clients: Vec<Client> = (0..2).map(|_| Client::new(broker, Version::V5)).collect();
            clients.iter_mut().for_each(|client| client.subscribe(&name, 0));
            Client::new(broker, Version::V5).publish(&name, 0, "for both");
            clients.iter_mut().for_each(|client| drop(client.expect_message(&name, "for both")));
        }
    });
}

#[test]
fn wildcards_of_a_shared_filter_do_not_match_dollar_topics() {
    each_broker(|broker| {
        let token = unique("dollar");
        let group = unique("g");
        let mut client = Client::new(broker, Version::V5);
        client.subscribe(&format!("$share/{group}/+/{token}"), 0);
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish(&format!("$x/{token}"), 0, "unwanted");
        publisher.publish(&format!("x/{token}"), 0, END);
        assert_eq!(client.messages_until_end(), []);
    });
}

#[test]
fn shared_subscriptions_are_announced_as_available() {
    each_broker(|broker| {
        let (_, _, limits) = Client::connect_with(broker, &Connect::new(Version::V5, &unique("client")));
        for id in [prop::SHARED_AVAILABLE, prop::WILDCARD_AVAILABLE, prop::SUBSCRIPTION_ID_AVAILABLE] {
            assert_ne!(limits.number(id), Some(0), "property 0x{id:02x}");
        }
    });
}
