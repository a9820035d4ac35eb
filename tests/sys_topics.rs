//! The `$SYS` topics: Mosquitto's names, true values, and the counters that show where a publish went.
mod support;

use std::collections::BTreeMap;
use std::time::Instant;
use support::*;

const OFTEN: [&str; 2] = ["--sys-interval", "200ms"];

/// Runs the test with brokers of its own, with 1, 2 and 3 shards, so that nobody else is counted.
#[track_caller]
fn each_own_broker(flags: &[&str], test: impl Fn(&Broker)) {
    if std::env::var_os("RINGMQ_TEST_BROKER").is_some() {
        return eprintln!("left out: needs brokers of its own");
    }
    for shards in 1..=3 {
        test(&Broker::start(shards, flags));
    }
}

/// A subscriber to `$SYS/#` and the latest value of each topic.
struct Sys {
    client: Client,
    values: BTreeMap<String, String>,
}

impl Sys {
    fn new(broker: &Broker) -> Sys {
        let mut client = Client::new(broker, Version::V4);
        client.subscribe("$SYS/#", 0);
        Sys { client, values: BTreeMap::new() }
    }

    /// Reads on until `holds` is true of the values; `what` says what it waits for.
    #[track_caller]
    fn wait(&mut self, what: &str, holds: impl Fn(&Sys) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < until, "{what} does not come true: {:#?}", self.values);
            let message = self.client.expect_publish();
            let value = String::from_utf8(message.payload).expect("text");
            self.values.insert(message.topic, value);
        }
    }

    /// The value of `$SYS/broker/<name>` once it stays the same for several rounds.
    #[track_caller]
    fn steady(&mut self, name: &str) -> u64 {
        loop {
            let before = self.broker(name);
            for _ in 0..2 {
                let uptime = self.values.get("$SYS/broker/uptime").cloned();
                self.wait("a later uptime", |sys| sys.values.get("$SYS/broker/uptime") != uptime.as_ref());
            }
            match self.broker(name) {
                Some(value) if before == Some(value) => return value,
                _ => {}
            }
        }
    }

    /// The value of `$SYS/broker/<name>` as a number; `None` as long as it has not come.
    fn broker(&self, name: &str) -> Option<u64> {
        self.values.get(&format!("$SYS/broker/{name}")).map(|value| value.parse().expect("a number"))
    }

    /// The values of `$SYS/ringmq/shards/<n>/<name>`, which have all come.
    fn shards(&self, count: usize, name: &str) -> Option<Vec<u64>> {
        let value = |n| self.values.get(&format!("$SYS/ringmq/shards/{n}/{name}"));
        (0..count).map(|n| value(n).map(|value| value.parse().expect("a number"))).collect()
    }
}

/// What Mosquitto 2.0 publishes, apart from the `heap` topics, which depend on how it was built.
const NAMES: [&str; 24] = [
    "version",
    "uptime",
    "clients/total",
    "clients/connected",
    "clients/disconnected",
    "clients/active",
    "clients/inactive",
    "clients/maximum",
    "clients/expired",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "publish/messages/received",
    "publish/messages/sent",
    "publish/messages/dropped",
    "publish/bytes/received",
    "publish/bytes/sent",
    "bytes/received",
    "bytes/sent",
    "store/messages/count",
    "store/messages/bytes",
    "subscriptions/count",
    "shared_subscriptions/count",
    "retained messages/count",
];

/// Of these there are averages over 1, 5 and 15 minutes.
const LOADS: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];

#[test]
fn the_topics_have_mosquittos_names_and_well_formed_values() {
    each_broker_with(&["--sys-interval", "1"], |broker| {
        let loads = LOADS
            .iter()
            .flat_map(|load| ["1min", "5min", "15min"].map(|window| format!("load/{load}/{window}")));
        let names: Vec<String> = NAMES.map(str::to_string).into_iter().chain(loads).collect();
        let mut sys = Sys::new(broker);
        for name in &names {
            sys.wait(name, |sys| sys.values.contains_key(&format!("$SYS/broker/{name}")));
        }
        for (topic, value) in &sys.values {
            let name = topic.strip_prefix("$SYS/broker/");
            match name {
                Some("version") => assert!(value.starts_with("ringmq version "), "{value}"),
                Some("uptime") => {
                    assert!(value.strip_suffix(" seconds").unwrap().parse::<u64>().is_ok(), "{value}")
                }
                Some(load) if load.starts_with("load/") => {
                    let (whole, hundredths) =
                        value.split_once('.').unwrap_or_else(|| panic!("{topic}: {value}"));
                    assert!(whole.parse::<u64>().is_ok() && hundredths.len() == 2, "{topic}: {value}");
                }
                _ => assert!(value.parse::<u64>().is_ok(), "{topic}: {value}"),
            }
        }
    });
}

