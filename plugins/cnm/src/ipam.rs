//! Addresses: who has how many, and the calls for those who want addresses and nothing else.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{Call, Name, NetworkId, network::is_first_set};

/// Shows every pool and how full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListPools {}

impl Call for ListPools {
    const METHOD: &'static str = "ipam.list";
    type Reply = Pools;
}

/// Keeps addresses of a network for the container of a name, whoever is there first: it gets them at
/// its attach without asking, and nobody else does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reserve {
    /// The network's id, its name, or the beginning of its id.
    pub network: String,
    /// The container's name.
    pub name: Name,
    /// Which addresses, at most one of each of the network's sets of subnets, in place of those of the
    /// same set that were kept before; one of each where none are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

impl Call for Reserve {
    const METHOD: &'static str = "ipam.reserve";
    type Reply = Reserved;
}

/// Keeps addresses for a name no longer. One that its container has stays its own until it goes; a name
/// without any is a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unreserve {
    /// The network's id, its name, or the beginning of its id.
    pub network: String,
    /// The container's name.
    pub name: Name,
}

impl Call for Unreserve {
    const METHOD: &'static str = "ipam.unreserve";
    type Reply = Reserved;
}

/// Addresses that are, or were, kept for a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reserved {
    /// All that it has on the network.
    pub addresses: Vec<IpAddr>,
}

/// Pools, sorted by network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pools {
    /// Each of them.
    pub pools: Vec<Pool>,
}

/// One subnet of one network, or of a network that many hosts have one block that is this host's, and how
/// full it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pool {
    /// The network.
    pub network: NetworkId,
    /// That network's name.
    pub network_name: Name,
    /// Its addresses.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub subnet: IpNetwork,
    /// The part of them that is this host's to give, of a network that many hosts have; the figures are of
    /// that part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub block: Option<IpNetwork>,
    /// Which of the family's sets of subnets it is in.
    #[serde(default, skip_serializing_if = "is_first_set")]
    pub set: u8,
    /// The way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// How many addresses endpoints can have; the largest number where there are more.
    pub usable: u64,
    /// How many endpoints have.
    pub leased: u64,
    /// How many are kept back for a while after their last owner.
    pub quarantined: u64,
    /// How many are never given out by themselves, or to the container of one name only.
    pub reserved: u64,
    /// How many more endpoints can be given one; the largest number where there are more.
    #[serde(default)]
    pub available: u64,
}
