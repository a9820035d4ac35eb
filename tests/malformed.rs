//! Malformed and illegal packets: the right reason code (3.1.1: a close), and nobody else notices.
mod support;
use support::table::*;
use support::*;

#[test]
fn wrong_fixed_header_flags_close() {
    each_version(|broker, version| {
        let topic = [text("t"), properties(version, &[])].concat();
        let request = [vec![0, 1], properties(version, &[]), text("t")].concat();
        let mut cases: Vec<Case> = Vec::new();
        for bits in [0, 1, 3, 4, 6, 8, 10, 15] {
            cases.push(("PUBREL", packet(0x60 | bits, &[0, 1]), MALFORMED));
            cases.push(("SUBSCRIBE", packet(0x80 | bits, &[&request[..], &[0]].concat()), MALFORMED));
            cases.push(("UNSUBSCRIBE", packet(0xa0 | bits, &request), MALFORMED));
        }
        for bits in [1, 2, 4, 8, 15] {
            cases.push(("PUBACK", packet(0x40 | bits, &[0, 1]), MALFORMED));
            cases.push(("PUBREC", packet(0x50 | bits, &[0, 1]), MALFORMED));
            cases.push(("PUBCOMP", packet(0x70 | bits, &[0, 1]), MALFORMED));
            cases.push(("PINGREQ", packet(0xc0 | bits, &[]), MALFORMED));
            cases.push(("DISCONNECT", packet(0xe0 | bits, &[]), MALFORMED));
            cases.push(("AUTH", packet(0xf0 | bits, &[]), EITHER));
        }
        cases.push(("PUBLISH, QoS 3", packet(0x36, &[&topic[..], &[0, 1]].concat()), MALFORMED));
        cases.push((
            "PUBLISH, QoS 3, DUP and RETAIN",
            packet(0x3f, &[&topic[..], &[0, 1]].concat()),
            MALFORMED,
        ));
        cases.push(("PUBLISH, QoS 0 with DUP", packet(0x38, &topic), EITHER));
        each_offends(broker, version, &cases);
    });
}

#[test]
fn packets_only_a_server_sends_close() {
    each_version(|broker, version| {
        let mut cases: Vec<Case> = vec![
            ("reserved packet type 0", packet(0x00, &[]), EITHER),
            ("reserved packet type 0 with a body", packet(0x00, &[0; 20]), EITHER),
            ("CONNACK", packet(0x20, &[0, 0, 0]), EITHER),
            ("SUBACK", packet(0x90, &[0, 1, 0, 0]), EITHER),
            ("UNSUBACK", packet(0xb0, &[0, 1, 0, 0]), EITHER),
            ("PINGRESP", packet(0xd0, &[]), EITHER),
        ];
        if !version.is_5() {
            cases.push(("AUTH, which 3.1.1 does not have", packet(0xf0, &[]), EITHER));
        }
        each_offends(broker, version, &cases);
    });
}

