//! `mosquitto_pub`, `mosquitto_sub` and `mosquitto_rr` of Debian's `mosquitto-clients`.
use crate::support::{Broker, PATIENCE, each_broker, unique};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

/// `program -h 127.0.0.1 -p PORT FLAGS`, its lines written at once, ended when it takes too long.
fn client(broker: &Broker, program: &str, flags: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &(2 * PATIENCE.as_secs()).to_string(), "stdbuf", "-oL", program]);
    command.args(["-h", "127.0.0.1", "-p", &broker.address.port().to_string()]).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a client to its end and returns its lines.
#[track_caller]
fn finish(command: &mut Command) -> Vec<String> {
    let output = command.output().expect("install mosquitto-clients");
    succeeded(command, output)
}

#[track_caller]
fn succeeded(command: &Command, output: Output) -> Vec<String> {
    let said = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{said}{complained}", output.status);
    said.lines().map(str::to_owned).collect()
}

#[track_caller]
fn publish(broker: &Broker, flags: &[&str]) {
    finish(&mut client(broker, "mosquitto_pub", flags));
}

/// Publishes every line as a message of its own.
#[track_caller]
fn publish_lines(broker: &Broker, flags: &[&str], lines: &[String]) {
    let mut command = client(broker, "mosquitto_pub", flags);
    let mut child = command.arg("-l").stdin(Stdio::piped()).spawn().expect("install mosquitto-clients");
    let mut input = child.stdin.take().unwrap();
    input.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    succeeded(&command, output);
}

/// A `mosquitto_sub` that has its SUBACK. Messages are lines that begin with `> `; the others are its debug lines.
struct Subscriber {
    child: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    /// `format` is what follows `> ` of each message, in the words of `mosquitto_sub -F`.
    #[track_caller]
    fn start(broker: &Broker, format: &str, flags: &[&str]) -> Subscriber {
        let format = format!("> {format}");
        let mut command = client(broker, "mosquitto_sub", flags);
        command.args(["-d", "-F", &format]).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("install mosquitto-clients");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let subscriber = Subscriber { child, lines };
        subscriber.wait_for("Subscribed");
        subscriber
    }

    /// The rest of the next line that begins with `start`.
    #[track_caller]
    fn wait_for(&self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("mosquitto_sub printed no line with {start:?}, only {seen:#?}");
            };
            match line.strip_prefix(start) {
                Some(rest) => return rest.to_owned(),
                None => seen.push(line),
            }
        }
    }

    #[track_caller]
    fn message(&self) -> String {
        self.wait_for("> ")
    }

    #[track_caller]
    fn messages(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.message()).collect()
    }

    /// Ends the client as a crash would: no DISCONNECT. The kill goes to `mosquitto_sub` itself, which `timeout`
    /// runs as its only child.
    fn crash(mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = std::fs::read_to_string(children).unwrap();
        let pid: i32 = children.trim().parse().expect("timeout has one child");
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // TERM, which `timeout` passes on; a KILL would leave the client behind.
        if let (Ok(None), Some(pid)) =
            (self.child.try_wait(), rustix::process::Pid::from_raw(self.child.id() as i32))
        {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
            self.child.wait().ok();
        }
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("line {number}")).collect()
}

#[test]
fn every_version_and_qos_is_delivered() {
    each_broker(|broker| {
        for version in VERSIONS {
            let topic = unique("qos");
            let subscriber = Subscriber::start(broker, "%q %t %p", &["-V", version, "-q", "2", "-t", &topic]);
            for qos in ["0", "1", "2"] {
                publish(broker, &["-V", version, "-q", qos, "-t", &topic, "-m", "hello"]);
                assert_eq!(subscriber.message(), format!("{qos} {topic} hello"), "{version}");
            }
        }
    });
}

#[test]
fn lines_of_one_publisher_stay_in_order() {
    each_broker(|broker| {
        for qos in ["0", "1", "2"] {
            let topic = unique("lines");
            let subscriber = Subscriber::start(broker, "%p", &["-q", "2", "-t", &topic]);
            publish_lines(broker, &["-q", qos, "-t", &topic], &numbered(200));
            assert_eq!(subscriber.messages(200), numbered(200), "QoS {qos}");
        }
    });
}

