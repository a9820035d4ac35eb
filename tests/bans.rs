//! `ringmq ban`: who is kept out of a broker that runs.
mod support;
use support::certificates::written;
use support::*;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

fn ban(arguments: &[&str], file: &Path, rest: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmq"))
        .arg("ban")
        .args(arguments)
        .arg(file)
        .args(rest)
        .output()
        .unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a client is let in.
fn comes_in(broker: &Broker, connect: &Connect) -> bool {
    let mut client = Client::open(broker, connect.version);
    client.send(&connect.encode());
    match client.receive() {
        Packet::Connack { code: 0, .. } => true,
        Packet::Connack { code, .. } => {
            assert_eq!(code, if connect.version.is_5() { 0x8A } else { 5 });
            false
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn await_that(mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "it does not come true");
        std::thread::yield_now();
    }
}

#[test]
fn a_ban_ends_the_connection_that_there_is_and_keeps_new_ones_out_until_it_is_taken_back() {
    for shards in [1, 3] {
        let file = written("bans", "# none yet\n");
        let broker = Broker::start(shards, &["--ban-file", file.to_str().unwrap()]);
        let (evil, good) = (unique("evil"), unique("good"));
        let mut honest = Client::connect(&broker, &Connect::new(Version::V5, &good));
        let mut client = Client::connect(&broker, &Connect::new(Version::V5, &evil));
        done(&ban(&["add"], &file, &["client", &evil, "--for", "1h"]));
        client.expect_disconnect(0x98);
        for version in BOTH {
            assert!(!comes_in(&broker, &Connect::new(version, &evil)));
            assert!(comes_in(&broker, &Connect::new(version, &unique("c"))));
        }
        honest.expect_nothing_until_ping();
        let listed = done(&ban(&["list"], &file, &[]));
        assert!(
            listed.starts_with(&format!("client {evil} (for another ")) && listed.lines().count() == 1,
            "{listed}"
        );
        done(&ban(&["remove"], &file, &["client", &evil]));
        await_that(|| comes_in(&broker, &Connect::new(Version::V5, &evil)));
        assert_eq!(done(&ban(&["list"], &file, &[])), "");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "# none yet\n");
        // A network is whoever comes from there, and who is here from there.
        done(&ban(&["add"], &file, &["network", "192.0.2.0/24"]));
        done(&ban(&["add"], &file, &["client", &evil]));
        await_that(|| !comes_in(&broker, &Connect::new(Version::V5, &evil)));
        honest.expect_nothing_until_ping();
        done(&ban(&["add"], &file, &["network", "127.0.0.0/8"]));
        honest.expect_disconnect(0x98);
        // Another shard may hear of it a moment later.
        await_that(|| !comes_in(&broker, &Connect::new(Version::V5, &unique("c"))));
    }
}

#[test]
fn a_ban_of_a_user_ends_his_connections_and_nobody_elses() {
    // As mosquitto_passwd writes it for the password "seven-secret": quick to verify.
    const HASH: &str = "$7$101$4zM3JHfcGdT7X4iX$D2ej8zCUOX3AQexjyobvJGa1OkKz/cz7B/HeQlvAottOZe3oVSpdg1pDdwXO8Mf/0R4YS+p3ywAZ3BiFfLDn2Q==";
    let passwords = written("passwords", &format!("ann:{HASH}\nbob:{HASH}\n"));
    let file = written("bans-of-users", "");
    let flags = ["--ban-file", file.to_str().unwrap(), "--password-file", passwords.to_str().unwrap()];
    let broker = Broker::start(2, &flags);
    let connect = |name: &str| Connect::new(Version::V5, &unique(name)).user(name).password("seven-secret");
    let [mut ann, mut bob, mut second] =
        ["ann", "bob", "bob"].map(|name| Client::connect(&broker, &connect(name)));
    done(&ban(&["add"], &file, &["user", "bob"]));
    bob.expect_disconnect(0x98);
    second.expect_disconnect(0x98);
    await_that(|| !comes_in(&broker, &connect("bob")));
    ann.expect_nothing_until_ping();
}

#[test]
fn a_ban_that_is_killed_leaves_the_file_as_it_was_or_as_it_is_to_be() {
    let file = written("bans-killed", "client first\n");
    let (mut kept, mut lost) = (0, 0);
    for number in 0..60_u64 {
        let name = format!("c{number}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringmq"))
            .args(["ban", "add"])
            .arg(&file)
            .args(["client", &name])
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(number * 100));
        child.kill().unwrap();
        child.wait().unwrap();
        let listed = done(&ban(&["list"], &file, &[]));
        let is_there = listed.lines().any(|line| line == format!("client {name}"));
        *if is_there { &mut kept } else { &mut lost } += 1;
        assert_eq!((listed.lines().count(), listed.lines().next()), (1 + kept, Some("client first")));
    }
    assert!(lost > 0, "none was killed before it was done");
    done(&ban(&["add"], &file, &["client", "last"]));
}

#[test]
fn a_mistake_in_the_file_changes_nothing() {
    let file = written("bans", "client evil\n");
    let broker = Broker::start(1, &["--ban-file", file.to_str().unwrap()]);
    std::fs::write(&file, "client evil\nclinet other\n").unwrap();
    await_that(|| broker.said().contains("line 2: a ban is"));
    assert!(!comes_in(&broker, &Connect::new(Version::V5, "evil")));
    let refused = ban(&["add"], &file, &["client", "c"]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "client evil\nclinet other\n");
}

#[test]
fn bans_that_come_at_once_are_all_there() {
    let file = written("bans", "");
    std::fs::remove_file(&file).unwrap();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let file = &file;
            scope.spawn(move || done(&ban(&["add"], file, &["user", &format!("u{number}")])));
        }
    });
    assert_eq!(done(&ban(&["list"], &file, &[])).lines().count(), 16);
    for (kind, name) in [("network", "192.0.2.0/99"), ("client", ""), ("user", "x\ny"), ("planet", "mars")] {
        let refused = ban(&["add"], &file, &[kind, name]);
        assert_eq!(refused.status.code(), Some(2), "{kind} {name}");
    }
    assert_eq!(ban(&["remove"], &file, &["user", "nobody"]).status.code(), Some(2));
    assert_eq!(done(&ban(&["list"], &file, &[])).lines().count(), 16);
}
