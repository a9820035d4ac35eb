//! Knows what was acknowledged to publishers, and what subscribers received.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// A publisher's messages of one QoS on one topic, which is what order is kept in.
pub type Stream = (usize, u8);

/// What one durable subscriber received.
#[derive(Default)]
struct Received {
    /// By stream: every message in the order in which it came, repetitions of QoS 2 handshakes left out.
    sequences: BTreeMap<Stream, Vec<u64>>,
}

#[derive(Default)]
struct State {
    /// By stream: the messages that were acknowledged, and how many were published at all.
    acknowledged: BTreeMap<Stream, BTreeSet<u64>>,
    received: BTreeMap<String, Received>,
    /// Subscribers that get every message, those that share them, and those whose sessions end.
    every: BTreeSet<String>,
    sharing: BTreeSet<String>,
    complaints: Vec<String>,
    reconnects: u64,
}

#[derive(Default)]
pub struct Oracle(Mutex<State>);

impl Oracle {
    /// A subscriber that must get every message.
    pub fn expect_every(&self, name: &str) {
        let mut state = self.0.lock().unwrap();
        state.every.insert(name.to_owned());
        state.received.entry(name.to_owned()).or_default();
    }

    /// A subscriber that shares every message with others.
    pub fn expect_share(&self, name: &str) {
        let mut state = self.0.lock().unwrap();
        state.sharing.insert(name.to_owned());
        state.received.entry(name.to_owned()).or_default();
    }

    /// The broker has taken responsibility for a message.
    pub fn acknowledged(&self, stream: Stream, number: u64) {
        self.0.lock().unwrap().acknowledged.entry(stream).or_default().insert(number);
    }

    /// A message came.
    pub fn received(&self, name: &str, stream: Stream, number: u64) {
        let mut state = self.0.lock().unwrap();
        let received = state.received.get_mut(name).expect("a known subscriber");
        received.sequences.entry(stream).or_default().push(number);
    }

    /// Something happened that must not.
    pub fn complain(&self, complaint: String) {
        self.0.lock().unwrap().complaints.push(complaint);
    }

    pub fn reconnected(&self) {
        self.0.lock().unwrap().reconnects += 1;
    }

    /// Waits until the broker has acknowledged so many more.
    pub fn wait_for_more(&self, count: u64) {
        let count_now = || self.0.lock().unwrap().acknowledged.values().map(BTreeSet::len).sum::<usize>();
        let (until, wanted) = (Instant::now() + Duration::from_secs(60), count_now() + count as usize);
        while count_now() < wanted {
            assert!(Instant::now() < until, "nothing is acknowledged any more");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Everything that was acknowledged has come to everybody.
    pub fn is_complete(&self) -> bool {
        let state = self.0.lock().unwrap();
        state.lost().is_empty()
    }

    pub fn summary(&self) -> String {
        let state = self.0.lock().unwrap();
        let acknowledged: usize = state.acknowledged.values().map(BTreeSet::len).sum();
        let received: usize =
            state.received.values().flat_map(|received| received.sequences.values().map(Vec::len)).sum();
        format!("{acknowledged} acknowledged, {received} received, {} reconnects", state.reconnects)
    }

    /// What is wrong.
    pub fn verdict(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        let mut verdict = state.complaints.clone();
        verdict.extend(state.lost());
        for (name, received) in &state.received {
            for (stream, numbers) in &received.sequences {
                let firsts = first_occurrences(numbers);
                // Members of a group may hand a message on, which changes its place.
                if state.every.contains(name) && !firsts.is_sorted() {
                    let at = firsts.windows(2).find(|pair| pair[0] > pair[1]).unwrap();
                    verdict.push(format!("{name} got {stream:?} out of order: {} before {}", at[0], at[1]));
                }
                if stream.1 == 2 && firsts.len() != numbers.len() {
                    let mut seen = BTreeSet::new();
                    let twice: Vec<u64> = numbers.iter().copied().filter(|n| !seen.insert(*n)).collect();
                    verdict.push(format!("{name} got QoS 2 messages of {stream:?} twice: {twice:?}"));
                }
            }
        }
        let mut shared = BTreeMap::<(Stream, u64), Vec<&str>>::new();
        for name in &state.sharing {
            for (stream, numbers) in state.received[name].sequences.iter().filter(|(stream, _)| stream.1 == 2)
            {
                for number in numbers {
                    shared.entry((*stream, *number)).or_default().push(name);
                }
            }
        }
        let twice = shared.iter().filter(|(_, names)| names.len() > 1);
        verdict
            .extend(twice.take(20).map(|(what, names)| format!("QoS 2 message {what:?} went to {names:?}")));
        verdict
    }

    /// A run in which little happens shows little.
    pub fn check_that_much_happened(&self, kills: u64) {
        let state = self.0.lock().unwrap();
        let acknowledged: usize = state.acknowledged.values().map(BTreeSet::len).sum();
        assert!(
            acknowledged as u64 > 10 * kills,
            "only {acknowledged} messages in {kills} lives of the broker"
        );
        assert!(state.reconnects > kills, "clients did not come back");
    }
}

impl State {
    fn lost(&self) -> Vec<String> {
        let mut lost = Vec::new();
        let missing = |have: BTreeMap<Stream, BTreeSet<u64>>, who: &str, lost: &mut Vec<String>| {
            for (stream, numbers) in &self.acknowledged {
                let empty = BTreeSet::new();
                let got = have.get(stream).unwrap_or(&empty);
                let gone: Vec<u64> = numbers.difference(got).copied().take(20).collect();
                if !gone.is_empty() {
                    lost.push(format!("{who} did not get {gone:?} of {stream:?}"));
                }
            }
        };
        let sets = |names: &mut dyn Iterator<Item = &String>| {
            let mut have = BTreeMap::<Stream, BTreeSet<u64>>::new();
            for name in names {
                for (stream, numbers) in &self.received[name].sequences {
                    have.entry(*stream).or_default().extend(numbers);
                }
            }
            have
        };
        for name in &self.every {
            missing(sets(&mut std::iter::once(name)), name, &mut lost);
        }
        if !self.sharing.is_empty() {
            missing(sets(&mut self.sharing.iter()), "the group", &mut lost);
        }
        lost
    }
}

fn first_occurrences(numbers: &[u64]) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    numbers.iter().copied().filter(|number| seen.insert(*number)).collect()
}
