use super::*;
use crate::memory::Pressure;

fn updated(tree: &mut SysTree, now: u64, totals: &Counters, shards: &[Counters]) -> Vec<(String, String)> {
    let mut told = Vec::new();
    tree.update(Time(now), totals, shards, &mut |topic, text| told.push((topic.to_owned(), text.to_owned())));
    told
}

fn text<'a>(told: &'a [(String, String)], topic: &str) -> Option<&'a str> {
    told.iter().find(|(other, _)| other == topic).map(|(_, text)| text.as_str())
}

/// All that Debian's mosquitto 2.0.11 published with `sys_interval 1` right after its start and without a client,
/// but for the numbers that depend on its own retained messages and memory.
const MOSQUITTO_2_0_AT_START: &[&str] = &[
    "$SYS/broker/bytes/received|0",
    "$SYS/broker/bytes/sent|0",
    "$SYS/broker/clients/active|0",
    "$SYS/broker/clients/connected|0",
    "$SYS/broker/clients/disconnected|0",
    "$SYS/broker/clients/expired|0",
    "$SYS/broker/clients/inactive|0",
    "$SYS/broker/clients/maximum|0",
    "$SYS/broker/clients/total|0",
    "$SYS/broker/load/bytes/received/15min|0.00",
    "$SYS/broker/load/bytes/received/1min|0.00",
    "$SYS/broker/load/bytes/received/5min|0.00",
    "$SYS/broker/load/bytes/sent/15min|0.00",
    "$SYS/broker/load/bytes/sent/1min|0.00",
    "$SYS/broker/load/bytes/sent/5min|0.00",
    "$SYS/broker/load/connections/15min|0.00",
    "$SYS/broker/load/connections/1min|0.00",
    "$SYS/broker/load/connections/5min|0.00",
    "$SYS/broker/load/messages/received/15min|0.00",
    "$SYS/broker/load/messages/received/1min|0.00",
    "$SYS/broker/load/messages/received/5min|0.00",
    "$SYS/broker/load/messages/sent/15min|0.00",
    "$SYS/broker/load/messages/sent/1min|0.00",
    "$SYS/broker/load/messages/sent/5min|0.00",
    "$SYS/broker/load/publish/dropped/15min|0.00",
    "$SYS/broker/load/publish/dropped/1min|0.00",
    "$SYS/broker/load/publish/dropped/5min|0.00",
    "$SYS/broker/load/publish/received/15min|0.00",
    "$SYS/broker/load/publish/received/1min|0.00",
    "$SYS/broker/load/publish/received/5min|0.00",
    "$SYS/broker/load/publish/sent/15min|0.00",
    "$SYS/broker/load/publish/sent/1min|0.00",
    "$SYS/broker/load/publish/sent/5min|0.00",
    "$SYS/broker/load/sockets/15min|0.00",
    "$SYS/broker/load/sockets/1min|0.00",
    "$SYS/broker/load/sockets/5min|0.00",
    "$SYS/broker/messages/received|0",
    "$SYS/broker/messages/sent|0",
    "$SYS/broker/messages/stored|0",
    "$SYS/broker/publish/bytes/received|0",
    "$SYS/broker/publish/bytes/sent|0",
    "$SYS/broker/publish/messages/dropped|0",
    "$SYS/broker/publish/messages/received|0",
    "$SYS/broker/publish/messages/sent|0",
    "$SYS/broker/retained messages/count|0",
    "$SYS/broker/shared_subscriptions/count|0",
    "$SYS/broker/store/messages/bytes|0",
    "$SYS/broker/store/messages/count|0",
    "$SYS/broker/subscriptions/count|0",
    "$SYS/broker/uptime|0 seconds",
];

/// What the manual of mosquitto 2.1 lists beyond that.
const MOSQUITTO_2_1_AT_START: &[&str] = &[
    "$SYS/broker/connections/socket/count|0",
    "$SYS/broker/mqtt/auth/received|0",
    "$SYS/broker/mqtt/auth/sent|0",
    "$SYS/broker/mqtt/connack/sent|0",
    "$SYS/broker/mqtt/connect/received|0",
    "$SYS/broker/mqtt/disconnect/received|0",
    "$SYS/broker/mqtt/disconnect/sent|0",
    "$SYS/broker/mqtt/pingreq/received|0",
    "$SYS/broker/mqtt/pingresp/sent|0",
    "$SYS/broker/mqtt/puback/received|0",
    "$SYS/broker/mqtt/puback/sent|0",
    "$SYS/broker/mqtt/pubcomp/received|0",
    "$SYS/broker/mqtt/pubcomp/sent|0",
    "$SYS/broker/mqtt/publish/dropped|0",
    "$SYS/broker/mqtt/publish/received|0",
    "$SYS/broker/mqtt/publish/sent|0",
    "$SYS/broker/mqtt/pubrec/received|0",
    "$SYS/broker/mqtt/pubrec/sent|0",
    "$SYS/broker/mqtt/pubrel/received|0",
    "$SYS/broker/mqtt/pubrel/sent|0",
    "$SYS/broker/mqtt/suback/sent|0",
    "$SYS/broker/mqtt/subscribe/received|0",
    "$SYS/broker/mqtt/unsuback/sent|0",
    "$SYS/broker/mqtt/unsubscribe/received|0",
    "$SYS/broker/packet/out/bytes|0",
    "$SYS/broker/packet/out/count|0",
];

