//! Attacks in short, by what comes of them and not by how long it takes; `scripts/attack` has all of them and measures.
mod support;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::*;

/// A broker that lets nobody take long to connect, with a listener of each kind: plain, WebSocket, PROXY.
fn hasty_broker(shards: usize) -> (Broker, [SocketAddr; 3]) {
    let ports = [free_port(), free_port(), free_port()];
    let text = format!(
        "connect-timeout = \"300ms\"\n[[listener]]\naddress = {}\n[[listener]]\naddress = {}\ntransport = \"websocket\"\n\
         [[listener]]\naddress = {}\nproxy-protocol-from = [\"127.0.0.0/8\"]\n",
        ports[0], ports[1], ports[2]
    );
    let file = certificates::written("ringmq.toml", &text);
    let broker = Broker::start(shards, &["--config", file.to_str().unwrap()]);
    (broker, ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))))
}

fn open(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn what_begins_and_does_not_end_is_ended_and_an_honest_client_stays() {
    for shards in [1, 2] {
        let (mut broker, addresses) = hasty_broker(shards);
        broker.address = addresses[0];
        let mut honest = Client::new(&broker, Version::V5);
        honest.subscribe("t", 1);
        // Far more than time out in one turn of a shard.
        let halves: [&[u8]; 3] =
            [b"\x10\x20\0\x04MQTT", b"GET /mqtt HTTP/1.1\r\nHost: ", b"PROXY TCP4 192.0.2.9"];
        let mut slow: Vec<TcpStream> = Vec::new();
        for (address, half) in addresses.into_iter().zip(halves) {
            for length in (0..half.len()).cycle().take(150) {
                let mut socket = open(address);
                socket.write_all(&half[..length]).unwrap();
                slow.push(socket);
            }
        }
        honest.publish("t", 0, "meanwhile");
        honest.expect_message("t", "meanwhile");
        for mut socket in slow {
            let end = socket.read_to_end(&mut Vec::new());
            assert!(
                end.is_ok() || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
            );
        }
        honest.publish("t", 0, "afterwards");
        honest.expect_message("t", "afterwards");
    }
}

#[test]
fn an_address_that_connects_all_the_time_is_closed_at_the_door_and_others_come_in() {
    for shards in [1, 2, 3] {
        let (plain, proxied) = (free_port(), free_port());
        // As slow as there is, so that the burst is all that comes in.
        let text = format!(
            "max-connection-rate-per-address = 1\nconnection-burst-per-address = 5\n[[listener]]\naddress = {plain}\n\
             [[listener]]\naddress = {proxied}\nproxy-protocol-from = [\"127.0.0.0/8\"]\n"
        );
        let file = certificates::written("ringmq.toml", &text);
        let mut broker = Broker::start(shards, &["--config", file.to_str().unwrap()]);
        broker.address.set_port(plain);
        let mut honest = Client::new(&broker, Version::V5);
        honest.subscribe("t", 1);
        let answers = |port: u16, before: &[u8]| {
            let mut socket = open(SocketAddr::from(([127, 0, 0, 1], port)));
            let connect = Connect::new(Version::V5, &unique("c")).encode();
            let written = socket.write_all(before).and_then(|()| socket.write_all(&connect));
            let mut first = [0];
            written.is_ok() && socket.read_exact(&mut first).is_ok()
        };
        let begun = std::time::Instant::now();
        let let_in = (0..200).filter(|_| answers(plain, b"")).count() as u64;
        let most = 4 + begun.elapsed().as_secs() + 1;
        assert!((4..=most).contains(&let_in), "{let_in} of 200, {most} at most");
        // Behind a proxy it is who the proxy says, and not the proxy.
        for (from, least) in [("192.0.2.1", 5), ("192.0.2.2", 5)] {
            let header = format!("PROXY TCP4 {from} 192.0.2.9 1 2\r\n");
            let begun = std::time::Instant::now();
            let let_in = (0..50).filter(|_| answers(proxied, header.as_bytes())).count() as u64;
            let most = least + begun.elapsed().as_secs() + 1;
            assert!((least..=most).contains(&let_in), "{from}: {let_in} of 50, {most} at most");
        }
        honest.publish("t", 0, "afterwards");
        honest.expect_message("t", "afterwards");
        assert!(
            broker.said().contains("come faster than max-connection-rate-per-address"),
            "{}",
            broker.said()
        );
    }
}

#[test]
fn clients_are_served_while_the_backlog_of_another_fills_the_ways_between_shards() {
    const GROUPS: usize = 200;
    const MESSAGES: u16 = 600;
    let broker = Broker::start(2, &["--overflow-mark", "16", "--receive-maximum", "1000"]);
    // Members on both shards, so that every message crosses many times.
    let members: Vec<Client> = (0..4)
        .map(|member| {
            let mut client = Client::new(&broker, Version::V5);
            let filters: Vec<String> =
                (0..GROUPS).map(|group| format!("$share/g{}/many", group + member * GROUPS / 2)).collect();
            let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
            let id = client.fresh_id();
            client.send(&subscribe(client.version, id, &filters));
            client.expect_suback(id);
            client
        })
        .collect();
    let mut honest: Vec<Client> = (0..4).map(|_| Client::new(&broker, Version::V5)).collect();
    let topics: Vec<String> = honest.iter().map(|_| unique("honest")).collect();
    honest.iter_mut().zip(&topics).for_each(|(client, topic)| client.subscribe(topic, 1));
    let mut attacker = Client::new(&broker, Version::V5);
    let message = |id: u16| publish(Version::V5, &Publish::new("many", "x").qos(1).id(id));
    attacker.send(&(1..=MESSAGES).flat_map(message).collect::<Vec<u8>>());
    for (client, topic) in honest.iter_mut().zip(&topics) {
        client.publish(topic, 0, "now");
        client.expect_message(topic, "now");
    }
    let mut done = 0;
    while !attacker.would_wait(Duration::from_millis(1)) {
        done += 1;
        attacker.expect_ack(Kind::Puback, done);
    }
    assert!(done < MESSAGES, "everybody waited until all of the backlog was done");
    for id in done + 1..=MESSAGES {
        attacker.expect_ack(Kind::Puback, id);
    }
    drop(members);
}

#[test]
fn a_client_with_very_many_groups_of_one_filter_leaves_nothing_behind() {
    const GROUPS: usize = 20_000;
    let broker = Broker::start(2, &[]);
    let mut member = Client::new(&broker, Version::V5);
    let mut stays = Client::new(&broker, Version::V5);
    stays.subscribe("$share/stays/many", 0);
    let filters: Vec<String> = (0..GROUPS).map(|group| format!("$share/g{group}/many")).collect();
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
    let id = member.fresh_id();
    member.send(&subscribe(member.version, id, &filters));
    assert_eq!(member.expect_suback(id), [0].repeat(GROUPS));
    // Some from the middle of the list first.
    let some: Vec<&str> = filters.iter().step_by(3).map(|(filter, _)| *filter).collect();
    let id = member.fresh_id();
    member.send(&unsubscribe(member.version, id, &some));
    assert_eq!(member.expect_unsuback(id), [0].repeat(some.len()));
    let mut publisher = Client::new(&broker, Version::V5);
    publisher.publish("many", 0, "1");
    for _ in 0..GROUPS - some.len() {
        member.expect_message("many", "1");
    }
    stays.expect_message("many", "1");
    member.disconnect();
    publisher.publish("many", 1, "2");
    stays.expect_message("many", "2");
}

/// A WebSocket on which a client has sent CONNECT.
fn websocket(address: SocketAddr) -> TcpStream {
    let mut socket = open(address);
    socket
        .write_all(
            b"GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Protocol: mqtt\r\n\r\n",
        )
        .unwrap();
    let connect = Connect::new(Version::V5, &unique("ws")).encode();
    socket.write_all(&[&[0x82, 0x80 | connect.len() as u8, 0, 0, 0, 0], &connect[..]].concat()).unwrap();
    socket
}

#[test]
fn what_websockets_send_without_end_takes_nothing_from_others_and_is_not_kept() {
    let (broker, addresses) = hasty_broker(1);
    let is_served = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut socket = websocket(addresses[1]);
                // A message that begins, and parts of it without a byte, faster than they are read.
                socket.write_all(&[2, 0x80, 0, 0, 0, 0]).unwrap();
                let parts = [0, 0x80, 0, 0, 0, 0].repeat(10_000);
                let until = Instant::now() + PATIENCE;
                while !is_served.load(Ordering::Relaxed) {
                    assert!(Instant::now() < until, "nobody else is read");
                    socket.write_all(&parts).unwrap();
                }
            });
        }
        let mut client = Client::new(&broker, Version::V5);
        for _ in 0..20 {
            client.send(&ping());
            assert_eq!(client.receive(), Packet::Pingresp);
        }
        is_served.store(true, Ordering::Relaxed);
    });
    // Pings whose answers are not read end it. What the kernel keeps of the answers is some megabytes; what the broker
    // keeps is bounded.
    let mut socket = websocket(addresses[1]);
    let pings = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[b'p'; 125]].concat().repeat(1000);
    let taken = (0..400).take_while(|_| socket.write_all(&pings).is_ok()).count();
    assert!(taken < 400, "all pings were taken");
}

#[test]
fn a_message_that_many_sessions_keep_is_kept_once() {
    const SESSIONS: usize = 100;
    const MESSAGES: u16 = 1000;
    let broker = Broker::start(2, &["--receive-maximum", "2000"]);
    let memory = || {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", broker.pid())).unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    for session in 0..SESSIONS {
        let connect = Connect::new(Version::V5, &unique(&format!("away-{session}"))).persistent();
        let mut client = Client::connect(&broker, &connect);
        client.subscribe("kept", 1);
        client.disconnect();
    }
    let before = memory();
    let mut publisher = Client::new(&broker, Version::V5);
    let message = |id: u16| publish(Version::V5, &Publish::new("kept", "x".repeat(1500)).qos(1).id(id));
    publisher.send(&(1..=MESSAGES).flat_map(message).collect::<Vec<u8>>());
    for id in 1..=MESSAGES {
        publisher.expect_ack(Kind::Puback, id);
    }
    // 150 MB if every session had its own.
    let taken = memory().saturating_sub(before);
    assert!(taken < 75_000_000, "{taken} bytes");
}
