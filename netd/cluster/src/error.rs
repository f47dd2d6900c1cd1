//! What can go wrong with a cluster.

use std::{
    io,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use cnm::{EndpointId, Kind, NetworkId};
use ipnetwork::IpNetwork;

use crate::{NodeId, messages::PORT, token::Refusal};

/// By what operand a caller is told that it is no node of the cluster any more.
const REMOVED: &str = "removed";

/// Whether a manager said that the caller is no node of the cluster any more.
pub fn says_removed(error: &cnm::Error) -> bool {
    error.operands.contains_key(REMOVED)
}

/// What this crate gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has an address on another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// What its container is called, where it has a name.
    pub container: Option<String>,
}

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
    #[error("network {name} exists in the cluster already")]
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
    /// A subnet that has addresses by which nodes reach each other.
    #[error(
        "subnet {subnet} would cut off node {node}, which is reached at {address}, on {link}: choose \
         another"
    )]
    Underlay {
        /// What was asked for.
        subnet: IpNetwork,
        /// What it overlaps with.
        link: IpNetwork,
        /// Where the node is reached.
        address: IpAddr,
        /// Its host's name.
        node: String,
    },
    /// A host that is reached at an address that a network of the cluster has.
    #[error(
        "this host is to be reached at {address}, on {link}, and would be cut off by network \
         {network} of the cluster, which has {subnet}: name another address with --advertise-addr, \
         or remove that network first"
    )]
    Within {
        /// Where it is to be reached.
        address: IpAddr,
        /// What else is on that link.
        link: IpNetwork,
        /// What it overlaps with.
        subnet: IpNetwork,
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
    /// A host that is called as another is.
    #[error(
        "node {node} of the cluster{} is called {name} as well: give this host another node_name in \
         netd.toml, or, if that one will not come back, say netctl node rm --force {node} on a manager first",
        at(.address)
    )]
    Namesake {
        /// What both are called.
        name: String,
        /// Who has the name.
        node: NodeId,
        /// Where that one is reached.
        address: Option<IpAddr>,
    },
    /// A host that is to be reached where another node is.
    #[error(
        "this host is to be reached at {address}, and so is node {name} ({node}) of the cluster, which is alive: name \
         another address with --advertise-addr, or, if that host has lost this one, have it leave first (netctl \
         cluster leave there) and join again at an address that it has"
    )]
    NodeThere {
        /// Where both are to be reached.
        address: IpAddr,
        /// What the other is called.
        name: String,
        /// Who has it.
        node: NodeId,
    },
    /// A host that joins again while its former self is taken for alive.
    #[error(
        "node {node} of the cluster is called {name} as this host is, is reached at its address {address}, \
         and was alive a moment ago: join again in ten seconds, when it is known to be gone"
    )]
    StillAlive {
        /// What both are called.
        name: String,
        /// Who it was.
        node: NodeId,
        /// Where both are reached.
        address: IpAddr,
    },
    /// No subnet is left to choose.
    #[error("all subnets of the cluster's pools are in use: name one with --subnet")]
    PoolsExhausted,
    /// All numbers of networks are in use.
    #[error("all network numbers (VNIs) of the cluster are in use")]
    VnisExhausted,
    /// A network has no addresses left.
    #[error("network {network} has no addresses left in {}: {}", all(.subnets), list(.holders))]
    Exhausted {
        /// Which.
        network: NetworkId,
        /// Its subnets of the family that is meant.
        subnets: Vec<IpNetwork>,
        /// Who holds how many.
        holders: Vec<(NodeId, u128)>,
    },
    /// An address that was asked for was another's until a moment ago.
    #[error(
        "address {address} was given up with the node that had it and rests, since others may still \
         take it for that one's: ask again in a minute"
    )]
    Resting {
        /// Which.
        address: IpAddr,
    },
    /// An address that was asked for is somebody's.
    #[error("address {address} is in use: {} on node {node}", whose(.holder.as_ref()))]
    AddressTaken {
        /// Which.
        address: IpAddr,
        /// Where.
        node: NodeId,
        /// Whose, as far as that is known.
        holder: Option<Holder>,
    },
    /// An address that was asked for is in no subnet of the network.
    #[error("no configured subnet of network {network} contains IP address {address}: it has {}", all(.subnets))]
    AddressOutside {
        /// Which.
        address: IpAddr,
        /// Of which network.
        network: NetworkId,
        /// Its subnets.
        subnets: Vec<IpNetwork>,
    },
    /// An address that was asked for is kept for something else.
    #[error("address {address} is no endpoint's in subnet {subnet}: it is {what}")]
    AddressKept {
        /// Which.
        address: IpAddr,
        /// In which subnet.
        subnet: IpNetwork,
        /// For what.
        what: String,
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
    /// A network of which nodes hold addresses, and so may be about to have endpoints.
    #[error(
        "addresses of network {network} are held by {}, where somebody may be about to be attached: \
         try again",
        names(.nodes)
    )]
    Held {
        /// Which.
        network: NetworkId,
        /// Who holds them.
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
        "without manager {node} etcd would have {left} of the {needed} members that it needs to \
         decide: bring another manager back, or have one join, first"
    )]
    Quorum {
        /// Who.
        node: NodeId,
        /// How many healthy ones would be left.
        left: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Another node's member of etcd is where a new one is to be.
    #[error(
        "etcd's member at {peer_url} is that of node {node}: remove that one first, with netctl \
         node rm --force {node}"
    )]
    MemberTaken {
        /// Where others reach it.
        peer_url: String,
        /// Whose it is.
        node: NodeId,
    },
    /// Another manager's member of etcd has no vote yet, and only one may be without.
    #[error(
        "manager {node}, which joined before, has no vote in etcd yet: try again when it has, or \
         remove it with netctl node rm --force {node}"
    )]
    Learner {
        /// Whose it is.
        node: NodeId,
    },
    /// A node that the cluster does not have any more.
    #[error(
        "node {node} was removed from the cluster: leave it there with netctl cluster leave \
         --force, and join again with a new token"
    )]
    Removed {
        /// Which.
        node: NodeId,
    },
    /// A certificate is not good by one clock, and the clocks differ.
    #[error("{}", apart(.address, *.here, *.there))]
    Clocks {
        /// Where the manager is.
        address: String,
        /// This host's clock, in seconds since 1970.
        here: u64,
        /// The manager's.
        there: u64,
    },
    /// A certificate is not good at this time, and no clock is to blame, as far as is known.
    #[error("{}", untimely(.address, *.here))]
    Untimely {
        /// Where the manager is.
        address: String,
        /// This host's clock, in seconds since 1970.
        here: u64,
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
    #[error("no manager answers at {address}: {why}{}", usually(.address))]
    Unreachable {
        /// Where.
        address: String,
        /// Why not.
        why: String,
    },
    /// Somebody answers where a manager should be, and is none.
    #[error("who answers at {address} is no manager of a cluster: {why}; {}", instead(.address))]
    NoManager {
        /// Where.
        address: String,
        /// What it is.
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

fn rfc3339(seconds: u64) -> String {
    // What comes after the year 9999 has no such form.
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799));
    humantime::format_rfc3339_seconds(time).to_string()
}

