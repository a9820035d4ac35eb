//! Topic names: what a message is published to.
use super::{MAX_LEN, TopicError};

/// Whether `name` may be published to: 1 to [`MAX_LEN`] bytes, no wildcard, no U+0000, at most `max_levels` levels.
pub fn check_name(name: &str, max_levels: usize) -> Result<(), TopicError> {
    check_size(name)?;
    let mut levels = 1;
    for byte in name.bytes() {
        match byte {
            b'/' => levels += 1,
            b'+' | b'#' => return Err(TopicError::WildcardInName),
            0 => return Err(TopicError::Null),
            _ => {}
        }
    }
    if levels > max_levels { Err(TopicError::TooManyLevels) } else { Ok(()) }
}

/// The length rules names and filters share.
pub(super) fn check_size(topic: &str) -> Result<(), TopicError> {
    match topic.len() {
        0 => Err(TopicError::Empty),
        1..=MAX_LEN => Ok(()),
        _ => Err(TopicError::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_every_odd_level_are_fine() {
        for name in ["/", "//", "a", "/a", "a/", "a//b", " ", "$SYS/x", "ä/€", "$share/x"] {
            assert_eq!(check_name(name, 3), Ok(()), "{name}");
        }
    }

    #[test]
    fn each_broken_rule_has_its_own_error() {
        assert_eq!(check_name("", 8), Err(TopicError::Empty));
        assert_eq!(check_name("a\0b", 8), Err(TopicError::Null));
        assert_eq!(check_name("a/+", 8), Err(TopicError::WildcardInName));
        assert_eq!(check_name("a#", 8), Err(TopicError::WildcardInName));
        assert_eq!(check_name("a/b/c", 2), Err(TopicError::TooManyLevels));
        assert_eq!(check_name(&"x".repeat(MAX_LEN), 8), Ok(()));
        assert_eq!(check_name(&"x".repeat(MAX_LEN + 1), 8), Err(TopicError::TooLong));
    }
}
