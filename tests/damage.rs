//! Files of a data directory that were cut or changed, each kind at several places: the broker starts, serves what is
//! intact, says what it lost, and can be used.
mod support;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use support::*;

/// Messages of the session, and their size: so much that the engine sorts some into tables.
const MESSAGES: usize = 34;
const SIZE: usize = 270_000;

/// What is done to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Damage {
    CutToNothing,
    CutInTheMiddle,
    LastByteCut,
    FirstByteFlipped,
    MiddleFlipped,
    LastByteFlipped,
}
use Damage::*;

const ALL: [Damage; 6] =
    [CutToNothing, CutInTheMiddle, LastByteCut, FirstByteFlipped, MiddleFlipped, LastByteFlipped];

impl Damage {
    fn apply(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        // Journals are longer than what is written in them.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut flip = |at: usize| {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x10;
            }
        };
        match self {
            CutToNothing => bytes.clear(),
            CutInTheMiddle => bytes.truncate(used / 2),
            LastByteCut => bytes.truncate(used.saturating_sub(1)),
            FirstByteFlipped => flip(0),
            MiddleFlipped => flip(used / 2),
            LastByteFlipped => flip(used.saturating_sub(1)),
        }
        // The original may be the same file by another name.
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn payload(number: usize) -> String {
    format!("{number:04}{}", "x".repeat(SIZE))
}

/// A data directory with a session that has messages in tables and in the journal, and a retained message.
fn filled(mine: &Connect) -> Place {
    let place = Place::new();
    let broker = place.start(1);
    let mut client = Client::connect(&broker, mine);
    client.subscribe("t", 1);
    client.disconnect();
    let mut publisher = Client::new(&broker, Version::V5);
    publisher.publish_with(&Publish::new("kept", "value").qos(1).retain());
    (0..MESSAGES).for_each(|number| publisher.publish("t", 1, payload(number)));
    let queue = place.0.join("engine/keyspaces");
    let has_tables = |space: &Path| {
        space.file_name().is_some_and(|name| name != "0")
            && fs::read_dir(space.join("tables")).is_ok_and(|mut tables| tables.next().is_some())
    };
    while !fs::read_dir(&queue).unwrap().any(|space| has_tables(&space.unwrap().path())) {
        thread::yield_now();
    }
    // What is sorted into the table is also in the list of tables.
    sync_all(&broker);
    kill(broker);
    place
}

/// A kind of file: the same for all folders of tables but the engine's own.
fn kind(inner: &Path) -> String {
    let names: Vec<&str> = inner.iter().map(|name| name.to_str().unwrap()).collect();
    let number = |name: &str| if name == "0" { "0" } else { "N" }.to_string();
    match names[..] {
        ["engine", "keyspaces", space, "tables", _] => format!("keyspaces/{}/tables/N", number(space)),
        ["engine", "keyspaces", space, name] if name.starts_with('v') => {
            format!("keyspaces/{}/vN", number(space))
        }
        ["engine", "keyspaces", space, name] => format!("keyspaces/{}/{name}", number(space)),
        _ => inner.display().to_string(),
    }
}

/// Another directory with the same files: tables, which are large and written once, are linked, others copied.
fn twin(original: &Place) -> Place {
    let twin = Place::new();
    for file in files_below(&original.0) {
        let target = twin.0.join(file.strip_prefix(&original.0).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        match file.parent().unwrap().ends_with("tables") {
            true => fs::hard_link(&file, &target).unwrap(),
            false => drop(fs::copy(&file, &target).unwrap()),
        }
    }
    twin
}

#[test]
fn the_broker_starts_and_says_what_it_lost_wherever_a_file_is_damaged() {
    let mine = Connect::new(Version::V5, "mine").persistent();
    let place = filled(&mine);
    // Of each kind the file that is used: the newest list, the last table.
    let mut kinds = std::collections::BTreeMap::new();
    for file in files_below(&place.0) {
        let inner = file.strip_prefix(&place.0).unwrap().to_owned();
        let age = |path: &Path| fs::metadata(place.0.join(path)).unwrap().modified().unwrap();
        let known = kinds.entry(kind(&inner)).or_insert_with(|| inner.clone());
        // The session's messages are the largest table, and its folder is the one to look at.
        let size = |path: &Path| fs::metadata(place.0.join(path)).unwrap().len();
        let is_better = match inner.parent().is_some_and(|folder| folder.ends_with("tables")) {
            true => size(&inner) > size(known),
            false => age(&inner) > age(known),
        };
        if is_better {
            *known = inner;
        }
    }
    assert!(kinds.len() >= 10, "{kinds:?}");
    // Nobody reads what is in a file that is only locked.
    let is_only_locked = |inner: &Path| inner.ends_with("LOCK") || inner.ends_with("lock");
    let cases = kinds.values().flat_map(|inner| ALL.map(|damage| (inner, damage)));
    let cases: Vec<(&PathBuf, Damage)> =
        cases.filter(|(inner, damage)| !is_only_locked(inner) || *damage == CutToNothing).collect();
    let (place, mine) = (&place, &mine);
    thread::scope(|scope| {
        for part in cases.chunks(cases.len().div_ceil(4)) {
            scope.spawn(move || part.iter().for_each(|(inner, damage)| begin(place, mine, inner, *damage)));
        }
    });
}

fn begin(original: &Place, mine: &Connect, inner: &Path, damage: Damage) {
    let what = format!("{} {damage:?}", inner.display());
    let place = twin(original);
    damage.apply(&place.0.join(inner));
    if inner == Path::new("FORMAT") && damage != LastByteCut {
        // What it says decides how everything else is read, so it is not guessed. The end of its line does not matter.
        let (code, said) = place.refused();
        let is_sentence = said.lines().count() == 1 && said.contains("restore that file");
        return assert!(code == Some(2) && is_sentence, "{what}: {said}");
    }
    let broker = place.start(1);
    let mut client = Client::connect(&broker, mine);
    // The subscription, too, may be what was lost.
    let (_, mut got) = client.subscribe_amid(&[("t", 1)]);
    got.iter().for_each(|message| client.finish(message));
    let mut publisher = Client::new(&broker, Version::V5);
    publisher.publish("t", 1, END);
    got.extend(client.messages_until_end());
    let numbers: Vec<usize> =
        got.iter().map(|message| String::from_utf8_lossy(&message.payload[..4]).parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "{what}: {numbers:?}");
    for (message, number) in got.iter().zip(&numbers) {
        assert!(message.payload == payload(*number).as_bytes(), "{what}: message {number} is not as it was");
    }
    let mut reader = Client::new(&broker, Version::V5);
    reader.subscribe("end", 0);
    let (_, mut retained) = reader.subscribe_amid(&[("kept", 0)]);
    publisher.publish("end", 0, "");
    while retained.last().is_none_or(|message| message.topic != "end") {
        retained.push(reader.expect_publish());
    }
    retained.pop();
    assert!(retained.iter().all(|message| message.payload == b"value"), "{what}: {retained:?}");
    let lost = MESSAGES - numbers.len() + 1 - retained.len();
    let said = broker.said();
    assert!(lost == 0 || said.contains("is damaged"), "{what}: {lost} lost without a word: {said}");
}
