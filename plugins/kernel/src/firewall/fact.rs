//! What the firewall knows, one element of its sets each.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnetwork::IpNetwork;

use crate::nft::Element;

/// The sets that facts are elements of.
pub(super) const SETS: [&str; 40] = [
    "bridges",
    "internal",
    "outward4",
    "outward6",
    "outbound4",
    "outbound6",
    "within",
    "open4",
    "open6",
    "gates4",
    "gates6",
    "trusted",
    "admitted4",
    "admitted6",
    "members4",
    "members6",
    "publish4_at",
    "publish6_at",
    "publish4",
    "publish6",
    "ranges4_at",
    "ranges6_at",
    "ranges4",
    "ranges6",
    "through",
    "node4",
    "node6",
    "halved",
    "nodes4",
    "nodes6",
    "kin4",
    "kin6",
    "routed4",
    "afar4",
    "vxlan_ports",
    "vnis",
    "vteps4",
    "vteps6",
    "tunnels4",
    "tunnels6",
];

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
    /// Of this bridge's flows some may be half ones here: its packets are compared with the next two.
    Halved(String),
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

/// A link's name as nftables' type `ifname`: 16 bytes, `IFNAMSIZ`.
fn ifname(key: &mut Vec<u8>, name: &str) {
    let end = key.len() + 16;
    key.extend_from_slice(name.as_bytes());
    key.resize(end, 0);
}

fn name_at(key: &[u8]) -> Option<String> {
    let text = key.get(..16)?.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

fn address(key: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => key.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => key.extend_from_slice(&ip.octets()),
    }
}

fn take_address(bytes: &[u8], v6: bool) -> Option<(IpAddr, &[u8])> {
    Some(if v6 {
        let (octets, rest) = bytes.split_first_chunk::<16>()?;
        (Ipv6Addr::from(*octets).into(), rest)
    } else {
        let (octets, rest) = bytes.split_first_chunk::<4>()?;
        (Ipv4Addr::from(*octets).into(), rest)
    })
}

fn port(key: &mut Vec<u8>, port: u16) {
    key.extend_from_slice(&port.to_be_bytes());
    key.extend_from_slice(&[0; 2]);
}

/// A VNI as it is in a header: three bytes.
fn vni_bytes(vni: u32) -> [u8; 3] {
    let [_, a, b, c] = vni.to_be_bytes();
    [a, b, c]
}

fn vni_at(bytes: &[u8]) -> Option<u32> {
    let [a, b, c] = *bytes.first_chunk()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

fn of_family(address: IpAddr, v4: &'static str, v6: &'static str) -> &'static str {
    if address.is_ipv4() { v4 } else { v6 }
}

/// Protocol, address and family (whether it is IPv4) of what is published.
type Place = (u8, Option<IpAddr>, bool);

