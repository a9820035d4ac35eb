//! Properties and reason codes that a packet may not have, version 5: the right reason code, and nobody else notices.
mod support;
use support::table::*;
use support::*;

#[test]
fn properties_that_are_not_utf_8_close() {
    each_broker(|broker| {
        let mut cases: Vec<Case> = Vec::new();
        for (what, bytes) in NOT_TEXT {
            let name = [&[prop::USER][..], &binary(bytes), &text("value")].concat();
            let value = [&[prop::USER][..], &text("name"), &binary(bytes)].concat();
            cases.push((what, publish_with(&name), MALFORMED));
            cases.push((what, publish_with(&value), MALFORMED));
            for id in [prop::CONTENT_TYPE, prop::RESPONSE_TOPIC] {
                cases.push((what, publish_with(&[&[id][..], &binary(bytes)].concat()), BAD_TOPIC));
            }
            let reason = [&[prop::REASON][..], &binary(bytes)].concat();
            let list = properties(Version::V5, &reason);
            cases.push((what, packet(0x40, &[&[0, 1, 0x10][..], &list].concat()), MALFORMED));
            cases.push((what, packet(0xe0, &[&[0][..], &list].concat()), MALFORMED));
        }
        each_offends(broker, Version::V5, &cases);
    });
}

#[test]
fn properties_of_publish_out_of_order_close() {
    each_broker(|broker| {
        let twice = |one: &[u8]| publish_with(&one.repeat(2));
        let mut cases: Vec<Case> = vec![
            ("payload format twice", twice(&[0x01, 0]), ILLEGAL),
            ("message expiry twice", twice(&[0x02, 0, 0, 0, 9]), ILLEGAL),
            ("content type twice", twice(&[0x03, 0, 1, b'a']), ILLEGAL),
            ("response topic twice", twice(&[0x08, 0, 1, b'a']), ILLEGAL),
            ("correlation data twice", twice(&[0x09, 0, 1, b'a']), ILLEGAL),
            ("topic alias twice", twice(&[0x23, 0, 1]), ILLEGAL),
            ("payload format 2", publish_with(&[0x01, 2]), EITHER),
            ("subscription id from a client", publish_with(&[0x0b, 1]), ILLEGAL),
            ("topic alias 0", publish_with(&[0x23, 0, 0]), &[0x94, 0x82]),
            ("topic alias above the maximum", publish_with(&[0x23, 0xff, 0xff]), BAD_ALIAS),
            ("an alias never set", packet(0x30, &[0, 0, 3, 0x23, 0, 9]), ILLEGAL),
            ("a response topic with a wildcard", publish_with(&[0x08, 0, 3, b'a', b'/', b'#']), BAD_TOPIC),
            ("a length over the end", packet(0x30, &[0, 1, b't', 9, 0x01, 0]), MALFORMED),
            ("a length within a property", packet(0x30, &[0, 1, b't', 1, 0x01, 0]), MALFORMED),
            ("a length not the shortest", packet(0x30, &[0, 1, b't', 0x80, 0]), MALFORMED),
            ("a value cut short", publish_with(&[0x02, 0, 0, 0]), MALFORMED),
            ("a string cut short", publish_with(&[0x03, 0, 5, b'a']), MALFORMED),
            ("half a pair", publish_with(&[0x26, 0, 1, b'a']), MALFORMED),
        ];
        for id in [0x00, 0x04, 0x0a, 0x10, 0x2b, 0x7f, 0x80, 0xff] {
            cases.push(("an id that does not exist", publish_with(&[id, 0, 0, 0, 0]), MALFORMED));
        }
        let elsewhere: [&[u8]; 8] = [
            &[0x11, 0, 0, 0, 1],
            &[0x12, 0, 1, b'a'],
            &[0x17, 1],
            &[0x18, 0, 0, 0, 1],
            &[0x1f, 0, 1, b'a'],
            &[0x21, 0, 1],
            &[0x24, 1],
            &[0x27, 0, 0, 1, 0],
        ];
        for list in elsewhere {
            cases.push(("a property of other packets", publish_with(list), EITHER));
        }
        each_offends(broker, Version::V5, &cases);
    });
}

#[test]
fn properties_of_other_packets_out_of_order_close() {
    each_broker(|broker| {
        let request = |first: u8, list: &[u8], tail: &[u8]| {
            packet(first, &[&[0, 1][..], &properties(Version::V5, list), tail].concat())
        };
        let (filter, options) = (text("t"), [&text("t")[..], &[0]].concat());
        let reply = |first: u8, code: u8, list: &[u8]| {
            packet(first, &[&[0, 1, code][..], &properties(Version::V5, list)].concat())
        };
        let goodbye = |list: &[u8]| packet(0xe0, &[&[0][..], &properties(Version::V5, list)].concat());
        let reason = [0x1f, 0, 1, b'a'];
        let mut cases: Vec<Case> = vec![
            ("SUBSCRIBE, subscription id 0", request(0x82, &[0x0b, 0], &options), ILLEGAL),
            ("SUBSCRIBE, two subscription ids", request(0x82, &[0x0b, 1, 0x0b, 2], &options), ILLEGAL),
            (
                "SUBSCRIBE, an id of five bytes",
                request(0x82, &[0x0b, 0xff, 0xff, 0xff, 0xff, 1], &options),
                MALFORMED,
            ),
            ("SUBSCRIBE, an id not the shortest", request(0x82, &[0x0b, 0x81, 0], &options), MALFORMED),
            ("SUBSCRIBE, a reason string", request(0x82, &reason, &options), EITHER),
            ("UNSUBSCRIBE, a subscription id", request(0xa2, &[0x0b, 1], &filter), EITHER),
            ("DISCONNECT, expiry twice", goodbye(&[0x11, 0, 0, 0, 0, 0x11, 0, 0, 0, 0]), ILLEGAL),
            ("DISCONNECT, a topic alias", goodbye(&[0x23, 0, 1]), EITHER),
            ("DISCONNECT, reason string twice", goodbye(&reason.repeat(2)), ILLEGAL),
            ("DISCONNECT, an id that does not exist", goodbye(&[0x7f, 0]), MALFORMED),
        ];
        for (first, code) in [(0x40, 0x10), (0x50, 0x10), (0x62, 0x92), (0x70, 0x92)] {
            cases.push(("a reason string twice", reply(first, code, &reason.repeat(2)), ILLEGAL));
            cases.push(("a content type", reply(first, code, &[0x03, 0, 1, b'a']), EITHER));
            cases.push(("an id that does not exist", reply(first, code, &[0x7f, 0]), MALFORMED));
        }
        each_offends(broker, Version::V5, &cases);
    });
}

