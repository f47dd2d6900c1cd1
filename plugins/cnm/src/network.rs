//! Networks: what they are, and the calls that make, show and remove them.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{Call, Empty, IfName, Name, NetworkId, endpoint::Endpoint, ipam::Pool, peers::Overlay};

/// The label of a network that is there only while somebody is on it: it goes with its last endpoint,
/// unless dockerd has it as well.
pub const WHILE_USED: &str = "netd/while-used";

/// A network, as it is stored, shown and handed to its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Network {
    /// Its identifier.
    pub id: NetworkId,
    /// Its name, unique on this host.
    pub name: Name,
    /// The driver that serves it: `bridge` is the executable `netd-bridge`.
    pub driver: String,
    /// When it was made, as RFC 3339 in UTC with nanoseconds.
    pub created: String,
    /// Its addresses; of several subnets of a family, and of one set, an endpoint has an address of
    /// one. None where the driver needs none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<Subnet>,
    /// No way in or out but for its own members.
    #[serde(default)]
    pub internal: bool,
    /// One of the three that always exist.
    #[serde(default)]
    pub predefined: bool,
    /// The name of its link on the host, where its driver has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<IfName>,
    /// The MTU it was given; otherwise the driver takes the uplink's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// How it reaches other hosts; only in what a driver that spans them is handed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// The user's own labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The key of the request that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl Network {
    /// The subnet that `address` is in.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.subnet.contains(address))
    }
}

/// Addresses of one family on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Subnet {
    /// All of them.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub subnet: IpNetwork,
    /// Those that are given out by themselves; all unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub range: Option<IpNetwork>,
    /// The way out; on a bridge the bridge's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Addresses that others have, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aux: BTreeMap<String, IpAddr>,
    /// Addresses that are never given out by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub exclude: Vec<IpNetwork>,
    /// Addresses that are kept for the container of a name, one each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserved: BTreeMap<Name, IpAddr>,
    /// Which of the family's sets of subnets it is in: an endpoint has one address of each, from
    /// the first subnet of the set that has one.
    #[serde(default, skip_serializing_if = "is_first_set")]
    pub set: u8,
}

/// Whether it is the set in which everything is unless told.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_first_set(set: &u8) -> bool {
    *set == 0
}

impl Subnet {
    /// A subnet of which everything else is chosen.
    pub fn new(subnet: IpNetwork) -> Self {
        Self {
            subnet,
            range: None,
            gateway: None,
            aux: BTreeMap::new(),
            exclude: Vec::new(),
            reserved: BTreeMap::new(),
            set: 0,
        }
    }
}

/// Makes a network. What is not said is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateNetwork {
    /// Its name.
    pub name: String,
    /// Its driver; `bridge` unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Its addresses; a family that is wanted and not given here is chosen from the default pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<Subnet>,
    /// Whether it has IPv4; yes unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<bool>,
    /// Whether it has IPv6; only with an IPv6 subnet unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    /// No way in or out but for its own members.
    #[serde(default)]
    pub internal: bool,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// The user's own labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl CreateNetwork {
    /// A network of which everything but the name is chosen.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

impl Call for CreateNetwork {
    const METHOD: &'static str = "network.create";
    type Reply = Network;
}

/// Looks whether a network could be made now, and makes none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckNetwork {
    /// As it would be made.
    pub network: CreateNetwork,
}

impl Call for CheckNetwork {
    const METHOD: &'static str = "network.check";
    type Reply = NetworkChecked;
}

/// What is to be said of a network that could be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkChecked {
    /// One sentence for each thing that is no reason to refuse it, and that would be in its way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Shows the networks that match every given filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListNetworks {
    /// By key: `name` and `id` (a part of it), `driver` (all of it), `label` (`k` or `k=v`),
    /// `type` (`builtin` or `custom`), `dangling` (`true` or `false`), `scope` (`local` or `swarm`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, Vec<String>>,
}

impl Call for ListNetworks {
    const METHOD: &'static str = "network.list";
    type Reply = Networks;
}

/// Networks, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Networks {
    /// Each of them.
    pub networks: Vec<Network>,
}

/// Shows one network and who is on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InspectNetwork {
    /// Its id, its name, or the beginning of its id.
    pub network: String,
}

impl Call for InspectNetwork {
    const METHOD: &'static str = "network.inspect";
    type Reply = NetworkDetail;
}

/// A network and who is on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkDetail {
    /// The network.
    #[serde(flatten)]
    pub network: Network,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// How full its subnets are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
    /// One sentence for each thing that whoever looks should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Changes a network while it is in use. What is not given stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpdateNetwork {
    /// Its id, its name, or the beginning of its id.
    pub network: String,
    /// Subnets that it has besides from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_subnets: Vec<Subnet>,
    /// Which part of a subnet that it has netd gives addresses of by itself from now on; all of it where
    /// that is null. Whoever has an address keeps it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Option<String>>"))]
    pub ranges: BTreeMap<IpNetwork, Option<IpNetwork>>,
    /// Labels that it has from now on, in the place of those of the same key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Keys of labels that it has no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_labels: Vec<String>,
    /// Options that it has from now on, in the place of what was said before, of those that its driver
    /// can change while it is in use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Options that are as if they had never been said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_options: Vec<String>,
}

impl Call for UpdateNetwork {
    const METHOD: &'static str = "network.update";
    type Reply = Network;
}

/// Removes a network that nobody is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RemoveNetwork {
    /// Its id, its name, or the beginning of its id.
    pub network: String,
}

impl Call for RemoveNetwork {
    const METHOD: &'static str = "network.remove";
    type Reply = Empty;
}

/// Removes all networks that nobody is on, but for the predefined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PruneNetworks {
    /// As in `network.list`; here `label`, `label!` and `until` (RFC 3339, made before then).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, Vec<String>>,
}

impl Call for PruneNetworks {
    const METHOD: &'static str = "network.prune";
    type Reply = Pruned;
}

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pruned {
    /// The names of the networks.
    pub removed: Vec<Name>,
    /// One sentence for each thing that whoever pruned should know, such as why a network stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
