//! CONNECT and CONNACK.
mod support;
use ringmq::limits::Limits;
use support::*;

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;

/// Sends `connect` and sees it turned away as [`Client::expect_rejected`] says.
#[track_caller]
fn rejected(broker: &Broker, connect: &Connect, codes: &[u8]) {
    let mut client = Client::open(broker, connect.version);
    client.send(&connect.encode());
    client.expect_rejected(codes);
}

/// A CONNECT that the broker refuses with a CONNACK, and the code of that.
fn refusable(version: Version) -> (Connect, u8) {
    if version.is_5() {
        let connect = Connect::new(version, &unique("refused"));
        (connect.property(prop::AUTH_METHOD, "NO-SUCH-METHOD"), 0x8c)
    } else {
        (Connect::new(version, "").resume(), 2)
    }
}

#[test]
fn a_valid_connect_is_accepted_with_a_clean_connack() {
    each_version(|broker, version| {
        let mut client = Client::open(broker, version);
        client.send(&Connect::new(version, &unique("c")).encode());
        let (session_present, _) = client.expect_connack();
        assert!(!session_present);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn connack_in_3_1_1_is_exactly_four_bytes() {
    each_broker(|broker| {
        let mut client = Client::open(broker, Version::V4);
        client.send(&Connect::new(Version::V4, &unique("c")).encode());
        client.send(&disconnect(Version::V4, 0, &Properties::new()));
        assert_eq!(client.read_to_close(), [0x20, 2, 0, 0]);
    });
}

#[test]
fn mqtt_3_1_with_its_own_name_and_level_is_accepted() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V3);
        let topic = unique("v3");
        client.subscribe(&topic, 1);
        Client::new(broker, Version::V5).publish(&topic, 1, "to 3.1");
        client.expect_message(&topic, "to 3.1");
    });
}

#[test]
fn names_and_levels_that_do_not_belong_together_are_turned_away() {
    let cases: [(&[u8], u8); 9] = [
        (b"mqtt", 4),
        (b"MQTX", 5),
        (b"MQT", 4),
        (b"MQTTT", 5),
        (b"", 4),
        (b"MQIsdp", 4),
        (b"MQIsdp", 5),
        (b"MQTT", 3),
        (b"HTTP/1.1", 4),
    ];
    each_version(|broker, version| {
        for (name, level) in cases {
            let connect = Connect::new(version, &unique("c"));
            let mut client = Client::open(broker, version);
            client.send(&Connect { name: Some(name.into()), level: Some(level), ..connect }.encode());
            let answer = client.read_to_close();
            let refusals: [&[u8]; 3] = [&[], &[0x20, 2, 0, 1], &[0x20, 3, 0, 0x84, 0]];
            assert!(refusals.contains(&answer.as_slice()), "{name:?} {level}: {answer:02x?}");
        }
    });
}

#[test]
fn an_unsupported_protocol_level_gets_a_refusing_connack_and_a_close() {
    each_version(|broker, version| {
        for level in [0, 1, 2, 6, 7, 0x7f, 0xff] {
            let connect = Connect::new(version, &unique("c"));
            let mut client = Client::open(broker, version);
            client.send(&Connect { level: Some(level), ..connect }.encode());
            let answer = client.read_to_close();
            let refusals: [&[u8]; 2] = [&[0x20, 2, 0, 1], &[0x20, 3, 0, 0x84, 0]];
            assert!(refusals.contains(&answer.as_slice()), "{level}: {answer:02x?}");
        }
    });
}

#[test]
fn the_reserved_connect_flag_is_malformed() {
    each_version(|broker, version| {
        rejected(broker, &Connect::new(version, &unique("c")).flip_flags(1), &[MALFORMED]);
    });
}

#[test]
fn will_qos_without_a_will_is_malformed() {
    each_version(|broker, version| {
        for bits in [0x08, 0x10, 0x18] {
            let connect = Connect::new(version, &unique("c")).flip_flags(bits);
            rejected(broker, &connect, &[MALFORMED, PROTOCOL_ERROR]);
        }
    });
}

