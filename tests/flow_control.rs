//! Receive Maximum in both directions.
mod support;

use support::*;

/// A version 5 CONNECT of a new client with this Receive Maximum.
fn with_window(receive_maximum: u16) -> Connect {
    Connect::new(Version::V5, &unique("window")).property(prop::RECEIVE_MAXIMUM, receive_maximum)
}

#[test]
fn the_server_keeps_within_the_clients_receive_maximum() {
    each_broker(|broker| {
        for window in [1, 2, 5] {
            let topic = unique("within");
            let mut subscriber = Client::connect(broker, &with_window(window));
            subscriber.subscribe(&topic, 2);
            let mut publisher = Client::new(broker, Version::V5);
            for n in 0..20 {
                publisher.publish(&topic, 1 + n % 2, format!("{n}"));
            }
            let mut unfinished = Vec::new();
            for n in 0..20 {
                if unfinished.len() == usize::from(window) {
                    subscriber.expect_nothing_until_ping();
                    subscriber.finish(&unfinished.remove(0));
                }
                let got = subscriber.expect_publish();
                assert_eq!(got.payload, format!("{n}").into_bytes());
                unfinished.push(got);
            }
        }
    });
}

#[test]
fn a_qos_2_delivery_leaves_the_window_with_pubcomp_and_not_before() {
    each_broker(|broker| {
        let topic = unique("pubcomp");
        let mut subscriber = Client::connect(broker, &with_window(1));
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish(&topic, 2, "first");
        publisher.publish(&topic, 1, "second");
        let id = subscriber.expect_publish().id.unwrap();
        subscriber.expect_nothing_until_ping();
        subscriber.ack(Kind::Pubrec, id);
        subscriber.expect_ack(Kind::Pubrel, id);
        subscriber.expect_nothing_until_ping();
        subscriber.ack(Kind::Pubcomp, id);
        subscriber.expect_message(&topic, "second");
    });
}

