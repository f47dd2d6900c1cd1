//! What dockerd does not know any more, between the first look at it and the second.

use std::collections::BTreeSet;

use cnm::{EndpointId, NetworkId};

use crate::registry::Registry;

/// All of that.
#[derive(Debug, Default)]
pub(crate) struct Leaving(pub(super) Vec<Forgotten>);

/// A network, or who is on it.
#[derive(Debug)]
pub(super) struct Forgotten {
    pub(super) network: NetworkId,
    /// Whether dockerd has not even the network.
    pub(super) is_whole: bool,
    /// The endpoints that it does not have.
    pub(super) endpoints: Vec<EndpointId>,
}

impl Leaving {
    /// Says what is about to go, of what has not gone otherwise by now: who removes a network in Docker
    /// has dockerd forget it a moment before it says so here.
    pub(crate) fn sentence(&self, registry: &Registry) -> Option<String> {
        let names: BTreeSet<&str> = self
            .0
            .iter()
            .filter_map(|forgotten| {
                let entry = registry.network(&forgotten.network)?;
                let is_there = |id: &EndpointId| registry.endpoint(id).is_some();
                let is_left = forgotten.is_whole || forgotten.endpoints.iter().any(is_there);
                is_left.then_some(entry.network.name.as_str())
            })
            .collect();
        if names.is_empty() {
            return None;
        }
        Some(format!(
            "dockerd has forgotten networks, or containers on them, that netd has for it ({}): they go \
             in some seconds, unless it has them then",
            Vec::from_iter(names).join(", ")
        ))
    }
}
