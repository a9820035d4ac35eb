//! UNSUBSCRIBE: what it removes, what it leaves, and how it is answered.
mod support;

use support::*;

/// UNSUBSCRIBE, and the codes of the UNSUBACK (none in version 3), which is the very next packet.
fn unsubscribe_codes(client: &mut Client, filters: &[&str]) -> Vec<u8> {
    let id = client.fresh_id();
    client.send(&unsubscribe(client.version, id, filters));
    client.expect_unsuback(id)
}

/// What version 5 says, and 3.1.1 leaves out.
fn if_5(version: Version, codes: &[u8]) -> Vec<u8> {
    if version.is_5() { codes.to_vec() } else { Vec::new() }
}

#[test]
fn unsuback_has_the_id_of_its_unsubscribe_and_comes_even_if_nothing_was_removed() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        for id in [1, 65_535, 300] {
            client.send(&unsubscribe(version, id, &["never/subscribed"]));
            assert_eq!(client.expect_unsuback(id), if_5(version, &[0x11]));
        }
    });
}

#[test]
fn unsuback_has_a_code_for_each_filter_in_their_order() {
    each_version(|broker, version| {
        let topic = unique("codes");
        let names = ["a", "b", "c", "+", "#"].map(|name| format!("{topic}/{name}"));
        let mut client = Client::new(broker, version);
        for n in [1, 3] {
            client.subscribe(&names[n], 1);
        }
        let filters: Vec<&str> = names.iter().map(String::as_str).collect();
        let codes = unsubscribe_codes(&mut client, &filters);
        assert_eq!(codes, if_5(version, &[0x11, 0, 0x11, 0, 0x11]));
        assert_eq!(unsubscribe_codes(&mut client, &filters), if_5(version, &[0x11; 5]));
    });
}

#[test]
fn a_filter_twice_in_one_unsubscribe_is_there_only_once() {
    each_version(|broker, version| {
        let topic = unique("twice");
        let mut client = Client::new(broker, version);
        client.subscribe(&topic, 1);
        let codes = unsubscribe_codes(&mut client, &[&topic, &topic]);
        assert_eq!(codes, if_5(version, &[0, 0x11]));
    });
}

#[test]
fn what_is_published_after_unsuback_is_not_delivered() {
    each_version(|broker, version| {
        let topic = unique("after");
        let mut publisher = Client::new(broker, version);
        let mut client = Client::new(broker, version);
        let end = format!("{topic}/end");
        client.subscribe(&end, 1);
        for filter in [&topic, &format!("{topic}/+/x"), &format!("{topic}/#")] {
            client.subscribe(filter, 1);
            let name = filter.replace('+', "a").replace("/#", "/a/x");
            publisher.publish(&name, 1, "wanted");
            client.expect_message(&name, "wanted");
            client.unsubscribe(filter);
            publisher.publish(&name, 1, "unwanted");
            publisher.publish(&end, 1, END);
            assert_eq!(client.messages_until_end(), []);
        }
    });
}

#[test]
fn only_an_exactly_equal_filter_is_removed() {
    each_version(|broker, version| {
        let topic = unique("exact");
        let name = format!("{topic}/Level");
        let mut client = Client::new(broker, version);
        client.subscribe(&name, 1);
        let others = ["+", "#", "level", "Level/", "Level/#", "Leve", "Level\u{301}", "\u{feff}Level"];
        let others = others.map(|last| format!("{topic}/{last}"));
        let filters: Vec<&str> = others.iter().map(String::as_str).collect();
        assert_eq!(unsubscribe_codes(&mut client, &filters), if_5(version, &[0x11; 8]));
        Client::new(broker, version).publish(&name, 1, "still there");
        client.expect_message(&name, "still there");
        client.unsubscribe(&name);
    });
}

#[test]
fn the_other_one_of_two_overlapping_subscriptions_stays() {
    each_version(|broker, version| {
        let topic = unique("overlap");
        let name = format!("{topic}/a");
        let mut client = Client::new(broker, version);
        let mut publisher = Client::new(broker, version);
        client.subscribe(&name, 2);
        client.subscribe(&format!("{topic}/+"), 0);
        publisher.publish(&name, 2, "both");
        let first = client.expect_message(&name, "both");
        assert_eq!(first.qos, 2);
        client.unsubscribe(&name);
        publisher.publish(&name, 2, "one");
        assert_eq!(client.expect_message(&name, "one").qos, 0);
        client.unsubscribe(&format!("{topic}/+"));
        client.subscribe(&format!("{topic}/end"), 0);
        publisher.publish(&name, 2, "none");
        publisher.publish(&format!("{topic}/end"), 0, END);
        assert_eq!(client.messages_until_end(), []);
    });
}

