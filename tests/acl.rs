//! Who may do what: an ACL file at publish, subscribe and delivery, and ways around it that do not work.
mod support;
use support::*;

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

const NOT_AUTHORIZED: u8 = 0x87;

const RULES: &str = "\
topic read public/#
topic write inbox
topic readwrite open/#
topic deny open/locked/#

user ann
topic readwrite ann/#
topic read public/#
topic deny ann/hidden

user root
topic #
topic $SYS/#

pattern readwrite own/%c/#
pattern read to/%u
";

static FILES: LazyLock<[String; 2]> = LazyLock::new(|| {
    let path = |name: &str| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("acl-{}-{name}", std::process::id()));
        path.to_str().unwrap().to_string()
    };
    let (rules, passwords) = (path("rules"), path("passwords"));
    std::fs::write(&rules, RULES).unwrap();
    // As mosquitto_passwd writes it for the password "seven-secret": quick to verify.
    const HASH: &str = "$7$101$4zM3JHfcGdT7X4iX$D2ej8zCUOX3AQexjyobvJGa1OkKz/cz7B/HeQlvAottOZe3oVSpdg1pDdwXO8Mf/0R4YS+p3ywAZ3BiFfLDn2Q==";
    std::fs::write(&passwords, format!("ann:{HASH}\nroot:{HASH}\n")).unwrap();
    [rules, passwords]
});

fn each(test: impl Fn(&Broker, Version) + Sync) {
    let [rules, passwords] = &*FILES;
    let flags = ["--acl-file", rules, "--password-file", passwords, "--allow-anonymous"];
    each_version_with(&flags, test);
}

/// With brokers of its own, for a test that listens to everything.
fn each_alone(test: impl Fn(&Broker, Version) + Sync) {
    let [rules, passwords] = &*FILES;
    let flags = ["--acl-file", rules, "--password-file", passwords, "--allow-anonymous"];
    for shards in [1, 2, 3] {
        for version in [Version::V4, Version::V5] {
            test(&Broker::start(shards, &flags), version);
        }
    }
}

fn user(version: Version, name: &str) -> Connect {
    Connect::new(version, &unique(name)).user(name).password("seven-secret")
}

fn root(broker: &Broker, version: Version) -> Client {
    Client::connect(broker, &user(version, "root"))
}

/// The acknowledgement of a message that is denied: version 5 is told, before it there is no way to.
#[track_caller]
fn expect_denied(client: &mut Client, topic: &str, payload: &str) {
    let version = client.version;
    for qos in [1, 2] {
        let id = client.fresh_id();
        client.send_publish(&Publish::new(topic, payload).qos(qos).id(id));
        let kind = if qos == 1 { Kind::Puback } else { Kind::Pubrec };
        client.expect_ack_code(kind, id, if version.is_5() { NOT_AUTHORIZED } else { 0 });
        if qos == 2 && !version.is_5() {
            client.ack(Kind::Pubrel, id);
            client.expect_ack(Kind::Pubcomp, id);
        }
    }
    client.send_publish(&Publish::new(topic, payload));
    client.expect_nothing_until_ping();
}

#[track_caller]
fn expect_barred(client: &mut Client, filter: &str) {
    let version = client.version;
    let denied = if version.is_5() { NOT_AUTHORIZED } else { 0x80 };
    assert_eq!(client.subscribe_codes(&[(filter, 1)]), [denied], "{filter}");
}

#[test]
fn what_is_allowed_arrives_and_what_is_not_does_not() {
    each_alone(|broker, version| {
        let mut root = root(broker, version);
        root.subscribe("#", 0);
        let mut guest = Client::new(broker, version);
        for topic in ["private/x", "public/x", "ann/x", "Open/x", "inbox/x", "/open/x", "open/locked/x"] {
            expect_denied(&mut guest, topic, "denied");
        }
        guest.publish("inbox", 1, "one");
        guest.publish("open/x", 2, "two");
        guest.publish("open", 1, "three");
        let mut ann = Client::connect(broker, &user(version, "ann"));
        expect_denied(&mut ann, "ann/hidden", "denied");
        expect_denied(&mut ann, "open/x", "denied");
        ann.publish("ann/x", 1, "four");
        for payload in ["one", "two", "three", "four"] {
            let publish = root.expect_publish();
            assert_eq!(publish.payload, payload.as_bytes(), "on {}", publish.topic);
        }
        root.expect_nothing_until_ping();
    });
}

#[test]
fn subscriptions_are_refused_where_nothing_could_come_and_filtered_where_they_are_too_wide() {
    each_alone(|broker, version| {
        let mut guest = Client::new(broker, version);
        for filter in [
            "private/#",
            "inbox",
            "$SYS/#",
            "$share/g/private/#",
            "$share/open/inbox",
            "open/locked/+",
            "ann/#",
        ] {
            expect_barred(&mut guest, filter);
        }
        assert_eq!(guest.subscribe_codes(&[("#", 1), ("private/x", 1), ("+/+", 0)]).len(), 3);
        let mut root = root(broker, version);
        let (allowed, payload) = (unique("public/a"), unique("p"));
        for topic in ["private/x", "open/locked/x", "ann/x", "inbox"] {
            root.publish(topic, 1, &payload);
        }
        root.publish(&allowed, 1, &payload);
        loop {
            let publish = guest.expect_publish();
            assert!(publish.topic.starts_with("public/") || publish.topic.starts_with("open"), "{publish:?}");
            if publish.topic == allowed {
                break;
            }
        }
    });
}

