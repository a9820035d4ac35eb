use super::assembly::{Assembly, Change, Round};
use super::*;

fn put(space: Space, key: Key, value: &'static str) -> Op {
    Op::Put { space, key, value: Bytes::from_static(value.as_bytes()), is_new: false, holds: 0 }
}
fn entry(session: u64, position: u64, holds: u64) -> Op {
    let (key, value) = (key::entry(session, position), Bytes::from_static(b"entry"));
    Op::Put { space: Space::Queue, key, value, is_new: true, holds }
}
fn entry_gone(session: u64, position: u64, releases: u64) -> Op {
    Op::Remove { space: Space::Queue, key: key::entry(session, position), releases }
}
fn retained(value: &'static str) -> Op {
    put(Space::Retained, key::retained("t"), value)
}
fn part(unit: u64, is_root: bool, forwarded: u32, ops: Vec<Op>) -> Item {
    Item::Part(Part { unit, is_root, forwarded, in_order: false, ops })
}
fn batch(number: u64, items: Vec<Item>) -> Batch {
    Batch { number, items, bytes: 0 }
}
fn round(assembly: &mut Assembly) -> Option<Round> {
    assembly.take_round(|_, _| Vec::new())
}
/// Records that a round writes, and those it removes.
fn changes(round: &Round) -> (Vec<(Space, &[u8])>, usize) {
    let written = round.changes.iter().filter_map(|((space, _), change)| match change {
        Change::Put(value) => Some((*space, &value[..])),
        Change::Remove => None,
    });
    let removed = round.changes.values().filter(|change| **change == Change::Remove).count();
    (written.collect(), removed)
}

#[test]
fn changes_of_one_shard_are_stored_with_the_next_round() {
    let mut assembly = Assembly::new(1, []);
    assembly.add(0, batch(1, vec![Item::Op(retained("1"))]));
    assembly.add(0, batch(2, vec![Item::Op(retained("2"))]));
    let stored = round(&mut assembly).expect("a round");
    assert_eq!(changes(&stored), (vec![(Space::Retained, &b"2"[..])], 0));
    assert_eq!(stored.stored, [(0, 2)]);
    assert_eq!(round(&mut assembly), None);
}

#[test]
fn what_comes_and_goes_in_one_round_is_not_stored_at_all() {
    let mut assembly = Assembly::new(1, []);
    let payload = Op::Put {
        space: Space::Message,
        key: key::number(5),
        value: Bytes::from_static(b"payload"),
        is_new: true,
        holds: 0,
    };
    let ops = [payload, entry(1, 1, 5), entry(2, 1, 5), entry_gone(1, 1, 5), entry_gone(2, 1, 5)];
    assembly.add(0, batch(1, ops.map(Item::Op).into()));
    let stored = round(&mut assembly).expect("a promise");
    assert_eq!((changes(&stored), &stored.stored[..]), ((vec![], 0), &[(0, 1)][..]));
}

#[test]
fn a_shared_payload_goes_with_its_last_holder() {
    let mut assembly = Assembly::new(1, [(5, 2)]);
    assembly.add(0, batch(1, vec![Item::Op(entry_gone(1, 1, 5))]));
    assert_eq!(changes(&round(&mut assembly).unwrap()).1, 1);
    assembly.add(0, batch(2, vec![Item::Op(entry_gone(2, 1, 5))]));
    let stored = round(&mut assembly).unwrap();
    assert!(stored.changes.contains_key(&(Space::Message, key::number(5))));
}

#[test]
fn a_publish_is_stored_when_all_its_parts_have_come() {
    let unit = 1 << 56 | 1;
    let mut assembly = Assembly::new(3, []);
    let incoming = put(Space::Incoming, key::incoming(1, 7), "");
    assembly.add(1, batch(1, vec![part(unit, true, 2, vec![incoming, entry(1, 1, 0)])]));
    assembly.add(1, batch(2, vec![Item::Op(put(Space::Session, key::session(9), "other"))]));
    assembly.add(0, batch(1, vec![part(unit, false, 1, vec![entry(2, 1, 0)])]));
    // What has nothing to do with it goes ahead; the promises of its shards do not.
    let stored = round(&mut assembly).expect("the other change");
    assert_eq!(changes(&stored), (vec![(Space::Session, &b"other"[..])], 0));
    assert!(stored.stored.is_empty());
    // The first forwarded part and the one it caused itself.
    assembly.add(2, batch(1, vec![part(unit, false, 0, vec![]), part(unit, false, 0, vec![entry(3, 1, 0)])]));
    let stored = round(&mut assembly).expect("the publish");
    assert_eq!(changes(&stored).0.len(), 4);
    assert_eq!(stored.stored, [(0, 1), (1, 2), (2, 1)]);
    assert_eq!(assembly.waiting(), 0);
}

