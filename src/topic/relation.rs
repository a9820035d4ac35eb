//! How two filters relate: whether one takes in the other, and whether some topic matches both.

/// Whether every topic that `narrow` matches is one that `wide` matches. Both are valid filters. It may be answered
/// with no where a filter says the same in more words (`+/#` for `#`).
pub fn covers(wide: &str, narrow: &str) -> bool {
    if starts_apart(wide, narrow) {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            (_, Some("#")) => return false,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether some topic matches both filters.
pub fn overlaps(one: &str, other: &str) -> bool {
    if starts_apart(one, other) {
        return false;
    }
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// One begins with `$`, the other with a wildcard, which matches no such topic ([MQTT-4.7.2-1]).
fn starts_apart(one: &str, other: &str) -> bool {
    let is_apart = |a: &str, b: &str| a.starts_with('$') && b.starts_with(['+', '#']);
    is_apart(one, other) || is_apart(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::matches;
    use proptest::prelude::*;

    #[test]
    fn wide_filters_cover_narrow_ones() {
        for (wide, narrow, expected) in [
            ("#", "a/+/#", true),
            ("a/#", "a", true),
            ("a/#", "a/+", true),
            ("a/+", "a/b", true),
            ("a/+", "a/#", false),
            ("a/b", "a/+", false),
            ("+", "#", false),
            ("#", "$SYS/#", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/+/x", true),
            ("a", "a/b", false),
            ("a/+/c", "a/b/+", false),
            ("", "", true),
            ("/+", "//", false),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} over {narrow}");
        }
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("$x"), Just("+")];
        (prop::collection::vec(level, 1..4), any::<bool>()).prop_map(|(levels, open)| {
            let text = levels.join("/");
            if open { format!("{text}/#") } else { text }
        })
    }
    fn topic() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("$x")];
        prop::collection::vec(level, 1..5).prop_map(|levels| levels.join("/"))
    }

    proptest! {
        #[test]
        fn both_agree_with_matching(one in filter(), other in filter(), topic in topic()) {
            let (by_one, by_other) = (matches(&one, &topic), matches(&other, &topic));
            prop_assert!(!(by_one && by_other) || overlaps(&one, &other));
            prop_assert!(!(covers(&one, &other) && by_other) || by_one);
            prop_assert_eq!(overlaps(&one, &other), overlaps(&other, &one));
        }
    }
}
