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
