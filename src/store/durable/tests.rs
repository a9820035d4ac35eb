use super::directory::Directory;
use super::engine::{Engine, Persist};
use super::load::{Purpose, open};
use crate::session::tail::Window;
use crate::store::assembly::{Change, Round};
use crate::store::record::{self, Wall};
use crate::store::{Space, key};
use std::fs;
use std::path::PathBuf;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("ringmq-store-{name}-{}", std::process::id()));
        fs::remove_dir_all(&path).ok();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn message(topic: &str, payload: &[u8]) -> bytes::Bytes {
    let message = crate::session::message::Message::new(
        topic,
        &[],
        payload,
        crate::codec::QoS::AtLeastOnce,
        true,
        crate::time::Time::NEVER,
        crate::session::message::SessionKey(1),
    );
    record::encode_message(Wall(0), &message)
}

fn write(engine: &Engine, topics: std::ops::Range<u32>, fill: usize) {
    let mut round = Round::default();
    for number in topics {
        let topic = format!("topic/{number:05}");
        let value = message(&topic, &vec![number as u8; fill]);
        round.changes.insert((Space::Retained, key::retained(&topic)), Change::Put(value));
    }
    engine.commit(&round.changes, Persist::System).unwrap();
}

#[test]
fn a_damaged_table_costs_its_damaged_block() {
    let folder = Folder::new("table");
    let opened =
        open(Directory::take(&folder.0, true).unwrap(), Wall(0), Purpose::Begin(Window::ALL)).unwrap();
    write(&opened.engine, 0..2000, 1000);
    opened.engine.sort_into_tables(Space::Retained).unwrap();
    write(&opened.engine, 2000..2010, 10);
    opened.engine.flush().unwrap();
    drop(opened);
    let tables = folder.0.join("engine/keyspaces/8/tables");
    let largest = fs::read_dir(tables).unwrap().map(|entry| entry.unwrap().path());
    let largest = largest.max_by_key(|path| fs::metadata(path).unwrap().len()).expect("a table");
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(&largest, &bytes).unwrap();

    let opened =
        open(Directory::take(&folder.0, true).unwrap(), Wall(0), Purpose::Begin(Window::ALL)).unwrap();
    let kept = opened.recovered.retained.len();
    assert!((1900..2010).contains(&kept), "{kept} of 2010 are left");
    assert_eq!(opened.set_aside.len(), 1);
    assert!(opened.set_aside[0].to_string().contains("retained"), "{}", opened.set_aside[0]);
    assert!(opened.set_aside[0].kept_in.as_ref().is_some_and(|path| path.exists()));
    drop(opened);
    let opened =
        open(Directory::take(&folder.0, true).unwrap(), Wall(0), Purpose::Begin(Window::ALL)).unwrap();
    assert_eq!((opened.recovered.retained.len(), opened.set_aside.len(), opened.run), (kept, 0, 3));
}

#[test]
fn a_lost_list_of_tables_costs_one_kind_of_record() {
    let folder = Folder::new("list");
    let opened =
        open(Directory::take(&folder.0, true).unwrap(), Wall(0), Purpose::Begin(Window::ALL)).unwrap();
    write(&opened.engine, 0..100, 10);
    opened.engine.sort_into_tables(Space::Retained).unwrap();
    let session = record::encode_session(Wall(0), "id", 9, None, crate::time::Time::NEVER, None, None);
    let put = [(Space::Session, key::session(1), session.to_vec())];
    opened.engine.repair(&put, &[]).unwrap();
    opened.engine.sort_into_tables(Space::Session).unwrap();
    drop(opened);
    fs::remove_file(folder.0.join("engine/keyspaces/2/current")).unwrap();
    let opened =
        open(Directory::take(&folder.0, true).unwrap(), Wall(0), Purpose::Begin(Window::ALL)).unwrap();
    assert_eq!(opened.recovered.retained.len(), 100);
    assert!(opened.set_aside.iter().any(|damage| damage.what.contains("session")), "{:?}", opened.set_aside);
}

#[test]
fn records_that_say_nothing_are_set_aside_once() {
    let folder = Folder::new("records");
    let opened =
        open(Directory::take(&folder.0, true).unwrap(), Wall(0), Purpose::Begin(Window::ALL)).unwrap();
    let put = [
        (Space::Retained, key::retained("good"), message("good", b"1").to_vec()),
        (Space::Retained, key::retained("bad"), b"nonsense".to_vec()),
        (Space::Queue, key::entry(5, 1), b"\x01".to_vec()),
        (Space::Message, key::number(3), message("nobody's", b"1").to_vec()),
    ];
    opened.engine.repair(&put, &[]).unwrap();
    drop(opened);
    let opened =
        open(Directory::take(&folder.0, true).unwrap(), Wall(0), Purpose::Begin(Window::ALL)).unwrap();
    assert_eq!((opened.recovered.retained.len(), opened.set_aside.len()), (1, 2));
    let kept = fs::read_to_string(opened.set_aside[0].kept_in.as_ref().unwrap()).unwrap();
    assert!(kept.contains("retained 626164 6e6f6e73656e7365"), "{kept}");
    drop(opened);
    let opened =
        open(Directory::take(&folder.0, true).unwrap(), Wall(0), Purpose::Begin(Window::ALL)).unwrap();
    assert_eq!((opened.recovered.retained.len(), opened.set_aside.len()), (1, 0));
}