#[test]
fn a_refused_delivery_leaves_the_window_at_once() {
    each_broker(|broker| {
        let topic = unique("refused");
        let mut subscriber = Client::connect(broker, &with_window(1));
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, Version::V5);
        for n in 0..4 {
            publisher.publish(&topic, 1 + n % 2, "unwanted");
        }
        publisher.publish(&topic, 1, END);
        for n in 0..4 {
            let got = subscriber.expect_publish();
            let kind = if n % 2 == 0 { Kind::Puback } else { Kind::Pubrec };
            subscriber.ack_with(kind, got.id.unwrap(), 0x80);
        }
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn with_its_window_full_a_client_is_served_in_everything_else() {
    each_broker(|broker| {
        let topic = unique("full");
        let mut client = Client::connect(broker, &with_window(1));
        client.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish(&topic, 1, "in flight");
        publisher.publish(&topic, 1, "waiting");
        let in_flight = client.expect_publish();
        client.expect_nothing_until_ping();
        let elsewhere = unique("elsewhere");
        client.subscribe(&elsewhere, 1);
        client.unsubscribe(&elsewhere);
        client.publish(&elsewhere, 0, "");
        client.publish(&elsewhere, 1, "");
        client.publish(&elsewhere, 2, "");
        client.finish(&in_flight);
        client.expect_message(&topic, "waiting");
    });
}

#[test]
fn a_window_that_is_smaller_after_a_reconnect_holds_for_the_repeats() {
    each_broker(|broker| {
        let topic = unique("smaller");
        let id = unique("subscriber");
        let connect = Connect::new(Version::V5, &id).persistent();
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, Version::V5);
        for n in 0..6 {
            publisher.publish(&topic, 1 + n % 2, format!("{n}"));
        }
        let first: Vec<Publish> = (0..6).map(|_| subscriber.expect_publish()).collect();
        subscriber.reset();
        let mut subscriber = Client::connect(broker, &connect.property(prop::RECEIVE_MAXIMUM, 2_u16));
        let mut unfinished = Vec::new();
        for sent in first {
            if unfinished.len() == 2 {
                subscriber.expect_nothing_until_ping();
                subscriber.finish(&unfinished.remove(0));
            }
            let got = subscriber.expect_publish();
            assert_eq!(got, sent.dup());
            unfinished.push(got);
        }
    });
}

/// A connected client and the Receive Maximum the broker announced to it.
fn announced(broker: &Broker) -> (Client, u16) {
    let (client, _, limits) = Client::connect_with(broker, &Connect::new(Version::V5, &unique("filler")));
    (client, limits.number(prop::RECEIVE_MAXIMUM).unwrap_or(65_535) as u16)
}

/// Leaves as many QoS 2 publishes unfinished as the broker allows.
fn fill(client: &mut Client, topic: &str, window: u16) {
    for chunk in (1..=window).collect::<Vec<_>>().chunks(1000) {
        let message = |id: &u16| publish(Version::V5, &Publish::new(topic, "").qos(2).id(*id));
        client.send(&chunk.iter().flat_map(message).collect::<Vec<u8>>());
        for id in chunk {
            client.expect_ack(Kind::Pubrec, *id);
        }
    }
}

#[test]
fn a_client_that_exceeds_the_announced_receive_maximum_is_told_0x93() {
    each_broker(|broker| {
        let topic = unique("exceeded");
        let (mut client, window) = announced(broker);
        if window == 65_535 {
            return; // Nothing can exceed it: there are no more packet ids.
        }
        fill(&mut client, &topic, window);
        client.send_publish(&Publish::new(&topic, "one too many").qos(2).id(window + 1));
        client.expect_disconnect(0x93);
    });
}

#[test]
fn a_client_within_the_announced_receive_maximum_is_served_in_everything() {
    each_broker(|broker| {
        let topic = unique("filled");
        let (mut client, window) = announced(broker);
        fill(&mut client, &topic, window);
        client.expect_nothing_until_ping();
        client.subscribe(&topic, 0);
        client.publish(&topic, 0, "QoS 0 needs no quota");
        client.expect_message(&topic, "QoS 0 needs no quota");
        client.unsubscribe(&topic);
        // A repeat is no further message.
        client.send_publish(&Publish::new(&topic, "").qos(2).id(1).dup());
        client.expect_ack(Kind::Pubrec, 1);
        // Every finished one makes room for another.
        for id in [1, window / 2, window] {
            client.ack(Kind::Pubrel, id);
            client.expect_ack(Kind::Pubcomp, id);
            client.send_publish(&Publish::new(&topic, "").qos(2).id(id));
            client.expect_ack(Kind::Pubrec, id);
        }
    });
}

#[test]
fn a_publish_refused_by_pubrec_uses_no_quota() {
    each_broker(|broker| {
        let topic = unique("no-quota");
        let (mut client, window) = announced(broker);
        for _ in 0..3 {
            let refused = Publish::new(&topic, [0xff]).qos(2).id(1).property(prop::PAYLOAD_FORMAT, 1_u8);
            client.send_publish(&refused);
            client.expect_ack_code(Kind::Pubrec, 1, 0x99);
        }
        fill(&mut client, &topic, window);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn qos_1_publishes_that_were_acknowledged_use_no_quota() {
    each_broker(|broker| {
        let topic = unique("acked");
        let (mut client, window) = announced(broker);
        for _ in 0..usize::from(window.min(5000)) * 2 {
            client.send_publish(&Publish::new(&topic, "").qos(1).id(1));
            client.expect_ack(Kind::Puback, 1);
        }
        client.expect_nothing_until_ping();
    });
}

#[test]
fn unfinished_publishes_can_be_finished_after_a_reconnect_and_leave_the_window() {
    each_broker(|broker| {
        let topic = unique("kept");
        let connect = Connect::new(Version::V5, &unique("publisher")).persistent();
        let (mut client, _, limits) = Client::connect_with(broker, &connect);
        let window = limits.number(prop::RECEIVE_MAXIMUM).unwrap_or(65_535) as u16;
        fill(&mut client, &topic, window);
        client.reset();
        let mut client = Client::connect(broker, &connect);
        for id in 1..=window {
            client.ack(Kind::Pubrel, id);
            client.expect_ack_code(Kind::Pubcomp, id, 0);
        }
        fill(&mut client, &topic, window);
    });
}
