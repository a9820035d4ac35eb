//! A session's filters and the options they were subscribed with.
use crate::codec::SubscribeOptions;
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
    /// Many filters.
    Many(BTreeMap<Box<str>, Subscription>),
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
            Subscriptions::Many(many) => many.len(),
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
            Subscriptions::Many(many) => many.get(filter),
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
            *self = Subscriptions::Many(std::mem::take(few).into_iter().collect());
        }
        match self {
            Subscriptions::Many(many) => many.insert(filter.into(), subscription),
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
            Subscriptions::Many(many) => many.remove(filter),
        }
    }
    /// Every filter, in a fixed order.
    pub fn filters(&self) -> Box<dyn Iterator<Item = (&str, &Subscription)> + '_> {
        match self {
            Subscriptions::Few(few) => Box::new(few.iter().map(|entry| (&*entry.0, &entry.1))),
            Subscriptions::Many(many) => Box::new(many.iter().map(|entry| (&**entry.0, entry.1))),
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
        }
        for count in 0..3 * FEW as u32 {
            assert_eq!(subscriptions.remove(&format!("f/{count}")), Some(subscription(count)));
            assert_eq!(subscriptions.remove(&format!("f/{count}")), None);
        }
        assert!(subscriptions.is_empty());
    }
}
