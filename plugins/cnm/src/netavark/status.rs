//! What a setup made, as Podman wants to know it.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::Serialize;

use crate::{Error, Result, endpoint::Endpoint, network::Network, options::search};

#[derive(Debug, Serialize)]
struct Status<'a> {
    dns_search_domains: Vec<&'a str>,
    dns_server_ips: &'a [IpAddr],
    interfaces: BTreeMap<&'a str, Interface>,
}

#[derive(Debug, Serialize)]
struct Interface {
    mac_address: String,
    subnets: Vec<Address>,
}

#[derive(Debug, Serialize)]
struct Address {
    ipnet: IpNetwork,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

/// The document of an endpoint. Where to ask for names is said unless the network is to have none.
pub(super) fn text(endpoint: &Endpoint, network: &Network, names: bool) -> Result<String> {
    let address = |ipnet: &IpNetwork| Address {
        ipnet: *ipnet,
        gateway: network
            .subnet_of(ipnet.ip())
            .and_then(|subnet| subnet.gateway)
            .filter(|_| !network.internal),
    };
    // One that has no address of its own is none that could be told.
    let interfaces = endpoint.mac.map(|mac| {
        let subnets = endpoint.addresses.iter().map(address).collect();
        (endpoint.ifname.as_str(), Interface { mac_address: mac.to_string(), subnets })
    });
    serde_json::to_string(&Status {
        dns_search_domains: if names { search(&endpoint.options) } else { Vec::new() },
        dns_server_ips: if names { &endpoint.dns } else { &[] },
        interfaces: interfaces.into_iter().collect(),
    })
    .map_err(Error::internal)
}
