//! Roles, as the dynamic security API has them, in the order in which they are asked.
use super::rule::{Operation, Pattern, RuleName, Ruling, Subject};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an entry of a role is about; the names are Mosquitto's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AclType {
    /// Publishing.
    PublishClientSend,
    /// Being delivered messages.
    PublishClientReceive,
    /// Subscribing to exactly this filter.
    SubscribeLiteral,
    /// Subscribing to filters that this one takes in.
    SubscribePattern,
    /// Unsubscribing from exactly this filter.
    UnsubscribeLiteral,
    /// Unsubscribing from filters that this one takes in.
    UnsubscribePattern,
}

impl AclType {
    /// All of them.
    pub const ALL: [AclType; 6] = [
        AclType::PublishClientSend,
        AclType::PublishClientReceive,
        AclType::SubscribeLiteral,
        AclType::SubscribePattern,
        AclType::UnsubscribeLiteral,
        AclType::UnsubscribePattern,
    ];

    /// Its name in commands and files.
    pub fn name(self) -> &'static str {
        match self {
            AclType::PublishClientSend => "publishClientSend",
            AclType::PublishClientReceive => "publishClientReceive",
            AclType::SubscribeLiteral => "subscribeLiteral",
            AclType::SubscribePattern => "subscribePattern",
            AclType::UnsubscribeLiteral => "unsubscribeLiteral",
            AclType::UnsubscribePattern => "unsubscribePattern",
        }
    }

    /// From its name.
    pub fn from_name(name: &str) -> Option<AclType> {
        AclType::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One entry of a role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleAcl {
    /// What it is about.
    pub kind: AclType,
    /// Topic or filter.
    pub pattern: Pattern,
    /// Whether it allows or denies.
    pub allow: bool,
}

/// A role; its entries in the order of their priority, highest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Role {
    /// Its name.
    pub name: Box<str>,
    /// Its entries.
    pub acls: Vec<RoleAcl>,
}

/// What is allowed where no role says anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DefaultAccess {
    /// Publishing.
    pub publish_client_send: bool,
    /// Being delivered messages.
    pub publish_client_receive: bool,
    /// Subscribing.
    pub subscribe: bool,
    /// Unsubscribing.
    pub unsubscribe: bool,
}

impl Default for DefaultAccess {
    /// Mosquitto's.
    fn default() -> DefaultAccess {
        DefaultAccess {
            publish_client_send: false,
            publish_client_receive: true,
            subscribe: false,
            unsubscribe: true,
        }
    }
}

/// The roles of everybody.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Roles {
    /// By user name: a client's own roles by priority, then those of its groups. Disabled clients are not in it.
    pub clients: BTreeMap<Box<str>, Vec<Arc<Role>>>,
    /// The roles of anonymous clients, if there is a group for them.
    pub anonymous: Option<Vec<Arc<Role>>>,
    /// Where no role says anything.
    pub default: DefaultAccess,
}

