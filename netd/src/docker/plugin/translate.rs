//! From dockerd's words to netd's and back: pure functions of what was decoded.

use std::{collections::BTreeMap, net::IpAddr};

use cnm::{
    Error, Result,
    decode::{self, ByName},
    docker::NETWORK_PREFIX,
    endpoint::{Endpoint, Port, Protocol},
    network::{self, Network, Subnet},
    options::{IPAM, Setting},
    split::{self, upper_half},
};
use ipnetwork::IpNetwork;
use serde_json::Value;

use super::messages::{
    CreateNetwork, GENERIC, INTERNAL, InterfaceName, IpamData, Joined, Options, PORTMAP, PortMap,
    StaticRoute,
};

/// The address space of netd's own IPAM driver.
pub(super) const SPACE: &str = "netd";

/// What the names of options begin with that dockerd knows itself.
pub(super) const DOCKERS_OWN: &str = "com.docker.network.";

/// A network's option that names netd's driver.
const TYPE: &str = "type";

/// The options of a network that are this dialect's alone.
pub(super) const OWN_OPTIONS: [Setting; 2] = [
    Setting { names: &[NETWORK], about: "netd's name of it" },
    Setting { names: &[TYPE], about: "its driver in netd" },
];

/// An option of a network, and of its IPAM, with netd's name of it, since Docker tells none: one that
/// is there is shared with whoever else is on it.
pub(super) const NETWORK: &str = "network";

/// The label of a network that dockerd has, with its id there.
pub(in crate::docker) fn label(id: &str) -> String {
    format!("{NETWORK_PREFIX}{id}")
}

/// The label that tells which addresses Docker gives out itself, of a network by its id there.
pub(super) fn parts_label(id: &str) -> String {
    format!("{}{id}", split::DOCKER)
}

/// The label that tells which addresses Docker was told to leave out, of a network by its id there.
pub(super) fn aux_label(id: &str) -> String {
    format!("{}{id}", split::DOCKER_AUX)
}

/// Whose the network is that the label is at: made for dockerd, or there before; where it is one of the
/// cluster a space and that dockerd's node follow.
pub(super) const OWN: &str = "own";
pub(super) const JOINED: &str = "joined";

/// What a network is to be, and whether it may be there already.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) create: network::CreateNetwork,
    pub(super) named: bool,
    /// Whether all addresses come of netd's own IPAM driver.
    pub(super) addresses_are_netds: bool,
    /// What Docker gives out itself.
    pub(super) parts: Vec<IpNetwork>,
}

pub(super) fn network(request: &CreateNetwork) -> Result<Wanted> {
    let none = Options::new();
    let options = request.options.as_ref().unwrap_or(&none);
    let mut create = network::CreateNetwork {
        internal: options.get(INTERNAL).is_some_and(is_true),
        ipv4: Some(false),
        ipv6: Some(false),
        ..network::CreateNetwork::default()
    };
    if let Some(generic) = options.get(GENERIC).and_then(Value::as_object) {
        for (name, value) in generic {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            create.options.insert(name.clone(), text);
        }
    }
    create.driver = create.options.remove(TYPE);
    let name = create.options.remove(NETWORK);
    let named = name.is_some();
    let short = request.network.get(..12).unwrap_or(&request.network);
    create.name = name.unwrap_or_else(|| format!("docker-{short}"));
    create.labels.insert(label(&request.network), OWN.to_owned());
    let mut parts = Vec::new();
    let [v4, v6] = [&request.ipv4, &request.ipv6].map(|data| data.as_deref().unwrap_or_default());
    for data in v4.iter().chain(v6) {
        let pool: IpNetwork = parsed("Pool", &data.pool)?;
        if pool.prefix() == 0 {
            // Docker's "null": containers have no addresses.
            create.options.insert(IPAM.names[0].to_owned(), "none".to_owned());
            continue;
        }
        create.subnets.push(subnet(pool, data)?);
        parts.extend(split::halves(pool).filter(|_| data.space != SPACE).map(|(lower, _)| lower));
        let family = if pool.is_ipv4() { &mut create.ipv4 } else { &mut create.ipv6 };
        *family = Some(true);
    }
    if !parts.is_empty() {
        create.labels.insert(parts_label(&request.network), split::label(&parts));
        let told = create.subnets.iter().flat_map(|subnet| subnet.aux.values());
        let told = split::label(told);
        if !told.is_empty() {
            create.labels.insert(aux_label(&request.network), told);
        }
    }
    let addresses_are_netds = v4.iter().chain(v6).all(|data| data.space == SPACE);
    Ok(Wanted { create, named, addresses_are_netds, parts })
}

