//! What the commands do with a broker that follows a script: refusals, limits, breaks.
use crate::process::{LIMIT, Running};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const CONNACK_311: &[u8] = &[0x20, 2, 0, 0];
const CONNACK_5: &[u8] = &[0x20, 3, 0, 0, 0];

/// A listener and the command that was told to connect to it.
struct Script {
    listener: TcpListener,
    command: Running,
}

impl Script {
    fn start(command: &str, words: &[&str]) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let command = Running::start(&[&[command, "-h", "127.0.0.1", "-p", &port], words].concat());
        Script { listener, command }
    }

    /// Takes a connection, its CONNECT, and answers.
    fn connect(&self, connack: &[u8]) -> TcpStream {
        let (mut stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        assert_eq!(packet(&mut stream)[0], 0x10);
        stream.write_all(connack).unwrap();
        stream
    }

    fn end(self) -> (i32, String) {
        let output = self.command.finish(b"");
        (output.code, output.err)
    }
}

/// The next packet; they are all shorter than 128 bytes.
fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet).unwrap();
    assert!(packet[1] < 128);
    packet.resize(2 + usize::from(packet[1]), 0);
    stream.read_exact(&mut packet[2..]).unwrap();
    packet
}

#[test]
fn a_refusal_gives_its_reason_and_its_code() {
    for (version, connack, code, text) in [
        ("311", &[0x20, 2, 0, 5][..], 5, "Not authorized"),
        ("31", &[0x20, 2, 0, 4], 4, "Bad User Name or Password"),
        ("5", &[0x20, 3, 0, 0x87, 0], 135, "Not authorized"),
        ("5", &[0x20, 7, 0, 0x8A, 4, 0x1F, 0, 1, b'!'], 138, "Banned (!)"),
    ] {
        for (command, words) in [("pub", &["-m", "x"][..]), ("sub", &[]), ("rr", &["-e", "r", "-m", "x"])] {
            let script = Script::start(command, &[&["-t", "t", "-V", version], words].concat());
            drop(script.connect(connack));
            let (got, err) = script.end();
            assert_eq!(got, code, "{command}");
            assert_eq!(
                err.to_lowercase(),
                format!("Error: Connection refused by the broker: {text}\n").to_lowercase()
            );
        }
    }
}

#[test]
fn receive_maximum_bounds_what_is_unanswered() {
    let mut script = Script::start("pub", &["-t", "t", "-V", "5", "-q", "1", "-l", "-M", "0"]);
    // Receive Maximum 2.
    let mut stream = script.connect(&[0x20, 6, 0, 0, 3, 0x21, 0, 2]);
    script.command.input(b"1\n2\n3\n4\n5\n");
    for (count, expected) in [(2, "12"), (2, "34"), (1, "5")] {
        let publishes: Vec<Vec<u8>> = (0..count).map(|_| packet(&mut stream)).collect();
        let payloads: Vec<u8> = publishes.iter().filter_map(|publish| publish.last().copied()).collect();
        assert_eq!(payloads, expected.as_bytes());
        // One more would be here already, or come within this time.
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let more = stream.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(more, Err(ErrorKind::WouldBlock), "behind {expected}");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        for publish in publishes {
            stream.write_all(&[0x40, 2, publish[5], publish[6]]).unwrap();
        }
    }
    let ended = std::thread::spawn(move || script.end());
    assert_eq!(packet(&mut stream)[0], 0xE0);
    drop(stream);
    assert_eq!(ended.join().unwrap(), (0, String::new()));
}

#[test]
fn a_refused_publish_is_a_warning() {
    let script = Script::start("pub", &["-t", "t", "-V", "5", "-q", "2", "-m", "x"]);
    let mut stream = script.connect(CONNACK_5);
    let publish = packet(&mut stream);
    stream.write_all(&[0x50, 3, publish[5], publish[6], 0x97]).unwrap();
    assert_eq!(packet(&mut stream)[0], 0xE0, "after a refusal there is no PUBREL");
    drop(stream);
    assert_eq!(script.end(), (0, "Warning: Publish 1 failed: Quota exceeded.\n".to_owned()));
}

#[test]
fn what_the_broker_does_not_take_is_not_sent() {
    for (connack, words) in [
        (&[0x20, 5, 0, 0, 2, 0x24, 0][..], &["-q", "1"][..]),
        (&[0x20, 5, 0, 0, 2, 0x25, 0], &["-r"]),
        (&[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 5], &[]),
        (CONNACK_5, &["-D", "publish", "topic-alias", "1"]),
    ] {
        let script = Script::start("pub", &[&["-t", "t", "-V", "5", "-m", "x"], words].concat());
        let mut stream = script.connect(connack);
        let (code, err) = script.end();
        assert_eq!(code, 2);
        assert!(err.starts_with("Error: The broker does not take this message: "), "{err}");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }
}

