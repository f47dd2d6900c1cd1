//! What the rows hold, as JSON. A row says which form it has; a reader takes the forms that it
//! knows and ignores members that are new to it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use cnm::{EndpointId, MacAddr, NetworkId};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use store::Row;

use crate::{ClusterId, Error, NodeId, Result};

/// The form of the rows that this version writes, and the newest that it reads.
pub const SCHEMA: u32 = 1;

/// A row's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Schema(u32);

impl Default for Schema {
    fn default() -> Self {
        Self(SCHEMA)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let schema = u32::deserialize(deserializer)?;
        if schema > SCHEMA {
            return Err(serde::de::Error::custom(format_args!(
                "it has schema {schema}, this netd reads {SCHEMA}"
            )));
        }
        Ok(Self(schema))
    }
}

/// What a row holds.
///
/// # Errors
/// When it is of a later version, or somebody else's.
pub fn read<T: DeserializeOwned>(row: &Row) -> Result<T> {
    serde_json::from_slice(&row.value).map_err(|source| Error::Row { key: row.key.clone(), source })
}

/// What a row is to hold.
pub fn write(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("rows have text keys only")
}

/// What a node may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It decides, and may run a member of etcd.
    Manager,
    /// It asks managers to decide.
    Worker,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Manager => "manager",
            Self::Worker => "worker",
        })
    }
}

/// What the cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The form of the row.
    pub schema: Schema,
    /// Which cluster.
    pub cluster: ClusterId,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// A stretch of addresses from which subnets are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// All of it.
    pub base: IpNetwork,
    /// The length of the prefix of each subnet.
    pub size: u8,
}

/// What holds for the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The form of the row.
    pub schema: Schema,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// Where subnets are chosen from.
    pub pools: Vec<Pool>,
    /// Every node has one address of it.
    pub node_subnet: IpNetwork,
    /// And of this, where there is one, the address of the same number: for networks with IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_subnet6: Option<Ipv6Network>,
    /// Seconds from suspect to down.
    pub down_after: u64,
    /// Seconds from down to fenced; never when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence_after: Option<u64>,
    /// Seconds before a free address is given again.
    pub cooldown: u64,
}

impl Default for Config {
    fn default() -> Self {
        let v4 = |a, b, length| {
            let base = Ipv4Network::new(Ipv4Addr::new(a, b, 0, 0), length);
            IpNetwork::V4(base.expect("a length"))
        };
        Self {
            schema: Schema::default(),
            vxlan_port: 4789,
            pools: vec![Pool { base: v4(10, 128, 10), size: 20 }],
            node_subnet: v4(100, 126, 16),
            node_subnet6: None,
            down_after: 30,
            fence_after: Some(900),
            cooldown: 60,
        }
    }
}

/// What a node says of itself when it joins and whenever it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The host's name.
    pub name: String,
    /// The version of netd.
    pub version: String,
    /// Where VXLAN reaches it, IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vtep4: Option<Ipv4Addr>,
    /// Where VXLAN reaches it, IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vtep6: Option<Ipv6Addr>,
    /// The subnet of its underlay in which that address is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<IpNetwork>,
    /// The MTU of its underlay, in bytes.
    pub mtu: u32,
    /// Where its `cluster.decide` listens, for managers: `10.0.0.1:2377`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listens: Option<String>,
    /// The client URL of its member of etcd, for managers that run one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<String>,
}

impl Facts {
    /// Where VXLAN reaches it.
    pub fn vtep(&self) -> Option<IpAddr> {
        self.vtep4.map(IpAddr::from).or_else(|| self.vtep6.map(IpAddr::from))
    }
}

/// Whether a node takes new work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// It does.
    #[default]
    Active,
    /// It keeps what it has.
    Pause,
    /// It gives up what it has.
    Drain,
}

/// A node. Written by managers; has no lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The form of the row.
    pub schema: Schema,
    /// Which.
    pub id: NodeId,
    /// What it may do.
    pub role: Role,
    /// Whether it takes new work.
    #[serde(default)]
    pub availability: Availability,
    /// Counts its starts and its fencings.
    pub epoch: u64,
    /// Its address on the node subnet.
    pub ingress: IpAddr,
    /// SHA-256 of its public key, as hexadecimal digits.
    pub public_key: String,
    /// The digest of the token it joined with; none for the first node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_with: Option<String>,
    /// When it joined, in seconds since 1970.
    pub joined: u64,
    /// What it says of itself.
    pub facts: Facts,
}

