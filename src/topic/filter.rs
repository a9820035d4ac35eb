//! Topic filters: what a client subscribes to, and which topic names they match.
use super::TopicError;
use super::name::check_size;

/// What starts a shared subscription's filter `[MQTT-4.8.2-1]`.
const SHARE_PREFIX: &str = "$share/";

/// A shared subscription, `$share/<share>/<filter>` taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shared<'a> {
    /// The share name; together with the filter it names the group.
    pub share: &'a str,
    /// The filter that topics are matched against.
    pub filter: &'a str,
}

/// Whether `filter` may be subscribed to: the rules of a name, but `#` may be the last level and `+` any level.
pub fn check_filter(filter: &str, max_levels: usize) -> Result<(), TopicError> {
    check_size(filter)?;
    let mut levels = 0;
    let mut open = true;
    for level in filter.as_bytes().split(|byte| *byte == b'/') {
        if !open {
            return Err(TopicError::HashNotLast);
        }
        for byte in level {
            match byte {
                b'#' if level.len() > 1 => return Err(TopicError::HashNotAlone),
                b'#' => open = false,
                b'+' if level.len() > 1 => return Err(TopicError::PlusNotAlone),
                0 => return Err(TopicError::Null),
                _ => {}
            }
        }
        levels += 1;
    }
    if levels > max_levels { Err(TopicError::TooManyLevels) } else { Ok(()) }
}

/// Takes `$share/<share>/<filter>` apart and checks the share name and the inner filter
/// (whose levels alone count towards `max_levels`). `None`: an ordinary filter, which is not checked here.
pub fn parse_shared(filter: &str, max_levels: usize) -> Result<Option<Shared<'_>>, TopicError> {
    let Some(rest) = filter.strip_prefix(SHARE_PREFIX) else { return Ok(None) };
    let (share, inner) = rest.split_once('/').unwrap_or((rest, ""));
    if share.is_empty() {
        return Err(TopicError::ShareNameEmpty);
    }
    if has_wildcard(share) {
        return Err(TopicError::ShareNameWildcard);
    }
    if share.contains('\0') {
        return Err(TopicError::Null);
    }
    if inner.is_empty() {
        return Err(TopicError::ShareFilterMissing);
    }
    check_filter(inner, max_levels)?;
    Ok(Some(Shared { share, filter: inner }))
}

/// Whether a valid filter can match more than the one topic that is spelled like it.
pub fn has_wildcard(filter: &str) -> bool {
    memchr::memchr2(b'+', b'#', filter.as_bytes()).is_some()
}

/// Whether `filter` matches the topic name `topic` `[MQTT-4.7.3-4]`.
///
/// `+` matches exactly one level, also an empty one; `#` the level it stands for with everything below and the level
/// above it (`a/#` matches `a`); neither, standing first, matches topics that begin with `$` `[MQTT-4.7.2-1]`.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            (_, None) => return false,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_alone_in_their_level() {
        for filter in ["#", "+", "+/+", "+/#", "/+", "/#", "a/+/b", "a/#", "/", "//", "$SYS/#", "a//+", " "] {
            assert_eq!(check_filter(filter, 3), Ok(()), "{filter}");
        }
        assert_eq!(check_filter("", 8), Err(TopicError::Empty));
        assert_eq!(check_filter("a#", 8), Err(TopicError::HashNotAlone));
        assert_eq!(check_filter("a/#b", 8), Err(TopicError::HashNotAlone));
        assert_eq!(check_filter("##", 8), Err(TopicError::HashNotAlone));
        assert_eq!(check_filter("#/", 8), Err(TopicError::HashNotLast));
        assert_eq!(check_filter("a/#/b", 8), Err(TopicError::HashNotLast));
        assert_eq!(check_filter("a+", 8), Err(TopicError::PlusNotAlone));
        assert_eq!(check_filter("++/a", 8), Err(TopicError::PlusNotAlone));
        assert_eq!(check_filter("a/\0", 8), Err(TopicError::Null));
        assert_eq!(check_filter("a/+/#", 2), Err(TopicError::TooManyLevels));
        assert_eq!(check_filter(&"a".repeat(65_536), 8), Err(TopicError::TooLong));
    }

    #[test]
    fn shared_subscriptions_are_taken_apart() {
        let shared = |share, filter| Ok(Some(Shared { share, filter }));
        assert_eq!(parse_shared("$share/g/a/+", 2), shared("g", "a/+"));
        assert_eq!(parse_shared("$share/g//", 2), shared("g", "/"));
        assert_eq!(parse_shared("$share/g/$SYS/#", 2), shared("g", "$SYS/#"));
        for ordinary in ["a/b", "$share", "$shared/g/a", "/$share/g/a", "#"] {
            assert_eq!(parse_shared(ordinary, 8), Ok(None), "{ordinary}");
        }
        assert_eq!(parse_shared("$share/", 8), Err(TopicError::ShareNameEmpty));
        assert_eq!(parse_shared("$share//a", 8), Err(TopicError::ShareNameEmpty));
        assert_eq!(parse_shared("$share/g", 8), Err(TopicError::ShareFilterMissing));
        assert_eq!(parse_shared("$share/g/", 8), Err(TopicError::ShareFilterMissing));
        assert_eq!(parse_shared("$share/+/a", 8), Err(TopicError::ShareNameWildcard));
        assert_eq!(parse_shared("$share/g#/a", 8), Err(TopicError::ShareNameWildcard));
        assert_eq!(parse_shared("$share/g\0/a", 8), Err(TopicError::Null));
        assert_eq!(parse_shared("$share/g/a#", 8), Err(TopicError::HashNotAlone));
        assert_eq!(parse_shared("$share/g/a/b/c", 2), Err(TopicError::TooManyLevels));
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/tennis/player1/#", "sport/tennis/player11", false),
            ("sport/#", "sport", true),
            ("sport/#", "sport/", true),
            ("#", "/", true),
            ("#", "a/b/c", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("+", "/", false),
            ("+/+", "/", true),
            ("+/+/+", "//", true),
            ("/#", "/", true),
            ("/#", "a", false),
            ("+/#", "a", true),
            ("a//b", "a/b", false),
            ("A", "a", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("+", "$SYS", false),
            ("$SYS/#", "$SYS/x/y", true),
            ("$SYS/#", "$SYS", true),
            ("$SYS/+", "$SYS/x", true),
            ("a/+", "a/$x", true),
            ("a/#", "a/$x", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} against {topic}");
        }
    }
}
