//! What this host knows of the cluster: the store's rows, read. Pure: it says what each event
//! changed, and others see to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use ::cluster::{
    Key, Layout, NodeId,
    rows::{self, Config},
};
use ::store::{Event, Row};
use cnm::{
    EndpointId, MacAddr, NetworkId,
    peers::{Elsewhere, Node, Peer},
};
use ipnetwork::IpNetwork;

/// An endpoint on another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// The host.
    pub(crate) node: NodeId,
    /// Its link-layer address.
    pub(crate) mac: MacAddr,
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// What it answers to.
    pub(crate) names: Vec<String>,
}

/// What an event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// What holds for the whole cluster.
    Config,
    /// A node is there, is another than it was, or is gone.
    Node(NodeId),
    /// A node lives, or does not say so any more.
    Live(NodeId),
    /// A network is there, is another than it was, or is gone.
    Network(NetworkId),
    /// The blocks of a network.
    Blocks(NetworkId),
    /// An endpoint elsewhere: what it was before.
    Remote(NetworkId, EndpointId, Option<Remote>),
    /// A row of this host's own.
    Own,
}

/// The rows, read.
#[derive(Debug)]
pub(crate) struct View {
    layout: Layout,
    own: NodeId,
    pub(crate) config: Config,
    pub(crate) nodes: BTreeMap<NodeId, rows::Node>,
    pub(crate) live: BTreeSet<NodeId>,
    pub(crate) networks: BTreeMap<NetworkId, rows::Network>,
    blocks: BTreeMap<NetworkId, BTreeMap<IpNetwork, rows::Block>>,
    remotes: BTreeMap<NetworkId, BTreeMap<EndpointId, Remote>>,
    /// This host's own endpoints, as the store has them.
    pub(crate) written: BTreeMap<String, Vec<u8>>,
    /// The store's revision up to which everything is known.
    pub(crate) revision: u64,
    /// Whether everything is known as of that revision.
    pub(crate) complete: bool,
    /// The revision that last wrote this host's own node.
    pub(crate) here_modified: u64,
}

impl View {
    /// Of nothing yet, for a node.
    pub(crate) fn new(layout: Layout, own: NodeId) -> Self {
        Self {
            layout,
            own,
            config: Config::default(),
            nodes: BTreeMap::new(),
            live: BTreeSet::new(),
            networks: BTreeMap::new(),
            blocks: BTreeMap::new(),
            remotes: BTreeMap::new(),
            written: BTreeMap::new(),
            revision: 0,
            complete: false,
            here_modified: 0,
        }
    }

    /// Takes an event in. One that says nothing new changes nothing.
    pub(crate) fn apply(&mut self, event: &Event) -> Option<Changed> {
        let key = self.layout.parse(event.key())?;
        let row = match event {
            Event::Put(row) => Some(row),
            Event::Delete { .. } => None,
        };
        match key {
            Key::Config => {
                self.config = read(row?)?;
                Some(Changed::Config)
            }
            Key::Node(node) => {
                if node == self.own {
                    self.here_modified = row.map_or(0, |row| row.modified);
                }
                set(&mut self.nodes, node.clone(), row).then_some(Changed::Node(node))
            }
            Key::Live(node) => {
                let changed = match row {
                    Some(_) => self.live.insert(node.clone()),
                    None => self.live.remove(&node),
                };
                changed.then_some(Changed::Live(node))
            }
            Key::Network(network) => {
                set(&mut self.networks, network.clone(), row).then_some(Changed::Network(network))
            }
            Key::Block(network, block) => {
                let blocks = self.blocks.entry(network.clone()).or_default();
                let changed = set(blocks, block, row);
                if blocks.is_empty() {
                    self.blocks.remove(&network);
                }
                changed.then_some(Changed::Blocks(network))
            }
            Key::Endpoint(node, _, _) if node == self.own => {
                match row {
                    Some(row) => self.written.insert(row.key.clone(), row.value.clone()),
                    None => self.written.remove(event.key()),
                };
                Some(Changed::Own)
            }
            Key::Endpoint(node, network, id) => self.remote(node, network, id, row),
            _ => None,
        }
    }

    fn remote(
        &mut self,
        node: NodeId,
        network: NetworkId,
        id: EndpointId,
        row: Option<&Row>,
    ) -> Option<Changed> {
        let now = match row {
            Some(row) => {
                let rows::Endpoint { addresses, mac, names, .. } = read(row)?;
                Some(Remote { node, mac, addresses, names })
            }
            None => None,
        };
        let remotes = self.remotes.entry(network.clone()).or_default();
        let (before, same) = match now {
            Some(now) => {
                let same = remotes.get(&id) == Some(&now);
                (remotes.insert(id.clone(), now), same)
            }
            None => {
                let before = remotes.remove(&id);
                let same = before.is_none();
                (before, same)
            }
        };
        if remotes.is_empty() {
            self.remotes.remove(&network);
        }
        (!same).then_some(Changed::Remote(network, id, before))
    }

    /// The node that this host is, as the store has it.
    pub(crate) fn here(&self) -> Option<&rows::Node> {
        self.nodes.get(&self.own)
    }