#[test]
fn wrong_lengths_close() {
    each_version(|broker, version| {
        let whole = publish(version, &Publish::new("topic", "").qos(1).id(1));
        let too_long = vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01];
        let mut cases: Vec<Case> = vec![
            ("a remaining length of five bytes", too_long, MALFORMED),
            ("PINGREQ with a body", packet(0xc0, &[0]), MALFORMED),
            ("PUBLISH without anything", packet(0x30, &[]), MALFORMED),
            ("PUBLISH whose topic runs over the end", packet(0x30, &[0, 5, b'a']), MALFORMED),
            ("PUBLISH, QoS 1, without room for the id", packet(0x32, &whole[2..9]), MALFORMED),
            ("PUBLISH, QoS 1, with half an id", packet(0x32, &whole[2..10]), MALFORMED),
            ("PUBACK without an id", packet(0x40, &[]), MALFORMED),
            ("PUBACK with half an id", packet(0x40, &[1]), MALFORMED),
            ("PUBREC with half an id", packet(0x50, &[1]), MALFORMED),
            ("PUBREL with half an id", packet(0x62, &[1]), MALFORMED),
            ("PUBCOMP with half an id", packet(0x70, &[1]), MALFORMED),
            ("SUBSCRIBE without anything", packet(0x82, &[]), MALFORMED),
            ("SUBSCRIBE with half an id", packet(0x82, &[0]), MALFORMED),
            ("UNSUBSCRIBE without anything", packet(0xa2, &[]), MALFORMED),
        ];
        if version.is_5() {
            cases.push(("a remaining length that is not the shortest", vec![0xc0, 0x80, 0], MALFORMED));
            cases.push(("PUBLISH without properties", packet(0x30, &text("t")), MALFORMED));
            cases.push(("SUBSCRIBE without properties", packet(0x82, &[0, 1]), MALFORMED));
            cases.push((
                "PUBACK with bytes behind its properties",
                packet(0x40, &[0, 1, 0, 0, 0]),
                MALFORMED,
            ));
            cases.push(("DISCONNECT with bytes behind its properties", packet(0xe0, &[0, 0, 0]), MALFORMED));
        } else {
            cases.push(("PUBACK with more than an id", packet(0x40, &[0, 1, 0]), MALFORMED));
            cases.push(("PUBREL with more than an id", packet(0x62, &[0, 1, 0]), MALFORMED));
            cases.push(("DISCONNECT with a body", packet(0xe0, &[0]), MALFORMED));
        }
        each_offends(broker, version, &cases);
    });
}

#[test]
fn a_packet_above_the_announced_size_closes_before_its_body_comes() {
    each_version(|broker, version| {
        let mut header = vec![0x30];
        header.extend(varint(268_435_455));
        each_offends(broker, version, &[("the largest remaining length", header, &[0x95])]);
        if version.is_5() {
            let connect = Connect::new(version, &unique("m"));
            let (mut client, _, connack) = Client::connect_with(broker, &connect);
            let most = connack.number(prop::MAXIMUM_PACKET_SIZE).expect("an announced limit");
            let mut header = vec![0x30];
            header.extend(varint(most));
            client.send(&header);
            client.expect_disconnect(0x95);
        }
    });
}

#[test]
fn strings_that_are_not_utf_8_close() {
    each_version(|broker, version| {
        let mut cases: Vec<Case> = Vec::new();
        for (what, bytes) in NOT_TEXT {
            cases.push((what, publish_to(version, bytes), BAD_TOPIC));
            cases.push((what, subscribe_to(version, bytes, 0), BAD_FILTER));
            cases.push((what, unsubscribe_from(version, bytes), BAD_FILTER));
        }
        each_offends(broker, version, &cases);
    });
}

#[test]
fn connect_with_strings_that_are_not_utf_8_is_turned_away() {
    each_version(|broker, version| {
        for (what, bytes) in NOT_TEXT {
            let plain = Connect::new(version, &unique("m"));
            let client_id = Connect { raw_client_id: Some(bytes.into()), ..plain.clone() };
            // These two fields come last, so that the test can write them behind a CONNECT without them.
            let will = Connect {
                flip_flags: 0x04,
                trailing: [properties(version, &[]), binary(bytes), binary(b"x")].concat(),
                ..plain.clone()
            };
            let user = Connect { flip_flags: 0x80, trailing: binary(bytes), ..plain };
            let client_id_codes = &[0x81, 0x85][..];
            let cases =
                [(what, client_id, client_id_codes), (what, will, BAD_TOPIC), (what, user, MALFORMED)];
            each_is_turned_away(broker, &cases);
        }
    });
}

#[test]
fn a_byte_order_mark_is_a_character_like_any_other() {
    each_version(|broker, version| {
        let topic = unique("bom");
        let marked = format!("\u{feff}{topic}\u{feff}");
        let mut plain = Client::new(broker, version);
        plain.subscribe(&topic, 0);
        let mut exact = Client::new(broker, version);
        exact.subscribe(&marked, 0);
        let mut publisher = Client::new(broker, version);
        publisher.publish(&marked, 1, "marked");
        publisher.publish(&topic, 1, "plain");
        exact.expect_message(&marked, "marked");
        plain.expect_message(&topic, "plain");
    });
}

