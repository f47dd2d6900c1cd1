//! From the dialect to the protocol: pure functions of what was decoded.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;

use super::{
    document::{Network, PerNetwork, PortMapping, Route as Given, Setup, Subnet as Range},
    words::{self, Words},
};
use crate::{
    Error, Name, Result,
    driver::Info,
    endpoint::{AddressRange, Assigned, Attach, Container, Netns, Port, Route},
    network::{CreateNetwork, Subnet},
    options::{IPAM, LINK},
    plugin::{held, making::exactly},
    split,
};

/// The label that tells a network of this dialect, with the id that Podman has for it.
pub(super) const LABEL: &str = split::PODMAN;

/// Who gives a network's addresses.
pub(super) const NETD: &str = "netd";
pub(super) const NONE: &str = "none";
pub(super) const HOST_LOCAL: &str = "host-local";
pub(super) const DHCP: &str = "dhcp";

/// Whom to ask for names that are nobody's here, as netd calls it.
const DNS: &str = "dns";

/// All addresses of a family, as a port has them.
const EVERY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// What a macvlan hangs on, as its driver calls it.
pub(super) const PARENT: &str = "parent";

/// The network of a document, for the first setup on it.
pub(super) fn create(info: &Info, network: &Network) -> Result<CreateNetwork> {
    let mut options = words::of(&info.name, network)?.options;
    if let Some(interface) = network.network_interface.as_deref().filter(|name| !name.is_empty()) {
        let names = [LINK.names[0], PARENT];
        let Some(option) = names.into_iter().find(|name| info.takes_for_network(name)) else {
            return Err(Error::invalid(format_args!(
                "networks of {} have no interface of the host's: leave {interface} out",
                info.name
            )));
        };
        options.insert(option.to_owned(), interface.to_owned());
    }
    if network.ipam() == Some(NONE) {
        options.insert(IPAM.names[0].to_owned(), NONE.to_owned());
    }
    if let Some(servers) = network.network_dns_servers.as_deref().filter(|list| !list.is_empty()) {
        options.insert(DNS.to_owned(), list(servers));
    }
    for route in network.routes.iter().flatten() {
        check_route(route)?;
    }
    let subnets = subnets(network);
    let has = |v4: bool| subnets.iter().any(|subnet| subnet.subnet.is_ipv4() == v4);
    let gives = network.ipam() != Some(NONE);
    Ok(CreateNetwork {
        name: network.name.clone(),
        driver: Some(info.name.clone()),
        ipv4: Some(gives && (subnets.is_empty() || has(true))),
        ipv6: Some(gives && (network.ipv6_enabled || has(false))),
        subnets,
        internal: network.internal,
        options,
        labels: labels(network),
    })
}

/// The subnets as netd is to have them. Where Podman gives addresses a container has one of each, and
/// netd gives others of one half.
fn subnets(network: &Network) -> Vec<Subnet> {
    let is_podmans = network.ipam() == Some(HOST_LOCAL);
    let mut sets = [0_u8; 2];
    let subnet = |given: &Range| {
        let mut subnet = Subnet { gateway: given.gateway, ..Subnet::new(masked(given.subnet)) };
        if is_podmans {
            let set = &mut sets[usize::from(subnet.subnet.is_ipv4())];
            subnet.set = *set;
            *set = set.saturating_add(1);
            subnet.range = halves(given).map(|(_, netds)| netds);
        }
        subnet
    };
    network.subnets().iter().map(subnet).collect()
}

/// Whose half of a subnet is whose where Podman gives addresses: the upper one is netd's, unless
/// Podman is told to give those.
fn halves(given: &Range) -> Option<(IpNetwork, IpNetwork)> {
    let (lower, upper) = split::halves(masked(given.subnet))?;
    let first = given.lease_range.and_then(|range| range.start_ip);
    match first {
        Some(first) if upper.contains(first) => Some((upper, lower)),
        _ => Some((lower, upper)),
    }
}

/// What Podman gives out of each subnet where it gives addresses.
pub(super) fn parts(network: &Network) -> Vec<IpNetwork> {
    network.subnets().iter().filter_map(halves).map(|(podmans, _)| podmans).collect()
}

fn masked(subnet: IpNetwork) -> IpNetwork {
    IpNetwork::new(subnet.network(), subnet.prefix()).unwrap_or(subnet)
}

/// The address before one that is not the first of all.
pub(super) fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().saturating_sub(1))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits().saturating_sub(1))),
    }
}

fn labels(network: &Network) -> BTreeMap<String, String> {
    let mut labels = network.labels.clone().unwrap_or_default();
    labels.insert(LABEL.to_owned(), network.id.clone());
    if network.ipam() == Some(HOST_LOCAL) {
        labels.insert(split::NETAVARK.to_owned(), split::label(parts(network)));
    }
    labels
}

fn check_route(route: &Given) -> Result<()> {
    match route.route_type.as_deref() {
        None | Some("" | "unicast") => Ok(()),
        Some(other) => Err(Error::unsupported(format_args!(
            "the route to {} is of type {other}, and netd has unicast alone",
            route.destination
        ))),
    }
}

