//! Starting and stopping the program: one sentence and exit code 2 for what cannot be, a clean end on a signal.
mod support;
use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::*;

/// Runs `ringmq` with arguments that it refuses; what it said on standard error.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_ringmq")]).args(arguments);
    let streams = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = streams.spawn().unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{arguments:?}: still running");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(2), "{arguments:?}: {said}");
    assert!(!said.contains("panicked") && !said.contains("backtrace"), "{arguments:?}: {said}");
    said
}

/// The same, for a cause that is told in one line with `word` in it.
#[track_caller]
fn refused_in_a_sentence(arguments: &[&str], word: &str) {
    let said = refused(arguments);
    let lines = said.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines == 1 && said.contains(word), "{arguments:?}: one line with {word:?} expected, got: {said}");
}

#[test]
fn a_port_in_use_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused_in_a_sentence(&["serve", "--listen", &address], &address);
    refused_in_a_sentence(&["serve", "--listen", &address, "--shards", "2"], &address);
}

#[test]
fn a_second_ringmq_on_the_same_port_is_refused_and_the_first_goes_on() {
    for shards in ["1", "3"] {
        let first = Broker::start(2, &[]);
        let address = first.address.to_string();
        refused_in_a_sentence(&["serve", "--listen", &address, "--shards", shards], &address);
        for _ in 0..20 {
            Client::new(&first, Version::V5).expect_nothing_until_ping();
        }
    }
}

#[test]
fn a_port_twice_in_one_command_is_refused() {
    let address = format!("127.0.0.1:{}", free_port());
    refused(&["serve", "--listen", &address, "--listen", &address]);
}

#[test]
fn unknown_flags_and_commands_are_refused_by_name() {
    assert!(refused(&["serve", "--no-such-flag"]).contains("--no-such-flag"));
    assert!(refused(&["--no-such-flag"]).contains("--no-such-flag"));
    assert!(refused(&["no-such-command"]).contains("no-such-command"));
}

#[test]
fn bad_values_are_refused_with_the_flag_they_were_given_to() {
    let cases = [
        ("--shards", "0"),
        ("--shards", "-1"),
        ("--shards", "129"),
        ("--shards", "many"),
        ("--listen", "nonsense"),
        ("--listen", "127.0.0.1"),
        ("--listen", "127.0.0.1:65536"),
        ("--cores", "x"),
        ("--cores", "3-1"),
        ("--cores", "100000"),
        ("--connect-timeout", "soon"),
        ("--connect-timeout", "-1"),
        ("--max-qos", "3"),
    ];
    for (flag, value) in cases {
        // One argument, so that a value with a dash is a value.
        let said = refused(&["serve", "--listen", "127.0.0.1:0", &format!("{flag}={value}")]);
        assert!(said.contains(flag), "{flag}={value}: {said}");
    }
}

#[test]
fn a_flag_without_its_value_is_refused() {
    assert!(refused(&["serve", "--listen"]).contains("--listen"));
}

#[test]
fn listening_beyond_loopback_needs_to_be_allowed() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:1883"] {
        refused_in_a_sentence(&["serve", "--listen", address], "--allow-anonymous");
    }
    // One of several is enough.
    let both = ["serve", "--listen", "127.0.0.1:0", "--listen", "0.0.0.0:0"];
    refused_in_a_sentence(&both, "--allow-anonymous");
}

#[test]
fn an_address_that_this_machine_does_not_have_is_refused() {
    // 127.0.0.0/8 is loopback; 192.0.2.0/24 is kept for documentation and nobody's.
    refused_in_a_sentence(&["serve", "--allow-anonymous", "--listen", "192.0.2.1:0"], "192.0.2.1");
}

#[test]
fn several_listeners_serve_the_same_broker() {
    for shards in [1, 2, 3] {
        let second = format!("127.0.0.1:{}", free_port());
        let mut broker = Broker::start(shards, &["--listen", &second]);
        let topic = unique("t");
        let mut subscriber = Client::new(&broker, Version::V5);
        subscriber.subscribe(&topic, 1);
        // From now on clients go to the other listener.
        broker.address = second.parse().unwrap();
        Client::new(&broker, Version::V4).publish(&topic, 1, "from the other side");
        subscriber.expect_message(&topic, "from the other side");
    }
}

#[test]
fn another_user_serves_when_that_is_asked_for() {
    if !rustix::process::geteuid().is_root() {
        // Nobody else may become another user, and is told so.
        return refused_in_a_sentence(&["serve", "--listen", "127.0.0.1:0", "--user", "12345"], "--user");
    }
    let broker = Broker::start(2, &["--user", "12345:12346"]);
    Client::new(&broker, Version::V5).expect_nothing_until_ping();
    for task in std::fs::read_dir(format!("/proc/{}/task", broker.pid())).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let has =
            |line: &str| status.lines().any(|known| known.split_whitespace().eq(line.split_whitespace()));
        let name = status.lines().next().unwrap_or_default();
        assert!(
            has("Uid: 12345 12345 12345 12345") && has("Gid: 12346 12346 12346 12346"),
            "{name}: {status}"
        );
        assert!(has("Groups: 12346"), "{name}: {status}");
    }
}