/// That a node lives. Written by the node, under a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The form of the row.
    pub schema: Schema,
    /// The epoch it believes to be in.
    pub epoch: u64,
    /// The boot of its host (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// The version of netd.
    pub version: String,
}

/// For how long a node has been seen to be away, so that whoever watched it may start anew. Written
/// by managers, and deleted by the node when it says that it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// The form of the row.
    pub schema: Schema,
    /// So many seconds at least. No clock but the watcher's is in it.
    pub seconds: u64,
}

/// A network of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// The form of the row.
    pub schema: Schema,
    /// The network, as everybody sees it.
    pub network: cnm::network::Network,
    /// Its number in VXLAN frames.
    pub vni: u32,
    /// The address of its gateway on every node.
    pub mac: MacAddr,
    /// How often nodes were asked to give back what they hold of its addresses and do not need.
    #[serde(default)]
    pub recalled: u32,
}

/// Addresses of a network that one node gives out by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The form of the row.
    pub schema: Schema,
    /// Who.
    pub node: NodeId,
    /// The epoch in which it claimed it.
    pub epoch: u64,
    /// Addresses of it that others have, by request: the owner leaves them alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lent: BTreeMap<IpAddr, NodeId>,
    /// Addresses of it that others ask for. Only the owner knows whether they are free: it may have
    /// endpoints that nobody has heard of yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asked: BTreeMap<IpAddr, NodeId>,
    /// Addresses of it that the owner has itself, and who asked for them and has not heard it yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<IpAddr, NodeId>,
}

impl Block {
    /// A block of which nobody else has an address.
    pub fn new(node: NodeId, epoch: u64) -> Self {
        let (lent, asked, refused) = Default::default();
        Self { schema: Schema::default(), node, epoch, lent, asked, refused }
    }

    /// Nobody else has an address of it, or asks for one.
    pub fn is_whole(&self) -> bool {
        self.lent.is_empty() && self.asked.is_empty()
    }

    /// Takes from a node all that it has of the block, or asks for; whether that was anything.
    pub fn forget(&mut self, node: &NodeId) -> bool {
        let mut any = false;
        for addresses in [&mut self.lent, &mut self.asked, &mut self.refused] {
            let before = addresses.len();
            addresses.retain(|_, of| of != node);
            any |= addresses.len() < before;
        }
        any
    }
}

/// A port that is published on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The form of the row.
    pub schema: Schema,
    /// Who published it.
    pub node: NodeId,
    /// For which endpoint, if for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointId>,
}

/// An endpoint on a network of the cluster. Written by its node; has no lease. Its members are
/// short, since there are many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The form of the row.
    #[serde(rename = "v")]
    pub schema: Schema,
    /// Its addresses.
    #[serde(rename = "ip")]
    pub addresses: Vec<IpAddr>,
    /// Its link-layer address.
    pub mac: MacAddr,
    /// The container's name and aliases: all that it answers to.
    #[serde(rename = "n", default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The ports it serves, published and exposed: `[NAME=]PORT[/PROTOCOL]` or `PORT-PORT[/PROTOCOL]` each.
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Counts the uses of its addresses, so that a release of an older use is known as such.
    #[serde(rename = "s", default)]
    pub sequence: u64,
}

/// What lets a node in. The secret itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The form of the row.
    pub schema: Schema,
    /// What its bearer becomes.
    pub role: Role,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ends, in seconds since 1970; never when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// How often it can still be used; as often as one likes when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
}

/// What an index holds: whose its key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner<T> {
    /// Whose.
    pub of: T,
}

/// The owner of a name, a number or a subnet.
pub type NetworkOwner = Owner<NetworkId>;

/// The owner of an address of the node subnet.
pub type NodeOwner = Owner<NodeId>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_says_its_ports_where_it_has_any() {
        let before = r#"{"v":1,"ip":["10.0.0.2"],"mac":"02:00:00:00:00:01","n":["web"],"s":0}"#;
        let mut row: Endpoint = serde_json::from_str(before).expect("a row of an older netd");
        assert!(row.ports.is_empty());
        assert_eq!(write(&row), before.as_bytes(), "as short as it was");
        row.ports = vec!["http=80".to_owned()];
        let text = String::from_utf8(write(&row)).expect("text");
        assert!(text.contains(r#""p":["http=80"]"#), "{text}");
    }
}