#[test]
fn a_change_of_what_waits_waits_too_and_so_does_what_belongs_to_it() {
    let (one, two) = (1 << 56 | 1, 1 << 56 | 2);
    let mut assembly = Assembly::new(2, []);
    // Shard 0 owns the retained message that both publishes of shard 1 set.
    assembly.add(1, batch(1, vec![part(one, true, 2, vec![])]));
    assembly.add(1, batch(2, vec![part(two, true, 1, vec![entry(1, 1, 0)])]));
    assembly.add(0, batch(1, vec![part(one, false, 0, vec![retained("one")])]));
    assembly.add(0, batch(2, vec![part(two, false, 0, vec![retained("two")])]));
    assembly.add(
        0,
        batch(3, vec![Item::Op(Op::Remove { space: Space::Retained, key: key::retained("t"), releases: 0 })]),
    );
    assembly.add(0, batch(4, vec![Item::Op(retained("three"))]));
    assert_eq!(round(&mut assembly), None, "the second is whole, but comes after the first");
    assembly.add(0, batch(5, vec![part(one, false, 0, vec![])]));
    let stored = round(&mut assembly).expect("all of it");
    assert_eq!(changes(&stored), (vec![(Space::Queue, &b"entry"[..]), (Space::Retained, b"three")], 0));
    assert_eq!(stored.stored, [(0, 5), (1, 2)]);
}

#[test]
fn the_messages_of_a_publisher_are_stored_in_order() {
    let in_order = |unit, forwarded, position| {
        let ops = vec![entry(1, position, 0)];
        Item::Part(Part { unit, is_root: true, forwarded, in_order: true, ops })
    };
    let mut assembly = Assembly::new(3, []);
    // The first goes to shard 1, the second to shard 2, which is quicker, and the third stays.
    assembly.add(0, batch(1, vec![in_order(1, 1, 1), in_order(2, 1, 2), in_order(0, 0, 3)]));
    assembly.add(0, batch(2, vec![Item::Op(retained("by itself"))]));
    assembly.add(2, batch(1, vec![part(2, false, 0, vec![entry(3, 1, 0)])]));
    let stored = round(&mut assembly).expect("what has no order");
    assert_eq!(changes(&stored), (vec![(Space::Retained, &b"by itself"[..])], 0));
    assembly.add(1, batch(1, vec![part(1, false, 0, vec![entry(2, 1, 0)])]));
    let stored = round(&mut assembly).expect("all three");
    assert_eq!(changes(&stored).0.len(), 5);
    assert_eq!(stored.stored, [(0, 2), (1, 1), (2, 1)]);
    assert_eq!(assembly.waiting(), 0);
}

#[test]
fn an_acknowledged_entry_of_a_waiting_publish_does_not_come_back() {
    let unit = 1;
    let mut assembly = Assembly::new(2, []);
    assembly.add(0, batch(1, vec![part(unit, true, 1, vec![entry(1, 1, 0)])]));
    assembly.add(0, batch(2, vec![Item::Op(entry_gone(1, 1, 0))]));
    assert_eq!(round(&mut assembly), None);
    assembly.add(1, batch(1, vec![part(unit, false, 0, vec![entry(2, 1, 0)])]));
    let stored = round(&mut assembly).expect("the publish");
    assert_eq!(changes(&stored), (vec![(Space::Queue, &b"entry"[..])], 0));
    assert_eq!(stored.stored, [(0, 2), (1, 1)]);
}

#[test]
fn a_dropped_session_leaves_nothing_and_lets_go_of_what_it_held() {
    let mut assembly = Assembly::new(1, [(5, 1)]);
    let shared = |position| Item::Op(entry(7, position, 6));
    let other = Item::Op(entry(8, 1, 0));
    assembly.add(0, batch(1, vec![shared(2), Item::Op(entry_gone(7, 9, 0)), other]));
    assembly.add(0, batch(2, vec![Item::Op(Op::DropSession { session: 7 })]));
    let stored = assembly.take_round(|session, from| {
        assert_eq!(session, 7);
        match from {
            None => vec![(Space::Session, key::session(7), 0)],
            Some(_) => vec![(Space::Queue, key::entry(7, 1), 5)],
        }
    });
    let stored = stored.expect("a round");
    let (written, removed) = changes(&stored);
    assert_eq!(written, [(Space::Queue, &b"entry"[..])]);
    // The session, its stored entry and the payload of that, what was removed anyway, and the payload of what was new.
    assert_eq!(removed, 5);
}