impl Roles {
    /// What the roles say. Of users that it does not know it says nothing.
    pub fn judge(&self, subject: &Subject<'_>, operation: Operation, topic: &str) -> Ruling<'_> {
        let roles = match subject.user {
            Some(user) => match self.clients.get(user) {
                Some(roles) => Some(roles),
                None => return Ruling::Unknown,
            },
            None => self.anonymous.as_ref(),
        };
        for role in roles.into_iter().flatten() {
            if let Some(acl) = role.find(subject, operation, topic) {
                let name =
                    RuleName::Role { role: &role.name, kind: acl.kind.name(), topic: acl.pattern.text() };
                return if acl.allow { Ruling::Allow(name) } else { Ruling::Deny(name) };
            }
        }
        let (allowed, name) = match operation {
            Operation::Publish => (self.default.publish_client_send, "publishClientSend"),
            Operation::Receive => (self.default.publish_client_receive, "publishClientReceive"),
            Operation::Subscribe => (self.default.subscribe, "subscribe"),
            Operation::Unsubscribe => (self.default.unsubscribe, "unsubscribe"),
        };
        // The broker's own control is nobody's unless a role says so.
        match (allowed && !topic.starts_with("$CONTROL"), operation) {
            (true, _) => Ruling::Allow(RuleName::Default(name)),
            (false, Operation::Unsubscribe) => Ruling::Deny(RuleName::Default(name)),
            (false, _) => Ruling::Unknown,
        }
    }
}

impl Role {
    /// The entry that decides, if there is one: for filters a literal one before any pattern.
    fn find(&self, subject: &Subject<'_>, operation: Operation, topic: &str) -> Option<&RoleAcl> {
        let of = |kind: AclType| self.acls.iter().filter(move |acl| acl.kind == kind);
        let topics = |kind| of(kind).find(|acl| acl.pattern.matches(subject, topic));
        let filters = |literal, pattern| {
            of(literal)
                .find(|acl| acl.pattern.is(subject, topic))
                // Alone, # takes in the filters of $SYS and its like too, as with Mosquitto.
                .or_else(|| {
                    of(pattern).find(|acl| acl.pattern.text() == "#" || acl.pattern.covers(subject, topic))
                })
        };
        match operation {
            Operation::Publish => topics(AclType::PublishClientSend),
            Operation::Receive => topics(AclType::PublishClientReceive),
            Operation::Subscribe => filters(AclType::SubscribeLiteral, AclType::SubscribePattern),
            Operation::Unsubscribe => filters(AclType::UnsubscribeLiteral, AclType::UnsubscribePattern),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{Publish, Receive, Subscribe, Unsubscribe};

    fn role(name: &str, acls: &[(AclType, &str, bool)]) -> Arc<Role> {
        let acl = |(kind, topic, allow): &(AclType, &str, bool)| RoleAcl {
            kind: *kind,
            pattern: Pattern::new(topic).unwrap(),
            allow: *allow,
        };
        Arc::new(Role { name: name.into(), acls: acls.iter().map(acl).collect() })
    }

    fn roles() -> Roles {
        let narrow = role(
            "narrow",
            &[
                (AclType::PublishClientSend, "a/secret", false),
                (AclType::SubscribeLiteral, "#", true),
                (AclType::SubscribePattern, "a/+", false),
            ],
        );
        let wide = role(
            "wide",
            &[
                (AclType::PublishClientSend, "a/#", true),
                (AclType::SubscribePattern, "a/#", true),
                (AclType::PublishClientReceive, "a/x", false),
                (AclType::UnsubscribeLiteral, "a/keep", false),
            ],
        );
        Roles {
            clients: BTreeMap::from([("ann".into(), vec![narrow, wide.clone()]), ("bob".into(), Vec::new())]),
            anonymous: Some(vec![wide]),
            default: DefaultAccess::default(),
        }
    }

    #[track_caller]
    fn check(user: Option<&str>, operation: Operation, topic: &str, expected: Option<bool>) {
        let roles = roles();
        let ruling = match roles.judge(&Subject { user, client_id: "c" }, operation, topic) {
            Ruling::Allow(_) => Some(true),
            Ruling::Deny(_) => Some(false),
            Ruling::Unknown => None,
        };
        assert_eq!(ruling, expected, "{user:?} {operation:?} {topic}");
    }

    #[test]
    fn the_first_role_with_an_entry_decides() {
        check(Some("ann"), Publish, "a/secret", Some(false));
        check(Some("ann"), Publish, "a/x", Some(true));
        check(Some("ann"), Publish, "b", None);
        check(None, Publish, "a/secret", Some(true));
    }

    #[test]
    fn a_literal_filter_comes_before_patterns() {
        check(Some("ann"), Subscribe, "#", Some(true));
        check(Some("ann"), Subscribe, "a/+", Some(false));
        check(Some("ann"), Subscribe, "a/b/c", Some(true));
        check(Some("ann"), Subscribe, "+/b", None);
        check(None, Subscribe, "#", None);
    }

    #[test]
    fn defaults_hold_for_those_who_are_known() {
        check(Some("bob"), Receive, "a/x", Some(true));
        check(Some("ann"), Receive, "a/x", Some(false));
        check(Some("bob"), Publish, "a/x", None);
        check(Some("ann"), Unsubscribe, "a/keep", Some(false));
        check(Some("bob"), Unsubscribe, "a/keep", Some(true));
        check(Some("carl"), Receive, "a/x", None);
    }
}
