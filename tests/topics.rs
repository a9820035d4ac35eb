//! Topic names and filters: what matches what, and what is neither.
mod support;

use std::collections::BTreeSet;
use support::*;

/// Names at every odd level. The payload tells which test sent one, for others are at work on the same broker.
const NAMES: [&str; 32] = [
    "a",
    "b",
    "a/",
    "/a",
    "/",
    "//",
    "///",
    "a/b",
    "a//b",
    "/a/b",
    "a/b/",
    "a/b/c",
    "a/b/c/d",
    "a//",
    "//a",
    "ab",
    "A",
    "A/b",
    " ",
    "a /b",
    "a/ b",
    "a/b c",
    "ä",
    "a\u{308}",
    "\u{feff}a",
    "𝄞/é",
    "$x",
    "$x/a",
    "$x/a/b",
    "$",
    "a/$x",
    "$x/",
];

/// Each filter with the names it matches, written down by hand.
const FILTERS: [(&str, &[&str]); 38] = [
    ("a", &["a"]),
    ("a/", &["a/"]),
    ("/a", &["/a"]),
    ("/", &["/"]),
    ("//", &["//"]),
    ("a/b", &["a/b"]),
    ("A/b", &["A/b"]),
    (" ", &[" "]),
    ("a/b c", &["a/b c"]),
    ("ä", &["ä"]),
    ("a\u{308}", &["a\u{308}"]),
    ("\u{feff}a", &["\u{feff}a"]),
    ("+", &["a", "b", "ab", "A", " ", "ä", "a\u{308}", "\u{feff}a"]),
    ("/+", &["/", "/a"]),
    ("+/", &["/", "a/"]),
    ("+/+", &["/", "a/", "/a", "a/b", "A/b", "a /b", "a/ b", "a/b c", "𝄞/é", "a/$x"]),
    ("+/+/+", &["//", "a//b", "/a/b", "a/b/", "a/b/c", "a//", "//a"]),
    ("/+/", &["//"]),
    ("//+", &["//", "//a"]),
    ("+//+", &["//", "a//b", "a//", "//a"]),
    ("a/+", &["a/", "a/b", "a/ b", "a/b c", "a/$x"]),
    ("a/+/c", &["a/b/c"]),
    ("a/+/+", &["a//b", "a/b/", "a/b/c", "a//"]),
    ("+/b", &["a/b", "A/b", "a /b"]),
    ("+/b/+", &["a/b/", "a/b/c"]),
    ("+/é", &["𝄞/é"]),
    ("a/#", &["a", "a/", "a/b", "a//b", "a/b/", "a/b/c", "a/b/c/d", "a//", "a/ b", "a/b c", "a/$x"]),
    ("a/b/#", &["a/b", "a/b/", "a/b/c", "a/b/c/d"]),
    ("/#", &["/a", "/", "//", "///", "/a/b", "//a"]),
    ("//#", &["/", "//", "///", "//a"]),
    (
        "+/#",
        &[
            "a",
            "b",
            "a/",
            "/a",
            "/",
            "//",
            "///",
            "a/b",
            "a//b",
            "/a/b",
            "a/b/",
            "a/b/c",
            "a/b/c/d",
            "a//",
            "//a",
            "ab",
            "A",
            "A/b",
            " ",
            "a /b",
            "a/ b",
            "a/b c",
            "ä",
            "a\u{308}",
            "\u{feff}a",
            "𝄞/é",
            "a/$x",
        ],
    ),
    ("+/b/#", &["a/b", "a/b/", "a/b/c", "a/b/c/d", "A/b", "a /b"]),
    (
        "#",
        &[
            "a",
            "b",
            "a/",
            "/a",
            "/",
            "//",
            "///",
            "a/b",
            "a//b",
            "/a/b",
            "a/b/",
            "a/b/c",
            "a/b/c/d",
            "a//",
            "//a",
            "ab",
            "A",
            "A/b",
            " ",
            "a /b",
            "a/ b",
            "a/b c",
            "ä",
            "a\u{308}",
            "\u{feff}a",
            "𝄞/é",
            "a/$x",
        ],
    ),
    ("$x/#", &["$x", "$x/a", "$x/a/b", "$x/"]),
    ("$x/+", &["$x/a", "$x/"]),
    ("$x/+/b", &["$x/a/b"]),
    ("$", &["$"]),
    ("a/$x", &["a/$x"]),
];

/// The QoS 0 messages before the one with this topic.
#[track_caller]
fn before(subscriber: &mut Client, last: &str) -> Vec<Publish> {
    let mut all = Vec::new();
    loop {
        let message = subscriber.expect_publish();
        if message.topic == last {
            return all;
        }
        all.push(message);
    }
}