impl Fact {
    /// The element that says it.
    pub fn element(&self) -> Element {
        let mut key = Vec::with_capacity(32);
        let (mut end, mut data) = (None, None);
        let set = match self {
            Self::Bridge(link) => {
                ifname(&mut key, link);
                "bridges"
            }
            Self::Internal(link) => {
                ifname(&mut key, link);
                "internal"
            }
            Self::Halved(bridge) => {
                ifname(&mut key, bridge);
                "halved"
            }
            Self::Outward { bridge, v6 }
            | Self::Open { bridge, v6 }
            | Self::Gate { bridge, v6 } => {
                ifname(&mut key, bridge);
                match (self, v6) {
                    (Self::Outward { .. }, false) => "outward4",
                    (Self::Outward { .. }, true) => "outward6",
                    (Self::Open { .. }, false) => "open4",
                    (Self::Open { .. }, true) => "open6",
                    (_, false) => "gates4",
                    (_, true) => "gates6",
                }
            }
            Self::Trusted { link, bridge } => {
                ifname(&mut key, link);
                ifname(&mut key, bridge);
                "trusted"
            }
            Self::Admitted { protocol, to } => {
                address(&mut key, to.ip());
                key.extend_from_slice(&[*protocol, 0, 0, 0]);
                port(&mut key, to.port());
                of_family(to.ip(), "admitted4", "admitted6")
            }
            Self::Within(link) => {
                ifname(&mut key, link);
                ifname(&mut key, link);
                "within"
            }
            Self::Between { from, to } => {
                ifname(&mut key, from);
                ifname(&mut key, to);
                "within"
            }
            Self::Members { bridge, subnet }
            | Self::Nodes { bridge, subnet }
            | Self::Kin { bridge, subnet } => {
                ifname(&mut key, bridge);
                let mut last = key.clone();
                address(&mut key, subnet.network());
                address(&mut last, subnet.broadcast());
                end = Some(last);
                let first = subnet.network();
                match self {
                    Self::Members { .. } => of_family(first, "members4", "members6"),
                    Self::Nodes { .. } => of_family(first, "nodes4", "nodes6"),
                    _ => of_family(first, "kin4", "kin6"),
                }
            }
            Self::Routed { bridge, address: from } => {
                ifname(&mut key, bridge);
                key.extend_from_slice(&from.octets());
                "routed4"
            }
            Self::Afar(member) => {
                key.extend_from_slice(&member.octets());
                "afar4"
            }
            Self::Publish { protocol, address: at, port: from, to } => {
                if let Some(at) = at {
                    address(&mut key, *at);
                }
                key.extend_from_slice(&[*protocol, 0, 0, 0]);
                port(&mut key, *from);
                let mut target = Vec::with_capacity(20);
                address(&mut target, to.ip());
                port(&mut target, to.port());
                data = Some(target);
                match (at.is_some(), to.is_ipv4()) {
                    (true, true) => "publish4_at",
                    (true, false) => "publish6_at",
                    (false, true) => "publish4",
                    (false, false) => "publish6",
                }
            }
            Self::PublishRange { protocol, address: at, first, last, to } => {
                if let Some(at) = at {
                    address(&mut key, *at);
                }
                key.extend_from_slice(&[*protocol, 0, 0, 0]);
                let mut to_key = key.clone();
                port(&mut key, *first);
                port(&mut to_key, *last);
                end = Some(to_key);
                let mut target = Vec::with_capacity(16);
                address(&mut target, *to);
                data = Some(target);
                match (at.is_some(), to.is_ipv4()) {
                    (true, true) => "ranges4_at",
                    (true, false) => "ranges6_at",
                    (false, true) => "ranges4",
                    (false, false) => "ranges6",
                }
            }
            Self::Through { bridge, link } => {
                ifname(&mut key, bridge);
                ifname(&mut key, link);
                "through"
            }
            Self::Node { bridge, address: from } | Self::Outbound { bridge, address: from } => {
                ifname(&mut key, bridge);
                let mut source = Vec::with_capacity(16);
                address(&mut source, *from);
                data = Some(source);
                match self {
                    Self::Node { .. } => of_family(*from, "node4", "node6"),
                    _ => of_family(*from, "outbound4", "outbound6"),
                }
            }
            Self::VxlanPort(port) => {
                key.extend_from_slice(&port.to_be_bytes());
                "vxlan_ports"
            }
            Self::Vni(vni) => {
                key.extend_from_slice(&vni_bytes(*vni));
                "vnis"
            }
            Self::Vtep(vtep) => {
                address(&mut key, *vtep);
                of_family(*vtep, "vteps4", "vteps6")
            }
            Self::Tunnel { vtep, vni } => {
                address(&mut key, *vtep);
                key.extend_from_slice(&vni_bytes(*vni));
                key.push(0);
                of_family(*vtep, "tunnels4", "tunnels6")
            }
        };
        Element { set, key, end, data }
    }

