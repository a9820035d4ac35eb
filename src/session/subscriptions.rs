//! A session's filters and the options they were subscribed with.
use crate::codec::SubscribeOptions;
use crate::limits::filter_cost;
use std::collections::BTreeMap;

/// Up to this many filters are searched one by one; beyond it they are kept in a map.
const FEW: usize = 8;

/// One subscription's options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// Subscription options with the granted QoS.
    pub options: SubscribeOptions,
    /// Subscription Identifier, 0 without one.
    pub id: u32,
}

/// A session's filters. Most sessions have one or two, some have very many.
#[derive(Debug)]
pub enum Subscriptions {
    /// Few filters, in no order.
    Few(Vec<(Box<str>, Subscription)>),
    /// Many filters, and what they cost.
    Many(BTreeMap<Box<str>, Subscription>, usize),
}

impl Default for Subscriptions {
    fn default() -> Subscriptions {
        Subscriptions::Few(Vec::new())
    }
}

impl Subscriptions {
    /// How many filters there are.
    pub fn len(&self) -> usize {
        match self {
            Subscriptions::Few(few) => few.len(),
            Subscriptions::Many(many, _) => many.len(),
        }
    }
    /// Bytes that the filters cost, about ([`crate::limits::MAX_FILTER_COST`]).
    pub fn cost(&self) -> usize {
        match self {
            Subscriptions::Few(few) => few.iter().map(|(filter, _)| filter_cost(filter)).sum(),
            Subscriptions::Many(_, cost) => *cost,
        }
    }
    /// No filter.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The options of `filter` ([MQTT-3.10.4-1]: compared as it is).
    pub fn get(&self, filter: &str) -> Option<&Subscription> {
        match self {
            Subscriptions::Few(few) => few.iter().find(|entry| &*entry.0 == filter).map(|entry| &entry.1),
            Subscriptions::Many(many, _) => many.get(filter),
        }
    }
    /// Adds or replaces a subscription ([MQTT-3.8.4-3]); returns what was replaced.
    pub fn insert(&mut self, filter: &str, subscription: Subscription) -> Option<Subscription> {
        if let Subscriptions::Few(few) = self {
            if let Some(entry) = few.iter_mut().find(|entry| &*entry.0 == filter) {
                return Some(std::mem::replace(&mut entry.1, subscription));
            }
            if few.len() < FEW {
                if few.is_empty() {
                    few.reserve_exact(1);
                }
                few.push((filter.into(), subscription));
                return None;
            }
            let cost = few.iter().map(|(filter, _)| filter_cost(filter)).sum();
            *self = Subscriptions::Many(std::mem::take(few).into_iter().collect(), cost);
        }
        match self {
            Subscriptions::Many(many, cost) => {
                let replaced = many.insert(filter.into(), subscription);
                if replaced.is_none() {
                    *cost += filter_cost(filter);
                }
                replaced
            }
            Subscriptions::Few(_) => unreachable!("few became many above"),
        }
    }
    /// Removes a subscription.
    pub fn remove(&mut self, filter: &str) -> Option<Subscription> {
        match self {
            Subscriptions::Few(few) => {
                let at = few.iter().position(|entry| &*entry.0 == filter)?;
                Some(few.swap_remove(at).1)
            }
            Subscriptions::Many(many, cost) => {
                let removed = many.remove(filter)?;
                *cost -= filter_cost(filter);
                Some(removed)
            }
        }
    }
    /// Every filter, which are no subscriptions any more.
    pub fn into_filters(self) -> Box<dyn Iterator<Item = Box<str>>> {
        match self {
            Subscriptions::Few(few) => Box::new(few.into_iter().map(|(filter, _)| filter)),
            Subscriptions::Many(many, _) => Box::new(many.into_keys()),
        }
    }
    /// Every filter, in a fixed order.
    pub fn filters(&self) -> Box<dyn Iterator<Item = (&str, &Subscription)> + '_> {
        match self {
            Subscriptions::Few(few) => Box::new(few.iter().map(|entry| (&*entry.0, &entry.1))),
            Subscriptions::Many(many, _) => Box::new(many.iter().map(|entry| (&**entry.0, entry.1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;

    fn subscription(id: u32) -> Subscription {
        let options = SubscribeOptions {
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
        };
        Subscription { options, id }
    }

    #[test]
    fn few_and_many_filters_behave_alike() {
        let mut subscriptions = Subscriptions::default();
        for count in 0..3 * FEW as u32 {
            assert_eq!(subscriptions.insert(&format!("f/{count}"), subscription(count)), None);
            assert_eq!(
                subscriptions.insert(&format!("f/{count}"), subscription(count)),
                Some(subscription(count))
            );
            assert_eq!(subscriptions.len(), count as usize + 1);
            let cost: usize = subscriptions.filters().map(|(filter, _)| filter_cost(filter)).sum();
            assert_eq!(subscriptions.cost(), cost);
        }
        for count in 0..3 * FEW as u32 {
            assert_eq!(subscriptions.remove(&format!("f/{count}")), Some(subscription(count)));
            assert_eq!(subscriptions.remove(&format!("f/{count}")), None);
        }
        assert_eq!((subscriptions.is_empty(), subscriptions.cost()), (true, 0));
    }
}
