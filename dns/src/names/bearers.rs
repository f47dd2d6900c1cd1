//! The members that share one name: nearly always one.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    sync::Arc,
};

use rpds::RedBlackTreeMapSync;

use super::Member;

/// A member as a key: by its endpoint, which it has in it already.
#[derive(Clone, Debug)]
pub(crate) struct ByEndpoint(pub(super) Arc<Member>);

impl Borrow<str> for ByEndpoint {
    fn borrow(&self) -> &str {
        &self.0.endpoint
    }
}

impl Hash for ByEndpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.endpoint.hash(state);
    }
}

impl PartialEq for ByEndpoint {
    fn eq(&self, other: &Self) -> bool {
        self.0.endpoint == other.0.endpoint
    }
}

impl Eq for ByEndpoint {}

impl PartialOrd for ByEndpoint {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByEndpoint {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.endpoint.cmp(&other.0.endpoint)
    }
}

/// Those who bear a name, by endpoint. Ordered, so that rotation visits each.
#[derive(Clone, Debug, Default)]
pub(crate) enum Bearers {
    #[default]
    Nobody,
    One(Arc<Member>),
    /// More than one. Aside, so that there being only one takes little room.
    Many(Box<RedBlackTreeMapSync<ByEndpoint, Arc<Member>>>),
}

impl Bearers {
    /// Whether nobody is called so.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    /// All of them.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<Member>> {
        let (one, many) = match self {
            Self::Nobody => (None, None),
            Self::One(member) => (Some(member), None),
            Self::Many(members) => (None, Some(members.values())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// Adds one, in place of what the same endpoint was.
    pub(super) fn insert_mut(&mut self, member: Arc<Member>) {
        match self {
            Self::Many(members) => {
                members.insert_mut(ByEndpoint(Arc::clone(&member)), member);
            }
            Self::One(other) if other.endpoint != member.endpoint => {
                let mut members = RedBlackTreeMapSync::default();
                for member in [Arc::clone(other), member] {
                    members.insert_mut(ByEndpoint(Arc::clone(&member)), member);
                }
                *self = Self::Many(Box::new(members));
            }
            Self::Nobody | Self::One(_) => *self = Self::One(member),
        }
    }

    /// Takes one away.
    pub(super) fn remove_mut(&mut self, endpoint: &str) {
        match self {
            Self::One(member) if &*member.endpoint == endpoint => *self = Self::Nobody,
            Self::Nobody | Self::One(_) => {}
            Self::Many(members) => {
                members.remove_mut(endpoint);
                if members.size() == 1
                    && let Some(last) = members.values().next().cloned()
                {
                    *self = Self::One(last);
                }
            }
        }
    }
}
