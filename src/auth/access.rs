//! What a shard knows about who may what: one copy of the rules for all shards, and what is special to one client.
use super::acl::AclFile;
use super::bans::Bans;
use super::crowd::Crowd;
use super::decision::Grant;
use super::roles::Roles;
use super::rule::{Operation, Pattern, RuleName, Ruling, Subject};
use super::{Methods, Origin};
use crate::time::Time;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a listener asks of those who connect to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Door {
    /// Clients without credentials are let in.
    pub anonymous: bool,
    /// The user name is the one that the transport vouches for (a verified client certificate); without it nobody is
    /// let in, and what CONNECT says does not count.
    pub identity: bool,
}

/// All rules of the broker that a shard decides by itself. Replaced as a whole when they change.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Counts the changes of who may come in: an answer about credentials that was begun before the last one does not count.
    pub generation: u64,
    /// By number of the listener; a listener that is not in it has `door`.
    pub doors: Vec<Door>,
    /// For all other listeners.
    pub door: Door,
    /// There is somebody who can be asked about credentials. If not, they do not count: nobody verifies them.
    pub verifies: bool,
    /// Methods of enhanced authentication.
    pub methods: Methods,
    /// Who is let in under no circumstances.
    pub bans: Bans,
    /// The ACL file.
    pub acl: Option<Arc<AclFile>>,
    /// Roles of the dynamic security API.
    pub roles: Option<Arc<Roles>>,
    /// Credentials may bring rules with them.
    pub tokens: bool,
    /// What no rule here decides is asked.
    pub asks: bool,
    /// Topics below `$CONTROL/` whose messages are for the broker. If there are some, nobody publishes to others there.
    pub controls: Vec<Box<str>>,
    /// Who has how many connections; the same in all policies of a broker.
    pub crowd: Arc<Crowd>,
}

impl Default for Policy {
    /// Everybody may everything.
    fn default() -> Policy {
        Policy {
            generation: 0,
            doors: Vec::new(),
            door: Door { anonymous: true, identity: false },
            verifies: false,
            methods: Methods::from([]),
            bans: Bans::default(),
            acl: None,
            roles: None,
            tokens: false,
            asks: false,
            controls: Vec::new(),
            crowd: Arc::default(),
        }
    }
}

/// Whether a wish is granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judgement<'a> {
    /// Yes.
    Allowed(RuleName<'a>),
    /// No.
    Denied(RuleName<'a>),
    /// Somebody else is to be asked.
    Ask,
}

impl Policy {
    /// What the listener of a connection asks for.
    pub fn door(&self, origin: &Origin) -> Door {
        self.doors.get(usize::from(origin.listener)).copied().unwrap_or(self.door)
    }

    /// Whether there are rules about topics at all.
    pub fn restricts(&self) -> bool {
        self.acl.is_some() || self.roles.is_some() || self.tokens || self.asks
    }

    /// Whether a client may do something with a topic. The first that has a rule for it decides: the client's token,
    /// the ACL file, the roles, the service that is asked. Nobody: no.
    pub fn judge<'a>(
        &'a self,
        access: &'a Access,
        client_id: &str,
        operation: Operation,
        topic: &str,
    ) -> Judgement<'a> {
        if access.superuser {
            return Judgement::Allowed(RuleName::Superuser);
        }
        let subject = Subject { user: access.user.as_deref(), client_id };
        let token = access.token.as_ref().map(|token| token.judge(&subject, operation, topic));
        let acl = || self.acl.as_ref().map(|acl| acl.judge(&subject, operation, topic));
        let roles = || self.roles.as_ref().map(|roles| roles.judge(&subject, operation, topic));
        let ruling = known(token).or_else(|| known(acl())).or_else(|| known(roles()));
        let has_rules = access.token.is_some() || self.acl.is_some() || self.roles.is_some() || self.asks;
        match ruling {
            Some(Ruling::Allow(rule)) => Judgement::Allowed(rule),
            Some(Ruling::Deny(rule)) => Judgement::Denied(rule),
            // Only roles have rules about it, and where they say nothing it does no harm.
            _ if operation == Operation::Unsubscribe => Judgement::Allowed(RuleName::Default("unsubscribe")),
            // Tokens may bring rules, this client has none, and there are no others.
            _ if !has_rules => Judgement::Allowed(RuleName::Default("clients without rules")),
            Some(Ruling::Unknown) | None if self.asks => Judgement::Ask,
            Some(Ruling::Unknown) | None => Judgement::Denied(RuleName::Nothing),
        }
    }
}

