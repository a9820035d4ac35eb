//! The ACL file, in Mosquitto's syntax:
//!
//! ```text
//! topic [read|write|readwrite|deny] FILTER     for anonymous clients, before any `user` line
//! user NAME
//! topic [read|write|readwrite|deny] FILTER     for that user
//! pattern [read|write|readwrite|deny] FILTER   for everybody; %u is the user name, %c the client id
//! ```
//!
//! The client's own lines are looked at before the patterns, in both a matching `deny` before everything else.
use super::rule::{Operation, Pattern, RuleName, Ruling, Subject};
use crate::topic::TopicError;
use std::collections::BTreeMap;
use thiserror::Error;

/// Longest ACL file in bytes; a longer one is refused.
pub const MAX_ACL_FILE: usize = 64 * 1024 * 1024;

/// Why a file is no ACL file.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("line {line}: {problem}")]
pub struct AclError {
    /// Counted from 1.
    pub line: u32,
    /// One sentence.
    pub problem: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Access {
    read: bool,
    write: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    access: Access,
    pattern: Pattern,
    line: u32,
    text: Box<str>,
}

impl Rule {
    fn name(&self) -> RuleName<'_> {
        RuleName::Line { number: self.line, text: &self.text }
    }
}

/// Rules of one user, of anonymous clients, or of everybody.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Rules {
    denied: Vec<Rule>,
    allowed: Vec<Rule>,
}

impl Rules {
    fn judge(&self, subject: &Subject<'_>, operation: Operation, topic: &str) -> Ruling<'_> {
        // A filter is refused only if nothing could come of it; what it is too wide for is left out at delivery.
        let denies = |rule: &&Rule| match operation {
            Operation::Subscribe => rule.pattern.covers(subject, topic),
            Operation::Unsubscribe => false,
            Operation::Publish | Operation::Receive => rule.pattern.matches(subject, topic),
        };
        if let Some(rule) = self.denied.iter().find(denies) {
            return Ruling::Deny(rule.name());
        }
        let allows = |rule: &&Rule| match operation {
            Operation::Subscribe => rule.access.read && rule.pattern.overlaps(subject, topic),
            Operation::Unsubscribe => false,
            Operation::Receive => rule.access.read && rule.pattern.matches(subject, topic),
            Operation::Publish => rule.access.write && rule.pattern.matches(subject, topic),
        };
        match self.allowed.iter().find(allows) {
            Some(rule) => Ruling::Allow(rule.name()),
            None => Ruling::Unknown,
        }
    }
}

/// The rules of an ACL file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AclFile {
    anonymous: Rules,
    users: BTreeMap<Box<str>, Rules>,
    patterns: Rules,
}

impl AclFile {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<AclFile, AclError> {
        let mut file = AclFile::default();
        let mut user: Option<Box<str>> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |problem: String| AclError { line: number, problem };
            let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            let rest = rest.trim();
            match word {
                "user" if !rest.is_empty() => user = Some(rest.into()),
                "user" => return Err(fail("user needs a name".to_string())),
                "topic" | "pattern" => {
                    let rule = parse_rule(number, line, word == "pattern", rest).map_err(fail)?;
                    let rules = match (word, &user) {
                        ("pattern", _) => &mut file.patterns,
                        (_, None) => &mut file.anonymous,
                        (_, Some(user)) => file.users.entry(user.clone()).or_default(),
                    };
                    let is_denial = rule.access == Access { read: false, write: false };
                    if is_denial { &mut rules.denied } else { &mut rules.allowed }.push(rule);
                }
                _ => {
                    return Err(fail(format!(
                        "{word:?} is none of user, topic and pattern; # begins a comment"
                    )));
                }
            }
        }
        Ok(file)
    }

    /// What the file says. It never says no to what it has no line for: whoever asks last does that.
    pub fn judge(&self, subject: &Subject<'_>, operation: Operation, topic: &str) -> Ruling<'_> {
        let own = match subject.user {
            None => Some(&self.anonymous),
            Some(user) => self.users.get(user),
        };
        match own.map_or(Ruling::Unknown, |rules| rules.judge(subject, operation, topic)) {
            Ruling::Unknown => self.patterns.judge(subject, operation, topic),
            ruling => ruling,
        }
    }
}

