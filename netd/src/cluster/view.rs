//! What this host knows of the cluster: the store's rows, read. Pure: it says what each event
//! changed, and others see to it.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ::cluster::{
    Key, NodeId,
    rows::{self, Config},
};
use ::store::{Event, Row};
use cnm::{
    EndpointId, MacAddr, NetworkId,
    peers::{Elsewhere, Node, Peer},
};
use ipnetwork::IpNetwork;

use crate::names::given::ports_read;

/// An endpoint on another host. There may be very many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// The host.
    pub(crate) node: Rc<NodeId>,
    /// Its link-layer address.
    pub(crate) mac: MacAddr,
    /// Its id, its addresses, its ports, and what it answers to; shared with the resolver.
    pub(crate) member: Arc<dns::Member>,
}

impl Remote {
    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.member.endpoint
    }
}

/// One of a network, found by its id.
#[derive(Debug)]
struct ById(Remote);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.0.id()
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Eq for ById {}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ById {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id().cmp(other.0.id())
    }
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
    /// A node has been away for so long, as others have seen.
    Away(NodeId, Duration),
    /// A network is there, is another than it was, or is gone.
    Network(NetworkId),
    /// The blocks of a network that are this host's, or of which it has addresses.
    Blocks(NetworkId),
    /// An endpoint elsewhere: what it was before.
    Remote(NetworkId, EndpointId, Option<Remote>),
    /// An endpoint of this host's own has a row.
    Written(NetworkId, EndpointId),
    /// One has none any more.
    Unwritten,
}