fn known(ruling: Option<Ruling<'_>>) -> Option<Ruling<'_>> {
    ruling.filter(|ruling| *ruling != Ruling::Unknown)
}

/// What one client is allowed beside the common rules; behind a pointer in its session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// The verified user name; `None` for anonymous clients.
    pub user: Option<Arc<str>>,
    /// Allowed everything.
    pub superuser: bool,
    /// Rules that came with the credentials.
    pub token: Option<Arc<TokenRules>>,
    /// When the connection ends because its credentials do.
    pub expires: Time,
    /// What was asked about this client.
    pub answers: RefCell<Answers>,
}

impl Access {
    /// What a client has that did not say who it is.
    pub fn anonymous() -> Access {
        Access {
            user: None,
            superuser: false,
            token: None,
            expires: Time::NEVER,
            answers: RefCell::default(),
        }
    }

    /// What a grant that is answered at `now` gives.
    pub fn new(grant: Grant, now: Time) -> Access {
        let Grant { user, superuser, token, lasts_ms, will } = grant;
        let expires = lasts_ms.map_or(Time::NEVER, |lasts| now + lasts);
        let mut answers = Answers::default();
        if let Some((topic, allowed)) = will {
            // It is asked for as long as the client is connected.
            answers.insert(Operation::Publish, &topic, allowed, Time::NEVER);
        }
        Access { user, superuser, token, expires, answers: RefCell::new(answers) }
    }
}

/// Wishes of one client whose answers are remembered; one more and the oldest is forgotten.
pub const ANSWERS: usize = 64;

/// Answers to questions about one client, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answers(VecDeque<Remembered>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Remembered {
    operation: Operation,
    topic: Box<str>,
    allowed: bool,
    until: Time,
}

impl Answers {
    /// Remembers an answer until then.
    pub fn insert(&mut self, operation: Operation, topic: &str, allowed: bool, until: Time) {
        self.0.retain(|known| known.operation != operation || *known.topic != *topic);
        if self.0.len() >= ANSWERS
            && let Some(oldest) = self.0.iter().position(|known| known.until != Time::NEVER)
        {
            self.0.remove(oldest);
        }
        self.0.push_back(Remembered { operation, topic: topic.into(), allowed, until });
    }

    fn find(&self, operation: Operation, topic: &str) -> Option<&Remembered> {
        self.0.iter().find(|known| known.operation == operation && *known.topic == *topic)
    }

    /// The answer, if it still holds.
    pub fn at(&self, now: Time, operation: Operation, topic: &str) -> Option<bool> {
        self.find(operation, topic).filter(|known| known.until > now).map(|known| known.allowed)
    }

    /// The last answer, whether or not it still holds.
    pub fn last(&self, operation: Operation, topic: &str) -> Option<bool> {
        self.find(operation, topic).map(|known| known.allowed)
    }
}

/// Rules that a token carries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TokenRules {
    /// What may be published to.
    pub publish: Vec<Pattern>,
    /// What may be subscribed to and received.
    pub subscribe: Vec<Pattern>,
}