fn apart(address: &str, here: u64, there: u64) -> String {
    let by = humantime::format_duration(Duration::from_secs(here.abs_diff(there)));
    let way = if here < there { "behind" } else { "ahead of" };
    format!(
        "the clocks differ: this host's says {}, which is {by} {way} that of the manager at \
         {address} ({}), and certificates are good for a time only: set the one that is wrong",
        rfc3339(here),
        rfc3339(there)
    )
}

fn untimely(address: &str, here: u64) -> String {
    format!(
        "a certificate of this host or of the manager at {address} is not good at the time that \
         this host's clock says, {}: set the clock if it is wrong, or else leave and join again",
        rfc3339(here)
    )
}

/// Where a manager would be on the host of an address that names another port.
fn usual(address: &str) -> Option<String> {
    let (host, port) = address.rsplit_once(':')?;
    (port != PORT.to_string()).then(|| format!("{host}:{PORT}"))
}

fn usually(address: &str) -> String {
    let hint = |usual| format!("; a manager listens at {usual} unless it was told another port");
    usual(address).map(hint).unwrap_or_default()
}

/// What to give instead of an address where no manager is.
fn instead(address: &str) -> String {
    let usual = usual(address).map(|usual| format!(", {usual} unless it was told another"));
    format!(
        "give a manager's address and port{}, as netctl cluster token create prints them there",
        usual.unwrap_or_default()
    )
}

