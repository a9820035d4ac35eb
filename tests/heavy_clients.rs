//! Clients that ask for much: what they get is right, and nobody else waits for its end.
mod support;

use support::*;

/// Levels behind the first of the topics used here; every mix of `a` and `+` in them is a filter.
const LEVELS: u32 = 11;

/// Subscribes to very many filters that all match topics `<anything>/a/a/...`.
fn subscribe_to_every_mix(client: &mut Client, root: &str) {
    let mix = |number: u32| -> String {
        let levels = (0..LEVELS).map(|level| if number >> level & 1 == 0 { "/a" } else { "/+" });
        [format!("{root}/+")].into_iter().chain(levels.map(String::from)).collect()
    };
    let filters: Vec<String> = (0..1 << LEVELS).map(mix).collect();
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
    let id = client.fresh_id();
    client.send(&subscribe(client.version, id, &filters));
    assert_eq!(client.expect_suback(id), [1].repeat(1 << LEVELS));
}

#[test]
fn messages_that_match_very_many_filters_arrive_in_order_and_are_answered_though_their_sender_hung_up() {
    const MESSAGES: u16 = 60;
    each_broker(|broker| {
        let version = Version::V5;
        let root = unique("mix");
        let mut subscriber = Client::new(broker, version);
        subscribe_to_every_mix(&mut subscriber, &root);
        // All in one piece, which is far more work than is done at once, and the end right behind it.
        let mut publisher = Client::new(broker, version);
        let topic = |n: u16| format!("{root}/{n}{}", "/a".repeat(LEVELS as usize));
        let message = |n: u16| publish(version, &Publish::new(&topic(n), n.to_string()).qos(1).id(n));
        let mut bytes: Vec<u8> = (1..=MESSAGES).flat_map(message).collect();
        bytes.extend(ping());
        publisher.send(&bytes);
        publisher.end_of_file();
        for n in 1..=MESSAGES {
            subscriber.expect_message(&topic(n), n.to_string());
        }
        for n in 1..=MESSAGES {
            publisher.expect_ack(Kind::Puback, n);
        }
        assert_eq!(publisher.receive(), Packet::Pingresp);
        publisher.expect_closed();
        subscriber.expect_nothing_until_ping();
    });
}

/// Far more filters than are done at once.
const FILTERS: usize = 5000;

fn numbered(root: &str) -> Vec<String> {
    (0..FILTERS).map(|number| format!("{root}/{number}/+")).collect()
}

#[test]
fn a_long_list_of_filters_is_answered_whole_and_what_comes_behind_it_after_it() {
    each_version(|broker, version| {
        let root = unique("long");
        let filters = numbered(&root);
        let mut other = Client::new(broker, version);
        for number in [0, FILTERS / 2, FILTERS - 1] {
            let kept = Publish::new(&format!("{root}/{number}/kept"), number.to_string());
            other.publish_with(&kept.qos(1).retain());
        }
        let mut client = Client::new(broker, version);
        let listed: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
        // Nobody else waits, and what the same client sends comes in its order.
        let own = Publish::new(&format!("{root}/7/own"), "own");
        let bytes = [subscribe(version, 1, &listed), publish(version, &own), ping()].concat();
        client.send(&bytes);
        let mut seen: Vec<String> = Vec::new();
        let (mut has_pong, mut granted) = (false, None);
        // Messages may come before SUBACK (3.8.4).
        while seen.len() < 4 || !has_pong || granted.is_none() {
            match client.receive() {
                Packet::Pingresp => has_pong = true,
                Packet::Suback { id: 1, codes, .. } => granted = Some(codes),
                Packet::Publish(message) => {
                    client.finish(&message);
                    seen.push(String::from_utf8(message.payload.clone()).unwrap());
                }
                unexpected => panic!("{unexpected:?}"),
            }
        }
        assert_eq!(granted, Some([1].repeat(FILTERS)));
        seen.sort();
        let mut expected: Vec<String> = [0, FILTERS / 2, FILTERS - 1].map(|number| number.to_string()).into();
        expected.push("own".to_string());
        expected.sort();
        assert_eq!(seen, expected);
        let names: Vec<&str> = filters.iter().map(String::as_str).collect();
        client.send(&[unsubscribe(version, 2, &names), publish(version, &own)].concat());
        let codes = client.expect_unsuback(2);
        assert!(codes.iter().all(|code| *code == 0));
        client.expect_nothing_until_ping();
        // Each filter is told of, the last one, too.
        client.send(&unsubscribe(version, 3, &names));
        let gone = if version.is_5() { vec![0x11; FILTERS] } else { Vec::new() };
        assert_eq!(client.expect_unsuback(3), gone);
    });
}

#[test]
fn a_session_that_ends_in_the_middle_of_a_long_list_leaves_nothing_behind() {
    each_version(|broker, version| {
        let (root, id) = (unique("left"), unique("c"));
        let filters = numbered(&root);
        let listed: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
        let connect = Connect::new(version, &id);
        let mut publisher = Client::new(broker, version);
        for is_answered in [true, false] {
            let mut client = Client::connect(broker, &connect);
            client.send(&subscribe(version, 1, &listed));
            if is_answered {
                assert_eq!(client.expect_suback(1).len(), FILTERS);
            }
            client.reset();
            // The same client id is somebody new, whatever is left of the one before.
            let mut next = Client::connect(broker, &connect);
            for number in [0, FILTERS / 2, FILTERS - 1] {
                publisher.publish(&format!("{root}/{number}/x"), 1, "nobody wants it");
            }
            next.expect_nothing_until_ping();
            next.subscribe(&filters[FILTERS - 1], 1);
            publisher.publish(&format!("{root}/{}/x", FILTERS - 1), 1, "wanted");
            let message = next.expect_message(&format!("{root}/{}/x", FILTERS - 1), "wanted");
            next.finish(&message);
            next.expect_nothing_until_ping();
        }
    });
}
