//! Who is let in: passwords, anonymous clients, bans, SCRAM. Every case that is accepted has a refused twin.
mod support;
use support::*;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

const BAD_PASSWORD: u8 = 0x86;
const NOT_AUTHORIZED: u8 = 0x87;
const BANNED: u8 = 0x8A;

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("login-{}-{name}", std::process::id()))
}

fn ringmq(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmq")).args(args).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn passwd(args: &[&str]) {
    let output = ringmq(&[&["passwd"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A password file with users of all formats; the password of each is its name and "-secret".
static PASSWORDS: LazyLock<String> = LazyLock::new(|| {
    let path = scratch("passwords");
    // As mosquitto_passwd writes them.
    std::fs::write(
        &path,
        "six:$6$9eaXVfRYiI/OCtxD$U96iNudFN+yJgDLRDpat7AsEla1qeVoxNF/O+wh6ZFC1qt720x5xFFsX8p2E0gqDypLesASoPm0BBtdRKYNZ9g==\n\
         seven:$7$101$4zM3JHfcGdT7X4iX$D2ej8zCUOX3AQexjyobvJGa1OkKz/cz7B/HeQlvAottOZe3oVSpdg1pDdwXO8Mf/0R4YS+p3ywAZ3BiFfLDn2Q==\n",
    )
    .unwrap();
    let path = path.to_str().unwrap().to_string();
    passwd(&["-b", &path, "ann", "ann-secret"]);
    passwd(&["-b", &path, "bob", "wrong at first"]);
    passwd(&["-b", &path, "bob", "bob-secret"]);
    passwd(&["-b", &path, "gone", "gone-secret"]);
    passwd(&["-D", &path, "gone"]);
    path
});

fn flags(more: &[&str]) -> Vec<String> {
    ["--password-file", &PASSWORDS, "--connect-timeout", "60s"]
        .iter()
        .chain(more)
        .map(|flag| flag.to_string())
        .collect()
}

fn each(flags: &[String], test: impl Fn(&Broker, Version) + Sync) {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    each_version_with(&flags, test);
}

fn refusal(version: Version, code: u8) -> u8 {
    match (version.is_5(), code) {
        (true, code) => code,
        (false, BAD_PASSWORD) => 4,
        (false, _) => 5,
    }
}

#[test]
fn a_password_opens_the_door_and_a_wrong_one_does_not() {
    each(&flags(&[]), |broker, version| {
        let connect = || Connect::new(version, &unique("c"));
        for user in ["ann", "bob", "six", "seven"] {
            let mut client =
                Client::connect(broker, &connect().user(user).password(format!("{user}-secret")));
            client.expect_nothing_until_ping();
            let code = refusal(version, BAD_PASSWORD);
            Client::refused(broker, &connect().user(user).password("wrong"), code);
            Client::refused(broker, &connect().user(user).password(""), code);
            Client::refused(broker, &connect().user(user), code);
        }
        for user in ["gone", "ANN", "nobody", ""] {
            let code = refusal(version, BAD_PASSWORD);
            Client::refused(broker, &connect().user(user).password("ann-secret"), code);
        }
        Client::refused(broker, &connect(), refusal(version, NOT_AUTHORIZED));
    });
}

#[test]
fn anonymous_clients_come_in_beside_users_only_where_that_is_said() {
    each(&flags(&["--allow-anonymous"]), |broker, version| {
        let connect = || Connect::new(version, &unique("c"));
        Client::connect(broker, &connect());
        Client::connect(broker, &connect().user("ann").password("ann-secret"));
        // Who says a name has to prove it.
        Client::refused(broker, &connect().user("ann").password("x"), refusal(version, BAD_PASSWORD));
        Client::refused(broker, &connect().user("nobody"), refusal(version, BAD_PASSWORD));
    });
}

#[test]
fn what_comes_behind_connect_waits_for_the_decision() {
    each(&flags(&[]), |broker, version| {
        let topic = unique("t");
        let mut watcher =
            Client::connect(broker, &Connect::new(version, &unique("w")).user("six").password("six-secret"));
        watcher.subscribe(&topic, 0);
        let right = Connect::new(version, &unique("c")).user("ann").password("ann-secret");
        let wrong = Connect::new(version, &unique("c")).user("ann").password("x");
        for (connect, payload) in [(wrong, "from outside"), (right, "from inside")] {
            let mut client = Client::open(broker, version);
            let mut bytes = connect.encode();
            bytes.extend(publish(version, &Publish::new(&topic, payload)));
            bytes.extend(ping());
            client.send(&bytes);
            if payload == "from inside" {
                client.expect_connack();
                assert!(matches!(client.receive(), Packet::Pingresp));
            } else {
                client.expect_refusal(refusal(version, BAD_PASSWORD));
            }
        }
        watcher.expect_message(&topic, "from inside");
        watcher.expect_nothing_until_ping();
    });
}

#[test]
fn many_logins_at_once_are_all_answered() {
    each(&flags(&[]), |broker, version| {
        let clients: Vec<(Client, bool)> = (0..40)
            .map(|number| {
                let is_right = number % 2 == 0;
                let password = if is_right { "seven-secret" } else { "no" };
                let mut client = Client::open(broker, version);
                let connect = Connect::new(version, &unique("c")).user("seven").password(password);
                client.send(&connect.encode());
                (client, is_right)
            })
            .collect();
        for (mut client, is_right) in clients {
            match is_right {
                true => drop(client.expect_connack()),
                false => client.expect_refusal(refusal(version, BAD_PASSWORD)),
            }
        }
    });
}

#[test]
fn a_client_that_gives_up_while_its_password_is_checked_harms_nobody() {
    each(&flags(&[]), |broker, version| {
        let id = unique("c");
        for _ in 0..5 {
            let mut client = Client::open(broker, version);
            client.send(&Connect::new(version, &id).user("ann").password("ann-secret").encode());
            client.reset();
        }
        // Whether one of them is let in before it is known to be gone, and takes the session over, is a matter of time.
        let connect = Connect::new(version, &id).user("ann").password("ann-secret");
        let stays = (0..6).any(|_| {
            let mut client = Client::connect(broker, &connect);
            client.send(&ping());
            matches!(client.try_receive(), Some(Packet::Pingresp))
        });
        assert!(stays, "each of five takes it over once at most");
    });
}

#[test]
fn a_session_is_not_inherited_by_another_user() {
    each(&flags(&[]), |broker, version| {
        let (id, topic) = (unique("c"), unique("t"));
        let connect = |user: &str| {
            Connect::new(version, &id).persistent().user(user).password(format!("{user}-secret"))
        };
        let mut ann = Client::connect(broker, &connect("ann").clone());
        ann.subscribe(&topic, 1);
        ann.disconnect();
        let publish = || {
            let connect = Connect::new(version, &unique("p")).user("six").password("six-secret");
            Client::connect(broker, &connect).publish(&topic, 1, "for ann");
        };
        publish();
        let (mut back, present, _) = Client::connect_with(broker, &connect("ann").resume());
        assert!(present);
        back.expect_message(&topic, "for ann");
        back.disconnect();
        publish();
        let (mut other, present, _) = Client::connect_with(broker, &connect("bob").resume());
        assert!(!present, "bob got the session of ann");
        other.expect_nothing_until_ping();
    });
}

static BANS: LazyLock<String> = LazyLock::new(|| {
    let path = scratch("bans");
    std::fs::write(&path, "client evil\nuser bob\nuntil 1 user ann\nnetwork 192.0.2.0/24\n").unwrap();
    path.to_str().unwrap().to_string()
});

#[test]
fn who_is_banned_is_told_so() {
    each(&flags(&["--ban-file", &BANS]), |broker, version| {
        let connect =
            |id: &str, user: &str| Connect::new(version, id).user(user).password(format!("{user}-secret"));
        Client::refused(broker, &connect("evil", "ann"), refusal(version, BANNED));
        Client::refused(broker, &connect(&unique("c"), "bob"), refusal(version, BANNED));
        // His ban is over.
        Client::connect(broker, &connect(&unique("c"), "ann"));
    });
}

#[test]
fn a_file_with_a_mistake_is_refused_at_the_start() {
    let path = scratch("mistake");
    let path = path.to_str().unwrap();
    for (flag, text, expected) in [
        ("--password-file", "ann:plain", "line 1, user ann"),
        ("--acl-file", "topic a\ntopci b", "line 2"),
        ("--ban-file", "x", "line 1"),
        ("--scram-file", "ann:x", "line 1"),
    ] {
        std::fs::write(path, text).unwrap();
        let output = ringmq(&["serve", "--listen", "127.0.0.1:0", flag, path]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(path) && error.contains(expected), "{error}");
    }
    let output = ringmq(&["serve", "--listen", "127.0.0.1:0", "--password-file", "/nonexistent/file"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn passwd_reads_the_password_from_its_input() {
    let path = scratch("input");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringmq"))
        .args(["passwd", "-c", path.to_str().unwrap(), "ann"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"from a pipe\n").unwrap();
    assert!(child.wait().unwrap().success());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("ann:$argon2id$") && !text.contains("pipe"), "{text}");
    for args in [
        &["passwd", "-D", path.to_str().unwrap(), "bob"][..],
        &["passwd", "-b", path.to_str().unwrap(), "a:b", "x"],
        &["passwd", "-b", path.to_str().unwrap(), "bob", ""],
        &["passwd", "-b", "/nonexistent/file", "bob", "x"],
    ] {
        assert_eq!(ringmq(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn clients_of_mosquitto_come_in_with_their_flags() {
    let flags = flags(&[]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let broker = Broker::shared(1, &flags);
    let port = broker.address.port().to_string();
    for (version, password, is_right) in
        [("311", "ann-secret", true), ("5", "ann-secret", true), ("5", "x", false)]
    {
        let output = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-u", "ann", "-P", password])
            .args(["-q", "1", "-t", &unique("t"), "-m", "hello"])
            .output()
            .expect("mosquitto_pub of the Debian package mosquitto-clients");
        assert_eq!(output.status.success(), is_right, "{output:?}");
    }
}

#[test]
fn connections_of_one_user_are_bounded() {
    each(&flags(&["--max-connections-per-user", "2"]), |broker, version| {
        // Each version has a user of its own, since both run at the same time.
        let (user, other) = if version.is_5() { ("ann", "six") } else { ("bob", "seven") };
        let connect =
            |user: &str| Connect::new(version, &unique("c")).user(user).password(format!("{user}-secret"));
        let first = connect(user);
        let mut clients = [Client::connect(broker, &first), Client::connect(broker, &connect(user))];
        let refused = if version.is_5() { 0x97 } else { 3 };
        Client::refused(broker, &connect(user), refused);
        Client::connect(broker, &connect(other)).expect_nothing_until_ping();
        // Whoever takes his own connection over needs no further place.
        let mut again = Client::connect(broker, &first);
        clients[0].expect_disconnect(0x8E);
        Client::refused(broker, &connect(user), refused);
        clients[1].expect_nothing_until_ping();
        again.expect_nothing_until_ping();
        again.disconnect();
        Client::connect(broker, &connect(user)).expect_nothing_until_ping();
    });
}
