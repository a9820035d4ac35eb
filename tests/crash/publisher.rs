//! A client that publishes at QoS 1 and 2 with a window, and repeats what was not acknowledged.
use super::link::{Heard, Link, VERSION};
use super::oracle::{Oracle, Stream};
use super::support::{Ack, Kind, Properties, Publish, ack, publish};
use super::{Rng, Scene};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Messages under way at most.
const WINDOW: usize = 16;
/// How long one message may take, kills included.
const PATIENCE: Duration = Duration::from_secs(120);

/// A message under way.
struct Message {
    id: u16,
    qos: u8,
    number: u64,
    size: usize,
    is_released: bool,
    since: Instant,
}

pub struct Publisher {
    number: usize,
    scene: Arc<Scene>,
    oracle: Arc<Oracle>,
    rng: Rng,
    window: VecDeque<Message>,
    last_id: u16,
    /// By QoS.
    last_number: [u64; 3],
    knows_session: bool,
}

/// What a message carries: who sent it, its number, and filling.
pub fn payload(stream: Stream, number: u64, size: usize) -> Vec<u8> {
    let mut bytes = format!("{} {} {number} ", stream.0, stream.1).into_bytes();
    bytes.resize(bytes.len().max(size), b'.');
    bytes
}

impl Publisher {
    pub fn new(number: usize, scene: Arc<Scene>, oracle: Arc<Oracle>, seed: u64) -> Publisher {
        Publisher {
            number,
            scene,
            oracle,
            rng: Rng(seed),
            window: VecDeque::new(),
            last_id: 0,
            last_number: [0; 3],
            knows_session: false,
        }
    }

    pub fn run(&mut self) {
        while !(self.scene.is_ending() && self.window.is_empty()) {
            let name = format!("publisher-{}", self.number);
            let Some((mut link, has_session)) = Link::open(&self.scene, &name, false) else {
                thread::sleep(Duration::from_millis(2));
                continue;
            };
            if self.knows_session && !has_session {
                self.oracle.complain(format!("the session of {name} is lost"));
            }
            self.knows_session = true;
            self.oracle.reconnected();
            self.repeat(&mut link);
            self.go_on(&mut link);
        }
    }

    fn repeat(&mut self, link: &mut Link) {
        for at in 0..self.window.len() {
            self.send(link, at, true);
        }
    }

    fn send(&self, link: &mut Link, at: usize, dup: bool) {
        let Message { id, qos, number, size, is_released, .. } = self.window[at];
        if is_released {
            return answer(link, Kind::Pubrel, id);
        }
        let stream = (self.number, qos);
        let topic = format!("crash/{}/{qos}", self.number);
        let message = Publish { dup, ..Publish::new(&topic, payload(stream, number, size)).qos(qos).id(id) };
        link.send(&publish(VERSION, &message));
    }

    fn go_on(&mut self, link: &mut Link) {
        let lives_for = self.rng.below(400);
        let mut count = 0;
        loop {
            while self.window.len() < WINDOW && !self.scene.is_ending() && self.rng.below(10) > 0 {
                self.begin();
                self.send(link, self.window.len() - 1, false);
            }
            match link.hear() {
                Heard::Puback(id) => self.finish(id, 1),
                Heard::Pubrec(id) => {
                    if let Some(message) = self.window.iter_mut().find(|message| message.id == id) {
                        if !message.is_released {
                            // From here on the broker has the message.
                            self.oracle.acknowledged((self.number, 2), message.number);
                        }
                        message.is_released = true;
                    }
                    answer(link, Kind::Pubrel, id);
                }
                Heard::Pubcomp(id) => self.finish(id, 2),
                Heard::Nothing => {}
                Heard::Broken => return,
                other => panic!("a publisher heard {other:?}"),
            }
            let oldest = self.window.front().map_or(Duration::ZERO, |message| message.since.elapsed());
            assert!(oldest < PATIENCE, "a message is not acknowledged");
            if self.scene.is_ending() && self.window.is_empty() {
                return;
            }
            count += 1;
            // Some connections end by themselves, without a word.
            if count > lives_for && self.rng.below(200) == 0 {
                return;
            }
        }
    }

    fn begin(&mut self) {
        loop {
            self.last_id = self.last_id % 40 + 1;
            if self.window.iter().all(|message| message.id != self.last_id) {
                break;
            }
        }
        let qos = 1 + self.rng.below(2) as u8;
        let number = &mut self.last_number[usize::from(qos)];
        *number += 1;
        let size = [10, 60, 500, 5000][self.rng.below(4) as usize];
        let (number, id) = (*number, self.last_id);
        self.window.push_back(Message { id, qos, number, size, is_released: false, since: Instant::now() });
    }

    fn finish(&mut self, id: u16, qos: u8) {
        let Some(at) = self.window.iter().position(|message| message.id == id) else { return };
        let message = self.window.remove(at).unwrap();
        assert_eq!(message.qos, qos, "an acknowledgement of the wrong kind");
        self.oracle.acknowledged((self.number, qos), message.number);
    }
}

pub fn answer(link: &mut Link, kind: Kind, id: u16) {
    link.send(&ack(VERSION, &Ack { kind, id, code: 0, properties: Properties::new() }));
}
