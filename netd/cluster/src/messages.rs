//! What nodes say to managers: JSON-RPC 2.0, one document a line, over TLS on TCP. Joining is the
//! one call of a host without a certificate; in all others the certificate says who is asking.

use std::net::IpAddr;

use cnm::{Call, Empty, EndpointId, NetworkId, cluster::EtcdTls};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, NodeId,
    decide::{Asked, Avoid, Changes, Claimed},
    rows::{self, Availability, Facts, Role},
};

/// Where managers listen unless told otherwise: Docker Swarm's port.
pub const PORT: u16 = 2377;

/// Joins a cluster. Repeated with the same id, key and token it is the same joining.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Join {
    /// The id that the host chose for itself.
    pub node: NodeId,
    /// The token's secret.
    pub secret: String,
    /// The request for a certificate (PKCS #10), as PEM.
    pub request: String,
    /// Where the host is reached, for its certificate.
    pub addresses: Vec<IpAddr>,
    /// What it says of itself.
    pub facts: Facts,
    /// The peer URL that its member of etcd will have, if it is to run one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_url: Option<String>,
}

/// What a host needs to be a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Its row.
    pub node: rows::Node,
    /// The CA's certificate, as PEM.
    pub ca: String,
    /// Its own, as PEM.
    pub certificate: String,
    /// The CA's key, for managers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_key: Option<String>,
    /// The client URLs of etcd.
    pub etcd: Vec<String>,
    /// How that is known, where it is not the cluster's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_tls: Option<EtcdTls>,
    /// The `--initial-cluster` of its member of etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_cluster: Option<String>,
    /// Where managers listen.
    pub managers: Vec<String>,
}

impl Call for Join {
    const METHOD: &'static str = "cluster.join";
    type Reply = Joined;
}

/// Has a key signed anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Renew {
    /// The request for a certificate, as PEM.
    pub request: String,
    /// Where the node is reached.
    pub addresses: Vec<IpAddr>,
}

/// A certificate that was signed anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Renewed {
    /// The CA's certificate, as PEM.
    pub ca: String,
    /// The node's, as PEM.
    pub certificate: String,
}

impl Call for Renew {
    const METHOD: &'static str = "cluster.renew";
    type Reply = Renewed;
}

/// Gives the caller's member of etcd its vote. `busy` until it has caught up.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Promote {}

impl Call for Promote {
    const METHOD: &'static str = "cluster.promote";
    type Reply = Empty;
}

/// Asks whether the caller is a node of the cluster: an error when it is none any more.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Standing {}

impl Call for Standing {
    const METHOD: &'static str = "cluster.standing";
    type Reply = Empty;
}

/// Asks what time it is. Anybody may, since who cannot tell cannot trust a certificate either.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Clock {}

/// What time it is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Time {
    /// In seconds since 1970.
    pub now: u64,
}

impl Call for Clock {
    const METHOD: &'static str = "cluster.clock";
    type Reply = Time;
}

/// Asks for a decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decide {
    /// The epoch in which the caller is.
    pub epoch: u64,
    /// What is to be decided.
    pub decision: Decision,
}

impl Call for Decide {
    const METHOD: &'static str = "cluster.decide";
    type Reply = Decided;
}