#[test]
fn a_long_queue_of_a_session_that_ended_goes_in_several_rounds() {
    use super::assembly::SWEPT;
    let (mut assembly, count) = (Assembly::new(1, [(5, 1)]), 2 * SWEPT as u64 + 1);
    assembly.add(0, batch(1, vec![Item::Op(Op::DropSession { session: 7 })]));
    let mut rounds = Vec::new();
    // The second part is what a start goes on with.
    for part in 0..2 {
        if part == 1 {
            assembly = Assembly::new(1, [(5, 1)]);
            assembly.go_on_with([7]);
        }
        let first = if part == 0 { 1 } else { SWEPT as u64 + 1 };
        while part == 0 && rounds.is_empty() || part == 1 && assembly.is_sweeping() {
            let round = assembly.take_round(|session, from| {
                assert_eq!(session, 7);
                let Some(from) = from else { return vec![(Space::Session, key::session(7), 0)] };
                let places = (first.max(from)..=count).take(SWEPT);
                let holds = |place| if place == count { 5 } else { 0 };
                places.map(|place| (Space::Queue, key::entry(7, place), holds(place))).collect()
            });
            rounds.push(round.expect("a round").changes);
        }
    }
    let sizes: Vec<usize> = rounds.iter().map(|changes| changes.len()).collect();
    // The session itself and the mark; nothing else; the last message, its payload and the mark.
    assert_eq!(sizes, [SWEPT + 2, SWEPT, 3]);
    let mark = (Space::Meta, key::ended(7));
    assert!(matches!(rounds[0][&mark], Change::Put(_)) && rounds[2][&mark] == Change::Remove);
    assert_eq!(rounds[2][&(Space::Message, key::number(5))], Change::Remove);
    assert_eq!(key::ended_session(&mark.1), Some(7));
}

#[test]
fn a_session_is_dropped_after_the_publish_that_still_waits_for_it() {
    let mut assembly = Assembly::new(2, []);
    assembly.add(0, batch(1, vec![part(1, true, 1, vec![entry(7, 1, 0)])]));
    assembly.add(0, batch(2, vec![Item::Op(Op::DropSession { session: 7 })]));
    assert_eq!(round(&mut assembly), None);
    assembly.add(1, batch(1, vec![part(1, false, 0, vec![])]));
    let stored = round(&mut assembly).expect("a promise");
    assert_eq!(changes(&stored), (vec![], 0));
    assert_eq!(stored.stored, [(0, 2), (1, 1)]);
}

mod records {
    use crate::codec::{QoS, SubscribeOptions};
    use crate::session::Will;
    use crate::session::message::{Message, SessionKey};
    use crate::session::subscriptions::Subscription;
    use crate::store::record::*;
    use crate::time::Time;

    const WALL: Wall = Wall(1_000_000);

    fn message(expires: Time) -> Message {
        Message::new("a/b", b"\x01\x01", b"payload", QoS::ExactlyOnce, true, expires, SessionKey(77))
    }

    fn same(one: &Message, other: &Message) -> bool {
        let parts = |m: &Message| (m.qos, m.retain, m.expires, m.publisher);
        parts(one) == parts(other)
            && (one.topic(), one.forwarded(), one.payload())
                == (other.topic(), other.forwarded(), other.payload())
    }

    #[test]
    fn times_are_those_of_the_wall_whatever_the_process() {
        let bytes = encode_message(WALL, &message(Time(500)));
        let later = decode_message(Wall(WALL.0 + 200), &bytes).unwrap();
        assert_eq!(later.expires, Time(300));
        assert_eq!(decode_message(Wall(WALL.0 + 900), &bytes).unwrap().expires, Time(0));
        let never = encode_message(WALL, &message(Time::NEVER));
        assert!(same(&decode_message(WALL, &never).unwrap(), &message(Time::NEVER)));
    }

    /// Whether some bytes are the record that was encoded.
    type Check = fn(&[u8]) -> Result<bool, Corrupt>;

