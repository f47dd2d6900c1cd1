//! What the overlay driver is to be told of other hosts: changes gathered while a call is under
//! way, or everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ::cluster::NodeId;
use cnm::{
    EndpointId, NetworkId,
    peers::{ChangePeers, Elsewhere, Gone, Peer},
};

use super::view::{Remote, View};

/// What is not yet told.
#[derive(Debug, Default)]
pub(crate) struct Untold {
    /// Everything is to be told.
    everything: bool,
    /// Networks that came up: all there is on them is to be told.
    networks: BTreeSet<NetworkId>,
    nodes: BTreeSet<NodeId>,
    /// The numbers of nodes that went.
    gone_nodes: BTreeSet<u32>,
    /// Endpoints, with what they were when they were last told.
    remotes: BTreeMap<(NetworkId, EndpointId), Option<Remote>>,
}

/// What a driver is told, and what may resolve once it has been.
#[derive(Debug, PartialEq)]
pub(crate) struct News {
    pub(crate) call: ChangePeers,
    pub(crate) about: About,
}

/// Which endpoints elsewhere something is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// All of them.
    All,
    /// All on these networks, and these.
    Some(BTreeSet<NetworkId>, Vec<(NetworkId, EndpointId)>),
}

impl Untold {
    /// Whatever was told is to be told again, whole.
    pub(crate) fn everything(&mut self) {
        *self = Self { everything: true, ..Self::default() };
    }

    /// A network came up.
    pub(crate) fn network(&mut self, network: &NetworkId) {
        self.networks.insert(network.clone());
    }

    /// A node is there, or is another than it was.
    pub(crate) fn node(&mut self, node: &NodeId) {
        self.nodes.insert(node.clone());
    }

    /// A node is there with what it has, and was not.
    pub(crate) fn node_came(
        &mut self,
        node: &NodeId,
        number: u32,
        remotes: Vec<(NetworkId, EndpointId)>,
    ) {
        // With a node goes all it had, and what was told of that before counts no more.
        if self.gone_nodes.contains(&number) {
            return self.everything();
        }
        self.node(node);
        for (network, endpoint) in remotes {
            self.remote(network, endpoint, None);
        }
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

    /// Whether an endpoint is among it.
    pub(crate) fn is_about(&self, network: &NetworkId, endpoint: &EndpointId) -> bool {
        self.everything
            || self.networks.contains(network)
            || self.remotes.contains_key(&(network.clone(), endpoint.clone()))
    }

    /// The next call, after which nothing is untold; none when there is nothing to tell.
    pub(crate) fn take(&mut self, view: &View, up: impl Fn(&NetworkId) -> bool) -> Option<News> {
        let mut untold = std::mem::take(self);
        if untold.everything {
            let (complete, there) = (view.complete, view.elsewhere(up));
            let call = ChangePeers { complete, there, ..ChangePeers::default() };
            return Some(News { call, about: About::All });
        }
        untold.networks.retain(&up);
        // Before the first network is up a driver passes over nodes.
        let mut there = match untold.networks.is_empty() {
            false => view.elsewhere(|network| untold.networks.contains(network)),
            true => Elsewhere {
                nodes: untold.nodes.iter().filter_map(|id| view.node(id)).collect(),
                ..Elsewhere::default()
            },
        };
        let mut about = Vec::new();
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
            if let Some(now) = now {
                if !untold.networks.contains(&network) {
                    there.peers.extend(view.peer(&network, now));
                }
                about.push((network, id));
            }
        }
        keep_anothers(&mut gone.peers, view);
        let empty = there == Elsewhere::default() && gone.is_empty();
        let call = ChangePeers { there, gone, ..ChangePeers::default() };
        (!empty).then_some(News { call, about: About::Some(untold.networks, about) })
    }
}

/// Takes out of who is gone the addresses that are another's by now: the row of who has one may be read before
/// the former owner's is withdrawn by another host, and what leads to the address goes by the address alone.
fn keep_anothers(gone: &mut [Peer], view: &View) {
    let networks: BTreeSet<NetworkId> = gone.iter().map(|peer| peer.network.clone()).collect();
    for network in &networks {
        let of_network = || gone.iter().filter(|peer| peer.network == *network);
        let left: BTreeSet<IpAddr> =
            of_network().flat_map(|peer| peer.addresses.iter().copied()).collect();
        let held = view.remotes(network).flat_map(|remote| remote.member.addresses.iter().copied());
        let held: BTreeSet<IpAddr> = held.filter(|address| left.contains(address)).collect();
        for peer in gone.iter_mut().filter(|peer| peer.network == *network) {
            peer.addresses.retain(|address| !held.contains(address));
        }
    }
}
