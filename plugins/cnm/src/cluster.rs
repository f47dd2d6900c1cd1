//! Clusters: many hosts whose networks are one. Making one, joining it, leaving it, and who is in.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{Call, Empty};

/// The TCP port at which a manager takes those who join and decides for others, unless told.
pub const CLUSTER_PORT: u16 = 2377;

/// What a node may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It decides.
    Manager,
    /// It asks managers to decide.
    #[default]
    Worker,
}

/// Makes a cluster of which this host is the first node. Its networks stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InitCluster {
    /// Where other nodes reach this one; the address of the default route unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<IpAddr>,
    /// The TCP port for joining and deciding; [`CLUSTER_PORT`] unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// URLs of an etcd that is there; without any the host starts one of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub etcd: Vec<String>,
    /// How that etcd is known and knows its clients, where its URLs are `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_tls: Option<EtcdTls>,
    /// The UDP port of VXLAN, the same on all nodes; 4789 unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan_port: Option<u16>,
}

/// How an etcd is known that is not the cluster's own, and how it knows its clients: PEM each. All
/// nodes of the cluster are the same client.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EtcdTls {
    /// The CA that its certificates are of.
    pub ca: String,
    /// The clients' certificate; who has it may read and write the keys under `/netd/`.
    pub certificate: String,
    /// The key to that.
    pub key: String,
}

impl std::fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdTls").finish_non_exhaustive()
    }
}

impl Call for InitCluster {
    const METHOD: &'static str = "cluster.init";
    type Reply = Joined;
}

/// Joins a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JoinCluster {
    /// What lets this host in, and knows the cluster.
    pub token: String,
    /// Where a manager listens: `10.0.0.1:2377`.
    pub manager: SocketAddr,
    /// Where other nodes reach this one; the address from which the manager is reached unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<IpAddr>,
}

impl Call for JoinCluster {
    const METHOD: &'static str = "cluster.join";
    type Reply = Joined;
}

/// What a host has become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Joined {
    /// The cluster's id.
    pub cluster: String,
    /// The node's.
    pub node: String,
    /// What it may do.
    pub role: Role,
    /// Where managers listen.
    pub managers: Vec<String>,
    /// For the first node: a token with which workers join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Leaves the cluster: its networks go from this host, those of the host itself stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeaveCluster {
    /// Also with containers on its networks, which are detached, and when nobody can be told.
    #[serde(default)]
    pub force: bool,
}

impl Call for LeaveCluster {
    const METHOD: &'static str = "cluster.leave";
    type Reply = Empty;
}

/// Asks how the cluster looks from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GetCluster {}

impl Call for GetCluster {
    const METHOD: &'static str = "cluster.status";
    type Reply = ClusterStatus;
}

/// How the cluster looks from here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClusterStatus {
    /// The cluster's id; none where the host is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// This node's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What this node may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Where the store is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub store: Vec<String>,
    /// Since when it is known that others removed this node, as RFC 3339: it is to leave, and can
    /// join again then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_since: Option<String>,
    /// Since when the store is away, as RFC 3339; none while it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_since: Option<String>,
    /// Whether everything that others have is known, as of `revision`.
    #[serde(default)]
    pub complete: bool,
    /// The store's revision up to which everything is known.
    #[serde(default)]
    pub revision: u64,
    /// How many nodes there are.
    #[serde(default)]
    pub nodes: u64,
    /// How many networks.
    #[serde(default)]
    pub networks: u64,
    /// How many endpoints there are on other nodes.
    #[serde(default)]
    pub elsewhere: u64,
    /// How many changes of this node's are not yet in the store.
    #[serde(default)]
    pub unwritten: u64,
}

/// Makes a token, with which others join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateToken {
    /// What its bearers become.
    #[serde(default)]
    pub role: Role,
    /// How long it is good for, in seconds; for good unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// How often it can be used; as often as one likes unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
}

impl Call for CreateToken {
    const METHOD: &'static str = "cluster.token_create";
    type Reply = NewToken;
}

