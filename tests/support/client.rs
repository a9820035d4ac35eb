//! A client that can say anything and insists on what it hears.
use super::broker::{Broker, PATIENCE, unique};
use super::connect::Connect;
use super::packet::{self, Ack, Kind, Packet, Publish};
use super::property::Properties;
use super::wire::Version;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

/// One TCP connection to the broker.
///
/// Besides what the test expects, every packet is checked against the rules for the whole connection: nothing
/// before CONNACK but AUTH, one CONNACK only, nothing behind DISCONNECT.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    pub version: Version,
    pub client_id: String,
    received: Vec<u8>,
    connected: bool,
    ended: bool,
    next_id: u16,
}

impl Client {
    /// A TCP connection on which nothing was said yet.
    #[track_caller]
    pub fn open(broker: &Broker, version: Version) -> Client {
        let stream = match TcpStream::connect_timeout(&broker.address, PATIENCE) {
            Ok(stream) => stream,
            Err(e) => panic!("cannot connect to {broker}: {e}"),
        };
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            version,
            client_id: String::new(),
            received: Vec::new(),
            connected: false,
            ended: false,
            next_id: 0,
        }
    }

    /// A connected client with a client id of its own and a clean session that ends with the connection.
    #[track_caller]
    pub fn new(broker: &Broker, version: Version) -> Client {
        Client::connect(broker, &Connect::new(version, &unique("client")))
    }

    /// A connected client.
    #[track_caller]
    pub fn connect(broker: &Broker, connect: &Connect) -> Client {
        Client::connect_with(broker, connect).0
    }

    /// A connected client, Session Present, and the properties of the CONNACK.
    #[track_caller]
    pub fn connect_with(broker: &Broker, connect: &Connect) -> (Client, bool, Properties) {
        let mut client = Client::open(broker, connect.version);
        client.send(&connect.encode());
        let (session_present, properties) = client.expect_connack();
        client.client_id = properties.text(0x12).unwrap_or(&connect.client_id).into();
        (client, session_present, properties)
    }

    /// Sends a CONNECT that is to be refused with `code`, and sees the connection closed.
    #[track_caller]
    pub fn refused(broker: &Broker, connect: &Connect, code: u8) {
        let mut client = Client::open(broker, connect.version);
        client.send(&connect.encode());
        client.expect_refusal(code);
    }

    /// A packet id not used before on this connection.
    pub fn fresh_id(&mut self) -> u16 {
        self.next_id = self.next_id.checked_add(1).expect("a test uses fewer than 65536 ids");
        self.next_id
    }

    /// Sends bytes, whatever they are. A broker that has already closed is noticed by what is expected next.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            other => other.unwrap(),
        }
    }

    /// The next packet, or `None` if the broker closed the connection. Fails if neither comes.
    #[track_caller]
    pub fn try_receive(&mut self) -> Option<Packet> {
        let until = Instant::now() + PATIENCE;
        let (first, header, length) = loop {
            if let Some(frame) = self.frame() {
                break frame;
            }
            let left = until.saturating_duration_since(Instant::now());
            let mut chunk = [0; 16 * 1024];
            let n = if left.is_zero() {
                Err(ErrorKind::TimedOut.into())
            } else {
                self.stream.set_read_timeout(Some(left)).unwrap();
                self.stream.read(&mut chunk)
            };
            match n {
                Ok(0) => {
                    assert!(self.received.is_empty(), "closed within a packet: {:02x?}", self.received);
                    return None;
                }
                Ok(n) => self.received.extend(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("neither a packet nor a close within {PATIENCE:?}; begun: {:02x?}", self.received)
                }
                Err(e) => panic!("reading failed: {e}"),
            }
        };
        let frame: Vec<u8> = self.received.drain(..header + length).collect();
        let packet = packet::decode(self.version, first, &frame[header..]);
        assert!(!self.ended, "behind DISCONNECT or a refusal came {packet:?}");
        match &packet {
            Packet::Connack { code, .. } => {
                assert!(!self.connected, "a second CONNACK: {packet:?}");
                self.connected = *code == 0;
                self.ended = *code != 0;
            }
            Packet::Auth { .. } => {}
            other => assert!(self.connected, "before CONNACK came {other:?}"),
        }
        self.ended |= matches!(packet, Packet::Disconnect { .. });
        Some(packet)
    }

    /// Whether neither a packet nor a close comes within `time`: a look, for tests that do something meanwhile.
    pub fn would_wait(&mut self, time: std::time::Duration) -> bool {
        if !self.received.is_empty() {
            return false;
        }
        self.stream.set_read_timeout(Some(time)).unwrap();
        let looked = self.stream.peek(&mut [0]);
        looked.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// First byte, header length and remaining length, once a whole packet is there.
    fn frame(&self) -> Option<(u8, usize, usize)> {
        let mut length = 0;
        for (place, byte) in self.received.iter().skip(1).take(4).enumerate() {
            length |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                assert!(place == 0 || *byte != 0, "a remaining length is not in its shortest form");
                let header = place + 2;
                return (self.received.len() >= header + length).then_some((
                    self.received[0],
                    header,
                    length,
                ));
            }
            assert!(place < 3, "a remaining length of more than four bytes");
        }
        None
    }

    /// The next packet.
    #[track_caller]
    pub fn receive(&mut self) -> Packet {
        let Some(packet) = self.try_receive() else {
            panic!("the connection was closed instead of a packet");
        };
        packet
    }

    /// CONNACK with code 0: Session Present and the properties.
    #[track_caller]
    pub fn expect_connack(&mut self) -> (bool, Properties) {
        match self.receive() {
            Packet::Connack { session_present, code: 0, properties } => (session_present, properties),
            other => panic!("expected CONNACK 0, got {other:?}"),
        }
    }

    /// CONNACK with this code, then a close.
    #[track_caller]
    pub fn expect_refusal(&mut self, code: u8) {
        match self.receive() {
            Packet::Connack { code: got, .. } if got == code => self.expect_closed(),
            other => panic!("expected CONNACK 0x{code:02x}, got {other:?}"),
        }
    }

    /// A close, with nothing before it.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        if let Some(packet) = self.try_receive() {
            panic!("expected a close, got {packet:?}");
        }
    }

    /// Version 5: DISCONNECT with this code, then a close. Version 3: a close.
    #[track_caller]
    pub fn expect_disconnect(&mut self, code: u8) {
        self.expect_disconnect_in(&[code]);
    }

    /// Version 5: DISCONNECT with one of these codes, then a close. Version 3: a close.
    #[track_caller]
    pub fn expect_disconnect_in(&mut self, codes: &[u8]) {
        if self.version.is_5() {
            match self.try_receive() {
                Some(Packet::Disconnect { code, .. }) if codes.contains(&code) => {}
                other => panic!("expected DISCONNECT with one of {codes:02x?}, got {other:02x?}"),
            }
        }
        self.expect_closed();
    }

    /// A PUBLISH; not answered.
    #[track_caller]
    pub fn expect_publish(&mut self) -> Publish {
        match self.receive() {
            Packet::Publish(publish) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// A PUBLISH with this topic and payload, answered as its QoS demands, to the end of the handshake.
    #[track_caller]
    pub fn expect_message(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> Publish {
        let publish = self.expect_publish();
        let wanted = String::from_utf8_lossy(payload.as_ref());
        let got = String::from_utf8_lossy(&publish.payload);
        assert!(publish.topic == topic && got == wanted, "expected {topic} {wanted:?}, got {publish:?}");
        self.finish(&publish);
        publish
    }

    /// Answers a PUBLISH as its QoS demands, to the end of the handshake.
    #[track_caller]
    pub fn finish(&mut self, publish: &Publish) {
        match (publish.qos, publish.id) {
            (1, Some(id)) => self.ack(Kind::Puback, id),
            (2, Some(id)) => {
                self.ack(Kind::Pubrec, id);
                self.expect_ack(Kind::Pubrel, id);
                self.ack(Kind::Pubcomp, id);
            }
            _ => {}
        }
    }

    /// Sends an acknowledgement with code 0.
    pub fn ack(&mut self, kind: Kind, id: u16) {
        self.ack_with(kind, id, 0);
    }

    /// Sends an acknowledgement.
    pub fn ack_with(&mut self, kind: Kind, id: u16, code: u8) {
        self.send(&packet::ack(self.version, &Ack { kind, id, code, properties: Properties::new() }));
    }

    /// This acknowledgement of this packet id with a code below 0x80; the code is returned.
    #[track_caller]
    pub fn expect_ack(&mut self, kind: Kind, id: u16) -> u8 {
        match self.receive() {
            Packet::Ack(ack) if ack.kind == kind && ack.id == id && ack.code < 0x80 => ack.code,
            other => panic!("expected {kind:?} {id}, got {other:?}"),
        }
    }

    /// This acknowledgement of this packet id with this code.
    #[track_caller]
    pub fn expect_ack_code(&mut self, kind: Kind, id: u16, code: u8) {
        match self.receive() {
            Packet::Ack(ack) if ack.kind == kind && ack.id == id && ack.code == code => {}
            other => panic!("expected {kind:?} {id} 0x{code:02x}, got {other:?}"),
        }
    }

    /// SUBACK of this packet id: its codes.
    #[track_caller]
    pub fn expect_suback(&mut self, id: u16) -> Vec<u8> {
        match self.receive() {
            Packet::Suback { id: got, codes, .. } if got == id => codes,
            other => panic!("expected SUBACK {id}, got {other:?}"),
        }
    }

    /// UNSUBACK of this packet id: its codes (none in version 3).
    #[track_caller]
    pub fn expect_unsuback(&mut self, id: u16) -> Vec<u8> {
        match self.receive() {
            Packet::Unsuback { id: got, codes, .. } if got == id => codes,
            other => panic!("expected UNSUBACK {id}, got {other:?}"),
        }
    }

    /// Subscribes, and sees the asked QoS granted. Messages may not come before SUBACK here; see
    /// [`packet::subscribe`] for tests where they may.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        let id = self.fresh_id();
        self.send(&packet::subscribe(self.version, id, &[(filter, qos)]));
        assert_eq!(self.expect_suback(id), [qos], "granted to {filter}");
    }

    /// Unsubscribes, and sees that there was a subscription.
    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) {
        let id = self.fresh_id();
        self.send(&packet::unsubscribe(self.version, id, &[filter]));
        let codes = self.expect_unsuback(id);
        assert!(codes.iter().all(|code| *code == 0), "UNSUBACK for {filter}: {codes:02x?}");
    }

    /// Publishes with all that a [`Publish`] can say, except that the packet id is a fresh one, and goes through
    /// the handshake of its QoS.
    #[track_caller]
    pub fn publish_with(&mut self, message: &Publish) {
        let mut message = message.clone();
        message.id = (message.qos > 0).then(|| self.fresh_id());
        self.send(&packet::publish(self.version, &message));
        match (message.qos, message.id) {
            (1, Some(id)) => drop(self.expect_ack(Kind::Puback, id)),
            (2, Some(id)) => {
                self.expect_ack(Kind::Pubrec, id);
                self.ack(Kind::Pubrel, id);
                self.expect_ack(Kind::Pubcomp, id);
            }
            _ => {}
        }
    }

    /// Publishes and goes through the handshake of the QoS.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, qos: u8, payload: impl AsRef<[u8]>) {
        self.publish_with(&Publish::new(topic, payload).qos(qos));
    }

    /// PINGREQ, and PINGRESP is the very next packet: nothing else was waiting on this connection.
    #[track_caller]
    pub fn expect_nothing_until_ping(&mut self) {
        self.send(&packet::ping());
        match self.receive() {
            Packet::Pingresp => {}
            other => panic!("expected nothing but PINGRESP, got {other:?}"),
        }
    }

    /// DISCONNECT with code 0, and waits for the broker's close.
    #[track_caller]
    pub fn disconnect(self) {
        self.disconnect_with(0, &Properties::new());
    }

    /// DISCONNECT, and waits for the broker's close.
    #[track_caller]
    pub fn disconnect_with(mut self, code: u8, properties: &Properties) {
        self.send(&packet::disconnect(self.version, code, properties));
        self.stream.shutdown(Shutdown::Write).ok();
        self.drain();
    }

    /// Reads until the close, whatever comes before it.
    #[track_caller]
    pub fn drain(&mut self) {
        while self.try_receive().is_some() {}
    }

    /// The packets until the close, or what came instead of it: the answer to a PINGREQ shows that the connection
    /// is still served.
    #[track_caller]
    pub fn until_closed(&mut self) -> Result<Vec<Packet>, Vec<Packet>> {
        self.send(&packet::ping());
        let mut packets = Vec::new();
        while !self.would_wait(PATIENCE) {
            match self.try_receive() {
                Some(packet) => packets.push(packet),
                None => return Ok(packets),
            }
            if packets.last() == Some(&Packet::Pingresp) {
                break;
            }
        }
        Err(packets)
    }

    /// Everything until the close, not decoded: for answers whose version is open.
    #[track_caller]
    pub fn read_to_close(&mut self) -> Vec<u8> {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut out = std::mem::take(&mut self.received);
        match self.stream.read_to_end(&mut out) {
            Err(e) if e.kind() != ErrorKind::ConnectionReset => {
                panic!("no close: {e}; until then {out:02x?}")
            }
            _ => out,
        }
    }

    /// A CONNECT that breaks the format: version 3 closes without an answer, version 5 sends CONNACK with one of
    /// these codes before the close.
    #[track_caller]
    pub fn expect_rejected(&mut self, codes: &[u8]) {
        if self.version.is_5() {
            match self.receive() {
                Packet::Connack { code, .. } if codes.contains(&code) => {}
                other => panic!("expected CONNACK with one of {codes:02x?}, got {other:02x?}"),
            }
        }
        self.expect_closed();
    }

    /// Sends nothing more (end of file), but goes on reading.
    pub fn end_of_file(&mut self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Closes without DISCONNECT (end of file), and waits for the broker's close.
    #[track_caller]
    pub fn close(mut self) {
        self.stream.shutdown(Shutdown::Write).ok();
        self.drain();
    }

    /// Sends an end of file and reads until the broker closes, without a look at what comes.
    #[track_caller]
    pub fn hang_up(mut self) {
        self.stream.shutdown(Shutdown::Write).ok();
        self.read_to_close();
    }

    /// Closes with a reset, as a crashed machine would.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}
