//! What the firewall knows, one element of its sets each.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnetwork::IpNetwork;

mod element;

pub(super) use element::SETS;

/// Something that the firewall is to know: one element.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// This link is a network's bridge: nothing enters it unasked.
    Bridge(String),
    /// What goes from this bridge to itself stays on its network.
    Within(String),
    /// What goes from one of these bridges to the other stays on their network.
    Between {
        /// Where it comes from.
        from: String,
        /// Where it goes.
        to: String,
    },
    /// This bridge has no way in or out.
    Internal(String),
    /// What leaves this bridge for elsewhere takes the host's address.
    Outward {
        /// The bridge.
        bridge: String,
        /// Whether it is IPv6.
        v6: bool,
    },
    /// What leaves this bridge for elsewhere takes this address, where the host has several.
    Outbound {
        /// The bridge.
        bridge: String,
        /// The host's address.
        address: IpAddr,
    },
    /// Everything may come to this bridge from outside.
    Open {
        /// The bridge.
        bridge: String,
        /// Whether it is IPv6.
        v6: bool,
    },
    /// Pings may come to this bridge from outside, and what is admitted.
    Gate {
        /// The bridge.
        bridge: String,
        /// Whether it is IPv6.
        v6: bool,
    },
    /// What is admitted may come to this bridge from this link.
    Trusted {
        /// The link.
        link: String,
        /// The bridge.
        bridge: String,
    },
    /// A container's port that is open to whom its network lets come.
    Admitted {
        /// The protocol's number in an IP header.
        protocol: u8,
        /// The container's address and port.
        to: SocketAddr,
    },
    /// These addresses are on this bridge.
    Members {
        /// The bridge.
        bridge: String,
        /// Its subnet.
        subnet: IpNetwork,
    },
    /// A port that the host answers for.
    Publish {
        /// The protocol's number in an IP header.
        protocol: u8,
        /// The host's address; all of the family unless given.
        address: Option<IpAddr>,
        /// The host's port.
        port: u16,
        /// The container's address and port, of the same family.
        to: SocketAddr,
    },
    /// Ports in a row that the host answers for, each by the same port of the container.
    PublishRange {
        /// The protocol's number in an IP header.
        protocol: u8,
        /// The host's address; all of the family unless given.
        address: Option<IpAddr>,
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
        /// The container's address.
        to: IpAddr,
    },
    /// What leaves this bridge by this link keeps its source.
    Through {
        /// The bridge.
        bridge: String,
        /// The link between the nodes.
        link: String,
    },
    /// What the host itself sends to this bridge comes from this address of its own, where the
    /// bridge's address would be that of every host.
    Node {
        /// The bridge.
        bridge: String,
        /// The host's address between the nodes.
        address: IpAddr,
    },
    /// Of this bridge's flows some may be half ones here: its packets are compared with the next three.
    Halved(String),
    /// Some of the next two begin as this address does, in its first 16 bits.
    Near {
        /// The bridge.
        bridge: String,
        /// All other bits are zero.
        start: IpAddr,
    },
    /// The addresses of the nodes between the nodes: what goes between them and this bridge may be
    /// half a flow here.
    Nodes {
        /// The bridge.
        bridge: String,
        /// All of them.
        subnet: IpNetwork,
    },
    /// This bridge has several subnets, and this is one: what goes to it from the bridge may be half
    /// a flow here.
    Kin {
        /// The bridge.
        bridge: String,
        /// Its subnet.
        subnet: IpNetwork,
    },
    /// Who has this address is a member elsewhere, or a node of one, and comes by the link between
    /// the nodes as it is.
    Routed {
        /// The bridge.
        bridge: String,
        /// Its address.
        address: Ipv4Addr,
    },
    /// Who has this address is a member elsewhere that comes so, and nobody else's to reach.
    Afar(Ipv4Addr),
    /// VXLAN comes to this UDP port.
    VxlanPort(u16),
    /// This number on the wire is a network of ours: its VXLAN is taken from members alone.
    Vni(u32),
    /// This is where a node of the cluster sends VXLAN from.
    Vtep(IpAddr),
    /// That node is on this network.
    Tunnel {
        /// Where it sends from.
        vtep: IpAddr,
        /// The network's number on the wire.
        vni: u32,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(link) => write!(f, "guard of {link}"),
            Self::Within(link) => write!(f, "traffic within {link}"),
            Self::Between { from, to } => write!(f, "traffic from {from} to {to}"),
            Self::Internal(link) => write!(f, "seclusion of {link}"),
            Self::Outward { bridge, v6 } => write!(f, "masquerade of {} from {bridge}", ip(*v6)),
            Self::Outbound { bridge, address } => write!(f, "way of {bridge} as {address}"),
            Self::Open { bridge, v6 } => write!(f, "way of {} to {bridge}", ip(*v6)),
            Self::Gate { bridge, v6 } => write!(f, "gate of {} to {bridge}", ip(*v6)),
            Self::Trusted { link, bridge } => write!(f, "trust in {link} of {bridge}"),
            Self::Admitted { protocol, to } => {
                write!(f, "way to {to} {}", protocol_name(*protocol))
            }
            Self::Members { bridge, subnet } => write!(f, "members {subnet} of {bridge}"),
            Self::Publish { protocol, address, port, to } => {
                host(f, *address)?;
                write!(f, "port {port} to {to} {}", protocol_name(*protocol))
            }
            Self::PublishRange { protocol, address, first, last, to } => {
                host(f, *address)?;
                write!(f, "ports {first}-{last} to {to} {}", protocol_name(*protocol))
            }
            Self::Through { bridge, link } => write!(f, "way from {bridge} through {link}"),
            Self::Node { bridge, address } => write!(f, "host's address {address} to {bridge}"),
            Self::Halved(bridge) => write!(f, "look for half flows of {bridge}"),
            Self::Near { bridge, start } => write!(f, "nodes or subnets at {start} of {bridge}"),
            Self::Nodes { bridge, subnet } => write!(f, "nodes {subnet} of {bridge}"),
            Self::Kin { bridge, subnet } => write!(f, "subnet {subnet} among those of {bridge}"),
            Self::Routed { bridge, address } => write!(f, "way in from {address} to {bridge}"),
            Self::Afar(address) => write!(f, "guard of {address}"),
            Self::VxlanPort(port) => write!(f, "guard of VXLAN at port {port}"),
            Self::Vni(vni) => write!(f, "guard of VNI {vni}"),
            Self::Vtep(vtep) => write!(f, "node at {vtep}"),
            Self::Tunnel { vtep, vni } => write!(f, "node at {vtep} on VNI {vni}"),
        }
    }
}

