//! The table of properties against the standard's (5.0 table 2-4), and against the packets that take them.
use super::super::properties::{Kind, Property};
use super::super::*;

/// The packets of table 2-4 by their type numbers, 0 for the will.
const ALLOWED: [(u8, &[u8]); 27] = [
    (0x01, &[3, 0]),
    (0x02, &[3, 0]),
    (0x03, &[3, 0]),
    (0x08, &[3, 0]),
    (0x09, &[3, 0]),
    (0x0B, &[3, 8]),
    (0x11, &[1, 2, 14]),
    (0x12, &[2]),
    (0x13, &[2]),
    (0x15, &[1, 2, 15]),
    (0x16, &[1, 2, 15]),
    (0x17, &[1]),
    (0x18, &[0]),
    (0x19, &[1]),
    (0x1A, &[2]),
    (0x1C, &[2, 14]),
    (0x1F, &[2, 4, 5, 6, 7, 9, 11, 14, 15]),
    (0x21, &[1, 2]),
    (0x22, &[1, 2]),
    (0x23, &[3]),
    (0x24, &[2]),
    (0x25, &[2]),
    (0x26, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15]),
    (0x27, &[1, 2]),
    (0x28, &[2]),
    (0x29, &[2]),
    (0x2A, &[2]),
];

/// A value that is good for any property of that type.
fn value(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Bit | Kind::NonZeroVariable => b"\x01",
        Kind::Word | Kind::NonZeroWord => b"\0\x01",
        Kind::Long | Kind::NonZeroLong => b"\0\0\0\x01",
        Kind::Text | Kind::Data => b"\0\x01x",
        Kind::Pair => b"\0\x01k\0\x01v",
    }
}

/// What stands before and behind the properties of a packet (`0`: of the will).
fn around(place: u8) -> (u8, &'static [u8], &'static [u8]) {
    match place {
        0 => (0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\0", b"\0\x01t\0\0"),
        1 => (0x10, b"\0\x04MQTT\x05\x02\0\0", b"\0\0"),
        2 => (0x20, b"\0\0", b""),
        3 => (0x30, b"\0\x01t", b"payload"),
        4..=7 => (place << 4, b"\0\x01\0", b""),
        8 => (0x82, b"\0\x01", b"\0\x01f\0"),
        9 | 11 => (place << 4, b"\0\x01", b"\0"),
        10 => (0xA2, b"\0\x01", b"\0\x01f"),
        14 => (0xE0, b"\0", b""),
        _ => (0xF0, b"\x18", b""),
    }
}

fn decode_with(place: u8, properties: &[u8]) -> Result<(), DecodeError> {
    let (first, before, behind) = around(place);
    let body = [before, &[properties.len() as u8], properties, behind].concat();
    decode(Frame { first, bytes: &[], body: &body }, Version::V5).map(|_| ())
}

const PLACES: [u8; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15];

/// Authentication data goes with a method, and AUTH always has one.
fn companion(place: u8, id: u8) -> &'static [u8] {
    let needs_method = (place == 15 && id != 0x15) || (place == 1 && id == 0x16);
    if needs_method { b"\x15\0\x01m" } else { b"" }
}

#[test]
fn every_property_stands_exactly_where_the_standard_lists_it() {
    assert_eq!(Property::ALL.len(), ALLOWED.len());
    for (property, (id, allowed)) in Property::ALL.iter().zip(ALLOWED) {
        assert_eq!(*property as u8, id);
        for place in PLACES {
            let one = [companion(place, id), &[id], value(property.kind())].concat();
            let expected =
                if allowed.contains(&place) { Ok(()) } else { Err(DecodeError::PropertyNotAllowed { id }) };
            assert_eq!(decode_with(place, &one), expected, "{property:?} in {place}");
        }
    }
}

#[test]
fn only_user_properties_and_subscription_ids_of_publish_repeat() {
    for (property, (id, allowed)) in Property::ALL.iter().zip(ALLOWED) {
        for &place in allowed {
            let one = [&[id], value(property.kind())].concat();
            let two = [companion(place, id), &one, &one].concat();
            let repeats = id == 0x26 || (id, place) == (0x0B, 3);
            let expected = if repeats { Ok(()) } else { Err(DecodeError::DuplicateProperty { id }) };
            assert_eq!(decode_with(place, &two), expected, "{property:?} in {place}");
        }
    }
}

#[test]
fn other_identifiers_are_unknown() {
    for id in 0..=u8::MAX {
        if ALLOWED.iter().any(|(known, _)| *known == id) {
            continue;
        }
        for place in PLACES {
            assert_eq!(decode_with(place, &[id, 0]), Err(DecodeError::UnknownProperty { id }));
        }
    }
}

#[test]
fn every_property_with_a_part_of_its_value_is_refused() {
    for (property, (id, allowed)) in Property::ALL.iter().zip(ALLOWED) {
        for end in 0..value(property.kind()).len() {
            let part = [&[id], &value(property.kind())[..end]].concat();
            for &place in allowed {
                assert_eq!(decode_with(place, &part), Err(DecodeError::Truncated), "{property:?}");
            }
        }
    }
}

#[test]
fn user_properties_among_others_keep_their_order() {
    let body = [
        &b"\0\x01t\x1f"[..],
        b"\x26\0\x01a\0\x011",
        b"\x02\0\0\0\x09",
        b"\x26\0\x01b\0\x012",
        b"\x0b\x05",
        b"\x26\0\x01a\0\x013",
        b"\x0b\x06",
        b"p",
    ];
    let body = body.concat();
    let mut body = body;
    body[3] = (body.len() - 5) as u8;
    let frame = Frame { first: 0x30, bytes: &[], body: &body };
    let publish = Publish::decode(frame, Version::V5).unwrap();
    let pairs: Vec<_> = publish.properties.user_properties.iter().collect();
    assert_eq!(pairs, [("a", "1"), ("b", "2"), ("a", "3")]);
    assert_eq!(publish.subscription_ids.collect::<Vec<_>>(), [5, 6]);
    assert_eq!(publish.properties.message_expiry, Some(9));
    assert_eq!(publish.payload, b"p");

    let mut forwarded = Vec::new();
    publish.properties.encode_forwarded(&mut forwarded);
    assert_eq!(forwarded, b"\x26\0\x01a\0\x011\x26\0\x01b\0\x012\x26\0\x01a\0\x013");
    assert!(!publish.properties.is_empty_forwarded());
}

#[test]
fn properties_that_are_not_passed_on_leave_nothing_to_pass_on() {
    let frame = Frame { first: 0x30, bytes: &[], body: b"\0\x01t\x0a\x02\0\0\0\x09\x23\0\x01\x0b\x05" };
    let publish = Publish::decode(frame, Version::V5).unwrap();
    assert!(publish.properties.user_properties.is_empty());
    assert!(publish.properties.is_empty_forwarded());
    assert!(!publish.subscription_ids.is_empty());
    let mut forwarded = Vec::new();
    publish.properties.encode_forwarded(&mut forwarded);
    assert_eq!(forwarded, b"");
}

#[test]
#[should_panic(expected = "only user properties are expected")]
fn kept_user_properties_are_nothing_else() {
    UserProperties::from_encoded(b"\x01\x01");
}
