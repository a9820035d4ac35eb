use super::listener::ListenerArgs;
use super::*;
use std::net::SocketAddr;

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    args: ServeArgs,
}

fn parse(flags: &[&str]) -> Result<ServeArgs, String> {
    let flags = std::iter::once("serve").chain(flags.iter().copied());
    Serve::try_parse_from(flags).map(|serve| serve.args).map_err(|error| error.to_string())
}

fn check(flags: &[&str]) -> Result<Settings, String> {
    check_on(flags, &[0, 1, 2, 3])
}

fn check_on(flags: &[&str], cores: &[usize]) -> Result<Settings, String> {
    let args = parse(flags)?;
    let listeners = args
        .listen
        .iter()
        .map(|address| ListenerArgs::plain(*address).check(args.allow_anonymous, args.auth.authenticates()));
    args.check(cores, listeners.collect::<Result<_, _>>()?)
}

#[test]
fn without_flags_the_limits_are_the_default_ones_and_every_core_has_a_shard() {
    let settings = check(&[]).unwrap();
    assert_eq!(format!("{:?}", settings.limits), format!("{:?}", Limits::default()));
    assert_eq!(settings.listeners[0].place, Place::Tcp(SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT))));
    assert_eq!(settings.placement, [0, 1, 2, 3]);
}

#[test]
fn every_limit_has_its_flag() {
    let limits = check(&[
        "--max-connections=1",
        "--max-connections-per-address=30",
        "--max-connections-per-user=31",
        "--max-connection-rate-per-address=32",
        "--connection-burst-per-address=33",
        "--max-sessions=2",
        "--connect-timeout=300ms",
        "--max-packet=4K",
        "--max-connect=3K",
        "--receive-maximum=5",
        "--max-inflight=6",
        "--topic-alias-max=7",
        "--topic-alias-max-outgoing=8",
        "--max-session-expiry=9s",
        "--max-keep-alive=10s",
        "--max-queued-messages=11",
        "--max-queued-bytes=12K",
        "--queue-policy=refuse",
        "--output-mark=13K",
        "--output-max=14K",
        "--max-topic-levels=15",
        "--max-subscriptions=16",
        "--max-retained=17",
        "--max-retained-bytes=27K",
        "--max-topic-length=28",
        "--max-will=29",
        "--max-group-queue=18",
        "--overflow-mark=19",
        "--max-reconnects=25",
        "--jail-time=26s",
        "--max-publish-rate=22",
        "--max-publish-bytes=23K",
        "--min-wildcard-depth=24",
        "--max-qos=1",
        "--no-retain",
        "--response-information=answers/",
        "--store-mark=1280K",
        "--queue-window-messages=27",
        "--queue-window-bytes=28K",
        "--sys-interval=20s",
        "--shutdown-time=21ms",
    ])
    .unwrap()
    .limits;
    let expected = Limits {
        max_connections: 1,
        max_connections_per_address: 30,
        max_connection_rate_per_address: 32,
        connection_burst_per_address: 33,
        max_connections_per_user: 31,
        max_sessions: 2,
        connect_timeout_ms: 300,
        max_packet: 4 << 10,
        max_connect: 3 << 10,
        receive_maximum: 5,
        max_inflight: 6,
        topic_alias_maximum: 7,
        topic_alias_maximum_outgoing: 8,
        max_session_expiry: 9,
        max_keep_alive: 10,
        max_queued_messages: 11,
        max_queued_bytes: 12 << 10,
        queue_window_messages: 27,
        queue_window_bytes: 28 << 10,
        queue_policy: QueuePolicy::Refuse,
        output_mark: 13 << 10,
        output_max: 14 << 10,
        max_topic_levels: 15,
        max_subscriptions: 16,
        max_retained: 17,
        max_retained_bytes: 27 << 10,
        max_topic_length: 28,
        max_will: 29,
        max_group_queue: 18,
        overflow_mark: 19,
        filters_at_once: 1024,
        store_mark: 20 << 16,
        max_reconnects: 25,
        jail_ms: 26_000,
        max_publish_rate: 22,
        max_publish_bytes: 23 << 10,
        min_wildcard_depth: 24,
        max_qos: 1,
        retain_available: false,
        response_information: Some("answers/".to_string()),
        sys_interval_ms: 20_000,
        shutdown_ms: 21,
    };
    assert_eq!(format!("{limits:?}"), format!("{expected:?}"));
}

#[test]
fn shards_are_pinned_in_turn_to_the_named_cores() {
    assert_eq!(check(&["--cores", "1,3"]).unwrap().placement, [1, 3]);
    assert_eq!(check(&["--cores", "1,3", "--shards", "5"]).unwrap().placement, [1, 3, 1, 3, 1]);
    assert_eq!(check(&["--shards", "2"]).unwrap().placement, [0, 1]);
    assert_eq!(check(&[]).unwrap().busy_poll.as_micros(), 0);
    assert_eq!(check(&["--busy-poll", "50"]).unwrap().busy_poll.as_micros(), 50);
    let many: Vec<usize> = (0..200).collect();
    assert!(check_on(&[], &many).unwrap_err().contains("--shards 128"));
}

#[test]
fn what_cannot_be_is_refused_with_the_flag_and_the_remedy() {
    for (flags, named) in [
        (&["--listen", "0.0.0.0:1883"][..], "--allow-anonymous"),
        (&["--listen", "[::]:1883"], "--allow-anonymous"),
        (&["--listen", "1883", "--listen", "127.0.0.1:1883"], "twice"),
        (&["--listen", "localhost"], "127.0.0.1:1883"),
        (&["--cores", "2-4"], "core 4"),
        (&["--cores", "x"], "0,2-5"),
        (&["--shards", "0"], "1..=128"),
        (&["--shards", "129"], "1..=128"),
        (&["--connect-timeout", "1ms"], "100ms"),
        (&["--connect-timeout", "soon"], "500ms"),
        (&["--max-packet", "1"], "--max-packet 1 is out of range"),
        (&["--max-packet", "300M"], "--max-packet 300M is out of range"),
        (&["--max-qos", "3"], "0..=2"),
        (&["--max-keep-alive", "1500ms"], "whole number of seconds"),
        (&["--max-keep-alive", "1d"], "--max-keep-alive"),
        (&["--output-mark", "2M", "--output-max", "1M"], "--output-max 1M"),
        (&["--receive-maximum", "0"], "--receive-maximum"),
        (&["--queue-policy", "panic"], "drop-oldest"),
        (&["--max-will", "64K"], "--max-will 64K is out of range"),
        (&["--max-retained-bytes", "2000G"], "--max-retained-bytes"),
        (&["--max-topic-length", "0"], "1..=65535"),
        (&["--bogus"], "--bogus"),
    ] {
        let error = check(flags).expect_err("refused");
        assert!(error.contains(named), "{flags:?}: {error}");
    }
}

#[test]
fn everybody_may_be_let_in_deliberately_and_loopback_needs_no_word() {
    for flags in [
        &["--listen", "0.0.0.0:1883", "--allow-anonymous"][..],
        &["--listen", "127.0.0.2:0", "--listen", "[::1]:0"],
        &["--listen", "0", "--listen", "0"],
    ] {
        check(flags).unwrap();
    }
}