#[test]
fn topic_names_with_wildcards_or_nothing_close() {
    each_version(|broker, version| {
        let mut cases: Vec<Case> = Vec::new();
        for topic in ["#", "+", "a/#", "a/+/b", "a#", "+a", "/+", "a/b+"] {
            cases.push((topic, publish_to(version, topic.as_bytes()), BAD_TOPIC));
        }
        cases.push(("an empty topic", publish_to(version, b""), if version.is_5() { ILLEGAL } else { &[] }));
        each_offends(broker, version, &cases);
    });
}

#[test]
fn a_will_to_an_illegal_topic_is_turned_away() {
    each_version(|broker, version| {
        for topic in ["", "#", "a/+"] {
            let connect = Connect::new(version, &unique("m")).will(Will::new(topic, "x"));
            each_is_turned_away(broker, &[(topic, connect, BAD_TOPIC)]);
        }
    });
}

#[test]
fn filters_with_misplaced_wildcards_or_nothing_close() {
    each_version(|broker, version| {
        let mut cases: Vec<Case> = Vec::new();
        for filter in ["", "a#", "#a", "a/#/b", "#/a", "##", "a/b#", "a+", "+a", "a/+b", "a/b+/c", "++", "+#"]
        {
            cases.push((filter, subscribe_to(version, filter.as_bytes(), 0), BAD_FILTER));
            cases.push((filter, unsubscribe_from(version, filter.as_bytes()), BAD_FILTER));
        }
        each_offends(broker, version, &cases);
    });
}

#[test]
fn shared_filters_out_of_form_close() {
    each_broker(|broker| {
        let mut cases: Vec<Case> = Vec::new();
        for filter in
            ["$share/", "$share/g", "$share/g/", "$share//t", "$share/+/t", "$share/g#/t", "$share/#"]
        {
            cases.push((filter, subscribe_to(Version::V5, filter.as_bytes(), 0), BAD_FILTER));
        }
        cases.push(("no local", subscribe_to(Version::V5, b"$share/g/t", 0x04), ILLEGAL));
        each_offends(broker, Version::V5, &cases);
    });
}

#[test]
fn packet_id_zero_closes() {
    each_version(|broker, version| {
        let none = properties(version, &[]);
        let cases: Vec<Case> = vec![
            ("PUBLISH, QoS 1", packet(0x32, &[&text("t")[..], &[0, 0], &none].concat()), EITHER),
            ("PUBLISH, QoS 2", packet(0x34, &[&text("t")[..], &[0, 0], &none].concat()), EITHER),
            ("SUBSCRIBE", subscribe(version, 0, &[("t", 0)]), EITHER),
            ("UNSUBSCRIBE", unsubscribe(version, 0, &["t"]), EITHER),
            ("PUBACK", packet(0x40, &[0, 0]), EITHER),
            ("PUBREC", packet(0x50, &[0, 0]), EITHER),
            ("PUBREL", packet(0x62, &[0, 0]), EITHER),
            ("PUBCOMP", packet(0x70, &[0, 0]), EITHER),
        ];
        each_offends(broker, version, &cases);
    });
}

#[test]
fn requests_without_a_filter_close() {
    each_version(|broker, version| {
        let cases = [
            ("SUBSCRIBE", subscribe(version, 1, &[]), EITHER),
            ("UNSUBSCRIBE", unsubscribe(version, 1, &[]), EITHER),
        ];
        each_offends(broker, version, &cases);
    });
}

