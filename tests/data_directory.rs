//! What a data directory may do to a broker: be damaged, in use, of another version, no data directory at all; and what
//! `ringmq store` says about it.
mod support;
use std::fs;
use std::path::{Path, PathBuf};
use support::*;

#[test]
fn a_directory_that_cannot_be_used_is_refused_in_one_sentence() {
    let place = Place::new();
    let broker = place.start(1);
    let (code, said) = place.refused();
    assert_eq!(code, Some(2));
    assert!(said.contains("in use by another process") && said.lines().count() == 1, "{said}");
    assert_eq!(place.look("check").status.code(), Some(2));
    kill(broker);

    fs::write(place.0.join("FORMAT"), "ringmq store 99\n").unwrap();
    let (code, said) = place.refused();
    assert_eq!(code, Some(2));
    assert!(said.contains("format 99") && said.lines().count() == 1, "{said}");
    fs::write(place.0.join("FORMAT"), "something else\n").unwrap();
    assert!(place.refused().1.contains("does not say which format"));

    let foreign = Place::new();
    fs::create_dir(&foreign.0).unwrap();
    fs::write(foreign.0.join("letter.txt"), "dear").unwrap();
    assert!(foreign.refused().1.contains("is not a data directory of ringmq"));
    let below = Place(foreign.0.join("letter.txt"));
    let (code, said) = below.refused();
    assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
    let nowhere = Place(foreign.0.join("not").join("there"));
    assert!(nowhere.refused().1.contains("make that first"));
}

#[test]
fn damage_in_the_journal_costs_what_is_damaged_and_is_told() {
    let place = Place::new();
    let broker = place.start(1);
    let names: Vec<String> = (0..40).map(|n| format!("topic/{n:02}")).collect();
    let mut publisher = Client::new(&broker, Version::V5);
    for name in &names {
        publisher.publish_with(&Publish::new(name, format!("value of {name}")).qos(1).retain());
    }
    kill(broker);
    let journal = place.journal();
    let mut bytes = fs::read(&journal).unwrap();
    let at = bytes.windows(17).position(|window| window == b"value of topic/20").unwrap();
    bytes[at] ^= 0x40;
    fs::write(&journal, &bytes).unwrap();
    let check = place.look("check");
    let said = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(said.contains("from byte") && said.contains("is damaged"), "{said}");

    let broker = place.start(2);
    assert!(broker.said().contains("is damaged"), "{}", broker.said());
    let mut reader = Client::new(&broker, Version::V5);
    let (_, mut retained) = reader.subscribe_amid(&[("topic/#", 0)]);
    while retained.len() < 39 {
        retained.push(reader.expect_publish());
    }
    reader.expect_nothing_until_ping();
    assert!(retained.iter().all(|message| message.topic != "topic/20"));
    assert_eq!(fs::read_dir(place.0.join("set-aside")).unwrap().count(), 1);
    kill(broker);
    assert_eq!(place.look("check").status.code(), Some(0));
}

#[test]
fn the_broker_starts_whatever_became_of_its_files() {
    let place = Place::new();
    let broker = place.start(1);
    let mine = Connect::new(Version::V5, "mine").persistent();
    let mut client = Client::connect(&broker, &mine);
    client.subscribe("t", 1);
    client.disconnect();
    let mut publisher = Client::new(&broker, Version::V5);
    (0..50).for_each(|n| publisher.publish("t", 1, n.to_string()));
    kill(broker);
    let engine = place.0.join("engine");
    let files: Vec<PathBuf> =
        files_below(&engine).into_iter().filter(|file| is_example(&engine, file)).collect();
    assert!(files.len() >= 4, "{files:?}");
    let (files, mine) = (&files, &mine);
    std::thread::scope(|scope| {
        for way in ["truncate", "flip", "remove"] {
            let place = &place;
            scope.spawn(move || {
                for file in files {
                    let damaged = Place::new();
                    copy(&place.0, &damaged.0);
                    damage(&damaged.0.join(file.strip_prefix(&place.0).unwrap()), way);
                    begin_with_damage(&damaged, mine, file);
                }
            });
        }
    });
}

fn damage(file: &Path, way: &str) {
    let mut bytes = fs::read(file).unwrap();
    match way {
        "truncate" => fs::write(file, &bytes[..bytes.len().min(4096) / 2]).unwrap(),
        "remove" => fs::remove_file(file).unwrap(),
        _ => {
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            (0..used).step_by(97).for_each(|at| bytes[at] ^= 0x55);
            fs::write(file, &bytes).unwrap();
        }
    }
}

/// The broker starts, serves what is intact, and can be used.
fn begin_with_damage(place: &Place, mine: &Connect, file: &Path) {
    let broker = place.start(1);
    if file.extension().is_none_or(|extension| extension != "jnl") {
        let mut client = resume(&broker, mine);
        let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        assert_eq!(payloads(&client.messages(50)), expected, "{}", file.display());
    }
    let mut client = Client::connect(&broker, &Connect::new(Version::V5, "new").persistent());
    client.subscribe("new", 1);
    Client::new(&broker, Version::V5).publish("new", 1, "1");
    client.expect_message("new", "1");
}

/// One file of each kind is enough: of the list of all kinds of records, and of the queue's.
fn is_example(engine: &Path, file: &Path) -> bool {
    let inner = file.strip_prefix(engine).unwrap();
    let names: Vec<&str> = inner.iter().map(|name| name.to_str().unwrap()).collect();
    matches!(names[..], ["version"] | ["keyspaces", "0" | "5", "current"])
        || inner.extension().is_some_and(|e| e == "jnl")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { assert!(fs::copy(&path, &target).is_ok()) }
    }
}

#[test]
fn a_dump_names_what_is_there() {
    let place = Place::new();
    let broker = place.start(2);
    let mine = Connect::new(Version::V5, "mine").persistent().will(Will::new("w", "last words"));
    let mut client = Client::connect(&broker, &mine);
    client.subscribe("t/+", 2);
    let mut publisher = Client::connect(&broker, &Connect::new(Version::V5, "publisher").persistent());
    publisher.publish("t/1", 1, "first");
    client.expect_publish();
    publisher.send_publish(&Publish::new("t/2", "second").qos(2).id(77).retain());
    publisher.expect_ack(Kind::Pubrec, 77);
    kill(broker);
    let dump = String::from_utf8(place.look("dump").stdout).unwrap();
    for line in [
        "session \"mine\"",
        "will \"mine\" delay 0s",
        "last words",
        "subscription \"mine\" \"t/+\" QoS 2",
        "message \"mine\" 1 sent as 1 QoS 1 \"t/1\"",
        "\"second\"",
        "unreleased \"publisher\" packet id 77",
        "retained \"t/2\"",
    ] {
        assert!(dump.contains(line), "{line:?} is not in\n{dump}");
    }
    let check = String::from_utf8(place.look("check").stdout).unwrap();
    assert!(
        check.contains("sessions           2") && check.contains("damaged            nothing"),
        "{check}"
    );
}