#[test]
fn every_filter_is_sent_the_names_it_matches_and_no_others() {
    each_version(|broker, version| {
        let token = unique("match");
        let mut subscribers: Vec<Client> = FILTERS
            .map(|(filter, _)| {
                let mut subscriber = Client::new(broker, version);
                assert_eq!(subscriber.subscribe_amid(&[(filter, 0), (&token, 0)]).0, [0, 0]);
                subscriber
            })
            .into();
        let mut publisher = Client::new(broker, version);
        for name in NAMES {
            publisher.publish(name, 1, &token);
        }
        publisher.publish(&token, 1, "");
        for (subscriber, (filter, names)) in subscribers.iter_mut().zip(FILTERS) {
            let mine = before(subscriber, &token).into_iter();
            let mine =
                mine.filter(|message| message.payload == token.as_bytes()).map(|message| message.topic);
            let mine: Vec<String> = mine.collect();
            let set: BTreeSet<&str> = mine.iter().map(String::as_str).collect();
            assert_eq!(set, names.iter().copied().collect(), "{filter:?}");
            assert_eq!(mine.len(), names.len(), "{filter:?}: one came twice: {mine:?}");
        }
    });
}

#[test]
fn every_filter_selects_the_retained_messages_it_matches_and_no_others() {
    // Names of its own: the first level of each is marked, except where that would change what is tested.
    each_version(|broker, version| {
        let token = unique("kept");
        let kept = |name: &str| format!("{token}/{name}");
        let mut publisher = Client::new(broker, version);
        for name in NAMES {
            publisher.publish_with(&Publish::new(&kept(name), name).qos(1).retain());
        }
        for (filter, names) in FILTERS {
            // Behind the token no level is the first, so that wildcards match `$` too.
            let dollar = NAMES.iter().filter(|name| name.starts_with('$'));
            let dollar = dollar.filter(|name| match filter {
                "+" => !name.contains('/'),
                "+/+" => name.split('/').count() == 2,
                "+/+/+" => name.split('/').count() == 3,
                "+/#" | "#" => true,
                "+/" => name.ends_with('/'),
                _ => false,
            });
            let mut wanted: Vec<&str> = names.iter().chain(dollar).copied().collect();
            let mut subscriber = Client::new(broker, version);
            subscriber.subscribe(&kept(filter), 1);
            let mut got: Vec<String> = Vec::new();
            while got.len() < wanted.len() {
                let message = subscriber.expect_publish();
                subscriber.finish(&message);
                assert_eq!(message.topic, kept(&String::from_utf8(message.payload).unwrap()));
                got.push(message.topic[token.len() + 1..].to_string());
            }
            subscriber.expect_nothing_until_ping();
            got.sort();
            wanted.sort();
            assert_eq!(got, wanted, "{filter:?}");
        }
    });
}

#[test]
fn names_and_filters_may_have_65535_bytes() {
    each_version(|broker, version| {
        let token = unique("long");
        let one_level = format!("{token}{}", "x".repeat(65_535 - token.len()));
        let wide = format!("{token}{}", "ü".repeat((65_535 - token.len()) / 2));
        let levels = format!("{token}{}/y", "z".repeat(65_533 - token.len()));
        let wildcard = format!("{}/+", &levels[..65_533]);
        let mut subscriber = Client::new(broker, version);
        for filter in [&one_level, &wide, &wildcard] {
            subscriber.subscribe(filter, 1);
        }
        let mut publisher = Client::new(broker, version);
        for name in [&one_level, &wide, &levels] {
            publisher.publish_with(&Publish::new(name, "whole").qos(1).retain());
            subscriber.expect_message(name, "whole");
            let mut late = Client::new(broker, version);
            late.subscribe(name, 1);
            late.expect_message(name, "whole");
        }
        subscriber.unsubscribe(&one_level);
    });
}

#[test]
fn a_hundred_levels_are_matched() {
    each_version(|broker, version| {
        let token = unique("deep");
        let name = format!("{token}{}", "/l".repeat(99));
        let filters = [name.clone(), format!("{token}{}", "/+".repeat(99)), format!("{token}/+/l/#")];
        for filter in filters {
            let mut subscriber = Client::new(broker, version);
            subscriber.subscribe(&filter, 0);
            Client::new(broker, version).publish(&name, 0, "found");
            subscriber.expect_message(&name, "found");
        }
    });
}