/// A token, which is shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NewToken {
    /// What it is called, of its digest.
    #[serde(default)]
    pub id: String,
    /// The token.
    pub token: String,
    /// Where those who have it can join.
    pub managers: Vec<String>,
}

/// Shows the tokens, without what only their bearers know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListTokens {}

impl Call for ListTokens {
    const METHOD: &'static str = "cluster.token_list";
    type Reply = Tokens;
}

/// The tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tokens {
    /// Each of them.
    pub tokens: Vec<TokenInfo>,
}

/// A token, without what only its bearers know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenInfo {
    /// What it is called, of its digest.
    pub id: String,
    /// What its bearers become.
    pub role: Role,
    /// When it was made, as RFC 3339.
    pub created: String,
    /// When it ends, as RFC 3339; never where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// How often it can still be used; as often as one likes where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
}

/// Makes a token in the place of all others of its role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RotateToken {
    /// What the new one is.
    #[serde(flatten)]
    pub token: CreateToken,
}

impl Call for RotateToken {
    const METHOD: &'static str = "cluster.token_rotate";
    type Reply = NewToken;
}

/// Removes a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RemoveToken {
    /// The beginning of its id.
    pub token: String,
}

impl Call for RemoveToken {
    const METHOD: &'static str = "cluster.token_remove";
    type Reply = Empty;
}

/// Shows the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListNodes {}

impl Call for ListNodes {
    const METHOD: &'static str = "cluster.node_list";
    type Reply = Nodes;
}

/// Nodes, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Nodes {
    /// Each of them.
    pub nodes: Vec<NodeInfo>,
    /// Since when the store is away, as RFC 3339: the nodes are as they were known then. None while
    /// it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_since: Option<String>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeInfo {
    /// Its id.
    pub id: String,
    /// Whether it is this one.
    #[serde(default)]
    pub here: bool,
    /// Its host's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// How it is.
    pub state: NodeState,
    /// Whether it takes new work: `active`, `pause` or `drain`.
    pub availability: String,
    /// The version of its netd.
    pub version: String,
    /// Where VXLAN reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vtep: Option<IpAddr>,
    /// The MTU of its underlay, in bytes.
    pub mtu: u32,
    /// Its own address on the network between the nodes.
    pub address: IpAddr,
    /// When it joined, as RFC 3339.
    pub joined: String,
    /// How many endpoints it has on networks of the cluster.
    #[serde(default)]
    pub endpoints: u64,
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It says so.
    Ready,
    /// It has not said so for a moment.
    Suspect,
    /// It has not said so for a while: its names do not resolve.
    Down,
    /// It is given up: its addresses may be given to others.
    Fenced,
    /// It said so when the store was heard last, and nobody knows how it is since.
    Unknown,
}

/// Whether a node takes new endpoints on the cluster's networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// It does.
    Active,
    /// Not for now.
    Pause,
    /// Not any more, and those that it has are to go: they are named to whoever says so, and whoever
    /// runs the containers takes them away. None is cut off.
    Drain,
}

/// Says whether a node takes new endpoints on the cluster's networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpdateNode {
    /// Its id, its name, or the beginning of its id.
    pub node: String,
    /// Whether.
    pub availability: Availability,
}

impl Call for UpdateNode {
    const METHOD: &'static str = "cluster.node_update";
    type Reply = UpdatedNode;
}

/// A node as it has become.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpdatedNode {
    /// What is to go from a node that is drained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Staying>,
}

/// An endpoint on a node that is drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Staying {
    /// The endpoint's id.
    pub endpoint: String,
    /// The name of its network.
    pub network: String,
    /// What its container is called.
    pub container: String,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// Removes a node from the cluster: it is let in no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RemoveNode {
    /// Its id, its name, or the beginning of its id.
    pub node: String,
    /// Also while it is not down.
    #[serde(default)]
    pub force: bool,
}

impl Call for RemoveNode {
    const METHOD: &'static str = "cluster.node_remove";
    type Reply = Empty;
}