/// The attach of a setup.
pub(super) fn attach(info: &Info, setup: &Setup) -> Result<Attach> {
    let Setup { network, network_options: here, .. } = setup;
    let mut container = Container::new(setup.container_id.clone());
    container.name = setup.container_name.parse().ok();
    container.hostname = setup.container_hostname.as_ref().and_then(|name| name.parse().ok());
    let mut attach = Attach::new(&exactly(&network.name), container, Some(Netns::Fd));
    attach.ifname = info.capabilities.addresses.then(|| here.interface_name.clone());
    attach.mac = here.static_mac;
    attach.aliases = aliases(here);
    attach.ports = ports(setup.port_mappings.as_deref().unwrap_or_default(), &families(setup))?;
    held::by_podman(&mut attach)?;
    attach.options = here.options.clone().unwrap_or_default();
    // Podman may look for the interface right after, and lay it anew.
    attach.options.insert("linger".to_owned(), "false".to_owned());
    // What was said of the network is said again: it may be other servers by now.
    let servers = [&setup.dns_servers, &network.network_dns_servers];
    if let Some(servers) = servers.into_iter().flatten().find(|list| !list.is_empty()) {
        attach.options.insert(DNS.to_owned(), list(servers));
    }
    attach.labels.insert(LABEL.to_owned(), network.id.clone());
    attach.routes = routes(network, &words::of(&info.name, network)?)?;
    let wanted = here.static_ips.clone().unwrap_or_default();
    if network.ipam() == Some(NONE) && wanted.is_empty() {
        attach.assigned = Some(Assigned::default());
    }
    attach.addresses = wanted;
    // What Podman gave out itself is in its own half.
    if network.ipam() != Some(HOST_LOCAL) {
        attach.ranges = network.subnets().iter().filter_map(range).collect();
    }
    Ok(attach)
}

/// What else a container is called. What can be no name is told, and left out.
fn aliases(here: &PerNetwork) -> Vec<Name> {
    let mut aliases = Vec::new();
    for alias in here.aliases.iter().flatten() {
        match alias.parse::<Name>() {
            Ok(name) if aliases.contains(&name) => {}
            Ok(name) => aliases.push(name),
            Err(error) => eprintln!("the alias is left out: {error}"),
        }
    }
    aliases
}

/// Where in a subnet netd is to give addresses from.
fn range(given: &Range) -> Option<AddressRange> {
    let range = given.lease_range?;
    let subnet = masked(given.subnet);
    let last = match subnet.broadcast() {
        last @ IpAddr::V4(_) if subnet.prefix() < 31 => before(last),
        last => last,
    };
    let first = match (range.start_ip, range.end_ip) {
        (None, None) => return None,
        (Some(first), _) => first,
        (None, Some(_)) => subnet.network(),
    };
    Some(AddressRange { first, last: range.end_ip.unwrap_or(last) })
}

/// A list of servers, as an option has it.
fn list(servers: &[IpAddr]) -> String {
    let servers: Vec<_> = servers.iter().map(IpAddr::to_string).collect();
    servers.join(",")
}

/// The routes of a container, where the network asks for other ones than its own default.
fn routes(network: &Network, words: &Words) -> Result<Option<Vec<Route>>> {
    let given = network.routes.as_deref().unwrap_or_default();
    if given.is_empty() && words.metric.is_none() && !words.no_default_route {
        return Ok(None);
    }
    let mut routes = Vec::new();
    for route in given {
        check_route(route)?;
        let priority = route.metric;
        routes.push(Route { priority, ..Route::new(masked(route.destination), route.gateway) });
    }
    for any in ["0.0.0.0/0", "::/0"] {
        let any: IpNetwork = any.parse().expect("a network");
        if !words.no_default_route && routes.iter().all(|route| route.dst != any) {
            routes.push(Route { priority: words.metric, ..Route::new(any, None) });
        }
    }
    Ok(Some(routes))
}

/// All addresses of each family of which a container has one.
fn families(setup: &Setup) -> Vec<IpAddr> {
    let Setup { network, network_options: here, .. } = setup;
    let subnets = network.subnets().iter().map(|subnet| subnet.subnet.ip());
    let own: Vec<_> = here.static_ips.iter().flatten().copied().chain(subnets).collect();
    let has = |every: &IpAddr| {
        let unsaid = if every.is_ipv4() { own.is_empty() } else { network.ipv6_enabled };
        unsaid || own.iter().any(|ip| ip.is_ipv4() == every.is_ipv4())
    };
    EVERY.into_iter().filter(has).collect()
}

/// The published ports, each once: what is asked for on one address and on all is one port. Where Podman
/// is to hold it at `[::1]` too, it is published for each family by itself: so it says who has that.
fn ports(mappings: &[PortMapping], families: &[IpAddr]) -> Result<Vec<Port>> {
    let mut asked: Vec<Port> = Vec::new();
    for mapping in mappings {
        let port = port(mapping)?;
        if !asked.contains(&port) {
            asked.push(port);
        }
    }
    let everywhere = |port: &Port| Port { host_ip: None, ..*port };
    let is_held = |port: &Port| {
        let mut same = asked.iter().filter(|other| everywhere(other) == *port);
        same.any(|other| other.host_ip == Some(EVERY[1]) || other.host_ip == Some(held::LOOPBACK))
    };
    let mut ports = Vec::new();
    for port in &asked {
        match port.host_ip {
            None if is_held(port) => {
                ports.extend(families.iter().map(|every| Port { host_ip: Some(*every), ..*port }));
            }
            Some(_) if asked.contains(&everywhere(port)) => {}
            _ => ports.push(*port),
        }
    }
    Ok(ports)
}

fn port(mapping: &PortMapping) -> Result<Port> {
    let host_ip = match mapping.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| {
            Error::invalid(format_args!("invalid host_ip {text:?} of a port: {error}"))
        })?),
    };
    if mapping.container_port == 0 {
        return Err(Error::invalid("invalid container_port 0: nobody can listen there"));
    }
    Ok(Port {
        protocol: mapping.protocol.parse()?,
        host_ip,
        host_port: mapping.host_port,
        host_port_to: None,
        container_port: mapping.container_port,
        count: mapping.range.max(1),
    })
}
