//! Checks every delivery of one subscriber: content, topic, sequence.
use super::payload::{Pattern, Stamp, mix};
use super::wire::Publish;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// Missing stretches remembered per subscriber; beyond it late messages count as duplicates.
const MAX_GAPS: usize = 4096;

/// What was found.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Deliveries that verified.
    pub received: u64,
    /// Messages that never came.
    pub lost: u64,
    /// Messages that came again.
    pub duplicated: u64,
    /// Messages that came after a later one.
    pub reordered: u64,
    /// Payloads that are not what was sent, or not whole packets.
    pub corrupt: u64,
    /// Messages with another topic or to another subscriber than they were sent to.
    pub misrouted: u64,
    /// Messages with another QoS than was asked for.
    pub wrong_qos: u64,
}

impl Findings {
    /// Everything that is not as it should be.
    pub fn faults(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.corrupt + self.misrouted + self.wrong_qos
    }

    /// Adds up.
    pub fn merge(&mut self, other: &Findings) {
        self.received += other.received;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.misrouted += other.misrouted;
        self.wrong_qos += other.wrong_qos;
    }
}

/// What a member of a group saw of one stream.
#[derive(Clone, Copy, Default)]
struct Share {
    count: u64,
    digest: u64,
}

/// Verifies what one subscriber receives.
pub struct Verifier {
    first: usize,
    next: Vec<u64>,
    gaps: BTreeMap<(usize, u64), u64>,
    shares: Option<Vec<Share>>,
    qos: u8,
    /// What was found so far.
    pub findings: Findings,
}

impl Verifier {
    /// For a subscriber of these streams; `shared` when others of its group get some of them.
    pub fn new(streams: Range<usize>, qos: u8, shared: bool) -> Self {
        Self {
            first: streams.start,
            next: vec![0; streams.len()],
            gaps: BTreeMap::new(),
            shares: shared.then(|| vec![Share::default(); streams.len()]),
            qos,
            findings: Findings::default(),
        }
    }

    /// Checks a delivery; the stamp if it counts as received.
    #[inline]
    pub fn check(&mut self, pattern: &Pattern, topics: &[String], message: &Publish<'_>) -> Option<Stamp> {
        let Some(stamp) = pattern.verify(message.payload) else {
            self.findings.corrupt += 1;
            return None;
        };
        let at = (stamp.stream as usize).wrapping_sub(self.first);
        let Some(next) = self.next.get_mut(at) else {
            self.findings.misrouted += 1;
            return None;
        };
        if message.topic != topics[stamp.stream as usize].as_bytes() {
            self.findings.misrouted += 1;
            return None;
        }
        self.findings.wrong_qos += u64::from(message.qos != self.qos);
        if let Some(shares) = &mut self.shares {
            shares[at].count += 1;
            shares[at].digest = shares[at].digest.wrapping_add(mix(stamp.sequence + 1));
            self.findings.reordered += u64::from(stamp.sequence < *next);
            *next = (*next).max(stamp.sequence + 1);
        } else if stamp.sequence == *next {
            *next += 1;
        } else if !self.out_of_turn(at, stamp.sequence) {
            return None;
        }
        self.findings.received += 1;
        Some(stamp)
    }

    /// A message that is not the next one; false if it was there before.
    #[cold]
    fn out_of_turn(&mut self, at: usize, sequence: u64) -> bool {
        let next = self.next[at];
        if sequence > next {
            self.findings.lost += sequence - next;
            if self.gaps.len() < MAX_GAPS {
                self.gaps.insert((at, next), sequence);
            }
            self.next[at] = sequence + 1;
            return true;
        }
        let gap = self.gaps.range(..=(at, sequence)).next_back().map(|(key, end)| (*key, *end));
        match gap {
            Some(((stream, start), end)) if stream == at && sequence < end => {
                self.gaps.remove(&(stream, start));
                if start < sequence {
                    self.gaps.insert((stream, start), sequence);
                }
                if sequence + 1 < end {
                    self.gaps.insert((stream, sequence + 1), end);
                }
                self.findings.lost -= 1;
                self.findings.reordered += 1;
                true
            }
            _ => {
                self.findings.duplicated += 1;
                false
            }
        }
    }

