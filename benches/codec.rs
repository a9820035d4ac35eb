//! What a PUBLISH costs on its way through the codec.
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ringmq::codec::{
    Cut, DeliveryHead, MAX_PACKET, Publish, QoS, Version, cut, decode, encode_delivery,
    encode_delivery_header,
};

fn main() {
    divan::main();
}

const TOPIC: &[u8] = b"plant/3/sensor/17";
const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
/// Packets a round: the cost of one is that of the round divided by this.
const RUN: usize = 100;

fn head(qos: QoS) -> DeliveryHead<'static> {
    DeliveryHead {
        dup: false,
        qos,
        retain: false,
        packet_id: 7,
        topic_alias: None,
        message_expiry: None,
        subscription_ids: &[],
    }
}

/// So many PUBLISH packets, one behind the other.
fn run_of(count: usize, version: Version, payload_len: usize) -> Vec<u8> {
    let payload = vec![b'x'; payload_len];
    let mut bytes = Vec::new();
    for _ in 0..count {
        encode_delivery(version, &head(QoS::AtMostOnce), TOPIC, b"", &payload, &mut bytes);
    }
    bytes
}

/// A frame with 64 bytes of payload becomes a `Publish`.
#[divan::bench(args = VERSIONS)]
fn decode_publish_64(bencher: Bencher<'_, '_>, version: Version) {
    let bytes = run_of(1, version, 64);
    let Ok(Cut::Frame(frame)) = cut(&bytes, MAX_PACKET) else { unreachable!("one whole packet") };
    bencher.counter(ItemsCount::new(RUN)).bench_local(|| {
        for _ in 0..RUN {
            let decoded = Publish::decode(black_box(frame), version);
            assert!(black_box(&decoded).is_ok());
        }
    });
}

/// The same through the enum of all packets.
#[divan::bench(args = VERSIONS)]
fn decode_packet_64(bencher: Bencher<'_, '_>, version: Version) {
    let bytes = run_of(1, version, 64);
    let Ok(Cut::Frame(frame)) = cut(&bytes, MAX_PACKET) else { unreachable!("one whole packet") };
    bencher.counter(ItemsCount::new(RUN)).bench_local(|| {
        for _ in 0..RUN {
            let decoded = decode(black_box(frame), version);
            assert!(black_box(&decoded).is_ok());
        }
    });
}

/// A hundred frames cut out of one receive buffer.
#[divan::bench]
fn cut_run_of_100(bencher: Bencher<'_, '_>) {
    let bytes = run_of(RUN, Version::V311, 64);
    bencher.counter(ItemsCount::new(RUN)).bench_local(|| {
        let mut rest = black_box(&bytes[..]);
        while let Ok(Cut::Frame(frame)) = cut(rest, MAX_PACKET) {
            rest = &rest[black_box(frame).bytes.len()..];
        }
        rest
    });
}

fn deliver(bencher: Bencher<'_, '_>, version: Version, qos: QoS, payload_len: usize) {
    let payload = vec![b'x'; payload_len];
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(RUN)).counter(BytesCount::new(RUN * payload_len)).bench_local(|| {
        out.clear();
        for _ in 0..RUN {
            encode_delivery(
                version,
                black_box(&head(qos)),
                black_box(TOPIC),
                b"",
                black_box(&payload),
                &mut out,
            );
        }
        out.len()
    });
}

/// Deliveries of 64 bytes at QoS 0.
#[divan::bench(args = VERSIONS)]
fn encode_delivery_64(bencher: Bencher<'_, '_>, version: Version) {
    deliver(bencher, version, QoS::AtMostOnce, 64);
}

/// Deliveries of 64 bytes at QoS 1.
#[divan::bench(args = VERSIONS)]
fn encode_delivery_64_qos1(bencher: Bencher<'_, '_>, version: Version) {
    deliver(bencher, version, QoS::AtLeastOnce, 64);
}

/// Deliveries of 16 KiB, payload copied.
#[divan::bench(args = VERSIONS)]
fn encode_delivery_16k(bencher: Bencher<'_, '_>, version: Version) {
    deliver(bencher, version, QoS::AtMostOnce, 16 * 1024);
}

/// Deliveries of 16 KiB, payload left to be sent from where it lies.
#[divan::bench(args = VERSIONS)]
fn encode_delivery_header_16k(bencher: Bencher<'_, '_>, version: Version) {
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(RUN)).bench_local(|| {
        out.clear();
        for _ in 0..RUN {
            let head = head(QoS::AtMostOnce);
            encode_delivery_header(version, black_box(&head), black_box(TOPIC), b"", 16 * 1024, &mut out);
        }
        out.len()
    });
}
