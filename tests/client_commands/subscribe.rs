//! `ringmq sub` against a broker.
use crate::process::{Broker, topic};

#[test]
fn the_output_format_names_every_part_of_a_message() {
    let broker = Broker::start();
    let topic = topic("format");
    broker.publish(&[
        "-t",
        &topic,
        "-q",
        "1",
        "-r",
        "-m",
        "{\"n\": 1.50}", //
        "-D",
        "publish",
        "content-type",
        "text/plain",
        "-D",
        "publish",
        "response-topic",
        "r/t", //
        "-D",
        "publish",
        "correlation-data",
        "c d",
        "-D",
        "publish",
        "user-property",
        "k",
        "-1", //
        "-D",
        "publish",
        "user-property",
        "k",
        "2",
        "-D",
        "publish",
        "payload-format-indicator",
        "1",
    ]);
    let common = [
        "-t",
        &topic,
        "-V",
        "5",
        "-q",
        "1",
        "-C",
        "1",
        "-D",
        "subscribe",
        "subscription-identifier",
        "7",
        "-F",
    ];
    let print = |format: &str| {
        let output = broker.run("sub", &[&common, &[format][..]].concat());
        assert_eq!((output.code, output.err.as_str()), (0, ""));
        output.text().to_owned()
    };
    assert_eq!(print("%t|%p|%q|%r|%l"), format!("{topic}|{{\"n\": 1.50}}|1|1|11\n"));
    assert_eq!(print("%C|%D|%F|%P|%R|%S|%3l|%-3l|%03l"), "text/plain|c d|1|k:-1 k:2|r/t|7| 11|11 |011\n");
    let json = print("%J");
    let properties = "\"properties\":{\"content-type\":\"text/plain\",\"response-topic\":\"r/t\",\"correlation-data\":\"c d\",\
                      \"user-properties\":{\"k\":\"-1\",\"k\":\"2\"},\"payload-format-indicator\":1,\"subscription-identifier\":7}";
    assert!(json.contains(properties) && json.ends_with(",\"payload\":{\"n\":1.50}}\n"), "{json}");
    broker.publish(&["-t", &topic, "-q", "1", "-r", "-n"]);
}

#[test]
fn filters_decide_what_is_printed_and_counted() {
    let broker = Broker::start();
    let topic = topic("filters");
    for name in ["a", "b", "c"] {
        broker.publish(&["-t", &format!("{topic}/{name}"), "-q", "1", "-r", "-m", name]);
    }
    let all = format!("{topic}/#");
    let output = broker.run("sub", &["-t", &all, "-T", &format!("{topic}/b"), "-C", "2"]);
    let mut lines: Vec<&str> = output.text().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a", "c"]);

    let mut sub = broker.subscribe(&["-t", &all, "-R", "-C", "1"]);
    broker.publish(&["-t", &format!("{topic}/d"), "-m", "fresh"]);
    assert_eq!(sub.message(), "fresh");
    assert_eq!(sub.end().code(), Some(0));

    let mut sub = broker.subscribe(&["-t", &all, "--remove-retained", "--retained-only", "-q", "1"]);
    let mut lines = [sub.message(), sub.message(), sub.message()];
    lines.sort_unstable();
    assert_eq!(lines, ["a", "b", "c"]);
    broker.publish(&["-t", &format!("{topic}/d"), "-m", "ends it"]);
    assert_eq!(sub.end().code(), Some(0));

    broker.publish(&["-t", &format!("{topic}/e"), "-q", "1", "-r", "-m", "e"]);
    assert_eq!(broker.run("sub", &["-t", &all, "-C", "1"]).text(), "e\n", "the others are cleared");
    broker.publish(&["-t", &format!("{topic}/e"), "-q", "1", "-r", "-n"]);
}

#[test]
fn an_empty_payload_is_shown_only_where_the_line_has_more() {
    let broker = Broker::start();
    let topic = topic("empty");
    let mut plain = broker.subscribe(&["-t", &topic, "-C", "2"]);
    let mut verbose = broker.subscribe(&["-t", &topic, "-v", "-C", "2"]);
    broker.publish(&["-t", &topic, "-n"]);
    broker.publish(&["-t", &topic, "-m", "x"]);
    assert_eq!(plain.message(), "x");
    assert_eq!([verbose.message(), verbose.message()], [format!("{topic} (null)"), format!("{topic} x")]);
}

