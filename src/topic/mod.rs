//! Topic names and topic filters, and the two maps that are searched by them.
//!
//! [`FilterMap`] maps filters to values and is searched by a topic name (who is subscribed?);
//! [`RetainedMap`] maps topic names to values and is searched by a filter (what is retained?).
//! Both expect strings that [`check_name`] or [`check_filter`] accepted; others do no harm, but find nothing sensible.
mod children;
mod filter;
mod filter_map;
mod literal_map;
mod name;
mod relation;
mod retained_map;
mod trie;

pub use filter::{Shared, check_filter, has_wildcard, matches, parse_shared};
pub use filter_map::FilterMap;
pub use name::check_name;
pub use relation::{covers, overlaps};
pub use retained_map::RetainedMap;
use thiserror::Error;

/// Longest topic name or filter in bytes: what the two-byte length of an MQTT string can say `[MQTT-4.7.3-3]`.
pub const MAX_LEN: usize = 65_535;

/// Why a string is no topic name, no filter or no shared subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TopicError {
    /// Names and filters have at least one character `[MQTT-4.7.3-1]`.
    #[error("it is empty")]
    Empty,
    /// Longer than [`MAX_LEN`] `[MQTT-4.7.3-3]`.
    #[error("it is longer than 65535 bytes")]
    TooLong,
    /// More levels than the broker allows (`Limits::max_topic_levels`).
    #[error("it has more levels than the broker allows")]
    TooManyLevels,
    /// U+0000 is forbidden in names and filters `[MQTT-4.7.3-2]`.
    #[error("it contains the null character")]
    Null,
    /// `+` or `#` in a topic name `[MQTT-4.7.0-1]`, `[MQTT-3.3.2-2]`.
    #[error("a topic name cannot contain wildcards")]
    WildcardInName,
    /// `#` shares its level with other characters `[MQTT-4.7.1-1]`.
    #[error("'#' must be a level of its own")]
    HashNotAlone,
    /// `#` is followed by further levels `[MQTT-4.7.1-1]`.
    #[error("'#' must be the last level")]
    HashNotLast,
    /// `+` shares its level with other characters `[MQTT-4.7.1-2]`.
    #[error("'+' must be a level of its own")]
    PlusNotAlone,
    /// The share name of `$share/name/filter` is empty `[MQTT-4.8.2-1]`.
    #[error("the share name is empty")]
    ShareNameEmpty,
    /// The share name contains `+` or `#` `[MQTT-4.8.2-2]`.
    #[error("the share name cannot contain wildcards")]
    ShareNameWildcard,
    /// The share name is not followed by `/` and a filter `[MQTT-4.8.2-2]`.
    #[error("the share name is not followed by a filter")]
    ShareFilterMissing,
}

#[cfg(test)]
mod agreement;
