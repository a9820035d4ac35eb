//! Limits of a listener's and of a user's own: what CONNACK says is what holds, and others have theirs.
mod support;
use support::certificates::written;
use support::*;

use std::process::Command;
use std::time::Instant;

/// Brokers of 1, 2 and 3 shards with what `text` says, and beside it a wide and a narrow listener; users ann, bob and eve
/// have their names as passwords.
struct Doors {
    broker: Broker,
    file: std::path::PathBuf,
    text: String,
    wide: u16,
    narrow: u16,
}

const NARROW: &str = "max-packet = \"2K\"\nmax-qos = 1\nno-retain = true\nmax-subscriptions = 1\nmax-keep-alive = 30\n\
    receive-maximum = 2\ntopic-alias-max = 0\nmax-topic-levels = 3\nmax-topic-length = 20\nmax-session-expiry = 60\n\
    max-will = 10\nmin-wildcard-depth = 1\n";

impl Doors {
    fn open(shards: usize, narrow: &str, users: &str) -> Doors {
        let passwords = written("passwords", "");
        let passwords = passwords.to_str().unwrap();
        for user in ["ann", "bob", "eve"] {
            let made = Command::new(env!("CARGO_BIN_EXE_ringmq"))
                .args(["passwd", "-b", passwords, user, user])
                .status();
            assert!(made.unwrap().success());
        }
        let (wide, second) = (free_port(), free_port());
        let text = format!(
            "password-file = {passwords:?}\nallow-anonymous = true\nmax-packet = \"4K\"\n\n[[listener]]\naddress = {wide}\n\n\
             [[listener]]\naddress = {second}\n"
        );
        let file = written("ringmq.toml", &format!("{text}{narrow}{users}"));
        let broker = Broker::start(shards, &["--config", file.to_str().unwrap()]);
        Doors { broker, file, text, wide, narrow: second }
    }

    /// A door of the broker.
    fn at(&mut self, port: u16) -> &Broker {
        self.broker.address.set_port(port);
        &self.broker
    }

    fn reload(&self, narrow: &str, users: &str) {
        std::fs::write(&self.file, format!("{}{narrow}{users}", self.text)).unwrap();
        let count = || self.broker.said().matches("settings were read again").count();
        let before = count();
        self.broker.signal(Signal::HUP);
        let until = Instant::now() + PATIENCE;
        while count() == before {
            assert!(Instant::now() < until, "{}", self.broker.said());
            std::thread::yield_now();
        }
    }
}

fn user(version: Version, name: &str) -> Connect {
    Connect::new(version, &unique("c")).user(name).password(name)
}

fn sized(topic: &str, size: usize) -> Publish {
    Publish::new(topic, vec![b'x'; size]).qos(1).id(7)
}

