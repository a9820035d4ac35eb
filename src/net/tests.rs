use super::connections::Connections;
use super::door::{Door, DoorState};
use super::event::{Event, Input};
use super::linger::LINGER_MS;
use super::listener::{Listener, Place, listen_all};
use super::ring::{RECEIVE_MEMORY, Wait};
use super::send::Sent;
use crate::shard::core::{CloseCause, ConnId};
use crate::shard::output::Output;
use crate::time::Time;
use bytes::Bytes;
use rustix::event::{EventfdFlags, eventfd};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A generous limit: nothing here waits for it unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// One plain listener.
fn doors() -> Arc<[Arc<Door>]> {
    Arc::new([Arc::new(Door::new(DoorState::load(Default::default()).unwrap().0))])
}

struct Bench {
    connections: Connections,
    doorbell: OwnedFd,
    address: SocketAddr,
    now: Time,
    next_slot: u32,
}

impl Bench {
    fn new() -> Bench {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let Listener { place, sockets } = listen_all(&[Place::Tcp(address)], 1).unwrap().remove(0);
        let Place::Tcp(address) = place else { panic!("no address") };
        let doorbell = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let connections = Connections::new(sockets, doors(), doorbell.as_raw_fd(), Arc::default()).unwrap();
        Bench { connections, doorbell, address, now: Time(0), next_slot: 0 }
    }

    /// Waits until something happens.
    fn event(&mut self) -> Event {
        self.event_when(true)
    }

    fn event_when(&mut self, take_input: bool) -> Event {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.connections.poll_event(take_input, self.now) {
                return event;
            }
            assert!(Instant::now() < until, "nothing happened");
            self.connections.wait(Wait::For(PATIENCE), take_input).unwrap();
        }
    }

    /// Takes in what is there, which must be nothing.
    fn settle(&mut self) {
        for _ in 0..3 {
            assert!(self.connections.poll_event(true, self.now).is_none());
            self.connections.wait(Wait::No, true).unwrap();
        }
    }

    /// Waits until no closed connection has bytes under way.
    fn await_lingering(&mut self) {
        loop {
            assert!(self.connections.poll_event(true, self.now).is_none());
            let wait = if self.connections.is_lingering() { Wait::For(PATIENCE) } else { Wait::No };
            self.connections.wait(wait, true).unwrap();
            if wait == Wait::No {
                return;
            }
        }
    }

    fn connect(&mut self) -> (TcpStream, ConnId) {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        let Event::Accepted(socket, 0) = self.event() else { panic!("not accepted") };
        let conn = ConnId { slot: self.next_slot, generation: 7 };
        self.next_slot += 1;
        self.connections.adopt(conn, socket, 0, false);
        (client, conn)
    }

    fn take(&mut self, conn: ConnId, input: Input) -> (ConnId, Vec<u8>) {
        let bytes = self.connections.bytes(&input).to_vec();
        self.connections.recycle(input);
        (conn, bytes)
    }

    fn received(&mut self) -> (ConnId, Vec<u8>) {
        match self.event() {
            Event::Received(conn, input) => self.take(conn, input),
            other => panic!("not received: {other:?}"),
        }
    }

    fn receive_exactly(&mut self, conn: ConnId, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            let (from, bytes) = self.received();
            assert_eq!(from, conn);
            all.extend(bytes);
        }
        assert_eq!(all.len(), len);
        all
    }
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|index| (index as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ seed).collect()
}

fn output(bytes: &[u8]) -> Output {
    let mut output = Output::default();
    output.tail().extend_from_slice(bytes);
    output
}

#[test]
fn an_idle_connection_costs_twelve_bytes() {
    assert_eq!(super::slot::SLOT_BYTES, 12);
}

#[test]
fn bytes_come_in_order_before_and_after_the_change_to_multishot() {
    let mut bench = Bench::new();
    let (mut client, conn) = bench.connect();
    client.write_all(b"one").unwrap();
    assert_eq!(bench.received(), (conn, b"one".to_vec()));
    bench.connections.establish(conn);
    for text in [b"two", b"abc", b"xyz"] {
        client.write_all(text).unwrap();
        assert_eq!(bench.received(), (conn, text.to_vec()));
    }
    drop(client);
    assert!(matches!(bench.event(), Event::Closed(id, CloseCause::Eof) if id == conn));
    bench.connections.discard(conn);
    assert!(bench.connections.is_empty());
}

