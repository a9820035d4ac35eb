//! The subscribers of one filter on this shard.
use super::Subscriber;
use hashbrown::HashMap;
use std::ops::Deref;

/// Up to this many subscribers are searched one by one; beyond it their places are remembered.
const FEW: usize = 32;

/// Subscribers of one filter, each session once. Most filters have one, which needs no memory beyond this; some have
/// every client of the broker, who may all go away at the same time.
#[derive(Default, Debug)]
pub enum Subscribers {
    /// Nobody.
    #[default]
    None,
    /// One.
    One(Subscriber),
    /// Several.
    Several(Box<Several>),
}

/// The subscribers of a filter that has had more than one.
#[derive(Default, Debug)]
pub struct Several {
    list: Vec<Subscriber>,
    /// Place in the list by session, if there are many.
    places: Option<HashMap<u32, u32, ahash::RandomState>>,
}

impl Subscribers {
    /// Adds a subscriber or replaces its session's subscription. `is_new`: its session has none.
    pub fn insert(&mut self, subscriber: Subscriber, is_new: bool) {
        match self {
            Subscribers::None => *self = Subscribers::One(subscriber),
            Subscribers::One(known) if known.session == subscriber.session => *known = subscriber,
            Subscribers::One(known) => {
                let several = Several { list: vec![*known, subscriber], places: None };
                *self = Subscribers::Several(Box::new(several));
            }
            Subscribers::Several(several) => several.insert(subscriber, is_new),
        }
    }

    /// Removes a session's subscription; false if it was not there.
    pub fn remove(&mut self, session: u32) -> bool {
        match self {
            Subscribers::None => false,
            Subscribers::One(known) if known.session == session => {
                *self = Subscribers::None;
                true
            }
            Subscribers::One(_) => false,
            Subscribers::Several(several) => {
                let is_removed = several.remove(session);
                if let [last] = *several.list {
                    *self = Subscribers::One(last);
                }
                is_removed
            }
        }
    }
}

impl Several {
    fn insert(&mut self, subscriber: Subscriber, is_new: bool) {
        if !is_new && let Some(at) = self.place(subscriber.session) {
            self.list[at] = subscriber;
            return;
        }
        if let Some(places) = &mut self.places {
            places.insert(subscriber.session, self.list.len() as u32);
        }
        self.list.push(subscriber);
        if self.places.is_none() && self.list.len() > FEW {
            let mut places = HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
            places.extend(self.list.iter().enumerate().map(|(at, known)| (known.session, at as u32)));
            self.places = Some(places);
        }
    }

    fn remove(&mut self, session: u32) -> bool {
        let Some(at) = self.place(session) else { return false };
        self.list.swap_remove(at);
        if let Some(places) = &mut self.places {
            places.remove(&session);
            if let Some(moved) = self.list.get(at) {
                places.insert(moved.session, at as u32);
            }
            if self.list.len() <= FEW / 2 {
                self.places = None;
                self.list.shrink_to_fit();
            }
        }
        true
    }

    fn place(&self, session: u32) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&session).map(|at| *at as usize),
            None => self.list.iter().position(|known| known.session == session),
        }
    }
}

impl Deref for Subscribers {
    type Target = [Subscriber];
    fn deref(&self) -> &[Subscriber] {
        match self {
            Subscribers::None => &[],
            Subscribers::One(one) => std::slice::from_ref(one),
            Subscribers::Several(several) => &several.list,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;

    fn subscriber(session: u32, id: u32) -> Subscriber {
        Subscriber { session, id, qos: QoS::AtMostOnce, no_local: false, retain_as_published: false }
    }

    #[test]
    fn few_and_many_subscribers_behave_alike() {
        let mut subscribers = Subscribers::default();
        let mut model: Vec<Subscriber> = Vec::new();
        // Up over both thresholds and down again, twice, replacing and missing some on the way.
        for step in 0..8 * FEW as u32 {
            let session = step * 7 % 61;
            let at = model.iter().position(|known| known.session == session);
            if (step / (2 * FEW as u32)).is_multiple_of(2) {
                subscribers.insert(subscriber(session, step), at.is_none());
                match at {
                    Some(at) => model[at] = subscriber(session, step),
                    None => model.push(subscriber(session, step)),
                }
            } else {
                assert_eq!(subscribers.remove(session), at.is_some());
                at.map(|at| model.swap_remove(at));
            }
            assert_eq!(*subscribers, *model);
            match &subscribers {
                Subscribers::Several(several) => assert!(several.places.is_some() || model.len() <= FEW),
                _ => assert!(model.len() <= 1),
            }
        }
    }

    #[test]
    fn one_subscriber_needs_no_memory_of_its_own() {
        assert_eq!(size_of::<Subscribers>(), 16);
        let mut subscribers = Subscribers::default();
        subscribers.insert(subscriber(1, 1), true);
        subscribers.insert(subscriber(1, 2), false);
        assert!(matches!(&subscribers, Subscribers::One(one) if one.id == 2));
        subscribers.insert(subscriber(2, 0), true);
        assert!(subscribers.remove(1) && !subscribers.remove(1));
        assert!(matches!(&subscribers, Subscribers::One(one) if one.session == 2));
        assert!(!subscribers.remove(1) && subscribers.remove(2) && subscribers.is_empty());
    }
}
