//! What networks and endpoints should look like in the kernel, as far as it follows from what netd
//! says of them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use cnm::{
    Error, Result,
    bandwidth::Bandwidth,
    endpoint::{self, Endpoint, Route},
    network::{Network, Subnet},
    options::{DNS_PORT, LINGER, is_delivered_on_host},
};
use ipnetwork::IpNetwork;
use kernel::{bridge_port::Flags, firewall::Fact, guard::Door, links::Mac};

use crate::{
    door,
    modes::{self, Mode},
    options::{HAIRPIN, is_on},
    shards, sysctls,
};

/// Whether an endpoint's interface has to go at once.
pub(crate) fn is_looked_for(endpoint: &Endpoint) -> bool {
    !is_on(&endpoint.options, LINGER, true)
}

/// A network on this host: a bridge, its addresses, and what the firewall knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The bridge's name.
    pub bridge: String,
    /// The bridge's address, which follows from the network's id.
    pub mac: Mac,
    /// The MTU that it was given.
    pub mtu: Option<u32>,
    /// The gateway addresses.
    pub gateways: Vec<IpNetwork>,
    /// Whether it has IPv4.
    pub ipv4: bool,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// The bridges besides, that its endpoints are on in place of its own.
    pub shards: Vec<String>,
    /// What the firewall is to know.
    pub facts: Vec<Fact>,
}

impl Segment {
    /// What a network should look like.
    pub fn of(network: &Network) -> Self {
        let bridge =
            network.link.clone().unwrap_or_else(|| network.id.link_name()).as_str().to_owned();
        let gateways = network
            .subnets
            .iter()
            .filter(|subnet| {
                // An isolated network is one that the host is not on.
                !network.internal || Mode::of(network, subnet.subnet.is_ipv6()) != Mode::Isolated
            })
            .filter_map(|subnet| IpNetwork::new(subnet.gateway?, subnet.subnet.prefix()).ok());
        let shards = shards::names(network);
        let bridges: Vec<_> = std::iter::once(&bridge).chain(&shards).collect();
        let mut facts = Vec::new();
        for bridge in &bridges {
            facts.push(Fact::Bridge((*bridge).clone()));
            if modes::reach_each_other(network) {
                facts.push(Fact::Within((*bridge).clone()));
                let others = shards.iter().filter(|to| *to != *bridge && shards.contains(bridge));
                facts.extend(
                    others.map(|to| Fact::Between { from: (*bridge).clone(), to: to.clone() }),
                );
            }
            facts.extend(modes::facts(network, bridge));
            facts.extend(network.subnets.iter().map(|subnet| Fact::Members {
                bridge: (*bridge).clone(),
                subnet: masked(subnet.subnet),
            }));
        }
        // Among many bridges everything goes through the host, both ways.
        for Subnet { subnet, .. } in network.subnets.iter().filter(|_| shards.is_empty()) {
            let family = |other: &&Subnet| other.subnet.is_ipv4() == subnet.is_ipv4();
            if network.subnets.iter().filter(family).count() > 1 {
                facts.push(Fact::Kin { bridge: bridge.clone(), subnet: masked(*subnet) });
            }
        }
        if let Some(to) = DNS_PORT.port(&network.options).filter(|port| *port != DNS) {
            facts.extend(gateways.clone().flat_map(|gateway| resolver(gateway.ip(), to)));
        }
        if let Some(overlay) = network.overlay.as_ref().filter(|_| !network.internal) {
            facts.extend(
                overlay.node.addresses.iter().map(|address| Fact::Nodes {
                    bridge: bridge.clone(),
                    subnet: masked(*address),
                }),
            );
            facts.extend(
                overlay
                    .node
                    .addresses
                    .iter()
                    .map(|address| Fact::Node { bridge: bridge.clone(), address: address.ip() }),
            );
            facts.extend(overlay.ingress.map(|ingress| Fact::Through {
                bridge: bridge.clone(),
                link: tunnel_link(ingress.vni),
            }));
        }
        let near: BTreeSet<_> = facts.iter().flat_map(Fact::near).collect();
        if !near.is_empty() {
            facts.push(Fact::Halved(bridge.clone()));
            facts.extend(near);
        }
        Self {
            mac: local_mac(network.id.as_str()),
            mtu: network.mtu,
            gateways: gateways.collect(),
            ipv4: network.subnets.iter().any(|subnet| subnet.subnet.is_ipv4()),
            ipv6: network.subnets.iter().any(|subnet| subnet.subnet.is_ipv6()),
            bridge,
            shards,
            facts,
        }
    }