#[test]
fn will_retain_without_a_will_is_malformed() {
    each_version(|broker, version| {
        let connect = Connect::new(version, &unique("c")).flip_flags(0x20);
        rejected(broker, &connect, &[MALFORMED, PROTOCOL_ERROR]);
    });
}

#[test]
fn will_qos_3_is_malformed() {
    each_version(|broker, version| {
        let will = Will::new("t", "x").qos(3);
        rejected(broker, &Connect::new(version, &unique("c")).will(will), &[MALFORMED]);
    });
}

#[test]
fn flags_that_promise_fields_which_are_missing_are_malformed() {
    each_version(|broker, version| {
        for bits in [0x04, 0x80, 0xc0] {
            rejected(broker, &Connect::new(version, &unique("c")).flip_flags(bits), &[MALFORMED]);
        }
        let named = Connect::new(version, &unique("c")).user("me");
        rejected(broker, &named.flip_flags(0x40), &[MALFORMED]);
    });
}

#[test]
fn fields_whose_flags_are_clear_are_malformed() {
    each_version(|broker, version| {
        let with_user = Connect::new(version, &unique("c")).user("me");
        rejected(broker, &with_user.clone().flip_flags(0x80), &[MALFORMED]);
        rejected(broker, &with_user.password("pw").flip_flags(0x40), &[MALFORMED]);
        let with_will = Connect::new(version, &unique("c")).will(Will::new("t", "x"));
        rejected(broker, &with_will.flip_flags(0x04), &[MALFORMED]);
    });
}

#[test]
fn a_password_needs_a_user_name_in_3_1_1_only() {
    each_version(|broker, version| {
        let connect = Connect::new(version, &unique("c")).password("secret");
        if version.is_5() {
            Client::connect(broker, &connect).expect_nothing_until_ping();
        } else {
            rejected(broker, &connect, &[]);
        }
    });
}

#[test]
fn all_payload_fields_together_are_read_in_their_order() {
    each_version(|broker, version| {
        let (id, topic) = (unique("c"), unique("will"));
        let mut watcher = Client::new(broker, version);
        watcher.subscribe(&topic, 0);
        let connect =
            Connect::new(version, &id).will(Will::new(&topic, "gone")).user("user").password([0, 0xff]);
        Client::connect(broker, &connect).close();
        watcher.expect_message(&topic, "gone");
    });
}

#[test]
fn bytes_behind_the_last_field_are_malformed() {
    each_version(|broker, version| {
        let mut connect = Connect::new(version, &unique("c"));
        connect.trailing = vec![0];
        rejected(broker, &connect, &[MALFORMED]);
        connect.trailing = text("more");
        rejected(broker, &connect, &[MALFORMED]);
    });
}

#[test]
fn a_connect_cut_short_anywhere_is_never_accepted() {
    each_version(|broker, version| {
        let will = Will::new("t", "x").qos(1);
        let whole = Connect::new(version, &unique("c")).will(will).user("u").password("p").body();
        for length in 0..whole.len() {
            let mut client = Client::open(broker, version);
            client.send(&packet(0x10, &whole[..length]));
            let answer = client.read_to_close();
            let refused =
                answer.is_empty() || (version.is_5() && answer[..4] == [0x20, answer[1], 0, MALFORMED]);
            assert!(refused, "the first {length} of {} bytes: {answer:02x?}", whole.len());
        }
    });
}

#[test]
fn an_empty_client_id_with_a_clean_session_is_accepted() {
    each_version(|broker, version| {
        let mut one = Client::connect(broker, &Connect::new(version, ""));
        let mut other = Client::connect(broker, &Connect::new(version, ""));
        one.expect_nothing_until_ping();
        other.expect_nothing_until_ping();
    });
}

#[test]
fn an_empty_client_id_without_a_clean_session_is_refused_in_3_1_1() {
    each_broker(|broker| Client::refused(broker, &Connect::new(Version::V4, "").resume(), 2));
}

