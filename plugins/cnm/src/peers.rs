//! Networks that span hosts: what a driver is told of this host, of the others, and of the
//! endpoints there.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{Call, MacAddr, NetworkId};

/// The UDP port of VXLAN unless told (RFC 7348, section 8).
pub const VXLAN_PORT: u16 = 4789;

/// The largest number that a node can have.
pub const MAX_NODE: u32 = (1 << 22) - 1;

/// How a network reaches other hosts: what netd adds to it when it hands it to its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Overlay {
    /// The network's number on the wire (VNI, 1 to 2²⁴−1), the same on every host.
    pub vni: u32,
    /// The UDP port of the cluster's VXLAN.
    #[serde(default = "vxlan_port")]
    pub port: u16,
    /// This very host.
    pub node: Node,
    /// The network between the nodes themselves, where the cluster has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
}

fn vxlan_port() -> u16 {
    VXLAN_PORT
}

/// The network between the nodes themselves: over it goes back what a container answers to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ingress {
    /// Its number on the wire, which no other network has.
    pub vni: u32,
    /// Its MTU; what this host's underlay allows unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// A host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Node {
    /// Its number, unique in the cluster and not used again while anybody may remember it: 1 to
    /// 2²²−1.
    pub number: u32,
    /// Where it takes VXLAN; of one family in all the cluster.
    pub vtep: IpAddr,
    /// Its own addresses on the network between the nodes, with that network's prefix length; at
    /// most one of each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub addresses: Vec<IpNetwork>,
}

/// An endpoint on another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Peer {
    /// Its network.
    pub network: NetworkId,
    /// Its host, by number.
    pub node: u32,
    /// Its link-layer address.
    pub mac: MacAddr,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// A host on which a network is up, whether or not it has endpoints there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Member {
    /// The network.
    pub network: NetworkId,
    /// The host, by number.
    pub node: u32,
}

/// What there is on other hosts. A peer's node is a member of its network without being named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Elsewhere {
    /// The other hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
    /// On which of them a network is up: VXLAN of that network is taken from those alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// The endpoints on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
}

/// What is no longer there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gone {
    /// Hosts, by number, and with them all their endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<u32>,
    /// Hosts on which a network is up no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// Endpoints, as they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
}

impl Gone {
    /// Whether everything is still there.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.members.is_empty() && self.peers.is_empty()
    }
}

/// Tells a driver what there is on other hosts: a change, or everything. What is gone is taken
/// away first. Networks that are not up on this host are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangePeers {
    /// Whether `there` is everything: what the kernel has and it has not is taken away. Only who
    /// has verified that it is everything says so.
    #[serde(default)]
    pub complete: bool,
    /// What is there, new or changed.
    #[serde(default)]
    pub there: Elsewhere,
    /// What is gone.
    #[serde(default, skip_serializing_if = "Gone::is_empty")]
    pub gone: Gone,
    /// Which part this is, from 0, of what is complete and does not fit into one line.
    #[serde(default, skip_serializing_if = "is_first")]
    pub part: u32,
    /// Whether another part follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

fn is_first(part: &u32) -> bool {
    *part == 0
}

impl Call for ChangePeers {
    const METHOD: &'static str = "driver.peers";
    type Reply = PeersChanged;
}

/// How many nodes, members and peers one line takes: the longest of them has 350 bytes.
const AT_ONCE: usize = 2500;

impl ChangePeers {
    /// The same as calls that fit into a line each, in the order in which they are to be made: parts
    /// of what is complete, and otherwise changes, what is gone first.
    pub fn parts(self) -> impl Iterator<Item = Self> {
        let Self { complete, there, gone, .. } = self;
        let (mut gone, mut there) = (Backlog::of_gone(gone), Backlog::of_there(there));
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let part = next?;
            let mut room = AT_ONCE;
            let gone_now = Gone {
                nodes: take(&mut gone.nodes, &mut room),
                members: take(&mut gone.members, &mut room),
                peers: take(&mut gone.peers, &mut room),
            };
            let there_now = Elsewhere {
                nodes: take(&mut there.nodes, &mut room),
                members: take(&mut there.members, &mut room),
                peers: take(&mut there.peers, &mut room),
            };
            let left = !gone.is_empty() || !there.is_empty();
            next = left.then_some(part + 1);
            let (part, more) = if complete { (part, left) } else { (0, false) };
            Some(Self { complete, there: there_now, gone: gone_now, part, more })
        })
    }
}

