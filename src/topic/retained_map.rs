//! Topic names mapped to values, in order, searched by filter.
use super::filter::has_wildcard;
use std::collections::BTreeMap;
use std::ops::Bound;

/// The character behind `/`: `prefix` + this is the first string behind everything that begins with `prefix/`.
const BEHIND_SLASH: char = '0';
/// The character behind `$`, where topics that begin with `$` end.
const BEHIND_DOLLAR: &str = "%";

/// Neighbours that are looked at before a search jumps, because most targets are near and a jump costs as much as
/// about ten steps.
const WALK: u32 = 4;

/// A map from topic names to values that is searched by filter, bit by bit if need be.
///
/// The order is that of the names' bytes. Everything below `a/b/` is therefore one run of neighbours, and a search
/// jumps over the runs that its filter excludes.
pub struct RetainedMap<V> {
    topics: BTreeMap<Box<str>, V>,
}

/// What to do with one topic of a search.
#[derive(PartialEq, Eq, Debug)]
enum Step {
    /// The filter matches it.
    Match,
    /// It does not; the next one may.
    Next,
    /// None before the string in the search's buffer does.
    Seek,
    /// No later one does.
    End,
}

impl<V> Default for RetainedMap<V> {
    fn default() -> RetainedMap<V> {
        RetainedMap::new()
    }
}

impl<V> RetainedMap<V> {
    /// An empty map.
    pub fn new() -> RetainedMap<V> {
        RetainedMap { topics: BTreeMap::new() }
    }

    /// Topics in the map.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// No topic is in the map.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The value of a topic.
    pub fn get(&self, topic: &str) -> Option<&V> {
        self.topics.get(topic)
    }

    /// The value of a topic, to be changed.
    pub fn get_mut(&mut self, topic: &str) -> Option<&mut V> {
        self.topics.get_mut(topic)
    }

    /// Sets the value of a topic; the one it had is returned.
    pub fn insert(&mut self, topic: &str, value: V) -> Option<V> {
        match self.topics.get_mut(topic) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => self.topics.insert(topic.into(), value),
        }
    }

    /// Takes a topic out.
    pub fn remove(&mut self, topic: &str) -> Option<V> {
        self.topics.remove(topic)
    }

    /// Calls `visit` with every topic, in the order of the names' bytes.
    pub fn for_each(&self, visit: &mut dyn FnMut(&str, &V)) {
        self.topics.iter().for_each(|(topic, value)| visit(topic, value));
    }

    /// Calls `visit` with every topic that `filter` matches and that comes behind `after` (which need not be in the
    /// map any more), in the order of the names' bytes, until it returns false.
    ///
    /// Costs one step for every topic visited and one for every run of topics that is jumped over; a run is what
    /// stands below a level for which the filter has another name.
    pub fn scan(&self, filter: &str, after: Option<&str>, visit: &mut dyn FnMut(&str, &V) -> bool) {
        self.scan_part(filter, after, usize::MAX, visit);
    }

    /// Like [`RetainedMap::scan`], but looks at `most` topics at most, whether they match or not; then it returns the
    /// last one, behind which to go on. Returns how many it has looked at, too.
    pub fn scan_part(
        &self,
        filter: &str,
        after: Option<&str>,
        most: usize,
        visit: &mut dyn FnMut(&str, &V) -> bool,
    ) -> (Option<&str>, usize) {
        if !has_wildcard(filter) {
            if after.is_none_or(|after| after < filter)
                && let Some(value) = self.topics.get(filter)
            {
                visit(filter, value);
            }
            return (None, 1);
        }
        let start = literal_prefix(filter);
        let from = match after {
            Some(after) if after >= start => Bound::Excluded(after),
            _ => Bound::Included(start),
        };
        let mut neighbours = self.topics.range::<str, _>((from, Bound::Unbounded));
        let mut target = String::new();
        // Steps left to reach `target` on foot.
        let mut walk = 0;
        let mut looks = 0;
        let mut last = None;
        while let Some((topic, value)) = neighbours.next() {
            if looks == most {
                return (last, looks);
            }
            looks += 1;
            last = Some(&**topic);
            if walk > 0 && **topic < *target {
                walk -= 1;
                if walk == 0 {
                    neighbours =
                        self.topics.range::<str, _>((Bound::Included(target.as_str()), Bound::Unbounded));
                }
                continue;
            }
            walk = 0;
            match step(filter, topic, &mut target) {
                Step::Match => {
                    if !visit(topic, value) {
                        return (None, looks);
                    }
                }
                Step::Next => {}
                Step::Seek => {
                    debug_assert!(**topic < *target, "a jump goes forward");
                    walk = WALK;
                }
                Step::End => return (None, looks),
            }
        }
        (None, looks)
    }
}

/// The first string that a filter with wildcards can match: its levels up to the first of them.
fn literal_prefix(filter: &str) -> &str {
    let wildcard = filter.find(['+', '#']).unwrap_or(filter.len());
    let prefix = &filter[..wildcard];
    // "a/#" matches "a" too.
    if filter.ends_with("/#") { prefix.strip_suffix('/').unwrap_or(prefix) } else { prefix }
}