/// The rows, read.
#[derive(Debug)]
pub(crate) struct View {
    own: NodeId,
    pub(crate) config: Config,
    pub(crate) nodes: BTreeMap<NodeId, rows::Node>,
    pub(crate) live: BTreeSet<NodeId>,
    pub(crate) networks: BTreeMap<NetworkId, rows::Network>,
    /// Those that are this host's, or of which it has addresses.
    blocks: BTreeMap<NetworkId, BTreeMap<IpNetwork, rows::Block>>,
    remotes: BTreeMap<NetworkId, BTreeSet<ById>>,
    /// Those of them that have a link-layer address; of two that took the same at once, the later.
    macs: BTreeMap<NetworkId, BTreeMap<MacAddr, Remote>>,
    /// The nodes that have them, once each.
    holders: BTreeSet<Rc<NodeId>>,
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
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            config: Config::default(),
            nodes: BTreeMap::new(),
            live: BTreeSet::new(),
            networks: BTreeMap::new(),
            blocks: BTreeMap::new(),
            remotes: BTreeMap::new(),
            macs: BTreeMap::new(),
            holders: BTreeSet::new(),
            written: BTreeMap::new(),
            revision: 0,
            complete: false,
            here_modified: 0,
        }
    }

    /// Takes an event in, of this key. One that says nothing new changes nothing.
    pub(crate) fn apply(&mut self, key: Key, event: &Event) -> Option<Changed> {
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
            Key::Away(node) => {
                let away: rows::Away = read(row?)?;
                Some(Changed::Away(node, Duration::from_secs(away.seconds)))
            }
            Key::Network(network) => {
                set(&mut self.networks, network.clone(), row).then_some(Changed::Network(network))
            }
            Key::Block(network, block) => {
                let row = match row {
                    Some(row) => Some(read::<rows::Block>(row)?),
                    None => None,
                };
                // Who else has what is for managers to know.
                let row = row.filter(|row| {
                    let mut others = row.lent.values().chain(row.refused.values());
                    row.node == self.own || others.any(|node| *node == self.own)
                });
                let blocks = self.blocks.entry(network.clone()).or_default();
                let changed = match row {
                    Some(row) => {
                        blocks.get(&block) != Some(&row) && {
                            blocks.insert(block, row);
                            true
                        }
                    }
                    None => blocks.remove(&block).is_some(),
                };
                if blocks.is_empty() {
                    self.blocks.remove(&network);
                }
                changed.then_some(Changed::Blocks(network))
            }
            Key::Endpoint(node, network, id) if node == self.own => match row {
                Some(row) => {
                    self.written.insert(row.key.clone(), row.value.clone());
                    Some(Changed::Written(network, id))
                }
                None => {
                    self.written.remove(event.key());
                    Some(Changed::Unwritten)
                }
            },
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
                let rows::Endpoint { addresses, mac, names, ports, .. } = read(row)?;
                let member = Arc::new(dns::Member {
                    endpoint: id.as_str().into(),
                    names: names.into_iter().map(String::into_boxed_str).collect(),
                    addresses: addresses.into(),
                    ports: ports_read(&ports),
                    ..dns::Member::default()
                });
                Some(Remote { node: self.holder(node), mac, member })
            }
            None => None,
        };
        if !self.remotes.contains_key(&network) {
            self.remotes.insert(network.clone(), BTreeSet::new());
        }
        let remotes = self.remotes.get_mut(&network)?;
        let before = remotes.get(id.as_str()).map(|known| known.0.clone());
        if before == now {
            return None;
        }
        index(self.macs.entry(network.clone()).or_default(), before.as_ref(), now.as_ref());
        match now {
            Some(now) => drop(remotes.replace(ById(now))),
            None => drop(remotes.take(id.as_str())),
        }
        if remotes.is_empty() {
            self.remotes.remove(&network);
            self.macs.remove(&network);
        }
        Some(Changed::Remote(network, id, before))
    }

    fn holder(&mut self, node: NodeId) -> Rc<NodeId> {
        if let Some(known) = self.holders.get(&node) {
            return known.clone();
        }
        let holder = Rc::new(node);
        self.holders.insert(holder.clone());
        holder
    }

    /// Forgets everybody else, and gives what they had: this host is on its own, and knows all that
    /// there is for it.
    pub(crate) fn forget_others(&mut self) -> Vec<(NetworkId, EndpointId)> {
        let all = self.all_remotes();
        let had =
            all.filter_map(|(network, remote)| Some((network.clone(), remote.id().parse().ok()?)));
        let had = had.collect();
        self.remotes.clear();
        self.macs.clear();
        self.holders.clear();
        self.live.clear();
        self.nodes.retain(|node, _| *node == self.own);
        self.complete = true;
        had
    }

    /// The node that this host is, as the store has it.
    pub(crate) fn here(&self) -> Option<&rows::Node> {
        self.nodes.get(&self.own)
    }

    /// The endpoints elsewhere on a network.
    pub(crate) fn remotes(&self, network: &NetworkId) -> impl Iterator<Item = &Remote> {
        self.remotes.get(network).into_iter().flatten().map(|known| &known.0)
    }

    /// One of them.
    pub(crate) fn remote_of(&self, network: &NetworkId, id: &EndpointId) -> Option<&Remote> {
        self.remotes.get(network)?.get(id.as_str()).map(|known| &known.0)
    }

    /// The name of the endpoint elsewhere that has a link-layer address on a network, and its node's.
    pub(crate) fn holder_of_mac(
        &self,
        network: &NetworkId,
        mac: MacAddr,
    ) -> Option<(String, String)> {
        let remote = self.macs.get(network)?.get(&mac)?;
        let name = remote.member.names.first().map_or_else(|| remote.id(), AsRef::as_ref);
        let row = self.nodes.get(&*remote.node);
        let node = row.map_or_else(|| remote.node.to_string(), |row| row.facts.name.clone());
        Some((name.to_owned(), node))
    }

    /// Where a node has endpoints, and which.
    pub(crate) fn on_node(&self, node: &NodeId) -> Vec<(NetworkId, EndpointId)> {
        let there = self.all_remotes().filter(|(_, remote)| *remote.node == *node);
        there
            .filter_map(|(network, remote)| Some((network.clone(), remote.id().parse().ok()?)))
            .collect()
    }

    /// All endpoints elsewhere.
    fn all_remotes(&self) -> impl Iterator<Item = (&NetworkId, &Remote)> {
        let all = self.remotes.iter();
        all.flat_map(|(network, remotes)| remotes.iter().map(move |known| (network, &known.0)))
    }

    /// How many endpoints each other node has, where it has any.
    pub(crate) fn count_on_nodes(&self) -> BTreeMap<&NodeId, usize> {
        let mut counts = BTreeMap::new();
        for (_, remote) in self.all_remotes() {
            *counts.entry(&*remote.node).or_insert(0) += 1;
        }
        counts
    }

    /// How many endpoints there are elsewhere.
    pub(crate) fn count_remotes(&self) -> usize {
        self.remotes.values().map(BTreeSet::len).sum()
    }

    /// The blocks of a network that are this host's, with the addresses of them that others have or
    /// ask for, and the addresses of others' blocks that this host has.
    pub(crate) fn own_blocks(
        &self,
        network: &NetworkId,
    ) -> (BTreeMap<IpNetwork, BTreeSet<IpAddr>>, BTreeSet<IpAddr>) {
        let (mut own, mut borrowed) = (BTreeMap::new(), BTreeSet::new());
        for (block, row) in self.blocks.get(network).into_iter().flatten() {
            if row.node == self.own {
                let others = row.lent.keys().chain(row.asked.keys());
                own.insert(*block, others.copied().collect());
            } else {
                let lent = row.lent.iter().filter(|(_, holder)| **holder == self.own);
                borrowed.extend(lent.map(|(address, _)| *address));
            }
        }
        (own, borrowed)
    }

    /// Whether an address is this host's to give.
    pub(crate) fn is_ours(&self, network: &NetworkId, address: IpAddr) -> bool {
        let Some(blocks) = self.blocks.get(network) else { return false };
        // They do not overlap: only the last that begins before it can be around it.
        let Some((block, row)) = blocks.range(..=IpNetwork::from(address)).next_back() else {
            return false;
        };
        let lent = row.lent.get(&address);
        block.contains(address)
            && if row.node == self.own { lent.is_none() } else { lent == Some(&self.own) }
    }

    /// The addresses of this host's blocks that others ask for.
    pub(crate) fn asked(&self, network: &NetworkId) -> Vec<(IpNetwork, IpAddr)> {
        let blocks = self.blocks.get(network).into_iter().flatten();
        let own = blocks.filter(|(_, row)| row.node == self.own);
        own.flat_map(|(block, row)| row.asked.keys().map(|address| (*block, *address))).collect()
    }

    /// Whether it is known what became of this host's asking for an address of another's block.
    pub(crate) fn is_answered(&self, network: &NetworkId, address: IpAddr) -> bool {
        let mut rows = self.blocks.get(network).into_iter().flat_map(BTreeMap::values);
        let answered = |row: &rows::Block| {
            [&row.lent, &row.refused].into_iter().any(|of| of.get(&address) == Some(&self.own))
        };
        rows.any(answered)
    }

    /// A node, as drivers know it.
    pub(crate) fn node(&self, id: &NodeId) -> Option<Node> {
        driver_node(self.nodes.get(id)?, &self.config)
    }

    /// Whether a node but this one takes VXLAN at an address.
    pub(crate) fn is_anothers(&self, vtep: IpAddr, node: &NodeId) -> bool {
        self.nodes.values().any(|row| row.id != *node && row.facts.vtep() == Some(vtep))
    }

    /// An endpoint, as drivers know it.
    pub(crate) fn peer(&self, network: &NetworkId, remote: &Remote) -> Option<Peer> {
        let node = self.node(&remote.node)?.number;
        let (network, addresses) = (network.clone(), remote.member.addresses.to_vec());
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
            there.peers.extend(remotes.iter().filter_map(|known| self.peer(network, &known.0)));
        }
        there
    }
}

/// Has an endpoint found by its link-layer address as it is now.
fn index(macs: &mut BTreeMap<MacAddr, Remote>, before: Option<&Remote>, now: Option<&Remote>) {
    let is_its = |before: &&Remote| macs.get(&before.mac).is_some_and(|r| r.id() == before.id());
    if let Some(before) = before.filter(is_its) {
        macs.remove(&before.mac);
    }
    if let Some(now) = now {
        macs.insert(now.mac, now.clone());
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