#[test]
fn an_empty_client_id_is_refused_in_3_1() {
    each_broker(|broker| Client::refused(broker, &Connect::new(Version::V3, ""), 2));
}

#[test]
fn the_assigned_client_id_is_told_unique_and_good_for_resuming() {
    each_broker(|broker| {
        let empty = Connect::new(Version::V5, "").expiry(100);
        let (first, present, properties) = Client::connect_with(broker, &empty);
        assert!(!present);
        let id = properties.text(prop::ASSIGNED_CLIENT_ID).expect("an assigned client id").to_string();
        let (_second, present, properties) = Client::connect_with(broker, &empty.resume());
        assert!(!present);
        let other = properties.text(prop::ASSIGNED_CLIENT_ID).expect("an assigned client id");
        assert!(!id.is_empty() && !other.is_empty() && id != other, "{id} {other}");
        first.disconnect();
        let again = Connect::new(Version::V5, &id).resume();
        let (_, present, properties) = Client::connect_with(broker, &again);
        assert!(present, "the session of the assigned id");
        assert_eq!(properties.text(prop::ASSIGNED_CLIENT_ID), None);
    });
}

#[test]
fn no_client_id_is_assigned_to_a_client_that_has_one() {
    each_broker(|broker| {
        let (_, _, properties) = Client::connect_with(broker, &Connect::new(Version::V5, &unique("own")));
        assert_eq!(properties.text(prop::ASSIGNED_CLIENT_ID), None);
    });
}

#[test]
fn client_ids_of_1_to_23_letters_and_digits_are_accepted() {
    let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".repeat(2);
    each_version(|broker, version| {
        // Both versions run at the same time: the first character keeps them apart.
        for start in (usize::from(version.is_5())..62).step_by(2) {
            for length in [1, 2, 22, 23] {
                let connect = Connect::new(version, &alphabet[start..start + length]);
                Client::connect(broker, &connect).expect_nothing_until_ping();
            }
        }
    });
}

#[test]
fn long_and_unusual_client_ids_are_accepted_and_told_apart() {
    each_version(|broker, version| {
        let base = unique("long/+#$ ü\u{feff}\u{10ffff}").repeat(20);
        let mut one = Client::connect(broker, &Connect::new(version, &base));
        let mut other = Client::connect(broker, &Connect::new(version, &(base + "x")));
        one.expect_nothing_until_ping();
        other.expect_nothing_until_ping();
    });
}

#[test]
fn client_ids_are_case_sensitive() {
    each_version(|broker, version| {
        let id = unique("case");
        let mut lower = Client::connect(broker, &Connect::new(version, &id));
        let mut upper = Client::connect(broker, &Connect::new(version, &id.to_uppercase()));
        lower.expect_nothing_until_ping();
        upper.expect_nothing_until_ping();
    });
}

#[test]
fn second_connect_is_a_protocol_error_and_closes() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        client.send(&Connect::new(version, &client.client_id).encode());
        client.expect_disconnect(PROTOCOL_ERROR);
    });
}

#[test]
fn second_connect_in_the_same_segment_is_a_protocol_error_too() {
    each_version(|broker, version| {
        let connect = Connect::new(version, &unique("c")).encode();
        let mut client = Client::open(broker, version);
        client.send(&[connect.clone(), connect].concat());
        client.expect_connack();
        client.expect_disconnect(PROTOCOL_ERROR);
    });
}

#[test]
fn a_first_packet_other_than_connect_is_closed_without_an_answer() {
    each_version(|broker, version| {
        let v = version;
        let none = Properties::new();
        let firsts = [
            publish(v, &Publish::new("t", "x")),
            publish(v, &Publish::new("t", "x").qos(1).id(1)),
            subscribe(v, 1, &[("t", 0)]),
            unsubscribe(v, 1, &["t"]),
            ack(v, &Ack { kind: Kind::Puback, id: 1, code: 0, properties: none.clone() }),
            ack(v, &Ack { kind: Kind::Pubrel, id: 1, code: 0, properties: none.clone() }),
            ping(),
            disconnect(v, 0, &none),
            auth(0x18, &none),
            vec![0x20, 2, 0, 0],
            vec![0x00, 0],
            vec![0xff; 16],
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ];
        for first in firsts {
            let mut client = Client::open(broker, version);
            client.send(&first);
            let answer = client.read_to_close();
            assert!(answer.is_empty(), "{first:02x?} was answered by {answer:02x?}");
        }
    });
}