#[test]
fn wildcards_and_several_filters_match() {
    each_broker(|broker| {
        let base = unique("wild");
        let (one, many) = (format!("{base}/+/x"), format!("{base}/deep/#"));
        let subscriber = Subscriber::start(broker, "%t", &["-q", "1", "-t", &one, "-t", &many]);
        for name in ["a/x", "a/y", "deep", "deep/1/2", "a/x/x", "b/x"] {
            publish(broker, &["-q", "1", "-t", &format!("{base}/{name}"), "-m", ""]);
        }
        let wanted = ["a/x", "deep", "deep/1/2", "b/x"].map(|name| format!("{base}/{name}"));
        assert_eq!(subscriber.messages(4), wanted);
    });
}

#[test]
fn retained_message_reaches_a_later_subscriber_until_it_is_cleared() {
    each_broker(|broker| {
        for version in VERSIONS {
            let topic = unique("retained");
            publish(broker, &["-V", version, "-q", "1", "-r", "-t", &topic, "-m", "kept"]);
            let subscriber = Subscriber::start(broker, "%r %p", &["-V", version, "-q", "1", "-t", &topic]);
            assert_eq!(subscriber.message(), "1 kept");
            publish(broker, &["-V", version, "-q", "1", "-r", "-n", "-t", &topic]);
            assert_eq!(subscriber.message(), "0 ");
            let later = Subscriber::start(broker, "%r %p", &["-V", version, "-q", "1", "-t", &topic]);
            publish(broker, &["-V", version, "-q", "1", "-t", &topic, "-m", "live"]);
            assert_eq!(later.message(), "0 live", "{version}: nothing retained is left");
        }
    });
}

#[test]
fn will_is_published_when_the_client_crashes() {
    each_broker(|broker| {
        for version in VERSIONS {
            let topic = unique("will");
            let watcher = Subscriber::start(broker, "%t %p", &["-V", version, "-q", "1", "-t", &topic]);
            let will = ["--will-topic", &topic, "--will-payload", "gone", "--will-qos", "1"];
            Subscriber::start(broker, "", &[&["-V", version, "-t", "unused"], &will[..]].concat()).crash();
            assert_eq!(watcher.message(), format!("{topic} gone"), "{version}");
        }
    });
}

#[test]
fn session_keeps_messages_while_the_client_is_away() {
    each_broker(|broker| {
        for version in VERSIONS {
            let (topic, id) = (unique("away"), unique("id"));
            let session = ["-V", version, "-c", "-i", &id, "-q", "1", "-t", &topic];
            finish(client(broker, "mosquitto_sub", &session).arg("-E"));
            publish_lines(broker, &["-V", version, "-q", "1", "-t", &topic], &numbered(20));
            let received = finish(client(broker, "mosquitto_sub", &session).args(["-C", "20"]));
            assert_eq!(received, numbered(20), "{version}");
            finish(&mut client(broker, "mosquitto_sub", &["-V", version, "-i", &id, "-E", "-t", &topic]));
        }
    });
}

#[test]
fn second_client_with_the_same_id_takes_over() {
    each_broker(|broker| {
        let (topic, id) = (unique("twin"), unique("id"));
        let flags = ["-V", "mqttv5", "-i", &id, "-t", &topic];
        let first = Subscriber::start(broker, "%p", &flags);
        let second = Subscriber::start(broker, "%p", &flags);
        assert_eq!(first.wait_for("Received DISCONNECT "), "(142)");
        // It would connect again and take the session back.
        drop(first);
        drop(second);
    });
}

#[test]
fn properties_are_passed_on() {
    each_broker(|broker| {
        let topic = unique("properties");
        let flags =
            ["-V", "mqttv5", "-q", "1", "-t", &topic, "-D", "subscribe", "subscription-identifier", "7"];
        let subscriber = Subscriber::start(broker, "%C|%R|%D|%F|%P|%S|%p", &flags);
        let mut flags = vec!["-V", "mqttv5", "-q", "1", "-t", &topic, "-m", "text"];
        for property in [
            &["content-type", "text/plain"][..],
            &["response-topic", "answers"],
            &["correlation-data", "c1"],
            &["payload-format-indicator", "1"],
            &["user-property", "b", "2"],
            &["user-property", "a", "1"],
        ] {
            flags.extend(["-D", "publish"]);
            flags.extend(property);
        }
        publish(broker, &flags);
        assert_eq!(subscriber.message(), "text/plain|answers|c1|1|b:2 a:1|7|text");
    });
}