fn all(subnets: &[IpNetwork]) -> String {
    subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whose an address is: a clause, but for the node.
fn whose(holder: Option<&Holder>) -> String {
    let Some(Holder { endpoint, container }) = holder else {
        return "somebody has it who is just coming or going".to_owned();
    };
    let endpoint = endpoint.short();
    match container {
        Some(container) => format!("container {container} (endpoint {endpoint}) has it"),
        None => format!("endpoint {endpoint} has it"),
    }
}

fn list(holders: &[(NodeId, u128)]) -> String {
    let held = holders.iter().map(|(node, count)| format!("node {node} holds {count}"));
    held.collect::<Vec<_>>().join(", ")
}

/// Where a node is reached: a part of a sentence.
fn at(address: &Option<IpAddr>) -> String {
    address.map_or_else(String::new, |address| format!(", which is reached at {address},"))
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
}

impl Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(store::Error::Denied { .. }) => Kind::Denied,
            Self::Store(store::Error::NoSpace { .. }) => Kind::Exhausted,
            Self::Store(_)
            | Self::Unreachable { .. }
            | Self::NoManager { .. }
            | Self::Stranger { .. }
            | Self::Clocks { .. }
            | Self::Untimely { .. } => Kind::Unavailable,
            Self::NameTaken { .. }
            | Self::Overlap { .. }
            | Self::Underlay { .. }
            | Self::Within { .. }
            | Self::AddressTaken { .. }
            | Self::PortTaken { .. }
            | Self::Namesake { .. }
            | Self::NodeThere { .. } => Kind::Exists,
            Self::Subnet { .. }
            | Self::AddressOutside { .. }
            | Self::AddressKept { .. }
            | Self::Family { .. } => Kind::Invalid,
            Self::PoolsExhausted | Self::VnisExhausted | Self::Exhausted { .. } => Kind::Exhausted,
            Self::NoNetwork { .. } | Self::NoNode { .. } => Kind::NotFound,
            Self::InUse { .. }
            | Self::Held { .. }
            | Self::StillAlive { .. }
            | Self::Contended { .. }
            | Self::Fenced { .. }
            | Self::Resting { .. }
            | Self::MemberTaken { .. }
            | Self::Learner { .. }
            | Self::Quorum { .. } => Kind::Busy,
            Self::Token(_) | Self::Denied { .. } | Self::Removed { .. } => Kind::Denied,
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
            Error::Underlay { subnet, link, address, node } => said
                .with("subnet", subnet.to_string())
                .with("other", link.to_string())
                .with("address", address.to_string())
                .with("node", node),
            Error::Within { address, subnet, network, .. } => said
                .with("advertise", address.to_string())
                .with("subnet", subnet.to_string())
                .with("network", network),
            Error::Namesake { node, .. }
            | Error::NodeThere { node, .. }
            | Error::StillAlive { node, .. } => said.with("node", node.to_string()),
            Error::Family { address, .. } => said.with("advertise", address.to_string()),
            Error::Exhausted { network, subnets, holders } => {
                let subnets: Vec<_> = subnets.iter().map(ToString::to_string).collect();
                let holders: serde_json::Map<_, _> = holders
                    .into_iter()
                    .map(|(node, count)| (node.into(), count.to_string().into()))
                    .collect();
                said.with("network", network.as_str())
                    .with("subnets", subnets)
                    .with("holders", holders)
            }
            Error::AddressTaken { address, node, holder } => {
                let said = said.with("address", address.to_string()).with("node", node.as_str());
                let Some(Holder { endpoint, container }) = holder else { return said };
                let said = said.with("endpoint", endpoint.as_str());
                container.into_iter().fold(said, |said, name| said.with("container", name))
            }
            Error::AddressOutside { address, network, .. } => {
                said.with("address", address.to_string()).with("network", network.as_str())
            }
            Error::AddressKept { address, .. } => said.with("address", address.to_string()),
            Error::PortTaken { protocol, port, node } => {
                said.with("protocol", protocol).with("port", port).with("node", node.as_str())
            }
            Error::Held { network, nodes } => {
                let holders: Vec<_> = nodes.into_iter().map(String::from).collect();
                said.with("network", network.as_str()).with("holders", holders)
            }
            Error::NoManager { address, .. } => said.with("manager", address),
            Error::Removed { node } => said.with(REMOVED, node.as_str()),
            Error::Clocks { here, there, .. } => {
                said.with("here", rfc3339(here)).with("there", rfc3339(there))
            }
            Error::Fenced { node, now, .. } => said.with("node", node.as_str()).with("epoch", now),
            _ => said,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_told_with_both_and_by_how_much() {
        let clocks = |here, there| {
            let address = "192.0.2.1:2377".to_owned();
            Error::Clocks { address, here, there }.to_string()
        };
        let behind = clocks(1_767_225_600, 1_767_225_600 + 90_000);
        assert!(behind.starts_with(
            "the clocks differ: this host's says 2026-01-01T00:00:00Z, which is 1day 1h behind that \
             of the manager at 192.0.2.1:2377 (2026-01-02T01:00:00Z)"
        ));
        assert!(clocks(120, 60).contains("which is 1m ahead of that of the manager"));
    }
}
