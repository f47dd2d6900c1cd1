//! Rows, which of them are meant, and what happens to them.

use std::fmt;

/// A lease, by the number that its store gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Keys that are meant together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// This one.
    One(String),
    /// All that begin with it; all there are when it is empty.
    Prefix(String),
    /// From the first on, up to and without the second.
    Between(String, String),
}

impl Keys {
    /// One key.
    pub fn one(key: impl Into<String>) -> Self {
        Self::One(key.into())
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self::Prefix(prefix.into())
    }

    /// Whether `key` is one of them.
    pub fn contains(&self, key: &str) -> bool {
        match self {
            Self::One(one) => key == one,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
            Self::Between(from, to) => key >= from.as_str() && key < to.as_str(),
        }
    }

    /// Whether some key may be in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let ((from, to), (other_from, other_to)) = (self.bounds(), other.bounds());
        let before =
            |end: &Option<String>, start: &String| end.as_ref().is_some_and(|e| e <= start);
        !before(&to, &other_from) && !before(&other_to, &from)
    }

    /// The first of them, and the first after them if there can be any.
    pub fn bounds(&self) -> (String, Option<String>) {
        match self {
            Self::One(key) => (key.clone(), Some(format!("{key}\0"))),
            Self::Prefix(prefix) => (prefix.clone(), after_prefix(prefix)),
            Self::Between(from, to) => (from.clone(), Some(to.clone())),
        }
    }

    /// Those of them that come after `key`.
    pub(crate) fn after(&self, key: &str) -> Self {
        // Text ends before U+10FFFF in every key that anybody writes.
        let (_, end) = self.bounds();
        Self::Between(format!("{key}\0"), end.unwrap_or_else(|| char::MAX.to_string()))
    }
}

/// The first text after all that begin with `prefix`. Bytes of UTF-8 sort as their characters do.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: String,
    /// What it holds.
    pub value: Vec<u8>,
    /// The revision that made it.
    pub created: u64,
    /// The revision that last wrote it.
    pub modified: u64,
    /// How often it was written since it was made, from 1.
    pub version: u64,
    /// The lease it goes with.
    pub lease: Option<LeaseId>,
}

/// What happened to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was made or written.
    Put(Row),
    /// It was deleted, by this revision.
    Delete {
        /// Its key.
        key: String,
        /// The revision; that of the snapshot when the deletion itself was not seen.
        revision: u64,
    },
}

impl Event {
    /// The row's key.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(row) => &row.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision that did it.
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put(row) => row.modified,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// Which life of a store answered. A store that was restored from an older snapshot has another
/// cluster, a smaller term or a smaller revision than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Era {
    /// etcd's number of the cluster.
    pub cluster: u64,
    /// Raft's term, which only grows.
    pub term: u64,
}

impl Era {
    /// Whether a store that was in `self` at revision `seen` can be in `now` at `revision` without
    /// having lost anything.
    pub fn may_become(self, seen: u64, now: Self, revision: u64) -> bool {
        self.cluster == now.cluster && self.term <= now.term && seen <= revision
    }
}

/// A question for rows.
#[derive(Clone, Debug)]
pub struct Read {
    /// Which.
    pub keys: Keys,
    /// As they were at this revision; otherwise as they are.
    pub at: Option<u64>,
    /// At most so many; all when 0.
    pub limit: usize,
    /// Without their values.
    pub bare: bool,
}

impl Read {
    /// All of them, as they are.
    pub fn new(keys: Keys) -> Self {
        Self { keys, at: None, limit: 0, bare: false }
    }

    /// As they were at `revision`.
    #[must_use]
    pub fn at(self, revision: u64) -> Self {
        Self { at: Some(revision), ..self }
    }

    /// At most `limit` of them.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Without their values.
    #[must_use]
    pub fn bare(self) -> Self {
        Self { bare: true, ..self }
    }
}

/// Rows that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Sorted by key.
    pub rows: Vec<Row>,
    /// The revision they were read at.
    pub revision: u64,
    /// Which life of the store answered.
    pub era: Era,
    /// How many rows there are, were there no limit.
    pub count: usize,
    /// Whether the limit left some out.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_text() {
        assert_eq!(Keys::prefix("a/").bounds(), ("a/".into(), Some("a0".into())));
        assert_eq!(Keys::prefix("").bounds(), (String::new(), None));
        assert_eq!(after_prefix("a\u{10ffff}"), Some("b".into()));
        assert_eq!(after_prefix("\u{10ffff}"), None);
        assert_eq!(after_prefix("\u{d7ff}"), Some("\u{e000}".into()));
    }

    #[test]
    fn keys_overlap_when_one_key_may_be_in_both() {
        let one = Keys::one("a/b");
        assert!(one.overlaps(&Keys::prefix("a/")));
        assert!(one.overlaps(&Keys::prefix("")));
        assert!(!one.overlaps(&Keys::one("a/c")));
        assert!(!one.overlaps(&Keys::prefix("a/b/")));
        assert!(!one.overlaps(&Keys::Between("a".into(), "a/b".into())));
        assert!(one.overlaps(&Keys::Between("a/b".into(), "a/c".into())));
    }

    #[test]
    fn a_restored_store_is_another_life() {
        let era = Era { cluster: 1, term: 5 };
        assert!(era.may_become(10, Era { cluster: 1, term: 6 }, 10));
        assert!(!era.may_become(10, Era { cluster: 1, term: 6 }, 9));
        assert!(!era.may_become(10, Era { cluster: 1, term: 2 }, 11));
        assert!(!era.may_become(10, Era { cluster: 2, term: 6 }, 11));
    }
}
