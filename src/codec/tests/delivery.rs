//! The hot path's encoder against the decoder.
use super::super::*;
use super::any::{publish, version};
use proptest::collection::vec;
use proptest::prelude::*;

fn head(publish: &Publish<'_>, ids: &'static [u32]) -> DeliveryHead<'static> {
    DeliveryHead {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        packet_id: publish.packet_id,
        topic_alias: publish.topic_alias,
        message_expiry: publish.properties.message_expiry,
        subscription_ids: ids,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_delivery_is_read_as_the_message_that_came(
        published in publish(Version::V5),
        ids in vec(1..=primitives::MAX_VARINT, 0..40),
        version in version(),
    ) {
        let ids: &'static [u32] = ids.leak();
        let head = head(&published, ids);
        let topic = if published.topic.is_empty() && !version.is_v5() { "t" } else { published.topic };
        let mut forwarded = Vec::new();
        published.properties.encode_forwarded(&mut forwarded);
        prop_assert_eq!(forwarded.is_empty(), published.properties.is_empty_forwarded());

        let mut bytes = vec![0xAA];
        encode_delivery(version, &head, topic.as_bytes(), &forwarded, published.payload, &mut bytes);
        let bytes = &bytes[1..];
        let size = delivery_size(version, &head, topic.as_bytes(), &forwarded, published.payload.len());
        prop_assert_eq!(bytes.len(), size);

        let mut parts = Vec::new();
        let payload_len = published.payload.len();
        encode_delivery_header(version, &head, topic.as_bytes(), &forwarded, payload_len, &mut parts);
        parts.extend_from_slice(published.payload);
        prop_assert_eq!(bytes, &parts[..]);

        let Ok(Cut::Frame(frame)) = cut(bytes, MAX_PACKET) else { panic!("a delivery is one frame") };
        prop_assert_eq!(frame.bytes.len(), size);
        let delivered = Publish::decode(frame, version).unwrap();
        if version.is_v5() {
            prop_assert_eq!(delivered.subscription_ids.collect::<Vec<_>>(), ids);
            let subscription_ids = SubscriptionIds::default();
            prop_assert_eq!(Publish { subscription_ids, ..delivered }, published);
        } else {
            let properties = MessageProperties::default();
            prop_assert_eq!(delivered, Publish { topic, topic_alias: None, properties, ..published });
        }
    }
}

#[test]
fn the_length_field_grows_where_it_must() {
    let head = DeliveryHead {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: 0,
        topic_alias: None,
        message_expiry: None,
        subscription_ids: &[],
    };
    // A topic of one byte takes three bytes of the remaining length.
    for (remaining, length_bytes) in
        [(127, 1), (128, 2), (16_383, 2), (16_384, 3), (2_097_151, 3), (2_097_152, 4), (268_435_455, 4)]
    {
        let size = delivery_size(Version::V311, &head, b"t", b"", remaining - 3);
        assert_eq!(size, 1 + length_bytes + remaining);
        let mut out = Vec::new();
        encode_delivery_header(Version::V311, &head, b"t", b"", remaining - 3, &mut out);
        assert_eq!(out.len(), size - (remaining - 3));
        assert_eq!(cut(&out, MAX_PACKET), Ok(Cut::Short { total: Some(size) }));
    }
}

#[test]
fn what_outgrows_the_largest_packet_shows_in_its_size() {
    let ids = [1];
    let head = DeliveryHead {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: 0,
        topic_alias: None,
        message_expiry: None,
        subscription_ids: &ids,
    };
    let payload = MAX_PACKET as usize - 5 - 3;
    assert_eq!(delivery_size(Version::V311, &head, b"t", b"", payload), MAX_PACKET as usize);
    assert!(delivery_size(Version::V5, &head, b"t", b"", payload) > MAX_PACKET as usize);
}