    /// All of its bridges, its own first.
    pub fn bridges(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.bridge).chain(&self.shards)
    }

    /// The kernel parameters that it needs, and their values.
    pub fn parameters(&self) -> Vec<(String, &'static str)> {
        let mut parameters = Vec::new();
        if self.ipv4 {
            parameters.push(("net/ipv4/ip_forward".to_owned(), "1"));
        }
        if self.ipv6 {
            parameters.push(("net/ipv6/conf/all/forwarding".to_owned(), "1"));
        }
        for bridge in self.bridges() {
            self.parameters_of(bridge, &mut parameters);
        }
        parameters
    }

    fn parameters_of(&self, bridge: &str, parameters: &mut Vec<(String, &'static str)>) {
        if self.ipv4 {
            parameters.push((format!("net/ipv4/conf/{bridge}/route_localnet"), "1"));
        }
        if self.ipv6 {
            parameters.push((format!("net/ipv6/conf/{bridge}/disable_ipv6"), "0"));
            parameters.push((format!("net/ipv6/conf/{bridge}/accept_ra"), "0"));
            // Neighbours are asked for from the link-local address, so until that is through with
            // duplicate address detection (1 s) nothing would be forwarded to a container.
            parameters.push((format!("net/ipv6/conf/{bridge}/accept_dad"), "0"));
        } else {
            parameters.push((format!("net/ipv6/conf/{bridge}/disable_ipv6"), "1"));
        }
    }
}

/// The port that resolvers are asked on (RFC 1035, section 4.2).
const DNS: u16 = 53;

/// What leads questions to the port of a gateway where the resolver is.
fn resolver(gateway: IpAddr, port: u16) -> impl Iterator<Item = Fact> {
    let lead = move |protocol: endpoint::Protocol| Fact::Publish {
        protocol: protocol.number(),
        address: Some(gateway),
        port: DNS,
        to: SocketAddr::new(gateway, port),
    };
    [endpoint::Protocol::Udp, endpoint::Protocol::Tcp].into_iter().map(lead)
}

/// The name of the VXLAN device of a number on the wire.
pub fn tunnel_link(vni: u32) -> String {
    format!("nx{vni:06x}")
}

fn masked(subnet: IpNetwork) -> IpNetwork {
    IpNetwork::new(subnet.network(), subnet.prefix()).unwrap_or(subnet)
}

/// A unicast, locally administered address (IEEE 802, section 8.4) out of an id's first digits.
pub fn local_mac(id: &str) -> Mac {
    cnm::MacAddr::of_id(id).0
}

/// An endpoint on this host: a veth pair, the container's end of it, and its published ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The name of the end on the bridge.
    pub host: String,
    /// The bridge.
    pub bridge: String,
    /// The interface in the container.
    pub name: String,
    /// Whether it is left on the host, for others to move and to set up.
    pub delivered: bool,
    /// Its address.
    pub mac: Mac,
    /// Its network addresses.
    pub addresses: Vec<IpNetwork>,
    /// Its default routes.
    pub gateways: Vec<IpAddr>,
    /// Its other routes, but for those of its own subnets.
    pub routes: Vec<Route>,
    /// What the default routes cost.
    pub metric: u32,
    /// How its bridge treats it.
    pub flags: Flags,
    /// How fast its packets may come and go.
    pub bandwidth: Option<Bandwidth>,
    /// Kernel parameters that its interface is to have, and their values.
    pub parameters: Vec<(String, String)>,
    /// Gateways and their link-layer address that the container is told, since it shall ask nobody;
    /// none unless it is routed.
    pub neighbours: Vec<(IpAddr, Mac)>,
    /// What the firewall is to know: its published ports.
    pub facts: Vec<Fact>,
    /// What goes through its host end.
    pub door: Door,
    /// The port inside where netd's resolver is, where it is there.
    pub resolver: Option<u16>,
}