#[test]
fn another_clients_equal_subscription_stays() {
    each_version(|broker, version| {
        let topic = unique("others");
        let mut leaving: Vec<Client> = (0..3).map(|_| Client::new(broker, version)).collect();
        let mut staying: Vec<Client> = (0..3).map(|_| Client::new(broker, version)).collect();
        leaving.iter_mut().chain(&mut staying).for_each(|client| client.subscribe(&topic, 1));
        leaving.iter_mut().for_each(|client| client.unsubscribe(&topic));
        Client::new(broker, version).publish(&topic, 1, "for three");
        staying.iter_mut().for_each(|client| drop(client.expect_message(&topic, "for three")));
    });
}

#[test]
fn deliveries_begun_before_an_unsubscribe_are_finished() {
    each_version(|broker, version| {
        let topic = unique("begun");
        let connect = Connect::new(version, &unique("subscriber")).persistent();
        let mut client = Client::connect(broker, &connect);
        client.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, version);
        publisher.publish(&topic, 1, "one");
        publisher.publish(&topic, 2, "two");
        publisher.publish(&topic, 2, "three");
        let begun: Vec<Publish> = (0..3).map(|_| client.expect_publish()).collect();
        client.unsubscribe(&topic);
        client.finish(&begun[1]);
        client.expect_nothing_until_ping();
        client.reset();
        let mut client = Client::connect(broker, &connect);
        for message in [&begun[0], &begun[2]] {
            let again = client.expect_publish();
            assert_eq!(again, message.clone().dup());
        }
        client.finish(&begun[0]);
        client.finish(&begun[2]);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn subscribing_after_unsubscribing_works_again_and_again() {
    each_version(|broker, version| {
        let topic = unique("again");
        let mut client = Client::new(broker, version);
        let mut publisher = Client::new(broker, version);
        for n in 0..30 {
            client.subscribe(&topic, 1);
            publisher.publish(&topic, 1, format!("{n}"));
            client.expect_message(&topic, format!("{n}"));
            client.unsubscribe(&topic);
        }
        client.subscribe(&topic, 1);
        publisher.publish(&topic, 1, END);
        assert_eq!(client.messages_until_end(), []);
    });
}

#[test]
fn an_unsubscribed_session_queues_nothing_while_it_is_away() {
    each_version(|broker, version| {
        let topic = unique("away");
        let connect = Connect::new(version, &unique("subscriber")).persistent();
        let mut client = Client::connect(broker, &connect);
        client.subscribe(&topic, 1);
        client.unsubscribe(&topic);
        client.disconnect();
        let mut publisher = Client::new(broker, version);
        publisher.publish(&topic, 1, "unwanted");
        let mut client = Client::connect(broker, &connect);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn the_publisher_is_told_that_nobody_subscribes_any_more() {
    each_broker(|broker| {
        let topic = unique("nobody");
        let mut client = Client::new(broker, Version::V5);
        let mut publisher = Client::new(broker, Version::V5);
        client.subscribe(&topic, 0);
        publisher.send_publish(&Publish::new(&topic, "").qos(1).id(1));
        publisher.expect_ack_code(Kind::Puback, 1, 0);
        client.expect_message(&topic, "");
        client.unsubscribe(&topic);
        // Other shards may learn of it a little later.
        let mut id = 1;
        loop {
            id += 1;
            publisher.send_publish(&Publish::new(&topic, "").qos(1).id(id));
            match publisher.expect_ack(Kind::Puback, id) {
                0x10 => break,
                _ => assert!(id < 60_000, "still told that somebody subscribes"),
            }
        }
    });
}

#[test]
fn an_unsubscribe_without_filters_closes_the_connection() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        client.send(&unsubscribe(version, 1, &[]));
        client.expect_disconnect_in(&[0x81, 0x82]);
    });
}

#[test]
fn an_unsubscribe_with_wrong_flag_bits_closes_the_connection() {
    each_version(|broker, version| {
        for flags in [0, 1, 3, 6, 10] {
            let mut client = Client::new(broker, version);
            let mut bytes = unsubscribe(version, 1, &["a/b"]);
            bytes[0] = 0xa0 | flags;
            client.send(&bytes);
            client.expect_disconnect(0x81);
        }
    });
}

#[test]
fn an_unsubscribe_with_packet_id_0_closes_the_connection() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        client.send(&unsubscribe(version, 0, &["a/b"]));
        client.expect_disconnect_in(&[0x81, 0x82]);
    });
}