/// Of a subnet whose addresses Docker gives out itself, from the lowest on, netd has the upper half.
fn subnet(pool: IpNetwork, data: &IpamData) -> Result<Subnet> {
    let mut subnet = Subnet::new(pool);
    if !data.gateway.is_empty() {
        subnet.gateway = Some(parsed::<IpNetwork>("Gateway", &data.gateway)?.ip());
    }
    for (name, address) in data.aux.iter().flatten() {
        subnet.aux.insert(name.clone(), parsed::<IpNetwork>("AuxAddresses", address)?.ip());
    }
    if data.space != SPACE {
        subnet.range = upper_half(pool);
    }
    Ok(subnet)
}

/// The options that a container's user has given for one network (`--driver-opt`), which come beside what
/// dockerd says itself.
pub(super) fn endpoint_options(options: Option<&Options>) -> BTreeMap<String, String> {
    let given = options.into_iter().flatten().filter(|(name, _)| !name.starts_with(DOCKERS_OWN));
    given.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_str() == Some("true"))
}

/// What stands under a key, if it is what it should be.
pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    key: &str,
    text: &str,
) -> Result<T> {
    text.parse().map_err(|error| {
        Error::invalid(format_args!("invalid {key} {text:?}: {}", decode::why(text, error)))
    })
}

/// The ports of `com.docker.network.portmap`.
pub(super) fn ports(options: Option<&Options>) -> Result<Vec<Port>> {
    let Some(given) = options.and_then(|options| options.get(PORTMAP)) else {
        return Ok(Vec::new());
    };
    let ByName(given): ByName<Option<Vec<PortMap>>> = serde_json::from_value(given.clone())
        .map_err(|error| Error::invalid(format_args!("invalid {PORTMAP}: {error}")))?;
    let mut ports = Vec::new();
    for map in given.unwrap_or_default() {
        let protocol = match map.protocol {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            132 => Protocol::Sctp,
            other => {
                return Err(Error::unsupported(format_args!(
                    "ports of IP protocol {other} cannot be published"
                )));
            }
        };
        if map.port == 0 {
            return Err(Error::invalid("port 0 of a container cannot be published"));
        }
        let host_ip = match map.host_ip.as_str() {
            "" => None,
            text => Some(parsed::<IpAddr>("HostIP", text)?),
        };
        let (host_port, container_port) = (map.host_port, map.port);
        // dockerd says the range that it may come from, and without one the port again.
        let host_port_to =
            Some(map.host_port_end).filter(|last| host_port != 0 && *last > host_port);
        let port = Port { protocol, host_ip, host_port, host_port_to, container_port, count: 1 };
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    Ok(ports)
}

/// What dockerd needs to know of an endpoint to put it into its container.
pub(super) fn joined(network: &Network, endpoint: &Endpoint, prefix: &str) -> Joined {
    let gateway = |v4: bool| {
        let mut own = endpoint.gateways.iter().filter(|gateway| gateway.is_ipv4() == v4);
        own.next().map(IpAddr::to_string).unwrap_or_default()
    };
    let route = |route: &cnm::endpoint::Route| StaticRoute {
        destination: route.dst.to_string(),
        kind: u8::from(route.gateway.is_none()),
        next_hop: route.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
    };
    Joined {
        interface: InterfaceName {
            source: endpoint.id.delivered_name().to_string(),
            prefix: prefix.to_owned(),
        },
        gateway: gateway(true),
        gateway_v6: gateway(false),
        routes: endpoint.routes.iter().map(route).collect(),
        // Who has no way out here is not to get one that nobody asked for.
        no_gateway: network.internal || endpoint.gateways.is_empty(),
    }
}

#[cfg(test)]
mod tests;