#[test]
fn reserved_flag_bits_of_connect_are_malformed() {
    each_version(|broker, version| {
        for bits in [1, 2, 4, 8, 15] {
            let mut client = Client::open(broker, version);
            client.send(&packet(0x10 | bits, &Connect::new(version, &unique("c")).body()));
            let answer = client.read_to_close();
            let refused =
                answer.is_empty() || (version.is_5() && answer[..4] == [0x20, answer[1], 0, MALFORMED]);
            assert!(refused, "{bits}: {answer:02x?}");
        }
    });
}

#[test]
fn a_connection_that_stays_silent_is_closed_after_the_connect_timeout() {
    each_version_with(&["--connect-timeout", "1"], |broker, version| {
        let mut connected = Client::new(broker, version);
        let mut silent = Client::open(broker, version);
        let mut half = Client::open(broker, version);
        let connect = Connect::new(version, &unique("c")).encode();
        half.send(&connect[..connect.len() - 1]);
        let mut one_byte = Client::open(broker, version);
        one_byte.send(&[0x10]);
        silent.expect_closed();
        half.expect_closed();
        one_byte.expect_closed();
        connected.expect_nothing_until_ping();
    });
}

#[test]
fn connack_announces_the_limits_of_the_broker() {
    each_broker(|broker| {
        let limits = Limits::default();
        let (_, _, connack) = Client::connect_with(broker, &Connect::new(Version::V5, &unique("c")));
        let number = |id| connack.number(id);
        assert!(number(prop::MAXIMUM_QOS).is_none(), "QoS 2 is announced by leaving it out");
        assert_ne!(number(prop::RETAIN_AVAILABLE), Some(0));
        assert_ne!(number(prop::WILDCARD_AVAILABLE), Some(0));
        assert_ne!(number(prop::SUBSCRIPTION_ID_AVAILABLE), Some(0));
        assert_ne!(number(prop::SHARED_AVAILABLE), Some(0));
        assert_eq!(number(prop::SERVER_KEEP_ALIVE), None);
        assert_eq!(connack.text(prop::AUTH_METHOD), None);
        assert_eq!(connack.bytes(prop::AUTH_DATA), None);
        if broker.shards > 0 {
            assert_eq!(number(prop::RECEIVE_MAXIMUM), Some(limits.receive_maximum.into()));
            assert_eq!(number(prop::MAXIMUM_PACKET_SIZE), Some(limits.max_packet));
            assert_eq!(number(prop::TOPIC_ALIAS_MAXIMUM), Some(limits.topic_alias_maximum.into()));
        }
    });
}

#[test]
fn response_information_is_not_sent_unless_asked_for() {
    each_broker(|broker| {
        let connect = Connect::new(Version::V5, &unique("c"));
        let (_, _, connack) = Client::connect_with(broker, &connect);
        assert_eq!(connack.text(prop::RESPONSE_INFO), None);
        let zero = connect.property(prop::REQUEST_RESPONSE_INFO, 0u8);
        let (_, _, connack) = Client::connect_with(broker, &zero);
        assert_eq!(connack.text(prop::RESPONSE_INFO), None);
    });
}

#[test]
fn no_packet_is_larger_than_the_client_takes_not_even_connack() {
    each_broker(|broker| {
        for most in [1u32, 2, 4, 5, 10, 15, 20, 30] {
            let connect = Connect::new(Version::V5, &unique("c")).property(prop::MAXIMUM_PACKET_SIZE, most);
            let mut client = Client::open(broker, Version::V5);
            client.send(&connect.encode());
            client.send(&disconnect(Version::V5, 0, &Properties::new()));
            let answer = client.read_to_close();
            assert!(answer.len() <= most as usize, "{most}: {answer:02x?}");
        }
    });
}