/// What nobody else has.
const OWN_AT_START: &[&str] =
    &["$SYS/ringmq/store/full|0", "$SYS/ringmq/store/refused|0", "$SYS/ringmq/store/unreadable|0"];

#[test]
fn the_first_update_tells_every_topic_of_mosquitto() {
    let told = updated(&mut SysTree::new(), 0, &Counters::default(), &[]);
    let mut lines: Vec<String> = told.iter().map(|(topic, text)| format!("{topic}|{text}")).collect();
    lines.sort();
    let version = format!("$SYS/broker/version|ringmq version {}", env!("CARGO_PKG_VERSION"));
    let mut expected: Vec<&str> =
        [MOSQUITTO_2_0_AT_START, MOSQUITTO_2_1_AT_START, OWN_AT_START, &[version.as_str()]].concat();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn only_what_changed_is_told_again() {
    let mut tree = SysTree::new();
    let mut totals = Counters::default();
    updated(&mut tree, 0, &totals, &[]);
    assert_eq!(updated(&mut tree, 900, &totals, &[]), []);
    assert_eq!(
        updated(&mut tree, 61_999, &totals, &[]),
        [("$SYS/broker/uptime".to_owned(), "61 seconds".to_owned())]
    );
    totals.sessions = 3;
    totals.clients_connected = 2;
    let told = updated(&mut tree, 61_999, &totals, &[]);
    let lines: Vec<(&str, &str)> = told.iter().map(|(topic, text)| (topic.as_str(), text.as_str())).collect();
    assert_eq!(
        lines,
        [
            ("$SYS/broker/clients/total", "3"),
            ("$SYS/broker/clients/disconnected", "1"),
            ("$SYS/broker/clients/inactive", "1"),
            ("$SYS/broker/clients/connected", "2"),
            ("$SYS/broker/clients/active", "2"),
            ("$SYS/broker/clients/maximum", "3"),
        ]
    );
    totals.sessions = 2;
    let told = updated(&mut tree, 61_999, &totals, &[]);
    assert_eq!(
        (text(&told, "$SYS/broker/clients/total"), text(&told, "$SYS/broker/clients/maximum")),
        (Some("2"), None)
    );
}

/// The numbers are those of a run of mosquitto 2.0.11: one client connects and subscribes to everything in the
/// first two seconds, two more connect and publish in the two after the next two.
#[test]
fn load_averages_are_those_of_mosquitto() {
    let mut tree = SysTree::new();
    let mut totals = Counters::default();
    updated(&mut tree, 0, &totals, &[]);
    let load = |told: &[(String, String)], load: &str| {
        ["1min", "5min", "15min"]
            .map(|window| text(told, &format!("$SYS/broker/load/{load}/{window}")).map(str::to_owned))
    };
    let averages = |texts: [&str; 3]| texts.map(|text| Some(text.to_owned()));

    totals.connections_opened = 1;
    totals.packets_received[1] = 1;
    totals.packets_received[8] = 1;
    totals.bytes_received = 27;
    totals.bytes_sent = 2219;
    let told = updated(&mut tree, 2000, &totals, &[]);
    assert_eq!(load(&told, "sockets"), averages(["0.98", "0.20", "0.07"]));
    assert_eq!(load(&told, "connections"), averages(["0.98", "0.20", "0.07"]));
    assert_eq!(load(&told, "messages/received"), averages(["1.97", "0.40", "0.13"]));
    assert_eq!(load(&told, "bytes/received"), averages(["26.55", "5.38", "1.80"]));
    assert_eq!(load(&told, "bytes/sent"), averages(["2182.42", "442.32", "147.77"]));

    let told = updated(&mut tree, 4000, &totals, &[]);
    assert_eq!(load(&told, "bytes/received"), averages(["25.68", "5.35", "1.79"]));
    assert_eq!(load(&told, "connections"), [Some("0.95".to_owned()), None, None]);

    totals.packets_received[1] = 3;
    totals.packets_received[8] = 5;
    totals.bytes_received = 85;
    let told = updated(&mut tree, 6000, &totals, &[]);
    assert_eq!(load(&told, "connections"), averages(["2.89", "0.60", "0.20"]));
    assert_eq!(load(&told, "messages/received"), averages(["7.74", "1.59", "0.53"]));
    assert_eq!(load(&told, "bytes/received"), averages(["81.89", "16.87", "5.65"]));
    let told = updated(&mut tree, 8000, &totals, &[]);
    assert_eq!(load(&told, "bytes/received"), averages(["79.20", "16.76", "5.64"]));
    assert_eq!(load(&told, "connections")[0].as_deref(), Some("2.79"));
}

#[test]
fn each_counter_reaches_its_topics() {
    let mut tree = SysTree::new();
    updated(&mut tree, 0, &Counters::default(), &[]);
    let mut totals = Counters {
        bytes_received: 1,
        bytes_sent: 2,
        publish_bytes_received: 3,
        publish_bytes_sent: 4,
        connections_opened: 5,
        clients_expired: 6,
        subscriptions: 7,
        shared_subscriptions: 8,
        retained_messages: 9,
        retained_bytes: 100,
        stored_messages: 10,
        stored_bytes: 200,
        output_packets: 11,
        output_bytes: 12,
        dropped_queue_full: 13,
        dropped_expired: 1,
        slowed_for_memory: 21,
        refused_for_memory: 22,
        ended_for_memory: 23,
        ..Counters::default()
    };
    totals.packets_received[3] = 15;
    totals.packets_sent[3] = 16;
    totals.packets_received[12] = 17;
    totals.packets_sent[13] = 18;
    let pressure = Pressure::Full;
    tree.set_memory(Memory { used: 19, most: 20, pressure });
    let told = updated(&mut tree, 0, &totals, &[]);
    let mut lines: Vec<String> = told.iter().map(|(topic, text)| format!("{topic}|{text}")).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "$SYS/broker/bytes/received|1",
            "$SYS/broker/bytes/sent|2",
            "$SYS/broker/clients/expired|6",
            "$SYS/broker/connections/socket/count|5",
            "$SYS/broker/heap/current|19",
            "$SYS/broker/heap/maximum|20",
            "$SYS/broker/messages/received|32",
            "$SYS/broker/messages/sent|34",
            "$SYS/broker/messages/stored|19",
            "$SYS/broker/mqtt/pingreq/received|17",
            "$SYS/broker/mqtt/pingresp/sent|18",
            "$SYS/broker/mqtt/publish/dropped|14",
            "$SYS/broker/mqtt/publish/received|15",
            "$SYS/broker/mqtt/publish/sent|16",
            "$SYS/broker/packet/out/bytes|12",
            "$SYS/broker/packet/out/count|11",
            "$SYS/broker/publish/bytes/received|3",
            "$SYS/broker/publish/bytes/sent|4",
            "$SYS/broker/publish/messages/dropped|14",
            "$SYS/broker/publish/messages/received|15",
            "$SYS/broker/publish/messages/sent|16",
            "$SYS/broker/retained messages/count|9",
            "$SYS/broker/shared_subscriptions/count|8",
            "$SYS/broker/store/messages/bytes|300",
            "$SYS/broker/store/messages/count|19",
            "$SYS/broker/subscriptions/count|7",
            "$SYS/ringmq/memory/ended|23",
            "$SYS/ringmq/memory/pressure|3",
            "$SYS/ringmq/memory/refused|22",
            "$SYS/ringmq/memory/slowed|21",
        ]
    );
}