/// What a search for `filter` does with `topic`; for [`Step::Seek`] it writes where to go on into `target`.
fn step(filter: &str, topic: &str, target: &mut String) -> Step {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return seek(target, &[BEHIND_DOLLAR]);
    }
    // Where the topic's level that the last `+` stands for ends: only another name there leads to further matches
    // once the levels behind it are passed.
    let mut plus_end = None;
    // Where the topic's next level begins; behind its end when there is none left.
    let mut start = 0;
    let mut wanted = filter.split('/').peekable();
    while let Some(want) = wanted.next() {
        if want == "#" {
            return Step::Match;
        }
        let Some(rest) = topic.get(start..) else { return Step::Next };
        let end = start + memchr::memchr(b'/', rest.as_bytes()).unwrap_or(rest.len());
        if want == "+" {
            plus_end = Some(end);
        } else if topic[start..end] != *want {
            let above = &topic[..start];
            if rest < want {
                return seek(target, &[above, want]);
            }
            // Names like "want-x" stand between "want" and "want/".
            let between = rest.strip_prefix(want).is_some_and(|more| more < "/");
            return if between && wanted.peek().is_some() {
                seek(target, &[above, want, "/"])
            } else {
                leave(topic, plus_end, target)
            };
        }
        start = end + 1;
    }
    if start > topic.len() { Step::Match } else { leave(topic, plus_end, target) }
}

/// Goes to the next name of the level that the last `+` stands for.
fn leave(topic: &str, plus_end: Option<usize>, target: &mut String) -> Step {
    match plus_end {
        Some(end) => seek(target, &[&topic[..end], BEHIND_SLASH.encode_utf8(&mut [0; 4])]),
        None => Step::End,
    }
}

fn seek(target: &mut String, parts: &[&str]) -> Step {
    target.clear();
    target.extend(parts.iter().copied());
    Step::Seek
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What excludes a whole run of topics must jump over all of it, and no further.
    #[test]
    fn a_search_jumps_over_what_its_filter_excludes() {
        for (filter, topic, expected) in [
            ("#", "$SYS/x", Ok("%")),
            ("+/x", "$SYS/x", Ok("%")),
            ("$SYS/#", "$SYS/x", Err(Step::Match)),
            ("a/#", "a", Err(Step::Match)),
            ("a/#", "a-x", Ok("a/")),
            ("a/#", "b", Err(Step::End)),
            ("a/b/#", "a/c", Err(Step::End)),
            ("+/b", "a", Err(Step::Next)),
            ("+/b", "a/a/x", Ok("a/b")),
            ("+/b", "a/b", Err(Step::Match)),
            ("+/b", "a/b-x", Ok("a0")),
            ("+/b", "a/b/x", Ok("a0")),
            ("+/b", "a/c", Ok("a0")),
            ("+/b/#", "a/b-x", Ok("a/b/")),
            ("a/+", "a/b/c", Ok("a/b0")),
            ("a/+/c/+/e", "a/x/c/y/d", Ok("a/x/c/y/e")),
            ("a/+/c/+/e", "a/x/c/y/f", Ok("a/x/c/y0")),
            ("a/+/c/+/e", "a/x/d/y/e", Ok("a/x0")),
            ("a/+/c/+/e", "b/x/c/y/e", Err(Step::End)),
            ("+/+", "/", Err(Step::Match)),
            ("+/+", "//", Ok("/0")),
        ] {
            let mut target = String::new();
            let found = match step(filter, topic, &mut target) {
                Step::Seek => Ok(target.as_str()),
                other => Err(other),
            };
            assert_eq!(found, expected, "{filter} at {topic}");
        }
    }

    #[test]
    fn values_are_set_replaced_and_taken_out() {
        let mut map = RetainedMap::new();
        assert_eq!((map.insert("a", 1), map.insert("a", 2), map.insert("a/b", 3)), (None, Some(1), None));
        *map.get_mut("a").unwrap() += 10;
        assert_eq!((map.get("a"), map.get("b"), map.len()), (Some(&12), None, 2));
        assert_eq!((map.remove("a"), map.remove("a"), map.is_empty()), (Some(12), None, false));
    }

    #[test]
    fn a_literal_filter_is_one_look() {
        let mut map = RetainedMap::new();
        map.insert("$SYS/x", 1);
        let visits = |filter: &str, after: Option<&str>| {
            let mut visits = 0;
            map.scan(filter, after, &mut |_, _| {
                visits += 1;
                true
            });
            visits
        };
        assert_eq!(visits("$SYS/x", None), 1);
        assert_eq!(visits("$SYS/x", Some("$SYS/a")), 1);
        assert_eq!(visits("$SYS/x", Some("$SYS/x")), 0);
        assert_eq!(visits("$SYS", None), 0);
    }
}
