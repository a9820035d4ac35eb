use super::*;
use crate::codec::{MessageProperties, QoS, SubscriptionIds, UserPropertiesBuf};
use std::time::{Duration, UNIX_EPOCH};

fn time() -> Calendar {
    Calendar::new(UNIX_EPOCH + Duration::new(1_795_344_890, 650_495_281))
}

/// Renders a message with every property, or a bare one.
fn render(format: &str, full: bool) -> String {
    let mut pairs = UserPropertiesBuf::new();
    pairs.push("k1", "v1");
    pairs.push("k2", "v2");
    let properties = MessageProperties {
        payload_format: Some(1),
        message_expiry: Some(999),
        content_type: Some("text/plain"),
        response_topic: Some("r/t"),
        correlation_data: Some(b"c d"),
        user_properties: pairs.as_ref(),
    };
    let publish = Publish {
        dup: false,
        qos: if full { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        retain: full,
        topic: "f/t",
        packet_id: if full { 7 } else { 0 },
        topic_alias: full.then_some(3),
        subscription_ids: SubscriptionIds::default(),
        properties: if full { properties } else { MessageProperties::default() },
        payload: if full { "hé\"\\\n\x01x".as_bytes() } else { b"" },
    };
    let rendered = Format::parse(format).unwrap().render(&publish, &time(), false);
    String::from_utf8(rendered.unwrap()).unwrap()
}

#[test]
fn every_sequence_names_its_part() {
    for (format, expected) in [
        ("%t|%q|%r|%l|%m", "f/t|1|1|8|7"),
        ("%p", "hé\"\\\n\x01x"),
        ("%x %X", "68c3a9225c0a0178 68C3A9225C0A0178"),
        ("%A %C %D %E %F", "3 text/plain c d 999 1"),
        ("%P %R %S|", "k1:v1 k2:v2 r/t |"),
        ("%I %U", "2026-11-22T10:54:50+0000 1795344890.650495281"),
        ("%% @@ \\\\ plain ä", "% @ \\ plain ä"),
        ("\\0a\\a\\e\\n\\r\\t\\v", "\0a\x07\x1b\n\r\t\x0b"),
        ("@Y-@m-@dT@H:@M:@S.@N@z", "2026-11-22T10:54:50.650495281+0000"),
        ("", ""),
    ] {
        assert_eq!(render(format, true), expected, "{format}");
    }
}

#[test]
fn what_a_message_does_not_have_is_empty() {
    assert_eq!(render("[%A%C%D%E%F%P%R%S%p%x]%l%m%q%r", false), "[]0000");
}

#[test]
fn fields_are_padded_and_cut() {
    for (format, expected) in [
        ("%6t|", "   f/t|"),
        ("%-6t|", "f/t   |"),
        ("%06t|", "   f/t|"),
        ("%.2t|", "f/|"),
        ("%4.2t|", "  f/|"),
        ("%-4.2t|", "f/  |"),
        ("%.t|", "|"),
        ("%05l|", "00008|"),
        ("%-05l|", "8    |"),
        ("%5l|", "    8|"),
        ("%06E|", "000999|"),
        ("%03F|", "001|"),
        ("%018x|", "0068c3a9225c0a0178|"),
        ("%.4x|", "68c3a9225c0a0178|"),
        ("%30I|", "      2026-11-22T10:54:50+0000|"),
        ("%.4I|", "2026|"),
        ("%5q|%5r|%5%|%9D|", "1|1|%|c d|"),
        ("%5m|", "    7|"),
    ] {
        assert_eq!(render(format, true), expected, "{format}");
    }
}

#[test]
fn json_has_what_the_message_has() {
    assert_eq!(
        render("%j", true),
        "{\"tst\":\"2026-11-22T10:54:50.650495+0000\",\"topic\":\"f/t\",\"qos\":1,\"retain\":1,\"payloadlen\":8,\"mid\":7,\
         \"properties\":{\"content-type\":\"text/plain\",\"response-topic\":\"r/t\",\"correlation-data\":\"c d\",\
         \"user-properties\":{\"k1\":\"v1\",\"k2\":\"v2\"},\"payload-format-indicator\":1,\"message-expiry-interval\":999,\
         \"topic-alias\":3},\"payload\":\"hé\\\"\\\\\\n\\u0001x\"}"
    );
    let bare = "{\"tst\":\"2026-11-22T10:54:50.650495+0000\",\"topic\":\"f/t\",\"qos\":0,\"retain\":0,\"payloadlen\":0,\"payload\":null}";
    assert_eq!(render("%j", false), bare);
    assert_eq!(render("%J", false), bare);
}

#[test]
fn a_json_payload_keeps_its_numbers_and_loses_its_blanks() {
    let payload = b" {\"a\": 1.0, \"b\":[1, {\"z\":null}], \"c\":\"x y\"} ";
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "t",
        packet_id: 0,
        topic_alias: None,
        subscription_ids: SubscriptionIds::default(),
        properties: MessageProperties::default(),
        payload,
    };
    let format = Format::parse("%J").unwrap();
    let text = String::from_utf8(format.render(&publish, &time(), false).unwrap()).unwrap();
    assert!(text.ends_with(",\"payload\":{\"a\":1.0,\"b\":[1,{\"z\":null}],\"c\":\"x y\"}}"), "{text}");
    let nested = "[".repeat(100_000);
    for payload in [&b"{"[..], b"\xff", b"1 2", nested.as_bytes()] {
        assert_eq!(format.render(&Publish { payload, ..publish }, &time(), false), Err(NotJson));
    }
}

#[test]
fn a_wrong_format_says_what_is_wrong() {
    for (format, says) in [
        ("%z", "'%z' is no part of a message"),
        ("%", "the sequence behind the last '%' is incomplete"),
        ("%-05.3", "the sequence behind the last '%' is incomplete"),
        ("%0-5l", "'%-' is no part of a message"),
        ("abc\\", "the character behind the last '\\' is missing"),
        ("\\q", "'\\q' stands for no character"),
        ("@", "the sequence behind the last '@' is missing"),
        ("@q", "'@q' is no part of a date or time"),
        ("%100001t", "a field has at most 100000 characters"),
        ("%99999999999999999999t", "a field has at most 100000 characters"),
    ] {
        assert_eq!(Format::parse(format).unwrap_err(), says);
    }
}
