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

/// Pools, sorted by network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pools {
    /// Each of them.
    pub pools: Vec<Pool>,
}

/// One subnet of one network and how full it is.
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
    /// How many are never given out by themselves.
    pub reserved: u64,
    /// How many more endpoints can be given one; the largest number where there are more.
    #[serde(default)]
    pub available: u64,
}
