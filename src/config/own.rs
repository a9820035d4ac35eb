//! Limits of a listener's or of a user's own: which keys their tables may have, and what they come to.
use super::ServeArgs;
use super::keys::{Keys, Origin, Setting};
use super::listener::{ListenerArgs, ListenerSettings};
use super::sources::Loaded;
use crate::limits::Limits;
use crate::limits::profiles::{MAX_PROFILES, Profiles};
use std::collections::BTreeMap;

/// Where the keys stand in the reference.
pub const HEADING: &str = "Limits of its own";
/// Keys of the whole broker that a listener and a user may have otherwise.
const OF_BOTH: [&str; 23] = [
    "max-connections-per-user",
    "max-inflight",
    "max-keep-alive",
    "max-packet",
    "max-publish-bytes",
    "max-publish-rate",
    "max-qos",
    "max-queued-bytes",
    "max-queued-messages",
    "max-session-expiry",
    "max-subscriptions",
    "max-topic-length",
    "max-topic-levels",
    "max-will",
    "min-wildcard-depth",
    "no-retain",
    "output-mark",
    "output-max",
    "queue-policy",
    "receive-maximum",
    "response-information",
    "topic-alias-max",
    "topic-alias-max-outgoing",
];
/// Keys that matter before anybody knows who the user is, so that a listener may have them only.
const OF_LISTENERS: [&str; 7] = [
    "connect-timeout",
    "connection-burst-per-address",
    "jail-time",
    "max-connect",
    "max-connection-rate-per-address",
    "max-connections-per-address",
    "max-reconnects",
];

/// The keys of a `[[user]]` table beside the limits.
#[derive(clap::Args, Clone, Debug)]
pub struct UserArgs {
    /// Verified names of the users that the table is about; each may be in one table only
    #[arg(long, value_name = "NAME", required = true)]
    pub name: Vec<String>,
}

/// A `[[user]]` table.
#[derive(Clone, Debug)]
pub struct UserTable {
    /// The line it begins at.
    pub line: usize,
    /// Whom it is about.
    pub args: UserArgs,
    /// Everything it says.
    pub settings: Vec<Setting>,
}

/// Whether a key of a listener or a user is one of the whole broker, too.
pub fn is_own_limit(key: &str) -> bool {
    OF_BOTH.contains(&key) || OF_LISTENERS.contains(&key)
}

/// The keys of a `[[listener]]` table.
pub fn listener_keys() -> Keys {
    Keys::of::<ListenerArgs>().and(&[&OF_LISTENERS[..], &OF_BOTH].concat())
}

/// The keys of a `[[user]]` table.
pub fn user_keys() -> Keys {
    Keys::of::<UserArgs>().and(&OF_BOTH)
}

/// What a table says of limits.
pub fn own_limits(settings: &[Setting]) -> Vec<Setting> {
    settings.iter().filter(|setting| is_own_limit(&setting.key)).cloned().collect()
}

/// The limits of everybody, with `listeners` in the order of their numbers. The error is one sentence with its line.
pub fn profiles(loaded: &Loaded, listeners: &[ListenerSettings]) -> Result<Profiles, String> {
    let mut users: BTreeMap<Box<str>, usize> = BTreeMap::new();
    for (group, table) in loaded.users.iter().enumerate() {
        for name in &table.args.name {
            if users.insert(name.as_str().into(), group).is_some() {
                let what = format!("user {name:?} is in a table already; give each user one");
                return Err(loaded.at(table.line, &what));
            }
        }
    }
    let of_users: Vec<Vec<Setting>> = loaded.users.iter().map(|table| own_limits(&table.settings)).collect();
    if (1 + of_users.len()).saturating_mul(1 + listeners.len()) > MAX_PROFILES {
        return Err(format!(
            "{} [[user]] tables on {} listeners are too many combinations; put users with the same limits into one \
             table, so that there are at most {MAX_PROFILES}",
            of_users.len(),
            listeners.len()
        ));
    }
    let keys = Keys::of::<ServeArgs>();
    let nothing = Vec::new();
    let rows = std::iter::once(&nothing).chain(listeners.iter().map(|listener| &listener.own));
    let row = |listener: &Vec<Setting>| {
        let columns = std::iter::once(&nothing).chain(&of_users);
        columns.map(|user| limits(loaded, &keys, listener, user)).collect::<Result<Vec<_>, _>>()
    };
    Ok(Profiles::new(rows.map(row).collect::<Result<_, _>>()?, users))
}

/// What holds for a user on a listener: what is said of the user, else of the listener, else for everybody.
fn limits(loaded: &Loaded, keys: &Keys, listener: &[Setting], user: &[Setting]) -> Result<Limits, String> {
    let all = loaded.found.iter().chain(listener).chain(user);
    let weightiest: BTreeMap<&str, &Setting> = all.map(|setting| (setting.key.as_str(), setting)).collect();
    let settings: Vec<Setting> = weightiest.into_values().cloned().collect();
    let limits = keys.parse::<ServeArgs>(&settings).and_then(|args| args.limits());
    limits.map_err(|what| {
        // The one that is out of range, or does not go with another, is named.
        let named = user.iter().chain(listener).find(|setting| what.contains(&format!("--{} ", setting.key)));
        match named.map(|setting| setting.origin) {
            Some(Origin::File(line)) => loaded.at(line, &what),
            _ => what,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tables_may_have_are_keys() {
        let keys = Keys::of::<ServeArgs>();
        for key in [&OF_BOTH[..], &OF_LISTENERS].concat() {
            assert!(keys.get(key).is_some() && listener_keys().get(key).is_some(), "{key}");
        }
    }
}
