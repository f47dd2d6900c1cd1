//! A network in the shape in which Docker shows one (Engine API 1.48), member by member in its
//! order, so that scripts that read Docker's read netd's.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::{
    Name,
    endpoint::Endpoint,
    network::{self, NetworkDetail},
    options::{ATTACHABLE, is_attachable},
};

/// What Docker calls the driver of the network `none`.
pub const NULL: &str = "null";
/// What netd calls it.
pub const NONE: &str = "none";

/// The label of an endpoint that dockerd has, with its id there.
pub const ENDPOINT: &str = "docker";

/// What the labels of networks that a dockerd has begin with; its id there follows.
pub const NETWORK_PREFIX: &str = "docker/";

/// Whether dockerd has put a container on a network, and alone takes it off without going on as if it
/// were there.
pub fn is_of_dockerd(endpoint: &Endpoint) -> bool {
    endpoint.labels.contains_key(ENDPOINT)
}

/// Where a network is, in Docker's words: on this host, or on all of a cluster.
pub fn scope(network: &network::Network) -> &'static str {
    if network.overlay.is_some() { "swarm" } else { "local" }
}

/// A driver's name, as Docker has it.
pub fn driver(network: &network::Network) -> &str {
    if network.driver == NONE { NULL } else { &network.driver }
}

/// Whether a network has IPv4. Docker says so of those without addresses of their own as well.
pub fn ipv4(network: &network::Network) -> bool {
    network.subnets.is_empty() || network.subnets.iter().any(|subnet| subnet.subnet.is_ipv4())
}

/// Whether a network has IPv6.
pub fn ipv6(network: &network::Network) -> bool {
    network.subnets.iter().any(|subnet| subnet.subnet.is_ipv6())
}

/// A network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network<'a> {
    name: &'a str,
    id: &'a str,
    created: &'a str,
    scope: &'static str,
    driver: &'a str,
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, Member<'a>>,
    options: BTreeMap<&'a str, &'a str>,
    labels: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    /// Docker has `null` for those it made itself and `{}` for those a person made.
    options: Option<BTreeMap<String, String>>,
    config: Vec<Config>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    subnet: IpNetwork,
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    ip_range: Option<IpNetwork>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary_addresses: BTreeMap<String, IpAddr>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Member<'a> {
    name: &'a str,
    #[serde(rename = "EndpointID")]
    endpoint_id: &'a str,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
}

impl<'a> Network<'a> {
    /// What Docker would show of `detail`.
    pub fn of(detail: &'a NetworkDetail) -> Self {
        let network = &detail.network;
        let mut containers = BTreeMap::new();
        for endpoint in &detail.endpoints {
            let member = Member::of(endpoint);
            // Docker has one endpoint of a container on a network; a second one goes by its own
            // id, as an endpoint without a container does there.
            let id = endpoint.container.id.as_str();
            if containers.contains_key(id) {
                containers.insert(format!("ep-{}", endpoint.id), member);
            } else {
                containers.insert(id.to_owned(), member);
            }
        }
        Self {
            name: network.name.as_str(),
            id: network.id.as_str(),
            created: &network.created,
            scope: scope(network),
            driver: driver(network),
            enable_ipv4: Some(ipv4(network)),
            enable_ipv6: ipv6(network),
            ipam: Ipam {
                driver: "default",
                options: (!network.predefined).then(BTreeMap::new),
                config: network.subnets.iter().map(Config::of).collect(),
            },
            internal: network.internal,
            attachable: is_attachable(&network.options),
            ingress: false,
            config_from: ConfigFrom::default(),
            config_only: false,
            containers,
            options: network
                .options
                .iter()
                .filter(|(name, _)| !ATTACHABLE.is(name))
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
            labels: &network.labels,
        }
    }
}

impl Network<'_> {
    /// As a version of the API has it, by its second number: EnableIPv4 came with 1.48.
    #[must_use]
    pub fn at(mut self, minor: u32) -> Self {
        self.enable_ipv4 = self.enable_ipv4.filter(|_| minor >= 48);
        self
    }
}

impl Config {
    fn of(subnet: &network::Subnet) -> Self {
        Self {
            subnet: subnet.subnet,
            ip_range: subnet.range,
            gateway: subnet.gateway,
            auxiliary_addresses: subnet.aux.clone(),
        }
    }
}

impl<'a> Member<'a> {
    fn of(endpoint: &'a Endpoint) -> Self {
        let address = |family: fn(&IpNetwork) -> bool| {
            let found = endpoint.addresses.iter().find(|address| family(address));
            found.map(ToString::to_string).unwrap_or_default()
        };
        let container = &endpoint.container;
        Self {
            name: container.name.as_ref().map_or(container.id.as_str(), Name::as_str),
            endpoint_id: endpoint.id.as_str(),
            mac_address: endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            ipv4_address: address(IpNetwork::is_ipv4),
            ipv6_address: address(IpNetwork::is_ipv6),
        }
    }
}

/// Networks as an array: indented by four as Docker does, or on one line.
pub fn text(networks: &[Network<'_>], one_line: bool) -> String {
    let mut bytes = Vec::new();
    let written = if one_line {
        serde_json::to_writer(&mut bytes, networks)
    } else {
        let indented = PrettyFormatter::with_indent(b"    ");
        networks.serialize(&mut Serializer::with_formatter(&mut bytes, indented))
    };
    written.expect("maps with text keys, written to memory");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

#[cfg(test)]
mod tests;