    /// Whether both publish a port of one address of the host.
    pub fn meets(&self, other: &Self) -> bool {
        let (Some((place, first, last)), Some((other_place, other_first, other_last))) =
            (self.published(), other.published())
        else {
            return false;
        };
        place == other_place && first <= other_last && other_first <= last
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

    /// What an element says; none when it is none of ours.
    pub fn parse(element: &Element) -> Option<Self> {
        let key = &element.key;
        Some(match element.set {
            "bridges" => Self::Bridge(name_at(key)?),
            "internal" => Self::Internal(name_at(key)?),
            "halved" => Self::Halved(name_at(key)?),
            set @ ("outward4" | "outward6") => {
                Self::Outward { bridge: name_at(key)?, v6: set == "outward6" }
            }
            set @ ("open4" | "open6") => Self::Open { bridge: name_at(key)?, v6: set == "open6" },
            set @ ("gates4" | "gates6") => {
                Self::Gate { bridge: name_at(key)?, v6: set == "gates6" }
            }
            "trusted" => Self::Trusted { link: name_at(key)?, bridge: name_at(key.get(16..)?)? },
            set @ ("admitted4" | "admitted6") => {
                let (ip, rest) = take_address(key, set == "admitted6")?;
                let port = u16::from_be_bytes(*rest.get(4..)?.first_chunk()?);
                Self::Admitted { protocol: *rest.first()?, to: SocketAddr::new(ip, port) }
            }
            "within" => match (name_at(key)?, name_at(key.get(16..)?)?) {
                (from, to) if from == to => Self::Within(from),
                (from, to) => Self::Between { from, to },
            },
            set @ ("members4" | "members6" | "nodes4" | "nodes6" | "kin4" | "kin6") => {
                let v6 = set.ends_with('6');
                let (first, _) = take_address(key.get(16..)?, v6)?;
                let (last, _) = take_address(element.end.as_ref()?.get(16..)?, v6)?;
                let subnet = IpNetwork::new(first, prefix_between(first, last)?).ok()?;
                let bridge = name_at(key)?;
                match set.trim_end_matches(['4', '6']) {
                    "members" => Self::Members { bridge, subnet },
                    "nodes" => Self::Nodes { bridge, subnet },
                    _ => Self::Kin { bridge, subnet },
                }
            }
            "routed4" => {
                let address = Ipv4Addr::from(*key.get(16..)?.first_chunk::<4>()?);
                Self::Routed { bridge: name_at(key)?, address }
            }
            "afar4" => Self::Afar(Ipv4Addr::from(*key.first_chunk::<4>()?)),
            "through" => Self::Through { bridge: name_at(key)?, link: name_at(key.get(16..)?)? },
            set @ ("node4" | "node6") => {
                let (address, _) = take_address(element.data.as_ref()?, set == "node6")?;
                Self::Node { bridge: name_at(key)?, address }
            }
            set @ ("outbound4" | "outbound6") => {
                let (address, _) = take_address(element.data.as_ref()?, set == "outbound6")?;
                Self::Outbound { bridge: name_at(key)?, address }
            }
            "vxlan_ports" => Self::VxlanPort(u16::from_be_bytes(*key.first_chunk()?)),
            "vnis" => Self::Vni(vni_at(key)?),
            set @ ("vteps4" | "vteps6") => Self::Vtep(take_address(key, set == "vteps6")?.0),
            set @ ("tunnels4" | "tunnels6") => {
                let (vtep, vni) = take_address(key, set == "tunnels6")?;
                Self::Tunnel { vtep, vni: vni_at(vni)? }
            }
            set => {
                let v6 = set.trim_end_matches("_at").ends_with('6');
                let (at, key) = if set.ends_with("_at") {
                    let (at, key) = take_address(key, v6)?;
                    (Some(at), key)
                } else {
                    (None, key.as_slice())
                };
                let (ip, target) = take_address(element.data.as_ref()?, v6)?;
                let number = |bytes: &[u8]| Some(u16::from_be_bytes(*bytes.first_chunk()?));
                if let Some(end) = &element.end {
                    return Some(Self::PublishRange {
                        protocol: *key.first()?,
                        address: at,
                        first: number(key.get(4..)?)?,
                        // Behind the last port there are two bytes to the end of its field.
                        last: number(end.get(end.len().checked_sub(4)?..)?)?,
                        to: ip,
                    });
                }
                Self::Publish {
                    protocol: *key.first()?,
                    address: at,
                    port: number(key.get(4..)?)?,
                    to: SocketAddr::new(ip, number(target)?),
                }
            }
        })
    }
}

/// The length of the prefix that both ends of a subnet share.
fn prefix_between(first: IpAddr, last: IpAddr) -> Option<u8> {
    let common = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return None,
    };
    u8::try_from(common).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::BASE;

