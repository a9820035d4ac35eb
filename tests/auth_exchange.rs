//! Enhanced authentication: the exchange of AUTH packets, with the broker's test method.
mod support;
use support::*;

const METHOD: &str = "RINGMQ-TEST";
const FLAGS: &[&str] = &["--enable-test-auth"];
const CONTINUE: u8 = 0x18;
const REAUTHENTICATE: u8 = 0x19;

/// CONNECT that begins an exchange with `data`.
fn begin(client_id: &str, data: &str) -> Connect {
    let connect = Connect::new(Version::V5, client_id).property(prop::AUTH_METHOD, METHOD);
    connect.property(prop::AUTH_DATA, data.as_bytes())
}

/// AUTH with the test method.
fn step(code: u8, data: &str) -> Vec<u8> {
    auth(code, &Properties::new().with(prop::AUTH_METHOD, METHOD).with(prop::AUTH_DATA, data.as_bytes()))
}

/// The broker's AUTH with this code and the method of the exchange.
#[track_caller]
fn expect_auth(client: &mut Client, code: u8) -> Properties {
    match client.receive() {
        Packet::Auth { code: got, properties } if got == code => {
            assert_eq!(properties.text(prop::AUTH_METHOD), Some(METHOD));
            properties
        }
        other => panic!("expected AUTH 0x{code:02x}, got {other:?}"),
    }
}

#[track_caller]
fn expect_challenge(client: &mut Client) {
    let properties = expect_auth(client, CONTINUE);
    assert_eq!(properties.bytes(prop::AUTH_DATA), Some(&b"challenge"[..]));
}

/// A connection that has got its challenge and has not answered it.
#[track_caller]
fn challenged(broker: &Broker, connect: &Connect) -> Client {
    let mut client = Client::open(broker, Version::V5);
    client.send(&connect.encode());
    expect_challenge(&mut client);
    client
}

/// A connection authenticated with the test method.
#[track_caller]
fn authenticated(broker: &Broker, connect: &Connect) -> Client {
    let mut client = challenged(broker, connect);
    client.send(&step(CONTINUE, "response"));
    client.expect_connack();
    client
}

#[test]
fn the_right_answer_to_the_challenge_is_welcomed() {
    each_broker_with(FLAGS, |broker| {
        let mut client = challenged(broker, &begin(&unique("a"), "hello"));
        client.send(&step(CONTINUE, "response"));
        let (present, connack) = client.expect_connack();
        assert!(!present);
        assert_eq!(connack.text(prop::AUTH_METHOD), Some(METHOD));
        assert_eq!(connack.bytes(prop::AUTH_DATA), Some(&b"welcome"[..]));
        let topic = unique("t");
        client.subscribe(&topic, 1);
        Client::new(broker, Version::V4).publish(&topic, 1, "served");
        client.expect_message(&topic, "served");
    });
}

#[test]
fn a_wrong_first_message_is_refused() {
    each_broker_with(FLAGS, |broker| {
        Client::refused(broker, &begin(&unique("a"), "hallo"), 0x87);
        Client::refused(broker, &begin(&unique("a"), ""), 0x87);
        let without_data = Connect::new(Version::V5, &unique("a")).property(prop::AUTH_METHOD, METHOD);
        Client::refused(broker, &without_data, 0x87);
    });
}

#[test]
fn a_wrong_answer_to_the_challenge_is_refused() {
    each_broker_with(FLAGS, |broker| {
        for wrong in ["", "respons", "response ", "challenge"] {
            let mut client = challenged(broker, &begin(&unique("a"), "hello"));
            client.send(&step(CONTINUE, wrong));
            client.expect_refusal(0x87);
        }
    });
}

#[test]
fn an_unknown_method_is_refused() {
    for flags in [FLAGS, &[]] {
        each_broker_with(flags, |broker| {
            for method in ["RINGMQ-TES", "ringmq-test", "SCRAM-SHA-1", ""] {
                let connect = Connect::new(Version::V5, &unique("a")).property(prop::AUTH_METHOD, method);
                Client::refused(broker, &connect, 0x8c);
            }
        });
    }
}

#[test]
fn the_test_method_does_not_exist_unless_enabled() {
    each_broker(|broker| Client::refused(broker, &begin(&unique("a"), "hello"), 0x8c));
}

