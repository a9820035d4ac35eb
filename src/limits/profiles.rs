//! Limits that differ by listener and by user.
//!
//! What is said of a user outweighs what is said of a listener, and that what holds for the whole broker, key by key. Every
//! combination is worked out beforehand, so that whoever asks on the way of a message looks into a table by number.
use super::Limits;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Combinations of listeners and groups of users with limits of their own; more are refused at start.
pub const MAX_PROFILES: usize = 16_384;

/// The limits of everybody. Replaced as a whole when they change.
#[derive(Clone, Debug)]
pub struct Profiles {
    /// What holds for the broker as a whole, and for everybody of whom nothing else is said.
    pub common: Arc<Limits>,
    /// A row for no listener in particular and then one for each; in each a column for all other users and then one for
    /// each group.
    entries: Vec<Limits>,
    columns: usize,
    /// The column of a user.
    users: BTreeMap<Box<str>, usize>,
}

impl From<Limits> for Profiles {
    /// The same for everybody.
    fn from(limits: Limits) -> Profiles {
        Profiles::new(vec![vec![limits]], BTreeMap::new())
    }
}

impl Profiles {
    /// `rows`: for no listener in particular and then for each listener, in the order of their numbers, the limits of users
    /// in no group and then those of each group; between 1 and [`MAX_PROFILES`] in all. `users`: the number of each user's
    /// group, from 0.
    pub fn new(rows: Vec<Vec<Limits>>, users: BTreeMap<Box<str>, usize>) -> Profiles {
        let columns = rows[0].len();
        assert!(
            rows.iter().all(|row| row.len() == columns) && users.values().all(|group| group + 1 < columns)
        );
        let entries: Vec<Limits> = rows.into_iter().flatten().collect();
        assert!(entries.len() <= MAX_PROFILES, "more are refused at start");
        let users = users.into_iter().map(|(user, group)| (user, group + 1)).collect();
        Profiles { common: Arc::new(entries[0].clone()), entries, columns, users }
    }

    /// The number of the limits of a user on a listener.
    pub fn number(&self, listener: Option<u16>, user: Option<&str>) -> u16 {
        let row = listener.map_or(0, |listener| usize::from(listener) + 1);
        let row = if row < self.entries.len() / self.columns { row } else { 0 };
        let column = user.and_then(|user| self.users.get(user)).copied().unwrap_or(0);
        (row * self.columns + column) as u16
    }

    /// The listener of a number.
    pub fn listener(&self, number: u16) -> Option<u16> {
        (usize::from(number) / self.columns).checked_sub(1).map(|listener| listener as u16)
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Limits> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_that_of_a_listener_and_a_user() {
        let limits = |max_qos| Limits { max_qos, ..Limits::default() };
        let rows = (0..3u8).map(|row| (0..2).map(|column| limits(2 * row + column)).collect()).collect();
        let profiles = Profiles::new(rows, [("ann".into(), 0)].into());
        let found = |listener, user| {
            let number = profiles.number(listener, user);
            (profiles.iter().nth(number.into()).unwrap().max_qos, profiles.listener(number))
        };
        assert_eq!(found(None, None), (0, None));
        assert_eq!(found(None, Some("ann")), (1, None));
        assert_eq!(found(Some(0), Some("bob")), (2, Some(0)));
        assert_eq!(found(Some(1), Some("ann")), (5, Some(1)));
        assert_eq!(found(Some(7), None), (0, None), "a listener of which nothing is said");
    }
}