fn ip(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

fn host(f: &mut fmt::Formatter<'_>, address: Option<IpAddr>) -> fmt::Result {
    match address {
        Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:"),
        Some(IpAddr::V4(ip)) => write!(f, "{ip}:"),
        None => Ok(()),
    }
}

fn protocol_name(number: u8) -> &'static str {
    match number {
        6 => "tcp",
        17 => "udp",
        132 => "sctp",
        _ => "protocol of another name",
    }
}

/// Protocol, address and family (whether it is IPv4) of what is published.
type Place = (u8, Option<IpAddr>, bool);

impl Fact {
    /// Whether both publish a port of one address of the host.
    pub fn meets(&self, other: &Self) -> bool {
        let (Some((place, first, last)), Some((other_place, other_first, other_last))) =
            (self.published(), other.published())
        else {
            return false;
        };
        place == other_place && first <= other_last && other_first <= last
    }

    /// Where packets have to be compared with it, if it is one of nodes or of a subnet among others:
    /// by their first 16 bits, which the rules look at before they look closely.
    pub fn near(&self) -> Vec<Self> {
        let (Self::Nodes { bridge, subnet } | Self::Kin { bridge, subnet }) = self else {
            return Vec::new();
        };
        let near = |start| Self::Near { bridge: bridge.clone(), start };
        match (subnet.network(), subnet.broadcast()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits() >> 16..=last.to_bits() >> 16)
                .map(|bits| near(Ipv4Addr::from_bits(bits << 16).into()))
                .collect(),
            (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits() >> 112
                ..=last.to_bits() >> 112)
                .map(|bits| near(Ipv6Addr::from_bits(bits << 112).into()))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Where something is published, and the first and last port.
    fn published(&self) -> Option<(Place, u16, u16)> {
        match *self {
            Self::Publish { protocol, address, port, to } => {
                Some(((protocol, address, to.is_ipv4()), port, port))
            }
            Self::PublishRange { protocol, address, first, last, to } => {
                Some(((protocol, address, to.is_ipv4()), first, last))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
