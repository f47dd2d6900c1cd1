//! What the overlay driver is to be told of other hosts: changes gathered while a call is under
//! way, or everything.

use std::collections::{BTreeMap, BTreeSet};

use ::cluster::NodeId;
use cnm::{
    EndpointId, NetworkId,
    peers::{ChangePeers, Elsewhere, Gone},
};

use super::view::{Remote, View};

/// What is not yet told.
#[derive(Debug, Default)]
pub(crate) struct Untold {
    /// Everything is to be told.
    everything: bool,
    nodes: BTreeSet<NodeId>,
    /// The numbers of nodes that went.
    gone_nodes: BTreeSet<u32>,
    /// Endpoints, with what they were when they were last told.
    remotes: BTreeMap<(NetworkId, EndpointId), Option<Remote>>,
}

impl Untold {
    /// Whatever was told is to be told again, whole.
    pub(crate) fn everything(&mut self) {
        *self = Self { everything: true, ..Self::default() };
    }

    /// A node is there, or is another than it was.
    pub(crate) fn node(&mut self, node: &NodeId) {
        self.nodes.insert(node.clone());
    }

    /// A node of this number went.
    pub(crate) fn node_gone(&mut self, number: u32) {
        self.gone_nodes.insert(number);
    }

    /// An endpoint elsewhere is another than it was, which is `before`.
    pub(crate) fn remote(
        &mut self,
        network: NetworkId,
        endpoint: EndpointId,
        before: Option<Remote>,
    ) {
        if !self.everything {
            self.remotes.entry((network, endpoint)).or_insert(before);
        }
    }

    /// The next call, after which nothing is untold; none when there is nothing to tell.
    pub(crate) fn take(
        &mut self,
        view: &View,
        up: impl Fn(&NetworkId) -> bool,
    ) -> Option<ChangePeers> {
        let untold = std::mem::take(self);
        if untold.everything {
            let there = view.elsewhere(up);
            return Some(ChangePeers { complete: view.complete, there, gone: Gone::default() });
        }
        let mut there = Elsewhere {
            nodes: untold.nodes.iter().filter_map(|id| view.node(id)).collect(),
            ..Elsewhere::default()
        };
        let mut gone = Gone { nodes: untold.gone_nodes.into_iter().collect(), ..Gone::default() };
        for ((network, id), before) in untold.remotes {
            if !up(&network) {
                continue;
            }
            let now = view.remote_of(&network, &id);
            if now == before.as_ref() {
                continue;
            }
            // One that moved is told as gone first, or its old addresses would stay.
            gone.peers.extend(before.and_then(|before| view.peer(&network, &before)));
            there.peers.extend(now.and_then(|now| view.peer(&network, now)));
        }
        let empty = there == Elsewhere::default() && gone.is_empty();
        (!empty).then_some(ChangePeers { complete: false, there, gone })
    }
}
