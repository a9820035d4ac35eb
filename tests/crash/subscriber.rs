//! Clients with durable sessions that receive.
use super::link::{Heard, Link, VERSION};
use super::oracle::Oracle;
use super::publisher::answer;
use super::support::{Kind, subscribe};
use super::{Rng, Scene};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How a subscriber behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// Connected whenever it can be.
    Stays,
    /// Away for a while now and then.
    ComesAndGoes,
    /// Takes its time with every answer.
    Slow,
    /// A member of a group.
    Shares,
}

pub struct Subscriber {
    name: String,
    manner: Manner,
    scene: Arc<Scene>,
    oracle: Arc<Oracle>,
    rng: Rng,
    /// QoS 2 packet ids that were received and not released; kept over connections.
    received: BTreeSet<u16>,
}

impl Subscriber {
    pub fn new(
        number: usize,
        manner: Manner,
        scene: Arc<Scene>,
        oracle: Arc<Oracle>,
        seed: u64,
    ) -> Subscriber {
        let name = format!("subscriber-{number}-{manner:?}");
        match manner {
            Manner::Shares => oracle.expect_share(&name),
            _ => oracle.expect_every(&name),
        }
        Subscriber { name, manner, scene, oracle, rng: Rng(seed), received: BTreeSet::new() }
    }

    /// Subscribes, and sees SUBACK.
    pub fn begin(&mut self) {
        let (mut link, has_session) =
            Link::open(&self.scene, &self.name, false).expect("a broker that lives");
        assert!(!has_session, "an old session");
        let filter = if self.manner == Manner::Shares { "$share/g/crash/#" } else { "crash/#" };
        link.send(&subscribe(VERSION, 1, &[(filter, 2)]));
        let until = Instant::now() + Duration::from_secs(20);
        while link.hear() != Heard::Suback {
            assert!(Instant::now() < until, "no SUBACK");
        }
    }

    pub fn run(&mut self) {
        while !self.scene.is_over() {
            let Some((mut link, has_session)) = Link::open(&self.scene, &self.name, false) else {
                thread::sleep(Duration::from_millis(2));
                continue;
            };
            if !has_session {
                self.oracle.complain(format!("the session of {} is lost", self.name));
                return;
            }
            self.oracle.reconnected();
            self.listen(&mut link);
            drop(link);
            if self.manner == Manner::ComesAndGoes && !self.scene.is_ending() {
                thread::sleep(Duration::from_millis(self.rng.below(300)));
            }
        }
    }

    fn listen(&mut self, link: &mut Link) {
        let mut patience = 200 + self.rng.below(2000);
        while !self.scene.is_over() {
            match link.hear() {
                Heard::Publish { qos: 1, id, payload, .. } => {
                    self.note(&payload);
                    answer(link, Kind::Puback, id);
                }
                Heard::Publish { qos: 2, id, payload, dup, .. } => {
                    if self.received.insert(id) {
                        self.note(&payload);
                    } else if !dup {
                        self.oracle
                            .complain(format!("{} got another message as {id}, which is in use", self.name));
                    }
                    answer(link, Kind::Pubrec, id);
                }
                Heard::Pubrel(id) => {
                    self.received.remove(&id);
                    answer(link, Kind::Pubcomp, id);
                }
                Heard::Nothing | Heard::Suback => {}
                Heard::Broken => return,
                other => panic!("a subscriber heard {other:?}"),
            }
            if self.manner == Manner::Slow && self.rng.below(20) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            patience -= 1;
            if patience == 0 {
                if self.manner == Manner::ComesAndGoes {
                    return;
                }
                patience = 2000;
            }
        }
    }

    fn note(&mut self, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload);
        let mut numbers = text.split(' ').map(|word| word.parse::<u64>());
        let mut next = || numbers.next().and_then(Result::ok).expect("a payload of this test");
        let stream = (next() as usize, next() as u8);
        self.oracle.received(&self.name, stream, next());
    }
}