#[test]
fn authentication_data_without_a_method_is_a_protocol_error() {
    each_broker(|broker| {
        let connect = Connect::new(Version::V5, &unique("a")).property(prop::AUTH_DATA, &b"hello"[..]);
        Client::refused(broker, &connect, 0x82);
    });
}

#[test]
fn only_auth_and_disconnect_are_allowed_before_the_exchange_is_over() {
    each_broker_with(FLAGS, |broker| {
        let (v, topic) = (Version::V5, unique("t"));
        let id = unique("a");
        let packets = [
            publish(v, &Publish::new(&topic, "x").retain()),
            publish(v, &Publish::new(&topic, "x").qos(1).id(1).retain()),
            subscribe(v, 1, &[("#", 0)]),
            unsubscribe(v, 1, &["#"]),
            ack(v, &Ack { kind: Kind::Puback, id: 1, code: 0, properties: Properties::new() }),
            ping(),
            begin(&id, "hello").encode(),
        ];
        for packet in packets {
            let mut client = challenged(broker, &begin(&id, "hello"));
            client.send(&packet);
            client.expect_rejected(&[0x82]);
        }
        let mut reader = Client::new(broker, v);
        reader.subscribe(&topic, 0);
        reader.expect_nothing_until_ping();
    });
}

#[test]
fn a_client_may_disconnect_within_the_exchange() {
    each_broker_with(FLAGS, |broker| {
        let topic = unique("will");
        let mut watcher = Client::new(broker, Version::V5);
        watcher.subscribe(&topic, 0);
        let connect = begin(&unique("a"), "hello").will(Will::new(&topic, "never connected"));
        for code in [0, 4] {
            let mut client = challenged(broker, &connect);
            client.send(&disconnect(Version::V5, code, &Properties::new()));
            client.expect_closed();
        }
        challenged(broker, &connect).close();
        // The same client, now connected: had there been a will, it would be ahead of this.
        let mut client = authenticated(broker, &connect);
        client.publish(&topic, 1, "connected");
        watcher.expect_message(&topic, "connected");
        client.disconnect();
    });
}

#[test]
fn auth_within_the_exchange_must_fit_it() {
    each_broker_with(FLAGS, |broker| {
        let method = |m: &str| Properties::new().with(prop::AUTH_METHOD, m);
        let data = |p: Properties| p.with(prop::AUTH_DATA, &b"response"[..]);
        let cases = [
            ("another method", auth(CONTINUE, &data(method("OTHER"))), &[0x82, 0x8c][..]),
            ("no method", auth(CONTINUE, &data(Properties::new())), &[0x82]),
            ("re-authentication", step(REAUTHENTICATE, "hello"), &[0x82]),
            ("success, said by the client", step(0, "response"), &[0x82]),
            ("nothing at all", vec![0xf0, 0], &[0x82]),
            ("an unlisted code", step(0x01, "response"), &[0x81, 0x82]),
        ];
        for (what, packet, codes) in cases {
            let mut client = challenged(broker, &begin(&unique("a"), "hello"));
            client.send(&packet);
            match client.try_receive() {
                Some(Packet::Connack { code, .. }) if codes.contains(&code) => client.expect_closed(),
                other => panic!("{what}: expected CONNACK with one of {codes:02x?}, got {other:?}"),
            }
        }
    });
}

#[test]
fn the_answer_may_come_in_the_same_segment_as_connect() {
    each_broker_with(FLAGS, |broker| {
        let mut client = Client::open(broker, Version::V5);
        client.send(&[begin(&unique("a"), "hello").encode(), step(CONTINUE, "response")].concat());
        expect_challenge(&mut client);
        client.expect_connack();
        client.expect_nothing_until_ping();
    });
}

#[test]
fn an_exchange_that_is_not_finished_in_time_is_closed() {
    each_broker_with(&["--enable-test-auth", "--connect-timeout", "1"], |broker| {
        let mut client = challenged(broker, &begin(&unique("a"), "hello"));
        if let Some(answer) = client.try_receive() {
            assert!(matches!(answer, Packet::Connack { code: 0x80.., .. }), "{answer:?}");
            client.expect_closed();
        }
    });
}

#[test]
fn a_connected_client_is_taken_over_only_by_who_has_passed() {
    each_broker_with(FLAGS, |broker| {
        let id = unique("a");
        let mut holder = authenticated(broker, &begin(&id, "hello").persistent());
        let mut intruder = challenged(broker, &begin(&id, "hello"));
        holder.expect_nothing_until_ping();
        intruder.send(&step(CONTINUE, "wrong"));
        intruder.expect_refusal(0x87);
        holder.expect_nothing_until_ping();
        let mut new = authenticated(broker, &begin(&id, "hello").persistent());
        holder.expect_disconnect(0x8e);
        new.expect_nothing_until_ping();
    });
}

