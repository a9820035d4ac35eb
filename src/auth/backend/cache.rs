//! Answers that hold for a while.
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Up to a number of answers, each until its time is over; one more and the oldest is forgotten.
pub struct Cache<K, V> {
    most: usize,
    lasts: Duration,
    answers: HashMap<K, (Instant, V)>,
    /// In the order in which they were put in; what was replaced is in it twice.
    order: VecDeque<(K, Instant)>,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// Nothing remembered. With `lasts` zero nothing will be.
    pub fn new(most: usize, lasts: Duration) -> Cache<K, V> {
        Cache { most, lasts, answers: HashMap::new(), order: VecDeque::new() }
    }

    /// The answer, if it still holds.
    pub fn get(&self, key: &K, now: Instant) -> Option<V> {
        let (at, value) = self.answers.get(key)?;
        (now.duration_since(*at) < self.lasts).then(|| value.clone())
    }

    /// Remembers an answer.
    pub fn insert(&mut self, key: K, value: V, now: Instant) {
        if self.lasts.is_zero() {
            return;
        }
        self.answers.insert(key.clone(), (now, value));
        self.order.push_back((key, now));
        while self.order.len() > self.most {
            let Some((oldest, at)) = self.order.pop_front() else { break };
            if self.answers.get(&oldest).is_some_and(|(put, _)| *put == at) {
                self.answers.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_hold_for_their_time_and_the_oldest_gives_way() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::new(2, Duration::from_secs(10));
        cache.insert("a", 1, start);
        assert_eq!(cache.get(&"a", after(9)), Some(1));
        assert_eq!(cache.get(&"a", after(10)), None);
        cache.insert("a", 2, after(10));
        cache.insert("b", 3, after(11));
        assert_eq!((cache.get(&"a", after(11)), cache.get(&"b", after(11))), (Some(2), Some(3)));
        cache.insert("c", 4, after(12));
        assert_eq!((cache.get(&"a", after(12)), cache.get(&"c", after(12))), (None, Some(4)));
        assert!(cache.answers.len() <= 2 && cache.order.len() <= 2);
        let mut none = Cache::new(2, Duration::ZERO);
        none.insert("a", 1, start);
        assert_eq!(none.get(&"a", start), None);
    }
}