/// What is to be decided. What is given to a node is given to the caller.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Decision {
    /// The caller has started: a new epoch. Any node.
    Start {
        /// What it says of itself.
        facts: Facts,
    },
    /// The caller says something else of itself. Any node.
    Update {
        /// What it says of itself.
        facts: Facts,
    },
    /// The next block of a network. Any node.
    ClaimBlock {
        /// The network.
        network: NetworkId,
        /// Of IPv6 addresses, not IPv4.
        ipv6: bool,
        /// Ahead of need.
        #[serde(default)]
        ahead: bool,
    },
    /// An address of a block of another node's, which is asked whether it can spare it. Any node.
    BorrowAddress {
        /// The network.
        network: NetworkId,
        /// An IPv6 address, not IPv4.
        ipv6: bool,
        /// Whom and what to ask for no more.
        #[serde(default)]
        avoid: Avoid,
    },
    /// Gives a block back. Any node.
    ReleaseBlock {
        /// The network.
        network: NetworkId,
        /// The block.
        block: IpNetwork,
    },
    /// One address, wherever it is. Any node.
    ClaimAddress {
        /// The network.
        network: NetworkId,
        /// The address.
        address: IpAddr,
    },
    /// Gives an address back. Any node.
    ReleaseAddress {
        /// The network.
        network: NetworkId,
        /// The address.
        address: IpAddr,
    },
    /// Says whether an address of the caller's block is free that another has asked for. Any node.
    LendAddress {
        /// The network.
        network: NetworkId,
        /// The block.
        block: IpNetwork,
        /// The address.
        address: IpAddr,
        /// Whether.
        free: bool,
    },
    /// A port on every node. Any node.
    PublishPort {
        /// `tcp`, `udp` or `sctp`.
        protocol: String,
        /// The port.
        port: u16,
        /// For which endpoint, if for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<EndpointId>,
    },
    /// Takes a port back. Any node.
    UnpublishPort {
        /// The protocol.
        protocol: String,
        /// The port.
        port: u16,
    },
    /// Leaves the cluster. Any node.
    Leave,
    /// Makes a network. Managers.
    CreateNetwork {
        /// What is known of it.
        network: Box<cnm::network::Network>,
        /// Choose an IPv4 subnet when none is given.
        ipv4: bool,
        /// Choose an IPv6 subnet when none is given.
        ipv6: bool,
    },
    /// Changes a network. Managers.
    ChangeNetwork {
        /// The network.
        network: NetworkId,
        /// How.
        changes: Box<Changes>,
    },
    /// Removes a network. Managers.
    RemoveNetwork {
        /// The network.
        network: NetworkId,
    },
    /// Removes a network that no node holds addresses of. Managers.
    PruneNetwork {
        /// The network.
        network: NetworkId,
    },
    /// Asks all nodes for the addresses of a network that they do not need. Managers.
    RecallBlocks {
        /// The network.
        network: NetworkId,
    },
    /// Whether a node takes new work. Managers.
    SetAvailability {
        /// The node.
        node: NodeId,
        /// Whether.
        availability: Availability,
    },
    /// Removes another node. Managers.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
}

impl Decision {
    /// Who may ask for it.
    pub fn least_role(&self) -> Role {
        match self {
            Self::Start { .. }
            | Self::Update { .. }
            | Self::ClaimBlock { .. }
            | Self::BorrowAddress { .. }
            | Self::ReleaseBlock { .. }
            | Self::ClaimAddress { .. }
            | Self::ReleaseAddress { .. }
            | Self::LendAddress { .. }
            | Self::PublishPort { .. }
            | Self::UnpublishPort { .. }
            | Self::Leave => Role::Worker,
            Self::ChangeNetwork { changes, .. } if changes.are_dockers() => Role::Worker,
            Self::CreateNetwork { .. }
            | Self::ChangeNetwork { .. }
            | Self::RemoveNetwork { .. }
            | Self::PruneNetwork { .. }
            | Self::RecallBlocks { .. }
            | Self::SetAvailability { .. }
            | Self::RemoveNode { .. } => Role::Manager,
        }
    }

    /// In words, for those who may not.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Update { .. } => "change what it says of itself",
            Self::ClaimBlock { .. } => "claim a block",
            Self::BorrowAddress { .. } => "borrow an address",
            Self::ReleaseBlock { .. } => "release a block",
            Self::ClaimAddress { .. } => "claim an address",
            Self::ReleaseAddress { .. } => "release an address",
            Self::LendAddress { .. } => "lend an address",
            Self::PublishPort { .. } => "publish a port",
            Self::UnpublishPort { .. } => "take a port back",
            Self::Leave => "leave",
            Self::CreateNetwork { .. } => "make a network of the cluster: ask on a manager",
            Self::ChangeNetwork { .. } => "change a network of the cluster: ask on a manager",
            Self::RemoveNetwork { .. } => "remove a network of the cluster: ask on a manager",
            Self::PruneNetwork { .. } => "prune networks of the cluster: ask on a manager",
            Self::RecallBlocks { .. } => "ask for addresses back: ask on a manager",
            Self::SetAvailability { .. } => "change a node: ask on a manager",
            Self::RemoveNode { .. } => "remove a node: ask on a manager",
        }
    }
}

/// What was decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Decided {
    /// It is done.
    Done,
    /// A node, as it is now.
    Node {
        /// Its row.
        node: Box<rows::Node>,
    },
    /// A network, as it is now.
    Network {
        /// Its row.
        network: Box<rows::Network>,
    },
    /// A block is the caller's.
    Block {
        /// The block.
        block: IpNetwork,
    },
    /// An address is the caller's.
    Address {
        /// How.
        claimed: Claimed,
    },
    /// Another node has been asked for an address.
    Asked {
        /// Which, and of whom.
        asked: Asked,
    },
}