    /// Every record, and a decoder that says whether it is what was encoded.
    fn all() -> Vec<(bytes::Bytes, Check)> {
        let will = || Will { message: message(Time::NEVER), expiry: Some(9), delay: 3 };
        let group = || GroupName { share: "g".into(), filter: "a/+".into() };
        let entry = |body, group| EntryRecord {
            qos: QoS::AtLeastOnce,
            retain: true,
            packet_id: 5,
            ids: [1, 2, 3].into_iter().collect(),
            group,
            body,
        };
        let options = SubscribeOptions {
            retain_handling: 2,
            no_local: true,
            ..SubscribeOptions::new(QoS::AtLeastOnce)
        };
        vec![
            (
                encode_session(
                    WALL,
                    "id",
                    60,
                    Some(Time(5)),
                    Time(6),
                    Some(&will()),
                    Some(&Some("u".into())),
                ),
                |bytes| {
                    let session = decode_session(WALL, bytes)?;
                    let will = session.will.expect("a will");
                    Ok((&*session.client_id, session.expiry_interval) == ("id", 60)
                        && (session.expires, session.will_due) == (Some(Time(5)), Time(6))
                        && (will.expiry, will.delay) == (Some(9), 3)
                        && same(&will.message, &message(Time::NEVER)))
                },
            ),
            (encode_session(WALL, "", 1, None, Time::NEVER, None, Some(&None)), |bytes| {
                let session = decode_session(WALL, bytes)?;
                Ok(session.expires.is_none() && session.will.is_none() && session.will_due == Time::NEVER)
            }),
            (encode_subscription("a/#", &Subscription { options, id: 9 }), |bytes| {
                let (filter, subscription) = decode_subscription(bytes)?;
                Ok(&*filter == "a/#" && subscription.id == 9 && subscription.options.no_local)
            }),
            (encode_entry(WALL, &entry(Body::Inline(message(Time(9))), Some(group()))), |bytes| {
                let entry = decode_entry(WALL, bytes)?;
                let is_same = matches!(&entry.body, Body::Inline(inline) if same(inline, &message(Time(9))));
                Ok(is_same
                    && entry.ids.len() == 3
                    && entry.group.is_some_and(|group| &*group.filter == "a/+"))
            }),
            (encode_entry(WALL, &entry(Body::Shared(4), None)), |bytes| {
                let entry = decode_entry(WALL, bytes)?;
                Ok(matches!(entry.body, Body::Shared(4)) && entry.packet_id == 5 && entry.retain)
            }),
            (encode_flight(Flight::Released(7)), |bytes| Ok(decode_flight(bytes)? == Flight::Released(7))),
            (encode_mark(), |bytes| decode_mark(bytes).map(|()| true)),
            (encode_group(WALL, &group(), &message(Time(1))), |bytes| {
                let (group, waiting) = decode_group(WALL, bytes)?;
                Ok(&*group.share == "g" && same(&waiting, &message(Time(1))))
            }),
            (encode_number(12), |bytes| Ok(decode_number(bytes)? == 12)),
        ]
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for (bytes, is_same) in all() {
            assert_eq!(is_same(&bytes), Ok(true), "{bytes:?}");
        }
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_refused() {
        for (bytes, decode) in all() {
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length]).is_err(), "cut to {length}: {bytes:?}");
            }
            assert_eq!(decode(&[&bytes[..], b"x"].concat()), Err(Corrupt::Long));
            let mut newer = bytes.to_vec();
            newer[0] = 9;
            assert_eq!(decode(&newer), Err(Corrupt::UnknownVersion(9)));
            for at in 0..bytes.len() {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 0xff;
                // Whatever comes of it, it is an answer.
                let _ = decode(&flipped);
            }
        }
    }
}

#[test]
fn keys_sort_as_their_numbers_and_fit_the_engine() {
    assert!(key::entry(1, 2) < key::entry(1, 256) && key::entry(1, 256) < key::entry(2, 0));
    assert_eq!(key::position(&key::entry(1, 2)), Some(2));
    assert_eq!(key::packet_id(&key::incoming(1, 9)), Some(9));
    let long = |end: char| format!("{}{end}", "x".repeat(65_534));
    let (a, b) = (key::subscription(1, &long('a')), key::subscription(1, &long('b')));
    assert!(a != b && a.len() <= usize::from(u16::MAX));
}