#[test]
fn a_signal_ends_every_connection_and_the_program() {
    for shards in [1, 2, 3] {
        for signal in [Signal::TERM, Signal::INT] {
            let broker = Broker::start(shards, &[]);
            let mut five: Vec<Client> = (0..4).map(|_| Client::new(&broker, Version::V5)).collect();
            let mut four: Vec<Client> = (0..4).map(|_| Client::new(&broker, Version::V4)).collect();
            let mut silent = Client::open(&broker, Version::V5);
            broker.signal(signal);
            five.iter_mut().for_each(|client| client.expect_disconnect(0x8b));
            four.iter_mut().for_each(Client::expect_closed);
            silent.expect_closed();
            drop((five, four, silent));
            assert_eq!(broker.wait_for_exit().code(), Some(0));
        }
    }
}

#[test]
fn a_shutdown_publishes_the_wills_to_who_is_still_there() {
    for shards in [1, 2, 3] {
        let broker = Broker::start(shards, &[]);
        let mut watchers: Vec<Client> = (0..4).map(|_| Client::new(&broker, Version::V5)).collect();
        watchers.iter_mut().for_each(|watcher| watcher.subscribe("wills/#", 0));
        let testators: Vec<Client> = (0..6)
            .map(|n| {
                let version = BOTH[n % 2];
                let will = Will::new(&format!("wills/{n}"), "gone");
                Client::connect(&broker, &Connect::new(version, &unique("t")).will(will))
            })
            .collect();
        broker.signal(Signal::TERM);
        for watcher in &mut watchers {
            let mut heard: Vec<String> = testators.iter().map(|_| watcher.expect_publish().topic).collect();
            heard.sort();
            assert_eq!(heard, (0..6).map(|n| format!("wills/{n}")).collect::<Vec<_>>());
            watcher.expect_disconnect(0x8b);
        }
        drop((watchers, testators));
        assert_eq!(broker.wait_for_exit().code(), Some(0));
    }
}

#[test]
fn a_client_that_does_not_read_cannot_hold_a_shutdown_up() {
    for shards in [1, 2, 3] {
        let broker = Broker::start(shards, &[]);
        let mut stuck = Client::new(&broker, Version::V5);
        stuck.subscribe("flood", 1);
        let mut publisher = Client::new(&broker, Version::V5);
        for _ in 0..100 {
            publisher.publish("flood", 1, vec![0; 60_000]);
        }
        broker.signal(Signal::TERM);
        assert_eq!(broker.wait_for_exit().code(), Some(0));
    }
}

/// A table of open files that grows while threads share it makes a shard wait for milliseconds each time it doubles.
#[test]
fn there_is_room_for_connections_before_they_come() {
    let broker = Broker::start(1, &["--max-connections", "3000"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
    assert!(size.trim().parse::<u32>().unwrap() > 3000, "{size}");
}

/// With a time to look for news that is short and one that is longer than most pauses here.
#[test]
fn shards_that_look_for_news_before_they_sleep_miss_nothing() {
    for looking in ["1", "10000"] {
        let broker = Broker::start(3, &["--busy-poll", looking]);
        let mut subscribers: Vec<Client> = (0..6).map(|_| Client::new(&broker, Version::V5)).collect();
        subscribers.iter_mut().for_each(|subscriber| subscriber.subscribe("news/#", 1));
        let mut publisher = Client::new(&broker, Version::V4);
        for n in 0..30 {
            publisher.publish("news/today", n % 2, n.to_string());
            for subscriber in &mut subscribers {
                subscriber.expect_message("news/today", n.to_string());
            }
        }
        broker.signal(Signal::TERM);
        drop((subscribers, publisher));
        assert_eq!(broker.wait_for_exit().code(), Some(0));
    }
}

#[test]
fn after_a_shutdown_the_port_is_free_again() {
    let broker = Broker::start(2, &[]);
    let address = broker.address;
    let mut client = Client::new(&broker, Version::V5);
    broker.signal(Signal::TERM);
    client.expect_disconnect(0x8b);
    drop(client);
    assert_eq!(broker.wait_for_exit().code(), Some(0));
    // The first --listen of a broker of the tests is a port of its own; the one asked for is the second.
    let mut again = Broker::start(1, &["--listen", &address.to_string()]);
    again.address = address;
    Client::new(&again, Version::V5).expect_nothing_until_ping();
}
