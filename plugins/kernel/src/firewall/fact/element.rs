//! Facts as the elements that say them, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnetwork::IpNetwork;

use super::Fact;
use crate::nft::Element;

/// The sets that facts are elements of.
pub(in crate::firewall) const SETS: [&str; 42] = [
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
    "near4",
    "near6",
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
            Self::Near { bridge, start } => {
                ifname(&mut key, bridge);
                address(&mut key, *start);
                of_family(*start, "near4", "near6")
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

    /// What an element says; none when it is none of ours.
    pub fn parse(element: &Element) -> Option<Self> {
        let key = &element.key;
        Some(match element.set {
            "bridges" => Self::Bridge(name_at(key)?),
            "internal" => Self::Internal(name_at(key)?),
            "halved" => Self::Halved(name_at(key)?),
            set @ ("near4" | "near6") => {
                let (start, _) = take_address(key.get(16..)?, set == "near6")?;
                Self::Near { bridge: name_at(key)?, start }
            }
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