#[test]
fn properties_of_connect_out_of_order_are_turned_away() {
    each_broker(|broker| {
        let connect = || Connect::new(Version::V5, &unique("m"));
        let with = |id: u8, value: Value| connect().property(id, value);
        let twice = |id: u8, value: Value| connect().property(id, value.clone()).property(id, value);
        let a = || Value::Text("a".into());
        let cases: Vec<(&str, Connect, &[u8])> = vec![
            ("receive maximum 0", with(0x21, Value::Two(0)), ILLEGAL),
            ("maximum packet size 0", with(0x27, Value::Four(0)), ILLEGAL),
            ("request problem information 2", with(0x17, Value::Byte(2)), ILLEGAL),
            ("request response information 2", with(0x19, Value::Byte(2)), ILLEGAL),
            ("session expiry twice", twice(0x11, Value::Four(1)), ILLEGAL),
            ("receive maximum twice", twice(0x21, Value::Two(1)), ILLEGAL),
            ("maximum packet size twice", twice(0x27, Value::Four(1000)), ILLEGAL),
            ("topic alias maximum twice", twice(0x22, Value::Two(1)), ILLEGAL),
            ("request problem information twice", twice(0x17, Value::Byte(1)), ILLEGAL),
            ("request response information twice", twice(0x19, Value::Byte(1)), ILLEGAL),
            ("authentication method twice", twice(0x15, a()), ILLEGAL),
            ("assigned client id", with(0x12, a()), EITHER),
            ("server keep alive", with(0x13, Value::Two(1)), EITHER),
            ("maximum QoS", with(0x24, Value::Byte(1)), EITHER),
            ("a reason string", with(0x1f, a()), EITHER),
            ("a topic alias", with(0x23, Value::Two(1)), EITHER),
            ("a will delay outside the will", with(0x18, Value::Four(1)), EITHER),
            ("an id that does not exist", with(0x7f, Value::Byte(1)), MALFORMED),
        ];
        each_is_turned_away(broker, &cases);
    });
}

#[test]
fn properties_of_a_will_out_of_order_are_turned_away() {
    each_broker(|broker| {
        let with = |list: &[(u8, Value)]| {
            let mut will = Will::new("t", "x");
            will.properties.0.extend(list.iter().cloned());
            Connect::new(Version::V5, &unique("m")).will(will)
        };
        let twice = |id: u8, value: Value| with(&[(id, value.clone()), (id, value)]);
        let a = || Value::Text("a".into());
        let cases: Vec<(&str, Connect, &[u8])> = vec![
            ("payload format 2", with(&[(0x01, Value::Byte(2))]), EITHER),
            ("will delay twice", twice(0x18, Value::Four(1)), ILLEGAL),
            ("payload format twice", twice(0x01, Value::Byte(1)), ILLEGAL),
            ("message expiry twice", twice(0x02, Value::Four(1)), ILLEGAL),
            ("content type twice", twice(0x03, a()), ILLEGAL),
            ("response topic twice", twice(0x08, a()), ILLEGAL),
            ("correlation data twice", twice(0x09, Value::Binary(vec![1])), ILLEGAL),
            ("a response topic with a wildcard", with(&[(0x08, Value::Text("a/+".into()))]), BAD_TOPIC),
            ("session expiry within the will", with(&[(0x11, Value::Four(1))]), EITHER),
            ("a topic alias", with(&[(0x23, Value::Two(1))]), EITHER),
            ("a subscription id", with(&[(0x0b, Value::Varint(1))]), EITHER),
            ("an id that does not exist", with(&[(0x7f, Value::Byte(1))]), MALFORMED),
        ];
        each_is_turned_away(broker, &cases);
    });
}

#[test]
fn reason_codes_not_listed_for_the_packet_close() {
    each_broker(|broker| {
        let mut cases: Vec<Case> = Vec::new();
        for code in [0x01, 0x11, 0x18, 0x8e, 0x92, 0xff] {
            cases.push(("PUBACK", packet(0x40, &[0, 1, code]), EITHER));
            cases.push(("PUBREC", packet(0x50, &[0, 1, code]), EITHER));
        }
        for code in [0x01, 0x10, 0x80, 0x91, 0xff] {
            cases.push(("PUBREL", packet(0x62, &[0, 1, code]), EITHER));
            cases.push(("PUBCOMP", packet(0x70, &[0, 1, code]), EITHER));
        }
        for code in [0x01, 0x02, 0x10, 0x18, 0x84, 0xff] {
            cases.push(("DISCONNECT", packet(0xe0, &[code]), EITHER));
        }
        cases.push(("AUTH", packet(0xf0, &[0x01, 0]), EITHER));
        each_offends(broker, Version::V5, &cases);
    });
}
