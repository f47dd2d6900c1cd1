//! Networks that span hosts: what a driver is told of this host, of the others, and of the
//! endpoints there.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{Call, MacAddr, NetworkId};

/// The UDP port of VXLAN unless told (RFC 7348, section 8).
pub const VXLAN_PORT: u16 = 4789;

/// The largest number that a node can have: what the kernel's objects for it are numbered by has
/// so many bits.
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
}

impl Call for ChangePeers {
    const METHOD: &'static str = "driver.peers";
    type Reply = PeersChanged;
}

/// What it came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeersChanged {
    /// How many rows of the kernel's tables were written or deleted; none when all of it was there.
    pub rows: usize,
}