#[test]
fn retained_messages_are_filtered_like_live_ones() {
    each(|broker, version| {
        let mut root = root(broker, version);
        let name = unique("r");
        for topic in [format!("private/{name}"), format!("public/{name}")] {
            root.publish_with(&Publish::new(&topic, "kept").qos(1).retain());
        }
        let mut guest = Client::new(broker, version);
        guest.subscribe(&format!("+/{name}"), 1);
        guest.expect_message(&format!("public/{name}"), "kept");
        guest.expect_nothing_until_ping();
        // Retaining needs the right to publish.
        let topic = format!("public/{name}");
        guest.send_publish(&Publish::new(&topic, "").retain());
        guest.expect_nothing_until_ping();
        let mut late = Client::new(broker, version);
        late.subscribe(&topic, 1);
        late.expect_message(&topic, "kept");
        for topic in [format!("private/{name}"), format!("public/{name}")] {
            root.publish_with(&Publish::new(&topic, "").qos(1).retain());
        }
    });
}

#[test]
fn a_will_needs_the_right_to_publish() {
    each(|broker, version| {
        let mut root = root(broker, version);
        let topic = format!("open/{}", unique("w"));
        root.subscribe(&topic, 0);
        let denied = Connect::new(version, &unique("c")).will(Will::new("private/w", "boo"));
        Client::refused(broker, &denied, if version.is_5() { NOT_AUTHORIZED } else { 5 });
        let allowed = Connect::new(version, &unique("c")).will(Will::new(&topic, "bye"));
        Client::connect(broker, &allowed).hang_up();
        root.expect_message(&topic, "bye");
    });
}

#[test]
fn aliases_and_response_topics_lead_nowhere() {
    each(|broker, version| {
        if !version.is_5() {
            return;
        }
        let mut root = root(broker, version);
        // Of its own: others publish to private topics at the same time.
        let place = format!("private/{}", unique("n"));
        let private = format!("{place}/x");
        root.subscribe(&format!("{place}/#"), 0);
        let mut guest = Client::new(broker, version);
        let publish =
            |topic: &str, payload: &str| Publish::new(topic, payload).property(prop::TOPIC_ALIAS, 1u16);
        // An alias for a denied topic, then by the alias alone.
        guest.send_publish(&publish(&private, "one"));
        guest.send_publish(&publish("", "two"));
        // An alias for an allowed topic that is set to a denied one.
        guest.send_publish(&publish("open/x", "three"));
        guest.send_publish(&publish("", "four"));
        guest.send_publish(&publish(&private, "five"));
        guest.send_publish(&publish("", "six"));
        guest.expect_nothing_until_ping();
        // The response topic is for the other side to publish to.
        guest.publish_with(&Publish::new("open/x", "seven").qos(1).property(prop::RESPONSE_TOPIC, &*private));
        root.expect_nothing_until_ping();
    });
}

#[test]
fn names_that_clients_choose_do_not_widen_patterns() {
    each_alone(|broker, version| {
        let id = unique("c");
        let mut client = Client::connect(broker, &Connect::new(version, &id));
        client.subscribe(&format!("own/{id}/#"), 1);
        client.publish(&format!("own/{id}/x"), 0, "mine");
        client.expect_message(&format!("own/{id}/x"), "mine");
        expect_denied(&mut client, "own/other/x", "not mine");
        expect_barred(&mut client, "own/other/#");
        for id in ["+", "#", "a/b"] {
            let mut client = Client::connect(broker, &Connect::new(version, id));
            expect_barred(&mut client, "own/+/x");
            expect_denied(&mut client, "own/a/b/x", "not mine");
        }
        let mut ann = Client::connect(broker, &user(version, "ann"));
        ann.subscribe("to/ann", 1);
        expect_barred(&mut ann, "to/root");
    });
}

#[test]
fn a_member_of_a_group_gets_only_what_it_may_read() {
    each(|broker, version| {
        let group = unique("g");
        let mut guest = Client::new(broker, version);
        guest.subscribe(&format!("$share/{group}/+/{group}"), 1);
        let mut root = root(broker, version);
        root.publish(&format!("private/{group}"), 1, "secret");
        root.publish(&format!("public/{group}"), 1, "news");
        guest.expect_message(&format!("public/{group}"), "news");
        guest.expect_nothing_until_ping();
    });
}

#[test]
fn what_a_session_may_not_read_is_not_kept_for_it() {
    each(|broker, version| {
        let (id, name) = (unique("c"), unique("s"));
        let connect = || Connect::new(version, &id).persistent();
        let mut guest = Client::connect(broker, &connect());
        guest.subscribe(&format!("+/{name}"), 1);
        guest.disconnect();
        let mut root = root(broker, version);
        root.publish(&format!("private/{name}"), 1, "secret");
        root.publish(&format!("public/{name}"), 1, "news");
        let (mut back, present, _) = Client::connect_with(broker, &connect().resume());
        assert!(present);
        back.expect_message(&format!("public/{name}"), "news");
        back.expect_nothing_until_ping();
    });
}

#[test]
fn the_rules_can_be_asked_which_of_them_holds() {
    let [rules, _] = &*FILES;
    let explain = |args: &[&str]| {
        let args = [&["acl", "explain", "--acl-file", rules], args].concat();
        let output = Command::new(env!("CARGO_BIN_EXE_ringmq")).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = explain(&["--user", "ann", "--client", "c", "--topic", "ann/hidden"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("publish     denied  line 9 of the ACL file: topic deny ann/hidden"), "{text}");
    let (code, text) = explain(&["--topic", "open/x"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("publish     allowed line 3 of the ACL file: topic readwrite open/#"), "{text}");
}