#[test]
fn a_listener_has_limits_of_its_own() {
    for shards in [1, 2, 3] {
        let mut doors = Doors::open(shards, NARROW, "");
        let connect = || Connect::new(Version::V5, &unique("c")).keep_alive(90).expiry(600);
        let told = |granted: &Properties| {
            [prop::MAXIMUM_PACKET_SIZE, prop::MAXIMUM_QOS, prop::RETAIN_AVAILABLE, prop::RECEIVE_MAXIMUM]
                .map(|id| granted.number(id))
        };
        let (wide, narrow) = (doors.wide, doors.narrow);
        let (mut far, _, granted) = Client::connect_with(doors.at(wide), &connect());
        assert_eq!(told(&granted), [Some(4096), None, None, Some(1024)]);
        assert_eq!(granted.number(prop::TOPIC_ALIAS_MAXIMUM), Some(64));
        assert_eq!(granted.number(prop::SERVER_KEEP_ALIVE), None);
        let (mut near, _, granted) = Client::connect_with(doors.at(narrow), &connect());
        assert_eq!(told(&granted), [Some(2048), Some(1), Some(0), Some(2)]);
        assert_eq!(granted.number(prop::TOPIC_ALIAS_MAXIMUM), None);
        assert_eq!(granted.number(prop::SERVER_KEEP_ALIVE), Some(30));
        assert_eq!(granted.number(prop::SESSION_EXPIRY), Some(60));
        // Both may what they were told.
        far.publish_with(&sized("t", 3000));
        near.publish_with(&sized("t", 1500));
        assert_eq!(far.subscribe_codes(&[("a/b/c/d", 2), ("#", 2), ("b", 2)]), [2, 2, 2]);
        assert_eq!(
            near.subscribe_codes(&[("a/b/c/d", 2), ("#", 2), ("b", 2), ("c", 0)]),
            [0x8F, 0xA2, 1, 0x97]
        );
        let long = "x".repeat(21);
        assert_eq!(near.subscribe_codes(&[(&long, 0)]), [0x8F]);
        assert_eq!(far.subscribe_codes(&[(&long, 0)]), [0]);
        near.send(&publish(Version::V5, &sized("t", 2048)));
        near.expect_disconnect(0x95);
        let mut publisher = Client::new(doors.at(wide), Version::V5);
        let will = || Connect::new(Version::V5, &unique("c")).will(Will::new("w", vec![1; 11]));
        Client::refused(doors.at(narrow), &will(), 0x97);
        Client::connect(doors.at(wide), &will()).expect_nothing_until_ping();
        for (message, code) in
            [(Publish::new("t", "x").qos(2).id(1), 0x9B), (Publish::new("t", "x").retain(), 0x9A)]
        {
            let mut client = Client::connect(doors.at(narrow), &connect());
            client.send(&publish(Version::V5, &message));
            client.expect_disconnect(code);
            publisher.publish_with(&message);
        }
    }
}

/// A topic that others publish to already is taken without a second look at its name, but not by other limits.
#[test]
fn a_topic_that_one_may_publish_to_may_be_too_deep_or_too_long_for_another() {
    for shards in [1, 2] {
        let mut doors = Doors::open(shards, NARROW, "");
        let (wide, narrow) = (doors.wide, doors.narrow);
        for topic in ["a/b/c/d", "a/topic/of/more/than/20"] {
            for version in BOTH {
                let mut far = Client::new(doors.at(wide), version);
                far.subscribe(topic, 0);
                for _ in 0..3 {
                    far.publish(topic, 0, "x");
                    far.expect_message(topic, "x");
                }
                let mut near = Client::new(doors.at(narrow), version);
                near.send(&publish(version, &Publish::new(topic, "no")));
                if version.is_5() {
                    near.expect_disconnect(0x90);
                } else {
                    near.expect_closed();
                }
                far.expect_nothing_until_ping();
            }
        }
    }
}

#[test]
fn a_user_outweighs_the_listener_and_that_the_broker() {
    let users = "[[user]]\nname = [\"ann\", \"bob\"]\nmax-packet = \"8K\"\nmax-subscriptions = 2\nmax-will = 20\n\
                 [[user]]\nname = \"eve\"\nmax-packet = \"1K\"\nmax-qos = 0\n";
    for shards in [1, 2, 3] {
        let mut doors = Doors::open(shards, NARROW, users);
        for version in BOTH {
            for (port, name, packet, subscriptions) in [
                (doors.wide, "ann", 8192, 2),
                (doors.narrow, "bob", 8192, 2),
                (doors.wide, "eve", 1024, 3),
                (doors.narrow, "eve", 1024, 1),
            ] {
                let (mut client, _, granted) = Client::connect_with(doors.at(port), &user(version, name));
                if version.is_5() {
                    assert_eq!(granted.number(prop::MAXIMUM_PACKET_SIZE), Some(packet), "{name} at {port}");
                }
                let too_many = if version.is_5() { 0x97 } else { 0x80 };
                let codes = client.subscribe_codes(&[("a", 0), ("b", 0), ("c", 0)]);
                let expected: Vec<u8> =
                    (0..3).map(|n| if n < subscriptions { 0 } else { too_many }).collect();
                assert_eq!(codes, expected, "{name} at {port}");
                let fits = vec![b'x'; packet as usize - 20];
                client.publish("t", 0, &fits);
                client.expect_nothing_until_ping();
                client.send(&publish(version, &Publish::new("t", vec![b'x'; packet as usize])));
                client.expect_disconnect(0x95);
            }
            // More than the listener allows to others, and no more than that.
            let with = |size| user(version, "ann").will(Will::new("w", vec![1; size]));
            Client::connect(doors.at(doors.narrow), &with(20)).disconnect();
            Client::refused(doors.at(doors.narrow), &with(21), if version.is_5() { 0x97 } else { 3 });
        }
    }
}

