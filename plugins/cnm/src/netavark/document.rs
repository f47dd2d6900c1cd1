//! The documents as Podman and netavark write them: `null` and what is missing mean the same, and
//! keys that nobody here knows come back as they came.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ContainerId, IfName, MacAddr};

/// A network as Podman writes it down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Network {
    pub(super) name: String,
    #[serde(default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) driver: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) network_interface: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subnets: Option<Vec<Subnet>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) routes: Option<Vec<Route>>,
    #[serde(default)]
    pub(super) ipv6_enabled: bool,
    #[serde(default)]
    pub(super) internal: bool,
    #[serde(default)]
    pub(super) dns_enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) network_dns_servers: Option<Vec<IpAddr>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ipam_options: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

impl Network {
    /// Who gives addresses.
    pub(super) fn ipam(&self) -> Option<&str> {
        let driver = self.ipam_options.as_ref()?.get("driver")?;
        Some(driver.as_str()).filter(|driver| !driver.is_empty())
    }

    /// Says who gives addresses.
    pub(super) fn set_ipam(&mut self, driver: &str) {
        self.ipam_options.get_or_insert_default().insert("driver".to_owned(), driver.to_owned());
    }

    /// Its subnets; none where it says nothing of them.
    pub(super) fn subnets(&self) -> &[Subnet] {
        self.subnets.as_deref().unwrap_or_default()
    }
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Subnet {
    pub(super) subnet: IpNetwork,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lease_range: Option<LeaseRange>,
}

/// Where in a subnet addresses are given from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LeaseRange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) start_ip: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) end_ip: Option<IpAddr>,
}

/// A route that containers are to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) destination: IpNetwork,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metric: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) route_type: Option<String>,
}

/// What `setup` is given: one container and one of its networks.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Setup {
    pub(super) container_id: ContainerId,
    #[serde(default)]
    pub(super) container_name: String,
    #[serde(default)]
    pub(super) container_hostname: Option<String>,
    #[serde(default)]
    pub(super) port_mappings: Option<Vec<PortMapping>>,
    /// Whom the container asks for names that netd does not have.
    #[serde(default)]
    pub(super) dns_servers: Option<Vec<IpAddr>>,
    pub(super) network: Network,
    pub(super) network_options: PerNetwork,
}

/// Ports of the container that the host answers for.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct PortMapping {
    /// Empty for all of the host's addresses.
    #[serde(default)]
    pub(super) host_ip: String,
    pub(super) container_port: u16,
    #[serde(default)]
    pub(super) host_port: u16,
    /// How many there are in a row; 0 for one.
    #[serde(default)]
    pub(super) range: u16,
    #[serde(default)]
    pub(super) protocol: String,
}

/// What the container is on this network.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct PerNetwork {
    #[serde(default)]
    pub(super) aliases: Option<Vec<String>>,
    pub(super) interface_name: IfName,
    #[serde(default)]
    pub(super) static_ips: Option<Vec<IpAddr>>,
    #[serde(default)]
    pub(super) static_mac: Option<MacAddr>,
    #[serde(default)]
    pub(super) options: Option<BTreeMap<String, String>>,
}

/// What `teardown` is given, as far as it is needed: whatever became of the rest, what is to go is
/// told by this.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Teardown {
    pub(super) container_id: ContainerId,
    pub(super) network: Named,
    pub(super) network_options: Interface,
}

/// A network's name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

/// An interface's name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Interface {
    pub(super) interface_name: IfName,
}