#[test]
fn tens_of_thousands_of_levels_harm_nobody() {
    each_version(|broker, version| {
        let deep = "/".repeat(65_535);
        let mut bystander = Client::new(broker, version);
        let mut client = Client::new(broker, version);
        client.send(&subscribe(version, 1, &[(&deep, 1)]));
        match client.try_receive() {
            Some(Packet::Suback { codes, .. }) => {
                assert!([1, 0x80, 0x8f, 0x97].contains(&codes[0]), "{codes:02x?}")
            }
            Some(Packet::Disconnect { code, .. }) => {
                assert!([0x81, 0x8f, 0x97].contains(&code), "{code:02x}")
            }
            other => assert_eq!(other, None),
        }
        let mut client = Client::new(broker, version);
        client.send_publish(&Publish::new(&deep, "").qos(1).id(1));
        match client.try_receive() {
            Some(Packet::Ack(ack)) => assert!([0, 0x10, 0x90, 0x97].contains(&ack.code), "{ack:?}"),
            Some(Packet::Disconnect { code, .. }) => {
                assert!([0x81, 0x90, 0x97].contains(&code), "{code:02x}")
            }
            other => assert_eq!(other, None),
        }
        bystander.expect_nothing_until_ping();
    });
}

#[test]
fn a_topic_name_with_a_wildcard_closes_the_connection() {
    each_version(|broker, version| {
        for name in ["#", "+", "a/#", "a/+/b", "a+", "#a", "+/a", "a/b#"] {
            for qos in 0..=1 {
                let mut client = Client::new(broker, version);
                let mut message = Publish::new(name, "").qos(qos);
                message.id = (qos > 0).then_some(1);
                client.send_publish(&message);
                client.expect_disconnect_in(&[0x81, 0x82, 0x90]);
            }
        }
    });
}

#[test]
fn a_filter_with_a_misplaced_wildcard_is_not_accepted() {
    each_version(|broker, version| {
        for filter in
            ["a#", "#/a", "a/#/b", "a+", "+a", "a/b+", "a/+b/c", "##", "++", "a/##", "/#/", "#+", "+#"]
        {
            let mut client = Client::new(broker, version);
            client.send(&subscribe(version, 1, &[(filter, 0)]));
            match client.try_receive() {
                Some(Packet::Suback { codes, .. }) if version.is_5() => assert_eq!(codes, [0x8f], "{filter}"),
                Some(Packet::Suback { codes, .. }) => assert_eq!(codes, [0x80], "{filter}"),
                Some(Packet::Disconnect { code, .. }) => {
                    assert!([0x81, 0x82, 0x8f].contains(&code), "{filter}: {code:02x}")
                }
                other => assert!(other.is_none() && !version.is_5(), "{filter}: {other:?}"),
            }
        }
    });
}

#[test]
fn an_empty_filter_is_not_accepted() {
    each_version(|broker, version| {
        for is_unsubscribe in [false, true] {
            let mut client = Client::new(broker, version);
            let bytes = match is_unsubscribe {
                false => subscribe(version, 1, &[("", 0)]),
                true => unsubscribe(version, 1, &[""]),
            };
            client.send(&bytes);
            match client.try_receive() {
                Some(Packet::Suback { codes, .. }) => {
                    assert!(codes == [0x8f] || codes == [0x80], "{codes:02x?}")
                }
                // True as well: there was no such subscription.
                Some(Packet::Unsuback { codes, .. }) => {
                    assert!(codes.is_empty() || codes == [0x11] || codes == [0x8f], "{codes:02x?}")
                }
                Some(Packet::Disconnect { code, .. }) => {
                    assert!([0x81, 0x82, 0x8f].contains(&code), "{code:02x}")
                }
                other => assert!(other.is_none() && !version.is_5(), "{other:?}"),
            }
        }
    });
}

#[test]
fn a_subscription_for_dollar_topics_needs_the_dollar_level_in_full() {
    each_version(|broker, version| {
        let token = unique("$dollar");
        let name = format!("{token}/a/b");
        let mut without = Client::new(broker, version);
        let filters = [("#", 0), ("+/#", 0), ("+/a/#", 0), ("+/+/+", 0), ("+/a/b", 0)];
        assert_eq!(without.subscribe_amid(&filters).0, [0; 5]);
        let end = unique("dollar-end");
        let mut with = Client::new(broker, version);
        with.subscribe(&format!("{token}/#"), 0);
        let mut publisher = Client::new(broker, version);
        publisher.publish(&name, 1, &token);
        with.expect_message(&name, &token);
        publisher.publish(&end, 1, "");
        assert!(before(&mut without, &end).iter().all(|message| message.topic != name));
    });
}