#[test]
fn a_session_that_comes_by_another_listener_has_its_limits() {
    let mut doors = Doors::open(2, "max-queued-messages = 2\nmax-inflight = 1\n", "");
    let (wide, narrow) = (doors.wide, doors.narrow);
    let id = unique("c");
    let connect = || Connect::new(Version::V5, &id).resume().expiry(600);
    let mut publisher = Client::new(doors.at(wide), Version::V5);
    for (port, kept) in [(wide, 5), (narrow, 2), (wide, 5)] {
        let mut client = Client::connect(doors.at(port), &connect());
        client.subscribe("t", 1);
        client.disconnect();
        settle(&doors.broker, &mut publisher);
        for number in 0..5 {
            publisher.publish("t", 1, number.to_string());
        }
        let mut client = Client::connect(doors.at(wide), &connect());
        for number in 5 - kept..5 {
            let message = client.expect_message("t", number.to_string());
            client.finish(&message);
        }
        client.expect_nothing_until_ping();
        client.disconnect();
    }
}

#[test]
fn new_limits_hold_at_once_and_what_was_told_until_the_client_connects_anew() {
    let users = |packet: &str, subscriptions: u32| {
        format!("[[user]]\nname = \"ann\"\nmax-packet = \"{packet}\"\nmax-subscriptions = {subscriptions}\n")
    };
    for shards in [1, 2, 3] {
        let mut doors = Doors::open(shards, "max-subscriptions = 1\n", &users("2K", 2));
        let narrow = doors.narrow;
        let mut ann = Client::connect(doors.at(narrow), &user(Version::V5, "ann"));
        let mut bob = Client::connect(doors.at(narrow), &user(Version::V5, "bob"));
        assert_eq!(ann.subscribe_codes(&[("a", 0), ("b", 0), ("c", 0)]), [0, 0, 0x97]);
        assert_eq!(bob.subscribe_codes(&[("a", 0), ("b", 0)]), [0, 0x97]);
        doors.reload("max-subscriptions = 2\nmax-packet = \"1K\"\n", &users("3K", 3));
        // A shard may hear of it a little later.
        let until = Instant::now() + PATIENCE;
        while bob.subscribe_codes(&[("b", 0)]) != [0] || ann.subscribe_codes(&[("c", 0)]) != [0] {
            assert!(Instant::now() < until);
        }
        assert_eq!(bob.subscribe_codes(&[("c", 0)]), [0x97]);
        // Bob was told 4 KiB, and ann 2.
        bob.publish("t", 1, vec![0; 3000]);
        ann.publish("t", 1, vec![0; 1900]);
        ann.send(&publish(Version::V5, &sized("t", 2500)));
        ann.expect_disconnect(0x95);
        for (name, packet) in [("ann", 3072), ("bob", 1024)] {
            let (_client, _, granted) = Client::connect_with(doors.at(narrow), &user(Version::V5, name));
            assert_eq!(granted.number(prop::MAXIMUM_PACKET_SIZE), Some(packet));
        }
        // Nothing is said of ann any longer, and she keeps what she was told.
        let (mut ann, _, _) = Client::connect_with(doors.at(narrow), &user(Version::V5, "ann"));
        doors.reload("max-subscriptions = 2\nmax-packet = \"1K\"\n", "");
        let (_client, _, granted) = Client::connect_with(doors.at(narrow), &user(Version::V5, "ann"));
        assert_eq!(granted.number(prop::MAXIMUM_PACKET_SIZE), Some(1024));
        ann.publish("t", 1, vec![0; 2900]);
    }
}

