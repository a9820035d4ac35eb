//! Both maps agree with a naive matcher, whatever was put in and taken out before.
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Matching as the standard words it, level by level.
fn naive(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => naive(filter, topic),
        ([level, filter @ ..], [same, topic @ ..]) if level == same => naive(filter, topic),
        _ => false,
    }
}

fn naive_match(filter: &str, topic: &str) -> bool {
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    let hidden = topic[0].starts_with('$') && ["+", "#"].contains(&filter[0]);
    !hidden && naive(&filter, &topic)
}

/// Few names, some of which are in front of `/` in the order of bytes, are empty, are prefixes of others or need
/// an allocation as a label.
fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "a",
        "a-",
        "aa",
        "b",
        "$",
        "$a",
        "ä",
        "a level of its own",
        "c",
        "d",
        "e",
        "f",
        "g",
    ])
}

fn topic() -> impl Strategy<Value = String> {
    vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("names are not empty", |name| check_name(name, 128).is_ok())
}

fn filter() -> impl Strategy<Value = String> {
    let wild = prop_oneof![3 => level(), 2 => Just("+")];
    (vec(wild, 0..5), any::<bool>())
        .prop_map(|(mut levels, multi)| {
            if multi {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("filters are not empty", |filter| check_filter(filter, 128).is_ok())
}

/// What to do with a string: put it in with a value, or take it out.
type Change = (String, Option<u32>);

fn changes(strings: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<Change>> {
    vec((strings, prop_oneof![3 => any::<u32>().prop_map(Some), 1 => Just(None)]), 0..120)
}

/// What a scan visits before `limit` visits are over.
fn scanned(map: &RetainedMap<u32>, filter: &str, after: Option<&str>, limit: usize) -> Vec<(String, u32)> {
    let mut visits = Vec::new();
    map.scan(filter, after, &mut |topic, value| {
        visits.push((topic.to_owned(), *value));
        visits.len() < limit
    });
    visits
}

/// The same in parts that look at `most` topics each.
fn scanned_in_parts(map: &RetainedMap<u32>, filter: &str, most: usize) -> Vec<(String, u32)> {
    let mut visits = Vec::new();
    let mut after = None;
    loop {
        let (last, _) = map.scan_part(filter, after.as_deref(), most, &mut |topic, value| {
            visits.push((topic.to_owned(), *value));
            true
        });
        match last {
            Some(last) => after = Some(last.to_owned()),
            None => return visits,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn matches_agrees(filter in filter(), topic in topic()) {
        prop_assert_eq!(matches(&filter, &topic), naive_match(&filter, &topic));
    }

    #[test]
    fn filter_map_agrees(changes in changes(filter()), topics in vec(topic(), 1..20), seed in any::<u64>()) {
        let mut map = FilterMap::new(seed);
        let mut model = BTreeMap::new();
        for (filter, change) in changes {
            match change {
                Some(value) => {
                    prop_assert_eq!(map.get(&filter), model.get(&filter));
                    *map.entry_or(&filter, || value) = value;
                    model.insert(filter, value);
                }
                None => prop_assert_eq!(map.remove(&filter), model.remove(&filter)),
            }
            prop_assert_eq!(map.len(), model.len());
        }
        for topic in &topics {
            let mut found = Vec::new();
            map.for_each_match(topic, |value| found.push(*value));
            found.sort_unstable();
            let mut expected: Vec<u32> =
                model.iter().filter(|(filter, _)| naive_match(filter, topic)).map(|(_, value)| *value).collect();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
        for (filter, value) in &model {
            prop_assert_eq!(map.get_mut(filter).map(|value| *value), Some(*value));
            prop_assert_eq!(map.remove(filter), Some(*value));
        }
        prop_assert!(map.is_empty());
    }

    #[test]
    fn retained_map_agrees(changes in changes(topic()), filters in vec(filter(), 1..20), strangers in vec(topic(), 4)) {
        let mut map = RetainedMap::new();
        let mut model = BTreeMap::new();
        for (topic, change) in changes {
            match change {
                Some(value) => prop_assert_eq!(map.insert(&topic, value), model.insert(topic, value)),
                None => prop_assert_eq!(map.remove(&topic), model.remove(&topic)),
            }
            prop_assert_eq!(map.len(), model.len());
        }
        for filter in &filters {
            let expected: Vec<(String, u32)> = model
                .iter()
                .filter(|(topic, _)| naive_match(filter, topic))
                .map(|(topic, value)| (topic.clone(), *value))
                .collect();
            prop_assert_eq!(scanned(&map, filter, None, usize::MAX), &expected[..]);
            for most in [1, 2, 7] {
                prop_assert_eq!(scanned_in_parts(&map, filter, most), &expected[..]);
            }
            for position in 0..expected.len() {
                let after = &expected[position].0;
                prop_assert_eq!(scanned(&map, filter, Some(after), usize::MAX), &expected[position + 1..]);
                prop_assert_eq!(scanned(&map, filter, None, position + 1), &expected[..=position]);
            }
            for stranger in &strangers {
                let behind = expected.partition_point(|(topic, _)| topic <= stranger);
                prop_assert_eq!(scanned(&map, filter, Some(stranger), usize::MAX), &expected[behind..]);
            }
        }
    }
}