impl Port {
    /// What an endpoint of a network should look like.
    ///
    /// # Errors
    /// `invalid` when a port is to be published on a family in which the endpoint has no address.
    pub fn of(network: &Network, endpoint: &Endpoint) -> Result<Self> {
        let bridge = network.link.clone().unwrap_or_else(|| network.id.link_name());
        let mut facts = Vec::new();
        for port in &endpoint.ports {
            let published = publish(port, &endpoint.addresses);
            if published.is_empty() && (endpoint.addresses.is_empty() || !is_relayed(port)) {
                return Err(Error::invalid(format_args!(
                    "cannot publish port {port} of {}: it has no address of that family on network {}",
                    endpoint.container.label(),
                    network.name
                ))
                .with("port", port.to_string())
                .with("network", network.name.as_str()));
            }
            facts.extend(published);
        }
        let host = endpoint.id.link_name().as_str().to_owned();
        let mac = endpoint.mac.map_or_else(|| local_mac(endpoint.id.as_str()), |mac| mac.0);
        let delivered = is_delivered_on_host(&endpoint.options);
        // Of one that others set up, the ports come later.
        let hairpin = delivered || !facts.is_empty() || is_on(&network.options, HAIRPIN, false);
        let door = door::of(network, endpoint, mac);
        let flags = Flags {
            hairpin,
            isolated: !modes::reach_each_other(network),
            // Who comes by it is known where nobody else is let through.
            learning: door.speakers.is_none(),
        };
        let mut port = Self {
            door,
            host,
            bridge: bridge.as_str().to_owned(),
            name: endpoint.made_as().as_str().to_owned(),
            delivered,
            mac,
            addresses: endpoint.addresses.clone(),
            gateways: endpoint.gateways.clone(),
            routes: endpoint.routes.clone(),
            metric: endpoint.metric,
            flags,
            neighbours: Vec::new(),
            bandwidth: endpoint.bandwidth,
            parameters: sysctls::of(endpoint)?,
            facts: modes::publish(network, endpoint, facts),
            resolver: DNS_PORT.port(&endpoint.options),
        };
        if let Some(shard) = shards::of(network, &endpoint.id) {
            port.route(network, shard);
        }
        Ok(port)
    }

    /// Puts it on one of its network's many bridges, with nobody but the gateway as its neighbour.
    fn route(&mut self, network: &Network, shard: String) {
        self.bridge = shard;
        let mut routes = Vec::new();
        for address in &mut self.addresses {
            let subnet = network.subnet_of(address.ip());
            *address = shards::alone(*address);
            let Some(subnet) = subnet else { continue };
            let Some(gateway) = subnet.gateway else { continue };
            self.neighbours.push((gateway, local_mac(network.id.as_str())));
            routes.push(Route::new(IpNetwork::from(gateway), None));
            routes.push(Route::new(masked(subnet.subnet), Some(gateway)));
        }
        routes.append(&mut self.routes);
        self.routes = routes;
    }

    /// Whether the host leads to it address by address.
    pub fn is_routed(&self) -> bool {
        !self.neighbours.is_empty()
    }

    /// Whether it has an address of IPv6.
    pub fn ipv6(&self) -> bool {
        self.addresses.iter().any(IpNetwork::is_ipv6)
    }
}

