//! What only a change looks at: whom each endpoint has published. There is one of it, so that a change
//! of it copies nothing.

use std::sync::Arc;

use super::bearers::ByEndpoint;
use super::trie::Trie;
use super::{Member, NetworkKey};

/// The members of each network, by their endpoints.
#[derive(Debug, Default)]
pub(super) struct Members(Trie<NetworkKey, Trie<ByEndpoint, ()>>);

impl Members {
    /// The one that an endpoint has published on a network.
    pub(super) fn get(&self, network: &str, endpoint: &str) -> Option<&Arc<Member>> {
        self.0.get(network)?.get_key(endpoint).map(|ByEndpoint(member)| member)
    }

    /// Whether a network has none.
    pub(super) fn is_empty(&self, network: &str) -> bool {
        !self.0.contains_key(network)
    }

    /// Adds one, in place of what its endpoint has published there before.
    pub(super) fn insert(&mut self, network: &str, member: Arc<Member>) {
        if !self.0.contains_key(network) {
            self.0.insert_mut(network.into(), Trie::default());
        }
        if let Some(members) = self.0.get_mut(network) {
            members.insert_mut(ByEndpoint(member), ());
        }
    }

    /// Takes one away.
    pub(super) fn remove(&mut self, network: &str, endpoint: &str) -> Option<Arc<Member>> {
        let members = self.0.get_mut(network)?;
        let ByEndpoint(member) = members.get_key(endpoint)?.clone();
        members.remove_mut(endpoint);
        if members.is_empty() {
            self.0.remove_mut(network);
        }
        Some(member)
    }

    /// Takes all of a network's away.
    pub(super) fn remove_all(&mut self, network: &str) -> Vec<Arc<Member>> {
        let members = self.0.get(network).map_or_else(Vec::new, |members| {
            members.keys().map(|ByEndpoint(member)| Arc::clone(member)).collect()
        });
        self.0.remove_mut(network);
        members
    }
}