impl TokenRules {
    fn judge(&self, subject: &Subject<'_>, operation: Operation, topic: &str) -> Ruling<'_> {
        let (patterns, claim) = match operation {
            Operation::Publish => (&self.publish, "publish"),
            Operation::Receive | Operation::Subscribe | Operation::Unsubscribe => {
                (&self.subscribe, "subscribe")
            }
        };
        let allows = |pattern: &&Pattern| match operation {
            Operation::Subscribe | Operation::Unsubscribe => pattern.overlaps(subject, topic),
            Operation::Publish | Operation::Receive => pattern.matches(subject, topic),
        };
        match patterns.iter().find(allows) {
            Some(_) => Ruling::Allow(RuleName::Token(claim)),
            None => Ruling::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(user: Option<&str>) -> Access {
        Access::new(Grant { user: user.map(Arc::from), ..Grant::default() }, Time(0))
    }

    #[test]
    fn the_first_who_knows_decides() {
        let acl = AclFile::parse("user ann\ntopic a/#\ntopic deny t/x\n").unwrap();
        let mut policy = Policy { acl: Some(acl.into()), ..Policy::default() };
        let mut ann = access(Some("ann"));
        let judge = |policy: &Policy, access: &Access, topic: &str| match policy.judge(
            access,
            "c",
            Operation::Publish,
            topic,
        ) {
            Judgement::Allowed(_) => Some(true),
            Judgement::Denied(_) => Some(false),
            Judgement::Ask => None,
        };
        assert_eq!(judge(&policy, &ann, "a/b"), Some(true));
        assert_eq!(judge(&policy, &ann, "t/x"), Some(false));
        assert_eq!(judge(&policy, &ann, "u"), Some(false));
        assert_eq!(judge(&policy, &access(None), "a/b"), Some(false));
        ann.token =
            Some(TokenRules { publish: vec![Pattern::new("t/#").unwrap()], subscribe: Vec::new() }.into());
        assert_eq!(judge(&policy, &ann, "t/x"), Some(true));
        assert_eq!(judge(&policy, &ann, "a/b"), Some(true));
        policy.asks = true;
        assert_eq!(judge(&policy, &ann, "u"), None);
        ann.superuser = true;
        assert_eq!(judge(&policy, &ann, "u"), Some(true));
    }

    #[test]
    fn answers_are_remembered_for_their_time_and_up_to_a_number() {
        let mut answers = Answers::default();
        answers.insert(Operation::Publish, "t", true, Time(10));
        answers.insert(Operation::Subscribe, "t", false, Time(10));
        assert_eq!(answers.at(Time(9), Operation::Publish, "t"), Some(true));
        assert_eq!(answers.at(Time(9), Operation::Subscribe, "t"), Some(false));
        assert_eq!(answers.at(Time(10), Operation::Publish, "t"), None);
        assert_eq!(answers.last(Operation::Publish, "t"), Some(true));
        (0..ANSWERS).for_each(|n| answers.insert(Operation::Receive, &n.to_string(), true, Time(10)));
        assert_eq!(answers.last(Operation::Publish, "t"), None);
        assert_eq!(answers.0.len(), ANSWERS);
    }

    #[test]
    fn a_client_without_rules_is_free_only_where_there_are_no_others() {
        let mut policy = Policy { tokens: true, ..Policy::default() };
        let mut ann = access(Some("ann"));
        let judge = |policy: &Policy, access: &Access| {
            matches!(policy.judge(access, "c", Operation::Publish, "t"), Judgement::Allowed(_))
        };
        assert!(policy.restricts() && judge(&policy, &ann));
        ann.token = Some(TokenRules::default().into());
        assert!(!judge(&policy, &ann));
        ann.token = None;
        policy.acl = Some(AclFile::default().into());
        assert!(!judge(&policy, &ann));
    }

    #[test]
    fn a_listener_has_a_door_of_its_own() {
        let closed = Door { anonymous: false, identity: true };
        let policy = Policy { doors: vec![closed], ..Policy::default() };
        assert_eq!(policy.door(&Origin::default()), closed);
        assert_eq!(policy.door(&Origin { listener: 1, ..Origin::default() }), policy.door);
    }
}