#[test]
fn a_rate_of_one_user_holds_nobody_else() {
    let mut doors = Doors::open(1, "", "[[user]]\nname = \"eve\"\nmax-publish-rate = 20\n");
    let wide = doors.wide;
    let mut eve = Client::connect(doors.at(wide), &user(Version::V5, "eve"));
    let mut ann = Client::connect(doors.at(wide), &user(Version::V5, "ann"));
    let burst = |count: u16| -> Vec<u8> {
        (1..=count).flat_map(|id| publish(Version::V5, &Publish::new("t", "x").qos(1).id(id))).collect()
    };
    let begun = Instant::now();
    eve.send(&burst(30));
    (1..=30).for_each(|id| _ = eve.expect_ack(Kind::Puback, id));
    assert!(begun.elapsed().as_millis() >= 440, "the last message could not be taken before");
    // At eve's rate it would be a minute and more.
    let begun = Instant::now();
    ann.send(&burst(2000));
    (1..=2000).for_each(|id| _ = ann.expect_ack(Kind::Puback, id));
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn mistakes_in_tables_are_told_with_their_line() {
    let base = "allow-anonymous = true\npassword-file = \"/dev/null\"\n";
    for (text, named) in [
        ("[[listener]]\naddress = 1\nmax-packet = 1\n", ":5: --max-packet 1 is out of range"),
        ("[[listener]]\naddress = 1\nmax-retained = 1\n", ":5: max-retained is no setting of one listener"),
        (
            "[[listener]]\naddress = 1\nmax-paket = 1\n",
            ":5: unknown key \"max-paket\"; did you mean \"max-packet\"?",
        ),
        (
            "[[user]]\nname = \"ann\"\noutput-max = \"1K\"\n",
            ":5: --output-max 1K is less than --output-mark 1M",
        ),
        ("[[user]]\nmax-qos = 1\n", ":3: "),
        (
            "[[user]]\nname = \"ann\"\n[[user]]\nname = [\"bob\", \"ann\"]\n",
            ":5: user \"ann\" is in a table already",
        ),
        ("[[user]]\nname = \"ann\"\nmax-connect = 100\n", ":5: max-connect is no setting of one user"),
    ] {
        let path = written("ringmq.toml", &format!("{base}{text}"));
        let path = path.to_str().unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_ringmq")).args(["config", "check", path]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains(&format!("{path}{named}")) && said.lines().count() == 1, "{text}: {said}");
    }
    let path = written("ringmq.toml", "[[user]]\nname = \"ann\"\n");
    let output =
        Command::new(env!("CARGO_BIN_EXE_ringmq")).args(["config", "check"]).arg(path).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody verifies who a user is"));
}

#[test]
fn the_check_shows_what_holds_on_each_listener_and_for_each_user() {
    let path = written(
        "ringmq.toml",
        "max-qos = 1\npassword-file = \"/dev/null\"\n[[listener]]\naddress = 1884\nmax-packet = \"64K\"\n\
         [[user]]\nname = \"ann\"\nmax-packet = \"8M\"\n",
    );
    let output =
        Command::new(env!("CARGO_BIN_EXE_ringmq")).args(["config", "check"]).arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let (above, tables) = text.split_once("[[listener]]").unwrap();
    let (listener, user) = tables.split_once("[[user]]").unwrap();
    let path = path.display();
    for (part, key, origin) in [
        (above, "max-packet = \"2M\" ", "# default".to_string()),
        (listener, "max-packet = \"64K\" ", format!("# {path}:5")),
        (listener, "max-qos = 1 ", format!("# {path}:1")),
        (listener, "max-inflight = 1024 ", "# default".to_string()),
        (user, "max-packet = \"8M\" ", format!("# {path}:8")),
    ] {
        let line = part.lines().find(|line| line.starts_with(key));
        assert!(line.is_some_and(|line| line.ends_with(&origin)), "{key} {origin}:\n{text}");
    }
    assert!(
        text.contains("packets that have not come whole: 1000000 of 8M"),
        "the most that anybody may have: {text}"
    );
}
