//! Who publishes what to whom: the topology of a traffic scenario.
use super::error::BenchError;
use super::open::{Filters, Target};
use super::payload::{MAX_STREAMS, MIN_PAYLOAD};
use std::ops::Range;

/// How messages are let go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as they arrive: at most this many messages of a publisher are under way.
    Window(usize),
    /// Open loop: messages per second over all publishers, each with its scheduled time.
    Rate(f64),
}

/// One subscriber of a plan.
#[derive(Clone, Debug)]
pub struct SubscriberPlan {
    /// What it subscribes to.
    pub filters: Vec<String>,
    /// The streams whose messages reach it (or its group).
    pub streams: Range<usize>,
    /// The shared-subscription group it belongs to.
    pub group: Option<usize>,
}

/// A whole traffic scenario.
pub struct Plan {
    /// The broker.
    pub target: Target,
    /// Prefix of client identifiers and topics, so that runs do not meet.
    pub run: String,
    /// QoS of publishes and subscriptions.
    pub qos: u8,
    /// Payload length in bytes.
    pub payload: usize,
    /// Number of publishers.
    pub publishers: usize,
    /// Topics of each publisher, used in turn.
    pub topics_each: usize,
    /// Topic of every stream; stream `p * topics_each + t` is topic `t` of publisher `p`.
    pub topics: Vec<String>,
    /// The subscribers.
    pub subscribers: Vec<SubscriberPlan>,
    /// Deliveries of one message.
    pub fan_out: usize,
    /// Filters that are loaded but match nothing that is published, and their connections.
    pub ballast: Vec<Filters>,
    /// Saturated or open loop.
    pub pace: Pace,
    /// Messages under way per publisher at QoS 1 and 2 (also bounds open-loop runs).
    pub in_flight: usize,
    /// Load threads.
    pub threads: usize,
    /// Cores they are pinned to, in turn; not pinned when empty.
    pub cores: Vec<usize>,
}

/// The shape of a plan, before the names are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Publisher i to subscriber i.
    Pairs,
    /// Every publisher to every subscriber, one filter per topic.
    FanOut,
    /// Every publisher to every subscriber, one wildcard filter.
    FanIn,
    /// Every publisher to groups that share a wildcard filter.
    Shared {
        /// Number of groups; each gets every message once.
        groups: usize,
    },
    /// Pairs over many topics, matched by `+` in a trie with many other filters.
    Wildcard,
}

/// The numbers of a topology.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Publishers.
    pub publishers: usize,
    /// Subscribers (pairs and wildcard: as many as publishers).
    pub subscribers: usize,
    /// Topics of each publisher.
    pub topics: usize,
    /// Filters loaded as ballast.
    pub filters: usize,
}

/// Levels the wildcard scenario's trie has per node.
const TRIE_WIDTH: usize = 100;
/// Ballast filters held by one connection.
const FILTERS_PER_HOLDER: usize = 10_000;

/// Topics, subscribers, deliveries per message and ballast of a shape.
pub type Topology = (Vec<String>, Vec<SubscriberPlan>, usize, Vec<Filters>);