fn parse_rule(number: u32, line: &str, has_names: bool, rest: &str) -> Result<Rule, String> {
    let (first, topic) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    let topic = topic.trim();
    let access = match first {
        "read" => Some((true, false)),
        "write" => Some((false, true)),
        "readwrite" => Some((true, true)),
        "deny" => Some((false, false)),
        _ => None,
    };
    let ((read, write), topic) = match (access, topic) {
        (_, "") => ((true, true), rest),
        (Some(access), topic) => (access, topic),
        (None, _) => return Err(format!("{first:?} is none of read, write, readwrite and deny")),
    };
    let pattern = if has_names { Pattern::new(topic) } else { Pattern::literal(topic) };
    let pattern = pattern.map_err(|error| match error {
        TopicError::Empty => "a filter is missing".to_string(),
        error => format!("{topic:?} is no topic filter: {error}"),
    })?;
    Ok(Rule { access: Access { read, write }, pattern, line: number, text: line.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{Publish, Receive, Subscribe};
    use proptest::prelude::*;

    const FILE: &str = "\
# What everybody may do who does not say who he is.
topic read public/#
topic write in box

user ann smith
topic readwrite ann/#
topic deny ann/secret/#
topic read all/%u

user root
topic #
topic $SYS/#

pattern write from/%u/%c/#
pattern read to/%u/+
pattern deny locked/#
";

    #[track_caller]
    fn check(user: Option<&str>, client_id: &str, operation: Operation, topic: &str, expected: Option<bool>) {
        let file = AclFile::parse(FILE).unwrap();
        let ruling = match file.judge(&Subject { user, client_id }, operation, topic) {
            Ruling::Allow(_) => Some(true),
            Ruling::Deny(_) => Some(false),
            Ruling::Unknown => None,
        };
        assert_eq!(ruling, expected, "{user:?} {client_id} {operation:?} {topic}");
    }

    #[test]
    fn lines_before_any_user_are_for_anonymous_clients() {
        check(None, "c", Receive, "public/x", Some(true));
        check(None, "c", Publish, "public/x", None);
        check(None, "c", Publish, "in box", Some(true));
        check(Some("ann smith"), "c", Receive, "public/x", None);
    }

    #[test]
    fn a_user_has_his_lines_and_a_denial_comes_first() {
        check(Some("ann smith"), "c", Publish, "ann/x", Some(true));
        check(Some("ann smith"), "c", Publish, "ann/secret/x", Some(false));
        check(Some("ann smith"), "c", Receive, "all/ann smith", None);
        check(Some("ann smith"), "c", Receive, "all/%u", Some(true));
        check(Some("Ann smith"), "c", Publish, "ann/x", None);
        check(Some("ann smith"), "c", Publish, "Ann/x", None);
        check(Some("root"), "c", Publish, "x//y", Some(true));
        check(Some("root"), "c", Receive, "$SYS/broker", Some(true));
        check(Some("root"), "c", Receive, "$other", None);
    }

    #[test]
    fn patterns_are_for_everybody_behind_his_own_lines() {
        check(Some("bob"), "c1", Publish, "from/bob/c1/t", Some(true));
        check(Some("bob"), "c1", Publish, "from/bob/c2/t", None);
        check(Some("+"), "#", Publish, "from/bob/c2/t", None);
        check(Some("bob"), "c1", Receive, "locked/x", Some(false));
        check(Some("root"), "c1", Receive, "locked/x", Some(true));
        check(None, "c1", Publish, "from//c1/t", None);
    }

    #[test]
    fn a_filter_is_refused_when_nothing_could_come_of_it() {
        check(None, "c", Subscribe, "#", Some(true));
        check(None, "c", Subscribe, "public/a/+", Some(true));
        check(None, "c", Subscribe, "in box", None);
        check(None, "c", Subscribe, "private/#", None);
        check(None, "c", Subscribe, "$SYS/#", None);
        check(Some("ann smith"), "c", Subscribe, "ann/secret/+", Some(false));
        check(Some("ann smith"), "c", Subscribe, "ann/#", Some(true));
        check(Some("bob"), "c", Subscribe, "to/+/x", Some(true));
        check(Some("bob"), "c", Subscribe, "to/ann/x", None);
    }

    #[test]
    fn the_rule_is_named() {
        let file = AclFile::parse(FILE).unwrap();
        let subject = Subject { user: Some("ann smith"), client_id: "c" };
        match file.judge(&subject, Publish, "ann/secret/x") {
            Ruling::Deny(name) => {
                assert_eq!(name.to_string(), "line 7 of the ACL file: topic deny ann/secret/#")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_rule_is_told_with_its_line() {
        for (text, expected) in [
            ("topic read a\nfoo bar", "line 2: \"foo\" is none of"),
            ("user", "line 1: user needs a name"),
            ("topic", "line 1: a filter is missing"),
            ("topic read", ""),
            ("topic reed a", "line 1: \"reed\" is none of read"),
            ("topic read a/#/b", "line 1: \"a/#/b\" is no topic filter"),
        ] {
            match AclFile::parse(text) {
                // "read" alone is a filter like any other, as it is for Mosquitto.
                Ok(_) => assert_eq!(expected, ""),
                Err(error) => assert!(error.to_string().starts_with(expected), "{error}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "((user|topic|pattern|#|read|deny|%u|%c|a/b|\\+|\\PC)[ \t\n]?){0,20}") {
            let _ = AclFile::parse(&text);
        }
    }
}