#[test]
fn expiry_interval_counts_down() {
    each_broker(|broker| {
        let topic = unique("expiry");
        let expiry = ["-D", "publish", "message-expiry-interval", "100"];
        let message = ["-V", "mqttv5", "-q", "1", "-r", "-t", &topic, "-m", "x"];
        publish(broker, &[&message[..], &expiry].concat());
        let subscriber = Subscriber::start(broker, "%E", &["-V", "mqttv5", "-t", &topic]);
        let left: u32 = subscriber.message().parse().unwrap();
        assert!((1..=100).contains(&left), "{left} s left of 100");
        publish(broker, &["-V", "mqttv5", "-q", "1", "-r", "-n", "-t", &topic]);
    });
}

#[test]
fn topic_alias_stands_for_its_topic() {
    each_broker(|broker| {
        let topic = unique("alias");
        let subscriber = Subscriber::start(broker, "%t %p", &["-V", "mqttv5", "-q", "1", "-t", &topic]);
        let flags = ["-V", "mqttv5", "-q", "1", "-t", &topic, "-D", "publish", "topic-alias", "1"];
        publish_lines(broker, &flags, &numbered(10));
        let wanted: Vec<_> = numbered(10).iter().map(|line| format!("{topic} {line}")).collect();
        assert_eq!(subscriber.messages(10), wanted);
    });
}

#[test]
fn shared_subscription_gives_each_message_to_one_member() {
    each_broker(|broker| {
        let topic = unique("jobs");
        let filter = format!("$share/workers/{topic}");
        let flags = ["-V", "mqttv5", "-q", "1", "-t", &filter];
        let members = [Subscriber::start(broker, "%p", &flags), Subscriber::start(broker, "%p", &flags)];
        publish_lines(broker, &["-V", "mqttv5", "-q", "1", "-t", &topic], &numbered(40));
        let mut received: Vec<String> = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while received.len() < 40 {
            assert!(Instant::now() < deadline, "only {received:?} within {PATIENCE:?}");
            for member in &members {
                let lines = member.lines.recv_timeout(Duration::from_millis(10)).into_iter();
                received.extend(lines.filter_map(|line| line.strip_prefix("> ").map(str::to_owned)));
            }
        }
        let mut wanted = numbered(40);
        wanted.sort();
        received.sort();
        assert_eq!(received, wanted);
    });
}

#[test]
fn request_gets_its_response() {
    each_broker(|broker| {
        let (question, answer) = (unique("question"), unique("answer"));
        let responder = Subscriber::start(broker, "%R %p", &["-V", "mqttv5", "-q", "1", "-t", &question]);
        let flags = ["-V", "mqttv5", "-q", "1", "-t", &question, "-e", &answer, "-m", "6 * 7"];
        let mut command = client(broker, "mosquitto_rr", &flags);
        let asker = command.spawn().expect("install mosquitto-clients");
        assert_eq!(responder.message(), format!("{answer} 6 * 7"));
        publish(broker, &["-V", "mqttv5", "-q", "1", "-t", &answer, "-m", "42"]);
        let output = asker.wait_with_output().unwrap();
        assert_eq!(succeeded(&command, output), ["42"]);
    });
}

#[test]
fn broker_topics_tell_version_and_uptime() {
    each_broker(|broker| {
        let topics = ["$SYS/broker/version", "$SYS/broker/uptime", "$SYS/broker/clients/connected"];
        for topic in topics {
            let lines = finish(&mut client(broker, "mosquitto_sub", &["-v", "-C", "1", "-t", topic]));
            assert!(lines[0].len() > topic.len() + 1, "{lines:?} has a value");
        }
    });
}
