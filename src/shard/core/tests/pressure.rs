//! What clients get while memory is short.
use super::*;
use crate::memory::{Memory, Pressure};

fn told(core: &mut Core, now: Time, pressure: Pressure) {
    core.handle_command(now, Command::Memory(Memory { pressure, ..Memory::default() }));
}

/// A client of 3.1.1 whose session outlives its connection.
fn old_client(core: &mut Core) -> ConnId {
    let conn = core.handle_accept(NOW, Origin::default()).expect("room");
    core.handle_bytes(NOW, conn, b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x00\x00\x01a");
    assert_eq!(core.poll_action(), Some(Action::Established { conn }));
    assert_eq!(output(core, conn), b"\x20\x02\x00\x00");
    conn
}

/// What is written, taken away.
fn output(core: &mut Core, conn: ConnId) -> Vec<u8> {
    let output = core.output(conn).expect("alive");
    let bytes = output.single().unwrap_or_default().to_vec();
    output.advance(bytes.len());
    bytes
}

/// Lets time pass until something else happens than that a message is looked at again; when, and what.
fn first_action(core: &mut Core) -> (Time, Action) {
    loop {
        let due = core.next_deadline();
        assert!(due != Time::NEVER, "it waits for ever");
        core.handle_deadlines(due);
        while let Some(action) = core.poll_action() {
            if !matches!(action, Action::Pause { .. }) {
                return (due, action);
            }
        }
    }
}

#[test]
fn an_old_client_whose_message_cannot_be_kept_is_ended_after_ten_seconds_without_an_answer() {
    for message in [&b"\x32\x06\x00\x01t\x00\x07x"[..], b"\x34\x06\x00\x01t\x00\x07x"] {
        let mut broker = Broker::new(1, Limits::default());
        let core = &mut broker.0[0];
        let conn = old_client(core);
        told(core, NOW, Pressure::Full);
        // PINGREQ behind it is not read before it, so that nothing is told out of order.
        core.handle_bytes(NOW, conn, &[message, b"\xc0\x00"].concat());
        assert_eq!(core.poll_action(), Some(Action::Pause { conn }));
        let (ended, action) = first_action(core);
        assert_eq!(action, Action::Close { conn });
        assert!((9_900..10_500).contains(&ended.since(NOW)), "after {} ms", ended.since(NOW));
        assert!(core.take_output(conn).is_empty(), "it is told nothing, least of all that it was taken");
        let counters = core.counters();
        assert_eq!((counters.refused_for_memory, counters.sessions), (1, 1), "its session is kept");
        assert_eq!(counters.packets_received[PacketType::Publish as usize], 1);
        core.audit();
    }
}

#[test]
fn an_old_client_that_waits_goes_on_in_order_when_there_is_memory_again() {
    let mut broker = Broker::new(1, Limits::default());
    let core = &mut broker.0[0];
    let conn = old_client(core);
    let mut now = NOW;
    // Nearly too long, twice: what the first message waited does not count for the second.
    for pressure in [Pressure::Closed, Pressure::None] {
        told(core, now, Pressure::Full);
        core.handle_bytes(now, conn, b"\x32\x06\x00\x01t\x00\x07x\xc0\x00");
        let until = now + 9_000;
        while core.next_deadline() <= until {
            core.handle_deadlines(core.next_deadline());
            while let Some(action) = core.poll_action() {
                assert_eq!(action, Action::Pause { conn });
            }
        }
        assert!(output(core, conn).is_empty());
        told(core, until, pressure);
        let (resumed, action) = first_action(core);
        assert_eq!(action, Action::Resume { conn });
        assert_eq!(output(core, conn), b"\x40\x02\x00\x07\xd0\x00");
        now = resumed;
    }
    assert_eq!(core.counters().packets_received[PacketType::Publish as usize], 2, "each is counted once");
    core.audit();
}

#[test]
fn an_old_client_may_do_what_takes_no_memory_or_gives_it_back() {
    let mut broker = Broker::new(1, Limits::default());
    let core = &mut broker.0[0];
    let conn = old_client(core);
    // Retained, at QoS 1.
    core.handle_bytes(NOW, conn, b"\x33\x06\x00\x01t\x00\x07x");
    assert_eq!((output(core, conn), core.counters().retained_messages), (b"\x40\x02\x00\x07".to_vec(), 1));
    told(core, NOW, Pressure::Full);
    // A filter is refused, QoS 0 goes on, and what clears a retained message is acknowledged.
    core.handle_bytes(NOW, conn, b"\x82\x06\x00\x01\x00\x01u\x01\x30\x04\x00\x01tx\x33\x05\x00\x01t\x00\x08");
    assert_eq!(output(core, conn), b"\x90\x03\x00\x01\x80\x40\x02\x00\x08");
    assert_eq!(core.counters().retained_messages, 0);
    core.audit();
}

#[test]
fn what_was_acknowledged_is_retained_though_its_owner_is_short_of_memory_already() {
    let mut broker = Broker::new(2, Limits::default());
    let topics: Vec<u8> = (b'a'..=b'z').collect();
    let conn = broker.0[0].handle_accept(NOW, Origin::default()).expect("room");
    broker.0[0].handle_bytes(NOW, conn, &connect("a", ConnectProperties::default()));
    broker.cross();
    let home = usize::from(broker.0[1].counters().clients_connected == 1);
    assert_eq!(broker.0[home].counters().clients_connected, 1);
    let conn = broker.0[home].connections.iter().map(|(slot, _)| slot as u32).next().expect("it is here");
    let conn = broker.0[home].id(conn);
    // Every look at the memory comes to one shard before the other.
    told(&mut broker.0[1 - home], NOW, Pressure::Full);
    for topic in &topics {
        // At QoS 1 and 2.
        for (first, id) in [(0x33, 1), (0x35, 2)] {
            let message = [first, 8, 0, 1, *topic, 0, id, 0, b'0' + id, b'x'];
            broker.0[home].handle_bytes(NOW, conn, &message);
            broker.cross();
        }
        broker.0[home].handle_bytes(NOW, conn, b"\x62\x02\x00\x02");
    }
    let refused: u64 = broker.0.iter().map(|core| core.counters().refused_for_memory).sum();
    let kept: u64 = broker.0.iter().map(|core| core.counters().retained_messages).sum();
    assert_eq!((refused, kept), (0, topics.len() as u64));
    assert!(broker.0[1 - home].counters().retained_messages > 0, "the short one owns some");
    // At QoS 0 nothing was promised.
    for topic in b'A'..=b'Z' {
        broker.0[home].handle_bytes(NOW, conn, &[0x31, 5, 0, 1, topic, 0, b'x']);
        broker.cross();
    }
    assert!(broker.0[1 - home].counters().refused_for_memory > 0);
    broker.0.iter().for_each(|core| drop(core.audit()));
}
