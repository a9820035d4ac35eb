//! Topic aliases: what the client set on this connection, and what the broker set towards it (3.3.2.3.4).
use std::collections::HashMap;
use std::rc::Rc;

/// Aliases a client has set; they end with the connection ([MQTT-3.3.2-7]).
#[derive(Default, Debug)]
pub struct IncomingAliases {
    topics: Vec<Option<Rc<str>>>,
}

impl IncomingAliases {
    /// Maps `alias` (1 to the announced maximum, checked by the caller) to `topic`.
    pub fn set(&mut self, alias: u16, topic: &str) {
        let index = usize::from(alias) - 1;
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        self.topics[index] = Some(topic.into());
    }
    /// None was set.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
    /// The topic of `alias`, if it was set.
    pub fn get(&self, alias: u16) -> Option<Rc<str>> {
        self.topics.get(usize::from(alias).wrapping_sub(1))?.clone()
    }
}

/// Aliases the broker uses towards a client: the first topics it sends get one each, first come, first served.
#[derive(Debug)]
pub struct OutgoingAliases {
    maximum: u16,
    aliases: HashMap<Box<str>, u16, ahash::RandomState>,
}

/// How a topic is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AliasUse {
    /// With its name alone.
    None,
    /// With its name, setting this alias.
    Set(u16),
    /// With this alias alone.
    Use(u16),
}

impl OutgoingAliases {
    /// `maximum`: the lower of what the client allows and what the broker is set to use; above zero.
    pub fn new(maximum: u16) -> OutgoingAliases {
        OutgoingAliases { maximum, aliases: HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)) }
    }
    /// Chooses how to send `topic`, remembering an alias that is set by it.
    pub fn choose(&mut self, topic: &str) -> AliasUse {
        if let Some(alias) = self.aliases.get(topic) {
            return AliasUse::Use(*alias);
        }
        if self.aliases.len() >= usize::from(self.maximum) {
            return AliasUse::None;
        }
        let alias = self.aliases.len() as u16 + 1;
        self.aliases.insert(topic.into(), alias);
        AliasUse::Set(alias)
    }
    /// Takes back what [`OutgoingAliases::choose`] just set, because the packet was not sent after all.
    pub fn forget(&mut self, topic: &str) {
        self.aliases.remove(topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_topics_get_an_alias_and_keep_it() {
        let mut aliases = OutgoingAliases::new(2);
        assert_eq!(aliases.choose("a"), AliasUse::Set(1));
        assert_eq!(aliases.choose("b"), AliasUse::Set(2));
        assert_eq!(aliases.choose("c"), AliasUse::None);
        assert_eq!(aliases.choose("a"), AliasUse::Use(1));
    }

    #[test]
    fn an_unset_alias_has_no_topic() {
        let mut aliases = IncomingAliases::default();
        aliases.set(3, "t");
        assert_eq!(
            (0..5).map(|alias| aliases.get(alias)).collect::<Vec<_>>(),
            [None, None, None, Some("t".into()), None]
        );
    }
}
