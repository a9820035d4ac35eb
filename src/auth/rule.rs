//! What rules of authorisation are made of, whoever wrote them.
use crate::topic::{TopicError, check_filter, covers, matches, overlaps};
use std::borrow::Cow;
use std::fmt;

/// What a client wants to do with a topic or a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Publish to the topic, also as a will.
    Publish,
    /// Be delivered a message of the topic.
    Receive,
    /// Subscribe to the filter (that behind `$share/name/`).
    Subscribe,
    /// Unsubscribe from the filter.
    Unsubscribe,
}

/// Who wants to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject<'a> {
    /// User name as it was verified; `None` for anonymous clients.
    pub user: Option<&'a str>,
    /// Client id.
    pub client_id: &'a str,
}

/// A filter in which `%u` stands for the user name and `%c` for the client id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    text: Box<str>,
    has_names: bool,
}

impl Pattern {
    /// A filter without names: `%` is a character like any other.
    pub fn literal(text: &str) -> Result<Pattern, TopicError> {
        check_filter(text, usize::MAX)?;
        Ok(Pattern { text: text.into(), has_names: false })
    }

    /// A filter with names.
    pub fn new(text: &str) -> Result<Pattern, TopicError> {
        check_filter(text, usize::MAX)?;
        Ok(Pattern { text: text.into(), has_names: text.contains("%u") || text.contains("%c") })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The filter for one client; `None` if it has no such name, or one that would be more than a part of a level:
    /// with a wildcard, a slash, or a `$` that would lead into the broker's own topics.
    fn filter_for(&self, subject: &Subject<'_>) -> Option<Cow<'_, str>> {
        if !self.has_names {
            return Some(Cow::Borrowed(&self.text));
        }
        let mut filter = String::with_capacity(self.text.len() + 32);
        let mut rest = &*self.text;
        while let Some(at) = rest.find('%') {
            let (before, from) = rest.split_at(at);
            filter.push_str(before);
            let name = match from.as_bytes().get(1) {
                Some(b'u') => subject.user?,
                Some(b'c') => subject.client_id,
                _ => {
                    filter.push('%');
                    rest = &from[1..];
                    continue;
                }
            };
            let is_first = filter.is_empty() && name.starts_with('$');
            if name.is_empty() || is_first || name.contains(['+', '#', '/', '\0']) {
                return None;
            }
            filter.push_str(name);
            rest = &from[2..];
        }
        filter.push_str(rest);
        Some(Cow::Owned(filter))
    }

    /// Whether it matches the topic.
    pub fn matches(&self, subject: &Subject<'_>, topic: &str) -> bool {
        self.filter_for(subject).is_some_and(|filter| matches(&filter, topic))
    }

    /// Whether it matches every topic that `filter` matches.
    pub fn covers(&self, subject: &Subject<'_>, filter: &str) -> bool {
        self.filter_for(subject).is_some_and(|own| covers(&own, filter))
    }

    /// Whether it matches some topic that `filter` matches.
    pub fn overlaps(&self, subject: &Subject<'_>, filter: &str) -> bool {
        self.filter_for(subject).is_some_and(|own| overlaps(&own, filter))
    }

    /// Whether it is this filter, letter for letter.
    pub fn is(&self, subject: &Subject<'_>, filter: &str) -> bool {
        self.filter_for(subject).is_some_and(|own| own == filter)
    }
}

/// What a source of rules says to a wish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ruling<'a> {
    /// Yes, by this rule.
    Allow(RuleName<'a>),
    /// No, by this rule.
    Deny(RuleName<'a>),
    /// It has no rule for that.
    Unknown,
}

/// Which rule; displays as what an operator looks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RuleName<'a> {
    /// A line of the ACL file.
    Line {
        /// Counted from 1.
        number: u32,
        /// As it is in the file.
        text: &'a str,
    },
    /// An entry of a role.
    Role {
        /// The role.
        role: &'a str,
        /// The ACL type of the entry.
        kind: &'static str,
        /// Its topic.
        topic: &'a str,
    },
    /// What is done where no role says anything.
    Default(&'static str),
    /// A claim of the client's token.
    Token(&'a str),
    /// The answer of the HTTP service.
    Service,
    /// The user may do everything.
    Superuser,
    /// No rule allows it.
    Nothing,
}

impl fmt::Display for RuleName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleName::Line { number, text } => write!(f, "line {number} of the ACL file: {text}"),
            RuleName::Role { role, kind, topic } => write!(f, "{kind} {topic} of role {role}"),
            RuleName::Default(kind) => write!(f, "default access of {kind}"),
            RuleName::Token(claim) => write!(f, "claim {claim} of the token"),
            RuleName::Service => write!(f, "the HTTP service"),
            RuleName::Superuser => write!(f, "the user is a superuser"),
            RuleName::Nothing => write!(f, "no rule allows it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject<'a>(user: Option<&'a str>, client_id: &'a str) -> Subject<'a> {
        Subject { user, client_id }
    }

    #[test]
    fn names_stand_for_one_level() {
        let pattern = Pattern::new("dev/%u/%c/#").unwrap();
        assert!(pattern.matches(&subject(Some("ann"), "c1"), "dev/ann/c1/x"));
        assert!(!pattern.matches(&subject(Some("bob"), "c1"), "dev/ann/c1/x"));
        assert!(!pattern.matches(&subject(None, "c1"), "dev//c1/x"));
        assert!(Pattern::new("%c-in").unwrap().matches(&subject(None, "c1"), "c1-in"));
        assert!(Pattern::new("a/%/%%c").unwrap().matches(&subject(None, "x"), "a/%/%x"));
    }

    #[test]
    fn a_name_cannot_widen_a_pattern() {
        let pattern = Pattern::new("%u/%c").unwrap();
        for (user, client_id) in [("+", "c"), ("#", "c"), ("a", "+"), ("a", "#"), ("a/b", "c"), ("", "c")] {
            let subject = subject(Some(user), client_id);
            assert!(!pattern.matches(&subject, &format!("{user}/{client_id}")), "{user} {client_id}");
            assert!(!pattern.matches(&subject, "a/c"));
            assert!(!pattern.overlaps(&subject, "#"));
            assert!(!pattern.covers(&subject, "a/c"));
        }
        // A client that calls itself $CONTROL or $SYS.
        let pattern = Pattern::new("%c/#").unwrap();
        assert!(!pattern.matches(&subject(None, "$CONTROL"), "$CONTROL/dynamic-security/v1"));
        assert!(!pattern.overlaps(&subject(None, "$SYS"), "$SYS/#"));
        assert!(Pattern::new("a/%c").unwrap().matches(&subject(None, "$x"), "a/$x"));
    }

    #[test]
    fn a_literal_takes_no_names() {
        let literal = Pattern::literal("%u/x").unwrap();
        assert!(literal.matches(&subject(Some("ann"), "c"), "%u/x"));
        assert!(!literal.matches(&subject(Some("ann"), "c"), "ann/x"));
        assert!(Pattern::new("a/#/b").is_err());
    }
}
