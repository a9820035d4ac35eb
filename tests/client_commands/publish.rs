//! `ringmq pub` against a broker.
use crate::process::{Broker, topic};

#[test]
fn every_version_publishes_at_every_qos() {
    let broker = Broker::start();
    for version in ["31", "mqttv311", "5"] {
        for qos in ["0", "1", "2"] {
            let topic = topic("qos");
            let mut sub =
                broker.subscribe(&["-t", &topic, "-q", qos, "-V", version, "-C", "1", "-F", "%q %p"]);
            broker.publish(&["-t", &topic, "-q", qos, "-V", version, "-m", "hello"]);
            assert_eq!(sub.message(), format!("{qos} hello"), "version {version}");
            assert_eq!(sub.end().code(), Some(0));
        }
    }
}

#[test]
fn each_source_of_a_payload_is_sent_as_it_is() {
    let broker = Broker::start();
    let file = std::env::temp_dir().join(format!("ringmq-test-payload-{}", std::process::id()));
    std::fs::write(&file, b"\x00\xffin a file\n").unwrap();
    let path = file.to_str().unwrap();
    for (words, input, expected) in [
        (&["-m", "-D"][..], &b""[..], &b"-D"[..]),
        (&["-f", path], b"", b"\x00\xffin a file\n"),
        (&["-s"], b"two\nlines\n", b"two\nlines\n"),
    ] {
        let topic = topic("source");
        let common = ["-t", &topic, "-r", "-q", "1"];
        let output = broker.run_with_input("pub", &[&common, words].concat(), input);
        assert_eq!((output.code, output.err.as_str()), (0, ""));
        let output = broker.run("sub", &["-t", &topic, "-C", "1", "-N"]);
        assert_eq!((output.code, output.out.as_slice()), (0, expected));
        broker.publish(&["-t", &topic, "-r", "-n", "-q", "1"]);
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_null_message_clears_a_retained_one() {
    let broker = Broker::start();
    let topic = topic("null");
    broker.publish(&["-t", &topic, "-r", "-q", "1", "-m", "kept"]);
    broker.publish(&["-t", &topic, "-r", "-q", "1", "-n"]);
    broker.publish(&["-t", &format!("{topic}/next"), "-r", "-q", "1", "-m", "other"]);
    let output = broker.run("sub", &["-t", &format!("{topic}/#"), "-C", "1", "-v"]);
    assert_eq!(output.text(), format!("{topic}/next other\n"));
    broker.publish(&["-t", &format!("{topic}/next"), "-r", "-n", "-q", "1"]);
}

#[test]
fn lines_become_messages_in_order_at_every_qos() {
    let broker = Broker::start();
    let lines: String = (0..800).map(|number| format!("line {number}\n")).collect();
    for (qos, version) in [("0", "311"), ("1", "311"), ("2", "311"), ("1", "5"), ("2", "5")] {
        let topic = topic("lines");
        // A small window in both directions makes the handshakes overlap.
        let few = if version == "5" { &["-D", "connect", "receive-maximum", "3"][..] } else { &[] };
        let sub = broker.subscribe(&[&["-t", &topic, "-q", qos, "-V", version, "-C", "800"], few].concat());
        let words = ["-t", &topic, "-q", qos, "-V", version, "-l", "-M", "7"];
        let output = broker.run_with_input("pub", &words, lines.as_bytes());
        assert_eq!((output.code, output.err.as_str()), (0, ""));
        let output = sub.finish(b"");
        let received: String = output
            .text()
            .lines()
            .filter(|line| line.starts_with("line "))
            .map(|l| format!("{l}\n"))
            .collect();
        assert_eq!(output.code, 0);
        assert!(received == lines, "QoS {qos}, version {version}");
    }
}

#[test]
fn lines_are_sent_as_they_are_typed_and_the_last_needs_no_end() {
    let broker = Broker::start();
    let topic = topic("typed");
    let mut sub = broker.subscribe(&["-t", &topic, "-q", "1", "-F", "[%p]"]);
    let mut publisher = broker.start_command("pub", &["-t", &topic, "-q", "1", "-l"]);
    for line in ["first", "", "third\r"] {
        publisher.input(format!("{line}\n").as_bytes());
        assert_eq!(sub.message(), format!("[{line}]"));
    }
    assert_eq!(publisher.finish(b"last").code, 0);
    assert_eq!(sub.message(), "[last]");
}

#[test]
fn repeat_sends_again_and_again() {
    let broker = Broker::start();
    let topic = topic("repeat");
    let mut sub = broker.subscribe(&["-t", &topic, "-C", "3"]);
    broker.publish(&["-t", &topic, "-q", "2", "-m", "again", "--repeat", "3", "--repeat-delay", "0.01"]);
    for _ in 0..3 {
        assert_eq!(sub.message(), "again");
    }
    assert_eq!(sub.end().code(), Some(0));
}

#[test]
fn a_topic_alias_replaces_the_topic_after_the_first_message() {
    let broker = Broker::start();
    let topic = topic("alias");
    let mut sub = broker.subscribe(&["-t", &topic, "-C", "2", "-v"]);
    broker.publish(&[
        "-t",
        &topic,
        "-q",
        "1",
        "-m",
        "x",
        "--repeat",
        "2",
        "-D",
        "publish",
        "topic-alias",
        "1",
    ]);
    for _ in 0..2 {
        assert_eq!(sub.message(), format!("{topic} x"));
    }
}

#[test]
fn a_url_names_host_port_and_topic() {
    let broker = Broker::start();
    let topic = topic("url");
    let mut sub = broker.subscribe(&["-t", &topic, "-C", "1"]);
    // Host and port of the flags win over the URL's.
    broker.publish(&["-L", &format!("mqtt://user@nowhere.invalid:1/{topic}"), "-m", "through a URL"]);
    assert_eq!(sub.message(), "through a URL");
}
