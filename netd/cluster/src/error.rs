//! What can go wrong with a cluster.

use std::{io, net::IpAddr, path::PathBuf};

use cnm::{Kind, NetworkId};
use ipnetwork::IpNetwork;

use crate::{NodeId, token::Refusal};

/// What this crate gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something about a cluster did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A row of the store that this version cannot read.
    #[error("the row {key} of the cluster's store cannot be read: {source}; update netd")]
    Row {
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A network's name is in use.
    #[error("network {name} exists in the cluster already, as {network}")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        network: String,
    },
    /// A network's addresses are in use.
    #[error("subnet {subnet} overlaps with {other} of network {network}: choose another")]
    Overlap {
        /// What was asked for.
        subnet: IpNetwork,
        /// What it overlaps with.
        other: IpNetwork,
        /// Whose that is.
        network: String,
    },
    /// A subnet that no network can have.
    #[error("subnet {subnet} cannot be used: {rule}")]
    Subnet {
        /// What was asked for.
        subnet: IpNetwork,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A host that the others reach by another family than each other.
    #[error(
        "the nodes of the cluster reach each other by {family}, and this host is to be reached at \
         {address}: name another with --advertise-addr"
    )]
    Family {
        /// Where it is to be reached.
        address: IpAddr,
        /// What the others are reached by.
        family: &'static str,
    },
    /// No subnet is left to choose.
    #[error("all subnets of the cluster's pools are in use: name one with --subnet")]
    PoolsExhausted,
    /// All numbers of networks are in use.
    #[error("all network numbers (VNIs) of the cluster are in use")]
    VnisExhausted,
    /// A network has no addresses left.
    #[error("network {network} has no addresses left in {subnet}: {}", list(.holders))]
    Exhausted {
        /// Which.
        network: NetworkId,
        /// Of which of its subnets.
        subnet: IpNetwork,
        /// Who holds how many.
        holders: Vec<(NodeId, u128)>,
    },
    /// An address that was asked for is somebody's.
    #[error("address {address} is in use on node {node}")]
    AddressTaken {
        /// Which.
        address: IpAddr,
        /// Whose.
        node: NodeId,
    },
    /// A published port is somebody's.
    #[error("port {port}/{protocol} is published by node {node} already")]
    PortTaken {
        /// The protocol.
        protocol: String,
        /// Which.
        port: u16,
        /// Whose.
        node: NodeId,
    },
    /// A network that is not there.
    #[error("network {network} not found in the cluster")]
    NoNetwork {
        /// Which.
        network: String,
    },
    /// A node that is not there.
    #[error("node {node} not found in the cluster; it may have been removed")]
    NoNode {
        /// Which.
        node: String,
    },
    /// A network that is in use.
    #[error("network {network} is in use by {endpoints} endpoints, on {}", names(.nodes))]
    InUse {
        /// Which.
        network: NetworkId,
        /// How many there are.
        endpoints: usize,
        /// Where.
        nodes: Vec<NodeId>,
    },
    /// Others were faster again and again.
    #[error("{what}: others changed the same {attempts} times; try again")]
    Contended {
        /// What was to be decided.
        what: &'static str,
        /// How often it was tried.
        attempts: u32,
    },
    /// A node was fenced or started anew; what holds for its older self does not hold.
    #[error("node {node} is at epoch {now}, not {epoch}: it was declared dead or started anew")]
    Fenced {
        /// Which.
        node: NodeId,
        /// What the caller believed.
        epoch: u64,
        /// What holds.
        now: u64,
    },
    /// A token that does not let its bearer in.
    #[error("the join token {0}")]
    Token(#[from] Refusal),
    /// A caller who may not do this.
    #[error("{who} may not {what}")]
    Denied {
        /// Who asked.
        who: String,
        /// What for.
        what: String,
    },
    /// A member whose removal would leave etcd without a majority.
    #[error(
        "removing manager {node} would leave {left} of {needed} etcd members that are needed: \
         bring one back first"
    )]
    Quorum {
        /// Who.
        node: NodeId,
        /// How many healthy ones would be left.
        left: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A certificate, a key or a request for one.
    #[error("cannot use {what}: {why}")]
    Certificate {
        /// Which.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// A file of the cluster.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program that cannot be run.
    #[error("cannot run {program}: {why}")]
    Program {
        /// Which.
        program: String,
        /// Why not.
        why: String,
    },
    /// A manager that cannot be reached.
    #[error("no manager answers at {address}: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why not.
        why: String,
    },
    /// Somebody answers who is not of the cluster.
    #[error("who answers at {address} shows no certificate of the cluster")]
    Stranger {
        /// Where.
        address: String,
    },
    /// What a manager said.
    #[error("{0}")]
    Remote(cnm::Error),
    /// The kernel gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

impl From<getrandom::Error> for Error {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}

fn list(holders: &[(NodeId, u128)]) -> String {
    let held = holders.iter().map(|(node, count)| format!("node {node} holds {count}"));
    held.collect::<Vec<_>>().join(", ")
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
}

impl Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(store::Error::Denied { .. }) => Kind::Denied,
            Self::Store(store::Error::NoSpace { .. }) => Kind::Exhausted,
            Self::Store(_) | Self::Unreachable { .. } | Self::Stranger { .. } => Kind::Unavailable,
            Self::NameTaken { .. }
            | Self::Overlap { .. }
            | Self::AddressTaken { .. }
            | Self::PortTaken { .. } => Kind::Exists,
            Self::Subnet { .. } | Self::Family { .. } => Kind::Invalid,
            Self::PoolsExhausted | Self::VnisExhausted | Self::Exhausted { .. } => Kind::Exhausted,
            Self::NoNetwork { .. } | Self::NoNode { .. } => Kind::NotFound,
            Self::InUse { .. }
            | Self::Contended { .. }
            | Self::Fenced { .. }
            | Self::Quorum { .. } => Kind::Busy,
            Self::Token(_) | Self::Denied { .. } => Kind::Denied,
            Self::Certificate { .. } => Kind::Invalid,
            Self::Remote(error) => error.kind,
            Self::Row { .. } | Self::File { .. } | Self::Program { .. } | Self::Random(_) => {
                Kind::Internal
            }
        }
    }
}

impl From<Error> for cnm::Error {
    fn from(error: Error) -> Self {
        if let Error::Remote(error) = error {
            return error;
        }
        let said = Self::new(error.kind(), &error);
        match error {
            Error::NameTaken { name, .. } => said.with("name", name),
            Error::Overlap { subnet, other, network } => said
                .with("subnet", subnet.to_string())
                .with("other", other.to_string())
                .with("network", network),
            Error::Family { address, .. } => said.with("advertise", address.to_string()),
            Error::Exhausted { network, subnet, holders } => {
                let holders: serde_json::Map<_, _> = holders
                    .into_iter()
                    .map(|(node, count)| (node.into(), count.to_string().into()))
                    .collect();
                said.with("network", network.as_str())
                    .with("subnet", subnet.to_string())
                    .with("holders", holders)
            }
            Error::AddressTaken { address, node } => {
                said.with("address", address.to_string()).with("node", node.as_str())
            }
            Error::PortTaken { protocol, port, node } => {
                said.with("protocol", protocol).with("port", port).with("node", node.as_str())
            }
            Error::Fenced { node, now, .. } => said.with("node", node.as_str()).with("epoch", now),
            _ => said,
        }
    }
}