/// What has not been said yet.
struct Backlog<N> {
    nodes: std::vec::IntoIter<N>,
    members: std::vec::IntoIter<Member>,
    peers: std::vec::IntoIter<Peer>,
}

impl Backlog<u32> {
    fn of_gone(gone: Gone) -> Self {
        let Gone { nodes, members, peers } = gone;
        Self { nodes: nodes.into_iter(), members: members.into_iter(), peers: peers.into_iter() }
    }
}

impl Backlog<Node> {
    fn of_there(there: Elsewhere) -> Self {
        let Elsewhere { nodes, members, peers } = there;
        Self { nodes: nodes.into_iter(), members: members.into_iter(), peers: peers.into_iter() }
    }
}

impl<N> Backlog<N> {
    fn is_empty(&self) -> bool {
        self.nodes.len() + self.members.len() + self.peers.len() == 0
    }
}

/// As many as there is room for.
fn take<T>(from: &mut std::vec::IntoIter<T>, room: &mut usize) -> Vec<T> {
    let taken: Vec<_> = from.by_ref().take(*room).collect();
    *room -= taken.len();
    taken
}

/// What it came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeersChanged {
    /// How many rows of the kernel's tables were written or deleted; none when all of it was there.
    pub rows: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, frame::MAX_LINE};

    fn peer(n: u32) -> Peer {
        let [_, a, b, c] = n.to_be_bytes();
        Peer {
            network: NetworkId::from_bytes([0xff; 32]),
            node: MAX_NODE,
            mac: MacAddr([2, 0xff, 0xff, a, b, c]),
            addresses: vec![
                [255, 255, 255, c].into(),
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().expect("an address"),
            ],
        }
    }

    fn node(number: u32) -> Node {
        let addresses = vec!["255.255.255.255/16".parse().expect("an address")];
        Node {
            number,
            vtep: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().expect("one"),
            addresses,
        }
    }

    fn members() -> Vec<Member> {
        let member = |node| Member { network: NetworkId::from_bytes([0xff; 32]), node };
        (1..=3000).map(member).collect()
    }

    #[test]
    fn what_is_complete_comes_in_parts_that_fit() {
        let there = Elsewhere {
            nodes: (1..=100).map(node).collect(),
            members: members(),
            peers: (0..10_000).map(peer).collect(),
        };
        let whole = ChangePeers { complete: true, there: there.clone(), ..Default::default() };
        let parts: Vec<_> = whole.parts().collect();
        let last = parts.len() - 1;
        let mut joined = Elsewhere::default();
        for (n, part) in parts.into_iter().enumerate() {
            assert!(Request::new(1, &part).to_line().len() <= MAX_LINE);
            assert_eq!((part.complete, part.part as usize, part.more), (true, n, n < last));
            joined.nodes.extend(part.there.nodes);
            joined.members.extend(part.there.members);
            joined.peers.extend(part.there.peers);
        }
        assert_eq!(joined, there);
    }

    #[test]
    fn a_long_change_is_several_and_what_is_gone_is_so_first() {
        let peers: Vec<_> = (0..6000).map(peer).collect();
        let there = Elsewhere { nodes: vec![node(1)], peers: peers.clone(), ..Default::default() };
        let gone = Gone { nodes: vec![7], members: members(), peers: peers.clone() };
        let change = ChangePeers { there, gone, ..Default::default() };
        let changes: Vec<_> = change.parts().collect();
        assert!(changes.iter().all(|one| !one.complete && !one.more && one.part == 0));
        assert!(changes.iter().all(|one| Request::new(1, one).to_line().len() <= MAX_LINE));
        let began = changes.iter().position(|one| one.there != Elsewhere::default());
        let ended = changes.iter().rposition(|one| !one.gone.is_empty());
        assert!(began >= ended, "{began:?} {ended:?}");
        let there: Vec<_> = changes.iter().flat_map(|one| one.there.peers.clone()).collect();
        let gone: Vec<_> = changes.iter().flat_map(|one| one.gone.peers.clone()).collect();
        assert_eq!((&there, &gone), (&peers, &peers));
        let named = changes.iter().position(|one| !one.there.nodes.is_empty());
        assert!(named <= changes.iter().position(|one| !one.there.peers.is_empty()));
    }

    #[test]
    fn what_fits_is_one_call_and_nothing_is_one_too() {
        for complete in [true, false] {
            let nothing = ChangePeers { complete, ..Default::default() };
            assert_eq!(nothing.clone().parts().collect::<Vec<_>>(), [nothing]);
        }
    }
}