#[test]
fn what_the_store_refuses_is_told() {
    let mut tree = SysTree::new();
    updated(&mut tree, 0, &Counters::default(), &[]);
    // Both of two shards.
    let totals =
        Counters { storage_full: 2, refused_storage_full: 7, dropped_unreadable: 3, ..Counters::default() };
    let told = updated(&mut tree, 0, &totals, &[]);
    let told: Vec<(&str, &str)> = told.iter().map(|(topic, text)| (&**topic, &**text)).collect();
    let full = ("$SYS/ringmq/store/full", "1");
    assert_eq!(told, [full, ("$SYS/ringmq/store/refused", "7"), ("$SYS/ringmq/store/unreadable", "3")]);
}

#[test]
fn each_shard_tells_where_its_publishes_went() {
    let mut tree = SysTree::new();
    let first = Counters { publishes_local: 4, envelopes_publish: 1, ..Counters::default() };
    let second = Counters { sessions: 2, clients_connected: 1, ..Counters::default() };
    let told = updated(&mut tree, 0, &Counters::default(), &[first.clone(), second.clone()]);
    let mut shards: Vec<String> = told
        .iter()
        .filter_map(|(topic, text)| Some(format!("{}|{text}", topic.strip_prefix("$SYS/ringmq/shards/")?)))
        .collect();
    shards.sort();
    assert_eq!(
        shards,
        [
            "0/clients_connected|0",
            "0/envelopes_control|0",
            "0/envelopes_interest|0",
            "0/envelopes_publish|1",
            "0/envelopes_retained|0",
            "0/envelopes_shared|0",
            "0/publishes_local|4",
            "0/sessions|0",
            "1/clients_connected|1",
            "1/envelopes_control|0",
            "1/envelopes_interest|0",
            "1/envelopes_publish|0",
            "1/envelopes_retained|0",
            "1/envelopes_shared|0",
            "1/publishes_local|0",
            "1/sessions|2",
        ]
    );
    let second = Counters { envelopes_interest: 7, ..second };
    let told = updated(&mut tree, 0, &Counters::default(), &[first, second]);
    assert_eq!(told, [("$SYS/ringmq/shards/1/envelopes_interest".to_owned(), "7".to_owned())]);
}