#[test]
fn many_busy_connections_keep_their_streams_apart() {
    const CLIENTS: usize = 40;
    const EACH: usize = 600_000;
    let mut bench = Bench::new();
    let clients: Vec<_> = (0..CLIENTS).map(|_| bench.connect()).collect();
    let mut writers = Vec::new();
    for (index, (mut client, conn)) in clients.into_iter().enumerate() {
        assert_eq!(conn.slot as usize, index);
        if index % 2 == 0 {
            bench.connections.establish(conn);
        }
        writers.push(std::thread::spawn(move || {
            for piece in pattern(EACH, index as u8).chunks(911 + 97 * index) {
                client.write_all(piece).unwrap();
            }
        }));
    }
    let mut streams = vec![Vec::new(); CLIENTS];
    let mut ended = 0;
    while ended < CLIENTS {
        match bench.event() {
            Event::Received(conn, input) => {
                let (conn, bytes) = bench.take(conn, input);
                streams[conn.slot as usize].extend(bytes);
            }
            Event::Closed(conn, CloseCause::Eof) => {
                bench.connections.discard(conn);
                ended += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    for (index, stream) in streams.into_iter().enumerate() {
        assert!(stream == pattern(EACH, index as u8), "stream {index} is not what was sent");
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

#[test]
fn what_came_while_paused_is_delivered_in_order_when_resumed() {
    let mut bench = Bench::new();
    let (mut client, conn) = bench.connect();
    bench.connections.establish(conn);
    client.write_all(b"a").unwrap();
    assert_eq!(bench.received().1, b"a");
    bench.connections.pause(conn);
    // The kernel is not told yet: this may still be received.
    client.write_all(b"bc").unwrap();
    bench.settle();
    client.write_all(b"de").unwrap();
    bench.settle();
    bench.connections.resume(conn);
    assert_eq!(bench.receive_exactly(conn, 4), b"bcde");
    client.write_all(b"f").unwrap();
    assert_eq!(bench.received().1, b"f");
}

#[test]
fn the_end_comes_after_the_bytes_that_were_held() {
    let mut bench = Bench::new();
    let (mut client, conn) = bench.connect();
    bench.connections.establish(conn);
    bench.settle();
    bench.connections.pause(conn);
    client.write_all(b"last").unwrap();
    drop(client);
    bench.settle();
    bench.connections.resume(conn);
    assert_eq!(bench.receive_exactly(conn, 4), b"last");
    assert!(matches!(bench.event(), Event::Closed(id, CloseCause::Eof) if id == conn));
}

#[test]
fn the_end_waits_until_a_paused_connection_is_read_again() {
    let mut bench = Bench::new();
    let (client, conn) = bench.connect();
    bench.connections.establish(conn);
    bench.settle();
    // The kernel is not told of the pause before it tells of the end.
    drop(client);
    bench.connections.pause(conn);
    bench.settle();
    bench.connections.resume(conn);
    assert!(matches!(bench.event(), Event::Closed(id, CloseCause::Eof) if id == conn));
}

#[test]
fn a_socket_is_given_up_only_after_its_receive_has_ended_and_loses_nothing() {
    let mut bench = Bench::new();
    for round in 0..50 {
        let (mut client, conn) = bench.connect();
        if round % 2 == 0 {
            bench.connections.establish(conn);
        }
        bench.settle();
        client.write_all(b"before ").unwrap();
        bench.connections.give_up(conn);
        client.write_all(b"after").unwrap();
        let mut stream = Vec::new();
        let socket = loop {
            match bench.event() {
                Event::Received(id, input) => {
                    assert_eq!(id, conn);
                    stream.extend(bench.take(conn, input).1);
                }
                Event::GivenUp(id, socket, 0) if id == conn => break socket,
                other => panic!("{other:?}"),
            }
        };
        assert!(bench.connections.is_empty());
        let mut socket = TcpStream::from(socket);
        client.shutdown(Shutdown::Write).unwrap();
        socket.read_to_end(&mut stream).unwrap();
        assert_eq!(stream, b"before after");
    }
}

#[test]
fn without_appetite_nothing_is_taken_nothing_is_lost_and_the_rest_goes_on() {
    let mut bench = Bench::new();
    let (mut client, conn) = bench.connect();
    bench.connections.establish(conn);
    bench.settle();
    let sent = pattern(3 * RECEIVE_MEMORY, 1);
    let expected = sent.clone();
    let writer = std::thread::spawn(move || {
        client.write_all(&sent).unwrap();
        client
    });
    // Accepting still works meanwhile, and enough time passes for the buffers to run out.
    for _ in 0..20 {
        let _extra = TcpStream::connect(bench.address).unwrap();
        assert!(matches!(bench.event_when(false), Event::Accepted(..)));
    }
    let mut got = Vec::new();
    while got.len() < expected.len() {
        let (from, bytes) = bench.received();
        assert_eq!(from, conn);
        got.extend(bytes);
    }
    assert!(got == expected, "the stream is not what was sent");
    writer.join().unwrap();
}

#[test]
fn a_full_socket_blocks_until_it_is_writable_and_everything_arrives() {
    let mut bench = Bench::new();
    let (mut client, conn) = bench.connect();
    let large = pattern(20 << 20, 3);
    let mut output = output(b"head");
    output.push_shared(Bytes::from(large.clone()));
    output.tail().extend_from_slice(b"tail");
    assert_eq!(bench.connections.send(conn, &mut output), Sent::Blocked);
    assert_eq!(bench.connections.send(conn, &mut output), Sent::Blocked);
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; large.len() + 8];
        client.read_exact(&mut all).unwrap();
        assert!(all == [b"head", &large[..], b"tail"].concat());
    });
    loop {
        let Event::Writable(id) = bench.event() else { panic!("not writable") };
        assert_eq!(id, conn);
        if bench.connections.send(conn, &mut output) == Sent::All {
            break;
        }
    }
    assert!(output.is_empty());
    reader.join().unwrap();
}

#[test]
fn the_last_words_reach_a_peer_that_keeps_sending() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        let (mut client, conn) = bench.connect();
        bench.connections.establish(conn);
        client.write_all(&[0; 100_000]).unwrap();
        let (from, _) = bench.received();
        assert_eq!(from, conn);
        // Plenty of unread input is under way when we close.
        let last = pattern(50_000, 9);
        bench.connections.close(conn, output(&last), bench.now);
        let reader = std::thread::spawn(move || {
            let _ = client.write_all(&[0; 100_000]);
            let mut all = Vec::new();
            let outcome = client.read_to_end(&mut all);
            assert!(outcome.is_ok(), "the connection was reset: {outcome:?}");
            assert!(all == last, "the last words were lost");
        });
        bench.await_lingering();
        reader.join().unwrap();
    }
}