    fn facts() -> Vec<Fact> {
        let publish = |address: Option<&str>, to: &str| Fact::Publish {
            protocol: 17,
            address: address.map(|a| a.parse().unwrap()),
            port: 8080,
            to: to.parse().unwrap(),
        };
        let range = |address: Option<&str>, to: &str| Fact::PublishRange {
            protocol: 132,
            address: address.map(|a| a.parse().unwrap()),
            first: 8000,
            last: 8999,
            to: to.parse().unwrap(),
        };
        let members = |subnet: &str| Fact::Members {
            bridge: "br-0123456789ab".into(),
            subnet: subnet.parse().unwrap(),
        };
        vec![
            Fact::Bridge("br-0123456789ab".into()),
            Fact::Within("a".into()),
            Fact::Between { from: "a".into(), to: "b".into() },
            Fact::Internal("netd0".into()),
            Fact::Outward { bridge: "netd0".into(), v6: false },
            members("10.1.0.0/16"),
            members("10.1.0.4/32"),
            members("fd00:1::/64"),
            publish(None, "10.1.0.2:80"),
            publish(Some("192.0.2.1"), "10.1.0.2:80"),
            publish(None, "[fd00::2]:80"),
            publish(Some("2001:db8::1"), "[fd00::2]:80"),
            range(None, "10.1.0.2"),
            range(Some("192.0.2.1"), "10.1.0.2"),
            range(None, "fd00::2"),
            range(Some("2001:db8::1"), "fd00::2"),
            Fact::Through { bridge: "br-0123456789ab".into(), link: "nx001000".into() },
            Fact::Node { bridge: "a".into(), address: "100.64.0.1".parse().unwrap() },
            Fact::Node { bridge: "a".into(), address: "fd64::1".parse().unwrap() },
            Fact::Halved("a".into()),
            Fact::Nodes { bridge: "a".into(), subnet: "100.126.0.0/16".parse().unwrap() },
            Fact::Nodes { bridge: "a".into(), subnet: "fd64::/64".parse().unwrap() },
            Fact::Kin { bridge: "a".into(), subnet: "10.1.0.0/24".parse().unwrap() },
            Fact::Kin { bridge: "a".into(), subnet: "fd00:1::/64".parse().unwrap() },
            Fact::Routed { bridge: "a".into(), address: "10.1.0.2".parse().unwrap() },
            Fact::Afar("10.1.0.2".parse().unwrap()),
            Fact::VxlanPort(4789),
            Fact::Vni(0x12_3456),
            Fact::Vtep("192.0.2.1".parse().unwrap()),
            Fact::Vtep("2001:db8::1".parse().unwrap()),
            Fact::Tunnel { vtep: "192.0.2.1".parse().unwrap(), vni: 0x12_3456 },
            Fact::Tunnel { vtep: "2001:db8::1".parse().unwrap(), vni: 1 },
            Fact::Outward { bridge: "netd0".into(), v6: true },
            Fact::Outbound { bridge: "netd0".into(), address: "192.0.2.1".parse().unwrap() },
            Fact::Outbound { bridge: "netd0".into(), address: "2001:db8::1".parse().unwrap() },
            Fact::Open { bridge: "netd0".into(), v6: false },
            Fact::Open { bridge: "netd0".into(), v6: true },
            Fact::Gate { bridge: "netd0".into(), v6: false },
            Fact::Gate { bridge: "netd0".into(), v6: true },
            Fact::Trusted { link: "wg0".into(), bridge: "netd0".into() },
            Fact::Admitted { protocol: 17, to: "10.1.0.2:80".parse().unwrap() },
            Fact::Admitted { protocol: 6, to: "[fd00::2]:80".parse().unwrap() },
        ]
    }

    #[test]
    fn a_fact_reads_as_it_was_written() {
        for fact in facts() {
            assert_eq!(Fact::parse(&fact.element()), Some(fact.clone()), "{fact}");
        }
    }

    #[test]
    fn a_published_port_is_padded_field_by_field() {
        let element = facts()[9].element();
        assert_eq!(element.set, "publish4_at");
        assert_eq!(element.key, [192, 0, 2, 1, 17, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(element.data.as_deref(), Some(&[10, 1, 0, 2, 0, 80, 0, 0][..]));
    }

    #[test]
    fn published_ports_meet_where_one_is_in_both() {
        let facts = facts();
        let (one, row) = (&facts[8], &facts[12]);
        assert!(one.meets(one) && row.meets(row));
        assert!(!row.meets(one), "another protocol");
        let at = |port| Fact::Publish {
            protocol: 132,
            address: None,
            port,
            to: "10.1.0.9:1".parse().unwrap(),
        };
        assert!(row.meets(&at(8000)) && at(8999).meets(row));
        assert!(!row.meets(&at(7999)) && !row.meets(&at(9000)));
        assert!(!facts[13].meets(&at(8000)) && !facts[0].meets(row));
    }

    #[test]
    fn facts_are_of_sets_that_the_rules_declare() {
        for set in SETS {
            assert!(
                BASE.contains(&format!("set {set} {{")) || BASE.contains(&format!("map {set} {{")),
                "{set}"
            );
        }
        for fact in facts() {
            let element = fact.element();
            assert!(SETS.contains(&element.set), "{fact}");
        }
    }
}