    /// The endpoints elsewhere on a network.
    pub(crate) fn remotes(
        &self,
        network: &NetworkId,
    ) -> impl Iterator<Item = (&EndpointId, &Remote)> {
        self.remotes.get(network).into_iter().flatten()
    }

    /// One of them.
    pub(crate) fn remote_of(&self, network: &NetworkId, id: &EndpointId) -> Option<&Remote> {
        self.remotes.get(network)?.get(id)
    }

    /// Where a node has endpoints, and which.
    pub(crate) fn on_node(&self, node: &NodeId) -> Vec<(NetworkId, EndpointId)> {
        let all = self.remotes.iter().flat_map(|(network, remotes)| {
            remotes.iter().map(move |(id, remote)| (network, id, remote))
        });
        all.filter(|(.., remote)| remote.node == *node)
            .map(|(network, id, _)| (network.clone(), id.clone()))
            .collect()
    }

    /// All endpoints elsewhere.
    pub(crate) fn all_remotes(&self) -> Vec<(NetworkId, EndpointId)> {
        let all = self.remotes.iter();
        all.flat_map(|(network, remotes)| remotes.keys().map(|id| (network.clone(), id.clone())))
            .collect()
    }

    /// How many endpoints there are elsewhere.
    pub(crate) fn count_remotes(&self) -> usize {
        self.remotes.values().map(BTreeMap::len).sum()
    }

    /// The blocks of a network that are this host's, with the addresses of them that others have,
    /// and the addresses of others' blocks that this host has.
    pub(crate) fn own_blocks(
        &self,
        network: &NetworkId,
    ) -> (BTreeMap<IpNetwork, BTreeSet<IpAddr>>, BTreeSet<IpAddr>) {
        let (mut own, mut borrowed) = (BTreeMap::new(), BTreeSet::new());
        for (block, row) in self.blocks.get(network).into_iter().flatten() {
            if row.node == self.own {
                own.insert(*block, row.lent.keys().copied().collect());
            } else {
                let lent = row.lent.iter().filter(|(_, holder)| **holder == self.own);
                borrowed.extend(lent.map(|(address, _)| *address));
            }
        }
        (own, borrowed)
    }

    /// A node, as drivers know it.
    pub(crate) fn node(&self, id: &NodeId) -> Option<Node> {
        driver_node(self.nodes.get(id)?, &self.config)
    }

    /// An endpoint, as drivers know it.
    pub(crate) fn peer(&self, network: &NetworkId, remote: &Remote) -> Option<Peer> {
        let node = self.node(&remote.node)?.number;
        let (network, addresses) = (network.clone(), remote.addresses.clone());
        Some(Peer { network, node, mac: remote.mac, addresses })
    }

    /// Everything that there is elsewhere of networks that are `up`.
    pub(crate) fn elsewhere(&self, up: impl Fn(&NetworkId) -> bool) -> Elsewhere {
        let others = self.nodes.keys().filter(|id| **id != self.own);
        let mut there = Elsewhere {
            nodes: others.filter_map(|id| self.node(id)).collect(),
            ..Default::default()
        };
        for (network, remotes) in self.remotes.iter().filter(|(network, _)| up(network)) {
            there.peers.extend(remotes.values().filter_map(|remote| self.peer(network, remote)));
        }
        there
    }
}

/// A node's number is where its address is in the node subnet; that of IPv6 has the same number.
fn driver_node(row: &rows::Node, config: &Config) -> Option<Node> {
    let (vtep, subnet) = (row.facts.vtep()?, config.node_subnet);
    let number = match (row.ingress, subnet.network()) {
        (IpAddr::V4(address), IpAddr::V4(base)) => address.to_bits().checked_sub(base.to_bits())?,
        (IpAddr::V6(address), IpAddr::V6(base)) => {
            u32::try_from(address.to_bits().checked_sub(base.to_bits())?).ok()?
        }
        _ => return None,
    };
    let mut addresses = vec![IpNetwork::new(row.ingress, subnet.prefix()).ok()?];
    addresses.extend(config.node_subnet6.and_then(|six| {
        let address = Ipv6Addr::from_bits(six.network().to_bits() + u128::from(number));
        IpNetwork::new(address.into(), six.prefix()).ok()
    }));
    Some(Node { number, vtep, addresses })
}

/// What a row says; one that cannot be read is of a later version, and is as good as none.
fn read<T: serde::de::DeserializeOwned>(row: &Row) -> Option<T> {
    rows::read(row).inspect_err(|error| tracing::error!(%error, "row passed over")).ok()
}

/// Puts a row into a map, or takes it out; whether that changed anything.
fn set<K: Ord, T: serde::de::DeserializeOwned + PartialEq>(
    map: &mut BTreeMap<K, T>,
    key: K,
    row: Option<&Row>,
) -> bool {
    match row {
        Some(row) => {
            let Some(value) = read::<T>(row) else { return false };
            let same = map.get(&key) == Some(&value);
            map.insert(key, value);
            !same
        }
        None => map.remove(&key).is_some(),
    }
}

#[cfg(test)]
mod tests;