#[test]
fn packets_behind_connect_in_the_same_segment_are_processed_in_order() {
    each_version(|broker, version| {
        let topic = unique("pipelined");
        let mut client = Client::open(broker, version);
        let mut all = Connect::new(version, &unique("c")).encode();
        all.extend(subscribe(version, 1, &[(&topic, 0)]));
        for n in 2..200 {
            all.extend(publish(version, &Publish::new(&topic, n.to_string()).qos(1).id(n)));
        }
        all.extend(ping());
        client.send(&all);
        client.expect_connack();
        // Messages for a subscription may come before its SUBACK.
        let (mut acked, mut heard, mut granted) = (2, 2, false);
        while acked < 200 || heard < 200 || !granted {
            match client.receive() {
                Packet::Suback { id: 1, codes, .. } => {
                    assert_eq!(codes, [0]);
                    granted = true;
                }
                Packet::Ack(ack) => {
                    assert_eq!((ack.kind, ack.id), (Kind::Puback, acked));
                    acked += 1;
                }
                Packet::Publish(message) => {
                    assert_eq!(message.payload, heard.to_string().into_bytes());
                    heard += 1;
                }
                Packet::Pingresp => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn connect_and_what_follows_may_come_byte_by_byte() {
    each_version(|broker, version| {
        let topic = unique("bytes");
        let mut client = Client::open(broker, version);
        let all =
            [Connect::new(version, &unique("c")).encode(), subscribe(version, 1, &[(&topic, 1)])].concat();
        for byte in all {
            client.send(&[byte]);
        }
        client.expect_connack();
        assert_eq!(client.expect_suback(1), [1]);
    });
}

#[test]
fn a_packet_torn_behind_connect_is_completed_after_connack() {
    each_version(|broker, version| {
        let topic = unique("torn");
        let message = publish(version, &Publish::new(&topic, vec![b'x'; 5000]).qos(1).id(1));
        for cut in [1, 2, 3, 100, message.len() - 1] {
            let mut client = Client::open(broker, version);
            let (head, tail) = message.split_at(cut);
            client.send(&[&Connect::new(version, &unique("c")).encode(), head].concat());
            client.expect_connack();
            client.send(tail);
            client.expect_ack(Kind::Puback, 1);
        }
    });
}

#[test]
fn nothing_sent_behind_a_refused_connect_is_processed() {
    each_version(|broker, version| {
        let topic = unique("behind");
        let (connect, code) = refusable(version);
        let retained = publish(version, &Publish::new(&topic, "x").retain());
        let mut client = Client::open(broker, version);
        client.send(&[connect.encode(), retained.clone(), subscribe(version, 1, &[("#", 0)])].concat());
        client.expect_refusal(code);
        // And nothing behind a malformed one.
        let mut client = Client::open(broker, version);
        let malformed = Connect::new(version, &unique("c")).flip_flags(1);
        client.send(&[malformed.encode(), retained].concat());
        client.expect_rejected(&[MALFORMED]);
        let mut reader = Client::new(broker, version);
        reader.subscribe(&topic, 0);
        reader.expect_nothing_until_ping();
    });
}

#[test]
fn a_refused_connect_leaves_the_session_of_that_client_id_alone() {
    each_broker(|broker| {
        let id = unique("c");
        let mut client = Client::connect(broker, &Connect::new(Version::V5, &id).persistent());
        let method = Connect::new(Version::V5, &id).property(prop::AUTH_METHOD, "NO-SUCH-METHOD");
        Client::refused(broker, &method, 0x8c);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn reason_codes_of_refusals_are_those_of_the_version() {
    each_version(|broker, version| {
        let (connect, code) = refusable(version);
        Client::refused(broker, &connect, code);
        assert_eq!(code < 6, !version.is_5());
    });
}