impl Shape {
    /// Makes the names.
    ///
    /// # Errors
    /// Numbers that do not fit the shape.
    pub fn topology(self, run: &str, counts: Counts, payload: usize) -> Result<Topology, BenchError> {
        let Counts { publishers, subscribers, topics: each, filters } = counts;
        let streams = publishers.saturating_mul(each);
        if streams == 0 || subscribers == 0 {
            return Err(BenchError::Usage("there must be publishers, subscribers and topics".into()));
        }
        if streams > MAX_STREAMS {
            return Err(BenchError::Usage(format!(
                "at most {MAX_STREAMS} topics over all publishers, not {streams}"
            )));
        }
        if payload < MIN_PAYLOAD {
            return Err(BenchError::Usage(format!("a verified payload needs at least {MIN_PAYLOAD} bytes")));
        }
        if matches!(self, Shape::Pairs | Shape::Wildcard) && subscribers != publishers {
            return Err(BenchError::Usage("pairs have as many subscribers as publishers".into()));
        }
        let all = 0..streams;
        let own = |i: usize| i * each..(i + 1) * each;
        let topics =
            all.clone().map(|stream| self.topic(run, stream / each, stream % each)).collect::<Vec<_>>();
        let plain = |filters, streams| SubscriberPlan { filters, streams, group: None };
        let (plans, fan_out) = match self {
            Shape::Pairs => ((0..subscribers).map(|i| plain(topics[own(i)].to_vec(), own(i))).collect(), 1),
            Shape::Wildcard => {
                ((0..subscribers).map(|i| plain(vec![format!("{run}/+/+/p{i}")], own(i))).collect(), 1)
            }
            Shape::FanOut => (vec![plain(topics.clone(), all); subscribers], subscribers),
            Shape::FanIn => (vec![plain(vec![format!("{run}/#")], all); subscribers], subscribers),
            Shape::Shared { groups } => {
                if groups == 0 || subscribers < groups {
                    return Err(BenchError::Usage("every group needs a member".into()));
                }
                let member = |i: usize| SubscriberPlan {
                    filters: vec![format!("$share/{run}{}/{run}/#", i % groups)],
                    streams: all.clone(),
                    group: Some(i % groups),
                };
                ((0..subscribers).map(member).collect(), groups)
            }
        };
        let ballast = (0..filters.div_ceil(FILTERS_PER_HOLDER))
            .map(|holder| {
                let first = holder * FILTERS_PER_HOLDER;
                let run = run.to_owned();
                Filters::generated(FILTERS_PER_HOLDER.min(filters - first), move |i| {
                    ballast_filter(&run, first + i)
                })
            })
            .collect();
        Ok((topics, plans, fan_out, ballast))
    }

    fn topic(self, run: &str, publisher: usize, topic: usize) -> String {
        match self {
            Shape::Wildcard => {
                format!("{run}/{}/{}/p{publisher}", topic / TRIE_WIDTH % TRIE_WIDTH, topic % TRIE_WIDTH)
            }
            _ if topic == 0 => format!("{run}/{publisher}"),
            _ => format!("{run}/{publisher}/{topic}"),
        }
    }
}

/// Filter number `i` of a trie that shares its upper levels with the wildcard scenario's topics:
/// half of them literal, a quarter with `+`, a quarter with `#`; none matches what is published.
fn ballast_filter(run: &str, i: usize) -> String {
    let (a, b) = (i / TRIE_WIDTH % TRIE_WIDTH, i % TRIE_WIDTH);
    match i % 8 {
        0..4 => format!("{run}/{a}/{b}/f{i}"),
        4 => format!("{run}/{a}/+/f{i}"),
        5 => format!("{run}/+/{b}/f{i}"),
        _ => format!("{run}/{a}/{b}/f{i}/#"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(publishers: usize, subscribers: usize) -> Counts {
        Counts { publishers, subscribers, topics: 2, filters: 25_000 }
    }

    #[test]
    fn pairs_own_their_streams() {
        let (topics, plans, fan_out, _) = Shape::Pairs.topology("r", counts(3, 3), 64).unwrap();
        assert_eq!((topics.len(), fan_out), (6, 1));
        assert_eq!(plans[2].streams, 4..6);
        assert_eq!(plans[2].filters, topics[4..6]);
    }

    #[test]
    fn groups_share_every_stream() {
        let (_, plans, fan_out, _) = Shape::Shared { groups: 2 }.topology("r", counts(3, 5), 64).unwrap();
        assert_eq!(fan_out, 2);
        assert_eq!(plans[3].filters, ["$share/r1/r/#"]);
        assert!(plans.iter().all(|plan| plan.streams == (0..6)));
    }

    #[test]
    fn ballast_is_split_over_holders_and_is_distinct() {
        let (_, _, _, ballast) = Shape::Wildcard.topology("r", counts(1, 1), 64).unwrap();
        assert_eq!(ballast.iter().map(Filters::count).collect::<Vec<_>>(), [10_000, 10_000, 5_000]);
        let mut names: Vec<_> = (0..25_000).map(|i| ballast_filter("r", i)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 25_000);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert!(Shape::Pairs.topology("r", counts(2, 3), 64).is_err());
        assert!(Shape::FanOut.topology("r", counts(2, 0), 64).is_err());
        assert!(Shape::Shared { groups: 4 }.topology("r", counts(2, 3), 64).is_err());
        assert!(Shape::Pairs.topology("r", counts(2, 2), 15).is_err());
    }
}