    /// Adds what is missing at the end, when `sent(stream)` messages had been sent. For members of
    /// a group [`settle_group`] does that.
    pub fn settle(&mut self, sent: impl Fn(usize) -> u64) {
        if self.shares.is_none() {
            for (at, next) in self.next.iter().enumerate() {
                self.findings.lost += sent(self.first + at).saturating_sub(*next);
            }
        }
    }
}

/// Checks that the members of one group together got every message exactly once: by count, and,
/// because a loss and a duplicate hide each other in a count, by a digest over sequence numbers.
pub fn settle_group<'a>(
    members: impl Iterator<Item = &'a Verifier>,
    streams: Range<usize>,
    sent: impl Fn(usize) -> u64,
) -> Findings {
    let mut sums = vec![Share::default(); streams.len()];
    for share in members.flat_map(|member| member.shares.iter().flat_map(|s| s.iter().enumerate())) {
        sums[share.0].count += share.1.count;
        sums[share.0].digest = sums[share.0].digest.wrapping_add(share.1.digest);
    }
    let mut findings = Findings::default();
    for (stream, sum) in streams.zip(sums) {
        let sent = sent(stream);
        let whole = || (1..=sent).fold(0_u64, |digest, n| digest.wrapping_add(mix(n)));
        if sum.count < sent {
            findings.lost += sent - sum.count;
        } else if sum.count > sent {
            findings.duplicated += sum.count - sent;
        } else if sum.digest != whole() {
            findings.lost += 1;
            findings.duplicated += 1;
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 32;

    struct Bench {
        pattern: Pattern,
        topics: Vec<String>,
        verifier: Verifier,
    }

    impl Bench {
        fn new(shared: bool) -> Self {
            let topics = vec!["t/0".into(), "t/1".into(), "t/2".into()];
            Self { pattern: Pattern::new(LEN), topics, verifier: Verifier::new(0..2, 0, shared) }
        }

        fn take(&mut self, stream: u32, sequence: u64, topic: &str) -> bool {
            let mut payload = [0; LEN];
            self.pattern.write(Stamp { stream, sequence, time: 5 }, &mut payload);
            let message = Publish { qos: 0, id: 0, topic: topic.as_bytes(), payload: &payload };
            self.verifier.check(&self.pattern, &self.topics, &message).is_some()
        }
    }

    #[test]
    fn in_order_and_complete_is_clean() {
        let mut bench = Bench::new(false);
        for sequence in 0..5 {
            assert!(bench.take(0, sequence, "t/0") && bench.take(1, sequence, "t/1"));
        }
        bench.verifier.settle(|_| 5);
        assert_eq!(bench.verifier.findings, Findings { received: 10, ..Findings::default() });
    }

    #[test]
    fn gaps_are_lost_until_filled_late() {
        let mut bench = Bench::new(false);
        assert!(bench.take(0, 0, "t/0") && bench.take(0, 5, "t/0"));
        assert_eq!(bench.verifier.findings.lost, 4);
        assert!(bench.take(0, 3, "t/0"));
        assert!(!bench.take(0, 3, "t/0"), "the second time it is a duplicate");
        bench.verifier.settle(|stream| if stream == 0 { 8 } else { 0 });
        let expected =
            Findings { received: 3, lost: 3 + 2, reordered: 1, duplicated: 1, ..Findings::default() };
        assert_eq!(bench.verifier.findings, expected);
    }

    #[test]
    fn foreign_streams_and_topics_are_misrouted() {
        let mut bench = Bench::new(false);
        assert!(!bench.take(2, 0, "t/2"));
        assert!(!bench.take(0, 0, "t/1"));
        assert_eq!(bench.verifier.findings.misrouted, 2);
    }

    #[test]
    fn a_group_is_complete_only_together() {
        let (mut one, mut other) = (Bench::new(true), Bench::new(true));
        one.take(0, 0, "t/0");
        one.take(0, 2, "t/0");
        other.take(0, 1, "t/0");
        let sent = |stream| if stream == 0 { 3 } else { 0 };
        let settle = |a: &Bench, b: &Bench| settle_group([&a.verifier, &b.verifier].into_iter(), 0..2, sent);
        assert_eq!(settle(&one, &other).faults(), 0);
        let mut third = Bench::new(true);
        third.take(0, 2, "t/0");
        let findings = settle(&one, &third);
        assert_eq!((findings.lost, findings.duplicated), (1, 1), "the counts agree, the digest does not");
    }
}