#[test]
fn a_session_is_resumed_after_the_exchange() {
    each_broker_with(FLAGS, |broker| {
        let (connect, topic) = (begin(&unique("a"), "hello").persistent(), unique("t"));
        let mut client = authenticated(broker, &connect);
        client.subscribe(&topic, 1);
        client.close();
        Client::new(broker, Version::V5).publish(&topic, 1, "queued");
        let mut client = challenged(broker, &connect);
        client.send(&step(CONTINUE, "response"));
        assert!(client.expect_connack().0);
        client.expect_message(&topic, "queued");
    });
}

#[test]
fn re_authentication_runs_the_same_exchange() {
    each_broker_with(FLAGS, |broker| {
        let mut client = authenticated(broker, &begin(&unique("a"), "hello"));
        for _ in 0..3 {
            client.send(&step(REAUTHENTICATE, "hello"));
            expect_challenge(&mut client);
            client.send(&step(CONTINUE, "response"));
            expect_auth(&mut client, 0);
        }
        client.expect_nothing_until_ping();
    });
}

#[test]
fn other_packets_flow_during_re_authentication() {
    each_broker_with(FLAGS, |broker| {
        let topic = unique("t");
        let mut client = authenticated(broker, &begin(&unique("a"), "hello"));
        client.send(&step(REAUTHENTICATE, "hello"));
        expect_challenge(&mut client);
        client.subscribe(&topic, 1);
        Client::new(broker, Version::V5).publish(&topic, 1, "meanwhile");
        client.expect_message(&topic, "meanwhile");
        client.expect_nothing_until_ping();
        client.send(&step(CONTINUE, "response"));
        expect_auth(&mut client, 0);
    });
}

#[test]
fn failed_re_authentication_disconnects_and_publishes_the_will() {
    each_broker_with(FLAGS, |broker| {
        let topic = unique("will");
        let mut watcher = Client::new(broker, Version::V5);
        watcher.subscribe(&topic, 1);
        let connect = || begin(&unique("a"), "hello").will(Will::new(&topic, "gone").qos(1));
        let mut client = authenticated(broker, &connect());
        client.send(&step(REAUTHENTICATE, "wrong"));
        client.expect_disconnect(0x87);
        watcher.expect_message(&topic, "gone");
        let mut client = authenticated(broker, &connect());
        client.send(&step(REAUTHENTICATE, "hello"));
        expect_challenge(&mut client);
        client.send(&step(CONTINUE, "wrong"));
        client.expect_disconnect(0x87);
        watcher.expect_message(&topic, "gone");
    });
}

#[test]
fn re_authentication_with_another_method_is_an_error() {
    each_broker_with(FLAGS, |broker| {
        let mut client = authenticated(broker, &begin(&unique("a"), "hello"));
        let other = Properties::new().with(prop::AUTH_METHOD, "OTHER").with(prop::AUTH_DATA, &b"hello"[..]);
        client.send(&auth(REAUTHENTICATE, &other));
        client.expect_disconnect_in(&[0x82, 0x8c]);
    });
}

#[test]
fn auth_out_of_place_is_a_protocol_error() {
    each_broker_with(FLAGS, |broker| {
        for packet in [step(CONTINUE, "response"), step(0, "x"), vec![0xf0, 0]] {
            let mut client = authenticated(broker, &begin(&unique("a"), "hello"));
            client.send(&packet);
            client.expect_disconnect(0x82);
        }
    });
}

#[test]
fn auth_without_a_method_in_connect_is_a_protocol_error() {
    each_broker_with(FLAGS, |broker| {
        for packet in [step(REAUTHENTICATE, "hello"), step(CONTINUE, "response"), vec![0xf0, 0]] {
            let mut client = Client::new(broker, Version::V5);
            client.send(&packet);
            client.expect_disconnect(0x82);
        }
    });
}

#[test]
fn clients_without_a_method_are_not_asked() {
    each_version_with(FLAGS, |broker, version| {
        let (mut client, _, connack) = Client::connect_with(broker, &Connect::new(version, &unique("a")));
        assert_eq!(connack.text(prop::AUTH_METHOD), None);
        client.expect_nothing_until_ping();
    });
}