#[test]
fn subscription_options_out_of_range_close() {
    each_version(|broker, version| {
        let wrong: &[u8] = if version.is_5() {
            &[0x03, 0x30, 0x33, 0x40, 0x80, 0xc0, 0xff]
        } else {
            &[0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff]
        };
        let mut cases: Vec<Case> =
            wrong.iter().map(|options| ("options", subscribe_to(version, b"t", *options), EITHER)).collect();
        // Also in the second of two, and missing altogether.
        cases.push(("the second of two", subscribe(version, 1, &[("t", 0), ("u", 3)]), EITHER));
        let without = [vec![0, 1], properties(version, &[]), text("t")].concat();
        cases.push(("options missing", packet(0x82, &without), MALFORMED));
        each_offends(broker, version, &cases);
    });
}

#[test]
fn a_subscribe_with_one_bad_filter_subscribes_to_none() {
    each_version(|broker, version| {
        let mut bad = vec![("a/#/b", 1)];
        if version.is_5() {
            bad.push(("$share/g/no-local", 0x05));
        }
        for bad in bad {
            let topic = unique("t");
            let connect = Connect::new(version, &unique("m")).persistent();
            let mut client = Client::connect(broker, &connect);
            client.send(&subscribe(version, 1, &[(&topic, 1), bad]));
            client.expect_disconnect_in(BAD_FILTER);
            Client::new(broker, version).publish(&topic, 1, "for nobody");
            Client::connect(broker, &connect).expect_nothing_until_ping();
        }
    });
}

#[test]
fn what_came_before_a_malformed_packet_counts_and_what_comes_behind_does_not() {
    each_version(|broker, version| {
        let topic = unique("t");
        let mut watcher = Client::new(broker, version);
        watcher.subscribe(&topic, 1);
        let message = |n: u16| publish(version, &Publish::new(&topic, n.to_string()).qos(1).id(n));
        let mut client = Client::new(broker, version);
        client.send(&[message(1), message(2), packet(0xc1, &[]), message(3)].concat());
        client.expect_ack(Kind::Puback, 1);
        client.expect_ack(Kind::Puback, 2);
        client.expect_disconnect(0x81);
        watcher.expect_message(&topic, "1");
        watcher.expect_message(&topic, "2");
        watcher.publish(&topic, 0, "end");
        watcher.expect_message(&topic, "end");
    });
}

#[test]
fn a_malformed_packet_is_recognised_in_single_bytes_too() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        for byte in publish_to(version, b"a/+/b") {
            client.send(&[byte]);
        }
        client.expect_disconnect_in(BAD_TOPIC);
    });
}

/// A small seeded generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

#[test]
fn mutated_packets_never_harm_anybody_else() {
    each_version(|broker, version| {
        let mut bystanders = Bystanders::new(broker, version);
        let mut random = Random(0x5eed + version as u64);
        let topic = unique("mutated");
        let valid = [
            Connect::new(version, &unique("m")).will(Will::new(&topic, "x")).user("u").encode(),
            publish(version, &Publish::new(&topic, "payload").qos(1).id(1)),
            publish(version, &Publish::new(&topic, "payload").qos(2).id(2).retain()),
            subscribe(version, 3, &[(&topic, 1), ("a/+/c", 2)]),
            unsubscribe(version, 4, &[&topic, "a/#"]),
            ack(version, &Ack { kind: Kind::Pubrel, id: 2, code: 0, properties: Properties::new() }),
            disconnect(version, 4, &Properties::new()),
        ];
        for _ in 0..300 {
            let mut client = Client::open(broker, version);
            let mut bytes = Connect::new(version, &unique("m")).encode();
            if random.below(4) == 0 {
                bytes.clear();
            }
            for _ in 0..1 + random.below(3) {
                let mut packet = valid[random.below(valid.len())].clone();
                for _ in 0..random.below(4).min(packet.len() - 1) {
                    let at = random.below(packet.len());
                    match random.below(3) {
                        0 => packet[at] = random.below(256) as u8,
                        1 => packet.insert(at, random.below(256) as u8),
                        _ => drop(packet.remove(at)),
                    }
                }
                bytes.extend(packet);
            }
            client.send(&bytes);
            // Whatever came of it: end of file, and the broker lets go of the connection.
            client.hang_up();
        }
        bystanders.are_unaffected();
    });
}