#[test]
fn a_peer_that_never_closes_is_cut_when_its_time_is_up() {
    let mut bench = Bench::new();
    let (mut client, conn) = bench.connect();
    bench.connections.close(conn, output(b"bye"), bench.now);
    bench.settle();
    assert!(bench.connections.is_lingering());
    assert_eq!(bench.connections.next_deadline(), Time(LINGER_MS));
    bench.connections.handle_deadlines(Time(LINGER_MS));
    assert!(!bench.connections.is_lingering());
    bench.connections.wait(Wait::No, true).unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"bye");
}

#[test]
fn what_a_peer_sent_before_it_went_away_is_read_although_sending_fails() {
    let mut bench = Bench::new();
    let (mut client, conn) = bench.connect();
    bench.connections.establish(conn);
    bench.settle();
    // Bytes the client never reads make its close a reset.
    assert_eq!(bench.connections.send(conn, &mut output(b"unread")), Sent::All);
    client.peek(&mut [0]).unwrap();
    client.write_all(b"goodbye").unwrap();
    drop(client);
    let until = Instant::now() + PATIENCE;
    while bench.connections.send(conn, &mut output(b"more")) != Sent::Broken {
        assert!(Instant::now() < until, "the reset never came");
        std::thread::yield_now();
    }
    assert_eq!(bench.receive_exactly(conn, 7), b"goodbye");
    assert!(matches!(bench.event(), Event::Closed(id, _) if id == conn));
}

#[test]
fn a_slot_can_be_used_again_at_once_and_late_completions_touch_nobody() {
    let mut bench = Bench::new();
    for generation in 0..200u32 {
        let mut client = TcpStream::connect(bench.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let Event::Accepted(socket, 0) = bench.event() else { panic!("not accepted") };
        let conn = ConnId { slot: 0, generation };
        bench.connections.adopt(conn, socket, 0, false);
        bench.connections.establish(conn);
        client.write_all(&generation.to_be_bytes()).unwrap();
        assert_eq!(bench.receive_exactly(conn, 4), generation.to_be_bytes());
        // Bytes that nobody will read, in flight while the slot changes hands.
        client.write_all(b"late").unwrap();
        bench.connections.discard(conn);
    }
    assert!(bench.connections.is_empty());
}

#[test]
fn no_descriptor_is_left_behind() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // Other tests open descriptors too: what counts is that hundreds of connections do not add up.
    let before = open();
    let mut bench = Bench::new();
    for round in 0..600 {
        let (client, conn) = bench.connect();
        match round % 3 {
            0 => bench.connections.discard(conn),
            1 => bench.connections.close(conn, Output::default(), bench.now),
            _ => bench.connections.close(conn, output(b"bye"), bench.now),
        }
        drop(client);
        bench.connections.wait(Wait::No, true).unwrap();
    }
    bench.await_lingering();
    let after = open();
    assert!(after < before + 300, "{before} descriptors were open, now {after}");
}

#[test]
fn the_doorbell_ends_a_wait() {
    let mut bench = Bench::new();
    bench.settle();
    let doorbell = bench.doorbell.try_clone().unwrap();
    let start = Instant::now();
    for _ in 0..3 {
        rustix::io::write(&doorbell, &1u64.to_ne_bytes()).unwrap();
        bench.connections.wait(Wait::For(PATIENCE), true).unwrap();
        assert!(bench.connections.poll_event(true, bench.now).is_none());
    }
    assert!(start.elapsed() < PATIENCE, "the wait was not ended");
}

#[test]
fn accepting_ends_when_asked() {
    let mut bench = Bench::new();
    bench.connections.stop_accepting();
    bench.connections.wait(Wait::No, true).unwrap();
    bench.connections.wait(Wait::No, true).unwrap();
    let refused = TcpStream::connect(bench.address);
    assert!(refused.is_err(), "a stopped listener still accepts");
}