#[test]
fn the_topics_are_retained() {
    each_broker_with(&["--sys-interval", "1"], |broker| {
        Sys::new(broker).wait("a first value", |sys| !sys.values.is_empty());
        let mut client = Client::new(broker, Version::V5);
        client.subscribe("$SYS/broker/version", 0);
        assert!(client.expect_publish().retain);
    });
}

#[test]
fn they_match_no_filter_that_begins_with_a_wildcard() {
    each_broker_with(&["--sys-interval", "1"], |broker| {
        let mut client = Client::new(broker, Version::V5);
        assert_eq!(client.subscribe_codes(&[("#", 0), ("+/#", 0), ("+/broker/#", 0)]), [0; 3]);
        // Two rounds of publications pass.
        let mut sys = Sys::new(broker);
        sys.wait("uptime", |sys| sys.values.contains_key("$SYS/broker/uptime"));
        let before = sys.values["$SYS/broker/uptime"].clone();
        sys.wait("another uptime", |sys| sys.values["$SYS/broker/uptime"] != before);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn a_part_of_them_can_be_subscribed_to() {
    each_broker_with(&["--sys-interval", "1"], |broker| {
        for filter in ["$SYS/broker/version", "$SYS/+/version", "$SYS/broker/version/#"] {
            let mut client = Client::new(broker, Version::V4);
            client.subscribe(filter, 0);
            assert_eq!(client.expect_publish().topic, "$SYS/broker/version");
        }
    });
}

#[test]
fn a_client_cannot_publish_to_them() {
    each_version_with(&["--sys-interval", "1"], |broker, version| {
        let mut sys = Sys::new(broker);
        sys.wait("the version", |sys| sys.values.contains_key("$SYS/broker/version"));
        for topic in ["$SYS/broker/version", "$SYS/made/up"] {
            let mut client = Client::new(broker, version);
            client.send_publish(&Publish::new(topic, "forged").retain());
            client.send_publish(&Publish::new(topic, "forged").qos(1).id(1).retain());
            let code = if version.is_5() { 0x87 } else { 0 };
            client.expect_ack_code(Kind::Puback, 1, code);
            client.send_publish(&Publish::new(topic, "forged").qos(2).id(2).retain());
            client.expect_ack_code(Kind::Pubrec, 2, code);
        }
        let mut late = Client::new(broker, version);
        late.subscribe("$SYS/broker/version", 0);
        assert_ne!(late.expect_publish().payload, b"forged");
        sys.wait("an uptime", |sys| sys.values.contains_key("$SYS/broker/uptime"));
        let before = sys.values["$SYS/broker/uptime"].clone();
        sys.wait("another uptime", |sys| sys.values["$SYS/broker/uptime"] != before);
        assert!(sys.values.values().all(|value| value != "forged"));
    });
}

#[test]
fn clients_are_counted() {
    each_own_broker(&OFTEN, |broker| {
        let mut sys = Sys::new(broker);
        sys.wait("one client", |sys| sys.broker("clients/connected") == Some(1));
        let clients: Vec<Client> = (0..5).map(|_| Client::new(broker, Version::V5)).collect();
        let lasting = Connect::new(Version::V5, &unique("lasting")).persistent();
        let leaving = Client::connect(broker, &lasting);
        sys.wait("seven connected", |sys| {
            sys.broker("clients/connected") == Some(7) && sys.broker("clients/active") == Some(7)
        });
        leaving.disconnect();
        sys.wait("one of seven away", |sys| {
            sys.broker("clients/connected") == Some(6)
                && sys.broker("clients/disconnected") == Some(1)
                && sys.broker("clients/inactive") == Some(1)
                && sys.broker("clients/total") == Some(7)
        });
        clients.into_iter().for_each(Client::disconnect);
        Client::connect(broker, &Connect::new(Version::V5, &lasting.client_id)).disconnect();
        sys.wait("one client left", |sys| {
            sys.broker("clients/total") == Some(1) && sys.broker("clients/disconnected") == Some(0)
        });
        assert_eq!(sys.broker("clients/maximum"), Some(7));
        // The shards' numbers add up.
        sys.wait("one client on the shards", |sys| {
            sys.shards(broker.shards, "clients_connected").is_some_and(|all| all.iter().sum::<u64>() == 1)
        });
    });
}

#[test]
fn subscriptions_are_counted() {
    each_own_broker(&OFTEN, |broker| {
        let mut sys = Sys::new(broker);
        let mut a = Client::new(broker, Version::V5);
        let mut b = Client::new(broker, Version::V5);
        a.subscribe_codes(&[("a/b", 0), ("a/+", 1), ("$share/g/x", 1)]);
        b.subscribe_codes(&[("a/b", 0), ("a/b", 1), ("$share/g/x", 1), ("$share/h/x", 1)]);
        sys.wait("three and its own, and three shared", |sys| {
            sys.broker("subscriptions/count") == Some(4)
                && sys.broker("shared_subscriptions/count") == Some(3)
        });
        a.unsubscribe("a/+");
        b.disconnect();
        sys.wait("one and its own, and one shared", |sys| {
            sys.broker("subscriptions/count") == Some(2)
                && sys.broker("shared_subscriptions/count") == Some(1)
        });
    });
}

#[test]
fn messages_and_bytes_are_counted() {
    each_own_broker(&OFTEN, |broker| {
        let mut sys = Sys::new(broker);
        let mut subscriber = Client::new(broker, Version::V4);
        subscriber.subscribe("counted", 1);
        let mut publisher = Client::new(broker, Version::V4);
        for _ in 0..100 {
            publisher.publish("counted", 1, [b'x'; 1000]);
            subscriber.messages(1);
        }
        sys.wait("100 publishes of 1000 bytes each way", |sys| {
            sys.broker("publish/messages/received") == Some(100)
                && sys.broker("publish/bytes/received") == Some(100_000)
                && sys.broker("publish/messages/sent") >= Some(100)
                && sys.broker("publish/bytes/sent") >= Some(100_000)
                && sys.broker("bytes/received") > Some(100_000)
                && sys.broker("bytes/sent") > Some(100_000)
                && sys.broker("messages/received") >= Some(204)
                && sys.broker("messages/sent") >= Some(204)
        });
        let load = |sys: &Sys| sys.values.get("$SYS/broker/load/publish/received/1min").cloned();
        sys.wait("a load", |sys| load(sys).is_some_and(|load| load.parse::<f64>().unwrap() > 0.0));
    });
}

#[test]
fn kept_and_dropped_messages_are_counted() {
    each_own_broker(&[&OFTEN[..], &["--max-queued-messages", "10"]].concat(), |broker| {
        let mut sys = Sys::new(broker);
        let topic = unique("kept");
        sys.wait("own retained topics", |sys| sys.broker("retained messages/count") > Some(0));
        let connect = Connect::new(Version::V5, &unique("away")).persistent();
        let mut away = Client::connect(broker, &connect);
        away.subscribe(&topic, 1);
        away.disconnect();
        let mut publisher = Client::new(broker, Version::V5);
        for _ in 0..25 {
            publisher.publish(&topic, 1, "queued");
        }
        for n in 0..5 {
            publisher.publish_with(&Publish::new(&format!("{topic}/{n}"), "kept").qos(1).retain());
        }
        sys.wait("10 queued, 15 dropped", |sys| {
            let (retained, all) = (sys.broker("retained messages/count"), sys.broker("store/messages/count"));
            sys.broker("publish/messages/dropped") == Some(15)
                && sys.broker("messages/stored") == all
                && all.zip(retained).is_some_and(|(all, retained)| all == retained + 10)
        });
        let retained = sys.steady("retained messages/count");
        for n in 0..5 {
            publisher.publish_with(&Publish::new(&format!("{topic}/{n}"), "").qos(1).retain());
        }
        sys.wait("5 retained fewer", |sys| sys.broker("retained messages/count") == Some(retained - 5));
    });
}

/// A subscriber to `$SYS/#` that lives on shard 0, where `$SYS` is published: what it gets crosses no ring.
fn on_shard_0(broker: &Broker) -> Sys {
    let mut elsewhere: Vec<Sys> = Vec::new();
    loop {
        let mut sys = Sys::new(broker);
        let so_far = elsewhere.len() as u64 + 1;
        sys.wait("it is counted", |sys| {
            let connected = sys.shards(broker.shards, "clients_connected");
            sys.broker("clients/connected") == Some(so_far)
                && connected.is_some_and(|all| all.iter().sum::<u64>() == so_far)
        });
        if sys.shards(broker.shards, "clients_connected").unwrap()[0] == 1 {
            elsewhere.into_iter().for_each(|sys| sys.client.disconnect());
            return sys;
        }
        assert!(elsewhere.len() < 10, "no client ever comes to shard 0");
        elsewhere.push(sys);
    }
}

#[test]
fn a_publish_reaches_only_the_shards_that_have_a_matching_subscriber() {
    each_own_broker(&OFTEN, |broker| {
        const MESSAGES: u64 = 100;
        let shards = broker.shards;
        let mut sys = on_shard_0(broker);
        let sum = |sys: &Sys, name| sys.shards(shards, name).map(|all| all.iter().sum::<u64>());
        // Publishers on each shard: a new session goes where there are fewest.
        let count = 2 * shards as u64;
        let mut publishers: Vec<Client> = (0..count).map(|_| Client::new(broker, Version::V5)).collect();
        sys.wait("all publishers connected", |sys| sum(sys, "clients_connected") == Some(count + 1));
        let mut at = sys.shards(shards, "clients_connected").unwrap();
        at[0] -= 1;
        assert!(at.iter().all(|publishers| *publishers > 0), "{at:?}");
        let before = sum(&sys, "envelopes_publish").unwrap();

        // Nobody subscribes: nothing leaves the publishers' shards.
        for publisher in &mut publishers {
            (0..MESSAGES).for_each(|_| publisher.publish("nobody", 1, "x"));
        }
        sys.wait("all of it seen", |sys| {
            sys.broker("publish/messages/received") == Some(MESSAGES * count)
                && sum(sys, "publishes_local") >= Some(MESSAGES * count)
        });
        assert_eq!(sum(&sys, "envelopes_publish"), Some(before));

        // One subscriber: only the publishers on other shards send envelopes, one for each message.
        let mut subscriber = Client::new(broker, Version::V5);
        subscriber.subscribe("somebody", 1);
        sys.wait("the subscriber connected", |sys| sum(sys, "clients_connected") == Some(count + 2));
        let mut with_it = sys.shards(shards, "clients_connected").unwrap();
        with_it[0] -= 1;
        let home = (0..shards).find(|n| with_it[*n] > at[*n]).unwrap();
        let hops = MESSAGES * (count - at[home]);
        for publisher in &mut publishers {
            (0..MESSAGES).for_each(|_| publisher.publish("somebody", 1, "x"));
        }
        subscriber.messages((MESSAGES * count) as usize);
        sys.wait("all of it sent", |sys| {
            sys.broker("publish/messages/received") == Some(2 * MESSAGES * count)
                && sum(sys, "envelopes_publish") >= Some(before + hops)
        });
        assert_eq!(sum(&sys, "envelopes_publish"), Some(before + hops));

        // It leaves again: the publishers' shards keep their messages to themselves as soon as they know.
        subscriber.unsubscribe("somebody");
        for publisher in &mut publishers {
            for id in 1000.. {
                publisher.send_publish(&Publish::new("somebody", "x").qos(1).id(id));
                if publisher.expect_ack(Kind::Puback, id) == 0x10 {
                    break;
                }
            }
        }
        let received = |sys: &Sys| sys.broker("publish/messages/received");
        // The counters of the other shards are up to one round older.
        for _ in 0..2 {
            let before = sys.broker("uptime");
            sys.wait("a further round", |sys| sys.broker("uptime") != before);
        }
        let sent = sum(&sys, "envelopes_publish");
        let at_most = received(&sys).unwrap() + MESSAGES * count;
        for publisher in &mut publishers {
            (0..MESSAGES).for_each(|_| publisher.publish("somebody", 1, "x"));
        }
        sys.wait("the last of it", |sys| received(sys) >= Some(at_most));
        assert_eq!(sum(&sys, "envelopes_publish"), sent);
    });
}

#[test]
fn with_the_interval_0_there_are_none() {
    each_own_broker(&["--sys-interval", "0"], |broker| {
        let mut client = Client::new(broker, Version::V4);
        client.subscribe("$SYS/#", 0);
        client.subscribe("$SYS/broker/version", 0);
        client.expect_nothing_until_ping();
    });
}