/// From so many ports in a row on they are one element, where each leads to the same number: below
/// that as many elements that are found by their hash cost less.
const ROW: u16 = 16;

/// What publishes a port in each of the container's families that it is published in. An
/// unspecified host address stands for all of its family.
fn publish(port: &endpoint::Port, addresses: &[IpNetwork]) -> Vec<Fact> {
    let mut facts = Vec::new();
    let protocol = port.protocol.number();
    let at = port.host_ip.filter(|ip| !ip.is_unspecified());
    for address in first_of_each_family(addresses) {
        if port.host_ip.is_some_and(|ip| ip.is_ipv4() != address.is_ipv4()) {
            continue;
        }
        if port.is_straight() && port.count >= ROW {
            let (first, last) = port.host_ports().into_inner();
            facts.push(Fact::PublishRange { protocol, address: at, first, last, to: address });
            continue;
        }
        let pairs = port.host_ports().zip(port.container_ports());
        facts.extend(pairs.map(|(from, to)| Fact::Publish {
            protocol,
            address: at,
            port: from,
            to: SocketAddr::new(address, to),
        }));
    }
    facts
}

/// Whether a port leads into the container by netd's relay alone: at the one address that the kernel
/// cannot translate, from which the relay leads to an address of either family.
fn is_relayed(port: &endpoint::Port) -> bool {
    port.host_ip == Some(IpAddr::V6(Ipv6Addr::LOCALHOST))
        && port.protocol != endpoint::Protocol::Sctp
        && port.count <= ROW
}

/// What a port leads to: an endpoint with more addresses is reached at the first of a family.
fn first_of_each_family(addresses: &[IpNetwork]) -> impl Iterator<Item = IpAddr> {
    let of = |v4: bool| addresses.iter().map(IpNetwork::ip).find(move |ip| ip.is_ipv4() == v4);
    [true, false].into_iter().filter_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(port: &str) -> Vec<String> {
        let addresses =
            ["10.0.0.2/24", "fd00::2/64", "10.0.0.3/24"].map(|a| a.parse().expect("ip"));
        let port: endpoint::Port = port.parse().expect("a port");
        publish(&port, &addresses).iter().map(Fact::to_string).collect()
    }

    #[test]
    fn a_port_leads_to_an_address_of_each_family() {
        assert_eq!(
            facts("8080:80/sctp"),
            ["port 8080 to 10.0.0.2:80 sctp", "port 8080 to [fd00::2]:80 sctp"]
        );
        assert_eq!(facts("0.0.0.0:53:53/udp"), ["port 53 to 10.0.0.2:53 udp"]);
        assert_eq!(facts("[::1]:53:53/udp"), ["[::1]:port 53 to [fd00::2]:53 udp"]);
    }

    #[test]
    fn a_port_at_the_loopback_of_ipv6_is_the_relays() {
        let is = |port: &str| is_relayed(&port.parse().expect("a port"));
        assert!(is("[::1]:53:53/udp") && is("[::1]:8000-8015:80-95"));
        for other in ["[::]:53:53", "53:53", "[::1]:9:9/sctp", "[::1]:8000-8016:80-96"] {
            assert!(!is(other), "{other}");
        }
    }

    #[test]
    fn ports_in_a_row_are_one_element_where_host_and_container_count_alike() {
        assert_eq!(facts("0.0.0.0:8000-8999:8000-8999"), ["ports 8000-8999 to 10.0.0.2 tcp"]);
        assert_eq!(facts("192.0.2.1:8000-8015:80-95").len(), 16);
        assert_eq!(facts("192.0.2.1:8000-8014:8000-8014").len(), 15);
        assert_eq!(facts("192.0.2.1:8000-8015:8000-8015").len(), 1);
        let shifted = facts("192.0.2.1:8000-8002:80-82");
        assert_eq!(shifted[2], "192.0.2.1:port 8002 to 10.0.0.2:82 tcp");
    }
}