#[test]
fn a_lost_connection_is_7_for_pub_and_another_try_for_sub() {
    let script = Script::start("pub", &["-t", "t", "-q", "1", "-m", "x"]);
    let mut stream = script.connect(CONNACK_311);
    packet(&mut stream);
    drop(stream);
    assert_eq!(script.end(), (7, "Error: The connection was lost.\n".to_owned()));

    let script = Script::start("sub", &["-t", "t", "-C", "1"]);
    let mut stream = script.connect(CONNACK_311);
    assert_eq!(packet(&mut stream)[0], 0x82);
    drop(stream);
    let mut stream = script.connect(CONNACK_311);
    let subscribe = packet(&mut stream);
    stream.write_all(&[0x90, 3, subscribe[2], subscribe[3], 0, 0x30, 4, 0, 1, b't', b'x']).unwrap();
    assert_eq!(packet(&mut stream)[0], 0xE0);
    drop(stream);
    let output = script.command.finish(b"");
    assert_eq!((output.code, output.text()), (0, "x\n"));
    assert_eq!(output.err, "Warning: The connection was lost. Connecting again.\n");
}

#[test]
fn a_disconnect_with_a_reason_is_the_end() {
    let script = Script::start("sub", &["-t", "t", "-V", "5"]);
    let mut stream = script.connect(CONNACK_5);
    packet(&mut stream);
    stream.write_all(&[0xE0, 2, 0x8E, 0]).unwrap();
    assert_eq!(script.end(), (142, "Error: Disconnected by the broker: Session taken over\n".to_owned()));
}

#[test]
fn refused_subscriptions_are_named() {
    let script = Script::start("sub", &["-t", "a", "-t", "b", "-V", "5"]);
    let mut stream = script.connect(CONNACK_5);
    let subscribe = packet(&mut stream);
    stream.write_all(&[0x90, 5, subscribe[2], subscribe[3], 0, 0x87, 0x8F]).unwrap();
    assert_eq!(packet(&mut stream)[0], 0xE0);
    drop(stream);
    let (code, err) = script.end();
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(code, 135);
    assert_eq!(
        lines,
        [
            "Warning: Subscription to 'a' was refused: Not authorized.",
            "Warning: Subscription to 'b' was refused: Topic filter invalid.",
            "Error: All subscription requests were denied.",
        ]
    );
}

#[test]
fn a_malformed_packet_gets_its_reason_and_ends_it_with_2() {
    let script = Script::start("sub", &["-t", "t", "-V", "5"]);
    let mut stream = script.connect(CONNACK_5);
    packet(&mut stream);
    // PUBLISH with QoS 3.
    stream.write_all(&[0x36, 6, 0, 1, b't', 0, 1, 0]).unwrap();
    assert_eq!(packet(&mut stream), [0xE0, 2, 0x81, 0]);
    let (code, err) = script.end();
    assert_eq!(code, 2);
    assert!(err.starts_with("Error: The broker sent a malformed packet: "), "{err}");
}

#[test]
fn a_qos_2_message_is_printed_once_however_often_it_comes() {
    let script = Script::start("sub", &["-t", "t", "-q", "2", "-V", "5", "-C", "2"]);
    let mut stream = script.connect(CONNACK_5);
    let subscribe = packet(&mut stream);
    stream.write_all(&[0x90, 4, subscribe[2], subscribe[3], 0, 2]).unwrap();
    let publish = |flags: u8, id: u8, payload: u8| [0x30 | flags, 7, 0, 1, b't', 0, id, 0, payload];
    stream.write_all(&publish(0x04, 9, b'x')).unwrap();
    assert_eq!(packet(&mut stream), [0x50, 2, 0, 9]);
    stream.write_all(&publish(0x0C, 9, b'x')).unwrap();
    assert_eq!(packet(&mut stream), [0x50, 2, 0, 9]);
    stream.write_all(&[0x62, 2, 0, 9]).unwrap();
    assert_eq!(packet(&mut stream), [0x70, 2, 0, 9]);
    // Released: the identifier may be used again. An unknown one is answered with 0x92.
    stream.write_all(&[0x62, 2, 0, 8]).unwrap();
    assert_eq!(packet(&mut stream), [0x70, 3, 0, 8, 0x92]);
    stream.write_all(&publish(0x04, 9, b'y')).unwrap();
    assert_eq!(packet(&mut stream), [0x50, 2, 0, 9]);
    stream.write_all(&[0x62, 2, 0, 9]).unwrap();
    assert_eq!(packet(&mut stream), [0x70, 2, 0, 9], "the handshake is finished before the end");
    assert_eq!(packet(&mut stream)[0], 0xE0);
    drop(stream);
    let output = script.command.finish(b"");
    assert_eq!((output.code, output.text()), (0, "x\ny\n"));
}

#[test]
fn the_brokers_topic_aliases_are_resolved() {
    let words = ["-t", "#", "-V", "5", "-C", "2", "-F", "%t %A", "-D", "connect", "topic-alias-maximum", "4"];
    let script = Script::start("sub", &words);
    let mut stream = script.connect(CONNACK_5);
    let subscribe = packet(&mut stream);
    stream.write_all(&[0x90, 4, subscribe[2], subscribe[3], 0, 0]).unwrap();
    stream.write_all(&[0x30, 8, 0, 1, b't', 3, 0x23, 0, 4, b'x']).unwrap();
    stream.write_all(&[0x30, 7, 0, 0, 3, 0x23, 0, 4, b'y']).unwrap();
    assert_eq!(packet(&mut stream)[0], 0xE0);
    drop(stream);
    assert_eq!(script.command.finish(b"").text(), "t 4\nt 4\n");
}
