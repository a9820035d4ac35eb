//! A connection that may break at any moment, in 3.1.1.
use super::Scene;
use super::support::{Version, packet, text};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long one read waits, so that a client sees in time that the end has come.
const LOOK: Duration = Duration::from_millis(10);

/// The version all clients of this test speak.
pub const VERSION: Version = Version::V4;

/// What a client hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Publish {
        dup: bool,
        qos: u8,
        id: u16,
        topic: String,
        payload: Vec<u8>,
    },
    Puback(u16),
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
    Suback,
    /// Nothing within [`LOOK`].
    Nothing,
    /// The connection is gone.
    Broken,
}

pub struct Link {
    stream: TcpStream,
    received: Vec<u8>,
    is_broken: bool,
}

impl Link {
    /// Tries to connect; `None` if that fails on the way. The second value: whether the broker had the session.
    pub fn open(scene: &Scene, client_id: &str, clean: bool) -> Option<(Link, bool)> {
        let stream = TcpStream::connect(scene.address()?).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(LOOK)).ok()?;
        let mut link = Link { stream, received: Vec::new(), is_broken: false };
        let body = [text("MQTT"), vec![4, if clean { 2 } else { 0 }, 0, 0], text(client_id)].concat();
        link.send(&packet(0x10, &body));
        let until = Instant::now() + Duration::from_secs(20);
        while !link.is_broken && !scene.is_over() {
            assert!(Instant::now() < until, "{client_id} waits for CONNACK in vain");
            if let Some((first, body)) = link.next_packet() {
                assert_eq!((first, body[1]), (0x20, 0), "CONNACK");
                return Some((link, body[0] == 1));
            }
        }
        None
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.is_broken |= self.stream.write_all(bytes).is_err();
    }

    pub fn hear(&mut self) -> Heard {
        let Some((first, body)) = self.next_packet() else {
            return if self.is_broken { Heard::Broken } else { Heard::Nothing };
        };
        let id = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        match first >> 4 {
            3 => {
                let (qos, length) = (first >> 1 & 3, usize::from(id(0)));
                let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
                let (packet_id, payload) = match qos {
                    0 => (0, 2 + length),
                    _ => (id(2 + length), 4 + length),
                };
                let payload = body[payload..].to_vec();
                Heard::Publish { dup: first & 8 != 0, qos, id: packet_id, topic, payload }
            }
            4 => Heard::Puback(id(0)),
            5 => Heard::Pubrec(id(0)),
            6 => Heard::Pubrel(id(0)),
            7 => Heard::Pubcomp(id(0)),
            9 => Heard::Suback,
            _ => panic!("a packet that was not expected: 0x{first:02x}"),
        }
    }

    /// First byte and body of the next packet, if it comes in time.
    fn next_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((header, length)) = self.frame() {
                let first = self.received[0];
                let body = self.received[header..header + length].to_vec();
                self.received.drain(..header + length);
                return Some((first, body));
            }
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => self.is_broken = true,
                Ok(count) => {
                    self.received.extend(&chunk[..count]);
                    continue;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => self.is_broken = true,
            }
            return None;
        }
    }

    fn frame(&self) -> Option<(usize, usize)> {
        let mut length = 0;
        for (place, byte) in self.received.iter().skip(1).take(4).enumerate() {
            length |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return (self.received.len() >= place + 2 + length).then_some((place + 2, length));
            }
        }
        None
    }
}
