//! Keys. Numbers are in network order, so that keys sort as their numbers do.
use super::Key;

/// Bytes of a topic or filter that go into a key as they are; of a longer one the rest is hashed. The engine takes
/// keys of 65,535 bytes.
const PLAIN_TEXT: usize = 60_000;

const ENDED: &[u8] = b"ended";

/// The record of a session, and the beginning of all keys of a session.
pub fn session(session: u64) -> Key {
    Key::from_slice(&session.to_be_bytes())
}

/// A subscription.
pub fn subscription(session: u64, filter: &str) -> Key {
    let mut key = Key::from_slice(&session.to_be_bytes());
    push_text(&mut key, filter);
    key
}

/// A queue entry, and how far it has come.
pub fn entry(session: u64, position: u64) -> Key {
    let mut key = Key::from_slice(&session.to_be_bytes());
    key.extend_from_slice(&position.to_be_bytes());
    key
}

/// A QoS 2 packet id from the client.
pub fn incoming(session: u64, packet_id: u16) -> Key {
    let mut key = Key::from_slice(&session.to_be_bytes());
    key.extend_from_slice(&packet_id.to_be_bytes());
    key
}

/// A shared payload, or a place in the queues of groups.
pub fn number(number: u64) -> Key {
    Key::from_slice(&number.to_be_bytes())
}

/// Says that the messages of a session that has ended are to be removed; among the records about the store itself.
pub fn ended(session: u64) -> Key {
    let mut key = Key::from_slice(ENDED);
    key.extend_from_slice(&session.to_be_bytes());
    key
}

/// The session that such a key names.
pub fn ended_session(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(ENDED)?.try_into().ok()?))
}

/// A retained message.
pub fn retained(topic: &str) -> Key {
    let mut key = Key::new();
    push_text(&mut key, topic);
    key
}

fn push_text(key: &mut Key, text: &str) {
    let bytes = text.as_bytes();
    if bytes.len() <= PLAIN_TEXT {
        return key.extend_from_slice(bytes);
    }
    key.extend_from_slice(&bytes[..PLAIN_TEXT]);
    key.extend_from_slice(&fnv128(&bytes[PLAIN_TEXT..]).to_be_bytes());
}

/// FNV-1a with 128 bits: the same on every machine and in every version.
fn fnv128(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

/// The number at the beginning of a key.
pub fn leading_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(..8)?.try_into().ok()?))
}

/// What follows the number of the session, as a number: a position.
pub fn position(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(8..)?.try_into().ok()?))
}

/// What follows the number of the session, as a packet id.
pub fn packet_id(key: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(key.get(8..)?.try_into().ok()?))
}