#[test]
fn retain_handling_and_retain_as_published_reach_the_broker() {
    let broker = Broker::start();
    let topic = topic("retain");
    broker.publish(&["-t", &topic, "-q", "1", "-r", "-m", "old"]);
    let words = [
        "-t",
        &topic,
        "-V",
        "5",
        "--retain-handling",
        "never",
        "--retain-as-published",
        "-F",
        "%r %p",
        "-C",
        "1",
    ];
    let mut sub = broker.subscribe(&words);
    broker.publish(&["-t", &topic, "-q", "1", "-r", "-m", "new"]);
    assert_eq!(sub.message(), "1 new");
    broker.publish(&["-t", &topic, "-q", "1", "-r", "-n"]);
}

#[test]
fn the_timeout_ends_it_with_27() {
    let broker = Broker::start();
    let output = broker.run("sub", &["-t", &topic("timeout"), "-W", "1"]);
    assert_eq!((output.code, output.text(), output.err.as_str()), (27, "", "Timed out\n"));
}

#[test]
fn a_kept_session_delivers_what_came_meanwhile_once() {
    let broker = Broker::start();
    for version in ["311", "5"] {
        for qos in ["1", "2"] {
            let topic = topic("session");
            let id = topic.replace('/', "-");
            let session = ["-t", &topic, "-q", qos, "-V", version, "-i", &id, "-c"];
            assert_eq!(broker.run("sub", &[&session[..], &["-E"]].concat()).code, 0);
            for message in ["one", "two", "three"] {
                broker.publish(&["-t", &topic, "-q", qos, "-m", message]);
            }
            let output = broker.run("sub", &[&session[..], &["-C", "2"]].concat());
            assert_eq!((output.code, output.text()), (0, "one\ntwo\n"));
            let output = broker.run("sub", &[&session[..], &["-C", "1"]].concat());
            assert_eq!((output.code, output.text()), (0, "three\n"), "QoS {qos}, version {version}");
            // Unsubscribed, nothing is kept for it any more.
            let unsubscribe = ["-U", &topic, "-V", version, "-i", &id, "-c", "-E"];
            assert_eq!(broker.run("sub", &unsubscribe).code, 0);
            broker.publish(&["-t", &topic, "-q", qos, "-m", "four"]);
            let mut sub = broker.subscribe(&[&session[..], &["-C", "1"]].concat());
            broker.publish(&["-t", &topic, "-q", qos, "-m", "five"]);
            assert_eq!(sub.message(), "five");
            assert_eq!(broker.run("sub", &["-t", &topic, "-V", version, "-i", &id, "-E"]).code, 0);
        }
    }
}

#[test]
fn silence_is_bridged_with_pings() {
    let broker = Broker::start();
    let topic = topic("ping");
    let mut sub = broker.subscribe(&["-t", &topic, "-k", "1", "-C", "1"]);
    sub.wait_for("received PINGRESP");
    sub.wait_for("received PINGRESP");
    broker.publish(&["-t", &topic, "-m", "still here"]);
    assert_eq!(sub.message(), "still here");
}

#[test]
fn a_signal_ends_it_orderly_and_a_kill_leaves_the_will() {
    let broker = Broker::start();
    let topic = topic("will");
    let mut watcher = broker.subscribe(&["-t", &topic, "-q", "1", "-F", "%p %q"]);
    for (signal, payload) in [("INT", "orderly"), ("TERM", "orderly"), ("KILL", "vanished")] {
        let words = [
            "-t",
            "x/y",
            "--will-topic",
            &topic,
            "--will-payload",
            payload,
            "--will-qos",
            "1",
            "-i",
            &topic.replace('/', ""),
        ];
        let mut sub = broker.subscribe(&words);
        sub.signal(signal);
        let code = sub.end().code();
        assert_eq!(code, if signal == "KILL" { None } else { Some(0) });
    }
    assert_eq!(watcher.message(), "vanished 1", "the first will to arrive is the one of the killed");
}

#[test]
fn closed_standard_output_ends_it_quietly() {
    let broker = Broker::start();
    let topic = topic("closed");
    let sub = broker.subscribe(&["-t", &topic]);
    let publisher = std::thread::scope(|scope| {
        let ended = scope.spawn(move || sub.close_output());
        while !ended.is_finished() {
            broker.publish(&["-t", &topic, "-m", "nobody reads this"]);
        }
        ended.join().expect("no panic")
    });
    assert_eq!(publisher.code(), Some(0));
}
